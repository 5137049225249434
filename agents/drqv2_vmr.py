"""DrQ-v2 with value-margin regularisation (VMR), by which critics learn from a mentor's hints.

Documentation: `docs/agents/drqv2_vmr.md`.

A mentor watches the drive and says what it would do. Where its hint has come in, the critics are pulled to value it by
a margin above the action taken (Found-RL's paper, section 4.2, eq. 12 to 14), with a weight that falls. The rest is
`agents/drqv2.py`, where its differences from the papers stand; how the hints' loss differs stands in
`agents/sac_vmr.py`.

    mentorgym train drqv2_vmr --mentor expert --env-args town=Suburb traffic=regular --seed 3
"""

import copy
import dataclasses
import json
import math
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
    cosine,
    linear,
    make_envs,
    mentor_metrics,
    mlp,
    pack_observations,
    rotate,
    run_program,
    set_learning_rate,
    shift,
    start_torch,
    to_tensors,
    unpack,
    with_hints,
)
from mentorgym.tensors import load_tensors

FEATURES = 256
LARGEST_ACTION, LARGEST_TURN, LARGEST_SHIFT = 1 - 1e-6, math.radians(10), 4


@dataclasses.dataclass
class Args:
    """Flags of DrQ-v2 with value-margin regularisation (DrQ-v2-VMR).

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
    augmentation: str = "shift"
    """what becomes of pictures in an update: shift, or found-rl (shift or rotation)"""
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
    n_step: int = 3
    """rewards that are added up before the critics' value takes over"""
    noise_start: float = 1.0
    """standard deviation of the actions' noise at the start"""
    noise_end: float = 0.1
    """standard deviation of the actions' noise after the horizon"""
    noise_horizon: float = 0.3
    """share of the run in which the noise falls linearly"""
    noise_clip: float = 0.3
    """largest noise of the actions in updates"""
    explore: bool = True
    """noise when acting, too"""
    max_grad_norm: float = 0.0
    """largest norm of a gradient; 0 for any"""

    mentor: str = "vlm"
    """who gives hints: expert, vlm, vlm:<folder or hub name>, the http address of an endpoint, or module:callable"""
    mentor_args: tuple[str, ...] = ()
    """the mentor's keyword arguments, as in: device=cuda"""
    hint_every: int = 4
    """steps of an environment from one question to the next; in danger and after an infraction it is asked at once"""
    hint_mode: str = "async"
    """async: a hint joins its transition whenever it arrives; sync: each step waits for its hints"""
    at_bound: str = "skip"
    """what becomes of a question when max_outstanding of that environment are open: skip it, or pause until it fits"""
    max_outstanding: int = 4
    """open questions of an environment"""
    hint_weight: float = 1.0
    """weight of the margin loss at the start"""
    hint_horizon: float = 0.15
    """share of the run after which the weight is 0"""
    hint_schedule: str = "cosine"
    """how the weight falls: cosine, or linear (the released code's)"""
    hint_exponent: float = 1.75
    """the cosine's exponent: above 1 the weight falls later"""
    margin: float = 2.0
    """how far above the action that was taken the critics are to value a hint"""

    def __post_init__(self):
        if self.hint_schedule not in ("cosine", "linear"):
            raise ValueError(f"hint_schedule {self.hint_schedule!r} is unknown; choose one of cosine, linear")


PRESETS: dict[str, dict[str, Any]] = {
    "original": {"hidden": (1024, 1024), "batch_size": 256, "learning_rate": 1e-4, "noise_horizon": 0.5},
    "found-rl": FOUND_RL
    | {
        "hint_every": 1,
        "hint_schedule": "linear",
        "hidden": (400, 300),
        "augmentation": "found-rl",
        "n_step": 1,
        "noise_horizon": 0.4,
        "explore": False,
        "max_grad_norm": 1.0,
    },
}
"""What `--preset NAME` changes: the numbers of the paper, or Found-RL's released variant."""


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
    """Features [B, 256] to actions [B, 2] in (-1, 1), and noise around them."""

    noise = 0.0
    """Standard deviation of the noise; it follows the schedule."""

    def __init__(self, hidden: Sequence[int]):
        super().__init__()
        self.mean = nn.Sequential(mlp(FEATURES, *hidden), nn.Linear(hidden[-1], ACTION_SIZE), nn.Tanh())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.mean(features)

    def sample(self, features: torch.Tensor, noise_clip: float) -> torch.Tensor:
        """Actions [B, 2] with noise that is at most `noise_clip` (arXiv 2107.09645, eq. 3), differentiable."""
        mean = self(features)
        actions = mean + (self.noise * torch.randn_like(mean)).clamp(-noise_clip, noise_clip)
        # The bounds do not stop the gradient.
        return actions + (actions.clamp(-LARGEST_ACTION, LARGEST_ACTION) - actions).detach()

    def act(self, features: torch.Tensor, explore: bool) -> torch.Tensor:
        """Actions [B, 2] in [-1, 1]: with noise, or as they are."""
        return self.sample(features, math.inf) if explore else self(features)


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
    """All that is learned: actor, critics, target critics and their encoders."""

    def __init__(self, encoder: str, hidden: Sequence[int]):
        super().__init__()
        make_encoder, self.shares_encoder = ENCODERS[encoder]
        self.encoder = make_encoder()
        self.actor, self.critic = Actor(hidden), Critic(hidden)
        self.target = copy.deepcopy(self.critic)
        if not self.shares_encoder:
            self.actor_encoder = make_encoder()
            self.target_encoder = copy.deepcopy(self.encoder)

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
    """Adam for each of the two updates."""
    actor = [networks.actor] if networks.shares_encoder else [networks.actor, networks.actor_encoder]
    parameters = {
        "critic": [*networks.critic.parameters(), *networks.encoder.parameters()],
        "actor": [parameter for module in actor for parameter in module.parameters()],
    }
    return {name: torch.optim.Adam(group, lr=learning_rate, fused=True) for name, group in parameters.items()}


def augment(observations: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """The observations, each with its picture moved at random: by up to 4 pixels (kind "shift"; "black shift" is the
    same with black edges), or by up to 10 degrees ("rotation")."""
    packed = observations["packed"]
    if kind == "rotation":
        moved = rotate(packed, LARGEST_TURN * (2 * torch.rand(len(packed), device=packed.device) - 1))
    else:
        offsets = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (len(packed), 2), device=packed.device)
        moved = shift(packed, offsets, repeat_edges=kind == "shift")
    return {**observations, "packed": moved}


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor, max_grad_norm: float) -> None:
    """One step of the optimizer's parameters down the loss, with a gradient of at most this norm unless it is 0."""
    optimizer.zero_grad()
    loss.backward()
    if max_grad_norm > 0:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], max_grad_norm)
    optimizer.step()


def hint_weight(args: Args, step: int) -> float:
    """The weight of the margin loss after `step` environment steps (Found-RL, eq. 14)."""
    share = step / max(args.hint_horizon * args.total_steps, 1)
    if args.hint_schedule == "linear":
        return linear(args.hint_weight, 0.0, (share - 1 / 3) / (1 - 1 / 3))
    return cosine(args.hint_weight, 0.0, share, args.hint_exponent)


def margin_loss(q_hint: torch.Tensor, q: torch.Tensor, mask: torch.Tensor, margin: float) -> torch.Tensor:
    """How far hints are from being worth `margin` more than the actions taken (Found-RL, eq. 12), summed over critics.

    Both values are [B, 2], of which `q` is held fixed; `mask` [B] is 1 where there is a hint.
    """
    error = q_hint - (q.detach() + margin)
    return (mask[:, None] * error**2).mean(0).sum()


def update_critic(
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    features: torch.Tensor,
    args: Args,
    weight: float,
) -> dict[str, torch.Tensor]:
    """One step on the n-step Bellman error (arXiv 2107.09645, eq. 1 and 2) and the margin loss (Found-RL, eq. 13).

    `features` [B, 256] are the critics'. Half the error is taken, as in Found-RL's eq. 11.
    """
    with torch.no_grad():
        actor_features, target_features = networks.encode_next(batch.next_observations)
        next_actions = networks.actor.sample(actor_features, args.noise_clip)
        next_q = networks.target(target_features, next_actions).amin(1)
        target = batch.rewards + batch.discounts * (1 - batch.terminated) * next_q
    q = networks.critic(features, batch.actions)
    loss = ((q - target[:, None]) ** 2).mean(0).sum()
    vmr = margin_loss(networks.critic(features, batch.hints), q, batch.hint_mask, args.margin)
    descend(optimizer, 0.5 * loss + weight * vmr, args.max_grad_norm)
    return {"loss/critic": loss.detach(), "loss/vmr": vmr.detach(), "value/q": q.detach().mean()}


def update_actor(
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    actor_features: torch.Tensor,
    critic_features: torch.Tensor,
    args: Args,
) -> dict[str, torch.Tensor]:
    """One step on the actor's loss (arXiv 2107.09645, eq. 3)."""
    actions = networks.actor.sample(actor_features, args.noise_clip)
    loss = -networks.critic(critic_features.detach(), actions).amin(1).mean()
    descend(optimizer, loss, args.max_grad_norm)
    return {"loss/actor": loss.detach(), "value/noise": torch.tensor(networks.actor.noise)}


def update(
    networks: Networks, optimizers: dict[str, torch.optim.Optimizer], batch: Batch, args: Args, weight: float
) -> dict[str, torch.Tensor]:
    """One update of everything from one batch of tensors, the pictures moved; `weight` is that of the hints' loss."""
    kind = args.augmentation
    if kind == "found-rl":
        kind = "rotation" if torch.rand(()) < 0.5 else "black shift"
    observations, next_observations = (augment(each, kind) for each in (batch.observations, batch.next_observations))
    batch = batch._replace(observations=observations, next_observations=next_observations)
    actor_features, critic_features = networks.encode(batch.observations)
    losses = update_critic(networks, optimizers["critic"], batch, critic_features, args, weight)
    losses |= update_actor(networks, optimizers["actor"], actor_features, critic_features, args)
    networks.move_targets(args.tau)
    return losses | {"hint/weight": torch.tensor(weight), "hint/share": batch.hint_mask.mean()}


def warm_up_actions(num_envs: int) -> np.ndarray:
    """Random actions [N, 2] that drive off: acceleration the larger of two uniform draws, steer the product of two."""
    draws = torch.rand(num_envs, 4) * 2 - 1
    return torch.stack([draws[:, :2].amax(1), draws[:, 2:].prod(1)], dim=1).numpy()


def extendable(args: Args) -> bool:
    """Whether a run depends on `total_steps` by its end alone, so that one with more steps may go on from it."""
    return not args.anneal and args.noise_start == args.noise_end and args.hint_weight == 0


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.encoder not in ENCODERS:
        raise ValueError(f"encoder {args.encoder!r} is unknown; choose one of {', '.join(ENCODERS)}")
    if args.augmentation not in ("shift", "found-rl"):
        raise ValueError(f"augmentation {args.augmentation!r} is unknown; choose one of shift, found-rl")
    start_torch(args.seed, args.torch_threads)
    envs: Any = make_envs(args.env_id, args.num_envs, args.env_args)
    run = Run("drqv2_vmr", args, extendable=extendable(args))
    if run.finished:
        envs.close()
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder

    envs = with_hints(envs, args)
    networks = Networks(args.encoder, args.hidden).to(args.device)
    optimizers = make_optimizers(networks, args.learning_rate)
    buffer = ReplayBuffer(args.buffer_size, args.num_envs, args.seed)
    step = run.load(networks, optimizers, {"replay": buffer})
    policy = networks.policy()

    recorder = Recorder(run, args)
    seeds = np.random.SeedSequence([args.seed, step]).generate_state(args.num_envs)
    observations, infos = envs.reset(seed=seeds.tolist())
    buffer.start(observations, infos["observation_number"])
    recorder.start(step)
    while step < args.total_steps:
        # Act.
        noise_share = step / max(args.noise_horizon * args.total_steps, 1)
        networks.actor.noise = linear(args.noise_start, args.noise_end, noise_share)
        if step < args.learning_starts:
            actions = warm_up_actions(args.num_envs)
        else:
            actions = policy.act(observations, explore=args.explore)
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        numbers = infos["observation_number"]
        buffer.add(actions, rewards, terminated, truncated, observations, infos.get("final_obs"), numbers)
        buffer.attach_hints(infos["hints"])
        step += args.num_envs

        # Learn.
        if args.anneal:
            set_learning_rate(optimizers, linear(args.learning_rate, 0.0, step / args.total_steps))
        if step >= args.learning_starts:
            for _ in range(args.updates_per_step):
                batch = to_tensors(buffer.sample(args.batch_size, args.n_step, args.gamma), args.device)
                recorder.add_losses(update(networks, optimizers, batch, args, hint_weight(args, step)))

        # Record.
        recorder.add_step(step, rewards, terminated, truncated, infos)
        if recorder.log_due(step):
            recorder.log(step, mentor_metrics("hint", envs.counters()))
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
