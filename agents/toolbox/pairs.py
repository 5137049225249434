"""Pictures and texts as pairs that match or do not (RLOO paper, Algorithm 1 and appendix B).

A picture makes two pairs: with its own text, and with another of all distinct texts.
"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mentorgym.agents.toolbox.augmentation import Change, mirrored_caption
from mentorgym.agents.toolbox.shards import Sample, Samples, stratified_order

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


class Pairing:
    """Samples with a part of their caption, and with another of the distinct `texts` as "wrong" beside it."""

    def __init__(self, part: Part, texts: Sequence[str], augmentation: Change | None = None):
        self.part, self.texts, self.augmentation = part, texts, augmentation

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Another sample; the one that is given stays as it is."""
        if self.augmentation is not None:
            sample = self.augmentation(sample, generator)
        own = part_of(sample.words["caption"], self.part)
        return sample._replace(words={"caption": own, "wrong": wrong_text(own, self.texts, generator)})


def distinct_texts(samples: Samples, part: Part, mirror: bool) -> list[str]:
    """The texts of the data that a picture is weighed against; with `mirror`, their mirror images too."""
    captions = {str(words["caption"]) for words in samples.words}
    if mirror:
        captions |= {mirrored_caption(caption) for caption in captions}
    texts = sorted({part_of(caption, part) for caption in captions})
    if len(texts) < 2:
        raise ValueError(f"{samples.source} has one text alone, {texts[0]!r}: there is no wrong one to weigh against")
    return texts


def deal(samples: Samples, split: Sequence[int], seed: int) -> tuple[Samples, Samples, Samples | None]:
    """The samples to train on, to validate and to test on, stratified by caption.

    `split` are their numbers of pairs, two a sample; without, a tenth is to validate on, and none to test on. Raises
    ValueError for other splits, and where the samples are too few.
    """
    order = stratified_order([words["caption"] for words in samples.words], seed)
    if not split:
        held_back = max(1, len(order) // 10)
        return samples.select(order[held_back:]), samples.select(order[:held_back]), None
    if len(split) != 3 or any(pairs < 2 or pairs % 2 for pairs in split):
        raise ValueError("split is three even numbers of pairs, as 1400 200 400: a picture makes two")
    needed = sum(split) // 2
    if len(order) < needed:
        raise ValueError(f"{samples.source} has {len(order)} samples; split needs {needed}")
    train, validation, test = np.split(order[:needed], np.cumsum(split)[:2] // 2)
    return samples.select(train), samples.select(validation), samples.select(test)


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


def pairs_auroc(cosines: np.ndarray) -> float:
    """AUROC of cosines [2, N], the first row's being those of pairs that match."""
    return auroc(cosines.ravel(), np.repeat([True, False], cosines.shape[1]))


def probabilities(cosines: np.ndarray, scale: float, bias: float) -> np.ndarray:
    """The read-out sigmoid(scale * cosine + bias) (appendix B.3, which has no bias), in float64."""
    # As the hyperbolic tangent it does not overflow.
    return 0.5 * (1.0 + np.tanh(0.5 * (scale * np.asarray(cosines, np.float64) + bias)))


def balanced_bias(cosines: np.ndarray, scale: float) -> float:
    """The bias with which pairs of `cosines`, half of which match, match with probability 1/2 in the mean."""
    low, high = -scale - 50.0, scale + 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probabilities(cosines, scale, middle).mean() < 0.5 else (low, middle)
    return middle
