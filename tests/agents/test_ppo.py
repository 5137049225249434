"""PPO's formulas against independent references, and its command from flags to a policy that drives."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from scipy import integrate, stats

from mentorgym.agents import ppo
from mentorgym.agents.toolbox import make_envs, pack_observations

DEFAULTS = ppo.Args()


def observations(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(seed)
    masks = generator.choice(np.array([0, 255], np.uint8), size=(count, 15, 96, 96), p=[0.9, 0.1])
    packed = pack_observations({"bev": masks, "state": generator.normal(size=(count, 10)).astype(np.float32)})
    return ppo.to_tensors(packed, "cpu")


def make_networks() -> ppo.Networks:
    torch.manual_seed(0)
    return ppo.Networks("small")


def make_samples(suggestions: list[int]) -> ppo.Samples:
    count = len(suggestions)
    torch.manual_seed(1)
    return ppo.Samples(
        observations(count),
        actions=torch.rand(count, 2) * 0.9 + 0.05,
        log_density=torch.randn(count),
        advantages=torch.randn(count),
        returns=torch.randn(count),
        suggestions=torch.tensor(suggestions),
    )


def make_optimizer(networks: ppo.Networks) -> torch.optim.Optimizer:
    return torch.optim.Adam(networks.parameters(), lr=1e-3)


def test_the_policy_starts_with_more_throttle_than_brake_and_steers_to_neither_side():
    with torch.no_grad():
        mean = 2 * make_networks()(observations(20))[0].mean - 1
    torch.testing.assert_close(mean, torch.tensor([[0.3, 0.0]]).expand(20, 2), atol=0.05, rtol=0)


def test_actions_are_a_beta_distributions_from_minus_1_to_1():
    networks = make_networks()
    with torch.no_grad():
        networks.actor.parameters_of_beta.bias.uniform_(-20, 20)
        features = networks.encoder(observations(50))
        density = networks.actor(features)
        torch.manual_seed(0)
        drawn = torch.stack([networks.actor.act(features, explore=True) for _ in range(300)])
    alpha, beta = density.concentration1.numpy(), density.concentration0.numpy()
    assert min(alpha.min(), beta.min()) >= 1
    assert drawn.abs().max() <= 1
    expected = 2 * stats.beta(alpha, beta).mean() - 1
    np.testing.assert_allclose(drawn.mean(0), expected, atol=0.2)  # standard error at most 0.04
    with torch.no_grad():
        np.testing.assert_allclose(networks.actor.act(features, explore=False), expected, atol=1e-5)


def test_advantages_are_sums_of_discounted_errors():
    generator = np.random.default_rng(0)
    steps, envs, gamma, decay = 12, 3, 0.9, 0.7
    rewards, values = generator.normal(size=(2, steps, envs)).astype(np.float32)
    last_values = generator.normal(size=envs).astype(np.float32)
    ended = generator.random((steps, envs)) < 0.2
    assert ended.any()
    found = ppo.estimate_advantages(rewards, values, last_values, ended, gamma, decay)
    for env in range(envs):
        for t in range(steps):
            total, factor = 0.0, 1.0
            for k in range(t, steps):
                following = last_values[env] if k == steps - 1 else values[k + 1, env]
                total += factor * (rewards[k, env] + (0 if ended[k, env] else gamma * following) - values[k, env])
                factor *= gamma * decay
                if ended[k, env]:
                    break
            assert found[t, env] == pytest.approx(total, abs=1e-5)


def test_the_losses_against_references_in_double_precision():
    networks, samples = make_networks(), make_samples([0, ppo.GO, ppo.STOP, ppo.TURN, 0, ppo.STOP])
    with torch.no_grad():
        density, values = networks(samples.observations)
    alpha, beta = density.concentration1.double().numpy(), density.concentration0.double().numpy()
    found = ppo.update(networks, make_optimizer(networks), samples, DEFAULTS)

    policy = stats.beta(alpha, beta)
    log_ratio = policy.logpdf(samples.actions.double().numpy()).sum(1) - samples.log_density.double().numpy()
    advantages = samples.advantages.numpy()
    surrogate = [
        min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
        for ratio, advantage in zip(np.exp(log_ratio), advantages, strict=True)
    ]

    def divergence(i: int, action: int, prior_alpha: float, prior_beta: float) -> float:
        ours, prior = stats.beta(alpha[i, action], beta[i, action]), stats.beta(prior_alpha, prior_beta)
        return integrate.quad(lambda x: ours.pdf(x) * (ours.logpdf(x) - prior.logpdf(x)), 1e-9, 1 - 1e-9)[0]

    exploration = (
        divergence(1, 0, 2.5, 1) + divergence(2, 0, 1, 1.5) + divergence(3, 1, 1, 1) + divergence(5, 0, 1, 1.5)
    )
    expected = {
        "loss/policy": -np.mean(surrogate),
        "loss/critic": np.mean((values.numpy() - samples.returns.numpy()) ** 2),
        "loss/exploration": exploration / 6,
        "value/v": values.mean().item(),
        "value/entropy": policy.entropy().sum(1).mean(),
        "value/kl": np.mean(np.exp(log_ratio) - 1 - log_ratio),
        "value/clipped": np.mean(np.abs(np.exp(log_ratio) - 1) > 0.2),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_an_update_moves_every_parameter():
    networks = make_networks()
    before = copy.deepcopy(networks)
    ppo.update(networks, make_optimizer(networks), make_samples([0, 1, 2, 3]), DEFAULTS)
    for name, parameter in before.named_parameters():
        assert not torch.equal(parameter, networks.get_parameter(name)), name


@pytest.mark.parametrize(
    ("suggestion", "pedal", "steer_entropy"),
    [(0, 0, 0), (ppo.GO, 1, 0), (ppo.STOP, -1, 0), (ppo.TURN, 0, 1)],
    ids=["nothing", "go", "stop", "turn"],
)
def test_a_suggestion_pulls_its_own_action_to_its_prior(suggestion, pedal, steer_entropy):
    networks, samples = make_networks(), make_samples([suggestion] * 4)
    args = dataclasses.replace(DEFAULTS, entropy_coef=0, value_coef=0, exploration_coef=1)
    parameters = networks.actor.parameters_of_beta.parameters()
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    with torch.no_grad():
        before = networks(samples.observations)[0]
    ppo.update(networks, optimizer, samples._replace(advantages=torch.zeros(4)), args)
    with torch.no_grad():
        after = networks(samples.observations)[0]
    moved = (after.mean - before.mean)[:, 0]
    assert (moved.sign() == pedal).all() if pedal else moved.abs().max() < 1e-6
    widened = (after.entropy() - before.entropy())[:, 1]
    assert (widened > 1e-4).all() if steer_entropy else widened.abs().max() < 1e-6


def test_the_last_steps_of_the_ended_episode_are_marked_and_no_others():
    rollout = ppo.Rollout(steps=10, num_envs=2)
    rollout.ended[3, 0] = rollout.ended[8, 0] = rollout.ended[6, 1] = True
    rollout.suggest(3, 0, "red light", steps=2)
    rollout.suggest(8, 0, "blocked", steps=100)
    rollout.suggest(6, 1, "completed", steps=100)
    go, stop = ppo.GO, ppo.STOP
    assert rollout.suggestions[:, 0].tolist() == [0, 0, stop, stop, go, go, go, go, go, 0]
    assert not rollout.suggestions[:, 1].any()


def test_the_learning_rate_falls_linearly_or_halves():
    annealed = dataclasses.replace(DEFAULTS, learning_rate=1.0, total_steps=1000)
    assert [ppo.learning_rate(annealed, step, 9) for step in (0, 250, 1000)] == [1.0, 0.75, 0.0]
    halved = dataclasses.replace(annealed, anneal=False, halve_after=8)
    assert [ppo.learning_rate(halved, 500, stops) for stops in (0, 7, 8, 17)] == [1.0, 1.0, 0.5, 0.25]


def test_roachs_command_is_a_command():
    flags = ppo.__doc__.split("mentorgym train ppo ")[-1].split()
    args = tyro.cli(ppo.Args, args=flags)
    # 12 288 samples an iteration; the critic's loss of unscaled rewards is 1 / (1 - gamma)^2 times ours.
    assert args.num_envs * args.rollout_steps == 12_288
    assert args.value_coef * (1 - args.gamma) ** 2 == pytest.approx(0.5)
    assert (args.clip, args.max_grad_norm, args.exploration_steps, args.anneal) == (0.2, 0.5, 100, False)


def watch_rollout(monkeypatch: pytest.MonkeyPatch) -> list[ppo.Rollout]:
    kept: list[ppo.Rollout] = []

    class WatchedRollout(ppo.Rollout):
        def __init__(self, *args):
            super().__init__(*args)
            kept.append(self)

    monkeypatch.setattr(ppo, "Rollout", WatchedRollout)
    return kept


def test_a_truncated_episodes_last_reward_holds_what_would_have_followed(short_ppo, monkeypatch):
    kept = watch_rollout(monkeypatch)
    monkeypatch.setattr(ppo.Networks, "values", lambda self, given: np.full(len(given["state"]), 100.0, np.float32))
    ppo.train(dataclasses.replace(short_ppo, env_args=("steps=4",), total_steps=20, gamma=0.99))
    (rollout,) = kept
    truncated = np.zeros((10, 2), bool)
    truncated[3::4] = True
    np.testing.assert_array_equal(rollout.ended, truncated)
    assert (np.abs(rollout.rewards[truncated] - 99) < 0.1).all()
    assert (np.abs(rollout.rewards[~truncated]) < 0.1).all()


def test_a_rollout_holds_what_the_policy_saw_and_did(short_ppo, monkeypatch):
    kept = watch_rollout(monkeypatch)
    ppo.train(dataclasses.replace(short_ppo, total_steps=20, learning_rate=0.0))
    (rollout,) = kept
    state = rollout.observations.states.reshape(10, 2, 10)
    # The toy road's state begins with environment, episode and step.
    np.testing.assert_array_equal(state[:, :, 0], [[0, 1]] * 10)
    same_episode = ~rollout.ended[:-1]
    np.testing.assert_array_equal((state[1:, :, 2] - state[:-1, :, 2])[same_episode], 1)
    np.testing.assert_array_equal(state[1:, :, 2][~same_episode], 0)
    torch.manual_seed(0)
    networks = ppo.Networks("small")
    with torch.no_grad():
        seen = ppo.to_tensors(rollout.observations.take(np.arange(20)), "cpu")
        density, values = networks(seen)
        log_density = density.log_prob(torch.from_numpy(rollout.actions.reshape(20, 2))).sum(1)
    np.testing.assert_allclose(rollout.values.ravel(), values, atol=1e-5)
    np.testing.assert_allclose(rollout.log_density.ravel(), log_density, atol=1e-4)
    numbers = torch.cat([batch.log_density for batch in rollout.batches(5, "cpu")])
    np.testing.assert_array_equal(np.sort(numbers), np.sort(rollout.log_density.ravel()))


def test_an_iteration_ends_when_the_policy_has_moved_too_far(short_ppo, monkeypatch):
    calls = []
    original = ppo.update
    monkeypatch.setattr(ppo, "update", lambda *args: calls.append(args[0]) or original(*args))
    ppo.train(dataclasses.replace(short_ppo, target_kl=-1.0, epochs=5))
    # 8 iterations of 20 samples, one epoch of 2 batches each.
    assert len(calls) == 16
    assert calls[0].early_stops == 8


def test_a_resumed_run_is_the_uninterrupted_one(short_ppo, tmp_path, monkeypatch):
    whole = ppo.train(short_ppo)
    args = dataclasses.replace(short_ppo, runs=str(tmp_path / "again"))
    with monkeypatch.context() as patch:
        patch.setattr(ppo.Run, "log_episode", interrupt_after_checkpoint(ppo.Run.log_episode))
        with pytest.raises(KeyboardInterrupt):
            ppo.train(args)
    folder = ppo.train(args)
    assert (folder / "policy.safetensors").read_bytes() == (whole / "policy.safetensors").read_bytes()


def interrupt_after_checkpoint(log_episode):
    def interrupted(run, step, *rest):
        if list((run.folder / "checkpoints").glob("0*")):
            raise KeyboardInterrupt
        return log_episode(run, step, *rest)

    return interrupted


def test_load_policy_acts_as_the_trained_actor(short_ppo, toy_road, monkeypatch):
    policies: list[ppo.Policy] = []
    original = ppo.Networks.policy
    monkeypatch.setattr(ppo.Networks, "policy", lambda self: policies.append(original(self)) or policies[-1])
    folder = ppo.train(short_ppo)
    first, _ = make_envs(toy_road, 3, ()).reset(seed=1)
    policy = ppo.load_policy(folder)
    actions = policy(first)
    assert actions.shape == (3, 2)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, policies[-1].act(first))
    np.testing.assert_array_equal(actions, policy(first))


def test_found_rl_encoder_trains_and_loads(short_ppo, toy_road):
    folder = ppo.train(dataclasses.replace(short_ppo, encoder="found-rl", total_steps=20))
    first, _ = make_envs(toy_road, 1, ()).reset(seed=1)
    assert np.isfinite(ppo.load_policy(folder)(first)).all()


@pytest.mark.parametrize("encoder", ["lite", "small-separate"])
def test_an_encoder_that_it_does_not_have_is_refused(encoder, short_ppo):
    with pytest.raises(ValueError, match=f"encoder '{encoder}' is unknown; choose one of small, found-rl"):
        ppo.train(dataclasses.replace(short_ppo, encoder=encoder))
    assert not Path(short_ppo.runs).exists()


@pytest.mark.parametrize("name", ["num_envs", "rollout_steps", "batch_size", "epochs"])
def test_a_size_of_nothing_is_refused(short_ppo, name):
    with pytest.raises(ValueError, match=f"{name}=0: give at least 1"):
        ppo.train(dataclasses.replace(short_ppo, **{name: 0}))


def test_a_batch_size_that_leaves_samples_over_is_refused(short_ppo):
    with pytest.raises(ValueError, match="rollout_steps x num_envs = 20 is no multiple of batch_size=7"):
        ppo.train(dataclasses.replace(short_ppo, batch_size=7))
    assert not Path(short_ppo.runs).exists()


def test_it_learns_to_stay_on_the_toy_road(toy_road, tmp_path):
    args = ppo.Args(env_id=toy_road, runs=str(tmp_path), num_envs=16, rollout_steps=16, batch_size=64, gamma=0.9)
    envs = make_envs(toy_road, 16, ())

    def mean_return(policy) -> float:
        current, _ = envs.reset(seed=list(range(16)))
        total, running = np.zeros(16), np.ones(16, bool)
        for _ in range(60):
            current, rewards, terminated, truncated, _ = envs.step(policy(current))
            total += rewards * running
            running &= ~(terminated | truncated)
        return total.mean()

    before = mean_return(make_networks().policy().act)
    folder = ppo.train(dataclasses.replace(args, total_steps=4_096, learning_rate=1e-3))
    assert mean_return(ppo.load_policy(folder)) > before + 5
