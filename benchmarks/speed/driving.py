"""How fast the driving environments step, beside highway-env.

    mentorgym speed driving --threads 1 2 --start

Times shared machines badly: what is compared alternates, run by run, and what counts is the ratio.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.benchmarks.harness.command import UsageError, progress_console, user_input
from mentorgym.benchmarks.harness.tables import markdown_lines
from mentorgym.benchmarks.speed.stepping import TRAFFIC, DrivingRun
from mentorgym.benchmarks.speed.timing import (
    CORES,
    TimingFlags,
    alternate,
    keep_to_cores,
    load,
    median_ratio,
    require_counts,
)
from mentorgym.extras import import_extra

TITLE = "Speed of driving"

START = "import gymnasium as gym, mentorgym; gym.make('CarlaNoCrash-v0', town='Suburb').reset(seed=0)"


@dataclass
class Args(TimingFlags):
    """Time the steps of CarlaNoCrash-v0 with masks."""

    num_envs: tuple[int, ...] = (16, 64, 512)
    """worlds in the batch"""
    threads: tuple[int, ...] = tuple([1, 2][: len(CORES) or os.cpu_count()])
    """threads that share the worlds"""
    peer: bool = True
    """time highway-env too"""
    against: str = ""
    """interpreter that has another version of mentorgym, to be timed too"""
    start: bool = False
    """also time a cold and a warm start (about two minutes)"""


def steps_per_s_of(python: str, num_envs: int, seconds: float) -> float:
    """Steps per second of the mentorgym that the interpreter `python` imports."""
    program = Path(__file__).with_name("stepping.py")
    # -P: the folder of this package stays off the path.
    command = [python, "-W", "ignore", "-P", str(program), str(num_envs), str(seconds)]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"--against {python}: no mentorgym could be timed there ({error})") from error
    return float(done.stdout.split()[-1])


class HighwayRun:
    """highway-env with 50 vehicles and its nearest thing to masks: four 96 x 96 gray images, 10 Hz."""

    def __init__(self):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        with user_input("--no-peer does without: "):
            highway_env = import_extra("highway_env", "peers", "the comparison")
        gym.register_envs(highway_env)
        self.version = highway_env.__version__
        observation = {
            "type": "GrayscaleObservation",
            "observation_shape": (96, 96),
            "stack_size": 4,
            "weights": [0.2989, 0.5870, 0.1140],
            "scaling": 5.0,
        }
        config = {
            "observation": observation,
            "action": {"type": "ContinuousAction"},
            "policy_frequency": 10,
            "simulation_frequency": 10,
            "duration": 10_000,
            "vehicles_count": 50,
            "offscreen_rendering": True,
        }
        self.env = gym.make("highway-v0", config=config).unwrapped
        self.env.reset(seed=0)

    def steps_per_s(self, seconds: float) -> float:
        """Steps per second of stepping; resets are not timed."""
        action = np.zeros(2, np.float32)
        steps, busy = 0, 0.0
        while busy < seconds:
            start = time.perf_counter()
            _, _, terminated, truncated, _ = self.env.step(action)
            busy += time.perf_counter() - start
            steps += 1
            if terminated or truncated:
                self.env.reset()
        return steps / busy


def start_seconds(cache: str | None) -> float:
    """Seconds that a fresh process takes to the first observation, with this cache folder or the usual one."""
    surroundings = os.environ | ({"MENTORGYM_CACHE": cache} if cache else {})
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START], env=surroundings, check=True, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def measure(args: Args) -> dict[str, Any]:
    """Time the environments and what they are compared with, in turn."""
    say, threads, sizes = progress_console.print, args.threads, args.num_envs
    require_counts(repeats=args.repeats, threads=min(threads), num_envs=min(sizes))
    if len(CORES) and max(threads) > len(CORES):
        raise UsageError(f"--threads {max(threads)}: this process may use {len(CORES)} cores")
    usual = 64 if 64 in sizes else sizes[0]
    figures: dict[str, Any] = {"num_envs": list(sizes), "usual": usual, "threads": threads, "repeats": args.repeats}
    figures["load"] = load()
    if args.start:
        say("starting fresh processes ...")
        with tempfile.TemporaryDirectory() as cache:
            figures["cold_start_s"] = start_seconds(cache)
        start_seconds(None)
        figures["warm_start_s"] = start_seconds(None)
    say("making the environments ...")

    def rate(run: DrivingRun | HighwayRun, cores: int = 1) -> float:
        keep_to_cores(cores)
        return run.steps_per_s(args.seconds)

    runs: dict[tuple[int, int], DrivingRun] = {}
    for count in threads:
        keep_to_cores(count)
        for size in sizes:
            runs[size, count] = DrivingRun(size, TRAFFIC, threads=count)
    keep_to_cores(1)
    ways: dict[Any, Callable[[], float]] = {key: partial(rate, run, key[1]) for key, run in runs.items()}
    ways["dense"] = partial(rate, DrivingRun(usual, (100, 250)))
    if args.peer:
        peer = HighwayRun()
        ways["peer"] = partial(rate, peer)
    for name, python in (("old", args.against), ("new", sys.executable)) if args.against else ():
        ways |= {(name, size): partial(steps_per_s_of, python, size, args.seconds) for size in sizes}
    rates = alternate(ways, args.repeats)
    figures["steps_per_s"] = {
        f"{count} threads": {str(size): statistics.median(rates[size, count]) for size in sizes} for count in threads
    }
    usual_rates = rates[usual, threads[0]]
    figures["cost"] = {str(size): median_ratio(usual_rates, rates[size, threads[0]]) for size in sizes}
    figures["speedup"] = {
        f"{count} threads": {str(size): median_ratio(rates[size, count], rates[size, threads[0]]) for size in sizes}
        for count in threads[1:]
    }
    if args.peer:
        figures["peer"] = f"highway-env {peer.version}"
        figures["peer_steps_per_s"] = statistics.median(rates["peer"])
        figures["ratio"] = median_ratio(usual_rates, rates["peer"])
    figures["dense_cost"] = median_ratio(usual_rates, rates["dense"])
    figures["reset_ms"] = runs[usual, threads[0]].reset_ms()
    if args.against:
        figures["gain"] = {str(size): median_ratio(rates["new", size], rates["old", size]) for size in sizes}
    return figures


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    sizes = [str(size) for size in figures["num_envs"]]
    load = f"; {figures['load']:.1f} processes were running when they began" if figures["load"] is not None else ""

    def row(name: str, values: dict[str, float], digits: str = ".2f") -> list[str]:
        return [name, *(format(values[size], digits) for size in sizes)]

    rows = [row(f"steps/s, {name}", rates, ",.0f") for name, rates in figures["steps_per_s"].items()]
    rows.append(row(f"cost of a step, relative to {figures['usual']} worlds", figures["cost"]))
    rows += [row(f"{name} over {figures['threads'][0]}", gains) for name, gains in figures["speedup"].items()]
    if "gain" in figures:
        rows.append(row("over the version of `--against`", figures["gain"]))
    lines = [
        f"`CarlaNoCrash-v0` in Suburb with {TRAFFIC[0]} vehicles and {TRAFFIC[1]} walkers, masks drawn, stepped by the "
        f"expert; medians of {figures['repeats']} alternating runs{load}.",
        "",
        *markdown_lines(["worlds", *sizes], rows),
        "",
    ]
    if "peer" in figures:
        lines.append(
            f"- {figures['peer']} with 50 vehicles and 96 x 96 x 4 gray images: {figures['peer_steps_per_s']:,.1f} "
            f"steps/s on the same core; {figures['usual']} worlds are {figures['ratio']:.0f} times as fast"
        )
    lines.append(f"- 100 vehicles and 250 walkers: {figures['dense_cost']:.2f} times the cost of a step")
    lines.append(f"- a reset: {figures['reset_ms']:.2f} ms a world")
    if "cold_start_s" in figures:
        lines.append(
            f"- `gym.make` and the first reset: {figures['warm_start_s']:.1f} s; {figures['cold_start_s']:.1f} s the "
            "very first time, which compiles"
        )
    return lines
