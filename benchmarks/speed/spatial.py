"""How fast rooms are rearranged on one core: `mentorgym speed spatial`.

What counts is the processor's time, not the clock's, so that whatever else runs on the machine counts less.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import mentorgym
from mentorgym.benchmarks.harness.command import Reported, progress_console, report, verb
from mentorgym.benchmarks.speed.timing import keep_to_cores, require_counts
from mentorgym.envs.spatial.vector import SpatialVectorEnv

NUM_ENVS = (64, 512, 4096)


class Moves:
    """`UnitySpatial-v0` under a random policy, no pictures; drawing rooms anew is timed, choosing actions is not."""

    def __init__(self, num_envs: int):
        self.envs = SpatialVectorEnv(num_envs)
        self.envs.reset(seed=0)
        self.actions = np.random.default_rng(0).uniform(-1, 1, (self.envs.block, num_envs, 3))

    def steps_per_s(self, seconds: float) -> float:
        """State steps per second of the processor, over at least `seconds` and whole blocks."""
        steps, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            for actions in self.actions:
                self.envs.step(actions)
            steps += self.actions.shape[0] * self.envs.num_envs
        return steps / (time.process_time() - start)


def measure(sizes: Sequence[int], repeats: int, seconds: float, say: Callable[[str], Any]) -> dict[str, Any]:
    """State steps per second of each number of rooms, the medians of `repeats` alternating runs."""
    runs = {size: Moves(size) for size in sizes}
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for k in range(repeats):
        say(f"run {k + 1} of {repeats}")
        for size, run in runs.items():
            rates[size].append(run.steps_per_s(seconds))
    return {"num_envs": list(sizes), "steps_per_s": {str(size): statistics.median(rates[size]) for size in sizes}}


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    sizes = [str(size) for size in figures["num_envs"]]
    rates = [f"{figures['steps_per_s'][size]:,.0f}" for size in sizes]
    return [
        "`UnitySpatial-v0` under a random policy, on one core, without pictures, per second of the processor.",
        "",
        f"| rooms | {' | '.join(sizes)} |",
        f"| --- |{' --- |' * len(sizes)}",
        f"| steps/s | {' | '.join(rates)} |",
    ]


@dataclass
class Args(Reported):
    """Time moves of the spatial environment."""

    num_envs: tuple[int, ...] = NUM_ENVS
    """worlds in the batch"""
    repeats: int = 5
    """alternating runs; medians are reported"""
    seconds: float = 3.0
    """seconds of each run"""


@verb("speed spatial")
def main(args: Args, command: str) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    require_counts(repeats=args.repeats, num_envs=min(args.num_envs))
    keep_to_cores(1)
    figures = measure(args.num_envs, args.repeats, args.seconds, progress_console.print)
    report("Speed of the spatial environment", table(figures), args.table, command)
    return {"version": mentorgym.__version__, **figures}
