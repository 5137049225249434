"""Interquartile mean and its stratified bootstrap interval.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", section 4.
"""

import numpy as np
from numpy.typing import ArrayLike


def interquartile_mean(scores: ArrayLike) -> np.ndarray:
    """Mean over the last axis without the floor(n / 4) smallest and the floor(n / 4) largest of its n values."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def bootstrap_interval(scores: ArrayLike, confidence: float = 0.95, resamples: int = 2000) -> tuple[float, float]:
    """Percentile interval of the interquartile mean over all of `scores`, float [seeds, tasks].

    Seeds are drawn with replacement within each task (the stratum), so an entry must be independent of every other:
    what one training run scored on one task. Episodes that one policy drove are averaged first; a resample that took
    them apart would pass off routes for training runs and come out far too narrow. The interval therefore speaks of
    training seeds, not of routes. The draws come from a generator of their own: same scores, same interval.
    """
    scores = np.asarray(scores, np.float64)
    drawn = np.random.default_rng(0).integers(len(scores), size=(resamples, *scores.shape))
    means = interquartile_mean(np.take_along_axis(scores[None], drawn, axis=1).reshape(resamples, -1))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
