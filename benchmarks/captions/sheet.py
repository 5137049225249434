"""A sheet of staged scenes from the held-out towns, a row for each reason, that a person can read.

mentorgym contact-sheet --output results/scenes.png
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mentorgym.benchmarks.harness.command import UsageError, track, user_input, verb
from mentorgym.benchmarks.harness.sheets import save_sheet
from mentorgym.envs.caption.language import ACTION_OF_REASON, ACTIONS, REASONS
from mentorgym.envs.caption.staging import StagedScenes

MARGIN, LABEL = 4, 178
"""Pixels between pictures, and of the column with the names."""


@dataclass
class Args:
    """A labelled sheet of staged scenes."""

    output: Path
    """the PNG to write"""
    split: Literal["train", "val", "test"] = "test"
    """whose towns; test for those that no training sees"""
    columns: int = 5
    """scenes of each reason"""
    seed: int = 0
    """seed of the scenes"""


def sheet(scenes: StagedScenes, columns: int) -> Image.Image:
    """The first `columns` scenes of each reason."""
    height, width, _ = scenes.picture_shape
    size = (LABEL + columns * (width + MARGIN), len(REASONS) * (height + MARGIN))
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    fonts = [ImageFont.load_default(size=points) for points in (13, 11)]
    for reason in track(range(len(REASONS)), "drawing"):
        top = reason * (height + MARGIN)
        pen.text((6, top + 34), textwrap.fill(REASONS[reason], 23), "black", fonts[0])
        pen.text((6, top + 14), ACTIONS[ACTION_OF_REASON[reason]], (90, 90, 90), fonts[1])
        for column, index in enumerate(np.flatnonzero(scenes.staged_for == reason)[:columns]):
            picture = Image.fromarray(scenes.frames(int(index), 1)[0])
            canvas.paste(picture, (LABEL + column * (width + MARGIN), top))
    return canvas


def contact_sheet(args: Args) -> dict[str, Any]:
    """Write the sheet; returns its file and size in bytes."""
    if args.columns < 1:
        raise UsageError(f"--columns must be at least 1, not {args.columns}")
    with user_input():
        scenes = StagedScenes(args.split, seed=args.seed, count=args.columns * len(REASONS))
        return save_sheet(sheet(scenes, args.columns), args.output)


main = verb("contact-sheet")(contact_sheet)
