"""One core's work of `mentorgym speed driving`, also as a program for the interpreter of another installation.

python stepping.py <worlds> <seconds>
"""

import statistics
import sys
import time
from typing import Any

import gymnasium as gym

import mentorgym  # noqa: F401 - registers the environments

TRAFFIC = (50, 50)
"""Vehicles and walkers."""


class DrivingRun:
    """`CarlaNoCrash-v0` with masks under the expert, whose thinking is not timed; resets at episodes' ends are."""

    def __init__(self, num_envs: int, traffic: tuple[int, int], **arguments: Any):
        envs: Any = gym.make_vec("CarlaNoCrash-v0", num_envs=num_envs, town="Suburb", traffic=traffic, **arguments)
        self.envs = envs.unwrapped
        # An attribute, since older installations do not know the argument and never copy.
        self.envs.copy = False
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


if __name__ == "__main__":
    print(DrivingRun(int(sys.argv[1]), TRAFFIC).steps_per_s(float(sys.argv[2])))
