"""Pictures in files of users."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by the orientation in its EXIF data (EXIF 3.0, table 7; 1 is upright)."""


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What makes a picture upright that a camera held otherwise has stored, None for nothing."""
    if image.format not in ("JPEG", "MPO"):
        # Pillow itself turns a TIFF when it decodes it. JPEGs are first told at which size to decode.
        image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Damaged EXIF data lead to errors of many types; the picture itself may be whole.
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an upright picture; raises ValueError as `read_rgb`."""
    try:
        with Image.open(path) as image:
            is_sideways = _is_sideways(turn_of(image))
            return image.size if is_sideways else image.size[::-1]
    except Exception as error:
        raise ValueError(_reason(error)) from None


def read_rgb(file: Path | str | BinaryIO, size: tuple[int, int] | None = None) -> np.ndarray:
    """An upright picture, uint8 [H, W, 3]; with `size`, resized (bilinear) to that height and width.

    Raises ValueError, with the reason, where the file cannot be read.
    """
    try:
        with Image.open(file) as image:
            turn = turn_of(image)
            if size is None:
                rgb = image.convert("RGB")
            else:
                stored = size if _is_sideways(turn) else size[::-1]
                # A JPEG is decoded at a fraction of its size where that is enough.
                image.draft("RGB", stored)
                rgb = image.convert("RGB").resize(stored, Image.Resampling.BILINEAR)
            return np.asarray(rgb if turn is None else rgb.transpose(turn))
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files.
        raise ValueError(_reason(error)) from None


def _is_sideways(turn: Image.Transpose | None) -> bool:
    return turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
