"""Run a matrix of agents, environments and seeds, each cell in a process of its own.

    python -m mentorgym.benchmarks.run laptop --dry-run
    python -m mentorgym.benchmarks.run laptop --workers 2 --evaluate
    python -m mentorgym.benchmarks.run my_matrix.toml --shard 1/4 --set device=cuda total_steps=200000

`benchmarks.harness.matrix` describes the file. The same command goes on where it was stopped: runs that are done are
skipped, others resume from their last checkpoint. What a cell prints goes to `<runs>/logs/<matrix>/<cell>.log`. Cells
that fail do not stop the others; they are listed at the end with their last lines, and the exit code is then 1.

Each worker has its own share of the processor's cores where the system allows that. With `--evaluate`, a finished run
is evaluated with its environment's `evaluate` flags, once, and its rows go to `--rows`.
"""

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import tyro
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mentorgym.agents.toolbox.runs import parse_keywords, write_atomically
from mentorgym.benchmarks.harness.command import UsageError, progress_console, run_command, show
from mentorgym.benchmarks.harness.matrix import Cell, find_matrix, read_matrix, shard
from mentorgym.benchmarks.harness.rows import ROWS, add_rows, read_rows

LAST_LINES = 12
"""Lines of a failed cell's log that are shown."""

PATIENCE = 20
"""Seconds that a cell has to end after it was asked to, before it is killed."""

LINGER = 5
"""Seconds that a process which a cell has started, as a mentor's worker, may outlive it."""

EVALUATED = "evaluated"
"""File in a run's folder: the command whose rows are complete."""


@dataclass
class Args:
    """Run a matrix of agents, environments and seeds."""

    matrix: tyro.conf.Positional[str]
    """TOML file, or the name of one of ours: captions, expert, found_rl, laptop, separate, spatial, spatial_sweep"""
    workers: int = 1
    """cells that run at the same time"""
    shard: str = "1/1"
    """i/n: run the i-th of n parts alone, on n machines all of them"""
    set: tuple[str, ...] = ()
    """flags that win over the file's in every agent that has them, as in: device=cuda total_steps=1000"""
    evaluate: bool = False
    """evaluate every finished run too"""
    rows: Path = ROWS
    """folder for the rows of the evaluations"""
    dry_run: bool = False
    """print the commands and run nothing"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """print one JSON object instead of text"""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    cell: Cell
    status: str
    """trained, skipped, failed or stopped"""
    seconds: float
    log: Path
    reason: str = ""
    """why it failed"""


class Stopped(Exception):
    """The user asked to stop."""


def core_shares(workers: int) -> list[set[int]]:
    """The cores of each of `workers` workers, apart from each other while there are enough; empty for no choice."""
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(workers)]
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[worker::workers]) or {cores[worker % len(cores)]} for worker in range(workers)]


def last_lines(log: Path, start: int) -> list[str]:
    """The last lines of `log` after byte `start`, without empty ones and the progress that terminals overwrite."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-LAST_LINES:]


def last_step(folder: Path) -> int:
    """The environment step that a run's log has come to."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return int(json.loads(line)["step"])
    return 0


@contextlib.contextmanager
def own_log(path: Path) -> Iterator[IO[bytes]]:
    """The log at `path`, opened to be appended to, and locked for as long as a process writes to it.

    A command that was killed may have left its cell running; a second process would write into the same run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        if sys.platform != "win32":
            import fcntl

            deadline = time.monotonic() + LINGER
            while True:
                try:
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() >= deadline:
                        message = "it is still running under an earlier command; end that, or wait for it"
                        raise UsageError(message) from None
                    time.sleep(0.1)
        yield log


class Runner:
    """Runs cells, several at a time, each a process with a session and cores of its own."""

    def __init__(self, args: Args, matrix: str):
        self.args, self.matrix = args, matrix
        self.started: dict[Cell, float] = {}
        """Cells that run now, and since when."""
        self._stopping = threading.Event()
        self.adding_rows = threading.Lock()
        self._cores: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        for cores in core_shares(args.workers):
            self._cores.put(cores)

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        self._stopping.set()

    def log_of(self, cell: Cell) -> Path:
        """Where a cell's output goes."""
        return Path(getattr(cell.args, "runs", "runs")) / "logs" / self.matrix / f"{cell.name}.log"

    def evaluation(self, cell: Cell, folder: str) -> list[str]:
        """The arguments to Python that evaluate a cell's run; none for a trainer."""
        if cell.evaluation is None:
            return []
        driver = ["--driver", cell.agent] if cell.agent.endswith(".py") else []
        named = ["--run", folder, "--name", cell.label, *driver]
        return ["-m", "mentorgym.benchmarks.evaluate", *named, *cell.evaluation]

    def run(self, cell: Cell) -> Outcome:
        """Train a cell, unless that is done, and evaluate it if asked to."""
        log, begin = self.log_of(cell), time.monotonic()
        if self._stopping.is_set():
            return Outcome(cell, "stopped", 0.0, log)
        cores = self._cores.get()
        self.started[cell] = begin
        start = log.stat().st_size if log.exists() else 0
        reason = ""
        try:
            status = self.work(cell, log, cores)
        except Stopped:
            status = "stopped"
        except (UsageError, OSError) as error:
            lines = last_lines(log, start) if log.exists() else []
            status, reason = "failed", "\n".join([str(error), *(f"    {line}" for line in lines)])
        finally:
            self.started.pop(cell)
            self._cores.put(cores)
        return Outcome(cell, status, time.monotonic() - begin, log, reason)

    def work(self, cell: Cell, log: Path, cores: set[int]) -> str:
        """What there is to do for a cell: "trained", or "skipped" where it was done; raises for whatever fails."""
        status, folder = "skipped", cell.finished()
        if not folder:
            status = "trained"
            self.process(cell.command, log, cores)
            folder = cell.finished()
            if folder:
                # A matrix compares lengths, each trained from its first step: no longer run goes on from this one.
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        if self.args.evaluate and cell.evaluation is not None:
            if not folder:
                raise UsageError("it left no finished run's folder to evaluate")
            self._evaluate(cell, folder, log, cores)
        return status

    def _evaluate(self, cell: Cell, folder: Path, log: Path, cores: set[int]) -> None:
        arguments = self.evaluation(cell, str(folder))
        command = shlex.join(["python", *arguments])
        marker = folder / EVALUATED
        if not (marker.is_file() and marker.read_text("utf-8").strip() == command):
            self.process(arguments, log, cores)
            write_atomically(marker, command + "\n")
        # Rows go by way of the run's own file: cells that end together would overwrite each other's in a shared one.
        rows = [row for row in read_rows(folder / "eval.jsonl") if row["command"] == command]
        with self.adding_rows:
            for env in sorted({row["env"] for row in rows}):
                path = self.args.rows / f"{cell.label.replace(', ', '_')}__{env}.jsonl"
                add_rows(path, [row for row in rows if row["env"] == env])

    def process(self, arguments: Sequence[str], log: Path, cores: set[int]) -> None:
        """Run Python with `arguments` to its end; raises UsageError for any exit code but 0."""
        with own_log(log) as output:
            output.write(f"$ {shlex.join(['python', *arguments])}\n".encode())
            output.flush()
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if cores and hasattr(os, "sched_setaffinity"):
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(process.pid, cores)
            while process.poll() is None and not self._stopping.wait(0.1):
                pass
            if process.poll() is None:
                end(process)
                raise Stopped
        if process.returncode:
            ended = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
            raise UsageError(f"{ended} from: {shlex.join(['python', *arguments])}")


def group_lives(leader: int) -> bool:
    """Whether the group of processes that `leader` leads has any."""
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """End `process` and whatever it started: by request first, by force after a while."""

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number) if hasattr(os, "killpg") else process.kill()

    send(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    # What the process has started cleans up after it: its tracker of shared memory removes a mentor's pictures.
    deadline = time.monotonic() + LINGER
    while hasattr(os, "killpg") and group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    send(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def run_cells(cells: Sequence[Cell], runner: Runner, say: Callable[[str], Any]) -> list[Outcome]:
    """Run every cell, showing progress, in the order of `cells`; on Ctrl-C or SIGTERM end those that run."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, interrupt) if main else None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"))
    bars: dict[Cell, TaskID] = {}
    outcomes: dict[Cell, Outcome] = {}
    try:
        with (
            Progress(*columns, TimeElapsedColumn(), console=progress_console) as progress,
            ThreadPoolExecutor(runner.args.workers) as pool,
        ):
            whole = progress.add_task("cells", total=len(cells))
            pending: dict[Future[Outcome], Cell] = {pool.submit(runner.run, cell): cell for cell in cells}
            try:
                while pending:
                    done, _ = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = outcomes[pending.pop(future)] = future.result()
                        if outcome.status != "stopped":
                            number = f"{len(outcomes)}/{len(cells)}"
                            say(f"{number} {outcome.status} {outcome.cell.name}, {outcome.seconds / 60:.1f} min")
                        if outcome.cell in bars:
                            progress.remove_task(bars.pop(outcome.cell))
                        progress.advance(whole)
                    show_running(runner, progress, bars)
            except KeyboardInterrupt:
                say("stopping; the same command goes on from the last checkpoints")
                runner.stop()
                outcomes |= {cell: future.result() for future, cell in pending.items()}
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
    return [outcomes[cell] for cell in cells]


def show_running(runner: Runner, progress: Progress, bars: dict[Cell, TaskID]) -> None:
    """Keep a bar for each cell that runs, at the step that its log has come to."""
    for cell in list(runner.started):
        total = getattr(cell.args, "total_steps", None)
        if total and cell not in bars:
            bars[cell] = progress.add_task(cell.name, total=total)
        if cell in bars and (folder := cell.folder()):
            progress.update(bars[cell], completed=last_step(folder))


def dry_run(cells: Sequence[Cell], runner: Runner) -> list[str]:
    """The commands of `cells`, those of finished runs marked as such."""
    lines = []
    for cell in cells:
        folder = cell.finished()
        lines.append(shlex.join(["python", *cell.command]) + ("  # done" if folder else ""))
        if runner.args.evaluate and cell.evaluation is not None:
            lines.append(shlex.join(["python", *runner.evaluation(cell, str(folder or "RUN_FOLDER"))]))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the command line by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = tyro.cli(Args, args=arguments, prog="run", description=__doc__)
    outcomes: list[Outcome] = []

    def job() -> dict[str, Any]:
        if args.workers < 1:
            raise UsageError(f"--workers {args.workers}: at least 1")
        path = find_matrix(args.matrix)
        try:
            overrides = parse_keywords(args.set)
        except ValueError as error:
            raise UsageError(f"--set: {error}") from None
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in overrides.items()}
        cells = shard(read_matrix(path, lists), args.shard)
        runner = Runner(args, path.stem)
        if args.dry_run:
            lines = dry_run(cells, runner)
            show(*lines)
            return {"commands": lines}
        outcomes.extend(run_cells(cells, runner, progress_console.print))
        counts = {
            status: sum(outcome.status == status for outcome in outcomes)
            for status in ("trained", "skipped", "failed", "stopped")
        }
        for outcome in outcomes:
            if outcome.status == "failed":
                show(f"failed: {outcome.cell.name}: {outcome.reason}", f"    log: {outcome.log}")
        show(f"{len(cells)} cells: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count))
        told = [
            {
                "cell": outcome.cell.name,
                "status": outcome.status,
                "seconds": round(outcome.seconds, 1),
                "log": str(outcome.log),
            }
            for outcome in outcomes
        ]
        return {"cells": told, **counts}

    run_command("run", job, args.as_json)
    if any(outcome.status == "stopped" for outcome in outcomes):
        sys.exit(130)
    if any(outcome.status == "failed" for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
