"""The words for what stands where, against whole numbers, and what exchanging, mirroring and turning do to them."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import language, relations
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES, OBJECTS

PAIRS = list(itertools.permutations(range(9), 2))
TURNED = {"behind": "right", "right": "in front", "in front": "left", "left": "behind"}
"""What a camera that turns left by a quarter makes of each level term."""

angles = st.floats(-np.pi, np.pi)
offsets = st.tuples(*[st.floats(-3, 3)] * 3).filter(lambda offset: max(map(abs, offset)) > 1e-3)


def camera(yaw: float) -> Camera:
    return Camera((0.3, -0.8, 1.7), yaw, -0.5, 1.0, 224, 224)


def towards(azimuth: float, elevation: float, yaw: float = 0.0, distance: float = 0.6) -> np.ndarray:
    """A point seen from the referent at these angles (rad), by a camera with this yaw; to the right is positive."""
    level = distance * np.cos(elevation)
    return np.array([level * np.cos(yaw - azimuth), level * np.sin(yaw - azimuth), distance * np.sin(elevation)])


def sentence(subject: str, referent: str, azimuth: int, elevation: int) -> str:
    """The caption, from angles in tenths of a degree."""
    level = [
        *(["behind"] if abs(azimuth) < 675 else ["in front"] if abs(azimuth) > 1125 else []),
        *(["to the right" if azimuth > 0 else "to the left"] if 225 < abs(azimuth) < 1575 else []),
    ]
    words = (["above" if elevation > 0 else "below"] if abs(elevation) > 200 else []) + level * (abs(elevation) <= 750)
    of = "" if words[-1] in ("above", "below", "behind") else " of"
    return f"The {subject} is {' and '.join(', '.join(words).rsplit(', ', 1))}{of} the {referent}."


def arranged(pair: tuple[int, int], offset: np.ndarray, yaw: float) -> Arrangement:
    """Two objects, the first with its middle at `offset` from that of the second."""
    heights = np.array([OBJECTS[each].height / 2 for each in pair])
    centres = np.array([offset, np.zeros(3)]) + [0.7, -0.4, 0.9]
    return Arrangement("bedroom", camera(yaw), pair, centres - heights[:, None] * [0, 0, 1], np.zeros(2))


def terms(offset, yaw: float = 0.0) -> tuple[str, ...]:
    return relations.relation(offset, (0, 0, 0), camera(yaw)).terms


def test_the_26_relations_of_all_pairs_on_a_grid_with_every_boundary():
    elevations = (-900, -800, -750, -450, -200, -100, 0, 200, 450, 750, 800, 900)
    grid = list(itertools.product(range(-1575, 1801, 225), elevations))
    generator = np.random.default_rng(0)
    for pair in PAIRS:
        names, yaw, said = (NAMES[pair[0]], NAMES[pair[1]]), generator.uniform(-np.pi, np.pi), set()
        for azimuth, elevation in grid:
            offset = towards(*np.deg2rad([azimuth / 10, elevation / 10]), yaw)
            told = language.example(arranged(pair, offset, yaw), generator, (0, 1))
            assert told.caption == sentence(*names, azimuth, elevation), (azimuth, elevation)
            said.add(told.relation.terms)
        assert said == set(relations.RELATIONS)


@given(*[st.integers(-60, 60)] * 3)
def test_points_on_a_lattice_have_the_words_that_whole_numbers_give(behind: int, right: int, up: int):
    assume(behind or right or up)
    b, r, level = abs(behind), abs(right), behind**2 + right**2
    # tan 22.5 = sqrt 2 - 1; tan^2 75 = 7 + 4 sqrt 3; tan^2 20 is the least root of u^3 - 33 u^2 + 27 u - 3.
    steep = up**2 > 7 * level and (up**2 - 7 * level) ** 2 > 48 * level**2
    u = Fraction(up**2, level) if level else Fraction(1)
    raised = u >= Fraction(1, 2) or u**3 - 33 * u**2 + 27 * u - 3 > 0
    expected = [("above" if up > 0 else "below")] if raised else []
    if not steep:
        expected += [("behind" if behind > 0 else "in front")] if (b + r) ** 2 > 2 * r**2 else []
        expected += [("right" if right > 0 else "left")] if (b + r) ** 2 > 2 * b**2 else []
    assert terms((behind, -right, up)) == tuple(expected)


def test_the_caption_of_the_paper():
    # Figure 4: the pot stands higher than the bowl, farther from the camera and to its left.
    pair = (NAMES.index("small pot"), NAMES.index("yellow bowl"))
    told = language.example(arranged(pair, np.array([0.3, 0.3, 0.25]), 0.0), np.random.default_rng(0), (0, 1))
    assert told.caption == "The small pot is above, behind and to the left of the yellow bowl."


@given(offsets, angles)
def test_exchanging_the_two_makes_each_term_its_opposite(offset, yaw: float):
    one, other = (relations.relation(*pair, camera(yaw)) for pair in ((offset, (0, 0, 0)), ((0, 0, 0), offset)))
    assert other.terms == tuple(relations.OPPOSITES[term] for term in one.terms)
    assert other.elevation == -one.elevation and other.margin == pytest.approx(one.margin, abs=1e-12)


@given(angles, st.floats(-np.pi / 2, np.pi / 2), angles)
def test_the_mirrored_picture_exchanges_left_and_right(azimuth: float, elevation: float, yaw: float):
    straight, mirrored = (terms(towards(turn, elevation, yaw), yaw) for turn in (azimuth, -azimuth))
    exchanged = {"left": "right", "right": "left"}
    assert mirrored == tuple(exchanged.get(term, term) for term in straight)


@given(offsets, angles)
def test_a_quarter_turn_of_the_camera_exchanges_depth_and_side(offset, yaw: float):
    before, after = terms(offset, yaw), terms(offset, yaw + np.pi / 2)
    assert set(after) == {TURNED.get(term, term) for term in before}


@given(offsets, angles, angles)
def test_turning_the_camera_turns_the_azimuth_alone_and_with_the_world_nothing(offset, yaw: float, turn: float):
    before, after = (relations.relation(offset, (0, 0, 0), camera(each)) for each in (yaw, yaw + turn))
    assert after.elevation == pytest.approx(before.elevation, abs=1e-12)
    if np.hypot(*offset[:2]) > 1e-6:
        assert np.exp(1j * after.azimuth) == pytest.approx(np.exp(1j * (before.azimuth + turn)), abs=1e-9)
    if before.margin > 1e-6:
        cos, sin = np.cos(turn), np.sin(turn)
        turned = (cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1], offset[2])
        assert terms(turned, yaw + turn) == before.terms


@given(angles, st.floats(-1.5, 1.5), angles)
def test_the_margin_is_the_least_turn_that_changes_a_term(azimuth: float, elevation: float, yaw: float):
    told = relations.relation(towards(azimuth, elevation, yaw), (0, 0, 0), camera(yaw))
    assert told.elevation == pytest.approx(elevation, abs=1e-9)

    def around(size: float) -> list[tuple[str, ...]]:
        steps = ((size, 0), (-size, 0), (0, size), (0, -size))
        return [terms(towards(azimuth + a, elevation + e, yaw), yaw) for a, e in steps if abs(elevation + e) < 1.57]

    if told.margin > 1e-6:
        assert set(around(told.margin - 1e-6)) == {told.terms}
    assert set(around(told.margin + 1e-6)) != {told.terms}


def test_straight_above_is_above_and_one_place_has_no_relation():
    told = relations.relation((1, 2, 3), (1, 2, 2), camera(0.4))
    assert told.terms == ("above",) and told[1:] == pytest.approx((np.pi / 2, 0.0, np.deg2rad(15)))
    for wrong, message in (((1, 2, 2), "one place"), ((1, np.nan, 2), "finite"), ((1, 2), "three numbers")):
        with pytest.raises(ValueError, match=message):
            relations.relation(wrong, (1, 2, 2)[: len(wrong)], camera(0.4))


def test_straight_in_front_is_half_a_turn_on_whichever_side_rounding_leaves_it():
    for side in (0.0, -0.0):
        assert relations.relation((-1.0, side, 0.0), (0, 0, 0), camera(0.0)).azimuth == np.pi


def test_all_pairs_at_once_are_each_alone_and_bases_can_be_measured():
    bottle, plate, bird = (NAMES.index(name) for name in ("bottle", "plate", "bird sculpture"))
    positions = np.array([[1.0, 0, 0.7], [1.2, 0, 0.7], [0.4, 0.9, 0.0]])
    arrangement = Arrangement("bedroom", camera(0.0), (bottle, plate, bird), positions, np.zeros(3))
    for measure in ("centres", "bases"):
        told = relations.all_relations(arrangement, measure)
        assert list(told) == list(itertools.permutations(range(3), 2))
        for pair, relation in told.items():
            assert relation == relations.relation_of(arrangement, *pair, measure)
    assert relations.relation_of(arrangement, 0, 1).terms == ("above", "in front"), "a tall one beside a flat one"
    assert relations.relation_of(arrangement, 0, 1, "bases").terms == ("in front",)
    with pytest.raises(ValueError, match="centres or bases"):
        relations.all_relations(arrangement, "tops")


def test_many_offsets_and_cameras_at_once():
    generator = np.random.default_rng(1)
    many, yaws = generator.normal(size=(5, 7, 3)), generator.uniform(-3, 3, (5, 1))
    measured = relations.measure_offsets(many, yaws)
    for index in np.ndindex(5, 7):
        alone = relations.relation(many[index], (0, 0, 0), camera(yaws[index[0], 0]))
        assert relations.RELATIONS[measured.places[index]] == alone.terms
        np.testing.assert_allclose([each[index] for each in measured[1:]], alone[1:], atol=1e-12)
