"""How well a text says how two objects stand to each other: 1 to 5 (RLS3, section 4.4).

Five for all terms of the relation; else for k of n terms 4 (2 of 3), 3 (1 of 2), 2 (1 of 3) or 1 (none). One point off
where the opposite of a true term is named, and one where more terms are named than hold, each at most once; never below
1. The paper gives the scores, not how texts are read; that is ours.
"""

import re
from collections.abc import Collection

from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.relations import OPPOSITES, RELATIONS

SCORES = {(1, 1): 5, (2, 2): 5, (3, 3): 5, (3, 2): 4, (2, 1): 3, (3, 1): 2}
"""By the number of true terms and how many of them are found; 1 for the rest."""

_TERMS = {
    "in front": "in front",
    "in back of": "behind",
    "behind": "behind",
    "on top of": "above",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
    "beneath": "below",
    "underneath": "below",
    "left": "left",
    "right": "right",
}
_RELATIONS = frozenset(map(frozenset, RELATIONS))
# The nine names hold none of these words; they are taken out so that a name that did could not be read as one.
_NAMES = re.compile(r"\b(?:" + "|".join(NAMES) + r")\b")
_EMPHASIS = re.compile(
    r"(?<!\bthe )\bright (?=(?:" + "|".join(word for word in _TERMS if word not in ("left", "right")) + r")\b)"
)
_WORDS = re.compile(r"\b(?:" + "|".join(sorted(_TERMS, key=len, reverse=True)) + r")\b")


def read(text: str | None) -> frozenset[str]:
    """The terms, of `relations.TERMS`, that a text names; capitals and what is no letter do not matter.

    "Under", "beneath" and "underneath" are below, "over" and "on top of" above, "in back of" is behind; "front" counts
    in "in front" alone, and "right behind" and the like name no side, unlike "to the right behind". Negation is
    not understood. None names nothing.
    """
    plain = re.sub(r"[.,;:!?()]+", " , ", (text or "").lower())
    plain = re.sub(r"[^a-z,]+", " ", plain)
    plain = _EMPHASIS.sub(" ", _NAMES.sub(" ", plain))
    return frozenset(_TERMS[word] for word in _WORDS.findall(plain))


def score(text: str | None, terms: Collection[str]) -> int:
    """The score, 1 to 5, of a text where the relation `terms` holds; nonsense and None score 1.

    Raises ValueError where `terms` are no relation.
    """
    truth, named = frozenset(terms), read(text)
    if truth not in _RELATIONS:
        raise ValueError(f"no relation: {terms!r}; relations.RELATIONS has them all")
    base = SCORES.get((len(truth), len(truth & named)), 1)
    opposite = any(OPPOSITES[term] in named for term in truth)
    return max(1, base - opposite - (len(named) > len(truth)))
