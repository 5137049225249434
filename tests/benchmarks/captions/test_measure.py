"""Captions of runs, models and baselines are measured, ranked and laid out as the paper does."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks import compare, evaluate, leaderboard, run
from mentorgym.benchmarks.captions import measure as captions
from mentorgym.benchmarks.captions import pictures as caption_pictures
from mentorgym.benchmarks.captions import tables as caption_tables
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.rows import add_rows, fault, read_rows
from mentorgym.mentors.load import WEIGHTS

AGENT = Path(__file__).parents[1] / "drawn_scenes.py"
PUBLISHED = Path(__file__).resolve().parents[3] / "results" / "captions" / "published.csv"


def evaluate_family(arguments) -> None:
    evaluate.main(["--env", captions.ENV, *arguments])


def trained(seed: int = 0, known: int = 10, **flags) -> Path:
    import drawn_scenes

    return drawn_scenes.train(drawn_scenes.Args(seed=seed, known=known, **flags))


def measured(*arguments: str) -> dict[str, dict]:
    evaluate_family([*arguments, "--output", "out.jsonl"])
    return {row["driver"]: row for row in read_rows(Path("out.jsonl"))}


def replies(requests, **options):
    """A mentor that always stops, and has no answer to the last question."""
    assert all(request.picture.shape == (12, 16, 3) for request in requests)
    return ["Action: stop. Reason: Traffic sign."] * (len(requests) - 1) + [None]


def numbers(requests):
    """A mentor that answers with actions."""
    return [np.zeros(2, np.float32)] * len(requests)


def odd(requests):
    """A mentor that writes whatever a model might."""
    texts = ("", "\x00\x1b[2J\n", "\ud800", "x" * 10_000, "Action: stop. " * 900, "[/b] $\\frac{$", "Action:. Reason:.")
    return [texts[place % len(texts)] for place in range(len(requests))]


def test_baselines_score_what_they_must(drawn_captions):
    rows = measured("--driver", "majority", "random", "truth")
    assert [rows[name]["score"]["exact"] for name in ("majority", "truth")] == [1 / 21, 1.0]
    assert 0 < rows["random"]["score"]["exact"] < 0.3
    assert rows["truth"]["classes"]["actions"]["predicted"] == [6, 12, 12, 12]
    assert rows["truth"]["score"]["clip_score"] == pytest.approx(0.9)
    assert rows["majority"]["score"]["match"] == pytest.approx(2 / 7), "each stop fits the scene's action"
    assert all(fault(row) is None and row["majority"]["exact"] == 1 / 21 for row in rows.values())
    assert drawn_captions.asked == [("staged", "test", "one", "file")]


def test_a_run_is_measured_on_what_it_was_trained_on_and_its_predictions_lie_beside_it(drawn_captions):
    folder = trained(known=10, env_args=("data=staged:paper", "frames=2", "labels=all", "reason_order=table1"))
    arguments = f"--run {folder} --driver {AGENT} --batch-size 5 --split val --label-share 0.05"
    evaluate_family(arguments.split())
    (row,) = read_rows(folder / "eval.jsonl")
    assert (row["data"], row["split"], row["labels"], row["frames"]) == ("staged:paper", "val", "all", 2)
    assert (row["driver"], row["run"], row["training_seed"], row["training_steps"]) == (
        ("drawn_scenes@staged:paper,frames=2,all,table1", folder.name, 0, 5)
    )
    assert row["score"]["exact"] == pytest.approx(10 / 21)
    assert row["score"]["clip_score"] == pytest.approx((0.9 * 10 + 0.2 * 11) / 21)
    assert (row["scenes"], row["label_share"], row["backend"]) == (42, 0.05, "staged")
    lines = [json.loads(line) for line in (folder / "predictions_staged_paper_val_all.jsonl").read_text().splitlines()]
    assert [line["scene"] for line in lines] == [f"scene-{index}" for index in range(42)]
    assert sum(line["truth"] == line["said"] for line in lines) == 20
    assert drawn_captions.asked == [("staged:paper", "val", "all", "table1")]


def test_other_labels_and_fewer_scenes_have_rows_and_other_labels_predictions_of_their_own(drawn_captions):
    folder = trained()
    for more in ("--labels one", "--labels all", "--limit 4"):
        evaluate_family(f"--run {folder} --driver {AGENT} --reward-model none {more}".split())
    rows = read_rows(folder / "eval.jsonl")
    assert [(row["labels"], row["scenes"]) for row in rows] == [("all", 42), ("one", 4), ("one", 42)]
    names = ["predictions_staged_test_all.jsonl", "predictions_staged_test_one.jsonl"]
    assert sorted(path.name for path in folder.glob("predictions_*")) == names


def test_evaluate_hands_runs_of_captions_over(drawn_captions):
    folder = trained()
    evaluate.main(f"--run {folder} --driver {AGENT} --reward-model none".split())
    (row,) = read_rows(folder / "eval.jsonl")
    assert row["command"].startswith("mentorgym evaluate --run")
    assert row["reward_model"] is None
    assert "clip_score" not in row["score"]
    evaluate.main("--env BddOia-Caption-v0 --driver truth --limit 4 --json".split())
    (row,) = read_rows(Path("runs/rows/truth__BddOia-Caption-v0.jsonl"))
    assert (row["scenes"], row["score"]["exact"]) == (4, 1.0)
    assert max(row["classes"]["reasons"]["support"]) == 1, "scenes come from all over the reasons"


def test_a_mentor_is_asked_about_each_scene_and_says_nothing_where_it_has_no_answer(drawn_captions):
    row = measured("--model", f"{__name__}:replies", "--batch-size", "21")[f"{__name__}:replies"]
    assert row["score"]["out_of_vocabulary"] == pytest.approx(2 / 42)
    assert row["classes"]["reasons"]["predicted"][8] == 40
    assert row["weights"] is None
    assert row["frames"] == 1


def test_who_is_shown_one_picture_is_refused_several_frames_before_anybody_is_described(
    drawn_captions, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SystemExit, match="replies is shown one picture of a scene, not 2: give --frames 1"):
        evaluate_family(f"--driver truth --model {__name__}:replies --frames 2".split())
    folder = trained(env_args=("frames=2",))
    (folder / "model").mkdir()
    evaluate_family(f"--run {folder} --driver {AGENT} truth --frames 2 --output policy.jsonl".split())
    assert [row["frames"] for row in read_rows(Path("policy.jsonl"))] == [2, 2]
    drawn_captions.asked.clear()
    monkeypatch.delattr(drawn_captions, "load_policy")
    monkeypatch.setattr(captions, "load_agent", lambda agent: drawn_captions)
    with pytest.raises(SystemExit, match="drawn_scenes@frames=2 is shown one picture of a scene, not 2"):
        evaluate_family(["--driver", "truth", "--run", str(folder)])
    assert drawn_captions.asked == []
    assert [str(path) for path in Path().rglob("*.jsonl") if "predictions" not in path.name] == ["policy.jsonl"]


def test_any_text_has_a_score_and_nothing_of_it_is_exact(drawn_captions, capsys: pytest.CaptureFixture[str]):
    row = measured("--model", f"{__name__}:odd", "--driver", "truth")[f"{__name__}:odd"]
    assert (row["score"]["exact"], row["score"]["out_of_vocabulary"]) == (0.0, 1.0)
    assert all(0.0 <= score <= 1.0 for score in row["score"].values())
    caption_pictures.main(f"--model {__name__}:odd --limit 7 --output odd.png --json".split())
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["texts"]) == 7


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("", "nobody to measure"),
        ("--driver majorities", "no baseline 'majorities'"),
        ("--driver truth --frames 4", "has 3 frames"),
        ("--driver truth --batch-size 0", "count from 1"),
        ("--driver truth --env CarlaNoCrash-v0", "no agent 'truth'"),
        ("--model gpt:none", "there is no module 'gpt'"),
        (f"--model {__name__}:numbers", "answers in numbers"),
        ("--run nowhere", "not the folder of a training run"),
    ],
)
def test_mistakes_are_told_in_one_line(drawn_captions, arguments: str, reason: str):
    with pytest.raises(SystemExit, match=reason):
        evaluate_family(arguments.split())
    assert not list(Path().rglob("*.jsonl"))


def test_who_was_trained_to_drive_is_not_asked_for_captions(drawn_captions):
    folder = trained(env_id="CarlaNoCrash-v0")
    with pytest.raises(SystemExit, match="was trained in CarlaNoCrash-v0: captions are measured in"):
        evaluate_family(f"--run {folder} --driver {AGENT}".split())


def test_the_leaderboard_has_seeds_intervals_and_always_the_majority(drawn_captions):
    for seed, known in enumerate((9, 10, 14)):
        folder = trained(seed, known)
        output = f"--output runs/rows/x.jsonl --name drawn_scenes --run {folder} --driver {AGENT}"
        evaluate_family(output.split())
    leaderboard.main([])
    page = Path("runs/leaderboard/leaderboard.md").read_text()
    assert "## BddOia-Caption-v0: staged, test, 42 scenes, one label each" in page
    (own, majority) = csv.DictReader(Path("runs/leaderboard/captions/leaderboard.csv").read_text().splitlines())
    assert (own["driver"], own["training_seeds"], majority["driver"]) == ("drawn_scenes", "3", "majority")
    assert float(own["exact"]) == pytest.approx(11 / 21, abs=1e-6)
    assert 9 / 21 - 1e-6 <= float(own["exact_low"]) < float(own["exact"]) < float(own["exact_high"]) <= 14 / 21 + 1e-6
    before = page, Path("runs/leaderboard/captions/leaderboard.csv").read_text()
    leaderboard.main([])
    assert before == (
        Path("runs/leaderboard/leaderboard.md").read_text(),
        Path("runs/leaderboard/captions/leaderboard.csv").read_text(),
    )
    add_rows(Path("runs/rows/y.jsonl"), [read_rows(Path("runs/rows/x.jsonl"))[0] | {"run": "another"}])
    with pytest.raises(SystemExit, match="have the same training seed"):
        leaderboard.main([])


def test_a_captioner_is_added_to_the_leaderboard_by_one_command(drawn_captions):
    leaderboard.main(["--add", str(AGENT), "--training-seeds", "4", "--", "--known", "3"])
    (row,) = read_rows(Path("runs/rows/drawn_scenes__BddOia-Caption-v0.jsonl"))
    assert (row["training_seed"], row["score"]["reason_top1"]) == (4, 1 / 7)
    assert "| drawn_scenes@known=3 | 14.3% |" in Path("runs/leaderboard/leaderboard.md").read_text()


def test_rows_of_captions_and_of_episodes_stand_in_one_folder(drawn_captions):
    from tests.benchmarks.harness.test_rows import ROW

    evaluate_family(["--driver", "truth"])
    (row,) = read_rows(Path("runs/rows/truth__BddOia-Caption-v0.jsonl"))
    add_rows(Path("mixed.jsonl"), [row, ROW | {"run": "a"}, row | {"label_share": 0.5}, ROW])
    assert [("split" in each) for each in read_rows(Path("mixed.jsonl"))] == [True, True, False, False]
    assert "score.exact is nan" in (fault(row | {"score": row["score"] | {"exact": float("nan")}}) or "")
    assert fault({name: value for name, value in row.items() if name != "data"}) == "missing or unknown: data"
    with pytest.raises(SystemExit, match="a row of BddOia-Caption-v0 is of a whole split"):
        compare.main(["--rows", "mixed.jsonl", "--against", "mixed.jsonl"])


def test_a_matrix_of_captioners_is_evaluated_into_rows(drawn_captions):
    Path("small.toml").write_text(
        f'seeds = [1]\n[agents.some]\nagent = "{AGENT}"\nknown = 3\n[environments.staged]\n'
        'env_id = "BddOia-Caption-v0"\nevaluate = { split = "val", reward_model = "none" }\n'
    )
    with pytest.raises(SystemExit, match="nonsense"):
        run.main(["small.toml", "--set", "nonsense=1", "--dry-run"])
    (cell,) = run.read_matrix(Path("small.toml"))
    assert cell.evaluation == ("--env", "BddOia-Caption-v0", "--split", "val", "--reward-model", "none")
    bad = Path("small.toml").read_text().replace("split =", "town =")
    with pytest.raises(UsageError, match="no 'town'"):
        run.read_matrix(Path("bad.toml")) if Path("bad.toml").write_text(bad) else None


def test_the_papers_tables_come_out_of_rows_with_its_own_figures_beside_them(drawn_captions):
    evaluate_family(["--driver", "truth"])
    for seed in (1, 2):
        evaluate_family(f"--run {trained(seed)} --driver {AGENT} --output runs/rows/a.jsonl".split())
    caption_tables.main(["--published", str(PUBLISHED)])
    page = Path("runs/caption_tables.md").read_text()
    assert "| action | scenes (%) | scenes | truth | drawn_scenes | the paper's SFT, on BDD-OIA |" in page
    assert "| stop | 28.57 | 12 | 100.0 | 100.0 | 89.24 |" in page
    assert "| mean |  |  | 100.0 | 41.0 | 32.7 |" in page
    assert "| mean |  |  | 100.0 | 43.6 | 13.3 |" in page
    assert "| majority | " in page
    assert "it is 323/403, top-1 accuracy" in page
    assert "| the paper's poster, table 1: RLOO, then action SFT | 84.12% | 0.00% | - |" in page
    with pytest.raises(SystemExit, match="there are staged, test, one"):
        caption_tables.main(["--split", "val"])


def test_a_fault_in_the_papers_figures_is_named_by_file_and_line(tmp_path: Path):
    text = PUBLISHED.read_text()
    assert len(caption_tables.read_figures(PUBLISHED)) == len(text.splitlines()) - 1
    for broken, reason in ((text.replace("paper,", "page,", 1), ":1: the header"), (text + "a,b\n", "2 cells, not 6")):
        (tmp_path / "x.csv").write_text(broken)
        with pytest.raises(UsageError, match=reason):
            caption_tables.read_figures(tmp_path / "x.csv")


def test_the_model_of_a_run_is_called_by_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/model", "b/model", "captioner"):
        Path(folder).mkdir(parents=True)
    models = ("a/model", "b/model/", "captioner", "org/model")
    names = [captions.load_speaker(model, {}, "cpu").name for model in models]
    assert names == ["a", "b", "captioner", "org/model"]
    monkeypatch.chdir("a")
    assert captions.load_speaker("model", {}, "cpu").name == "a"


def test_a_model_is_a_folder_a_hub_name_a_mentor_or_our_own_captioner(tmp_path):
    assert captions.mentor_spec("vlm") == f"vlm:{WEIGHTS / 'caption_vlm'}"
    assert captions.mentor_spec(str(tmp_path)) == f"vlm:{tmp_path}"
    assert captions.mentor_spec("HuggingFaceTB/SmolVLM-Instruct") == "vlm:HuggingFaceTB/SmolVLM-Instruct"
    assert captions.mentor_spec("http://localhost:8000/v1") == "http://localhost:8000/v1"
