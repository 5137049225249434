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

import functools
import math
import re
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.agents.toolbox.shards import UNFINISHED
from mentorgym.benchmarks.captions.measure import ENV
from mentorgym.benchmarks.harness import runner
from mentorgym.benchmarks.harness.agents import load_agent
from mentorgym.benchmarks.harness.cells import Cell
from mentorgym.benchmarks.harness.command import (
    Result,
    UsageError,
    import_matplotlib,
    progress_console,
    show,
    verb,
)
from mentorgym.benchmarks.harness.matrix import agent_args
from mentorgym.benchmarks.harness.rows import Row, add_rows, read_rows
from mentorgym.benchmarks.harness.statistics import SEEDS_FOR_INTERVAL, mean_interval
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
    args: None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Its name in the log."""
        return f"share{self.share:g}_seed{self.seed}"


class Plan(Protocol):
    """Carries a plan out, or writes it down."""

    def data(self, share: float, seed: int) -> Path:
        """The labelled scenes of a share."""

    def train(self, stage: str, flags: Mapping[str, Any], more: str) -> Path:
        """The run's folder of one of AGENTS."""

    def measure(self, folder: Path, name: str, share: float) -> None:
        """The row of a run."""


def updates(steps: int, share: float) -> int:
    """Of `steps` updates those that a share of the labelled scenes gets."""
    return math.ceil(steps * min(1.0, share / FULLY_TRAINED))


def carry_out(plan: Plan, args: Args, share: float, seed: int) -> None:
    """Everything at one share with one seed."""

    def reward_of(labelled: Path, share: float) -> str | Path:
        if share == 1.0 and args.all_labels_reward:
            return args.all_labels_reward
        flags = {"data": labelled, "seed": seed, "total_steps": updates(args.contrast_steps, share)}
        start = plan.train("contrast", flags, args.contrast_flags)
        flags = {"loss": "pairs", "data": labelled, "model": start / "model", "seed": seed, "epochs": args.pairs_epochs}
        return plan.train("pairs", flags, args.pairs_flags) / "model"

    labelled = plan.data(share, seed)
    flags: dict[str, Any] = {"data": labelled, "seed": seed, "total_steps": updates(args.sft_steps, share)}
    start = plan.train("sft", flags, args.sft_flags)
    plan.measure(start, "sft", share)
    rewards = {"": reward_of(labelled, share)}
    if share < 1.0:
        rewards[ALL_LABELS] = reward_of(plan.data(1.0, seed), 1.0)
    for kind, reward in rewards.items():
        flags = {
            "env_args": [f"data={args.data}", f"model={reward}"],
            "model": start / "model",
            "seed": seed,
            "epochs": args.rloo_epochs,
        }
        learned = plan.train("rloo", flags, args.rloo_flags)
        plan.measure(learned, f"sft, rloo{kind}", share)
        flags = {
            "env_args": [f"data={args.data}"],
            "data": labelled,
            "model": learned / "model",
            "seed": seed,
            "total_steps": args.action_steps,
        }
        plan.measure(plan.train("action", flags, args.action_flags), f"sft, rloo, action sft{kind}", share)


def data_folder(args: Args, share: float, seed: int) -> Path:
    """Where the labelled scenes of a share lie."""
    name = f"{Path(args.data).name}_{100 * share:g}_percent_seed{seed}"
    return args.shards / re.sub(r"\W", "_", name)


def data_command(args: Args, share: float, seed: int) -> list[str]:
    """The command that writes the labelled scenes of a share, without `mentorgym`."""
    flags = {
        "data": args.data,
        "split": "train",
        "share": share,
        "seed": seed,
        "output": data_folder(args, share, seed),
    }
    return ["caption-data", *as_arguments(flags)]


open_agent = functools.cache(load_agent)
"""`load_agent`, which reads all agents' files to know their names."""


def cell_of(stage: str, flags: Mapping[str, Any], more: str, runs: Path) -> Cell:
    """A training as a cell of a matrix, which finds its run again."""
    agent = AGENTS[stage]
    extra = shlex.split(more)
    arguments = [*as_arguments({**flags, "runs": runs}), *extra]
    module = open_agent(agent)
    args = agent_args(module, {**flags, "runs": runs}, f"{stage}: {agent}", extra)
    return Cell(f"{stage}_seed{flags['seed']}", agent, "", int(flags["seed"]), tuple(arguments), args)


def measure_command(args: Args, folder: Path, name: str, share: float) -> list[str]:
    """The command that measures a run, without `mentorgym`."""
    flags = {"env": ENV, "run": folder, "name": name, "label_share": share, "data": args.data, "split": "test"}
    more = {name: value for name in ("limit", "reward_model") if (value := getattr(args, name))}
    return ["evaluate", *as_arguments(flags | more)]


class DryRun:
    """The commands of a plan, each once; the folder of a run that is not there yet is called by its line's number."""

    def __init__(self, args: Args):
        self.args, self.lines = args, dict[str, None]()

    def _write(self, command: Sequence[str]) -> None:
        self.lines[runner.as_shell(command)] = None

    def data(self, share: float, seed: int) -> Path:
        self._write(data_command(self.args, share, seed))
        return data_folder(self.args, share, seed)

    def train(self, stage: str, flags: Mapping[str, Any], more: str) -> Path:
        cell = cell_of(stage, flags, more, self.args.runs)
        self._write(cell.command)
        line = runner.as_shell(cell.command)
        return cell.finished() or Path(f"RUN_OF_LINE_{[*self.lines].index(line) + 1}")

    def measure(self, folder: Path, name: str, share: float) -> None:
        self._write(measure_command(self.args, folder, name, share))


def commands_of(args: Args, parts: Sequence[Part]) -> list[str]:
    """The commands of `parts`, each once."""
    plan = DryRun(args)
    for part in parts:
        carry_out(plan, args, part.share, part.seed)
    return [*plan.lines]


class Study(runner.Runner):
    """Runs the parts, several at a time; what several parts need is made once."""

    def __init__(self, args: Args):
        super().__init__("label_efficiency", args.workers)
        self.study = args
        self.file = args.output.with_name(args.output.name + ".jsonl")
        self._locks: dict[str, threading.Lock] = {}
        self.data_folders: set[Path] = set()
        """Folders whose labelled scenes are there and those of this study's flags."""
        self.parsing = threading.Lock()
        """Flags are checked by reading sources, and Python's parser may fail in two threads at once (3.11)."""

    def log_of(self, cell: Any) -> Path:
        """Where a part's output goes."""
        return self.study.runs / "logs" / self.matrix / f"{cell.name}.log"

    def lock(self, command: Sequence[str]) -> threading.Lock:
        """The lock of a command, which two parts must not run at the same time."""
        return self._locks.setdefault(shlex.join(command), threading.Lock())

    def work(self, cell: Any, log: Path, cores: set[int]) -> str:
        """All of a part that is not done yet."""
        execution = Execution(self, log, cores)
        carry_out(execution, self.study, cell.share, cell.seed)
        return "trained" if execution.worked else "skipped"


class Execution:
    """Carries a plan out."""

    def __init__(self, study: Study, log: Path, cores: set[int]):
        self.study, self.log, self.cores = study, log, cores
        self.worked = False

    def _run(self, command: Sequence[str]) -> None:
        self.worked = True
        self.study.process(command, self.log, self.cores)

    def data(self, share: float, seed: int) -> Path:
        command = data_command(self.study.study, share, seed)
        folder = data_folder(self.study.study, share, seed)
        with self.study.lock(command):
            if folder not in self.study.data_folders:
                there = folder.is_dir() and not (folder / UNFINISHED).exists()
                # What is there may be of other data: the command itself refuses that, and else leaves it as it is.
                self.study.process(command, self.log, self.cores)
                self.worked |= not there
                self.study.data_folders.add(folder)
        return folder

    def train(self, stage: str, flags: Mapping[str, Any], more: str) -> Path:
        with self.study.parsing:
            cell = cell_of(stage, flags, more, self.study.study.runs)
        with self.study.lock(cell.command):
            if not (folder := cell.finished()):
                self._run(cell.command)
                folder = cell.finished()
        if not folder:
            raise UsageError(f"{cell.agent} has left no finished run's folder")
        return folder

    def measure(self, folder: Path, name: str, share: float) -> None:
        arguments = measure_command(self.study.study, folder, name, share)
        command = runner.as_shell(arguments)
        with self.study.adding_rows:
            if self.study.file.exists() and command in [row["command"] for row in read_rows(self.study.file)]:
                return
        with self.study.lock(["measure", str(folder)]):
            self._run(arguments)
            rows = [row for row in read_rows(folder / "eval.jsonl") if row["command"] == command]
        if not rows:
            raise UsageError(f"{folder} has no row of: {command}")
        with self.study.adding_rows:
            add_rows(self.study.file, rows)


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
    mean = f"{sum(values) / len(values):.1%}"
    if len(values) < SEEDS_FOR_INTERVAL:
        return mean
    low, high = mean_interval(values)
    return f"{mean} [{100 * low:.1f}, {100 * high:.1f}]"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the plot: macro-F1 of actions and of reasons against the share of the labels, PNG."""
    matplotlib = import_matplotlib("the plot")
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = matplotlib.figure.Figure(figsize=(8.4, 3.8), layout="constrained")
        for axes, part in zip(figure.subplots(1, 2), ("action", "reason"), strict=True):
            for driver, (label, colour, line) in CURVES.items():
                curve = points(rows, driver, f"{part}_macro_f1")
                shares = [100 * share for share, _ in curve]
                axes.plot(
                    shares, [sum(each) / len(each) for _, each in curve], line, color=colour, label=label, marker="o"
                )
                bounds = [mean_interval(each) if len(each) >= SEEDS_FOR_INTERVAL else None for _, each in curve]
                banded = [(share, *bound) for share, bound in zip(shares, bounds, strict=True) if bound]
                if banded:
                    axes.fill_between(*zip(*banded, strict=True), color=colour, alpha=0.12, linewidth=0)
            axes.axhline(rows[0]["majority"][f"{part}_macro_f1"], color="0.5", linestyle=":", label="majority")
            axes.set(xscale="log", xlabel="labelled scenes, %", title=f"{part} macro-F1", ylim=(0, 1))
            ticks = sorted({100 * row["label_share"] for row in rows})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def check(args: Args) -> None:
    """Raise UsageError for flags that do not fit."""
    if not args.shares or any(not 0.0 < share <= 1.0 for share in args.shares):
        raise UsageError("--shares are more than 0 and at most 1")
    if not args.seeds or len(set(args.seeds)) < len(args.seeds):
        raise UsageError("--seeds are different whole numbers")
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: at least 1")


def write_page(args: Args, rows: Sequence[Row], command: str) -> list[Path]:
    """Write the table and the plot of `rows`; returns their files."""
    page, picture = (args.output.with_name(args.output.name + suffix) for suffix in (".md", ".png"))
    unseen = ", in towns that no training has seen" if rows[0]["backend"] == "staged" else ""
    where = f"{rows[0]['scenes']} test scenes of {rows[0]['data']}{unseen}"
    brackets = "Brackets hold 95 % bootstrap intervals over the seeds."
    write_atomically(page, f"# What labels are worth\n\nWritten by `{command}`. {where}. {brackets}\n\n{table(rows)}")
    draw(rows, picture)
    return [page, picture]


@verb("label-efficiency")
def main(args: Args, command: str) -> Result:
    """Train and measure what is missing, then write the table and the plot."""
    check(args)
    if args.redraw:
        study = Study(args)
        if not study.file.is_file():
            raise UsageError(f"--redraw: there is no {study.file}")
        outputs = write_page(args, read_rows(study.file), command)
        show(f"written: {', '.join(map(str, outputs))}")
        return {"parts": {}, "outputs": [str(path) for path in outputs]}
    parts = [Part(share, seed) for seed in args.seeds for share in sorted(set(args.shares), reverse=True)]
    commands = commands_of(args, parts)
    if args.dry_run:
        show(*commands)
        return {"commands": commands}
    study = Study(args)
    study.file.parent.mkdir(parents=True, exist_ok=True)
    outcomes = runner.run_cells(parts, study, progress_console.print)  # type: ignore[arg-type]
    for outcome in outcomes:
        if outcome.status == "failed":
            show(f"failed: {outcome.cell.name}: {outcome.reason}", f"    log: {outcome.log}")
    outputs = [study.file]
    # Only now that the runs are there do the commands name their folders.
    commands = commands_of(args, parts)
    rows = [row for row in read_rows(study.file) if row["command"] in commands] if study.file.exists() else []
    if rows:
        outputs += write_page(args, rows, command)
    show(f"written: {', '.join(map(str, outputs))}")
    statuses = {outcome.cell.name: outcome.status for outcome in outcomes}
    return {"parts": statuses, "outputs": [str(path) for path in outputs]}, runner.exit_code(outcomes)
