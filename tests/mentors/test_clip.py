"""CLIP scorers and the mentor over them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mentorgym.mentors import Request, load_mentor
from mentorgym.mentors.clip import ClipMentor, OpenClipScorer, TransformersScorer, text_features

ANCHORS = [["turn left", "turn right", "stop"], ["stop", "go"]]


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ask(seed: int, context: int, **size: int) -> Request:
    return Request(picture(seed, **size), "<image>", context, np.full(2, np.nan, np.float32))


def test_probabilities_are_the_softmax_of_the_models_own_logits(clip_folder: Path):
    requests = [ask(0, 0), ask(1, 1), ask(2, 0, height=300, width=20)]
    mentor = load_mentor(f"clip:{clip_folder}", anchors=ANCHORS)
    scorer = mentor.scorer
    for request, answer in zip(requests, mentor(requests), strict=True):
        pixels = scorer.image_processor([Image.fromarray(request.picture)], return_tensors="pt")["pixel_values"]
        for_each = [
            float(
                scorer.model(
                    pixel_values=pixels, **scorer.tokenizer([text], return_tensors="pt", return_token_type_ids=False)
                ).logits_per_image
            )
            for text in ANCHORS[request.context]
        ]
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, torch.tensor(for_each).softmax(0), atol=1e-5)


def test_pictures_are_prepared_as_the_folder_says(clip_folder: Path):
    scorer = TransformersScorer(str(clip_folder))
    shown = picture(3, height=32, width=32)
    pixels = scorer.image_processor([shown], return_tensors="pt")["pixel_values"][0].permute(1, 2, 0).numpy()
    mean, std = np.array(scorer.image_processor.image_mean), np.array(scorer.image_processor.image_std)
    np.testing.assert_allclose(pixels, (shown / 255 - mean) / std, atol=1e-5)


def test_features_are_unit_vectors_and_long_texts_are_cut(clip_folder: Path):
    scorer = TransformersScorer(str(clip_folder))
    texts = scorer.encode_texts(["a", "b" * 1000])
    images = scorer.encode_images([picture(0), picture(1)])
    for features in (texts, images):
        assert features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


class Counting:
    """A scorer that knows the length of a text alone."""

    scale, bias = 2.0, 0.0

    def __init__(self, fingerprint: str = "first"):
        self.fingerprint = fingerprint
        self.encoded = 0

    def encode_images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return np.ones((len(pictures), 1), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += len(texts)
        return np.array([[len(text)] for text in texts], np.float32)


def test_texts_are_encoded_once_for_each_content(cache: Path):
    texts = [f"{index}" * index for index in range(1, 200)]
    first = text_features(Counting(), texts)
    np.testing.assert_array_equal(first[:, 0], [len(text) for text in texts])
    again = Counting()
    np.testing.assert_array_equal(text_features(again, texts), first)
    assert again.encoded == 0
    for scorer, asked in ((Counting("second"), texts), (Counting(), texts[1:])):
        text_features(scorer, asked)
        assert scorer.encoded == len(asked)


def test_texts_that_contexts_share_are_encoded_once(cache: Path):
    scorer = Counting("shared")
    mentor = ClipMentor(scorer, [["a", "bb"], ["bb", "ccc", "a"]])
    assert scorer.encoded == 3
    assert [features[:, 0].tolist() for features in mentor.features] == [[1, 2], [2, 3, 1]]


def test_a_damaged_cache_is_written_anew(cache: Path):
    text_features(Counting(), ["a"])
    (path,) = (cache / "text_features").iterdir()
    path.write_bytes(b"nonsense")
    for expected in (1, 0):
        scorer = Counting()
        text_features(scorer, ["a"])
        assert scorer.encoded == expected


def test_the_fingerprint_is_that_of_the_text_tower_and_its_tokenizer(clip_folder: Path):
    scorer = TransformersScorer(str(clip_folder))
    assert scorer.fingerprint == TransformersScorer(str(clip_folder)).fingerprint
    from mentorgym.mentors.clip import _fingerprint

    vision = ("vision_model.", "visual_projection.")
    tensors = scorer.model.state_dict()
    before = _fingerprint(tensors, vision, ["tokenizer"])
    changed = {name: tensor + 1 if name.startswith(vision) else tensor for name, tensor in tensors.items()}
    assert _fingerprint(changed, vision, ["tokenizer"]) == before
    assert _fingerprint(tensors, vision, ["another"]) != before
    changed = tensors | {"text_projection.weight": tensors["text_projection.weight"] + 1}
    assert _fingerprint(changed, vision, ["tokenizer"]) != before


def test_texts_are_encoded_anew_under_another_activation(clip_folder: Path, tmp_path: Path):
    other = shutil.copytree(clip_folder, tmp_path / "other")
    assert TransformersScorer(str(other)).fingerprint == TransformersScorer(str(clip_folder)).fingerprint
    config = json.loads((other / "config.json").read_text())
    assert config["text_config"]["hidden_act"] != "relu"
    config["text_config"]["hidden_act"] = "relu"
    (other / "config.json").write_text(json.dumps(config))
    assert TransformersScorer(str(other)).fingerprint != TransformersScorer(str(clip_folder)).fingerprint


@pytest.mark.parametrize("anchors", [[], [[]], [["a"], []], "left", ["left", "right"]])
def test_anchors_are_texts_for_each_context(anchors):
    with pytest.raises(ValueError, match="a list for each context"):
        ClipMentor(Counting(), anchors)


def test_a_context_without_anchors_is_an_error(clip_folder: Path):
    with pytest.raises(IndexError):
        ClipMentor(Counting(), ANCHORS)([ask(0, 2)])


def open_clip_folder(folder: Path) -> Path:
    """A tiny model of open_clip with random weights, as its own tools save it."""
    import json

    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_model

    towers = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    torch.manual_seed(4)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": towers, "preprocess_cfg": {}}))
    model = open_clip.CLIP(**towers)
    save_model(model, str(folder / "open_clip_model.safetensors"))
    return folder


def test_open_clip_gives_the_softmax_of_its_own_logits(tmp_path: Path):
    folder = open_clip_folder(tmp_path)
    import open_clip

    mentor = load_mentor(f"openclip:local-dir:{folder}", anchors=ANCHORS)
    answers = mentor([ask(0, 0), ask(1, 1)])
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    for seed, answer in enumerate(answers):
        with torch.inference_mode():
            pixels = preprocess(Image.fromarray(picture(seed)))[None]
            images, texts, scale = model.eval()(pixels, tokenizer(ANCHORS[seed]))[:3]
        np.testing.assert_allclose(answer, (scale * images @ texts.T)[0].softmax(0), atol=1e-5)


def test_open_clip_takes_no_pickled_weights(tmp_path: Path):
    folder = open_clip_folder(tmp_path)
    torch.save({}, folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="needs open_clip_config.json and open_clip_model.safetensors"):
        OpenClipScorer(f"local-dir:{folder}")
