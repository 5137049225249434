"""What models know of where things stand, on the fixed validation or test set of `UnitySpatial-v0`.

    mentorgym spatial-accuracy --split test --clip ours= --vlm ours=

`--clip` and `--vlm` are models, each `name=<folder or hub name>`; `name=` alone is the package's own. For a CLIP: how
often the true caption is likelier than one with a term swapped, and than one with subject and referent exchanged, the
mean of the two (two-way, chance 50 %, RLS3's likely measure), and how often it is the likeliest of four; equals share.
For a VLM: the mean score of its answers on the rubric, 1 to 5, and how often all terms are right and no other is said.
Scores are told for each term and for captions of one, two and three terms, too. Beside them stand, measured likewise:

- `blind`, which sees no picture. Of each pair of objects it knows how often which relation held in the training rooms,
  and says what would have scored best there;
- `geometry`, which reads the relation off the true positions, and so is right: what a perfect observer would get.

Intervals are bootstrap intervals of the mean over samples, 95 %. Written to `--output`: `<name>.json` and `<name>.md`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mentorgym.agents.toolbox import start_torch
from mentorgym.agents.toolbox.students import Sample, load_student
from mentorgym.benchmarks.harness.command import (
    UsageError,
    made_by,
    output_files,
    show,
    track,
    user_input,
    verb,
    write_figures,
    write_text,
)
from mentorgym.benchmarks.harness.statistics import mean_interval
from mentorgym.benchmarks.harness.tables import markdown_table
from mentorgym.envs.spatial import language, relations, rubric
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.metrics import clip_figures, groups, in_words, vlm_figures
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.samples import Samples, arrangements

PRIOR = 20_000
"""Arrangements that the blind baseline has counted."""

PRIOR_SEED = 1
"""Their seed; 0 is that of the fixed sets."""

AT_ONCE = 64
"""Samples that are shown at once."""


@dataclass
class Args:
    """Measure models on a fixed set."""

    split: Literal["val", "test"] = "test"
    """set: val has the training rooms, test rooms of its own"""
    camera: Literal["close", "paper"] = "close"
    """near a surface, or at room scale as in the paper"""
    clip: tuple[str, ...] = ()
    """CLIPs, name=<folder or hub name> each"""
    vlm: tuple[str, ...] = ()
    """generative models, likewise"""
    name: str = "spatial_accuracy"
    """name of the files"""
    output: Path = Path("runs")
    """folder for them"""
    limit: int = 0
    """samples, the first of the set; all of them for 0"""
    device: str = "cpu"
    """torch device of the models"""
    torch_threads: int = 1
    """threads of torch on the CPU"""


class Prior:
    """How often which relation held of each ordered pair of objects, counted over arrangements, one added to each."""

    def __init__(self, rooms: Sequence[Arrangement]):
        self.counts = np.ones((len(NAMES), len(NAMES), len(relations.RELATIONS)))
        pairs = np.array(list(itertools.permutations(range(3), 2)))
        for room in rooms:
            centres, objects = room.centres, np.array(room.objects)
            offsets = centres[pairs[:, 0]] - centres[pairs[:, 1]]
            held = relations.measure_offsets(offsets, room.camera.yaw).places
            self.counts[objects[pairs[:, 0]], objects[pairs[:, 1]], held] += 1

    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """For each pair of names the caption that would have scored best."""
        captions = [language.caption("subject", "referent", terms) for terms in relations.RELATIONS]
        scores = np.array([[rubric.score(text, terms) for terms in relations.RELATIONS] for text in captions])
        best = (self.counts @ scores.T).argmax(-1)
        return [
            language.caption(*names, relations.RELATIONS[best[NAMES.index(names[0]), NAMES.index(names[1])]])
            for names in pairs
        ]

    def likelihood(self, caption: str, names: tuple[str, str]) -> float:
        """How often the relation that a caption of two objects tells of has held, as a share."""
        for subject, referent in (names, names[::-1]):
            if caption.startswith(f"The {subject} is "):
                counts = self.counts[NAMES.index(subject), NAMES.index(referent)]
                place = language.captions_of(subject, referent).index(caption)
                return float(counts[place] / counts.sum())
        raise ValueError(f"{caption!r} tells of neither of {names}")


def baselines(samples: Samples) -> dict[str, dict[str, np.ndarray]]:
    """The figures of `blind` and `geometry`, of both kinds of task."""
    names = [
        (room.names[each.subject], room.names[each.referent])
        for room, each in zip(samples.arrangements, samples.examples, strict=True)
    ]
    prior = Prior(list(itertools.islice(arrangements("train", PRIOR_SEED), PRIOR)))
    likely = np.array(
        [
            [prior.likelihood(text, pair) for text in each.choices]
            for each, pair in zip(samples.examples, names, strict=True)
        ]
    )
    seen = []
    for room, each in zip(samples.arrangements, samples.examples, strict=True):
        terms = relations.relation_of(room, each.subject, each.referent).terms
        seen.append(language.caption(room.names[each.subject], room.names[each.referent], terms))
    true = np.array(
        [[text == caption for text in each.choices] for caption, each in zip(seen, samples.examples, strict=True)]
    )
    return {
        "blind": clip_figures(likely) | vlm_figures(prior.answers(names), samples.examples),
        "geometry": clip_figures(true.astype(float)) | vlm_figures(seen, samples.examples),
    }


def measure(spec: str, samples: Samples, device: str) -> dict[str, np.ndarray]:
    """The figures of the model that `spec` names, as `load_student` does, float64 [N] each."""
    student = load_student(spec, device, {})
    parts: list[dict[str, np.ndarray]] = []
    for start in track(range(0, len(samples), AT_ONCE), spec):
        parts.append(student.figures([Sample(*each) for each in samples[start : start + AT_ONCE]]))
    return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}


def summarise(figures: Mapping[str, np.ndarray], within: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Mean, interval and number of samples of each figure, over all samples and over each group that has any."""
    summaries = {}
    for name, values in figures.items():
        parts = {"all": np.ones(len(values), bool)} | dict(within)
        summaries[name] = {
            part: {"mean": float(values[rows].mean()), "interval": mean_interval(values[rows]), "n": int(rows.sum())}
            for part, rows in parts.items()
            if rows.any()
        }
    return summaries


def _cell(figures: Mapping[str, Any], name: str, part: str) -> str:
    if part not in figures.get(name, ()):
        return "-"
    values = (figures[name][part]["mean"], *figures[name][part]["interval"])
    if name == "score":
        return "{:.2f} ({:.2f} to {:.2f})".format(*values)
    return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * value for value in values))


ROWS = {
    "two-way": ("two_way", "all"),
    "two-way, term swapped": ("term", "all"),
    "two-way, order swapped": ("order", "all"),
    "four-way": ("four_way", "all"),
    "score": ("score", "all"),
    "exact": ("exact", "all"),
}
"""Rows of the table that every model has, and what they show; scores and two-way choices by group follow."""


def markdown(result: Mapping[str, Any], command: str) -> str:
    """The tables with what they show and the command that made them."""
    models = result["models"]
    rows = dict(ROWS)
    parts = [part for part in result["groups"] if result["groups"][part]]
    for name in ("two_way", "score"):
        rows |= {f"{in_words(name)}, {in_words(part)}": (name, part) for part in parts}
    counts = ", ".join(f"{in_words(part)} {count}" for part, count in result["groups"].items())
    cells = [
        [heading, *(_cell(each["figures"], *where) for each in models.values())] for heading, where in rows.items()
    ]
    return (
        f"{result['samples']:,} samples of the {result['split']} set, {result['camera']} camera; with {counts}.\n\n"
        "Choices in percent, scores from 1 to 5, with 95 % bootstrap intervals over samples. By chance two-way is "
        f"50 %\nand four-way 25 %.\n\n{markdown_table(['', *models], cells)}\n{made_by(command)}\n"
    )


@verb("spatial-accuracy")
def main(args: Args, command: str) -> dict[str, Any]:
    """Measure the models and the baselines, and write the files."""
    specs = [
        (kind, *each.partition("=")[::2]) for kind, named in (("clip", args.clip), ("vlm", args.vlm)) for each in named
    ]
    if not all("=" in each for each in (*args.clip, *args.vlm)) or not all(name for _, name, _ in specs):
        raise UsageError("--clip and --vlm are name=<folder or hub name>, or name= for our own")
    if len({(kind, name) for kind, name, _ in specs}) < len(specs):
        raise UsageError("two models have one name")
    if args.limit < 0:
        raise UsageError("--limit counts from 0")
    start_torch(seed=0, threads=args.torch_threads)
    text, figures_file = output_files(args.output, args.name, ".md", ".json")
    with user_input():
        samples = Samples(args.split, args.limit or None, camera=args.camera)
        within = groups(samples.examples)
        models: dict[str, Any] = {
            name: {"model": name, "figures": summarise(figures, within)} for name, figures in baselines(samples).items()
        }
        for kind, name, folder in specs:
            figures = measure(f"{kind}:{folder}", samples, args.device)
            models[f"{name} ({kind})"] = {"model": folder or f"spatial_{kind}", "figures": summarise(figures, within)}
    result = {
        "split": args.split,
        "camera": args.camera,
        "samples": len(samples),
        "groups": {name: int(rows.sum()) for name, rows in within.items()},
        "models": models,
    }
    page = markdown(result, command)
    write_text(text, page)
    write_figures(figures_file, result, command)
    show(page, f"written: {text}, {figures_file}")
    return result
