"""Tasks: how much traffic, which weather, and which route, drawn in training and fixed in tests."""

import math
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mentorgym.envs.driving.kernel import inner, kernel
from mentorgym.envs.driving.map.tables import TownTables
from mentorgym.envs.driving.map.town import Town, packaged_towns
from mentorgym.envs.driving.random import random_bits, uniform
from mentorgym.envs.driving.task.routes import Route, plan, read_routes
from mentorgym.envs.driving.worlds.state import ROUTE_CAPACITY, TICK
from mentorgym.names import nearest_name

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

DYNAMIC = "dynamic"
"""The weather that changes: "dynamic", or "dynamic_2.5" for one that does so at 2.5 times the speed."""

TRAFFIC = {
    "empty": {"Town01": (0, 0), "Town02": (0, 0)},
    "regular": {"Town01": (20, 50), "Town02": (15, 50)},
    "dense": {"Town01": (100, 250), "Town02": (70, 150)},
    "busy": {
        "Town01": (120, 120),
        "Town02": (70, 70),
        "Town03": (70, 70),
        "Town04": (150, 80),
        "Town05": (120, 120),
        "Town06": (120, 80),
    },
}
"""Vehicles and walkers of NoCrash (Codevilla et al. 2019). "busy" is the Leaderboard's traffic, in which Found-RL's
tables were driven on both benchmarks; Found-RL itself cut Town05's walkers to 40 because its simulator crashed."""

STANDS_FOR = {
    "Suburb": "Town01",
    "Village": "Town02",
    "City": "Town03",
    "Ring": "Town04",
    "Grid": "Town05",
    "Avenue": "Town06",
}
"""The CARLA town whose counts of vehicles and walkers each of our towns uses."""

LANE_KILOMETRES = {"Town03": 16.0, "Town04": 33.7, "Town05": 20.0, "Town06": 25.7}
"""Kilometres of all driving lanes of the towns whose counts are scaled by them to our towns' lanes; those of Town03 and
Town05 are assumed. Suburb and Village are of the size of Town01 and Town02 and take their counts as they are."""

TOWN01_LANE_KILOMETRES = 5.0
"""Towns without counts of their own get Town01's, scaled by lane kilometres outside junctions."""

TrafficRange = tuple[tuple[int, int], tuple[int, int]]
"""The fewest and the most vehicles, and the fewest and the most walkers, of an episode."""


class Benchmark(NamedTuple):
    """What sets one of the published benchmarks apart from the other."""

    routes: str
    """name of its file of fixed routes beside a town of ours, to be filled with the town's"""
    train_towns: tuple[str, ...]
    test_towns: tuple[str, ...]
    train_level: str
    test_level: str
    """of traffic, by default"""
    train_traffic: dict[str, TrafficRange]
    """the level "train": what is drawn for each episode that begins with new traffic"""


NOCRASH = Benchmark("nocrash_{}.csv", ("Suburb",), ("Suburb",), "regular", "regular", {"Town01": ((0, 150), (0, 200))})
"""NoCrash; Found-RL's released settings draw the traffic of "train"."""

LEADERBOARD = Benchmark(
    "leaderboard_{}.xml",
    ("Suburb", "City", "Ring", "Avenue"),
    ("Suburb", "Village", "City", "Ring", "Grid", "Avenue"),
    "train",
    "busy",
    {
        "Town01": ((80, 160), (80, 160)),
        "Town02": ((40, 100), (40, 100)),
        "Town03": ((40, 100), (40, 100)),
        "Town04": ((100, 200), (40, 120)),
        "Town05": ((80, 160), (80, 160)),
        "Town06": ((80, 160), (40, 120)),
    },
)
"""Found-RL's version of CARLA Leaderboard 1.0, without scripted scenarios. The training counts of Town02 and Town05
are those of its data collection; it does not train there."""

KEPT_FREE = 16
"""Spawn points that no vehicle may take because the ego is near: more than lie within 12 m of any place."""

STREAM_ROUTE, STREAM_SPAWN, STREAM_WEATHER, STREAM_SOFT, STREAM_TRAFFIC, STREAM_FOLLOW = range(101, 107)

FIRST_TARGET = 6
"""Metres from the start to an endless route's first target (Found-RL's released settings)."""

ENDLESS_LENGTH = 1000
"""Waypoints, about as many metres, of route that a training episode starts with at least (the same)."""


def traffic_range(
    traffic: str | tuple[int, int], town: Town, egos: int = 1, benchmark: Benchmark = NOCRASH
) -> TrafficRange:
    """What the episodes of a level, or of a pair (vehicles, walkers) as it is, may have, beside `egos` cars.

    A level has no walkers in a town without pavements. Raises ValueError for anything else, or too many.
    """
    if isinstance(traffic, str):
        if traffic not in TRAFFIC and traffic != "train":
            raise ValueError(
                f"unknown traffic {traffic!r}: {nearest_name(traffic, (*TRAFFIC, 'train'))}, or a pair "
                "(vehicles, walkers)"
            )
        if traffic == "train":
            counts = benchmark.train_traffic
        else:
            counts = {name: ((cars, cars), (walkers, walkers)) for name, (cars, walkers) in TRAFFIC[traffic].items()}
        name = STANDS_FOR.get(town.name, town.name)
        scale = 1.0
        if name not in counts:
            name, scale = "Town01", town.lane_kilometres / TOWN01_LANE_KILOMETRES
        elif name != town.name and name in LANE_KILOMETRES:
            scale = float(town.tables.lane_length.sum()) / 1000 / LANE_KILOMETRES[name]
        (fewest, vehicles), (fewest_walkers, walkers) = ((round(n * scale) for n in pair) for pair in counts[name])
        if not town.tables.walkway_first[-1]:
            fewest_walkers = walkers = 0
    else:
        try:
            vehicles, walkers = (operator.index(count) for count in traffic)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"traffic={traffic!r} is neither a level's name nor a pair of whole numbers (vehicles, walkers)"
            ) from error
        fewest, fewest_walkers = vehicles, walkers
    room = int(town.tables.spawn_first[-1]) - KEPT_FREE * egos
    if egos > 1 and room < 0:
        raise ValueError(f"{town.name} has no room for {egos} egos, but for {room // KEPT_FREE + egos} at most")
    if not (0 <= vehicles <= max(room, 0) and walkers >= 0):
        raise ValueError(
            f"{town.name} has room for 0 to {max(room, 0)} vehicles and any number of walkers, not "
            f"{(vehicles, walkers)}"
        )
    if walkers and not town.tables.walkway_first[-1]:
        raise ValueError(
            f"{town.name} has no pavements (lanes of type 'sidewalk') for walkers: pass traffic=({vehicles}, 0), or a "
            f"level, {', '.join((*TRAFFIC, 'train'))}, which has none there"
        )
    return (fewest, vehicles), (fewest_walkers, walkers)


def draw_traffic(traffic: TrafficRange, key: np.uint64) -> tuple[int, int]:
    """Vehicles and walkers of one episode."""
    vehicles, walkers = (
        fewest + int(random_bits(key, STREAM_TRAFFIC, kind, 0) % np.uint64(most - fewest + 1))
        for kind, (fewest, most) in enumerate(traffic)
    )
    return vehicles, walkers


def weather_indices(weather: str) -> np.ndarray:
    """Rows of WEATHERS for a group's or a preset's name. Raises ValueError for an unknown one."""
    if not isinstance(weather, str) or weather not in WEATHER_GROUPS and weather not in WEATHERS:
        valid = (*WEATHER_GROUPS, *WEATHERS, DYNAMIC)
        raise ValueError(f"unknown weather {weather!r}: {nearest_name(weather, valid)}")
    return np.array([WEATHERS.index(name) for name in WEATHER_GROUPS.get(weather, (weather,))], np.uint8)


def weather_speed(weather: str) -> float:
    """How many times faster than CARLA's a dynamic weather changes, 0 for one that does not.

    Raises ValueError for a speed that is no positive number.
    """
    if not isinstance(weather, str) or not (weather == DYNAMIC or weather.startswith(f"{DYNAMIC}_")):
        return 0.0
    try:
        speed = float(weather[len(DYNAMIC) + 1 :] or 1.0) if weather != f"{DYNAMIC}_" else 0.0
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < np.inf:
        raise ValueError(f"unknown weather {weather!r}: give the speed as in 'dynamic_2.5', or 'dynamic' for 1")
    return speed


@kernel
def change_weather(keys, ticks, speed, first, last, weather):
    """Write the label of the weather of worlds `first:last` (uint8 [B]) from the cycle that CARLA's example has.

    The sun's phase grows by 0.008 per second, its altitude is 70 sin(phase) - 20 degrees; a storm goes up and down
    between -250 and 100 by 1.3 per second; both begin somewhere, drawn by the episode's key. The label is the nearest
    preset: noon above 30 degrees, midway between the presets' 45 and 15, else sunset, at night too; rain above 0 (soft,
    mid, hard by thirds), clouds above -40, wet roads after rain until -90.
    """
    for b in range(first, last):
        seconds = ticks[b] * TICK * speed
        phase = 2.0 * math.pi * uniform(keys[b], STREAM_WEATHER, 1, 0) + 0.008 * seconds
        along = (700.0 * uniform(keys[b], STREAM_WEATHER, 2, 0) + 1.3 * seconds) % 700.0
        rising = along < 350.0
        storm = along - 250.0 if rising else 450.0 - along
        if storm > 0.0:
            label = 4 + min(int(storm / (100.0 / 3.0)), 2)
        elif storm > -40.0:
            label = 1 if rising else 3
        else:
            label = 2 if not rising and storm > -90.0 else 0
        weather[b] = label if 70.0 * math.sin(phase) - 20.0 > 30.0 else label + 7


def packaged_routes(town: Town, path: Path, benchmark: Benchmark = NOCRASH) -> list[Route] | None:
    """A benchmark's fixed routes of a town read from `path` if it is one of ours that has some, else None."""
    ours = packaged_towns().get(town.name)
    if ours is None or not ours.samefile(path):
        return None
    file = ours.with_name(benchmark.routes.format(town.name))
    return read_routes(town, file) if file.is_file() else None


def lane_pairs(routes: Iterable[Route], tables: TownTables) -> np.ndarray:
    """The (start lane, goal lane) pairs of `routes`, int32 [n, 2]: training draws none of them."""
    lanes = tables.waypoint_lane
    pairs = [[lanes[route.waypoints[0]], lanes[route.waypoints[-1]]] for route in routes if not route.problem]
    return np.unique(np.array(pairs, np.int32).reshape(-1, 2), axis=0)


@kernel
def draw_spawn(tables, town, key, attempt):
    """The waypoint of a random spawn point."""
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    k = first + np.int32(random_bits(key, STREAM_SPAWN, 0, attempt) % np.uint64(points))
    lane = tables.spawn_lane[k]
    return tables.lane_first[lane] + np.int32(tables.spawn_s[k] / tables.lane_step[lane])


def spawn_waypoints(tables: TownTables, town: int) -> np.ndarray:
    """The waypoints of all of a town's spawn points."""
    points = slice(tables.spawn_first[town], tables.spawn_first[town + 1])
    lane = tables.spawn_lane[points]
    return tables.lane_first[lane] + (tables.spawn_s[points] / tables.lane_step[lane]).astype(np.int32)


@inner
def _is_allowed(test_pairs, start_lane, last_lane, lane):
    """Whether no test route leads to `lane` from the lane of a route's start or from its last one."""
    for pair in test_pairs:
        if (pair[0] == start_lane or pair[0] == last_lane) and pair[1] == lane:
            return False
    return True


@inner
def _follow_lanes(tables, key, moment, start_lane, last, test_pairs, out):
    """Write the way from waypoint `last`, itself left out, along its lane and those that follow, drawn where several
    do, for ENDLESS_LENGTH waypoints or to a dead end; returns its length up to the last lane that may be a goal."""
    lane = tables.waypoint_lane[last]
    last_lane = lane
    at = last + 1
    length = allowed_length = 0
    lanes = 0
    while length < min(ENDLESS_LENGTH, out.shape[0]):
        if at < tables.lane_first[lane + 1] - 1:
            out[length] = at
            length += 1
            at += 1
            if _is_allowed(test_pairs, start_lane, last_lane, lane):
                allowed_length = length
            continue
        ways = tables.successor_first[lane + 1] - tables.successor_first[lane]
        if ways == 0:
            break
        lanes += 1
        lot = random_bits(key, STREAM_FOLLOW, lanes, moment) % np.uint64(ways)
        lane = tables.successor[tables.successor_first[lane] + np.int32(lot)]
        at = tables.lane_first[lane]
    return allowed_length


@kernel
def extend_endless(tables, town, key, moment, start, last, test_pairs, out):
    """Write a way from waypoint `last`, itself left out, to a random spawn point on another road; returns its length.

    `moment` tells draws of one episode apart. A goal is drawn again where a test route leads to its lane from the lane
    of `last`, or from that of the whole route's `start`. Where no way to another road is found, the way goes wherever
    the lanes lead; 0 at a dead end.
    """
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    start_lane, last_lane = tables.waypoint_lane[start], tables.waypoint_lane[last]
    for attempt in range(64):
        k = first + np.int32(random_bits(key, STREAM_ROUTE, attempt, moment) % np.uint64(points))
        lane = tables.spawn_lane[k]
        if tables.lane_road[lane] == tables.lane_road[last_lane]:
            continue
        if not _is_allowed(test_pairs, start_lane, last_lane, lane):
            continue
        goal = tables.lane_first[lane] + np.int32(tables.spawn_s[k] / tables.lane_step[lane])
        length, _ = plan(tables, np.int64(last), goal, out, np.int64(0), np.bool_(False))
        if length > 1:
            for p in range(length - 1):
                out[p] = out[p + 1]
            return length - 1
    return _follow_lanes(tables, key, moment, start_lane, last, test_pairs, out)


@kernel
def begin_endless(tables, town, key, start, test_pairs, out):
    """Write an endless route of at least ENDLESS_LENGTH waypoints from waypoint `start`, fewer where a dead end comes
    before; returns its length."""
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
