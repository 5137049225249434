"""What the agents' tests share: an environment that takes microseconds, and training runs of seconds."""

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mentorgym.agents import drqv2, drqv2_awag, drqv2_vmr, ppo, sac, sac_awag, sac_vmr, td3
from mentorgym.agents.toolbox import Batch, mentoring, pack_observations, to_tensors
from mentorgym.wrappers.vector import ActionHints, ClipReward

# More threads than cores that are free make these small networks many times slower.
torch.set_num_threads(1)

AGENTS = [ppo, sac, sac_vmr, sac_awag, td3, drqv2, drqv2_vmr, drqv2_awag]


def name_of(agent: ModuleType) -> str:
    return agent.__name__.split(".")[-1]


@pytest.fixture
def toy_road(monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an environment with `CarlaNoCrash-v0`'s spaces that this folder's `toy_road.py` registers."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return "toy_road:ToyRoad-v0"


@pytest.fixture
def mentors_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mentors answer in this process, which takes no time to start."""
    monkeypatch.setattr(mentoring, "ActionHints", functools.partial(ActionHints, worker="thread"))
    for agent in (sac, drqv2):
        monkeypatch.setattr(agent, "ClipReward", functools.partial(ClipReward, worker="thread"))


@pytest.fixture
def short_flags(toy_road: str, tmp_path: Path, mentors_in_threads: None):
    """`short_flags(agent, **flags)`: flags of a training run of `agent` on the toy road that takes a second or two."""

    def flags(agent: ModuleType, **changes: Any) -> Any:
        common = {
            "env_id": toy_road,
            "env_args": ("steps=20",),
            "num_envs": 2,
            "runs": str(tmp_path / "runs"),
            "total_steps": 160,
            "log_every": 40,
            "checkpoint_every": 80,
        }
        own: dict[str, Any] = {"buffer_size": 100, "batch_size": 4, "learning_starts": 40}
        if agent is ppo:
            own = {"rollout_steps": 10, "batch_size": 10, "epochs": 2}
        if name_of(agent).endswith(("_vmr", "_awag")):
            # Asynchronous hints come when they come; these make a run depend on its seed alone.
            own |= {"mentor": "expert", "hint_mode": "sync", "hint_every": 2}
        return agent.Args(**(common | own | changes))

    return flags


@pytest.fixture
def short_sac(short_flags) -> sac.Args:
    """Flags of a training run of SAC on the toy road that takes a second or two."""
    return short_flags(sac)


@pytest.fixture
def short_ppo(short_flags) -> ppo.Args:
    """Flags of a training run of PPO on the toy road that takes a second or two."""
    return short_flags(ppo)


@pytest.fixture
def all_agents() -> list[ModuleType]:
    """What `any_agent` is in turn."""
    return AGENTS


@pytest.fixture(params=AGENTS, ids=name_of)
def any_agent(request: pytest.FixtureRequest) -> ModuleType:
    """Each agent's module in turn."""
    return request.param


@pytest.fixture(params=[sac, ppo], ids=["sac", "ppo"])
def agent(request: pytest.FixtureRequest) -> ModuleType:
    """An off-policy and an on-policy agent's module in turn."""
    return request.param


@pytest.fixture
def short_run(agent: ModuleType, short_flags) -> sac.Args | ppo.Args:
    """Flags of a training run of `agent` on the toy road that takes a second or two."""
    return short_flags(agent)


@pytest.fixture
def batch() -> Batch:
    """Six transitions drawn at random, of which two have terminated and four have a hint."""
    generator = np.random.default_rng(0)

    def observations() -> dict[str, np.ndarray]:
        masks = generator.choice(np.array([0, 255], np.uint8), size=(6, 15, 96, 96), p=[0.8, 0.2])
        return pack_observations({"bev": masks, "state": generator.normal(size=(6, 10)).astype(np.float32)})

    mask = np.array([1, 0, 1, 1, 0, 1], np.float32)
    arrays = Batch(
        observations(),
        generator.uniform(-1, 1, (6, 2)).astype(np.float32),
        generator.normal(size=6).astype(np.float32),
        observations(),
        np.array([0, 1, 0, 0, 1, 0], np.float32),
        hints=mask[:, None] * generator.uniform(-1, 1, (6, 2)).astype(np.float32),
        hint_mask=mask,
        discounts=generator.uniform(0.9, 1, 6).astype(np.float32),
    )
    return to_tensors(arrays, "cpu")


@pytest.fixture
def moved():
    """`moved(before, after)`: the modules, one level down, all of whose parameters differ; none may in part."""

    def names(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
        now = dict(after.named_parameters())
        changed: dict[str, set[bool]] = {}
        for name, value in before.named_parameters():
            changed.setdefault(name.split(".")[0], set()).add(not torch.equal(value, now[name]))
        assert all(len(flags) == 1 for flags in changed.values()), changed
        return {name for name, flags in changed.items() if flags == {True}}

    return names
