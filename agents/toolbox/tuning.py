"""What the trainers of models share: batches of samples, the learning rate, and a model in a checkpoint.

Their step is a gradient update.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_file, save_model
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mentorgym.agents.toolbox.augmentation import Change
from mentorgym.agents.toolbox.progress import ProgressLine
from mentorgym.agents.toolbox.runs import Run, say
from mentorgym.agents.toolbox.shards import Sample, Samples
from mentorgym.tensors import load_tensors


class Weights:
    """A model in a checkpoint; parameters that are tied are kept once."""

    def __init__(self, model: nn.Module):
        self.model = model

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_model(self.model, str(folder / "model.safetensors"))

    def load(self, folder: Path) -> None:
        load_model(self.model, folder / "model.safetensors")


class Best:
    """The weights that scored highest so far, and a rate that falls while the score does not rise.

    Every `patience` scores without a higher one the rate is multiplied with `factor`; after `stop_after` such scores
    training is `finished`. All of it is kept in checkpoints.
    """

    def __init__(self, module: nn.Module, patience: int, factor: float, stop_after: int):
        self.module, self.patience, self.factor, self.stop_after = module, patience, factor, stop_after
        self.score = self.latest = -math.inf
        self.rate = 1.0
        self.since = 0
        self._keep()

    def _keep(self) -> None:
        self.tensors = {name: tensor.detach().clone() for name, tensor in self.module.named_parameters()}

    @property
    def finished(self) -> bool:
        """Whether the score has not risen for so long that training ends."""
        return self.since >= self.stop_after

    def count(self, score: float) -> None:
        """Take the score of the module as it is now."""
        self.latest = score
        if score > self.score:
            self.score, self.since = score, 0
            self._keep()
            return
        self.since += 1
        if self.since % self.patience == 0:
            self.rate *= self.factor

    def restore(self) -> None:
        """Give the module its best weights back."""
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(self.tensors[name])

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.tensors, folder / "tensors.safetensors")
        state = {"score": self.score, "latest": self.latest, "rate": self.rate, "since": self.since}
        (folder / "state.json").write_text(json.dumps(state) + "\n")

    def load(self, folder: Path) -> None:
        self.tensors = load_tensors(folder / "tensors.safetensors")
        for name, value in json.loads((folder / "state.json").read_text()).items():
            setattr(self, name, value)


def sample_weights(samples: Samples, balance: float) -> np.ndarray:
    """How often to draw each sample, float64 [N], in sum 1: in proportion to n^-balance, n its caption's count.

    0 draws all alike, 1 all captions alike; samples without a caption are drawn alike anyway. A driver's rare moments,
    as braking at speed among standing with the brake on, are rare captions.
    """
    captions = [words.get("caption", "") for words in samples.words]
    _, places, counts = np.unique(captions, return_inverse=True, return_counts=True)
    weights = counts[places] ** -float(balance)
    return weights / weights.sum()


class _Batches(Dataset):
    """The batch of each step, drawn by seed and step alone, so that a resumed run draws what it would have drawn."""

    def __init__(
        self,
        samples: Samples,
        prepare: Callable,
        batch_size: int,
        seed: int,
        balance: float,
        change: Change | None,
    ):
        self.samples, self.prepare, self.batch_size, self.seed = samples, prepare, batch_size, seed
        self.cumulated = np.cumsum(sample_weights(samples, balance))
        self.change = change

    def __getitem__(self, step: int) -> Any:
        generator = np.random.default_rng([self.seed, step])
        draws = generator.random(self.batch_size)
        chosen = np.searchsorted(self.cumulated, draws * self.cumulated[-1], side="right")
        drawn = [self.samples[int(index)] for index in chosen]
        if self.change is not None:
            drawn = [self.change(sample, generator) for sample in drawn]
        return self.prepare(drawn)


def batches(
    samples: Samples,
    prepare: Callable[[Sequence[Sample]], Any],
    steps: range,
    batch_size: int,
    seed: int,
    balance: float,
    workers: int,
    change: Change | None = None,
) -> Iterator[Any]:
    """What `prepare` makes of the batch of each of `steps`, made by as many processes as there are `workers`.

    With `change`, each sample that is drawn goes through it first.
    """
    dataset = _Batches(samples, prepare, batch_size, seed, balance, change)
    context = "spawn" if workers else None
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context=context,
    )
    return iter(loader)


def learning_rate(step: int, total_steps: int, peak: float, warm_up: float) -> float:
    """Linear up to the peak over the share `warm_up` of the steps, then a cosine down to 0 at the last."""
    rising = max(1.0, warm_up * total_steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1.0, total_steps - rising)))


class Meter:
    """Means of losses and speed between two lines of a run's metrics."""

    def __init__(self, run: Run, step: int, total_steps: int):
        """Opens the run's folder, at `step` of `total_steps` updates."""
        run.open(total_steps)
        self._run, self._step = run, step
        self._line = ProgressLine(step, total_steps, "updates")
        self._losses: list[dict[str, torch.Tensor]] = []
        self._since = time.monotonic()

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Count the losses of one update."""
        self._losses.append(losses)
        self._step += 1
        self._line.show(self._step)

    def log(self, step: int, more: Mapping[str, float] | None = None) -> None:
        """Write the line of `step`, with what there is `more`, and show it."""
        means = {name: float(torch.stack([each[name] for each in self._losses]).mean()) for name in self._losses[0]}
        means |= more or {}
        speed = len(self._losses) / (time.monotonic() - self._since)
        self._run.log(step, means | {"speed/updates_per_s": speed})
        figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        say(f"{step:>9,} updates  {figures}")
        self._losses, self._since = [], time.monotonic()


def saved_dtype(name: str) -> torch.dtype:
    """What weights are saved as; asked for before the training whose end needs it. ValueError for what is none."""
    if name not in ("float16", "bfloat16", "float32"):
        raise ValueError(f"save_dtype {name!r} is unknown; choose float16, bfloat16 or float32")
    return getattr(torch, name)


def spread(samples: Samples, count: int) -> list[Sample]:
    """At most `count` samples, from all over."""
    return [samples[int(index)] for index in np.unique(np.linspace(0, len(samples) - 1, count).astype(int))]
