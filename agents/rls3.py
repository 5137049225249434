"""RLS3: an agent that moves objects about looks for pictures that a vision-language model describes badly.

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

    python agents/rls3.py --model vlm --seed 1
    python agents/rls3.py --model vlm --seed 1 --sampler random
"""

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from mentorgym.agents.toolbox import Batch, Run, mlp, parse_flags, parse_keywords, start_torch, to_tensors
from mentorgym.agents.toolbox.spatial import (
    PRETRAINED,
    Episode,
    Exam,
    Policy,
    Progress,
    Sample,
    Shot,
    StateEncoder,
    StateReplay,
    Student,
    check_flags,
    draw,
    load_student,
    make_spatial_envs,
    say,
    seeds,
    take,
)
from mentorgym.envs.spatial import language

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
STATE_SIZE, FEATURES, ACTION_SIZE = 32, 65, 3
BLOCK = 5_000  # steps of pre-training after which there is a checkpoint and the rooms are drawn anew


@dataclasses.dataclass
class Args:
    """Flags of RLS3. Rerunning the same command continues the run from its last checkpoint."""

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


PAPER: dict[str, Any] = dict(num_envs=1, budget=0, valid_samples=200, episodes=20, test_every=1, min_iterations=15)
PAPER |= dict(pretrain_envs=1, pretrain_steps=100_000, buffer_size=1_000_000, batch_size=256, beta=10.0)
PAPER |= dict(gamma=0.99, pretrain_gamma=0.99, replay_ratio=1.0, learning_rate=3e-4, learning_starts=100)
PAPER |= dict(initial_temperature=1.0, target_entropy=-float(ACTION_SIZE))
PALIGEMMA = dict(model="vlm:google/paligemma-3b-mix-224", model_args=("train=attention",), amount=256, patience=10)
CLIP = dict(model="clip:openai/clip-vit-base-patch32", amount=10, patience=5, min_iterations=10)
PRESETS: dict[str, dict[str, Any]] = {"paper": PAPER | PALIGEMMA, "paper-clip": PAPER | CLIP}
"""`paper` and `paper-clip`: section 5.2 for PaliGemma and for CLIP; of SAC, Stable-Baselines3's defaults."""


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

    def told(self) -> dict[str, float]:
        """Means of what the updates since the last call reported."""
        losses, self.losses = self.losses or [{}], []
        return {name: float(torch.stack([each[name] for each in losses]).mean()) for name in losses[0]}


def pretrain(args: Args, run: Run, sampler: Sampler, progress: Progress, save: Callable[[], None]) -> None:
    """SAC on validity alone, in blocks that each start from newly drawn rooms."""
    envs = make_spatial_envs(args.env_id, rooms := args.pretrain_envs, args.env_args)
    while progress.step < args.pretrain_steps:
        generator = np.random.default_rng([args.seed, 0, progress.step])
        observations, _ = envs.reset(seed=seeds(rooms, args.seed, 0, progress.step))
        count = valid = 0
        while count < min(BLOCK, args.pretrain_steps - progress.step):
            following, rewards, *_, infos = envs.step(actions := sampler.act(observations, generator))
            sampler.learn(observations, actions, rewards, following, False, gamma=args.pretrain_gamma)
            observations = following
            count, valid = count + rooms, valid + int(infos["valid"].sum())
        progress.step += count
        run.log(progress.step, {"sampling/valid": valid / count} | sampler.told())
        say(f"pre-training {progress.step:,}/{args.pretrain_steps:,} steps  valid {valid / count:.1%}")
        save()
    envs.close()


def play_episode(args: Args, envs: Any, sampler: Sampler, student: Student, progress: Progress) -> Episode:
    """Algorithm 1, lines 4 to 14: an episode as long as the budget lets, and the model's feedback on its last step."""
    generator = np.random.default_rng([args.seed, 1, progress.episode])
    observations, _ = envs.reset(seed=seeds(args.num_envs, args.seed, 1, progress.episode))
    left = args.budget - progress.generated if args.budget else math.inf
    found, generated = list[Shot](), 0
    while True:
        actions = sampler.act(observations, generator)
        following, rewards, *_, infos = envs.step(actions)
        generated += args.num_envs
        found += take(envs, infos["valid"])
        if len(found) >= args.valid_samples or generated >= left:
            break
        sampler.learn(observations, actions, rewards, following, False, gamma=args.gamma)
        observations = following
    if len(found) < args.valid_samples:
        return Episode(generated, len(found), [], math.nan)

    # The last step waits for the model.
    told = [(each, language.example(each.arrangement, generator)) for each in found[: args.valid_samples]]
    chosen = generator.choice(len(told), round(args.share * len(told)), replace=False)
    if args.sampler == "random":
        return Episode(generated, len(found), draw([told[place] for place in chosen]), math.nan)
    shown = draw(told)
    feedback = student.feedback(shown)
    paid = args.beta * feedback**2 if math.isfinite(feedback) else 0.0
    sampler.learn(observations, actions, rewards + paid, following, True, gamma=args.gamma)
    return Episode(generated, len(found), [shown[place] for place in chosen], feedback)


def fine_tune(
    args: Args, run: Run, student: Student, batch: list[Sample], progress: Progress, exam: Exam
) -> dict[str, float]:
    """Algorithm 1, lines 16 to 22: K updates or epochs, with a validation after every F; returns the last one's."""
    part = args.validate_every or args.amount
    told: dict[str, float] = {}
    for done in range(0, args.amount, part):
        if told:
            run.log(progress.step, told)
        (seed,) = seeds(1, args.seed, 2, progress.iteration, done)
        for loss in student.fine_tune(batch, min(part, args.amount - done), seed):
            run.log(progress.step, {"loss/tuning": float(loss)})
        told = exam.validate()
    return told


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

    student = load_student(args.model, args.device, parse_keywords(args.model_args))
    space = envs.single_observation_space
    networks = Networks(space.low, space.high, args.initial_temperature).to(args.device)
    if args.pretrained:
        networks.load_state_dict(load_file(Path(args.pretrained) / PRETRAINED))
    sampler, progress = Sampler(args, networks), Progress()
    stored: dict[str, Any] = {"replay": sampler.replay, "model": student, "progress": progress}
    run.load(networks, sampler.optimizers, stored)

    def save() -> None:
        run.save_policy(sampler.policy)
        run.save(progress.step, networks, sampler.optimizers, stored)

    if args.sampler == "sac" and not args.pretrained:
        pretrain(args, run, sampler, progress, save)
    exam = Exam(run, student, progress, args, envs.unwrapped.camera)
    if progress.iteration == 0:
        save_file(networks.state_dict(), run.folder / PRETRAINED)
        exam.log(exam.validate(), tested=True)
    batch: list[Sample] = []
    while not progress.over(args):
        episode = play_episode(args, envs, sampler, student, progress)
        progress.count(episode)
        run.log(progress.step, episode.told())
        batch += episode.chosen
        if progress.episode % args.episodes or not episode.chosen:
            continue
        told = fine_tune(args, run, student, batch, progress, exam)
        progress.learned(batch, told[f"validation/{student.headline}"], args.min_delta)
        exam.log(told | sampler.told(), progress.over(args) or progress.iteration % args.test_every == 0)
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
    policy.load_state_dict(load_file(Path(folder) / "policy.safetensors"))
    return policy.to(device).act


if __name__ == "__main__":
    train(parse_flags(Args, PRESETS))
