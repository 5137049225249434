"""A family of environments is a package and a line: the commands evaluate, rank, compare and show it unchanged."""

import csv
import json
from pathlib import Path

import pytest

from mentorgym.benchmarks import compare, evaluate, leaderboard
from mentorgym.benchmarks.families import FAMILIES, family_of, load_family
from mentorgym.benchmarks.harness.matrix import read_matrix
from mentorgym.benchmarks.harness.rows import read_rows

AGENT = """
import dataclasses, json
from pathlib import Path

@dataclasses.dataclass
class Args:
    seed: int = 0
    env_id: str = "Guess-v0"
    guess: int = 5

def train(args):
    folder = Path(f"runs/Guess-v0/guesser__seed{args.seed}__{args.guess}")
    folder.mkdir(parents=True, exist_ok=True)
    config = {"agent": "guesser", "args": dataclasses.asdict(args)}
    for name, text in {"config.json": json.dumps(config), "policy.json": "{}", "done": '{"step": 7}'}.items():
        (folder / name).write_text(text)
    return folder

def load_policy(folder, device):
    guess = json.loads((folder / "config.json").read_text())["args"]["guess"]
    return lambda observations: guess
"""


@pytest.fixture(autouse=True)
def _toy_family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(FAMILIES, "guesses", ("toy_family", ("Guess-v0",)))
    monkeypatch.chdir(tmp_path)
    Path("guesser.py").write_text(AGENT)


def test_every_family_fulfils_the_protocol():
    for name in FAMILIES:
        family = load_family(name)
        assert {"env"} <= set(family.measure.Tasks.__dataclass_fields__)
        assert {"run", "driver", "name", "device", "output"} <= set(family.measure.Args.__dataclass_fields__)
        assert set(family.measure.KEY) | set(family.measure.EPISODE) <= family.measure.FIELDS.keys()
        assert {"driver", "commit", "command"} <= set(family.section.CSV_COLUMNS)
        assert not set(family.measure.SCORES) & set(family.measure.MORE_SCORES)


def test_an_id_belongs_to_the_family_that_names_it():
    assert family_of("Guess-v0") == family_of("somewhere:Guess-v0") == "guesses"
    assert family_of("CarlaNoCrash-v0") == family_of("my_module:MyDrive-v0") == "driving"


def test_its_drivers_are_evaluated_and_their_rows_read_again(capsys: pytest.CaptureFixture[str]):
    evaluate.main("--env Guess-v0 --driver high --numbers 8 9 --json".split())
    assert json.loads(capsys.readouterr().out)["guesses"] == [9.0, 10.0]
    rows = read_rows(Path("runs/rows/high__Guess-v0.jsonl"))
    assert [(row["env"], row["backend"], row["number"]) for row in rows] == [
        ("Guess-v0", "toy", 8),
        ("Guess-v0", "toy", 9),
    ]


def test_its_agents_are_trained_ranked_and_shown(capsys: pytest.CaptureFixture[str]):
    evaluate.main("--env Guess-v0 --driver low".split())
    leaderboard.main("--add guesser.py --training-seeds 1 2 -- --guess 6".split())
    printed = capsys.readouterr().out
    assert "Guess-v0: guesses" in printed and "guesser@guess=6" in printed
    page = Path("runs/leaderboard/leaderboard.md").read_text("utf-8")
    assert page.index("| guesser@guess=6 | 7.00 |") < page.index("| low | 6.00 |")
    assert "| guesser@guess=6 | `--guess 6` |" in page
    with Path("runs/leaderboard/guesses/leaderboard.csv").open(newline="") as file:
        lines = {line["driver"]: line for line in csv.DictReader(file)}
    assert lines["guesser@guess=6"]["training_seeds"] == "2" and lines["low"]["closeness"] == "6.000000"


def test_its_drivers_are_compared_on_the_same_episodes(capsys: pytest.CaptureFixture[str]):
    for driver in ("low", "high"):
        evaluate.main(f"--env Guess-v0 --driver {driver} --numbers 7 8 9".split())
    capsys.readouterr()
    rows = [f"runs/rows/{driver}__Guess-v0.jsonl" for driver in ("high", "low")]
    compare.main(["--rows", rows[0], "--against", rows[1], "--json"])
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [(line["score"], line["difference_mean"], line["verdict"]) for line in lines] == [
        ("closeness", 6.0, "above")
    ]


def test_a_matrix_knows_its_flags():
    Path("small.toml").write_text(
        'seeds = [1]\n[agents.some]\nagent = "guesser.py"\nguess = 3\n[environments.toy]\n'
        'env_id = "Guess-v0"\nevaluate = { numbers = [4] }\n'
    )
    (cell,) = read_matrix(Path("small.toml"))
    assert cell.evaluation == ("--env", "Guess-v0", "--numbers", "4")
