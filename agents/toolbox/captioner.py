"""A vision-language model as a policy over texts: it reads pictures once, writes several texts, and weighs them.

The same two steps for every family of `AutoModelForImageTextToText`. `Captioner.read` encodes the pictures and reads
the prompt, with gradients where they are on; what it leaves, the cache of keys and values, is repeated for the k texts
of a scene, both where they are written and where their log-probabilities are taken. So an update encodes each picture
once and reads each prompt once, not k times in sampling and k times in each pass.

Log-probabilities are those of the distribution that was sampled from: divided by the temperature, with the markers
banned and what top-k and top-p cut off. The model stays in evaluation mode, so that no dropout comes between the two.
"""

import copy
import dataclasses
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mentorgym.extras import import_extra
from mentorgym.mentors.checkpoints import save_pretrained
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.vlm import VlmMentor, load_vlm, render_prompt, render_reply
from mentorgym.tensors import load_tensors

ROWS_AT_ONCE = 64
"""Scenes that the greedy policy answers in one batch."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The distribution that texts are sampled from; ValueError for what is none."""

    temperature: float = 1.0
    top_k: int = 0
    """the likeliest tokens that stay, 0 for all; those as likely as the last of them stay too"""
    top_p: float = 1.0
    """the likeliest tokens stay whose probabilities first reach this, after top-k"""
    max_new_tokens: int = 32
    """where a text is cut off"""

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"temperature {self.temperature} must be above 0")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"top_k {self.top_k} must not be negative, and top_p {self.top_p} lie in (0, 1]")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; a text has at least one token")


class Prefix(NamedTuple):
    """What the model keeps of B scenes, pictures and prompts, to go on from."""

    cache: Any
    """keys and values, transformers' own"""
    logits: torch.Tensor
    """float32 [B, V], of the first token of the reply"""
    mask: torch.Tensor
    """int64 [B, L], 0 where the prompt is padded"""
    features: torch.Tensor
    """float32 [B, D], the last layer's state where the reply begins; without gradients"""


class Written(NamedTuple):
    """N texts, the copies of a scene one after another."""

    tokens: torch.Tensor
    """int64 [N, T], filled up after the end"""
    mask: torch.Tensor
    """bool [N, T], the tokens that were written, the end among them"""
    texts: list[str]
    """without markers"""


class Scores(NamedTuple):
    """What a model says of N texts."""

    log_probabilities: torch.Tensor
    """float32 [N, T], 0 where nothing was written"""
    entropies: torch.Tensor
    """float32 [N, T], nats, of each token's distribution, 0 where nothing was written; without gradients"""
    support: torch.Tensor | None
    """bool [N, T, V], the tokens that top-k and top-p left; None where they cut off nothing"""


def truncate(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor | None:
    """The tokens that top-k, and of these top-p, leave: bool, as `logits` [..., V]; None where both are off."""
    support = None
    if 0 < top_k < logits.shape[-1]:
        support = logits >= logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(~support, -torch.inf)
    if top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        enough = ordered.cumsum(-1) - ordered < top_p
        nucleus = torch.zeros_like(enough).scatter(-1, order, enough)
        support = nucleus if support is None else support & nucleus
    return support


def with_slot(instruction: str) -> str:
    """An instruction with the slot of the pictures, which come first where it has none."""
    return instruction if IMAGE_SLOT in instruction else IMAGE_SLOT + instruction


def _draw(logits: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """A token for each row of `logits` [N, V], by its probability: where a spot falls on their cumulated sum."""
    sums = logits.double().softmax(-1).cumsum(-1)
    spots = torch.rand((len(sums), 1), generator=generator, dtype=sums.dtype, device=sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, spots, right=True)[:, 0].clamp(max=sums.shape[1] - 1)


class Captioner:
    """A policy over texts, around a model that `load_vlm` has loaded; ValueError for one with an encoder and a decoder.

    Called with observations of the caption bandit, it answers with the likeliest texts.
    """

    def __init__(self, vlm: VlmMentor, sampling: Sampling | None = None, lora: int = 0):
        """With a rank `lora` above 0, the model's weights stay, and adapters of that rank are trained (peft)."""
        if vlm.model.config.is_encoder_decoder:
            raise ValueError(f"{vlm.model.config.model_type} has an encoder and a decoder, which this cannot train")
        self.vlm, self.sampling = vlm, sampling or Sampling()
        self.processor, self.device = vlm.processor, vlm.device
        self.model: Any = vlm.model
        self.lora = lora
        # Counted without the padding, where the family does not count in three dimensions (Qwen).
        takes = inspect.signature(vlm.model.forward).parameters
        self._counts = "position_ids" in takes and not hasattr(vlm.model.model, "get_rope_index")
        if lora:
            peft = import_extra("peft", "lora", "training adapters")
            config = peft.LoraConfig(r=lora, lora_alpha=2 * lora, target_modules="all-linear")
            with warnings.catch_warnings():
                # peft asks transformers by a name that is deprecated.
                warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
                self.model = peft.get_peft_model(vlm.model, config)
            self.model.eval()
        else:
            self.model.requires_grad_(True)

    @property
    def width(self) -> int:
        """D of `Prefix.features`."""
        return self.vlm.model.get_output_embeddings().weight.shape[1]

    def __call__(self, observations: dict[str, Any]) -> list[str]:
        """The likeliest text, token by token, for each row of `frames` uint8 [N, M, H, W, 3] and `instruction` [N]."""
        frames, instructions = observations["frames"], observations["instruction"]
        texts: list[str] = []
        with torch.no_grad():
            for start in range(0, len(frames), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                prefix = self.read(self.prepare(frames[rows], instructions[rows]))
                texts += self.write(prefix, 1, None, likeliest=1).texts
        return texts

    def prepare(self, frames: np.ndarray, instructions: Sequence[str]) -> dict[str, torch.Tensor]:
        """The model's inputs for `frames` uint8 [B, M, H, W, 3] and their instructions, padded on the left.

        An instruction without IMAGE_SLOT has the pictures before it.
        """
        texts = [render_prompt(self.processor, with_slot(text), frames.shape[1]) for text in instructions]
        begins = self.processor.tokenizer.bos_token
        # Most chat templates write the first token themselves.
        once = {"add_special_tokens": False} if begins and texts[0].startswith(begins) else {}
        images = [[Image.fromarray(picture) for picture in scene] for scene in frames]
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt", **once)
        # PaliGemma's processor adds labels, meant for training.
        inputs.pop("labels", None)
        return dict(inputs.to(self.device, self.vlm.model.dtype))

    def read(self, inputs: dict[str, torch.Tensor], model: Any = None) -> Prefix:
        """Encode the pictures and prompts of `inputs` (see `prepare`), by the policy or by `model`."""
        mask = inputs["attention_mask"]
        positions = self._positions(mask, mask.shape[1])
        out = (model or self.model)(
            **inputs, **positions, **self.vlm.last_logits, use_cache=True, output_hidden_states=True
        )
        features = out.hidden_states[-1][:, -1].detach().float()
        return Prefix(out.past_key_values, out.logits[:, -1].float(), mask, features)

    @torch.no_grad()
    def write(self, prefix: Prefix, copies: int, generator: torch.Generator | None, likeliest: int = 0) -> Written:
        """`copies` texts for each scene, of which the last `likeliest` take the likeliest token each time.

        `generator`, on the policy's device, draws the others.
        """
        cache, mask = _fork(prefix.cache, copies), prefix.mask.repeat_interleave(copies, 0)
        logits = prefix.logits.detach().repeat_interleave(copies, 0)
        rows = len(logits)
        greedy = torch.arange(rows, device=self.device) % copies >= copies - likeliest
        ends = torch.tensor(self.vlm.ends, device=self.device)
        filler = self.processor.tokenizer.pad_token_id
        done = torch.zeros(rows, dtype=torch.bool, device=self.device)
        tokens, masks = [], []
        for step in range(self.sampling.max_new_tokens):
            logits = self._temper(logits, self.sampling.temperature)
            chosen = logits.argmax(-1)
            if likeliest < copies:
                support = truncate(logits, self.sampling.top_k, self.sampling.top_p)
                if support is not None:
                    logits = logits.masked_fill(~support, -torch.inf)
                chosen = torch.where(greedy, chosen, _draw(logits, generator))
            chosen = torch.where(done, filler, chosen)
            tokens.append(chosen)
            masks.append(~done)
            done = done | torch.isin(chosen, ends)
            if done.all() or step == self.sampling.max_new_tokens - 1:
                break
            # What follows an end is written on and thrown away; nothing before it sees it.
            mask = torch.cat([mask, mask.new_ones(rows, 1)], 1)
            out = self.model(
                input_ids=chosen[:, None],
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                **self._positions(mask, 1),
            )
            logits = out.logits[:, -1].float()
        stacked = torch.stack(tokens, 1)
        texts = self.processor.tokenizer.batch_decode(stacked, skip_special_tokens=True)
        return Written(stacked, torch.stack(masks, 1), [text.strip() for text in texts])

    def score(
        self,
        prefix: Prefix,
        written: Written,
        support: torch.Tensor | None = None,
        model: Any = None,
        sampling: Sampling | None = None,
    ) -> Scores:
        """What the policy, or `model` whose `prefix` it is, says of `written`, under the distribution sampled from.

        Where the policy's top-k and top-p cut tokens off, a reference is held to the same: `support` of the policy's
        scores. With `sampling`, under that distribution instead.
        """
        sampling = sampling or self.sampling
        copies = len(written.tokens) // len(prefix.logits)
        logits = prefix.logits.repeat_interleave(copies, 0)[:, None]
        if written.tokens.shape[1] > 1:
            before = written.tokens[:, :-1]
            mask = torch.cat([prefix.mask.repeat_interleave(copies, 0), torch.ones_like(before)], 1)
            later = (model or self.model)(
                input_ids=before,
                attention_mask=mask,
                past_key_values=_fork(prefix.cache, copies),
                use_cache=True,
                **self._positions(mask, before.shape[1]),
            )
            logits = torch.cat([logits, later.logits.float()], 1)
        logits = self._temper(logits, sampling.temperature)
        if support is None:
            support = truncate(logits.detach(), sampling.top_k, sampling.top_p)
            if support is not None:
                # A token on the verge, which rounding would put on this side and then on that, was sampled after all.
                support = support.scatter(-1, written.tokens[..., None], True)
        if support is not None:
            logits = logits.masked_fill(~support, -torch.inf)
        log_probabilities = logits.log_softmax(-1)
        own = log_probabilities.gather(2, written.tokens[..., None])[..., 0].masked_fill(~written.mask, 0.0)
        with torch.no_grad():
            terms = log_probabilities.exp() * log_probabilities.clamp(min=torch.finfo(torch.float32).min)
            entropies = -terms.sum(-1).masked_fill(~written.mask, 0.0)
        return Scores(own, entropies, support)

    def _positions(self, mask: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
        """Of the last `count` tokens of `mask`, as a further input."""
        return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -count:]} if self._counts else {}

    def _temper(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        logits = logits / temperature
        banned = torch.tensor(self.vlm.banned, dtype=torch.int64, device=logits.device)
        return logits.index_fill(-1, banned, -torch.inf)

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the policy as transformers reads it, adapters merged. It cannot be trained on afterwards."""
        model = self.model.merge_and_unload() if self.lora else self.model
        save_pretrained(model, self.processor, dtype, folder)


def _fork(cache: Any, copies: int) -> Any:
    """A cache that goes on from `cache`, which stays as it is, with each row repeated; gradients flow back."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    forked.batch_repeat_interleave(copies)
    return forked


class Trained:
    """In a checkpoint, the parameters of a model that are trained: with adapters, these alone."""

    def __init__(self, model: nn.Module):
        self.parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file({name: each.detach() for name, each in self.parameters.items()}, folder / "trained.safetensors")

    def load(self, folder: Path) -> None:
        loaded = load_tensors(folder / "trained.safetensors")
        with torch.no_grad():
            for name, each in self.parameters.items():
                each.copy_(loaded[name])


class Random:
    """A generator in a checkpoint."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file({"state": self.generator.get_state()}, folder / "random.safetensors")

    def load(self, folder: Path) -> None:
        self.generator.set_state(load_tensors(folder / "random.safetensors")["state"])


def written_as(captioner: Captioner, instructions: Sequence[str], texts: Sequence[str]) -> Written:
    """Texts of somebody else's, as if the policy had replied so to the instructions: their tokens and the end."""
    tokenizer = captioner.processor.tokenizer
    pairs = zip(instructions, texts, strict=True)
    replies = [render_reply(captioner.processor, with_slot(instruction), text) for instruction, text in pairs]
    tokens = [torch.tensor(tokenizer(reply, add_special_tokens=False)["input_ids"]) for reply in replies]
    padded = nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = torch.arange(padded.shape[1]) < torch.tensor([len(each) for each in tokens])[:, None]
    return Written(padded.to(captioner.device), mask.to(captioner.device), list(texts))


def load_captioner(
    name: str, device: str = "cpu", dtype: str = "float32", sampling: Sampling | None = None, lora: int = 0
) -> Captioner:
    """The policy in the folder, or of the hub's repository, `name`.

    Raises as `load_vlm` does, and ImportError that names the extra without transformers.
    """
    import_extra("transformers", "caption", "an agent that writes captions")
    return Captioner(load_vlm(name, device=device, dtype=dtype), sampling, lora)
