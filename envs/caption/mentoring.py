"""What a mentor is told of a scene, and what its replies mean."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.mentor import IMAGE_SLOT, Feedback, Request

if TYPE_CHECKING:
    from mentorgym.envs.caption.vector import CaptionVectorEnv

MOST_ANCHORS = 4096
"""Captions that a scorer weighs against each other, the most frequent: more do not fit into an answer."""


class CaptionAdapter:
    """`mentorgym.mentors.mentor.Adapter` of a batch of scenes.

    An action, as numbers, is float32 [25]: 1 for each of the 4 actions and 21 reasons that a text names, else 0. There
    is one context, whose anchors are the distinct captions of the scenes. A request carries the scene's own labels.
    """

    action_size = len(language.ACTIONS) + len(language.REASONS)
    own_models = {kind: f"{kind}:{WEIGHTS / f'caption_{kind}'}" for kind in ("clip", "vlm")}
    """what the mentors "clip" and "vlm" stand for here"""

    def __init__(self, envs: "CaptionVectorEnv"):
        self._envs = envs
        self.picture_shape = tuple(envs.scenes.picture_shape)
        counts = Counter(envs.reward_model.truths)
        chosen = sorted(sorted(envs.captions, key=lambda caption: -counts[caption])[:MOST_ANCHORS])
        self.anchors, self.answers = [chosen], chosen
        self._places = {_bits(caption).tobytes(): place for place, caption in enumerate(chosen)}

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        """The newest frame, the prompt (`language.PROMPT` for ""), context 0 and the labels of each row."""
        pictures, labels = self._envs.last_pictures(rows), self._envs.labels_of(rows)
        return [
            Request(picture, prompt or language.PROMPT, 0, label)
            for picture, label in zip(pictures, labels, strict=True)
        ]

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        """Bool [N]: none, for each scene stands alone."""
        return np.zeros(self._envs.num_envs, bool)

    def check_prompt(self, prompt: str) -> None:
        """Raise ValueError for a prompt without the one slot for the picture; it has no other."""
        if prompt.count(IMAGE_SLOT) != 1:
            raise ValueError(f"a prompt needs one slot {IMAGE_SLOT} for the picture: {prompt!r}")

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        """The labels float32 [25] that a text names, or those of 25 numbers above 0.5; None for none at all."""
        if isinstance(feedback, str):
            bits = _bits(feedback)
        elif feedback.shape == (self.action_size,) and np.isfinite(feedback).all():
            bits = (feedback > 0.5).astype(np.float32)
        else:
            return None
        return bits if bits.any() else None

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The probability of the caption with exactly these labels minus that of the best other, float32 [B].

        It lies in [-1, 1]; where no caption has these labels, the first probability is 0.
        """
        others = np.array(probabilities, np.float32)
        said = np.zeros(len(others), np.float32)
        for row, action in enumerate(np.asarray(actions, np.float32)):
            place = self._places.get(action.tobytes())
            if place is not None:
                said[row], others[row, place] = others[row, place], 0.0
        return said - others.max(1)


def _bits(text: str) -> np.ndarray:
    reading = language.read(text)
    return np.concatenate([reading.actions, reading.reasons]).astype(np.float32)
