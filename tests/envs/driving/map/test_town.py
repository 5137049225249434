"""Towns as tables: geometry, links, junctions, lights, pavements, the raster and the cache, ours and CARLA's own."""

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from mentorgym.cache import cache_folder
from mentorgym.envs.driving.map.tables import DRIVABLE, FOLLOW, LEFT, PIXELS_PER_METRE, RIGHT, ROAD, STRAIGHT
from mentorgym.envs.driving.map.town import STORAGE_LENGTH, Town, load_town
from mentorgym.envs.driving.task.routes import read_routes
from mentorgym.envs.driving.task.tasks import KEPT_FREE

OURS = ("Suburb", "Village", "City", "Ring", "Grid", "Avenue")
SINGLE_LANES = ("Suburb", "Village")
"""Towns of T-junctions between streets with one lane each way."""
CARLAS = ("Town01", "Town02")
LIGHTS = {"Suburb": (36, 12), "Village": (18, 6), "City": (28, 9), "Ring": (20, 6), "Grid": (54, 16), "Avenue": (24, 7)}
"""Lights and the junctions that have them."""


@pytest.fixture(scope="module", params=OURS)
def town(request) -> Town:
    return load_town(request.param)


@pytest.fixture(params=CARLAS)
def real_town(request, maps_folder) -> Town:
    return load_town(maps_folder / f"{request.param}.xodr")


def waypoints(town: Town, lane: int) -> np.ndarray:
    """float64 [n, 4], the lane's end included."""
    first, after = town.tables.lane_first[lane : lane + 2]
    return town.tables.waypoint_pose[first:after].astype(float)


def row(first: np.ndarray, values: np.ndarray, index: int) -> list[int]:
    """One list of a CSR graph."""
    return values[first[index] : first[index + 1]].tolist()


def successors(town: Town, lane: int) -> list[int]:
    return row(town.tables.successor_first, town.tables.successor, lane)


def bits(town: Town, points: np.ndarray) -> np.ndarray:
    """The raster under points [n, 2], uint8 [n]."""
    tables = town.tables
    column, line = ((points - tables.raster_origin[0]) * PIXELS_PER_METRE).astype(int).T
    return tables.raster.reshape(tables.raster_size[0])[line, column]


# Lanes


def check_lanes(town: Town) -> None:
    tables = town.tables
    for lane, length in enumerate(tables.lane_length):
        points = waypoints(town, lane)
        steps = np.hypot(*np.diff(points[:, :2], axis=0).T)
        assert steps == pytest.approx(tables.lane_step[lane], rel=0.05, abs=0.01)
        assert tables.lane_step[lane] * len(steps) == pytest.approx(length, rel=1e-4)
        assert (tables.waypoint_lane[tables.lane_first[lane] : tables.lane_first[lane + 1]] == lane).all()
        chord = np.arctan2(*np.diff(points[:, :2], axis=0).T[::-1])
        off = np.exp(1j * (points[:-1, 3] - chord))
        assert np.abs(np.angle(off)).max() < 0.35
        for following in successors(town, lane):
            assert np.linalg.norm(waypoints(town, following)[0, :3] - points[-1, :3]) < 0.3
            assert lane in row(tables.predecessor_first, tables.predecessor, following)
    yaw = tables.waypoint_pose[:, 3]
    assert np.abs(yaw).max() <= np.float32(np.pi)
    np.testing.assert_allclose(tables.waypoint_direction, np.column_stack([np.cos(yaw), np.sin(yaw)]), atol=1e-6)
    # Rounded to whole steps, and at least one.
    assert (tables.lane_step[tables.lane_length > 1.0] > 0.66).all()
    assert (tables.lane_step < 1.5).all()


def test_lanes_are_waypoints_a_metre_apart_along_the_direction_of_travel(town):
    check_lanes(town)
    # Our lanes are all drawn out of clean geometry.
    assert (np.abs(town.tables.lane_step[town.tables.lane_length > 10] - 1) < 0.06).all()


def test_the_origin_is_the_middle_of_the_lanes(town):
    low, high = town.tables.waypoint_pose[:, :2].min(0), town.tables.waypoint_pose[:, :2].max(0)
    assert np.abs(low + high).max() <= 2.0
    assert np.array_equal(town.origin, np.round(town.origin))


def test_speeds_fit_the_curves_and_can_be_braked_to(town):
    tables = town.tables
    assert (tables.waypoint_speed > 2.0).all()
    assert (tables.waypoint_speed <= (55 if town.name == "Ring" else 35) * 0.44704 + 1e-3).all()
    for lane in range(len(tables.lane_length)):
        speed = tables.waypoint_speed[tables.lane_first[lane] : tables.lane_first[lane + 1]].astype(float)
        braking = -np.diff(speed**2) / 2 / tables.lane_step[lane]
        assert braking.max() < 1.5 + 1e-3


def test_turns_are_named_by_the_change_of_heading(town):
    tables = town.tables
    for lane, turn in enumerate(tables.lane_turn):
        if tables.lane_junction[lane] < 0:
            assert turn == FOLLOW
            continue
        change = np.degrees(np.unwrap(waypoints(town, lane)[:, 3])[[0, -1]] @ [-1, 1])
        assert turn == (LEFT if change > 35 else RIGHT if change < -35 else STRAIGHT)
    assert {LEFT, RIGHT, STRAIGHT, FOLLOW} == set(tables.lane_turn)


def test_the_grid_knows_every_waypoint_but_the_lanes_ends_once(town):
    tables = town.tables
    known = tables.cell_waypoint[: tables.cell_first[-1]]
    assert np.array_equal(np.sort(known), np.setdiff1d(np.arange(len(tables.waypoint_pose)), tables.lane_first[1:] - 1))
    rows, columns = tables.grid_size[0]
    cells = np.repeat(np.arange(rows * columns), np.diff(tables.cell_first))
    middle = tables.grid_origin[0] + 5.0 * np.column_stack([cells % columns + 0.5, cells // columns + 0.5])
    assert np.abs(tables.waypoint_pose[known, :2] - middle).max() <= 2.5 + 1e-3


# Junctions


def test_conflicts_are_mutual_and_are_the_lanes_that_come_close(town):
    tables = town.tables
    conflicts = [row(tables.conflict_first, tables.conflict, lane) for lane in range(len(tables.lane_length))]
    siblings = [row(tables.sibling_first, tables.sibling, lane) for lane in range(len(tables.lane_length))]
    entered_from = [row(tables.predecessor_first, tables.predecessor, lane) for lane in range(len(tables.lane_length))]
    for i, own in enumerate(tables.lane_junction):
        if own < 0:
            assert conflicts[i] == siblings[i] == []
        for j in np.flatnonzero(tables.lane_junction == own) if own >= 0 else ():
            together = bool(set(entered_from[i]) & set(entered_from[j])) and i != j
            assert (j in siblings[i]) == together == (i in siblings[j])
            assert (j in conflicts[i]) == (i in conflicts[j])
            if together or i == j:
                assert j not in conflicts[i]
                continue
            gap = np.linalg.norm(waypoints(town, i)[:, None, :2] - waypoints(town, j)[None, :, :2], axis=2).min()
            # Between waypoints a metre apart the lines may come closer than the waypoints do.
            assert gap > 2.0 or j in conflicts[i]
            assert gap < 2.6 or j not in conflicts[i]
    assert sum(map(len, conflicts)) > 0


def test_siblings_run_together_for_a_while(town):
    tables = town.tables
    for lane in range(len(tables.lane_length)):
        first, after = tables.sibling_first[lane : lane + 2]
        for other, overlap in zip(tables.sibling[first:after], tables.sibling_overlap[first:after], strict=True):
            points, others = waypoints(town, lane)[:, :2], waypoints(town, other)[:, :2]
            away = np.linalg.norm(points[:, None] - others[None], axis=2).min(1)
            along = np.arange(len(points)) * tables.lane_step[lane]
            assert (away[along < overlap - 0.5] < 2.6).all()
            assert 0 < overlap <= tables.lane_length[lane] + 1e-3


def check_paths(town: Town) -> None:
    tables = town.tables
    for start in range(len(tables.lane_length)):
        storage = tables.lane_junction[start] < 0 and tables.lane_length[start] >= STORAGE_LENGTH
        assert tables.lane_storage[start] == storage
        paths = range(tables.path_first[start], tables.path_first[start + 1])
        if not storage:
            assert not paths
            continue
        for path in paths:
            lanes = row(tables.path_lane_first, tables.path_lane, path)
            assert all(after in successors(town, before) for before, after in pairwise([start, *lanes]))
            assert tables.lane_storage[lanes].tolist() == [0] * (len(lanes) - 1) + [1]
            crossed = [lane for lane in lanes if tables.lane_junction[lane] >= 0]
            assert tables.path_crosses[path] == bool(crossed)
            assert tables.path_light[path] == (tables.lane_light[crossed[0]] if crossed else -1)
        assert len({tuple(row(tables.path_lane_first, tables.path_lane, path)) for path in paths}) == len(paths)


def test_compound_paths_lead_over_successors_to_the_next_lane_where_a_car_may_wait(town):
    check_paths(town)
    ways = np.diff(town.tables.path_first)[town.tables.lane_storage == 1]
    assert (ways >= 1).all()
    # At every T there are two ways on.
    assert town.name not in SINGLE_LANES or (ways == 2).all()
    assert np.diff(town.tables.path_lane_first).max() <= 8


# Lights


def check_lights(town: Town, lights: int, junctions: int) -> None:
    tables = town.tables
    assert len(set(tables.light_junction)) == junctions
    assert tables.light_first.tolist() == [0, lights]
    for line, (lane, light) in enumerate(zip(tables.stop_line_lane, tables.stop_line_light, strict=True)):
        assert tables.lane_junction[lane] < 0, "a stop line lies before its junction"
        assert tables.lane_stop_line[lane] == line
        x, y, z, yaw = tables.stop_line_pose[line] - waypoints(town, lane)[-1]
        assert (x, y, z, np.sin(yaw), np.cos(yaw)) == pytest.approx((0, 0, 0, 0, 1), abs=1e-4)
        assert tables.stop_line_half_width[line] == pytest.approx(
            0.4 * tables.waypoint_width[tables.lane_first[lane + 1] - 1], rel=1e-4
        )
        behind = successors(town, lane)
        assert behind
        assert (tables.lane_junction[behind] == tables.light_junction[light]).all()
        assert (tables.lane_light[behind] == light).all()
    assert set(tables.stop_line_light) == set(range(lights))

    cycle, start, green, yellow = tables.light_phase.T.astype(float)
    for junction in set(tables.light_junction):
        members = np.flatnonzero(tables.light_junction == junction)
        assert len(set(cycle[members])) == 1
        now = (np.arange(0, cycle[members[0]], 0.1)[:, None] - start[members]) % cycle[members]
        assert ((now < green[members] + yellow[members]).sum(1) <= 1).all(), "two arms may drive at once"
    assert (cycle - green - yellow < 60).all()
    assert (green >= 5).all()


def test_lights_hold_one_arm_of_each_junction_free_at_a_time(town):
    lights, junctions = LIGHTS[town.name]
    check_lights(town, lights, junctions)
    arms = (town.tables.light_junction == town.tables.light_junction[0]).sum()
    assert town.tables.light_phase[0].tolist() == [15.0 * arms, 0.0, 10.0, 3.0]


def test_lanes_of_unsignalised_junctions_obey_no_light(town):
    tables = town.tables
    signalised = np.isin(tables.lane_junction, list(set(tables.light_junction)))
    assert (tables.lane_light[signalised] >= 0).all()
    assert (tables.lane_light[~signalised] == -1).all()


# Spawn points and pavements


def test_spawn_points_lie_on_storage_lanes_away_from_junctions(town):
    tables = town.tables
    lanes, s = tables.spawn_lane, tables.spawn_s
    assert tables.lane_storage[lanes].all()
    assert (s >= 6.0 - 1e-4).all()
    assert (s <= tables.lane_length[lanes] - 6.0 + 1e-3).all()
    along = np.round(s / tables.lane_step[lanes]).astype(int)
    places = tables.waypoint_pose[tables.lane_first[lanes] + along, :2]
    inside = tables.waypoint_pose[tables.lane_junction[tables.waypoint_lane] >= 0, :2]
    assert min(np.linalg.norm(inside - place, axis=1).min() for place in places) > 4.5
    gap = np.linalg.norm(places[:, None] - places[None], axis=2)
    same_lane = lanes[:, None] == lanes[None]
    np.fill_diagonal(same_lane, False)
    # The chord of 12 m in the tightest bend.
    assert gap[same_lane].min() > 10.5
    # So many vehicles fewer than spawn points find a place wherever the ego is.
    assert max((np.linalg.norm(places - place, axis=1) < 12).sum() for place in tables.waypoint_pose[:, :2]) < KEPT_FREE


def test_walkways_are_linked_both_ways_and_keep_off_the_driving_lanes(town):
    tables = town.tables
    points = tables.walkway_point
    for at in range(len(points)):
        for other in (tables.walkway_next[at], tables.walkway_previous[at]):
            if other >= 0:
                assert at in (tables.walkway_next[other], tables.walkway_previous[other])
                assert np.linalg.norm(points[at] - points[other]) < 3.0
    # Pavements run on around every junction, so nobody comes to an end but where Ring's Cross Street meets ramps.
    ends = points[(tables.walkway_next < 0) | (tables.walkway_previous < 0)] + [*town.origin, 0.0]
    assert len(ends) == (4 if town.name == "Ring" else 0)
    assert (np.abs(ends[:, 0]) < 15).all() and (np.abs(ends[:, 1]) > 150).all()
    assert not (bits(town, points[:, :2]) & DRIVABLE).any()


def test_the_other_side_of_the_road_is_across_a_road(town):
    tables = town.tables
    here = np.flatnonzero(tables.walkway_opposite >= 0)
    # Wide roads are crossed at crosswalks alone.
    narrow = town.name in ("Suburb", "Village", "Town01", "Town02")
    assert len(here) > (0.3 if narrow else 0.01) * len(tables.walkway_point)
    start, stop = tables.walkway_point[here, :2], tables.walkway_point[tables.walkway_opposite[here], :2]
    assert np.linalg.norm(stop - start, axis=1).max() < 30
    # In the middle there may be a median.
    assert (bits(town, 0.75 * start + 0.25 * stop) & ROAD).all()
    assert (bits(town, 0.25 * start + 0.75 * stop) & ROAD).all()
    junction_points = tables.waypoint_pose[tables.lane_junction[tables.waypoint_lane] >= 0, :2]
    assert min(np.linalg.norm(junction_points - point, axis=1).min() for point in start[::7]) > 3.0


# The raster


def test_the_raster_is_road_on_the_lanes_and_nothing_off_them(town):
    tables = town.tables
    centres, yaw = tables.waypoint_pose[:, :2], tables.waypoint_pose[:, 3]
    left = np.column_stack([-np.sin(yaw), np.cos(yaw)])
    wide = tables.waypoint_width > 1.0  # where a lane opens it is narrower than some pixels
    for share in (-0.8, -0.4, 0.0, 0.4, 0.8):
        under = bits(town, (centres + share * tables.waypoint_width[:, None] / 2 * left)[wide])
        assert (under & ROAD).all()
        assert (under & DRIVABLE).all()
    rng = np.random.default_rng(0)
    low, size = tables.raster_origin[0], tables.raster_size[0, ::-1] / PIXELS_PER_METRE
    anywhere = (low + rng.uniform(0.01, 0.99, (4000, 2)) * size).astype(np.float32)
    away = np.array([np.linalg.norm(centres - point, axis=1).min() for point in anywhere])
    off = anywhere[away > tables.waypoint_width.max() / 2 + 1.5]
    assert len(off) > 1000
    assert not bits(town, off).any()


def test_the_raster_reaches_beyond_all_lanes(town):
    tables = town.tables
    low = tables.raster_origin[0]
    high = low + tables.raster_size[0, ::-1] / PIXELS_PER_METRE
    assert (tables.waypoint_pose[:, :2].min(0) - low > 2.0).all()
    assert (high - tables.waypoint_pose[:, :2].max(0) > 2.0).all()


# The cache


def assert_equal_towns(one: Town, other: Town) -> None:
    assert one.name == other.name
    assert np.array_equal(one.origin, other.origin)
    for name in one.tables._fields:
        a, b = getattr(one.tables, name), getattr(other.tables, name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert np.array_equal(a, b), name


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_town_read_again_is_the_same(fresh_cache, capsys):
    built = load_town("Village")
    assert "reading the map of Village" in capsys.readouterr().err
    assert_equal_towns(built, load_town("Village"))
    assert capsys.readouterr().err == ""
    assert len(list((fresh_cache / "towns").iterdir())) == 1


@pytest.mark.parametrize("damage", ["tables.npz", "raster.npy"])
@pytest.mark.parametrize("left", [None, 0, 500, 100_000])
def test_a_damaged_cache_is_made_again(fresh_cache, capsys, damage, left):
    built = load_town("Village")
    (folder,) = (fresh_cache / "towns").iterdir()
    content = (folder / damage).read_bytes()
    (folder / damage).unlink()
    if left is not None:
        (folder / damage).write_bytes(content[:left])
    capsys.readouterr()
    assert_equal_towns(built, load_town("Village"))
    assert "reading the map of Village" in capsys.readouterr().err
    assert_equal_towns(built, load_town("Village"))
    assert capsys.readouterr().err == ""
    assert list((fresh_cache / "towns").iterdir()) == [folder]


def test_a_cache_that_cannot_be_written_costs_a_warning_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path / "file"))
    town = load_town("Village")
    assert "could not be written" in capsys.readouterr().err
    assert len(town.tables.lane_length) == 72


def test_a_town_in_memory_does_not_write_into_the_cache(fresh_cache):
    load_town("Village")
    load_town("Village").tables.raster[:] = 0
    assert load_town("Village").tables.raster.any()


# CARLA's own towns


def test_carlas_towns_hold_to_the_same_rules(real_town):
    check_lanes(real_town)
    check_paths(real_town)
    check_lights(real_town, *{"Town01": (36, 12), "Town02": (24, 8)}[real_town.name])
    assert real_town.lane_kilometres == pytest.approx({"Town01": 5.0, "Town02": 2.1}[real_town.name], abs=0.1)


def check_routes(town: Town, path: Path, poses: list[list[tuple[float, float, float]]]) -> None:
    """`poses`: for each route its points x, y, yaw in CARLA's frame (m, degrees)."""
    routes = read_routes(town, path)
    assert len(routes) == len(poses)
    for route, points in zip(routes, poses, strict=True):
        driven = town.tables.waypoint_pose[route.waypoints].astype(float)
        assert np.hypot(*np.diff(driven[:, :2], axis=0).T).max() < 2.5
        steps = np.diff(np.unwrap(driven[:, 3]))
        assert np.abs(steps).max() < 0.6
        lanes = town.tables.waypoint_lane[route.waypoints]
        for before, after in pairwise(lanes):
            assert before == after or after in successors(town, before)
        at = 0
        for x, y, _ in points:
            place = np.array([x, -y]) - town.origin
            away = np.hypot(*(driven[at:, :2] - place).T)
            at += int(np.argmax(away < 5.0))
            assert away[at - len(driven)] < 5.0
        for (x, y, yaw), end in ((points[0], driven[0]), (points[-1], driven[-1])):
            assert np.hypot(*(end[:2] + town.origin - (x, -y))) < 5.0
            assert np.cos(end[3] + np.radians(yaw)) > 0.7


def test_the_nocrash_routes_can_be_driven(real_town, routes_folder):
    path = routes_folder / f"nocrash_{real_town.name.lower()}.csv"
    rows = [line.split(",")[1:] for line in path.read_text("utf-8").splitlines()[1:]]
    poses = [[tuple(map(float, row[:3])), tuple(map(float, row[3:]))] for row in rows]
    assert len(poses) == 25
    check_routes(real_town, path, poses)


@pytest.mark.parametrize(("split", "name", "count"), [("testing", "Town02", 6), ("training", "Town01", 10)])
def test_the_leaderboards_routes_can_be_driven(split, name, count, maps_folder, routes_folder):
    path = routes_folder / f"leaderboard1_routes_{split}.xml"
    poses = [
        [tuple(float(point.get(key)) for key in ("x", "y", "yaw")) for point in route.iter("waypoint")]
        for route in ElementTree.parse(path).getroot().iter("route")
        if route.get("town") == name
    ]
    assert len(poses) == count
    check_routes(load_town(maps_folder / f"{name}.xodr"), path, poses)


# Large towns


LONG_ROAD = """
import math, sys, pathlib, numpy as np
from mentorgym.envs.driving import load_town

folder, length = pathlib.Path(sys.argv[1]), 16000.0
lane = '<lane id="{}" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>'
(folder / "Long.xodr").write_text(
    f'<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="" length="{length}" id="1" junction="-1"><planView>'
    f'<geometry s="0" x="0" y="0" hdg="{math.pi / 4}" length="{length}"><line/></geometry></planView><lanes>'
    f'<laneSection s="0"><left>{lane.format(1)}</left><center><lane id="0" type="none"/></center>'
    f'<right>{lane.format(-1)}</right></laneSection></lanes></road></OpenDRIVE>'
)
built, read = load_town(folder / "Long.xodr"), load_town(folder / "Long.xodr")
one, other = (town.tables.raster.reshape(town.tables.raster_size[0]) for town in (built, read))
for row in range(500, len(one) - 500, 500):
    assert one[row].any() and np.array_equal(one[row], other[row])
status = pathlib.Path("/proc/self/status").read_text()
print([int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")][0] // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_a_long_diagonal_road_takes_little_memory_and_disk(tmp_path):
    environment = os.environ | {"MENTORGYM_CACHE": str(tmp_path / "cache")}
    compiled = cache_folder() / "kernels"
    if compiled.is_dir():
        shutil.copytree(compiled, tmp_path / "cache" / "kernels")
    command = [sys.executable, "-c", LONG_ROAD, str(tmp_path)]
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert int(shown.split()[-1]) < 500
    (raster,) = (tmp_path / "cache").rglob("raster.npy")
    assert raster.stat().st_size > 3e9 and raster.stat().st_blocks * 512 < 300e6
