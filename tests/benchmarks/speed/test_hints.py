"""What the hints' benchmark measures, on runs too short to mean anything, and how it is told."""

import json
import sys

import numpy as np
import pytest

from mentorgym.benchmarks.speed import __main__ as speed
from mentorgym.benchmarks.speed import hints as speed_hints
from mentorgym.mentors import Request

FIGURES = {
    "num_envs": 16,
    "batch_size_limit": 32,
    "mentor_seconds": 1.0,
    "seconds": 60.0,
    "ratio": 0.98,
    "cpu_ratio": 0.97,
    "stretches": 61,
    "steps_per_s": {"none": 9000.0, "skip": 8800.0},
    "availability": 0.0036,
    "latency_s": 1.9,
    "batch_size": 32.0,
    "pause_asked": 1920,
    "pause_answered_share": 1.0,
    "pause_lost": 0,
    "pause_twice": 0,
    "pause_steps_per_s": 31.5,
    "model": "mentorgym.benchmarks.speed.hints:SmallVision",
    "repeats": 5,
    "answers_per_s": {"service": 99.0, "batched loop": 100.0, "one call each": 50.0},
    "throughput_ratio": 0.99,
    "blocking_ratio": 1.98,
}


@pytest.fixture
def fast(monkeypatch):
    """Stretches of a few steps."""
    monkeypatch.setattr(speed_hints, "STRETCH_S", 0.05)
    monkeypatch.setattr(speed_hints, "TURN", 3)


def slow_mentor(seconds: float) -> dict:
    return {"mentor": "mentorgym.benchmarks.speed.hints:OneSecond", "options": {"seconds": seconds}}


def test_both_arms_drive_and_hints_arrive(fast):
    figures = speed_hints.measure_skip(0.3, slow_mentor(0.02), print)
    assert 0 < figures["ratio"] < 10 and 0 < figures["cpu_ratio"] < 10
    assert min(figures["steps_per_s"].values()) > 0
    # In so short a run, answers to questions from before the clock was started show.
    assert 0 < figures["availability"] <= 1.5
    assert figures["latency_s"] >= 0.01 and 1 <= figures["batch_size"] <= 32


def test_where_the_environments_wait_every_step_is_answered_once(fast):
    figures = speed_hints.measure_pause(0.5, slow_mentor(0.05), print)
    assert figures["pause_asked"] >= 2 * speed_hints.ENVS
    assert figures["pause_asked"] % speed_hints.ENVS == 0
    assert (figures["pause_answered_share"], figures["pause_lost"], figures["pause_twice"]) == (1.0, 0, 0)


def test_a_model_is_asked_in_three_ways(monkeypatch):
    monkeypatch.setattr(speed_hints, "SIZE", 32)
    options = {"seconds": 0.02}
    figures = speed_hints.measure_throughput(0.1, 1, "mentorgym.benchmarks.speed.hints:OneSecond", options, print)
    # 32 answers take 0.02 s in a batch and 0.64 s one by one.
    assert figures["answers_per_s"]["one call each"] < 50 < figures["answers_per_s"]["batched loop"] < 1600
    assert figures["blocking_ratio"] > 1
    assert 0 < figures["throughput_ratio"] < 2


def test_the_small_vision_model_scores_each_picture_for_itself():
    requests = speed_hints.random_requests(3)
    model = speed_hints.SmallVision()
    together = model(requests)
    assert [scores.shape for scores in together] == [(speed_hints.ANSWERS,)] * 3
    for request, scores in zip(requests, together, strict=True):
        np.testing.assert_allclose(model([request])[0], scores, rtol=1e-4)
        assert scores.sum() == pytest.approx(1)
    # The same weights in another process.
    np.testing.assert_array_equal(speed_hints.SmallVision()(requests), together)
    assert isinstance(requests[0], Request)


def test_the_command_writes_its_table_and_prints_one_object(monkeypatch, capsys, tmp_path):
    seconds = []
    monkeypatch.setattr(speed_hints, "measure", lambda *arguments: seconds.append(arguments[0]) or FIGURES)
    written = tmp_path / "hints.md"
    monkeypatch.setattr(sys, "argv", ["speed", "hints", "--json", "--table", str(written)])
    speed.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["ratio"] == 0.98
    assert seconds == [60.0]
    text = written.read_text("utf-8")
    assert "`mentorgym speed hints --json --table" in text
    assert "| skip | 8,800 | 0.980 | 0.970 | 0.36% |" in text
    assert "1,920 requests, 0 of them lost, 0 answered twice" in text
    assert "| batches of 32 in a plain loop | 100.0 | 0.990 |" in text
