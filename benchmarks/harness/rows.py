"""Evaluation rows: what was scored, with all that is needed to score it again.

A file of rows has JSON lines. A line with `schema` is a header: it holds what the rows below it share, up to the next
header. Every other line is a row, an episode or whatever its family scores at once. In memory a row has the fields of
its header too:

- `backend` and `env`: the environment and what ran it
- `driver`: the name on the table
- `run`, `training_seed`, `training_steps`, `training_args`, `weights`: the name of an agent's run folder, its training
  with all its flags but `runs`, and the first 12 digits of its weights' SHA-256; null for what was not trained
- `training_flags`: the flags that differ from the agent's defaults; null where nobody wrote them down
- `command`, `time` (UTC, ISO 8601), `commit` and whether the checkout was `dirty` (both null outside one), `versions`,
  `hardware`: how and where the row was made

and of its own `score` and the family's FIELDS (`families.Measure`). Files of schema 1, in which every line is a whole
row, are read too.
"""

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mentorgym.agents.toolbox.runs import describe_start, write_atomically
from mentorgym.benchmarks.families import measure_of
from mentorgym.benchmarks.harness.agents import Training
from mentorgym.benchmarks.harness.command import UsageError, user_input
from mentorgym.files import read_text

ROWS = Path("runs/rows")
"""Where rows go by default, in the working directory."""

COMMITTED = Path("results")
"""The folder of the published rows."""

SCHEMA = 2

HEADER: dict[str, tuple[type, ...]] = {
    "backend": (str,),
    "env": (str,),
    "driver": (str,),
    "run": (str, type(None)),
    "training_seed": (int, type(None)),
    "training_steps": (int, type(None)),
    "training_flags": (dict, type(None)),
    "training_args": (dict, type(None)),
    "weights": (str, type(None)),
    "command": (str,),
    "time": (str,),
    "commit": (str, type(None)),
    "dirty": (bool, type(None)),
    "versions": (dict,),
    "hardware": (dict,),
}
"""Fields of a header, and their types."""

KEY = ("env", "driver", "run")
"""Fields of the header that tell rows apart, beside those of the family's KEY."""

Row = dict[str, Any]


def make_header(env: str, backend: str, driver: str, training: Training | None, command: str) -> Row:
    """The header of rows that are made now."""
    return {
        "backend": backend,
        "env": env.split(":")[-1],
        "driver": driver,
        "run": training and training.folder.resolve().name,
        "training_seed": training and training.seed,
        "training_steps": training and training.steps,
        "training_flags": training and training.flags,
        "training_args": training and {name: value for name, value in training.args.items() if name != "runs"},
        "weights": training and training.weights,
        "command": command,
        **describe_start(),
    }


def file_name(driver: str, env: str) -> str:
    """The name of a file for the rows of `driver` in `env`."""
    safe = "".join(letter if letter.isalnum() or letter in "@=+,.-_" else "_" for letter in driver.replace(", ", "_"))
    return f"{safe}__{env.split(':')[-1]}.jsonl"


def default_file(training: Training | None, driver: str, env: str) -> Path:
    """Where the rows of `driver` in `env` go where nobody says: to its run, if it was trained, or to ROWS."""
    return training.folder / "eval.jsonl" if training else ROWS / file_name(driver, env)


def fault(row: Any) -> str | None:
    """Why `row` is not a row, or None if it is one."""
    if not isinstance(row, dict):
        return "not a JSON object"
    if missing := sorted(HEADER.keys() - row.keys()):
        return f"missing: {', '.join(missing)}"
    if not isinstance(row["env"], str):
        return f"env is {row['env']!r}"
    measure = measure_of(row["env"])
    fields = {**HEADER, **measure.FIELDS, "score": (dict,)}
    if differing := sorted(fields.keys() ^ row.keys()):
        return f"missing or unknown: {', '.join(differing)}"
    for name, types in fields.items():
        if type(row[name]) not in types:
            return f"{name} is {row[name]!r}, of type {type(row[name]).__name__}"
    try:
        scores = measure.required_scores(row)
    except UsageError as error:
        return str(error)
    for name in scores:
        value = row["score"].get(name)
        if not isinstance(value, bool | int | float) or not math.isfinite(value):
            return f"score.{name} is {value!r}, not a finite number"
    return None


def read_rows(path: Path) -> list[Row]:
    """The rows of the JSON-lines file at `path`; raises UsageError with file, line and reason for what is no row."""
    rows = []
    header: Row = {}
    with user_input(f"{path}: "):
        text = read_text(path)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            raise UsageError(f"{path}:{number}: not JSON ({reason}); restore the line or delete it") from None
        schema = row.pop("schema", None) if isinstance(row, dict) else None
        if schema == SCHEMA:
            header = row
            continue
        if schema == 1:
            row.setdefault("training_flags", None)
        elif schema is not None:
            raise UsageError(
                f"{path}:{number}: schema {schema!r}, but this version reads 1 and {SCHEMA}; evaluate again"
            )
        elif isinstance(row, dict):
            row = header | row
        if reason := fault(row):
            raise UsageError(f"{path}:{number}: {reason}")
        rows.append(row)
    return rows


def row_files(folders: Sequence[Path]) -> list[Path]:
    """The files of rows in `folders`, and in the folders `<name>/rows` of each."""
    return sorted(
        {path for folder in folders for pattern in ("*.jsonl", "*/rows/*.jsonl") for path in folder.glob(pattern)}
    )


def read_folders(folders: Sequence[Path]) -> list[Row]:
    """All rows in `row_files`, in the order of their keys; raises UsageError where there is none."""
    rows = merge(row for path in row_files(folders) for row in read_rows(path))
    if not rows:
        raise UsageError(
            f"no rows in {' or '.join(map(str, folders))}: `mentorgym evaluate` makes some, or add an agent with --add"
        )
    return rows


def merge(rows: Iterable[Row]) -> list[Row]:
    """`rows` in the order of their keys, without those that a later row with the same key replaces."""

    def key(row: Row) -> tuple[Any, ...]:
        names = (*KEY, *measure_of(row["env"]).KEY)
        return (measure_of(row["env"]).KEY, *((row[name] is not None, row[name]) for name in names))

    latest = {key(row): row for row in rows}
    return [latest[key] for key in sorted(latest)]


def rows_text(rows: Sequence[Row]) -> str:
    """The content of a file with `rows`, each below its header."""
    lines = []
    for header, group in itertools.groupby(rows, lambda row: {name: row[name] for name in HEADER}):
        lines.append({"schema": SCHEMA, **header})
        lines += [{name: value for name, value in row.items() if name not in HEADER} for row in group]
    return "".join(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines)


def add_rows(path: Path, rows: Sequence[Row]) -> None:
    """Merge `rows` into the file at `path`, all of them or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    merged = merge([*(read_rows(path) if path.exists() else ()), *rows])
    write_atomically(path, rows_text(merged))
