"""Ninety seconds of traffic, watched from outside: nobody collides, runs a red light, leaves the lane or freezes."""

from itertools import pairwise

import numpy as np
import pytest

from mentorgym.envs.driving.map.opendrive import read_opendrive
from mentorgym.envs.driving.map.tables import DRIVABLE, PIXELS_PER_METRE, TownTables
from mentorgym.envs.driving.map.town import build_town, load_town
from mentorgym.envs.driving.worlds.simulator.records import CROSSING, WAITING
from mentorgym.envs.driving.worlds.state import CAR, LIGHT_GREEN, LIGHT_RED, LIGHT_YELLOW, WALKER
from tests.envs.driving.watched import Watched, lane_points, overlapping, path_lanes, watch

TICKS = 900


@pytest.fixture(scope="module", params=[("Suburb", 20, 50), ("Village", 70, 150)], ids=["Suburb", "Village"])
def drive(request) -> Watched:
    town, vehicles, walkers = request.param
    return watch(load_town(town).tables, vehicles, walkers)


# Vehicles


def test_the_overlap_test_of_this_file_tells_boxes_apart():
    half = np.array([[2, 1, 1], [2, 1, 1]])

    def meet(*pose):
        return bool(overlapping(np.array([(0, 0, 0, 0), pose], float), half))

    assert meet(3.9, 0, 0, 0)
    assert not meet(4.1, 0, 0, 0)
    assert meet(2.9, 0, 0, np.pi / 2)
    assert not meet(3.1, 0, 0, np.pi / 2)
    assert meet(3.0, 2.0, 0, np.pi / 4)
    assert not meet(3.6, 2.6, 0, np.pi / 4)
    assert not meet(1.0, 0, 8.0, 0)


def test_cars_never_overlap(drive):
    hits = {
        tick: pairs
        for tick in range(TICKS + 1)
        if (pairs := overlapping(drive.vehicle_pose[tick], drive.vehicle_half_size[tick]))
    }
    assert hits == {}


def test_cars_follow_their_lanes_from_successor_to_successor(drive):
    tables = drive.tables
    for car in range(drive.lane.shape[1]):
        for tick in range(0, TICKS + 1, 5):
            lane, s = drive.lane[tick, car], drive.s[tick, car]
            points = lane_points(tables, lane)
            along = np.arange(len(points)) * float(tables.lane_step[lane])
            assert 0 <= s <= tables.lane_length[lane] + 1e-3
            expected = [np.interp(s, along, points[:, axis]) for axis in range(3)]
            assert np.abs(drive.vehicle_pose[tick, car, :3] - expected).max() < 0.02
            yaw = points[np.argmin(np.abs(along - s)), 3]
            assert np.cos(drive.vehicle_pose[tick, car, 3] - yaw) > 0.98
    same = drive.vehicle_id[1:] == drive.vehicle_id[:-1]
    moved = (drive.lane[1:] != drive.lane[:-1]) & same
    assert moved.sum() > drive.lane.shape[1]
    for tick, car in np.argwhere(moved):
        before, after = drive.lane[tick, car], drive.lane[tick + 1, car]
        assert after in tables.successor[tables.successor_first[before] : tables.successor_first[before + 1]]


def test_cars_move_as_fast_as_they_say_and_keep_to_the_limit(drive):
    same = (drive.vehicle_id[1:] == drive.vehicle_id[:-1])[..., None]
    moved = np.linalg.norm(np.where(same, np.diff(drive.vehicle_pose[..., :2].astype(float), axis=0), 0), axis=2) / 0.1
    speed = np.linalg.norm(drive.vehicle_velocity, axis=2)
    mean = np.where(same[..., 0], (speed[1:] + speed[:-1]) / 2, 0)
    assert np.abs(moved - mean).max() < 0.5
    assert np.allclose(speed, drive.speed, atol=1e-3)
    assert speed.max() <= 35 * 0.44704
    change = np.where(same[..., 0], np.diff(speed, axis=0), 0) / 0.1
    assert change.max() <= 1.8 + 1e-2
    assert change.min() >= -8.0 - 1e-2


def test_nobody_enters_a_junction_on_red(drive):
    tables = drive.tables
    lanes = drive.lane[:-1]
    line = tables.lane_stop_line[lanes]
    room = tables.lane_length[lanes] - drive.vehicle_half_size[0, :, 0]
    stayed = (drive.vehicle_id[1:] == drive.vehicle_id[:-1]) & (line >= 0)
    # The front: behind the line before the tick, over it after the tick.
    over = (drive.lane[1:] != lanes) | (drive.s[1:] > room)
    crossings = np.argwhere(stayed & (drive.s[:-1] <= room) & over)
    assert len(crossings) > 10
    shown = [drive.light_state[tick + 1, tables.stop_line_light[line[tick, car]]] for tick, car in crossings]
    assert LIGHT_RED not in shown
    assert LIGHT_GREEN in shown


def test_traffic_flows_and_keeps_its_size(drive):
    assert (drive.vehicle_kind == CAR).all()
    assert (drive.walker_kind == WALKER).all()
    assert drive.speed[300:].mean() > 1.0
    travelled = drive.speed.sum(0) * 0.1
    assert (travelled > 20).mean() > 0.9
    assert drive.respawns <= 1
    assert (drive.vehicle_id != drive.vehicle_id[0]).any(0).sum() == drive.respawns


def test_reservations_are_those_of_the_cars_that_hold_them(drive):
    tables = drive.tables
    held = 0
    for tick in range(TICKS + 1):
        reserved, expected = np.zeros(len(tables.lane_length), int), np.zeros(len(tables.lane_length), int)
        for path, holding in zip(drive.path[tick], drive.holding[tick], strict=True):
            if holding < 0:
                continue
            held += 1
            lanes = path_lanes(tables, holding)
            for lane in lanes:
                reserved[lane] += tables.lane_junction[lane] >= 0
            expected[lanes[-1]] += holding == path
        assert np.array_equal(drive.reserved[tick], reserved), tick
        assert np.array_equal(drive.expected[tick], expected), tick
    assert held > TICKS / 10


def test_no_two_holders_reserve_conflicting_lanes(drive):
    tables = drive.tables
    for tick in range(0, TICKS + 1, 3):
        taken = np.flatnonzero(drive.reserved[tick])
        for lane in taken:
            conflicts = tables.conflict[tables.conflict_first[lane] : tables.conflict_first[lane + 1]]
            assert not set(conflicts.tolist()) & set(taken.tolist())


# Lights


def test_lights_follow_their_phases(drive):
    tables = drive.tables
    state, elapsed, duration = drive.light_state, drive.light_elapsed, drive.light_duration
    cycle, _, green, yellow = tables.light_phase.T.astype(float)
    lasts = {LIGHT_GREEN: green, LIGHT_YELLOW: yellow, LIGHT_RED: cycle - green - yellow}
    following = {LIGHT_GREEN: LIGHT_YELLOW, LIGHT_YELLOW: LIGHT_RED, LIGHT_RED: LIGHT_GREEN}
    for light in range(state.shape[1]):
        changes = np.flatnonzero(np.diff(state[:, light])) + 1
        assert len(changes) >= 5
        for start, stop in pairwise(changes):
            shown = int(state[start, light])
            assert (stop - start) * 0.1 == pytest.approx(lasts[shown][light], abs=0.11)
            assert state[stop, light] == following[shown]
            assert np.abs(np.diff(elapsed[start:stop, light]) - 0.1).max() < 1e-3
            assert 0 <= elapsed[start, light] < 0.1 + 1e-3
        for shown, seconds in lasts.items():
            assert duration[state[:, light] == shown, light] == pytest.approx(seconds[light], abs=1e-3)
    assert (elapsed <= duration + 1e-3).all()
    for junction in set(tables.light_junction):
        assert ((state[:, tables.light_junction == junction] != LIGHT_RED).sum(1) <= 1).all()


def test_junctions_start_somewhere_in_their_cycle(drive):
    tables = drive.tables
    starts = {
        (int(np.argmax(drive.light_state[0] == LIGHT_GREEN)), round(float(drive.light_elapsed[0, light]), 1))
        for light in range(len(tables.light_phase))
    }
    assert len(starts) > len(set(tables.light_junction)) / 2


# Walkers


def on_driving_lane(tables: TownTables, points: np.ndarray) -> np.ndarray:
    column, row = np.moveaxis(((points - tables.raster_origin[0]) * PIXELS_PER_METRE).astype(int), -1, 0)
    return tables.raster.reshape(tables.raster_size[0])[row, column] & DRIVABLE > 0


def test_walkers_keep_to_the_pavements_unless_they_cross(drive):
    on_road = on_driving_lane(drive.tables, drive.walker_pose[..., :2])
    crossing = drive.walker_mode == CROSSING
    assert not (on_road & ~crossing).any()
    assert crossing.any()
    assert on_road.any()


def test_walkers_walk_at_a_walkers_pace_and_stand_while_they_wait(drive):
    place = drive.walker_pose[..., :2].astype(float)
    moved = np.linalg.norm(np.diff(place, axis=0), axis=2)
    assert 1.0 < np.median(np.linalg.norm(drive.walker_velocity, axis=2)) <= 2.0
    # Between two points of the walkway a step is cut short, and made up for by the next one.
    assert moved.max() <= 2 * 0.2 + 0.3
    assert np.linalg.norm(place[50:] - place[:-50], axis=2).max() <= 2.0 * 5.0 + 0.45
    waiting = (drive.walker_mode[1:] == WAITING) & (drive.walker_mode[:-1] == WAITING)
    assert waiting.any()
    assert not moved[waiting].any()


def distance_along_its_way(drive: Watched, tick: int, car: int, start: np.ndarray, stop: np.ndarray) -> float:
    """Metres from a car's front along its lane and path to the line from `start` to `stop`, inf once it has passed."""
    tables = drive.tables
    lane, path, step = drive.lane[tick, car], drive.path[tick, car], drive.path_step[tick, car]
    way = [lane, *(path_lanes(tables, path)[step:] if path >= 0 else ())]
    points = np.concatenate([lane_points(tables, each)[:-1, :2] for each in way])
    steps = [np.full(len(lane_points(tables, each)) - 1, tables.lane_step[each]) for each in way]
    along = np.concatenate([[0.0], np.cumsum(np.concatenate(steps))])[:-1]
    share = np.clip((points - start) @ (stop - start) / ((stop - start) @ (stop - start)), 0, 1)
    away = np.linalg.norm(points - start - share[:, None] * (stop - start), axis=1)
    s, half_length = drive.s[tick, car], drive.vehicle_half_size[tick, car, 0]
    met = np.flatnonzero((away < 1.0) & (along > s - half_length))
    return float(along[met[0]] - s - half_length) if len(met) else np.inf


def test_walkers_step_onto_the_road_only_where_every_car_can_still_stop(drive):
    tables = drive.tables
    begun = np.argwhere((drive.walker_mode[1:] == CROSSING) & (drive.walker_mode[:-1] != CROSSING)) + [1, 0]
    assert len(begun) > 3
    for tick, walker in begun:
        start = tables.walkway_point[drive.walker_from[tick, walker], :2].astype(float)
        stop = tables.walkway_point[drive.walker_to[tick, walker], :2].astype(float)
        for car in range(drive.lane.shape[1]):
            speed = float(drive.speed[tick, car])
            gap = distance_along_its_way(drive, tick, car, start, stop)
            # After half a second of reaction at 4 m/s2, which is half of what a car can do.
            assert gap > 0.5 * speed + speed**2 / 8, (tick, walker, car)


def test_nobody_is_run_over(drive):
    crossing = drive.walker_mode == CROSSING
    for tick in range(TICKS + 1):
        walkers = np.flatnonzero(crossing[tick])
        pose = np.concatenate([drive.vehicle_pose[tick], drive.walker_pose[tick, walkers]])
        half = np.concatenate([drive.vehicle_half_size[tick], drive.walker_half_size[tick, walkers]])
        cars = drive.lane.shape[1]
        hits = [(a, b) for a, b in overlapping(pose, half) if a < cars <= b]
        # A car may be standing where a walker wants to pass; none drives into one.
        assert all(drive.speed[tick, car] < 0.1 for car, _ in hits), tick


# Around an ego, and at dead ends


def test_cars_wait_behind_a_parked_ego():
    tables = load_town("Village").tables
    lane = int(np.argmax(tables.lane_length * (tables.lane_storage == 1)))
    middle = lane_points(tables, lane)[len(lane_points(tables, lane)) // 2]
    drive = watch(tables, vehicles=70, walkers=0, ticks=600, ego=middle[None])
    ego = middle.astype(float)
    half = np.array([2.4508, 1.0642, 0.7554])
    for tick in range(601):
        pose = np.concatenate([ego[None], drive.vehicle_pose[tick]])
        assert overlapping(pose, np.concatenate([half[None], drive.vehicle_half_size[tick]])) == []
    behind = (drive.lane[-1] == lane) & (drive.s[-1] < tables.lane_length[lane] / 2)
    assert behind.any()
    gaps = tables.lane_length[lane] / 2 - drive.s[-1] - half[0] - drive.vehicle_half_size[-1, :, 0]
    first = np.argmin(np.where(behind, gaps, np.inf))
    assert drive.speed[-1, first] < 0.1
    assert 1.0 < gaps[first] < 6.0


def dead_end(length: float = 220.0) -> TownTables:
    return build_town(
        read_opendrive(
            f"""<OpenDRIVE><header revMajor="1" revMinor="4"/>
<road name="" length="{length}" id="1" junction="-1"><planView><geometry s="0" x="0" y="0" hdg="0" length="{length}">
<line/></geometry></planView><lanes><laneSection s="0"><center><lane id="0" type="none"/></center><right>
<lane id="-1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right></laneSection></lanes></road>
</OpenDRIVE>""",
            "Dead end",
        )
    ).tables


def test_a_car_at_a_dead_end_is_moved_and_becomes_another_one():
    drive = watch(dead_end(), vehicles=3, walkers=0)
    assert (drive.vehicle_kind == CAR).all()
    assert drive.respawns >= 3
    changed = drive.vehicle_id[1:] != drive.vehicle_id[:-1]
    assert changed.sum() == drive.respawns
    ids = [*drive.vehicle_id[0], *drive.vehicle_id[1:][changed]]
    assert len(set(ids)) == len(ids)
    for tick, car in np.argwhere(changed):
        # It stood at the end for two seconds and stands at a spawn point now, apart from the others.
        assert (drive.s[tick - 18 : tick + 1, car] > 200).all()
        assert drive.s[tick + 1, car] % 12.0 == pytest.approx(6.0, abs=1e-3)
        assert drive.speed[tick + 1, car] == 0
        others = np.delete(drive.s[tick + 1], car)
        assert np.abs(others - drive.s[tick + 1, car]).min() > 9.0
    for tick in range(TICKS + 1):
        assert overlapping(drive.vehicle_pose[tick], drive.vehicle_half_size[tick]) == []


def test_nobody_vanishes_before_the_egos_eyes():
    drive = watch(dead_end(), vehicles=3, walkers=0, ego=[[95.0, 10.0, 0.0, 0.0]])
    assert drive.respawns == 0
    assert (drive.speed[-1] == 0).all()
    assert (drive.vehicle_id == drive.vehicle_id[0]).all()
