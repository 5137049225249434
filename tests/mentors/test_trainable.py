"""Models that are scored and fine-tuned: losses against references in double precision, and what training does."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.mentors.checkpoints import save_pretrained
from mentorgym.mentors.tiny import build_clip
from mentorgym.mentors.trainable import (
    TrainableClip,
    TrainableVlm,
    _attends,
    contrastive_losses,
    make_optimizer,
    nearest,
)
from mentorgym.mentors.vlm import VlmMentor, render_prompt, render_reply

CAPTIONS = ["cup left", "cup right", "pot left", "cup left", "pot behind"]
NEGATIVES = [
    ["cup right", "left cup"],
    ["cup left", "right cup"],
    ["pot right", "left pot"],
    ["cup right", "left cup"],
    ["pot front", "behind pot"],
]
QUESTIONS = ["Where?", "Where is it, then?", "Where is the cup?"]
ANSWERS = ["left", "to the right", "no"]


def noise(count: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 256, (count, 40, 56, 3), dtype=np.uint8))


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - values.max() - np.log(np.exp(values - values.max()).sum())


def reference(images: np.ndarray, texts: np.ndarray, captions: Sequence[str], told: Sequence[str], scale: float):
    """The loss of each picture, float64 [N], one cross-entropy at a time; `told` are the words of `texts`."""
    cosines = scale * images.astype(float) @ texts.astype(float).T
    losses = []
    for row, caption in enumerate(captions):
        read = [row, *(place for place, text in enumerate(told) if text != caption)]
        seen = [row, *(place for place, other in enumerate(captions) if other != caption)]
        losses.append(-(log_softmax(cosines[row, read])[0] + log_softmax(cosines[seen, row])[0]) / 2)
    return np.array(losses)


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.integers(0, 2), st.integers(0, 99))
def test_the_contrast_is_that_of_one_cross_entropy_at_a_time(captions: list[str], altered: int, seed: int):
    generator = np.random.default_rng(seed)
    told = [*captions, *generator.choice(list("abcd"), altered * len(captions))]
    images, texts = (generator.normal(size=(len(each), 4)) for each in (captions, told))
    images, texts = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (images, texts))
    same = torch.from_numpy(np.array(captions)[:, None] == np.array(told))
    found = contrastive_losses(torch.from_numpy(images), torch.from_numpy(texts), same, torch.tensor(7.0))
    np.testing.assert_allclose(found.numpy(), reference(images, texts, captions, told, 7.0), atol=1e-9)


@pytest.mark.parametrize(
    ("contrast", "told"),
    [("clip", CAPTIONS), ("rls3", [*CAPTIONS, *(row[k] for k in range(2) for row in NEGATIVES)])],
)
def test_losses_are_over_all_pictures_and_their_texts(clip_folder: Path, contrast, told):
    clip = TrainableClip(str(clip_folder), contrast=contrast)
    pictures = noise(5)
    images, texts = clip.scorer.encode_images(pictures), clip.scorer.encode_texts(told)
    found = clip.losses(pictures, CAPTIONS, NEGATIVES)
    assert found.shape == (5,) and found.dtype == np.float32
    np.testing.assert_allclose(found, reference(images, texts, CAPTIONS, told, clip.scorer.scale), atol=1e-4)


def test_losses_do_not_depend_on_the_groups_that_pictures_are_read_in(clip_folder: Path, monkeypatch):
    clip = TrainableClip(str(clip_folder))
    whole = clip.losses(noise(5), CAPTIONS, NEGATIVES)
    monkeypatch.setattr("mentorgym.mentors.trainable.ROWS_AT_ONCE", 2)
    np.testing.assert_allclose(clip.losses(noise(5), CAPTIONS, NEGATIVES), whole, atol=1e-5)


def test_an_untrained_model_scores_about_as_chance_would(clip_folder: Path):
    clip = TrainableClip(str(clip_folder))
    with torch.no_grad():
        clip.model.logit_scale.fill_(0.0)
    captions = [f"caption {row}" for row in range(8)]
    negatives = [[f"other {row}", f"third {row}"] for row in range(8)]
    chance = (np.log(24) + np.log(8)) / 2
    assert clip.losses(noise(8), captions, negatives).mean() == pytest.approx(chance, abs=0.5)


def test_probabilities_are_the_softmax_over_each_pictures_choices(clip_folder: Path):
    clip = TrainableClip(str(clip_folder))
    choices = [["cup left", "cup right", "pot"], ["a", "b", "c"], ["b", "a", "a"]]
    found = clip.probabilities(noise(3), choices)
    images = clip.scorer.encode_images(noise(3)).astype(float)
    for row, texts in enumerate(choices):
        expected = np.exp(log_softmax(clip.scorer.scale * clip.scorer.encode_texts(texts) @ images[row]))
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=9), st.integers(0, 99))
def test_hard_pictures_are_the_nearest_with_another_caption(captions: list[str], seed: int):
    features = np.random.default_rng(seed).normal(size=(len(captions), 5))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    found = nearest(torch.from_numpy(features), captions, 3).numpy()
    for row, chosen in enumerate(found):
        rest = [other for other in range(len(captions)) if other != row]
        rest.sort(key=lambda other: (captions[other] == captions[row], -features[row] @ features[other]))
        assert chosen.tolist() == rest[:3]


def test_negclip_takes_twice_the_batch_in_pictures_and_four_times_in_texts(clip_folder: Path, monkeypatch):
    clip = TrainableClip(str(clip_folder), contrast="negclip", batch_size=2)
    seen = []
    contrast = clip._contrast
    monkeypatch.setattr(clip, "_contrast", lambda *given: seen.append(given) or contrast(*given))
    clip.fine_tune(noise(5), CAPTIONS, NEGATIVES, epochs=2, seed=0)
    assert len(seen) == 2 * 3
    for images, captions, texts in seen:
        half = len(captions) // 2
        assert len(images) == 2 * half and len(texts) == 4 * half and list(texts[: 2 * half]) == list(captions)
        for caption, text in zip(captions, texts[2 * half :], strict=True):
            assert text in NEGATIVES[CAPTIONS.index(caption)]
        for caption, hard in zip(captions[:half], captions[half:], strict=True):
            assert caption != hard, "a hard picture has another caption"


@pytest.mark.parametrize("contrast", ["clip", "negclip", "rls3"])
def test_fine_tuning_a_clip_lowers_its_loss_and_is_the_same_for_a_seed(clip_folder: Path, contrast):
    def tune(seed: int) -> tuple[np.ndarray, TrainableClip]:
        clip = TrainableClip(str(clip_folder), contrast=contrast, batch_size=3, learning_rate=1e-3)
        return clip.fine_tune(noise(5), CAPTIONS, NEGATIVES, epochs=12, seed=seed), clip

    (told, one), (again, same), (_, other) = tune(1), tune(1), tune(2)
    assert told.shape == (24,) and told.dtype == np.float32
    assert told[-6:].mean() < told[:6].mean()
    np.testing.assert_array_equal(told, again)
    before = dict(TrainableClip(str(clip_folder)).model.named_parameters())
    twin, third = dict(same.model.named_parameters()), dict(other.model.named_parameters())
    for name, parameter in one.model.named_parameters():
        assert torch.equal(parameter, twin[name])
        # Softmax does not tell a bias that all keys share.
        if not name.endswith("k_proj.bias"):
            assert not torch.equal(parameter, before[name]), name
    assert any(not torch.equal(parameter, third[name]) for name, parameter in one.model.named_parameters())


def test_the_scale_of_cosines_stays_below_a_hundred(clip_folder: Path):
    clip = TrainableClip(str(clip_folder), learning_rate=1.0)
    with torch.no_grad():
        clip.model.logit_scale.fill_(np.log(99.9))
    clip.fine_tune(noise(5), CAPTIONS, NEGATIVES, epochs=2, seed=0)
    assert clip.model.logit_scale.exp() <= 100.001


def test_a_clip_from_nothing_tells_texts_apart_wherever_they_differ(tmp_path: Path):
    torch.manual_seed(0)
    texts = [
        "the cup is left of the pot",
        "the cup is right of the pot",
        "the pot is left of the cup",
        "a pot is a cup",
    ]
    model, processor = build_clip(texts, image_size=24, patch_size=6, width=32, vision_layers=1, words=True)
    save_pretrained(model, processor, torch.float32, tmp_path)
    features = TrainableClip(str(tmp_path)).encode_texts([*texts, texts[0][:-3], texts[0] + " of the cup"])
    assert torch.cdist(features, features)[~torch.eye(6, dtype=torch.bool)].min() > 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_clip_goes_on_from_what_it_saved(clip_folder: Path, tmp_path: Path, dtype):
    clip = TrainableClip(str(clip_folder), learning_rate=1e-3)
    clip.fine_tune(noise(5), CAPTIONS, NEGATIVES, epochs=1, seed=0)
    clip.save(tmp_path / "saved", dtype)
    expected = clip.losses(noise(5), CAPTIONS, NEGATIVES)
    exact = {"rtol": 0, "atol": 0.0 if dtype == "float32" else 0.02}
    loaded = TrainableClip(str(tmp_path / "saved"), learning_rate=1e-3)
    np.testing.assert_allclose(loaded.losses(noise(5), CAPTIONS, NEGATIVES), expected, **exact)
    restored = TrainableClip(str(clip_folder), learning_rate=1e-3)
    restored.load(tmp_path / "saved")
    told = [each.fine_tune(noise(5), CAPTIONS, NEGATIVES, epochs=2, seed=3) for each in (clip, loaded, restored)]
    np.testing.assert_array_equal(told[1], told[2])
    np.testing.assert_allclose(told[0], told[1], **exact)


def plain_loss(vlm: TrainableVlm, picture: np.ndarray, question: str, answer: str) -> tuple[float, int]:
    """The sum of the negative log-likelihoods of an answer's tokens, one pass over one sample, and their number."""
    from PIL import Image

    processor = vlm.vlm.processor
    text = render_prompt(processor, f"<image>{question}")
    begins = text.startswith("<s>")
    inputs = processor(
        text=[text], images=[[Image.fromarray(picture)]], return_tensors="pt", add_special_tokens=not begins
    )
    inputs.pop("labels", None)
    reply = render_reply(processor, f"<image>{question}", answer)
    tokens = torch.tensor(processor.tokenizer(reply, add_special_tokens=False)["input_ids"])
    read = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens[None]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "token_type_ids" in inputs:  # PaliGemma reads a prompt, of kind 0, in both directions.
        inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], torch.ones_like(tokens)[None]], 1)
    with torch.no_grad():
        likelihoods = vlm.model(**inputs, use_cache=False).logits[0, read - 1 : -1].double().log_softmax(-1)
    return -float(likelihoods[torch.arange(len(tokens)), tokens].sum()), len(tokens)


def test_the_loss_is_that_of_the_answers_tokens_alone(vlm_folder: Path):
    vlm = TrainableVlm(str(vlm_folder), batch_size=3, learning_rate=0.0)
    sums = [plain_loss(vlm, *each) for each in zip(noise(3), QUESTIONS, ANSWERS, strict=True)]
    expected = sum(each for each, _ in sums) / sum(count for _, count in sums)
    told = vlm.fine_tune(noise(3), QUESTIONS, ANSWERS, steps=1, seed=0)
    assert told.dtype == np.float32
    np.testing.assert_allclose(told, [expected], rtol=1e-5)


@pytest.mark.parametrize("train", ["attention", "all"])
def test_fine_tuning_changes_what_it_is_to_and_learns(vlm_folder: Path, train):
    vlm = TrainableVlm(str(vlm_folder), train=train, batch_size=2, learning_rate=5e-3)
    before = {name: parameter.clone() for name, parameter in vlm.model.named_parameters()}
    told = vlm.fine_tune(noise(3), QUESTIONS, ANSWERS, steps=12, seed=0)
    assert told[-4:].mean() < told[:4].mean()
    changed = {name for name, parameter in vlm.model.named_parameters() if not torch.equal(parameter, before[name])}
    attention = {name for name in before if "self_attn" in name and "vision" not in name}
    if train == "attention":
        assert changed == attention and len(attention) == 2 * 4
    else:
        assert changed > attention and any("vision" in name for name in changed)
    again = TrainableVlm(str(vlm_folder), train=train, batch_size=2, learning_rate=5e-3)
    np.testing.assert_array_equal(told, again.fine_tune(noise(3), QUESTIONS, ANSWERS, steps=12, seed=0))


@pytest.mark.parametrize(
    ("name", "attends"),
    [
        ("model.language_model.layers.0.self_attn.q_proj.weight", True),  # PaliGemma
        ("model.text_model.layers.0.self_attn.o_proj.weight", True),  # Idefics3
        ("model.text_model.layers.0.mlp.up_proj.weight", False),
        ("model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight", False),
        ("model.visual.blocks.0.self_attn.q_proj.weight", False),
        ("model.connector.perceiver_resampler.layers.0.self_attn.q_proj.weight", False),  # Idefics2
    ],
)
def test_attention_is_the_language_models_by_its_names_in_transformers(name: str, attends: bool):
    assert _attends(name) == attends


def test_batches_go_through_all_samples_before_one_comes_again(vlm_folder: Path, monkeypatch):
    vlm = TrainableVlm(str(vlm_folder), batch_size=2)
    seen: list[str] = []
    monkeypatch.setattr(vlm, "_loss", lambda pictures, questions, answers: _remember(seen, questions, vlm))
    questions = [f"Q{row}" for row in range(5)]
    vlm.fine_tune(noise(5), questions, ["a"] * 5, steps=5, seed=0)
    assert len(seen) == 10 and set(seen[:5]) == set(seen[5:]) == set(questions)


def _remember(seen: list[str], questions: Sequence[str], vlm: TrainableVlm) -> torch.Tensor:
    seen += questions
    return next(each for each in vlm.model.parameters() if each.requires_grad).sum() * 0.0


def test_answers_are_the_mentors_whatever_the_groups(vlm_folder: Path, monkeypatch):
    vlm = TrainableVlm(str(vlm_folder), max_new_tokens=5)
    expected = VlmMentor(str(vlm_folder), max_new_tokens=5).generate(noise(3), [f"<image>{each}" for each in QUESTIONS])
    monkeypatch.setattr("mentorgym.mentors.trainable.ROWS_AT_ONCE", 2)
    assert vlm.answer(noise(3), QUESTIONS) == expected


def test_a_question_with_a_pictures_marker_in_it_has_still_one_picture(vlm_folder: Path):
    vlm = TrainableVlm(str(vlm_folder), max_new_tokens=3)
    assert vlm.answer(noise(1), ["Wh<image>ere?"]) == vlm.answer(noise(1), ["Where?"])


def test_a_vlm_goes_on_from_what_it_saved(vlm_folder: Path, tmp_path: Path):
    vlm = TrainableVlm(str(vlm_folder), learning_rate=5e-3, max_new_tokens=5)
    vlm.fine_tune(noise(3), QUESTIONS, ANSWERS, steps=2, seed=0)
    vlm.save(tmp_path / "saved")
    restored = TrainableVlm(str(vlm_folder), learning_rate=5e-3, max_new_tokens=5)
    restored.load(tmp_path / "saved")
    loaded = TrainableVlm(str(tmp_path / "saved"), learning_rate=5e-3, max_new_tokens=5)
    told = [each.fine_tune(noise(3), QUESTIONS, ANSWERS, steps=2, seed=1) for each in (vlm, restored, loaded)]
    np.testing.assert_array_equal(told[0], told[1])
    np.testing.assert_array_equal(told[0], told[2])
    vlm.save(tmp_path / "half", "float16")
    assert vlm.model.dtype == torch.float32, "saving leaves the model as it is"
    assert len(TrainableVlm(str(tmp_path / "half"), max_new_tokens=2).answer(noise(1), ["Where?"])) == 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda clip: clip.losses([], [], []), "no pictures"),
        (lambda clip: clip.losses(noise(2), ["a"], [["b", "c"]] * 2), "2 pictures"),
        (lambda clip: clip.losses(noise(2), ["a", "b"], [["b", "c"]]), "2 pictures"),
        (lambda clip: clip.losses(noise(2), ["a", "b"], [["b", "c"], ["d"]]), "altered captions"),
        (lambda clip: clip.losses(noise(2), ["a", "b"], [[], []]), "altered captions"),
        (lambda clip: clip.probabilities(noise(2), [["a"], ["a", "b"]]), "choices"),
        (lambda clip: clip.probabilities(noise(1), [[]]), "choices"),
        (lambda clip: clip.fine_tune(noise(1), ["a"], [["b", "c"]], epochs=0, seed=0), "epochs"),
        (lambda clip: clip.losses([np.zeros((4, 4), np.uint8)], ["a"], [["b", "c"]]), "uint8"),
        (lambda clip: clip.losses([np.zeros((4, 4, 3))], ["a"], [["b", "c"]]), "uint8"),
        (lambda clip: clip.losses([[1, 2]], ["a"], [["b", "c"]]), "uint8"),
        (lambda clip: clip.losses(["picture.png"], ["a"], [["b", "c"]]), "uint8"),
    ],
)
def test_what_a_clip_cannot_take_is_refused(clip_folder: Path, call, told):
    with pytest.raises(ValueError, match=told):
        call(TrainableClip(str(clip_folder)))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda vlm: vlm.answer(noise(2), ["a"]), "2 pictures"),
        (lambda vlm: vlm.fine_tune(noise(1), ["a"], ["a", "b"], steps=1, seed=0), "1 pictures"),
        (lambda vlm: vlm.fine_tune([], [], [], steps=1, seed=0), "no pictures"),
        (lambda vlm: vlm.fine_tune(noise(1), ["a"], ["b"], steps=0, seed=0), "steps"),
    ],
)
def test_what_a_vlm_cannot_take_is_refused(vlm_folder: Path, call, told):
    with pytest.raises(ValueError, match=told):
        call(TrainableVlm(str(vlm_folder)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_not_trained(dtype):
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2).to(dtype), torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=f"weights in {str(dtype).split('.')[1]} would not learn"):
        make_optimizer(layers, 0.0)
    layers[0].requires_grad_(False)
    make_optimizer(layers, 0.0)


def test_unknown_ways_are_refused(clip_folder: Path, vlm_folder: Path):
    with pytest.raises(ValueError, match="contrast"):
        TrainableClip(str(clip_folder), contrast="softmax")
    with pytest.raises(ValueError, match="train"):
        TrainableVlm(str(vlm_folder), train="vision")
    with pytest.raises(ValueError, match="batch_size"):
        TrainableClip(str(clip_folder), batch_size=0)
    with pytest.raises(ValueError, match="batch_size"):
        TrainableVlm(str(vlm_folder), batch_size=0)
