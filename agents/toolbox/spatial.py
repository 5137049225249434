"""What RLS3's loop has beside its algorithm: a replay of states, the model under fine-tuning, and its scores."""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from torch import nn

from mentorgym.agents.toolbox.metrics import SPATIAL_TERMS
from mentorgym.agents.toolbox.replay import Batch
from mentorgym.agents.toolbox.runs import Run, parse_keywords
from mentorgym.envs.spatial import picture, rubric
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.language import Example
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import ROOMS
from mentorgym.envs.spatial.samples import Samples
from mentorgym.envs.spatial.world import REACH
from mentorgym.mentors.load import WEIGHTS
from mentorgym.names import nearest_name

KINDS = ("clip", "negclip", "vlm")
"""Of models: `clip` and `negclip` differ in the loss that they learn from alone."""

ENDLESS = 10**9
"""Steps that no episode takes."""

PRETRAINED = "pretrained.safetensors"
"""In a run's folder, the networks after their pre-training."""


class Sample(NamedTuple):
    """A picture, uint8 [H, W, 3], and what is true and false of it."""

    picture: np.ndarray
    example: Example


class Shot(NamedTuple):
    """What a valid move has left, and the picture, uint8 [H, W, 3], where the environment takes pictures by itself."""

    arrangement: Arrangement
    picture: np.ndarray | None


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
        told = (observations, actions, rewards, next_observations, terminated)
        for array, values in zip(self.arrays.values(), told, strict=True):
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
        save_file(held, folder / "replay.safetensors")
        (folder / "state.json").write_text(json.dumps(state) + "\n")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, into a buffer of the same capacity."""
        state = json.loads((folder / "state.json").read_text())
        self.head, self.length = state["head"], state["length"]
        self.generator.bit_generator.state = state["generator"]
        for name, array in load_file(folder / "replay.safetensors").items():
            self.arrays[name][: self.length] = array


def clip_figures(likelihoods: np.ndarray) -> dict[str, np.ndarray]:
    """Of each sample, from what a CLIP thinks of its four choices, [N, 4], the true one first; a tie counts half.

    `two_way`: whether the true caption is likelier than an altered one, the mean of `term`, where a term is swapped,
    and `order`, where subject and referent are; `four_way`: whether it is the likeliest of all, shared with those that
    are as likely. Each float64 [N].
    """
    wins = (np.sign(likelihoods[:, :1] - likelihoods[:, 1:]) + 1.0) / 2
    best = likelihoods == likelihoods.max(1, keepdims=True)
    two_way, four_way = wins[:, :2].mean(1), best[:, 0] / best.sum(1)
    return {"two_way": two_way, "four_way": four_way, "term": wins[:, 0], "order": wins[:, 1]}


def vlm_figures(answers: Sequence[str], examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """`score` of each answer on the rubric, 1 to 5, and `exact`, whether it has all terms and no other; float64 [N]."""
    told = zip(answers, examples, strict=True)
    scores = np.array([rubric.score(text, each.relation.terms) for text, each in told], np.float64)
    return {"score": scores, "exact": (scores == 5).astype(np.float64)}


class Student(Protocol):
    """A model that is asked about samples and fine-tuned on them."""

    headline: str
    """the score in which it is to improve"""

    def feedback(self, samples: Sequence[Sample]) -> float:
        """How hard the samples are for it: what RLS3's reward squares (equation 3); NaN for unknown."""

    def fine_tune(self, samples: Sequence[Sample], amount: int, seed: int) -> np.ndarray:
        """Learn from the samples; returns the loss of each update, float32; FloatingPointError as from `finite`."""

    def figures(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Its scores on each of N samples, each float [N]."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


def finite(losses: np.ndarray) -> np.ndarray:
    """The losses of a fine-tuning; FloatingPointError where one is no number, for the model is then of no use."""
    if not np.isfinite(losses).all():
        update = int(np.argmin(np.isfinite(losses)))
        raise FloatingPointError(
            f"the loss of update {update} of the model is {losses[update]}: lower its learning_rate"
        )
    return losses


class ClipStudent:
    """A CLIP; `fine_tune` counts epochs."""

    headline = "two_way"

    def __init__(self, model: Any):
        self.model = model
        self.save, self.load = model.save, model.load

    def feedback(self, samples: Sequence[Sample]) -> float:
        """Its contrastive loss on them (RLS3, equation 1 with 3 N texts)."""
        return float(self.model.losses(*self._told(samples)).mean())

    def fine_tune(self, samples: Sequence[Sample], amount: int, seed: int) -> np.ndarray:
        return finite(self.model.fine_tune(*self._told(samples), epochs=amount, seed=seed))

    def figures(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Those of `clip_figures`."""
        choices = [each.example.choices for each in samples]
        return clip_figures(self.model.probabilities([each.picture for each in samples], choices))

    @staticmethod
    def _told(samples: Sequence[Sample]) -> tuple[list[np.ndarray], list[str], list[tuple[str, str]]]:
        examples = [each.example for each in samples]
        negatives = [(each.term_swapped, each.order_swapped) for each in examples]
        return [each.picture for each in samples], [each.caption for each in examples], negatives


class VlmStudent:
    """A generative VLM; `fine_tune` counts updates."""

    headline = "score"

    def __init__(self, model: Any):
        self.model = model
        self.save, self.load = model.save, model.load

    def feedback(self, samples: Sequence[Sample]) -> float:
        """6 less its mean score on the rubric (RLS3, section 4.4)."""
        return 6.0 - float(self.figures(samples)["score"].mean())

    def fine_tune(self, samples: Sequence[Sample], amount: int, seed: int) -> np.ndarray:
        examples = [each.example for each in samples]
        questions, captions = [each.question for each in examples], [each.caption for each in examples]
        pictures = [each.picture for each in samples]
        return finite(self.model.fine_tune(pictures, questions, captions, steps=amount, seed=seed))

    def figures(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Those of `vlm_figures`."""
        questions = [each.example.question for each in samples]
        answers = self.model.answer([each.picture for each in samples], questions)
        return vlm_figures(answers, [each.example for each in samples])


def load_student(spec: str, device: str, options: dict[str, Any]) -> Student:
    """The model that `spec` names: one of KINDS for our own, or `<kind>:<folder or hub name>`.

    `options` are keyword arguments of `TrainableClip` or `TrainableVlm`.
    """
    from mentorgym.mentors.trainable import TrainableClip, TrainableVlm

    kind, _, name = spec.partition(":")
    if kind == "vlm":
        return VlmStudent(TrainableVlm(name or str(WEIGHTS / "spatial_vlm"), device=device, **options))
    options = {"contrast": "rls3" if kind == "clip" else "negclip"} | options
    return ClipStudent(TrainableClip(name or str(WEIGHTS / "spatial_clip"), device=device, **options))


def groups(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Which captions have each term (`left`), and which have one, two and three (`terms_1`), each bool [N]."""
    terms = [each.relation.terms for each in examples]
    told = {name: [name.replace("_", " ") in each for each in terms] for name in SPATIAL_TERMS}
    told |= {f"terms_{count}": [len(each) == count for each in terms] for count in (1, 2, 3)}
    return {name: np.array(rows, bool) for name, rows in told.items()}


def in_words(name: str) -> str:
    """A score or a group of captions for a heading."""
    if name.startswith("terms_"):
        return "1 term" if name == "terms_1" else f"{name[-1]} terms"
    return name.replace("_way", "-way").replace("_", " ")


def describe(student: Student, samples: Sequence[Sample], prefix: str) -> dict[str, float]:
    """Means of the student's scores over `samples`, and of its headline over each of their `groups` that has any."""
    figures = student.figures(samples)
    headline = figures[student.headline]
    told = {f"{prefix}/{name}": float(values.mean()) for name, values in figures.items()}
    parts = groups([each.example for each in samples])
    return told | {f"{prefix}/{name}": float(headline[rows].mean()) for name, rows in parts.items() if rows.any()}


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

    def told(self) -> dict[str, float]:
        """Its line in the metrics."""
        figures = {"sampling/valid": self.valid / self.generated, "episode/length": self.generated}
        return figures | ({"sampling/feedback": self.feedback} if math.isfinite(self.feedback) else {})


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


def say(line: str) -> None:
    """Show how far a run has come."""
    print(line, file=sys.stderr, flush=True)


def take(envs: Any, valid: np.ndarray) -> list[Shot]:
    """What the last step has left in the `valid` rows, bool [N], of environments."""
    pictures = envs.render() if envs.unwrapped.render_mode else [None] * len(valid)
    return [Shot(envs.unwrapped.arrangement(row), pictures[row]) for row in np.flatnonzero(valid).tolist()]


def draw(told: Sequence[tuple[Shot, Example]]) -> list[Sample]:
    """Samples of what was taken and is said of it; pictures that there are none of yet are drawn."""
    return [
        Sample(picture.draw(shot.arrangement).colours if shot.picture is None else shot.picture, example)
        for shot, example in told
    ]


def fixed_samples(split: str, count: int, camera: str) -> list[Sample]:
    """The first `count` of the fixed samples of a split."""
    return [Sample(*each) for each in Samples(split, count, camera=camera)]


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
        told = [f"iteration {progress.iteration}", f"{progress.generated:,} generated", f"{self.run.seconds:,.0f} s"]
        wanted = [f"{split}/{self.student.headline}" for split in ("validation", "test")]
        say("  ".join([*told, *(f"{name} {figures[name]:.3f}" for name in wanted if name in figures)]))


def check_flags(args: Any) -> None:
    """Raise ValueError for flags of RLS3 that make no run."""
    if (kind := args.model.split(":")[0]) not in KINDS:
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
    envs = gym.make_vec(env_id, num_envs=num_envs, **{"steps": ENDLESS, **parse_keywords(env_args)})
    space, actions = envs.single_observation_space, envs.single_action_space
    if not isinstance(space, gym.spaces.Box) or not space.is_bounded() or not hasattr(envs.unwrapped, "arrangement"):
        envs.close()
        raise ValueError(f"{env_id} has observations {space} and actions {actions}: not those of UnitySpatial-v0")
    return envs
