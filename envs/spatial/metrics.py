"""Scores of models on RLS3's samples, and the groups of captions that they are broken down by."""

from collections.abc import Sequence

import numpy as np

from mentorgym.envs.spatial import rubric
from mentorgym.envs.spatial.language import Example
from mentorgym.envs.spatial.relations import TERMS

SPATIAL_TERMS = tuple(term.replace(" ", "_") for term in TERMS)
"""RLS3's terms, as names of metrics write them."""


def clip_figures(likelihoods: np.ndarray) -> dict[str, np.ndarray]:
    """Of each sample, from what a CLIP thinks of its four choices, [N, 4], the true one first; a tie counts half.

    `two_way`: whether the true caption is likelier than an altered one, the mean of `term`, where a term is swapped,
    and `order`, where subject and referent are; `four_way`: whether it is the likeliest of all, shared with those that
    are as likely. Each float64 [N].
    """
    wins = (np.sign(likelihoods[:, :1] - likelihoods[:, 1:]) + 1.0) / 2
    best = likelihoods == likelihoods.max(1, keepdims=True)
    two_way, four_way = wins[:, :2].mean(1), best[:, 0] / best.sum(1)
    return {"two_way": two_way, "four_way": four_way, "term": wins[:, 0], "order": wins[:, 1]}


def vlm_figures(answers: Sequence[str], examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """`score` of each answer on the rubric, 1 to 5, and `exact`, whether it has all terms and no other; float64 [N]."""
    pairs = zip(answers, examples, strict=True)
    scores = np.array([rubric.score(text, each.relation.terms) for text, each in pairs], np.float64)
    return {"score": scores, "exact": (scores == 5).astype(np.float64)}


def groups(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Which captions have each term (`left`), and which have one, two and three (`terms_1`), each bool [N]."""
    terms = [each.relation.terms for each in examples]
    rows_of_groups = {name: [name.replace("_", " ") in each for each in terms] for name in SPATIAL_TERMS}
    rows_of_groups |= {f"terms_{count}": [len(each) == count for each in terms] for count in (1, 2, 3)}
    return {name: np.array(rows, bool) for name, rows in rows_of_groups.items()}


def in_words(name: str) -> str:
    """A score or a group of captions for a heading."""
    if name.startswith("terms_"):
        return "1 term" if name == "terms_1" else f"{name[-1]} terms"
    return name.replace("_way", "-way").replace("_", " ")
