import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mentorgym.benchmarks import evaluate
from mentorgym.benchmarks.harness.rows import fault, read_rows

ENV = "fake_drive:FakeDrive-v0"


def scores(path: Path) -> dict[tuple[str, int, int], dict]:
    return {(row["town"], row["route"], row["seed"]): row["score"] for row in read_rows(path)}


@pytest.mark.parametrize("num_envs", [1, 3, 25])
def test_every_episode_is_driven_exactly_once(fake_drive, num_envs: int):
    arguments = (
        f"--env {ENV} --driver expert --traffic empty dense --seeds 0 4 --num-envs {num_envs} --output out.jsonl"
    )
    evaluate.main(arguments.split())
    rows = read_rows(Path("out.jsonl"))
    driven = Counter((row["town"], row["traffic"], row["route"], row["seed"]) for row in rows)
    assert driven == Counter(
        (town, traffic, route, seed)
        for town in ("Suburb", "Village")
        for traffic in ("empty", "dense")
        for route in range(fake_drive.NUM_ROUTES)
        for seed in (0, 4)
    )
    assert all(fault(row) is None and row["score"]["success"] for row in rows)


def test_an_episode_is_seeded_by_its_seed_and_route(fake_drive):
    evaluate.main(f"--env {ENV} --driver random --town Village --routes 1 3 --seeds 2 --output out.jsonl".split())
    assert set(fake_drive.FakeDrive.started) == {("Village", 1, 2001), ("Village", 3, 2003)}


def test_a_score_does_not_depend_on_the_episodes_beside_it(fake_drive):
    for num_envs in (1, 4):
        evaluate.main(f"--env {ENV} --driver random --num-envs {num_envs} --output {num_envs}.jsonl".split())
    assert scores(Path("1.jsonl")) == scores(Path("4.jsonl"))
    assert len({score["return"] for score in scores(Path("1.jsonl")).values()}) == fake_drive.NUM_ROUTES


def test_rows_say_who_drove_what_and_where_the_towns_were_seen(fake_drive):
    evaluate.main(f"--env {ENV} --driver expert --name rules".split())
    rows = read_rows(Path("runs/rows/rules__FakeDrive-v0.jsonl"))
    assert {(row["env"], row["driver"], row["training_seed"], row["backend"]) for row in rows} == {
        ("FakeDrive-v0", "rules", None, "embedded")
    }
    assert {(row["town"], row["seen"]) for row in rows} == {("Suburb", True), ("Village", False)}
    assert {row["command"] for row in rows} == {f"mentorgym evaluate --env {ENV} --driver expert --name rules"}


def test_one_line_is_printed_for_a_town_and_traffic(fake_drive, capsys: pytest.CaptureFixture):
    arguments = f"--env {ENV} --driver expert --town Suburb --traffic empty dense --weather train_eval new"
    evaluate.main(arguments.split())
    lines = [line for line in capsys.readouterr().out.splitlines() if "Suburb" in line]
    assert len(lines) == 2
    assert all("100.0%" in line and "1.000" in line and " 10 " in line for line in lines)


def run_command(arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mentorgym.benchmarks.evaluate", *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_json_stands_alone_on_standard_output(fake_drive):
    done = run_command(f"--env {ENV} --driver random --town Suburb --json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    (cell,) = json.loads(line)["cells"]
    assert (cell["driver"], cell["town"], cell["episodes"]) == ("random", "Suburb", fake_drive.NUM_ROUTES)


def test_a_failure_exits_with_an_error_and_prints_nothing_on_standard_output(fake_drive):
    done = run_command(f"--env {ENV} --driver expert --town Suburbia --json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "mentorgym evaluate: unknown town 'Suburbia': there are Suburb and Village"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--driver expert --routes 0 7", "no route 7: there are 5, counted from 0"),
        ("--driver exprt", "did you mean 'expert'"),
        ("--driver expert --num-envs 0", "--num-envs 0: at least 1"),
        ("--driver expert --env NoSuchTask-v0", "NoSuchTask"),
    ],
)
def test_a_mistake_ends_with_one_message(fake_drive, arguments: str, message: str):
    with pytest.raises(SystemExit, match=message):
        evaluate.main(["--env", ENV, *arguments.split()])


def test_a_corrupted_file_of_rows_is_found_before_driving(fake_drive):
    Path("out.jsonl").write_text("{\n")
    with pytest.raises(SystemExit, match="out.jsonl:1: not JSON"):
        evaluate.main(f"--env {ENV} --driver expert --output out.jsonl".split())
    assert fake_drive.FakeDrive.started == []


def test_cells_that_were_done_before_a_failure_are_kept(fake_drive):
    with pytest.raises(SystemExit, match="unknown town"):
        evaluate.main(f"--env {ENV} --driver expert --town Suburb Nowhere --output out.jsonl".split())
    assert len(read_rows(Path("out.jsonl"))) == fake_drive.NUM_ROUTES


def test_a_policy_that_fails_is_not_swallowed(fake_drive, tmp_path: Path):
    (tmp_path / "broken.py").write_text(
        "class Args: pass\ndef train(args): pass\ndef load_policy(folder, device): return lambda observations: 1 / 0\n"
    )
    for name, text in {"config.json": '{"args": {"seed": 0}}', "done": '{"step": 1}', "policy.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ZeroDivisionError):
        evaluate.main(f"--env {ENV} --driver {tmp_path / 'broken.py'} --run {tmp_path}".split())


def test_the_table_shows_the_scores_that_are_asked_for(fake_drive, capsys: pytest.CaptureFixture):
    command = f"--env {ENV} --driver expert --town Suburb --output out.jsonl --columns"
    evaluate.main([*command.split(), "red_lights_per_km"])
    printed = capsys.readouterr().out
    assert "lights" in printed and "strict" not in printed
    evaluate.main([*command.split(), "all"])
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("infractions", "strict", "completed", "Found-RL"))
    with pytest.raises(SystemExit, match="no score 'sucess': did you mean 'success'"):
        evaluate.main([*command.split(), "sucess"])


def test_json_holds_every_score(fake_drive, capsys: pytest.CaptureFixture):
    evaluate.main(f"--env {ENV} --driver expert --town Suburb --output out.jsonl --json".split())
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell.keys() >= {"driving_score", "return", "red_lights_per_km", "infractions_per_km", "episodes"}


def test_routes_that_cannot_be_driven_are_left_out_and_named(fake_drive, monkeypatch, capsys: pytest.CaptureFixture):
    begin = fake_drive.FakeDrive.__init__

    def begin_with_a_problem(envs, *arguments, **keywords):
        begin(envs, *arguments, **keywords)
        envs.route_problems = {1: "mine.csv, line 3: off the map"}

    monkeypatch.setattr(fake_drive.FakeDrive, "__init__", begin_with_a_problem)
    flags = f"--env {ENV} --driver expert --town Suburb --traffic empty dense --output out.jsonl".split()
    evaluate.main([*flags, "--json"])
    shown = capsys.readouterr()
    rows = read_rows(Path("out.jsonl"))
    assert {row["route"] for row in rows} == set(range(fake_drive.NUM_ROUTES)) - {1}
    assert shown.err.count("route 1 is left out: mine.csv, line 3: off the map") == 1
    left_out = json.loads(shown.out.splitlines()[-1])["routes_left_out"]
    assert left_out == [{"town": "Suburb", "route": 1, "problem": "mine.csv, line 3: off the map"}]
    evaluate.main([*flags, "--routes", "0", "2", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["routes_left_out"] == []
    with pytest.raises(SystemExit, match="route 1 cannot be driven: mine.csv, line 3: off the map"):
        evaluate.main([*flags, "--routes", "1"])
