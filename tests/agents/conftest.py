"""What the agents' tests share: an environment that takes microseconds, and a training run of seconds."""

from pathlib import Path
from types import ModuleType

import pytest
import torch

from mentorgym.agents import ppo, sac

# More threads than cores that are free make these small networks many times slower.
torch.set_num_threads(1)


@pytest.fixture
def toy_road(monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an environment with `CarlaNoCrash-v0`'s spaces that this folder's `toy_road.py` registers."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return "toy_road:ToyRoad-v0"


@pytest.fixture
def short_sac(toy_road: str, tmp_path: Path) -> sac.Args:
    """Flags of a training run of SAC on the toy road that takes a second or two."""
    return sac.Args(
        env_id=toy_road,
        env_args=("steps=20",),
        num_envs=2,
        runs=str(tmp_path / "runs"),
        total_steps=160,
        log_every=40,
        checkpoint_every=80,
        buffer_size=100,
        batch_size=4,
        learning_starts=40,
    )


@pytest.fixture
def short_ppo(toy_road: str, tmp_path: Path) -> ppo.Args:
    """Flags of a training run of PPO on the toy road that takes a second or two."""
    return ppo.Args(
        env_id=toy_road,
        env_args=("steps=20",),
        num_envs=2,
        runs=str(tmp_path / "runs"),
        total_steps=160,
        log_every=40,
        checkpoint_every=80,
        rollout_steps=10,
        batch_size=10,
        epochs=2,
    )


@pytest.fixture(params=[sac, ppo], ids=["sac", "ppo"])
def agent(request: pytest.FixtureRequest) -> ModuleType:
    """Each agent's module in turn."""
    return request.param


@pytest.fixture
def short_run(agent: ModuleType, short_sac: sac.Args, short_ppo: ppo.Args) -> sac.Args | ppo.Args:
    """Flags of a training run of `agent` on the toy road that takes a second or two."""
    return short_sac if agent is sac else short_ppo
