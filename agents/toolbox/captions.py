"""What the agents of the caption bandit share: its environment, the held-out scenes, and figures of texts."""

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from safetensors.numpy import load_file, save_file

from mentorgym.agents.toolbox.captioner import Captioner
from mentorgym.agents.toolbox.progress import ProgressLine
from mentorgym.agents.toolbox.runs import Run, explain, parse_keywords, say
from mentorgym.agents.toolbox.shards import Samples
from mentorgym.envs.caption import language
from mentorgym.envs.caption.metrics import measure
from mentorgym.envs.caption.scenes import Labels, Scenes

HELDOUT_FIGURES = (
    "exact",
    "action_top1",
    "reason_top1",
    "action_macro_f1",
    "reason_macro_f1",
    "out_of_vocabulary",
)
"""Of the measures of captions, those that a held-out line has."""

HELDOUT_AT_ONCE = 64
"""Held-out scenes that are answered in one batch."""


def make_caption_envs(env_id: str, env_args: tuple[str, ...], scenes: int, group_size: int, **keywords: Any) -> Any:
    """The environment with `scenes` groups of `group_size` rows, which each `reset` gives the next scenes.

    ValueError where `env_args` have one of the `keywords`, which the agent sets itself.
    """
    arguments = parse_keywords(env_args)
    if "split" in keywords:  # Held-out scenes are of another split, whichever is trained on.
        arguments.pop("split", None)
        arguments.pop("terms", None)
        arguments.pop("judge", None)
    for name in keywords.keys() & arguments.keys():
        raise ValueError(f"env_args {name}={arguments[name]!r}: the agent sets this, by a flag of its own if at all")
    arguments |= keywords
    arguments |= {"group_size": group_size, "autoreset_mode": AutoresetMode.DISABLED}
    with explain("--env-args"):
        return gym.make_vec(env_id, num_envs=scenes * group_size, **arguments).unwrapped


class ShardScenes:
    """`scenes.Scenes` of a folder of shards, each picture a scene of one frame, its labels what its caption says."""

    def __init__(self, folder: Path):
        """Raises ValueError for a folder that holds none, and for a caption that names no action or no reason."""
        self._samples = Samples(folder)
        captions = [str(words.get("caption", "")) for words in self._samples.words]
        readings = [language.read(caption) for caption in captions]
        for caption, reading in zip(captions, readings, strict=True):
            if not (reading.actions.any() and reading.reasons.any()):
                raise ValueError(
                    f"{folder} holds a scene with the caption {caption!r}, which names no action and reason"
                )
        names = [str(index) for index in range(len(readings))]
        self.labels = Labels(
            names, np.array([each.actions for each in readings]), np.array([each.reasons for each in readings])
        )
        self.picture_shape = self._samples[0].picture.shape

    def frames(self, index: int, count: int) -> np.ndarray:
        """Uint8 [1, H, W, 3]; ValueError for more than one frame, or a picture of another shape than the first."""
        picture = self._samples[index].picture
        if count != 1 or picture.shape != self.picture_shape:
            raise ValueError(
                f"{self._samples.source} has one frame of {self.picture_shape} for each scene, and scene {index} is "
                f"{picture.shape}: asked for were {count}"
            )
        return picture[None]


class Place:
    """In a checkpoint, how far the environment has come in its list of scenes."""

    def __init__(self, envs: Any):
        self.envs = envs

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.envs.get_state(), folder / "place.safetensors")

    def load(self, folder: Path) -> None:
        self.envs.set_state(load_file(folder / "place.safetensors"))


def describe_texts(texts: Sequence[str]) -> dict[str, float]:
    """How varied `texts` are, and how often they name each action.

    distinct-n is the number of different runs of n words over that of all (Li et al., NAACL 2016).
    """
    figures = {}
    for n in (1, 2):
        runs = [
            tuple(words[i : i + n]) for words in (text.split() for text in texts) for i in range(len(words) - n + 1)
        ]
        figures[f"text/distinct_{n}"] = len(set(runs)) / max(len(runs), 1)
    actions = np.array([language.read(text).actions for text in texts])
    for index, name in enumerate(language.ACTIONS):
        figures[f"text/{name.replace(' ', '_')}"] = float(actions[:, index].mean())
    return figures | {"text/no_action": float((~actions.any(1)).mean())}


def describe_groups(texts: Sequence[str], rewards: np.ndarray) -> dict[str, float]:
    """What `rewards` [B, k] of the k texts of each of B scenes tell, and `describe_texts` of them."""
    deviations = rewards.std(1)
    groups = np.array(texts, object).reshape(rewards.shape)
    return {
        "reward/mean": float(rewards.mean()),
        "reward/best": float(rewards.max(1).mean()),
        "reward/group_std": float(deviations.mean()),
        "reward/zero_std_groups": float((deviations < 1e-6).mean()),
        "text/unique_in_group": float(np.mean([len(set(group)) for group in groups]) / rewards.shape[1]),
        **describe_texts(texts),
    }


def describe_terms(terms: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each term of the reward, before its weight; missing terms are skipped."""
    return {f"reward/{name}": float(np.nanmean(each)) for name, each in terms.items() if not np.isnan(each).all()}


class Heldout:
    """Scenes that are not trained on, from all over a split, to measure a policy on."""

    def __init__(self, envs: Any, count: int, seed: int):
        """At most `count`, from 1 on, of the scenes of `envs`; `seed` is that of the texts which are sampled."""
        if count < 1:
            raise ValueError(f"heldout_scenes {count}: at least 1 is measured on")
        scenes: Scenes = envs.scenes
        frames = envs.single_observation_space["frames"].shape[0]
        labels = scenes.labels
        chosen = np.unique(np.linspace(0, len(labels.names) - 1, count).astype(int))
        self.scenes, self.frames, self.seed, self.chosen = scenes, frames, seed, chosen.tolist()
        self.labels = labels.select(chosen)

    @torch.no_grad()
    def measure(self, policy: Any, captioner: Captioner, reference: Any = None, ask: Any = None) -> dict[str, float]:
        """Measures of the texts of `policy`, and of one text each that `captioner` samples how varied it writes.

        With a `reference`, a callable of (inputs, written, support) that returns log-probabilities, the estimated KL
        divergence to it. `ask`, a callable of observations, words what the captioner is asked in place of the
        environment's instruction.
        """
        generator = torch.Generator(captioner.device).manual_seed(self.seed)
        answers: list[str] = []
        sampled: list[str] = []
        sums: dict[str, list[torch.Tensor]] = collections.defaultdict(list)
        for start in range(0, len(self.chosen), HELDOUT_AT_ONCE):
            indices = self.chosen[start : start + HELDOUT_AT_ONCE]
            frames = np.stack([self.scenes.frames(index, self.frames) for index in indices])
            instructions = len(indices) * [language.PROMPT]
            observations = {"frames": frames, "instruction": instructions}
            answers += policy(observations)
            inputs = captioner.prepare(frames, ask(observations) if ask else instructions)
            prefix = captioner.read(inputs)
            written = captioner.write(prefix, 1, generator)
            scores = captioner.score(prefix, written)
            sampled += written.texts
            sums["entropy"].append(scores.entropies.sum(1) / written.mask.sum(1))
            if reference:
                own, other = scores.log_probabilities, reference(inputs, written, scores.support)
                sums["kl"].append((own - other).sum(1))
        measured = measure(answers, self.labels)
        figures = {name: measured[name] for name in HELDOUT_FIGURES}
        figures |= {name.removeprefix("text/"): value for name, value in describe_texts(sampled).items()}
        figures |= {name: float(torch.cat(values).mean()) for name, values in sums.items()}
        return {f"heldout/{name}": value for name, value in figures.items()}


class Lines:
    """The lines of a run's metrics: means since the line before, and how many texts a second."""

    def __init__(self, run: Run, step: int, total_steps: int):
        """At `step` of `total_steps` updates."""
        self._run, self._step = run, step
        self._line = ProgressLine(step, total_steps, "updates")
        self._start()

    def _start(self) -> None:
        self._figures: dict[str, list[float]] = collections.defaultdict(list)
        self._texts, self._since = 0, time.monotonic()

    def add(self, figures: Mapping[str, float], texts: int) -> None:
        """Count an update from so many `texts`."""
        self._texts += texts
        for name, value in figures.items():
            self._figures[name].append(value)
        self._step += 1
        self._line.show(self._step)

    def log(self, step: int) -> None:
        """Write the line of `step` and show it."""
        means = {name: float(np.mean(values)) for name, values in self._figures.items()}
        speed = self._texts / (time.monotonic() - self._since)
        self._run.log(step, means | {"speed/samples_per_s": speed})
        text = "  ".join(
            f"{name} {means[name]:.4f}"
            for name in ("reward/mean", "reward/best", "loss/policy", "loss/answer", "text/kl")
            if name in means
        )
        say(f"{step:>9,} updates  {speed:.0f} samples/s  {text}")
        self._start()

    def log_heldout(self, step: int, measure: Callable[[], Mapping[str, float]]) -> None:
        """Write what `measure` returns as a held-out line and show it; the time that it takes is not counted."""
        began = time.monotonic()
        figures = measure()
        self._since += time.monotonic() - began
        self._run.log(step, dict(figures))
        names = ("exact", "action_macro_f1", "reason_macro_f1")
        text = "  ".join(f"{name} {figures['heldout/' + name]:.4f}" for name in names)
        say(f"{step:>9,} updates  held out: {text}")
