"""An agent's file as a program: mistakes end in one line, interruptions save, and progress stays within its bounds."""

import dataclasses
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from mentorgym.agents import drqv2, rloo, sac, sac_vmr
from mentorgym.agents.toolbox import Recorder, Run, progress, runs
from mentorgym.agents.toolbox.interruption import INTERRUPTION, Interrupted
from mentorgym.agents.toolbox.program import run_program
from mentorgym.agents.toolbox.progress import ProgressLine, progress_line
from mentorgym.benchmarks.driving.drivers import read_training
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.extras import remedy


def call(agent: Any, args: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of `agent` as a program with these flags."""
    words = [f"{agent.__name__.rsplit('.')[-1]}.py"]
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        if value == field.default:
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{name}" if value else f"--no-{name}"]
        else:
            words += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    monkeypatch.setattr(sys, "argv", words)
    try:
        run_program(agent.train, agent.Args, agent.PRESETS)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def stop_at(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process the signal `number` once a run has come to `step`."""
    original = Recorder.add_step

    def add_step(recorder, at, *rest):
        if at == step:
            os.kill(os.getpid(), number)
        return original(recorder, at, *rest)

    monkeypatch.setattr(Recorder, "add_step", add_step)


@pytest.mark.parametrize(
    ("agent", "flags", "message"),
    [
        (sac, {"env_args": ("stepps=20",)}, "--env-args: .*stepps"),
        (sac, {"encoder": "lite"}, "encoder 'lite' is unknown"),
        (sac, {"device": "nowhere"}, "--device nowhere"),
        (sac, {"env_id": "CarlaNoCrush-v0"}, "CarlaNoCrush"),
        (sac_vmr, {"mentor": "exprt"}, "unknown mentor 'exprt'"),
        (sac_vmr, {"mentor": "nowhere:mentor"}, "there is no module 'nowhere'"),
    ],
)
def test_a_mistake_ends_in_one_line_and_leaves_no_folder(agent, flags, message, short_flags, monkeypatch, capsys):
    args = short_flags(agent, **flags)
    assert call(agent, args, monkeypatch) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1 and error.startswith(agent.__name__.rsplit(".")[-1] + ": ")
    assert re.search(message, error)
    assert not Path(args.runs).exists()


def test_a_missing_extra_is_named_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert call(rloo, rloo.Args(runs=str(tmp_path / "runs")), monkeypatch) == 2
    assert capsys.readouterr().err.strip().endswith(remedy("caption"))
    assert not (tmp_path / "runs").exists()


def test_a_failed_start_does_not_delete_what_an_earlier_one_left(short_flags, monkeypatch):
    args = short_flags(sac_vmr)
    folder = sac_vmr.train(args)
    monkeypatch.setattr(sac_vmr, "with_hints", lambda *arguments: (_ for _ in ()).throw(ValueError("no mentor")))
    with pytest.raises(ValueError, match="no mentor"):
        sac_vmr.train(dataclasses.replace(args, resume=False))
    assert (folder / "done").exists()


def test_an_error_of_a_run_that_has_begun_keeps_its_traceback(short_flags, monkeypatch):
    monkeypatch.setattr(sac, "update", lambda *arguments: (_ for _ in ()).throw(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        call(sac, short_flags(sac), monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_saves_and_the_same_command_goes_on(number, short_flags, monkeypatch, capsys):
    args = short_flags(sac, checkpoint_every=10_000)
    with monkeypatch.context() as patch:
        stop_at(100, number, patch)
        assert call(sac, args, patch) == 130
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("sac: stopped; the same command goes on from step 100")
    (folder,) = Path(args.runs).glob("*/*")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"{100:012d}"]
    assert call(sac, args, monkeypatch) == 0
    assert "sac: goes on at step 100 of 160, on cpu" in capsys.readouterr().err
    assert json.loads((folder / "done").read_text())["step"] == 160
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_ends_at_once_and_one_before_training_too(capsys):
    with INTERRUPTION.handled():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        INTERRUPTION.awaited = True
        os.kill(os.getpid(), signal.SIGINT)
        while not INTERRUPTION.requested:
            signal.pause()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    assert "once more stops at once" in capsys.readouterr().err
    assert not INTERRUPTION.requested


def test_without_a_program_a_run_is_not_asked_to_end(short_sac):
    run = Run("sac", short_sac)
    assert not run.checkpoint_due(7, 10)
    run.stop_if_requested()
    with INTERRUPTION.handled():
        INTERRUPTION.requested = True
        assert run.checkpoint_due(7, 10)
        with pytest.raises(Interrupted, match="goes on from step 0"):
            run.stop_if_requested()


def test_minutes_without_a_checkpoint_make_one_due(short_sac, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
    run = Run("sac", short_sac)
    due = []
    for minute in range(12):
        now[0] = 60.0 * minute + 1
        due.append(run.checkpoint_due(minute, 1_000_000, 0))
        if due[-1]:
            run.save(minute, sac.Networks("small", 0.1), {}, {})
    assert [minute for minute, is_due in enumerate(due) if is_due] == [5, 11]


def test_a_policy_can_be_evaluated_while_its_run_trains(short_flags, monkeypatch):
    args = short_flags(sac, checkpoint_every=40)
    with monkeypatch.context() as patch:
        stop_at(100, signal.SIGTERM, patch)
        call(sac, args, patch)
    (folder,) = Path(args.runs).glob("*/*")
    assert read_training(folder).steps == 100
    assert (folder / "policy.safetensors").stat().st_mode & 0o777 == (folder / "config.json").stat().st_mode & 0o777
    (folder / "policy.safetensors").unlink()
    with pytest.raises(UsageError, match="not finished"):
        read_training(folder)


def test_a_run_with_more_steps_goes_on_where_a_shorter_one_ended(short_flags):
    def rows(folder: Path) -> list[dict]:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    args = short_flags(sac)
    short = sac.train(args)
    other = sac.train(dataclasses.replace(args, gamma=0.9))
    long = sac.train(dataclasses.replace(args, total_steps=240))
    assert len({short, other, long}) == 3
    assert rows(long)[: len(rows(short))] == rows(short)
    added = rows(long)[len(rows(short)) :]
    assert {row["resumes"] for row in added} == {1} and min(row["step"] for row in added) > 160
    config = json.loads((long / "config.json").read_text())
    assert config["extends"] == short.name and config["args"]["total_steps"] == 240 and len(config["starts"]) == 2
    assert json.loads((short / "done").read_text())["step"] == 160
    # The longest of the shorter ones is taken, and none that is longer.
    longer = sac.train(dataclasses.replace(args, total_steps=320))
    assert json.loads((longer / "config.json").read_text())["extends"] == long.name
    fewer = sac.train(dataclasses.replace(args, total_steps=80))
    assert {row["resumes"] for row in rows(fewer)} == {0}


@pytest.mark.parametrize("flags", [{"anneal": True}, {"noise_end": 0.05}])
def test_a_run_whose_schedules_depend_on_its_length_starts_anew_and_says_so(flags, short_flags, capsys):
    agent = sac if "anneal" in flags else drqv2
    args = short_flags(agent, **flags)
    short = agent.train(args)
    assert not (short / "checkpoints").exists()
    long = agent.train(dataclasses.replace(args, total_steps=200))
    assert f"it does not go on from {short}" in capsys.readouterr().err
    assert "extends" not in json.loads((long / "config.json").read_text())


def test_progress_shows_no_more_than_all_and_no_negative_time():
    assert progress_line(5_000, 2_000, "steps", 901.0) == "    2,000/2,000 steps     901/s  0:00:00 left"
    assert progress_line(0, 2_000, "steps", 0.0) == "        0/2,000 steps    0.00/s"
    assert progress_line(20, 0, "samples", 2.5, "valid") == "       20 samples    2.50/s  valid"


def test_off_a_terminal_a_line_comes_early_and_then_every_half_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    line = ProgressLine(0, 1_000, "steps")
    for second in range(101):
        now[0] = float(second)
        line.show(2 * second)
    shown = capsys.readouterr().err.splitlines()
    assert [text.split("/")[0].strip() for text in shown] == ["10", "70", "130", "190"]
    assert all("2.00/s" in text for text in shown) and shown[0].endswith("0:08:15 left")
    line.show(1_000)
    assert "1,000/1,000" in capsys.readouterr().err
