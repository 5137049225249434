"""The tables of the RLOO paper and of its poster, for whatever was trained.

    mentorgym caption-tables --data staged --split test

From the rows in `--rows` on one set of scenes, each driver's the mean over its training seeds: the paper's tables 2 and
3 (scenes and F1 of each action and reason), the figures of its section 6, its Fig. 8 (how often each class is said) and
table 1 of the poster. The paper's own figures, in `--published` as they were printed, stand beside ours, and
notes say what they are where the paper calls them something else. They were measured on BDD-OIA: a scale, no rivals.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.benchmarks.captions.measure import is_of_captions
from mentorgym.benchmarks.captions.section import FIT, SET, Entry, make_entries, title
from mentorgym.benchmarks.families import Row
from mentorgym.benchmarks.harness.command import UsageError, show, verb
from mentorgym.benchmarks.harness.rows import COMMITTED, ROWS, read_folders
from mentorgym.benchmarks.harness.tables import in_percent, markdown_table
from mentorgym.envs.caption import language
from mentorgym.envs.caption.metrics import MEASURES

PUBLISHED_COLUMNS = ("paper", "place", "method", "metric", "value", "note")

CLASSES = {"actions": language.ACTIONS, "reasons": language.REASONS}

SECTION_6 = (
    "action_label_accuracy",
    "reason_label_accuracy",
    "action_top1",
    "reason_top1",
    "action_macro_f1",
    "reason_macro_f1",
    "action_weighted_f1",
    "reason_weighted_f1",
    "action_samples_f1",
    "reason_samples_f1",
    "out_of_vocabulary",
    *FIT,
)
"""The columns of the table of section 6's figures."""

NOTES = """
- F1 of a class that is neither there nor said is 0. "mean" is the macro-F1, over all classes.
- What the paper calls macro-F1 is here top-1, and what it calls accuracy is label accuracy; on scenes with one action
  and one reason each, F1_all (samples F1) is the same as top-1 for whoever names one of each.
- Whoever says the most frequent caption of every scene is `majority`: no accuracy says much that is not above it.
"""


@dataclass
class Args:
    """Write the paper's tables."""

    rows: tuple[Path, ...] = (COMMITTED, ROWS)
    """folders of rows, *.jsonl, or of folders <family>/rows"""
    data: str = "staged"
    """data that the rows are of"""
    split: str = "test"
    """their split"""
    labels: str = "one"
    """one or all"""
    drivers: tuple[str, ...] = ()
    """names of the drivers to show, in this order; all of them by default"""
    output: Path = Path("runs/caption_tables.md")
    """file for the tables"""
    published: Path = Path("results/captions/published.csv")
    """the paper's figures; without that file, ours stand alone"""


@dataclass(frozen=True)
class Figure:
    """A published figure; `value` as it was printed."""

    paper: str
    place: str
    method: str
    metric: str
    value: str
    note: str


def read_figures(path: Path) -> list[Figure]:
    """The figures of the CSV file at `path`, none where there is no file; raises UsageError for what is no figure."""
    if not path.is_file():
        return []
    known = {*MEASURES, *FIT, *(f"f1/{name}" for names in CLASSES.values() for name in names)}
    figures = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, cells in enumerate(csv.reader(file), start=1):
            if number == 1:
                fault = "" if tuple(cells) == PUBLISHED_COLUMNS else f"the header is not {','.join(PUBLISHED_COLUMNS)}"
            elif len(cells) != len(PUBLISHED_COLUMNS):
                fault = f"{len(cells)} cells, not {len(PUBLISHED_COLUMNS)}"
            else:
                fault = "" if cells[3] in known else f"unknown metric {cells[3]!r}"
                figures.append(Figure(*cells))
            if fault:
                raise UsageError(f"{path}:{number}: {fault}")
    return figures


@dataclass(frozen=True)
class Column:
    """One driver: its scores, and those of each class, means over its training seeds."""

    name: str
    entry: Entry
    classes: dict[str, dict[str, np.ndarray]]


def read_columns(rows: Sequence[Row], drivers: Sequence[str]) -> list[Column]:
    """The drivers of `rows`, all on the same scenes, the most exact first or as `drivers` has them."""
    columns = []
    for entry in make_entries(rows):
        own = [row for row in rows if all(row[name] == entry[name] for name in ("driver", "label_share"))]
        share = "" if entry["label_share"] is None else f", {entry['label_share']:.0%} of the labels"
        if own:
            means = {
                part: {name: np.mean([row["classes"][part][name] for row in own], 0) for name in ("f1", "predicted")}
                for part in CLASSES
            }
            columns.append(Column(entry["driver"] + share, entry, means))
        else:
            columns.append(Column(entry["driver"], entry, {}))
    if missing := [name for name in drivers if name not in [column.name for column in columns]]:
        raise UsageError(f"no rows of {missing[0]!r}: there are {', '.join(column.name for column in columns)}")
    return [column for name in drivers for column in columns if column.name == name] if drivers else columns


def class_table(part: str, columns: Sequence[Column], rows: Sequence[Row], figures: Sequence[Figure]) -> str:
    """The paper's table 2 or 3: how many scenes have each class, and its F1."""
    support = np.array(rows[0]["classes"][part]["support"])
    printed = {figure.metric.removeprefix("f1/"): figure.value for figure in figures if figure.metric.startswith("f1/")}
    known = [column for column in columns if column.classes]
    lines = []
    for place, name in enumerate(CLASSES[part]):
        values = [f"{100 * column.classes[part]['f1'][place]:.1f}" for column in known]
        share = f"{100 * support[place] / rows[0]['scenes']:.2f}"
        lines.append([name, share, str(support[place]), *values, printed.get(name, "-")])
    means = [f"{100 * column.classes[part]['f1'].mean():.1f}" for column in known]
    theirs = [float(printed[name]) for name in CLASSES[part] if name in printed]
    lines.append(["mean", "", "", *means, f"{np.mean(theirs):.1f}" if len(theirs) == len(CLASSES[part]) else "-"])
    header = [part[:-1], "scenes (%)", "scenes", *(column.name for column in known), "the paper's SFT, on BDD-OIA"]
    return markdown_table(header, lines)


def distribution_table(part: str, columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The paper's Fig. 8: how often each class is true, and how often each driver says it."""
    known = [column for column in columns if column.classes]
    support = rows[0]["classes"][part]["support"]
    lines = [
        [name, str(support[place]), *(f"{column.classes[part]['predicted'][place]:.4g}" for column in known)]
        for place, name in enumerate(CLASSES[part])
    ]
    return markdown_table([part[:-1], "truth", *(column.name for column in known)], lines)


def figure_table(columns: Sequence[Column], metrics: Sequence[str], figures: Sequence[Figure]) -> str:
    """`metrics` of every driver, and below them those that were printed."""
    rows = [[column.name, *(in_percent(column.entry.get(name)) for name in metrics)] for column in columns]
    printed: dict[str, dict[str, str]] = {}
    for figure in figures:
        printed.setdefault(f"{figure.place}: {figure.method}", {})[figure.metric] = figure.value
    rows += [[f"the paper's {name}", *(own.get(metric, "-") for metric in metrics)] for name, own in printed.items()]
    used = [place for place in range(1, len(metrics) + 1) if any(row[place] != "-" for row in rows)]
    header = ["method", *(metrics[place - 1].replace("_", " ").replace("top1", "top-1") for place in used)]
    return markdown_table(header, [[row[0], *(row[place] for place in used)] for row in rows])


def notes(figures: Sequence[Figure]) -> str:
    """The notes of figures, each with the figures that it is of."""
    told: dict[str, list[str]] = {}
    for figure in figures:
        if figure.note:
            told.setdefault(figure.note, []).append(f"{figure.method} {figure.value}")
    return "".join(f"- the paper's {', '.join(dict.fromkeys(names))}: {note}\n" for note, names in told.items())


def page(columns: Sequence[Column], rows: Sequence[Row], figures: Sequence[Figure], command: str) -> str:
    """All tables as Markdown."""

    def of(test: Callable[[str], Any]) -> list[Figure]:
        return [figure for figure in figures if test(figure.place)]

    actions, reasons = of("table 2".__eq__), of("table 3".__eq__)
    section, poster = of(lambda place: place.startswith("section")), of(lambda place: place.startswith("poster"))
    parts = [
        (
            "Test scenes and F1 of the actions (table 2)",
            class_table("actions", columns, rows, actions),
            "",
        ),
        (
            "Test scenes and F1 of the reasons (table 3)",
            class_table("reasons", columns, rows, reasons),
            "",
        ),
        ("Section 6", figure_table(columns, SECTION_6, section), notes(section)),
        ("How often each action is said (Fig. 8)", distribution_table("actions", columns, rows), ""),
        ("How often each reason is said (Fig. 8)", distribution_table("reasons", columns, rows), ""),
        (
            "The poster's table 1",
            figure_table(columns, ("action_top1", "reason_top1", "clip_score"), poster),
            notes(poster),
        ),
    ]
    text = f"# Captions in the RLOO paper's tables\n\nWritten by `{command}`. {title(columns[0].entry)}.\n{NOTES}"
    for name, table, below in parts:
        text += f"\n## {name}\n\n{table}" + (f"\n{below}" if below else "")
    return text


@verb("caption-tables")
def main(args: Args, command: str) -> dict[str, Any]:
    """The command."""
    wanted = {"data": args.data, "split": args.split, "labels": args.labels}
    folders = " and ".join(map(str, args.rows))
    described = [row for row in read_folders(args.rows) if is_of_captions(row["env"])]
    rows = [row for row in described if all(row[name] == value for name, value in wanted.items())]
    if not rows:
        found = sorted({f"{row['data']}, {row['split']}, {row['labels']}" for row in described})
        raise UsageError(
            f"no rows of {args.data}, {args.split}, {args.labels} in {folders}: "
            + (f"there are {'; '.join(found)}" if found else "`mentorgym evaluate --env BddOia-Caption-v0` makes some")
        )
    if len({tuple(row[name] for name in SET) for row in rows}) > 1:
        raise UsageError(f"the rows in {folders} are of different numbers of scenes: measure all without --limit")
    figures = read_figures(args.published)
    text = page(read_columns(rows, args.drivers), rows, figures, command)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.output, text)
    show(text, f"written: {args.output}")
    return {"output": str(args.output)}
