"""How fast drivers decide: parameters, and forward passes per second one observation at a time.

    mentorgym efficiency
    mentorgym efficiency --mentor vlm:my_checkpoint --device cuda

Every agent in `agents/` with the networks of its defaults and of its presets, with random weights, for what they cost
does not depend on what they have learned; agents with the same networks share a line. Then CLIP scorers and
vision-language models, which write their reply or score the 30 of the grid. A pass is all that lies between an
observation and its action: packing or preprocessing, the networks, the reply. Drawing masks and pictures, and waiting
in queues, is not in it. The observations come from drives of the expert's. `--passes` runs in a row are timed after a
few that are not. Writes `efficiency.md` into `--output`, with the figures that Found-RL prints in its table 8 where
`--published` has them.
"""

import importlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox import start_torch
from mentorgym.agents.toolbox.runs import describe_start, parse_keywords
from mentorgym.benchmarks.driving.published import read_figures
from mentorgym.benchmarks.harness.agents import agent_names
from mentorgym.benchmarks.harness.command import (
    UsageError,
    output_files,
    progress_console,
    show,
    user_input,
    verb,
    write_text,
)
from mentorgym.benchmarks.harness.tables import markdown_table, text_table
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.view import language
from mentorgym.mentors.load import load_mentor
from mentorgym.mentors.mentor import Mentor, Request

OBSERVATIONS, STEPS, UNTIMED = 16, 50, 20
"""Different observations, how far they have been driven to, and passes before the clock starts."""

HEADER = ("driver", "parameters", "passes/s", "median ms", "passes")


@dataclass
class Args:
    """Measure how fast every driver decides."""

    agent: tuple[str, ...] = ()
    """agents, by name; all of them if none is given"""
    mentor: tuple[str, ...] = ("clip", "vlm")
    """mentors: clip and vlm, or any others that load_mentor takes"""
    mentor_args: tuple[str, ...] = ()
    """keyword arguments of every mentor, as in: dtype=bfloat16"""
    passes: int = 1_000
    """passes that are timed"""
    threads: int = 1
    """threads of torch on the CPU"""
    device: str = "cpu"
    """torch device"""
    env: str = "CarlaNoCrash-v0"
    """environment that the observations come from"""
    output: Path = Path("runs")
    """folder for efficiency.md"""
    published: Path = Path("results/driving/published.csv")
    """the figures that papers print; without that file, ours stand alone"""


class Candidate(NamedTuple):
    """Something that turns one observation into an action."""

    name: str
    parameters: int | None
    decide: Callable[[Any], Any]
    inputs: Sequence[Any]
    """of one observation each, which come round again"""


def drive(env: str) -> tuple[list[dict[str, np.ndarray]], list[Request]]:
    """Observations of one row each, and the requests about them."""
    envs = gym.make_vec(env, num_envs=OBSERVATIONS, town="Suburb", traffic="regular", copy=False)
    drivers = cast(DrivingVectorEnv, envs.unwrapped)
    observations, _ = envs.reset(seed=0)
    for _ in range(STEPS):
        observations, *_ = envs.step(drivers.expert_actions())
    requests = drivers.adapter.requests(range(OBSERVATIONS), "")
    rows = [{name: array[row : row + 1].copy() for name, array in observations.items()} for row in range(OBSERVATIONS)]
    envs.close()
    return rows, requests


def policies(names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The policies of agents, those of one kind once, each by the names of all that drive with it."""
    kinds: dict[tuple[Any, ...], tuple[list[str], ModuleType, Any]] = {}
    for name in names:
        module = importlib.import_module(f"mentorgym.agents.{name}")
        if not hasattr(module, "Policy") or not hasattr(module, "ENCODERS"):
            continue
        presets: Mapping[str, Any] = {"": {}} | getattr(module, "PRESETS", {})
        for preset, flags in presets.items():
            args = module.Args(**flags)
            kind = (inspect.getsource(module.Actor), args.encoder, tuple(getattr(args, "hidden", ())))
            label = f"{name} --preset {preset}" if preset else name
            kinds.setdefault(kind, ([], module, args))[0].append(label)
    for labels, module, args in kinds.values():
        actor = module.Actor(args.hidden) if hasattr(args, "hidden") else module.Actor()
        yield ", ".join(labels), module.Policy(module.ENCODERS[args.encoder][0](), actor)


def size(mentor: Any) -> int | None:
    """The parameters of a mentor's model, None where it has none on this machine."""
    model = getattr(getattr(mentor, "scorer", mentor), "model", None)
    return sum(each.numel() for each in model.parameters()) if isinstance(model, nn.Module) else None


def mentors(args: Args) -> Iterator[tuple[str, Mentor]]:
    """The mentors to measure; a vision-language model both ways."""
    options = parse_keywords(args.mentor_args)
    if args.device != "cpu":
        options.setdefault("device", args.device)
    for spec in args.mentor:
        kind = spec.partition(":")[0]
        ways: dict[str, dict[str, Any]] = {spec: parse_keywords(args.mentor_args)}
        if kind in ("clip", "openclip"):
            ways = {spec: options | {"anchors": language.anchors()}}
        elif kind == "vlm":
            grid = {"answers": language.grid()}
            ways = {f"{spec}, writing its reply": options, f"{spec}, scoring the grid": options | grid}
        for name, own in ways.items():
            with user_input():
                mentor = load_mentor(spec, **own)
            yield name, mentor


def candidates(args: Args) -> Iterator[Candidate]:
    """Everything that is measured, one at a time in memory."""
    if unknown := [name for name in args.agent if name not in agent_names()]:
        raise UsageError(f"no agent {unknown[0]!r}: there are {', '.join(agent_names())}")
    observations, requests = drive(args.env)
    for name, policy in policies(args.agent or agent_names()):
        count = sum(each.numel() for each in policy.parameters())
        yield Candidate(name, count, policy.to(args.device).act, observations)
    for name, mentor in mentors(args):
        yield Candidate(name, size(mentor), mentor, [[request] for request in requests])


def measure(candidate: Candidate, passes: int) -> dict[str, Any]:
    """One line of the table."""
    for k in range(min(UNTIMED, passes)):
        candidate.decide(candidate.inputs[k % len(candidate.inputs)])
    seconds = []
    for k in range(passes):
        start = time.perf_counter()
        candidate.decide(candidate.inputs[k % len(candidate.inputs)])
        seconds.append(time.perf_counter() - start)
    return {
        "driver": candidate.name,
        "parameters": candidate.parameters,
        "passes_per_s": passes / sum(seconds),
        "median_ms": 1000 * statistics.median(seconds),
        "passes": passes,
    }


def in_words(line: Mapping[str, Any]) -> list[str]:
    """A line of the table as text."""
    count = "-" if line["parameters"] is None else f"{line['parameters']:,}"
    return [
        line["driver"],
        count,
        f"{line['passes_per_s']:,.4g}" if line["passes_per_s"] < 1000 else f"{line['passes_per_s']:,.0f}",
        f"{line['median_ms']:.3g}",
        f"{line['passes']:,}",
    ]


def cited(path: Path) -> list[list[str]]:
    """Found-RL's table 8: method, parameters in millions, frames per second."""
    methods: dict[str, dict[str, str]] = {}
    for figure in read_figures(path):
        if (figure.paper, figure.table) == ("Found-RL", 8):
            methods.setdefault(figure.method, {})[figure.metric] = figure.value
    return [[name, each.get("parameters_millions", "-"), each["frames_per_second"]] for name, each in methods.items()]


def machine(threads: int, device: str) -> str:
    """Where the figures were taken, in words."""
    start = describe_start()
    hardware, versions = start["hardware"], start["versions"]
    place = hardware["gpu"] if device.startswith("cuda") else hardware["cpu"]
    return (
        f"{place} ({device}), {threads} thread{'s' * (threads != 1)} of torch, torch {versions['torch']}, "
        f"{start['time'][:10]}, commit {(start['commit'] or '-')[:9]}{'+' * bool(start['dirty'])}"
    )


def page(lines: Sequence[Mapping[str, Any]], where: str, command: str, published: Sequence[Sequence[str]]) -> str:
    """The Markdown page."""
    text = f"# Efficiency\n\nOne observation at a time, from observation to action; {where}:\n\n    {command}\n\n"
    text += markdown_table(HEADER, [in_words(line) for line in lines])
    if published:
        text += "\nPublished in Found-RL, table 8, forward passes alone, on another machine:\n\n"
        text += markdown_table(("method", "parameters, millions", "passes/s"), published)
    return text


@verb("efficiency")
def main(args: Args, command: str) -> dict[str, Any]:
    """Time every driver, and write the table."""
    if min(args.passes, args.threads) < 1:
        raise UsageError("--passes and --threads count from 1")
    start_torch(seed=0, threads=args.threads)
    lines = []
    with torch.inference_mode():
        for candidate in candidates(args):
            progress_console.print(f"{candidate.name} ...")
            lines.append(measure(candidate, args.passes))
    where = machine(args.threads, args.device)
    (path,) = output_files(args.output, "efficiency", ".md")
    write_text(path, page(lines, where, command, cited(args.published)))
    show(text_table(HEADER, map(in_words, lines)), where, f"written: {path}")
    return {"lines": lines, "threads": args.threads, "device": args.device, "where": where}
