"""Driving in words, against Found-RL's thresholds written out once more."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mentorgym.envs.driving.action import from_control, to_control
from mentorgym.envs.driving.view import language

unit = st.floats(-1, 1, width=32)


def above(value: float, bound: float) -> bool:
    """Whether a control lies above a bound, both as the float32 that a control is."""
    return bool(np.float32(value) > np.float32(bound))


def longitudinal_word(throttle: float, brake: float) -> str:
    if above(brake, 0.05):
        return "braking hard" if above(brake, 0.5) else "braking"
    for bound, word in ((0.8, "accelerating fast"), (0.3, "accelerating"), (0.05, "accelerating gently")):
        if above(throttle, bound):
            return word
    return "idling"


def lateral_word(steer: float) -> str:
    if above(0.05, abs(steer)):
        return "keeping straight"
    side = "right" if steer > 0 else "left"
    return f"turning sharply {side}" if above(abs(steer), 0.3) else f"turning {side}"


@given(unit, unit)
@example(float(np.float32(0.05)), float(np.float32(0.05)))
@example(float(np.float32(0.3)), float(np.float32(-0.3)))
@example(float(np.float32(-0.05)), float(np.float32(0.3)))
@example(float(np.float32(0.8)), float(np.float32(-0.05)))
def test_a_label_is_the_words_of_the_thresholds(acceleration: float, steer: float):
    label = int(language.labels(np.array([acceleration, steer])))
    caption = language.caption(0, label)
    assert longitudinal_word(max(acceleration, 0), max(-acceleration, 0)) == language.LONGITUDINAL[label // 5]
    assert lateral_word(steer) == language.LATERAL[label % 5]
    assert caption.endswith(f"It is {language.LONGITUDINAL[label // 5]} and {language.LATERAL[label % 5]}.")


@pytest.mark.parametrize(
    ("acceleration", "steer", "label"),
    [
        (-0.51, 0, ("braking hard", "keeping straight")),
        (-0.5, 0.06, ("braking", "turning right")),
        (-0.05, -0.31, ("idling", "turning sharply left")),
        (0.06, 0.31, ("accelerating gently", "turning sharply right")),
        (0.8, -0.06, ("accelerating", "turning left")),
        (1, 0.04, ("accelerating fast", "keeping straight")),
    ],
)
def test_labels_by_hand(acceleration: float, steer: float, label: tuple[str, str]):
    longitudinal, lateral = divmod(int(language.labels(np.array([acceleration, steer]))), 5)
    assert (language.LONGITUDINAL[longitudinal], language.LATERAL[lateral]) == label


def test_contexts_are_six_commands_by_four_speeds():
    speeds = (0.0, 0.5, 3.0, 6.0)
    contexts = [language.context(command, speed) for command in range(1, 7) for speed in speeds]
    assert contexts == list(range(24))
    assert [language.context(1, speed) for speed in (0.1, 2.0, 4.5, -1.0)] == [1, 2, 3, 0]
    assert language.caption(language.context(1, 5.0), 0).startswith("The route says to turn left at the intersection.")


def test_every_anchor_reads_differently():
    texts = [text for row in language.anchors() for text in row]
    assert len(texts) == len(set(texts)) == 6 * 4 * 6 * 5


def near_words(first: str, second: str) -> bool:
    """Same manoeuvre at a strength next to it: the pairs that Found-RL lists, written out."""
    pairs = (
        {"braking hard", "braking"},
        {"accelerating fast", "accelerating"},
        {"accelerating", "accelerating gently"},
        {"turning left", "turning sharply left"},
        {"turning right", "turning sharply right"},
    )
    return first == second or {first, second} in pairs


def test_neighbours_are_the_cross_product_of_near_words():
    words = [(a, b) for a in language.LONGITUDINAL for b in language.LATERAL]
    expected = [[near_words(a, c) and near_words(b, d) for c, d in words] for a, b in words]
    assert language.NEIGHBOURS.tolist() == expected


@given(st.lists(st.floats(-5, 5), min_size=30, max_size=30), unit, unit)
def test_a_margin_is_the_distance_to_the_likeliest_unlike_action(
    logits: list[float], acceleration: float, steer: float
):
    probabilities = np.exp(logits) / np.exp(logits).sum()
    action = np.array([acceleration, steer])
    chosen = int(language.labels(action))
    words = [(a, b) for a in language.LONGITUDINAL for b in language.LATERAL]
    unlike = [
        probability
        for probability, (a, b) in zip(probabilities, words, strict=True)
        if not (near_words(a, words[chosen][0]) and near_words(b, words[chosen][1]))
    ]
    expected = max(0.0, probabilities[chosen] - max(unlike))
    assert language.margins(probabilities[None], action[None]) == pytest.approx([expected], abs=1e-6)


@given(unit, unit)
def test_an_answer_reads_back_as_its_action(acceleration: float, steer: float):
    read = language.to_action(language.answer(np.array([acceleration, steer])))
    assert read == pytest.approx([acceleration, steer], abs=0.00501)


def test_an_answer_has_the_keys_that_the_prompt_asks_for():
    told = json.loads(language.answer(np.array([-0.333, 0.126])))
    assert told == {"throttle": 0.0, "steer": 0.13, "brake": 0.33}


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ('{"throttle": 0.5, "steer": -0.25, "brake": 0}', (0.5, -0.25)),
        ('Sure! {"brake": 0.4, "steer": 0.1, "throttle": 0.2} Drive safely.', (-0.4, 0.1)),
        ('{"throttle": 3, "steer": -7, "brake": -1}', (1, -1)),
        ("0.3 0.1 0.0", (0.3, 0.1)),
        ("  [0.3, -0.1, 0]\n", (0.3, -0.1)),
        ("```\n0.3; -.1; 0\n```", (0.3, -0.1)),
        ('```json\n{"throttle": 0.3, "steer": -0.1, "brake": 0}\n```', (0.3, -0.1)),
        ('I brake for 2 cars, so: {"throttle": "0.0", "steer": 0, "brake": 0.7, "why": {"cars": 2}}', (-0.7, 0)),
        ('Ahead is {"cars": 2}. {"throttle": 0.3, "steer": -0.1, "brake": 0}', (0.3, -0.1)),
        ("throttle=.3, steer=-.1, brake=0, done", None),
        ("The light is red and 3 cars wait 12 m ahead, 0 walkers.", None),
        ("1. 2. 3.\n", (-1.0, 1.0)),
        ("0.3 0.1", None),
        ("0.3 0.1 0.0 0.0", None),
        ("0.3 0.1 0.0 m", None),
        ('{"throttle": true, "steer": 0, "brake": 0}', None),
        ('{"throttle": "fast", "steer": 0, "brake": 0}', None),
        ('{"action": {"throttle": 0.3, "steer": 0, "brake": 0}}', None),
        ("{'throttle': 0.3, 'steer': 0, 'brake': 0}", None),
        ('Either {"throttle": 1, "steer": 0, "brake": 0} or {"throttle": 0, "steer": 0, "brake": 1}', None),
        ("{" * 100_000, None),
        ('{"throttle": 0.5, "steer": -0.25', None),
        ('{"throttle": null, "steer": 0, "brake": 0}', None),
        ('{"throttle": NaN, "steer": 0, "brake": 0}', None),
        ('{"throttle": 1e999, "steer": 0, "brake": 0}', None),
        ("I would slow down.", None),
        ("", None),
        ("}{", None),
        ("9" * 5000, None),
        ('{"throttle": ' + "9" * 400 + ', "steer": 0, "brake": 0}', None),
        ('{"throttle": 1e300, "steer": -1e300, "brake": 0}', (1, -1)),
        ('{"throttle": ' + "[" * 9000 + "}", None),
    ],
)
def test_a_reply_reads_as_an_action_or_not_at_all(reply: str, action: tuple[float, float] | None):
    read = language.to_action(reply)
    if action is None:
        assert read is None
    else:
        assert read is not None and read.dtype == np.float32
        assert read == pytest.approx(np.array(action), abs=1e-6)


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("throttle=.3, steer=-.1, brake=0, done", (0.3, -0.1)),
        ("{'throttle': 0.3, 'steer': -0.1, 'brake': 0}", (0.3, -0.1)),
        ("In 3 s the 2 cars ahead leave 0.5 m of room", (1, 1)),
        ('3 cars, 2 lanes, 1 light: {"throttle": 0.3, "steer": -0.1, "brake": 0}', (0.3, -0.1)),
        ("0.3 and 0.1", None),
    ],
)
def test_the_first_numbers_of_any_text_are_an_action_where_that_is_wanted(reply: str, action):
    read = language.first_numbers_to_action(reply)
    assert (read is None) if action is None else read == pytest.approx(np.array(action), abs=1e-6)


@given(st.text())
def test_no_text_breaks_the_readers(reply: str):
    for reader in (language.to_action, language.first_numbers_to_action):
        action = reader(reply)
        assert action is None or (np.abs(action) <= 1).all()


@given(unit, unit, st.text(alphabet="abc 0123456789.,:-", max_size=40))
def test_words_around_an_answer_change_nothing_and_alone_are_none(acceleration: float, steer: float, words: str):
    answer = language.answer(np.array([acceleration, steer]))
    expected = language.to_action(answer)
    np.testing.assert_array_equal(language.to_action(f"{words}{answer}{words}"), expected)
    assert language.to_action(f"see {words}") is None


@given(unit, unit)
def test_controls_and_actions_are_inverse(acceleration: float, steer: float):
    action = np.array([acceleration, steer], np.float32)
    assert from_control(to_control(action)).tolist() == action.tolist()


@pytest.mark.parametrize(
    ("control", "action"),
    [((0.5, 0.1, 0.2), (0.5, 0.1)), ((0.2, 0.1, 0.5), (-0.5, 0.1)), ((0.4, 0, 0.4), (-0.4, 0)), ((0, 0, 0), (0, 0))],
)
def test_of_throttle_and_brake_the_larger_counts(control: tuple[float, ...], action: tuple[float, ...]):
    assert from_control(np.array(control)) == pytest.approx(np.array(action))


def test_the_grid_holds_one_reply_for_each_semantic_action():
    actions = [language.to_action(reply) for reply in language.grid()]
    assert language.labels(np.stack(actions)).tolist() == list(range(30))


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("Speed {speed}", "slot <image>"),
        ("<image><image> {speed}", "slot <image>"),
        ("<image> {sped}", "unknown fields"),
        ('<image> reply {"throttle": 0}', "braces"),
        ("<image> {speed:q}", "template"),
        ("<image> {", "template"),
    ],
)
def test_a_broken_prompt_is_refused(template: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        language.check_prompt(template)


def test_the_prompt_tells_the_context():
    told = {"speed": 3.25, "target": (20.0, -1.0), "command": 4, "command_name": "follow the lane"}
    language.check_prompt(language.PROMPT)
    prompt = language.fill(language.PROMPT, told)
    assert all(part in prompt for part in ("<image>", "3.2 m/s", "20.00 m forward", "-1.00 m right", "follow the lane"))
