"""Drivers: what the harness can put behind the wheel.

`random` and `expert` need no file; an agent is one (`harness.agents`). A policy that needs more than observations is a
`Watcher`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mentorgym.agents.toolbox import start_torch
from mentorgym.benchmarks.harness.agents import Training, agent_of, load_agent, read_training, require_policy
from mentorgym.benchmarks.harness.command import UsageError, user_input
from mentorgym.envs.driving import DrivingVectorEnv

Observations = Any
"""`envs.driving.Observation` of the kind that the driver looks at."""


class Driver:
    """Drives the rows of a vector environment."""

    name: str
    observation: str = "state"
    """What it looks at, as the environment's argument of that name; nothing is drawn for "state"."""
    training: Training | None = None

    def start(self, row: int, seed: int) -> None:
        """An episode with this seed begins in `row`."""

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        """Actions float32 [N, 2] for the N rows of `envs`."""
        raise NotImplementedError

    def report(self, row: int) -> dict[str, float]:
        """What the driver has to say of the episode that has ended in `row`, for its score."""
        return {}


@runtime_checkable
class Watcher(Protocol):
    """A policy that looks at the environments themselves, as for their pictures; the methods are those of `Driver`."""

    observation: str

    def start(self, row: int, seed: int) -> None: ...

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray: ...

    def report(self, row: int) -> dict[str, float]: ...


class RandomDriver(Driver):
    """Uniform actions, drawn for each episode from its seed, so that they do not depend on the episodes beside it."""

    name = "random"

    def __init__(self) -> None:
        self._generators: dict[int, np.random.Generator] = {}

    def start(self, row: int, seed: int) -> None:
        self._generators[row] = np.random.default_rng(seed)

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        space = envs.single_action_space
        return np.stack(
            [self._generators[row].uniform(space.low, space.high) for row in range(envs.num_envs)], dtype=np.float32
        )


class ExpertDriver(Driver):
    """The environment's own rule-based driver, which sees its state."""

    name = "expert"

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        return envs.expert_actions()


class AgentDriver(Driver):
    """A trained policy."""

    def __init__(self, name: str, policy: Callable[[Observations], np.ndarray] | Watcher, training: Training) -> None:
        self.name, self._policy, self.training = name, policy, training
        self.observation = policy.observation if isinstance(policy, Watcher) else "masks"

    def start(self, row: int, seed: int) -> None:
        if isinstance(self._policy, Watcher):
            self._policy.start(row, seed)

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        if isinstance(self._policy, Watcher):
            return self._policy.act(envs, observations)
        return self._policy(observations)

    def report(self, row: int) -> dict[str, float]:
        return self._policy.report(row) if isinstance(self._policy, Watcher) else {}


BUILT_IN: dict[str, type[RandomDriver] | type[ExpertDriver]] = {"random": RandomDriver, "expert": ExpertDriver}


def load_drivers(driver: str, runs: Sequence[Path], device: str) -> list[Driver]:
    """One driver for each folder in `runs`, or the one called `driver` if that needs none.

    `driver` is `random`, `expert`, an agent's name or the path of its file, or empty to go by what each run says.
    """
    if driver in BUILT_IN:
        if runs:
            raise UsageError(f"{driver} was never trained: leave --run out")
        return [BUILT_IN[driver]()]
    if not runs:
        if driver:
            require_policy(load_agent(driver, tuple(BUILT_IN)))
        raise UsageError(
            "an agent drives from a run's folder: train it, then give --run FOLDER"
            if driver
            else f"nobody to drive: give --driver ({', '.join(BUILT_IN)}, an agent or its file) or --run FOLDER"
        )
    # More threads gain nothing on small batches, and where other programs run they wait for each other.
    start_torch(seed=0, threads=1)
    drivers: list[Driver] = []
    for folder in runs:
        module = load_agent(driver or agent_of(folder), tuple(BUILT_IN))
        require_policy(module)
        training = read_training(folder, module)
        with user_input(f"{folder} cannot be loaded: "):
            policy = module.load_policy(folder, device)
        drivers.append(AgentDriver(training.agent, policy, training))
    return drivers
