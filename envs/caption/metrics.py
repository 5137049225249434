"""How well captions name the actions and reasons of their scenes.

A text counts by what `language.read` finds in it, so that capitals, spaces and common synonyms do not matter. Classes
are the 4 actions and the 21 reasons. With TP, FP and FN a class's true positives, false positives and false negatives
over all scenes, its F1 is 2 TP / (2 TP + FP + FN), and 0 where that is 0 / 0, as by scikit-learn's default
`zero_division`. For actions and reasons apart:

- top-1: the share of scenes of which exactly the true ones are named;
- label accuracy: the share of the N x C labels, present or absent, that are met (RLOO paper, section 5.1, "accuracy").
  Most labels are absent, so whoever names little of anything comes close to 1;
- macro-F1: the mean over all classes, each counting alike (the same section's mF1); "supported" leaves out the classes
  that no scene has, whose F1 is 0 whatever is said;
- weighted F1: the mean over classes weighted by how many scenes have them;
- samples F1: the mean over scenes of each scene's own F1 (the same section's F1_all).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Labels

MEASURES = {
    "exact": "share of captions that have the form asked for and say exactly what is true",
    **{
        f"{part}_{name}": words.format(part)
        for part in ("action", "reason")
        for name, words in {
            "top1": "share of scenes of which exactly the true {}s are named",
            "label_accuracy": "share of the {}s, present or absent, that are met",
            "macro_f1": "F1, the plain mean over all {}s",
            "macro_f1_supported": "F1, the plain mean over the {}s that occur",
            "weighted_f1": "F1, the mean over the {}s weighted by how often they occur",
            "samples_f1": "F1 of a scene's {}s, the mean over scenes",
            "unnamed": "share of captions that name no known {}",
        }.items()
    },
    "out_of_vocabulary": "share of captions that name anything unknown, or no action, or no reason",
    "formatted": "share of captions of the form asked for, whatever they name",
}
"""What `measure` gives, shares from 0 to 1 all of them."""


class Said(NamedTuple):
    """What N captions say."""

    actions: np.ndarray
    """bool [N, 4]"""
    reasons: np.ndarray
    """bool [N, 21]"""
    unknown: np.ndarray
    """int64 [N]: how many things that are neither they name"""
    formatted: np.ndarray
    """bool [N]: whether they have the form of `language.caption`"""


class ClassScores(NamedTuple):
    """Scores of C classes over all scenes."""

    f1: np.ndarray
    """float64 [C]"""
    support: np.ndarray
    """int64 [C]: scenes that have the class"""
    predicted: np.ndarray
    """int64 [C]: captions that name it"""


def understand(texts: Sequence[str]) -> Said:
    """What `texts` say; raises ValueError for none at all."""
    if len(texts) == 0:
        raise ValueError("there are no captions to measure")
    actions, reasons, unknown, formatted = zip(*map(language.read, texts), strict=True)
    return Said(np.array(actions), np.array(reasons), np.array(unknown), np.array(formatted))


def class_scores(predictions: np.ndarray, true: np.ndarray) -> ClassScores:
    """Scores of the classes of `predictions` and `true`, bool [N, C]."""
    support, predicted = true.sum(0), predictions.sum(0)
    named = support + predicted
    f1 = np.divide(2.0 * (predictions & true).sum(0), named, out=np.zeros(len(named)), where=named > 0)
    return ClassScores(f1, support, predicted)


def measure(texts: Sequence[str], labels: Labels) -> dict[str, float]:
    """The MEASURES of one text for each scene of `labels`; raises ValueError where their numbers differ or are 0."""
    if len(texts) != len(labels.actions):
        raise ValueError(f"{len(texts)} captions for {len(labels.actions)} scenes: each scene needs one")
    said = understand(texts)
    right = (said.actions == labels.actions).all(1) & (said.reasons == labels.reasons).all(1)
    figures = {"exact": (right & said.formatted & (said.unknown == 0)).mean()}
    unnamed = np.zeros(len(texts), bool)
    for part, own, true in (("action", said.actions, labels.actions), ("reason", said.reasons, labels.reasons)):
        f1, support, _ = class_scores(own, true)
        missing = ~own.any(1)
        unnamed |= missing
        figures |= {
            f"{part}_top1": (own == true).all(1).mean(),
            f"{part}_label_accuracy": (own == true).mean(),
            f"{part}_macro_f1": f1.mean(),
            f"{part}_macro_f1_supported": f1[support > 0].mean() if support.any() else 0.0,
            f"{part}_weighted_f1": (f1 * support).sum() / max(support.sum(), 1),
            f"{part}_samples_f1": class_scores(own.T, true.T).f1.mean(),
            f"{part}_unnamed": missing.mean(),
        }
    figures |= {"out_of_vocabulary": (unnamed | (said.unknown > 0)).mean(), "formatted": said.formatted.mean()}
    return {name: float(figures[name]) for name in MEASURES}


def most_frequent(labels: Labels) -> str:
    """The caption of whoever says the same of every scene and looks at none.

    The most frequent actions, and of the scenes with these the most frequent reasons; of several as frequent ones those
    of the earliest scene.
    """
    pairs = [
        (tuple(actions), tuple(reasons))
        for actions, reasons in zip(labels.actions.tolist(), labels.reasons.tolist(), strict=True)
    ]
    actions = Counter(actions for actions, _ in pairs).most_common(1)[0][0]
    reasons = Counter(reasons for own, reasons in pairs if own == actions).most_common(1)[0][0]
    return language.caption(np.array(actions), np.array(reasons))
