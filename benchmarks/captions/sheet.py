"""A sheet of staged scenes from the held-out towns, a row for each reason, that a person can read.

mentorgym contact-sheet --output results/scenes.png
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
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
    for reason in track(range(len(REASONS)), "drawing", console=progress_console, transient=True):
        top = reason * (height + MARGIN)
        pen.text((6, top + 34), _wrapped(REASONS[reason]), "black", fonts[0])
        pen.text((6, top + 14), ACTIONS[ACTION_OF_REASON[reason]], (90, 90, 90), fonts[1])
        for column, index in enumerate(np.flatnonzero(scenes.staged_for == reason)[:columns]):
            picture = Image.fromarray(scenes.frames(int(index), 1)[0])
            canvas.paste(picture, (LABEL + column * (width + MARGIN), top))
    return canvas


def _wrapped(name: str, most: int = 24) -> str:
    lines = [""]
    for word in name.split():
        if len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def contact_sheet(args: Args) -> dict[str, Any]:
    """Write the sheet; returns its file and size in bytes."""
    if args.columns < 1:
        raise UsageError(f"--columns must be at least 1, not {args.columns}")
    try:
        scenes = StagedScenes(args.split, seed=args.seed, count=args.columns * len(REASONS))
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        # Six bits a colour look the same and take a third less room.
        sheet(scenes, args.columns).point(lambda value: value & 0xFC | 2).save(args.output, "PNG", optimize=True)
    except OSError as error:
        raise UsageError(f"{args.output} cannot be written: {error}") from error
    except ImportError as error:
        raise UsageError(str(error)) from error
    show(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB")
    return {"file": str(args.output), "bytes": args.output.stat().st_size}


@verb("contact-sheet")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    return contact_sheet(args)
