"""The rooms: furniture as coloured boxes and cylinders, surfaces to place things on, and cameras.

Five to train in, after the scenes in RLS3's figures (section 4.2), and three of our own to test in. A room's origin is
the middle of its floor; x and y run along the walls, z up. Metres and radians; colours are linear.
"""

from dataclasses import dataclass, field

import numpy as np

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial.objects import Colour

SIDE = 224
"""Pixels along an edge of a picture."""

KINDS = ("close", "paper")
"""Of cameras: at 1.2 to 2 m from a surface, or seeing the room as RLS3's do."""


@dataclass(frozen=True)
class Piece:
    """A part of the furniture, upright and not turned: what is drawn and what things run into."""

    shape: str
    """"box" or "cylinder", whose diameters are the first two sizes"""
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: Colour
    glow: float = 0.0
    """how brightly the colour shines by itself"""


@dataclass(frozen=True)
class Surface:
    """Where things may stand: a level rectangle, or a disc, whose diameters are both sizes."""

    name: str
    centre: tuple[float, float, float]
    size: tuple[float, float]
    round: bool = False


@dataclass(frozen=True)
class Room:
    """`size` of the inside: length along x, width along y, height."""

    size: tuple[float, float, float]
    floor: Colour
    wall: Colour
    pieces: tuple[Piece, ...]
    surfaces: tuple[Surface, ...]
    cameras: dict[str, list[Camera]] = field(hash=False)
    """by kind, see `KINDS`"""


def _box(x: float, y: float, z: float, size: tuple[float, float, float], colour: Colour, glow: float = 0.0) -> Piece:
    """A box whose base has its middle at (x, y, z)."""
    return Piece("box", (x, y, z + size[2] / 2), size, colour, glow)


def _rod(x: float, y: float, z: float, diameter: float, height: float, colour: Colour, glow: float = 0.0) -> Piece:
    """A cylinder whose base has its middle at (x, y, z)."""
    return Piece("cylinder", (x, y, z + height / 2), (diameter, diameter, height), colour, glow)


def _table(
    x: float, y: float, z: float, size: tuple[float, float], colour: Colour, legs: Colour, thick: float = 0.04
) -> tuple[Piece, ...]:
    """A rectangular table whose top's upper side is at z."""
    feet = [(x + i * (size[0] / 2 - 0.05), y + j * (size[1] / 2 - 0.05)) for i in (-1, 1) for j in (-1, 1)]
    top = _box(x, y, z - thick, (*size, thick), colour)
    return (top, *(_box(a, b, 0.0, (0.05, 0.05, z - thick), legs) for a, b in feet))


def _pillar_table(x: float, y: float, z: float, diameter: float, colour: Colour, legs: Colour) -> tuple[Piece, ...]:
    """A round table or stool on one leg; its top's upper side is at z."""
    return (
        _rod(x, y, z - 0.04, diameter, 0.04, colour),
        _rod(x, y, 0.02, 0.07, z - 0.06, legs),
        _rod(x, y, 0.0, diameter * 0.6, 0.02, legs),
    )


def _chair(x: float, y: float, back: tuple[float, float], colour: Colour) -> tuple[Piece, ...]:
    """A chair with its seat at 0.45 m and a back on the side that `back` points to."""
    across = (0.04, 0.42) if back[0] else (0.42, 0.04)
    return (
        *_table(x, y, 0.45, (0.42, 0.42), colour, colour),
        _box(x + back[0] * 0.19, y + back[1] * 0.19, 0.45, (*across, 0.45), colour),
    )


def _look(
    at: tuple[float, float, float], away: float, yaw: float, pitch: float, field: float = 0.9
) -> Camera:
    """A camera `away` m from a point that it looks at; yaw and pitch in degrees, field of view in rad."""
    turn, tilt = np.radians(yaw), np.radians(pitch)
    ahead = np.array([np.cos(turn) * np.cos(tilt), np.sin(turn) * np.cos(tilt), np.sin(tilt)])
    x, y, z = np.round(np.array(at) - away * ahead, 3).tolist()
    return Camera((x, y, z), float(turn), float(tilt), field, SIDE, SIDE)


def _top(name: str, x: float, y: float, z: float, size: tuple[float, float], round: bool = False) -> Surface:
    return Surface(name, (x, y, z), size, round)


def _bedroom() -> Room:
    wood, sheet, frame = (0.36, 0.2, 0.1), (0.62, 0.66, 0.72), (0.25, 0.13, 0.06)
    return Room(
        (4.4, 4.0, 2.6),
        (0.42, 0.27, 0.15),
        (0.62, 0.6, 0.55),
        (
            _box(0.0, 1.0, 0.0, (1.5, 1.9, 0.3), frame),
            _box(0.0, 0.9, 0.3, (1.44, 1.7, 0.2), sheet),
            _box(0.0, 1.93, 0.0, (1.6, 0.1, 1.0), frame),
            _box(-0.35, 1.65, 0.5, (0.55, 0.35, 0.1), (0.8, 0.8, 0.78)),
            _box(0.35, 1.65, 0.5, (0.55, 0.35, 0.1), (0.8, 0.8, 0.78)),
            _box(-1.25, 1.65, 0.0, (0.7, 0.55, 0.5), wood),
            _box(1.25, 1.65, 0.0, (0.7, 0.55, 0.5), wood),
            _box(0.0, -0.9, 0.0, (1.9, 1.2, 0.012), (0.45, 0.12, 0.1)),
            _box(0.0, -0.2, 0.0, (1.1, 0.4, 0.42), (0.5, 0.36, 0.2)),
        ),
        (
            _top("bed", 0.0, 0.72, 0.5, (1.4, 1.3)),
            _top("left nightstand", -1.25, 1.65, 0.5, (0.7, 0.55)),
            _top("right nightstand", 1.25, 1.65, 0.5, (0.7, 0.55)),
            _top("bench", 0.0, -0.2, 0.42, (1.1, 0.4)),
            _top("rug", 0.0, -0.95, 0.012, (1.9, 1.1)),
        ),
        {
            "close": [
                _look((0.0, 0.5, 0.5), 1.9, 70, -35),
                _look((0.0, 0.3, 0.45), 1.9, 110, -30),
                _look((0.0, -0.5, 0.3), 1.9, 90, -30),
            ],
            "paper": [
                _look((0.0, 0.6, 0.4), 3.2, 75, -22, 1.1),
                _look((0.0, 0.6, 0.4), 3.0, 110, -25, 1.1),
                _look((0.0, 0.4, 0.4), 2.8, 40, -30, 1.2),
            ],
        },
    )


ROOMS: dict[str, Room] = {"bedroom": _bedroom()}

TRAINING = ("bedroom",)
TESTING = ("bedroom",)

INDEX = {name: place for place, name in enumerate(ROOMS)}
"""A room's place in `ROOMS`: the scene index of observations."""
