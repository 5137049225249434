import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.benchmarks.statistics import bootstrap_interval, interquartile_mean

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(values)
def test_interquartile_mean_is_the_mean_trimmed_by_a_quarter(scores: list[float]):
    assert interquartile_mean(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25), abs=1e-6)


def test_interquartile_mean_reduces_the_last_axis():
    scores = np.random.default_rng(0).random((4, 3, 9))
    np.testing.assert_allclose(interquartile_mean(scores), scipy.stats.trim_mean(scores, 0.25, axis=-1))


def test_interval_agrees_with_all_resamples_counted_one_by_one():
    scores = np.random.default_rng(1).random((4, 2))
    columns = [list(itertools.product(column, repeat=4)) for column in scores.T]
    resamples = np.array([first + second for first, second in itertools.product(*columns)])
    exact = np.quantile(scipy.stats.trim_mean(resamples, 0.25, axis=1), [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(scores, resamples=20_000), exact, atol=0.01)


def test_tasks_are_resampled_apart():
    # Drawn together, the seeds' opposite scores would cancel and leave no interval at all.
    low, high = bootstrap_interval([[0.0, 1.0], [1.0, 0.0]])
    assert (low, high) == (0.0, 1.0)


@given(values, st.integers(1, 4))
def test_interval_is_ordered_within_the_scores_and_reproducible(scores: list[float], tasks: int):
    matrix = np.tile(np.array(scores)[:, None], tasks)
    low, high = bootstrap_interval(matrix, resamples=50)
    assert min(scores) - 1e-6 <= low <= high <= max(scores) + 1e-6
    assert bootstrap_interval(matrix, resamples=50) == (low, high)
