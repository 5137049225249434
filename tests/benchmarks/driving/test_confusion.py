"""The confusion matrix: counts against a loop, marginals against labels taken apart, chance against a simulation."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.agents.toolbox.shards import to_png, write_shard
from mentorgym.benchmarks.driving import confusion
from mentorgym.envs.driving.view import language

labels = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), min_size=1, max_size=60)


@given(labels)
def test_counts_and_marginals_are_those_of_the_pairs(pairs: list[tuple[int, int]]):
    counts = confusion.confusion(*np.array(pairs).T, size=30)
    assert all(counts[row, column] == pairs.count((row, column)) for row, column in pairs)
    assert counts.sum() == len(pairs)
    longitudinal, lateral = confusion.marginals(counts)
    for row, column in pairs:
        assert longitudinal[row // 5, column // 5] == sum((a // 5, b // 5) == (row // 5, column // 5) for a, b in pairs)
        assert lateral[row % 5, column % 5] == sum((a % 5, b % 5) == (row % 5, column % 5) for a, b in pairs)
    shares = confusion.row_shares(counts)
    given = counts.sum(1) > 0
    np.testing.assert_allclose(shares[given].sum(1), 1)
    assert np.isnan(shares[~given]).all()


def test_the_chance_of_near_errors_agrees_with_errors_that_are_drawn():
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 6, (30, 30))
    named = counts.sum(0) / counts.sum()
    near = total = 0
    for label in range(30):
        errors = counts[label].sum() - counts[label, label]
        others = np.where(np.arange(30) == label, 0, named)
        drawn = generator.choice(30, size=200 * errors, p=others / others.sum())
        near += language.NEIGHBOURS[label, drawn].sum()
        total += len(drawn)
    assert confusion.near_by_frequency(counts, language.NEIGHBOURS) == pytest.approx(near / total, abs=0.003)
    assert confusion.near_by_frequency(np.eye(30, dtype=int), language.NEIGHBOURS) is None


@pytest.mark.parametrize(
    ("feedback", "label"),
    [
        (None, None),
        ("I would rather walk", None),
        ('{"throttle": 0.0, "steer": 0.4, "brake": 0.9}', 4),
        (np.float32([0.9, 0.0]), 12),
        (np.eye(30, dtype=np.float32)[17], 17),
    ],
)
def test_every_form_of_feedback_has_its_action(feedback, label):
    assert confusion.to_label(feedback) == label


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """A shard of pictures in which the expert drives straight on or turns gently."""
    actions = [(0.9, 0.0), (0.9, 0.1), (-0.9, 0.0), (0.5, 0.0)]
    samples = []
    for k in range(20):
        action = actions[k % 4]
        words = {"caption": "x", "prompt": "<image>", "context": 12, "action": action, "town": "Grid"}
        words["label"] = int(language.labels(np.float32(action)))
        # One in five is labelled as if the wheel were turned the other way.
        words["label"] = 13 if k % 5 == 0 else words["label"]
        samples.append((f"{k:04d}", to_png(np.zeros((8, 8, 3), np.uint8)), words))
    (tmp_path / "drives").mkdir()
    write_shard(tmp_path / "drives" / "00000.tar", samples)
    return tmp_path / "drives"


def test_the_command_writes_picture_counts_and_figures(drives: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    arguments = ["--data", str(drives), "--mentor", "expert", "--output", str(tmp_path / "out"), "--json"]
    confusion.main(arguments)
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["answered"], told["towns"]) == (20, 20, ["Grid"])
    assert told["accuracy"] == pytest.approx(17 / 20)
    assert told["near_errors"] == 0.0 < told["near_errors_by_chance"]
    assert json.loads((tmp_path / "out" / "confusion.json").read_text())["accuracy"] == told["accuracy"]
    with (tmp_path / "out" / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 31 and sum(int(cell) for row in rows[1:] for cell in row[1:]) == 20
    assert (tmp_path / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [("--mentor exprt", "unknown mentor 'exprt'"), ("--data nowhere", "nowhere is neither a folder of shards")],
)
def test_a_mistake_ends_with_one_message(drives: Path, arguments: str, message: str):
    with pytest.raises(SystemExit, match=f"confusion: {message}"):
        confusion.main(["--data", str(drives), *arguments.split()])
