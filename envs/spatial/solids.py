"""What overlaps what: the nine objects as stacks of discs with turned boxes, furniture as boxes and cylinders.

A profile's piece between two heights is a disc as wide as the wider of its ends, so an object is never smaller than it
looks. All tests take many pairs at once. Metres and radians; whatever only touches, to a millimetre, does not overlap.
"""

import numpy as np

from mentorgym.envs.spatial.objects import OBJECTS

TOUCH = 1e-3
"""Metres by which two solids must reach into each other to overlap."""

_PIECES = max(len(each.profile) for each in OBJECTS) - 1
_LUGS = max(len(each.lugs) for each in OBJECTS)

DISCS = np.zeros((len(OBJECTS), _PIECES, 3))
"""Of each object the discs: from what height to what height, and the radius; float64 [9, pieces, 3], padded with 0."""
LUGS = np.zeros((len(OBJECTS), _LUGS, 6))
"""Of each object the lugs: middle x, y, z and half sizes x, y, z; float64 [9, lugs, 6], padded with 0."""
for _index, _object in enumerate(OBJECTS):
    for _piece, ((_low, _wide), (_high, _wider)) in enumerate(
        zip(_object.profile[:-1], _object.profile[1:], strict=True)
    ):
        DISCS[_index, _piece] = _low, _high, max(_wide, _wider)
    for _piece, _lug in enumerate(_object.lugs):
        _ends = np.array([_lug.x, _lug.y, _lug.z])
        LUGS[_index, _piece] = *_ends.mean(1), *(_ends[:, 1] - _ends[:, 0]) / 2

HEIGHTS = np.array([each.height for each in OBJECTS])
"""From base to top."""
BASES = np.array([each.profile[0][1] for each in OBJECTS])
"""Radii of the footprints."""
REACHES = np.maximum(
    DISCS[:, :, 2].max(1),
    (np.hypot(np.abs(LUGS[:, :, 0]) + LUGS[:, :, 3], np.abs(LUGS[:, :, 1]) + LUGS[:, :, 4])).max(1),
)
"""How far each object gets from its axis, lugs included."""


def _meet(low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray) -> np.ndarray:
    """Whether two heights' ranges overlap; an empty one meets nothing."""
    return np.minimum(high, other_high) - np.maximum(low, other_low) > TOUCH


def _disc_meets_box(offset_x: np.ndarray, offset_y: np.ndarray, half_x, half_y, radius) -> np.ndarray:
    """Whether a disc at an offset, in the frame of a rectangle, reaches into it."""
    away = np.hypot(np.maximum(np.abs(offset_x) - half_x, 0), np.maximum(np.abs(offset_y) - half_y, 0))
    return away < radius - TOUCH


def _boxes_meet(offset: np.ndarray, half: np.ndarray, yaw, other_half: np.ndarray, other_yaw) -> np.ndarray:
    """Whether two turned rectangles overlap: `offset` [n, 2] between their middles, half sizes [n, 2], yaws [n].

    They do unless a line along an edge of one parts them (separating axes).
    """
    apart = np.zeros(len(offset), bool)
    for angle in (yaw, yaw + np.pi / 2, other_yaw, other_yaw + np.pi / 2):
        axis = np.stack([np.cos(angle), np.sin(angle)], 1)
        reach = np.zeros(len(offset))
        for size, turn in ((half, yaw), (other_half, other_yaw)):
            reach += size[:, 0] * np.abs(np.cos(turn - angle)) + size[:, 1] * np.abs(np.sin(turn - angle))
        apart |= np.abs((offset * axis).sum(1)) > reach - TOUCH
    return ~apart


def _lugs(objects: np.ndarray, positions: np.ndarray, yaws: np.ndarray, lug: int) -> tuple[np.ndarray, ...]:
    """Middle [n, 2], half sizes [n, 2], lower and upper end [n] of a lug in the room."""
    told = LUGS[objects, lug]
    cos, sin = np.cos(yaws), np.sin(yaws)
    x = positions[:, 0] + cos * told[:, 0] - sin * told[:, 1]
    y = positions[:, 1] + sin * told[:, 0] + cos * told[:, 1]
    z = positions[:, 2] + told[:, 2]
    return np.stack([x, y], 1), told[:, 3:5], z - told[:, 5], z + told[:, 5]


def objects_overlap(
    objects: np.ndarray,
    positions: np.ndarray,
    yaws: np.ndarray,
    others: np.ndarray,
    other_positions: np.ndarray,
    other_yaws: np.ndarray,
) -> np.ndarray:
    """Whether two objects overlap, bool [n]: into `OBJECTS` int [n], positions of bases [n, 3], yaws [n] of each."""
    overlap = np.zeros(len(objects), bool)
    apart = np.hypot(*(positions - other_positions)[:, :2].T)
    near = np.flatnonzero(apart < REACHES[objects] + REACHES[others])
    one = (objects[near], positions[near], yaws[near])
    two = (others[near], other_positions[near], other_yaws[near])
    a, b = DISCS[one[0]], DISCS[two[0]]
    low, high = a[:, :, :2].transpose(2, 0, 1) + one[1][:, 2, None]
    other_low, other_high = b[:, :, :2].transpose(2, 0, 1) + two[1][:, 2, None]
    reach = a[:, :, None, 2] + b[:, None, :, 2] - TOUCH > apart[near, None, None]
    meet = _meet(low[:, :, None], high[:, :, None], other_low[:, None], other_high[:, None])
    found = (reach & meet).any((1, 2))
    for upright, (_, place, _), lugged in ((b, two, one), (a, one, two)):
        for lug in range(_LUGS):
            middle, half, lug_low, lug_high = _lugs(*lugged, lug)
            cos, sin = np.cos(lugged[2]), np.sin(lugged[2])
            dx, dy = (place[:, :2] - middle).T
            inside = _disc_meets_box(
                (cos * dx + sin * dy)[:, None],
                (cos * dy - sin * dx)[:, None],
                half[:, :1],
                half[:, 1:],
                upright[:, :, 2],
            )
            ends = upright[:, :, :2] + place[:, 2, None, None]
            found |= (inside & _meet(ends[:, :, 0], ends[:, :, 1], lug_low[:, None], lug_high[:, None])).any(1)
    for lug in range(_LUGS):
        for other_lug in range(_LUGS):
            middle, half, lug_low, lug_high = _lugs(*one, lug)
            other_middle, other_half, other_lug_low, other_lug_high = _lugs(*two, other_lug)
            flat = _boxes_meet(other_middle - middle, half, one[2], other_half, two[2])
            found |= flat & _meet(lug_low, lug_high, other_lug_low, other_lug_high)
    overlap[near] = found
    return overlap


def furniture_overlap(
    objects: np.ndarray,
    positions: np.ndarray,
    yaws: np.ndarray,
    centres: np.ndarray,
    sizes: np.ndarray,
    round_: np.ndarray,
) -> np.ndarray:
    """Whether an object overlaps any of F pieces, bool [n].

    Pieces are upright and not turned: centres [n, F, 3], sizes [n, F, 3] (zeros for none) and whether each is a
    cylinder, bool [n, F].
    """
    overlap = np.zeros(len(objects), bool)
    reach = REACHES[objects][:, None, None] + sizes[:, :, :2] / 2
    level = (np.abs(positions[:, None, :2] - centres[:, :, :2]) < reach).all(2)
    bottom, top = centres[:, :, 2] - sizes[:, :, 2] / 2, centres[:, :, 2] + sizes[:, :, 2] / 2
    base = positions[:, 2, None]
    row, piece = np.nonzero(level & _meet(bottom, top, base, base + HEIGHTS[objects][:, None]))
    if not len(row):
        return overlap
    thing, place, yaw = objects[row], positions[row], yaws[row]
    centre, half, cylinder = centres[row, piece], sizes[row, piece] / 2, round_[row, piece]
    low, high = bottom[row, piece], top[row, piece]
    discs = DISCS[thing]
    dx, dy = (place - centre)[:, :2].T
    boxed = _disc_meets_box(dx[:, None], dy[:, None], half[:, :1], half[:, 1:2], discs[:, :, 2])
    rounded = np.hypot(dx, dy)[:, None] < discs[:, :, 2] + half[:, :1] - TOUCH
    ends = discs[:, :, :2] + place[:, 2, None, None]
    meet = _meet(ends[:, :, 0], ends[:, :, 1], low[:, None], high[:, None])
    found = (np.where(cylinder[:, None], rounded, boxed) & meet).any(1)
    for lug in range(_LUGS):
        middle, size, lug_low, lug_high = _lugs(thing, place, yaw, lug)
        boxed = _boxes_meet(middle - centre[:, :2], half[:, :2], np.zeros(len(row)), size, yaw)
        cos, sin = np.cos(yaw), np.sin(yaw)
        dx, dy = (centre[:, :2] - middle).T
        rounded = _disc_meets_box(cos * dx + sin * dy, cos * dy - sin * dx, size[:, 0], size[:, 1], half[:, 0])
        found |= np.where(cylinder, rounded, boxed) & _meet(lug_low, lug_high, low, high)
    overlap[row[found]] = True
    return overlap
