"""How texts are read and what they score."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.envs.spatial import language, rubric
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.relations import OPPOSITES, RELATIONS, TERMS


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The small pot is above, behind and to the left of the yellow bowl.", "above behind left"),
        ("LEFT", "left"),
        ("It stands on the right-hand side.", "right"),
        ("under the vase", "below"),
        ("underneath", "below"),
        ("Beneath it,\nto its left", "below left"),
        ("on top of the plate", "above"),
        ("over the plate and in back of the cup", "above behind"),
        ("in   front\tof it", "in front"),
        ("in-front", "in front"),
        ("at the front, facing the front", ""),
        ("the cup is right behind the bowl", "behind"),
        ("right above, and left of it", "above left"),
        ("right in front of it", "in front"),
        ("right underneath", "below"),
        ("to the right, behind the vase", "right behind"),
        ("to the right behind the vase", "right behind"),
        ("to the right and behind the vase", "right behind"),
        ("left or right", "left right"),
        ("a wonderful thunderstorm, leftovers, overt, brightly", ""),
        ("\x00\x07be\x00hind \ud800 left\x1b", "left"),
        ("", ""),
        (None, ""),
        ("the the the", ""),
    ],
)
def test_what_texts_name(text: str | None, terms: str):
    expected = {"in front"} if terms == "in front" else set(terms.split())
    assert rubric.read(text) == expected


@pytest.mark.parametrize(
    ("terms", "text", "score"),
    [
        # All correct.
        (("left",), "left", 5),
        (("behind", "left"), "behind and left", 5),
        (("above", "behind", "left"), "left, above, behind", 5),
        # Some correct.
        (("above", "behind", "left"), "behind and left", 4),
        (("above", "behind", "left"), "behind", 2),
        (("behind", "left"), "behind", 3),
        (("behind", "left"), "left", 3),
        # None.
        (("left",), "behind", 1),
        (("above", "behind", "left"), "", 1),
        # Too many.
        (("left",), "left and behind", 4),
        (("left",), "left, behind and above", 4),
        (("behind", "left"), "behind, left and above", 4),
        (("left",), "above and behind", 1),
        # The opposite.
        (("behind", "left"), "behind and right", 2),
        (("above", "behind", "left"), "above, behind and right", 3),
        (("above", "behind", "left"), "above, in front and right", 1),
        (("left",), "right", 1),
        # Both.
        (("left",), "left or right", 3),
        (("behind", "left"), "behind, right and above", 1),
        (("behind", "left"), "behind, left, right", 3),
        (("above", "behind", "left"), "above below behind in front left right", 3),
        (("left",), None, 1),
    ],
)
def test_the_published_rubric(terms, text: str | None, score: int):
    assert rubric.score(text, terms) == score


@settings(max_examples=50)
@given(st.text(max_size=200) | st.lists(st.sampled_from([*TERMS, "of", "The", "in", "front", *NAMES])).map(" ".join))
def test_any_text_has_a_score_from_1_to_5(text: str):
    for terms in RELATIONS:
        score = rubric.score(text, terms)
        assert type(score) is int and 1 <= score <= 5
        assert (score == 5) == (rubric.read(text) == frozenset(terms))


def test_the_own_caption_scores_5_and_the_opposite_1():
    for terms in RELATIONS:
        for subject, referent in (("green cup", "plate"), ("bird sculpture", "small pot")):
            assert rubric.score(language.caption(subject, referent, terms), terms) == 5
            assert rubric.score(language.caption(subject, referent, [OPPOSITES[term] for term in terms]), terms) == 1
            assert rubric.score(language.question(subject, referent), terms) == 1


@pytest.mark.parametrize("text", ["right " * 2000, " " * 10_000, "in " * 3_500, "\x00" * 10_000, "left right " * 900])
def test_long_texts_take_no_time(text: str):
    start = time.process_time()
    assert rubric.score(text, ("behind",)) == 1
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("terms", [(), ("left", "right"), ("up",), TERMS])
def test_what_is_no_relation_cannot_be_scored(terms):
    with pytest.raises(ValueError, match="no relation"):
        rubric.score("left", terms)
