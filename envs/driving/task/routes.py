"""Routes: planning over lanes at 1 m, and reading the files that name them."""

import codecs
import heapq
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from mentorgym.envs.driving.frames import from_carla
from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.map.tables import LEFT, RIGHT
from mentorgym.envs.driving.map.town import Town
from mentorgym.envs.driving.worlds.state import ROUTE_CAPACITY
from mentorgym.files import TableError, decode, read_table

UNREACHABLE, TOO_LONG = -1, -2

TOO_LONG_TEXT = f"a route holds at most {ROUTE_CAPACITY} waypoints, about as many metres: split it"

CHANGE_COST = 25.0
"""Metres of way that one change of lanes is worth avoiding."""

CHANGE_ROOM = 10
"""Waypoints, about as many metres, that a change keeps from where its lanes begin and from junctions."""

HURRY_COST = 100.0
"""Metres of way that a change without that room is worth avoiding, beside CHANGE_COST. Only the points of route files
call for one: they lie on the right lane just behind a junction, or on the wrong one just before it."""

SNAP_DISTANCE = 5.0
"""Metres within which a pose of a file is moved onto its lane."""

AGAINST = -0.5
"""Cosine of the angle, 120 degrees, from which on a lane leads against a yaw. Some yaws of CARLA's files stand across
their road."""

AGAINST_YAW = 2.0
"""Metres by which a lane that leads against a pose's yaw counts as farther. CARLA's planner goes by the place alone,
and in its files some yaws are those of the lane beside; but a pose near the middle of a road is meant as it points."""

SNAP_MARGIN = 1.0
"""Metres by which a lane may be farther from a pose than the nearest one and still be the lane that is meant: in a
junction several lanes begin at one place."""


class RouteError(ValueError):
    """A route that does not fit its town, or a file that holds none."""


@inner
def _change(
    beside, allowed_from, waypoint_lane, lane_first, lane_junction, successor_first, successor, entry, end, hurried
):
    """Where to leave a lane entered at waypoint `entry`, and that ends at `end`, for the lane beside it.

    `beside` is `waypoint_left` or `waypoint_right`, whose first entry on the lane is at `allowed_from`. Returns the
    last waypoint here and the first one there: CHANGE_ROOM after the entry if the paint allows it there, else as early
    as it does, and CHANGE_ROOM before a junction at the latest; `hurried` at once, wherever the paint allows it.
    (-1, -1) where one may not change.
    """
    early, early_following = np.int32(-1), np.int32(-1)
    for p in range(max(entry, allowed_from), end):
        if beside[p] < 0:
            continue
        following = beside[p] + np.int32(1)
        other = waypoint_lane[following]
        room = lane_first[other + 1] - 1 - following
        k = successor_first[other]
        leads_on = successor_first[other + 1] > k and lane_junction[successor[k]] < 0
        if room <= 0 or (room < CHANGE_ROOM and not leads_on and not hurried):
            break
        if hurried or p >= entry + CHANGE_ROOM:
            return np.int32(p), following
        if early < 0:
            early, early_following = np.int32(p), following
    return early, early_following


@kernel
def plan(tables, start, goal, out, length, hurry):
    """Append the cheapest way from waypoint `start` to `goal` to `out` (int32) behind its first `length` entries.

    A way costs its metres and CHANGE_COST for every change to the lane beside, which is a step from a waypoint to one
    about a metre ahead on the other lane, as in the routes of CARLA's planner. With `hurry`, changes just before and
    behind junctions are allowed too and cost HURRY_COST more. Both ends are included, lanes' end points are not.
    Returns the new length, UNREACHABLE or TOO_LONG, and the cost.
    """
    start_lane, goal_lane = tables.waypoint_lane[start], tables.waypoint_lane[goal]
    if start_lane == goal_lane and start <= goal:
        if length + goal - start + 1 > out.shape[0]:
            return TOO_LONG, np.inf
        for p in range(start, goal + 1):
            out[length] = p
            length += 1
        return length, np.float64(goal - start) * tables.lane_step[start_lane]
    # Dijkstra. Node 3 l is lane l (of this town) driven from its beginning, 3 l + 1 the lane entered from the one
    # beside it, 3 l + 2 likewise but hurried, and the last node the start lane from `start` on; a node's cost is that
    # of reaching the lane's end.
    low = tables.town_lane_first[tables.lane_town[start_lane]]
    lanes = tables.town_lane_first[tables.lane_town[start_lane] + 1] - low
    nodes = 3 * lanes + 1
    cost = np.full(nodes, np.inf, np.float64)
    previous = np.full(nodes, -1, np.int32)
    left_at = np.full(nodes, -1, np.int32)  # the waypoint at which the previous lane is left, -1 for its end
    entry = np.full(nodes, -1, np.int32)
    done = np.zeros(nodes, np.uint8)
    root = np.int32(3 * lanes)
    entry[root] = start
    cost[root] = np.float64(tables.lane_first[start_lane + 1] - 1 - start) * tables.lane_step[start_lane]
    queue = [(cost[root], root)]
    found = np.int32(-1)
    while len(queue) > 0:
        metres, node = heapq.heappop(queue)
        if done[node]:
            continue
        done[node] = 1
        lane = start_lane if node == root else low + node // 3
        if lane == goal_lane and entry[node] <= goal:
            found = node
            break
        end = tables.lane_first[lane + 1] - 1
        for k in range(tables.successor_first[lane], tables.successor_first[lane + 1]):
            following = tables.successor[k]
            other = np.int32(3 * (following - low))
            total = metres + tables.lane_length[following]
            if total < cost[other]:
                cost[other], previous[other], left_at[other] = total, node, -1
                entry[other] = tables.lane_first[following]
                heapq.heappush(queue, (total, other))
        for way in range(4 if hurry else 2):
            side, hurried = way % 2, way // 2
            allowed_from = tables.lane_change[lane, side]
            if allowed_from < 0:
                continue
            p, q = _change(
                tables.waypoint_left if side == 0 else tables.waypoint_right,
                allowed_from,
                tables.waypoint_lane,
                tables.lane_first,
                tables.lane_junction,
                tables.successor_first,
                tables.successor,
                entry[node],
                end,
                hurried,
            )
            if p < 0:
                continue
            following = tables.waypoint_lane[q]
            other = np.int32(3 * (following - low) + 1 + hurried)
            saved = np.float64(end - p) * tables.lane_step[lane]
            rest = np.float64(tables.lane_first[following + 1] - 1 - q) * tables.lane_step[following]
            total = metres + max(CHANGE_COST + HURRY_COST * hurried + rest - saved, 0.0)
            if total < cost[other]:
                cost[other], previous[other], left_at[other], entry[other] = total, node, p, q
                heapq.heappush(queue, (total, other))
    if found < 0:
        return UNREACHABLE, np.inf
    total_cost = cost[found] - np.float64(tables.lane_first[goal_lane + 1] - 1 - goal) * tables.lane_step[goal_lane]
    # Walk back for the nodes and the waypoints before which their lanes are left, then write forward.
    chain = np.empty(nodes, np.int32)
    stops = np.empty(nodes, np.int32)
    count, total = 0, length
    stop = goal + 1
    while found >= 0:
        chain[count], stops[count] = found, max(stop, entry[found] + 1)
        total += stops[count] - entry[found]
        count += 1
        stop = left_at[found] + 1
        found = previous[found]
        if found >= 0 and stop == 0:
            lane = start_lane if found == root else low + found // 3
            stop = tables.lane_first[lane + 1] - 1
    if total > out.shape[0]:
        return TOO_LONG, np.inf
    for k in range(count - 1, -1, -1):
        for p in range(entry[chain[k]], stops[k]):
            out[length] = p
            length += 1
    return length, total_cost


@kernel
def nearest_of_lanes(tables, town, x, y, waypoints, distances):
    """For every lane with a waypoint within SNAP_DISTANCE of (x, y), the nearest one and its distance in m.

    Lanes' end points are left out. Writes `waypoints` (int32) and `distances` (float32), which have room for all of the
    town's lanes; returns how many there are.
    """
    count = 0
    for lane in range(tables.town_lane_first[town], tables.town_lane_first[town + 1]):
        best, nearest = -1, f32(np.inf)
        for p in range(tables.lane_first[lane], tables.lane_first[lane + 1] - 1):
            dx, dy = tables.waypoint_pose[p, 0] - x, tables.waypoint_pose[p, 1] - y
            squared = dx * dx + dy * dy
            if squared < nearest:
                best, nearest = p, squared
        if nearest <= f32(SNAP_DISTANCE * SNAP_DISTANCE):
            waypoints[count], distances[count] = best, np.sqrt(nearest)
            count += 1
    return count


def snap(town: Town, x: float, y: float, yaw: float) -> np.ndarray:
    """The waypoints, int32 [n], that a pose in the map's frame (m, rad) may stand for, the nearest first; none off the
    map.

    There is one for each lane. Lanes that lead against `yaw`, unless it is NaN, count as AGAINST_YAW farther; those
    that are more than SNAP_MARGIN farther than the nearest are left out.
    """
    tables, lanes = town.tables, len(town.tables.lane_length)
    waypoints, distances = np.empty(lanes, np.int32), np.empty(lanes, np.float32)
    count = nearest_of_lanes(tables, 0, f32(x - town.origin[0]), f32(y - town.origin[1]), waypoints, distances)
    waypoints, distances = waypoints[:count], distances[:count]
    against = tables.waypoint_direction[waypoints] @ (np.cos(yaw), np.sin(yaw)) < AGAINST
    distances += AGAINST_YAW * against
    order = np.argsort(distances, kind="stable")
    return waypoints[order[distances[order] <= distances.min(initial=np.inf) + SNAP_MARGIN]]


def plan_route(town: Town, stops: Sequence[int]) -> np.ndarray:
    """The route int32 [n] through waypoints `stops`, about 1 m apart. Raises RouteError when a leg cannot be driven."""
    return _plan_through(town, [np.array([stop]) for stop in stops])[0]


def _plan_through(town: Town, choices: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The route int32 [n] through one waypoint of each of `choices`, int32 [k], and these waypoints' places in it.

    They are chosen together, so that the whole route is the cheapest; where two are, the first one counts. Raises
    RouteError when a leg cannot be driven.
    """
    out = np.empty(ROUTE_CAPACITY, np.int32)
    costs = np.zeros(len(choices[0]))
    previous: list[np.ndarray] = []
    for starts, goals in itertools.pairwise(choices):
        legs = np.full((len(starts), len(goals)), np.inf)
        too_long = False
        for i, j in np.ndindex(legs.shape):
            if np.isfinite(costs[i]):
                length, legs[i, j] = plan(town.tables, int(starts[i]), int(goals[j]), out, 0, True)
                too_long |= length == TOO_LONG
        legs += costs[:, None]
        previous.append(legs.argmin(0))
        costs = legs.min(0)
        if not np.isfinite(costs).any():
            if too_long:
                raise RouteError(TOO_LONG_TEXT)
            x, y = town.tables.waypoint_pose[goals[0], :2] + town.origin
            raise RouteError(
                f"no lane of {town.name} leads to ({x:.1f}, {y:.1f}) from the point before it: choose other ends"
            )
    chosen = [int(costs.argmin())]
    for best in reversed(previous):
        chosen.append(int(best[chosen[-1]]))
    through = [int(choice[k]) for choice, k in zip(choices, reversed(chosen), strict=True)]
    ends = [1]
    for start, goal in itertools.pairwise(through):
        length, _ = plan(town.tables, start, goal, out, ends[-1] - 1, True)
        if length == TOO_LONG:
            raise RouteError(TOO_LONG_TEXT)
        ends.append(length)
    return out[: ends[-1]].copy(), np.array(ends, np.int32) - 1


@dataclass(frozen=True)
class Route:
    """A fixed route: its name in its file and its waypoints, int32 [n]; none where `problem` says why it is left out.

    `stops`, int32 [k], are the places of the file's points among the waypoints.
    """

    name: str
    waypoints: np.ndarray
    stops: np.ndarray
    problem: str = ""


class Measures(NamedTuple):
    """How hard a route is, as far as the map says."""

    metres: float
    lights: int
    """junctions entered under a light"""
    turns: int
    """to the left or right, at junctions"""
    changes: int
    """of lane"""


def measure(town: Town, route: np.ndarray) -> Measures:
    """The Measures of a route int32 [n] of waypoints."""
    tables = town.tables
    metres = np.hypot(*np.diff(tables.waypoint_pose[route, :2].astype(np.float64), axis=0).T).sum()
    lane = tables.waypoint_lane[route]
    entered = lane[np.append(True, lane[1:] != lane[:-1])]
    changes = 0
    for here, there in zip(entered[:-1], entered[1:], strict=True):
        changes += there not in tables.successor[tables.successor_first[here] : tables.successor_first[here + 1]]
    # A light rules over the junction lanes behind its line, of which a short one may follow another.
    light = tables.lane_light[entered]
    lights = (light >= 0) & (np.append(-1, light[:-1]) != light)
    turns = np.isin(tables.lane_turn[entered], (LEFT, RIGHT))
    return Measures(float(metres), int(lights.sum()), int(turns.sum()), changes)


def find_routes(routes: str | os.PathLike) -> Path:
    """A route file by path, or by name under `MENTORGYM_ROUTES`. Raises RouteError when there is none."""
    path = Path(routes)
    folder = os.environ.get("MENTORGYM_ROUTES")
    for candidate in [path, *([Path(folder) / path] if folder else [])]:
        if os.path.isfile(candidate):
            return candidate
    raise RouteError(
        f"there is no route file {path}; pass its path, or set MENTORGYM_ROUTES to the folder that holds it"
    )


def read_routes(town: Town, path: Path) -> list[Route]:
    """The routes of a file in CARLA's frame: a CSV of start and goal poses, or XML of a CARLA Leaderboard.

    A CSV may be a spreadsheet's, with semicolons or tabs, decimal commas and more columns. XML is in Leaderboard 1's
    layout, Roach's and Found-RL's, or Leaderboard 2's; of it, the routes of this town are read, and those that name no
    town.

    A route that cannot be driven, because a point is off the map or no lane leads there, has a `problem`. Raises
    RouteError naming file and line or route: unreadable, missing columns, no route that can be driven.
    """
    try:
        data = path.read_bytes()
        markup = data.removeprefix(codecs.BOM_UTF8).lstrip()
        is_xml = path.suffix.lower() == ".xml" or markup.startswith(b"<")
        named = _xml_poses(markup, path, town.name) if is_xml else _csv_poses(decode(data), path)
    except RouteError:
        raise
    except (OSError, ValueError) as error:
        raise RouteError(f"the route file {path} cannot be read: {error}") from error
    routes = []
    for name, where, poses in named:
        try:
            routes.append(Route(name, *_plan_through(town, [_stop(town, *pose) for pose in poses])))
        except RouteError as error:
            nothing = np.empty(0, np.int32)
            routes.append(Route(name, nothing, nothing, f"{path}, {where}: {error}"))
    if all(route.problem for route in routes):
        raise RouteError(routes[0].problem)
    return routes


def _stop(town: Town, x: float, y: float, yaw_degrees: float) -> np.ndarray:
    waypoints = snap(town, *map(float, from_carla(x, y, yaw_degrees)))
    if not len(waypoints):
        raise RouteError(f"({x:.1f}, {y:.1f}) is off the map: no lane of {town.name} within {SNAP_DISTANCE} m")
    return waypoints


COLUMNS = ("start_x_m", "start_y_m", "start_yaw_deg", "goal_x_m", "goal_y_m", "goal_yaw_deg")


def _csv_poses(text: str, path: Path):
    try:
        table = read_table(text)
    except TableError as error:
        raise RouteError(f"{path}, {error}") from error
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise RouteError(f"{path} lacks the columns {', '.join(missing)}: a route file has route, {', '.join(COLUMNS)}")
    for row in table.rows:
        if not row.is_whole:
            raise RouteError(f"{path}, line {row.line}: not a row of numbers (it has not {len(table.columns)} cells)")
    lines = [[row.cells[name] for name in COLUMNS] for row in table.rows]
    marks = set("".join(cell for cells in lines for cell in cells)) & set(",.")
    # Where the comma separates cells, one in a number is a thousands separator.
    if len(marks) > 1 or ("," in marks and table.delimiter == ","):
        raise RouteError(f"{path} has commas in its numbers: write points for decimals, and nothing for thousands")
    named: list[tuple[str, str, list[list[float]]]] = []
    for row, cells in zip(table.rows, lines, strict=True):
        where = f"line {row.line}"
        try:
            values = [float(cell.replace(",", ".")) for cell in cells]
        except ValueError as error:
            raise RouteError(f"{path}, {where}: not a row of numbers ({error})") from error
        if not np.isfinite(values).all():
            raise RouteError(f"{path}, {where}: not a row of finite numbers")
        named.append((row.cells.get("route") or str(len(named)), where, [values[:3], values[3:]]))
    if not named:
        raise RouteError(f"{path} holds no routes")
    return named


def _xml_poses(data: bytes, path: Path, town: str):
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RouteError(f"{path} is not XML: {error}") from error
    named = []
    routes = list(root.iter("route"))
    for number, route in enumerate(routes):
        name = str(route.get("id") or number)
        where = f"route {name}"
        if (_town_of(route) or town) != town:
            continue
        points = _points(route)
        if points is None:
            raise RouteError(f"{path}, {where}: it is of several cars, and a route is driven by one")
        try:
            poses = [[float(point.attrib[key]) for key in ("x", "y")] for point in points]
            headings = [float(point.attrib["yaw"]) if _has_heading(point) else None for point in points]
        except (KeyError, ValueError) as error:
            raise RouteError(f"{path}, {where}: a waypoint needs the numbers x, y, yaw ({error})") from error
        if len(poses) < 2 or not np.isfinite([*np.ravel(poses), *(each or 0.0 for each in headings)]).all():
            raise RouteError(f"{path}, {where}: a route needs two waypoints with finite numbers")
        # A pose without a heading has NaN.
        named.append(
            (name, where, [[*pose, np.nan if yaw is None else yaw] for pose, yaw in zip(poses, headings, strict=True)])
        )
    if not named:
        towns = sorted({str(_town_of(route)) for route in routes})
        raise RouteError(f"{path} holds no routes of {town}, but of {', '.join(towns) or 'no town'}")
    return named


def _town_of(route: ElementTree.Element) -> str | None:
    """The town that a route names, as "map" in the oldest files; None or "" where it names none."""
    return route.get("town") or route.get("map")


def _points(route: ElementTree.Element) -> list[ElementTree.Element] | None:
    """The points of a route, in any layout of the Leaderboard; None for a route of several cars.

    Leaderboard 1 has `waypoint` in the route itself, Roach and Found-RL in its `ego_vehicle`, and Leaderboard 2
    `position`, without a heading, in its `waypoints`.
    """
    if (positions := route.find("waypoints")) is not None:
        return positions.findall("position") + positions.findall("waypoint")
    cars = route.findall("ego_vehicle")
    return None if len(cars) > 1 else list((cars[0] if cars else route).iter("waypoint"))


def _has_heading(point: ElementTree.Element) -> bool:
    return point.tag == "waypoint" or "yaw" in point.attrib
