"""How fast the environments step: `python -m mentorgym.benchmarks.speed driving`.

Times shared machines badly: runs alternate with the peer's, each on one core, and what counts is the ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, cast

import gymnasium as gym
import numpy as np

import mentorgym
from mentorgym.benchmarks.cli import UsageError, progress_console, run_command, show
from mentorgym.envs.driving import DrivingVectorEnv

START = "import gymnasium as gym, mentorgym; gym.make('CarlaNoCrash-v0', town='Suburb').reset(seed=0)"


def pin_to_one_core() -> None:
    """Stay on one core, where the system lets a process choose."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


class DrivingRun:
    """`CarlaNoCrash-v0` with masks under the expert, whose thinking is not timed; its resets are."""

    def __init__(self, num_envs: int, traffic: tuple[int, int]):
        envs = gym.make_vec("CarlaNoCrash-v0", num_envs=num_envs, town="Suburb", traffic=traffic)
        self.envs = cast(DrivingVectorEnv, envs.unwrapped)
        self.envs.reset(seed=0)
        for _ in range(50):
            self.envs.step(self.envs.expert_actions())

    def steps_per_s(self, seconds: float) -> float:
        """Environment steps per second of stepping, over at least `seconds` of it."""
        steps, busy = 0, 0.0
        while busy < seconds:
            actions = self.envs.expert_actions()
            start = time.perf_counter()
            self.envs.step(actions)
            busy += time.perf_counter() - start
            steps += self.envs.num_envs
        return steps / busy

    def reset_ms(self, repeats: int = 5) -> float:
        """Milliseconds per world of resetting the whole batch, the median."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.envs.reset()
            times.append((time.perf_counter() - start) / self.envs.num_envs * 1e3)
        return statistics.median(times)


class HighwayRun:
    """highway-env with 50 vehicles and its nearest thing to masks: four 96 x 96 gray images, 10 Hz."""

    def __init__(self):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        try:
            import highway_env
        except ImportError as error:
            raise UsageError("the peer is missing: pip install 'mentorgym[peers]', or pass --no-peer") from error
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


def driving(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a line per figure, and return them."""
    figures: dict[str, Any] = {
        "version": mentorgym.__version__,
        "num_envs": arguments.num_envs,
        "repeats": arguments.repeats,
    }
    say = progress_console.print
    if arguments.start:
        say("starting fresh processes ...")
        with tempfile.TemporaryDirectory() as cache:
            figures["cold_start_s"] = start_seconds(cache)
        start_seconds(None)
        figures["warm_start_s"] = start_seconds(None)
    pin_to_one_core()
    say("making the environments ...")
    run, dense = DrivingRun(arguments.num_envs, (50, 50)), DrivingRun(arguments.num_envs, (100, 250))
    peer = HighwayRun() if arguments.peer else None
    ours, theirs, crowded = [], [], []
    for k in range(arguments.repeats):
        say(f"run {k + 1} of {arguments.repeats}")
        ours.append(run.steps_per_s(arguments.seconds))
        if peer:
            theirs.append(peer.steps_per_s(arguments.seconds))
        crowded.append(dense.steps_per_s(arguments.seconds))
    figures["steps_per_s"] = statistics.median(ours)
    figures["runs"] = ours
    if peer:
        figures["peer"] = f"highway-env {peer.version}"
        figures["peer_steps_per_s"] = statistics.median(theirs)
        figures["peer_runs"] = theirs
        figures["ratio"] = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    figures["dense_cost"] = statistics.median(a / b for a, b in zip(ours, crowded, strict=True))
    figures["reset_ms"] = run.reset_ms()
    show(f"{figures['steps_per_s']:,.0f} steps/s on one core: {arguments.num_envs} worlds, 50 vehicles, 50 walkers")
    if peer:
        show(
            f"{figures['peer_steps_per_s']:,.1f} steps/s of {figures['peer']}, 50 vehicles, 96 x 96 x 4 gray, same core"
        )
        show(f"{figures['ratio']:.0f} times as fast (median of {arguments.repeats} alternating runs)")
    show(f"a step with 100 vehicles and 250 walkers costs {figures['dense_cost']:.2f} times as much")
    show(f"a reset takes {figures['reset_ms']:.2f} ms a world")
    if arguments.start:
        show(f"a first start takes {figures['cold_start_s']:.1f} s, every later one {figures['warm_start_s']:.1f} s")
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mentorgym.benchmarks.speed", description=__doc__)
    parser.add_argument("what", choices=["driving"], help="which family to time")
    parser.add_argument("--num-envs", type=int, default=64, help="worlds in the batch")
    parser.add_argument("--repeats", type=int, default=5, help="alternating runs; medians are reported")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of stepping in each run")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave highway-env out")
    parser.add_argument("--start", action="store_true", help="also time a cold and a warm start (about two minutes)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, and nothing else, on standard output"
    )
    arguments = parser.parse_args()
    run_command("speed", lambda: driving(arguments), arguments.json)


if __name__ == "__main__":
    main()
