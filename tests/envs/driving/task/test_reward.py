"""Found-RL's reward: its test vectors, each term alone, and the close of a step."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.task.reward import desired_speed
from mentorgym.envs.driving.worlds.state import CAR, CONTACT_VEHICLE, ENDS, LIGHT_GREEN, LIGHT_RED, LIGHT_YELLOW, WALKER
from tests.envs.driving.scripted_world import Drive

NONE = math.inf


@pytest.mark.parametrize(
    ("distances", "speed"),
    [
        ((NONE, NONE, NONE, NONE), 6.0),
        ((10.5, NONE, NONE, NONE), 3.0),
        ((13.0, NONE, NONE, NONE), 6.0),
        ((8.0, NONE, NONE, NONE), 0.0),
        ((2.0, NONE, NONE, NONE), 0.0),
        ((NONE, 8.5, NONE, NONE), 3.0),
        ((NONE, 6.0, NONE, NONE), 0.0),
        ((NONE, NONE, 7.5, NONE), 3.0),
        ((NONE, NONE, 10.0, NONE), 6.0),
        ((NONE, NONE, NONE, 6.0), 1.2),
        ((11.0, 8.0, 9.0, 9.0), 2.4),
    ],
)
def test_desired_speed(distances, speed):
    assert desired_speed(*np.float32(distances)) == pytest.approx(speed, rel=1e-6)


@given(st.lists(st.floats(0, 100, width=32), min_size=4, max_size=4), st.integers(0, 3), st.floats(0, 10, width=32))
def test_desired_speed_is_bounded_and_grows_with_distance(distances, which, more):
    speed = desired_speed(*distances)
    further = list(distances)
    further[which] += more
    assert 0 <= speed <= desired_speed(*further) <= 6


def test_perfect_driving_earns_one_per_step():
    drive = Drive(endless=True)
    for x in np.arange(0.6, 30, 0.6):
        assert drive.step(x=x, speed=6).reward[0] == pytest.approx(1, abs=1e-6)
    assert drive.episode_return == pytest.approx(49, abs=1e-4)


def test_standing_on_a_free_road_earns_nothing():
    assert Drive().step().reward[0] == 0


def test_terms():
    drive = Drive().step(x=1, y=-0.4, yaw=-0.2, speed=3, steer=0.02)
    assert drive.reward_terms.tolist() == pytest.approx([0.5, -0.2, -0.2, -0.1, 0])
    assert drive.reward[0] == pytest.approx(0, abs=1e-7)
    assert drive.step(x=2, speed=9, steer=0.02).reward_terms.tolist() == pytest.approx([0.5, 0, 0, 0, 0])


@pytest.mark.parametrize(("change", "cost"), [(0.009, 0), (-0.009, 0), (0.011, -0.1), (-0.011, -0.1)])
def test_changes_of_steer_cost_from_a_hundredth_on(change, cost):
    drive = Drive(steer=0.3).step(steer=0.3 + change)
    assert drive.reward_terms[3] == pytest.approx(cost)
    assert drive.step(steer=0.3 + change).reward_terms[3] == 0


@pytest.mark.parametrize(("state", "speed"), [(LIGHT_RED, 3.0), (LIGHT_YELLOW, 3.0), (LIGHT_GREEN, 6.0)])
def test_red_and_yellow_lights_ask_for_less_speed(state, speed):
    drive = Drive(x=42.5)
    drive.world.light_state[0, 0] = state
    assert drive.step(x=42.5, speed=speed).reward_terms[0] == pytest.approx(1)


def test_a_stop_sign_asks_for_less_speed_until_complied_with():
    drive = Drive(route=(2,), x=92.5, speed=6)
    for _ in range(5):
        drive.step(x=92.5, speed=3)
    assert drive.reward_terms[0] == pytest.approx(1)
    drive.step(x=92.5)
    assert drive.step(x=92.5, speed=6).reward_terms[0] == pytest.approx(1)


def test_hazards_ask_for_less_speed():
    drive = Drive(x=20)
    drive.world.vehicle_kind[0, 1], drive.world.vehicle_pose[0, 1, 0] = CAR, 29
    assert drive.step(x=20, speed=1.2).reward_terms[0] == pytest.approx(1)
    drive.world.walker_kind[0, 0], drive.world.walker_pose[0, 0, 0] = WALKER, 26.5
    assert drive.step(x=20, speed=0.6).reward_terms[0] == pytest.approx(1)


def collide(drive):
    drive.world.contact_count[0, 0] = 1
    drive.world.contact_id[0, 0, 0], drive.world.contact_impulse[0, 0, 0] = 9, 1000
    drive.world.contact_kind[0, 0, 0] = CONTACT_VEHICLE
    return drive.step(speed=4)


def run_red(drive):
    drive.world.light_state[0, 0] = LIGHT_RED
    for x in (46, 48, 50, 52):
        drive.step(x=x, speed=4)
    return drive


def run_stop(drive):
    for x in range(96, 103):
        drive.step(x=x, speed=4)
    return drive


def hit_walker(drive):
    drive.world.walker_kind[0, 0], drive.world.walker_pose[0, 0, 0] = WALKER, 3.0
    return drive.step(speed=4)


def stray(drive):
    for y in (3, 3.6):
        drive.step(y=y, speed=4)
    return drive


def stand(drive):
    drive.episode.standing[0] = 90.1
    return drive.step()


@pytest.mark.parametrize(
    ("end", "options", "cause", "terminal"),
    [
        ("collision", {}, collide, -5),
        ("red light", {"route": (1, 2)}, run_red, -5),
        ("stop sign", {"route": (2,), "x": 96, "speed": 4}, run_stop, -5),
        ("pixel collision", {"training": True}, hit_walker, -5),
        ("lateral deviation", {}, stray, -1),
        ("blocked", {}, stand, -1),
    ],
)
def test_the_terminal_term_charges_the_speed_where_the_ego_is_at_fault(end, options, cause, terminal):
    drive = cause(Drive(**options))
    assert ENDS[drive.end] == end
    assert drive.reward_terms[4] == pytest.approx(terminal)
    assert drive.reward[0] == pytest.approx(float(drive.reward_terms.sum()))


def test_infractions_that_end_nothing_charge_nothing():
    assert collide(Drive(ends="leaderboard")).reward_terms[4] == 0


def test_a_timeout_is_no_terminal_step():
    drive = Drive()
    drive.episode.steps[0] = 11_999
    drive.step(speed=6)
    assert (bool(drive.truncated[0]), drive.reward_terms[4], drive.reward[0]) == (True, 0, pytest.approx(1))


def test_the_return_is_the_sum_of_rewards_until_the_end():
    drive = Drive(endless=True)
    total = 0.0
    for x in (1, 2, 3):
        total += drive.step(x=x, speed=5, steer=0.1 * x).reward[0]
    collide(drive)
    total += drive.reward[0]
    assert drive.episode_return == pytest.approx(total)
    drive.step(speed=5)
    assert drive.episode_return == pytest.approx(total)
