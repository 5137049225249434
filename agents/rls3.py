"""RL-based synthetic sample selection (RLS3): objects are arranged to find what a vision-language model gets wrong.

Documentation: `docs/agents/rls3.md`.

"RLS3: RL-based synthetic sample selection", Algorithm 1. Soft actor-critic (SAC) moves the objects of
`UnitySpatial-v0`; a valid move earns 1, an invalid one -1. An episode ends with its T0-th valid sample. Then the model
is asked about all of them, and on the episode's last step the agent is paid beta * L^2, L being the contrastive loss of
a CLIP, or beta * (6 - S)^2, S being a generative VLM's mean score on the rubric (equations 3 and 4). A share eta of the
samples goes into a batch; after E episodes the model is fine-tuned on it, and the batch is emptied. `--sampler random`
moves objects at random and ignores both rewards; it is the baseline, at the same number of samples generated, invalid
ones included (`--budget`).

What differs, or what the paper leaves open:

- An episode's samples come from `num_envs` rooms side by side, each a trajectory of its own that is paid the episode's
  reward on its last step, which is terminal; 1 is the paper. A room then has few of its 200 moves, and beta is smaller.
- Observations are scaled, and distances that follow from them are added (`StateEncoder`).
- Pre-training on validity alone is shorter and has a smaller discount factor than the paper's, as a move's validity
  shows at once. Nothing is drawn in it, and its steps are no part of the budget. `--pretrained` takes another run's.
- Feedback that is no number pays nothing. Early stopping is off by default.

    mentorgym train rls3 --model vlm --seed 1
    mentorgym train rls3 --model vlm --seed 1 --sampler random
"""

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import safetensors.numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from mentorgym.agents.toolbox import (
    Batch,
    ProgressLine,
    Run,
    mlp,
    parse_keywords,
    run_program,
    start_torch,
    to_tensors,
)
from mentorgym.agents.toolbox.runs import explain, say
from mentorgym.agents.toolbox.students import KINDS, Sample, Student, describe, fixed_samples, load_student
from mentorgym.envs.spatial import language, picture
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.language import Example
from mentorgym.envs.spatial.metrics import groups
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import ROOMS
from mentorgym.envs.spatial.world import REACH
from mentorgym.names import nearest_name
from mentorgym.tensors import load_tensors

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
STATE_SIZE, FEATURES, ACTION_SIZE = 32, 65, 3

BLOCK = 5_000
"""Steps of pre-training after which there is a checkpoint and the rooms are drawn anew."""

ENDLESS = 10**9
"""Steps that no episode takes."""

PRETRAINED = "pretrained.safetensors"
"""In a run's folder, the networks after their pre-training."""


@dataclasses.dataclass
class Args:
    """Flags of RL-based synthetic sample selection (RLS3).

    Rerunning the same command continues the run from its last checkpoint.
    """

    env_id: str = "UnitySpatial-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: camera=paper"""
    num_envs: int = 8
    """rooms in which an episode takes place side by side"""
    pretrain_envs: int = 64
    """rooms of the pre-training"""
    seed: int = 0
    """seed of the environments, networks, actions, samples and batches"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    device: str = "cpu"
    """torch device of the networks and the model"""
    torch_threads: int = 1
    """threads of torch on the CPU; with 1, runs side by side do not fight over the cores"""

    sampler: Literal["sac", "random"] = "sac"
    """who moves the objects"""
    model: str = "vlm"
    """vlm, clip or negclip (a CLIP with NegCLIP's loss): our own; or vlm:<folder or hub name>, and so on"""
    model_args: tuple[str, ...] = ()
    """keyword arguments of its fine-tuning, as in: learning_rate=1e-5 train=attention"""
    budget: int = 6_000
    """samples to generate, invalid ones included; 0 for as many as early stopping lets"""
    iterations: int = 0
    """iterations at most; 0 for as many as the budget has"""
    valid_samples: int = 100
    """T0: valid samples of an episode"""
    episodes: int = 5
    """E: episodes before each fine-tuning"""
    share: float = 0.5
    """eta: share of the valid samples that are learned from"""
    beta: float = 0.3
    """weight of the model's feedback beside validity"""
    amount: int = 40
    """K: updates of a VLM, or epochs of a CLIP, in each fine-tuning"""
    validate_every: int = 0
    """F: updates or epochs between two validations; 0 for one after each fine-tuning"""
    validation_samples: int = 500
    """fixed samples of the training rooms to validate on"""
    test_samples: int = 1_000
    """fixed samples of the test rooms"""
    test_every: int = 3
    """iterations between two tests; the first is before all learning, the last after it"""
    patience: int = 0
    """iterations without a better validation after which the loop ends; 0 for never"""
    min_iterations: int = 15
    """iterations before which it does not"""
    min_delta: float = 0.0
    """what a validation score must rise by to be better"""

    pretrained: str = ""
    """folder of a run whose pre-training to start from"""
    pretrain_steps: int = 60_000
    """steps on validity alone, before the loop"""
    pretrain_gamma: float = 0.0
    """discount factor of the pre-training"""
    gamma: float = 0.9
    """discount factor of the loop"""
    buffer_size: int = 100_000
    """transitions in the replay buffer"""
    batch_size: int = 128
    """transitions in a batch"""
    learning_starts: int = 1_000
    """transitions in the replay buffer before the first update"""
    replay_ratio: float = 0.2
    """gradient updates for each step of a room"""
    learning_rate: float = 1e-3
    """learning rate of all networks and the temperature (Adam)"""
    tau: float = 0.005
    """share of the critics that moves into the target critics at each update"""
    initial_temperature: float = 0.2
    """weight of the entropy at the start"""
    target_entropy: float = 0.2
    """entropy of the policy, in nats, that the temperature steers to"""


PAPER: dict[str, Any] = {
    "num_envs": 1,
    "budget": 0,
    "valid_samples": 200,
    "episodes": 20,
    "beta": 10.0,
    "test_every": 1,
    "pretrain_envs": 1,
    "pretrain_steps": 100_000,
    "pretrain_gamma": 0.99,
    "gamma": 0.99,
    "buffer_size": 1_000_000,
    "batch_size": 256,
    "learning_starts": 100,
    "replay_ratio": 1.0,
    "learning_rate": 3e-4,
    "initial_temperature": 1.0,
    "target_entropy": -float(ACTION_SIZE),
}
PALIGEMMA: dict[str, Any] = {
    "model": "vlm:google/paligemma-3b-mix-224",
    "model_args": ("train=attention",),
    "amount": 256,
    "patience": 10,
    "min_iterations": 15,
}
CLIP: dict[str, Any] = {
    "model": "clip:openai/clip-vit-base-patch32",
    "amount": 10,
    "patience": 5,
    "min_iterations": 10,
}
PRESETS: dict[str, dict[str, Any]] = {"paper": PAPER | PALIGEMMA, "paper-clip": PAPER | CLIP}
"""`paper` and `paper-clip`: section 5.2 for PaliGemma and for CLIP; of SAC, Stable-Baselines3's defaults."""


class StateEncoder(nn.Module):
    """`state` float32 [B, 32] of UnitySpatial-v0 to features [B, 65]: what it says, and what follows from it.

    The state scaled by the bounds of its space to [-1, 1]; how far the object to be moved is from the four edges of its
    surface (4), and the others from it (6), in REACH; sines and cosines of the yaws (6); which of the nine objects and
    which of the eight rooms it is (17). Nothing here is learned.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, low: np.ndarray, high: np.ndarray):
        super().__init__()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        state = observations["state"]
        scaled = 2 * (state - self.low) / (self.high - self.low).clamp(min=1e-6) - 1
        place, half, off = state[:, 8:11], state[:, 2:4] / 2, state[:, 8:10] - state[:, 5:7]
        edges = (torch.cat([half - off, half + off], 1) / REACH).clamp(-1, 3)
        others = (torch.cat([state[:, 14:17] - place, state[:, 20:23] - place], 1) / REACH).clamp(-3, 3)
        yaws = state[:, [13, 19, 25]]
        which = F.one_hot(state[:, 0].long(), len(OBJECTS)), F.one_hot(state[:, 1].long(), len(ROOMS))
        return torch.cat([scaled, edges, others, yaws.sin(), yaws.cos(), *which], 1)


class Policy(nn.Module):
    """The encoder of states and the actor behind it: all that is needed to move objects."""

    def __init__(self, encoder: nn.Module, actor: Any):
        super().__init__()
        self.encoder, self.actor = encoder, actor

    @torch.no_grad()
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions float32 [N, 3] for observations float32 [N, 32], sampled: a sampler is meant to vary."""
        state = torch.as_tensor(observations, device=next(self.parameters()).device)
        return self.actor.act(self.encoder({"state": state}), explore=True).cpu().numpy()


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
    """All that is learned of the sampler: actor, critics, target critics and the temperature."""

    def __init__(self, low: np.ndarray, high: np.ndarray, initial_temperature: float):
        super().__init__()
        self.encoder = StateEncoder(low, high)
        self.actor, self.critic = Actor(), Critic()
        self.target = copy.deepcopy(self.critic)
        self.log_temperature = nn.Parameter(torch.tensor(float(np.log(initial_temperature))))

    def policy(self) -> Policy:
        """The part that acts."""
        return Policy(self.encoder, self.actor)

    def encode_next(self, observations: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The actor's and the target critics' features of next observations, which are the same, each [B, F]."""
        features = self.encoder(observations)
        return features, features

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """target <- (1 - tau) target + tau online."""
        torch._foreach_lerp_(list(self.target.parameters()), list(self.critic.parameters()), tau)


def make_optimizers(networks: Networks, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
    """Adam for each of the three updates."""
    parameters = {
        "critic": list(networks.critic.parameters()),
        "actor": list(networks.actor.parameters()),
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
    networks: Networks, optimizers: dict[str, torch.optim.Optimizer], batch: Batch, gamma: float, args: Args
) -> dict[str, torch.Tensor]:
    """One update of everything from one batch of tensors."""
    features = networks.encoder(batch.observations)
    losses = update_critic(networks, optimizers["critic"], batch, features, gamma)
    losses |= update_actor(networks, optimizers["actor"], features, features)
    losses |= update_temperature(networks, optimizers["temperature"], losses["value/entropy"], args.target_entropy)
    networks.move_targets(args.tau)
    return losses


class StateReplay:
    """The last `capacity` transitions, each with both of its observations."""

    def __init__(self, capacity: int, state_size: int, action_size: int, seed: int):
        if capacity < 1:
            raise ValueError(f"a replay buffer holds at least 1 transition, not {capacity}")
        self.head = self.length = 0
        self.generator = np.random.default_rng(seed)
        self.arrays = {
            "observations": np.zeros((capacity, state_size), np.float32),
            "actions": np.zeros((capacity, action_size), np.float32),
            "rewards": np.zeros(capacity, np.float32),
            "next_observations": np.zeros((capacity, state_size), np.float32),
            "terminated": np.zeros(capacity, np.float32),
        }

    def __len__(self) -> int:
        return self.length

    def add(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray | bool,
    ) -> None:
        """Take N transitions: observations [N, S], actions [N, A], rewards and `terminated` [N]."""
        capacity = len(self.arrays["rewards"])
        rows = (self.head + np.arange(len(observations))) % capacity
        transition = (observations, actions, rewards, next_observations, terminated)
        for array, values in zip(self.arrays.values(), transition, strict=True):
            array[rows] = values
        self.head = (self.head + len(rows)) % capacity
        self.length = min(self.length + len(rows), capacity)

    def sample(self, batch_size: int) -> Batch:
        """`batch_size` transitions drawn uniformly with replacement; observations are dicts with `state` [B, S]."""
        rows = self.generator.integers(self.length, size=batch_size)
        taken = {name: array[rows] for name, array in self.arrays.items()}
        return Batch(
            {"state": taken["observations"]},
            taken["actions"],
            taken["rewards"],
            {"state": taken["next_observations"]},
            taken["terminated"],
        )

    def save(self, folder: Path) -> None:
        """Write what is held, and the generator's state, into the new folder `folder`."""
        folder.mkdir()
        state = {"head": self.head, "length": self.length, "generator": self.generator.bit_generator.state}
        held = {name: array[: self.length] for name, array in self.arrays.items()}
        safetensors.numpy.save_file(held, folder / "replay.safetensors")
        (folder / "state.json").write_text(json.dumps(state) + "\n")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, into a buffer of the same capacity."""
        state = json.loads((folder / "state.json").read_text())
        self.head, self.length = state["head"], state["length"]
        self.generator.bit_generator.state = state["generator"]
        for name, array in safetensors.numpy.load_file(folder / "replay.safetensors").items():
            self.arrays[name][: self.length] = array


class Sampler:
    """Who moves the objects, and learns from what comes of it: SAC with its replay, or chance."""

    def __init__(self, args: Args, networks: Networks):
        self.args, self.networks = args, networks
        self.policy = networks.policy()
        self.optimizers = make_optimizers(networks, args.learning_rate)
        self.replay = StateReplay(args.buffer_size, STATE_SIZE, ACTION_SIZE, args.seed)
        self.losses: list[dict[str, torch.Tensor]] = []

    def act(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Actions float32 [N, 3]; SAC's are random too until there is enough to learn from."""
        if self.args.sampler == "random" or len(self.replay) < self.args.learning_starts and not self.args.pretrained:
            return generator.uniform(-1, 1, (len(observations), ACTION_SIZE)).astype(np.float32)
        return self.policy.act(observations)

    def learn(self, *transitions: Any, gamma: float) -> None:
        """Take what `StateReplay.add` takes, and update."""
        if self.args.sampler == "random":
            return
        self.replay.add(*transitions)
        if len(self.replay) >= self.args.learning_starts:
            for _ in range(max(1, round(self.args.replay_ratio * len(transitions[0])))):
                batch = to_tensors(self.replay.sample(self.args.batch_size), self.args.device)
                self.losses.append(update(self.networks, self.optimizers, batch, gamma, self.args))

    def figures(self) -> dict[str, float]:
        """Means of what the updates since the last call reported."""
        losses, self.losses = self.losses, []
        names = losses[0] if losses else {}
        return {name: float(torch.stack([each[name] for each in losses]).mean()) for name in names}


class Shot(NamedTuple):
    """What a valid move has left, and the picture, uint8 [H, W, 3], where the environment takes pictures by itself."""

    arrangement: Arrangement
    picture: np.ndarray | None


class Episode(NamedTuple):
    """What an episode left."""

    generated: int
    """steps of all its rooms"""
    valid: int
    """valid ones among them"""
    chosen: list[Sample]
    """samples to learn from; none where the budget has cut the episode short"""
    feedback: float
    """what the model's reward squares; NaN where nobody asked, or nothing is known"""

    def figures(self) -> dict[str, float]:
        """Its line in the metrics."""
        figures = {"sampling/valid": self.valid / self.generated, "episode/length": self.generated}
        if math.isfinite(self.feedback):
            figures["sampling/feedback"] = self.feedback
        return figures


@dataclasses.dataclass
class Progress:
    """How far a loop has come, in checkpoints as JSON."""

    step: int = 0
    """environment steps, those of the pre-training included"""
    generated: int = 0
    """samples generated in the loop, invalid ones included"""
    tested: int = -1
    """samples generated at the last test"""
    episode: int = 0
    iteration: int = 0
    best: float = -math.inf
    """the validation score that has to be beaten"""
    since: int = 0
    """iterations since it was reached"""
    chosen: dict[str, int] = dataclasses.field(default_factory=dict)
    """how many samples of each of their `groups` were learned from"""

    def count(self, episode: Episode) -> None:
        """Take an episode that has ended."""
        self.step += episode.generated
        self.generated += episode.generated
        self.episode += 1

    def learned(self, batch: Sequence[Sample], score: float, min_delta: float) -> None:
        """Take an iteration that has ended with this validation score."""
        self.iteration += 1
        parts = groups([each.example for each in batch])
        self.chosen = {name: self.chosen.get(name, 0) + int(rows.sum()) for name, rows in parts.items()}
        better = score > self.best + min_delta
        self.best, self.since = (score, 0) if better else (self.best, self.since + 1)

    def over(self, args: Any) -> bool:
        """Whether the budget, the iterations or the patience of RLS3's flags are at their end."""
        waited = bool(args.patience) and self.since >= args.patience and self.iteration >= args.min_iterations
        spent = bool(args.budget) and self.generated >= args.budget
        return waited or spent or bool(args.iterations) and self.iteration >= args.iterations

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "progress.json").write_text(json.dumps(dataclasses.asdict(self)) + "\n")

    def load(self, folder: Path) -> None:
        for name, value in json.loads((folder / "progress.json").read_text()).items():
            setattr(self, name, value)


def seeds(count: int, *place: int) -> list[int]:
    """`count` seeds for this place of a run, as the numbers that lead there tell it."""
    return np.random.SeedSequence(place).generate_state(count).tolist()


def take(envs: Any, valid: np.ndarray) -> list[Shot]:
    """What the last step has left in the `valid` rows, bool [N], of environments."""
    pictures = envs.render() if envs.unwrapped.render_mode else [None] * len(valid)
    return [Shot(envs.unwrapped.arrangement(row), pictures[row]) for row in np.flatnonzero(valid).tolist()]


def draw(pairs: Sequence[tuple[Shot, Example]]) -> list[Sample]:
    """Samples of shots and their examples; pictures that are missing are drawn."""
    return [
        Sample(picture.draw(shot.arrangement).colours if shot.picture is None else shot.picture, example)
        for shot, example in pairs
    ]


class Exam:
    """The fixed samples that a student is validated and tested on, and the lines that tell how it did."""

    def __init__(self, run: Run, student: Student, progress: Progress, args: Any, camera: str):
        self.run, self.student, self.progress = run, student, progress
        counts = {"val": args.validation_samples, "test": args.test_samples}
        self.samples = {split: fixed_samples(split, count, camera) for split, count in counts.items()}

    def validate(self) -> dict[str, float]:
        """Its scores in the training rooms."""
        return describe(self.student, self.samples["val"], "validation")

    def log(self, figures: dict[str, float], tested: bool) -> None:
        """Write and show the line of an iteration, `figures` among it, and where it is `tested` its scores in the test
        rooms."""
        progress = self.progress
        figures = {"sampling/iteration": progress.iteration, "sampling/generated": progress.generated} | figures
        figures |= {f"sampling/{name}": count for name, count in progress.chosen.items()}
        if tested:
            figures |= describe(self.student, self.samples["test"], "test")
            progress.tested = progress.generated
        self.run.log(progress.step, figures)
        parts = [f"iteration {progress.iteration}", f"{progress.generated:,} generated", f"{self.run.seconds:,.0f} s"]
        for name in (f"validation/{self.student.headline}", f"test/{self.student.headline}"):
            if name in figures:
                parts.append(f"{name} {figures[name]:.3f}")
        say("  ".join(parts))


def check_flags(args: Any) -> None:
    """Raise ValueError for flags of RLS3 that make no run."""
    kind = args.model.split(":")[0]
    if kind not in KINDS:
        raise ValueError(f"model {args.model!r}: give {nearest_name(kind, KINDS)}, or that and :<folder or hub name>")
    if not (args.budget or args.iterations or args.patience):
        raise ValueError("nothing ends the loop: give a budget, iterations or patience")
    if not 0 < args.share <= 1 or round(args.share * args.valid_samples) < 2:
        raise ValueError(f"share={args.share} of {args.valid_samples} valid samples: at least 2 are learned from")
    counts = ("episodes", "amount", "num_envs", "pretrain_envs", "test_every", "validation_samples", "test_samples")
    amounts = ("budget", "iterations", "patience", "validate_every", "pretrain_steps", "beta")
    for names, least in ((counts, 1), (amounts, 0)):
        for name in names:
            if not getattr(args, name) >= least:
                raise ValueError(f"{name}={getattr(args, name)}: give at least {least}")
    if args.pretrained and not (Path(args.pretrained) / PRETRAINED).is_file():
        raise ValueError(f"pretrained={args.pretrained} has no {PRETRAINED}: give the folder of a run of rls3")


def make_spatial_envs(env_id: str, num_envs: int, env_args: tuple[str, ...]) -> Any:
    """`num_envs` environments whose episodes somebody else ends; ValueError for other than UnitySpatial-v0's kind."""
    arguments = {"steps": ENDLESS} | parse_keywords(env_args)
    with explain("--env-args"):
        envs = gym.make_vec(env_id, num_envs=num_envs, **arguments)
    space, actions = envs.single_observation_space, envs.single_action_space
    if not isinstance(space, gym.spaces.Box) or not space.is_bounded() or not hasattr(envs.unwrapped, "arrangement"):
        envs.close()
        raise ValueError(f"{env_id} has observations {space} and actions {actions}: not those of UnitySpatial-v0")
    return envs


def pretrain(args: Args, run: Run, sampler: Sampler, progress: Progress, save: Callable[[], None]) -> None:
    """SAC on validity alone, in blocks that each start from newly drawn rooms."""
    rooms = args.pretrain_envs
    envs = make_spatial_envs(args.env_id, rooms, args.env_args)
    line = ProgressLine(progress.step, args.pretrain_steps, "pre-training steps")
    while progress.step < args.pretrain_steps:
        generator = np.random.default_rng([args.seed, 0, progress.step])
        observations, _ = envs.reset(seed=seeds(rooms, args.seed, 0, progress.step))
        count = valid = 0
        while count < min(BLOCK, args.pretrain_steps - progress.step):
            actions = sampler.act(observations, generator)
            next_observations, rewards, *_, infos = envs.step(actions)
            sampler.learn(observations, actions, rewards, next_observations, False, gamma=args.pretrain_gamma)
            observations = next_observations
            count += rooms
            valid += int(infos["valid"].sum())
            line.show(progress.step + count, f"valid {valid / count:.1%}")
        progress.step += count
        run.log(progress.step, {"sampling/valid": valid / count} | sampler.figures())
        save()
    envs.close()


def play_episode(args: Args, envs: Any, sampler: Sampler, student: Student, progress: Progress) -> Episode:
    """Algorithm 1, lines 4 to 14: an episode as long as the budget lets, and the model's feedback on its last step."""
    generator = np.random.default_rng([args.seed, 1, progress.episode])
    observations, _ = envs.reset(seed=seeds(args.num_envs, args.seed, 1, progress.episode))
    left = args.budget - progress.generated if args.budget else math.inf
    shots: list[Shot] = []
    generated = 0
    while True:
        actions = sampler.act(observations, generator)
        next_observations, rewards, *_, infos = envs.step(actions)
        generated += args.num_envs
        shots += take(envs, infos["valid"])
        if len(shots) >= args.valid_samples or generated >= left:
            break
        sampler.learn(observations, actions, rewards, next_observations, False, gamma=args.gamma)
        observations = next_observations
    if len(shots) < args.valid_samples:
        return Episode(generated, len(shots), [], math.nan)

    # The last step waits for the model.
    pairs = [(shot, language.example(shot.arrangement, generator)) for shot in shots[: args.valid_samples]]
    chosen = generator.choice(len(pairs), round(args.share * len(pairs)), replace=False)
    if args.sampler == "random":
        return Episode(generated, len(shots), draw([pairs[place] for place in chosen]), math.nan)
    samples = draw(pairs)
    feedback = student.feedback(samples)
    bonus = args.beta * feedback**2 if math.isfinite(feedback) else 0.0
    sampler.learn(observations, actions, rewards + bonus, next_observations, True, gamma=args.gamma)
    return Episode(generated, len(shots), [samples[place] for place in chosen], feedback)


def fine_tune(
    args: Args, run: Run, student: Student, batch: list[Sample], progress: Progress, exam: Exam
) -> dict[str, float]:
    """Algorithm 1, lines 16 to 22: K updates or epochs, with a validation after every F; returns the last one's."""
    part = args.validate_every or args.amount
    scores: dict[str, float] = {}
    for done in range(0, args.amount, part):
        if scores:
            run.log(progress.step, scores)
        (seed,) = seeds(1, args.seed, 2, progress.iteration, done)
        for loss in student.fine_tune(batch, min(part, args.amount - done), seed):
            run.log(progress.step, {"loss/tuning": float(loss)})
        scores = exam.validate()
    return scores


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    check_flags(args)
    start_torch(args.seed, args.torch_threads)
    envs = make_spatial_envs(args.env_id, args.num_envs, args.env_args)
    run = Run("rls3", args)
    if run.finished:
        envs.close()
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder

    with explain("--model-args"):
        student = load_student(args.model, args.device, parse_keywords(args.model_args))
    space = envs.single_observation_space
    networks = Networks(space.low, space.high, args.initial_temperature).to(args.device)
    if args.pretrained:
        networks.load_state_dict(load_tensors(Path(args.pretrained) / PRETRAINED))
    sampler, progress = Sampler(args, networks), Progress()
    stored: dict[str, Any] = {"replay": sampler.replay, "model": student, "progress": progress}
    run.load(networks, sampler.optimizers, stored)
    run.open()

    def save() -> None:
        run.save_policy(sampler.policy, progress.step)
        run.save(progress.step, networks, sampler.optimizers, stored)

    if args.sampler == "sac" and not args.pretrained:
        pretrain(args, run, sampler, progress, save)
    exam = Exam(run, student, progress, args, envs.unwrapped.camera)
    if progress.iteration == 0:
        save_file(networks.state_dict(), run.folder / PRETRAINED)
        exam.log(exam.validate(), tested=True)
    batch: list[Sample] = []
    line = ProgressLine(progress.generated, args.budget, "samples")
    while not progress.over(args):
        # A checkpoint holds whole iterations: an end within one goes back to its start.
        run.stop_if_requested()
        episode = play_episode(args, envs, sampler, student, progress)
        progress.count(episode)
        run.log(progress.step, episode.figures())
        line.show(progress.generated)
        batch += episode.chosen
        if progress.episode % args.episodes or not episode.chosen:
            continue
        scores = fine_tune(args, run, student, batch, progress, exam)
        progress.learned(batch, scores[f"validation/{student.headline}"], args.min_delta)
        exam.log(scores | sampler.figures(), progress.over(args) or progress.iteration % args.test_every == 0)
        save()
        batch = []
    if progress.tested < progress.generated:
        exam.log({}, tested=True)

    student.save(run.folder / "model")
    run.finish(progress.step)
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Callable[[np.ndarray], np.ndarray]:
    """The sampler of a run's folder: from observations float32 [N, 32] to actions float32 [N, 3], drawn at random."""
    if json.loads((Path(folder) / "config.json").read_text("utf-8"))["args"]["sampler"] == "random":
        raise ValueError(f"{folder} is of a random sampler: there is no policy to load")
    policy = Policy(StateEncoder(np.zeros(STATE_SIZE), np.zeros(STATE_SIZE)), Actor())
    policy.load_state_dict(load_tensors(Path(folder) / "policy.safetensors"))
    return policy.to(device).act


if __name__ == "__main__":
    run_program(train, Args, PRESETS)
