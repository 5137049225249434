"""How numbers fall, or rise, with the share of a run that is done."""

import math


def linear(start: float, end: float, share: float) -> float:
    """From `start` at share 0 to `end` at share 1 in a straight line; constant before and after."""
    return start + (end - start) * min(max(share, 0.0), 1.0)


def cosine(start: float, end: float, share: float, exponent: float) -> float:
    """From `start` at share 0 to `end` from share 1 on, along half a cosine over share ** exponent.

    Found-RL (its paper, eq. 14 and 24). An exponent above 1 holds `start` for longer, one below 1 leaves it sooner.
    """
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0) ** exponent)) / 2
