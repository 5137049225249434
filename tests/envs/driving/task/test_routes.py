"""Planned routes: shortest ways, and changes of lane where the paint allows them."""

import heapq
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.map.opendrive import read_opendrive
from mentorgym.envs.driving.map.town import Town, build_town, load_town, packaged_towns
from mentorgym.envs.driving.task.routes import (
    CHANGE_COST,
    CHANGE_ROOM,
    COLUMNS,
    HURRY_COST,
    UNREACHABLE,
    RouteError,
    measure,
    plan,
    plan_route,
    read_routes,
    snap,
)
from mentorgym.envs.driving.worlds.state import ROUTE_CAPACITY
from tests.envs.driving.fork import fork_xml


def fork(change: str = "both", length: float = 300.0) -> Town:
    return build_town(read_opendrive(fork_xml(change, length), "Fork"))


def mouth_xml() -> str:
    """A lane that ends at x = 100 in a junction, whose two ways lead straight on and to the right."""
    text = fork_xml(length=100.0)
    line = '<geometry s="0" x="{}" y="-3.5" hdg="0" length="{}"><line/></geometry>'
    links = '<predecessor id="{}"/><successor id="-1"/>'
    arc = '<geometry s="0" x="100.0" y="0" hdg="0" length="12.6"><arc curvature="-0.125"/></geometry>'
    for old, new in (
        (line.format(100.0, 20.0), arc),
        ('length="20.0" id="11"', 'length="12.6" id="11"'),
        (links.format(-2), links.format(-1)),
        ('<laneLink from="-2" to="-1"/>', '<laneLink from="-1" to="-1"/>'),
        (
            line.format(120.0, 150.0),
            '<geometry s="0" x="108.0" y="-8.0" hdg="-1.575" length="150.0"><line/></geometry>',
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def waypoint(town: Town, road: int, number: int, metres: float) -> int:
    tables = town.tables
    lane = np.flatnonzero((tables.lane_road == road) & (tables.lane_number == number))[0]
    return int(tables.lane_first[lane] + round(metres / tables.lane_step[lane]))


def changes(town: Town, route: np.ndarray) -> list[tuple[int, int]]:
    """The steps of a route between lanes that do not follow one another."""
    tables = town.tables
    found = []
    for here, there in pairwise(route):
        lane, following = tables.waypoint_lane[here], tables.waypoint_lane[there]
        after = tables.successor[tables.successor_first[lane] : tables.successor_first[lane + 1]]
        if there == here + 1 and lane == following:
            continue
        if there == tables.lane_first[following] and following in after and here == tables.lane_first[lane + 1] - 2:
            continue
        found.append((int(here), int(there)))
    return found


def allowed(town: Town, step: tuple[int, int]) -> bool:
    here, there = step
    return there - 1 in (town.tables.waypoint_left[here], town.tables.waypoint_right[here])


def cheapest(town: Town, start: int, goal: int) -> float:
    """Dijkstra over single waypoints, each of which may be left for the one beside it."""
    tables = town.tables
    costs, queue, done = {start: 0.0}, [(0.0, start)], set()
    while queue:
        cost, here = heapq.heappop(queue)
        if here == goal:
            return cost
        if here in done:
            continue
        done.add(here)
        lane = tables.waypoint_lane[here]
        ways = []
        if here + 1 == tables.lane_first[lane + 1] - 1:
            for k in range(tables.successor_first[lane], tables.successor_first[lane + 1]):
                ways.append((tables.lane_first[tables.successor[k]], tables.lane_step[lane]))
        else:
            ways.append((here + 1, tables.lane_step[lane]))
        ways += [(side[here], CHANGE_COST) for side in (tables.waypoint_left, tables.waypoint_right) if side[here] >= 0]
        for there, metres in ways:
            if cost + metres < costs.get(int(there), np.inf):
                costs[int(there)] = cost + float(metres)
                heapq.heappush(queue, (costs[int(there)], int(there)))
    return np.inf


def driven(town: Town, route: np.ndarray) -> float:
    """Metres along lanes."""
    lane = town.tables.waypoint_lane[route[:-1]]
    return float(town.tables.lane_step[lane].sum())


@pytest.mark.parametrize(("number", "road"), [(-1, 2), (-2, 1)])
def test_a_change_is_one_step_to_the_lane_beside_with_room_before_and_behind(number, road):
    town = fork()
    start = waypoint(town, 0, number, 40.0)
    route = plan_route(town, [start, waypoint(town, road, -1, 50.0)])
    (step,) = changes(town, route)
    assert allowed(town, step)
    assert step[0] - start == CHANGE_ROOM
    across = town.tables.waypoint_pose[step[1], :2] - town.tables.waypoint_pose[step[0], :2]
    assert across == pytest.approx([1.0, -3.5 if number == -1 else 3.5], abs=0.05)


@pytest.mark.parametrize("change", ["none", "increase"])
def test_no_change_against_the_paint(change):
    # "increase" allows to go to higher ids alone: from -2 to -1, not back.
    town = fork(change)
    assert town.tables.waypoint_right[waypoint(town, 0, -1, 40.0)] == -1
    with pytest.raises(RouteError, match=r"no lane of Fork leads to \(.*\) from the point before it"):
        plan_route(town, [waypoint(town, 0, -1, 40.0), waypoint(town, 2, -1, 50.0)])


def test_traffic_does_not_change_just_before_a_junction():
    town = fork()
    goal, out = waypoint(town, 2, -1, 50.0), np.empty(ROUTE_CAPACITY, np.int32)
    assert plan(town.tables, waypoint(town, 0, -1, 288.0), goal, out, 0, False)[0] > 0
    assert plan(town.tables, waypoint(town, 0, -1, 291.0), goal, out, 0, False)[0] == UNREACHABLE


@pytest.mark.parametrize("metres", [291.0, 295.0, 298.0])
def test_a_route_that_starts_just_before_a_junction_changes_at_once(metres):
    town = fork()
    start = waypoint(town, 0, -1, metres)
    (step,) = changes(town, plan_route(town, [start, waypoint(town, 2, -1, 50.0)]))
    assert allowed(town, step) and step[0] == start
    with pytest.raises(RouteError, match="no lane of Fork leads to"):
        plan_route(fork("none"), [waypoint(fork("none"), 0, -1, metres), waypoint(fork("none"), 2, -1, 50.0)])


def test_a_goal_just_behind_a_lanes_beginning_is_reached_by_a_hurried_change():
    town = fork()
    route = plan_route(town, [waypoint(town, 0, -1, 0.0), waypoint(town, 0, -2, 4.0)])
    (step,) = changes(town, route)
    assert allowed(town, step) and route[-1] == waypoint(town, 0, -2, 4.0)


def test_the_cost_of_a_way_is_its_metres_and_changes():
    town, out = fork(), np.empty(ROUTE_CAPACITY, np.int32)
    for start, goal, hurry in (
        (waypoint(town, 0, -1, 40.0), waypoint(town, 1, -1, 50.0), 0.0),
        (waypoint(town, 0, -1, 40.0), waypoint(town, 2, -1, 50.0), 0.0),
        (waypoint(town, 0, -1, 295.0), waypoint(town, 2, -1, 50.0), HURRY_COST),
        (waypoint(town, 0, -1, 40.0), waypoint(town, 0, -1, 90.0), 0.0),
    ):
        length, cost = plan(town.tables, start, goal, out, 0, True)
        number = len(changes(town, out[:length]))
        assert cost == pytest.approx(driven(town, out[:length]) + CHANGE_COST * number + hurry, abs=2.5)


# Routes of files


def leaderboard(folder: Path, town: Town, *points: tuple[float, float, float]) -> Path:
    """A file of one route through `points`: x, y, yaw in CARLA's frame (m, degrees)."""
    made = "".join(f'<waypoint x="{x}" y="{y}" z="0" yaw="{yaw}"/>' for x, y, yaw in points)
    path = folder / "routes.xml"
    path.write_text(f'<routes><route id="0" town="{town.name}">{made}</route></routes>')
    return path


@pytest.mark.parametrize(("y", "road"), [(5.25, 11), (1.75, 10)])
def test_a_point_at_a_junctions_mouth_is_on_the_lane_that_leads_on(tmp_path, y, road):
    # Two ways begin at the mouth of a lane that forks: whichever is named first, the next point decides.
    town = build_town(read_opendrive(mouth_xml(), "Mouth"))
    goal = {11: (108.0, 40.0, 90.0), 10: (180.0, 1.75, 0.0)}[road]
    (route,) = read_routes(town, leaderboard(tmp_path, town, (20.0, 1.75, 0.0), (100.2, 1.75, 0.0), goal))
    assert road in town.tables.lane_road[town.tables.waypoint_lane[route.waypoints]]
    assert len(route.waypoints) < 200
    assert len(route.stops) == 3 and route.stops[0] == 0 and route.stops[-1] == len(route.waypoints) - 1


def test_a_point_lies_on_the_lane_at_its_place_whatever_its_yaw_says(tmp_path):
    town = fork()
    # CARLA's y points the other way: the eastward lanes are at 1.75 and 5.25, the westward ones at -1.75 and -5.25.
    for yaw in (0.0, 90.0, 180.0, -90.0):
        (route,) = read_routes(town, leaderboard(tmp_path, town, (50.0, 1.75, 0.0), (120.0, 1.75, yaw), (200, 1.75, 0)))
        assert 145 < len(route.waypoints) < 155 and not changes(town, route.waypoints)
    # Between two lanes the yaw decides.
    tables = town.tables
    for yaw, side in ((0.0, 1), (180.0, -1)):
        (meant, *_) = snap(town, 100.0, 0.1 * side, np.radians(yaw))
        assert tables.lane_number[tables.waypoint_lane[meant]] * side < 0
    assert len(snap(town, 100.0, 30.0, 0.0)) == 0


def test_one_bad_route_of_a_file_is_left_out_and_named(tmp_path):
    town = fork()
    good, away = ("50,1.75,0", "200,1.75,0"), ("50,1.75,0", "90,44,0")
    path = tmp_path / "three.csv"
    header = ",".join(("route", *COLUMNS))
    path.write_text("\n".join([header, ",".join(("a", *good)), ",".join(("b", *away)), ",".join(("c", *good))]))
    first, second, third = read_routes(town, path)
    assert not first.problem and not third.problem and np.array_equal(first.waypoints, third.waypoints)
    assert len(second.waypoints) == 0 and "three.csv, line 3: (90.0, 44.0) is off the map" in second.problem
    path.write_text("\n".join([header, ",".join(("b", *away))]))
    with pytest.raises(RouteError, match="three.csv, line 2"):
        read_routes(town, path)


def test_a_bad_route_is_passed_over_and_not_driven_when_named(tmp_path):
    (tmp_path / "Fork.xodr").write_text(fork_xml())
    path = tmp_path / "two.csv"
    lines = ["a,50,1.75,0,90,44,0", "b,50,1.75,0,200,1.75,0"]
    path.write_text("\n".join([",".join(("route", *COLUMNS)), *lines]))
    envs = DrivingVectorEnv(
        2, town=str(tmp_path / "Fork.xodr"), routes=str(path), split="test", traffic="empty", observation="state"
    )
    assert envs.num_routes == 2 and list(envs.route_problems) == [0]
    envs.reset(seed=0)
    assert (envs.episode.route_length == len(envs.routes[1].waypoints)).all()
    with pytest.raises(ValueError, match=r"options\['route'\]=0 cannot be driven: .*two.csv, line 2"):
        envs.reset(options={"route": np.array([1, 0])})


REAL = {"Town01": ("training",), "Town02": ("testing",), "Town03": ("training",), "Town04": ("training", "testing")}
"""The files that have routes in CARLA's towns."""

TURNS_BACK = {("Town03", "13"), ("Town03", "18"), ("Town03", "27")}
"""Routes that go into a street and come back by the other lane, round its end: 287 m for points 3 m apart."""


@pytest.mark.parametrize("name", REAL)
def test_the_official_routes_are_planned_without_detours(maps_folder, routes_folder, name):
    town = load_town(maps_folder / f"{name}.xodr")
    tables, count, left_out = town.tables, 0, []
    for split in REAL[name]:
        for route in read_routes(town, routes_folder / f"leaderboard1_routes_{split}.xml"):
            if route.problem:
                left_out.append(route.name)
                continue
            count += 1
            driven_metres = measure(town, route.waypoints).metres
            points = tables.waypoint_pose[route.waypoints[route.stops], :2].astype(float)
            line = np.hypot(*np.diff(points, axis=0).T).sum()
            assert driven_metres <= (1.4 if (name, route.name) in TURNS_BACK else 1.3) * line
    assert left_out == (["35"] if name == "Town04" else [])
    assert count == {"Town01": 10, "Town02": 6, "Town03": 20, "Town04": 19}[name]


def test_the_table_of_first_changes_is_that_of_the_waypoints_beside():
    for town in (fork(), fork("decrease"), load_town("Village")):
        tables = town.tables
        for side, beside in enumerate((tables.waypoint_left, tables.waypoint_right)):
            for lane, (first, after) in enumerate(pairwise(tables.lane_first)):
                having = np.flatnonzero(beside[first:after] >= 0)
                assert tables.lane_change[lane, side] == (first + having[0] if len(having) else -1)


@pytest.mark.parametrize("name", packaged_towns())
def test_routes_are_the_cheapest_there_are(name):
    town = load_town(name)
    tables = town.tables
    rng = np.random.default_rng(4)
    spawns = tables.lane_first[tables.spawn_lane] + (tables.spawn_s / tables.lane_step[tables.spawn_lane]).astype(int)
    for start, goal in rng.choice(spawns, (6, 2)):
        route = plan_route(town, [int(start), int(goal)])
        assert route[0] == start and route[-1] == goal
        steps = changes(town, route)
        assert all(allowed(town, step) for step in steps)
        # The room that changes need may cost one or two that a single waypoint would not.
        best = cheapest(town, int(start), int(goal))
        assert best - 5.0 <= driven(town, route) + CHANGE_COST * len(steps) <= best + 5.0 + 2 * CHANGE_COST


@pytest.mark.parametrize("name", ["both", "none", *packaged_towns()])
def test_carla_allows_the_same_changes(name):
    # It reads "increase" and "decrease", which its towns do not have, otherwise than the standard.
    carla = pytest.importorskip("carla")
    path = packaged_towns().get(name)
    town = load_town(name) if path else fork(name)
    tables = town.tables
    theirs = carla.Map(name, path.read_text("utf-8") if path else fork_xml(name))
    compared = 0
    for p in np.random.default_rng(5).choice(len(tables.waypoint_lane), 400):
        lane = tables.waypoint_lane[p]
        last = tables.lane_first[lane + 1] - 1
        if tables.lane_junction[lane] >= 0 or not tables.lane_first[lane] + 2 <= p <= last - 2:
            continue
        x, y, z, _ = tables.waypoint_pose[p].astype(float)
        found = theirs.get_waypoint(carla.Location(x + town.origin[0], -(y + town.origin[1]), z))
        if (found.road_id, found.lane_id) != (tables.lane_road[lane], tables.lane_number[lane]):
            continue
        # Where the paint changes, rounding decides.
        around = [*found.previous(0.1), found, *found.next(0.1)]
        if len({str(each.lane_change) for each in around}) > 1:
            continue
        for side, beside, reach in (
            ("Left", tables.waypoint_left, found.get_left_lane),
            ("Right", tables.waypoint_right, found.get_right_lane),
        ):
            # CARLA names the paint's permission alone, also where no lane of this direction lies beyond.
            other = reach()
            leads = other is not None and str(other.lane_type) == "Driving" and other.lane_id * found.lane_id > 0
            assert (beside[p] >= 0) == (leads and str(found.lane_change) in (side, "Both")), (p, side)
        compared += 1
    assert compared > 150
