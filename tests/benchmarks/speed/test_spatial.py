"""The speed command on rooms: what it prints, on runs too short to mean anything."""

import json
import sys

import pytest

from mentorgym.benchmarks.speed import __main__ as speed
from mentorgym.benchmarks.speed import timing
from mentorgym.benchmarks.speed.spatial import Moves


@pytest.fixture(autouse=True)
def _keep_cores():
    yield
    timing.keep_to_cores(len(timing.CORES))


def test_every_number_of_rooms_has_its_figure(monkeypatch, capsys, tmp_path):
    written = tmp_path / "speed.md"
    given = ["--repeats", "1", "--seconds", "0.01", "--num-envs", "2", "3", "--json", "--table", str(written)]
    monkeypatch.setattr(sys, "argv", ["speed", "spatial", *given])
    speed.main()
    told = json.loads(capsys.readouterr().out)
    assert list(told["steps_per_s"]) == ["2", "3"] and min(told["steps_per_s"].values()) > 0
    table = [line for line in written.read_text("utf-8").splitlines() if line.startswith("|")]
    assert table[0] == "| rooms | 2 | 3 |" and {line.count("|") for line in table} == {4}


@pytest.mark.parametrize("flag", ["--num-envs", "--repeats"])
def test_nothing_to_time_is_refused(flag, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed", "spatial", flag, "0"])
    with pytest.raises(SystemExit):
        speed.main()
    assert f"{flag} 0: give at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_core_takes_50_000_steps_in_a_second():
    timing.keep_to_cores(1)
    assert Moves(4096).steps_per_s(2.0) > 50_000
