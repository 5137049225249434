"""Run a matrix of agents, environments and seeds, each cell in a process of its own.

    mentorgym run laptop --dry-run
    mentorgym run laptop --workers 2 --evaluate
    mentorgym run my_matrix.toml --shard 1/4 --set device=cuda total_steps=200000

`benchmarks.harness.matrix` describes the file. The same command goes on where it was stopped: runs that are done are
skipped, others resume from their last checkpoint. What a cell prints goes to `<runs>/logs/<matrix>/<cell>.log`. Cells
that fail do not stop the others; they are listed at the end with their last lines, and the exit code is then 1.

Each worker has its own share of the processor's cores where the system allows that. With `--evaluate`, a finished run
is evaluated with its environment's `evaluate` flags, once, and its rows go to `--rows`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mentorgym.agents.toolbox.runs import parse_keywords
from mentorgym.benchmarks.harness.cells import Cell
from mentorgym.benchmarks.harness.command import Result, UsageError, progress_console, show, user_input, verb
from mentorgym.benchmarks.harness.matrix import find_matrix, read_matrix, shard
from mentorgym.benchmarks.harness.rows import ROWS
from mentorgym.benchmarks.harness.runner import Runner, as_shell, exit_code, run_cells


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


def dry_run(cells: Sequence[Cell], runner: Runner) -> list[str]:
    """The commands of `cells`, those of finished runs marked as such."""
    lines = []
    for cell in cells:
        folder = cell.finished()
        lines.append(as_shell(cell.command) + ("  # done" if folder else ""))
        if runner.evaluate and cell.evaluation is not None:
            lines.append(as_shell(runner.evaluation(cell, str(folder or "RUN_FOLDER"))))
    return lines


@verb("run")
def main(args: Args) -> Result:
    """The command."""
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: at least 1")
    path = find_matrix(args.matrix)
    with user_input("--set: "):
        overrides = parse_keywords(args.set)
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in overrides.items()}
    cells = shard(read_matrix(path, lists), args.shard)
    runner = Runner(path.stem, args.workers, args.rows if args.evaluate else None)
    if args.dry_run:
        lines = dry_run(cells, runner)
        show(*lines)
        return {"commands": lines}
    outcomes = run_cells(cells, runner, progress_console.print)
    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("trained", "skipped", "failed", "stopped")
    }
    for outcome in outcomes:
        if outcome.status == "failed":
            show(f"failed: {outcome.cell.name}: {outcome.reason}", f"    log: {outcome.log}")
    show(f"{len(cells)} cells: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count))
    cells_ended = [
        {
            "cell": outcome.cell.name,
            "status": outcome.status,
            "seconds": round(outcome.seconds, 1),
            "log": str(outcome.log),
        }
        for outcome in outcomes
    ]
    return {"cells": cells_ended, **counts}, exit_code(outcomes)


if __name__ == "__main__":
    main()
