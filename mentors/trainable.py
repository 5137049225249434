"""Foundation models that are scored and fine-tuned in turns, as RLS3 does: a CLIP and a generative VLM.

Both start from a folder or hub name, give one figure for each picture, and are fine-tuned from where they stand. The
optimizer (AdamW) is made anew for each fine-tuning: what the next one starts from is the weights alone (RLS3, section
6.4), and so `save` and `load` are all that a checkpoint needs. For a seed the same batches are drawn, and on one
machine the same weights come out.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mentorgym.mentors.checkpoints import check_dtype, load_model, save_pretrained
from mentorgym.mentors.clip import TransformersScorer
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.vlm import VlmMentor, encode_answers, without_markers

ROWS_AT_ONCE = 64
"""Pictures that are read in one forward pass when nothing is learned."""

HIGHEST_SCALE = math.log(100.0)
"""Logarithm of the highest scale of the cosines (CLIP)."""

NEIGHBOURS = 3
"""Nearest pictures that a hard one is drawn from (NegCLIP)."""

WARM_UP = 0.1
"""Share of a fine-tuning's updates over which the learning rate rises, before it falls to 0 linearly."""

MAX_NORM = 1.0
"""Norm that gradients are clipped to."""

Contrast = Literal["clip", "negclip", "rls3"]
"""`clip`: N pictures against their N captions. `rls3`: against these and both altered captions of each, N x 3N.
`negclip`: with a hard picture for each and one altered caption for every picture, 2B x 4B."""


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW, which decays matrices and leaves vectors and scalars alone.

    Raises ValueError for weights to be trained in half precision, which rounds small updates away.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if halves := {str(each.dtype).removeprefix("torch.") for each in trained if each.dtype.itemsize < 4}:
        raise ValueError(f"weights in {', '.join(halves)} would not learn: train in float32, or adapters (--lora)")
    groups = [
        {"params": [each for each in trained if each.ndim >= 2], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)


def take_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float, max_norm: float) -> None:
    """One update along the gradient of `loss`, clipped to `max_norm`, at the learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], max_norm)
    optimizer.step()


def contrastive_losses(
    images: torch.Tensor, texts: torch.Tensor, same: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The contrastive loss of each of N pictures against M texts, float32 [N]; their mean is that of the batch.

    `images` [N, D] and `texts` [M, D] are unit vectors; the first N texts belong to the pictures, the others, altered
    captions, to none. `same`, bool [N, M], says which texts read as the picture's own: all of these but its own are
    left out, for they are true of it. The mean of two cross-entropies of `scale` * cosine: picture to text over all M
    texts, and text to picture over the first N texts alone, since an altered caption has no picture (NegCLIP; RLS3,
    section 4.4, whose "N becomes 3N" would give it one).
    """
    own = torch.arange(len(images), device=images.device)
    others = same.clone()
    others[own, own] = False
    logits = (scale * images @ texts.T).masked_fill(others, -torch.inf)
    to_text = F.cross_entropy(logits, own, reduction="none")
    to_image = F.cross_entropy(logits[:, : len(images)].T, own, reduction="none")
    return (to_text + to_image) / 2


def nearest(features: torch.Tensor, captions: Sequence[str], count: int) -> torch.Tensor:
    """The `count` nearest pictures of each that have another caption, int64 [N, count]; `features` are unit vectors.

    Where fewer have another caption, the nearest with the same make up for them.
    """
    _, places = np.unique(np.asarray(captions), return_inverse=True)
    labels = torch.from_numpy(places).to(features.device)
    found = []
    for start in range(0, len(features), 1024):
        rows = slice(start, start + 1024)
        cosines = features[rows] @ features.T
        cosines = torch.where(labels[rows, None] == labels, cosines - 4.0, cosines)
        cosines[torch.arange(len(cosines)), torch.arange(len(features))[rows]] = -torch.inf
        found.append(cosines.topk(count).indices)
    return torch.cat(found)


class TrainableClip:
    """A `CLIPModel` of transformers that is scored and fine-tuned, with all its weights, as RLS3 and NegCLIP do.

    See `TransformersScorer` for `name` and errors; ValueError also for an unknown `contrast`, for sequences of unequal
    length and for pictures that are none.
    """

    def __init__(
        self,
        name: str,
        *,
        contrast: Contrast = "rls3",
        batch_size: int = 64,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.05,
        device: str = "cpu",
        autocast: str = "float32",
    ):
        """`batch_size` counts pictures without their hard ones; `autocast` is the dtype of products while learning.

        Weights are float32. The rates of NegCLIP and RLS3 are for ViT-B/32: 1e-6, with a batch of 256.
        """
        if contrast not in get_args(Contrast):
            raise ValueError(f"contrast={contrast!r}: choose {', '.join(get_args(Contrast))}")
        _check_batch_size(batch_size)
        self.scorer = TransformersScorer(name, device, "float32")
        self.model: Any = self.scorer.model.requires_grad_(True)
        self.device = self.scorer.device
        self.contrast, self.batch_size = contrast, batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.autocast = check_dtype(autocast, self.device)

    def losses(
        self, pictures: Sequence[np.ndarray], captions: Sequence[str], negatives: Sequence[Sequence[str]] = ()
    ) -> np.ndarray:
        """`contrastive_losses` of N pictures, uint8 [H, W, 3], float32 [N]; their mean is RLS3's L (equation 1).

        All N are contrasted with each other, so that the figure depends on N: chance is ln N for `clip`, (ln 3N +
        ln N) / 2 for `rls3`. `negatives` are the altered captions of each, [N, K]; `clip` leaves them out.
        """
        self._check(pictures, captions, negatives)
        with torch.inference_mode():
            images = torch.cat([self.encode_pictures(group) for group in _groups(pictures)])
            texts = [*captions, *([] if self.contrast == "clip" else _columns(negatives))]
            return self._contrast(images, captions, texts).cpu().numpy()

    def probabilities(self, pictures: Sequence[np.ndarray], choices: Sequence[Sequence[str]]) -> np.ndarray:
        """Of each picture's C `choices` of text, float32 [N, C]: the softmax of scale * cosine over them."""
        _check_pictures(pictures, choices=choices)
        if not choices[0] or len({len(row) for row in choices}) > 1:
            raise ValueError("every picture has as many choices, and at least one")
        with torch.inference_mode():
            images = torch.cat([self.encode_pictures(group) for group in _groups(pictures)])
            texts = self.encode_texts([text for row in choices for text in row]).view(len(images), -1, images.shape[1])
            cosines = torch.einsum("nd,ncd->nc", images, texts)
            return (self.model.logit_scale.exp() * cosines).softmax(-1).cpu().numpy()

    def fine_tune(
        self,
        pictures: Sequence[np.ndarray],
        captions: Sequence[str],
        negatives: Sequence[Sequence[str]],
        epochs: int,
        seed: int,
    ) -> np.ndarray:
        """Learn from N pictures in `epochs` passes; the loss of each update, float32 [U].

        `captions` and `negatives` as in `losses`. Pictures are contrasted with those of their batch.
        """
        self._check(pictures, captions, negatives)
        if epochs < 1:
            raise ValueError(f"epochs={epochs}: there is at least one")
        generator = np.random.default_rng(seed)
        batches = math.ceil(len(pictures) / self.batch_size)
        optimizer = make_optimizer(self.model, self.weight_decay)
        told = []
        hard = self._hard(pictures, captions) if self.contrast == "negclip" else None
        for epoch in range(epochs):
            for number, rows in enumerate(np.array_split(generator.permutation(len(pictures)), batches)):
                if hard is not None:
                    rows = np.concatenate([rows, hard[rows, generator.integers(hard.shape[1], size=len(rows))]])
                own = [captions[row] for row in rows]
                texts = [*own, *self._altered([negatives[row] for row in rows], generator)]
                with torch.autocast(self.device.type, self.autocast, enabled=self.autocast != torch.float32):
                    images = self.encode_pictures([pictures[row] for row in rows])
                    loss = self._contrast(images, own, texts).mean()
                rate = _rate(self.learning_rate, epoch * batches + number, epochs * batches)
                take_step(optimizer, loss, rate, MAX_NORM)
                with torch.no_grad():
                    self.model.logit_scale.clamp_(max=HIGHEST_SCALE)
                told.append(loss.item())
        return np.array(told, np.float32)

    def _check(
        self, pictures: Sequence[np.ndarray], captions: Sequence[str], negatives: Sequence[Sequence[str]]
    ) -> None:
        if self.contrast == "clip":
            return _check_pictures(pictures, captions=captions)
        _check_pictures(pictures, captions=captions, negatives=negatives)
        if not negatives[0] or len({len(row) for row in negatives}) > 1:
            raise ValueError("every picture has as many altered captions, and at least one")

    def _altered(self, negatives: Sequence[Sequence[str]], generator: np.random.Generator) -> list[str]:
        if self.contrast == "clip":
            return []
        if self.contrast == "negclip":
            return [each[int(generator.integers(len(each)))] for each in negatives]
        return _columns(negatives)

    def _hard(self, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
        if len(pictures) < 2:
            raise ValueError("negclip needs at least 2 pictures, for one is the other's hard one")
        with torch.inference_mode():
            images = torch.cat([self.encode_pictures(group) for group in _groups(pictures)])
            return nearest(images, captions, min(NEIGHBOURS, len(images) - 1)).cpu().numpy()

    def encode_pictures(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Unit vectors float32 [B, D] of pictures, with gradients."""
        pixels = self.scorer.image_processor(list(pictures), input_data_format="channels_last", return_tensors="pt")
        return _unit(self.model.get_image_features(pixels["pixel_values"].to(self.device)))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors float32 [B, D], with gradients; a text that comes up several times is read once."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.scorer.tokenizer(
            list(places), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(self.device)
        features = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return _unit(features)[[places[text] for text in texts]]

    def _contrast(self, images: torch.Tensor, captions: Sequence[str], texts: Sequence[str]) -> torch.Tensor:
        same = torch.from_numpy(np.asarray(captions)[:, None] == np.asarray(texts)).to(self.device)
        return contrastive_losses(images, self.encode_texts(texts), same, self.model.logit_scale.exp())

    def save(self, folder: Path, dtype: str = "float32") -> None:
        """Write the model, in `dtype`, and its processor, as transformers reads them."""
        save_pretrained(self.model, self.scorer.image_processor, check_dtype(dtype, self.device), folder)
        self.scorer.tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote."""
        load_weights(self.model, folder)


class TrainableVlm:
    """A generative vision-language model that is asked and fine-tuned; see `load_vlm` for `name` and errors.

    With `train="attention"` the attention layers of the language model alone are trained, as RLS3 does with PaliGemma
    (section 4.4), else all weights.
    """

    def __init__(
        self,
        name: str,
        *,
        train: Literal["attention", "all"] = "all",
        batch_size: int = 16,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        max_new_tokens: int = 32,
        device: str = "cpu",
        autocast: str = "float32",
    ):
        """`autocast` is the dtype of matrix products while learning; weights are float32."""
        if train not in ("attention", "all"):
            raise ValueError(f"train={train!r}: choose attention or all")
        _check_batch_size(batch_size)
        self.vlm = VlmMentor(name, device, "float32", max_new_tokens)
        self.model: Any = self.vlm.model
        self.device = self.vlm.device
        self.batch_size, self.learning_rate, self.weight_decay = batch_size, learning_rate, weight_decay
        self.autocast = check_dtype(autocast, self.device)
        trained = [each for each_name, each in self.model.named_parameters() if train == "all" or _attends(each_name)]
        if not trained:
            raise ValueError(f"{name} has no attention layers of a language model that are known by their names")
        for parameter in trained:
            parameter.requires_grad_(True)

    def answer(self, pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        """The likeliest text, token by token, for each picture, uint8 [H, W, 3], and question."""
        _check_pictures(pictures, questions=questions)
        texts: list[str] = []
        for start in range(0, len(pictures), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            texts += self.vlm.generate(pictures[rows], [self._prompt(each) for each in questions[rows]])
        return texts

    def fine_tune(
        self,
        pictures: Sequence[np.ndarray],
        questions: Sequence[str],
        answers: Sequence[str],
        steps: int,
        seed: int,
    ) -> np.ndarray:
        """Learn the answers in `steps` updates; the mean cross-entropy of the answers' tokens in each, float32 [U].

        Batches go through the N pictures in random order, again and again.
        """
        _check_pictures(pictures, questions=questions, answers=answers)
        if steps < 1:
            raise ValueError(f"steps={steps}: there is at least one")
        generator = np.random.default_rng(seed)
        optimizer = make_optimizer(self.model, self.weight_decay)
        order = _endless(len(pictures), generator)
        told = []
        for step in range(steps):
            rows = [next(order) for _ in range(min(self.batch_size, len(pictures)))]
            chosen = [pictures[row] for row in rows], [questions[row] for row in rows], [answers[row] for row in rows]
            loss = self._loss(*chosen)
            take_step(optimizer, loss, _rate(self.learning_rate, step, steps), MAX_NORM)
            told.append(loss.item())
        return np.array(told, np.float32)

    def _prompt(self, question: str) -> str:
        return IMAGE_SLOT + without_markers(self.vlm.processor, question)

    def _loss(self, pictures: list[np.ndarray], questions: list[str], answers: list[str]) -> torch.Tensor:
        prompts = [self._prompt(each) for each in questions]
        suffix_type = int(self.model.config.model_type == "paligemma")
        inputs = encode_answers(self.vlm.processor, pictures, prompts, answers, suffix_type)
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        labels = inputs.pop("labels")[:, 1:]
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast != torch.float32):
            logits = self.model(**inputs, use_cache=False).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)

    def save(self, folder: Path, dtype: str = "float32") -> None:
        """Write the model, in `dtype`, and its processor, as transformers reads them."""
        save_pretrained(self.model, self.vlm.processor, check_dtype(dtype, self.device), folder)

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote."""
        load_weights(self.model, folder)


def load_weights(model: Any, folder: Path) -> None:
    """Give `model` the weights that are saved in `folder`."""
    model.load_state_dict(load_model(type(model), str(folder), model.dtype).state_dict())


def _check_pictures(pictures: Sequence[np.ndarray], **columns: Sequence[Any]) -> None:
    if not len(pictures):
        raise ValueError("there are no pictures")
    for name, column in columns.items():
        if len(column) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures and {len(column)} {name}: give one for each")
    for picture in map(np.asarray, pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a picture is uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: a batch holds at least one picture")


def _rate(highest: float, step: int, steps: int) -> float:
    return highest * min((step + 1) / max(1.0, WARM_UP * steps), (steps - step) / max(1.0, (1 - WARM_UP) * steps), 1.0)


def _groups(pictures: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    return (pictures[start : start + ROWS_AT_ONCE] for start in range(0, len(pictures), ROWS_AT_ONCE))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """All first entries, then all second ones, and so on."""
    return [text for column in zip(*rows, strict=True) for text in column]


def _endless(count: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(count).tolist()


def _attends(name: str) -> bool:
    """Whether a parameter belongs to an attention layer of the language model, by its name in transformers."""
    # What sees, and what hands on what is seen, may attend too.
    return ".self_attn." in name and not any(part in name for part in ("vision", "visual", "connector"))


def _unit(features: Any) -> torch.Tensor:
    # transformers 5 wraps in an output what 4 returns as it is.
    return F.normalize(getattr(features, "pooler_output", features).float(), dim=-1)
