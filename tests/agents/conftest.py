"""What the agents' tests share: an environment that takes microseconds, and a training run of seconds."""

from pathlib import Path

import pytest

from mentorgym.agents import sac


@pytest.fixture
def toy_road(monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an environment with `CarlaNoCrash-v0`'s spaces that this folder's `toy_road.py` registers."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return "toy_road:ToyRoad-v0"


@pytest.fixture
def short_run(toy_road: str, tmp_path: Path) -> sac.Args:
    """Flags of a training run on the toy road that takes a second or two."""
    return sac.Args(
        env_id=toy_road,
        env_args=("steps=20",),
        num_envs=2,
        runs=str(tmp_path / "runs"),
        total_steps=200,
        log_every=50,
        checkpoint_every=100,
        buffer_size=120,
        batch_size=8,
        learning_starts=50,
    )
