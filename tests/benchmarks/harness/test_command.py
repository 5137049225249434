"""What the commands share: progress off a terminal, mistakes in one line, and how a shell calls them."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mentorgym.benchmarks.harness import command
from mentorgym.benchmarks.harness.command import UsageError, program, progress_bars, track, user_input, verb


@dataclass
class Flags:
    """Divide."""

    number: int = 1
    """number"""


@verb("divide")
def divide(args: Flags, command: str, flags: list[str]) -> dict[str, Any]:
    """Divide ten by a number."""
    print("dividing")
    if args.number == 0:
        raise UsageError("--number 0: nothing is divided by it")
    return {"result": 10 / args.number, "command": command, "flags": list(flags)}


def test_json_is_the_only_line_on_standard_output(capsys: pytest.CaptureFixture[str]):
    divide(["--number", "4", "--json", "--", "--more"])
    out, err = capsys.readouterr()
    assert out == '{"result": 2.5, "command": "mentorgym divide --number 4 --json -- --more", "flags": ["--more"]}\n'
    assert err == "dividing\n"


def test_a_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        divide(["--number", "0"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "mentorgym divide: --number 0: nothing is divided by it\n"


def test_what_a_user_gave_is_blamed_and_what_we_did_is_not():
    with pytest.raises(UsageError, match="--file: no such"), user_input("--file: "):
        raise OSError("no such file")
    with pytest.raises(ZeroDivisionError), user_input():
        1 / 0  # noqa: B018


def test_progress_off_a_terminal_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch):
    written = io.StringIO()
    monkeypatch.setattr(command, "progress_console", Console(file=written, force_terminal=False))
    monkeypatch.setattr(command, "SECONDS_BETWEEN_LINES", 0.0)
    with progress_bars() as bars:
        task = bars.add_task("driving", total=4)
        bars.update(task, completed=1)
        bars.advance(task, 2)
    lines = written.getvalue().splitlines()
    assert lines[:2] == ["driving: 25 %", "driving: 75 %"]
    monkeypatch.setattr(command, "SECONDS_BETWEEN_LINES", 60.0)
    written.truncate(0)
    assert list(track(range(3), "drawing")) == [0, 1, 2]


def test_a_shell_is_told_the_path_where_the_environment_is_not_active(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own = Path(sys.executable).with_name("mentorgym")
    monkeypatch.setenv("PATH", str(own.parent))
    assert program() == "mentorgym"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(own.parents[1])
    assert program() == f"{own.parent.name}/mentorgym"
