"""Twin delayed deep deterministic policy gradient (TD3) on bird's-eye masks and a state vector, for `CarlaNoCrash-v0`.

Documentation: `docs/agents/td3.md`.

Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods" (arXiv 1802.09477): a deterministic
actor, two critics, targets of both, noise on the target's actions, and an actor that learns at every second update.
What differs:

- By default one small encoder serves actor and critics; the critics' loss alone trains it, and the targets read it as
  it is. With `--encoder small-separate` actor, critics and targets own one each. `--encoder found-rl` is Found-RL's
  extractor: larger, one each too.
- Warm-up actions accelerate more than they brake and seldom steer hard: uniform ones hardly leave the spot, and a car
  that stands still earns about 0, which is a local optimum.

    mentorgym train td3 --env-args town=Suburb traffic=empty --seed 3
"""

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
    mlp,
    pack_observations,
    require_positive,
    run_program,
    set_learning_rate,
    start_torch,
    to_tensors,
    unpack,
)
from mentorgym.tensors import load_tensors

FEATURES = 256


@dataclasses.dataclass
class Args:
    """Flags of twin delayed deep deterministic policy gradient (TD3).

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
    hidden: tuple[int, ...] = (256, 256)
    """hidden layers of the actor and of each critic"""
    buffer_size: int = 100_000
    """transitions in the replay buffer, about 26 kB each"""
    batch_size: int = 128
    """transitions in a batch"""
    learning_starts: int = 1_000
    """environment steps with warm-up actions before the first update"""
    updates_per_step: int = 1
    """gradient updates after each step of all environments"""
    learning_rate: float = 5e-4
    """learning rate of all networks (Adam)"""
    anneal: bool = False
    """let the learning rate fall linearly, to 0 at the end"""
    gamma: float = 0.99
    """discount factor a step of 0.1 s"""
    tau: float = 0.01
    """share of the critics that moves into the target critics at each update"""
    exploration_noise: float = 0.1
    """standard deviation of the noise when acting"""
    target_noise: float = 0.2
    """standard deviation of the noise on the target's actions"""
    target_noise_clip: float = 0.5
    """largest noise on the target's actions"""
    policy_delay: int = 2
    """updates of the critics for one of the actor and the targets"""

    def __post_init__(self):
        require_positive(self, "policy_delay")


PRESETS = {"found-rl": FOUND_RL | {"hidden": (400, 300)}}
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
    """Features [B, 256] to actions [B, 2] in (-1, 1)."""

    exploration_noise = 0.0
    """Standard deviation of the noise when acting; only training sets it."""

    def __init__(self, hidden: Sequence[int]):
        super().__init__()
        self.mean = nn.Sequential(mlp(FEATURES, *hidden), nn.Linear(hidden[-1], ACTION_SIZE), nn.Tanh())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.mean(features)

    def act(self, features: torch.Tensor, explore: bool) -> torch.Tensor:
        """Actions [B, 2] in [-1, 1]: with noise, or as they are."""
        mean = self(features)
        return (mean + self.exploration_noise * torch.randn_like(mean)).clamp(-1, 1) if explore else mean


class Critic(nn.Module):
    """Features [B, F] and actions [B, A] to the values of two critics [B, 2]."""

    def __init__(self, hidden: Sequence[int]):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(mlp(FEATURES + ACTION_SIZE, *hidden), nn.Linear(hidden[-1], 1)) for _ in range(2)
        )

    def forward(self, features: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        inputs = torch.cat([features, actions], dim=1)
        return torch.cat([self.first(inputs), self.second(inputs)], dim=1)


class Networks(nn.Module):
    """All that is learned: actor, critics, their targets and encoders; and how many updates there have been."""

    updates: torch.Tensor

    def __init__(self, encoder: str, hidden: Sequence[int]):
        super().__init__()
        make_encoder, self.shares_encoder = ENCODERS[encoder]
        self.encoder = make_encoder()
        self.actor, self.critic = Actor(hidden), Critic(hidden)
        self.target_actor, self.target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        if not self.shares_encoder:
            self.actor_encoder = make_encoder()
            self.target_encoder = copy.deepcopy(self.encoder)
            self.target_actor_encoder = copy.deepcopy(self.actor_encoder)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def policy(self) -> Policy:
        """The part that acts."""
        return Policy(self.encoder if self.shares_encoder else self.actor_encoder, self.actor)

    def encode(self, observations: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The actor's and the critics' features, each [B, 256]; a shared encoder learns from the critics alone."""
        features = self.encoder(observations)
        return features.detach() if self.shares_encoder else self.actor_encoder(observations), features

    @torch.no_grad()
    def encode_next(self, observations: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The target actor's and the target critics' features of next observations, each [B, 256]."""
        if self.shares_encoder:
            features = self.encoder(observations)
            return features, features
        return self.target_actor_encoder(observations), self.target_encoder(observations)

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """target <- (1 - tau) target + tau online."""
        pairs: list[tuple[nn.Module, nn.Module]] = [(self.target, self.critic), (self.target_actor, self.actor)]
        if not self.shares_encoder:
            pairs += [(self.target_encoder, self.encoder), (self.target_actor_encoder, self.actor_encoder)]
        for target, online in pairs:
            torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)


def make_optimizers(networks: Networks, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
    """Adam for each of the two updates."""
    actor = [networks.actor] if networks.shares_encoder else [networks.actor, networks.actor_encoder]
    parameters = {
        "critic": [*networks.critic.parameters(), *networks.encoder.parameters()],
        "actor": [parameter for module in actor for parameter in module.parameters()],
    }
    return {name: torch.optim.Adam(group, lr=learning_rate, fused=True) for name, group in parameters.items()}


def update_critic(
    networks: Networks, optimizer: torch.optim.Optimizer, batch: Batch, features: torch.Tensor, args: Args
) -> dict[str, torch.Tensor]:
    """One step on the Bellman error (arXiv 1802.09477, algorithm 1); `features` [B, 256] are the critics'."""
    with torch.no_grad():
        actor_features, target_features = networks.encode_next(batch.next_observations)
        noise = args.target_noise * torch.randn_like(batch.actions)
        noise = noise.clamp(-args.target_noise_clip, args.target_noise_clip)
        next_actions = (networks.target_actor(actor_features) + noise).clamp(-1, 1)
        next_q = networks.target(target_features, next_actions).amin(1)
        target = batch.rewards + args.gamma * (1 - batch.terminated) * next_q
    q = networks.critic(features, batch.actions)
    loss = ((q - target[:, None]) ** 2).mean(0).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss/critic": loss.detach(), "value/q": q.detach().mean()}


def update_actor(
    networks: Networks, optimizer: torch.optim.Optimizer, actor_features: torch.Tensor, critic_features: torch.Tensor
) -> dict[str, torch.Tensor]:
    """One step of the actor up the first critic's value (arXiv 1802.09477, algorithm 1)."""
    loss = -networks.critic(critic_features.detach(), networks.actor(actor_features))[:, 0].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss/actor": loss.detach()}


def update(
    networks: Networks, optimizers: dict[str, torch.optim.Optimizer], batch: Batch, args: Args
) -> dict[str, torch.Tensor]:
    """One update from one batch of tensors: of the critics, and every policy_delay-th time of everything."""
    actor_features, critic_features = networks.encode(batch.observations)
    losses = update_critic(networks, optimizers["critic"], batch, critic_features, args)
    networks.updates += 1
    if networks.updates % args.policy_delay == 0:
        losses |= update_actor(networks, optimizers["actor"], actor_features, critic_features)
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
    envs = make_envs(args.env_id, args.num_envs, args.env_args)
    run = Run("td3", args, extendable=extendable(args))
    if run.finished:
        envs.close()
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder

    networks = Networks(args.encoder, args.hidden).to(args.device)
    optimizers = make_optimizers(networks, args.learning_rate)
    buffer = ReplayBuffer(args.buffer_size, args.num_envs, args.seed)
    step = run.load(networks, optimizers, {"replay": buffer})
    networks.actor.exploration_noise = args.exploration_noise
    policy = networks.policy()

    recorder = Recorder(run, args)
    seeds = np.random.SeedSequence([args.seed, step]).generate_state(args.num_envs)
    observations, _ = envs.reset(seed=seeds.tolist())
    buffer.start(observations)
    recorder.start(step)
    while step < args.total_steps:
        # Act.
        if step < args.learning_starts:
            actions = warm_up_actions(args.num_envs)
        else:
            actions = policy.act(observations, explore=True)
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        buffer.add(actions, rewards, terminated, truncated, observations, infos.get("final_obs"))
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
            recorder.log(step)
        if recorder.checkpoint_due(step):
            run.save_policy(policy, step)
            run.save(step, networks, optimizers, {"replay": buffer})

    envs.close()
    run.save_policy(policy, step)
    run.finish(step, networks, optimizers, {"replay": buffer})
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The policy that a run's folder holds: from batched observations to actions without exploration (`Policy.act`)."""
    flags = json.loads((Path(folder) / "config.json").read_text())["args"]
    policy = Policy(ENCODERS[flags["encoder"]][0](), Actor(flags["hidden"]))
    policy.load_state_dict(load_tensors(Path(folder) / "policy.safetensors"))
    return policy.to(device).act


if __name__ == "__main__":
    run_program(train, Args, PRESETS)
