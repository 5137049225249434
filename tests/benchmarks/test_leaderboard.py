import csv
import json
from pathlib import Path

import pytest

from mentorgym.benchmarks import evaluate, leaderboard
from mentorgym.benchmarks.driving.published import FOUND_RL_METRICS
from mentorgym.benchmarks.harness.rows import read_rows, rows_text

ENV = "fake_drive:FakeDrive-v0"
AGENT = "tiny_agent@800,horizon=20"


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows_text(rows))


@pytest.fixture
def rows(fake_drive) -> list[dict]:
    """Rows of random and expert, and of three runs of an agent that scores 0.2, 0.4 and 0.9 throughout."""
    for driver in ("random", "expert"):
        evaluate.main(f"--env {ENV} --driver {driver} --output evaluated.jsonl".split())
    evaluated = read_rows(Path("evaluated.jsonl"))
    agent = [
        row
        | {
            "driver": "agent",
            "run": f"agent__seed{seed}",
            "training_seed": seed,
            "training_steps": 1000,
            "training_args": {"seed": 1},
            "training_flags": {},
            "weights": "0" * 12,
        }
        | {"score": row["score"] | {"driving_score": score}}
        for seed, score in enumerate((0.2, 0.4, 0.9))
        for row in evaluated
        if row["driver"] == "expert"
    ]
    return evaluated + agent


def entries(folder: Path = Path("runs/leaderboard")) -> list[dict[str, str]]:
    with (folder / "driving" / "leaderboard.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_agent_outside_the_package_is_trained_and_ranked_by_one_command(
    fake_drive, tiny_agent: Path, capsys: pytest.CaptureFixture
):
    evaluate.main(f"--env {ENV} --driver random".split())
    command = f"--add {tiny_agent} --training-seeds 1 2 -- --env-id {ENV} --total-steps 800 --horizon 20"
    leaderboard.main(command.split())
    table = entries()
    assert [(line["town"], line["driver"]) for line in table] == [
        ("Suburb", AGENT),
        ("Suburb", "random"),
        ("Village", AGENT),
        ("Village", "random"),
    ]
    agent = table[0]
    assert float(agent["driving_score"]) > 0.9
    assert (agent["training_seeds"], agent["training_steps"], agent["episodes"]) == ("2", "960", "10")
    assert agent["command"].startswith(f"mentorgym evaluate --env {ENV} --run runs/")
    assert "tiny_agent" in capsys.readouterr().out
    assert f"| {AGENT} |" in Path("runs/leaderboard/leaderboard.md").read_text("utf-8")


def test_a_run_that_is_done_is_not_trained_again(fake_drive, tiny_agent: Path):
    command = f"--add {tiny_agent} -- --env-id {ENV} --total-steps 80 --horizon 5".split()
    leaderboard.main(command)
    (weights,) = Path("runs").rglob("policy.npy")
    written = weights.stat().st_mtime_ns
    leaderboard.main(command)
    assert weights.stat().st_mtime_ns == written


def test_the_same_rows_give_the_same_bytes(rows: list[dict]):
    write_rows(Path("one/rows.jsonl"), rows)
    write_rows(Path("many/b.jsonl"), rows[::-2])
    write_rows(Path("many/a.jsonl"), rows[-2::-2])
    for name in ("one", "many"):
        leaderboard.main(f"--rows {name} --output {name}".split())
    for file in ("leaderboard.md", "driving/leaderboard.csv"):
        assert Path("one", file).read_bytes() == Path("many", file).read_bytes()


def test_three_seeds_get_an_interval_and_fewer_get_their_values(rows: list[dict]):
    write_rows(Path("three/rows.jsonl"), rows)
    write_rows(Path("two/rows.jsonl"), [row for row in rows if row["training_seed"] != 2])
    for name in ("three", "two"):
        leaderboard.main(f"--rows {name} --output {name}".split())
    (three,) = (line for line in entries(Path("three")) if line["driver"] == "agent" and line["town"] == "Suburb")
    assert float(three["driving_score_iqm"]) == pytest.approx(0.5)
    assert float(three["driving_score_low"]) == pytest.approx(0.2)
    assert float(three["driving_score_high"]) == pytest.approx(0.9)
    (two,) = (line for line in entries(Path("two")) if line["driver"] == "agent" and line["town"] == "Suburb")
    assert (two["driving_score_iqm"], two["driving_score_by_seed"]) == ("", "0.200000 0.400000")
    assert "| 0.500 [0.200, 0.900] |" in Path("three/leaderboard.md").read_text("utf-8")
    assert "| 0.200 0.400 |" in Path("two/leaderboard.md").read_text("utf-8")


def test_every_line_names_command_commit_and_date(rows: list[dict]):
    changed = [row | {"commit": "0123456789abcdef", "dirty": True, "time": "2026-01-02T03:04:05+00:00"} for row in rows]
    write_rows(Path("runs/rows/rows.jsonl"), changed)
    leaderboard.main([])
    assert {(line["commit"], line["date"]) for line in entries()} == {("012345678+", "2026-01-02")}
    page = Path("runs/leaderboard/leaderboard.md").read_text("utf-8")
    assert f"1. `mentorgym evaluate --env {ENV} --driver expert --output evaluated.jsonl`" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "other"}, "runs agent__seed1 and other have the same training seed 1"),
        ({"route": 77, "training_seed": 1}, "drove other episodes than another seed"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(rows: list[dict], change: dict, message: str):
    odd = next(row for row in rows if row["training_seed"] == 1)
    write_rows(Path("runs/rows/rows.jsonl"), [*rows, odd | change])
    with pytest.raises(SystemExit, match=f"agent in Suburb, regular traffic: .*{message}"):
        leaderboard.main([])


def test_a_corrupted_row_is_named_by_file_and_line(rows: list[dict]):
    write_rows(Path("runs/rows/good.jsonl"), rows[:2])
    write_rows(Path("runs/rows/bad.jsonl"), [rows[2], rows[3] | {"seen": "yes"}])
    with pytest.raises(SystemExit, match=r"bad.jsonl:3: seen is 'yes', of type str"):
        leaderboard.main([])
    assert not Path("runs/leaderboard/leaderboard.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no rows in results or runs/rows"),
        ("-- --seed 1", "name it with --add"),
        ("--add nobody.py", "no file nobody.py"),
    ],
)
def test_a_mistake_ends_with_one_message(fake_drive, arguments: str, message: str):
    with pytest.raises(SystemExit, match=message):
        leaderboard.main(arguments.split())


def test_json_stands_alone_on_standard_output(rows: list[dict], capsys: pytest.CaptureFixture):
    write_rows(Path("runs/rows/rows.jsonl"), rows)
    capsys.readouterr()
    leaderboard.main(["--json"])
    (line,) = capsys.readouterr().out.splitlines()
    assert [entry["driver"] for entry in json.loads(line)["families"]["driving"]][:2] == ["expert", "agent"]


def test_the_table_shows_the_scores_that_are_asked_for(rows: list[dict], capsys: pytest.CaptureFixture):
    write_rows(Path("runs/rows/rows.jsonl"), rows)
    capsys.readouterr()
    leaderboard.main("--columns red_lights_per_km success".split())
    printed = capsys.readouterr().out
    assert "red" in printed and "IQM" not in printed
    leaderboard.main("--columns all".split())
    shown = capsys.readouterr().out.split()
    assert all(word in shown for word in ("metres", "strict", "Found-RL"))
    with pytest.raises(SystemExit, match="no score 'succes': did you mean 'success'"):
        leaderboard.main("--columns succes".split())


def test_scores_that_earlier_rows_lack_are_left_empty(rows: list[dict]):
    newer = [
        row | {"score": row["score"] | {"cell_current": 0.5, "driving_score_2_1": 0.25}}
        if row["town"] == "Village"
        else row
        for row in rows
    ]
    write_rows(Path("runs/rows/rows.jsonl"), newer)
    leaderboard.main([])
    assert {(line["town"], line["cell_current"], line["driving_score_2_1"]) for line in entries()} == {
        ("Suburb", "", ""),
        ("Village", "0.500000", "0.250000"),
    }


def test_rows_with_all_of_found_rls_measures_get_a_table_of_them(rows: list[dict]):
    whole = {name: 0.125 for name in FOUND_RL_METRICS}
    write_rows(Path("runs/rows/rows.jsonl"), [row | {"score": row["score"] | whole} for row in rows])
    leaderboard.main([])
    page = Path("runs/leaderboard/leaderboard.md").read_text("utf-8")
    assert "### FakeDrive-v0: Suburb, Village; regular traffic, 10 episodes" in page
    assert "### FakeDrive-v0: Suburb; regular traffic, 5 episodes" in page
    assert "| expert | 0.1 | 0.125 | 0.125 | 12.5% | 0.125 |" in page
    assert "| agent | 0.1 ± 0.0 | 0.125 ± 0.000 |" in page


def test_published_figures_stand_apart(rows: list[dict], capsys: pytest.CaptureFixture):
    write_rows(Path("runs/rows/rows.jsonl"), rows)
    with pytest.raises(SystemExit, match=r"no file results/driving/published.csv"):
        leaderboard.main(["--published"])
    header = "paper,table,method,benchmark,metric,value,spread,note\n"
    Path("results/driving").mkdir(parents=True)
    Path("results/driving/published.csv").write_text(
        header + "Paper,7,Their method,Town,driving_score,0.99,0.01,cited\n"
    )
    capsys.readouterr()
    leaderboard.main([])
    assert "Their method" not in capsys.readouterr().out
    leaderboard.main(["--published"])
    assert "Paper, table 7: Town" in capsys.readouterr().out
    ranked, _, cited = (
        Path("runs/leaderboard/leaderboard.md").read_text("utf-8").partition("## Published, in another simulator")
    )
    assert "Their method" not in ranked
    assert "| Their method | 0.99 ± 0.01 |" in cited and "- Their method: cited" in cited
    assert all(line["driver"] != "Their method" for line in entries())
