"""How much the labels are worth: captions learned from a share of them, with and without RLOO on unlabelled scenes.

    mentorgym label-efficiency --dry-run
    mentorgym label-efficiency --shares 0.01 0.05 0.25 1 --seeds 1 2 3 --workers 2

For each share of the labelled training scenes (stratified by reason, smaller shares within larger ones) and each seed:

- `sft`: supervised fine-tuning on that share;
- `sft, rloo`: from there RLOO on all training scenes without their labels, with a reward model that has learned from
  that share alone;
- `sft, rloo, action sft`: from there the RLOO paper's stage 2, again on that share;
- the same two once more with a reward model that has learned from all labels, the paper's setting ("reward of all
  labels"). What these know of the scenes is not what their share says.

RLOO's default reward weighs a text against the captions that occur in the data, which nobody has to label scenes for.

The reward models are trained as the package's own is, from nothing, by contrast and then on pairs; their best weights
are chosen by a tenth of their share. Everybody is measured on the test split. Shares below a twentieth get fewer
updates of supervised and of contrastive training, so that none of their scenes is shown more often than one of a
twentieth's.

Each training is a process of its own, by the agents' own commands. The same command goes on where it was stopped. Rows
go to `<output>.jsonl` as they come, and in the end `<output>.md` and `<output>.png` show macro-F1 of actions and
reasons against the share, of this command's own rows: those that other flags have left in the file stay there.
"""

import collections
import functools
import math
import re
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentorgym.agents.toolbox.shards import UNFINISHED
from mentorgym.benchmarks.captions.measure import ENV
from mentorgym.benchmarks.harness import runner
from mentorgym.benchmarks.harness.agents import load_agent
from mentorgym.benchmarks.harness.cells import Cell
from mentorgym.benchmarks.harness.command import Result, UsageError, progress_console, show, verb, write_text
from mentorgym.benchmarks.harness.matrix import agent_args
from mentorgym.benchmarks.harness.plots import draw_seeds, means, new_figure
from mentorgym.benchmarks.harness.rows import Row, add_rows, read_rows
from mentorgym.benchmarks.harness.statistics import seeds_interval
from mentorgym.benchmarks.harness.tables import as_arguments, in_percent, markdown_table

AGENTS = {
    "contrast": "clip_finetune",
    "pairs": "clip_finetune",
    "sft": "sft",
    "rloo": "rloo",
    "action": "action_sft",
}
"""Whose commands train each part."""

FULLY_TRAINED = 0.05
"""Share of the labelled scenes from which on training takes all its updates."""

ALL_LABELS = "; reward of all labels"

CURVES = {
    "sft": ("SFT", "C0", "-"),
    "sft, rloo": ("SFT, RLOO", "C2", "-"),
    f"sft, rloo{ALL_LABELS}": ("SFT, RLOO, reward tuned on all labels (the paper's setting)", "C2", "--"),
    "sft, rloo, action sft": ("SFT, RLOO, action SFT", "C1", "-"),
    f"sft, rloo, action sft{ALL_LABELS}": ("SFT, RLOO, action SFT, reward tuned on all labels", "C1", "--"),
}
"""The curves that are drawn, with label, colour and line."""

SHOWN = ("action_macro_f1", "reason_macro_f1", "exact", "action_top1", "reason_top1")


@dataclass
class Args:
    """Measure what labels are worth."""

    shares: tuple[float, ...] = (0.01, 0.05, 0.25, 1.0)
    """shares of the labelled scenes"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds of the shares and of all trainings"""
    data: str = "staged"
    """staged, staged:paper, or a folder with BDD-OIA's files"""
    sft_steps: int = 1_500
    """updates of supervised fine-tuning, for a twentieth of the labels or more"""
    contrast_steps: int = 1_500
    """updates of the reward model's contrastive training, from nothing, for a twentieth of the labels or more"""
    pairs_epochs: int = 10
    """passes of its training on pairs that match or do not, at most"""
    rloo_epochs: float = 5.0
    """how often RLOO sees each scene"""
    action_steps: int = 300
    """updates of stage 2"""
    all_labels_reward: str = ""
    """folder or hub name of a reward model that is tuned on all labels; by default one is trained with each seed"""
    sft_flags: str = "--tokens words --augment --balance 0"
    """more flags of supervised fine-tuning"""
    contrast_flags: str = "--tokens words --augment --scale 100 --balance 0 --weight-decay 0.1"
    """more flags of the contrastive training"""
    pairs_flags: str = "--augment --balance 0 --batch-size 64 --learning-rate 3e-4 --weight-decay 0.01"
    """more flags of the training on pairs"""
    rloo_flags: str = ""
    """more flags of RLOO, as in: --rloo-flags='--kl 0.05'"""
    action_flags: str = ""
    """more flags of stage 2"""
    limit: int = 0
    """test scenes to measure on; all of them for 0"""
    reward_model: str = ""
    """folder or hub name of the CLIP that the captions of all are scored by; by default our own; none to do without"""
    shards: Path = Path("captions")
    """folder for the labelled scenes of each share; other data of the same name need another one"""
    runs: Path = Path("runs")
    """folder of the run folders"""
    workers: int = 1
    """trainings that run at the same time"""
    output: Path = Path("runs/label_efficiency")
    """where the rows, table and plot go, without their suffixes"""
    redraw: bool = False
    """train nothing: write the table and the plot of all rows that are there"""
    dry_run: bool = False
    """print the commands and run nothing"""


@dataclass(frozen=True)
class Part:
    """What is trained and measured at one share with one seed; a cell of the runner."""

    share: float
    seed: int
    args: Args = field(compare=False)

    @property
    def name(self) -> str:
        """Its name in the log."""
        return f"share{self.share:g}_seed{self.seed}"


@dataclass(frozen=True)
class Step:
    """A command of the study, without `mentorgym`, and what it leaves."""

    command: Sequence[str]
    folder: Callable[[], Path | None]
    """the folder that it leaves; None as long as there is something to do"""
    checks: bool = False
    """whether the command also runs, once, where there is nothing to do: it refuses what does not fit its flags"""
    rows: Path | None = None
    """the file with the rows that it makes"""


def take_steps(part: Part, take: Callable[[Step], Path]) -> None:
    """Everything at one share with one seed, step by step; `take` returns the folder that a step leaves."""
    args, seed = part.args, part.seed

    def updates(steps: int, share: float) -> int:
        return math.ceil(steps * min(1.0, share / FULLY_TRAINED))

    def train(stage: str, flags: Mapping[str, Any], more: str) -> Path:
        cell = cell_of(stage, {**flags, "seed": seed}, more, args.runs)
        return take(Step(cell.command, cell.finished))

    def reward_of(share: float) -> str | Path:
        if share == 1.0 and args.all_labels_reward:
            return args.all_labels_reward
        labelled = take_labels(part, share, take)
        flags = {"data": labelled, "total_steps": updates(args.contrast_steps, share)}
        start = train("contrast", flags, args.contrast_flags)
        flags = {"loss": "pairs", "data": labelled, "model": start / "model", "epochs": args.pairs_epochs}
        return train("pairs", flags, args.pairs_flags) / "model"

    labelled = take_labels(part, part.share, take)
    flags: dict[str, Any] = {"data": labelled, "total_steps": updates(args.sft_steps, part.share)}
    start = train("sft", flags, args.sft_flags)
    take(measurement(part, start, "sft"))
    rewards = {"": reward_of(part.share)}
    if part.share < 1.0:
        rewards[ALL_LABELS] = reward_of(1.0)
    data = f"data={args.data}"
    for kind, reward in rewards.items():
        flags = {"env_args": [data, f"model={reward}"], "model": start / "model", "epochs": args.rloo_epochs}
        learned = train("rloo", flags, args.rloo_flags)
        take(measurement(part, learned, f"sft, rloo{kind}"))
        flags = {"env_args": [data], "data": labelled, "model": learned / "model", "total_steps": args.action_steps}
        take(measurement(part, train("action", flags, args.action_flags), f"sft, rloo, action sft{kind}"))


def take_labels(part: Part, share: float, take: Callable[[Step], Path]) -> Path:
    """Write the labelled scenes of a share; returns their folder."""
    args = part.args
    name = f"{Path(args.data).name}_{100 * share:g}_percent_seed{part.seed}"
    folder = args.shards / re.sub(r"\W", "_", name)
    flags = {"data": args.data, "split": "train", "share": share, "seed": part.seed, "output": folder}

    def whole() -> Path | None:
        return folder if folder.is_dir() and not (folder / UNFINISHED).exists() else None

    # What is there may be of other data.
    take(Step(["caption-data", *as_arguments(flags)], whole, checks=True))
    return folder


open_agent = functools.cache(load_agent)
"""`load_agent`, which reads all agents' files to know their names."""

PARSING = threading.Lock()
"""Flags are checked by reading sources, and Python's parser may fail in two threads at once (3.11)."""


def cell_of(stage: str, flags: Mapping[str, Any], more: str, runs: Path) -> Cell:
    """A training as a cell of a matrix, which finds its run again."""
    agent, flags, extra = AGENTS[stage], {**flags, "runs": runs}, shlex.split(more)
    with PARSING:
        args = agent_args(open_agent(agent), flags, f"{stage}: {agent}", extra)
    arguments = (*as_arguments(flags), *extra)
    return Cell(f"{stage}_seed{flags['seed']}", agent, "", int(flags["seed"]), arguments, args)


def measurement(part: Part, folder: Path, name: str) -> Step:
    """The step that measures a run."""
    flags = {"env": ENV, "run": folder, "name": name, "label_share": part.share, "data": part.args.data}
    flags |= {name: value for name in ("limit", "reward_model") if (value := getattr(part.args, name))}
    arguments = ["evaluate", *as_arguments(flags | {"split": "test"})]
    return Step(
        arguments,
        lambda: folder if runner.as_shell(arguments) in commands_in(rows_file(part.args)) else None,
        rows=folder / "eval.jsonl",
    )


def rows_file(args: Args) -> Path:
    """The file of the study's rows."""
    return args.output.with_name(args.output.name + ".jsonl")


def commands_in(path: Path) -> set[str]:
    """The commands of the rows in a file, which need not be there."""
    return {row["command"] for row in read_rows(path)} if path.exists() else set()


def commands_of(parts: Sequence[Part]) -> list[str]:
    """The commands of `parts`, each once; the folder of a run that is not there yet is called by its line's number."""
    lines: dict[str, None] = {}

    def take(step: Step) -> Path:
        line = runner.as_shell(step.command)
        lines[line] = None
        return step.folder() or Path(f"RUN_OF_LINE_{[*lines].index(line) + 1}")

    for part in parts:
        take_steps(part, take)
    return [*lines]


class Study(runner.Runner):
    """Runs the parts, several at a time; what several parts need is made once."""

    def __init__(self, workers: int):
        super().__init__("label_efficiency", workers)
        self._locks = collections.defaultdict[str, threading.Lock](threading.Lock)
        """of each command: two parts must not run it at the same time"""
        self._checked: set[str] = set()

    def work(self, cell: Any, log: Path, cores: set[int]) -> str:
        """All of a part that is not done yet."""
        status = "skipped"

        def take(step: Step) -> Path:
            nonlocal status
            command = runner.as_shell(step.command)
            with self._locks[command]:
                folder = step.folder()
                if not folder or (step.checks and command not in self._checked):
                    status = status if folder else "trained"
                    self.process(step.command, log, cores)
                    self._checked.add(command)
                    if step.rows:
                        with self.adding_rows:
                            own = [row for row in read_rows(step.rows) if row["command"] == command]
                            add_rows(rows_file(cell.args), own)
                    folder = step.folder()
            if not folder:
                raise UsageError(f"nothing finished was left by: {command}")
            return folder

        take_steps(cell, take)
        return status


def points(rows: Sequence[Row], driver: str, score: str) -> list[tuple[float, list[float]]]:
    """The values of `score` by share; all labels are all labels, whatever the reward is said to be tuned on."""
    values: dict[float, list[float]] = {}
    for row in rows:
        same = row["label_share"] == 1.0 and row["driver"] + ALL_LABELS == driver
        if row["driver"] == driver or same:
            values.setdefault(row["label_share"], []).append(row["score"][score])
    return sorted(values.items())


def table(rows: Sequence[Row]) -> str:
    """All that was measured, by share, as Markdown."""
    lines = []
    for share in sorted({row["label_share"] for row in rows}):
        for driver in sorted({row["driver"] for row in rows if row["label_share"] == share}, key=_place):
            own = [row for row in rows if row["label_share"] == share and row["driver"] == driver]
            lines.append([f"{share:.0%}", driver, *(_cell([row["score"][name] for row in own]) for name in SHOWN)])
            lines[-1].append(str(len(own)))
    majority = rows[0]["majority"]
    lines.append(["-", "majority", *(in_percent(majority[name]) for name in SHOWN), "-"])
    names = [name.replace("_", " ").replace("macro f1", "macro-F1").replace("top1", "top-1") for name in SHOWN]
    return markdown_table(["labels", "learned by", *names, "seeds"], lines)


def _place(driver: str) -> tuple[bool, int]:
    return ALL_LABELS in driver, len(driver)


def _cell(values: Sequence[float]) -> str:
    interval = seeds_interval(values)
    mean = f"{sum(values) / len(values):.1%}"
    return f"{mean} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else mean


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the plot: macro-F1 of actions and of reasons against the share of the labels, PNG."""
    with new_figure(path, 8.4, 3.8) as figure:
        for axes, part in zip(figure.subplots(1, 2), ("action", "reason"), strict=True):
            for driver, (label, colour, line) in CURVES.items():
                curve = means((100 * share, each) for share, each in points(rows, driver, f"{part}_macro_f1"))
                draw_seeds(axes, curve, colour, label, band=0.12, linestyle=line, marker="o", linewidth=1.5)
            axes.axhline(rows[0]["majority"][f"{part}_macro_f1"], color="0.5", linestyle=":", label="majority")
            axes.set(xscale="log", xlabel="labelled scenes, %", title=f"{part} macro-F1", ylim=(0, 1))
            ticks = sorted({100 * row["label_share"] for row in rows})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)


def write_page(args: Args, rows: Sequence[Row], command: str) -> list[Path]:
    """Write the table and the plot of `rows`; returns their files."""
    page, picture = (args.output.with_name(args.output.name + suffix) for suffix in (".md", ".png"))
    unseen = ", in towns that no training has seen" if rows[0]["backend"] == "staged" else ""
    where = f"{rows[0]['scenes']} test scenes of {rows[0]['data']}{unseen}"
    brackets = "Brackets hold 95 % bootstrap intervals over the seeds."
    write_text(page, f"# What labels are worth\n\nWritten by `{command}`. {where}. {brackets}\n\n{table(rows)}")
    draw(rows, picture)
    return [page, picture]


@verb("label-efficiency")
def main(args: Args, command: str) -> Result:
    """Train and measure what is missing, then write the table and the plot."""
    if not args.shares or any(not 0.0 < share <= 1.0 for share in args.shares):
        raise UsageError("--shares are more than 0 and at most 1")
    if not args.seeds or len(set(args.seeds)) < len(args.seeds):
        raise UsageError("--seeds are different whole numbers")
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: at least 1")
    parts = [Part(share, seed, args) for seed in args.seeds for share in sorted(set(args.shares), reverse=True)]
    file = rows_file(args)
    outcomes: list[runner.Outcome] = []
    outputs = []
    if args.redraw:
        if not file.is_file():
            raise UsageError(f"--redraw: there is no {file}")
        rows = read_rows(file)
    else:
        commands = commands_of(parts)
        if args.dry_run:
            show(*commands)
            return {"commands": commands}
        outcomes = runner.run_cells(parts, Study(args.workers), progress_console.print)  # type: ignore[arg-type]
        runner.show_failures(outcomes)
        outputs.append(file)
        # Only now that the runs are there do the commands name their folders.
        commands = commands_of(parts)
        rows = [row for row in read_rows(file) if row["command"] in commands] if file.exists() else []
    if rows:
        outputs += write_page(args, rows, command)
    show(f"written: {', '.join(map(str, outputs))}")
    statuses = {outcome.cell.name: outcome.status for outcome in outcomes}
    return {"parts": statuses, "outputs": [str(path) for path in outputs]}, runner.exit_code(outcomes)
