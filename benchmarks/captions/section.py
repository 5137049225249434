"""The leaderboard's section on captions: who describes the scenes of a split best.

A score is that of a run, and the mean over its training seeds; from three seeds on with the 95 % bootstrap interval of
that mean, over seeds. The row of the most frequent caption stands in every table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentorgym.benchmarks.captions.measure import COLUMNS, FIT
from mentorgym.benchmarks.families import Entry, Row
from mentorgym.benchmarks.harness.statistics import seeds_interval
from mentorgym.benchmarks.harness.tables import PROVENANCE, by_seed, group_rows, in_percent, provenance, seed_means
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
    where = f"{rows[0]['driver']} on {rows[0]['data']}, {rows[0]['split']}"
    scores = [row["score"] for (row,) in by_seed(rows, where, ["frames"])]
    trained = rows[0]["training_seed"] is not None
    entry: Entry = {name: rows[0][name] for name in (*SET, "driver", "label_share")}
    entry |= seed_means(scores, (*MEASURES, *FIT), trained)
    for name in WITH_INTERVAL:
        interval = seeds_interval([own[name] for own in scores]) if trained else None
        entry[f"{name}_low"], entry[f"{name}_high"] = interval or (None, None)
    models = {f"{model['name']} {model['weights'] or ''}".strip() for row in rows if (model := row["reward_model"])}
    return (
        entry
        | provenance(rows)
        | {
            "exact_by_seed": [own["exact"] for own in scores] if trained else [],
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
    entries = [make_entry(own) for own in group_rows(rows, (*SET, "driver", "label_share")).values()]
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


group = title


def published_tables(folder: Path) -> Sequence[Any]:
    """None."""
    return ()


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
