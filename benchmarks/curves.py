"""Draw what training runs logged, several agents in one figure, and keep the numbers.

    mentorgym curves --run runs/CarlaNoCrash-v0/ppo__seed*__2d03c0a1 --name ppo_regular
    mentorgym curves --run runs/CarlaNoCrash-v0/sac*__seed* --name mentors --what feedback

Writes a CSV and a PNG into `--output`. Runs that differ in nothing but the seed are one agent: a thin line for each
seed, a thick one for their mean wherever all of them have a value, and, from three seeds on, the 95 % bootstrap
interval of that mean. `--what` chooses:

- `learning`: the episodes that ended within a window of steps: how many, their mean return, reward and metres driven
  per step, mean speed, and metres driven for each episode's end. On endless training routes an episode ends with a
  failure, so the last are metres between failures. Parked cars fail seldom and collect rewards at red lights; their
  low speed shows it.
- `losses`: every loss, and over those that a mentor's hints enter their weight, dashed, as it decays.
- `feedback`: how much of what mentors were asked was answered, after how long, and how many steps later.
- `clip`: the margin of the actions that a CLIP scorer judged, and the bonus.
- `captions`: of captioners, from one measurement on held-out scenes to the next, so once an epoch by default: the
  rewards of the sampled texts, mean and best of a scene's; and on the held-out scenes the exact captions, macro-F1,
  entropy, distinct-n, KL divergence to the start, and how often each action is named. A reward that rises while exact
  captions, entropy and the variety of actions fall is a collapse. Rewards of different kinds have different scales.

      mentorgym curves --what captions --name collapse --label default "cosine, no KL" \\
          --run runs/BddOia-Caption-v0/rloo__seed*__0123abcd runs/BddOia-Caption-v0/rloo__seed*__89abcdef

Agents that have logged nothing of it, as one without a mentor, are left out.
"""

import csv
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mentorgym.agents.toolbox.metrics import METRICS
from mentorgym.agents.toolbox.runs import NOT_HASHED
from mentorgym.benchmarks.harness import plots
from mentorgym.benchmarks.harness.command import UsageError, output_files, show, verb
from mentorgym.files import read_text

LEARNING = {
    "episodes": "",
    "return": "return of an episode",
    "mean_speed": "mean speed, m/s",
    "metres_per_end": "metres between failures",
    "reward_per_step": "reward per step",
    "metres_per_step": "metres per step",
}
"""Columns of `--what learning` and the titles of their panels; one without a title is not drawn."""

WEIGHT = "hint/weight"
"""The decay that is drawn over AUXILIARY."""

AUXILIARY = ("loss/vmr", "loss/awag")

LOGGED = {
    "losses": (*(name for name in METRICS if name.startswith("loss/")), WEIGHT),
    "feedback": tuple(
        name
        for name in METRICS
        if name.startswith(("hint/", "clip/")) and name not in (WEIGHT, "clip/margin", "clip/bonus")
    ),
    "clip": ("clip/margin", "clip/bonus"),
    "captions": (
        "reward/mean",
        "reward/best",
        "heldout/exact",
        "heldout/action_macro_f1",
        "heldout/reason_macro_f1",
        "heldout/out_of_vocabulary",
        "heldout/entropy",
        "heldout/distinct_1",
        "heldout/distinct_2",
        "heldout/kl",
        "heldout/forward",
        "heldout/stop",
        "heldout/turn_left",
        "heldout/turn_right",
        "heldout/no_action",
    ),
}
"""The metrics of every other `--what`."""

Curve = list[dict[str, float]]
"""Rows of one run, each the sum of a window that ends at "step"; what was not logged is left out."""


@dataclass
class Args:
    """Flags of the command."""

    run: tuple[Path, ...]
    """folders of training runs: the seeds of each agent with the same flags"""
    name: str
    """name of the files; all but learning add what they show"""
    what: Literal["learning", "losses", "feedback", "clip", "captions"] = "learning"
    """what to draw"""
    label: tuple[str, ...] = ()
    """names of the agents in the order in which their runs are given; by default told by their flags"""
    output: Path = Path("runs/curves")
    """folder for them"""
    window: int = 20_000
    """environment steps that a point sums up; captions have a point for each measurement"""


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's `config.json`, and the lines of its log that count; UsageError for a folder that holds no run."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        seed = config["args"]["seed"]
        lines = [json.loads(line) for line in read_text(folder / "metrics.jsonl").split("\n") if line]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is not the folder of a training run: {error}") from error
    log: list[dict[str, Any]] = []
    for line in lines:
        # A resumed run takes the steps since its last checkpoint again.
        if log and (line["step"] < log[-1]["step"] or line.get("resumes") != log[-1].get("resumes")):
            log = [earlier for earlier in log if earlier["step"] < line["step"]]
        log.append(line)
    return config | {"seed": seed}, log


def windows(lines: Sequence[dict[str, Any]], window: int) -> dict[int, list[dict[str, Any]]]:
    """`lines` by the step at which their window ends, in order."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(math.ceil(line["step"] / window) * window, []).append(line)
    return dict(sorted(groups.items()))


def learning_curve(lines: Sequence[dict[str, Any]], window: int) -> Curve:
    """The rows of LEARNING; windows without an episode's end are left out."""
    rows = []
    for step, episodes in windows([line for line in lines if "episode/return" in line], window).items():
        count = len(episodes)
        steps = sum(line["episode/length"] for line in episodes)
        # An environment of somebody else's may log neither distance nor speed.
        metres = 1000 * sum(line.get("episode/completed_km", math.nan) for line in episodes)
        covered = sum(line.get("episode/mean_speed", math.nan) * line["episode/length"] for line in episodes)
        total = sum(line["episode/return"] for line in episodes)
        values = (count, total / count, covered / steps, metres / count, total / steps, metres / steps)
        rows.append({"step": step} | dict(zip(LEARNING, values, strict=True)))
    return rows


def logged_curve(lines: Sequence[dict[str, Any]], names: Sequence[str], window: int) -> Curve:
    """The means of the metrics `names` over each window; windows that log none of them are left out."""
    rows = []
    for step, logged in windows([line for line in lines if any(name in line for name in names)], window).items():
        given = {name: [line[name] for line in logged if name in line] for name in names}
        rows.append({"step": step} | {name: sum(values) / len(values) for name, values in given.items() if values})
    return rows


def caption_curve(lines: Sequence[dict[str, Any]]) -> Curve:
    """A row for each measurement on held-out scenes, with the means of what was logged since the one before."""
    rows: Curve = []
    names = LOGGED["captions"]
    given: dict[str, list[float]] = {}
    for line in lines:
        for name in names:
            if name in line:
                given.setdefault(name, []).append(line[name])
        if "heldout/exact" in line:
            rows.append({"step": line["step"]} | {name: sum(values) / len(values) for name, values in given.items()})
            given = {}
    return rows


def read_curve(folder: Path, window: int, what: str = "learning") -> Curve:
    """The rows of one run, none where it has logged nothing of `what`; UsageError for a folder that holds no run."""
    _, lines = read_run(folder)
    if what == "captions":
        return caption_curve(lines)
    return learning_curve(lines, window) if what == "learning" else logged_curve(lines, LOGGED[what], window)


def group(configs: Mapping[Path, dict[str, Any]]) -> dict[str, list[Path]]:
    """The folders of each agent by its name: its file's, and the flags in which agents differ.

    Raises UsageError for two runs of one agent and seed.
    """

    def flags(folder: Path) -> dict[str, Any]:
        return {name: value for name, value in configs[folder]["args"].items() if name not in (*NOT_HASHED, "label")}

    agents: dict[str, dict[str, list[Path]]] = {}
    for folder, config in configs.items():
        same = agents.setdefault(str(config.get("agent", "agent")), {})
        same.setdefault(json.dumps(flags(folder), sort_keys=True), []).append(folder)
    named: dict[str, list[Path]] = {}
    for agent, variants in agents.items():
        each = [flags(folders[0]) for folders in variants.values()]
        names = dict.fromkeys(name for own in each for name in own)
        differing = [name for name in names if any(own.get(name) != each[0].get(name) for own in each)]
        for own, folders in zip(each, variants.values(), strict=True):
            label = ", ".join(f"{name}={in_words(own.get(name))}" for name in differing)
            seeds = [configs[folder]["seed"] for folder in folders]
            if len(set(seeds)) < len(seeds):
                raise UsageError("two runs have the same seed: name runs that differ in nothing but the seed")
            named[f"{agent} ({label})" if label else agent] = folders
    return named


def in_words(value: Any) -> str:
    """A flag's value for a label."""
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)) or "none"


def means(curves: Mapping[int, Curve], column: str) -> list[tuple[float, float, float, float]]:
    """(step, mean, low, high) wherever every seed of `curves` has `column`; the bounds are NaN for too few seeds."""
    by_seed = [{row["step"]: row[column] for row in curve if column in row} for curve in curves.values()]
    shared = sorted(set.intersection(*(set(values) for values in by_seed)))
    return plots.means((step, [each[step] for each in by_seed]) for step in shared)


def draw(
    agents: Mapping[str, Mapping[int, Curve]],
    panels: Mapping[str, str],
    name: str,
    path: Path,
    steps_are: str = "environment steps",
) -> None:
    """Write one panel for each of `panels`, by column the title, as a PNG; `agents` by name their curves by seed."""
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    with plots.new_figure(path, 3.4 * across + 0.4, 2.6 * down + 0.4) as figure:
        grid = figure.subplots(down, across, squeeze=False).ravel()
        for axes, (column, title) in zip(grid, panels.items(), strict=False):
            # The weight's scale, at the right, only where there is one.
            weight = axes.twinx() if column in AUXILIARY else None
            for number, (agent, curves) in enumerate(agents.items()):
                runs = [columns_of([row for row in curve if column in row], column) for curve in curves.values()]
                plots.draw_seeds(axes, means(curves, column), f"C{number}", agent, runs)
                if weight:
                    decay = [row for row in next(iter(curves.values())) if {column, WEIGHT} <= row.keys()]
                    weight.plot(*columns_of(decay, WEIGHT), color=f"C{number}", linestyle="--", linewidth=1)
            axes.set(xlabel=steps_are, title=title, ylim=(min(0, axes.get_ylim()[0]), None))
            if weight:
                weight.set(ylabel="weight (dashed)", ylim=(0, 1.1 * weight.get_ylim()[1]))
                weight.spines["right"].set_visible(True)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        handles = {
            label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        # A letter of the legend takes about 0.08 inches.
        fitting = int(figure.get_figwidth() / (0.08 * max(map(len, handles), default=0) + 0.6))
        columns = min(across, max(fitting, 1))
        figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside lower center", ncols=columns)
        figure.suptitle(name)


def columns_of(rows: Sequence[dict[str, float]], column: str) -> tuple[list[float], list[float]]:
    """Steps and values of `column`."""
    return [row["step"] for row in rows], [row[column] for row in rows]


def write_table(path: Path, agents: Mapping[str, Mapping[int, Curve]], columns: Sequence[str]) -> None:
    """Write every row of every curve; what was not logged is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("agent", "seed", "step", *columns))
        for agent, curves in agents.items():
            for seed, curve in curves.items():
                for row in curve:
                    cells = (f"{row[column]:.6g}" if column in row else "" for column in columns)
                    writer.writerow((agent, seed, f"{row['step']:.0f}", *cells))


@verb("curves")
def main(args: Args) -> dict[str, Any]:
    """Draw the curves of the runs, and write their numbers."""
    if args.window < 1:
        raise UsageError(f"--window {args.window}: a point sums up at least 1 step")
    configs = {folder: read_run(folder)[0] for folder in args.run}
    groups = group(configs)
    if args.label and len(args.label) != len(groups):
        raise UsageError(f"{len(args.label)} labels for {len(groups)} agents: {'; '.join(groups)}")
    agents = {
        label: {configs[folder]["seed"]: read_curve(folder, args.window, args.what) for folder in folders}
        for label, folders in zip(args.label or groups, groups.values(), strict=True)
    }
    # An agent without a mentor has no place among those whose feedback is drawn.
    agents = {label: curves for label, curves in agents.items() if any(curves.values())}
    if not agents:
        logs = "an episode's end" if args.what == "learning" else f"any of {', '.join(LOGGED[args.what])}"
        raise UsageError(f"no run has logged {logs} yet: choose others with --run, or something else with --what")
    logged = {column for curves in agents.values() for curve in curves.values() for row in curve for column in row}
    named = {name: textwrap.fill(f"{name}: {METRICS[name]}", 36) for name in LOGGED.get(args.what, ())}
    titles = LEARNING if args.what == "learning" else named
    columns = [column for column in titles if column in logged]
    panels = {column: titles[column] for column in columns if titles[column] and column != WEIGHT}
    stem = args.name if args.what == "learning" else f"{args.name}_{args.what}"
    table, picture = output_files(args.output, stem, ".csv", ".png")
    draw(agents, panels, args.name, picture, "updates" if args.what == "captions" else "environment steps")
    write_table(table, agents, columns)
    show(f"curves: {table}, {picture}")
    return {"table": str(table), "picture": str(picture)}
