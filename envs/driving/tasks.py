"""Tasks: how much traffic, which weather, and which route, drawn in training and fixed in tests."""

import difflib
import operator
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mentorgym.envs.driving.kernel import draw, kernel
from mentorgym.envs.driving.routes import Route, plan, read_routes
from mentorgym.envs.driving.state import ROUTE_CAPACITY
from mentorgym.envs.driving.town import Town, packaged_towns

WEATHERS = (
    "ClearNoon",
    "CloudyNoon",
    "WetNoon",
    "WetCloudyNoon",
    "SoftRainNoon",
    "MidRainyNoon",
    "HardRainNoon",
    "ClearSunset",
    "CloudySunset",
    "WetSunset",
    "WetCloudySunset",
    "SoftRainSunset",
    "MidRainSunset",
    "HardRainSunset",
)
"""CARLA's 14 presets. In the embedded world the weather is a label."""

WEATHER_GROUPS = {
    "train": ("ClearNoon", "WetNoon", "HardRainNoon", "ClearSunset"),
    "train_eval": ("WetNoon", "ClearSunset"),
    "new": ("SoftRainSunset", "WetSunset"),
    "all": WEATHERS,
}
"""Found-RL's and NoCrash's groups."""

TRAFFIC = {
    "empty": {"Town01": (0, 0), "Town02": (0, 0)},
    "regular": {"Town01": (20, 50), "Town02": (15, 50)},
    "dense": {"Town01": (100, 250), "Town02": (70, 150)},
    "busy": {"Town01": (120, 120), "Town02": (70, 70)},
}
"""Vehicles and walkers of NoCrash (Codevilla et al. 2019); "busy" is the level behind Found-RL's published tables."""

STANDS_FOR = {"Suburb": "Town01", "Village": "Town02"}
"""Whose traffic counts our towns take."""

TOWN01_LANE_KILOMETRES = 5.0
"""Towns without counts of their own get Town01's, scaled by lane kilometres."""

KEPT_FREE = 16
"""Spawn points that no vehicle may take because the ego is near: more than lie within 12 m of any place."""

STREAM_ROUTE, STREAM_SPAWN, STREAM_WEATHER, STREAM_SOFT = 101, 102, 103, 104

FIRST_TARGET = 6
"""Metres from the start to an endless route's first target (Found-RL's released settings)."""

ENDLESS_LENGTH = 1000
"""Waypoints, about as many metres, of route that a training episode starts with at least (the same)."""


def nearest_name(name: object, valid: Iterable[str]) -> str:
    """A hint for an error message: the nearest valid name, and all of them."""
    valid = list(valid)
    close = difflib.get_close_matches(str(name), [each for each in valid if isinstance(each, str)], n=1, cutoff=0.4)
    return (f"did you mean {close[0]!r}? " if close else "") + f"Valid are {', '.join(map(repr, valid))}"


def traffic_counts(traffic: str | tuple[int, int], town: Town) -> tuple[int, int]:
    """Vehicles and walkers of a level's name, or of a pair as it is. Raises ValueError for anything else or too
    many."""
    if isinstance(traffic, str):
        if traffic not in TRAFFIC:
            raise ValueError(
                f"unknown traffic {traffic!r}: {nearest_name(traffic, TRAFFIC)}, or a pair (vehicles, walkers)"
            )
        counts = TRAFFIC[traffic]
        name = STANDS_FOR.get(town.name, town.name)
        scale = town.lane_kilometres / TOWN01_LANE_KILOMETRES
        vehicles, walkers = counts.get(name) or (round(count * scale) for count in counts["Town01"])
    else:
        try:
            vehicles, walkers = (operator.index(count) for count in traffic)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"traffic={traffic!r} is neither a level's name nor a pair of whole numbers (vehicles, walkers)"
            ) from error
    room = max(int(town.tables.spawn_first[-1]) - KEPT_FREE, 0)
    if not (0 <= vehicles <= room and walkers >= 0):
        raise ValueError(
            f"{town.name} has room for 0 to {room} vehicles and any number of walkers, not {(vehicles, walkers)}"
        )
    if walkers and not town.tables.walkway_first[-1]:
        raise ValueError(
            f"{town.name} has no pavements (lanes of type 'sidewalk') for walkers: pass traffic=({vehicles}, 0)"
        )
    return vehicles, walkers


def weather_indices(weather: str) -> np.ndarray:
    """Rows of WEATHERS for a group's or a preset's name. Raises ValueError for an unknown one."""
    if not isinstance(weather, str) or weather not in WEATHER_GROUPS and weather not in WEATHERS:
        raise ValueError(f"unknown weather {weather!r}: {nearest_name(weather, (*WEATHER_GROUPS, *WEATHERS))}")
    return np.array([WEATHERS.index(name) for name in WEATHER_GROUPS.get(weather, (weather,))], np.uint8)


def packaged_routes(town: Town, path: Path) -> list[Route] | None:
    """The 25 fixed NoCrash routes of a town read from `path` if it is one of ours, else None."""
    if packaged_towns().get(town.name) != path:
        return None
    return read_routes(town, path.with_name(f"nocrash_{town.name}.csv"))


def lane_pairs(routes: list[Route] | None, town: Town) -> np.ndarray:
    """The (start lane, goal lane) pairs of `routes`, int32 [n, 2]: training draws none of them."""
    lanes = town.tables.waypoint_lane
    pairs = [[lanes[route.waypoints[0]], lanes[route.waypoints[-1]]] for route in routes or ()]
    return np.array(pairs, np.int32).reshape(-1, 2)


@kernel
def draw_spawn(tables, town, key, attempt):
    """The waypoint of a random spawn point."""
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    k = first + np.int32(draw(key, STREAM_SPAWN, 0, attempt) % np.uint64(points))
    lane = tables.spawn_lane[k]
    return tables.lane_first[lane] + np.int32(tables.spawn_s[k] / tables.lane_step[lane])


@kernel
def extend_endless(tables, town, key, moment, start, last, test_pairs, out):
    """Write a way from waypoint `last`, itself left out, to a random spawn point on another road; returns its length.

    `moment` tells draws of one episode apart. A goal is drawn again where a test route leads to its lane from the lane
    of `last`, or from that of the whole route's `start`.
    """
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    start_lane, last_lane = tables.waypoint_lane[start], tables.waypoint_lane[last]
    for attempt in range(64):
        k = first + np.int32(draw(key, STREAM_ROUTE, attempt, moment) % np.uint64(points))
        lane = tables.spawn_lane[k]
        allowed = tables.lane_road[lane] != tables.lane_road[last_lane]
        for pair in test_pairs:
            allowed &= not ((pair[0] == start_lane or pair[0] == last_lane) and pair[1] == lane)
        if not allowed:
            continue
        goal = tables.lane_first[lane] + np.int32(tables.spawn_s[k] / tables.lane_step[lane])
        length = plan(tables, np.int64(last), goal, out, 0)
        if length > 1:
            for p in range(length - 1):
                out[p] = out[p + 1]
            return length - 1
    return 0


@kernel
def begin_endless(tables, town, key, start, test_pairs, out):
    """Write an endless route of at least ENDLESS_LENGTH waypoints from waypoint `start`; returns its length."""
    lane = tables.waypoint_lane[start]
    length = 0
    for p in range(start, min(start + FIRST_TARGET + 1, tables.lane_first[lane + 1] - 1)):
        out[length] = p
        length += 1
    leg = np.empty(ROUTE_CAPACITY, np.int32)
    legs = 0
    while length < ENDLESS_LENGTH:
        legs += 1
        more = extend_endless(tables, town, key, legs, start, out[length - 1], test_pairs, leg)
        if more == 0 or length + more > out.shape[0]:
            break
        for k in range(more):
            out[length + k] = leg[k]
        length += more
    return length
