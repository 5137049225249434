"""How fast the environments step, `python -m mentorgym.benchmarks.speed driving`, SAC learns, `... speed learner`,
what asking a mentor costs, `... speed hints`, how fast RLOO learns beside TRL's, `... speed rloo`, how fast rooms are
rearranged, `... speed spatial`, and how fast and how well they are drawn beside pybullet's TinyRenderer, `... speed
pictures`.

Times shared machines badly: what is compared alternates, run by run, and what counts is the ratio.
"""

import argparse
import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np

import mentorgym
from mentorgym.benchmarks.harness.command import UsageError, progress_console, report, run_command
from mentorgym.benchmarks.speed import hints as speed_hints
from mentorgym.benchmarks.speed import learner as speed_learner
from mentorgym.benchmarks.speed import pictures as speed_pictures
from mentorgym.benchmarks.speed import rloo as speed_rloo
from mentorgym.benchmarks.speed import spatial as speed_spatial
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.extras import remedy

START = "import gymnasium as gym, mentorgym; gym.make('CarlaNoCrash-v0', town='Suburb').reset(seed=0)"

NUM_ENVS = (16, 64, 512)
TRAFFIC = (50, 50)

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def keep_to_cores(count: int) -> None:
    """Let this thread, and those that it starts, use `count` cores, where the system lets a process choose."""
    if CORES:
        os.sched_setaffinity(0, CORES[:count])


class DrivingRun:
    """`CarlaNoCrash-v0` with masks under the expert, whose thinking is not timed; resets at episodes' ends are."""

    def __init__(self, num_envs: int, traffic: tuple[int, int], **arguments: Any):
        envs = gym.make_vec("CarlaNoCrash-v0", num_envs=num_envs, town="Suburb", traffic=traffic, **arguments)
        self.envs = cast(DrivingVectorEnv, envs.unwrapped)
        # An attribute, since the argument is unknown to older installations, which never copy.
        self.envs.copy = False
        self.envs.reset(seed=0)
        for _ in range(50):
            self.envs.step(self.envs.expert_actions())

    def steps_per_s(self, seconds):
        """Environment steps per second of stepping, over at least `seconds` of it."""
        steps, busy = 0, 0.0
        while busy < seconds:
            actions = self.envs.expert_actions()
            start = time.perf_counter()
            self.envs.step(actions)
            busy += time.perf_counter() - start
            steps += self.envs.num_envs
        return steps / busy

    def reset_ms(self, repeats=5):
        """Milliseconds per world of resetting the whole batch, the median."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.envs.reset()
            times.append((time.perf_counter() - start) / self.envs.num_envs * 1e3)
        return statistics.median(times)


ELSEWHERE = f"""
import statistics, sys, time
from typing import Any, cast
import gymnasium as gym, mentorgym
from mentorgym.envs.driving import DrivingVectorEnv
{inspect.getsource(DrivingRun)}
print(DrivingRun(int(sys.argv[1]), {TRAFFIC}).steps_per_s(float(sys.argv[2])))
"""
"""The same run as a program, for the interpreter of another installation."""


def steps_per_s_of(python: str, num_envs: int, seconds: float) -> float:
    """Steps per second of the mentorgym that the interpreter `python` imports."""
    command = [python, "-W", "ignore", "-c", ELSEWHERE, str(num_envs), str(seconds)]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"--against {python}: no mentorgym could be timed there ({error})") from error
    return float(done.stdout.split()[-1])


class HighwayRun:
    """highway-env with 50 vehicles and its nearest thing to masks: four 96 x 96 gray images, 10 Hz."""

    def __init__(self):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        try:
            import highway_env
        except ImportError as error:
            raise UsageError(f"the peer is missing: {remedy('peers')}, or pass --no-peer") from error
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


def median_ratio(ones: Iterable[float], others: Iterable[float]) -> float:
    """The median over runs of one figure over another."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def driving(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a line per figure, and return them."""
    say, repeats, threads = progress_console.print, arguments.repeats, arguments.threads
    sizes = arguments.num_envs or NUM_ENVS
    if len(CORES) and max(threads) > len(CORES):
        raise UsageError(f"--threads {max(threads)}: this process may use {len(CORES)} cores")
    figures: dict[str, Any] = {
        "version": mentorgym.__version__,
        "num_envs": list(sizes),
        "threads": threads,
        "repeats": repeats,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    if arguments.start:
        say("starting fresh processes ...")
        with tempfile.TemporaryDirectory() as cache:
            figures["cold_start_s"] = start_seconds(cache)
        start_seconds(None)
        figures["warm_start_s"] = start_seconds(None)
    say("making the environments ...")
    runs: dict[tuple[int, int], DrivingRun] = {}
    for count in threads:
        keep_to_cores(count)
        for size in sizes:
            runs[size, count] = DrivingRun(size, TRAFFIC, threads=count)
    keep_to_cores(1)
    usual = 64 if 64 in sizes else sizes[0]
    dense = DrivingRun(usual, (100, 250))
    peer = HighwayRun() if arguments.peer else None
    rates: dict[Any, list[float]] = {key: [] for key in (*runs, "peer", "dense", *(("old", n) for n in sizes))}
    rates |= {("new", n): [] for n in sizes}
    for k in range(repeats):
        say(f"run {k + 1} of {repeats}")
        for (size, count), run in runs.items():
            keep_to_cores(count)
            rates[size, count].append(run.steps_per_s(arguments.seconds))
        keep_to_cores(1)
        rates["dense"].append(dense.steps_per_s(arguments.seconds))
        if peer:
            rates["peer"].append(peer.steps_per_s(arguments.seconds))
        if arguments.against:
            for size in sizes:
                rates["old", size].append(steps_per_s_of(arguments.against, size, arguments.seconds))
                rates["new", size].append(steps_per_s_of(sys.executable, size, arguments.seconds))
    figures["steps_per_s"] = {
        f"{count} threads": {str(size): statistics.median(rates[size, count]) for size in sizes} for count in threads
    }
    usual_rates = rates[usual, threads[0]]
    figures["cost"] = {str(size): median_ratio(usual_rates, rates[size, threads[0]]) for size in sizes}
    figures["speedup"] = {
        f"{count} threads": {str(size): median_ratio(rates[size, count], rates[size, threads[0]]) for size in sizes}
        for count in threads[1:]
    }
    if peer:
        figures["peer"] = f"highway-env {peer.version}"
        figures["peer_steps_per_s"] = statistics.median(rates["peer"])
        figures["ratio"] = median_ratio(usual_rates, rates["peer"])
    figures["dense_cost"] = median_ratio(usual_rates, rates["dense"])
    figures["reset_ms"] = runs[usual, threads[0]].reset_ms()
    if arguments.against:
        figures["gain"] = {str(size): median_ratio(rates["new", size], rates["old", size]) for size in sizes}
    report("speed", table(figures, usual), arguments.table)
    return figures


def learner(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    keep_to_cores(1)
    figures = speed_learner.measure(arguments.transitions, arguments.repeats, arguments.seconds, progress_console.print)
    report("speed", speed_learner.table(figures), arguments.table)
    return {"version": mentorgym.__version__, **figures}


def hints(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    figures = speed_hints.measure(arguments.seconds, arguments.repeats, progress_console.print)
    report("speed", speed_hints.table(figures), arguments.table)
    return {"version": mentorgym.__version__, **figures}


def rloo(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    keep_to_cores(1)
    figures = speed_rloo.measure(arguments.updates, progress_console.print)
    report("speed", speed_rloo.table(figures), arguments.table)
    return {"version": mentorgym.__version__, **figures}


def pictures(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    keep_to_cores(1)
    say = progress_console.print
    try:
        figures = speed_pictures.measure(arguments.pictures, arguments.repeats, arguments.seconds, arguments.peer, say)
    except ImportError as error:
        raise UsageError(f"{error}, or pass --no-peer" if "pybullet" in str(error) else str(error)) from error
    report("speed", speed_pictures.table(figures), arguments.table)
    return {"version": mentorgym.__version__, **figures}


def spatial(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    keep_to_cores(1)
    sizes = arguments.num_envs or speed_spatial.NUM_ENVS
    figures = speed_spatial.measure(sizes, arguments.repeats, arguments.seconds, progress_console.print)
    report("speed", speed_spatial.table(figures), arguments.table)
    return {"version": mentorgym.__version__, **figures}


def table(figures: dict[str, Any], usual: int) -> list[str]:
    """The figures as lines of Markdown."""
    sizes = [str(size) for size in figures["num_envs"]]

    def row(name: str, values: Iterable[str]) -> str:
        return f"| {name} | {' | '.join(values)} |"

    lines = [
        f"`CarlaNoCrash-v0` in Suburb with {TRAFFIC[0]} vehicles and {TRAFFIC[1]} walkers, masks drawn, stepped by the "
        f"expert; medians of {figures['repeats']} alternating runs"
        + (f"; {figures['load']:.1f} processes were running when they began" if figures["load"] is not None else "")
        + ".",
        "",
        row("worlds", sizes),
        row("---", ["---"] * len(sizes)),
    ]
    for name, rates in figures["steps_per_s"].items():
        lines.append(row(f"steps/s, {name}", [f"{rates[size]:,.0f}" for size in sizes]))
    lines.append(row(f"cost of a step, relative to {usual} worlds", [f"{figures['cost'][size]:.2f}" for size in sizes]))
    for name, gains in figures["speedup"].items():
        lines.append(row(f"{name} over {figures['threads'][0]}", [f"{gains[size]:.2f}" for size in sizes]))
    if "gain" in figures:
        lines.append(row("over the version of `--against`", [f"{figures['gain'][size]:.2f}" for size in sizes]))
    lines.append("")
    if "peer" in figures:
        lines.append(
            f"- {figures['peer']} with 50 vehicles and 96 x 96 x 4 gray images: {figures['peer_steps_per_s']:,.1f} "
            f"steps/s on the same core; {usual} worlds are {figures['ratio']:.0f} times as fast"
        )
    lines.append(f"- 100 vehicles and 250 walkers: {figures['dense_cost']:.2f} times the cost of a step")
    lines.append(f"- a reset: {figures['reset_ms']:.2f} ms a world")
    if "cold_start_s" in figures:
        lines.append(
            f"- `gym.make` and the first reset: {figures['warm_start_s']:.1f} s; {figures['cold_start_s']:.1f} s the "
            "very first time, which compiles"
        )
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mentorgym.benchmarks.speed", description=__doc__)
    parser.add_argument(
        "what",
        choices=["driving", "learner", "hints", "rloo", "spatial", "pictures"],
        help="what to time: driving or rooms, SAC's updates, stepping and asking with a mentor, RLOO's updates, or "
        "pictures of rooms",
    )
    told = "worlds in the batch (driving: 16 64 512; spatial: 64 512 4096)"
    parser.add_argument("--num-envs", type=int, nargs="+", help=told)
    cores = [1, 2][: len(CORES) or os.cpu_count()]
    parser.add_argument("--threads", type=int, nargs="+", default=cores, help="threads that share the worlds")
    parser.add_argument("--repeats", type=int, default=5, help="alternating runs; medians are reported")
    parser.add_argument("--seconds", type=float, help="seconds of each run, 3 by default; of each arm of hints, 60")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave highway-env, or pybullet, out")
    parser.add_argument("--against", metavar="PYTHON", help="interpreter that has another version, to be timed too")
    parser.add_argument("--start", action="store_true", help="also time a cold and a warm start (about two minutes)")
    parser.add_argument("--transitions", type=int, default=1024, help="transitions in the learner's replay buffer")
    parser.add_argument("--updates", type=int, default=10, help="updates of RLOO that are timed, of each arm")
    parser.add_argument("--pictures", type=int, default=8, help="arrangements that are drawn")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table there, as Markdown")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, and nothing else, on standard output"
    )
    arguments = parser.parse_args()
    counts = ("repeats", "transitions", "updates", "pictures")
    given = {"num-envs": arguments.num_envs or [1], "threads": arguments.threads}
    for name, values in (given | {name: [getattr(arguments, name)] for name in counts}).items():
        if min(values) < 1:
            parser.error(f"--{name} {min(values)}: give at least 1")
    if arguments.seconds is None:
        arguments.seconds = 60.0 if arguments.what == "hints" else 3.0
    jobs = {"driving": driving, "learner": learner, "hints": hints, "rloo": rloo}
    job = (jobs | {"spatial": spatial, "pictures": pictures})[arguments.what]
    run_command("speed", lambda: job(arguments), arguments.json)


if __name__ == "__main__":
    main()
