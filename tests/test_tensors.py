"""Safetensors files, and what may lie in their place."""

import io
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mentorgym.tensors import TensorFileError, check_tensors, load_tensors
from tests.mutations import mutations

TENSORS = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, -2, 3]), "c": torch.zeros(0)}


def whole(path) -> bytes:
    save_file(TENSORS, path, {"step": "7"})
    return path.read_bytes()


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save(TENSORS, file)
    return file.getvalue()


def old_pickled() -> bytes:
    file = io.BytesIO()
    torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 5120\n".encode()


def test_a_whole_file_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    whole(path)
    check_tensors(path)
    loaded = load_tensors(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: POINTER, "is a Git LFS pointer to a file: run `git lfs pull`"),
        (lambda data: b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page: download the file itself"),
        (lambda data: b"\n <HTML></HTML>", "is a web page"),
        (lambda data: b"", "is empty: download it again"),
        (lambda data: pickled(), "is a pickle, which is never loaded: convert it to safetensors"),
        (lambda data: old_pickled(), "is a pickle"),
        (lambda data: data[:-1], r"is cut off: it has [\d,]+ of [\d,]+ bytes: fetch it again"),
        (lambda data: data[:30], "is cut off: it has 30 of"),
        (lambda data: data[:5], "fetch it again"),
        (lambda data: b"no weights at all", "is no safetensors file, or damaged"),
        (lambda data: data + b"\0", "fetch it again"),
        (lambda data: data.replace(b'"F32"', b'"F99"'), "is no safetensors file, or damaged"),
    ],
)
def test_what_lies_in_its_place_is_named_with_the_remedy(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content(whole(path)))
    for read in (check_tensors, load_tensors):
        with pytest.raises(TensorFileError, match=f"{path} {message}" if message.startswith("is") else message):
            read(path)


def test_what_is_not_there_is_no_fault_of_a_file(tmp_path):
    for read in (check_tensors, load_tensors):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "model.safetensors")


def header(**entries) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.slow
def test_500_damaged_files_are_read_or_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    large = header(a={"dtype": "F32", "shape": [999], "data_offsets": [0, 3996]}) + bytes(3996)
    originals = [whole(path), header(a={"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}) + bytes(4), large, large]
    outcomes = {"read": 0, "refused": 0}
    for data in mutations(originals, 500, seed=5):
        path.write_bytes(data)
        try:
            tensors = load_tensors(path)
        except TensorFileError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
            outcomes["read"] += 1
    assert np.sum(list(outcomes.values())) == 500 and min(outcomes.values()) > 10
