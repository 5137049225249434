"""Proximal policy optimisation (PPO) on bird's-eye masks and a state vector, for `CarlaNoCrash-v0`.

Documentation: `docs/agents/ppo.md`.

Schulman et al., "Proximal Policy Optimization Algorithms" (arXiv 1707.06347), with the policy and the exploration loss
of Roach (Zhang et al., arXiv 2108.08265): each action has a Beta distribution, and over the last steps before a failure
the policy is pulled to a prior: to drive on if the car stood, to brake if it hit something or passed a red light or a
stop sign, to try any steer if it left its lane. What differs:

- The learning rate is larger and falls linearly; iterations and epochs are fewer than Roach's (its settings below).
- The discount looks about two seconds ahead. With 0.99 the car comes to park at lights: standing at red earns as much
  as driving (Found-RL's reward), and to go at green risks all that a long future of standing is worth.
- Rewards are scaled by 1 - gamma, so that values are mean rewards and the critic's loss is of order 1.
- The policy starts with more throttle than brake: a car that stands still earns about 0, which is a local optimum.
- Both parameters of a Beta are above 1, so it has one mode. Without exploration the action is the mean, not Roach's
  mode, which swings further: on training tasks it earned less.

    mentorgym train ppo --env-args town=Suburb traffic=regular --seed 3

Roach's settings (its released code); 5000 is its 0.5 for rewards that are not scaled:

    mentorgym train ppo --encoder found-rl --num-envs 6 --rollout-steps 2048 --batch-size 256 --epochs 20
        --learning-rate 1e-5 --no-anneal --halve-after 8 --target-kl 0.01 --gamma 0.99 --gae-lambda 0.9
        --value-coef 5000 --entropy-coef 0.01 --exploration-coef 0.05 --total-steps 10000000
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from gymnasium.vector import VectorEnv
from torch import nn
from torch.distributions import Beta, kl_divergence

from mentorgym.agents.toolbox import (
    ACTION_SIZE,
    CHANNELS,
    STATE_SIZE,
    Observations,
    PatchConvolution,
    Recorder,
    Run,
    make_envs,
    mlp,
    pack_observations,
    run_program,
    start_torch,
    to_tensors,
    unpack,
)
from mentorgym.tensors import load_tensors

FEATURES = 256
GO, STOP, TURN = 1, 2, 3
SUGGESTIONS = {
    "blocked": GO,
    "collision": STOP,
    "pixel collision": STOP,
    "red light": STOP,
    "stop sign": STOP,
    "lateral deviation": TURN,
}
"""Which prior the last steps before an end are pulled to (Roach); other ends suggest nothing."""

# Rows: nothing, GO, STOP, TURN; columns: acceleration, steer. Alpha and beta of the priors, and where they apply.
PRIOR_ALPHA = torch.tensor([[1.0, 1.0], [2.5, 1.0], [1.0, 1.0], [1.0, 1.0]])
PRIOR_BETA = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.5, 1.0], [1.0, 1.0]])
PRIOR_APPLIES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

# A Beta's density at 0 and 1 is 0 or infinite.
EDGE = 1e-6


@dataclasses.dataclass
class Args:
    """Flags of proximal policy optimisation (PPO).

    Rerunning the same command continues the run from its last checkpoint.
    """

    env_id: str = "CarlaNoCrash-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: town=Suburb traffic=dense"""
    num_envs: int = 100
    """environments that step together"""
    seed: int = 0
    """seed of the environments, networks, actions and batches"""
    total_steps: int = 500_000
    """environment steps, all environments together; the last iteration is completed"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    device: str = "cpu"
    """torch device of the networks"""
    torch_threads: int = 1
    """threads of torch on the CPU; with 1, runs side by side do not fight over the cores"""
    log_every: int = 10_000
    """environment steps between two lines of losses and speed, at least an iteration"""
    checkpoint_every: int = 50_000
    """environment steps between two checkpoints, at least an iteration"""

    encoder: str = "small"
    """image encoder: small, or found-rl (the paper's)"""
    rollout_steps: int = 50
    """steps of each environment in an iteration; an iteration's observations take 25 kB each"""
    batch_size: int = 250
    """samples in a batch"""
    epochs: int = 3
    """passes over an iteration's samples"""
    learning_rate: float = 5e-4
    """learning rate (Adam) at the start"""
    anneal: bool = True
    """let the learning rate fall linearly, to 0 at the end"""
    halve_after: int = 0
    """halve the learning rate after every so many iterations that target_kl cut short; 0 for never"""
    target_kl: float = 0.03
    """end an iteration after an epoch whose KL divergence is over 1.5 times this"""
    gamma: float = 0.95
    """discount factor a step of 0.1 s"""
    gae_lambda: float = 0.9
    """decay of the advantage estimator"""
    clip: float = 0.2
    """how far the probability ratio counts from 1"""
    value_coef: float = 5.0
    """weight of the critic's loss"""
    entropy_coef: float = 0.005
    """weight of the entropy bonus"""
    exploration_coef: float = 0.05
    """weight of Roach's exploration loss"""
    exploration_steps: int = 100
    """steps before a failure that the exploration loss acts on, within an iteration"""
    max_grad_norm: float = 0.5
    """largest norm of a gradient"""


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
    "found-rl": (FoundRLEncoder, True),
}
"""What the flag `encoder` names, and whether actor and critic share one."""


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
    """Features [B, 256] to a Beta distribution for each action, on (0, 1), which stands for (-1, 1)."""

    def __init__(self):
        super().__init__()
        self.hidden = mlp(FEATURES, 256, 256)
        self.parameters_of_beta = nn.Linear(256, 2 * ACTION_SIZE)
        with torch.no_grad():
            self.parameters_of_beta.weight.mul_(0.01)
            # softplus: Beta(3.1, 1.7) for the acceleration, of mean 0.3 in (-1, 1), and Beta(3.1, 3.1) for the steer.
            self.parameters_of_beta.bias.copy_(torch.tensor([2.0, 2.0, 0.0, 2.0]))

    def forward(self, features: torch.Tensor) -> Beta:
        """The distributions, of batch shape [B, 2]; both parameters are above 1."""
        alpha, beta = (1 + nn.functional.softplus(self.parameters_of_beta(self.hidden(features)))).chunk(2, dim=1)
        return Beta(alpha, beta, validate_args=False)

    def act(self, features: torch.Tensor, explore: bool) -> torch.Tensor:
        """Actions [B, 2] in [-1, 1]: sampled, or the mean."""
        density = self(features)
        return 2 * (density.sample() if explore else density.mean) - 1


class Networks(nn.Module):
    """All that is learned: actor, critic and the encoder that serves both; and how often target_kl cut an iteration."""

    early_stops: torch.Tensor

    def __init__(self, encoder: str):
        super().__init__()
        self.encoder = ENCODERS[encoder][0]()
        self.actor = Actor()
        self.critic = nn.Sequential(mlp(FEATURES, 256, 256), nn.Linear(256, 1))
        self.register_buffer("early_stops", torch.zeros((), dtype=torch.int64))

    def policy(self) -> Policy:
        """The part that acts."""
        return Policy(self.encoder, self.actor)

    def forward(self, observations: dict[str, torch.Tensor]) -> tuple[Beta, torch.Tensor]:
        """The actions' distributions, of batch shape [B, 2], and values [B]."""
        features = self.encoder(observations)
        return self.actor(features), self.critic(features).squeeze(1)

    @torch.no_grad()
    def values(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Values float32 [N] of `bev` uint8 [N, 15, 96, 96] and `state` float32 [N, 10]."""
        return self(to_tensors(pack_observations(observations), self.early_stops.device))[1].cpu().numpy()


class Samples(NamedTuple):
    """B samples of a rollout. Observations are `packed` uint8 [B, 25344] and `state` float32 [B, 10]."""

    observations: dict[str, torch.Tensor]
    actions: torch.Tensor  # float32 [B, 2] in (0, 1)
    log_density: torch.Tensor  # float32 [B], under the policy that acted
    advantages: torch.Tensor  # float32 [B], normalised
    returns: torch.Tensor  # float32 [B], what the critic should say
    suggestions: torch.Tensor  # int64 [B]: 0, GO, STOP, TURN


class Rollout:
    """What `num_envs` environments did in `steps` steps; the masks are packed. Arrays are [steps, num_envs, ...]."""

    def __init__(self, steps: int, num_envs: int):
        self.observations = Observations(steps * num_envs)
        self.actions = np.zeros((steps, num_envs, ACTION_SIZE), np.float32)
        self.log_density, self.values, self.rewards = np.zeros((3, steps, num_envs), np.float32)
        self.ended = np.zeros((steps, num_envs), bool)
        self.suggestions = np.zeros((steps, num_envs), np.int64)
        self.advantages, self.returns = np.zeros((2, steps, num_envs), np.float32)

    def act(self, t: int, networks: Networks, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Store the observations of step `t` with an action for each, and return the actions [N, 2] in (-1, 1)."""
        slots = np.arange(self.ended.shape[1]) + t * self.ended.shape[1]
        self.observations.put(slots[0], observations)
        with torch.no_grad():
            density, values = networks(to_tensors(self.observations.take(slots), networks.early_stops.device))
            actions = density.sample().clamp(EDGE, 1 - EDGE)
            log_density = density.log_prob(actions).sum(1)
        self.suggestions[t] = 0
        self.actions[t], self.log_density[t], self.values[t] = actions.cpu(), log_density.cpu(), values.cpu()
        return 2 * self.actions[t] - 1

    def suggest(self, t: int, env: int, end: str, steps: int) -> None:
        """Mark the last `steps` steps of `env`'s episode, which step `t` ended because of `end`."""
        before = np.flatnonzero(self.ended[:t, env])
        first = max(t + 1 - steps, before[-1] + 1 if before.size else 0)
        self.suggestions[first : t + 1, env] = SUGGESTIONS.get(end, 0)

    def close(self, last_values: np.ndarray, gamma: float, gae_lambda: float) -> None:
        """Estimate advantages and returns; `last_values` float32 [N] are of the observations after the last step."""
        advantages = estimate_advantages(self.rewards, self.values, last_values, self.ended, gamma, gae_lambda)
        self.returns = advantages + self.values
        self.advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    def batches(self, batch_size: int, device: str) -> Iterator[Samples]:
        """All samples once, in random order."""
        fields = (self.actions, self.log_density, self.advantages, self.returns, self.suggestions)
        flat = [field.reshape(-1, *field.shape[2:]) for field in fields]
        for indices in torch.randperm(self.ended.size).numpy().reshape(-1, batch_size):
            arrays = (self.observations.take(indices), *(field[indices] for field in flat))
            yield Samples(*(to_tensors(each, device) for each in arrays))


def estimate_advantages(
    rewards: np.ndarray, values: np.ndarray, last_values: np.ndarray, ended: np.ndarray, gamma: float, gae_lambda: float
) -> np.ndarray:
    """Generalised advantage estimates [T, N] (Schulman et al., arXiv 1506.02438, eq. 16).

    Args:
        rewards, values: float [T, N]; the value of a truncated episode's final observation is part of the reward.
        last_values: float [N], of the observations that follow the last step.
        ended: bool [T, N], whether an episode ended with that step.
    """
    advantages = np.zeros_like(rewards)
    following = np.zeros_like(last_values)
    for t in reversed(range(len(rewards))):
        next_values = last_values if t == len(rewards) - 1 else values[t + 1]
        error = rewards[t] + gamma * next_values * ~ended[t] - values[t]
        advantages[t] = following = error + gamma * gae_lambda * following * ~ended[t]
    return advantages


def update(
    networks: Networks, optimizer: torch.optim.Optimizer, samples: Samples, args: Args
) -> dict[str, torch.Tensor]:
    """One step on the clipped surrogate, the critic's error, the entropy and the exploration loss.

    arXiv 1707.06347, eq. 7 and 9; arXiv 2108.08265, the exploration loss.
    """
    density, values = networks(samples.observations)
    log_ratio = density.log_prob(samples.actions).sum(1) - samples.log_density
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
    policy_loss = -torch.minimum(ratio * samples.advantages, clipped * samples.advantages).mean()
    critic_loss = ((values - samples.returns) ** 2).mean()
    entropy = density.entropy().sum(1).mean()
    alpha, beta, applies = (
        table.to(values.device)[samples.suggestions] for table in (PRIOR_ALPHA, PRIOR_BETA, PRIOR_APPLIES)
    )
    exploration_loss = (applies * kl_divergence(density, Beta(alpha, beta, validate_args=False))).sum(1).mean()
    loss = policy_loss + args.value_coef * critic_loss - args.entropy_coef * entropy
    loss = loss + args.exploration_coef * exploration_loss
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(networks.parameters(), args.max_grad_norm)
    optimizer.step()
    return {
        "loss/policy": policy_loss.detach(),
        "loss/critic": critic_loss.detach(),
        "loss/exploration": exploration_loss.detach(),
        "value/v": values.detach().mean(),
        "value/entropy": entropy.detach(),
        "value/kl": (ratio - 1 - log_ratio).detach().mean(),
        "value/clipped": (ratio != clipped).float().mean(),
    }


def learning_rate(args: Args, step: int, early_stops: int) -> float:
    """The learning rate at `step`, after so many iterations that target_kl cut short."""
    share = 1 - step / args.total_steps if args.anneal else 1.0
    return args.learning_rate * share * (0.5 ** (early_stops // args.halve_after) if args.halve_after else 1.0)


class Episodes:
    """The environments and the episodes under way in them."""

    def __init__(self, envs: VectorEnv, seed: int, recorder: Recorder):
        self.envs: Any = envs
        self.seed, self.recorder = seed, recorder
        self.observations: dict[str, np.ndarray] = {}

    def start(self, step: int) -> None:
        """Begin new episodes, unless `load` has brought back those under way."""
        if not self.observations:
            seeds = np.random.SeedSequence([self.seed, step]).generate_state(self.envs.num_envs)
            self.observations, _ = self.envs.reset(seed=seeds.tolist())

    def save(self, folder: Path) -> None:
        """Write the environments' state, where they have `get_state`, in the new folder `folder`."""
        folder.mkdir()
        if hasattr(self.envs, "get_state"):
            safetensors.numpy.save_file(self.envs.get_state(), folder / "envs.safetensors")
            sums = {"returns": self.recorder.returns, "lengths": self.recorder.lengths}
            safetensors.numpy.save_file(sums, folder / "episodes.safetensors")

    def load(self, folder: Path) -> None:
        """Go on where `save` was called; environments without `get_state` begin new episodes."""
        if (folder / "envs.safetensors").exists():
            self.observations = self.envs.set_state(safetensors.numpy.load_file(folder / "envs.safetensors"))
            episodes = safetensors.numpy.load_file(folder / "episodes.safetensors")
            self.recorder.returns, self.recorder.lengths = episodes["returns"], episodes["lengths"]


def extendable(args: Args) -> bool:
    """Whether a run depends on `total_steps` by its end alone, so that one with more steps may go on from it."""
    return not args.anneal


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.encoder not in ENCODERS:
        raise ValueError(f"encoder {args.encoder!r} is unknown; choose one of {', '.join(ENCODERS)}")
    for name in ("num_envs", "rollout_steps", "batch_size", "epochs"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name}={getattr(args, name)}: give at least 1")
    iteration = args.rollout_steps * args.num_envs
    if iteration % args.batch_size:
        raise ValueError(
            f"rollout_steps x num_envs = {iteration} is no multiple of batch_size={args.batch_size}: change one"
        )
    start_torch(args.seed, args.torch_threads)
    envs = make_envs(args.env_id, args.num_envs, args.env_args)
    run = Run("ppo", args, extendable=extendable(args))
    if run.finished:
        envs.close()
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder

    networks = Networks(args.encoder).to(args.device)
    optimizer = torch.optim.Adam(networks.parameters(), eps=1e-5, fused=True)
    recorder = Recorder(run, args, stride=iteration, window=100)
    episodes = Episodes(envs, args.seed, recorder)
    rollout = Rollout(args.rollout_steps, args.num_envs)
    step = run.load(networks, {"all": optimizer}, {"episodes": episodes})
    policy = networks.policy()

    episodes.start(step)
    recorder.start(step)
    while step < args.total_steps:
        optimizer.param_groups[0]["lr"] = learning_rate(args, step, int(networks.early_stops))
        for t in range(args.rollout_steps):
            # Act.
            actions = rollout.act(t, networks, episodes.observations)
            episodes.observations, rewards, terminated, truncated, infos = envs.step(actions)
            step += args.num_envs
            rollout.rewards[t] = (1 - args.gamma) * rewards
            rollout.ended[t] = terminated | truncated
            for env in np.flatnonzero(truncated & ~terminated).tolist():
                # A truncated episode would have gone on: what its final observation is worth is part of the reward.
                final = {name: array[None] for name, array in infos["final_obs"][env].items()}
                rollout.rewards[t, env] += args.gamma * networks.values(final)[0]

            # Record.
            for env, end in recorder.add_step(step, rewards, terminated, truncated, infos):
                rollout.suggest(t, env, end, args.exploration_steps)

        # Learn.
        rollout.close(networks.values(episodes.observations), args.gamma, args.gae_lambda)
        for _ in range(args.epochs):
            batches = rollout.batches(args.batch_size, args.device)
            epoch = [update(networks, optimizer, batch, args) for batch in batches]
            for losses in epoch:
                recorder.add_losses(losses)
            if torch.stack([entry["value/kl"] for entry in epoch]).mean() > 1.5 * args.target_kl:
                networks.early_stops += 1
                break

        # Record.
        if recorder.log_due(step):
            recorder.log(step)
        if recorder.checkpoint_due(step):
            run.save_policy(policy, step)
            run.save(step, networks, {"all": optimizer}, {"episodes": episodes})

    envs.close()
    run.save_policy(policy, step)
    run.finish(step, networks, {"all": optimizer}, {"episodes": episodes})
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The policy that a run's folder holds: from batched observations to actions without exploration (`Policy.act`)."""
    config = json.loads((Path(folder) / "config.json").read_text())
    policy = Policy(ENCODERS[config["args"]["encoder"]][0](), Actor())
    policy.load_state_dict(load_tensors(Path(folder) / "policy.safetensors"))
    return policy.to(device).act


if __name__ == "__main__":
    run_program(train, Args)
