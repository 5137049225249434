"""Scores of hand-made episodes, with numbers worked out by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.score import COUNTS, PENALTIES, aggregate, episode_score, infraction_penalty
from mentorgym.envs.driving.state import BLOCKED, COMPLETED, empty_episode_state


def episode(**fields):
    """An episode of 1 km, wholly driven in 100 s, of which these fields differ."""
    state = empty_episode_state(2)
    values = {"route_total": 1000, "route_done": 1000, "steps": 1000, "speed_sum": 10_000, "end": COMPLETED, **fields}
    for name, value in values.items():
        getattr(state, name)[1] = value
    return state


def counts(**some):
    return dict.fromkeys(COUNTS, 0) | some


@pytest.mark.parametrize(
    ("infractions", "astray_km", "completed_km", "penalty"),
    [
        ({}, 0, 1, 1.0),
        ({"walker_collisions": 1}, 0, 1, 0.5),
        ({"vehicle_collisions": 1}, 0, 1, 0.6),
        ({"static_collisions": 1}, 0, 1, 0.65),
        ({"red_lights": 1}, 0, 1, 0.7),
        ({"stop_signs": 1}, 0, 1, 0.8),
        ({"other_collisions": 3}, 0, 1, 1.0),
        ({"walker_collisions": 2, "red_lights": 3}, 0, 1, 0.08575),
        ({"vehicle_collisions": 1, "stop_signs": 1}, 0.25, 1, 0.36),
        ({}, 0.3, 1.2, 0.75),
        ({}, 2, 1, 0.0),
        ({}, 0.0005, 0, 0.5),
    ],
)
def test_penalty(infractions, astray_km, completed_km, penalty):
    assert infraction_penalty(counts(**infractions), astray_km, completed_km) == pytest.approx(penalty)


@given(st.fixed_dictionaries({name: st.integers(0, 20) for name in COUNTS}), st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_penalty_stays_between_0_and_1_and_falls_with_infractions(infractions, astray_km, completed_km):
    penalty = infraction_penalty(infractions, astray_km, completed_km)
    assert 0 <= penalty <= 1
    for name in PENALTIES:
        more = infractions | {name: infractions[name] + 1}
        assert infraction_penalty(more, astray_km, completed_km) <= penalty


def test_a_clean_completed_episode():
    score = episode_score(episode(route_done=991, episode_return=12.5), 1)
    assert score["route_completion"] == score["driving_score"] == score["infraction_penalty"] == 1.0
    assert score["success"] is True
    assert score["strict_success"] is True
    assert (score["return"], score["mean_speed"], score["steps"], score["end"]) == (12.5, 10.0, 1000, "completed")
    assert score["seconds"] == pytest.approx(100)
    assert score["completed_km"] == pytest.approx(0.991)


def test_an_episode_that_ends_half_way_with_infractions():
    state = episode(
        route_done=500, end=BLOCKED, red_lights=2, walker_collisions=1, outside_driven=30, wrong_lane_driven=20
    )
    score = episode_score(state, 1)
    assert score["route_completion"] == pytest.approx(0.5)
    # 1 - 50 m / 500 m, a walker, two red lights
    assert score["infraction_penalty"] == pytest.approx(0.9 * 0.5 * 0.49)
    assert score["driving_score"] == pytest.approx(0.11025)
    assert (score["success"], score["strict_success"], score["end"]) == (False, False, "blocked")
    assert (score["red_lights"], score["red_lights_per_km"]) == (2, pytest.approx(4))
    assert (score["outside_km"], score["wrong_lane_km"]) == pytest.approx((0.03, 0.02))


@pytest.mark.parametrize("field", [*COUNTS, "outside_driven", "wrong_lane_driven"])
def test_any_infraction_spoils_strict_success_alone(field):
    score = episode_score(episode(**{field: 1}), 1)
    assert (score["success"], score["strict_success"]) == (True, False)


def test_rates_are_taken_over_a_metre_at_least():
    score = episode_score(episode(route_done=0, end=BLOCKED, static_collisions=1), 1)
    assert score["static_collisions_per_km"] == pytest.approx(1000)
    assert score["route_completion"] == 0


def test_an_endless_episode_has_kilometres_but_no_completion():
    score = episode_score(episode(endless=1, end=BLOCKED, route_total=3000), 1)
    assert score["completed_km"] == pytest.approx(1)
    assert not {"route_completion", "driving_score", "success", "strict_success"} & score.keys()


def test_an_episode_without_a_step_has_a_score():
    assert episode_score(episode(steps=0, speed_sum=0, route_done=0, end=0), 1)["mean_speed"] == 0


def test_scores_are_plain_values():
    score = episode_score(episode(), 1)
    assert json.loads(json.dumps(score)) == score
    assert {type(value) for value in score.values()} == {float, int, bool, str}


def test_aggregate_averages_products_and_weighs_rates_by_distance():
    good = episode_score(episode(), 1)
    bad = episode_score(episode(route_done=250, end=BLOCKED, vehicle_collisions=1, steps=500), 1)
    mean = aggregate([good, bad])
    assert mean["episodes"] == 2
    assert mean["driving_score"] == pytest.approx((1 + 0.25 * 0.6) / 2)
    assert mean["success"] == mean["strict_success"] == 0.5
    # One collision in 1.25 km, not the mean of 0 and 4 per km.
    assert mean["vehicle_collisions_per_km"] == pytest.approx(0.8)
    assert mean["vehicle_collisions"] == 0.5
    assert mean["steps"] == 750
    assert "end" not in mean


def test_nothing_to_aggregate_is_an_error():
    with pytest.raises(ValueError, match="no episode"):
        aggregate([])
