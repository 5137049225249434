"""What a mentor is told of driving, and how its replies become actions and margins."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mentorgym.envs.driving import language
from mentorgym.envs.driving.batch import DrivingBatch
from mentorgym.envs.driving.view import SIZE
from mentorgym.mentors.mentor import Feedback, Request


class DrivingAdapter:
    """`mentorgym.mentors.mentor.Adapter` of a batch of egos: row `world * E + ego`."""

    picture_shape = (SIZE, SIZE, 3)
    action_size = 2

    def __init__(self, batch: DrivingBatch):
        self._batch = batch
        self.anchors = language.anchors()

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        """The picture, the prompt (`language.PROMPT` for ""), the context and the expert's action of each of `rows`."""
        actions = self._batch._expert_actions()
        asked = []
        for row in rows:
            told = self._batch.prompt_context(row)
            text = language.fill(prompt or language.PROMPT, told)
            context = language.context(told["command"], told["speed"])
            asked.append(Request(self._batch.picture(row), text, context, actions[row]))
        return asked

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        return np.zeros(self._batch.num_worlds * self._batch.num_egos, bool)

    def check_prompt(self, prompt: str) -> None:
        """See `language.check_prompt`."""
        language.check_prompt(prompt)

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        """The action float32 [2] of a reply (`language.to_action`), or of two numbers, clipped; None for neither."""
        if isinstance(feedback, str):
            return language.to_action(feedback)
        if feedback.shape != (self.action_size,) or not np.isfinite(feedback).all():
            return None
        return np.clip(feedback, -1.0, 1.0).astype(np.float32)

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """See `language.margins`."""
        return language.margins(probabilities, actions)
