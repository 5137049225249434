"""Which actions a mentor takes for which: its confusion matrix on pictures with known actions.

    mentorgym confusion --data heldout_drives --mentor clip

`--data` is what `mentorgym collect` writes. For each picture a CLIP scorer's answer is the
likeliest of its context's 30 captions, another mentor's the semantic action that its reply or action belongs to. The
matrix [30, 30], rows the true actions, is drawn with each row's shares, beside its 6 x 6 longitudinal and 5 x 5 lateral
marginals. Written to `--output`: `<name>.png`, `<name>.csv` (counts) and `<name>.json` (the figures). These are, over
the pictures that were answered:

- `accuracy`, and `balanced_accuracy`, its mean over the actions that occur, for 30 actions and for either marginal;
- `majority`, the share of the most frequent action, and `balanced_majority`, what always naming that one scores in
  balanced accuracy;
- `near_errors`, the share of the errors that fall on a neighbour of the true action (`language.NEIGHBOURS`), beside
  what it would be if errors fell evenly on all other actions (`near_errors_by_chance`), or as often on each as the
  mentor names it at all (`near_errors_by_frequency`).
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

from mentorgym.agents.clip_finetune import label_scores
from mentorgym.agents.toolbox import parse_keywords, start_torch
from mentorgym.agents.toolbox.runs import describe_start, write_atomically
from mentorgym.agents.toolbox.shards import Samples
from mentorgym.benchmarks.harness.command import (
    UsageError,
    import_matplotlib,
    progress_console,
    show,
    verb,
)
from mentorgym.envs.driving.view import language
from mentorgym.mentors.load import load_mentor
from mentorgym.mentors.mentor import IMAGE_SLOT, Feedback, Mentor, Request

NAMES = [f"{longitudinal}, {lateral}" for longitudinal in language.LONGITUDINAL for lateral in language.LATERAL]
"""The 30 actions in words."""


@dataclass
class Args:
    """Draw a mentor's confusion matrix."""

    data: Path
    """folder of shards with contexts and labels"""
    mentor: str = "clip"
    """clip, clip:<folder or hub name>, openclip:<name>, or any other mentor"""
    mentor_args: tuple[str, ...] = ()
    """the mentor's keyword arguments, as in: device=cuda"""
    name: str = "confusion"
    """name of the files"""
    output: Path = Path("runs/confusion")
    """folder for them"""
    limit: int = 0
    """pictures to show, spread over the data; all of them for 0"""
    batch_size: int = 64
    """pictures shown at once"""
    torch_threads: int = 1
    """threads of torch on the CPU"""


def to_label(feedback: Feedback | None) -> int | None:
    """The semantic action, 0 to 29, that feedback names: the likeliest of 30, or that of an action or a reply."""
    if feedback is None:
        return None
    if isinstance(feedback, str):
        action = language.to_action(feedback)
        return None if action is None else int(language.labels(action))
    if feedback.shape == (language.NUM_ACTIONS,):
        return int(np.argmax(feedback))
    return int(language.labels(feedback))


def confusion(labels: np.ndarray, found: np.ndarray, size: int) -> np.ndarray:
    """Counts int64 [size, size] of pictures with the label of the row for which that of the column was found."""
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (labels, found), 1)
    return counts


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Each row of `counts` over its sum; NaN for rows without any."""
    totals = counts.sum(1, keepdims=True)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


def marginals(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The longitudinal [6, 6] and lateral [5, 5] marginals of counts [30, 30]."""
    longitudinal, lateral = len(language.LONGITUDINAL), len(language.LATERAL)
    parts = counts.reshape(longitudinal, lateral, longitudinal, lateral)
    return parts.sum((1, 3)), parts.sum((0, 2))


def near_by_frequency(counts: np.ndarray, neighbours: np.ndarray) -> float | None:
    """The share of errors on neighbours if each error's action were drawn as often as it is named at all."""
    named = counts.sum(0).astype(float)
    errors = counts.sum(1) - counts.diagonal()
    own = np.eye(len(counts), dtype=bool)
    near = (neighbours & ~own) @ named
    other = named.sum() - named
    known = (errors > 0) & (other > 0)
    return float((errors * near / np.maximum(other, 1))[known].sum() / errors[known].sum()) if known.any() else None


def figures(counts: np.ndarray) -> dict[str, Any]:
    """What the module's docstring lists, of counts [30, 30]."""

    def scores(matrix: np.ndarray, neighbours: np.ndarray | None) -> dict[str, float]:
        labels, found = (np.repeat(each.ravel(), matrix.ravel()) for each in np.indices(matrix.shape))
        told = label_scores(found, labels, neighbours)
        return {name.removeprefix("heldout/"): value for name, value in told.items()}

    longitudinal, lateral = marginals(counts)
    every = scores(counts, language.NEIGHBOURS)
    return {
        **every,
        "near_errors_by_frequency": near_by_frequency(counts, language.NEIGHBOURS),
        "labels": int((counts.sum(1) > 0).sum()),
        "longitudinal": scores(longitudinal, None),
        "lateral": scores(lateral, None),
    }


def ask(mentor: Mentor, samples: Samples, chosen: Sequence[int], batch_size: int) -> list[int | None]:
    """The label that the mentor finds for each of the `chosen` samples, None where it has no usable answer."""
    found: list[int | None] = []
    starts = range(0, len(chosen), batch_size)
    for start in track(starts, "asking", console=progress_console, transient=True):
        requests = []
        for index in chosen[start : start + batch_size]:
            words = samples.words[index]
            action = np.array(words.get("action", (np.nan, np.nan)), np.float32)
            requests.append(Request(samples.picture(index), words.get("prompt", IMAGE_SLOT), words["context"], action))
        found += [to_label(feedback) for feedback in mentor(requests)]
    return found


def draw(counts: np.ndarray, title: str, path: Path) -> None:
    """Write the row-normalised matrix and its marginals as a PNG."""
    matplotlib = import_matplotlib("the picture")
    with matplotlib.rc_context({"font.size": 7}):
        figure = matplotlib.figure.Figure(figsize=(13, 8), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(2, 1), squeeze=False)[0]
        colours = matplotlib.colormaps["viridis"].with_extremes(bad="0.85")
        whole, parts = left.subplots(), right.subplots(2, 1)
        longitudinal, lateral = marginals(counts)
        for axes, matrix, names, label in (
            (whole, counts, NAMES, "action"),
            (parts[0], longitudinal, language.LONGITUDINAL, "longitudinal"),
            (parts[1], lateral, language.LATERAL, "lateral"),
        ):
            shares = row_shares(matrix)
            picture = axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
            ticks = range(len(names))
            axes.set_xticks(ticks, names, rotation=90)
            axes.set_yticks(ticks, [f"{name} ({n:,})" for name, n in zip(names, matrix.sum(1), strict=True)])
            axes.set(xlabel="found", ylabel="true (pictures)", title=label)
            if len(names) < len(NAMES):
                for row, column in np.ndindex(shares.shape):
                    if np.isfinite(share := shares[row, column]):
                        colour = "white" if share < 0.6 else "black"
                        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour)
        left.colorbar(picture, ax=whole, shrink=0.5, label="share of the row")
        figure.suptitle(title)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def summary(told: Mapping[str, Any]) -> Table:
    """The figures for the terminal."""
    table = Table("", "30 actions", "longitudinal", "lateral", box=SIMPLE_HEAD)
    for name in ("accuracy", "balanced_accuracy", "majority", "balanced_majority"):
        parts = (told[name], told["longitudinal"][name], told["lateral"][name])
        table.add_row(name.replace("_", " "), *(f"{value:.1%}" for value in parts))
    for name in ("near_errors", "near_errors_by_chance", "near_errors_by_frequency"):
        table.add_row(name.replace("_", " "), "-" if told.get(name) is None else f"{told[name]:.1%}")
    return table


@verb("confusion")
def main(args: Args, command: str) -> dict[str, Any]:
    """The command."""
    if args.limit < 0 or args.batch_size < 1:
        raise UsageError("--limit counts from 0 and --batch-size from 1")
    start_torch(seed=0, threads=args.torch_threads)
    try:
        samples = Samples(args.data)
        options = parse_keywords(args.mentor_args)
        if args.mentor.partition(":")[0] in ("clip", "openclip"):
            options.setdefault("anchors", samples.anchors or language.anchors())
        mentor = load_mentor(args.mentor, **options)
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(str(error)) from error
    if any(not {"context", "label"} <= words.keys() for words in samples.words):
        raise UsageError(f"{args.data} has samples without context and label: collect it anew")
    count = min(args.limit, len(samples)) or len(samples)
    chosen = np.linspace(0, len(samples) - 1, count).astype(int).tolist()
    answers = ask(mentor, samples, chosen, args.batch_size)
    pairs = [
        (samples.words[index]["label"], label)
        for index, label in zip(chosen, answers, strict=True)
        if label is not None
    ]
    if not pairs:
        raise UsageError(f"{args.mentor} answered none of {count} questions")
    labels, found = np.array(pairs).T
    counts = confusion(labels, found, language.NUM_ACTIONS)
    towns = sorted({str(words["town"]) for words in samples.words if "town" in words})
    told = {
        "mentor": args.mentor,
        "data": str(args.data),
        "towns": towns,
        "pictures": count,
        "answered": len(pairs),
        **figures(counts),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    picture, table, text = (args.output / f"{args.name}{suffix}" for suffix in (".png", ".csv", ".json"))
    draw(counts, f"{args.mentor} on {len(pairs):,} pictures of {', '.join(towns) or args.data.name}", picture)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("true", *NAMES))
        writer.writerows((name, *row) for name, row in zip(NAMES, counts.tolist(), strict=True))
    write_atomically(text, json.dumps(told | {"command": command, **describe_start()}, indent=2) + "\n")
    show(summary(told), f"{len(pairs):,} of {count:,} answered; written: {picture}, {table}, {text}")
    return told
