"""The running mean and standard deviation, against sums over all samples so far in float64."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.wrappers.normaliser import Normaliser

SAMPLES = st.lists(st.floats(0, 1, width=32), max_size=40)


def slow(samples: list[float]) -> list[float]:
    """Weighted mean and variance from scratch for each sample: those before it, itself, and 1e-4 samples of N(0, 1)."""
    normalised = []
    for i, sample in enumerate(samples):
        seen, weight = np.array(samples[: i + 1], np.float64), i + 1 + 1e-4
        mean = seen.sum() / weight
        variance = (((seen - mean) ** 2).sum() + 1e-4 * (1 + mean**2)) / weight
        normalised.append(min(max((sample - mean) / (variance + 1e-8) ** 0.5, -1.0), 1.0))
    return normalised


@given(samples=SAMPLES)
def test_each_sample_is_taken_in_and_then_normalised(samples):
    np.testing.assert_allclose(Normaliser()(np.array(samples, np.float32)), slow(samples), atol=1e-6)


@given(samples=SAMPLES, cut=st.integers(0, 40))
def test_a_restored_normaliser_goes_on_as_the_first(samples, cut, tmp_path_factory):
    whole, first, second = Normaliser(), Normaliser(), Normaliser()
    folder: Path = tmp_path_factory.mktemp("run") / "normaliser"
    expected = whole(np.array(samples))
    begun = first(np.array(samples[:cut]))
    first.save(folder)
    second.load(folder)
    np.testing.assert_array_equal(np.concatenate([begun, second(np.array(samples[cut:]))]), expected)
    assert second.get_state() == whole.get_state()
