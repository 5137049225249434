"""SAC's formulas against independent references, and its command from flags to a policy that drives."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mentorgym.agents import sac
from mentorgym.agents.toolbox import Batch, ReplayBuffer, make_envs, pack_observations

ENCODERS = ["small", "small-separate", "found-rl"]


def observations(count: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    masks = generator.choice(np.array([0, 255], np.uint8), size=(count, 15, 96, 96), p=[0.8, 0.2])
    return pack_observations({"bev": masks, "state": generator.normal(size=(count, 10)).astype(np.float32)})


@pytest.fixture
def batch() -> Batch:
    generator = np.random.default_rng(0)
    arrays = Batch(
        observations(6, generator),
        generator.uniform(-1, 1, (6, 2)).astype(np.float32),
        generator.normal(size=6).astype(np.float32),
        observations(6, generator),
        np.array([0, 1, 0, 0, 1, 0], np.float32),
    )
    return sac.to_tensors(arrays, "cpu")


def make_networks(encoder: str) -> sac.Networks:
    torch.manual_seed(0)
    return sac.Networks(encoder, initial_temperature=0.1)


def moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    """The modules, one level down, of which every parameter moved; asserts that none moved in part."""
    now = dict(after.named_parameters())
    changed: dict[str, set[bool]] = {}
    for name, value in before.named_parameters():
        changed.setdefault(name.split(".")[0], set()).add(not torch.equal(value, now[name]))
    assert all(len(flags) == 1 for flags in changed.values()), changed
    return {name for name, flags in changed.items() if flags == {True}}


def count_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_found_rl_sizes():
    networks = make_networks("found-rl")
    # 1 198 336 is Found-RL's extractor; the rest is arithmetic on heads of 256-256.
    for encoder in (networks.encoder, networks.actor_encoder, networks.target_encoder):
        assert count_parameters(encoder) == 1_198_336
    hidden = 256 * 256 + 256
    assert count_parameters(networks.actor) == 2 * hidden + 2 * (256 * 2 + 2)
    assert count_parameters(networks.critic) == 2 * ((258 * 256 + 256) + hidden + (256 + 1))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_target_starts_as_the_critic(encoder, batch):
    networks = make_networks(encoder)
    _, features = networks.encode(batch.observations)
    _, target_features = networks.encode_next(batch.observations)
    expected = networks.critic(features, batch.actions)
    torch.testing.assert_close(networks.target(target_features, batch.actions), expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_update_moves_every_parameter_of_its_own_and_no_other(encoder, batch):
    networks = make_networks(encoder)
    optimizers = sac.make_optimizers(networks, 1e-3)

    def after(step) -> set[str]:
        before = copy.deepcopy(networks)
        step()
        return moved(before, networks)

    actor_features, critic_features = networks.encode(batch.observations)
    own = encoder != "small"
    assert after(lambda: sac.update_critic(networks, optimizers["critic"], batch, critic_features, 0.99)) == {
        "encoder",
        "critic",
    }
    assert after(lambda: sac.update_actor(networks, optimizers["actor"], actor_features, critic_features)) == (
        {"actor", "actor_encoder"} if own else {"actor"}
    )
    entropy = torch.tensor(0.5)
    assert after(lambda: sac.update_temperature(networks, optimizers["temperature"], entropy, -2.0)) == {
        "log_temperature"
    }
    assert after(lambda: networks.move_targets(0.01)) == ({"target", "target_encoder"} if own else {"target"})


def test_log_density_is_the_squashed_gaussians(batch):
    networks = make_networks("small")
    features, _ = networks.encode(batch.observations)
    mean, log_std = networks.actor(features)
    actions, log_density = networks.actor.sample(features)
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean.double(), log_std.double().exp()), [torch.distributions.TanhTransform()]
    )
    expected = squashed.log_prob(actions.double()).sum(1)
    torch.testing.assert_close(log_density.double(), expected, rtol=1e-3, atol=1e-3)
    assert actions.abs().max() < 1
    assert sac.LOG_STD_MIN <= log_std.min() <= log_std.max() <= sac.LOG_STD_MAX


def test_critic_loss_against_a_reference_in_double_precision(batch):
    networks = make_networks("small")
    with torch.no_grad():
        networks.log_temperature.fill_(np.log(0.3))
        for parameter in networks.target.parameters():
            parameter.add_(0.02)
    _, features = networks.encode(batch.observations)
    reference = copy.deepcopy(networks)
    torch.manual_seed(5)
    found = sac.update_critic(networks, sac.make_optimizers(networks, 1e-3)["critic"], batch, features, gamma=0.9)

    torch.manual_seed(5)
    next_features, _ = reference.encode_next(batch.next_observations)
    next_actions, next_log_density = (x.detach() for x in reference.actor.sample(next_features))
    next_q = reference.target(next_features, next_actions).detach().double().numpy()
    q = reference.critic(features, batch.actions).detach().double().numpy()
    loss = 0.0
    for i in range(6):
        target = float(batch.rewards[i])
        if not batch.terminated[i]:
            target += 0.9 * (min(next_q[i]) - 0.3 * float(next_log_density[i]))
        loss += sum((q[i, critic] - target) ** 2 for critic in range(2)) / 6
    assert found["loss/critic"].item() == pytest.approx(loss, rel=1e-5)
    assert found["value/q"].item() == pytest.approx(q.mean(), rel=1e-5)


def test_what_follows_a_termination_does_not_count_and_what_follows_a_truncation_does(batch):
    def loss(terminated: float, next_byte: int) -> float:
        networks = make_networks("small")
        packed = torch.full_like(batch.next_observations["packed"], next_byte)
        next_observations = {**batch.next_observations, "packed": packed}
        changed = batch._replace(next_observations=next_observations, terminated=torch.full((6,), terminated))
        _, features = networks.encode(changed.observations)
        torch.manual_seed(0)
        optimizer = sac.make_optimizers(networks, 1e-3)["critic"]
        return sac.update_critic(networks, optimizer, changed, features, 0.99)["loss/critic"].item()

    assert loss(terminated=1.0, next_byte=0) == loss(terminated=1.0, next_byte=255)
    assert loss(terminated=0.0, next_byte=0) != loss(terminated=0.0, next_byte=255)


def test_actor_loss_is_temperature_times_log_density_minus_the_smaller_value(batch):
    networks = make_networks("small")
    actor_features, critic_features = networks.encode(batch.observations)
    torch.manual_seed(3)
    actions, log_density = networks.actor.sample(actor_features)
    q = networks.critic(critic_features, actions)
    expected = (0.1 * log_density - torch.minimum(q[:, 0], q[:, 1])).mean().item()
    torch.manual_seed(3)
    found = sac.update_actor(networks, sac.make_optimizers(networks, 1e-3)["actor"], actor_features, critic_features)
    assert found["loss/actor"].item() == pytest.approx(expected, rel=1e-5)
    assert found["value/entropy"].item() == pytest.approx(-log_density.mean().item(), rel=1e-5)


@pytest.mark.parametrize(("entropy", "direction"), [(-3.0, 1), (-1.0, -1)])
def test_temperature_rises_below_the_target_entropy_and_falls_above(entropy, direction):
    networks = make_networks("small")
    optimizer = sac.make_optimizers(networks, 1e-2)["temperature"]
    before = networks.log_temperature.item()
    found = sac.update_temperature(networks, optimizer, torch.tensor(entropy), target_entropy=-2.0)
    assert np.sign(networks.log_temperature.item() - before) == direction
    assert found["value/temperature"].item() == pytest.approx(0.1)


def test_targets_move_by_tau():
    networks = make_networks("small")
    with torch.no_grad():
        networks.target.first[1].bias.fill_(1.0)
        networks.critic.first[1].bias.fill_(3.0)
    networks.move_targets(0.25)
    assert networks.target.first[1].bias.item() == pytest.approx(1.5)


def test_warm_up_actions_accelerate_and_steer_little():
    torch.manual_seed(0)
    actions = sac.warm_up_actions(20_000)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    # The mean of the larger of two uniform draws from [-1, 1] is 1/3; of the size of a product of two, 1/4.
    assert actions[:, 0].mean() == pytest.approx(1 / 3, abs=0.02)
    assert actions[:, 1].mean() == pytest.approx(0, abs=0.02)
    assert np.abs(actions[:, 1]).mean() == pytest.approx(1 / 4, abs=0.02)


def test_no_stored_transition_crosses_an_episode_boundary(short_sac, monkeypatch):
    kept: list[ReplayBuffer] = []

    class WatchedBuffer(ReplayBuffer):
        def __init__(self, *args):
            super().__init__(*args)
            kept.append(self)

    monkeypatch.setattr(sac, "ReplayBuffer", WatchedBuffer)
    sac.train(dataclasses.replace(short_sac, env_args=("steps=7",), batch_size=2))
    (buffer,) = kept
    batch = buffer[np.arange(len(buffer))]
    # The toy road's state begins with environment, episode and step.
    now, after = batch.observations["state"], batch.next_observations["state"]
    np.testing.assert_array_equal(after[:, :2], now[:, :2])
    np.testing.assert_array_equal(after[:, 2], now[:, 2] + 1)
    ends_in_time = (after[:, 2] == 7) & (batch.terminated == 0)
    assert ends_in_time.any(), "no truncated episode was stored"
    assert len(np.unique(now[:, 1])) > 3


def test_load_policy_acts_as_the_trained_actor(short_sac, toy_road, monkeypatch):
    policies: list[sac.Policy] = []
    original = sac.Networks.policy
    monkeypatch.setattr(sac.Networks, "policy", lambda self: policies.append(original(self)) or policies[-1])
    folder = sac.train(short_sac)
    envs = make_envs(toy_road, 3, ())
    first, _ = envs.reset(seed=1)
    policy = sac.load_policy(folder)
    actions = policy(first)
    assert actions.shape == (3, 2)
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, policies[-1].act(first))
    np.testing.assert_array_equal(actions, policy(first))


@pytest.mark.parametrize(("encoder", "parameters"), [("small-separate", 470_640), ("found-rl", 1_198_336)])
def test_an_encoder_of_the_actors_own_trains_and_loads(encoder, parameters, short_sac, toy_road):
    folder = sac.train(dataclasses.replace(short_sac, encoder=encoder, total_steps=60, batch_size=2))
    first, _ = make_envs(toy_road, 1, ()).reset(seed=1)
    assert np.isfinite(sac.load_policy(folder)(first)).all()
    assert sum(tensor.numel() for tensor in load_file(folder / "policy.safetensors").values()) == parameters + 132_612


def test_an_unknown_encoder_is_refused(short_sac):
    with pytest.raises(ValueError, match="encoder 'lite' is unknown; choose one of small, small-separate, found-rl"):
        sac.train(dataclasses.replace(short_sac, encoder="lite"))
    assert not Path(short_sac.runs).exists()


def test_it_learns_to_stay_on_the_toy_road(toy_road, tmp_path):
    args = sac.Args(
        env_id=toy_road, runs=str(tmp_path), total_steps=1_000, batch_size=32, learning_starts=400, gamma=0.9
    )
    folder = sac.train(args)
    policy = sac.load_policy(folder)
    envs = make_envs(toy_road, 8, ())

    def mean_return(act) -> float:
        torch.manual_seed(0)
        current, _ = envs.reset(seed=list(range(8)))
        total, running = np.zeros(8), np.ones(8, bool)
        for _ in range(60):
            current, rewards, terminated, truncated, _ = envs.step(act(current))
            total += rewards * running
            running &= ~(terminated | truncated)
        return total.mean()

    assert mean_return(policy) > mean_return(lambda _: sac.warm_up_actions(8)) + 5
