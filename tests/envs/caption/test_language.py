"""Actions and reasons in words and back, and what is read of texts that are neither."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.caption import language

labels = st.lists(st.booleans(), min_size=4, max_size=4), st.lists(st.booleans(), min_size=21, max_size=21)


@given(*labels)
def test_a_caption_is_read_as_the_labels_that_it_was_made_of(actions: list[bool], reasons: list[bool]):
    if not any(actions) or not any(reasons):
        with pytest.raises(ValueError, match="at least one action and one reason"):
            language.caption(np.array(actions), np.array(reasons))
        return
    text = language.caption(np.array(actions), np.array(reasons))
    for variant in (text, text.upper(), f"  {text.replace(' ', '  ')}\n"):
        reading = language.read(variant)
        np.testing.assert_array_equal(reading.actions, actions)
        np.testing.assert_array_equal(reading.reasons, reasons)
        assert reading.unknown == 0 and reading.formatted
    assert language.mirrored(language.mirrored(text)) == text


def test_the_mirror_image_has_the_mirrored_labels():
    for index, text in enumerate(language.captions()):
        reading = language.read(language.mirrored(text))
        assert reading.actions.argmax() == language.MIRRORED_ACTIONS[language.ACTION_OF_REASON[index]]
        assert reading.reasons.argmax() == language.MIRRORED_REASONS[index]


@pytest.mark.parametrize(
    ("text", "actions", "reasons", "unknown", "formatted"),
    [
        ("", [], [], 0, False),
        ("A dog.", [], [], 0, False),
        ("Action: fly. Reason: fun; fear.", [], [], 3, True),
        ("Action: slow down, left. Reason: Road is clear.", [1, 2], [1], 0, True),
        ("Reason: traffic sign. Action: stop.", [1], [8], 0, False),
        ("Action: stop", [1], [], 0, False),
        ("Action: stop. Reason: Traffic sign. And more", [1], [8], 0, False),
    ],
)
def test_what_other_texts_name(text, actions, reasons, unknown, formatted):
    reading = language.read(text)
    assert (np.flatnonzero(reading.actions).tolist(), np.flatnonzero(reading.reasons).tolist()) == (actions, reasons)
    assert (reading.unknown, reading.formatted) == (unknown, formatted)


@pytest.mark.parametrize(
    "text",
    [
        "action:" + " " * 10_000,
        "Action: " * 1_250,
        "action:" + "\t " * 5_000 + ". reason:" + " " * 10_000,
        ". " * 9_000,
    ],
    ids=range(4),
)
def test_long_texts_take_no_time(text: str):
    start = time.process_time()
    assert not language.read(text).formatted
    assert time.process_time() - start < 0.5
