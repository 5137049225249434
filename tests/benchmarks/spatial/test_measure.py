"""RLS3's models on the leaderboard, and the curves of its runs, from logs and models that are made up."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mentorgym.benchmarks import compare, evaluate, leaderboard
from mentorgym.benchmarks.harness.matrix import find_matrix, read_matrix
from mentorgym.benchmarks.harness.rows import fault, read_rows
from mentorgym.benchmarks.spatial import curves as spatial_curves
from mentorgym.benchmarks.spatial import measure as spatial

ENV = "UnitySpatial-v0"


def evaluate_family(arguments) -> None:
    evaluate.main(["--env", spatial.ENV, *arguments])


class Student:
    """Knows the more the more is in its name."""

    def __init__(self, spec: str):
        self.headline = "two_way" if spec.startswith("clip") else "score"
        self.value = 0.6 if self.headline == "two_way" else 2.0 + len(Path(spec).parent.name) / 100

    def figures(self, samples: Any) -> dict[str, np.ndarray]:
        other = "four_way" if self.headline == "two_way" else "exact"
        values = np.full(len(samples), self.value)
        return {self.headline: values, other: values / 10}


class Fixed:
    """Stands in for the samples of a split."""

    def __init__(self, terms: tuple[str, ...]):
        self.example = self
        self.relation = self
        self.terms = terms


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, in which models are made up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spatial, "load_student", lambda spec, device, options: Student(spec))
    shown = [Fixed(("left",)), Fixed(("above", "right"))]
    monkeypatch.setattr(spatial, "fixed_samples", lambda split, count, camera: shown)
    return tmp_path


def write_run(runs: Path, sampler: str, seed: int, scores: tuple[float, ...], model: str = "vlm") -> Path:
    """The folder of a finished run whose tests went so."""
    folder = runs / ENV / f"rls3__seed{seed}__{sampler}"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(sampler.encode())
    args = {"seed": seed, "env_id": ENV, "env_args": [], "sampler": sampler, "model": model, "runs": str(runs)}
    (folder / "config.json").write_text(json.dumps({"agent": "rls3", "args": args}))
    (folder / "done").write_text(json.dumps({"step": 1000 + 40 * len(scores), "seconds": 1.0}))
    lines: list[dict[str, Any]] = [{"step": 1000, "sampling/valid": 0.9}]
    for i, score in enumerate(scores):
        step = 1000 + 40 * i
        if i:
            lines.append({"step": step, "sampling/valid": 0.5 + i / 10, "episode/length": 40})
            lines += [{"step": step, "loss/tuning": 1 / i}]
        row = {"step": step, "sampling/iteration": i, "sampling/generated": 40 * i, "validation/score": score + 0.1}
        row |= {"test/score": score, "test/exact": 0.1, "test/left": score - 1, "test/terms_1": score}
        lines.append(row | ({f"sampling/{name}": i for name in ("left", "terms_1")} if i else {}))
    for line in lines:
        if "sampling/left" in line:
            names = (*spatial_curves.SPATIAL_TERMS, *spatial_curves.COMPLEXITY)
            line |= {f"sampling/{name}": line.get(f"sampling/{name}", 0) for name in names}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_runs_and_models_have_rows_and_a_place_on_the_leaderboard(workplace: Path):
    for sampler in ("sac", "random"):
        for seed in (1, 2, 3):
            folder = write_run(workplace / "runs", sampler, seed, (2.0, 2.5))
            output = f"runs/rows/{sampler}__{ENV}.jsonl"
            evaluate.main(["--run", str(folder), "--split", "test", "--output", output])
    evaluate_family(["--model", "vlm", "clip"])
    rows = [row for path in sorted(Path("runs/rows").glob("*.jsonl")) for row in read_rows(path)]
    assert len(rows) == 8
    told = next(row for row in rows if row["run"] == "rls3__seed1__sac")
    assert (told["kind"], told["samples"], told["camera"], told["split"]) == ("vlm", 1000, "close", "test")
    assert told["score"]["left"] == told["score"]["score"] and "behind" not in told["score"]
    assert told["command"].startswith("mentorgym evaluate --run ") and told["weights"] is not None
    leaderboard.main([])
    page = Path("runs/leaderboard/leaderboard.md").read_text("utf-8")
    answers = page.split("## UnitySpatial-v0: answers")[1]
    assert answers.index("rls3@random") < answers.index("| start, vlm |")
    assert "UnitySpatial-v0: choices" in page and "60.0%" in page
    with Path("runs/leaderboard/spatial/leaderboard.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["driver"]: line["training_seeds"] for line in lines} == {
        "rls3": "3",
        "rls3@random": "3",
        "start, vlm": "0",
        "start, clip": "0",
    }
    with pytest.raises(SystemExit, match="a row of UnitySpatial-v0 is of a whole split"):
        compare.main(["--rows", f"runs/rows/sac__{ENV}.jsonl", "--against", f"runs/rows/random__{ENV}.jsonl"])


FINDER = """
import dataclasses
from pathlib import Path

@dataclasses.dataclass
class Args:
    seed: int = 0

def train(args):
    return Path(f"runs/UnitySpatial-v0/rls3__seed{args.seed}__sac")

def load_policy(folder, device):
    raise AssertionError("models are asked, not policies")
"""


def test_an_agent_that_is_added_has_a_line_of_its_own(workplace: Path, capsys: pytest.CaptureFixture):
    for seed in (1, 2):
        write_run(workplace / "runs", "sac", seed, (2.0, 2.5))
    Path("finder.py").write_text(FINDER)
    leaderboard.main(["--add", "finder.py", "--training-seeds", "1", "2", "--json"])
    told = json.loads(capsys.readouterr().out)
    ((driver, seeds),) = {(entry["driver"], entry["training_seeds"]) for entry in told["families"]["spatial"]}
    assert (driver, seeds) == ("finder@sac,vlm", 2) and list(told["families"]) == ["spatial"]
    assert [row["training_seed"] for row in read_rows(Path(f"runs/rows/finder__{ENV}.jsonl"))] == [1, 2]


def test_rows_that_lack_something_are_refused(workplace: Path):
    evaluate_family(["--model", "vlm"])
    (row,) = read_rows(Path(f"runs/rows/vlm__{ENV}.jsonl"))
    assert fault(row) is None
    assert "score.exact" in str(fault(row | {"score": {"score": 2.0}}))
    assert "kind" in str(fault(row | {"kind": "clop"}))
    assert "camera" in str(fault(row | {"camera": 3}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to measure"),
        (["--model", "clop"], "--model clop: give one of clip"),
        (["--run", "."], "is not the folder of a training run"),
    ],
)
def test_what_cannot_be_measured_is_told(workplace: Path, arguments: list[str], message: str):
    with pytest.raises(SystemExit, match=message):
        evaluate_family(arguments)


def test_curves_are_those_of_the_logs(workplace: Path):
    ends = {"sac": (2.6, 2.7, 2.8), "random": (2.2, 2.3, 2.4)}
    runs = [
        write_run(workplace / "runs", sampler, seed + 1, (2.0, 2.1, end))
        for sampler, own in ends.items()
        for seed, end in enumerate(own)
    ]
    spatial_curves.main(["--name", "both", "--run", *map(str, runs)])
    page = Path("runs/curves/both.md").read_text("utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| sampler ")]
    # Chance comes first, whatever the order of the folders.
    chance, sac = lines[:2]
    assert (chance[:2], sac[:2]) == (["sampler random", "3"], ["sampler sac", "3"]) and chance[-1] == "-"
    # Samples, the share of valid moves (0.6 and 0.7 of as many), fine-tunings, and the test's scores.
    assert sac[2:5] == ["80", "65.0%", "2.0"]
    assert sac[5].startswith("2.000") and sac[6].startswith("2.700 [2.6")
    low, high = map(float, sac[-1].removeprefix("+0.400 [").removesuffix("]").split(","))
    assert 0.2 <= low < 0.4 < high <= 0.6
    assert "tested last\nafter 80 to 80 samples" in page and "1.000 to 1.700 (2)" in page and "1 term" in page
    assert Path("runs/curves/both.png").read_bytes().startswith(b"\x89PNG")
    with Path("runs/curves/both.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and rows[11]["sampling/generated"] == "80" and rows[11]["test/score"] == "2.6"


def test_variants_are_named_after_what_they_change():
    assert spatial_curves.names_of([{"seed": 1, "sampler": each} for each in ("sac", "random")]) == [
        "sampler sac",
        "sampler random",
    ]
    usual = {"episodes": 5, "beta": 0.3, "model_args": []}
    changed = [usual, usual | {"episodes": 2}, usual | {"beta": 1.0, "model_args": ["train=all"]}, usual]
    assert spatial_curves.names_of(changed[:3]) == ["default", "episodes 2", "beta 1.0, model_args ['train=all']"]
    assert spatial_curves.names_of([usual]) == ["rls3"]


def test_a_mean_against_samples_lies_between_tests(workplace: Path):
    folders = [
        write_run(workplace / "runs", "sac", seed, scores) for seed, scores in ((1, (2.0, 3.0, 3.0)), (2, (2.0, 2.0)))
    ]
    tests = [[each[1:] for each in spatial_curves.read_history(folder).scores("test")] for folder in folders]
    grid, values = spatial_curves.against_samples(tests)
    # As far as the shorter run has come.
    assert grid[0] == 0 and grid[-1] == 40
    np.testing.assert_allclose(values[0], 2 + grid / 40)
    np.testing.assert_allclose(values[1], 2.0)


def test_losses_are_means_of_windows(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spatial_curves, "WINDOW", 2)
    told = [
        spatial_curves.History(seed, "score", [], [], losses)
        for seed, losses in enumerate(([1.0, 3.0, 5.0, 7.0, 9.0], [2.0, 2.0, 0.0, 1.0]))
    ]
    updates, losses = spatial_curves.loss_by_window(told)
    assert updates.tolist() == [2.0, 4.0] and losses.tolist() == [[2.0, 6.0], [2.0, 0.5]]


def test_folders_of_other_runs_are_refused(workplace: Path):
    folder = write_run(workplace / "runs", "sac", 1, (2.0,))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss/critic": 2.0}\n')
    with pytest.raises(SystemExit, match="has logged no test of a model yet"):
        spatial_curves.main(["--run", str(folder)])


def test_the_sweep_changes_one_thing_at_a_time():
    cells = read_matrix(find_matrix("spatial_sweep"))
    default = next(cell for cell in cells if cell.name.startswith("default__")).args
    names = ("episodes", "valid_samples", "share", "beta", "amount")
    changed = [[name for name in names if getattr(cell.args, name) != getattr(default, name)] for cell in cells]
    assert sorted(map(len, changed)) == [0, *[1] * (len(cells) - 1)]
    assert {name for own in changed for name in own} == set(names)
    official = read_matrix(find_matrix("spatial"))
    assert [(cell.args.sampler, cell.seed) for cell in official] == [
        (sampler, seed) for seed in (1, 2, 3) for sampler in ("sac", "random")
    ]
    assert all("--env UnitySpatial-v0" in " ".join(cell.evaluation or ()) for cell in official)
