"""The running mean and standard deviation that normalise bonuses."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

EPSILON = 1e-8


class Normaliser:
    """Deviations from the running mean, in running standard deviations, clipped to [-1, 1] (Found-RL, eq. 27).

    As in the released code of Found-RL, one filter serves all environments, and each sample updates the filter before
    it is normalised. The filter begins with mean 0, variance 1 and the weight of 1e-4 samples.

    >>> import numpy as np
    >>> from mentorgym.wrappers.normaliser import Normaliser
    >>> Normaliser()(np.array([1.0, 2.0, 1.5])).round(2)
    array([0.01, 1.  , 0.  ])
    """

    def __init__(self) -> None:
        self.mean, self.variance, self.count = 0.0, 1.0, 1e-4

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Update the filter with each of `samples` [K] in turn; returns the normalised samples, float64 [K]."""
        normalised = np.empty(len(samples))
        for i, sample in enumerate(np.asarray(samples, np.float64).tolist()):
            # Chan, Golub, LeVeque 1983: merging a set of one.
            total = self.count + 1.0
            deviation = sample - self.mean
            self.variance = (self.variance + deviation * deviation / total) * self.count / total
            self.mean += deviation / total
            self.count = total
            normalised[i] = (sample - self.mean) / np.sqrt(self.variance + EPSILON)
        return np.clip(normalised, -1.0, 1.0)

    def get_state(self) -> dict[str, float]:
        """The state of the filter."""
        return {"mean": self.mean, "variance": self.variance, "count": self.count}

    def set_state(self, state: Mapping[str, float]) -> None:
        """Restore a state that `get_state` returned."""
        self.mean, self.variance, self.count = (float(state[name]) for name in ("mean", "variance", "count"))

    def save(self, folder: Path) -> None:
        """Write the state to the new folder `folder`, a part of a checkpoint."""
        folder.mkdir(parents=True)
        (folder / "normaliser.json").write_text(json.dumps(self.get_state()) + "\n")

    def load(self, folder: Path) -> None:
        """Read a state that `save` wrote."""
        self.set_state(json.loads((folder / "normaliser.json").read_text()))
