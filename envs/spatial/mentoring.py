"""What a mentor is told of a room, and what its replies mean."""

import itertools
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mentorgym.envs.spatial import language
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.relations import RELATIONS, relation_of
from mentorgym.envs.spatial.world import PICTURE_SHAPE
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.mentor import IMAGE_SLOT, Feedback, Request
from mentorgym.mentors.replies import bare_numbers, first_numbers

if TYPE_CHECKING:
    from mentorgym.envs.spatial.vector import SpatialVectorEnv

PROMPT = (
    IMAGE_SLOT + "{question} Where should the {object} be moved next? Answer with three numbers from -1 to 1: "
    "how far along x, which points {x}, along y, which points {y}, and upwards."
)
"""The question; `check_prompt` has its fields."""

FIELDS = ("object", "other", "question", "x", "y")

STEP = 0.5
"""How far the replies that a model may be held to move an object along each axis."""


class SpatialAdapter:
    """`mentorgym.mentors.mentor.Adapter` of a batch of rooms.

    Asked about are the object to be moved next and the one whose turn is after it. What a mentor suggests is an action,
    how far to move the object along the room's axes, as three numbers. Words such as "left" suggest none: they depend
    on the camera, which a reply does not tell; the prompt says where the axes point in the picture instead.

    A context is what holds of the two. Its anchors are the true caption and two false ones of NegCLIP's kinds, the last
    term swapped and the order swapped. The margin is that of the true one, whatever the action: `ClipReward` pays for
    acting where CLIP reads rightly what stands there. RLS3's sampler seeks the opposite: `agents/rls3.py` pays for it.

    No expert is known: the action of a request is NaN.
    """

    picture_shape = PICTURE_SHAPE
    action_size = 3
    own_models = {kind: f"{kind}:{WEIGHTS / f'spatial_{kind}'}" for kind in ("clip", "vlm")}
    """what the mentors "clip" and "vlm" stand for here"""
    anchors = [
        [
            language.caption(*pair, terms),
            language.caption(*pair, language.term_swaps(terms)[-1]),
            language.caption(*pair[::-1], terms),
        ]
        for pair in itertools.permutations(language.NAMES, 2)
        for terms in RELATIONS
    ]
    answers = [
        " ".join(f"{each:.1f}" for each in move)
        for move in itertools.product((-STEP, 0.0, STEP), repeat=3)
        if any(move)
    ]

    def __init__(self, envs: "SpatialVectorEnv"):
        self._envs = envs
        self._contexts = {texts[0]: context for context, texts in enumerate(self.anchors)}

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        """The picture of what each row's observation shows, the prompt (of PROMPT for ""), and the context.

        Raises ValueError for Unity's rooms where they send no pictures, or pictures of another size.
        """
        requests = []
        observations = self._envs.observations()
        for row in rows:
            seen = self._envs.observed(row)
            subject = seen.objects.index(int(observations[row, 0]))
            referent = (subject + 1) % len(seen.objects)
            names = seen.names[subject], seen.names[referent]
            caption = language.caption(*names, relation_of(seen, subject, referent).terms)
            fields = {"object": names[0], "other": names[1], "question": language.question(*names)} | _axes(seen)
            text = (prompt or PROMPT).format(**fields)
            nothing = np.full(self.action_size, np.nan, np.float32)
            picture = self._envs.observed_picture(row)
            if picture.shape != self.picture_shape:
                raise ValueError(f"Unity's pictures are {picture.shape}: give its camera sensor {self.picture_shape}")
            requests.append(Request(picture, text, self._contexts[caption], nothing))
        return requests

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        """Bool [N]: none, for nothing is in a hurry."""
        return np.zeros(self._envs.num_envs, bool)

    def check_prompt(self, prompt: str) -> None:
        """Raise ValueError for a template without the one slot for the picture, or with fields unlike FIELDS."""
        if prompt.count(IMAGE_SLOT) != 1:
            raise ValueError(f"a prompt needs one slot {IMAGE_SLOT} for the picture: {prompt!r}")
        try:
            unknown = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None} - set(FIELDS)
            if not unknown:
                prompt.format(**dict.fromkeys(FIELDS, ""))
        except (ValueError, IndexError) as error:
            raise ValueError(f"the prompt is no template for str.format: {error}") from None
        if unknown:
            raise ValueError(f"the prompt has unknown fields {sorted(unknown)}; there are {', '.join(FIELDS)}")

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        """Three numbers, or a text of three numbers alone, clipped to -1 to 1, float32 [3]; None for any other."""
        return self._clipped(bare_numbers(feedback, self.action_size) if isinstance(feedback, str) else feedback)

    def first_numbers_to_action(self, feedback: Feedback) -> np.ndarray | None:
        """As `to_action`, but a text counts by its first three numbers, whatever stands around them."""
        return self._clipped(first_numbers(feedback, self.action_size) if isinstance(feedback, str) else feedback)

    def _clipped(self, feedback: np.ndarray | list[float] | None) -> np.ndarray | None:
        numbers = np.asarray([] if feedback is None else feedback, np.float64)
        if numbers.shape != (self.action_size,) or not np.isfinite(numbers).all():
            return None
        return np.clip(numbers, -1.0, 1.0).astype(np.float32)

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The probability of the true caption minus that of the likelier false one, float32 [B], in [-1, 1]."""
        return (probabilities[:, 0] - probabilities[:, 1:].max(1)).astype(np.float32)


def _axes(arrangement: Arrangement) -> dict[str, str]:
    """Where the room's x and y point in the picture, in words."""
    words = ["away from you", "away and to the left", "left", "towards you and to the left"]
    words += ["towards you", "towards you and to the right", "right", "away and to the right"]
    turns = {"x": -arrangement.camera.yaw, "y": np.pi / 2 - arrangement.camera.yaw}
    return {axis: words[round(turn / (np.pi / 4)) % 8] for axis, turn in turns.items()}
