"""Captions, questions and false captions, by template, from what stands where (RLS3, section 4.3; NegCLIP).

"The small pot is above, behind and to the left of the yellow bowl." The words come in the order vertical, depth, side.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.relations import OPPOSITES, RELATIONS, Measure, Relation, all_relations

_PHRASES = {
    "above": ("above", ""),
    "below": ("below", ""),
    "behind": ("behind", ""),
    "in front": ("in front", " of"),
    "left": ("to the left", " of"),
    "right": ("to the right", " of"),
}
"""Each term's words, and what joins them to the referent where they come last."""


class Example(NamedTuple):
    """Words for one pair of an arrangement."""

    subject: int
    """place in the arrangement's objects, as `referent`"""
    referent: int
    relation: Relation
    caption: str
    question: str
    """what a generative model is asked; `caption` is the answer"""
    term_swapped: str
    """the caption with one term, drawn at random, changed to its opposite"""
    order_swapped: str
    """the caption with subject and referent exchanged and the terms kept"""
    other: str
    """the caption with another false relation of as many terms"""

    @property
    def choices(self) -> tuple[str, str, str, str]:
        """The caption and the three false ones, the true one first; two-way choice is between it and one of the rest.

        All have the same number of terms, so that a model that looks at no picture is right one time in four.
        """
        return self.caption, self.term_swapped, self.order_swapped, self.other


def caption(subject: str, referent: str, terms: Sequence[str]) -> str:
    """The sentence that says that the object called `subject` stands to `referent` as `terms`, of RELATIONS, say."""
    if tuple(terms) not in RELATIONS:
        raise ValueError(f"no relation: {tuple(terms)!r}; relations.RELATIONS has them all")
    *first, last = (_PHRASES[term][0] for term in terms)
    words = f"{', '.join(first)} and {last}" if first else last
    return f"The {subject} is {words}{_PHRASES[terms[-1]][1]} the {referent}."


def question(subject: str, referent: str) -> str:
    """What a generative model is asked of the two."""
    return f"What is the position of the {subject} relative to the {referent}?"


def captions_of(subject: str, referent: str) -> list[str]:
    """All 26 captions of two objects, in the order of RELATIONS."""
    return [caption(subject, referent, terms) for terms in RELATIONS]


def all_captions() -> list[str]:
    """Every caption of every ordered pair of the nine objects, 72 x 26: with `all_questions` all that is ever said."""
    return [text for pair in itertools.permutations(NAMES, 2) for text in captions_of(*pair)]


def all_questions() -> list[str]:
    """The questions of all 72 ordered pairs of objects."""
    return [question(*pair) for pair in itertools.permutations(NAMES, 2)]


def term_swaps(terms: Sequence[str]) -> list[tuple[str, ...]]:
    """The relations that `terms` become when one of them is changed to its opposite, one for each term."""
    return [(*terms[:i], OPPOSITES[term], *terms[i + 1 :]) for i, term in enumerate(terms)]


def is_false(terms: Sequence[str], truth: Sequence[str]) -> bool:
    """Whether a relation is false where `truth` holds: it is not the truth with words left out or added."""
    return not (set(terms) <= set(truth) or set(terms) >= set(truth))


def example(
    arrangement: Arrangement,
    generator: np.random.Generator,
    pair: tuple[int, int] | None = None,
    measure: Measure = "centres",
) -> Example:
    """Words for two objects of an arrangement: at the places `pair`, subject and referent, or two drawn at random.

    That the false captions are false is checked against where things stand: ValueError for an arrangement in which one
    of them would be true, or in which two objects are at one place.
    """
    count = len(arrangement.objects)
    if pair is None:
        one, step = int(generator.integers(count)), int(generator.integers(1, count))
        pair = one, (one + step) % count
    subject, referent = pair
    if subject == referent or not {subject, referent} <= set(range(count)):
        raise ValueError(f"pair={pair!r}: give two different places of the {count} objects")
    truths = all_relations(arrangement, measure)
    truth = truths[subject, referent]
    names = arrangement.names[subject], arrangement.names[referent]
    swaps = term_swaps(truth.terms)
    swapped = swaps[generator.integers(len(swaps))]
    others = [
        terms
        for terms in RELATIONS
        if len(terms) == len(truth.terms) and is_false(terms, truth.terms) and terms not in swaps
    ]
    other = others[generator.integers(len(others))]
    for terms, held in ((swapped, truth), (other, truth), (truth.terms, truths[referent, subject])):
        if not is_false(terms, held.terms):
            raise ValueError(f"{terms!r} was to be false and is not: {held.terms!r} holds")
    return Example(
        subject,
        referent,
        truth,
        caption(*names, truth.terms),
        question(*names),
        caption(*names, swapped),
        caption(*names[::-1], truth.terms),
        caption(*names, other),
    )
