"""The table of what models know of where things stand, with models whose answers are known beforehand."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks.spatial import accuracy as spatial_accuracy
from mentorgym.benchmarks.spatial.accuracy import Prior
from mentorgym.envs.spatial import language, relations, rubric
from mentorgym.envs.spatial.samples import Samples, arrangements
from mentorgym.mentors import trainable

COUNT = 12


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples("val", COUNT)


class Oracle:
    """Knows the words of every sample; its pictures hold the sample's index."""

    examples: Sequence[language.Example] = ()
    save = load = None

    def __init__(self, folder: str, **options):
        self.right = folder == "right"

    def probabilities(self, pictures, choices) -> np.ndarray:
        assert [self.examples[picture[0, 0, 0]].choices for picture in pictures] == list(choices)
        one = np.array([0.7, 0.1, 0.1, 0.1] if self.right else [0.1, 0.2, 0.05, 0.65], np.float32)
        return np.tile(one, (len(pictures), 1))

    def answer(self, pictures, questions) -> list[str]:
        told = [self.examples[picture[0, 0, 0]] for picture in pictures]
        assert [each.question for each in told] == list(questions)
        return [each.caption if self.right else "nonsense" for each in told]


@pytest.fixture
def oracle(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(self, rows: slice) -> list:
        return [(np.full((2, 2, 3), row, np.uint8), self.examples[row]) for row in range(len(self))[rows]]

    monkeypatch.setattr(Oracle, "examples", samples.examples)
    monkeypatch.setattr(Samples, "__getitem__", chosen)
    monkeypatch.setattr(trainable, "TrainableClip", Oracle)
    monkeypatch.setattr(trainable, "TrainableVlm", Oracle)
    monkeypatch.setattr(spatial_accuracy, "PRIOR", 40)
    monkeypatch.setattr(spatial_accuracy, "AT_ONCE", 5)


def test_the_blind_baseline_says_what_would_have_scored_best():
    rooms = list(islice(arrangements("train", 3), 30))
    prior = Prior(rooms)
    names = rooms[0].names[:2]
    held = [
        relations.relation_of(room, room.names.index(names[0]), room.names.index(names[1])).terms
        for room in rooms
        if set(names) <= set(room.names)
    ]
    seen = [*held, *relations.RELATIONS]  # One is added to each.
    totals = {
        terms: sum(rubric.score(language.caption(*names, terms), truth) for truth in seen)
        for terms in relations.RELATIONS
    }
    (answer,) = prior.answers([names])
    assert totals[next(terms for terms in totals if language.caption(*names, terms) == answer)] == max(totals.values())
    for terms in relations.RELATIONS[::5]:
        share = seen.count(terms) / len(seen)
        assert prior.likelihood(language.caption(*names, terms), names) == pytest.approx(share)
        assert prior.likelihood(language.caption(*names, terms), names[::-1]) == pytest.approx(share)
    with pytest.raises(ValueError, match="neither"):
        prior.likelihood("The moon is above.", names)


def test_the_table_holds_models_and_baselines(oracle, samples: Samples, tmp_path: Path, capsys):
    command = ["--split", "val", "--limit", str(COUNT), "--output", str(tmp_path), "--json"]
    spatial_accuracy.main([*command, "--clip", "good=right", "bad=wrong", "--vlm", "good=right", "bad=wrong"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(told["models"]) == ["blind", "geometry", "good (clip)", "bad (clip)", "good (vlm)", "bad (vlm)"]
    figures = {name: each["figures"] for name, each in told["models"].items()}
    assert figures["good (clip)"]["four_way"]["all"] == {"mean": 1.0, "interval": [1.0, 1.0], "n": COUNT}
    assert figures["bad (clip)"]["two_way"]["all"]["mean"] == 0.5
    assert figures["bad (clip)"]["four_way"]["all"]["mean"] == 0.0
    assert figures["bad (vlm)"]["score"]["all"]["mean"] == 1.0
    for name in ("geometry", "good (vlm)"):
        assert figures[name]["score"]["all"]["mean"] == 5.0 and figures[name]["exact"]["all"]["mean"] == 1.0
    assert figures["geometry"]["four_way"]["all"]["mean"] == 1.0
    assert 1.0 < figures["blind"]["score"]["all"]["mean"] < 5.0
    low, high = figures["blind"]["score"]["all"]["interval"]
    assert low <= figures["blind"]["score"]["all"]["mean"] <= high
    page = (tmp_path / "spatial_accuracy.md").read_text()
    assert "Written by `" in page and "| two-way, 1 term |" in page and "| four-way |" in page
    written = json.loads((tmp_path / "spatial_accuracy.json").read_text())
    assert written["models"] == told["models"] and "command" in written


@pytest.mark.parametrize(
    "flags",
    [["--clip", "no-name"], ["--vlm", "=folder"], ["--clip", "a=x", "a=y"], ["--limit", "-1"]],
)
def test_flags_that_make_no_sense_are_refused(flags, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        spatial_accuracy.main([*flags, "--output", str(tmp_path)])
    assert stopped.value.code not in (0, None)
    assert not list(tmp_path.iterdir())
