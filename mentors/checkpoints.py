"""Checkpoints of transformers: written to folders, read from folders or by hub names, with errors of one line.

Weights are safetensors alone, never pickles. Code from the hub runs only with `hub_code=True`.
"""

import copy
import re
from pathlib import Path
from typing import Any

import torch

from mentorgym.extras import import_transformers
from mentorgym.tensors import TensorFileError, check_tensors, stand_in

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_device(device: str) -> torch.device:
    """The device of that name; ValueError where this machine or this build of torch does not have it."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used: {first_line(error)}") from None


def check_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The floating-point type of that name; for None, float32 on the CPU and bfloat16 elsewhere."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    value = getattr(torch, dtype, None)
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise ValueError(f"unknown dtype {dtype!r}: valid are 'float32', 'bfloat16' and 'float16'")
    return value


def load_config(name: str, hub_code: bool = False) -> Any:
    """The configuration in the folder, or the hub's repository, `name`.

    Raises ValueError where there is none, or where it needs code from the hub without `hub_code`.
    """
    transformers = import_transformers()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"no weights in {name}: the folder has no config.json")
    elif not _HUB_NAME.fullmatch(name):
        raise ValueError(f"no weights in {name}: there is no such folder")
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=hub_code)
    except ImportError:
        raise
    except Exception as error:  # Damaged files lead to errors of many types.
        raise ValueError(f"cannot read the configuration of {name}: {reason(error, name)}") from None


def load_model(auto_class: Any, name: str, dtype: torch.dtype, hub_code: bool = False) -> Any:
    """A module in evaluation mode; ValueError where its weights are missing, incomplete or not safetensors."""
    logging = import_transformers().logging
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, loaded = auto_class.from_pretrained(
            name, dtype=dtype, use_safetensors=True, trust_remote_code=hub_code, output_loading_info=True
        )
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"cannot load {name} (safetensors only): {reason(error, name)}") from None
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise ValueError(
            f"the weights in {name} are incomplete: {len(missing)} tensors are missing, first {missing[0]}"
        )
    return model.eval().requires_grad_(False)


def save_pretrained(model: Any, processor: Any, dtype: torch.dtype, folder: Path) -> None:
    """Write a model, in `dtype`, and its processor in the format of transformers. The model itself does not change."""
    logging = import_transformers().logging
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        (model if model.dtype == dtype else copy.deepcopy(model).to(dtype)).save_pretrained(folder)
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    processor.save_pretrained(folder)


def reason(error: BaseException, name: str) -> str:
    """Why `name` cannot be loaded: the file in that folder that is damaged, or else the first line of the error."""
    folder = Path(name).expanduser()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix == ".safetensors":
            try:
                check_tensors(path)
            except TensorFileError as fault:
                return str(fault)
        elif path.suffix in (".json", ".model", ".txt", ".jinja") and (place := stand_in(path)):
            return f"{path} {place}"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where the text is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
