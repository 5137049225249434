"""Measures of captions, against scikit-learn and against the RLOO paper's own figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score

from mentorgym.envs.caption import language
from mentorgym.envs.caption.metrics import MEASURES, class_scores, measure, most_frequent, understand
from mentorgym.envs.caption.scenes import Labels

PAPER_ACTIONS = (41, 339, 12, 11)
PAPER_REASONS = (14, 20, 8, 73, 23, 6, 0, 208, 26, 1, 8, 2, 0, 1, 0, 1, 7, 2, 1, 2, 0)
"""Scenes of its test set (Fig. 8)."""


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    return np.arange(count) == classes[:, None]


def labels_of(actions: np.ndarray, reasons: np.ndarray) -> Labels:
    return Labels([str(index) for index in range(len(actions))], actions, reasons)


def paper_labels() -> Labels:
    actions, reasons = (np.repeat(np.arange(len(each)), each) for each in (PAPER_ACTIONS, PAPER_REASONS))
    return labels_of(one_hot(actions, 4), one_hot(reasons, 21))


def guesses(truth: np.ndarray, right: dict[int, int], wrong: dict[int, int]) -> np.ndarray:
    """A class for each scene, -1 for none: of each class so many that are right, and so many that are wrong."""
    said = np.full(len(truth), -1)
    for index, count in right.items():
        said[np.flatnonzero(truth == index)[:count]] = index
    rest = np.flatnonzero(said < 0)
    others = np.repeat([*wrong], [*wrong.values()])
    for shift in range(len(rest)):
        places = np.roll(rest, shift)[: len(others)]
        if (truth[places] != others).all():
            said[places] = others
            return said
    raise AssertionError("no such guesses")


def words(names: tuple[str, ...], index: int) -> str:
    return names[index] if index >= 0 else "something else"


@st.composite
def captions_and_labels(draw: st.DrawFn) -> tuple[list[str], Labels]:
    """Labels of any kind, all absent too, and captions that name at least one action and reason."""
    count = draw(st.integers(1, 12))
    said, true = ([draw(arrays(bool, (count, size))) for size in (4, 21)] for _ in range(2))
    for each in said:
        each[~each.any(1), 0] = True
    return [language.caption(*row) for row in zip(*said, strict=True)], labels_of(*true)


@given(captions_and_labels())
def test_measures_are_those_of_scikit_learn(drawn: tuple[list[str], Labels]):
    texts, labels = drawn
    found, said = measure(texts, labels), understand(texts)
    for part, own, true in (("action", said.actions, labels.actions), ("reason", said.reasons, labels.reasons)):
        expected = {
            "top1": accuracy_score(true, own),
            "label_accuracy": accuracy_score(true.ravel(), own.ravel()),
            **{
                f"{name}_f1": f1_score(true, own, average=name, zero_division=0)
                for name in ("macro", "weighted", "samples")
            },
        }
        assert {name: found[f"{part}_{name}"] for name in expected} == pytest.approx(expected)
        supported = np.flatnonzero(true.any(0))
        if len(supported):
            among = f1_score(true, own, labels=supported, average="macro", zero_division=0)
            assert found[f"{part}_macro_f1_supported"] == pytest.approx(among)
        each = class_scores(own, true)
        assert each.f1 == pytest.approx(f1_score(true, own, average=None, zero_division=0))
        assert each.support.tolist() == true.sum(0).tolist()
    assert found["out_of_vocabulary"] == 0
    assert found["formatted"] == 1
    assert list(found) == list(MEASURES)


def test_the_papers_headline_figures_are_top_1_accuracy_and_its_macro_f1_is_far_lower():
    labels = paper_labels()
    actions = guesses(labels.actions.argmax(1), {0: 11, 1: 311, 2: 1}, {0: 29, 1: 47, 2: 1, 3: 3})
    right = {0: 2, 1: 2, 3: 56, 4: 15, 7: 182, 8: 12}
    reasons = guesses(labels.reasons.argmax(1), right, {0: 8, 1: 10, 3: 20, 4: 43, 7: 32, 8: 8, 2: 8})
    texts = [
        f"Action: {words(language.ACTIONS, action)}. Reason: {words(language.REASONS, reason)}."
        for action, reason in zip(actions, reasons, strict=True)
    ]
    found, said = measure(texts, labels), understand(texts)
    # Section 6.2 prints these as macro-F1, and label-wise accuracy as accuracy.
    assert (found["action_top1"], found["reason_top1"]) == (323 / 403, 269 / 403)
    assert (found["action_samples_f1"], found["reason_samples_f1"]) == pytest.approx((0.8015, 0.6675), abs=5e-5)
    assert found["action_label_accuracy"] == pytest.approx(0.9007, abs=5e-5)
    assert found["reason_label_accuracy"] == pytest.approx(0.9689, abs=5e-5)
    # Tables 2 and 3, and what the mean of their F1 columns is.
    table_2 = class_scores(said.actions, labels.actions)
    assert 100 * table_2.f1 == pytest.approx([27.16, 89.24, 14.29, 0.0], abs=0.005)
    assert found["action_macro_f1"] == pytest.approx(0.3267, abs=5e-5)
    table_3 = class_scores(said.reasons, labels.reasons)
    printed = dict.fromkeys(range(21), 0.0) | {0: 16.7, 1: 12.5, 3: 75.2, 4: 37.0, 7: 86.3, 8: 52.2}
    assert 100 * table_3.f1 == pytest.approx([*printed.values()], abs=0.05)
    assert found["reason_macro_f1"] == pytest.approx(0.133, abs=5e-4)
    assert found["reason_macro_f1_supported"] == pytest.approx(table_3.f1.sum() / 17)
    assert (found["reason_unnamed"], found["out_of_vocabulary"], found["formatted"]) == (5 / 403, 5 / 403, 1.0)


def test_who_always_stops_has_the_papers_accuracy_of_stage_2():
    labels = paper_labels()
    caption = most_frequent(labels)
    assert caption == "Action: stop. Reason: Traffic light is not green."
    found = measure([caption] * 403, labels)
    assert found["action_top1"] == pytest.approx(0.8412, abs=5e-5)
    assert found["action_macro_f1"] == pytest.approx(0.228, abs=5e-4)


def test_the_toy_example_of_fig_8_and_9_counts_captions_outside_the_vocabulary_as_wrong():
    predicted = (66, 201, 19, 23)
    texts = [f"Action: {name}." for name, count in zip(language.ACTIONS, predicted, strict=True) for _ in range(count)]
    texts += ["A truck is parked."] * (403 - sum(predicted))
    said = understand(texts)
    assert tuple(class_scores(said.actions, paper_labels().actions).predicted) == predicted
    found = measure(texts, paper_labels())
    assert found["action_unnamed"] == 94 / 403
    assert found["out_of_vocabulary"] == 1.0, "no caption gives a reason"


def test_with_several_labels_each_counts_for_itself():
    actions = np.array([[True, False, True, False]])
    reasons = np.zeros((1, 21), bool)
    reasons[0, [1, 18]] = True
    labels = labels_of(actions, reasons)
    whole = measure([language.caption(actions[0], reasons[0])], labels)
    assert whole["exact"] == whole["action_samples_f1"] == whole["reason_top1"] == 1.0
    half = measure(["Action: forward. Reason: Road is clear; Obstacle: car."], labels)
    assert half["exact"] == half["action_top1"] == 0.0
    assert half["action_samples_f1"] == pytest.approx(2 / 3)
    assert half["reason_samples_f1"] == pytest.approx(1 / 2)
    assert half["reason_label_accuracy"] == pytest.approx(19 / 21)


@pytest.mark.parametrize(
    ("text", "exact", "top1", "outside"),
    [
        ("Action: stop. Reason: Traffic sign.", 1.0, 1.0, 0.0),
        ("  action:  STOP. reason: traffic   sign. ", 1.0, 1.0, 0.0),
        ("Action: stop. Reason: Traffic sign; a dog.", 0.0, 1.0, 1.0),
        ("Well. Action: stop. Reason: Traffic sign.", 0.0, 1.0, 0.0),
        ("Action: stop", 0.0, 1.0, 1.0),
        ("", 0.0, 0.0, 1.0),
        ("\x00\x1f" * 5000, 0.0, 0.0, 1.0),
    ],
)
def test_any_text_is_measured(text: str, exact: float, top1: float, outside: float):
    labels = labels_of(one_hot(np.array([1]), 4), one_hot(np.array([8]), 21))
    found = measure([text], labels)
    assert (found["exact"], found["action_top1"], found["out_of_vocabulary"]) == (exact, top1, outside)


def test_captions_and_scenes_must_be_as_many():
    with pytest.raises(ValueError, match="402 captions for 403 scenes"):
        measure(["Action: stop."] * 402, paper_labels())
    with pytest.raises(ValueError, match="no captions"):
        measure([], labels_of(np.zeros((0, 4), bool), np.zeros((0, 21), bool)))


def test_the_most_frequent_caption_is_one_that_occurs():
    # Most scenes have reason 3, but of those with the most frequent action most have reason 7.
    actions, reasons = np.array([0, 0, 1, 1, 1]), np.array([3, 3, 7, 7, 3])
    assert most_frequent(labels_of(one_hot(actions, 4), one_hot(reasons, 21))) == (
        "Action: stop. Reason: Traffic light is not green."
    )
