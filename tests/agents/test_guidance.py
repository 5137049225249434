"""What hints change: the margin loss (VMR) and the guidance loss (AWAG), against references in double precision."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from mentorgym.agents import drqv2_awag, drqv2_vmr, sac_awag, sac_vmr
from mentorgym.agents.toolbox import cosine, linear

VMR = [sac_vmr, drqv2_vmr]
AWAG = [sac_awag, drqv2_awag]


def name_of(agent) -> str:
    return agent.__name__.split(".")[-1]


def make_networks(agent):
    torch.manual_seed(0)
    networks = agent.Networks("small", 0.3 if agent in (sac_vmr, sac_awag) else (32, 32))
    if agent in (drqv2_vmr, drqv2_awag):
        networks.actor.noise = 0.4
    with torch.no_grad():
        # So that values differ by more than the advantages' threshold, and the targets from the critics.
        for parameter in networks.critic.parameters():
            parameter.mul_(2)
        for parameter in networks.target.parameters():
            parameter.add_(0.02)
    return networks


def in_double(networks, *features):
    """The heads of `networks` and these features, detached, in float64."""
    return copy.deepcopy(networks).double(), *(each.detach().double() for each in features)


def test_a_cosine_falls_from_start_to_end():
    # Found-RL's released schedule: 0.03 to 0 over 300 000 steps with exponent 0.7.
    found = [
        cosine(0.03, 0.0, step / 300_000, 0.7) for step in (0, 50_000, 100_000, 150_000, 200_000, 300_000, 400_000)
    ]
    np.testing.assert_allclose(found, [0.03, 0.0244, 0.0167, 0.0097, 0.0043, 0, 0], atol=5e-5)
    assert cosine(2.0, 1.0, 0.25, 1.0) == pytest.approx(1 + (1 + math.sqrt(0.5)) / 2)


def test_a_line_falls_from_start_to_end_and_stays():
    found = [linear(1.0, 0.1, share) for share in (-1, 0, 0.5, 1, 2)]
    np.testing.assert_allclose(found, [1, 1, 0.55, 0.1, 0.1])


@pytest.mark.parametrize("agent", VMR, ids=name_of)
def test_the_margins_weight(agent):
    steps = (0, 50_000, 75_000, 100_000, 150_000, 900_000)
    released = agent.Args(total_steps=1_000_000, hint_schedule="linear")
    np.testing.assert_allclose([agent.hint_weight(released, s) for s in steps], [1, 1, 0.75, 0.5, 0, 0], atol=1e-9)
    paper = agent.Args(total_steps=1_000_000, hint_exponent=2.0, hint_weight=3.0)
    expected = [1.5 * (1 + math.cos(math.pi * min(s / 150_000, 1) ** 2)) for s in steps]
    np.testing.assert_allclose([agent.hint_weight(paper, s) for s in steps], expected)
    half = agent.Args(total_steps=1_000, hint_horizon=0.5, hint_exponent=1.0)
    assert agent.hint_weight(half, 250) == pytest.approx(0.5)
    assert agent.hint_weight(agent.Args(hint_horizon=0.0), 1) == 0
    with pytest.raises(ValueError, match="hint_schedule 'cosin' is unknown; choose one of cosine, linear"):
        agent.Args(hint_schedule="cosin")


@pytest.mark.parametrize(("agent", "weights"), [(sac_awag, [0.01] * 4), (drqv2_awag, [0.03, 0.0097, 0, 0])])
def test_the_guidances_weight(agent, weights):
    args = agent.Args(total_steps=1_000_000)
    steps = (0, 150_000, 300_000, 900_000)
    np.testing.assert_allclose([agent.hint_weight(args, step) for step in steps], weights, atol=5e-5)


def test_the_margin_loss_counts_hints_alone_and_holds_the_taken_action_fixed():
    generator = np.random.default_rng(0)
    q_hint, q = (torch.tensor(generator.normal(size=(5, 2)), requires_grad=True) for _ in range(2))
    mask = torch.tensor([1.0, 0, 1, 1, 0])
    loss = sac_vmr.margin_loss(q_hint, q, mask, 2.0)
    rows = [(i, critic) for i in (0, 2, 3) for critic in range(2)]
    assert loss.item() == pytest.approx(sum((q_hint[at] - q[at] - 2).item() ** 2 / 5 for at in rows))
    loss.backward()
    assert q.grad is None
    expected = np.zeros((5, 2))
    for at in rows:
        expected[at] = 2 * (q_hint[at] - q[at] - 2).item() / 5
    np.testing.assert_allclose(q_hint.grad, expected)


@pytest.mark.parametrize("agent", VMR, ids=name_of)
def test_the_critics_step_is_half_the_error_and_the_weighted_margin(agent, batch):
    networks = make_networks(agent)
    _, features = networks.encode(batch.observations)
    args = agent.Args(gamma=0.9, margin=1.5)
    reference, features64 = in_double(networks, features)
    torch.manual_seed(5)
    optimizer = agent.make_optimizers(networks, 1e-3)["critic"]
    before = copy.deepcopy(networks)
    found = agent.update_critic(networks, optimizer, batch, features, args, 0.7)

    torch.manual_seed(5)
    with torch.no_grad():
        next_features, _ = before.encode_next(batch.next_observations)
        if agent is sac_vmr:
            actions, log_density = before.actor.sample(next_features)
            discounts, bonus = torch.full((6,), 0.9), -0.3 * log_density
        else:
            actions, bonus, discounts = before.actor.sample(next_features, args.noise_clip), 0, batch.discounts
        next_q = before.target(next_features, actions).min(1).values
        target = (batch.rewards + discounts * (1 - batch.terminated) * (next_q + bonus)).double()
    q = reference.critic(features64, batch.actions.double())
    q_hint = reference.critic(features64, batch.hints.double())
    error, margin = 0.0, 0.0
    for i in range(6):
        for critic in range(2):
            error = error + (q[i, critic] - target[i]) ** 2 / 6
            if batch.hint_mask[i]:
                margin = margin + (q_hint[i, critic] - (q[i, critic].detach() + 1.5)) ** 2 / 6
    (0.5 * error + 0.7 * margin).backward()
    assert found["loss/critic"].item() == pytest.approx(error.item(), rel=1e-5)
    assert found["loss/vmr"].item() == pytest.approx(margin.item(), rel=1e-5)
    for ours, theirs in zip(networks.critic.parameters(), reference.critic.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("agent", AWAG, ids=name_of)
def test_guidance_follows_the_advantage_and_leaves_worse_hints_out(agent):
    advantages = torch.tensor([1.0, 4.0, 6.0, 60.0, 1e4, -1.0, 0.0, 3.0])
    mask = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 0])
    weights = [1.6487, 7.3891, 20, 20, 20]
    for i, weight in enumerate(weights):
        log_density = torch.zeros(8)
        log_density[i] = -1.0
        loss = agent.guidance_loss(log_density, advantages, mask, agent.Args())
        # Five hints count, and the mean is over them.
        assert loss.item() == pytest.approx(weight / 5, rel=1e-4)
    for i in (5, 6, 7):
        log_density = torch.zeros(8)
        log_density[i] = -1e3
        assert agent.guidance_loss(log_density, advantages, mask, agent.Args()) == 0


@pytest.mark.parametrize("agent", AWAG, ids=name_of)
def test_without_the_filter_every_hint_counts(agent):
    advantages = torch.tensor([1.0, 1e4, -1.0, 0.0, 3.0])
    mask = torch.tensor([1.0, 1, 1, 1, 0])
    for i, weight in enumerate([1.6487, 20, 0.6065, 1, 0]):
        log_density = torch.zeros(5)
        log_density[i] = -1.0
        loss = agent.guidance_loss(log_density, advantages, mask, agent.Args(q_filter=False))
        assert loss.item() == pytest.approx(weight / 4, rel=1e-4)


@pytest.mark.parametrize("agent", AWAG, ids=name_of)
def test_without_a_hint_that_counts_there_is_no_guidance(agent):
    log_density = torch.tensor([-3.0, -4.0], requires_grad=True)
    loss = agent.guidance_loss(log_density, torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0]), agent.Args())
    loss.backward()
    assert loss == 0
    assert not log_density.grad.any()


def test_a_hints_density_under_sacs_actor_is_the_squashed_gaussians():
    actor = make_networks(sac_awag).actor
    features = torch.randn(4, 256)
    actions = torch.tensor([[0.3, -0.9], [0.0, 0.5], [1.0, -1.0], [0.9995, 0.0]])
    mean, log_std = (each.double() for each in actor(features))
    squashed = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform()])
    expected = squashed.log_prob(actions.double().clamp(-0.999, 0.999)).sum(1)
    torch.testing.assert_close(actor.log_density(features, actions).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_hints_density_under_drqv2s_actor_is_the_noises():
    actor = make_networks(drqv2_awag).actor
    features = torch.randn(4, 256)
    actions = torch.tensor([[0.3, -0.9], [0.0, 0.5], [1.0, -1.0], [0.9995, 0.0]])
    mean = actor(features).double()
    expected = (-((actions - mean) ** 2) / (2 * 0.4**2) - math.log(0.4 * math.sqrt(2 * math.pi))).sum(1)
    torch.testing.assert_close(actor.log_density(features, actions).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("agent", AWAG, ids=name_of)
def test_the_actors_step_is_its_own_loss_and_the_weighted_guidance(agent, batch):
    networks = make_networks(agent)
    actor_features, critic_features = (each.detach() for each in networks.encode(batch.observations))
    args = agent.Args()
    reference, features64 = in_double(networks, actor_features)
    optimizer = agent.make_optimizers(networks, 1e-3)["actor"]
    before = copy.deepcopy(networks)
    torch.manual_seed(5)
    found = agent.update_actor(networks, optimizer, batch, actor_features, critic_features, args, 0.7)

    torch.manual_seed(5)
    noise = torch.randn(6, 2)
    mean64 = reference.actor(features64)
    if agent is sac_awag:
        mean64, log_std64 = mean64
        density = TransformedDistribution(Normal(mean64, log_std64.exp()), [TanhTransform(cache_size=1)])
        actions = torch.tanh(mean64 + log_std64.exp() * noise)
        q = reference.critic(features64, actions)
        loss = sum(0.3 * density.log_prob(actions)[i].sum() - q[i].min() for i in range(6)) / 6
        own, hint_density = torch.tanh(mean64), density.log_prob(batch.hints.double().clamp(-0.999, 0.999))
    else:
        q = reference.critic(features64, (mean64 + (0.4 * noise).clamp(-0.3, 0.3)).clamp(-1, 1))
        size = reference.critic(features64, batch.actions.double())[:, 0].abs().mean().item()
        loss = sum(-2.5 / size * q[i].min() for i in range(6)) / 6
        own, hint_density = mean64, Normal(mean64, 0.4).log_prob(batch.hints.double())
    q_own, q_hint = (reference.critic(features64, each.double()).detach() for each in (own, batch.hints))
    terms = []
    for i in range(6):
        advantage = (q_hint[i].min() - q_own[i].min()).item()
        if batch.hint_mask[i] and advantage > 0:
            terms.append(-min(math.exp(advantage / 2), 20) * hint_density[i].sum())
    assert 0 < len(terms) < batch.hint_mask.sum(), "the batch should have hints that count and hints that do not"
    guidance = sum(terms) / len(terms)
    (loss + 0.7 * guidance).backward()
    assert found["loss/actor"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert found["loss/awag"].item() == pytest.approx(guidance.item(), rel=1e-4)
    assert found["hint/gated"].item() == pytest.approx(len(terms) / 6)
    for ours, theirs in zip(networks.actor.parameters(), reference.actor.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(networks.critic.parameters(), before.critic.parameters(), strict=True):
        assert torch.equal(ours, theirs)
