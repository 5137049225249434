"""Every end at and around its threshold, under both sets of rules."""

import numpy as np
import pytest

from mentorgym.envs.driving.task import termination
from mentorgym.envs.driving.worlds.state import ENDS, LIGHT_RED, WALKER
from tests.envs.driving.scripted_world import Drive


def outcome(drive):
    """(name of the end, terminated, truncated)."""
    return ENDS[drive.end], bool(drive.terminated[0]), bool(drive.truncated[0])


RUNNING = ("running", False, False)


def hit(drive, impulse=1000.0):
    drive.world.contact_count[0, 0] = 1
    drive.world.contact_id[0, 0, 0], drive.world.contact_impulse[0, 0, 0] = 9, impulse


def drive_to(drive, goal, start=0.0, step=1.0):
    """Drive along the route, stop at the stop sign, and end with the ego's centre at `goal`."""
    for x in np.arange(start, goal, step):
        drive.step(x=x, speed=0 if x == 99 else 10 * step)
    return drive.step(x=goal, speed=10 * step)


@pytest.mark.parametrize(("ends", "limit"), [("found-rl", 900), ("leaderboard", 1800)])
def test_blocked_after_standing_too_long(ends, limit):
    drive = Drive(ends=ends, endless=True)
    for _ in range(limit):
        assert outcome(drive.step()) == RUNNING
    assert outcome(drive.step()) == ("blocked", True, False)


def test_blocked_needs_standing_without_a_break():
    drive = Drive(endless=True)
    for tick in range(1700):
        assert outcome(drive.step(speed=0.11 if tick == 850 else 0.09)) == RUNNING


@pytest.mark.parametrize(
    ("lateral", "previous", "limit"),
    [
        (1.0, 1.0, 3.51),
        (4.0, 3.9, 3.91),
        (3.6, 3.0, 3.51),
        # jumps
        (4.5, 1.0, 5.01),
        (1.9, 1.0, 2.41),
        # not yet a jump
        (4.2, 3.5, 3.51),
    ],
)
def test_the_lateral_limit_adapts(lateral, previous, limit):
    assert termination.lateral_limit(np.float32(lateral), np.float32(previous)) == pytest.approx(limit, abs=1e-5)


@pytest.mark.parametrize(("y", "end"), [(3.5, "running"), (3.52, "lateral deviation")])
def test_a_slow_drift_ends_beyond_three_and_a_half_metres(y, end):
    drive = Drive()
    for lateral in np.arange(0, 3.5, 0.5):
        assert outcome(drive.step(y=lateral)) == RUNNING
    assert outcome(drive.step(y=y)) == (end, end != "running", False)


def test_after_a_jump_the_deviation_may_only_shrink():
    drive = Drive()
    for y in (5.0, 5.0, 4.9, 4.4):
        assert outcome(drive.step(y=y)) == RUNNING
    assert outcome(drive.step(y=4.5)) == ("lateral deviation", True, False)


@pytest.mark.parametrize(
    ("ends", "training", "end"),
    [("found-rl", True, "collision"), ("found-rl", False, "collision"), ("leaderboard", False, "running")],
)
def test_collision(ends, training, end):
    drive = Drive(ends=ends, training=training)
    hit(drive)
    assert outcome(drive.step()) == (end, end != "running", False)
    assert drive.static_collisions == 1


@pytest.mark.parametrize(("ends", "end"), [("found-rl", "red light"), ("leaderboard", "running")])
def test_red_light(ends, end):
    drive = Drive(route=(1, 2), ends=ends)
    drive.world.light_state[0, 0] = LIGHT_RED
    assert outcome(drive.step(x=51.5, speed=5)) == RUNNING
    assert outcome(drive.step(x=52.5, speed=5)) == (end, end != "running", False)
    assert drive.red_lights == 1


@pytest.mark.parametrize(("ends", "end"), [("found-rl", "stop sign"), ("leaderboard", "running")])
def test_stop_sign(ends, end):
    drive = Drive(route=(2,), endless=True, ends=ends)
    for x in range(70, 102):
        assert outcome(drive.step(x=x, speed=10)) == RUNNING
    assert outcome(drive.step(x=102, speed=10)) == (end, end != "running", False)
    assert drive.stop_signs == 1


@pytest.mark.parametrize(
    ("ends", "training", "end"),
    [("found-rl", True, "pixel collision"), ("found-rl", False, "running"), ("leaderboard", True, "running")],
)
def test_pixel_collision_ends_training_alone(ends, training, end):
    drive = Drive(ends=ends, training=training)
    drive.world.walker_kind[0, 0], drive.world.walker_pose[0, 0, 0] = WALKER, 3.0
    assert outcome(drive.step()) == (end, end != "running", False)


@pytest.mark.parametrize("ends", ["found-rl", "leaderboard"])
def test_completed_with_99_percent_driven_and_the_goal_within_ten_metres(ends):
    drive = drive_to(Drive(ends=ends), 117.9)
    assert drive.route_done == pytest.approx(117)
    assert outcome(drive) == RUNNING
    assert outcome(drive.step(x=118)) == ("completed", True, False)


@pytest.mark.parametrize(("z", "y", "end"), [(0, 9.8, "completed"), (0, 10.2, "running"), (4.5, 0, "running")])
def test_completed_only_near_the_goal_and_on_its_level(z, y, end):
    drive = drive_to(Drive(ends="leaderboard"), 117)
    drive.step(x=118, y=11)
    assert drive.route_done == pytest.approx(118)
    assert outcome(drive) == RUNNING
    assert ENDS[drive.step(x=119, y=y, z=z).end] == end


def test_near_the_goal_is_not_completed():
    drive = Drive(ends="leaderboard")
    drive.episode.goal[0] = 20, 0, 0
    assert outcome(drive.step(x=20)) == RUNNING
    assert drive.goal_distance == 0


@pytest.mark.parametrize("options", [{"training": True}, {"endless": True}, {"endless": True, "ends": "leaderboard"}])
def test_training_and_endless_routes_do_not_complete(options):
    assert outcome(drive_to(Drive(**options), 119)) == RUNNING


@pytest.mark.parametrize(("training", "end"), [(False, ("timeout", False, True)), (True, RUNNING)])
def test_found_rl_times_out_after_1200_seconds_of_evaluation(training, end):
    drive = Drive(training=training)
    drive.episode.steps[0] = 11_998
    assert outcome(drive.step(speed=1)) == RUNNING
    assert outcome(drive.step(speed=1)) == end


def test_the_leaderboard_gives_time_by_the_metre():
    # 119 m * 0.8 s/m + 5 s = 100.2 s
    drive = Drive(ends="leaderboard")
    for _ in range(1001):
        assert outcome(drive.step(speed=1)) == RUNNING
    assert outcome(drive.step(speed=1)) == ("timeout", False, True)


def test_the_leaderboard_gives_endless_routes_all_the_time():
    drive = Drive(ends="leaderboard", endless=True)
    drive.episode.steps[0] = 50_000
    assert outcome(drive.step(speed=1)) == RUNNING


@pytest.mark.parametrize(("y", "end"), [(29.9, "running"), (30.1, "route deviation")])
def test_route_deviation_beyond_30_metres(y, end):
    assert outcome(Drive(ends="leaderboard").step(y=y)) == (end, end != "running", False)


def test_route_deviation_after_30_percent_beyond_15_metres():
    # 30 % of 119 m are 35.7 m
    drive = Drive(ends="leaderboard")
    for _ in range(35):
        assert outcome(drive.step(y=16, speed=10)) == RUNNING
    drive.step(y=14, speed=10)
    assert outcome(drive.step(y=16, speed=10)) == ("route deviation", True, False)


def test_the_first_cause_of_the_list_counts():
    drive = drive_to(Drive(), 117)
    hit(drive)
    assert outcome(drive.step(x=118)) == ("completed", True, False)
    drive = Drive(training=True)
    drive.episode.standing[0] = 95
    drive.world.walker_kind[0, 0], drive.world.walker_pose[0, 0, 0] = WALKER, 3.0
    hit(drive)
    assert ENDS[drive.step().end] == "collision"
    drive = Drive(training=True)
    drive.episode.standing[0] = 95
    drive.world.walker_kind[0, 0], drive.world.walker_pose[0, 0, 0] = WALKER, 3.0
    assert ENDS[drive.step().end] == "pixel collision"


def test_the_leaderboard_drives_on_to_the_goal_after_every_infraction():
    drive = Drive(ends="leaderboard")
    drive.world.light_state[0, 0] = LIGHT_RED
    for x in np.arange(0, 118, 0.5):
        drive.world.contact_count[0, 0] = 0
        if x == 20:
            hit(drive)
        assert outcome(drive.step(x=x, speed=5)) == RUNNING
    assert outcome(drive.step(x=118, speed=5)) == ("completed", True, False)
    assert (drive.static_collisions, drive.red_lights, drive.stop_signs) == (1, 1, 1)
