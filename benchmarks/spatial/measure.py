"""Measure what models know of where things stand: those that RLS3's runs have fine-tuned, and others.

    mentorgym evaluate --run runs/UnitySpatial-v0/rls3__seed1__0123abcd
    mentorgym evaluate --env UnitySpatial-v0 --model vlm clip vlm:google/paligemma-3b-mix-224

The first `--samples` of a fixed set are shown (`envs.spatial.samples`), by default all 1,000 of the rooms to test in.
The row of a run or a model (`benchmarks.harness.rows`) holds a VLM's mean score on the rubric and the share of exact
answers, or a CLIP's two-way and four-way accuracy, and the first of them for captions with each term and number of
terms. Rows go to `--output`, else to the run's `eval.jsonl`, else to `runs/rows/<name>__UnitySpatial-v0.jsonl`.
`mentorgym spatial-accuracy` compares models with baselines.

Fields of a row: `kind` of model ("vlm", "clip" or "negclip"), `split`, `camera` and `samples`, how many pictures of the
split were shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from mentorgym.agents.toolbox import parse_keywords, start_torch
from mentorgym.agents.toolbox.students import KINDS, Student, describe, fixed_samples, load_student
from mentorgym.benchmarks.families import Row, family_of
from mentorgym.benchmarks.harness.agents import Training, load_agent, read_training, run_name
from mentorgym.benchmarks.harness.command import UsageError, user_input
from mentorgym.benchmarks.harness.rows import add_rows, default_file, make_header
from mentorgym.benchmarks.harness.tables import driver_and_seed, text_table
from mentorgym.digests import files_digest
from mentorgym.envs.spatial.metrics import SPATIAL_TERMS, in_words
from mentorgym.envs.spatial.samples import SIZES
from mentorgym.mentors.load import WEIGHTS

ENV = "UnitySpatial-v0"

FIELDS: dict[str, tuple[type, ...]] = {"kind": (str,), "split": (str,), "camera": (str,), "samples": (int,)}

KEY = tuple(FIELDS)

EPISODE: tuple[str, ...] = ()

CELL: tuple[str, ...] = ()

RANKS_TRAINERS = False

KIND_SCORES = {"vlm": ("score", "exact"), "clip": ("two_way", "four_way"), "negclip": ("two_way", "four_way")}
"""Scores that every row has, by kind of model; the first is what models are ranked by."""

SCORES = ("score", "exact", "two_way", "four_way")

MORE_SCORES = ("term", "order", *SPATIAL_TERMS, "terms_1", "terms_2", "terms_3")


@dataclass
class Tasks:
    """What to show to models."""

    env: str = ENV
    """environment id: this one"""
    split: Literal["val", "test"] = "test"
    """set: val has the rooms to train in, test others"""
    camera: Literal["", "close", "paper"] = ""
    """cameras near a surface, or at room scale; by default the run's, else close"""
    samples: int = 0
    """how many of the set; all of them for 0"""


@dataclass
class Args(Tasks):
    """Measure what models know of where things stand."""

    run: tuple[Path, ...] = ()
    """folders of finished runs of rls3"""
    model: tuple[str, ...] = ()
    """models that were not fine-tuned here: vlm, clip or negclip for our own, or vlm:<folder or hub name> and so on"""
    driver: str = ""
    """agent that trained the run, or its file, for the name on the table; by default what the run says"""
    name: str = ""
    """name on the table; by default the agent's with its flags; of our own models start and the kind"""
    device: str = "cpu"
    """torch device of the models"""
    output: Path | None = None
    """file for the rows"""


def digest(folder: Path) -> str | None:
    """The first 12 digits of the SHA-256 of a model's weights; None for what is no folder."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return files_digest(files, 12) if files else None


def load(spec: str, device: str) -> Student:
    """The model that `spec` names; UsageError for one that cannot be loaded."""
    if spec.split(":")[0] not in KINDS:
        raise UsageError(f"--model {spec}: give one of {', '.join(KINDS)}, or that and :<folder or hub name>")
    with user_input(f"{spec}: "):
        return load_student(spec, device, {})


def make_row(args: Args, spec: str, training: Training | None, command: str) -> Row:
    """Measure the model that `spec` names, which `training` has left, if any has."""
    kind, _, folder = spec.partition(":")
    own = parse_keywords(tuple(training.args.get("env_args", ()))) if training else {}
    camera = args.camera or str(own.get("camera", "close"))
    count = args.samples or SIZES[args.split]
    student = load(spec, args.device)
    with user_input():
        figures = describe(student, fixed_samples(args.split, count, camera), "of")
    name = spec if folder else f"start, {kind}"
    if training:
        name = run_name(training.agent, training.flags, environment_defaults(ENV))
    path = Path(folder) if folder else WEIGHTS / f"spatial_{kind.removeprefix('neg')}"
    return make_header(ENV, "embedded", args.name or name, training, command) | {
        "weights": digest(path),
        "kind": kind,
        "split": args.split,
        "camera": camera,
        "samples": count,
        "score": {name.partition("/")[2]: value for name, value in figures.items()},
    }


def required_scores(row: Row) -> Sequence[str]:
    """Scores that a row has to have; UsageError for an unknown kind of model."""
    if row["kind"] not in KIND_SCORES:
        raise UsageError(f"kind {row['kind']!r}: there are {', '.join(KIND_SCORES)}")
    return KIND_SCORES[row["kind"]]


def environment_defaults(env: str) -> Mapping[str, Any]:
    """The camera of the environment where none is named."""
    return {"env_id": ENV, "camera": "close"}


def measure(args: Args, command: str) -> tuple[list[Row], list[Path], dict[str, Any]]:
    """Measure all that `args` name and write the rows; returns the rows and where they went."""
    if family_of(args.env) != "spatial":
        raise UsageError(f"--env {args.env}: models are shown the rooms of {ENV}")
    if not (args.run or args.model) or args.samples < 0:
        raise UsageError("nothing to measure: give --run FOLDER or --model NAME, and a number of samples from 0 on")
    start_torch(seed=0, threads=1)
    rows, outputs = [], []
    for folder in args.run:
        training = read_training(folder, load_agent(args.driver) if args.driver else None)
        if "sampler" not in training.args or not (folder / "model").is_dir():
            raise UsageError(f"{folder} has fine-tuned no model: give a run of rls3")
        spec = f"{str(training.args['model']).partition(':')[0]}:{folder / 'model'}"
        rows.append(make_row(args, spec, training, command))
        outputs.append(args.output or default_file(training, "", ENV))
        add_rows(outputs[-1], rows[-1:])
    for spec in args.model:
        rows.append(make_row(args, spec, None, command))
        outputs.append(args.output or default_file(None, args.name or spec, ENV))
        add_rows(outputs[-1], rows[-1:])
    return rows, outputs, {}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """`rows` as `mentorgym evaluate --json` prints them."""
    shown = ("driver", "run", "training_seed", "split", "camera", "samples", "score")
    return {"rows": [{key: row[key] for key in shown} for row in rows]}


def summary(rows: Sequence[Row], args: Args) -> Table:
    """`rows` for the terminal."""
    names = [name for name in rows[0]["score"] if all(name in row["score"] for row in rows)]
    lines = [
        [
            driver_and_seed(row),
            f"{row['samples']:,} of {row['split']}, {row['camera']}",
            *(f"{row['score'][name]:.3f}" for name in names),
        ]
        for row in rows
    ]
    return text_table(["driver", "samples", *map(in_words, names)], lines, 2)
