"""Suites: tables that name every episode of a benchmark, so that everybody drives the same ones.

A suite is a CSV file with one episode a line: `env`, the environment's id; `town` and `route`, the number of one of its
fixed routes; `traffic`, a level; `weather`, a preset; `seed`, a whole number that tells apart drives of one route in
different traffic. The environment is seeded with 1000 * seed + route.
"""

import functools
import os
from pathlib import Path
from typing import NamedTuple

from mentorgym.envs.driving.map.opendrive import OpenDriveError
from mentorgym.envs.driving.map.town import TownError, find_map, load_town
from mentorgym.envs.driving.task.routes import Route, RouteError, find_routes, read_routes
from mentorgym.envs.driving.task.tasks import LEADERBOARD, NOCRASH, TRAFFIC, WEATHERS, packaged_routes
from mentorgym.files import TableError, read_table, read_text
from mentorgym.names import nearest_name

BENCHMARKS = {"CarlaNoCrash-v0": NOCRASH, "CarlaLeaderboard-BEV-v0": LEADERBOARD}
"""The environments that suites may name, and where their towns' routes come from."""

COLUMNS = ("env", "town", "route", "traffic", "weather", "seed")

MOST_DIGITS = 12


class Episode(NamedTuple):
    """One line of a suite."""

    env: str
    town: str
    route: int
    traffic: str
    weather: str
    seed: int


class SuiteError(ValueError):
    """A suite that is not there, or a line of one that names no episode."""


def packaged_suites() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.csv"))}


def find_suite(suite: str | os.PathLike) -> Path:
    """A suite by the name of one of ours or by its file's path. Raises SuiteError when there is none."""
    if str(suite) in packaged_suites():
        return packaged_suites()[str(suite)]
    if not os.path.isfile(suite):
        raise SuiteError(f"unknown suite {str(suite)!r}: {nearest_name(suite, packaged_suites())}, or a file's path")
    return Path(suite)


@functools.cache
def _routes(env: str, town: str, route_file: str | None) -> list[Route]:
    """The fixed routes of a town."""
    path = find_map(town)
    loaded = load_town(town)
    routes = (
        read_routes(loaded, find_routes(route_file)) if route_file else packaged_routes(loaded, path, BENCHMARKS[env])
    )
    if not routes:
        raise SuiteError(f"{town} has no routes of its own for this environment: name a route file beside the suite")
    return routes


def _episode(row: dict[str, str], route_file: str | None) -> Episode:
    if row["env"] not in BENCHMARKS:
        raise SuiteError(f"unknown env {row['env']!r}: {nearest_name(row['env'], BENCHMARKS)}")
    if row["traffic"] not in TRAFFIC:
        raise SuiteError(f"unknown traffic {row['traffic']!r}: {nearest_name(row['traffic'], TRAFFIC)}")
    if row["weather"] not in WEATHERS:
        raise SuiteError(f"unknown weather {row['weather']!r}: {nearest_name(row['weather'], WEATHERS)}")
    for name in ("route", "seed"):
        if not (row[name].isascii() and row[name].isdigit() and len(row[name]) <= MOST_DIGITS):
            raise SuiteError(f"{name}={row[name]!r} is not a whole number from 0 on, of at most {MOST_DIGITS} digits")
    routes = _routes(row["env"], row["town"], route_file)
    if int(row["route"]) >= len(routes):
        raise SuiteError(f"route {row['route']}: {row['town']} has routes 0 to {len(routes) - 1}")
    if problem := routes[int(row["route"])].problem:
        raise SuiteError(f"route {row['route']} cannot be driven: {problem}")
    return Episode(row["env"], row["town"], int(row["route"]), row["traffic"], row["weather"], int(row["seed"]))


def read_suite(path: Path, route_file: str | None = None) -> list[Episode]:
    """The episodes of a suite in their order; `route_file` has the routes of towns in place of their own.

    Columns that a suite does not need are passed over.

    Raises SuiteError that names file and line: unreadable, other columns, an unknown environment, town, traffic level
    or weather, a route that the town does not have or that is off its map, an episode that stands there twice.
    """
    try:
        table = read_table(read_text(path))
    except TableError as error:
        raise SuiteError(f"{path}, {error}") from error
    except (OSError, ValueError) as error:
        raise SuiteError(f"the suite {path} cannot be read: {error}") from error
    if not set(COLUMNS) <= set(table.columns):
        raise SuiteError(f"{path}, line 1: a suite has the columns {','.join(COLUMNS)}")
    lines: dict[Episode, int] = {}
    for line, row, is_whole in table.rows:
        where = f"{path}, line {line}"
        if not is_whole:
            raise SuiteError(f"{where}: a line has {len(table.columns)} fields: {', '.join(table.columns)}")
        try:
            episode = _episode(row, route_file)
        except (SuiteError, TownError, RouteError, OpenDriveError) as error:
            raise SuiteError(f"{where}: {error}") from error
        if episode in lines:
            raise SuiteError(f"{where}: the episode of line {lines[episode]} again; give it another seed, or delete it")
        lines[episode] = line
    if not lines:
        raise SuiteError(f"{path} names no episodes")
    return list(lines)
