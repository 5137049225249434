"""Who gives way to whom, in the town that has stop and give-way signs, a roundabout and crosswalks."""

import numpy as np
import pytest

from mentorgym.envs.driving.map.tables import LEFT, STOPS, YIELDS
from mentorgym.envs.driving.map.town import load_town
from mentorgym.envs.driving.worlds.simulator.records import CROSSING
from mentorgym.envs.driving.worlds.state import LIGHT_GREEN
from tests.envs.driving.watched import Watched, overlapping, path_lanes, watch

TICKS = 1800


@pytest.fixture(scope="module")
def drive() -> Watched:
    return watch(load_town("City").tables, vehicles=90, walkers=90, ticks=TICKS)


def grants(drive: Watched) -> list[tuple[int, int, int]]:
    """(tick, car, path) of every grant."""
    given = (drive.holding[1:] >= 0) & (drive.holding[1:] != drive.holding[:-1])
    return [(tick + 1, car, int(drive.holding[tick + 1, car])) for tick, car in np.argwhere(given)]


def test_ranks_come_from_signs_and_turns(drive):
    tables = drive.tables
    assert set(tables.path_rank) == {0, 1, YIELDS, YIELDS + 1, STOPS}
    for path, rank in enumerate(tables.path_rank):
        inside = [lane for lane in path_lanes(tables, path) if tables.lane_junction[lane] >= 0]
        if not inside:
            assert rank == 0
        elif rank < STOPS:
            assert rank % 2 == (tables.lane_turn[inside[0]] == LEFT)
        if inside and tables.lane_light[inside[0]] >= 0:
            assert rank < YIELDS


def test_stop_lines_of_stop_signs_are_stopped_at(drive):
    tables = drive.tables
    seen = 0
    for tick, car, path in grants(drive):
        if tables.path_rank[path] == STOPS:
            seen += 1
            lane = drive.lane[tick, car]
            stood = (drive.speed[:tick, car] < 0.1) & (drive.lane[:tick, car] == lane)
            front = tables.lane_length[lane] - drive.s[:tick, car] - drive.vehicle_half_size[0, car, 0]
            assert (stood & (front < 3.0)).sum() >= 10, (tick, car)
    assert seen > 20


def test_whoever_yields_leaves_a_gap(drive):
    tables = drive.tables
    near, checked = [], 0
    for tick, car, path in grants(drive):
        if tables.path_rank[path] not in (YIELDS, YIELDS + 1) or drive.refused[tick, car] > 14.9:
            continue
        crossed = set()
        for lane in path_lanes(tables, path):
            crossed.update(tables.conflict[tables.conflict_first[lane] : tables.conflict_first[lane + 1]].tolist())
        # Grants are given before anybody moves.
        then = tick - 1
        for other in range(drive.lane.shape[1]):
            way, speed = drive.path[then, other], drive.speed[then, other]
            if way < 0 or drive.path_step[then, other] or tables.path_rank[way] >= YIELDS or speed < 1.0:
                continue
            if not crossed & {lane for lane in path_lanes(tables, way) if tables.lane_junction[lane] >= 0}:
                continue
            lane, place = drive.lane[then, other], drive.s[then, other]
            # It will not come at once: others stand before it, a third one's way or a full exit stops it in this very
            # tick, or it has not left its last junction.
            waits = ((drive.lane[then] == lane) & (drive.s[then] > place) & (drive.granted[then] == 0)).any()
            waits |= drive.refused[tick, other] > drive.refused[then, other] or drive.holding[then, other] >= 0
            checked += 1
            if tables.lane_length[lane] - place <= 3.0 * speed and not waits:
                near.append((tick, car, other))
    assert checked >= 2
    # A car that has just changed lanes, or its way, asks late.
    assert len(near) <= 0.05 * checked


def test_left_turns_go_on_green(drive):
    tables = drive.tables
    turning = [g for g in grants(drive) if tables.path_rank[g[2]] == 1]
    assert len(turning) > 20
    for tick, _, path in turning:
        light = tables.path_light[path]
        if light >= 0:
            assert drive.light_state[tick, light] == LIGHT_GREEN


def test_a_roundabout_is_never_full(drive):
    tables = drive.tables
    entering = {int(p) for p in np.flatnonzero((tables.path_rank == YIELDS) | (tables.path_rank == YIELDS + 1))}
    for tick, _, path in grants(drive):
        if path in entering:
            exit_lane = path_lanes(tables, path)[-1]
            places = tables.lane_length[exit_lane] // 7
            assert (drive.lane[tick] == exit_lane).sum() <= places - 1


def test_nobody_collides_in_the_city(drive):
    hits = [
        (tick, pair)
        for tick in range(0, TICKS + 1, 2)
        for pair in overlapping(drive.vehicle_pose[tick], drive.vehicle_half_size[tick])
    ]
    assert hits == []
    assert drive.respawns <= 1


def test_walkers_use_crosswalks(drive):
    tables = drive.tables
    points = np.flatnonzero(tables.walkway_crosswalk)
    assert len(points) >= 20
    assert np.array_equal(tables.walkway_opposite[tables.walkway_opposite[points]], points)
    begun = (drive.walker_mode[1:] == CROSSING) & (drive.walker_mode[:-1] != CROSSING)
    marked = tables.walkway_crosswalk[drive.walker_from[1:]] == 1
    assert (begun & marked).sum() > 10
    assert (begun & ~marked).sum() > 0, "some jaywalk"
    for tick in range(0, TICKS + 1, 2):
        walkers = np.flatnonzero(drive.walker_mode[tick] == CROSSING)
        pose = np.concatenate([drive.vehicle_pose[tick], drive.walker_pose[tick, walkers]])
        half = np.concatenate([drive.vehicle_half_size[tick], drive.walker_half_size[tick, walkers]])
        cars = drive.lane.shape[1]
        assert all(drive.speed[tick, a] < 0.1 for a, b in overlapping(pose, half) if a < cars <= b), tick
