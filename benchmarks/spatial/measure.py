"""Measure what models know of where things stand: those that RLS3's runs have fine-tuned, and others.

    python -m mentorgym.benchmarks.spatial.measure --run runs/UnitySpatial-v0/rls3__seed1__0123abcd
    python -m mentorgym.benchmarks.spatial.measure --model vlm clip vlm:google/paligemma-3b-mix-224
    python -m mentorgym.benchmarks.evaluate --run runs/UnitySpatial-v0/rls3__seed1__0123abcd      # the same

The first `--samples` of a fixed set are shown (`envs.spatial.samples`), by default all 1,000 of the rooms to test in.
The row of a run or a model (see `benchmarks.harness.rows`) holds a VLM's mean score on the rubric and the share of
exact answers, or a CLIP's two-way and four-way accuracy, and the first of them for captions with each term and number
of terms. Rows go to `--output`, else to the run's `eval.jsonl`, else to `results/rows/<name>__UnitySpatial-v0.jsonl`.
`spatial_accuracy` compares models with baselines.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentorgym.agents.toolbox import parse_keywords, start_torch
from mentorgym.agents.toolbox.runs import describe_start
from mentorgym.agents.toolbox.students import KINDS, Student, describe, fixed_samples, load_student
from mentorgym.benchmarks.driving.drivers import Training, agent_of, read_training
from mentorgym.benchmarks.harness.command import UsageError, command_line, run_command, show
from mentorgym.benchmarks.harness.rows import ROWS, SCHEMA, Row, add_rows
from mentorgym.digests import files_digest
from mentorgym.envs.spatial.metrics import in_words
from mentorgym.envs.spatial.samples import SIZES
from mentorgym.mentors.load import WEIGHTS

ENV = "UnitySpatial-v0"


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
    """name on the table; by default the agent's, its sampler's and the model's; of our own models start and the kind"""
    device: str = "cpu"
    """torch device of the models"""
    output: Path | None = None
    """file for the rows"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """print one JSON object instead of the table"""


def is_spatial(env: str) -> bool:
    """Whether an environment's id, with or without a module before it, is that of the rooms."""
    return env.split(":")[-1] == ENV


def digest(folder: Path) -> str | None:
    """The first 12 digits of the SHA-256 of a model's weights; None for what is no folder."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return files_digest(files, 12) if files else None


def load(spec: str, device: str) -> Student:
    """The model that `spec` names; UsageError for one that cannot be loaded."""
    if spec.split(":")[0] not in KINDS:
        raise UsageError(f"--model {spec}: give one of {', '.join(KINDS)}, or that and :<folder or hub name>")
    try:
        return load_student(spec, device, {})
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(f"{spec}: {error}") from error


def make_row(args: Args, spec: str, training: Training | None, command: str) -> Row:
    """Measure the model that `spec` names, which `training` has left, if any has."""
    kind, _, folder = spec.partition(":")
    own = parse_keywords(tuple(training.args.get("env_args", ()))) if training else {}
    camera = args.camera or str(own.get("camera", "close"))
    count = args.samples or SIZES[args.split]
    student = load(spec, args.device)
    try:
        figures = describe(student, fixed_samples(args.split, count, camera), "of")
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from error
    name = spec if folder else f"start, {kind}"
    if training:
        agent = Path(args.driver).stem or agent_of(training.folder)
        name = f"{agent}, {training.args['sampler']}, {kind}"
    path = Path(folder) if folder else WEIGHTS / f"spatial_{kind.removeprefix('neg')}"
    return {
        "schema": SCHEMA,
        "backend": "embedded",
        "env": ENV,
        "driver": args.name or name,
        "run": training and training.folder.resolve().name,
        "training_seed": training and training.seed,
        "training_steps": training and training.steps,
        "training_args": training and {name: value for name, value in training.args.items() if name != "runs"},
        "weights": digest(path),
        "kind": kind,
        "split": args.split,
        "camera": camera,
        "samples": count,
        "score": {name.partition("/")[2]: value for name, value in figures.items()},
        "command": command,
        **describe_start(),
    }


def evaluate(args: Args, command: str) -> tuple[list[Row], list[Path]]:
    """Measure all that `args` name and write the rows; returns the rows and where they went."""
    if not is_spatial(args.env):
        raise UsageError(f"--env {args.env}: models are shown the rooms of {ENV}")
    if not (args.run or args.model) or args.samples < 0:
        raise UsageError("nothing to measure: give --run FOLDER or --model NAME, and a number of samples from 0 on")
    start_torch(seed=0, threads=1)
    rows, outputs = [], []
    for folder in args.run:
        training = read_training(folder)
        if "sampler" not in training.args or not (folder / "model").is_dir():
            raise UsageError(f"{folder} has fine-tuned no model: give a run of rls3")
        spec = f"{str(training.args['model']).partition(':')[0]}:{folder / 'model'}"
        rows.append(make_row(args, spec, training, command))
        outputs.append(args.output or folder / "eval.jsonl")
        add_rows(outputs[-1], rows[-1:])
    for spec in args.model:
        rows.append(make_row(args, spec, None, command))
        named = (args.name or spec).replace("/", "_").replace(":", "_")
        outputs.append(args.output or ROWS / f"{named}__{ENV}.jsonl")
        add_rows(outputs[-1], rows[-1:])
    return rows, outputs


def summary_table(rows: Sequence[Row]) -> Table:
    """`rows` for the terminal."""
    names = [name for name in rows[0]["score"] if all(name in row["score"] for row in rows)]
    table = Table("driver", "samples", box=SIMPLE_HEAD)
    for name in names:
        table.add_column(in_words(name), justify="right")
    for row in rows:
        seed = "" if row["training_seed"] is None else f", seed {row['training_seed']}"
        scores = (f"{row['score'][name]:.3f}" for name in names)
        table.add_row(row["driver"] + seed, f"{row['samples']:,} of {row['split']}, {row['camera']}", *scores)
    return table


def main(arguments: Sequence[str] | None = None, name: str = "spatial") -> None:
    """The command, called `name`; `arguments` are those of the command line by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = tyro.cli(Args, args=arguments, prog=name, description=__doc__)
    command = command_line(name, arguments)

    def job() -> dict[str, Any]:
        rows, outputs = evaluate(args, command)
        written = [str(path) for path in dict.fromkeys(outputs)]
        show(summary_table(rows), f"rows: {', '.join(written)}")
        shown = ("driver", "run", "training_seed", "split", "camera", "samples", "score")
        return {"rows": [{key: row[key] for key in shown} for row in rows], "outputs": written}

    run_command(name, job, args.as_json)


if __name__ == "__main__":
    main()
