"""Learning curves: the numbers against episodes added up by hand, the picture, and folders that hold no run."""

import csv
import json
import math

import pytest

from mentorgym.benchmarks import curves


def write_run(folder, seed, episodes, agent="mine", logged=(), **flags):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"agent": agent, "args": {"seed": seed} | flags}))
    lines = [{"step": 10, "loss/policy": 0.1}]
    for step, total, length, km, speed in episodes:
        values = (step, total, length, km, speed)
        names = ("step", *(f"episode/{name}" for name in ("return", "length", "completed_km", "mean_speed")))
        lines.append(dict(zip(names, values, strict=True)))
    lines += logged
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
        rows = [[row.pop("agent"), *map(float, row.values())] for row in csv.DictReader(file)]
    assert rows == [
        ["mine", 1, 100, 2, 6.0, (3.0 * 30 + 5.0 * 10) / 40, 20.0, 12.0 / 40, 1.0],
        ["mine", 1, 200, 1, 6.0, 2.0, 200.0, 6.0 / 50, 4.0],
        ["mine", 2, 400, 1, -1.0, 1.0, 5.0, -1.0 / 20, 0.25],
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
    with pytest.raises(SystemExit, match="no run has logged an episode's end yet"):
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


def test_agents_are_told_apart_by_the_flags_in_which_they_differ(tmp_path):
    drives = [(10, 1.0, 10, 0.01, 1.0)]
    runs = [
        write_run(tmp_path / "a1", 1, drives, "sac"),
        write_run(tmp_path / "b1", 1, drives, "sac_vmr", mentor="expert", device="cpu"),
        write_run(tmp_path / "b2", 2, drives, "sac_vmr", mentor="expert", device="cuda"),
        write_run(tmp_path / "c1", 1, drives, "sac_vmr", mentor="vlm", device="cpu"),
    ]
    groups = curves.group({folder: curves.read_run(folder)[0] for folder in runs})
    assert groups == {
        "sac": runs[:1],
        "sac_vmr (mentor=expert)": runs[1:3],
        "sac_vmr (mentor=vlm)": runs[3:],
    }
    arguments = ["--run", *map(str, runs), "--name", "all", "--output", str(tmp_path), "--label", "SAC", "VMR"]
    with pytest.raises(SystemExit, match="2 labels for 3 agents"):
        curves.main(arguments)
    curves.main([*arguments, "VLM"])
    assert {line.split(",")[0] for line in (tmp_path / "all.csv").read_text().splitlines()[1:]} == {"SAC", "VMR", "VLM"}


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        ("losses", ["loss/critic", "loss/vmr", "hint/weight"]),
        ("feedback", ["hint/availability", "hint/latency_s"]),
        ("clip", ["clip/margin"]),
    ],
)
def test_logged_metrics_are_averaged_over_windows_and_drawn_for_all_seeds(tmp_path, what, columns):
    metrics = ("loss/critic", "loss/vmr", "hint/weight", "hint/availability", "hint/latency_s", "clip/margin")
    runs = []
    for seed in (1, 2, 3):
        logged = [{"step": step} | dict.fromkeys(metrics, seed + step / 100) for step in (50, 100, 150)]
        runs.append(str(write_run(tmp_path / str(seed), seed, [], logged=logged)))
    curves.main(["--run", *runs, "--name", "x", "--output", str(tmp_path), "--window", "100", "--what", what])
    with (tmp_path / f"x_{what}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [name for name in rows[0] if "/" in name and name != "loss/policy"] == columns
    assert [float(row[columns[-1]]) for row in rows] == [1.75, 2.5, 2.75, 3.5, 3.75, 4.5]
    assert (tmp_path / f"x_{what}.png").read_bytes().startswith(b"\x89PNG")


def test_the_mean_is_drawn_where_all_seeds_have_a_value_with_an_interval_from_three_seeds_on():
    one, two, three = (
        [{"step": step, "loss/vmr": value} for step in steps]
        for steps, value in (((10, 20), 1.0), ((10, 20, 30), 3.0), ((20, 30), 8.0))
    )
    assert [point[:2] for point in curves.means({1: one, 2: two}, "loss/vmr")] == [(10, 2.0), (20, 2.0)]
    assert all(math.isnan(bound) for bound in curves.means({1: one, 2: two}, "loss/vmr")[0][2:])
    ((step, mean, low, high),) = curves.means({1: one, 2: two, 3: three}, "loss/vmr")
    assert (step, mean, low, high) == (20, 4.0, 1.0, 8.0)


def test_what_was_never_logged_is_said(tmp_path):
    folder = write_run(tmp_path / "run", 1, [])
    with pytest.raises(SystemExit, match="no run has logged any of clip/margin, clip/bonus yet"):
        curves.main(["--run", str(folder), "--name", "x", "--output", str(tmp_path), "--what", "clip"])


def test_agents_that_have_logged_nothing_of_it_are_left_out(tmp_path):
    mentored = write_run(tmp_path / "vmr", 1, [], "sac_vmr", [{"step": 10, "hint/availability": 0.5}])
    alone = write_run(tmp_path / "sac", 1, [], "sac")
    arguments = ["--run", str(mentored), str(alone), "--name", "x", "--output", str(tmp_path), "--what", "feedback"]
    curves.main(arguments)
    assert [line.split(",")[0] for line in (tmp_path / "x_feedback.csv").read_text().splitlines()[1:]] == ["sac_vmr"]


def test_captions_have_a_point_for_each_measurement_with_the_rewards_since_the_one_before(tmp_path):
    def logged(shift):
        return [
            {"step": 0, "heldout/exact": 0.1, "heldout/kl": 0.0},
            {"step": 10, "reward/mean": 0.2, "reward/best": 0.4},
            {"step": 20, "reward/mean": 0.4, "reward/best": 0.8},
            {"step": 20, "heldout/exact": 0.3 + shift, "heldout/kl": 1.0, "heldout/stop": 0.5},
            {"step": 30, "reward/mean": 0.9, "reward/best": 0.9},
        ]

    folders = [
        str(write_run(tmp_path / f"{reward}{seed}", seed, [], "rloo", logged(seed / 10), reward=reward))
        for reward in ("contrast", "cosine")
        for seed in (1, 2, 3)
    ]
    output = ["--output", str(tmp_path)]
    curves.main(["--run", *folders, "--name", "collapse", "--what", "captions", *output, "--label", "default", "raw"])
    rows = list(csv.DictReader((tmp_path / "collapse_captions.csv").read_text().splitlines()))
    assert [(row["agent"], row["seed"], row["step"]) for row in rows[:3]] == [
        ("default", "1", "0"),
        ("default", "1", "20"),
        ("default", "2", "0"),
    ]
    assert [rows[0][name] for name in ("reward/mean", "heldout/exact", "heldout/stop")] == ["", "0.1", ""]
    assert [float(rows[1][name]) for name in ("reward/mean", "reward/best", "heldout/exact", "heldout/kl")] == (
        pytest.approx([0.3, 0.6, 0.4, 1.0])
    )
    assert (tmp_path / "collapse_captions.png").read_bytes().startswith(b"\x89PNG")
