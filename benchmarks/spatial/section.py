"""The leaderboard's section on spatial models: which models know where things stand, and what fine-tuned them.

A score is that of a run, and the mean over its training seeds; from three seeds on with the 95 % bootstrap interval of
that mean, over seeds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentorgym.benchmarks.families import Entry, Row
from mentorgym.benchmarks.harness.statistics import seeds_interval
from mentorgym.benchmarks.harness.tables import PROVENANCE, by_seed, group_rows, provenance, seed_means
from mentorgym.benchmarks.spatial.measure import KIND_SCORES, MORE_SCORES, SCORES

SET = ("env", "split", "camera", "samples")
"""What a table is of, beside the task: the same samples."""

CSV_COLUMNS = (
    *SET,
    "backend",
    "task",
    "driver",
    *SCORES,
    *MORE_SCORES,
    *(f"{name}_std" for name in (*SCORES, *MORE_SCORES)),
    "low",
    "high",
    "by_seed",
    *PROVENANCE,
)

LEGEND = """
- score: mean of a VLM's answers on RLS3's rubric, 1 to 5; exact: answers with all true terms and no other
- two-way: a CLIP's true captions likelier than an altered one, chance 50 %; four-way: likelier than all three, 25 %
- from three training seeds on with the 95 % bootstrap interval of the seeds' mean
- start: our own model, as RLS3's runs find it; training steps: moves, those of a sampler's pre-training included

Scores by term and by the number of terms are in `spatial/leaderboard.csv`.
"""


def task_of(row: Row) -> str:
    """Whether a VLM answers, or a CLIP chooses."""
    return "answers" if row["kind"] == "vlm" else "choices"


def make_entry(rows: Sequence[Row]) -> Entry:
    """The line of the table that `rows`, one driver's on one set of samples, add up to."""
    scores = [row["score"] for (row,) in by_seed(rows, f"{rows[0]['driver']} in {rows[0]['env']}", ["kind"])]
    trained = rows[0]["training_seed"] is not None
    entry: Entry = {name: rows[0][name] for name in (*SET, "driver")} | {"task": task_of(rows[0])}
    entry |= seed_means(scores, (*SCORES, *MORE_SCORES), trained)
    headline = [own[KIND_SCORES[rows[0]["kind"]][0]] for own in scores]
    entry["low"], entry["high"] = (seeds_interval(headline) if trained else None) or (None, None)
    return entry | provenance(rows) | {"by_seed": headline if trained else []}


def make_entries(rows: Sequence[Row]) -> list[Entry]:
    """The tables, one after another, and in each the best on top."""
    groups = group_rows((row | {"task": task_of(row)} for row in rows), (*SET, "task", "driver"))
    entries = [make_entry(own) for own in groups.values()]

    def place(entry: Entry) -> tuple[Any, ...]:
        headline = entry["score"] if entry["task"] == "answers" else entry["two_way"]
        return (*(entry[name] for name in SET), entry["task"], -headline, entry["driver"])

    return sorted(entries, key=place)


def title(entry: Entry) -> str:
    """What the table of an entry is of."""
    return (
        f"{entry['env']}: {entry['task']}, {entry['samples']:,} samples of {entry['split']}, {entry['camera']} camera"
    )


group = title


def published_tables(folder: Path) -> Sequence[Any]:
    """None."""
    return ()


def more(rows: Sequence[Row], folder: Path) -> str:
    """Nothing: `mentorgym spatial-curves` draws RLS3's curves."""
    return ""


def in_words(entry: Entry, columns: Sequence[str] = ()) -> dict[str, str]:
    """The cells that a reader of the table sees, with the scores `columns` if there are any."""
    if columns:
        return {"driver": entry["driver"]} | {name.replace("_", " "): f"{entry[name]:.3f}" for name in columns}
    answers, bounds = entry["task"] == "answers", (entry["low"], entry["high"])
    if answers:
        scores = {"score": f"{entry['score']:.2f}", "exact": f"{entry['exact']:.1%}"}
        interval = "" if None in bounds else " [{:.2f}, {:.2f}]".format(*bounds)
    else:
        scores = {"two-way": f"{entry['two_way']:.1%}", "four-way": f"{entry['four_way']:.1%}"}
        interval = "" if None in bounds else " [{:.1f}, {:.1f}]".format(*(100 * bound for bound in bounds))
    scores[next(iter(scores))] += interval
    more = {"training steps": entry["training_steps"] or "-", "seeds": str(entry["training_seeds"] or "-")}
    return {"driver": entry["driver"]} | scores | more
