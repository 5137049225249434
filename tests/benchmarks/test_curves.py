"""Learning curves: the numbers against episodes added up by hand, the picture, and folders that hold no run."""

import csv
import json

import pytest

from mentorgym.benchmarks import curves


def write_run(folder, seed, episodes):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"args": {"seed": seed}}))
    lines = [{"step": 10, "loss/policy": 0.1}]
    for step, total, length, km, speed in episodes:
        values = (step, total, length, km, speed)
        names = ("step", *(f"episode/{name}" for name in ("return", "length", "completed_km", "mean_speed")))
        lines.append(dict(zip(names, values, strict=True)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_point_sums_up_the_episodes_of_its_window(tmp_path):
    one = write_run(
        tmp_path / "one", 1, [(90, 4.0, 30, 0.010, 3.0), (100, 8.0, 10, 0.030, 5.0), (101, 6.0, 50, 0.2, 2.0)]
    )
    two = write_run(tmp_path / "two", 2, [(350, -1.0, 20, 0.005, 1.0)])
    arguments = ["--run", str(one), str(two), "--name", "mine", "--output", str(tmp_path / "out"), "--window", "100"]
    curves.main(arguments)
    with (tmp_path / "out" / "mine.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [list(row.values()) for row in rows] == [
        [1, 100, 2, 6.0, (3.0 * 30 + 5.0 * 10) / 40, 20.0],
        [1, 200, 1, 6.0, 2.0, 200.0],
        [2, 400, 1, -1.0, 1.0, 5.0],
    ]
    assert (tmp_path / "out" / "mine.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "is not the folder of a training run"), ({"config.json": "{"}, "is not the folder of a training run")],
)
def test_a_folder_without_a_run_is_named(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit, match=message):
        curves.main(["--run", str(tmp_path), "--name", "mine", "--output", str(tmp_path)])


def test_a_run_whose_episodes_go_on_has_no_curve_yet(tmp_path):
    folder = write_run(tmp_path / "run", 1, [])
    with pytest.raises(SystemExit, match="no episode has ended yet"):
        curves.main(["--run", str(folder), "--name", "mine", "--output", str(tmp_path)])


def test_a_resumed_run_counts_no_step_twice(tmp_path):
    folder = write_run(tmp_path / "run", 1, [(10, 1.0, 10, 0.01, 1.0), (20, 5.0, 10, 0.01, 1.0)])
    with (folder / "metrics.jsonl").open("a") as file:
        for step, total in ((20, 7.0), (30, 1.0)):
            names = ("return", "length", "completed_km", "mean_speed")
            values = dict(zip((f"episode/{name}" for name in names), (total, 10, 0.01, 1.0), strict=True))
            file.write(json.dumps({"step": step, "resumes": 1} | values) + "\n")
    (row,) = curves.read_curve(folder, 100)
    assert row["episodes"] == 3
    assert row["return"] == 3.0


def test_two_runs_of_one_seed_are_refused(tmp_path):
    runs = [str(write_run(tmp_path / name, 4, [(10, 1.0, 10, 0.01, 1.0)])) for name in ("one", "two")]
    with pytest.raises(SystemExit, match="two runs have the same seed"):
        curves.main(["--run", *runs, "--name", "mine", "--output", str(tmp_path)])
