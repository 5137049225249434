"""What a set of labelled driving scenes is, whoever made it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Labels(NamedTuple):
    """Names, actions and reasons of N scenes."""

    names: Sequence[str]
    """of the scenes: file names, or what a seed gave; no two alike"""
    actions: np.ndarray
    """bool [N, 4]"""
    reasons: np.ndarray
    """bool [N, 21]"""


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
