"""Pictures and texts as pairs that match or do not (RLOO paper, Algorithm 1 and appendix B).

A picture makes two pairs: with its own text, and with another of all distinct texts.
"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

Part = Literal["output", "action", "reason"]
"""What of a caption is paired with the picture: all of it, "Action: stop." or "Reason: Traffic light is not green."."""

_REASON = re.compile(r"\s*(?=Reason:)")


def part_of(caption: str, part: Part) -> str:
    """That part of a caption; ValueError where it has none such."""
    if part == "output":
        return caption
    parts = _REASON.split(caption, maxsplit=1)
    if len(parts) != 2 or not parts[0].startswith("Action:"):
        raise ValueError(f"{caption!r} is not of the form 'Action: <...>. Reason: <...>.'")
    return parts[0] if part == "action" else parts[1]


def wrong_text(own: str, texts: Sequence[str], generator: np.random.Generator) -> str:
    """One of the distinct `texts`, at least two, other than `own`, all as likely."""
    others = len(texts) - (own in texts)
    place = int(generator.integers(others))
    return [text for text in texts if text != own][place]


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The probability that a pair that matches scores higher than one that does not, a tie counting half.

    `scores` float [N], `labels` bool [N] of which some are true and some false; ValueError where all are alike.
    """
    labels = np.asarray(labels, bool)
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        raise ValueError("the area under the ROC curve needs pairs that match and pairs that do not")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # The mean rank, from 1, of all that share a score.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def probabilities(cosines: np.ndarray, scale: float, bias: float) -> np.ndarray:
    """The read-out sigmoid(scale * cosine + bias) (appendix B.3, which has no bias), in float64."""
    # As the hyperbolic tangent it does not overflow.
    return 0.5 * (1.0 + np.tanh(0.5 * (scale * np.asarray(cosines, np.float64) + bias)))
