"""The leaderboard's section on captions: who describes the scenes of a split best.

A score is that of a run, and the mean over its training seeds; from three seeds on with the 95 % bootstrap interval of
that mean, over seeds. The row of the most frequent caption stands in every table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentorgym.benchmarks.captions.measure import COLUMNS, FIT
from mentorgym.benchmarks.families import Entry, Row
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.statistics import SEEDS_FOR_INTERVAL, mean_interval
from mentorgym.benchmarks.harness.tables import PROVENANCE, in_percent, provenance, spread
from mentorgym.envs.caption.metrics import MEASURES

WITH_INTERVAL = ("exact", "action_macro_f1", "reason_macro_f1")
"""Scores that come with their interval."""

SET = ("env", "data", "split", "labels", "scenes")
"""What a table is of: the same scenes."""

CSV_COLUMNS = (
    *SET,
    "backend",
    "driver",
    "label_share",
    *MEASURES,
    *(f"{name}_{bound}" for name in WITH_INTERVAL for bound in ("low", "high")),
    *(f"{name}_std" for name in (*MEASURES, *FIT)),
    "exact_by_seed",
    *FIT,
    "reward_model",
    *PROVENANCE,
)

LEGEND = """
- exact: captions that say exactly the true actions and reasons; top-1 is that for either alone
- macro-F1: the plain mean over all 4 actions or 21 reasons; from three training seeds on, with the 95 % bootstrap
  interval of the seeds' mean
- label accuracy: over every label, present or absent, which is high for whoever says little
- out of vocabulary: captions that name something unknown, or no action, or no reason
- CLIP score, match: the probability that the reward model gives to the captions, and the share above 0.5
- majority: the most frequent caption, said of every scene

The other scores are in `captions/leaderboard.csv`.
"""


def make_entry(rows: Sequence[Row]) -> Entry:
    """The line of the table that `rows`, one driver's on one set of scenes, add up to."""
    seeds = [row["training_seed"] for row in rows]
    if len(set(seeds)) < len(seeds):
        runs = sorted({str(row["run"]) for row in rows})
        raise UsageError(
            f"{rows[0]['driver']} on {rows[0]['data']}, {rows[0]['split']}: runs {' and '.join(runs)} have the same "
            "training seed, or one run was shown other frames; delete a row, or measure one under another --name"
        )
    trained = rows[0]["training_seed"] is not None
    entry: Entry = {name: rows[0][name] for name in (*SET, "driver", "label_share")}
    for name in (*MEASURES, *FIT):
        values = [row["score"][name] for row in rows if name in row["score"]]
        complete = len(values) == len(rows)
        entry[name] = sum(values) / len(values) if complete else None
        entry[f"{name}_std"] = spread(values) if complete and trained else None
    for name in WITH_INTERVAL:
        values = [row["score"][name] for row in rows]
        known = trained and len(values) >= SEEDS_FOR_INTERVAL
        entry[f"{name}_low"], entry[f"{name}_high"] = mean_interval(values) if known else (None, None)
    models = {f"{model['name']} {model['weights'] or ''}".strip() for row in rows if (model := row["reward_model"])}
    return (
        entry
        | provenance(rows)
        | {
            "exact_by_seed": [row["score"]["exact"] for row in rows] if trained else [],
            "reward_model": " ".join(sorted(models)),
        }
    )


def majority_entry(row: Row) -> Entry:
    """The line of the most frequent caption, of which every row tells the scores."""
    nothing: Entry = dict.fromkeys(CSV_COLUMNS)
    own = {name: row[name] for name in (*SET, "backend")}
    empty = dict.fromkeys(("reward_model", *PROVENANCE), "") | {"training_seeds": 0}
    return nothing | own | row["majority"] | empty | {"driver": "majority", "exact_by_seed": []}


def make_entries(rows: Sequence[Row]) -> list[Entry]:
    """The tables, one set of scenes after another, and in each the most exact on top."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in (*SET, "driver", "label_share")), []).append(row)
    entries = [make_entry(group) for group in groups.values()]
    sets = {tuple(row[name] for name in SET): row for row in rows}
    with_majority = {tuple(entry[name] for name in SET) for entry in entries if entry["driver"] == "majority"}
    entries += [majority_entry(row) for key, row in sets.items() if key not in with_majority]
    return sorted(
        entries,
        key=lambda entry: (
            *(entry[name] for name in SET),
            -entry["exact"],
            entry["driver"],
            entry["label_share"] is not None,
            entry["label_share"] or 0.0,
        ),
    )


def title(entry: Entry) -> str:
    """What the table of an entry is of."""
    kind = "one label each" if entry["labels"] == "one" else "several labels each"
    return f"{entry['env']}: {entry['data']}, {entry['split']}, {entry['scenes']} scenes, {kind}"


def group(entry: Entry) -> str:
    """All entries of a table stand together."""
    return title(entry)


def more(rows: Sequence[Row], folder: Path) -> str:
    """Nothing: `mentorgym caption-tables` has the paper's tables."""
    return ""


def in_words(entry: Entry, columns: Sequence[str] = ()) -> dict[str, str]:
    """The cells that a reader of the table sees, with the scores `columns` if there are any."""
    cells = {"driver": entry["driver"]}
    if entry["label_share"] is not None:
        cells["driver"] += f", {entry['label_share']:.0%} of the labels"
    if columns:
        return cells | {name.replace("_", " "): in_percent(entry[name]) for name in columns}
    for name, words in COLUMNS.items():
        cells[words] = in_percent(entry[name])
        if name in WITH_INTERVAL and entry[f"{name}_low"] is not None:
            cells[words] += f" [{100 * entry[f'{name}_low']:.1f}, {100 * entry[f'{name}_high']:.1f}]"
    return cells | {"training steps": entry["training_steps"] or "-", "seeds": str(entry["training_seeds"] or "-")}
