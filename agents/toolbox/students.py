"""The models that RLS3 fine-tunes, and how they are scored on its samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from mentorgym.envs.spatial.language import Example
from mentorgym.envs.spatial.metrics import clip_figures, groups, vlm_figures
from mentorgym.envs.spatial.samples import Samples
from mentorgym.mentors.load import WEIGHTS

KINDS = ("clip", "negclip", "vlm")
"""Of models: `clip` and `negclip` differ in the loss that they learn from alone."""


class Sample(NamedTuple):
    """A picture, uint8 [H, W, 3], and what is true and false of it."""

    picture: np.ndarray
    example: Example


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
        return float(self.model.losses(*self._texts(samples)).mean())

    def fine_tune(self, samples: Sequence[Sample], amount: int, seed: int) -> np.ndarray:
        return finite(self.model.fine_tune(*self._texts(samples), epochs=amount, seed=seed))

    def figures(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Those of `clip_figures`."""
        choices = [each.example.choices for each in samples]
        return clip_figures(self.model.probabilities([each.picture for each in samples], choices))

    @staticmethod
    def _texts(samples: Sequence[Sample]) -> tuple[list[np.ndarray], list[str], list[tuple[str, str]]]:
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


def describe(student: Student, samples: Sequence[Sample], prefix: str) -> dict[str, float]:
    """Means of the student's scores over `samples`, and of its headline over each of their `groups` that has any."""
    figures = student.figures(samples)
    headline = figures[student.headline]
    means = {f"{prefix}/{name}": float(values.mean()) for name, values in figures.items()}
    parts = groups([each.example for each in samples])
    return means | {f"{prefix}/{name}": float(headline[rows].mean()) for name, rows in parts.items() if rows.any()}


def fixed_samples(split: str, count: int, camera: str) -> list[Sample]:
    """The first `count` of the fixed samples of a split."""
    return [Sample(*each) for each in Samples(split, count, camera=camera)]
