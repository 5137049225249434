"""What benchmarks of speed share: cores to keep to, and ratios of runs that alternate."""

import os
import statistics
from collections.abc import Iterable

from mentorgym.benchmarks.harness.command import UsageError

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def keep_to_cores(count: int) -> None:
    """Let this thread, and those that it starts, use `count` cores, where the system lets a process choose."""
    if CORES:
        os.sched_setaffinity(0, CORES[:count])


def median_ratio(ones: Iterable[float], others: Iterable[float]) -> float:
    """The median over runs of one figure over another."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def require_counts(**counts: int) -> None:
    """Raise UsageError for the first of `counts` that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"--{name.replace('_', '-')} {count}: give at least 1")
