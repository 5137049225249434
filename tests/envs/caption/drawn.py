"""Scenes that need no towns: each reason is a pattern of coloured stripes."""

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Labels


class DrawnScenes:
    """`scenes.Scenes` with `size` scenes of one action and one reason each; counts how often frames are asked for."""

    picture_shape = (24, 32, 3)

    def __init__(self, size: int = 10, reasons: tuple[int, ...] = tuple(range(21))):
        chosen = np.array([reasons[i % len(reasons)] for i in range(size)], np.int64)
        self.labels = Labels(
            [f"scene-{i}" for i in range(size)],
            np.eye(4, dtype=bool)[language.ACTION_OF_REASON[chosen]],
            np.eye(21, dtype=bool)[chosen],
        )
        self.asked: list[int] = []

    def frames(self, index: int, count: int) -> np.ndarray:
        self.asked.append(index)
        if count > 5:
            raise ValueError(f"{self.labels.names[index]} has 5 frames, not {count}")
        generator = np.random.default_rng(index)
        film = generator.integers(0, 256, (5, *self.picture_shape), dtype=np.uint8)
        return film[5 - count :]
