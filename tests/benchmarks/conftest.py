"""The harness's tests drive a fake environment, in a working directory of their own."""

import sys
from pathlib import Path
from types import ModuleType

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
