"""What agents that a mentor helps have in common: the wrapper around their environments, and Found-RL's constants."""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from mentorgym.agents.toolbox.metrics import METRICS
from mentorgym.agents.toolbox.runs import parse_keywords
from mentorgym.wrappers.vector import ActionHints

FOUND_RL: dict[str, Any] = {
    "num_envs": 4,
    "encoder": "found-rl",
    "buffer_size": 150_000,
    "batch_size": 256,
    "learning_starts": 1_024,
    "learning_rate": 1e-4,
    "anneal": True,
    "tau": 0.005,
}
"""Flags of all off-policy agents as Found-RL's released code sets them."""


def with_hints(envs: gym.vector.VectorEnv, args: Any) -> ActionHints:
    """`envs` with a mentor who gives hints, as the flags `mentor`, `mentor_args`, `hint_every`, `hint_mode`, `at_bound`
    and `max_outstanding` say."""
    return ActionHints(
        envs,
        args.mentor,
        options=parse_keywords(args.mentor_args),
        every=args.hint_every,
        mode=args.hint_mode,
        at_bound=args.at_bound,
        max_outstanding=args.max_outstanding,
    )


def mentor_metrics(prefix: str, counters: Mapping[str, float]) -> dict[str, float]:
    """Those of a wrapper's `counters` that METRICS lists as `<prefix>/<name>`, less those that are not known yet."""
    named = {f"{prefix}/{name}": float(value) for name, value in counters.items()}
    return {name: value for name, value in named.items() if name in METRICS and math.isfinite(value)}
