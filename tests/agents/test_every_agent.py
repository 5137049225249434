"""What holds of every agent: a short run learns, resumes after it was killed, and leaves a policy that acts."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mentorgym import agents
from mentorgym.agents import drqv2, drqv2_vmr, ppo, sac, sac_awag, sac_vmr, td3
from mentorgym.agents.toolbox import METRICS, Run, make_envs, mentor_metrics, parse_flags


class Killed(Exception):
    """What ends a run at its last step."""


def die(*arguments, **keywords):
    raise Killed


def read_metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_agent_is_tested(all_agents):
    files = Path(agents.__file__).parent.glob("*.py")
    learners = {path.stem for path in files if "\nclass Networks(" in path.read_text("utf-8")}
    # RLS3 moves objects: test_rls3.py is its test.
    assert {agent.__name__.split(".")[-1] for agent in all_agents} == learners - {"rls3"}


def test_a_short_run_learns_resumes_and_loads(any_agent, short_flags, toy_road, monkeypatch):
    args = short_flags(any_agent, checkpoint_every=100)
    policies: list[torch.nn.Module] = []
    starts: list[dict[str, torch.Tensor]] = []
    original = any_agent.Networks.policy

    def watched(networks):
        policies.append(original(networks))
        starts.append(copy.deepcopy(policies[-1].state_dict()))
        return policies[-1]

    monkeypatch.setattr(any_agent.Networks, "policy", watched)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", die)
        with pytest.raises(Killed):
            any_agent.train(args)
    folder = any_agent.train(args)
    rows = read_metrics(folder)
    assert {row["resumes"] for row in rows} == {0, 1}
    assert set().union(*rows) <= set(METRICS)
    assert (folder / "done").exists()

    trained = load_file(folder / "policy.safetensors")
    still = [name for name, value in starts[0].items() if torch.equal(value, trained[name])]
    assert still == [], "these have not moved"

    first, _ = make_envs(toy_road, 3, ()).reset(seed=1)
    policy = any_agent.load_policy(folder)
    actions = policy(first)
    assert actions.shape == (3, 2)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, policies[-1].act(first))
    np.testing.assert_array_equal(actions, policy(first))


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(short_flags, tmp_path):
    def losses(name: str, seed: int) -> list[float]:
        folder = drqv2_vmr.train(short_flags(drqv2_vmr, runs=str(tmp_path / name), seed=seed, total_steps=80))
        return [row["loss/critic"] for row in read_metrics(folder) if "loss/critic" in row]

    assert losses("a", 3) == losses("b", 3) != losses("c", 4)


def test_a_resumed_run_keeps_its_hints_and_asks_for_more(short_flags, monkeypatch):
    args = short_flags(sac_vmr, checkpoint_every=100)
    buffers: list[sac_vmr.ReplayBuffer] = []

    class WatchedBuffer(sac_vmr.ReplayBuffer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            buffers.append(self)

        def load(self, folder: Path) -> None:
            super().load(folder)
            self.loaded = self[np.arange(len(self))]

    monkeypatch.setattr(sac_vmr, "ReplayBuffer", WatchedBuffer)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", die)
        with pytest.raises(Killed):
            sac_vmr.train(args)
    sac_vmr.train(args)
    resumed = buffers[1]
    # Every second observation of 100 steps had its hint.
    assert resumed.loaded.hint_mask.sum() >= 48
    np.testing.assert_array_equal(resumed.loaded.hint_mask > 0, np.abs(resumed.loaded.hints).sum(1) > 0)
    newest = resumed[np.arange(len(resumed))[-20:]]
    assert newest.hint_mask.sum() >= 8


def test_hints_are_the_experts_for_their_own_observation(short_flags, monkeypatch):
    buffers: list[sac_awag.ReplayBuffer] = []
    original = sac_awag.ReplayBuffer
    monkeypatch.setattr(sac_awag, "ReplayBuffer", lambda *args: buffers.append(original(*args)) or buffers[-1])
    sac_awag.train(short_flags(sac_awag, hint_mode="async", at_bound="pause"))
    stored = buffers[0][np.arange(len(buffers[0]))]
    hinted = stored.hint_mask > 0
    assert hinted.sum() > 20
    # The toy road's state has the speed in entry 4.
    expected = np.clip(6 - stored.observations["state"][hinted, 4], -1, 1)
    np.testing.assert_allclose(stored.hints[hinted, 0], expected, atol=1e-6)


@pytest.mark.parametrize("agent", [sac, drqv2], ids=["sac", "drqv2"])
def test_clip_rewards_enter_the_rewards_and_the_normaliser_goes_on(agent, short_flags, monkeypatch):
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    original = agent.update_critic

    def watched(networks, optimizer, batch, *rest):
        seen.append((batch.rewards.numpy(), batch.bonuses.numpy()))
        return original(networks, optimizer, batch, *rest)

    monkeypatch.setattr(agent, "update_critic", watched)
    args = short_flags(agent, clip_reward="toy_road:scorer", clip_scale=0.5, checkpoint_every=100)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", die)
        with pytest.raises(Killed):
            agent.train(args)
    folder = agent.train(args)
    bonuses = np.concatenate([bonus for _, bonus in seen])
    assert 0 < np.abs(bonuses).max() <= (0.5 if agent is sac else 1.5)
    rows = [row for row in read_metrics(folder) if "clip/margin" in row]
    assert any(row["resumes"] == 1 for row in rows)
    # The toy road's own rewards are at most 1.
    assert max(rewards.max() for rewards, _ in seen) <= (1.5 if agent is sac else 4.5)


def test_a_mentor_that_is_unknown_is_told_before_training(short_flags):
    with pytest.raises(Exception, match="unknown mentor 'exprt'"):
        sac_vmr.train(short_flags(sac_vmr, mentor="exprt"))


def test_a_preset_changes_defaults_and_flags_win(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sac.py", "--preset", "found-rl", "--batch-size", "64"])
    args = parse_flags(sac.Args, sac.PRESETS)
    assert args.batch_size == 64
    assert (args.encoder, args.learning_rate, args.anneal, args.buffer_size) == ("found-rl", 1e-4, True, 150_000)
    assert args.gamma == sac.Args().gamma
    monkeypatch.setattr("sys.argv", ["sac.py", "--batch-size", "64"])
    assert parse_flags(sac.Args, sac.PRESETS) == sac.Args(batch_size=64)


def test_an_unknown_preset_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sac.py", "--preset", "lite"])
    with pytest.raises(SystemExit):
        parse_flags(sac.Args, sac.PRESETS)
    assert "found-rl" in capsys.readouterr().err


def test_presets_hold_flags_that_exist(any_agent):
    for flags in getattr(any_agent, "PRESETS", {}).values():
        assert any_agent.Args(**flags) != any_agent.Args()
    assert hasattr(any_agent, "PRESETS") or any_agent is ppo


def test_a_learning_rate_falls_to_nothing_where_asked(short_flags, monkeypatch):
    rates: list[float] = []
    original = td3.update

    def watched(networks, optimizers, *rest):
        rates.append(optimizers["critic"].param_groups[0]["lr"])
        return original(networks, optimizers, *rest)

    monkeypatch.setattr(td3, "update", watched)
    td3.train(short_flags(td3, anneal=True, learning_rate=1e-3, total_steps=80, learning_starts=2))
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(2, 81, 2) / 80), atol=1e-12)


def test_metrics_of_a_mentor_are_those_that_are_published_and_known():
    counters = {"availability": 0.5, "latency_s": float("nan"), "asked": 3, "restarts": 1}
    assert mentor_metrics("hint", counters) == {"hint/availability": 0.5, "hint/restarts": 1.0}
