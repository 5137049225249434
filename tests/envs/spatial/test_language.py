"""Captions, questions, and captions that are false."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import language, relations, rubric
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES

CAMERA = Camera((-1.0, 0.0, 1.5), 0.3, -0.6, 1.0, 224, 224)
seeds = st.integers(0, 2**32 - 1)


def arrangement(seed: int) -> Arrangement:
    generator = np.random.default_rng(seed)
    objects = tuple(generator.permutation(9)[:3].tolist())
    return Arrangement("bedroom", CAMERA, objects, generator.uniform(0, 1.5, (3, 3)), generator.uniform(-3, 3, 3))


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (("right",), "The vase is to the right of the plate."),
        (("in front",), "The vase is in front of the plate."),
        (("behind",), "The vase is behind the plate."),
        (("above",), "The vase is above the plate."),
        (("below", "in front"), "The vase is below and in front of the plate."),
        (("behind", "left"), "The vase is behind and to the left of the plate."),
        (("in front", "right"), "The vase is in front and to the right of the plate."),
        (("below", "behind"), "The vase is below and behind the plate."),
        (("above", "in front", "left"), "The vase is above, in front and to the left of the plate."),
    ],
)
def test_captions_have_the_forms_of_the_paper(terms, text: str):
    assert language.caption("vase", "plate", terms) == text


def test_questions_ask_for_the_position():
    assert language.question("vase", "plate") == "What is the position of the vase relative to the plate?"


def test_every_caption_is_another_one_and_all_can_be_listed():
    captions = language.all_captions()
    assert len(captions) == len(set(captions)) == 72 * 26
    assert len(set(language.all_questions())) == 72
    assert language.captions_of("vase", "plate")[0] == language.caption("vase", "plate", relations.RELATIONS[0])


@pytest.mark.parametrize("terms", [(), ("left", "right"), ("left", "behind"), ("up",), ("above", "above")])
def test_no_caption_is_made_of_what_is_no_relation(terms):
    with pytest.raises(ValueError, match="no relation"):
        language.caption("vase", "plate", terms)


@given(seeds)
def test_the_false_captions_are_false_and_as_long_as_the_true_one(seed: int):
    arranged = arrangement(seed)
    told = language.example(arranged, np.random.default_rng(seed))
    names, truths = arranged.names, relations.all_relations(arranged)
    terms = truths[told.subject, told.referent].terms
    assert told.relation == truths[told.subject, told.referent]
    assert told.caption == language.caption(names[told.subject], names[told.referent], terms)
    assert told.question == language.question(names[told.subject], names[told.referent])
    # What each says, read back from the text, against all that holds of the three objects.
    said = {
        language.caption(names[one], names[other], each): (one, other, each)
        for one, other in itertools.permutations(range(3), 2)
        for each in relations.RELATIONS
    }
    assert len(set(told.choices)) == 4
    for text in told.choices[1:]:
        one, other, each = said[text]
        held = set(truths[one, other].terms)
        assert not set(each) <= held and not held <= set(each) and len(each) == len(terms)
    swapped = said[told.term_swapped]
    assert swapped[:2] == (told.subject, told.referent) and len(set(swapped[2]) - set(terms)) == 1
    assert relations.OPPOSITES[min(set(swapped[2]) - set(terms))] in terms
    assert said[told.order_swapped] == (told.referent, told.subject, terms)
    assert said[told.other][:2] == (told.subject, told.referent)


def test_pairs_and_swapped_terms_are_drawn_evenly():
    generator, arranged = np.random.default_rng(0), arrangement(3)
    examples = [language.example(arranged, generator) for _ in range(1200)]
    assert all(150 < count < 250 for count in Counter((each.subject, each.referent) for each in examples).values())
    three = Arrangement("bedroom", CAMERA, (0, 1), np.array([[1.4, 0.4, 0.5], [1.0, 0.5, 0]]), np.zeros(2))
    swaps = Counter(language.example(three, generator, (0, 1)).term_swapped for _ in range(600))
    assert len(swaps) == 3 and min(swaps.values()) > 150


def test_the_same_generator_gives_the_same_example():
    one, other = (language.example(arrangement(5), np.random.default_rng(9)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (-1, 0)])
def test_pairs_that_are_not_there_are_refused(pair):
    with pytest.raises(ValueError, match="two different places"):
        language.example(arrangement(0), np.random.default_rng(0), pair)


def test_two_objects_at_one_place_have_no_caption():
    with pytest.raises(ValueError, match="one place"):
        language.example(
            Arrangement("bedroom", CAMERA, (2, 3), np.zeros((2, 3)), np.zeros(2)), np.random.default_rng(0)
        )


def test_no_name_holds_a_term():
    for name in NAMES:
        assert rubric.read(f"The {name} and the {name}.") == frozenset()
