import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.benchmarks.harness.statistics import bootstrap_interval, difference, interquartile_mean, mean_interval

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


def test_interval_of_a_mean_agrees_with_all_resamples_counted_one_by_one():
    scores = np.random.default_rng(2).random(4)
    exact = np.quantile(np.mean(list(itertools.product(scores, repeat=4)), axis=1), [0.025, 0.975])
    np.testing.assert_allclose(mean_interval(scores, resamples=20_000), exact, atol=0.01)


def test_a_difference_agrees_with_pairs_counted_one_by_one():
    generator = np.random.default_rng(3)
    first, second = generator.integers(5, size=(3, 8)), generator.integers(4, size=(2, 8))
    found = difference(first, second, np.arange(8) % 2, resamples=10)
    wins = [(a > b) + (a == b) / 2 for a_run in first for b_run in second for a, b in zip(a_run, b_run, strict=True)]
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert found.probability == pytest.approx(np.mean(wins))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 100))
def test_drivers_swapped_are_as_much_worse(runs: int, others: int, seed: int):
    generator = np.random.default_rng(seed)
    first, second = generator.random((runs, 6)), generator.random((others, 6))
    there, back = (
        difference(first, second, np.zeros(6), resamples=50),
        difference(second, first, np.zeros(6), resamples=50),
    )
    assert there.mean == pytest.approx(-back.mean)
    assert there.probability == pytest.approx(1 - back.probability)


def test_runs_that_vary_make_the_interval_wide_and_routes_that_both_find_hard_do_not():
    hard = np.linspace(0, 1, 20)
    steady = difference(np.tile(hard + 0.1, (3, 1)), np.tile(hard, (3, 1)), np.zeros(20))
    assert (steady.low, steady.high) == (pytest.approx(0.1), pytest.approx(0.1))
    moods = np.array([[-0.3], [0.0], [0.6]])
    moody = difference(hard + moods, np.tile(hard, (3, 1)), np.zeros(20))
    assert moody.low < 0 < moody.high


def test_an_interval_of_equal_drivers_holds_zero_most_of_the_time():
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        first, second = (generator.normal(size=(5, 1)) + generator.normal(size=(5, 25)) for _ in range(2))
        found = difference(first, second, np.zeros(25), resamples=200)
        held += found.low <= 0 <= found.high
    assert held >= 48


def test_a_stratum_keeps_its_share():
    # All of the gap lies in one stratum; mixing the strata would let the mean vary.
    first, strata = np.array([[1.0] * 3 + [0.0] * 3]), np.array([0, 0, 0, 1, 1, 1])
    found = difference(first, np.zeros((1, 6)), strata)
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)
