"""What a mentor is, what it is asked, and what an environment family tells of itself so that it can be mentored.

A mentor answers a batch of requests, each with feedback or with None, which means unavailable: it is masked, never
replaced by a default. Feedback is a text, as a vision-language model replies, or numbers, float32 [K]: an action, or
the probabilities of the K anchors of the request's context, as a CLIP scorer gives them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

IMAGE_SLOT = "<image>"
"""Where the picture stands in a prompt; once in each."""

GRID = "grid"
"""As the option `answers` of a mentor: those of the environment's adapter."""

Feedback = str | np.ndarray


def without_slot(text: str) -> str:
    """`text` with no IMAGE_SLOT in it, not even one that is left when another goes; so it can stand in a prompt."""
    while IMAGE_SLOT in text:
        text = text.replace(IMAGE_SLOT, "")
    return text


class Request(NamedTuple):
    """One question about one observation."""

    picture: np.ndarray
    """uint8 [H, W, 3], RGB"""
    prompt: str
    """words for a vision-language model, with IMAGE_SLOT where the picture belongs"""
    context: int
    """row of the anchors that a CLIP scorer weighs against each other"""
    action: np.ndarray
    """float32 [A], what a privileged expert would do now; all NaN where none is known"""


class Mentor(Protocol):
    """Whoever answers."""

    def __call__(self, requests: Sequence[Request]) -> Sequence[Feedback | None]:
        """As many answers as `requests`, in their order; None where there is no usable one."""


class Adapter(Protocol):
    """What the wrappers know of an environment family: `env.adapter`, for single and vector environments alike.

    A family whose actions are texts has each read by `to_action`. One with small models of its own names them in
    `own_models`, a dict from "clip" or "vlm" to what `load_mentor` takes in its place.
    """

    picture_shape: tuple[int, int, int]
    """(H, W, 3) of the pictures of its requests"""
    action_size: int
    """A, the numbers of an action"""
    anchors: Sequence[Sequence[str]]
    """texts [C][K]: for each context its K anchors"""
    answers: Sequence[str]
    """replies, one for each of the actions that a model may be held to"""

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        """What to ask about the present observations of `rows`; `prompt` is a template, "" for the family's own."""

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        """Bool [N]: rows to ask about now even if it is not their turn; `infos` are those of the step before."""

    def check_prompt(self, prompt: str) -> None:
        """Raise ValueError, naming what is wrong, for a template that `requests` cannot fill."""

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        """The action float32 [A] that feedback suggests, or None where it suggests none."""

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """How clearly each action [B, A] is the one that its anchors' `probabilities` [B, K] favour: float32 [B]."""
