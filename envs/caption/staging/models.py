"""What each kind of thing looks like: meshes about the middle of the base, facing along x."""

from functools import lru_cache

import numpy as np

from mentorgym.envs.rendering.meshes import (
    LEAVES,
    WINDOWS,
    Colour,
    Mesh,
    box,
    cylinder,
    joined,
    placed,
    polygon,
    sphere,
)

_BODIES: tuple[Colour, ...] = (
    (0.62, 0.63, 0.65),
    (0.05, 0.05, 0.06),
    (0.04, 0.10, 0.32),
    (0.75, 0.75, 0.72),
    (0.05, 0.20, 0.12),
    (0.25, 0.27, 0.30),
    (0.30, 0.22, 0.10),
    (0.10, 0.28, 0.45),
)
_CLOTHES: tuple[Colour, ...] = (
    (0.80, 0.60, 0.05),
    (0.05, 0.20, 0.65),
    (0.70, 0.10, 0.35),
    (0.10, 0.45, 0.20),
    (0.80, 0.80, 0.80),
    (0.60, 0.20, 0.05),
)
_WALLS: tuple[Colour, ...] = (
    (0.45, 0.38, 0.28),
    (0.40, 0.20, 0.14),
    (0.50, 0.50, 0.48),
    (0.55, 0.45, 0.25),
    (0.28, 0.32, 0.36),
)
_DARK: Colour = (0.02, 0.02, 0.02)
_GLASS: Colour = (0.03, 0.04, 0.06)
_GREY: Colour = (0.25, 0.25, 0.26)
_SKIN: Colour = (0.50, 0.30, 0.20)
_WHITE: Colour = (0.85, 0.85, 0.85)
_RED: Colour = (0.80, 0.01, 0.01)
_AMBER: Colour = (1.0, 0.35, 0.0)
_LAMPS: dict[str, Colour] = {"red": (1.0, 0.02, 0.02), "yellow": (1.0, 0.62, 0.0), "green": (0.0, 0.95, 0.30)}


@lru_cache(maxsize=512)
def model(kind: str, size: tuple[float, float, float], state: str, look: int) -> Mesh:
    """The mesh of a thing (`records.Thing`)."""
    return _MODELS[kind](size, state, look)


def _vehicle(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    length, width, height = size
    paint = _BODIES[look % len(_BODIES)]
    if height < 1.8:
        base = 0.58 * height
        parts = [
            box((length, width, base - 0.25), (0, 0, 0.25 + (base - 0.25) / 2), paint),
            box(
                (length * 0.58, width * 0.92, height - base),
                (-length * 0.06, 0, (height + base) / 2),
                _GLASS,
                taper=0.78,
            ),
            box((length * 0.42, width * 0.76, 0.06), (-length * 0.06, 0, height), paint),
        ]
    else:
        base = height * 0.6
        parts = [box((length, width, height - 0.35), (0, 0, 0.35 + (height - 0.35) / 2), paint)]
        window = height * 0.2
        parts.append(box((0.04, width * 0.8, window), (-length / 2 - 0.01, 0, height * 0.75), _GLASS))
        parts.append(box((length * 0.3, width + 0.04, window), (length * 0.28, 0, height * 0.72), _GLASS))
    for x in (-0.31 * length, 0.31 * length):
        for y in (-0.5 * width + 0.1, 0.5 * width - 0.1):
            parts.append(cylinder((x, y - 0.12, 0.33), (x, y + 0.12, 0.33), 0.33, _DARK, sections=10))
    lamp = min(base, 1.15) - 0.14
    braking = state == "brake"
    for side in (-1, 1):
        y = side * (width / 2 - 0.24)
        red = (1.0, 0.03, 0.02) if braking else (0.12, 0.008, 0.008)
        parts.append(box((0.06, 0.46, 0.30), (-length / 2 - 0.02, y, lamp), red, glow=1.0 if braking else 0.0))
        parts.append(box((0.06, 0.34, 0.16), (length / 2 + 0.02, y, 0.62), _WHITE))
        if (state == "left" and side == 1) or (state == "right" and side == -1):
            for x in (-length / 2 - 0.05, length / 2 + 0.05):
                parts.append(box((0.10, 0.5, 0.42), (x, side * (width / 2 - 0.22), lamp), _AMBER, glow=1.0))
            for x in (0.12 - 0.5 * length, 0.3 * length):
                parts.append(box((0.24, 0.08, 0.2), (x, side * (width / 2 + 0.03), lamp), _AMBER, glow=1.0))
    if braking:
        top = height - 0.2 if height < 1.8 else height - 0.15
        back = -length * 0.33 if height < 1.8 else -length / 2 - 0.03
        parts.append(box((0.08, 0.55, 0.12), (back, 0, top), (1.0, 0.03, 0.02), glow=1.0))
    parts.append(box((0.03, 0.5, 0.13), (-length / 2 - 0.02, 0, 0.5), _WHITE))
    return joined(parts)


def _torso(look: int, base: float, lean: float = 0.0) -> list[Mesh]:
    shirt = _CLOTHES[look % len(_CLOTHES)]
    return [
        cylinder((0, 0, base), (lean, 0, base + 0.58), 0.23, shirt),
        cylinder((lean * 0.8, 0.26, base + 0.52), (lean + 0.18, 0.28, base + 0.06), 0.08, shirt),
        cylinder((lean * 0.8, -0.26, base + 0.52), (lean + 0.12, -0.28, base + 0.06), 0.08, shirt),
        sphere((0.26, 0.24, 0.30), (lean * 1.15, 0, base + 0.78), _SKIN),
    ]


def _person(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    trousers = ((0.03, 0.04, 0.10), (0.10, 0.08, 0.05), (0.04, 0.04, 0.04))[look % 3]
    parts = [
        cylinder((0.28, 0.1, 0), (0, 0.1, 0.84), 0.11, trousers),
        cylinder((-0.28, -0.1, 0), (0, -0.1, 0.84), 0.11, trousers),
        *_torso(look, 0.82),
        sphere((0.28, 0.27, 0.2), (-0.02, 0, 1.68), ((0.05, 0.03, 0.02), (0.35, 0.2, 0.05))[look % 2]),
    ]
    mesh = joined(parts)
    return mesh._replace(vertices=mesh.vertices * np.float32(size[2] / 1.78))


def _wheel(x: float, radius: float, width: float) -> Mesh:
    return cylinder((x, -width / 2, radius), (x, width / 2, radius), radius, _DARK, sections=14)


def _rider(size: tuple[float, float, float], state: str, look: int, engine: bool) -> Mesh:
    radius = 0.33 if engine else 0.36
    paint = ((0.55, 0.03, 0.03), (0.03, 0.10, 0.50), (0.05, 0.30, 0.10), (0.6, 0.4, 0.02))[look % 4]
    helmet = ((0.8, 0.8, 0.8), (0.7, 0.05, 0.05), (0.8, 0.6, 0.0))[look % 3]
    parts = [_wheel(-0.62, radius, 0.18 if engine else 0.09), _wheel(0.62, radius, 0.18 if engine else 0.09)]
    if engine:
        parts += [
            box((1.05, 0.36, 0.42), (0.05, 0, 0.62), paint),
            box((0.7, 0.32, 0.14), (-0.4, 0, 0.88), _DARK),
            box((0.06, 0.26, 0.16), (-0.84, 0, 0.78), (0.5, 0.01, 0.01)),
        ]
    else:
        for a, b in (
            ((-0.62, 0, 0.36), (-0.1, 0, 0.34)),
            ((-0.1, 0, 0.34), (0.45, 0, 0.86)),
            ((-0.22, 0, 0.9), (0.45, 0, 0.86)),
            ((-0.22, 0, 0.92), (-0.1, 0, 0.34)),
            ((-0.62, 0, 0.36), (-0.22, 0, 0.8)),
            ((0.62, 0, 0.36), (0.45, 0, 1.0)),
        ):
            parts.append(cylinder(a, b, 0.045, paint, sections=6))
    parts.append(cylinder((0.45, -0.34, 1.06), (0.45, 0.34, 1.06), 0.04, _DARK, sections=6))
    trousers = (0.03, 0.03, 0.06)
    for side in (-1, 1):
        parts.append(cylinder((-0.2, side * 0.12, 0.95), (0.16, side * 0.17, 0.72), 0.1, trousers))
        parts.append(cylinder((0.16, side * 0.17, 0.72), (0.0, side * 0.14, 0.3), 0.09, trousers))
    seat = 0.95
    parts += _torso(look + 1, seat, 0.24)
    parts.append(sphere((0.36, 0.34, 0.28), (0.27, 0, seat + 0.88), helmet))
    return joined(parts)


def _cone(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    length, _, height = size
    orange = (0.95, 0.18, 0.0)
    parts = [box((length, length, 0.06), (0, 0, 0.03), _DARK)]
    for low, high, colour in ((0.0, 0.4, orange), (0.4, 0.66, _WHITE), (0.66, 1.0, orange)):
        wide, narrow = (length * 0.75 * (1 - 0.8 * share) for share in (low, high))
        rise = (high - low) * height
        parts.append(box((wide, wide, rise), (0, 0, low * height + rise / 2 + 0.05), colour, taper=narrow / wide))
    return joined(parts)


def _crate(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    length, width, height = size
    card = ((0.42, 0.24, 0.10), (0.36, 0.26, 0.15))[look % 2]
    return joined(
        [
            box(size, (0, 0, height / 2), card),
            box((length + 0.02, width + 0.02, height * 0.1), (0, 0, height * 0.5), (0.14, 0.07, 0.03)),
            box((length + 0.02, width * 0.12, height + 0.02), (0, 0, height / 2), (0.14, 0.07, 0.03)),
        ]
    )


def _trunk(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    length, width, height = size
    bark = (0.16, 0.09, 0.04)
    parts = [cylinder((0, -width / 2, height / 2), (0, width / 2, height / 2), height / 2, bark, sections=10)]
    end = 1 if look % 2 else -1
    for k, share in enumerate((-0.15, 0.05, 0.25)):
        y = end * share * width
        parts.append(
            cylinder((0, y, height / 2), (0.2, y + 0.35 * end, height + 0.35 + 0.2 * (k % 2)), 0.08, bark, sections=6)
        )
    # The crown lies at one end, the torn roots at the other.
    for share, rise in ((0.36, 0.55), (0.45, 0.8), (0.5, 0.4)):
        parts.append(sphere((1.5, 1.3, 1.2), (0.1, end * share * width, rise), (0.07, 0.20, 0.04), LEAVES))
    parts.append(
        cylinder(
            (0, -end * width / 2, height / 2),
            (0, -end * (width / 2 - 0.2), height / 2),
            height * 0.9,
            (0.10, 0.06, 0.03),
        )
    )
    return joined(parts)


def _tyres(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    height = size[2]
    count = max(int(height / 0.25), 1)
    return joined(
        [
            cylinder(
                (0.04 * (k % 2), 0, k * 0.25 + 0.01),
                (0.04 * (k % 2), 0, k * 0.25 + 0.22),
                size[0] / 2,
                _DARK,
                sections=12,
            )
            for k in range(count)
        ]
    )


def _barrier(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    """Two boards with red and white stripes on legs; it faces along x and is seen from behind."""
    length, width, height = size
    parts = []
    count = 6
    for level in (0.42, 0.86):
        for k in range(count):
            y = (k + 0.5) / count * width - width / 2
            colour = _RED if k % 2 else _WHITE
            parts.append(box((0.08, width / count, height * 0.30), (0, y, height * level), colour, glow=0.25))
    for y in (-0.42 * width, 0.42 * width):
        parts.append(box((length, 0.1, 0.1), (0, y, 0.05), _GREY))
        parts.append(box((0.1, 0.1, height), (0.06, y, height / 2), _GREY))
    return joined(parts)


def _disc(radius: float, height: float, colour: Colour, x: float, glow: float = 0.0, y: float = 0.0) -> Mesh:
    """A disc that faces back along x, towards a reader who comes along x."""
    angles = np.arange(14) / 14 * 2 * np.pi
    corners = np.stack([np.full(14, x), y + radius * np.cos(angles), height + radius * np.sin(angles)], 1)
    return polygon(corners, colour, glow)


def arrow_parts(direction: str) -> list[np.ndarray]:
    """The convex pieces of an arrow that bends to the left or right, in a unit square, [n, 2] each: left, and ahead."""
    left = [
        np.array([(-0.3, -0.5), (-0.1, -0.5), (-0.1, 0.32), (-0.3, 0.12)]),
        np.array([(-0.3, 0.12), (-0.1, 0.32), (0.15, 0.32), (0.15, 0.12)]),
        np.array([(0.12, -0.1), (0.12, 0.54), (0.5, 0.22)]),
    ]
    return left if direction == "left" else [part * (-1, 1) for part in left]


def _light(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    """A head of three lamps, one of them lit, towards a reader who comes along x. Its base is the head's lower edge."""
    _, width, height = size
    radius = width * 0.38
    parts = [
        box((0.3, width, height), (0.15, 0, height / 2), (0.015, 0.015, 0.015)),
        box((0.05, width * 1.25, height * 1.1), (0.32, 0, height / 2), (0.35, 0.28, 0.02)),
    ]
    for k, colour in enumerate(("green", "yellow", "red")):
        middle = height * (2 * k + 1) / 6
        arrow = k == 0 and state in ("left", "right")
        if state == colour:
            parts.append(_disc(radius, middle, _LAMPS[colour], -0.02, 1.0))
        else:
            red, green, blue = _LAMPS[colour]
            parts.append(
                _disc(radius, middle, (0.01, 0.012, 0.012) if arrow else (red * 0.05, green * 0.05, blue * 0.05), -0.02)
            )
        if arrow:
            # Level: a bar with a head at its end.
            side = 1 if state == "left" else -1
            for piece in (
                [(-0.5, -0.15), (0.1, -0.15), (0.1, 0.15), (-0.5, 0.15)],
                [(0.05, -0.5), (0.05, 0.5), (0.62, 0.0)],
            ):
                flat = np.array([(-0.05, side * y * 2 * radius * 0.9, middle + z * 2 * radius * 0.9) for y, z in piece])
                parts.append(polygon(flat, _LAMPS["green"], 1.0))
    return joined(parts)


_LETTERS = {
    "S": ((0, 1, 1, 1), (0, 0.5, 0, 1), (0, 0.5, 1, 0.5), (1, 0, 1, 0.5), (0, 0, 1, 0)),
    "T": ((0, 1, 1, 1), (0.5, 0, 0.5, 1)),
    "O": ((0, 0, 0, 1), (1, 0, 1, 1), (0, 0, 1, 0), (0, 1, 1, 1)),
    "P": ((0, 0, 0, 1), (0, 1, 1, 1), (1, 0.5, 1, 1), (0, 0.5, 1, 0.5)),
}
"""Strokes x0, z0, x1, z1 in the unit square."""


def _sign(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    """A sign on its post, towards a reader who comes along x."""
    _, width, height = size
    middle = height - width / 2
    parts = [cylinder((0.08, 0, 0), (0.08, 0, height), 0.06, _GREY)]
    radius = width / 2
    if state == "stop":
        for x, scale, colour in ((0.0, 1.0, _WHITE), (-0.02, 0.92, _RED)):
            angles = np.pi / 8 + np.arange(8) * np.pi / 4
            ring = np.stack(
                [np.full(8, x), scale * radius * np.cos(angles), middle + scale * radius * np.sin(angles)], 1
            )
            parts.append(polygon(ring, colour, 0.3))
        letter, gap, stroke = radius * 0.26, radius * 0.40, radius * 0.10
        for k, name in enumerate("STOP"):
            for x0, z0, x1, z1 in _LETTERS[name]:
                start = (1.5 - k) * gap + letter / 2
                y0, y1 = start - max(x0, x1) * letter, start - min(x0, x1) * letter
                low = middle - radius * 0.28 + min(z0, z1) * radius * 0.56
                high = middle - radius * 0.28 + max(z0, z1) * radius * 0.56
                half = stroke / 2
                corners = [
                    (y0 - half, low - half),
                    (y1 + half, low - half),
                    (y1 + half, high + half),
                    (y0 - half, high + half),
                ]
                parts.append(polygon([(-0.04, y, z) for y, z in corners], _WHITE, 0.3))
    elif state == "no entry":
        parts.append(_disc(radius, middle, _RED, 0.0, 0.3))
        parts.append(box((0.02, 1.3 * radius, 0.36 * radius), (-0.02, 0, middle), _WHITE, 0.3))
    else:
        for x, scale, colour in ((0.0, 1.1, _RED), (-0.02, 0.66, _WHITE)):
            angles = np.arange(3) * 2 * np.pi / 3
            reach = scale * radius
            triangle = np.stack([np.full(3, x), reach * np.sin(angles), middle - reach * np.cos(angles)], 1)
            parts.append(polygon(triangle, colour, 0.3))
    return joined(parts)


def _building(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    length, width, height = size
    walls = box(size, (0, 0, height / 2), _WALLS[look % len(_WALLS)], texture=WINDOWS)
    if look % 2:
        return joined([walls, box((length + 0.4, width + 0.4, 0.4), (0, 0, height + 0.1), (0.2, 0.2, 0.2))])
    return joined([walls, box((length + 0.6, width + 0.6, 2.6), (0, 0, height + 1.3), (0.28, 0.09, 0.05), taper=0.45)])


def _tree(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    length, width, height = size
    green = ((0.06, 0.20, 0.04), (0.10, 0.24, 0.05), (0.16, 0.22, 0.04))[look % 3]
    crown = height * 0.65
    parts = [cylinder((0, 0, 0), (0, 0, height * 0.5), 0.16, (0.12, 0.07, 0.03))]
    parts.append(sphere((length, width, crown), (0, 0, height - crown / 2), green, LEAVES, 2))
    return joined(parts)


def _post(size: tuple[float, float, float], state: str, look: int) -> Mesh:
    """A mast with an arm of length `size[1]` to its left (negative: right)."""
    _, reach, height = size
    parts = [cylinder((0, 0, 0), (0, 0, height), 0.1, _GREY)]
    if reach:
        parts.append(cylinder((0, 0, height - 0.1), (0, reach, height - 0.1), 0.07, _GREY, sections=6))
    return joined(parts)


_MODELS = {
    **dict.fromkeys(("car", "van", "truck"), _vehicle),
    "person": _person,
    "bicycle": lambda size, state, look: _rider(size, state, look, False),
    "motorbike": lambda size, state, look: _rider(size, state, look, True),
    "cone": _cone,
    "crate": _crate,
    "trunk": _trunk,
    "tyres": _tyres,
    "barrier": _barrier,
    "light": _light,
    "sign": _sign,
    "building": _building,
    "tree": _tree,
    "post": _post,
}


def stood(
    kind: str, size: tuple[float, float, float], state: str, look: int, position, yaw: float, instance: int
) -> Mesh:
    """The model where it stands."""
    return placed(model(kind, size, state, look), position, yaw, instance)
