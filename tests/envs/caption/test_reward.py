"""The reward's kinds and terms, against a few lines of float64, and on any text at all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.envs.caption import CaptionReward, language
from mentorgym.envs.caption import reward as reward_module
from mentorgym.envs.caption.reward import KINDS, TERMS, _mark, bleu, bleu_signature, clean, load_scorer
from tests.envs.caption.drawn import DrawnScenes

pytestmark = pytest.mark.usefixtures("cache")

TRUTH = "Action: stop. Reason: Traffic light is not green."
ODD = ("", " ", "\x00\n\t", "\ud800", "<image> {text} %s", "é😀漢" * 100, "x" * 10_000, "Action: stop. " * 900)


class CountingScorer:
    """Unit vectors drawn from what is encoded, and how much of it there was."""

    scale, bias, fingerprint = 12.0, -3.0, "counting"

    def __init__(self):
        self.pictures, self.texts = 0, 0

    def encode_images(self, pictures):
        self.pictures += len(pictures)
        return self._vectors([int(picture.astype(np.int64).sum()) for picture in pictures])

    def encode_texts(self, texts):
        self.texts += len(texts)
        return self._vectors([sum(text.encode()) * 7 + len(text) for text in texts])

    def _vectors(self, seeds):
        vectors = np.array([np.random.default_rng(seed).normal(size=6) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def slow_score(kind: str, scorer, scenes: DrawnScenes, index: int, text: str, frames: int) -> float:
    """The definitions, one text at a time, in float64."""
    captions = sorted(
        {language.caption(*each) for each in zip(scenes.labels.actions, scenes.labels.reasons, strict=True)}
    )
    film = scenes.frames(index, frames)
    image = np.mean([scorer.encode_images([picture])[0].astype(float) for picture in film], axis=0)
    image /= np.linalg.norm(image)
    cosine = {each: float(image @ scorer.encode_texts([each])[0].astype(float)) for each in {text, *captions}}
    if kind == "cosine":
        return cosine[text]
    if kind == "prob":
        return 1 / (1 + np.exp(-(scorer.scale * cosine[text] + scorer.bias)))
    return np.exp(scorer.scale * cosine[text]) / sum(np.exp(scorer.scale * each) for each in cosine.values())


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("kind", ["cosine", "prob", "contrast"])
def test_each_kind_is_its_definition(clip_folder: Path, kind: str, frames: int):
    scenes, scorer = DrawnScenes(6), load_scorer(str(clip_folder))
    scorer.bias = -1.5
    texts = [language.captions()[0], TRUTH, "A cat.", "", language.captions()[5], language.captions()[5]]
    indices = [0, 1, 2, 3, 4, 5]
    told = CaptionReward(scenes, kind, scorer, frames=frames).score(indices, texts)
    wanted = [slow_score(kind, scorer, scenes, *each, frames) for each in zip(indices, texts, strict=True)]
    np.testing.assert_allclose(told["reward"], wanted, rtol=2e-4, atol=2e-6)
    assert told["reward"].dtype == np.float32 and told.keys() == {"reward", kind}
    np.testing.assert_array_equal(told["reward"], told[kind])


def test_probabilities_of_the_captions_in_contrast_add_up_to_one():
    scenes = DrawnScenes(21)
    scored = CaptionReward(scenes, "contrast", CountingScorer()).score([4] * 21, language.captions())["reward"]
    assert scored.sum() == pytest.approx(1.0, abs=1e-5)
    # Capitals make another text, spaces do not.
    again = CaptionReward(scenes, "contrast", CountingScorer()).score([4], [f"  {language.captions()[2]}\n"])
    assert again["reward"][0] == pytest.approx(scored[2], abs=1e-6)


def test_a_scene_is_encoded_once_and_a_text_once_while_it_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reward_module, "TEXTS_KEPT", 4)
    scenes, scorer = DrawnScenes(5), CountingScorer()
    scoring = CaptionReward(scenes, "cosine", scorer, frames=2)
    scorer.texts = 0
    scoring.score([1, 1, 1, 3], ["a", "b", "a", "a"])
    assert (scorer.pictures, scorer.texts, sorted(scenes.asked)) == (4, 2, [1, 3])
    scoring.score([3, 1, 1], ["c", "b", "a"])
    assert (scorer.pictures, scorer.texts) == (4, 3)
    first = scoring.score([0] * 6, list("defghi"))["reward"]
    np.testing.assert_array_equal(scoring.score([0] * 6, list("defghi"))["reward"], first)
    assert len(scoring._texts) == 4


def test_terms_add_up_with_their_weights():
    scenes = DrawnScenes(3, reasons=(7, 3, 0))
    weights = {"format": 0.5, "action": 2.0, "reason": -1.0, "bleu": 0.0}
    texts = [TRUTH, "Action: stop. Reason: Traffic light is not green.", "Reason: Follow traffic. It goes on"]
    told = CaptionReward(scenes, "cosine", CountingScorer(), weights).score([0, 1, 2], texts)
    np.testing.assert_array_equal(told["format"], [1, 1, 0])
    np.testing.assert_array_equal(told["action"], [1, 1, 0])
    np.testing.assert_array_equal(told["reason"], [1, 0, 1])
    np.testing.assert_array_equal(told["bleu"], [1, 0, 0])
    np.testing.assert_allclose(told["reward"], told["cosine"] + np.array([1.5, 2.5, -1.0]), rtol=1e-6)
    assert all(each.dtype == np.float32 for each in told.values())


def test_without_clip_there_are_the_terms_alone():
    told = CaptionReward(DrawnScenes(2, (7,)), "none", "no/such/model", {"action": 1.0}).score([0, 1], [TRUTH, "go"])
    assert told.keys() == {"reward", "action"}
    np.testing.assert_array_equal(told["reward"], [1, 0])


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (TRUTH, 1.0),
        ("Action: stop. Reason: Traffic light is green.", 0.78),
        ("Action: forward. Reason: Traffic light is green.", 0.52),
        ("Action: stop. Reason: Obstacle: car.", 0.44),
        ("", 0.0),
    ],
)
def test_bleu_is_that_of_sacrebleu_with_the_effective_order(text: str, score: float):
    assert bleu(text, TRUTH) == pytest.approx(score, abs=0.006)
    assert "eff:yes" in bleu_signature() and "tok:13a" in bleu_signature()


def judge(requests):
    """A mark for each, as many kinds of reply as there are."""
    assert all(request.prompt.count("<image>") == 1 and request.picture.shape == (24, 32, 3) for request in requests)
    return ["Score: 7", "10", None, "eleven", "12", "-3", "I give 2.5 of 10"][: len(requests)]


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("7 / 10", 0.7),
        ("10/10.", 1.0),
        ("3 out of 10", 0.3),
        ("On a scale from 0 to 10, I would say 8", None),
        ("a 3-4", None),
        ("8/10.5", None),
    ],
)
def test_a_reply_with_several_numbers_is_no_mark(reply: str, mark: float | None):
    assert _mark(reply) == pytest.approx(np.nan if mark is None else mark, nan_ok=True)


def test_a_judge_that_gives_no_mark_adds_nothing():
    scoring = CaptionReward(DrawnScenes(7), "none", terms={"judge": 2.0}, judge=f"{__name__}:judge")
    told = scoring.score(range(7), ["a <im<image>age>", "{text}", "", "d", "e", "f", "g"])
    np.testing.assert_allclose(told["judge"], [0.7, 1.0, np.nan, np.nan, np.nan, np.nan, 0.25])
    np.testing.assert_allclose(told["reward"], [1.4, 2.0, 0, 0, 0, 0, 0.5], rtol=1e-6)


@pytest.fixture(scope="module")
def scorings(clip_folder: Path, cache: None) -> list[CaptionReward]:
    terms = dict.fromkeys(TERMS.keys() - {"judge"}, 1.0)
    scorer = load_scorer(str(clip_folder))
    return [CaptionReward(DrawnScenes(3), kind, scorer, terms) for kind in KINDS]


@settings(max_examples=40)
@given(st.lists(st.text() | st.sampled_from(ODD), max_size=4))
def test_any_text_has_a_score(scorings: list[CaptionReward], texts: list[str]):
    for scoring in scorings:
        told = scoring.score([1] * len(texts), texts)
        assert all(part.shape == (len(texts),) and np.isfinite(part).all() for part in told.values())
        if scoring.kind in told:
            assert (np.abs(told[scoring.kind]) <= 1 + 1e-5).all()


@given(st.text() | st.sampled_from(ODD))
def test_what_is_read_of_a_text_can_be_printed_and_is_short(text: str):
    read = clean(text)
    assert len(read) <= 4096 and read == clean(read) == read.strip()
    read.encode("utf-8")
    assert not any(ord(letter) < 32 or letter in "\x7f\x85\u2028" for letter in read)


def test_captions_are_left_as_they_are():
    assert [clean(each) for each in language.captions()] == language.captions()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cosin"}, "did you mean 'cosine'"),
        ({"kind": "none", "terms": {"formt": 1.0}}, "did you mean 'format'"),
        ({"kind": "none", "terms": {"format": float("nan")}}, "give a number"),
        ({"kind": "none", "terms": {"format": "1"}}, "give a number"),
        ({"kind": "none", "terms": {"judge": 1.0}}, "go together"),
        ({"kind": "none", "judge": "vlm"}, "go together"),
        ({"model": "no/such/place/at all"}, "no weights in"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        CaptionReward(DrawnScenes(2), **arguments)


def test_each_text_needs_an_index():
    with pytest.raises(ValueError, match="one index for each"):
        CaptionReward(DrawnScenes(2), "none").score([0], ["a", "b"])
