"""Vision-language models as mentors: replies, scores of whole answers, and what is refused at construction."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mentorgym.mentors import Request, load_mentor
from mentorgym.mentors.vlm import render_prompt, render_reply

NO_ACTION = np.full(2, np.nan, np.float32)


def ask(seed: int, prompt: str) -> Request:
    picture = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Request(picture, prompt, 0, NO_ACTION)


REQUESTS = [ask(0, "<image>Go."), ask(1, "<image>Speed 12.3. What next?"), ask(2, "Look: <image> left or right?")]
ANSWERS = ["stop", "turn left", "go straight on!"]


def inputs_of_one(mentor, request: Request):
    from PIL import Image

    text = render_prompt(mentor.processor, request.prompt)
    images = [[Image.fromarray(request.picture)]]
    return mentor.processor(
        text=[text], images=images, return_tensors="pt", add_special_tokens=not text.startswith("<s>")
    )


def test_a_reply_is_what_plain_greedy_decoding_of_one_request_writes(vlm_folder: Path):
    mentor = load_mentor(f"vlm:{vlm_folder}", max_new_tokens=6)
    replies = mentor(REQUESTS)
    for request, reply in zip(REQUESTS, replies, strict=True):
        inputs = inputs_of_one(mentor, request)
        ids, kinds = inputs["input_ids"], inputs.get("token_type_ids")
        inputs = {key: inputs[key] for key in inputs if key in ("pixel_values", "pixel_attention_mask")}
        read = ids.shape[1]
        for _ in range(6):
            extra = {}
            if kinds is not None:  # PaliGemma reads a prompt, of kind 0, in both directions.
                written = torch.ones(1, ids.shape[1] - read, dtype=kinds.dtype)
                extra = {"token_type_ids": torch.cat([kinds, written], 1)}
            logits = mentor.model(input_ids=ids, **inputs, **extra, use_cache=False).logits[0, -1]
            logits[mentor.banned] = -torch.inf
            ids = torch.cat([ids, logits.argmax().view(1, 1)], 1)
            if ids[0, -1] in mentor.ends:
                break
        assert reply == mentor.processor.tokenizer.decode(ids[0, read:], skip_special_tokens=True).strip()


def test_no_marker_is_ever_written(vlm_folder: Path):
    mentor = load_mentor(f"vlm:{vlm_folder}", max_new_tokens=4)
    image = mentor.processor.tokenizer.convert_tokens_to_ids("<image>")
    assert image in mentor.banned
    with torch.no_grad():  # An output head that would write nothing else.
        head = mentor.model.get_output_embeddings()
        bias = torch.full((head.weight.shape[0],), -100.0)
        bias[image] = 100.0
        head.bias = torch.nn.Parameter(bias)
    assert "<image>" not in "".join(mentor(REQUESTS))


def test_scores_are_the_log_probabilities_of_whole_answers(vlm_folder: Path):
    mentor = load_mentor(f"vlm:{vlm_folder}", answers=ANSWERS)
    pictures, prompts = [each.picture for each in REQUESTS], [each.prompt for each in REQUESTS]
    scores = mentor.score(pictures, prompts, ANSWERS)
    expected = np.zeros((3, 3))
    for row, request in enumerate(REQUESTS):
        inputs = inputs_of_one(mentor, request)
        inputs.pop("labels", None)
        inputs.pop("attention_mask")
        prompt = inputs.pop("input_ids")
        kinds = inputs.pop("token_type_ids", None)
        for column, answer in enumerate(ANSWERS):
            reply = render_reply(mentor.processor, request.prompt, answer)
            assert reply.endswith("</s>")
            reply = mentor.processor.tokenizer(reply, add_special_tokens=False, return_tensors="pt")["input_ids"]
            extra = {} if kinds is None else {"token_type_ids": torch.cat([kinds, torch.ones_like(reply)], 1)}
            logits = mentor.model(input_ids=torch.cat([prompt, reply], 1), **inputs, **extra, use_cache=False).logits
            each = logits[0, prompt.shape[1] - 1 : -1].log_softmax(-1)
            expected[row, column] = each[torch.arange(reply.shape[1]), reply[0]].sum()
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert mentor(REQUESTS) == [ANSWERS[best] for best in expected.argmax(1)]


def test_one_short_answer_and_more_than_fit_at_once(vlm_folder: Path, monkeypatch: pytest.MonkeyPatch):
    mentor = load_mentor(f"vlm:{vlm_folder}")
    pictures, prompts = [each.picture for each in REQUESTS], [each.prompt for each in REQUESTS]
    whole = mentor.score(pictures, prompts, ANSWERS)
    monkeypatch.setattr("mentorgym.mentors.vlm.ROWS_AT_ONCE", 4)
    np.testing.assert_allclose(mentor.score(pictures, prompts, ANSWERS), whole, atol=1e-4)
    np.testing.assert_allclose(mentor.score(pictures, prompts, ANSWERS[:1]), whole[:, :1], atol=1e-4)


def test_markers_that_stand_in_a_prompt_are_not_read(vlm_folder: Path):
    mentor = load_mentor(f"vlm:{vlm_folder}", max_new_tokens=6)
    markers = mentor.processor.tokenizer.all_special_tokens
    nested = markers[0][:2] + markers[0] + markers[0][2:]
    assert mentor([ask(0, f"<image>G{nested}o{''.join(markers).replace('<image>', '')}.")]) == mentor([REQUESTS[0]])


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (32, 32, 3)])
def test_pictures_of_any_size_are_taken(vlm_folder: Path, shape: tuple[int, int, int]):
    mentor = load_mentor(f"vlm:{vlm_folder}", max_new_tokens=1)
    (reply,) = mentor([Request(np.zeros(shape, np.uint8), "<image>", 0, NO_ACTION)])
    assert isinstance(reply, str)


def test_a_prompt_without_its_slot_is_refused(vlm_folder: Path):
    mentor = load_mentor(f"vlm:{vlm_folder}", max_new_tokens=1)
    with pytest.raises(ValueError, match="one slot <image>"):
        mentor([ask(0, "What next?")])


def test_a_clip_is_no_vision_language_model_and_the_reverse(clip_folder: Path, vlm_folder: Path):
    with pytest.raises(ValueError, match="'clip', which does not map pictures and text to text"):
        load_mentor(f"vlm:{clip_folder}")
    with pytest.raises(ValueError, match="needs 'clip'"):
        load_mentor(f"clip:{vlm_folder}", anchors=[["left"]])


def test_pickled_or_missing_or_incomplete_weights_are_refused(vlm_folder: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(vlm_folder, folder)
    weights = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    first = next(name for name in sorted(tensors) if "layers" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match="incomplete: 1 tensors are missing"):
        load_mentor(f"vlm:{folder}")
    weights.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors only"):
        load_mentor(f"vlm:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_mentor(f"vlm:{folder}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0: give at least 1"),
        ({"answers": []}, "at least one text"),
        ({"answers": "stop"}, "at least one text"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"dtype": "float23"}, "unknown dtype 'float23'"),
    ],
)
def test_unfit_options_are_refused(vlm_folder: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        load_mentor(f"vlm:{vlm_folder}", **options)
