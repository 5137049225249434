"""Is one driver better than another? The difference of their scores on the same episodes, with an interval.

    mentorgym compare --rows results/driving/rows/ppo@regular__CarlaNoCrash-v0.jsonl \
        --against results/driving/rows/sac@60k,regular__CarlaNoCrash-v0.jsonl

Prints, for each cell of tasks (in driving a town and its traffic) and for all of them together, the difference of the
means over runs and episodes with its 95 % bootstrap interval, and the probability that a run of the first driver beats
one of the second on an episode, with its interval (`harness.statistics.difference`). "above" and "below" stand where
the interval of the difference excludes 0. Episodes that only one of them drove do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentorgym.benchmarks.families import Row, measure_of
from mentorgym.benchmarks.harness.command import UsageError, show, verb
from mentorgym.benchmarks.harness.rows import merge, read_rows
from mentorgym.benchmarks.harness.statistics import difference
from mentorgym.benchmarks.harness.tables import choose_columns

Episode = tuple[Any, ...]
"""What tells episodes apart, whoever acts: the environment, then the family's EPISODE."""


@dataclass
class Args:
    """Compare two drivers on the episodes that both drove."""

    rows: tuple[Path, ...]
    """files with the rows of the first driver"""
    against: tuple[Path, ...]
    """files with the rows of the second"""
    driver: str = ""
    """name of the first driver, where its files hold several"""
    against_driver: str = ""
    """name of the second driver, where its files hold several"""
    training_seeds: tuple[int, ...] = ()
    """training seeds whose runs are compared, all by default; a driver that was not trained has none, and stays"""
    columns: tuple[str, ...] = ()
    """scores to compare, by name, by default those of tables; `all` compares every one"""


def read_driver(
    paths: Sequence[Path], name: str, flag: str, training_seeds: Sequence[int] = ()
) -> tuple[str, dict[Any, dict[Episode, Row]]]:
    """A driver's name and its rows by run and episode; raises UsageError for no driver, several, or an absent seed."""
    if missing := [path for path in paths if not path.is_file()]:
        raise UsageError(f"no file {missing[0]}: evaluate the driver first")
    rows = merge(row for path in paths for row in read_rows(path))
    if whole := [row["env"] for row in rows if not measure_of(row["env"]).EPISODE]:
        raise UsageError(
            f"{flag}: a row of {whole[0]} is of a whole split, so there are no episodes to compare; the leaderboard "
            "has the intervals"
        )
    drivers = sorted({row["driver"] for row in rows})
    if name:
        rows = [row for row in rows if row["driver"] == name]
    if not rows:
        raise UsageError(f"no rows of {name or 'any driver'} there, only of {', '.join(drivers) or 'nobody'}")
    if not name and len(drivers) > 1:
        raise UsageError(f"rows of {', '.join(drivers)}: choose one with {flag}")
    if training_seeds and rows[0]["training_seed"] is not None:
        if absent := set(training_seeds) - {row["training_seed"] for row in rows}:
            raise UsageError(
                f"{rows[0]['driver']} has no rows of training seed {min(absent)}: train and evaluate it first"
            )
        rows = [row for row in rows if row["training_seed"] in training_seeds]
    runs: dict[Any, dict[Episode, Row]] = {}
    for row in rows:
        runs.setdefault(row["run"], {})[(row["env"], *(row[field] for field in measure_of(row["env"]).EPISODE))] = row
    return rows[0]["driver"], runs


def shared_episodes(*drivers: Mapping[Any, Mapping[Episode, Row]]) -> list[Episode]:
    """The episodes that every run of every driver drove, in order."""
    episodes = set.intersection(*(set(driven) for runs in drivers for driven in runs.values()))
    if not episodes:
        raise UsageError("there is no episode that every run of both drove: evaluate them with the same flags")
    return sorted(episodes)


def table_of(runs: Mapping[Any, Mapping[Episode, Row]], episodes: Sequence[Episode], column: str) -> np.ndarray:
    """The scores `column` of each run on each of `episodes`, float [runs, E]."""
    return np.array([[float(driven[episode]["score"][column]) for episode in episodes] for driven in runs.values()])


def verdict(low: float, high: float) -> str:
    """Where an interval lies from 0."""
    return "above" if low > 0 else "below" if high < 0 else "-"


def compare(
    first: Mapping[Any, Mapping[Episode, Row]],
    second: Mapping[Any, Mapping[Episode, Row]],
    columns: Sequence[str],
    cell_fields: Sequence[str],
) -> list[dict[str, Any]]:
    """The lines of the table: each environment's cells one by one, and, if there are several, together.

    A cell is all episodes with equal `cell_fields`, which an episode begins with after its environment.
    """
    episodes = shared_episodes(first, second)
    width = 1 + len(cell_fields)
    cells: dict[tuple[str, ...], list[Episode]] = {}
    for episode in episodes:
        cells.setdefault(episode[:width], []).append(episode)
    for env in sorted({episode[0] for episode in episodes}):
        if len(parts := [cell for cell in cells if cell[0] == env]) > 1:
            cells[env, *["all"] * len(cell_fields)] = [episode for cell in parts for episode in cells[cell]]
    lines = []
    for (env, *cell), driven in cells.items():
        places = [episode[1:width] for episode in driven]
        strata = [sorted(set(places)).index(place) for place in places]
        for column in columns:
            if any(
                column not in runs[episode]["score"]
                for side in (first, second)
                for runs in side.values()
                for episode in driven
            ):
                continue
            scores = table_of(first, driven, column), table_of(second, driven, column)
            found = difference(*scores, strata)
            lines.append(
                {
                    "env": env,
                    **dict(zip(cell_fields, cell, strict=True)),
                    "score": column,
                    "first": float(scores[0].mean()),
                    "second": float(scores[1].mean()),
                    **{
                        f"difference_{name}" if name in ("mean", "low", "high") else name: value
                        for name, value in found._asdict().items()
                    },
                    "verdict": verdict(found.low, found.high),
                    "runs": [len(first), len(second)],
                    "episodes": len(driven),
                }
            )
    return lines


def in_table(lines: Sequence[Mapping[str, Any]], first: str, second: str, cell_fields: Sequence[str]) -> Table:
    """`lines` for the terminal."""
    table = Table(*cell_fields, "score", box=SIMPLE_HEAD, title=f"{first} against {second}")
    for name in (first, second, "difference", "", "improves with probability", "runs", "episodes"):
        table.add_column(name, justify="right")
    for line in lines:
        low, high, likely = line["difference_low"], line["difference_high"], line["probability"]
        table.add_row(
            *(line[name] for name in cell_fields),
            line["score"].replace("_", " "),
            f"{line['first']:.3f}",
            f"{line['second']:.3f}",
            f"{line['difference_mean']:+.3f} [{low:+.3f}, {high:+.3f}]",
            line["verdict"],
            f"{likely:.2f} [{line['probability_low']:.2f}, {line['probability_high']:.2f}]",
            " and ".join(map(str, line["runs"])),
            str(line["episodes"]),
        )
    return table


@verb("compare")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    first, runs = read_driver(args.rows, args.driver, "--driver", args.training_seeds)
    second, others = read_driver(args.against, args.against_driver, "--against-driver", args.training_seeds)
    rows = [row for episodes in runs.values() for row in episodes.values()]
    measure = measure_of(rows[0]["env"])
    shown = [name for name in measure.SCORES if name in rows[0]["score"]]
    columns = choose_columns(args.columns or shown, (*measure.SCORES, *measure.MORE_SCORES))
    lines = compare(runs, others, columns, measure.CELL)
    if not lines:
        raise UsageError(f"no episode has all of {', '.join(columns)}")
    show(in_table(lines, first, second, measure.CELL))
    return {"first": first, "second": second, "lines": lines}
