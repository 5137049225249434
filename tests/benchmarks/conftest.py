"""The harness's tests drive a fake environment, in a working directory of their own."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def fake_drive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module of the fake environment; the working directory is an empty folder."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.chdir(tmp_path)
    import fake_drive

    fake_drive.FakeDrive.started.clear()
    yield fake_drive
    sys.modules.pop("mentorgym_agent_tiny_agent", None)


@pytest.fixture
def tiny_agent() -> Path:
    """The file of an agent outside the package."""
    return HERE / "tiny_agent.py"


@pytest.fixture
def drawn_scenes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the drawn scenes and of the agent that describes them."""
    monkeypatch.syspath_prepend(HERE)
    import drawn_scenes

    yield drawn_scenes
    sys.modules.pop("mentorgym_agent_drawn_scenes", None)


@pytest.fixture
def drawn_captions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drawn_scenes: ModuleType) -> ModuleType:
    """Scenes and reward of the captions' commands are the drawn ones; the working directory is an empty folder.

    The module's `asked` lists which scenes were asked for.
    """
    drawn_scenes.asked.clear()

    def load_scenes(data: str, split: str, labels: str, reason_order: str, frames: int) -> Any:
        drawn_scenes.asked.append((data, split, labels, reason_order))
        return drawn_scenes.DrawnScenes()

    monkeypatch.setattr("mentorgym.benchmarks.captions.measure.load_scenes", load_scenes)
    monkeypatch.setattr("mentorgym.envs.caption.reward.CaptionReward", drawn_scenes.DrawnReward)
    monkeypatch.setattr("mentorgym.envs.caption.reward.load_scorer", lambda model, device: None)
    monkeypatch.chdir(tmp_path)
    return drawn_scenes
