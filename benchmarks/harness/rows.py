"""Evaluation rows: one JSON line for each episode that a driver drove, with all that is needed to drive it again.

Who describes scenes instead has a row for all scenes of a split, which `split` tells from an episode's; a model that
is asked about rooms has one for all samples of a split, which `camera` tells from both.

Fields of a row (schema 1):

- `schema`, `backend` ("embedded"), `env`: the environment and what ran it
- `driver`: its name on the table
- `run`, `training_seed`, `training_steps`, `training_args`, `weights`: an agent's run folder by name, its training with
  all its flags but `runs`, and the first 12 digits of its weights' SHA-256; all null for a driver that was not trained
- `town`, `seen` (whether the driver may have trained there), `traffic`, `weather`, `route`, `seed`: the episode
- `score`: what the environment reports at the episode's end; for captions what `metrics.measure` gives, and with a
  reward model the means of `clip_score`, `match` and the like
- `data`, `split`, `labels` ("one" or "all"), `frames`, `scenes`: in place of the episode, which scenes were described,
  how many frames of each were shown, and how many scenes there were
- `label_share`: the share of the labelled scenes that training saw, null where nobody said
- `classes`: of the `actions` and of the `reasons` each class's `f1`, `support` and number `predicted`
- `majority`: the score of whoever says the most frequent caption of every scene
- `reward_model`: the `name` of the CLIP that `score` holds the means of, and the `weights`' digest; null for none
- `kind` (of `agents.toolbox.students.KINDS`), `camera`, `samples`: which model was asked about rooms, through which
  cameras and how many pictures of the `split`; `score` holds the scores of its kind, and the first of them by term
- `command`, `time` (UTC, ISO 8601), `commit` and whether the checkout was `dirty` (both null outside one),
  `versions`, `hardware`: how and where the row was made
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.envs.caption.metrics import MEASURES

ROWS = Path("results/rows")
"""Where the rows of the leaderboard lie, in the working directory."""

SCHEMA = 1

_ALWAYS: dict[str, tuple[type, ...]] = {
    "schema": (int,),
    "backend": (str,),
    "env": (str,),
    "driver": (str,),
    "run": (str, type(None)),
    "training_seed": (int, type(None)),
    "training_steps": (int, type(None)),
    "training_args": (dict, type(None)),
    "weights": (str, type(None)),
    "score": (dict,),
    "command": (str,),
    "time": (str,),
    "commit": (str, type(None)),
    "dirty": (bool, type(None)),
    "versions": (dict,),
    "hardware": (dict,),
}

FIELDS: dict[str, tuple[type, ...]] = _ALWAYS | {
    "town": (str,),
    "seen": (bool,),
    "traffic": (str,),
    "weather": (str,),
    "route": (int,),
    "seed": (int,),
}

CAPTION_FIELDS: dict[str, tuple[type, ...]] = _ALWAYS | {
    "data": (str,),
    "split": (str,),
    "labels": (str,),
    "frames": (int,),
    "scenes": (int,),
    "label_share": (float, type(None)),
    "classes": (dict,),
    "majority": (dict,),
    "reward_model": (dict, type(None)),
}

SPATIAL_FIELDS: dict[str, tuple[type, ...]] = _ALWAYS | {
    "kind": (str,),
    "split": (str,),
    "camera": (str,),
    "samples": (int,),
}

KEY = ("env", "driver", "run", "town", "traffic", "weather", "route", "seed")
"""What tells episodes apart: of two rows with the same key the later one counts."""

CAPTION_KEY = ("env", "driver", "run", "data", "split", "labels", "frames", "scenes", "label_share")
"""The same for rows of captions."""

SPATIAL_KEY = ("env", "driver", "run", "kind", "split", "camera", "samples")
"""The same for rows of rooms."""

SCORES = ("driving_score", "route_completion", "success", "strict_success", "completed_km")
"""Scores that every row has; the environment decides on the rest, and rows of an earlier version have fewer."""

CAPTION_SCORES = tuple(MEASURES)
"""The same for rows of captions."""

SPATIAL_SCORES = {"vlm": ("score", "exact"), "clip": ("two_way", "four_way"), "negclip": ("two_way", "four_way")}
"""The same for rows of rooms, by kind of model; the first is what models are ranked by."""

Row = dict[str, Any]


def has_captions(row: Row) -> bool:
    """Whether `row` is of captions rather than of an episode."""
    return "split" in row and "camera" not in row


def has_rooms(row: Row) -> bool:
    """Whether `row` is of what a model knows of rooms."""
    return "camera" in row


def fault(row: Any) -> str | None:
    """Why `row` is not a row of this schema, or None if it is one."""
    if not isinstance(row, dict):
        return "not a JSON object"
    if row.get("schema") != SCHEMA:
        return f"schema {row.get('schema')!r}, but this version reads {SCHEMA}; evaluate the driver again"
    fields, scores = (CAPTION_FIELDS, CAPTION_SCORES) if has_captions(row) else (FIELDS, SCORES)
    if has_rooms(row):
        if row.get("kind") not in SPATIAL_SCORES:
            return f"kind {row.get('kind')!r}: there are {', '.join(SPATIAL_SCORES)}"
        fields, scores = SPATIAL_FIELDS, SPATIAL_SCORES[row["kind"]]
    if differing := sorted(fields.keys() ^ row.keys()):
        return f"missing or unknown: {', '.join(differing)}"
    for name, types in fields.items():
        if type(row[name]) not in types:
            return f"{name} is {row[name]!r}, of type {type(row[name]).__name__}"
    for name in scores:
        value = row["score"].get(name)
        if not isinstance(value, bool | int | float) or not math.isfinite(value):
            return f"score.{name} is {value!r}, not a finite number"
    return None


def read_rows(path: Path) -> list[Row]:
    """The rows of the JSON-lines file at `path`; raises UsageError with file, line and reason for what is no row."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}:{number}: not JSON ({error.msg}); restore the line or delete it") from None
        if reason := fault(row):
            raise UsageError(f"{path}:{number}: {reason}")
        rows.append(row)
    return rows


def merge(rows: Iterable[Row]) -> list[Row]:
    """`rows` in the order of their keys, without those that a later row with the same key replaces."""

    def key(row: Row) -> tuple[Any, ...]:
        names = SPATIAL_KEY if has_rooms(row) else CAPTION_KEY if has_captions(row) else KEY
        return (has_rooms(row), has_captions(row), *((row[name] is not None, row[name]) for name in names))

    latest = {key(row): row for row in rows}
    return [latest[key] for key in sorted(latest)]


def add_rows(path: Path, rows: Sequence[Row]) -> None:
    """Merge `rows` into the file at `path`, all of them or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    merged = merge([*(read_rows(path) if path.exists() else ()), *rows])
    write_atomically(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in merged))
