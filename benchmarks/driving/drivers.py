"""Drivers: what the harness can put behind the wheel.

`random` and `expert` need no file. An agent is a Python file, in `agents/` and called by its name, or anywhere else and
called by its path. It defines

- `Args`, a dataclass of flags, among them `seed`;
- `train(args) -> Path`, which trains, unless that run is done, and returns the run's folder;
- `load_policy(folder, device) -> policy`, with `policy(observations) -> actions` for whole batches. A file without it
  is a trainer: it can be run, not ranked. A policy that needs more than observations is a `Watcher` instead.

A run's folder holds at least `config.json` (`agent`, the file's stem, and `args`, its flags), the weights in
`policy.*` or, where they are a model of transformers, in `model/`, and `done` (a JSON object with `step`, the
environment steps taken), which is written last. An agent that trains elsewhere than in its environment's own town says
so in the flag `env_args`, as in `["town=Village"]`.
"""

import ast
import difflib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np

import mentorgym.agents
from mentorgym.agents.toolbox import start_torch
from mentorgym.agents.toolbox.runs import policy_step
from mentorgym.benchmarks.harness.command import UsageError, progress_console
from mentorgym.digests import files_digest
from mentorgym.envs.driving import DrivingVectorEnv

AGENTS = Path(mentorgym.agents.__file__).parent

Observations = dict[str, np.ndarray]


@dataclass(frozen=True)
class Training:
    """Where a driver comes from: its run's folder, and what that says of seed, environment steps and weights."""

    folder: Path
    seed: int
    steps: int
    weights: str
    args: dict[str, Any]


class Driver(Protocol):
    """Drives the rows of a vector environment."""

    name: str
    observation: str
    """What it looks at, as the environment's argument of that name; nothing is drawn for "state"."""
    training: Training | None

    def start(self, row: int, seed: int) -> None:
        """An episode with this seed begins in `row`."""

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        """Actions float32 [N, 2] for the N rows of `envs`."""

    def report(self, row: int) -> dict[str, float]:
        """What the driver has to say of the episode that has ended in `row`, for its score."""


@runtime_checkable
class Watcher(Protocol):
    """A policy that looks at the environments themselves, as for their pictures; the methods are those of `Driver`."""

    observation: str

    def start(self, row: int, seed: int) -> None: ...

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray: ...

    def report(self, row: int) -> dict[str, float]: ...


class RandomDriver:
    """Uniform actions, drawn for each episode from its seed, so that they do not depend on the episodes beside it."""

    name, observation = "random", "state"
    training: Training | None = None

    def __init__(self) -> None:
        self._generators: dict[int, np.random.Generator] = {}

    def start(self, row: int, seed: int) -> None:
        self._generators[row] = np.random.default_rng(seed)

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        space = envs.single_action_space
        return np.stack(
            [self._generators[row].uniform(space.low, space.high) for row in range(envs.num_envs)], dtype=np.float32
        )

    def report(self, row: int) -> dict[str, float]:
        return {}


class ExpertDriver:
    """The environment's own rule-based driver, which sees its state."""

    name, observation = "expert", "state"
    training: Training | None = None

    def start(self, row: int, seed: int) -> None:
        pass

    def act(self, envs: DrivingVectorEnv, observations: Observations) -> np.ndarray:
        return envs.expert_actions()

    def report(self, row: int) -> dict[str, float]:
        return {}


class AgentDriver:
    """A trained policy."""

    def __init__(self, name: str, policy: Callable[[Observations], np.ndarray] | Watcher, training: Training) -> None:
        self.name, self._policy = name, policy
        self.observation = policy.observation if isinstance(policy, Watcher) else "masks"
        self.training: Training | None = training

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


def agent_names() -> list[str]:
    """Names of the files in `agents/` that define `train`; none of them is imported."""

    def trains(path: Path) -> bool:
        body = ast.parse(path.read_text("utf-8")).body
        return any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in body)

    return sorted(path.stem for path in AGENTS.glob("*.py") if trains(path))


def load_agent(agent: str | Path) -> ModuleType:
    """The module of an agent given by name or by the path of its file."""
    path = Path(agent)
    if path.suffix != ".py":
        names = agent_names()
        if str(agent) not in names:
            close = difflib.get_close_matches(str(agent), [*BUILT_IN, *names], n=1, cutoff=0.0)
            raise UsageError(
                f"no driver {str(agent)!r}: did you mean {close[0]}? There are {', '.join([*BUILT_IN, *names])}, "
                "and any agent's file by its path, as in ./my_agent.py"
            )
        return importlib.import_module(f"mentorgym.agents.{agent}")
    if not path.is_file():
        raise UsageError(f"no file {path}: an agent is called by its name or by the path of its file")
    if path.resolve().parent == AGENTS.resolve():
        return load_agent(path.stem)
    if path.stem in (*BUILT_IN, *agent_names()):
        raise UsageError(f"{path} has the name of the driver {path.stem}: rename the file, rows go by its name")
    name = f"mentorgym_agent_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path.resolve())
    assert specification and specification.loader, "a .py file always has them"
    module = importlib.util.module_from_spec(specification)
    # Dataclasses and tyro look the module of a class up by its name.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    if missing := [part for part in ("Args", "train") if not hasattr(module, part)]:
        raise UsageError(f"{path} is no agent: it does not define {' and '.join(missing)}")
    return module


def require_policy(module: ModuleType) -> None:
    """Raise UsageError if the agent `module` is a trainer."""
    if not hasattr(module, "load_policy"):
        raise UsageError(
            f"{module.__file__} is a trainer: it can be run, but not ranked, for it has no load_policy(folder, device)"
        )


def read_training(folder: Path) -> Training:
    """What a run's folder says of its training; raises UsageError for a folder without a policy.

    Of a run that still trains, it is the policy of the newest checkpoint, and its steps.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} is not the folder of a training run: it has no config.json")
    unfinished_at = None if (folder / "done").is_file() else policy_step(folder)
    if unfinished_at is not None:
        progress_console.print(f"{folder} is not finished: this is its policy at step {unfinished_at:,}")
    elif not (folder / "done").is_file():
        raise UsageError(f"{folder} is not finished: run its training command again, or wait for its first checkpoint")
    weights = sorted(folder.glob("policy.*")) or sorted((folder / "model").glob("*.safetensors"))
    if not weights:
        raise UsageError(f"{folder} has no weights (policy.* or model/): delete the folder and train again")
    digest = files_digest(weights, 12)
    try:
        args = json.loads((folder / "config.json").read_text("utf-8"))["args"]
        steps = unfinished_at
        if steps is None:
            steps = int(json.loads((folder / "done").read_text("utf-8"))["step"])
        return Training(folder, int(args["seed"]), steps, digest, args)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is incomplete ({type(error).__name__}: {error}): config.json has args with a seed, done has step"
        ) from None


def agent_of(folder: Path) -> str:
    """The name of the agent that trained the run in `folder`."""
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["agent"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder}/config.json does not name the agent that trained it: give --driver") from None


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
            require_policy(load_agent(driver))
        raise UsageError(
            "an agent drives from a run's folder: train it, then give --run FOLDER"
            if driver
            else f"nobody to drive: give --driver ({', '.join(BUILT_IN)}, an agent or its file) or --run FOLDER"
        )
    # More threads gain nothing on small batches, and where other programs run they wait for each other.
    start_torch(seed=0, threads=1)
    drivers: list[Driver] = []
    for folder in runs:
        training = read_training(folder)
        module = load_agent(driver or agent_of(folder))
        require_policy(module)
        try:
            policy = module.load_policy(folder, device)
        except (ValueError, TypeError, ImportError, ConnectionError) as error:
            raise UsageError(f"{folder} cannot be loaded: {error}") from error
        drivers.append(AgentDriver(Path(str(module.__file__)).stem, policy, training))
    return drivers
