"""How fast rooms are rearranged on one core: `mentorgym speed spatial`.

What counts is the processor's time, not the clock's, so that whatever else runs on the machine counts less.
"""

import functools
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from mentorgym.benchmarks.harness.tables import markdown_lines
from mentorgym.benchmarks.speed.timing import TimingFlags, alternate, keep_to_cores, require_counts
from mentorgym.envs.spatial.vector import SpatialVectorEnv

TITLE = "Speed of the spatial environment"


@dataclass
class Args(TimingFlags):
    """Time moves of the spatial environment."""

    num_envs: tuple[int, ...] = (64, 512, 4096)
    """worlds in the batch"""


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


def measure(args: Args) -> dict[str, Any]:
    """State steps per second of each number of rooms, the medians of alternating runs."""
    require_counts(repeats=args.repeats, num_envs=min(args.num_envs))
    keep_to_cores(1)
    ways = {str(size): functools.partial(Moves(size).steps_per_s, args.seconds) for size in args.num_envs}
    rates = alternate(ways, args.repeats)
    return {
        "num_envs": list(args.num_envs),
        "steps_per_s": {size: statistics.median(each) for size, each in rates.items()},
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    rates = figures["steps_per_s"]
    return [
        "`UnitySpatial-v0` under a random policy, on one core, without pictures, per second of the processor.",
        "",
        *markdown_lines(["rooms", *rates], [["steps/s", *(f"{rate:,.0f}" for rate in rates.values())]]),
    ]
