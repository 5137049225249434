"""DrQ-v2's formulas against independent references, and Found-RL's variant of it."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mentorgym.agents import drqv2
from mentorgym.agents.toolbox import make_envs, unpack


def make_networks(encoder: str = "small", hidden: tuple[int, ...] = (32, 32)) -> drqv2.Networks:
    torch.manual_seed(0)
    networks = drqv2.Networks(encoder, hidden)
    networks.actor.noise = 0.4
    return networks


def count_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_found_rl_sizes():
    # Found-RL's networks: an actor of 1 422 038, two critics with one extractor of 1 646 738, targets of the critics.
    networks = drqv2.Networks(drqv2.PRESETS["found-rl"]["encoder"], drqv2.PRESETS["found-rl"]["hidden"])
    assert count_parameters(networks.encoder) == 1_198_336
    assert count_parameters(networks.policy()) == 1_422_038
    assert count_parameters(networks.encoder) + count_parameters(networks.critic) == 1_646_738
    assert count_parameters(networks) == 4_715_514


@pytest.mark.parametrize("encoder", ["small", "small-separate", "found-rl"])
def test_each_update_moves_every_parameter_of_its_own_and_no_other(encoder, batch, moved):
    networks = make_networks(encoder)
    args = drqv2.Args()
    optimizers = drqv2.make_optimizers(networks, 1e-3)
    actor_features, critic_features = networks.encode(batch.observations)
    own = encoder != "small"

    def after(step) -> set[str]:
        before = copy.deepcopy(networks)
        step()
        return moved(before, networks)

    assert after(lambda: drqv2.update_critic(networks, optimizers["critic"], batch, critic_features, args)) == {
        "encoder",
        "critic",
    }
    # The actor leaves an encoder that it shares alone.
    assert after(lambda: drqv2.update_actor(networks, optimizers["actor"], actor_features, critic_features, args)) == (
        {"actor", "actor_encoder"} if own else {"actor"}
    )
    assert after(lambda: networks.move_targets(0.01)) == ({"target", "target_encoder"} if own else {"target"})


def test_actions_in_updates_have_clipped_noise_and_gradients_at_the_bounds():
    actor = make_networks().actor
    features = torch.randn(2_000, 256)
    mean = actor(features)
    torch.manual_seed(1)
    found = actor.sample(features, 0.3)
    torch.manual_seed(1)
    expected = (mean + (0.4 * torch.randn(2_000, 2)).clamp(-0.3, 0.3)).clamp(-1 + 1e-6, 1 - 1e-6)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        actor.mean[-2].bias.copy_(torch.tensor([3.0, -3.0]))
    actor.zero_grad()
    actions = actor.sample(features, 0.3)
    assert (actions.abs() > 0.999).any()
    actions[:, 0].sum().backward()
    assert actor.mean[-2].bias.grad[0] == pytest.approx((1 - actor(features)[:, 0] ** 2).sum().item(), rel=1e-4)


def test_noise_when_acting_has_the_scheduled_size():
    actor = make_networks().actor
    actor.noise = 0.2
    features = torch.zeros(20_000, 256)
    noise = actor.act(features, explore=True) - actor(features)
    assert noise.std().item() == pytest.approx(0.2, rel=0.03)
    assert torch.equal(actor.act(features, explore=False), actor(features))


def test_critic_loss_against_a_reference_in_double_precision(batch):
    networks = make_networks()
    with torch.no_grad():
        for parameter in networks.target.parameters():
            parameter.add_(0.02)
    _, features = networks.encode(batch.observations)
    reference = copy.deepcopy(networks)
    torch.manual_seed(5)
    optimizer = drqv2.make_optimizers(networks, 1e-3)["critic"]
    found = drqv2.update_critic(networks, optimizer, batch, features, drqv2.Args())

    torch.manual_seed(5)
    with torch.no_grad():
        next_features, _ = reference.encode_next(batch.next_observations)
        noise = (0.4 * torch.randn(6, 2)).clamp(-0.3, 0.3)
        next_q = reference.target(next_features, (reference.actor(next_features) + noise).clamp(-1, 1)).double()
        q = reference.critic(features, batch.actions).double()
    loss = 0.0
    for i in range(6):
        target = batch.rewards[i].double()
        if not batch.terminated[i]:
            # The rewards of several steps are summed already; a value after them is discounted as often.
            target = target + batch.discounts[i].double() * next_q[i].min()
        loss += ((q[i] - target) ** 2).sum().item() / 6
    assert found["loss/critic"].item() == pytest.approx(loss, rel=1e-5)


def test_actor_loss_is_the_smaller_value_negated(batch):
    networks = make_networks()
    actor_features, critic_features = networks.encode(batch.observations)
    torch.manual_seed(5)
    q = networks.critic(critic_features, networks.actor.sample(actor_features, 0.3)).detach().double().numpy()
    torch.manual_seed(5)
    optimizer = drqv2.make_optimizers(networks, 1e-3)["actor"]
    found = drqv2.update_actor(networks, optimizer, actor_features, critic_features, drqv2.Args())
    assert found["loss/actor"].item() == pytest.approx(-np.mean([min(row) for row in q]), rel=1e-5)


def test_gradients_are_clipped_where_asked(batch):
    def largest(max_grad_norm: float) -> float:
        networks = make_networks()
        optimizer = drqv2.make_optimizers(networks, 1e-3)["critic"]
        _, features = networks.encode(batch.observations)
        args = drqv2.Args(max_grad_norm=max_grad_norm)
        drqv2.update_critic(networks, optimizer, batch._replace(rewards=100 * batch.rewards), features, args)
        norms = [p.grad.norm() for part in (networks.critic, networks.encoder) for p in part.parameters()]
        return torch.stack(norms).norm().item()

    assert largest(1.0) == pytest.approx(1.0, rel=1e-3)
    assert largest(0.0) > 2


def test_pictures_move_by_up_to_four_pixels_each_on_its_own(batch):
    many = {"packed": batch.observations["packed"][:1].repeat(300, 1), "state": torch.zeros(300, 10)}
    torch.manual_seed(0)
    moved_picture = drqv2.augment(many, "shift")
    assert moved_picture["state"] is many["state"]
    # Of 81 shifts, 300 draws find nearly all.
    centre = unpack(many["packed"])[0, :, 4:-4, 4:-4]
    pictures = unpack(moved_picture["packed"])
    found = set()
    for picture in pictures:
        places = [
            (y, x)
            for y in range(-4, 5)
            for x in range(-4, 5)
            if torch.equal(picture[:, 4 - y : 92 - y, 4 - x : 92 - x], centre)
        ]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 70
    assert {y for y, _ in found} == {x for _, x in found} == set(range(-4, 5))


def test_found_rls_pictures_are_shifted_or_turned_and_get_black_edges(batch):
    white = {"packed": torch.full_like(batch.observations["packed"], 255)}
    torch.manual_seed(0)
    for kind in ("black shift", "rotation"):
        pictures = unpack(drqv2.augment(white, kind)["packed"])
        black = (pictures == 0).float().mean((1, 2, 3))
        assert 0 < black.mean() < 0.1
        assert len(set(black.tolist())) > 3
        assert (pictures[:, :, 30:66, 30:66] == 255).all()


def test_noise_falls_over_its_horizon(short_flags, monkeypatch):
    noises: list[float] = []
    original = drqv2.Policy.act
    monkeypatch.setattr(
        drqv2.Policy,
        "act",
        lambda self, *args, **kwargs: noises.append(self.actor.noise) or original(self, *args, **kwargs),
    )
    drqv2.train(short_flags(drqv2, noise_horizon=0.5, learning_starts=2, batch_size=2, total_steps=40))
    steps = np.arange(2, 40, 2)
    np.testing.assert_allclose(noises, np.maximum(1 - 0.9 * steps / 20, 0.1))


def test_found_rls_variant_trains_without_noise_and_loads(short_flags, toy_road, monkeypatch):
    explored: list[bool] = []
    original = drqv2.Policy.act

    def watched(self, observations, explore=False):
        explored.append(explore)
        return original(self, observations, explore)

    monkeypatch.setattr(drqv2.Policy, "act", watched)
    short = short_flags(drqv2, total_steps=44, batch_size=2)
    keep = ("num_envs", "buffer_size", "batch_size", "learning_starts")
    changes = {name: value for name, value in drqv2.PRESETS["found-rl"].items() if name not in keep}
    folder = drqv2.train(dataclasses.replace(short, **changes))
    assert explored and not any(explored)
    first, _ = make_envs(toy_road, 1, ()).reset(seed=1)
    assert np.isfinite(drqv2.load_policy(folder)(first)).all()
    assert sum(tensor.numel() for tensor in load_file(folder / "policy.safetensors").values()) == 1_422_038


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"encoder": "lite"}, "encoder 'lite' is unknown"),
        ({"augmentation": "crop"}, "augmentation 'crop' is unknown; choose one of shift, found-rl"),
    ],
)
def test_unknown_names_are_refused(short_flags, flags, message):
    with pytest.raises(ValueError, match=message):
        drqv2.train(short_flags(drqv2, **flags))
