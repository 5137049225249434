"""Compare our fixed routes with those that they stand for.

    mentorgym difficulty

For NoCrash: metres driven, lights passed, turns at junctions. For the Leaderboard: metres, ours along the lanes, the
real ones along the polyline through their points. Each line has the quartiles of all routes of a town. The real ones
are planned on CARLA's maps and read from its route files where `MENTORGYM_MAPS` and `MENTORGYM_ROUTES` name folders
with them, else they are the figures that `task.write_routes` states. Exits with 1 where a quartile is more than 30 %
off, of figures under 1 more than 0.3.

    mentorgym difficulty --route-file leaderboard1_routes_training.xml --town Town03 Town04

lists instead the routes of a file as they are planned in these towns: the metres of the line through a route's points,
the metres along its lanes, and the legs that are longer than 1.5 times their line and 20 m.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from rich.table import Table

from mentorgym.benchmarks.harness.command import UsageError, show, user_input, verb
from mentorgym.benchmarks.harness.tables import text_table
from mentorgym.envs.driving.map.town import TownError, find_map, load_town, packaged_towns
from mentorgym.envs.driving.task import write_routes
from mentorgym.envs.driving.task.routes import find_routes, measure, read_routes
from mentorgym.envs.driving.task.tasks import LEADERBOARD, NOCRASH, STANDS_FOR, packaged_routes

TOLERANCE = 0.3

QUARTILES = (25, 50, 75)

FILES = {"training": "leaderboard1_routes_training.xml", "testing": "leaderboard1_routes_testing.xml"}
"""The public routes, by their names in CARLA's repository."""


LEG_FACTOR, LEG_METRES = 1.5, 20.0
"""A leg is long when it has more than so many times the metres of its line, and so many metres more."""


@dataclass
class Args:
    """Compare our fixed routes with those that they stand for, or list those of a file."""

    route_file: str | None = None
    """file whose routes are listed instead, by path or by name in MENTORGYM_ROUTES"""
    town: tuple[str, ...] = ()
    """towns that these routes are in: ours, names in MENTORGYM_MAPS, or paths to .xodr"""


def quartiles(values: Sequence[float] | np.ndarray) -> list[float]:
    """The quartiles of some figures."""
    return [round(float(value), 1) for value in np.percentile(np.asarray(values, float), QUARTILES)]


def _real_nocrash(town: str) -> tuple[str, list[list[float]]]:
    """Where they come from, and the quartiles of metres, lights and turns."""
    other = STANDS_FOR[town]
    if "MENTORGYM_ROUTES" in os.environ:
        try:
            find_map(other)
            routes = read_routes(load_town(other), find_routes(f"nocrash_{other.lower()}.csv"))
        except (TownError, ValueError):
            routes = []
        if routes:
            figures = np.array([measure(load_town(other), route.waypoints)[:3] for route in routes], float)
            return f"{other}, planned on its map", [quartiles(column) for column in figures.T]
    return f"{other}, as stated", [list(map(float, figures[1:4])) for figures in write_routes.NOCRASH[town]]


def _real_lengths(town: str) -> Iterator[tuple[str, list[float]]]:
    """The Leaderboard's sets of routes in the town that ours stands for: where they come from, quartiles of metres."""
    other = STANDS_FOR[town]
    # The least, the quartiles and the most.
    stated = [list(map(float, lengths[1:4])) for _, lengths in write_routes.LEADERBOARD[town]]
    measured = []
    for split, file in FILES.items():
        try:
            root = ElementTree.fromstring(find_routes(file).read_bytes())
        except (ValueError, ElementTree.ParseError):
            break
        lengths = []
        for route in root.iter("route"):
            points = [[float(point.attrib[axis]) for axis in "xyz"] for point in route.iter("waypoint")]
            if route.get("town") == other:
                lengths.append(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
        if lengths:
            measured.append((f"{other}, {split} file", quartiles(lengths)))
    if len(measured) == len(stated):
        yield from measured
    else:
        yield from ((f"{other}, as stated", lengths) for lengths in stated)


def compare() -> list[dict[str, Any]]:
    """One entry for each town and figure, with the quartiles `own` and `real`, the `source` of these, and `near`."""
    entries = []

    def add(benchmark: str, town: str, figure: str, own: list[float], real: list[float], source: str) -> None:
        values = {"benchmark": benchmark, "town": town, "figure": figure, "own": own, "real": real, "source": source}
        near = all(abs(a - b) <= TOLERANCE * max(b, 1.0) for a, b in zip(own, real, strict=True))
        entries.append(values | {"near": near})

    towns = packaged_towns()
    for town in write_routes.NOCRASH:
        loaded = load_town(town)
        routes = packaged_routes(loaded, towns[town], NOCRASH) or []
        figures = np.array([measure(loaded, route.waypoints)[:3] for route in routes], float)
        source, real = _real_nocrash(town)
        for figure, column, wanted in zip(("metres", "lights", "turns"), figures.T, real, strict=True):
            add("NoCrash", town, figure, quartiles(column), wanted, source)
    for town in write_routes.LEADERBOARD:
        loaded = load_town(town)
        routes = packaged_routes(loaded, towns[town], LEADERBOARD) or []
        first = 0
        for (count, _), (source, lengths) in zip(write_routes.LEADERBOARD[town], _real_lengths(town), strict=True):
            metres = [measure(loaded, route.waypoints).metres for route in routes[first : first + count]]
            add("Leaderboard", town, "metres", quartiles(metres), lengths, source)
            first += count
    return entries


def route_lengths(town: str, route_file: str) -> list[dict[str, Any]]:
    """One entry for each route of a file in a town: `points`, metres of the `line` through them, `metres` along lanes,
    and `long_legs` as [number, metres of its line, metres]; or the `problem` of one that cannot be driven."""
    loaded = load_town(town)
    entries: list[dict[str, Any]] = []
    for route in read_routes(loaded, find_routes(route_file)):
        entry: dict[str, Any] = {"town": loaded.name, "route": route.name, "points": len(route.stops)}
        if route.problem:
            entries.append(entry | {"problem": route.problem})
            continue
        place = loaded.tables.waypoint_pose[route.waypoints, :2].astype(float)
        along = np.append(0.0, np.cumsum(np.hypot(*np.diff(place, axis=0).T)))
        lines = np.hypot(*np.diff(place[route.stops], axis=0).T)
        legs = np.diff(along[route.stops])
        long = np.flatnonzero(legs > LEG_FACTOR * lines + LEG_METRES)
        long_legs = [[int(k), round(float(lines[k]), 1), round(float(legs[k]), 1)] for k in long]
        entries.append(entry | {"line": float(lines.sum()), "metres": float(along[-1]), "long_legs": long_legs})
    return entries


def table_of_routes(entries: Sequence[dict[str, Any]]) -> Table:
    """The entries of `route_lengths` for the terminal."""
    rows = []
    for entry in entries:
        words = [entry["town"], entry["route"], str(entry["points"])]
        if "problem" in entry:
            rows.append([*words, "", "", "", entry["problem"]])
            continue
        legs = ", ".join(f"{k}: {line:.0f} to {metres:.0f} m" for k, line, metres in entry["long_legs"])
        figures = (f"{entry['line']:.0f}", f"{entry['metres']:.0f}", f"{entry['metres'] / entry['line']:.2f}")
        rows.append([*words, *figures, legs])
    return text_table(["town", "route", "points", "line", "metres", "ratio", "long legs"], rows)


def table(entries: Sequence[dict[str, Any]]) -> Table:
    """`entries` for the terminal."""
    rows = []
    for entry in entries:
        numbers = (" / ".join(f"{value:g}" for value in entry[name]) for name in ("own", "real"))
        words = [str(entry[name]) for name in ("benchmark", "town", "figure")]
        rows.append([*words, *numbers, entry["source"], "" if entry["near"] else "off"])
    return text_table(["benchmark", "town", "figure", "ours", "real", "from", ""], rows)


@verb("difficulty")
def main(args: Args) -> dict[str, Any]:
    """Compare the routes; raises UsageError where a quartile is too far off."""
    if args.route_file is not None or args.town:
        if args.route_file is None or not args.town:
            raise UsageError("--route-file and --town go together: a file, and the towns that its routes are in")
        with user_input():
            entries = [entry for town in args.town for entry in route_lengths(town, args.route_file)]
        show(table_of_routes(entries))
        return {"routes": entries}
    entries = compare()
    show(table(entries), "quartiles of all routes of a town")
    if off := [entry for entry in entries if not entry["near"]]:
        names = ", ".join(f"{entry['town']} {entry['figure']}" for entry in off)
        raise UsageError(f"more than {TOLERANCE:.0%} off: {names}; choose routes anew with task.write_routes")
    return {"entries": entries}
