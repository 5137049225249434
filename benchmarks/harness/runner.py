"""Runs cells, several at a time, each in a process with a session and cores of its own.

Cells that fail do not stop the others. What a cell prints goes to `<runs>/logs/<matrix>/<cell>.log`.
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
from typing import IO, Any

from rich.progress import Progress, TaskID

from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.benchmarks.harness.cells import Cell
from mentorgym.benchmarks.harness.command import UsageError, progress_bars, show
from mentorgym.benchmarks.harness.rows import add_rows, file_name, read_rows

LAST_LINES = 12
"""Lines of a failed cell's log that are shown."""

PATIENCE = 20
"""Seconds that a cell has to end after it was asked to, before it is killed."""

LINGER = 5
"""Seconds that a process which a cell has started, as a mentor's worker, may outlive it."""

EVALUATED = "evaluated"
"""File in a run's folder: the command whose rows are complete."""


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


def as_shell(arguments: Sequence[str]) -> str:
    """The command with these arguments as a shell takes it."""
    return shlex.join(["mentorgym", *arguments])


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

    def __init__(self, matrix: str, workers: int, rows: Path | None = None):
        """`matrix` names the folder of the logs. Finished runs are evaluated if there is a folder for their `rows`."""
        self.matrix, self.workers, self.rows = matrix, workers, rows
        self.started: dict[Cell, float] = {}
        """Cells that run now, and since when."""
        self._stopping = threading.Event()
        self.adding_rows = threading.Lock()
        self._cores: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        for cores in core_shares(workers):
            self._cores.put(cores)

    @property
    def evaluate(self) -> bool:
        """Whether finished runs are evaluated."""
        return self.rows is not None

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        self._stopping.set()

    def log_of(self, cell: Cell) -> Path:
        """Where a cell's output goes."""
        return Path(getattr(cell.args, "runs", "runs")) / "logs" / self.matrix / f"{cell.name}.log"

    def evaluation(self, cell: Cell, folder: str) -> list[str]:
        """The command that evaluates a cell's run, without `mentorgym`; none for a trainer."""
        if cell.evaluation is None:
            return []
        driver = ["--driver", cell.agent] if cell.agent.endswith(".py") else []
        return ["evaluate", "--run", folder, *driver, *cell.evaluation]

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
        if self.evaluate and cell.evaluation is not None:
            if not folder:
                raise UsageError("it left no finished run's folder to evaluate")
            self._evaluate(cell, folder, log, cores)
        return status

    def _evaluate(self, cell: Cell, folder: Path, log: Path, cores: set[int]) -> None:
        assert self.rows is not None, "finished runs are evaluated where there is a folder for their rows"
        arguments = self.evaluation(cell, str(folder))
        command = as_shell(arguments)
        marker = folder / EVALUATED
        if not (marker.is_file() and marker.read_text("utf-8").strip() == command):
            self.process(arguments, log, cores)
            write_atomically(marker, command + "\n")
        # Rows go by way of the run's own file: cells that end together would overwrite each other's in a shared one.
        rows = [row for row in read_rows(folder / "eval.jsonl") if row["command"] == command]
        with self.adding_rows:
            for env in sorted({row["env"] for row in rows}):
                own = [row for row in rows if row["env"] == env]
                add_rows(self.rows / file_name(own[0]["driver"], env), own)

    def process(self, arguments: Sequence[str], log: Path, cores: set[int]) -> None:
        """Run `mentorgym` with `arguments` to its end; raises UsageError for any exit code but 0."""
        with own_log(log) as output:
            output.write(f"$ {as_shell(arguments)}\n".encode())
            output.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", "mentorgym", *arguments],
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
            raise UsageError(f"{ended} from: {as_shell(arguments)}")


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
    bars: dict[Cell, TaskID] = {}
    outcomes: dict[Cell, Outcome] = {}
    try:
        with (
            progress_bars("{task.completed:,.0f}/{task.total:,.0f}") as progress,
            ThreadPoolExecutor(runner.workers) as pool,
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


def show_failures(outcomes: Sequence[Outcome]) -> None:
    """Print why cells failed."""
    for outcome in outcomes:
        if outcome.status == "failed":
            show(f"failed: {outcome.cell.name}: {outcome.reason}", f"    log: {outcome.log}")


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """130 if the user stopped cells, 1 if cells failed, otherwise 0."""
    statuses = {outcome.status for outcome in outcomes}
    return 130 if "stopped" in statuses else 1 if "failed" in statuses else 0
