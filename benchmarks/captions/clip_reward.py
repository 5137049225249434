"""What a reward model makes of pictures and texts: similarity, matches, AUROC and retrieval, beside each other.

    mentorgym clip-reward --data captions/test --models before=<folder> ours=

`--models` are CLIPs, each `name=<folder or hub name>`: as in the RLOO paper's Table 1 one before
tuning, one tuned on actions, one on reasons. `--data` is what `mentorgym caption-data` writes. A
picture is weighed against its own caption ("output"), its action and its reason alone, a wrong caption (drawn from
all distinct ones, as in training), a hard one (the same action, another reason) and texts that have nothing to do
with it. For each model:

- mean probability, and share of pictures with more than 0.5 ("match"), of the paper's read-out sigmoid(scale * cosine),
  and of that with the learned bias, where the model has one;
- AUROC of own texts against wrong ones, and of own captions against hard ones: whether the cosines tell them apart;
- accuracy of the likeliest of the distinct texts, plain and balanced (the mean over the texts that occur);
- at 0.5, over own and wrong captions: accuracy, precision, recall, F1 (the paper's Fig. 11).

Written to `--output`: `<name>.json` (the figures), `<name>.md` (the table) and `<name>.png` (ROC curves and confusion).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

from mentorgym.agents.toolbox import start_torch
from mentorgym.agents.toolbox.pairs import Part, auroc, part_of, probabilities, wrong_text
from mentorgym.agents.toolbox.runs import describe_start, write_atomically
from mentorgym.agents.toolbox.shards import Samples
from mentorgym.benchmarks.harness.command import (
    UsageError,
    import_matplotlib,
    progress_console,
    show,
    verb,
)
from mentorgym.envs.caption.reward import load_scorer
from mentorgym.mentors.clip import Scorer

IRRELEVANT = ("123", "abc")
"""Texts that fit no picture (RLOO paper, section 5.2)."""

PARTS: tuple[Part, ...] = ("output", "action", "reason")


@dataclass
class Args:
    """Measure reward models on held-out pictures."""

    data: Path
    """folder of shards of captioned pictures"""
    models: tuple[str, ...] = ("ours=",)
    """name=<folder or hub name> of each reward model; name= alone is the package's own"""
    name: str = "clip_reward"
    """name of the files"""
    output: Path = Path("runs")
    """folder for them"""
    limit: int = 0
    """pictures to show, spread over the data; all of them for 0"""
    seed: int = 0
    """seed of the wrong texts"""
    table: bool = False
    """print the table as Markdown"""
    torch_threads: int = 1
    """threads of torch on the CPU"""


@dataclass
class Question:
    """Pictures and the texts that they are weighed against."""

    texts: list[str]
    """distinct"""
    own: np.ndarray
    """int64 [N], each picture's text"""
    wrong: np.ndarray
    """int64 [N], another, all as likely"""
    hard: np.ndarray
    """int64 [N], one with the same action and another reason; -1 where there is none"""


def ask(captions: Sequence[str], generator: np.random.Generator) -> dict[str, Question]:
    """The texts for each of PARTS; ValueError where a part is the same for all pictures."""
    questions: dict[str, Question] = {}
    for part in PARTS:
        told = [part_of(caption, part) for caption in captions]
        texts = sorted(set(told))
        if len(texts) < 2:
            raise ValueError(f"all pictures have the {part} {texts[0]!r}: there is no wrong one to weigh against")
        places = {text: place for place, text in enumerate(texts)}
        wrong = [places[wrong_text(text, texts, generator)] for text in told]
        hard = np.full(len(told), -1)
        if part == "output":
            groups: dict[str, list[str]] = {}
            for text in texts:
                groups.setdefault(part_of(text, "action"), []).append(text)
            for row, text in enumerate(told):
                group = groups[part_of(text, "action")]
                if len(group) > 1:
                    hard[row] = places[wrong_text(text, group, generator)]
        questions[part] = Question(texts, np.array([places[text] for text in told]), np.array(wrong), hard)
    return questions


def accuracies(found: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """Share of `found` int64 [N] that is `own`, plain and as the mean over what occurs in `own`."""
    right = found == own
    return float(right.mean()), float(np.mean([right[own == each].mean() for each in np.unique(own)]))


def at_half(match: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Counts and rates at 0.5 of the probabilities of pairs that match and of pairs that do not."""
    hits, false = int((match > 0.5).sum()), int((other > 0.5).sum())
    named = hits + false
    return {
        "true_positives": hits,
        "false_negatives": len(match) - hits,
        "false_positives": false,
        "true_negatives": len(other) - false,
        "accuracy": (hits + len(other) - false) / (len(match) + len(other)),
        "precision": hits / named if named else 0.0,
        "recall": hits / len(match),
        "f1": 2 * hits / (named + len(match)),
    }


def measure(
    scorer: Scorer, images: np.ndarray, questions: Mapping[str, Question]
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The figures of a model whose unit vectors of the pictures are `images` [N, D], and two arrays for the plots.

    Those are the cosines of own and of wrong captions, float32 [2, N], and the counts at 0.5 of the read-out with the
    bias, or where the model has none of the paper's, int64 [2, 2].
    """
    told: dict[str, Any] = {"scale": scorer.scale, "bias": scorer.bias, "auroc": {}, "retrieval": {}}
    weighed: dict[str, np.ndarray] = {}
    rows = np.arange(len(images))
    for part, question in questions.items():
        cosines = images @ scorer.encode_texts(question.texts).T
        weighed[part], wrong = cosines[rows, question.own], cosines[rows, question.wrong]
        labels = np.repeat([True, False], len(images))
        told["auroc"][part] = auroc(np.concatenate([weighed[part], wrong]), labels)
        plain, balanced = accuracies(cosines.argmax(1), question.own)
        told["retrieval"][part] = {"texts": len(question.texts), "accuracy": plain, "balanced_accuracy": balanced}
        if part == "output":
            weighed["wrong output"] = wrong
            there = question.hard >= 0
            if there.any():
                weighed["hard output"] = cosines[rows[there], question.hard[there]]
                pairs = np.concatenate([weighed[part][there], weighed["hard output"]])
                told["auroc"]["hard output"] = auroc(pairs, np.repeat([True, False], int(there.sum())))
    cosines = images @ scorer.encode_texts(IRRELEVANT).T
    weighed |= {f'"{text}"': cosines[:, place] for place, text in enumerate(IRRELEVANT)}
    told["readouts"] = {}
    for readout, bias in {"paper": 0.0, **({"bias": scorer.bias} if scorer.bias else {})}.items():
        found = {name: probabilities(each, scorer.scale, bias) for name, each in weighed.items()}
        told["readouts"][readout] = {
            "similarity": {name: float(each.mean()) for name, each in found.items()},
            "match": {name: float((each > 0.5).mean()) for name, each in found.items()},
            "at_half": at_half(found["output"], found["wrong output"]),
        }
    *_, last = told["readouts"].values()
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    return (
        told,
        np.stack([weighed["output"], weighed["wrong output"]]),
        np.reshape([last["at_half"][each] for each in names], (2, 2)),
    )


def roc_curve(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, float64 [K], of cosines [2, N] of pairs that match and that do not."""
    thresholds = np.unique(cosines)[::-1]
    match, other = (np.sort(row) for row in cosines)
    rates = [1.0 - np.searchsorted(row, thresholds, side="left") / len(row) for row in (other, match)]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def draw(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]], pictures: int, path: Path) -> None:
    """Write the ROC curves and, for each model, its counts at 0.5 as a PNG."""
    matplotlib = import_matplotlib("the picture")
    with matplotlib.rc_context({"font.size": 8}):
        figure = matplotlib.figure.Figure(figsize=(4.2 + 2.4 * len(curves), 4.0), layout="constrained")
        ratios = [1.75, *[1.0] * len(curves)]
        roc, *squares = figure.subplots(1, 1 + len(curves), width_ratios=ratios)
        for square, (name, (cosines, counts, area)) in zip(squares, curves.items(), strict=True):
            roc.plot(*roc_curve(cosines), label=f"{name}: {area:.3f}")
            square.imshow(counts, cmap="Blues", vmin=0, vmax=pictures)
            for row, column in np.ndindex(counts.shape):
                colour = "white" if counts[row, column] > pictures / 2 else "black"
                square.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour)
            square.set_xticks(range(2), ["no match", "match"])
            square.set_yticks(range(2), ["wrong", "own"], rotation=90, va="center")
            square.set(title=f"{name}, at 0.5", xlabel="found", ylabel="caption")
        roc.plot([0, 1], [0, 1], color="0.7", linestyle=":")
        roc.set(xlabel="wrong captions that match", ylabel="own captions that match", title="ROC", aspect="equal")
        roc.legend(title="area under the curve", loc="lower right")
        figure.savefig(path, dpi=120, metadata={"Software": None})


def rows_of(told: Mapping[str, Any], readout: str) -> dict[str, str]:
    """The table's cells for one model's read-out, by row."""
    read = told["readouts"][readout]
    cells = {
        f"image vs. {name}": f"{read['similarity'][name]:.4f}, {read['match'][name]:.2%}" for name in read["similarity"]
    }
    cells |= {f"AUROC, {name}": f"{value:.4f}" for name, value in told["auroc"].items()}
    for part, found in told["retrieval"].items():
        text = f"{found['accuracy']:.2%}, {found['balanced_accuracy']:.2%}"
        cells[f"likeliest {part} of {found['texts']}"] = text
    half = read["at_half"]
    return cells | {f"at 0.5, {name}": f"{half[name]:.4f}" for name in ("accuracy", "precision", "recall", "f1")}


def columns_of(models: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The table's columns: for each model its read-out with the bias, where there is one, after the paper's."""
    titles = {"paper": "paper's read-out", "bias": "with bias"}
    return {
        f"{name}, {titles[readout]}": rows_of(told, readout)
        for name, told in models.items()
        for readout in told["readouts"]
    }


def markdown(told: Mapping[str, Any], command: str) -> str:
    """The table with what its cells are, and the command that made it."""
    columns = columns_of(told["models"])
    names = list(dict.fromkeys(name for cells in columns.values() for name in cells))
    lines = [
        f"Reward models on {told['pictures']:,} held-out pictures ({told['data']}).",
        "",
        "Image vs. text: mean probability and share above 0.5. Likeliest: accuracy, plain and balanced. AUROC and the",
        "likeliest depend on the cosines alone, not on the read-out. Output is the whole caption; a hard one has the",
        "same action and another reason.",
        "",
        f"| | {' | '.join(columns)} |",
        f"| --- |{' --- |' * len(columns)}",
        *(f"| {name} | {' | '.join(cells.get(name, '-') for cells in columns.values())} |" for name in names),
        "",
        f"Made by `{command}`.",
    ]
    return "\n".join(lines) + "\n"


def summary(models: Mapping[str, Any]) -> Table:
    """The same table for the terminal."""
    columns = columns_of(models)
    table = Table("", *columns, box=SIMPLE_HEAD)
    for name in dict.fromkeys(name for cells in columns.values() for name in cells):
        table.add_row(name, *(cells.get(name, "-") for cells in columns.values()))
    return table


def encode(scorer: Scorer, picture: Callable[[int], np.ndarray], chosen: Sequence[int], name: str) -> np.ndarray:
    """Unit vectors float32 [N, D] of the chosen pictures."""
    starts = range(0, len(chosen), 64)
    return np.concatenate(
        [
            scorer.encode_images([picture(index) for index in chosen[start : start + 64]])
            for start in track(starts, name, console=progress_console, transient=True)
        ]
    )


@verb("clip-reward")
def main(args: Args, command: str) -> dict[str, Any]:
    """The command."""
    named = {name: folder for name, _, folder in (each.partition("=") for each in args.models)}
    if "" in named or not all("=" in each for each in args.models) or not 0 < len(named) == len(args.models):
        raise UsageError("--models are name=<folder or hub name>, each with a name of its own")
    if args.limit < 0:
        raise UsageError("--limit counts from 0")
    start_torch(seed=0, threads=args.torch_threads)
    try:
        samples = Samples(args.data)
        if any("caption" not in words for words in samples.words):
            raise UsageError(f"{args.data} has samples without a caption")
        count = min(args.limit, len(samples)) or len(samples)
        chosen = np.unique(np.linspace(0, len(samples) - 1, count).astype(int)).tolist()
        captions = [samples.words[index]["caption"] for index in chosen]
        questions = ask(captions, np.random.default_rng(args.seed))
        scorers = {name: load_scorer(folder) for name, folder in named.items()}
        images = {name: encode(scorer, samples.picture, chosen, name) for name, scorer in scorers.items()}
    except (ValueError, ImportError, OSError) as error:
        raise UsageError(str(error)) from error
    models, curves = {}, {}
    for name, scorer in scorers.items():
        figures, cosines, counts = measure(scorer, images[name], questions)
        models[name] = {"model": named[name] or "caption_clip", **figures}
        curves[name] = cosines, counts, figures["auroc"]["output"]
    told = {"data": str(args.data), "pictures": len(chosen), "models": models}
    page = markdown(told, command)
    args.output.mkdir(parents=True, exist_ok=True)
    picture, text, figures_file = (args.output / f"{args.name}{suffix}" for suffix in (".png", ".md", ".json"))
    write_atomically(text, page)
    write_atomically(figures_file, json.dumps(told | {"command": command, **describe_start()}, indent=2) + "\n")
    draw(curves, len(chosen), picture)
    show(page if args.table else summary(models), f"written: {picture}, {text}, {figures_file}")
    return told
