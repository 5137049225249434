"""A sheet of the rooms of `UnitySpatial-v0` that a person can read: each room from afar and twice from close by, with a
caption that holds, and the nine objects.

mentorgym spatial-sheet --output results/rooms.png
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import language, picture, truth
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.relations import all_relations, relation_of
from mentorgym.envs.spatial.rooms import ROOMS, SIDE, TESTING
from mentorgym.envs.spatial.vector import SpatialVectorEnv

SHOTS = ("paper", "close", "close")
"""The cameras' kinds of a room's pictures."""

ABREAST = 2
"""Rooms in a row."""

GAP, TITLE, WORDS, TOP = 8, 26, 40, 46
"""Pixels between pictures, and of a room's name, a caption and the sheet's heading."""

_INK, _GREY, _TINT = (30, 30, 34), (105, 105, 112), (250, 249, 246)

DRAWN, LOOKED_AT = 400, 24
"""Arrangements of a kind and split, and how many of a room are looked at for one picture."""


@dataclass
class Args:
    """A labelled sheet of the rooms and the objects."""

    output: Path
    """the PNG to write"""
    seed: int = 0
    """seed of the arrangements"""


@dataclass
class Shot:
    """A picture with the caption below it."""

    colours: np.ndarray
    """uint8 [SIDE, SIDE, 3]"""
    words: str
    arrangement: Arrangement
    pair: tuple[int, int]
    """places of the caption's subject and referent"""


def candidates(kind: str, seed: int) -> dict[str, list[Arrangement]]:
    """Arrangements by room, drawn as episodes draw them."""
    found: dict[str, list[Arrangement]] = {name: [] for name in ROOMS}
    for split in ("val", "test"):
        envs = SpatialVectorEnv(DRAWN, split=split, camera=kind)
        envs.reset(seed=seed)
        for row in range(DRAWN):
            arrangement = envs.arrangement(row)
            found[arrangement.room].append(arrangement)
    return found


def shots(room: str, drawn: dict[str, dict[str, list[Arrangement]]], said: Counter) -> list[Shot]:
    """The room's pictures: pairs in full view, from other cameras each, with what is rarely `said` yet."""
    taken: list[Shot] = []
    cameras: list[Camera] = []
    for kind in SHOTS:
        best: tuple[float, Arrangement, tuple[int, int]] | None = None
        others = [each for each in drawn[kind][room] if each.camera not in cameras]
        for arrangement in others[:LOOKED_AT]:
            things = truth.describe(arrangement, picture.draw(arrangement))["objects"]
            if min(thing["visible"] for thing in things) < 0.9:
                continue
            size = min(thing["pixels"] for thing in things) ** 0.5
            if size < 8:
                continue
            by_bases = all_relations(arrangement, "bases")
            for pair, relation in all_relations(arrangement).items():
                # Both ways of measuring agree, so that nobody wonders whether a tall thing is above its neighbour.
                if relation.terms == by_bases[pair].terms and relation.margin > np.radians(6):
                    names = [arrangement.names[which] for which in pair]
                    score = size + 5 * len(relation.terms) - 15 * said[relation.terms]
                    score -= 4 * sum(said[name] for name in names)
                    if best is None or score > best[0]:
                        best = score, arrangement, pair
        if best is None:
            raise UsageError(f"none of the {room}'s arrangements shows its objects; try another --seed")
        _, arrangement, (subject, referent) = best
        terms = relation_of(arrangement, subject, referent).terms
        words = language.caption(arrangement.names[subject], arrangement.names[referent], terms)
        taken.append(Shot(picture.draw(arrangement).colours, words, arrangement, (subject, referent)))
        cameras.append(arrangement.camera)
        said.update((terms, arrangement.names[subject], arrangement.names[referent]))
    return taken


def portrait(index: int, size: int) -> np.ndarray:
    """An object alone on the marble table, uint8 [size, size, 3]."""
    (table,) = (top for top in ROOMS["dining corner"].surfaces if top.name == "marble table")
    x, y, z = table.centre
    yaw, pitch, away = np.radians(80.0), np.radians(-24.0), 0.95
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    at = np.array([x, y, z + 0.155]) - away * ahead
    camera = Camera((float(at[0]), float(at[1]), float(at[2])), float(yaw), float(pitch), 0.52, SIDE, SIDE)
    alone = Arrangement("dining corner", camera, (index,), np.array([[x, y, z]]), np.array([-0.6]))
    return picture.draw(alone, size).colours


def sheet(seed: int) -> Image.Image:
    """The whole sheet."""
    drawn = {kind: candidates(kind, seed) for kind in set(SHOTS)}
    block = len(SHOTS) * (SIDE + GAP) + GAP
    width = ABREAST * block + GAP
    rows = -(-len(ROOMS) // ABREAST)
    strip = TITLE + SIDE + WORDS + GAP
    small = (width - GAP) // len(NAMES) - GAP
    canvas = Image.new("RGB", (width, TOP + rows * strip + TITLE + small + 26 + GAP), _TINT)
    pen = ImageDraw.Draw(canvas)
    large, bold, plain = (ImageFont.load_default(size=points) for points in (22, 16, 13))
    pen.text(
        (2 * GAP, 12), "UnitySpatial-v0: eight rooms, nine objects, and what the captions say of them", _INK, large
    )
    said: Counter = Counter()
    for place, room in enumerate(track(ROOMS, "drawing", console=progress_console, transient=True)):
        left, top = (place % ABREAST) * block + GAP, TOP + (place // ABREAST) * strip
        pen.text((left + GAP, top + 2), room, _INK, bold)
        use = "tests" if room in TESTING else "training"
        pen.text((left + GAP + pen.textlength(room + "  ", bold), top + 5), use, _GREY, plain)
        for column, shot in enumerate(shots(room, drawn, said)):
            x = left + GAP + column * (SIDE + GAP)
            canvas.paste(Image.fromarray(shot.colours), (x, top + TITLE))
            pen.multiline_text((x, top + TITLE + SIDE + 3), _wrapped(pen, shot.words, plain), _INK, plain, spacing=2)
    top = TOP + rows * strip
    pen.text((2 * GAP, top + 2), "the nine objects", _INK, bold)
    for index, name in enumerate(NAMES):
        x = 2 * GAP + index * (small + GAP)
        canvas.paste(Image.fromarray(portrait(index, small)), (x, top + TITLE))
        pen.text((x + small / 2, top + TITLE + small + 4), name, _INK, plain, anchor="ma")
    return canvas


def _wrapped(pen: ImageDraw.ImageDraw, words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    lines = [""]
    for word in words.split():
        if pen.textlength(f"{lines[-1]} {word}", font) > SIDE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def spatial_sheet(args: Args) -> dict[str, Any]:
    """Write the sheet; returns its file and size in bytes."""
    try:
        # Six bits a colour look the same and take less room.
        sheet(args.seed).point(lambda value: value & 0xFC | 2).save(args.output, "PNG", optimize=True)
    except OSError as error:
        raise UsageError(f"{args.output} cannot be written: {error}") from error
    except ImportError as error:
        raise UsageError(str(error)) from error
    show(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB")
    return {"file": str(args.output), "bytes": args.output.stat().st_size}


@verb("spatial-sheet")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    return spatial_sheet(args)
