"""Safetensors files, and what may lie in their place: weights are never read from anything else."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import torch

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
LONGEST_HEADER = 100_000_000
"""Bytes, by the format."""


class TensorFileError(ValueError):
    """A file that is no whole safetensors file; the message names it, what it is, and the remedy."""


def stand_in(path: Path) -> str:
    """What lies in the place of a file that was not downloaded, and the remedy; "" for anything else."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "is empty: download it again"
    if start.startswith(LFS_POINTER):
        return "is a Git LFS pointer to a file: run `git lfs pull` in its repository, or download the file itself"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page: download the file itself"
    return ""


def check_tensors(path: Path) -> None:
    """Raise TensorFileError for what is no whole safetensors file, and OSError for what cannot be read."""
    try:
        with safe_open(path, "numpy"):
            pass
    except SafetensorError as error:
        raise _explained(path, error) from None


def load_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    """The tensors in a safetensors file, by name, on the CPU.

    Raises TensorFileError for what is no whole safetensors file, and OSError for what cannot be read.
    """
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise _explained(path, error) from None


def _explained(path: Path, error: SafetensorError) -> TensorFileError:
    if reason := stand_in(path):
        return TensorFileError(f"{path} {reason}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    whole = _size_by_header(path)
    if start.startswith((ZIP, PICKLE)) and start[2:] != bytes(6):
        reason = "is a pickle, which is never loaded: convert it to safetensors"
    elif size < whole:
        reason = f"is cut off: it has {size:,} of {whole:,} bytes: fetch it again"
    else:
        reason = f"is no safetensors file, or damaged ({error}): fetch it again"
    return TensorFileError(f"{path} {reason}")


def _size_by_header(path: Path) -> int:
    """How many bytes a safetensors file has at least, by its beginning; 0 where that is none of such a file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= LONGEST_HEADER:
            return 0
        header = file.read(length)
    if len(header) < length:
        return 8 + length if header.startswith(b"{") else 0
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return 0
