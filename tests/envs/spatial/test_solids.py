"""What overlaps what: against a slow reference on a grid of points, and by symmetry."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from mentorgym.envs.spatial import solids
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import Piece
from tests.envs.spatial.solid_reference import part_of, parts_of, share_a_point

UNSURE = 0.004
"""Metres by which solids are shrunk, or grown, before the reference is asked whether they surely, or may, overlap."""

indices = st.integers(0, len(OBJECTS) - 1)
angles = st.floats(-np.pi, np.pi)
near = st.floats(-0.3, 0.3)
heights = st.floats(-0.4, 0.4)


def overlap(one: int, position, yaw: float, other: int, other_position, other_yaw: float) -> bool:
    arrays = [np.array([each]) for each in (one, position, yaw, other, other_position, other_yaw)]
    return bool(solids.objects_overlap(*arrays)[0])


def hit(one: int, position, yaw: float, *pieces: Piece) -> bool:
    furniture = [np.array([values]) for values in zip(*[(p.centre, p.size) for p in pieces], strict=True)]
    cylinders = np.array([[piece.shape == "cylinder" for piece in pieces]])
    return bool(
        solids.furniture_overlap(np.array([one]), np.array([position]), np.array([yaw]), *furniture, cylinders)[0]
    )


@given(indices, angles, indices, angles, near, near, heights)
def test_objects_overlap_where_their_parts_share_points(one, yaw, other, other_yaw, x, y, z):
    told = overlap(one, (0.0, 0.0, 0.0), yaw, other, (x, y, z), other_yaw)
    ones, others = parts_of(one, (0.0, 0.0, 0.0), yaw), parts_of(other, (x, y, z), other_yaw)
    assert told or not share_a_point(ones, others, -UNSURE)
    assert not told or share_a_point(ones, others, UNSURE)


@given(
    indices,
    angles,
    near,
    near,
    heights,
    st.sampled_from(["box", "cylinder"]),
    st.tuples(st.floats(0.02, 0.5), st.floats(0.02, 0.5), st.floats(0.01, 0.5)),
)
def test_furniture_is_hit_where_parts_share_points(one, yaw, x, y, z, shape, size):
    size = size if shape == "box" else (size[0], size[0], size[2])
    piece = Piece(shape, (x, y, z), size, (0.5, 0.5, 0.5))
    told = hit(one, (0.0, 0.0, 0.0), yaw, piece)
    ones, others = parts_of(one, (0.0, 0.0, 0.0), yaw), [part_of(piece)]
    assert told or not share_a_point(ones, others, -UNSURE)
    assert not told or share_a_point(ones, others, UNSURE)


@given(indices, angles, indices, angles, near, near, heights, angles)
def test_neither_order_nor_the_point_of_view_matters(one, yaw, other, other_yaw, x, y, z, turn):
    def told(by: float, shift: float, first: bool) -> bool:
        there = (x * np.cos(by) - y * np.sin(by) + shift, x * np.sin(by) + y * np.cos(by) - shift, z)
        a, b = (one, (shift, -shift, 0.0), yaw + by), (other, there, other_yaw + by)
        return overlap(*a, *b) if first else overlap(*b, *a)

    assert told(0.0, 0.0, True) == told(0.0, 0.0, False)
    parts = [(parts_of(one, (0.0, 0.0, 0.0), yaw), parts_of(other, (x, y, z), other_yaw))] * 2
    surely, maybe = (share_a_point(*each, more) for each, more in zip(parts, (-UNSURE, UNSURE), strict=True))
    assume(surely == maybe)  # a touch may turn either way with the last bit
    assert told(turn, 1.3, True) == told(0.0, 0.0, True)


def test_whatever_stands_on_a_table_does_not_overlap_it():
    table = Piece("box", (0.0, 0.0, 0.7), (1.0, 1.0, 0.1), (0.5, 0.5, 0.5))
    for index in range(len(OBJECTS)):
        assert not hit(index, (0.0, 0.0, 0.75), 0.3, table)
        assert hit(index, (0.0, 0.0, 0.745), 0.3, table)
        assert not hit(index, (0.0, 0.0, 0.65 - OBJECTS[index].height), 0.3, table)


def test_a_handle_counts_and_turns_with_its_object():
    pot = 1
    beside = Piece("box", (0.22, 0.0, 0.1), (0.04, 0.1, 0.2), (0.5, 0.5, 0.5))
    assert hit(pot, (0.0, 0.0, 0.0), 0.0, beside) and not hit(pot, (0.0, 0.0, 0.0), np.pi / 2, beside)
    below = Piece("box", (0.22, 0.0, 0.025), (0.04, 0.1, 0.05), (0.5, 0.5, 0.5))
    assert not hit(pot, (0.0, 0.0, 0.0), 0.0, below), "the handle is higher than that"
    assert overlap(pot, (0.0, 0.0, 0.0), 0.0, 6, (0.24, 0.0, 0.0), 0.0)
    assert not overlap(pot, (0.0, 0.0, 0.0), 1.0, 6, (0.24, 0.0, 0.0), 0.0)


def test_any_of_several_pieces_is_hit_and_none_where_there_are_none():
    away = Piece("box", (2.0, 0.0, 0.0), (0.1, 0.1, 0.1), (0.5, 0.5, 0.5))
    here = Piece("cylinder", (0.05, 0.0, 0.0), (0.1, 0.1, 0.1), (0.5, 0.5, 0.5))
    none = Piece("box", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    assert hit(0, (0.0, 0.0, 0.0), 0.0, away, here) and not hit(0, (0.0, 0.0, 0.0), 0.0, away, none)
