"""The staged scenes as a set: drawn when they are asked for, and kept on disk."""

from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from mentorgym.cache import cache_folder, read_picture, write_picture
from mentorgym.digests import files_digest
from mentorgym.envs.caption.language import ACTION_OF_REASON, REASONS
from mentorgym.envs.caption.scenes import Labels
from mentorgym.envs.caption.staging.records import Record
from mentorgym.envs.caption.staging.sites import TOWNS
from mentorgym.envs.driving.map.town import packaged_towns

SIZES = {"train": 4200, "val": 420, "test": 1050}
"""Scenes of each split by default: 200, 20 and 50 of each reason."""

PAPER_COUNTS = (14, 20, 8, 73, 23, 6, 0, 208, 26, 1, 8, 2, 0, 1, 0, 1, 7, 2, 1, 2, 0)
"""How often each reason decides in the test set of the RLOO paper (its Fig. 8)."""

MOST_FRAMES = 6
"""Frames, 0.5 s apart, for which a scene has a past."""


@lru_cache
def code_version() -> str:
    """A hash of all that a picture depends on: the code and the maps."""
    here = Path(__file__).parent
    envs = here.parents[1]
    towns = sorted(packaged_towns().values())
    drawing = sorted([*here.glob("*.py"), *(envs / "rendering").glob("*.py")])
    return files_digest([*drawing, *towns, envs / "driving" / "map" / "opendrive.py"])


class StagedScenes:
    """Scenes staged in our towns (`scenes.Scenes`).

    `split` is "train", "val" or "test"; tested is in towns where nothing is trained. With `labels="one"` a scene is
    labelled with the action and the reason that it was staged for, with "all" with all that `rules.labels_of` finds.
    `prior` is "uniform" over the reasons, or "paper": drawn in the proportions of the RLOO paper's data. Scene i
    depends on these, the seed and i alone, so a set of more scenes begins with those of a smaller one. Raises
    ValueError for an unknown argument.
    """

    picture_shape = (108, 192, 3)

    def __init__(
        self, split: str, labels: str = "one", prior: str = "uniform", seed: int = 0, count: int | None = None
    ):
        for name, value, known in (
            ("split", split, tuple(SIZES)),
            ("labels", labels, ("one", "all")),
            ("prior", prior, ("uniform", "paper")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, not {seed}")
        self.split, self.kind, self.prior, self.seed = split, labels, prior, seed
        self.count = SIZES[split] if count is None else count
        self.staged_for = self._staged_for()
        """the reason that each scene was staged for, int64 [N]"""

    def _staged_for(self) -> np.ndarray:
        if self.prior == "uniform":
            return np.arange(self.count) % len(REASONS)
        share = np.cumsum(PAPER_COUNTS) / sum(PAPER_COUNTS)
        rng = np.random.default_rng([self.seed, tuple(TOWNS).index(self.split), 2**31])
        return np.searchsorted(share, rng.random(self.count), side="right")

    @cached_property
    def labels(self) -> Labels:
        """Names, actions and reasons of all scenes."""
        names = [f"{self.split}-{self.kind}-{self.prior}-{self.seed}-{index:06d}" for index in range(self.count)]
        actions, reasons = np.zeros((self.count, 4), bool), np.zeros((self.count, len(REASONS)), bool)
        if self.kind == "one":
            rows = np.arange(self.count)
            reasons[rows, self.staged_for] = True
            actions[rows, ACTION_OF_REASON[self.staged_for]] = True
        else:
            from mentorgym.envs.caption.staging.compose import compose
            from mentorgym.envs.caption.staging.rules import labels_of

            for index, reason in enumerate(self.staged_for.tolist()):
                record = compose(self.split, self.seed, index, reason, more=True, scenery=False)
                actions[index], reasons[index] = labels_of(record)
        return Labels(names, actions, reasons)

    def record(self, index: int) -> Record:
        """What stands where in scene `index`. Raises IndexError for one that is not there."""
        from mentorgym.envs.caption.staging.compose import compose

        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return compose(self.split, self.seed, index, int(self.staged_for[index]), self.kind == "all")

    def frames(self, index: int, count: int) -> np.ndarray:
        """The last `count` frames of scene `index`, 0.5 s apart, uint8 [count, 108, 192, 3], the newest last.

        Raises ValueError for more than `MOST_FRAMES` frames or fewer than 1, IndexError for a scene that is not there.
        """
        if not 1 <= count <= MOST_FRAMES:
            raise ValueError(f"a staged scene has 1 to {MOST_FRAMES} frames, not {count}")
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return np.stack([self._frame(index, back) for back in reversed(range(count))])

    def path(self, index: int, back: int = 0) -> Path:
        """Where the frame `back` steps before the last is kept."""
        folder = cache_folder() / "scenes" / code_version() / f"{self.split}-{self.kind}-{self.prior}-{self.seed}"
        return folder / f"{index:06d}-{back}.png"

    def _frame(self, index: int, back: int) -> np.ndarray:
        path = self.path(index, back)
        if (kept := read_picture(path, self.picture_shape)) is not None:
            return kept
        from mentorgym.envs.caption.staging.draw import STEP, draw

        drawn = draw(self.record(index), back * STEP).colours
        write_picture(path, drawn)
        return drawn
