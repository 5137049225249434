"""Where mentorgym keeps what can be made again."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import platformdirs


def cache_folder() -> Path:
    """The folder of compiled kernels, read maps, pictures and features of texts.

    `MENTORGYM_CACHE` overrides the platform's usual place.
    """
    return Path(os.environ.get("MENTORGYM_CACHE") or platformdirs.user_cache_dir("mentorgym"))


def read_picture(path: Path, shape: Sequence[int]) -> np.ndarray | None:
    """The picture in a file, uint8 of this shape, or None where there is none that is whole."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError):
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.shape == tuple(shape) else None


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Keep a picture as PNG; see `keep`."""
    from PIL import Image

    keep(path, lambda scratch: Image.fromarray(pixels).save(scratch, "PNG", compress_level=6))


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """Keep what `write` writes to the file that it is given, whole or not at all.

    A folder that cannot be written to is no error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(suffix=".part", dir=path.parent)
    except OSError:
        return
    os.close(handle)
    try:
        write(Path(scratch))
        Path(scratch).replace(path)
    except OSError:
        Path(scratch).unlink(missing_ok=True)
