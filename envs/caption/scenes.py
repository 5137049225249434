"""What a set of labelled driving scenes is, whoever made it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mentorgym.envs.caption import language


class Labels(NamedTuple):
    """Names, actions and reasons of N scenes."""

    names: Sequence[str]
    """of the scenes: file names, or what a seed gave; no two alike"""
    actions: np.ndarray
    """bool [N, 4]"""
    reasons: np.ndarray
    """bool [N, 21]"""

    def captions(self) -> list[str]:
        """The true caption of each scene; ValueError as of `language.caption`."""
        return [language.caption(*each) for each in zip(self.actions, self.reasons, strict=True)]

    def select(self, indices: np.ndarray) -> "Labels":
        """Those of the scenes at `indices` int64 [K], in this order."""
        return Labels([self.names[index] for index in indices.tolist()], self.actions[indices], self.reasons[indices])


class Scenes(Protocol):
    """Scenes with labels, pictures of which are read or drawn when asked for."""

    @property
    def labels(self) -> Labels:
        """Of all scenes."""

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of its frames."""

    def frames(self, index: int, count: int) -> np.ndarray:
        """The last `count` frames of scene `index`, uint8 [count, H, W, 3], the newest last.

        Raises ValueError, naming file and remedy, for a picture that is missing or cannot be read, and where a scene
        has fewer frames.
        """
