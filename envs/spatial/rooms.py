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

TEXTURES = ("", "planks", "tiles", "weave", "marble", "grain")
"""How a colour varies: not at all, as boards with seams, square tiles, a rug's stripes, veins of stone, or of wood."""

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
    texture: str = ""
    """one of `TEXTURES`"""


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
    floor_texture: str = ""
    """one of `TEXTURES`"""


def _box(
    x: float,
    y: float,
    z: float,
    size: tuple[float, float, float],
    colour: Colour,
    glow: float = 0.0,
    texture: str = "",
) -> Piece:
    """A box whose base has its middle at (x, y, z)."""
    return Piece("box", (x, y, z + size[2] / 2), size, colour, glow, texture)


def _rod(
    x: float,
    y: float,
    z: float,
    diameter: float,
    height: float,
    colour: Colour,
    glow: float = 0.0,
    texture: str = "",
) -> Piece:
    """A cylinder whose base has its middle at (x, y, z)."""
    return Piece("cylinder", (x, y, z + height / 2), (diameter, diameter, height), colour, glow, texture)


def _table(
    x: float, y: float, z: float, size: tuple[float, float], colour: Colour, legs: Colour, thick: float = 0.04
) -> tuple[Piece, ...]:
    """A rectangular table of wood; its top's upper side is at z."""
    feet = [(x + i * (size[0] / 2 - 0.05), y + j * (size[1] / 2 - 0.05)) for i in (-1, 1) for j in (-1, 1)]
    top = _box(x, y, z - thick, (*size, thick), colour, 0.0, "grain")
    return (top, *(_box(a, b, 0.0, (0.05, 0.05, z - thick), legs) for a, b in feet))


def _pillar_table(
    x: float, y: float, z: float, diameter: float, colour: Colour, legs: Colour, texture: str = ""
) -> tuple[Piece, ...]:
    """A round table or stool on one leg; its top's upper side is at z."""
    return (
        _rod(x, y, z - 0.04, diameter, 0.04, colour, 0.0, texture),
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


def _look(at: tuple[float, float, float], away: float, yaw: float, pitch: float, field: float = 0.9) -> Camera:
    """A camera `away` m from a point that it looks at; yaw and pitch in degrees, field of view in rad."""
    turn, tilt = np.radians(yaw), np.radians(pitch)
    ahead = np.array([np.cos(turn) * np.cos(tilt), np.sin(turn) * np.cos(tilt), np.sin(tilt)])
    x, y, z = np.round(np.array(at) - away * ahead, 3).tolist()
    return Camera((x, y, z), float(turn), float(tilt), field, SIDE, SIDE)


def _shelf(
    x: float, y: float, heights: tuple[float, ...], size: tuple[float, float], colour: Colour, bottom: float = 0.0
) -> tuple[Piece, ...]:
    """A rack open to its front (towards -y): boards whose upper sides are at `heights`, two sides and a back."""
    length, depth = size
    rise = heights[-1] - bottom
    sides = [_box(x + side * (length / 2 + 0.0125), y, bottom, (0.025, depth, rise), colour) for side in (-1, 1)]
    back = _box(x, y + depth / 2 + 0.01, bottom, (length + 0.05, 0.02, rise), colour)
    return (*(_box(x, y, z - 0.025, (length, depth, 0.025), colour) for z in heights), *sides, back)


def _window(x: float, wall: float, z: float, size: tuple[float, float], frame: Colour) -> tuple[Piece, ...]:
    """A bright window in the wall at y = `wall`, its lower edge at z."""
    width, height = size
    glass = _box(x, wall - 0.015, z, (width, 0.02, height), (0.75, 0.87, 0.95), 0.9)
    bars = [_box(x, wall - 0.03, z + at, (width + 0.08, 0.04, 0.05), frame) for at in (-0.05, height)]
    posts = [_box(x + at * width / 2, wall - 0.03, z, (0.05, 0.04, height), frame) for at in (-1, 0, 1)]
    return (glass, *bars, *posts)


def _picture(x: float, wall: float, z: float, size: tuple[float, float], colour: Colour) -> tuple[Piece, ...]:
    """A framed picture on the wall at y = `wall`, its lower edge at z."""
    frame = _box(x, wall - 0.015, z, (size[0], 0.03, size[1]), (0.1, 0.07, 0.05))
    return (frame, _box(x, wall - 0.032, z + 0.04, (size[0] - 0.08, 0.01, size[1] - 0.08), colour))


_WHITE = (0.78, 0.77, 0.74)
_BLACK = (0.03, 0.03, 0.035)
_CHROME = (0.5, 0.51, 0.53)


def _bedroom() -> Room:
    wood, frame = (0.36, 0.19, 0.09), (0.22, 0.11, 0.05)
    return Room(
        (4.6, 4.6, 2.6),
        (0.42, 0.27, 0.15),
        (0.5, 0.56, 0.6),
        (
            _box(0.0, 1.2, 0.0, (1.5, 1.9, 0.28), frame),
            _box(0.0, 1.2, 0.28, (1.44, 1.84, 0.22), (0.5, 0.58, 0.68)),
            _box(0.0, 2.22, 0.0, (1.6, 0.08, 1.05), frame),
            _box(-0.36, 1.9, 0.5, (0.58, 0.34, 0.12), _WHITE),
            _box(0.36, 1.9, 0.5, (0.58, 0.34, 0.12), _WHITE),
            _box(-1.2, 1.85, 0.0, (0.8, 0.7, 0.62), wood),
            _box(-1.2, 1.495, 0.34, (0.7, 0.012, 0.2), frame),
            _box(1.2, 1.85, 0.0, (0.8, 0.7, 0.62), wood),
            _box(1.2, 1.495, 0.34, (0.7, 0.012, 0.2), frame),
            *_table(0.0, -0.15, 0.42, (1.5, 0.56), (0.55, 0.4, 0.24), frame),
            _box(0.0, -0.95, 0.0, (2.2, 1.0, 0.012), (0.5, 0.1, 0.09), 0.0, "weave"),
            *_window(-1.35, 2.3, 1.15, (0.9, 1.0), _WHITE),
            *_picture(1.2, 2.3, 1.3, (0.7, 0.5), (0.6, 0.35, 0.1)),
        ),
        (
            Surface("bed", (0.0, 0.98, 0.5), (1.36, 1.36)),
            Surface("left nightstand", (-1.2, 1.85, 0.62), (0.8, 0.7)),
            Surface("right nightstand", (1.2, 1.85, 0.62), (0.8, 0.7)),
            Surface("bench", (0.0, -0.15, 0.42), (1.5, 0.56)),
            Surface("rug", (0.0, -0.95, 0.012), (2.2, 1.0)),
        ),
        {
            "close": [
                _look((0.0, 0.75, 0.5), 1.7, 80, -32),
                _look((-0.75, 1.5, 0.6), 1.75, 105, -28),
                _look((0.7, 1.5, 0.6), 1.8, 70, -30),
                _look((0.05, -0.4, 0.25), 1.6, 97, -38),
            ],
            "paper": [
                _look((0.0, 0.7, 0.4), 2.9, 80, -20, 1.1),
                _look((0.0, 0.7, 0.4), 2.8, 115, -24, 1.1),
                _look((0.1, 0.6, 0.4), 2.6, 50, -28, 1.2),
            ],
        },
        "planks",
    )


def _living_room() -> Room:
    oak, dark = (0.5, 0.33, 0.17), (0.12, 0.1, 0.09)
    return Room(
        (5.0, 4.6, 2.6),
        (0.3, 0.19, 0.11),
        (0.66, 0.58, 0.44),
        (
            _box(0.0, 0.2, 0.0, (2.4, 1.7, 0.012), (0.16, 0.26, 0.4), 0.0, "weave"),
            _box(0.0, 0.2, 0.012, (2.0, 1.3, 0.001), (0.55, 0.5, 0.4)),
            *_table(0.0, 0.3, 0.44, (1.25, 0.75), oak, dark),
            _box(0.0, 2.0, 0.0, (1.9, 0.56, 0.5), dark),
            _box(0.0, 2.26, 0.62, (1.3, 0.05, 0.75), _BLACK),
            _box(0.0, 2.23, 0.66, (1.22, 0.012, 0.67), (0.05, 0.08, 0.12)),
            *_pillar_table(1.35, 0.75, 0.6, 0.76, (0.72, 0.7, 0.66), dark),
            _box(-1.75, 0.3, 0.0, (0.75, 1.9, 0.4), (0.5, 0.17, 0.08)),
            _box(-2.2, 0.3, 0.0, (0.22, 1.9, 0.8), (0.5, 0.17, 0.08)),
            *_shelf(1.75, 2.02, (0.05, 0.5, 0.95, 1.4), (1.1, 0.48), oak),
            *_picture(-1.7, 2.3, 1.2, (0.9, 0.65), (0.1, 0.32, 0.34)),
        ),
        (
            Surface("coffee table", (0.0, 0.3, 0.44), (1.25, 0.75)),
            Surface("TV board", (0.0, 1.97, 0.5), (1.9, 0.5)),
            Surface("side table", (1.35, 0.75, 0.6), (0.76, 0.76), True),
            Surface("sofa", (-1.75, 0.3, 0.4), (0.7, 1.8)),
            Surface("low shelf", (1.75, 2.02, 0.5), (1.1, 0.48)),
            Surface("high shelf", (1.75, 2.02, 0.95), (1.1, 0.48)),
            Surface("rug", (0.0, 0.2, 0.013), (2.0, 1.3)),
        ),
        {
            "close": [
                _look((0.05, 0.3, 0.4), 1.5, 82, -33),
                _look((0.75, 0.5, 0.45), 1.75, 72, -30),
                _look((-0.7, 0.3, 0.4), 1.8, 118, -34),
                _look((1.55, 1.95, 0.7), 1.65, 84, -16),
                _look((0.0, 1.95, 0.5), 1.8, 93, -25),
            ],
            "paper": [
                _look((0.1, 0.8, 0.4), 3.0, 85, -22, 1.15),
                _look((0.1, 0.8, 0.4), 2.9, 118, -24, 1.15),
                _look((0.2, 0.7, 0.4), 2.8, 58, -26, 1.2),
            ],
        },
        "planks",
    )


def _dining_corner() -> Room:
    walnut, marble = (0.2, 0.1, 0.05), (0.8, 0.78, 0.75)
    return Room(
        (4.4, 4.4, 2.6),
        (0.46, 0.36, 0.25),
        (0.6, 0.38, 0.3),
        (
            *_pillar_table(0.1, 0.5, 0.75, 1.2, marble, _BLACK, "marble"),
            *_chair(-0.85, 0.45, (-1, 0), walnut),
            *_chair(1.05, 0.45, (1, 0), walnut),
            _box(0.1, 1.85, 0.0, (2.3, 0.6, 0.46), (0.1, 0.2, 0.17)),
            _box(0.1, 2.17, 0.46, (2.3, 0.06, 0.45), (0.1, 0.2, 0.17)),
            _box(-1.85, 0.9, 0.0, (0.6, 1.6, 0.85), walnut),
            _rod(0.1, 0.5, 1.9, 0.45, 0.2, (0.85, 0.6, 0.2), 0.5),
            _rod(0.1, 0.5, 2.1, 0.02, 0.5, _BLACK),
            *_window(0.1, 2.2, 1.15, (1.5, 1.0), walnut),
        ),
        (
            Surface("marble table", (0.1, 0.5, 0.75), (1.2, 1.2), True),
            Surface("left chair", (-0.83, 0.45, 0.45), (0.38, 0.42)),
            Surface("right chair", (1.03, 0.45, 0.45), (0.38, 0.42)),
            Surface("corner bench", (0.1, 1.84, 0.46), (2.3, 0.58)),
            Surface("sideboard", (-1.85, 0.9, 0.85), (0.6, 1.6)),
            Surface("floor", (0.1, -0.6, 0.0), (2.4, 1.0)),
        ),
        {
            "close": [
                _look((0.1, 0.5, 0.7), 1.5, 90, -30),
                _look((0.0, 0.5, 0.65), 1.65, 62, -34),
                _look((0.2, 0.5, 0.6), 1.85, 125, -30),
                _look((-1.7, 0.9, 0.8), 1.8, 155, -26),
                _look((0.1, 0.0, 0.4), 1.9, 75, -44),
            ],
            "paper": [
                _look((0.0, 0.7, 0.5), 2.8, 90, -18, 1.1),
                _look((0.0, 0.7, 0.5), 2.7, 122, -22, 1.15),
                _look((0.0, 0.7, 0.5), 2.7, 65, -22, 1.15),
            ],
        },
        "planks",
    )


def _green_kitchen() -> Room:
    green, pine = (0.16, 0.34, 0.2), (0.62, 0.42, 0.2)
    return Room(
        (4.8, 4.4, 2.6),
        (0.55, 0.54, 0.5),
        (0.66, 0.68, 0.58),
        (
            _rod(0.0, 0.1, 0.0, 2.2, 0.012, (0.62, 0.3, 0.07), 0.0, "weave"),
            *_table(0.0, 0.3, 0.75, (1.3, 0.8), pine, _WHITE),
            *_pillar_table(-0.95, -0.1, 0.5, 0.54, (0.6, 0.1, 0.06), _CHROME),
            *_pillar_table(0.95, -0.1, 0.5, 0.54, (0.6, 0.1, 0.06), _CHROME),
            _box(0.0, 1.88, 0.0, (3.6, 0.6, 0.87), green),
            _box(0.0, 1.87, 0.87, (3.64, 0.64, 0.04), pine, 0.0, "grain"),
            *(_box(x, 1.572, 0.12, (0.84, 0.016, 0.68), (0.22, 0.43, 0.27)) for x in (-1.35, -0.45, 0.45, 1.35)),
            _box(-1.2, 2.02, 1.5, (1.2, 0.34, 0.7), green),
            *_shelf(1.15, 1.95, (1.3, 1.75), (1.3, 0.46), pine, 1.275),
            *_window(0.0, 2.2, 1.25, (0.9, 0.8), _WHITE),
        ),
        (
            Surface("table", (0.0, 0.3, 0.75), (1.3, 0.8)),
            Surface("left stool", (-0.95, -0.1, 0.5), (0.54, 0.54), True),
            Surface("right stool", (0.95, -0.1, 0.5), (0.54, 0.54), True),
            Surface("counter", (0.0, 1.86, 0.91), (3.6, 0.6)),
            Surface("shelf", (1.15, 1.95, 1.3), (1.3, 0.46)),
            Surface("rug", (0.0, 0.1, 0.012), (2.2, 2.2), True),
        ),
        {
            "close": [
                _look((0.0, 0.3, 0.72), 1.55, 95, -31),
                _look((0.5, 0.1, 0.6), 1.7, 70, -35),
                _look((-0.5, 0.1, 0.6), 1.7, 112, -33),
                _look((0.8, 1.8, 1.05), 1.75, 80, -14),
                _look((-0.7, 1.8, 0.95), 1.6, 100, -24),
            ],
            "paper": [
                _look((0.0, 0.8, 0.6), 2.8, 88, -18, 1.15),
                _look((0.0, 0.7, 0.6), 2.7, 118, -22, 1.2),
                _look((0.0, 0.7, 0.6), 2.7, 62, -22, 1.2),
            ],
        },
        "tiles",
    )


def _grey_kitchen() -> Room:
    grey, marble = (0.2, 0.21, 0.23), (0.7, 0.7, 0.7)
    return Room(
        (4.4, 4.2, 2.6),
        (0.24, 0.22, 0.21),
        (0.56, 0.57, 0.6),
        (
            _box(0.0, 1.78, 0.0, (3.4, 0.6, 0.88), grey),
            _box(0.0, 1.77, 0.88, (3.44, 0.66, 0.04), marble, 0.0, "marble"),
            *(_box(x, 1.472, 0.1, (0.78, 0.016, 0.7), (0.27, 0.28, 0.3)) for x in (-1.25, -0.42, 0.42, 1.25)),
            _box(-0.95, 1.75, 0.92, (0.9, 0.6, 0.008), _BLACK),
            *(_rod(x, y, 0.928, 0.19, 0.0006, (0.35, 0.06, 0.03)) for x in (-1.13, -0.77) for y in (1.63, 1.87)),
            _box(-0.95, 1.92, 1.75, (0.8, 0.34, 0.35), _CHROME),
            *_shelf(0.65, 1.85, (1.35, 1.8, 2.15), (1.4, 0.46), (0.3, 0.19, 0.1), 1.325),
            _box(0.1, 0.1, 0.0, (1.0, 0.55, 0.76), (0.1, 0.15, 0.25)),
            _box(0.1, 0.1, 0.76, (1.2, 0.7, 0.04), (0.42, 0.27, 0.15), 0.0, "grain"),
            *_pillar_table(-0.9, 0.0, 0.5, 0.54, (0.75, 0.55, 0.08), _BLACK),
            _box(0.0, -0.9, 0.0, (2.0, 0.9, 0.012), (0.3, 0.33, 0.28), 0.0, "weave"),
        ),
        (
            Surface("counter", (0.57, 1.75, 0.92), (2.2, 0.6)),
            Surface("stove top", (-0.95, 1.75, 0.928), (0.9, 0.6)),
            Surface("wall cabinet", (0.65, 1.85, 1.35), (1.4, 0.46)),
            Surface("island", (0.1, 0.1, 0.8), (1.2, 0.7)),
            Surface("stool", (-0.9, 0.0, 0.5), (0.54, 0.54), True),
            Surface("mat", (0.0, -0.9, 0.012), (2.0, 0.9)),
        ),
        {
            "close": [
                _look((0.5, 1.75, 1.1), 1.7, 88, -12),
                _look((-0.6, 1.72, 0.95), 1.6, 96, -28),
                _look((0.9, 1.75, 1.1), 1.75, 68, -14),
                _look((0.0, 0.05, 0.75), 1.55, 80, -33),
                _look((-0.4, 0.0, 0.6), 1.7, 107, -37),
            ],
            "paper": [
                _look((0.1, 0.9, 0.8), 2.7, 90, -16, 1.15),
                _look((0.1, 0.9, 0.7), 2.6, 118, -20, 1.2),
                _look((0.0, 0.8, 0.7), 2.6, 64, -20, 1.2),
            ],
        },
        "tiles",
    )


def _study() -> Room:
    cherry, steel = (0.33, 0.1, 0.05), (0.3, 0.33, 0.36)
    return Room(
        (4.2, 4.2, 2.5),
        (0.16, 0.2, 0.24),
        (0.3, 0.36, 0.28),
        (
            *_table(-0.3, 1.55, 0.73, (1.7, 0.8), cherry, steel),
            _box(-0.75, 1.8, 0.73, (0.25, 0.18, 0.02), _BLACK),
            _box(-0.75, 1.83, 0.75, (0.6, 0.03, 0.38), _BLACK),
            _box(-0.75, 1.812, 0.77, (0.56, 0.01, 0.34), (0.1, 0.3, 0.5), 0.4),
            _box(0.9, 0.75, 0.0, (0.7, 0.75, 0.52), steel),
            *_shelf(1.55, 1.8, (0.1, 0.95, 1.4, 1.85), (1.0, 0.5), cherry),
            _rod(0.2, -0.2, 0.0, 2.0, 0.012, (0.66, 0.6, 0.48), 0.0, "weave"),
            *_pillar_table(-0.6, 0.1, 0.46, 0.6, (0.08, 0.12, 0.3), steel),
            _box(-1.75, 0.3, 0.0, (0.65, 1.8, 0.4), (0.62, 0.6, 0.55)),
            *_picture(0.45, 2.1, 1.35, (0.55, 0.75), (0.5, 0.12, 0.2)),
        ),
        (
            Surface("desk", (0.08, 1.55, 0.73), (0.9, 0.8)),
            Surface("drawer unit", (0.9, 0.75, 0.52), (0.7, 0.75)),
            Surface("bookcase", (1.55, 1.8, 0.95), (1.0, 0.5)),
            Surface("upper bookcase", (1.55, 1.8, 1.4), (1.0, 0.5)),
            Surface("stool", (-0.6, 0.1, 0.46), (0.6, 0.6), True),
            Surface("window seat", (-1.75, 0.3, 0.4), (0.65, 1.8)),
            Surface("rug", (0.2, -0.2, 0.012), (2.0, 2.0), True),
        ),
        {
            "close": [
                _look((0.35, 1.5, 0.65), 1.6, 78, -32),
                _look((0.75, 1.5, 0.7), 1.75, 62, -26),
                _look((-0.2, 0.0, 0.3), 1.7, 100, -38),
                _look((-1.3, 0.25, 0.4), 1.8, 140, -30),
            ],
            "paper": [
                _look((0.1, 0.8, 0.6), 2.6, 96, -20, 1.2),
                _look((0.2, 0.8, 0.6), 2.6, 70, -22, 1.2),
                _look((-0.1, 0.7, 0.5), 2.6, 128, -24, 1.2),
            ],
        },
    )


def _hallway() -> Room:
    teak, cream = (0.4, 0.22, 0.1), (0.75, 0.68, 0.52)
    return Room(
        (4.4, 3.6, 2.5),
        (0.3, 0.12, 0.08),
        (0.72, 0.66, 0.5),
        (
            *_shelf(-0.9, 1.42, (0.16, 0.6), (1.5, 0.56), teak),
            _box(0.95, 1.45, 0.0, (1.5, 0.56, 0.06), cream),
            *_table(0.95, 1.45, 0.82, (1.5, 0.6), cream, cream),
            _box(0.95, 1.76, 1.05, (0.8, 0.02, 0.95), (0.5, 0.6, 0.66)),
            _box(-0.9, 1.56, 1.16, (1.4, 0.46, 0.03), teak),
            *(_rod(-1.4 + 0.25 * i, 1.74, 1.55, 0.04, 0.1, _BLACK) for i in range(5)),
            _box(0.0, 0.3, 0.0, (3.2, 1.1, 0.012), (0.1, 0.22, 0.3), 0.0, "weave"),
            _rod(2.0, 1.6, 0.0, 0.26, 0.55, (0.15, 0.25, 0.4)),
        ),
        (
            Surface("bench", (-0.9, 1.42, 0.6), (1.5, 0.56)),
            Surface("shoe rack", (-0.9, 1.42, 0.16), (1.5, 0.56)),
            Surface("console", (0.95, 1.45, 0.82), (1.5, 0.6)),
            Surface("wall shelf", (-0.9, 1.56, 1.19), (1.4, 0.46)),
            Surface("runner", (0.0, 0.3, 0.012), (3.2, 1.1)),
        ),
        {
            "close": [
                _look((-0.9, 1.4, 0.6), 1.75, 84, -18),
                _look((-0.7, 1.4, 0.7), 1.8, 108, -14),
                _look((0.9, 1.45, 0.8), 1.6, 92, -24),
                _look((0.2, 0.5, 0.1), 1.7, 86, -40),
            ],
            "paper": [
                _look((0.0, 1.0, 0.6), 2.5, 90, -16, 1.25),
                _look((0.0, 1.0, 0.6), 2.4, 114, -20, 1.25),
                _look((0.0, 1.0, 0.6), 2.4, 66, -20, 1.25),
            ],
        },
        "tiles",
    )


def _workshop() -> Room:
    plank, iron = (0.52, 0.38, 0.22), (0.16, 0.17, 0.18)
    return Room(
        (4.6, 4.0, 2.6),
        (0.36, 0.37, 0.36),
        (0.42, 0.28, 0.2),
        (
            *_table(-0.2, 1.6, 0.88, (1.9, 0.7), plank, iron, 0.07),
            _box(-0.9, 1.5, 0.88, (0.22, 0.3, 0.16), (0.1, 0.2, 0.42)),
            _box(-0.2, 1.97, 1.3, (1.8, 0.03, 0.8), (0.6, 0.47, 0.3)),
            *(_box(-0.8 + 0.3 * i, 1.94, 1.5, (0.05, 0.03, 0.3), iron) for i in range(5)),
            _box(1.2, 1.0, 0.0, (0.75, 0.7, 0.45), (0.58, 0.3, 0.1)),
            _box(-1.5, 0.5, 0.0, (0.8, 0.5, 0.24), (0.6, 0.5, 0.1)),
            _box(-1.5, 1.0, 0.0, (0.8, 0.5, 0.48), (0.6, 0.5, 0.1)),
            _rod(0.45, 0.1, 0.0, 0.76, 0.72, (0.1, 0.3, 0.34)),
            *_shelf(1.75, 1.72, (0.85, 1.25, 1.65), (1.0, 0.5), iron),
            _box(0.0, -0.6, 0.0, (2.4, 1.0, 0.012), (0.2, 0.24, 0.2), 0.0, "weave"),
        ),
        (
            Surface("workbench", (0.0, 1.6, 0.88), (1.5, 0.7)),
            Surface("crate", (1.2, 1.0, 0.45), (0.75, 0.7)),
            Surface("lower step", (-1.5, 0.5, 0.24), (0.8, 0.5)),
            Surface("upper step", (-1.5, 1.0, 0.48), (0.8, 0.5)),
            Surface("barrel", (0.45, 0.1, 0.72), (0.76, 0.76), True),
            Surface("rack", (1.75, 1.72, 0.85), (1.0, 0.5)),
            Surface("upper rack", (1.75, 1.72, 1.25), (1.0, 0.5)),
            Surface("mat", (0.0, -0.6, 0.012), (2.4, 1.0)),
        ),
        {
            "close": [
                _look((0.15, 1.5, 0.85), 1.65, 92, -26),
                _look((0.95, 1.4, 0.7), 1.9, 72, -22),
                _look((0.3, -0.1, 0.35), 1.6, 78, -38),
                _look((-1.4, 0.65, 0.3), 1.6, 118, -34),
            ],
            "paper": [
                _look((0.0, 0.9, 0.6), 2.6, 90, -18, 1.2),
                _look((0.0, 0.8, 0.6), 2.5, 116, -22, 1.2),
                _look((0.0, 0.8, 0.6), 2.5, 66, -22, 1.2),
            ],
        },
    )


ROOMS: dict[str, Room] = {
    "bedroom": _bedroom(),
    "living room": _living_room(),
    "dining corner": _dining_corner(),
    "green kitchen": _green_kitchen(),
    "grey kitchen": _grey_kitchen(),
    "study": _study(),
    "hallway": _hallway(),
    "workshop": _workshop(),
}

TRAINING = tuple(ROOMS)[:5]
TESTING = tuple(ROOMS)[5:]

INDEX = {name: place for place, name in enumerate(ROOMS)}
"""A room's place in `ROOMS`: the scene index of observations."""
