"""Tables of the commands: for the terminal, as Markdown, and what entries of several training seeds add up to."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentorgym.benchmarks.families import Entry, Row
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.names import nearest_name

LEFT = ("town", "traffic", "driver", "method")
"""Columns of text."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars inside the cells are escaped."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def terminal_table(
    entries: Sequence[Entry],
    in_words: Callable[[Entry], Mapping[str, str]],
    group: Callable[[Entry], Any],
    title: str = "",
) -> Table:
    """`entries` for the terminal, in the words of `in_words`, with a line wherever `group` changes."""
    table = Table(title=title or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for words in in_words(entries[0]):
        table.add_column(words.replace(" ", "\n"), justify="left" if words in LEFT else "right")
    for last, entry in zip([entries[0], *entries], entries, strict=False):
        if group(last) != group(entry):
            table.add_section()
        table.add_row(*in_words(entry).values())
    return table


def choose_columns(columns: Sequence[str], known: Sequence[str]) -> list[str]:
    """`columns` without repetitions, all that are `known` for "all"; raises UsageError for an unknown one."""
    if wrong := [name for name in columns if name not in ("all", *known)]:
        raise UsageError(f"no score {wrong[0]!r}: {nearest_name(wrong[0], ['all', *known])}")
    return list(known) if "all" in columns else list(dict.fromkeys(columns))


def provenance(rows: Sequence[Row]) -> Entry:
    """What the entry of `rows`, one driver's, says of their making."""
    dates = sorted({row["time"][:10] for row in rows})
    commits = {f"{row['commit'][:9]}{'+' if row['dirty'] else ''}" for row in rows if row["commit"]}
    trained = rows[0]["training_seed"] is not None
    flags = {command_flags(row["training_flags"]) for row in rows if row["training_flags"]}
    return {
        "backend": " ".join(sorted({row["backend"] for row in rows})),
        "training_seeds": len({row["training_seed"] for row in rows}) if trained else 0,
        "training_steps": " ".join(map(str, sorted({row["training_steps"] for row in rows if trained}))),
        "training_flags": " or ".join(sorted(flags)),
        "commit": " ".join(sorted(commits)),
        "date": dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}",
        "command": "; ".join(sorted({row["command"] for row in rows})),
    }


PROVENANCE = ("training_seeds", "training_steps", "training_flags", "commit", "date", "command")
"""Columns of `provenance` at the end of every CSV file; `backend` stands further in front."""


def command_flags(flags: Mapping[str, Any]) -> str:
    """Flags as on a command line: `--total-steps 15000 --no-q-filter`."""
    return " ".join(as_arguments(flags))


def as_arguments(flags: Mapping[str, Any]) -> list[str]:
    """Flags as arguments of a command: `{"total_steps": 5, "resume": False}` is `--total-steps 5 --no-resume`."""
    arguments = []
    for name, value in flags.items():
        words = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{words}" if value else f"--no-{words}")
        elif isinstance(value, list | tuple):
            arguments += [f"--{words}", *map(str, value)]
        else:
            arguments += [f"--{words}", str(value)]
    return arguments


def spread(values: Sequence[float]) -> float | None:
    """The sample standard deviation over training seeds; None for fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else None


def in_percent(value: float | None) -> str:
    """A share as a table shows it, "-" where there is none."""
    return "-" if value is None else f"{value:.1%}"
