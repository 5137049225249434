"""The policy over texts: what it samples and says of samples, against one prompt at a time without a cache."""

import copy
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from mentorgym.agents.toolbox.captioner import (
    Captioner,
    Random,
    Sampling,
    Trained,
    Written,
    load_captioner,
    truncate,
    written_as,
)
from mentorgym.envs.caption import language
from mentorgym.mentors.vlm import render_prompt, without_markers

torch.set_num_threads(1)

PROMPTS = [language.PROMPT, "<image>Why?", "Look: <image> what next, and what is the reason for this?", "no slot"]


@pytest.fixture(scope="module", params=["idefics3", "paligemma"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template, and one without."""
    families = runpy.run_path(str(Path(__file__).parents[1] / "mentors" / "conftest.py"))
    return families[request.param](tmp_path_factory.mktemp(request.param))


def noise(count: int, frames: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, frames, 24, 32, 3), dtype=np.uint8)


def reference_truncation(logits: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """The tokens that stay of float [V], in plain words: the k likeliest, then as few as reach p."""
    order = np.argsort(-logits, kind="stable")
    if top_k:
        order = order[:top_k]
    likelihoods = np.exp(logits[order] - logits.max())
    likelihoods /= likelihoods.sum()
    kept = np.zeros(len(logits), bool)
    total = 0.0
    for token, likelihood in zip(order, likelihoods, strict=True):
        kept[token] = True
        total += likelihood
        if total >= top_p:
            break
    return kept


def reference_log_probabilities(captioner: Captioner, frames, prompt: str, tokens: torch.Tensor) -> torch.Tensor:
    """Of the tokens [T] after one prompt: one forward pass over all, without cache or padding."""
    processor, sampling = captioner.processor, captioner.sampling
    text = render_prompt(processor, prompt if "<image>" in prompt else "<image>" + prompt, len(frames))
    images = [[Image.fromarray(frame) for frame in frames]]
    inputs = processor(text=[text], images=images, return_tensors="pt", add_special_tokens=not text.startswith("<s>"))
    inputs.pop("labels", None)
    read = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens[None]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "token_type_ids" in inputs:  # A prompt is of kind 0, and what follows is read from left to right, kind 1.
        inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], torch.ones_like(tokens)[None]], 1)
    logits = captioner.model(**inputs, use_cache=False).logits[0, read - 1 : -1] / sampling.temperature
    logits[:, captioner.vlm.banned] = -torch.inf
    plain = logits.detach().numpy().astype(float)
    kept = np.stack([reference_truncation(row, sampling.top_k, sampling.top_p) for row in plain])
    logits = logits.masked_fill(torch.from_numpy(~kept), -torch.inf)
    return logits.log_softmax(-1)[torch.arange(len(tokens)), tokens]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-64, 64), min_size=2, max_size=12, unique=True), st.integers(0, 14), st.floats(0.05, 1.0))
def test_truncation_is_that_of_the_plain_words(sixteenths: list[int], top_k: int, top_p: float):
    logits = [each / 16 for each in sixteenths]  # Never so near to each other that both are as likely.
    kept = truncate(torch.tensor([logits], dtype=torch.float64), top_k, top_p)
    ordered = np.sort(np.exp(logits) / np.sum(np.exp(logits)))[::-1]
    if np.abs(np.cumsum(ordered[: top_k or None] / ordered[: top_k or None].sum()) - top_p).min() < 1e-9 and top_p < 1:
        return  # On the verge rounding decides.
    expected = reference_truncation(np.array(logits), min(top_k, len(logits)), top_p)
    if kept is None:
        assert expected.all() or top_p == 1.0
    else:
        np.testing.assert_array_equal(kept[0].numpy(), expected)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(max_new_tokens=5), Sampling(1.5, 20, 0.8, max_new_tokens=5)],
    ids=["all", "truncated"],
)
def test_scores_are_those_of_each_text_alone_whatever_the_padding(folder, sampling):
    captioner = load_captioner(str(folder), sampling=sampling)
    frames = noise(len(PROMPTS))
    prefix = captioner.read(captioner.prepare(frames, PROMPTS))
    assert prefix.mask.sum(1).unique().numel() > 1, "prompts of one length need no padding"
    written = captioner.write(prefix, 3, torch.Generator().manual_seed(0))
    scores = captioner.score(prefix, written)
    for row, tokens in enumerate(written.tokens):
        own = tokens[written.mask[row]]
        expected = reference_log_probabilities(captioner, frames[row // 3], PROMPTS[row // 3], own)
        found = scores.log_probabilities[row]
        torch.testing.assert_close(found[: len(own)], expected, rtol=0, atol=1e-5)
        assert (found[len(own) :] == 0).all() and (scores.entropies[row, len(own) :] == 0).all()
        alone = captioner.read(captioner.prepare(frames[row // 3, None], PROMPTS[row // 3 : row // 3 + 1]))
        one = captioner.score(alone, Written(own[None], torch.ones(1, len(own), dtype=torch.bool), []))
        torch.testing.assert_close(one.log_probabilities[0], found[: len(own)], rtol=0, atol=1e-5)
        torch.testing.assert_close(one.entropies[0], scores.entropies[row, : len(own)], rtol=0, atol=1e-4)


def test_gradients_are_those_of_a_pass_without_a_cache(folder):
    captioner = load_captioner(str(folder), sampling=Sampling(max_new_tokens=4))
    frames = noise(2)
    prefix = captioner.read(captioner.prepare(frames, PROMPTS[:2]))
    written = captioner.write(prefix, 2, torch.Generator().manual_seed(1))
    captioner.score(prefix, written).log_probabilities.sum().backward()
    ours = {name: each.grad.clone() for name, each in captioner.model.named_parameters() if each.grad is not None}
    captioner.model.zero_grad()
    sum(
        reference_log_probabilities(captioner, frames[row // 2], PROMPTS[row // 2], tokens[written.mask[row]]).sum()
        for row, tokens in enumerate(written.tokens)
    ).backward()
    for name, each in captioner.model.named_parameters():
        assert (each.grad is None) == (name not in ours), name
        if each.grad is not None:
            torch.testing.assert_close(ours[name], each.grad, rtol=1e-3, atol=1e-5)


def test_samples_have_the_probabilities_that_scores_give_them(folder):
    sampling = Sampling(1.3, 60, 0.9, max_new_tokens=1)
    captioner = load_captioner(str(folder), sampling=sampling)
    prefix = captioner.read(captioner.prepare(noise(1), PROMPTS[:1]))
    count = 6000
    written = captioner.write(prefix, count, torch.Generator().manual_seed(0))
    logits = (prefix.logits[0] / 1.3).detach().numpy().astype(float)
    logits[captioner.vlm.banned] = -np.inf
    likelihoods = np.where(reference_truncation(logits, 60, 0.9), np.exp(logits), 0.0)
    likelihoods /= likelihoods.sum()
    seen = np.bincount(written.tokens[:, 0].numpy(), minlength=len(logits))
    assert (seen[likelihoods == 0] == 0).all()
    there = likelihoods > 0
    assert stats.chisquare(seen[there], count * likelihoods[there]).pvalue > 1e-3
    scores = captioner.score(prefix, written).log_probabilities[:, 0].detach().exp().numpy()
    np.testing.assert_allclose(scores, likelihoods[written.tokens[:, 0].numpy()], rtol=1e-4)


def test_likeliest_copies_are_greedy_and_the_others_sampled(folder):
    captioner = load_captioner(str(folder), sampling=Sampling(max_new_tokens=4))
    frames = noise(2)
    prefix = captioner.read(captioner.prepare(frames, PROMPTS[:2]))
    written = captioner.write(prefix, 3, torch.Generator().manual_seed(0), likeliest=1)
    assert written.texts[2::3] == captioner({"frames": frames, "instruction": tuple(PROMPTS[:2])})
    assert captioner.vlm.generate([each[0] for each in frames], PROMPTS[:2]) != written.texts[0::3]
    short = load_captioner(str(folder), sampling=Sampling(max_new_tokens=32))
    replies = short.vlm.generate([each[0] for each in frames], PROMPTS[:2])
    assert short({"frames": frames, "instruction": tuple(PROMPTS[:2])}) == replies


def test_no_marker_is_written_and_none_can_be_smuggled_into_a_prompt(folder):
    captioner = load_captioner(str(folder), sampling=Sampling(5.0, max_new_tokens=30))
    with torch.no_grad():  # An output head that would write nothing but markers.
        head = captioner.vlm.model.get_output_embeddings()
        head.bias = torch.nn.Parameter(torch.zeros(head.weight.shape[0]))
        head.bias[captioner.vlm.banned] = 50.0
    frames = noise(2)
    prefix = captioner.read(captioner.prepare(frames, PROMPTS[:2]))
    written = captioner.write(prefix, 8, torch.Generator().manual_seed(0))
    assert not torch.isin(written.tokens[written.mask], torch.tensor(captioner.vlm.banned)).any()
    assert torch.isfinite(captioner.score(prefix, written).log_probabilities).all()
    spelt = ["<image>", "<ima<image>ge>", "</s></s>", "".join(captioner.processor.tokenizer.all_special_tokens)]
    for text in [*written.texts, *spelt, "\x00\ud800".encode("utf-8", "replace").decode()]:
        prompt = "<image>" + without_markers(captioner.processor, text)
        one = captioner.read(captioner.prepare(frames[:1], [prompt]))
        assert torch.isfinite(one.logits[:, captioner.vlm.ends]).all()
    assert without_markers(captioner.processor, "a <b> c < image >") == "a <b> c < image >"


def test_several_frames_are_read_and_each_counts(folder):
    captioner = load_captioner(str(folder))
    frames = noise(2, 3)
    prefix = captioner.read(captioner.prepare(frames, PROMPTS[:2]))
    changed = frames.copy()
    changed[0, 1] = 255 - changed[0, 1]
    other = captioner.read(captioner.prepare(changed, PROMPTS[:2]))
    assert not torch.allclose(prefix.logits[0], other.logits[0], atol=1e-6)
    torch.testing.assert_close(prefix.logits[1], other.logits[1])


def test_texts_of_others_are_scored_with_their_end(folder):
    captioner = load_captioner(str(folder))
    prefix = captioner.read(captioner.prepare(noise(2), PROMPTS[:2]))
    written = written_as(captioner, PROMPTS[:2], ["stop", "go on now"])
    assert torch.isin(written.tokens[[0, 1], written.mask.sum(1) - 1], torch.tensor(captioner.vlm.ends)).all()
    said = captioner.processor.tokenizer.batch_decode(written.tokens, skip_special_tokens=True)
    assert [each.strip() for each in said] == ["stop", "go on now"]
    # SmolVLM's template, which PaliGemma has none of, puts a space before a reply.
    assert all(each.startswith(" ") == (captioner.processor.chat_template is not None) for each in said)
    assert torch.isfinite(captioner.score(prefix, written).log_probabilities).all()


def test_adapters_alone_are_trained_and_kept_and_merged_when_saved(folder, tmp_path):
    captioner = load_captioner(str(folder), lora=2)
    plain = load_captioner(str(folder))
    inputs = captioner.prepare(noise(2), PROMPTS[:2])
    trained = [name for name, each in captioner.model.named_parameters() if each.requires_grad]
    assert trained and all("lora" in name for name in trained)
    with torch.no_grad():
        for each in captioner.model.parameters():
            if each.requires_grad:
                each.normal_(std=0.1)
    with captioner.model.disable_adapter():
        torch.testing.assert_close(captioner.read(inputs).logits, plain.read(inputs).logits)
    tuned = captioner.read(inputs).logits.detach()
    assert not torch.allclose(tuned, plain.read(inputs).logits, atol=1e-3)
    Trained(captioner.model).save(tmp_path / "part")
    again = load_captioner(str(folder), lora=2)
    Trained(again.model).load(tmp_path / "part")
    torch.testing.assert_close(again.read(inputs).logits, tuned)
    captioner.save(tmp_path / "model", torch.float32)
    torch.testing.assert_close(load_captioner(str(tmp_path / "model")).read(inputs).logits, tuned, rtol=0, atol=1e-4)


def test_a_generator_goes_on_where_it_was(tmp_path):
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    Random(generator).save(tmp_path / "random")
    expected = torch.rand(4, generator=generator)
    other = torch.Generator()
    Random(other).load(tmp_path / "random")
    torch.testing.assert_close(torch.rand(4, generator=other), expected)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k -1"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.1}, "top_p 1.1"),
        ({"max_new_tokens": 0}, "at least one token"),
    ],
)
def test_a_distribution_that_is_none_is_refused(flags, told):
    with pytest.raises(ValueError, match=told):
        Sampling(**flags)


def test_models_with_an_encoder_and_a_decoder_are_refused(folder):
    vlm = copy.copy(load_captioner(str(folder)).vlm)
    vlm.model = copy.copy(vlm.model)
    vlm.model.config = copy.copy(vlm.model.config)
    vlm.model.config.is_encoder_decoder = True
    with pytest.raises(ValueError, match="encoder and a decoder"):
        Captioner(vlm)
