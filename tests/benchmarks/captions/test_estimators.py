"""The variances that the table of estimators states are those of the estimates."""

import itertools
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.benchmarks.captions import estimators


def estimates(policy: np.ndarray, rewards: np.ndarray, calls: int, baseline: str) -> tuple[np.ndarray, np.ndarray]:
    """Every estimate from `calls` reward calls, float64 [., V], and the probability of each, by plain enumeration."""
    drawn = calls - (baseline == "greedy")
    found, likelihoods = [], []
    for texts in itertools.product(range(len(policy)), repeat=drawn):
        total = np.zeros(len(policy))
        for place, text in enumerate(texts):
            others = [rewards[each] for other, each in enumerate(texts) if other != place]
            held = {"loo": np.mean(others), "greedy": rewards[np.argmax(policy)], "none": 0.0}[baseline]
            total += (rewards[text] - held) * ((np.arange(len(policy)) == text) - policy) / drawn
        found.append(total)
        likelihoods.append(np.prod(policy[list(texts)]))
    return np.array(found), np.array(likelihoods)


@pytest.mark.parametrize("baseline", ["loo", "greedy", "none"])
def test_variances_are_those_of_all_estimates_and_their_mean_is_the_gradient(baseline: str):
    generator = np.random.default_rng(0)
    policy = generator.dirichlet(np.ones(4))
    rewards = generator.normal(0.5, 1.0, 4)
    truth = np.array([policy[i] * (rewards[i] - sum(policy * rewards)) for i in range(4)])
    for calls in (3, 4):
        found, likelihoods = estimates(policy, rewards, calls, baseline)
        np.testing.assert_allclose(likelihoods @ found, truth, atol=1e-12)
        spread = likelihoods @ ((found - truth) ** 2).sum(1)
        assert estimators.variances(policy, rewards, calls)[baseline] == pytest.approx(spread)


def test_leaving_one_out_beats_no_baseline_where_rewards_have_a_mean(monkeypatch, capsys, tmp_path):
    table = tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["estimators", "--calls", "8", "--json", "--table", str(table)])
    estimators.main()
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == len(estimators.REWARDS) * len(estimators.SCALES)
    for row in rows:
        if row["reward"] == "cosine":
            assert row["none_over_loo"] > 2 and row["none_worse"] == 1.0
            assert row["mean_over_spread"] > 3
    title, _, made, *_ = table.read_text().splitlines()
    assert title == "# Estimators"
    command = f"mentorgym estimators --calls 8 --json --table {table}"
    assert made.startswith(f"Written by `{command}` at commit ")


def test_the_size_of_the_mean_is_stated_in_standard_deviations():
    policy, rewards = np.array([0.25, 0.5, 0.25]), np.array([-1.0, -3.0, -5.0])
    assert estimators.mean_over_spread(policy, rewards) == pytest.approx(3.0 / 2.0**0.5)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.floats(0.0, 3.0), st.sampled_from([-1.0, 1.0]))
def test_leaving_one_out_varies_less_from_the_stated_mean_on(seed: int, calls: int, scale: float, sign: float):
    generator = np.random.default_rng(seed)
    logits = scale * generator.normal(size=7)
    policy = np.exp(logits) / np.exp(logits).sum()
    rewards = generator.normal(size=7)
    centred = rewards - policy @ rewards
    spread = np.sqrt(policy @ centred**2)
    even = estimators.even_mean_over_spread(policy, rewards, calls)

    def excess(mean: float) -> float:
        found = estimators.variances(policy, centred + mean * spread, calls)
        return found["none"] / found["loo"] - 1.0

    assert excess(sign * 1.001 * even) > 0 and excess(sign * 3.0 * even) > 0
    assert min(abs(excess(even)), abs(excess(-even))) < 1e-6


def test_one_call_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["estimators", "--calls", "1"])
    with pytest.raises(SystemExit):
        estimators.main()
    assert "at least 2" in capsys.readouterr().err
