"""TD3's formulas against independent references: smoothed targets, the smaller value, the delayed actor."""

import copy

import pytest
import torch

from mentorgym.agents import td3


def make_networks(encoder: str = "small", hidden: tuple[int, ...] = (32, 32)) -> td3.Networks:
    torch.manual_seed(0)
    return td3.Networks(encoder, hidden)


def test_found_rl_sizes():
    networks = td3.Networks(td3.PRESETS["found-rl"]["encoder"], td3.PRESETS["found-rl"]["hidden"])
    # Actor and critics with their targets.
    assert sum(parameter.numel() for parameter in networks.policy().parameters()) == 1_422_038
    assert sum(parameter.numel() for parameter in networks.parameters()) == 2 * (1_422_038 + 1_646_738)


@pytest.mark.parametrize("encoder", ["small", "small-separate", "found-rl"])
def test_the_actor_and_the_targets_move_at_every_second_update(encoder, batch, moved):
    networks = make_networks(encoder)
    optimizers = td3.make_optimizers(networks, 1e-3)
    critics = {"encoder", "critic"}
    late = {"actor", "target", "target_actor"}
    if encoder != "small":
        late |= {"actor_encoder", "target_encoder", "target_actor_encoder"}
    for expected in (critics, critics | late, critics, critics | late):
        before = copy.deepcopy(networks)
        losses = td3.update(networks, optimizers, batch, td3.Args())
        assert moved(before, networks) == expected
        assert ("loss/actor" in losses) == (expected != critics)


def test_an_actor_leaves_the_encoder_that_it_shares_alone(batch):
    networks = make_networks()
    actor_features, critic_features = networks.encode(batch.observations)
    td3.update_actor(networks, td3.make_optimizers(networks, 1e-3)["actor"], actor_features, critic_features)
    assert all(parameter.grad is None for parameter in networks.encoder.parameters())


@pytest.mark.parametrize(("noise", "clip"), [(0.2, 0.5), (3.0, 0.5), (0.0, 0.5)])
def test_critic_loss_against_a_reference_in_double_precision(noise, clip, batch):
    networks = make_networks()
    with torch.no_grad():
        for part in (networks.target, networks.target_actor):
            for parameter in part.parameters():
                parameter.add_(0.03)
    _, features = networks.encode(batch.observations)
    reference = copy.deepcopy(networks)
    args = td3.Args(gamma=0.9, target_noise=noise, target_noise_clip=clip)
    torch.manual_seed(5)
    found = td3.update_critic(networks, td3.make_optimizers(networks, 1e-3)["critic"], batch, features, args)

    torch.manual_seed(5)
    with torch.no_grad():
        next_features, _ = reference.encode_next(batch.next_observations)
        mean = reference.target_actor(next_features)
        smoothed = torch.clamp(mean + torch.clamp(noise * torch.randn(6, 2), -clip, clip), -1, 1)
        assert (smoothed - mean).abs().max() <= clip + 1e-6
        next_q = reference.target(next_features, smoothed).double()
        q = reference.critic(features, batch.actions).double()
    loss = 0.0
    for i in range(6):
        target = batch.rewards[i].item() + (0 if batch.terminated[i] else 0.9 * next_q[i].min().item())
        loss += sum((q[i, critic].item() - target) ** 2 for critic in range(2)) / 6
    assert found["loss/critic"].item() == pytest.approx(loss, rel=1e-5)


def test_actor_loss_is_the_first_critics_value_negated(batch):
    networks = make_networks()
    actor_features, critic_features = networks.encode(batch.observations)
    q = networks.critic(critic_features, networks.actor(actor_features)).detach().double()
    optimizer = td3.make_optimizers(networks, 1e-3)["actor"]
    found = td3.update_actor(networks, optimizer, actor_features, critic_features)
    assert found["loss/actor"].item() == pytest.approx(-q[:, 0].mean().item(), rel=1e-5)


def test_noise_when_acting():
    actor = make_networks().actor
    features = torch.zeros(20_000, 256)
    assert torch.equal(actor.act(features, explore=True), actor(features))
    actor.exploration_noise = 0.1
    noise = actor.act(features, explore=True) - actor(features)
    assert noise.std().item() == pytest.approx(0.1, rel=0.03)
    assert torch.equal(actor.act(features, explore=False), actor(features))


def test_a_resumed_run_goes_on_counting_updates(short_flags, monkeypatch):
    networks: list[td3.Networks] = []
    original = td3.Networks

    def watched(*args):
        networks.append(original(*args))
        return networks[-1]

    monkeypatch.setattr(td3, "Networks", watched)
    td3.train(short_flags(td3, total_steps=82))
    assert networks[0].updates == (82 - 40) // 2 + 1
