"""The speed table of RLOO: both learn from as many texts, and the figures are of the right kind."""

import json
import sys

import pytest

from mentorgym.agents import rloo
from mentorgym.benchmarks.speed import __main__ as speed
from mentorgym.benchmarks.speed import rloo as speed_rloo


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ours_is_faster_than_trls(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speed_rloo, "keep_to_cores", lambda count: None)
    sizes: list[tuple[int, int]] = []
    original = rloo.policy_loss

    def watched(scores, rewards, *rest):
        sizes.append(tuple(rewards.shape))
        return original(scores, rewards, *rest)

    monkeypatch.setattr(rloo, "policy_loss", watched)
    command = ["speed", "rloo", "--updates", "2", "--json", "--table", str(tmp_path / "speed.md")]
    monkeypatch.setattr(sys, "argv", command)
    speed.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(sizes) == {(8, 8)} and len(sizes) == 2 * (2 + 2)
    assert figures["ratio"] == min(arm["cpu_ratio"] for arm in figures["arms"].values()) > 1.8
    assert "| 64 |" in (tmp_path / "speed.md").read_text()


def test_the_reward_of_the_table_differs_between_texts():
    assert len(set(speed_rloo.reward(["", "eee", "stop", "go on"]))) == 4
