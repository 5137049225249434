"""What benchmarks of speed share: their flags, cores to keep to, runs that alternate, and their ratios."""

import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mentorgym.benchmarks.harness.command import TableFlags, UsageError, progress_console

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

Name = TypeVar("Name")
Rate = TypeVar("Rate")


@dataclass
class TimingFlags(TableFlags):
    """Flags of a benchmark of speed."""

    repeats: int = 5
    """alternating runs; medians are reported"""
    seconds: float = 3.0
    """seconds of each run"""


def keep_to_cores(count: int) -> None:
    """Let this thread, and those that it starts, use `count` cores, where the system lets a process choose."""
    if CORES:
        os.sched_setaffinity(0, CORES[:count])


def load() -> float | None:
    """The number of processes that run on the machine, a mean over the last minute; None where nobody counts them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def alternate(ways: Mapping[Name, Callable[[], Rate]], repeats: int) -> dict[Name, list[Rate]]:
    """What each of `ways` returns, run by run."""
    rates: dict[Name, list[Rate]] = {name: [] for name in ways}
    for k in range(repeats):
        progress_console.print(f"run {k + 1} of {repeats}")
        for name, way in ways.items():
            rates[name].append(way())
    return rates


def median_ratio(ones: Iterable[float], others: Iterable[float]) -> float:
    """The median over runs of one figure over another."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def require_counts(**counts: int) -> None:
    """Raise UsageError for the first of `counts` that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"--{name.replace('_', '-')} {count}: give at least 1")
