"""Stand-ins for driving scenes: for each reason a patch of colour, which mirrored pictures have on the other side."""

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Labels

COLOURS = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (250, 250, 250)]
    + [(250, 130, 0), (0, 130, 250), (110, 60, 20), (130, 250, 0), (200, 120, 200)],
    np.uint8,
)
"""Of the reasons that are their own mirror image, and of those 6 that come in two."""


class DrawnScenes:
    """Scenes with one action and one reason each, the reasons in turn; `reasons` are theirs where they are given."""

    def __init__(self, count: int, seed: int = 0, reasons: np.ndarray | None = None):
        self.reasons = np.arange(count) % 21 if reasons is None else np.asarray(reasons)
        actions = np.eye(4, dtype=bool)[language.ACTION_OF_REASON[self.reasons]]
        names = [f"scene_{seed}_{index}" for index in range(count)]
        self.labels = Labels(names, actions, np.eye(21, dtype=bool)[self.reasons])
        self.picture_shape = (24, 40, 3)
        self.seed = seed

    def frames(self, index: int, count: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, index])
        picture = generator.integers(60, 90, self.picture_shape, dtype=np.uint8)
        reason = int(self.reasons[index])
        mirror = int(language.MIRRORED_REASONS[reason])
        place = reason if reason == mirror else min(reason, mirror)
        kinds = sorted({min(r, int(language.MIRRORED_REASONS[r])) for r in range(21)})
        colour = COLOURS[kinds.index(place) % len(COLOURS)]
        columns = slice(14, 26) if reason == mirror else slice(2, 14) if reason == place else slice(26, 38)
        # The kinds outnumber the colours by some; these have their patch lower.
        top = 2 if kinds.index(place) < len(COLOURS) else 14
        picture[top : top + 9, columns] = colour
        return np.repeat(picture[None], count, 0)
