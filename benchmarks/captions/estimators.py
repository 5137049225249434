"""How much the baselines of policy gradients are worth.

For policies over few texts all can be enumerated, and so the variance of a gradient estimate is exact, not sampled. At
the same number k of reward calls a scene:

- `loo`, RLOO: k samples, each less the mean reward of the others;
- `greedy`, SCST: k - 1 samples, each less the reward of the likeliest text, which costs the k-th call;
- `none`, REINFORCE: k samples.

All are unbiased; what is compared is the trace of their covariance, in the logits of the policy. A baseline takes off
the mean of the rewards and adds its own noise, so what it is worth depends on how large that mean is against their
spread; that is stated beside, with the size of the mean from which on leaving one out has the smaller variance.
Policies are softmaxes of normal logits, from flat (scale 0) to nearly decided, over as many texts as there are
captions; rewards are like the caption bandit's: one text is right, CLIP's softmax, CLIP's cosine, and one around zero.
All come from seeds.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mentorgym.benchmarks.harness.command import TableFlags, UsageError, report, verb
from mentorgym.benchmarks.harness.tables import markdown_lines

TEXTS = 21
SCALES = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations of the logits."""

SEEDS = 50
"""Policies and rewards of each kind."""


def right_or_wrong(generator: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """1 for one text, 0 for the others."""
    return np.eye(len(logits))[generator.integers(len(logits))]


def contrast(generator: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """A softmax over the texts, which agrees with the policy in part."""
    noise = 2.0 * generator.normal(size=len(logits)) + 0.5 * logits
    return np.exp(noise) / np.exp(noise).sum()


def cosine(generator: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """All of much the same height."""
    return 0.6 + 0.1 * generator.normal(size=len(logits))


def around_zero(generator: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """Normal, mean 0."""
    return generator.normal(size=len(logits))


REWARDS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "right or wrong": right_or_wrong,
    "contrast": contrast,
    "cosine": cosine,
    "around zero": around_zero,
}


def gradient(policy: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Of the expected reward in the logits of `policy` [V], float64 [V]."""
    return policy * (rewards - policy @ rewards)


def variances(policy: np.ndarray, rewards: np.ndarray, calls: int) -> dict[str, float]:
    """The trace of the covariance of each estimate from `calls` reward calls, exactly.

    `loo` is the U-statistic of the kernel (r_i - r_j)(s_i - s_j) / 2, s being the gradient of the log-probability; its
    variance is Hoeffding's (1948), 2 / (k (k - 1)) * (2 (k - 2) z_1 + z_2).
    """
    truth = gradient(policy, rewards)
    scores = np.eye(len(policy)) - policy

    def of_one(baseline: float) -> float:
        each = (rewards - baseline)[:, None] * scores
        return float(policy @ (each**2).sum(1) - truth @ truth)

    pairs = 0.5 * (rewards[:, None] - rewards)[..., None] * (scores[:, None] - scores)
    given_one = np.einsum("j,ijv->iv", policy, pairs)
    z_1 = policy @ (given_one**2).sum(1) - truth @ truth
    z_2 = np.einsum("i,j,ij->", policy, policy, (pairs**2).sum(2)) - truth @ truth
    return {
        "loo": float(2.0 / (calls * (calls - 1)) * (2 * (calls - 2) * z_1 + z_2)),
        "greedy": of_one(float(rewards[policy.argmax()])) / (calls - 1),
        "none": of_one(0.0) / calls,
    }


def mean_over_spread(policy: np.ndarray, rewards: np.ndarray) -> float:
    """The size of the expected reward in standard deviations of the reward, under `policy` [V]."""
    mean = policy @ rewards
    return float(abs(mean) / np.sqrt(policy @ (rewards - mean) ** 2))


def even_mean_over_spread(policy: np.ndarray, rewards: np.ndarray, calls: int) -> float:
    """The least size that the expected reward needs, in standard deviations of the reward, for `loo` to vary less.

    A constant added to all rewards leaves `loo` as it is; the variance of `none` is a parabola in it. Beyond the root
    that is further from a mean of zero, `loo` has the smaller variance, whatever the sign of the mean.
    """
    mean = policy @ rewards
    weights = policy * (1.0 - 2.0 * policy + policy @ policy)
    centred = rewards - mean
    truth = gradient(policy, rewards)
    left = calls * variances(policy, rewards, calls)["loo"] + truth @ truth
    roots = np.roots([weights.sum(), 2.0 * weights @ centred, weights @ centred**2 - left])
    return float(np.abs(roots.real).max() / np.sqrt(policy @ centred**2))


def measure(calls: Sequence[int]) -> dict[str, Any]:
    """For each kind of reward, scale of the logits and number of calls, how the variances compare."""
    rows = []
    for kind, draw in REWARDS.items():
        for scale in SCALES:
            for k in calls:
                traces, means, evens = [], [], []
                for seed in range(SEEDS):
                    generator = np.random.default_rng([seed, list(REWARDS).index(kind), SCALES.index(scale)])
                    logits = scale * generator.normal(size=TEXTS)
                    policy = np.exp(logits) / np.exp(logits).sum()
                    rewards = draw(generator, logits)
                    traces.append(variances(policy, rewards, k))
                    means.append(mean_over_spread(policy, rewards))
                    evens.append(even_mean_over_spread(policy, rewards, k))
                row: dict[str, Any] = {"reward": kind, "scale": scale, "calls": k}
                row["mean_over_spread"] = statistics.median(means)
                row["even_mean_over_spread"] = statistics.median(evens)
                for other in ("greedy", "none"):
                    ratios = [each[other] / each["loo"] for each in traces]
                    row[f"{other}_over_loo"] = statistics.median(ratios)
                    row[f"{other}_worse"] = float(np.mean(np.array(ratios) > 1))
                rows.append(row)
    return {"texts": TEXTS, "seeds": SEEDS, "rows": rows}


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    lines = [
        f"Variance of policy gradients over {figures['texts']} texts at the same number of reward calls, exactly: how "
        "many times that of RLOO (`loo`) the others have, the median over "
        f"{figures['seeds']} policies and rewards from seeds, and in brackets the share of these in which RLOO's is "
        "the smallest of the two. The logits of the policies are normal; 0 is a flat policy, 4 one nearly decided. "
        "Mean / spread is the size of the expected reward in standard deviations of the reward, again the median; "
        "from `even at` on RLOO has a smaller variance than REINFORCE.",
        "",
    ]
    header = ["reward", "scale of logits", "mean / spread", "reward calls", "SCST (`greedy`)", "REINFORCE (`none`)"]
    rows = []
    for row in figures["rows"]:
        cells = [f"{row[f'{name}_over_loo']:.2f} ({row[f'{name}_worse']:.0%})" for name in ("greedy", "none")]
        case = [row["reward"], f"{row['scale']:g}", f"{row['mean_over_spread']:.2f}", str(row["calls"])]
        rows.append([*case, *cells, f"{row['even_mean_over_spread']:.2f}"])
    return [*lines, *markdown_lines([*header, "even at"], rows)]


@dataclass
class Args(TableFlags):
    """Compare the variances of policy gradient estimators."""

    calls: tuple[int, ...] = (4, 8)
    """reward calls for a scene, at least 2"""


@verb("estimators")
def main(args: Args, command: str) -> dict[str, Any]:
    """Measure, print the table, and return the figures."""
    if min(args.calls) < 2:
        raise UsageError("--calls: the leave-one-out baseline needs at least 2")
    figures = measure(args.calls)
    report("Estimators", table(figures), args.table, command)
    return figures
