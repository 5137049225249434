"""Soft actor-critic (SAC) on bird's-eye masks and a state vector, for `CarlaNoCrash-v0`.

Documentation: `docs/agents/sac.md`.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (arXiv 1812.05905): a squashed-Gaussian actor, two
critics, a learned temperature with target entropy minus the number of actions. What differs:

- By default one small encoder serves actor and critics; the critics' loss alone trains it, and the target critics read
  it as it is, without a target copy (as in DrQ-v2, Yarats et al., arXiv 2107.09645). `--encoder small-separate` gives
  the actor, the critics and their targets one each: the actor's loss shapes what it sees, and an update takes 1.7 times
  as long. `--encoder found-rl` is Found-RL's extractor: larger, one each as well.
- One pass through the critics' encoder serves both updates, so the actor sees features that are one gradient step old.
- Warm-up actions accelerate more than they brake and seldom steer hard: uniform ones hardly leave the spot, and a car
  that stands still earns about 0, which is a local optimum.
- `--clip-reward` adds Found-RL's bonus for actions that match what a CLIP scorer sees (its paper, section 4.3) to the
  rewards as they are drawn from the replay buffer.

    mentorgym train sac --env-args town=Suburb traffic=empty --seed 3
"""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mentorgym.agents.toolbox import (
    ACTION_SIZE,
    CHANNELS,
    FOUND_RL,
    STATE_SIZE,
    Batch,
    PatchConvolution,
    Recorder,
    ReplayBuffer,
    Run,
    linear,
    make_envs,
    mentor_metrics,
    mlp,
    pack_observations,
    parse_keywords,
    run_program,
    set_learning_rate,
    start_torch,
    to_tensors,
    unpack,
)
from mentorgym.tensors import load_tensors
from mentorgym.wrappers.vector import ClipReward

FEATURES = 256
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


@dataclasses.dataclass
class Args:
    """Flags of soft actor-critic (SAC).

    Rerunning the same command continues the run from its last checkpoint.
    """

    env_id: str = "CarlaNoCrash-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: town=Suburb traffic=dense"""
    num_envs: int = 8
    """environments that step together"""
    seed: int = 0
    """seed of the environments, networks, actions and batches"""
    total_steps: int = 1_000_000
    """environment steps, all environments together"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    device: str = "cpu"
    """torch device of the networks"""
    torch_threads: int = 1
    """threads of torch on the CPU; with 1, runs side by side do not fight over the cores"""
    log_every: int = 1_000
    """environment steps between two lines of losses and speed"""
    checkpoint_every: int = 50_000
    """environment steps between two checkpoints"""

    encoder: str = "small"
    """image encoder: small (one for all), small-separate (one each for actor and critics), or found-rl (the paper's)"""
    buffer_size: int = 100_000
    """transitions in the replay buffer, about 26 kB each"""
    batch_size: int = 128
    """transitions in a batch"""
    learning_starts: int = 1_000
    """environment steps with warm-up actions before the first update"""
    updates_per_step: int = 1
    """gradient updates after each step of all environments"""
    learning_rate: float = 5e-4
    """learning rate of all networks and the temperature (Adam)"""
    anneal: bool = False
    """let the learning rate fall linearly, to 0 at the end"""
    gamma: float = 0.99
    """discount factor a step of 0.1 s"""
    tau: float = 0.01
    """share of the critics that moves into the target critics at each update"""
    initial_temperature: float = 0.1
    """weight of the entropy at the start"""
    target_entropy: float = -float(ACTION_SIZE)
    """entropy of the policy, in nats, that the temperature steers to"""

    clip_reward: str = ""
    """who scores the actions: clip, clip:<folder or hub name>, openclip:<name>, module:callable; empty for nobody"""
    clip_args: tuple[str, ...] = ()
    """the scorer's keyword arguments, as in: device=cuda"""
    clip_scale: float = 0.25
    """largest bonus"""


PRESETS = {"found-rl": FOUND_RL | {"initial_temperature": 1.0}}
"""What `--preset found-rl` changes: the constants of Found-RL's released code."""


class SmallEncoder(nn.Module):
    """Masks `packed` uint8 [B, 25344] and `state` float32 [B, 10] to features [B, 256].

    The first convolution takes patches of 4 x 4 pixels (1.6 m), and the packed masks as they are.
    """

    # Velocities (4, 5) reach about 10 m/s and the light's code (6) reaches 3; the rest is within [-1, 1].
    STATE_SCALE = (1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 1 / 3, 1.0, 1.0, 1.0)
    state_scale: torch.Tensor

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            PatchConvolution(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.masks = nn.Sequential(nn.Linear(64 * 6 * 6, FEATURES - 64), nn.LayerNorm(FEATURES - 64), nn.Tanh())
        self.state = nn.Sequential(nn.Linear(STATE_SIZE, 64), nn.Tanh())
        self.register_buffer("state_scale", torch.tensor(self.STATE_SCALE), persistent=False)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        masks = self.masks(self.convolutions(observations["packed"]))
        return torch.cat([masks, self.state(observations["state"] * self.state_scale)], dim=1)


class FoundRLEncoder(nn.Module):
    """Found-RL's extractor (its code's `Lite`): `packed` uint8 [B, 25344] and `state` [B, 10] to features [B, 256]."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        channels = (CHANNELS, 32, 64, 128, 256)
        for inputs, outputs in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        self.masks = nn.Sequential(*layers, nn.Conv2d(channels[-1], 64, 1), nn.ReLU(), nn.Flatten())
        self.state = mlp(STATE_SIZE, 256, 256)
        self.fuse = mlp(64 * 6 * 6 + 256, 256, FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight, nn.init.calculate_gain("relu"))
                nn.init.zeros_(module.bias)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        masks = self.masks(unpack(observations["packed"]).float().div_(255))
        return self.fuse(torch.cat([masks, self.state(observations["state"])], dim=1))


ENCODERS: dict[str, tuple[type[nn.Module], bool]] = {
    "small": (SmallEncoder, True),
    "small-separate": (SmallEncoder, False),
    "found-rl": (FoundRLEncoder, False),
}
"""What the flag `encoder` names, and whether actor, critics and targets share one, or own one each."""


class Policy(nn.Module):
    """An encoder and the agent's actor behind it: all that is needed to drive."""

    def __init__(self, encoder: nn.Module, actor: Any):
        super().__init__()
        self.encoder, self.actor = encoder, actor

    @torch.no_grad()
    def act(self, observations: dict[str, np.ndarray], explore: bool = False) -> np.ndarray:
        """Actions float32 [N, 2] for `bev` uint8 [N, 15, 96, 96] and `state` float32 [N, 10]: sampled, or the best."""
        features = self.encoder(to_tensors(pack_observations(observations), next(self.parameters()).device))
        return self.actor.act(features, explore).cpu().numpy()


class Actor(nn.Module):
    """Features [B, F] to a Gaussian over A numbers, squashed into (-1, 1) by tanh."""

    def __init__(self):
        super().__init__()
        self.hidden = mlp(FEATURES, 256, 256)
        self.mean = nn.Linear(256, ACTION_SIZE)
        self.log_std = nn.Linear(256, ACTION_SIZE)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the standard deviation before squashing, each [B, A]."""
        hidden = self.hidden(features)
        share = (torch.tanh(self.log_std(hidden)) + 1) / 2
        return self.mean(hidden), LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * share

    def sample(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions [B, A] and their log-density [B], both differentiable (arXiv 1812.05905, appendix C)."""
        mean, log_std = self(features)
        normal = torch.distributions.Normal(mean, log_std.exp())
        unsquashed = normal.rsample()
        # log(1 - tanh(u)^2), written so that it does not overflow
        log_slope = 2 * (np.log(2) - unsquashed - F.softplus(-2 * unsquashed))
        return torch.tanh(unsquashed), (normal.log_prob(unsquashed) - log_slope).sum(1)

    def act(self, features: torch.Tensor, explore: bool) -> torch.Tensor:
        """Actions [B, A] in (-1, 1): sampled, or the mean, squashed."""
        return self.sample(features)[0] if explore else torch.tanh(self(features)[0])


class Critic(nn.Module):
    """Features [B, F] and actions [B, A] to the values of two critics [B, 2]."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(mlp(FEATURES + ACTION_SIZE, 256, 256), nn.Linear(256, 1)) for _ in range(2)
        )

    def forward(self, features: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        inputs = torch.cat([features, actions], dim=1)
        return torch.cat([self.first(inputs), self.second(inputs)], dim=1)


class Networks(nn.Module):
    """All that is learned: actor, critics, target critics, their encoders, and the temperature."""

    def __init__(self, encoder: str, initial_temperature: float):
        super().__init__()
        make_encoder, self.shares_encoder = ENCODERS[encoder]
        self.encoder = make_encoder()
        self.actor, self.critic = Actor(), Critic()
        self.target = copy.deepcopy(self.critic)
        if not self.shares_encoder:
            self.actor_encoder = make_encoder()
            self.target_encoder = copy.deepcopy(self.encoder)
        self.log_temperature = nn.Parameter(torch.tensor(float(np.log(initial_temperature))))

    def policy(self) -> Policy:
        """The part that acts."""
        return Policy(self.encoder if self.shares_encoder else self.actor_encoder, self.actor)

    def encode(self, observations: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The actor's and the critics' features, each [B, 256]; a shared encoder learns from the critics alone."""
        features = self.encoder(observations)
        return features.detach() if self.shares_encoder else self.actor_encoder(observations), features

    @torch.no_grad()
    def encode_next(self, observations: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The actor's and the target critics' features of next observations, each [B, 256]."""
        if self.shares_encoder:
            features = self.encoder(observations)
            return features, features
        return self.actor_encoder(observations), self.target_encoder(observations)

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """target <- (1 - tau) target + tau online."""
        pairs: list[tuple[nn.Module, nn.Module]] = [(self.target, self.critic)]
        if not self.shares_encoder:
            pairs.append((self.target_encoder, self.encoder))
        for target, online in pairs:
            torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)


def make_optimizers(networks: Networks, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
    """Adam for each of the three updates."""
    actor = [networks.actor] if networks.shares_encoder else [networks.actor, networks.actor_encoder]
    parameters = {
        "critic": [*networks.critic.parameters(), *networks.encoder.parameters()],
        "actor": [parameter for module in actor for parameter in module.parameters()],
        "temperature": [networks.log_temperature],
    }
    return {name: torch.optim.Adam(group, lr=learning_rate, fused=True) for name, group in parameters.items()}


def update_critic(
    networks: Networks, optimizer: torch.optim.Optimizer, batch: Batch, features: torch.Tensor, gamma: float
) -> dict[str, torch.Tensor]:
    """One step on the soft Bellman error (arXiv 1812.05905, eq. 5); `features` [B, F] are the critics'."""
    with torch.no_grad():
        actor_features, target_features = networks.encode_next(batch.next_observations)
        next_actions, next_log_density = networks.actor.sample(actor_features)
        next_q = networks.target(target_features, next_actions).amin(1)
        next_value = next_q - networks.log_temperature.exp() * next_log_density
        target = batch.rewards + gamma * (1 - batch.terminated) * next_value
    q = networks.critic(features, batch.actions)
    loss = ((q - target[:, None]) ** 2).mean(0).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss/critic": loss.detach(), "value/q": q.detach().mean()}


def update_actor(
    networks: Networks, optimizer: torch.optim.Optimizer, actor_features: torch.Tensor, critic_features: torch.Tensor
) -> dict[str, torch.Tensor]:
    """One step on the actor's loss (arXiv 1812.05905, eq. 7)."""
    actions, log_density = networks.actor.sample(actor_features)
    q = networks.critic(critic_features.detach(), actions).amin(1)
    loss = (networks.log_temperature.exp().detach() * log_density - q).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss/actor": loss.detach(), "value/entropy": -log_density.detach().mean()}


def update_temperature(
    networks: Networks, optimizer: torch.optim.Optimizer, entropy: torch.Tensor, target_entropy: float
) -> dict[str, torch.Tensor]:
    """One step of the temperature towards the target entropy (arXiv 1812.05905, eq. 18)."""
    temperature = networks.log_temperature.exp()
    loss = temperature * (entropy - target_entropy)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss/temperature": loss.detach(), "value/temperature": temperature.detach()}


def update(
    networks: Networks, optimizers: dict[str, torch.optim.Optimizer], batch: Batch, args: Args
) -> dict[str, torch.Tensor]:
    """One update of everything from one batch of tensors."""
    actor_features, critic_features = networks.encode(batch.observations)
    losses: dict[str, torch.Tensor] = {}
    if args.clip_reward:
        batch = batch._replace(rewards=batch.rewards + batch.bonuses)
        losses["clip/bonus"] = batch.bonuses.mean()
    losses |= update_critic(networks, optimizers["critic"], batch, critic_features, args.gamma)
    losses |= update_actor(networks, optimizers["actor"], actor_features, critic_features)
    losses |= update_temperature(networks, optimizers["temperature"], losses["value/entropy"], args.target_entropy)
    networks.move_targets(args.tau)
    return losses


def warm_up_actions(num_envs: int) -> np.ndarray:
    """Random actions [N, 2] that drive off: acceleration the larger of two uniform draws, steer the product of two."""
    draws = torch.rand(num_envs, 4) * 2 - 1
    return torch.stack([draws[:, :2].amax(1), draws[:, 2:].prod(1)], dim=1).numpy()


def extendable(args: Args) -> bool:
    """Whether a run depends on `total_steps` by its end alone, so that one with more steps may go on from it."""
    return not args.anneal


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.encoder not in ENCODERS:
        raise ValueError(f"encoder {args.encoder!r} is unknown; choose one of {', '.join(ENCODERS)}")
    start_torch(args.seed, args.torch_threads)
    envs: Any = make_envs(args.env_id, args.num_envs, args.env_args)
    run = Run("sac", args, extendable=extendable(args))
    if run.finished:
        envs.close()
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder

    networks = Networks(args.encoder, args.initial_temperature).to(args.device)
    optimizers = make_optimizers(networks, args.learning_rate)
    buffer = ReplayBuffer(args.buffer_size, args.num_envs, args.seed)
    stored: dict[str, Any] = {"replay": buffer}
    if args.clip_reward:
        options = parse_keywords(args.clip_args)
        envs = ClipReward(envs, args.clip_reward, options=options, scale=args.clip_scale)
        stored["clip"] = envs.normaliser
    step = run.load(networks, optimizers, stored)
    policy = networks.policy()

    recorder = Recorder(run, args)
    seeds = np.random.SeedSequence([args.seed, step]).generate_state(args.num_envs)
    observations, infos = envs.reset(seed=seeds.tolist())
    buffer.start(observations, infos.get("observation_number"))
    recorder.start(step)
    while step < args.total_steps:
        # Act.
        if step < args.learning_starts:
            actions = warm_up_actions(args.num_envs)
        else:
            actions = policy.act(observations, explore=True)
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        numbers = infos.get("observation_number")
        buffer.add(actions, rewards, terminated, truncated, observations, infos.get("final_obs"), numbers)
        if args.clip_reward:
            buffer.attach_bonuses(infos["bonuses"])
        step += args.num_envs

        # Learn.
        if args.anneal:
            set_learning_rate(optimizers, linear(args.learning_rate, 0.0, step / args.total_steps))
        if step >= args.learning_starts:
            for _ in range(args.updates_per_step):
                batch = to_tensors(buffer.sample(args.batch_size), args.device)
                recorder.add_losses(update(networks, optimizers, batch, args))

        # Record.
        recorder.add_step(step, rewards, terminated, truncated, infos)
        if recorder.log_due(step):
            recorder.log(step, mentor_metrics("clip", envs.counters()) if args.clip_reward else {})
        if recorder.checkpoint_due(step):
            run.save_policy(policy, step)
            run.save(step, networks, optimizers, stored)

    envs.close()
    run.save_policy(policy, step)
    run.finish(step, networks, optimizers, stored)
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The policy that a run's folder holds: from batched observations to actions without exploration (`Policy.act`)."""
    config = json.loads((Path(folder) / "config.json").read_text())
    policy = Policy(ENCODERS[config["args"]["encoder"]][0](), Actor())
    policy.load_state_dict(load_tensors(Path(folder) / "policy.safetensors"))
    return policy.to(device).act


if __name__ == "__main__":
    run_program(train, Args, PRESETS)
