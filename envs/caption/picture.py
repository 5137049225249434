"""A scene with words under it, as an image."""

import functools
import textwrap
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTER = 6
"""Pixels of a letter's width, about, at this size of type."""

LINE = 14
"""Pixels from line to line."""

MOST_LINES = 4
"""Of a text; the rest is left out."""


def draw(picture: np.ndarray, caption: str, text: str | None = None, reward: float = 0.0) -> np.ndarray:
    """The picture, uint8 [H, W, 3], over its caption and, where there is one, a text with its reward.

    uint8 [H + 116, W, 3], whatever is written: films want pictures of one size. Green where both are the same, else
    red.
    """
    texts = [(f"is: {caption}", (255, 255, 255))]
    if text is not None:
        texts.append((f"said ({reward:.3f}): {text}", (120, 230, 120) if text == caption else (255, 130, 110)))
    lines = [
        (line, colour)
        for words, colour in texts
        for line in textwrap.wrap(words, max(8, picture.shape[1] // LETTER))[:MOST_LINES]
    ]
    sheet = Image.new("RGB", (picture.shape[1], picture.shape[0] + 2 * MOST_LINES * LINE + 4))
    sheet.paste(Image.fromarray(picture))
    pen = ImageDraw.Draw(sheet)
    for row, (line, colour) in enumerate(lines):
        pen.text((3, picture.shape[0] + 1 + LINE * row), line, fill=colour, font=_font())
    return np.asarray(sheet).copy()


@functools.cache
def _font() -> Any:
    return ImageFont.load_default(11)
