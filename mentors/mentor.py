"""The protocols of a mentor and of an environment family that mentors can be used with.

A mentor answers a batch of requests, each with feedback or with None. None means unavailable: it is masked, never
replaced by a default. Feedback is a text, such as the reply of a vision-language model, or float32 [K]: an action, or,
from a CLIP scorer, the probabilities of the K anchors of the request's context.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

IMAGE_SLOT = "<image>"
"""Marks the place of the picture in a prompt, which holds it exactly once."""

GRID = "grid"
"""Value of a mentor's option `answers` that stands for the answers of the environment's adapter."""

Feedback = str | np.ndarray


def without_slot(text: str) -> str:
    """`text` without IMAGE_SLOT, also where the removal of one leaves another, so that it can be part of a prompt."""
    while IMAGE_SLOT in text:
        text = text.replace(IMAGE_SLOT, "")
    return text


class Request(NamedTuple):
    """A request for feedback on one observation."""

    picture: np.ndarray
    """uint8 [H, W, 3], RGB"""
    prompt: str
    """text for a vision-language model, with IMAGE_SLOT in the place of the picture"""
    context: int
    """row of the adapter's `anchors`, the texts that a CLIP scorer compares with the picture"""
    action: np.ndarray
    """float32 [A], the action of the privileged expert; all NaN where there is no expert"""


class Mentor(Protocol):
    """A callable that answers a batch of requests."""

    def __call__(self, requests: Sequence[Request]) -> Sequence[Feedback | None]:
        """One answer for each of `requests`, in their order; None where there is none."""


class Adapter(Protocol):
    """What the wrappers use of an environment family: `env.adapter` of single and vector environments.

    Where the actions of a family are texts, `to_action` reads each as numbers. A family with small models of its own
    names them in `own_models`, a dict from "clip" or "vlm" to a name that `load_mentor` takes. A family whose actions
    are numbers may have `first_numbers_to_action`, which is as `to_action` and reads any text by its first numbers.
    """

    picture_shape: tuple[int, int, int]
    """(H, W, 3) of the pictures in its requests"""
    action_size: int
    """A, the length of an action"""
    anchors: Sequence[Sequence[str]]
    """texts [C][K]: the K anchors of each context"""
    answers: Sequence[str]
    """replies that a model can be restricted to, one for each of a grid of actions"""

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        """Requests about the present observations of `rows`; `prompt` is a template, "" for the family's own."""

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        """Bool [N]: rows to ask about even where `every` skips them; `infos` are those of the last step."""

    def check_prompt(self, prompt: str) -> None:
        """Raise ValueError, with the fault, for a template that `requests` cannot fill."""

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        """The action float32 [A] that feedback suggests; None where it suggests none."""

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The margin of each action [B, A] over the other anchors, by their `probabilities` [B, K]: float32 [B]."""
