"""Foundation models that are scored and fine-tuned in turns, as in RLS3: a CLIP and a generative VLM.

Both start from a folder or hub name, give one score for each picture, and are fine-tuned from their present weights.
Each fine-tuning makes a new optimizer (AdamW), so that the weights are the whole state (RLS3, section 6.4), and a
checkpoint needs no more than `save` and `load`. One seed gives the same batches, and on one machine the same weights.
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
"""Pictures in one forward pass without gradients."""

HIGHEST_SCALE = math.log(100.0)
"""Logarithm of the highest scale of the cosines (CLIP)."""

NEIGHBOURS = 3
"""Nearest pictures that a hard negative is drawn from (NegCLIP)."""

WARM_UP = 0.1
"""Share of a fine-tuning's updates over which the learning rate rises, before it falls to 0 linearly."""

MAX_NORM = 1.0
"""Norm that gradients are clipped to."""

Contrast = Literal["clip", "negclip", "rls3"]
"""`clip`: N pictures against their N captions. `rls3`: against these and both altered captions of each, N x 3N.
`negclip`: with a hard negative picture for each and one altered caption for every picture, 2B x 4B."""


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, not on vectors and scalars.

    Raises ValueError for trained weights in half precision, which rounds small updates to 0.
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

    `images` [N, D] and `texts` [M, D] are unit vectors. The first N texts are the captions of the pictures, the others
    are altered captions of no picture. `same`, bool [N, M], marks the texts equal to the picture's own caption; except
    for that caption they are left out, because they are true of the picture. The loss is the mean of two
    cross-entropies of `scale` * cosine: picture to text over all M texts, and text to picture over the first N texts,
    since an altered caption has no picture (NegCLIP; RLS3, section 4.4, whose "N becomes 3N" would give it one).
    """
    own = torch.arange(len(images), device=images.device)
    others = same.clone()
    others[own, own] = False
    logits = (scale * images @ texts.T).masked_fill(others, -torch.inf)
    to_text = F.cross_entropy(logits, own, reduction="none")
    to_image = F.cross_entropy(logits[:, : len(images)].T, own, reduction="none")
    return (to_text + to_image) / 2


def nearest(features: torch.Tensor, captions: Sequence[str], count: int) -> torch.Tensor:
    """The `count` nearest pictures of each with another caption, int64 [N, count]; `features` are unit vectors.

    Where fewer have another caption, the nearest with the same caption follow.
    """
    _, places = np.unique(np.asarray(captions), return_inverse=True)
    labels = torch.from_numpy(places).to(features.device)
    neighbours = []
    for start in range(0, len(features), 1024):
        rows = slice(start, start + 1024)
        cosines = features[rows] @ features.T
        cosines = torch.where(labels[rows, None] == labels, cosines - 4.0, cosines)
        cosines[torch.arange(len(cosines)), torch.arange(len(features))[rows]] = -torch.inf
        neighbours.append(cosines.topk(count).indices)
    return torch.cat(neighbours)


class TrainableClip:
    """A `CLIPModel` of transformers that is scored and fine-tuned, with all its weights, as RLS3 and NegCLIP do.

    See `TransformersScorer` for `name` and errors. ValueError also for an unknown `contrast`, for sequences of unequal
    length and for arrays that are not pictures.
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
        """`batch_size` counts pictures without hard negatives; `autocast` is the dtype of matrix products in training.

        Weights are float32. NegCLIP and RLS3 train ViT-B/32 with learning rate 1e-6 and batches of 256.
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

        The loss contrasts all N pictures and depends on N: chance is ln N for `clip`, (ln 3N + ln N) / 2 for `rls3`.
        `negatives` are the altered captions of each picture, [N, K]; `clip` ignores them.
        """
        self._check(pictures, captions, negatives)
        with torch.inference_mode():
            images = torch.cat([self.encode_pictures(group) for group in _groups(pictures)])
            texts = [*captions, *([] if self.contrast == "clip" else _columns(negatives))]
            return self._contrast(images, captions, texts).cpu().numpy()

    def probabilities(self, pictures: Sequence[np.ndarray], choices: Sequence[Sequence[str]]) -> np.ndarray:
        """The softmax of scale * cosine over the C texts `choices` of each picture, float32 [N, C]."""
        _check_pictures(pictures, choices=choices)
        if not choices[0] or len({len(row) for row in choices}) > 1:
            raise ValueError("give the same number of choices for every picture, at least one")
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
        """Train on N pictures for `epochs` epochs; returns the loss of each update, float32 [U].

        `captions` and `negatives` are as in `losses`. Each picture is contrasted with its batch.
        """
        self._check(pictures, captions, negatives)
        if epochs < 1:
            raise ValueError(f"epochs={epochs}: give at least 1")
        generator = np.random.default_rng(seed)
        batches = math.ceil(len(pictures) / self.batch_size)
        optimizer = make_optimizer(self.model, self.weight_decay)
        losses = []
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
                losses.append(loss.item())
        return np.array(losses, np.float32)

    def _check(
        self, pictures: Sequence[np.ndarray], captions: Sequence[str], negatives: Sequence[Sequence[str]]
    ) -> None:
        if self.contrast == "clip":
            return _check_pictures(pictures, captions=captions)
        _check_pictures(pictures, captions=captions, negatives=negatives)
        if not negatives[0] or len({len(row) for row in negatives}) > 1:
            raise ValueError("give the same number of altered captions for every picture, at least one")

    def _altered(self, negatives: Sequence[Sequence[str]], generator: np.random.Generator) -> list[str]:
        if self.contrast == "clip":
            return []
        if self.contrast == "negclip":
            return [each[int(generator.integers(len(each)))] for each in negatives]
        return _columns(negatives)

    def _hard(self, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
        if len(pictures) < 2:
            raise ValueError("negclip needs at least 2 pictures: a hard negative is another picture")
        with torch.inference_mode():
            images = torch.cat([self.encode_pictures(group) for group in _groups(pictures)])
            return nearest(images, captions, min(NEIGHBOURS, len(images) - 1)).cpu().numpy()

    def encode_pictures(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Unit vectors float32 [B, D] of pictures, with gradients."""
        pixels = self.scorer.image_processor(list(pictures), input_data_format="channels_last", return_tensors="pt")
        return _unit(self.model.get_image_features(pixels["pixel_values"].to(self.device)))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors float32 [B, D], with gradients; equal texts are encoded once."""
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
        """Write the model, in `dtype`, and its processor in the format of transformers."""
        save_pretrained(self.model, self.scorer.image_processor, check_dtype(dtype, self.device), folder)
        self.scorer.tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Load the weights that `save` wrote."""
        load_weights(self.model, folder)


class TrainableVlm:
    """A generative vision-language model that answers and is fine-tuned; see `load_vlm` for `name` and errors.

    `train="attention"` trains the attention layers of the language model alone, as RLS3 does with PaliGemma (section
    4.4), `train="all"` all weights.
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
        """`autocast` is the dtype of matrix products in training; weights are float32."""
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
            raise ValueError(f"{name} has no attention layers of a language model with a known name")
        for parameter in trained:
            parameter.requires_grad_(True)

    def answer(self, pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        """The answer of greedy decoding for each picture, uint8 [H, W, 3], and question."""
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
        """Train on the answers for `steps` updates; returns the mean cross-entropy of a token in each, float32 [U].

        Batches are drawn from random permutations of the N pictures.
        """
        _check_pictures(pictures, questions=questions, answers=answers)
        if steps < 1:
            raise ValueError(f"steps={steps}: give at least 1")
        generator = np.random.default_rng(seed)
        optimizer = make_optimizer(self.model, self.weight_decay)
        order = _endless(len(pictures), generator)
        losses = []
        for step in range(steps):
            rows = [next(order) for _ in range(min(self.batch_size, len(pictures)))]
            chosen = [pictures[row] for row in rows], [questions[row] for row in rows], [answers[row] for row in rows]
            loss = self._loss(*chosen)
            take_step(optimizer, loss, _rate(self.learning_rate, step, steps), MAX_NORM)
            losses.append(loss.item())
        return np.array(losses, np.float32)

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
        """Write the model, in `dtype`, and its processor in the format of transformers."""
        save_pretrained(self.model, self.vlm.processor, check_dtype(dtype, self.device), folder)

    def load(self, folder: Path) -> None:
        """Load the weights that `save` wrote."""
        load_weights(self.model, folder)


def load_weights(model: Any, folder: Path) -> None:
    """Load the weights in `folder` into `model`."""
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
    # The vision tower and the connector may have attention layers too.
    return ".self_attn." in name and not any(part in name for part in ("vision", "visual", "connector"))


def _unit(features: Any) -> torch.Tensor:
    # transformers 5 returns an output object, transformers 4 a tensor.
    return F.normalize(getattr(features, "pooler_output", features).float(), dim=-1)
