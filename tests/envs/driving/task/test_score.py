"""Scores of hand-made episodes, with numbers worked out by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.task.energy import RATES
from mentorgym.envs.driving.task.score import (
    COUNTS,
    PENALTIES,
    aggregate,
    episode_score,
    infraction_penalty,
    infraction_penalty_2_1,
)
from mentorgym.envs.driving.worlds.state import BLOCKED, COMPLETED, empty_episode_state


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


@pytest.mark.parametrize(
    ("infractions", "astray_km", "penalty"),
    [
        ({}, 0, 1.0),
        ({"walker_collisions": 1}, 0, 1 / 2),
        ({"vehicle_collisions": 1}, 0, 1 / 1.7),
        ({"static_collisions": 1}, 0, 1 / 1.6),
        ({"red_lights": 1}, 0, 1 / 1.4),
        ({"stop_signs": 1}, 0, 1 / 1.25),
        ({"other_collisions": 3}, 0, 1.0),
        ({"walker_collisions": 2, "red_lights": 3}, 0, 1 / 4.2),
        ({"vehicle_collisions": 1, "stop_signs": 1}, 0.25, 0.75 / 1.95),
        ({}, 2, 0.0),
    ],
)
def test_penalty_of_leaderboard_2_1(infractions, astray_km, penalty):
    assert infraction_penalty_2_1(counts(**infractions), astray_km, 1) == pytest.approx(penalty)


@pytest.mark.parametrize("penalty", [infraction_penalty, infraction_penalty_2_1])
@given(st.fixed_dictionaries({name: st.integers(0, 20) for name in COUNTS}), st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_penalty_stays_between_0_and_1_and_falls_with_infractions(penalty, infractions, astray_km, completed_km):
    before = penalty(infractions, astray_km, completed_km)
    assert 0 <= before <= 1
    for name in PENALTIES:
        more = infractions | {name: infractions[name] + 1}
        assert penalty(more, astray_km, completed_km) <= before


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
    assert score["infraction_penalty_2_1"] == pytest.approx(0.9 / (1 + 1.0 + 2 * 0.4))
    assert score["driving_score_2_1"] == pytest.approx(0.5 * 0.9 / 2.8)


@pytest.mark.parametrize(("metres", "arrived"), [(998.9, False), (999.0, True), (1000, True)])
def test_found_rl_counts_a_success_by_the_share_of_the_route_alone(metres, arrived):
    score = episode_score(episode(route_done=metres, end=BLOCKED, red_lights=5), 1)
    assert (score["success_found_rl"], score["success"]) == (arrived, False)


def test_a_completed_route_is_a_success_by_every_measure():
    score = episode_score(episode(route_done=991), 1)
    assert score["success"] and score["strict_success"] and score["success_found_rl"]


def test_energy_is_the_mean_over_the_steps():
    state = episode(steps=50)
    state.energy_sums[1] = (1, -2, 3, 4)
    score = episode_score(state, 1)
    assert [score[name] for name in RATES] == pytest.approx([0.02, -0.04, 0.06, 0.08])


def test_progress_and_reward_come_per_step():
    score = episode_score(episode(endless=1, route_done=800, steps=400, episode_return=100.0), 1)
    assert (score["metres_per_step"], score["reward_per_step"]) == (2.0, 0.25)


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
    assert not {name for name in score if "success" in name or "driving_score" in name or name == "route_completion"}


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


def test_rates_per_step_are_sums_over_sums():
    long = episode_score(episode(endless=1, steps=900, route_done=900, episode_return=90), 1)
    short = episode_score(episode(endless=1, steps=100, route_done=0, episode_return=-60), 1)
    mean = aggregate([long, short])
    assert mean["metres_per_step"] == pytest.approx(0.9)
    assert mean["reward_per_step"] == pytest.approx(0.03)
    assert mean["return"] == pytest.approx(15)


def test_a_number_that_some_episodes_lack_is_left_out():
    older, newer = {"completed_km": 1, "return": 2}, {"completed_km": 1, "return": 4, "cell_current": 0.1}
    assert aggregate([older, newer]) == aggregate([newer, older]) == {"episodes": 2, "completed_km": 1, "return": 3}


def test_nothing_to_aggregate_is_an_error():
    with pytest.raises(ValueError, match="no episode"):
        aggregate([])
