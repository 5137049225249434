"""`run.py` installs when something changed, and only then, and hands back the exit code of the job."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mentorgym import cli

SCRIPT = Path(__file__).resolve().parents[1] / "run.py"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module whose project is a small one in `tmp_path`, with an environment and nothing installed."""
    spec = importlib.util.spec_from_file_location("run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, path in {"ROOT": "", "VENV": ".venv", "PYTHON": ".venv/python"}.items():
        monkeypatch.setattr(module, name, tmp_path / path)
    (tmp_path / ".venv").mkdir()
    for name in (".venv/python", ".venv/pyvenv.cfg", "pyproject.toml", "setup.py", "constraints.txt"):
        (tmp_path / name).touch()
    monkeypatch.delenv("MENTORGYM_PIP_ARGS", raising=False)
    return module


@pytest.fixture
def calls(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The arguments of every Python that the script starts; all succeed."""
    started = []
    monkeypatch.setattr(run, "run", lambda *arguments, **_: started.append(arguments) or 0)
    return started


def installs(calls: list[tuple[str, ...]]) -> list[str]:
    """What was installed, in order."""
    return [arguments[arguments.index("-e") + 1] for arguments in calls if "-e" in arguments]


def test_needs_the_standard_library_alone():
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text("utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_a_second_call_installs_nothing(run: ModuleType, calls: list):
    assert run.main(["lint"]) == 0
    assert installs(calls) == [".[test]"]
    run.main(["lint"])
    assert installs(calls) == [".[test]"]


def test_each_extra_is_installed_once(run: ModuleType, calls: list):
    for verb in ("demo", "test", "demo", "lint", "slow", "docs", "docs"):
        run.main([verb])
    assert installs(calls) == [".[video]", ".[test]", ".[docs]"]


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda root, _, name=name: (root / name).write_text("changed")
            for name in ("pyproject.toml", "setup.py", "constraints.txt", ".venv/pyvenv.cfg")
        ),
        lambda _, monkeypatch: monkeypatch.setenv("MENTORGYM_PIP_ARGS", "--pre"),
    ],
    ids=["pyproject", "setup", "constraints", "python", "pip arguments"],
)
def test_a_change_installs_again(
    run: ModuleType, calls: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable
):
    run.main(["lint"])
    change(tmp_path, monkeypatch)
    run.main(["lint"])
    assert installs(calls) == [".[test]", ".[test]"]


def test_pip_gets_the_users_arguments(run: ModuleType, calls: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MENTORGYM_PIP_ARGS", "--find-links 'a folder'")
    run.main(["demo"])
    (install,) = (arguments for arguments in calls if "-e" in arguments)
    assert install[-2:] == ("--find-links", "a folder")


def test_a_failed_install_is_tried_again(run: ModuleType, monkeypatch: pytest.MonkeyPatch):
    started = []
    monkeypatch.setattr(run, "run", lambda *arguments, **_: started.append(arguments) or int("-e" in arguments))
    for _ in range(2):
        with pytest.raises(SystemExit, match="1"):
            run.main(["test"])
    assert installs(started) == [".[test]", ".[test]"]
    assert not any("pytest" in arguments for arguments in started)


def test_an_environment_without_pip_is_named_and_kept(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path
):
    monkeypatch.setattr(run, "run", lambda *_, **__: 1)
    with pytest.raises(SystemExit, match="1"):
        run.main(["test"])
    assert f"{tmp_path / '.venv'} has no pip" in capfd.readouterr().err
    assert run.PYTHON.exists()


def test_where_no_environment_can_be_made_the_remedy_is_named(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    run.PYTHON.unlink()
    monkeypatch.setattr(run, "run", lambda *_, **__: 1)
    with pytest.raises(SystemExit, match="1"):
        run.main(["test"])
    assert "apt install python3." in capfd.readouterr().err
    assert not run.VENV.exists()


def test_arguments_go_to_the_last_step_and_its_exit_code_comes_back(run: ModuleType, monkeypatch: pytest.MonkeyPatch):
    started = []
    monkeypatch.setattr(run, "run", lambda *arguments, **_: started.append(arguments) or 5 * ("pytest" in arguments))
    assert run.main(["test", "-k", "house", "--help"]) == 5
    assert started[-2:] == [run.LINT, ("-m", "pytest", "-m", "not slow", "-k", "house", "--help")]


def test_a_failed_step_ends_the_job(run: ModuleType, monkeypatch: pytest.MonkeyPatch):
    started = []
    monkeypatch.setattr(run, "run", lambda *arguments, **_: started.append(arguments) or 3 * ("ruff" in arguments))
    assert run.main(["test"]) == 3
    assert started[-1] == run.LINT


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["tset"], 2), ([], 2)])
def test_help_and_mistakes_set_nothing_up(arguments: list[str], code: int, run: ModuleType, calls: list):
    with pytest.raises(SystemExit, match=str(code)):
        run.main(arguments)
    assert calls == []


def test_the_verbs_of_make_are_those_of_the_script():
    help_text = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    targets = (SCRIPT.parent / "Makefile").read_text("utf-8").splitlines()[0].split()[1:]
    assert targets
    assert all(f" {target} " in help_text for target in targets)


def test_the_jobs_of_the_project_are_its_own_verbs_and_files(run: ModuleType):
    for _, steps in run.VERBS.values():
        for step in steps:
            if step[:2] == ("-m", "mentorgym"):
                assert step[2] in {verb for verbs in cli.VERBS.values() for verb in verbs}
            elif step[0] == "-m":
                assert importlib.util.find_spec(step[1]) and not step[1].startswith("mentorgym")
            else:
                assert (SCRIPT.parent / step[0]).is_file()
