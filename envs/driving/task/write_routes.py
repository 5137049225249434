"""Writes the fixed routes of our towns: `mentorgym write-routes [--check]`.

`nocrash_<town>.csv` holds the start and goal poses of 25 routes, `leaderboard_<town>.xml` routes with via points in the
CARLA leaderboard's format; both are in CARLA's frame. They are as hard as the routes that they stand for as far as
figures tell: NoCrash's in length, lights and turns, the Leaderboard's in length. `benchmarks.difficulty` compares them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import numpy as np

from mentorgym.envs.driving.frames import to_carla
from mentorgym.envs.driving.map.town import Town, load_town, packaged_towns
from mentorgym.envs.driving.task.routes import Measures, RouteError, measure, plan_route

ROUTES = 25
"""Routes of a NoCrash town."""

NOCRASH = {
    "Suburb": ((259, 508, 686, 811, 1199), (2, 3, 4, 6, 9), (0, 0, 3, 4, 6)),
    "Village": ((173, 243, 342, 435, 688), (2, 3, 4, 4, 6), (0, 2, 3, 4, 6)),
}
"""Metres, lights and turns of the 25 NoCrash routes in Town01 and Town02, planned on those maps: the least, the
quartiles and the most."""

LEADERBOARD = {
    "Suburb": ((10, (533, 589, 734, 926, 1130)),),
    "Village": ((6, (821, 833, 922, 974, 1010)),),
    "City": ((20, (683, 1186, 1376, 1691, 2303)),),
    "Ring": ((10, (1863, 2078, 2304, 2388, 2628)), (10, (1862, 2042, 2121, 2333, 2629))),
    "Grid": ((10, (531, 998, 1159, 1484, 2101)),),
    "Avenue": ((10, (1129, 1503, 1810, 2298, 2842)),),
}
"""For each of our towns the numbers of routes, and the least, the quartiles and the most of their metres, of the CARLA
Leaderboard 1.0 routes in Town01 to Town06: the length of the polyline through their points. Town04, for which Ring
stands, has ten routes to train on and then ten to test on."""

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)

CANDIDATES, TRIALS = 2000, 6000
"""Random routes of which the NoCrash routes are chosen, and exchanges that are tried."""

TOLERANCE = 0.05
"""Share by which a Leaderboard route's length may miss its quantile."""

LEG = 450.0
"""Metres of a Leaderboard route for each of its legs, about."""

SEED = 1


def _spawn_waypoints(town: Town) -> np.ndarray:
    tables = town.tables
    along = (tables.spawn_s / tables.lane_step[tables.spawn_lane]).astype(int)
    return tables.lane_first[tables.spawn_lane] + along


def _shares(count: int) -> np.ndarray:
    """The shares of a distribution at which `count` ranks stand for it."""
    return (np.arange(count) + 0.5) / count


def _candidates(town: Town, rng: np.random.Generator) -> Iterator[tuple[tuple[int, int], Measures]]:
    """Random routes from spawn point to spawn point, each between another pair of lanes than those before."""
    tables, spawns = town.tables, _spawn_waypoints(town)
    taken = set()
    for start, goal in rng.choice(spawns, (CANDIDATES, 2)).tolist():
        lanes = (tables.waypoint_lane[start], tables.waypoint_lane[goal])
        if lanes[0] == lanes[1] or lanes in taken:
            continue
        try:
            route = plan_route(town, [start, goal])
        except RouteError:
            continue
        taken.add(lanes)
        yield (start, goal), measure(town, route)


def nocrash_csv(name: str) -> str:
    """The NoCrash route file of one of our towns."""
    town = load_town(name)
    rng = np.random.default_rng(SEED)
    pairs, measures = zip(*_candidates(town, rng), strict=True)
    figures = np.array(measures, float)[:, :3]
    wanted = np.column_stack([np.interp(_shares(ROUTES), QUARTERS, quantiles) for quantiles in NOCRASH[name]])

    def misfit(chosen: np.ndarray) -> float:
        """How far apart the distributions are: the sum over all ranks, relative to each figure's mean."""
        return float((np.abs(np.sort(figures[chosen], axis=0) - wanted) / wanted.mean(0)).sum())

    # Exchange one route for another at random, and keep what brings the distributions nearer.
    chosen = rng.choice(len(pairs), ROUTES, replace=False)
    best = misfit(chosen)
    for _ in range(TRIALS):
        trial = chosen.copy()
        trial[rng.integers(ROUTES)] = rng.integers(len(pairs))
        if len(set(trial)) == ROUTES and (now := misfit(trial)) < best:
            chosen, best = trial, now
    lines = ["route,start_x_m,start_y_m,start_yaw_deg,goal_x_m,goal_y_m,goal_yaw_deg"]
    for number, k in enumerate(chosen):
        poses = [value for end in pairs[k] for value in _pose(town, end)]
        lines.append(f"{number}," + ",".join(f"{value:.3f}" for value in poses))
    return "\n".join(lines) + "\n"


def _pose(town: Town, waypoint: int) -> tuple[np.ndarray, ...]:
    x, y, _, yaw = town.tables.waypoint_pose[waypoint].astype(np.float64)
    return to_carla(x + town.origin[0], y + town.origin[1], yaw)


def leaderboard_xml(name: str) -> str:
    """The Leaderboard route file of one of our towns. No route passes a place twice."""
    town = load_town(name)
    spawns = _spawn_waypoints(town)
    rng = np.random.default_rng(SEED)
    root = ElementTree.Element("routes")
    pairs = set()
    for count, quantiles in LEADERBOARD[name]:
        for metres in rng.permutation(np.interp(_shares(count), QUARTERS, quantiles)):
            while True:
                stops = rng.choice(spawns, 1 + max(round(metres / LEG), 1), replace=False).tolist()
                ends = (town.tables.waypoint_lane[stops[0]], town.tables.waypoint_lane[stops[-1]])
                try:
                    route = plan_route(town, stops)
                except RouteError:
                    continue
                if len(set(route.tolist())) < len(route) or ends in pairs:
                    continue
                if abs(measure(town, route).metres - metres) <= TOLERANCE * metres:
                    break
            pairs.add(ends)
            element = ElementTree.SubElement(root, "route", id=str(len(root)), town=name)
            for stop in stops:
                x, y, yaw = _pose(town, stop)
                z = float(town.tables.waypoint_pose[stop, 2])
                place = {"x": x, "y": y, "z": z, "pitch": 0.0, "roll": 0.0, "yaw": yaw}
                ElementTree.SubElement(element, "waypoint", {key: f"{value:.3f}" for key, value in place.items()})
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode") + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the files beside the towns; with --check, say which would change and return 1 if any."""
    parser = argparse.ArgumentParser(prog="mentorgym write-routes", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    check = parser.parse_args(arguments).check
    writers: dict[str, Callable[[str], str]] = {}
    towns = packaged_towns()
    for name in towns:
        if name in NOCRASH:
            writers[f"nocrash_{name}.csv"] = nocrash_csv
        writers[f"leaderboard_{name}.xml"] = leaderboard_xml
    stale = []
    for file, write in writers.items():
        town = file.partition(".")[0].partition("_")[2]
        path = towns[town].with_name(file)
        text = write(town)
        if not path.is_file() or path.read_text("utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, "utf-8")
    if stale:
        print(("would change: " if check else "written: ") + ", ".join(stale))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
