"""The lookups and the infractions: Found-RL's test vectors, thresholds from both sides, and what must not count."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.geometry import boxes_overlap
from mentorgym.envs.driving.task import rules
from mentorgym.envs.driving.worlds.state import (
    CAR,
    COLLISION_MEMORY,
    CONTACT_STATIC,
    CONTACT_VEHICLE,
    CONTACT_WALKER,
    LIGHT_GREEN,
    LIGHT_OFF,
    LIGHT_RED,
    LIGHT_YELLOW,
    ROUTE_CAPACITY,
    WALKER,
    empty_episode_state,
)
from tests.envs.driving.scripted_world import TOWN, Drive, ScriptedWorld, route_over
from tests.envs.driving.synthetic import copy_record


def put_walker(drive, x, y, z=0.0, half=0.2, slot=0, yaw=0.0):
    drive.world.walker_kind[0, slot] = WALKER
    drive.world.walker_pose[0, slot] = x, y, z, yaw
    drive.world.walker_half_size[0, slot] = half, half, 0.9


def touch(drive, *contacts):
    """Contacts of this tick, as (id, kind, impulse)."""
    drive.world.contact_count[0, 0] = len(contacts)
    for k, (actor, kind, impulse) in enumerate(contacts):
        drive.world.contact_id[0, 0, k], drive.world.contact_kind[0, 0, k] = actor, kind
        drive.world.contact_impulse[0, 0, k] = impulse


# The route and the lane


def test_begin_knows_where_the_ego_stands():
    drive = Drive(x=2.4, y=0.5, yaw=0.1, steer=0.25)
    assert drive.route_index == 2
    assert drive.route_done == 2
    assert drive.route_total == pytest.approx(119, abs=1e-3)
    assert drive.goal.tolist() == [119, 0, 0]
    assert (drive.lateral, drive.lateral_previous, drive.yaw_error) == pytest.approx((0.5, 0.5, 0.1))
    assert drive.lane == 0
    assert drive.lane_distance == pytest.approx(0.5)
    assert drive.steer_previous == pytest.approx(0.25)
    assert (drive.active, drive.steps, drive.light, drive.stop_sign) == (1, 0, -1, -1)


def test_begin_forgets_the_episode_before():
    drive = Drive(ends="leaderboard")
    drive.world.light_state[:] = LIGHT_RED
    touch(drive, (7, CONTACT_VEHICLE, 1e4))
    for x in np.arange(46, 56):
        drive.step(x=x, y=6, speed=10)
    used = drive.episode
    drive.world.light_state[:] = LIGHT_OFF
    drive.place()
    drive.player.tick()
    rules.begin(TOWN, drive.world, used, 0, route_over(0, 1, 2), False)
    fresh = Drive().episode
    for name, array, expected in zip(used._fields, used, fresh, strict=True):
        if name != "route":
            np.testing.assert_array_equal(array, expected, err_msg=name)


@pytest.mark.parametrize("length", [0, 1, ROUTE_CAPACITY + 1])
def test_routes_of_impossible_lengths_are_refused(length):
    drive = Drive()
    with pytest.raises(ValueError, match=f"route of {length} waypoints"):
        rules.begin(TOWN, drive.world, drive.episode, 0, np.zeros(length, np.int32), False)


def test_a_waypoint_is_passed_beyond_it_and_only_five_are_looked_at():
    drive = Drive()
    assert drive.step(x=0.9).route_index == 0
    assert drive.step(x=1.0).route_index == 1
    assert drive.step(x=60.0).route_index == 6
    assert drive.route_done == pytest.approx(6)


def test_progress_goes_on_where_one_lane_follows_another():
    drive = Drive(endless=True, ends="leaderboard")
    for x in np.arange(0, 120):
        drive.step(x=x, speed=10)
    assert drive.route_index == drive.route_length - 1
    assert drive.route_done == pytest.approx(drive.route_total)


@given(st.lists(st.tuples(st.floats(-30, 150), st.floats(-40, 40), st.floats(-4, 4)), max_size=30))
def test_progress_never_falls_and_everything_stays_finite(places):
    drive = Drive(ends="leaderboard")
    index, done = drive.route_index, drive.route_done
    for x, y, yaw in places:
        drive.step(x=x, y=y, yaw=yaw, speed=5)
        assert index <= drive.route_index <= min(index + 5, drive.route_length - 1)
        assert done <= drive.route_done <= drive.route_total + 1e-6
        assert -math.pi - 1e-6 <= drive.yaw_error <= math.pi + 1e-6
        assert np.isfinite([drive.lateral, drive.off_route, drive.reward[0]]).all()
        index, done = drive.route_index, drive.route_done


def test_lateral_distance_is_to_the_line_and_off_route_to_the_waypoints():
    drive = Drive().step(x=-3, y=-4)
    assert drive.lateral == pytest.approx(4)
    assert drive.off_route == pytest.approx(5)
    assert drive.step(x=0, y=7, speed=2).lateral_previous == pytest.approx(4)


@pytest.mark.parametrize(("yaw", "error"), [(3.0, 3.0), (3.5, 3.5 - 2 * math.pi), (-3.5, 2 * math.pi - 3.5)])
def test_the_yaw_error_is_wrapped(yaw, error):
    assert Drive(yaw=yaw).yaw_error == pytest.approx(error, abs=1e-5)


@pytest.mark.parametrize(("y", "outside"), [(-3.0, 0), (-3.1, 1), (3.0, 0), (7.0, 1)])
def test_outside_begins_beyond_half_the_lane_and_the_margin(y, outside):
    # Lane 0 is at y = 0, lane 3 at y = 3.5; the limit is 1.75 + 1.3 m from either.
    drive = Drive(x=10.4, ends="leaderboard").step(x=10.4, y=y, speed=10)
    assert drive.outside == outside
    assert drive.outside_driven == pytest.approx(1.0 * outside)


def test_nowhere_near_a_lane_is_outside():
    drive = Drive(ends="leaderboard").step(x=40, y=-25)
    assert (drive.lane, drive.outside, drive.wrong_lane) == (-1, 1, 0)
    assert np.isinf(drive.lane_distance)


@pytest.mark.parametrize(("degrees", "wrong"), [(119, 0), (121, 1), (180, 1), (-121, 1), (-119, 0)])
def test_the_wrong_lane_is_one_driven_at_more_than_120_degrees(degrees, wrong):
    drive = Drive(x=10, ends="leaderboard").step(x=10, yaw=math.radians(degrees), speed=10)
    assert drive.wrong_lane == wrong
    assert drive.wrong_lane_driven == pytest.approx(1.0 * wrong)


def test_no_lane_is_wrong_in_a_junction():
    assert Drive(x=65, yaw=math.pi).wrong_lane == 0


def test_in_a_junction_the_routes_lane_goes_first():
    # At this place lane 4, which crosses there, is nearer than lane 1.
    drive = Drive(route=(1, 2), x=60.4, y=0.9)
    for _ in range(3):
        drive.step(x=60.4, y=0.9)
    assert drive.lane == 1
    assert Drive(route=(4,), x=60.4, y=0.9).lane == 4


def test_sums_of_speed_and_of_driving_off_the_route():
    drive = Drive(ends="leaderboard")
    for y in (0, 14.9, 15.1, 20):
        drive.step(x=0, y=y, speed=5)
    assert drive.speed_sum == pytest.approx(20)
    assert drive.off_route_driven == pytest.approx(1.0)
    assert drive.steps == 4


def test_the_timer_of_standing_starts_anew_with_every_move():
    drive = Drive()
    for speed in (0.0, 0.09, 0.05):
        drive.step(speed=speed)
    assert drive.standing == pytest.approx(0.3)
    assert drive.step(speed=0.11).standing == 0
    assert drive.step().standing == pytest.approx(0.1)


# Endless routes


def test_an_endless_route_needs_more_before_its_last_ten_waypoints():
    drive = Drive(route=(0,), endless=True)
    for x in range(1, 40):
        drive.step(x=x, speed=10)
        assert not rules.needs_extension(drive.episode, 0)
    drive.step(x=40, speed=10)
    assert rules.needs_extension(drive.episode, slice(None)).tolist() == [True]
    rules.extend(TOWN, drive.episode, 0, route_over(1, 2))
    assert not rules.needs_extension(drive.episode, 0)
    assert drive.route_total == pytest.approx(119, abs=1e-3)
    assert drive.goal.tolist() == [119, 0, 0]
    assert drive.route[: drive.route_length].tolist() == route_over(0, 1, 2).tolist()


def test_a_route_with_an_end_needs_no_more():
    drive = Drive(route=(0,))
    for x in range(50):
        drive.step(x=x, speed=10)
    assert not rules.needs_extension(drive.episode, 0)


def test_a_full_route_drops_what_lies_behind_and_goes_on_counting():
    drive = Drive(endless=True, x=0)
    for x in range(100):
        drive.step(x=x, speed=10)
    filler = np.full(ROUTE_CAPACITY - 120, drive.route[119], np.int32)
    rules.extend(TOWN, drive.episode, 0, filler)
    before = copy_record(drive.episode)
    rules.extend(TOWN, drive.episode, 0, route_over(3)[:80])
    assert drive.route_length <= ROUTE_CAPACITY
    index = before.route_index[0]
    assert drive.route[drive.route_index] == before.route[0, index]
    assert drive.route[drive.route_length - 80 : drive.route_length].tolist() == route_over(3)[:80].tolist()
    assert drive.route_done == before.route_done[0]
    assert drive.route_total == pytest.approx(before.route_total[0] + 79 + math.hypot(1, 3.5), abs=1e-3)
    assert drive.step(x=101, speed=10).route_done == pytest.approx(101)


def test_an_extension_that_cannot_fit_is_refused():
    drive = Drive(endless=True)
    with pytest.raises(ValueError, match="120 waypoints and 4000 more"):
        rules.extend(TOWN, drive.episode, 0, np.zeros(4000, np.int32))


# Lights


@pytest.mark.parametrize("state", [LIGHT_RED, LIGHT_YELLOW, LIGHT_GREEN])
def test_the_light_ahead_governs_within_18_m_of_the_tail(state):
    drive = Drive()
    drive.world.light_state[0, 0] = state
    drive.world.light_elapsed[0, 0], drive.world.light_duration[0, 0] = 3, 12
    # The probe is 0.8 * 2.5 = 2 m behind the centre.
    assert drive.step(x=33.9).light == -1
    assert (drive.light_seen, drive.light_remaining) == (LIGHT_OFF, -1)
    drive.step(x=34.1)
    assert (drive.light, drive.light_seen) == (0, state)
    assert drive.light_distance == pytest.approx(15.9)
    assert drive.light_remaining == pytest.approx(0.75)


def test_a_light_holds_until_the_tail_has_passed_the_line():
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0, 0] = LIGHT_GREEN
    assert drive.step(x=51.5).light == 0
    assert drive.step(x=53.5).light == -1


@pytest.mark.parametrize(
    "ego", [{"x": 45, "y": 3.5, "yaw": math.pi}, {"x": 45, "y": 3.5}, {"x": 45, "yaw": math.pi}, {"x": 45, "z": 8}]
)
def test_a_light_does_not_govern_other_lanes_directions_and_levels(ego):
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0, 0] = LIGHT_RED
    assert drive.step(**ego).light == -1


def test_a_light_that_is_off_governs_nothing():
    assert Drive(x=45).light == -1


def test_a_light_also_governs_the_lane_before_a_very_short_one():
    drive = Drive(route=(5, 6), x=46, y=20)
    drive.world.light_state[0, 1] = LIGHT_RED
    assert drive.step(x=47, y=20).light == 1


def cross(drive, start=45, end=60, **ego):
    """The infractions counted while the ego drives over the stop line at 50 m."""
    for x in np.arange(start, end, 0.5):
        drive.step(x=x, speed=5, **ego)
    return drive.red_lights


def test_a_red_light_is_counted_once_as_the_tail_crosses_its_line():
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0, 0] = LIGHT_RED
    when = [(drive.step(x=x, speed=5).red_lights, drive.event_red) for x in np.arange(49, 56, 0.5)]
    # The tail lies 2 to 3.5 m behind the centre.
    assert [x for x, (_, event) in zip(np.arange(49, 56, 0.5), when, strict=True) if event] == [52.0]
    assert when[-1] == (1, 0)


@pytest.mark.parametrize("state", [LIGHT_OFF, LIGHT_YELLOW, LIGHT_GREEN])
def test_only_red_lights_count(state):
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0, 0] = state
    assert cross(drive) == 0


@pytest.mark.parametrize("ego", [{"y": 3.5}, {"yaw": math.pi}, {"z": 8}, {"y": -5}])
def test_a_red_light_counts_on_its_lane_in_its_direction_on_its_level(ego):
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0, 0] = LIGHT_RED
    assert cross(drive, **ego) == 0


def test_the_same_light_is_not_counted_twice_in_a_row():
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0] = LIGHT_RED
    assert cross(drive) == 1
    assert cross(drive) == 1
    assert cross(drive, 47, 62, y=20) == 2
    assert cross(drive) == 3


@pytest.mark.parametrize(("y", "count"), [(1.3, 1), (1.5, 0), (-1.3, 1)])
def test_the_stop_line_is_as_wide_as_it_says(y, count):
    drive = Drive(route=(1, 2), ends="leaderboard")
    drive.world.light_state[0, 0] = LIGHT_RED
    assert cross(drive, y=y) == count


# Stop signs: the box of the only one spans 98.5 to 101.5 m


def approach(drive, *places):
    for x, speed in places:
        drive.step(x=x, speed=speed)
    return drive


def test_a_stop_sign_is_targeted_when_the_next_20_waypoints_reach_its_box():
    drive = Drive(route=(2,), x=72)
    for x in range(72, 79):
        drive.step(x=x, speed=5)
    assert drive.stop_sign == -1
    assert np.isinf(drive.stop_distance)
    drive.step(x=79, speed=5)
    assert drive.stop_sign == 0
    assert drive.stop_distance == pytest.approx(21)
    assert (drive.stop_entered, drive.stop_complied) == (0, 0)


def test_a_stop_sign_passed_without_stopping_is_counted_on_leaving_it():
    drive = Drive(route=(2,), x=70, ends="leaderboard")
    approach(drive, *((x, 5) for x in np.arange(70, 102)))
    assert (drive.stop_entered, drive.stop_signs) == (1, 0)
    drive.step(x=102, speed=5)
    assert (drive.stop_signs, drive.event_stop, drive.stop_sign) == (1, 1, -1)
    drive.step(x=103, speed=5)
    assert (drive.stop_signs, drive.event_stop) == (1, 0)


@pytest.mark.parametrize(("speed", "violations"), [(0.09, 0), (0.11, 1)])
def test_standing_before_or_in_the_box_complies(speed, violations):
    drive = Drive(route=(2,), x=70, speed=5, ends="leaderboard")
    approach(drive, *((x, 5) for x in np.arange(70, 97)), (97, speed), *((x, 5) for x in np.arange(98, 110)))
    assert drive.stop_signs == violations


def test_a_stop_sign_never_entered_is_no_violation():
    drive = Drive(route=(2,), x=70, ends="leaderboard")
    for x in np.arange(70, 110):
        drive.step(x=x, y=-1.7 if x > 95 else 0, speed=5)
    assert drive.stop_signs == 0


@pytest.mark.parametrize("ego", [{"z": 8}, {"yaw": math.pi}])
def test_stop_signs_do_not_count_on_other_levels_or_against_the_lane(ego):
    drive = Drive(route=(7,) if "z" in ego else (2,), x=70, ends="leaderboard", **ego)
    for x in np.arange(70, 110):
        assert drive.step(x=x, speed=5, **ego).stop_sign == -1
    assert drive.stop_signs == 0


# Hazards


def put_vehicle(drive, x, y, z=0.0, yaw=0.0):
    drive.world.vehicle_kind[0, 1] = CAR
    drive.world.vehicle_pose[0, 1] = x, y, z, yaw


@pytest.mark.parametrize(
    ("distance", "bearing", "yaw", "seen"),
    [
        (9.4, 0, 0, True),
        (9.6, 0, 0, False),
        (8, 44, 0, True),
        (8, 46, 0, False),
        (8, -44, 0, True),
        (8, 180, 0, False),
        (8, 0, 149, True),
        (8, 0, 151, False),
        (8, 0, -149, True),
    ],
)
def test_vehicle_hazard(distance, bearing, yaw, seen):
    drive = Drive(x=10, yaw=0.5)
    angle = 0.5 + math.radians(bearing)
    put_vehicle(drive, 10 + distance * math.cos(angle), distance * math.sin(angle), yaw=0.5 + math.radians(yaw))
    assert drive.step(x=10, yaw=0.5).vehicle_hazard == pytest.approx(distance if seen else math.inf)


@pytest.mark.parametrize(
    ("distance", "bearing", "seen"),
    [
        (9.4, 0, True),
        (9.6, 0, False),
        # 162 / (d + 0.3) degrees, d from 1.5 m on: 30.6 at 5 m, 90 at 1.5 m and nearer
        (5, 30, True),
        (5, 31.2, False),
        (1.5, 89, True),
        (1.0, 89, True),
        (1.5, 91, False),
    ],
)
def test_walker_hazard(distance, bearing, seen):
    drive = Drive(x=20, y=1)
    angle = math.radians(bearing)
    put_walker(drive, 20 + distance * math.cos(angle), 1 + distance * math.sin(angle))
    assert drive.step(x=20, y=1).walker_hazard == pytest.approx(distance if seen else math.inf, rel=1e-5)


def test_a_walker_on_the_pavement_is_no_hazard():
    drive = Drive(x=20)
    put_walker(drive, 28, -1.7)
    assert drive.step(x=20).walker_hazard == pytest.approx(math.hypot(8, 1.7))
    put_walker(drive, 28, -1.9)
    assert np.isinf(drive.step(x=20).walker_hazard)


def test_the_nearest_hazard_counts_and_empty_slots_and_the_ego_do_not():
    drive = Drive(x=20)
    put_walker(drive, 28, 0)
    put_walker(drive, 25, 0, slot=2)
    put_vehicle(drive, 26, 0)
    drive.step(x=20)
    assert (drive.walker_hazard, drive.vehicle_hazard) == (5, 6)
    drive.world.vehicle_kind[0, 1] = drive.world.walker_kind[0, :] = 0
    drive.step(x=20)
    assert np.isinf([drive.walker_hazard, drive.vehicle_hazard]).all()


@pytest.mark.parametrize(("z", "seen"), [(3.9, True), (4.1, False), (-8, False)])
def test_nothing_on_another_level_is_a_hazard_or_hit(z, seen):
    drive = Drive(x=20)
    put_vehicle(drive, 26, 0, z)
    put_walker(drive, 21, 0, z)
    drive.step(x=20)
    assert np.isfinite([drive.vehicle_hazard, drive.walker_hazard]).tolist() == [seen, seen]
    assert drive.event_pixel == seen


# Collisions


@pytest.mark.parametrize(("impulse", "count"), [(399.9, 0), (400.0, 1)])
def test_collisions_begin_at_400_newton_seconds(impulse, count):
    drive = Drive(ends="leaderboard")
    touch(drive, (5, CONTACT_VEHICLE, impulse))
    drive.step()
    assert (drive.vehicle_collisions, drive.event_collision) == (count, count)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (CONTACT_STATIC, "static_collisions"),
        (CONTACT_VEHICLE, "vehicle_collisions"),
        (CONTACT_WALKER, "walker_collisions"),
        (200, "other_collisions"),
    ],
)
def test_collisions_are_counted_by_kind(kind, field):
    drive = Drive(ends="leaderboard")
    touch(drive, (5, kind, 1000))
    drive.step()
    names = ("static_collisions", "vehicle_collisions", "walker_collisions", "other_collisions")
    assert {name: getattr(drive, name) for name in names if getattr(drive, name)} == {field: 1}


def test_the_same_actor_is_not_counted_again_within_five_seconds():
    drive = Drive(ends="leaderboard")
    touch(drive, (5, CONTACT_VEHICLE, 1000))
    drive.step(x=0)
    for tick in range(50):
        drive.step(x=10 + tick)
        assert drive.vehicle_collisions == 1, tick
    assert drive.step(x=70).vehicle_collisions == 2


def test_nobody_is_counted_within_three_metres_of_a_collision_until_five_metres_away():
    drive = Drive(ends="leaderboard")
    touch(drive, (5, CONTACT_VEHICLE, 1000), (6, CONTACT_VEHICLE, 1000))
    assert drive.step(x=0).vehicle_collisions == 1
    touch(drive, (7, CONTACT_VEHICLE, 1000))
    assert drive.step(x=2.9).vehicle_collisions == 1
    assert drive.event_collision == 0
    touch(drive)
    drive.step(x=4.9)
    touch(drive, (7, CONTACT_VEHICLE, 1000))
    assert drive.step(x=0.5).vehicle_collisions == 1
    touch(drive)
    drive.step(x=5.1)
    touch(drive, (8, CONTACT_VEHICLE, 1000))
    assert drive.step(x=0.5).vehicle_collisions == 2


def test_more_collisions_than_the_memory_holds_are_all_counted():
    drive = Drive(ends="leaderboard")
    for n in range(3 * COLLISION_MEMORY):
        touch(drive, (100 + n, CONTACT_VEHICLE, 1000))
        drive.step(x=6 * n, y=-9)
    assert drive.vehicle_collisions == 3 * COLLISION_MEMORY


def test_pixel_collision_enlarges_walkers():
    # 2.5 m half length; a walker of 0.2 m counts as 0.8 m, one of 0.6 m as 1.2 m.
    for half, reach in ((0.2, 3.3), (0.6, 3.7)):
        for gap, hit in ((-0.01, 1), (0.01, 0)):
            drive = Drive()
            put_walker(drive, reach + gap, 0, half=half)
            assert drive.step().event_pixel == hit, (half, gap)


@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=2),
    st.lists(st.floats(-math.pi, math.pi), min_size=2, max_size=2),
    st.lists(st.floats(0.3, 3), min_size=4, max_size=4),
)
def test_box_overlap_against_sampling_the_boxes(offset, yaws, halves):
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)), -1).reshape(-1, 2)

    def points_of(center, yaw, half):
        rotation = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        return grid * half @ rotation.T + center

    def holds(points, center, yaw, half, slack):
        rotation = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        return (np.abs((points - center) @ rotation) <= np.array(half) + slack).all(1).any()

    a, b = ((0, 0), yaws[0], halves[:2]), (offset, yaws[1], halves[2:])
    values = [np.float32(v) for v in (*a[0], a[1], *a[2], *b[0], b[1], *b[2])]
    overlap = boxes_overlap(*values)
    if holds(points_of(*a), *b, -1e-3) or holds(points_of(*b), *a, -1e-3):
        assert overlap
    # A sampled point is at most 0.11 m from any point of its box.
    if not holds(points_of(*a), *b, 0.11):
        assert not overlap


# Rows


def test_an_ended_episode_is_left_alone():
    drive = Drive()
    touch(drive, (5, CONTACT_VEHICLE, 1000))
    assert drive.step(x=1, speed=5).active == 0
    before = copy_record(drive.episode)
    drive.step(x=2, speed=3)
    rewards = before._fields.index("reward_terms")
    for i, (array, expected) in enumerate(zip(drive.episode, before, strict=True)):
        if i != rewards:
            np.testing.assert_array_equal(array, expected, err_msg=before._fields[i])
    assert (drive.reward[0], drive.terminated[0], drive.truncated[0]) == (0, False, False)


def test_a_slice_of_worlds_leaves_the_others_alone():
    frame = {"vehicle_pose": np.zeros((3, 4, 4)), "vehicle_kind": np.ones((3, 4))}
    player = ScriptedWorld([frame, frame], worlds=3)
    player.reset(slice(None))
    episode = empty_episode_state(3)
    for row in range(3):
        rules.begin(TOWN, player.state, episode, row, route_over(0), False)
    player.tick()
    rules.update(TOWN, player.state, episode, 1, 2, True)
    assert episode.steps.tolist() == [0, 1, 0]
    assert episode.standing.tolist() == pytest.approx([0, 0.1, 0])
