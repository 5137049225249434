"""Optional packages: what to say where one is missing, or found and yet unusable."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

TORCHVISION_REMEDY = (
    "install torch and torchvision from one channel (both from PyTorch's CPU index, or both of the default builds), or "
    "run `pip uninstall torchvision`: CLIP, Idefics3 (SmolVLM) and PaliGemma do without"
)


def remedy(extra: str) -> str:
    """The command that installs an extra of this package: from a clone the versions of its `constraints.txt`."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]' -c constraints.txt (in the folder {root.name})"
    return f"pip install 'mentorgym[{extra}]'"


def is_installed(module: str) -> bool:
    """Whether Python would find `module`, be it importable or not."""
    return importlib.util.find_spec(module) is not None


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise ImportError that names the `extra` which brings it to whoever wants `purpose`."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"{purpose} needs {package}: {remedy(extra)}") from None


def torchvision_fault() -> str | None:
    """Why a torchvision that is installed cannot be imported; None where it can be, and where there is none.

    Its wheels fit one build of torch. Beside another they fail on import, and with them all that imports them, with
    messages that do not name torchvision.
    """
    if not is_installed("torchvision"):
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def import_transformers(extra: str = "vlm", purpose: str = "this model") -> ModuleType:
    """transformers, or ImportError with the remedy where it is missing or a broken torchvision would break it."""
    if fault := torchvision_fault():
        raise ImportError(f"torchvision is installed but cannot be imported ({fault}); {TORCHVISION_REMEDY}")
    return import_extra("transformers", extra, purpose)
