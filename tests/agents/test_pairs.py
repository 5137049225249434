"""Pairs that match or do not: texts, AUROC, shares and splits, augmentation, and which weights are kept."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from mentorgym.agents import clip_finetune
from mentorgym.agents.toolbox import augmentation, pairs
from mentorgym.agents.toolbox.shards import Sample, Samples, stratified_order, to_png, write_shard
from mentorgym.agents.toolbox.tuning import Best
from mentorgym.envs.caption import language

CAPTIONS = language.captions()


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_scikit_learns_ties_and_all(drawn: list[tuple[int, bool]]):
    scores, labels = (np.array(each) for each in zip(*drawn, strict=True))
    if labels.all() or not labels.any():
        with pytest.raises(ValueError, match="pairs that match and pairs that do not"):
            pairs.auroc(scores, labels)
    else:
        assert pairs.auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_probabilities_are_sigmoids_however_large():
    cosines = np.array([-0.3, 0.0, 0.2], np.float32)
    expected = 1 / (1 + np.exp(-(20 * cosines.astype(float) - 1)))
    np.testing.assert_allclose(pairs.probabilities(cosines, 20.0, -1.0), expected, rtol=1e-6)
    assert pairs.probabilities(np.array([-1.0, 1.0]), 1e4, 0.0).tolist() == [0.0, 1.0]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.floats(0.1, 100))
def test_with_the_balanced_bias_half_of_all_pairs_match_in_the_mean(cosines: list[float], scale: float):
    bias = pairs.balanced_bias(np.array(cosines), scale)
    assert pairs.probabilities(np.array(cosines), scale, bias).mean() == pytest.approx(0.5, abs=1e-6)


def test_parts_of_captions():
    caption = "Action: stop, turn left. Reason: Obstacle: car; Traffic sign."
    assert pairs.part_of(caption, "output") == caption
    assert pairs.part_of(caption, "action") == "Action: stop, turn left."
    assert pairs.part_of(caption, "reason") == "Reason: Obstacle: car; Traffic sign."
    for text in ("", "A road.", "Reason: Traffic sign.", "Because. Reason: Traffic sign."):
        with pytest.raises(ValueError, match="is not of the form"):
            pairs.part_of(text, "action")


def test_wrong_texts_are_the_others_all_as_likely():
    generator = np.random.default_rng(0)
    for own, others in (("b", {"a", "c", "d"}), ("x", {"a", "b", "c", "d"})):
        drawn = Counter(pairs.wrong_text(own, ["a", "b", "c", "d"], generator) for _ in range(4_000))
        assert drawn.keys() == others
        assert min(drawn.values()) > 0.9 * 4_000 / len(others)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 3))
def test_every_beginning_of_a_stratified_order_has_the_labels_of_the_whole(labels: list[int], seed: int):
    order = stratified_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    ordered = np.array(labels)[order]
    for length in range(len(labels) + 1):
        for label in set(labels):
            due = length * labels.count(label) / len(labels)
            # Strata that are due at once wait for each other, so a few may lag by their number over two.
            assert abs((ordered[:length] == label).sum() - due) <= 0.5 * len(set(labels)) + 0.5


def test_a_stratified_order_depends_on_its_seed():
    labels = [0] * 20 + [1] * 20
    first = stratified_order(labels, 0)
    np.testing.assert_array_equal(first, stratified_order(labels, 0))
    assert (first != stratified_order(labels, 1)).any()


@pytest.fixture
def drawn(tmp_path: Path) -> Samples:
    """105 pictures, five for each of the 21 captions."""
    picture = to_png(np.zeros((8, 8, 3), np.uint8))
    samples = [(str(index), picture, {"caption": CAPTIONS[index % 21], "index": index}) for index in range(105)]
    write_shard(tmp_path / "00000.tar", samples)
    return Samples(tmp_path)


def test_a_split_is_dealt_by_caption(drawn: Samples):
    train, validation, test = pairs.deal(drawn, (84, 42, 84), seed=42)
    parts = [[words["index"] for words in part.words] for part in (train, validation, test)]
    assert [len(part) for part in parts] == [42, 21, 42]
    assert len(set(sum(parts, []))) == 105
    for part in (train, validation, test):
        assert len({words["caption"] for words in part.words}) == 21
    train, validation, test = pairs.deal(drawn, (), seed=0)
    assert (len(train), len(validation), test) == (95, 10, None)
    with pytest.raises(ValueError, match="split needs 106"):
        pairs.deal(drawn, (172, 20, 20), seed=0)
    for split in ((10, 10), (3, 2, 2), (0, 2, 2)):
        with pytest.raises(ValueError, match="three even numbers"):
            pairs.deal(drawn, split, seed=0)


def test_distinct_texts_with_their_mirror_images(tmp_path: Path, drawn: Samples):
    assert set(pairs.distinct_texts(drawn, "action", mirror=False)) == {f"Action: {each}." for each in language.ACTIONS}
    assert pairs.distinct_texts(drawn, "output", mirror=True) == sorted(CAPTIONS)
    left = drawn.select([10])
    assert pairs.distinct_texts(left, "output", mirror=True) == [CAPTIONS[10], CAPTIONS[13]]
    with pytest.raises(ValueError, match="no wrong one"):
        pairs.distinct_texts(left, "output", mirror=False)


def test_mirrored_captions_are_captions():
    for index, caption in enumerate(CAPTIONS):
        assert augmentation.mirrored_caption(caption) == CAPTIONS[language.MIRRORED_REASONS[index]]
    both = "Action: turn left, turn right. Reason: On the left-turn lane; Obstacles on the right lane."
    assert augmentation.mirrored_caption(both) == (
        "Action: turn left, turn right. Reason: On the right-turn lane; Obstacles on the left lane."
    )
    assert augmentation.mirrored_caption("A car turns left.") == "A car turns right."


def side_by_side(caption: str) -> Sample:
    """A picture that is white on the left and black on the right."""
    picture = np.zeros((24, 40, 3), np.uint8)
    picture[:, :20] = 255
    words = {"caption": caption, "answer": caption, "context": 0, "label": CAPTIONS.index(caption)}
    return Sample(picture, words)


def test_a_flip_flips_the_words_too():
    sample = side_by_side(CAPTIONS[10])
    before = sample.picture.copy()
    augment, generator = augmentation.Augmentation([CAPTIONS]), np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        picture, words = augment(sample, generator)
        assert picture.shape == (24, 40, 3) and picture.dtype == np.uint8
        flipped = picture[:, :15].mean() < picture[:, 25:].mean()
        reason = 13 if flipped else 10
        assert words == {"caption": CAPTIONS[reason], "answer": CAPTIONS[reason], "context": 0, "label": reason}
        seen.add(flipped)
    assert seen == {False, True}
    np.testing.assert_array_equal(sample.picture, before)
    assert sample.words == side_by_side(CAPTIONS[10]).words


def test_what_cannot_be_flipped_is_refused():
    with pytest.raises(ValueError, match="the mirror image is no caption"):
        augmentation.Augmentation([CAPTIONS[:13]])
    sample = side_by_side(CAPTIONS[10])
    sample.words["answer"] = "0.1"
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="is not the picture's caption"):
        for _ in range(20):
            augmentation.Augmentation()(sample, generator)


def test_a_crop_keeps_most_of_the_picture():
    generator = np.random.default_rng(0)
    # What is left and right, above and below is told by the two channels.
    rows, columns = np.mgrid[0:50, 0:80]
    gradient = Image.fromarray(np.stack([rows * 5, columns * 3, rows * 0], -1).astype(np.uint8))
    for _ in range(50):
        cropped = np.asarray(augmentation.crop(gradient, generator)).astype(int)
        assert cropped.shape == (50, 80, 3)
        heights = np.ptp(cropped[:, :, 0]) / (49 * 5)
        widths = np.ptp(cropped[:, :, 1]) / (79 * 3)
        assert heights * widths > augmentation.LEAST_AREA * 0.9


def test_pairs_loss_against_a_reference_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(count, 8, generator=generator), dim=1) for count in (4, 3))
    batch = {"own": torch.tensor([0, 1, 2, 0]), "wrong": torch.tensor([1, 0, 0, 2])}
    found = clip_finetune.pairs_loss(images, texts, batch, torch.tensor(5.0), torch.tensor(-0.5)).item()
    a, b = images.double().numpy(), texts.double().numpy()
    match = [1 / (1 + np.exp(-(5 * a[i] @ b[j] - 0.5))) for i, j in enumerate(batch["own"])]
    other = [1 / (1 + np.exp(-(5 * a[i] @ b[j] - 0.5))) for i, j in enumerate(batch["wrong"])]
    assert found == pytest.approx(-(np.log(match).sum() + np.log1p(-np.array(other)).sum()) / 8, rel=1e-5)


def test_the_best_weights_are_kept_and_the_rate_falls(tmp_path: Path):
    module = nn.Linear(1, 1, bias=False)

    def play(best: Best, scores: list[float], first: int = 0) -> list[float]:
        rates = []
        for weight, score in enumerate(scores, first):
            with torch.no_grad():
                module.weight.fill_(float(weight))
            best.count(score)
            rates.append(best.rate)
        return rates

    best = Best(module, patience=3, factor=0.2, stop_after=7)
    rates = play(best, [0.5, 0.7, 0.7, 0.6, 0.7, 0.6])
    assert rates == pytest.approx([1, 1, 1, 1, 0.2, 0.2])
    best.save(tmp_path / "best")
    again = Best(module, patience=3, factor=0.2, stop_after=7)
    again.load(tmp_path / "best")
    for each in (best, again):
        assert play(each, [0.5, 0.5], 6) == pytest.approx([0.2, 0.04])
        assert not each.finished
        play(each, [0.7], 8)
        assert each.finished, "seven scores without a higher one"
        each.restore()
        assert module.weight.item() == 1.0, "the weight that 0.7 was first scored with"
    assert play(again, [0.9], 9) == pytest.approx([0.04])
    assert not again.finished


def test_the_papers_preset_is_the_papers():
    args = clip_finetune.Args(**clip_finetune.PRESETS["paper"])
    told = (args.loss, args.seed, args.split, args.bias, args.batch_size, args.learning_rate, args.weight_decay)
    assert told == ("pairs", 42, (1_400, 200, 400), False, 32, 2e-5, 0.01)
    assert (args.max_norm, args.factor, args.patience, args.stop_after) == (1.0, 0.2, 3, 7)
