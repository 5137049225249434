"""Interquartile mean and differences of means, with stratified bootstrap intervals.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", section 4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

SEEDS_FOR_INTERVAL = 3
"""With fewer training seeds their values are shown, and no interval."""


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
    return quantiles(means, confidence)


def mean_interval(scores: ArrayLike, confidence: float = 0.95, resamples: int = 2000) -> tuple[float, float]:
    """Percentile interval of the mean of `scores`, float [seeds]."""
    scores = np.asarray(scores, np.float64)
    drawn = np.random.default_rng(0).integers(len(scores), size=(resamples, len(scores)))
    return quantiles(scores[drawn].mean(1), confidence)


def seeds_interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """`mean_interval` of a score of each training seed; None for too few seeds."""
    return mean_interval(scores) if len(scores) >= SEEDS_FOR_INTERVAL else None


def quantiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The bounds between which the middle `confidence` of `values` lies."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


class Difference(NamedTuple):
    """How much better one driver is than another."""

    mean: float
    """of the first driver's scores less the second's"""
    low: float
    high: float
    """bounds of the mean's interval"""
    probability: float
    """that a run of the first beats a run of the second on an episode, ties counting half"""
    probability_low: float
    probability_high: float


def difference(
    first: ArrayLike, second: ArrayLike, strata: ArrayLike, confidence: float = 0.95, resamples: int = 2000
) -> Difference:
    """Compare `first` float [runs, E] with `second` float [other runs, E], scores on the same E episodes.

    What varies from one experiment to the next is drawn with replacement: the runs of either driver, each with all of
    its episodes, for those that one policy drove belong together; and the episodes, the same ones for both drivers and
    within each stratum (`strata` int [E]), as a town and its traffic are. So the interval speaks of runs and of
    episodes; for a driver with one run, of episodes alone. Three runs a side show little of how much runs vary: the
    interval is then rather too narrow. The probability of improvement is Agarwal et al.'s, section 4.3.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    labels = np.asarray(strata)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    generator = np.random.default_rng(0)
    gaps, wins = np.empty(resamples), np.empty(resamples)
    for k in range(resamples):
        runs, others = (generator.integers(len(scores), size=len(scores)) for scores in (first, second))
        episodes = np.concatenate([generator.choice(member, len(member)) for member in members])
        gaps[k], wins[k] = _compare(first[runs][:, episodes], second[others][:, episodes])
    gap, win = _compare(first, second)
    return Difference(gap, *quantiles(gaps, confidence), win, *quantiles(wins, confidence))


def _compare(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    above = np.sign(first[:, None] - second[None])
    return float(first.mean() - second.mean()), float((above + 1).mean() / 2)
