"""Comparing two drivers: the same episodes alone count, and a verdict is given where the interval leaves 0 out."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks import compare, evaluate
from mentorgym.benchmarks.harness.rows import read_rows

ENV = "fake_drive:FakeDrive-v0"


@pytest.fixture
def row(fake_drive) -> dict:
    """A row to make others of."""
    evaluate.main(f"--env {ENV} --driver expert --town Suburb --routes 0 --output one.jsonl".split())
    return read_rows(Path("one.jsonl"))[0]


def write(row: dict, path: str, driver: str, scores: np.ndarray, town: str = "Suburb") -> None:
    """Rows of a driver's runs with driving scores [runs, routes], added to the file at `path`."""
    lines = [
        row
        | {"driver": driver, "run": f"{driver}{k}", "training_seed": k, "route": route, "town": town}
        | {"score": row["score"] | {"driving_score": float(score)}}
        for k, run in enumerate(scores)
        for route, score in enumerate(run)
    ]
    with Path(path).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def lines(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    capsys.readouterr()
    compare.main([*arguments, "--columns", "driving_score", "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_clear_difference_is_above_one_way_and_below_the_other(row: dict, capsys: pytest.CaptureFixture):
    hard = np.linspace(0.2, 0.5, 12)
    write(row, "a.jsonl", "good", hard + [[0.3], [0.35], [0.4]])
    write(row, "b.jsonl", "bad", np.tile(hard, (2, 1)))
    there = lines(capsys, "--rows", "a.jsonl", "--against", "b.jsonl")
    assert (there["first"], there["second"]) == ("good", "bad")
    (line,) = there["lines"]
    assert (line["verdict"], line["runs"], line["episodes"]) == ("above", [3, 2], 12)
    assert line["difference_mean"] == pytest.approx(0.35)
    assert 0.3 <= line["difference_low"] <= 0.35 <= line["difference_high"] <= 0.4
    (line,) = lines(capsys, "--rows", "b.jsonl", "--against", "a.jsonl")["lines"]
    assert line["verdict"] == "below"


def test_towns_stand_alone_and_together(row: dict, capsys: pytest.CaptureFixture):
    for town, gain in (("Suburb", 0.1), ("Village", 0.3)):
        write(row, "a.jsonl", "good", np.full((1, 4), 0.5 + gain), town)
        write(row, "b.jsonl", "bad", np.full((1, 4), 0.5), town)
    told = lines(capsys, "--rows", "a.jsonl", "--against", "b.jsonl")["lines"]
    assert {line["town"]: round(line["difference_mean"], 3) for line in told} == {
        "Suburb": 0.1,
        "Village": 0.3,
        "all": 0.2,
    }


def test_runs_are_chosen_by_their_training_seed(row: dict, capsys: pytest.CaptureFixture):
    write(row, "a.jsonl", "good", np.array([[0.9, 0.9], [0.5, 0.5], [0.7, 0.7]]))
    write(row, "b.jsonl", "bad", np.array([[0.1, 0.1], [0.5, 0.5], [0.5, 0.5]]))
    files = ["--rows", "a.jsonl", "--against", "b.jsonl"]
    (line,) = lines(capsys, *files, "--training-seeds", "1", "2")["lines"]
    assert line["runs"] == [2, 2]
    assert line["difference_mean"] == pytest.approx(0.1)
    with pytest.raises(SystemExit, match="good has no rows of training seed 7: train and evaluate it first"):
        compare.main([*files, "--training-seeds", "1", "7"])


def test_a_driver_that_was_not_trained_stays_whatever_the_seeds(row: dict, capsys: pytest.CaptureFixture):
    write(row, "a.jsonl", "good", np.array([[0.9, 0.9], [0.5, 0.5]]))
    untrained = row | {"driver": "rule", "run": None, "training_seed": None}
    with Path("b.jsonl").open("w") as file:
        file.writelines(json.dumps(untrained | {"route": route}) + "\n" for route in (0, 1))
    (line,) = lines(capsys, "--rows", "a.jsonl", "--against", "b.jsonl", "--training-seeds", "1")["lines"]
    assert line["runs"] == [1, 1]


def test_episodes_that_one_of_them_did_not_drive_do_not_count(row: dict, capsys: pytest.CaptureFixture):
    write(row, "a.jsonl", "good", np.array([[0.5, 0.5, 0.9]]))
    write(row, "b.jsonl", "bad", np.array([[0.5, 0.5]]))
    (line,) = lines(capsys, "--rows", "a.jsonl", "--against", "b.jsonl")["lines"]
    assert (line["episodes"], line["difference_mean"], line["verdict"]) == (2, 0.0, "-")


def test_a_file_of_several_drivers_needs_a_name_and_strangers_share_no_episode(
    row: dict, capsys: pytest.CaptureFixture
):
    for driver in ("good", "bad"):
        write(row, "a.jsonl", driver, np.array([[0.5, 0.6]]))
    with pytest.raises(SystemExit, match="rows of bad, good: choose one with --driver"):
        compare.main("--rows a.jsonl --against a.jsonl".split())
    found = lines(capsys, *"--rows a.jsonl --driver good --against a.jsonl --against-driver bad".split())
    assert found["lines"][0]["difference_mean"] == 0.0
    write(row, "c.jsonl", "far", np.array([[0.5, 0.6]]), "Village")
    with pytest.raises(SystemExit, match="no episode that every run of both drove"):
        compare.main("--rows a.jsonl --driver good --against c.jsonl".split())
    with pytest.raises(SystemExit, match="no rows of nobody there, only of bad, good"):
        compare.main("--rows a.jsonl --driver nobody --against c.jsonl".split())
