"""How one object stands to another, as a camera sees it, in one to three words (RLS3, section 4.3 and figure 4).

The frame is the camera's, levelled: its forward axis projected to the floor, its right, and up. The relation is that of
the subject to the referent: farther from the camera is "behind", nearer "in front", image left and right are "left" and
"right", higher is "above". Round the referent lie eight sectors of 45 degrees centred on the axes, whose diagonals have
two words. The elevation of the line from the referent to the subject adds a vertical word beyond 20 degrees, and beyond
75 degrees that is the only one.

On a boundary the relation is that of the side with fewer words horizontally, none vertically at 20 degrees, and all at
75 degrees. So every boundary stays what it is when subject and referent are exchanged, the picture is mirrored or the
camera is turned by a quarter: each of these changes words to their opposites, or depth to side, and nothing else.
Boundaries are EDGE wide on either side, so that rounding decides nothing.

A tall object beside a flat one on the same table can be more than 20 degrees higher from centre to centre, and is then
"above" it, as in the paper; `measure="bases"` takes the middles of the bases instead.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial.arrangement import Arrangement

VERTICAL, DEPTH, SIDE = ("above", "below"), ("behind", "in front"), ("left", "right")

TERMS = (*VERTICAL, *DEPTH, *SIDE)
"""The six words, in their order within a caption."""

OPPOSITES = {one: other for pair in (VERTICAL, DEPTH, SIDE) for one, other in (pair, pair[::-1])}

RELATIONS: tuple[tuple[str, ...], ...] = tuple(
    sorted(
        (
            tuple(term for term in terms if term)
            for terms in itertools.product(("", *VERTICAL), ("", *DEPTH), ("", *SIDE))
            if any(terms)
        ),
        key=len,
    )
)
"""All 26, by the number of their words, each in the order of TERMS."""

Measure = Literal["centres", "bases"]
"""Between which points of two objects angles are measured."""

LOW, HIGH = np.deg2rad(20.0), np.deg2rad(75.0)
"""Elevations in rad beyond which there is a vertical word, and no other."""

HALF_SECTOR = np.deg2rad(22.5)

EDGE = 1e-9
"""Half the width of a boundary in rad, and the distance in m below which two points are one."""

_PLACES = {terms: place for place, terms in enumerate(RELATIONS)}
_CODES = np.full((3, 3, 3), -1)
for _vertical, _depth, _side in itertools.product(range(3), repeat=3):
    _words = (("", *VERTICAL)[_vertical], ("", *DEPTH)[_depth], ("", *SIDE)[_side])
    _CODES[_vertical, _depth, _side] = _PLACES.get(tuple(word for word in _words if word), -1)


class Relation(NamedTuple):
    """What holds of a subject and a referent."""

    terms: tuple[str, ...]
    """one to three of TERMS, in their order"""
    elevation: float
    """rad, of the line from referent to subject, up positive"""
    azimuth: float
    """rad in (-pi, pi], 0 straight behind, to the right positive; 0 also where one is straight above the other"""
    margin: float
    """rad to the nearest boundary: the least change of either angle that changes a term; at least 0"""


class Measured(NamedTuple):
    """The same of many pairs, as arrays of one shape."""

    places: np.ndarray
    """int64, into RELATIONS"""
    elevations: np.ndarray
    azimuths: np.ndarray
    margins: np.ndarray


def measure_offsets(offsets: np.ndarray, yaws: np.ndarray | float) -> Measured:
    """The relations of subjects at `offsets`, [..., 3] in m, from their referents, seen by cameras with `yaws`, [...].

    Raises ValueError for an offset of 0, which has no direction, and for NaN and infinity.
    """
    offsets, yaws = np.asarray(offsets, np.float64), np.asarray(yaws, np.float64)
    if not (np.isfinite(offsets).all() and np.isfinite(yaws).all()):
        raise ValueError("a relation needs finite positions and a finite camera")
    if (np.abs(offsets).max(-1) < EDGE).any():
        raise ValueError("two objects at one place have no relation")
    x, y, z = np.moveaxis(offsets, -1, 0)
    behind = x * np.cos(yaws) + y * np.sin(yaws)
    right = x * np.sin(yaws) - y * np.cos(yaws)
    level = np.hypot(behind, right)
    elevations = np.arctan2(z, level)
    # -0.0 would make -pi of pi.
    azimuths = np.where(level < EDGE, 0.0, np.arctan2(right + 0.0, behind))
    steep = np.abs(elevations)
    # The angles to the line through the referent along which one looks, and to that across it.
    from_depth = np.arctan2(np.abs(right), np.abs(behind))
    from_side = np.pi / 2 - from_depth
    flat = steep <= HIGH + EDGE
    vertical = np.where(steep > LOW + EDGE, np.where(z > 0, 1, 2), 0)
    depth = np.where(flat & (from_side > HALF_SECTOR + EDGE), np.where(behind > 0, 1, 2), 0)
    side = np.where(flat & (from_depth > HALF_SECTOR + EDGE), np.where(right < 0, 1, 2), 0)
    margins = np.minimum(np.abs(steep - LOW), np.abs(steep - HIGH))
    sector = np.minimum(np.abs(from_depth - HALF_SECTOR), np.abs(from_side - HALF_SECTOR))
    margins = np.where(flat, np.minimum(margins, sector), margins)
    return Measured(_CODES[vertical, depth, side], elevations, azimuths, margins)


def relation(subject: Sequence[float] | np.ndarray, referent: Sequence[float] | np.ndarray, camera: Camera) -> Relation:
    """The relation of one point to another, each three numbers in m; raises as `measure_offsets` does."""
    offset = np.asarray(subject, np.float64) - np.asarray(referent, np.float64)
    if offset.shape != (3,):
        raise ValueError(f"a point is three numbers, not an array of shape {offset.shape}")
    place, elevation, azimuth, margin = measure_offsets(offset, camera.yaw)
    return Relation(RELATIONS[int(place)], float(elevation), float(azimuth), float(margin))


def points(arrangement: Arrangement, measure: Measure = "centres") -> np.ndarray:
    """The points of its objects that angles are measured between, float64 [K, 3]."""
    if measure not in ("centres", "bases"):
        raise ValueError(f"measure={measure!r}: choose centres or bases")
    return arrangement.centres if measure == "centres" else np.asarray(arrangement.positions, np.float64)


def relation_of(arrangement: Arrangement, subject: int, referent: int, measure: Measure = "centres") -> Relation:
    """The relation of the object at the place `subject` of an arrangement to that at `referent`."""
    chosen = points(arrangement, measure)
    return relation(chosen[subject], chosen[referent], arrangement.camera)


def all_relations(arrangement: Arrangement, measure: Measure = "centres") -> dict[tuple[int, int], Relation]:
    """The relations of all ordered pairs of places (subject, referent), in their order."""
    pairs = list(itertools.permutations(range(len(arrangement.objects)), 2))
    chosen = points(arrangement, measure)
    measured = measure_offsets(np.array([chosen[one] - chosen[other] for one, other in pairs]), arrangement.camera.yaw)
    rows = zip(*(values.tolist() for values in measured), strict=True)
    return {pair: Relation(RELATIONS[place], *angles) for pair, (place, *angles) in zip(pairs, rows, strict=True)}
