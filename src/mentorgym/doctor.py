"""`mentorgym doctor`: every piece that mentorgym can use, whether it is there and works, and what to do where not.

The exit code is 1 where a piece is missing or broken without which nothing runs, and otherwise 0. The command needs
gymnasium and the standard library alone, so that it can say what is wrong with everything else.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mentorgym.extras import TORCHVISION_REMEDY, is_installed, remedy, torchvision_fault

_MENTORS = importlib.util.find_spec("mentorgym.mentors")
assert _MENTORS and _MENTORS.submodule_search_locations, "the package has its floors"
WEIGHTS = Path(_MENTORS.submodule_search_locations[0]) / "weights"

OK, MISSING, BROKEN = "ok", "missing", "broken"


class Piece(NamedTuple):
    """One finding."""

    name: str
    state: str
    """OK, MISSING or BROKEN"""
    detail: str
    """version, place, or what is wrong"""
    remedy: str = ""
    core: bool = False
    """whether nothing runs without it"""


class Package(NamedTuple):
    module: str
    distribution: str
    extra: str
    """empty for what every installation brings"""
    purpose: str


PACKAGES = (
    Package("gymnasium", "gymnasium", "", "environments"),
    Package("numba", "numba", "", "driving"),
    Package("numpy", "numpy", "", "arrays"),
    Package("PIL", "pillow", "", "pictures"),
    Package("platformdirs", "platformdirs", "", "the cache's place"),
    Package("rich", "rich", "", "the harness"),
    Package("safetensors", "safetensors", "", "weights"),
    Package("torch", "torch", "", "networks"),
    Package("tyro", "tyro", "", "agents"),
    Package("httpx", "httpx", "vlm", "mentors behind an endpoint"),
    Package("transformers", "transformers", "vlm", "CLIP and vision-language models"),
    Package("torchvision", "torchvision", "vlm-torchvision", "InternVL3, Qwen2.5-VL and SmolVLM2"),
    Package("num2words", "num2words", "vlm-torchvision", "SmolVLM2"),
    Package("embreex", "embreex", "scenes", "pictures of streets and rooms"),
    Package("trimesh", "trimesh", "scenes", "pictures of streets and rooms"),
    Package("sacrebleu", "sacrebleu", "caption", "BLEU of captions"),
    Package("pyarrow", "pyarrow", "exports", "samples of rooms as Parquet"),
    Package("mlagents_envs", "mlagents-envs", "unity", "the link to Unity"),
    Package("grpc", "grpcio", "unity", "the link to Unity"),
    Package("peft", "peft", "lora", "low-rank adapters of vision-language models"),
    Package("open_clip", "open_clip_torch", "openclip", "models of open_clip"),
    Package("carla", "carla", "carla", "comparisons with CARLA's maps"),
    Package("pettingzoo", "pettingzoo", "multi", "several egos"),
    Package("pygame", "pygame-ce", "human", "a window"),
    Package("imageio", "imageio", "video", "videos"),
    Package("matplotlib", "matplotlib", "plots", "curves"),
)

NEED_TORCHVISION = ("transformers", "open_clip")
"""What a torchvision that cannot be imported breaks."""


def check_python() -> Piece:
    """The interpreter: its version as in the package's own requirement."""
    version = platform.python_version()
    if (3, 11) <= sys.version_info < (3, 15):
        return Piece("python", OK, version, core=True)
    return Piece("python", BROKEN, version, "use Python 3.11 to 3.14", core=True)


def check_package(package: Package) -> Piece:
    """Whether the package is there and can be imported."""
    name, core = package.distribution, not package.extra
    command = "pip install mentorgym" if core else remedy(package.extra)
    if not is_installed(package.module):
        return Piece(name, MISSING, f"for {package.purpose}", command, core)
    if package.module in ("torchvision", *NEED_TORCHVISION) and (fault := torchvision_fault()):
        blame = "" if package.module == "torchvision" else "torchvision cannot be imported: "
        return Piece(name, BROKEN, blame + fault, TORCHVISION_REMEDY, core)
    try:
        importlib.import_module(package.module)
    except Exception as error:  # Whatever a broken package does, the others are looked at too.
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        return Piece(name, BROKEN, fault, f"{command}, with --force-reinstall", core)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return Piece(name, OK, importlib.metadata.version(name), core=core)
    return Piece(name, OK, "of unknown version", core=core)


def check_gpu() -> Piece:
    """The GPU that torch sees."""
    try:
        import torch

        if torch.cuda.is_available():
            return Piece("gpu", OK, torch.cuda.get_device_name())
        build = f"torch {torch.__version__}"
    except Exception as error:
        return Piece("gpu", MISSING, f"torch cannot be imported ({type(error).__name__})")
    return Piece("gpu", MISSING, f"{build} sees none; everything runs on the CPU", "install a CUDA build of torch")


def check_cache() -> Piece:
    """Where compiled kernels, read maps, text features and staged scenes are kept."""
    try:
        from mentorgym.cache import cache_folder

        folder = cache_folder()
    except ImportError as error:
        return Piece("cache", BROKEN, f"its place is not known: {error}", "pip install mentorgym")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Piece("cache", OK, str(folder))
    except OSError as error:
        remedy = "set MENTORGYM_CACHE to a folder that can be written"
        return Piece("cache", BROKEN, f"{folder}: {error.strerror}; kernels are compiled anew each time", remedy)


def check_weights(kind: str) -> Piece:
    """Our own weights of `kind`, a folder of WEIGHTS."""
    name, folder, remedy = f"weights/{kind}", WEIGHTS / kind, "pip install --force-reinstall mentorgym"
    files = (folder / "config.json", folder / "model.safetensors")
    for file in files:
        if not file.is_file():
            return Piece(name, MISSING, f"there is no {file}", remedy)
    try:
        import safetensors

        json.loads(files[0].read_text("utf-8"))
        with safetensors.safe_open(files[1], framework="numpy") as tensors:
            return Piece(name, OK, f"{len(tensors.keys())} tensors, {files[1].stat().st_size / 1e6:.1f} MB")
    except Exception as error:
        return Piece(name, BROKEN, f"{folder}: {error}".splitlines()[0], remedy)


def check_folder(variable: str, purpose: str) -> Piece:
    """A folder that an environment variable names."""
    place = os.environ.get(variable)
    if not place:
        return Piece(variable, MISSING, f"not set; {purpose}", f"set {variable} to that folder")
    if not Path(place).is_dir():
        return Piece(variable, BROKEN, f"{place} is not a folder", "name a folder, or unset it")
    return Piece(variable, OK, place)


def examine() -> list[Piece]:
    """Every piece."""
    checks: list[Callable[[], Piece]] = [check_python]
    checks += [lambda package=package: check_package(package) for package in PACKAGES]  # type: ignore[misc]
    checks += [
        check_gpu,
        check_cache,
        *(
            lambda kind=kind: check_weights(kind)
            for kind in ("clip", "vlm", "caption_clip", "caption_vlm", "spatial_clip", "spatial_vlm")
        ),
        lambda: check_folder("MENTORGYM_MAPS", "the folder of maps, for towns by name"),
        lambda: check_folder("MENTORGYM_ROUTES", "the folder of route files, for routes by name"),
        lambda: check_folder("CARLA_ROOT", "the folder of CARLA, for its towns by name"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [check() for check in checks]


def main(arguments: Sequence[str] | None = None) -> None:
    """Examine every piece, and print what was found; `arguments` are those of the process by default."""
    parser = argparse.ArgumentParser("mentorgym doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    as_json = parser.parse_args(arguments).json
    with contextlib.redirect_stdout(sys.stderr):  # Some packages greet whoever imports them.
        pieces = examine()
    sound = all(piece.state == OK for piece in pieces if piece.core)
    if as_json:
        print(json.dumps({"ok": sound, "pieces": [piece._asdict() for piece in pieces]}))
    else:
        width = max(len(piece.name) for piece in pieces)
        for piece in pieces:
            print(f"{piece.state:8} {piece.name:{width}} {piece.detail}")
            if piece.remedy:
                print(f"{'':{9 + width}} -> {piece.remedy}")
    if not sound:
        sys.exit(1)
