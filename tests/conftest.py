"""What the whole suite shares: CARLA's own maps and routes where a machine has them, and a word on whether it does."""

import importlib.metadata
import os
from pathlib import Path

import hypothesis
import pytest

# Hypothesis' own profile for shared machines: no deadlines, and the same examples in every run.
hypothesis.settings.load_profile("ci")

FOLDERS = {"maps_folder": "MENTORGYM_MAPS", "routes_folder": "MENTORGYM_ROUTES"}


def _folder(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: it names the folder of CARLA's own {variable.rpartition('_')[2].lower()}")
    folder = Path(os.environ[variable])
    if not folder.is_dir():
        pytest.fail(f"{variable}={folder} is not a folder; name one or unset it", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def maps_folder() -> Path:
    """The folder of CARLA's own maps, `<town>.xodr`; a test that asks for it is skipped without."""
    return _folder("MENTORGYM_MAPS")


@pytest.fixture(scope="session")
def routes_folder() -> Path:
    """The folder of CARLA's own routes, NoCrash CSV and Leaderboard XML; a test that asks for it is skipped without."""
    return _folder("MENTORGYM_ROUTES")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDERS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker("real_maps")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("real input")
    for variable in FOLDERS.values():
        terminalreporter.line(f"{variable}: {os.environ.get(variable, 'not set')}")
    try:
        carla = importlib.metadata.version("carla")
    except importlib.metadata.PackageNotFoundError:
        carla = "not installed, comparisons with carla.Map are skipped"
    terminalreporter.line(f"carla: {carla}")
    counts = []
    for outcome in ("passed", "failed", "error", "skipped"):
        reports = terminalreporter.stats.get(outcome, ())
        counts.append(f"{sum('real_maps' in getattr(report, 'keywords', ()) for report in reports)} {outcome}")
    terminalreporter.line(f"tests on real maps or routes: {', '.join(counts)}")
