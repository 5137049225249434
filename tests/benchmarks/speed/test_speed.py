"""The speed command: what it prints, on runs too short to mean anything."""

import json
import sys

import pytest

from mentorgym.benchmarks.speed import __main__ as speed
from mentorgym.benchmarks.speed import driving, timing

SHORT = ["--repeats", "1", "--seconds", "0.01", "--no-peer"]


@pytest.fixture(autouse=True)
def _keep_cores():
    yield
    timing.keep_to_cores(len(timing.CORES))


def figures(monkeypatch, capsys, *arguments: str) -> dict:
    monkeypatch.setattr(sys, "argv", ["mentorgym speed", "driving", *SHORT, "--json", *arguments])
    speed.main()
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_every_number_of_worlds_and_threads_has_its_figure(monkeypatch, capsys, tmp_path):
    threads = ["1", "2"] if len(timing.CORES) != 1 else ["1"]
    written = tmp_path / "speed.md"
    told = figures(monkeypatch, capsys, "--num-envs", "2", "3", "--threads", *threads, "--table", str(written))
    assert list(told["steps_per_s"]) == [f"{count} threads" for count in threads]
    assert all(list(rates) == ["2", "3"] and min(rates.values()) > 0 for rates in told["steps_per_s"].values())
    assert told["cost"]["2"] == 1.0
    assert list(told["speedup"]) == [f"{count} threads" for count in threads[1:]]
    assert told["dense_cost"] > 0 and told["reset_ms"] > 0
    lines = written.read_text("utf-8").splitlines()
    assert "--num-envs 2 3" in lines[2]
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| worlds | 2 | 3 |"
    assert {line.count("|") for line in table} == {4}


def test_another_installation_is_timed_beside_this_one(monkeypatch, capsys):
    told = figures(monkeypatch, capsys, "--num-envs", "2", "--threads", "1", "--against", sys.executable)
    assert 0.1 < told["gain"]["2"] < 10


def test_an_interpreter_without_mentorgym_is_named(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="speed driving: --against /no/python: no mentorgym could be timed there"):
        figures(monkeypatch, capsys, "--num-envs", "2", "--threads", "1", "--against", "/no/python")


def test_more_threads_than_cores_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(driving, "CORES", [0])
    with pytest.raises(SystemExit, match="speed driving: --threads 2: this process may use 1 cores"):
        figures(monkeypatch, capsys, "--num-envs", "2", "--threads", "2")
