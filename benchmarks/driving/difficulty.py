"""Compare our fixed routes with those that they stand for.

    mentorgym difficulty

For NoCrash: metres driven, lights passed, turns at junctions. For the Leaderboard: metres, ours along the lanes, the
real ones along the polyline through their points. Each line has the quartiles of all routes of a town. The real ones
are planned on CARLA's maps and read from its route files where `MENTORGYM_MAPS` and `MENTORGYM_ROUTES` name folders
with them, else they are the figures that `task.write_routes` states. Exits with 1 where a quartile is more than 30 %
off, of figures under 1 more than 0.3.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from rich.table import Table

from mentorgym.benchmarks.harness.command import UsageError, show, verb
from mentorgym.benchmarks.harness.tables import text_table
from mentorgym.envs.driving.map.town import TownError, find_map, load_town, packaged_towns
from mentorgym.envs.driving.task import write_routes
from mentorgym.envs.driving.task.routes import find_routes, measure, read_routes
from mentorgym.envs.driving.task.tasks import LEADERBOARD, NOCRASH, STANDS_FOR, packaged_routes

TOLERANCE = 0.3

QUARTILES = (25, 50, 75)

FILES = {"training": "leaderboard1_routes_training.xml", "testing": "leaderboard1_routes_testing.xml"}
"""The public routes, by their names in CARLA's repository."""


@dataclass
class Args:
    """Compare our fixed routes with those that they stand for."""


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
    entries = compare()
    show(table(entries), "quartiles of all routes of a town")
    if off := [entry for entry in entries if not entry["near"]]:
        names = ", ".join(f"{entry['town']} {entry['figure']}" for entry in off)
        raise UsageError(f"more than {TOLERANCE:.0%} off: {names}; choose routes anew with task.write_routes")
    return {"entries": entries}
