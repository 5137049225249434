"""Vision-language models of transformers as mentors, which generate a reply or score the allowed replies."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from mentorgym.extras import import_transformers, is_installed, remedy
from mentorgym.mentors.checkpoints import check_device, check_dtype, load_config, load_model, reason
from mentorgym.mentors.mentor import GRID, IMAGE_SLOT, Feedback, Request, without_slot

ROWS_AT_ONCE = 256
"""Replies that are scored in one forward pass, which share the memory."""


def render_prompt(processor: Any, prompt: str, pictures: int = 1) -> str:
    """The model's input for `prompt`, up to the beginning of its reply.

    The processor's chat template is applied to a user's message with `pictures` pictures in the place of IMAGE_SLOT. A
    processor without a template (PaliGemma) gets the prompt itself with its own image token.

    Raises ValueError where the prompt does not hold IMAGE_SLOT exactly once.
    """
    if prompt.count(IMAGE_SLOT) != 1:
        raise ValueError(f"a prompt needs one slot {IMAGE_SLOT} for the picture, this has {prompt.count(IMAGE_SLOT)}")
    if processor.chat_template is None:
        return prompt.replace(IMAGE_SLOT, processor.image_token * pictures)
    return processor.apply_chat_template([_message(prompt, pictures)], add_generation_prompt=True, tokenize=False)


def render_reply(processor: Any, prompt: str, reply: str) -> str:
    """The model's output for `reply` after `render_prompt`, the end token included."""
    if processor.chat_template is not None:
        before = render_prompt(processor, prompt)
        messages = [_message(prompt, 1), {"role": "assistant", "content": [{"type": "text", "text": reply}]}]
        whole = processor.apply_chat_template(messages, tokenize=False)
        if whole.startswith(before):
            return whole[len(before) :].rstrip()
    return reply + processor.tokenizer.eos_token


def encode_answers(
    processor: Any,
    pictures: Sequence[np.ndarray],
    prompts: Sequence[str],
    answers: Sequence[str],
    suffix_type: int = 0,
) -> dict[str, torch.Tensor]:
    """Training inputs for each picture, prompt and answer, with the answer's tokens as `labels`.

    Prompts are padded on the left (the tokenizer has to be set so) and answers on the right; labels are -100 elsewhere.
    `suffix_type` is the answer's token type in families that mark answers by it: 1 for PaliGemma.
    """
    tokenizer = processor.tokenizer
    texts = [render_prompt(processor, prompt) for prompt in prompts]
    replies = [render_reply(processor, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    first = tokenizer.bos_token
    # Most chat templates include the first token.
    special = {"add_special_tokens": False} if first and texts[0].startswith(first) else {}
    images = [[Image.fromarray(picture)] for picture in pictures]
    inputs = processor(text=texts, images=images, padding=True, return_tensors="pt", **special)
    tokens = [torch.tensor(tokenizer(reply, add_special_tokens=False)["input_ids"]) for reply in replies]
    answer = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=tokenizer.pad_token_id)
    there = torch.nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in tokens], batch_first=True)
    prompt = inputs["input_ids"]
    extended = {
        "input_ids": torch.cat([prompt, answer], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], there], 1),
        "labels": torch.cat([torch.full_like(prompt, -100), answer.masked_fill(there == 0, -100)], 1),
    }
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            kind = suffix_type if name == "token_type_ids" else 0
            extended[name] = torch.cat([inputs[name], torch.full_like(answer, kind)], 1)
    return dict(inputs) | extended


def without_markers(processor: Any, text: str) -> str:
    """`text` without the model's special tokens, spelt out or not, and without IMAGE_SLOT.

    The tokenizer reads a special token in a text as the token itself, and an image token without a picture makes the
    model's next pass fail.
    """
    tokenizer = processor.tokenizer
    special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    markers = {*tokenizer.all_special_tokens, *special, getattr(processor, "image_token", IMAGE_SLOT)}
    before = None
    while before != text:
        before, text = text, without_slot(text)
        for marker in markers:
            text = text.replace(marker, "")
    return text


def _message(prompt: str, pictures: int) -> dict[str, Any]:
    before, after = prompt.split(IMAGE_SLOT)
    content = [{"type": "text", "text": before}, *pictures * [{"type": "image"}], {"type": "text", "text": after}]
    return {"role": "user", "content": [each for each in content if each.get("text") != ""]}


class VlmMentor:
    """A model of `AutoModelForImageTextToText`; `load_vlm` documents the arguments.

    Answers with the text of greedy decoding, or with the likeliest of `answers`.
    """

    def __init__(
        self,
        name: str,
        device: str = "cpu",
        dtype: str | None = None,
        max_new_tokens: int = 32,
        answers: Sequence[str] | None = None,
        image_splitting: bool = False,
        hub_code: bool = False,
    ):
        transformers = import_transformers()
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}: give at least 1")
        if answers is not None and (isinstance(answers, str) or not answers):
            raise ValueError(
                f"answers={answers!r}: give the allowed replies, a list of at least one text; wrappers and vlm_driver "
                f"take {GRID!r} for those of the environment"
            )
        self.max_new_tokens = max_new_tokens
        self.device = check_device(device)
        config = load_config(name, hub_code)
        auto_class = transformers.AutoModelForImageTextToText
        remote = hub_code and hasattr(config, "auto_map")
        if not remote and type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise ValueError(
                f"{name} holds a model of type {config.model_type!r}, which does not map pictures and text to text"
            )
        self.processor = _load_processor(name, hub_code)
        self.model: Any = load_model(auto_class, name, check_dtype(dtype, self.device), hub_code).to(self.device)
        for option in ("do_image_splitting", "crop_to_patches"):
            if hasattr(self.processor.image_processor, option):
                setattr(self.processor.image_processor, option, image_splitting)
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = tokenizer.eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends)
        # An image token in the output, without a picture, makes the model's next pass fail.
        markers = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.banned = sorted(markers - set(self.ends))
        self.answers = None if answers is None else list(answers)
        takes = inspect.signature(self.model.forward).parameters
        self.last_logits = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        if self.answers is not None and config.is_encoder_decoder:
            raise ValueError(f"{name} is an encoder-decoder model, which can generate but not score answers")

    def __call__(self, requests: Sequence[Request]) -> list[Feedback | None]:
        """A reply for each request; raises ValueError for a prompt without IMAGE_SLOT.

        Special tokens of the model are removed from prompts, which may hold text from other sources.
        """
        pictures = [request.picture for request in requests]
        parts = [request.prompt.split(IMAGE_SLOT) for request in requests]
        prompts = [IMAGE_SLOT.join(without_markers(self.processor, part) for part in each) for each in parts]
        if self.answers is None:
            return list(self.generate(pictures, prompts))
        best = self.score(pictures, prompts, self.answers).argmax(axis=1)
        return [self.answers[index] for index in best]

    def generate(self, pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> list[str]:
        """Replies of at most `max_new_tokens` tokens, by greedy decoding.

        `pictures` are uint8 [H, W, 3], each of any size.
        """
        inputs = self._encode(pictures, prompts)
        with torch.inference_mode():
            written = self.model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=self.max_new_tokens,
                suppress_tokens=self.banned,
                eos_token_id=self.ends,
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        read = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        replies = self.processor.tokenizer.batch_decode(written[:, read:], skip_special_tokens=True)
        return [reply.strip() for reply in replies]

    def score(self, pictures: Sequence[np.ndarray], prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Log-probabilities float32 [B, K] of each whole answer, its end token included, as the reply to each request.

        Each picture and prompt is encoded once for all K answers.
        """
        at_once = max(1, ROWS_AT_ONCE // len(answers))
        groups = [slice(start, start + at_once) for start in range(0, len(prompts), at_once)]
        return np.concatenate([self._score(pictures[group], prompts[group], answers) for group in groups])

    def _score(self, pictures: Sequence[np.ndarray], prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        tokenizer = self.processor.tokenizer
        replies = [render_reply(self.processor, prompts[0], answer) for answer in answers]
        tokens = [torch.tensor(tokenizer(reply, add_special_tokens=False)["input_ids"]) for reply in replies]
        there = [torch.ones_like(each) for each in tokens]
        written = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(self.device).repeat(len(prompts), 1)
        mask = torch.nn.utils.rnn.pad_sequence(there, batch_first=True).to(self.device).repeat(len(prompts), 1)
        inputs = self._encode(pictures, prompts)
        with torch.inference_mode():
            # Positions include the padding: rotary embeddings depend on distances alone.
            prefilled = self.model(**inputs, **self.last_logits, use_cache=True)
            logits = prefilled.logits[:, -1:].repeat_interleave(len(answers), 0).float()
            if written.shape[1] > 1:
                prefilled.past_key_values.batch_repeat_interleave(len(answers))
                read = inputs["attention_mask"].repeat_interleave(len(answers), 0)
                later = self.model(
                    input_ids=written[:, :-1],
                    attention_mask=torch.cat([read, mask[:, :-1]], 1),
                    past_key_values=prefilled.past_key_values,
                    use_cache=True,
                )
                logits = torch.cat([logits, later.logits.float()], 1)
            each = logits.log_softmax(-1).gather(2, written[..., None])[..., 0]
            return (each * mask).sum(1).view(len(prompts), len(answers)).cpu().numpy()

    def _encode(self, pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> Any:
        texts = [render_prompt(self.processor, prompt) for prompt in prompts]
        first = self.processor.tokenizer.bos_token
        # Most chat templates include the first token.
        special = {"add_special_tokens": False} if first and texts[0].startswith(first) else {}
        images = [[Image.fromarray(picture)] for picture in pictures]
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt", **special)
        # PaliGemma's processor adds labels, meant for training.
        inputs.pop("labels", None)
        return inputs.to(self.device, self.model.dtype)


def _load_processor(name: str, hub_code: bool) -> Any:
    transformers = import_transformers()
    try:
        processor = transformers.AutoProcessor.from_pretrained(name, trust_remote_code=hub_code)
    except Exception as error:  # Without torchvision some families raise errors of many types.
        if not is_installed("torchvision"):
            raise ImportError(
                f"cannot load the processor of {name} ({reason(error, name)}); if its family needs torchvision, as "
                "InternVL3, Qwen2.5-VL and SmolVLM2 do: " + remedy("vlm-torchvision")
            ) from None
        raise ValueError(f"cannot load the processor of {name}: {reason(error, name)}") from None
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ValueError(f"the processor of {name} does not take both pictures and texts")
    return processor


def load_vlm(
    name: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    max_new_tokens: int = 32,
    answers: Sequence[str] | None = None,
    image_splitting: bool = False,
    hub_code: bool = False,
) -> VlmMentor:
    """A model of transformers' `AutoModelForImageTextToText`.

    SmolVLM (Idefics3), PaliGemma and Gemma 3 need no torchvision; InternVL3, Qwen2.5-VL and SmolVLM2 do.

    Args:
        name: folder or hub name.
        device: torch's name of the device.
        dtype: torch's name of the dtype; None is float32 on the CPU and bfloat16 elsewhere.
        max_new_tokens: longest generated reply, in tokens.
        answers: the allowed replies, which are scored; None generates a reply.
        image_splitting: whether large pictures are cut into tiles, which takes many more tokens.
        hub_code: whether code beside the weights is run.

    Raises:
        ValueError: weights are missing or of another architecture, or an option is out of range.
        ImportError: a package is missing or broken.
    """
    return VlmMentor(name, device, dtype, max_new_tokens, answers, image_splitting, hub_code)
