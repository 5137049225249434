"""The learners that the speed table calls the same compute the same, and its figures are of the right kind."""

import json
import sys

import numpy as np
import pytest
import torch

from mentorgym.agents.toolbox import ReplayBuffer, to_tensors
from mentorgym.benchmarks.speed import __main__ as speed
from mentorgym.benchmarks.speed import learner as speed_learner
from mentorgym.benchmarks.speed import timing

torch.set_num_threads(1)


@pytest.fixture
def buffer() -> ReplayBuffer:
    """Twelve transitions of random masks, some of which end an episode."""
    generator = np.random.default_rng(0)

    def observe() -> dict[str, np.ndarray]:
        masks = generator.choice(np.array([0, 255], np.uint8), size=(2, 15, 96, 96), p=[0.95, 0.05])
        return {"bev": masks, "state": generator.normal(size=(2, 10)).astype(np.float32)}

    buffer = ReplayBuffer(12, 2)
    buffer.start(observe())
    for _ in range(6):
        final = observe()
        finals = np.array([{name: array[env] for name, array in final.items()} for env in range(2)], object)
        actions, ended = generator.uniform(-1, 1, (2, 2)), generator.random(2) < 0.3
        buffer.add(actions, generator.normal(size=2), ended, ~ended, observe(), finals)
    return buffer


def test_every_step_of_the_same_algorithm_computes_the_same(buffer):
    learners = speed_learner.same_algorithm(buffer)
    losses = {}
    for name, learner in learners.items():
        generator = np.random.default_rng(3)
        takes_masks = isinstance(learner.networks.encoder, speed_learner.PlainEncoder)

        def draw(generator=generator, takes_masks=takes_masks):
            batch = to_tensors(buffer[generator.integers(len(buffer), size=8)], "cpu")
            return speed_learner.unpacked(batch) if takes_masks else batch

        learner.draw = draw
        torch.manual_seed(0)
        losses[name] = [learner.update() for _ in range(4)]
    plain = losses["plain"]
    assert plain[0]["loss/critic"] != plain[3]["loss/critic"]
    for name, found in losses.items():
        for ours, theirs in zip(found, plain, strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_the_plain_replay_draws_what_the_packed_one_draws(buffer):
    plain = speed_learner.PlainReplay(buffer).sample(20)
    buffer.generator = np.random.default_rng(0)
    expected = speed_learner.unpacked(to_tensors(buffer.sample(20), "cpu"))._replace(discounts=None)
    torch.testing.assert_close(to_tensors(plain, "cpu"), expected, rtol=0, atol=0)


def test_every_learner_learns(buffer, monkeypatch):
    monkeypatch.setattr(speed_learner, "BATCH_SIZE", 4)
    for name, learner in (speed_learner.same_algorithm(buffer) | speed_learner.other_algorithms(buffer)).items():
        before = learner.networks.state_dict()["critic.first.0.0.weight"].clone()
        assert learner.updates_per_s(0.0) > 0, name
        assert not torch.equal(before, learner.networks.state_dict()["critic.first.0.0.weight"]), name


def test_the_figures_and_their_table(buffer, monkeypatch):
    monkeypatch.setattr(speed_learner, "BATCH_SIZE", 4)
    monkeypatch.setattr(speed_learner, "fill_replay", lambda transitions: buffer)
    figures = speed_learner.measure(transitions=12, repeats=2, seconds=0.0, say=lambda _: None)
    assert figures["same_algorithm"]["plain"]["times_plain"] == 1
    ours = list(figures["same_algorithm"].values())[-1]
    assert figures["ratio"] == ours["times_plain"]
    lines = speed_learner.table(figures)
    names = [*figures["same_algorithm"], *figures["other_algorithms"]]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines if line.endswith("|") and "." in line] == names


def test_the_command_writes_its_table_and_prints_one_object(buffer, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speed_learner, "BATCH_SIZE", 4)
    monkeypatch.setattr(speed_learner, "fill_replay", lambda transitions: buffer)
    written = tmp_path / "learner.md"
    flags = ["--repeats", "1", "--seconds", "0", "--table", str(written), "--json"]
    monkeypatch.setattr(sys, "argv", ["speed", "learner", *flags])
    try:
        speed.main()
    finally:
        timing.keep_to_cores(len(timing.CORES))
    (line,) = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    text = written.read_text("utf-8")
    assert "speed learner --repeats 1" in text
    assert all(f"| {name} |" in text for name in figures["same_algorithm"])
