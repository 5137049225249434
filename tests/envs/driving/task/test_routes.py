"""Planned routes: shortest ways, and changes of lane where the paint allows them."""

import heapq
from itertools import pairwise

import numpy as np
import pytest

from mentorgym.envs.driving.map.opendrive import read_opendrive
from mentorgym.envs.driving.map.town import Town, build_town, load_town, packaged_towns
from mentorgym.envs.driving.task.routes import CHANGE_COST, CHANGE_ROOM, RouteError, plan_route
from tests.envs.driving.fork import fork_xml


def fork(change: str = "both", length: float = 300.0) -> Town:
    return build_town(read_opendrive(fork_xml(change, length), "Fork"))


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


def test_nobody_changes_just_before_a_junction():
    town = fork()
    goal = waypoint(town, 2, -1, 50.0)
    route = plan_route(town, [waypoint(town, 0, -1, 288.0), goal])
    assert len(changes(town, route)) == 1
    with pytest.raises(RouteError, match="no lane of Fork leads to"):
        plan_route(town, [waypoint(town, 0, -1, 291.0), goal])


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
