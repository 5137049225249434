"""Contrastive fine-tuning of CLIP on pictures and captions: a trainer, nothing to rank.

Symmetric cross-entropy over the batch (Radford et al., arXiv 2103.00020), in which an equal caption is no negative;
driving has only 720 captions, so a batch holds many twice. Where the data name each context's captions (driving: the 30
actions in words), a second term asks for the picture's own among those alone, which is what the reward asks later
(Found-RL, eq. 25). Without `--model` a small CLIP of our own is trained from nothing (`mentors.tiny`); a folder or hub
name fine-tunes that checkpoint, whole. The data are what `python -m mentorgym.benchmarks.collect` writes, or any folder
of WebDataset shards of PNG and text. Model, tokenizer and preprocessing are saved in the run's folder, under `model/`.

    python agents/clip_finetune.py --data drives --heldout heldout_drives
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import nn

from mentorgym.agents.toolbox import Run, start_torch
from mentorgym.agents.toolbox.shards import Sample, Samples
from mentorgym.agents.toolbox.tuning import (
    Meter,
    Weights,
    batches,
    learning_rate,
    make_optimizer,
    save_pretrained,
    spread,
    take_step,
)
from mentorgym.envs.driving import language
from mentorgym.mentors.checkpoints import load_model
from mentorgym.mentors.clip import load_clip
from mentorgym.mentors.extras import import_transformers
from mentorgym.mentors.mentor import Request
from mentorgym.mentors.tiny import build_clip

HIGHEST_SCALE = math.log(100.0)
"""Logarithm of the highest scale of the cosines (CLIP)."""


@dataclasses.dataclass
class Args:
    """Flags of contrastive fine-tuning. Rerunning the same command continues the run from its last checkpoint."""

    data: Path = Path("drives")
    """folder of shards"""
    heldout: Path | None = None
    """the same, to measure on; it needs anchors.json"""
    model: str = ""
    """folder or hub name of the checkpoint to start from; without one a small model is trained from nothing"""
    seed: int = 0
    """seed of the weights, where they are new, and of the batches"""
    total_steps: int = 3_000
    """gradient updates"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    device: str = "cpu"
    """torch device of the model"""
    torch_threads: int = 1
    """threads of torch on the CPU; with 1, runs side by side do not fight over the cores"""
    log_every: int = 100
    """updates between two lines of losses"""
    checkpoint_every: int = 1_000
    """updates between two checkpoints"""

    batch_size: int = 64
    """samples in a batch"""
    balance: float = 0.5
    """draw samples in proportion to n^-balance, n being how many share their caption: 0 all alike, 1 captions alike"""
    anchors_weight: float = 1.0
    """weight of the loss over the captions of a picture's own context"""
    learning_rate: float = 1e-3
    """highest learning rate (AdamW); 1e-5 for checkpoints, as in Found-RL"""
    warm_up: float = 0.05
    """share of the updates over which the learning rate rises; from there on it falls, a cosine, to 0"""
    weight_decay: float = 0.2
    """of matrices (Found-RL)"""
    max_norm: float = 1.0
    """norm that gradients are clipped to (Found-RL)"""
    autocast: str = "bfloat16"
    """dtype of the matrix products: bfloat16 or float32"""
    gradient_checkpointing: bool = False
    """compute activations twice rather than keep them"""
    save_dtype: str = "float16"
    """dtype of the weights that are saved"""
    workers: int = 0
    """processes that prepare batches beside the training"""
    heldout_samples: int = 5_000
    """held-out samples to measure on, at most"""


class Preparation:
    """Samples to pixels and the tokens of the texts that the pictures are weighed against.

    Those are the captions of the batch, each once, and with `anchors` all captions of its contexts.
    """

    def __init__(self, processor: Any, anchors: Sequence[Sequence[str]], longest: int):
        self.processor, self.anchors, self.longest = processor, anchors, longest

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """`pixel_values`; `input_ids` and `attention_mask` [T, L] of the texts; `own` int64 [B], each picture's text;
        and `rivals` int64 [B, K], with the texts of its context, and `label` int64 [B], its own place among those.
        """
        captions = [str(sample.words["caption"]) for sample in samples]
        contexts = [self.anchors[sample.words["context"]] for sample in samples] if self.anchors else []
        texts = list(dict.fromkeys([*captions, *(text for context in contexts for text in context)]))
        places = {text: place for place, text in enumerate(texts)}
        images = [Image.fromarray(sample.picture) for sample in samples]
        tokens = self.processor.tokenizer(
            texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        batch = {
            "pixel_values": self.processor.image_processor(images, return_tensors="pt")["pixel_values"],
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "own": torch.tensor([places[caption] for caption in captions]),
        }
        if contexts:
            batch["rivals"] = torch.tensor([[places[text] for text in context] for context in contexts])
            batch["label"] = torch.tensor([sample.words["label"] for sample in samples])
        return batch


def make_model(args: Args, samples: Samples) -> tuple[Any, Any]:
    """The model to train and its processor."""
    if not args.model:
        return build_clip([str(words["caption"]) for words in samples.words])
    transformers = import_transformers()
    model = load_model(transformers.CLIPModel, args.model, torch.float32)
    return model.train().requires_grad_(True), transformers.AutoProcessor.from_pretrained(args.model)


def encode(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors float32 [B, D] of the pictures and [T, D] of the texts."""
    images = model.get_image_features(pixel_values=batch["pixel_values"])
    texts = model.get_text_features(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    # transformers 5 wraps in an output what 4 returns as it is.
    images, texts = (getattr(features, "pooler_output", features) for features in (images, texts))
    return F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, own: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of B pictures [B, D] and their texts `texts[own]`, an equal text being no negative.

    Cosines of unit vectors, times `scale`.
    """
    logits = scale * images @ texts[own].T
    equal = (own[:, None] == own[None, :]) & ~torch.eye(len(own), dtype=torch.bool, device=own.device)
    logits = logits.masked_fill(equal, -torch.inf)
    right = torch.arange(len(own), device=own.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def anchors_loss(
    images: torch.Tensor, texts: torch.Tensor, rivals: torch.Tensor, label: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each picture's own text among its `rivals`, int64 [B, K], the `label`-th of which it is."""
    logits = scale * torch.einsum("bd,bkd->bk", images, texts[rivals])
    return F.cross_entropy(logits, label)


def update(
    model: Any, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor], rate: float, args: Args
) -> dict[str, torch.Tensor]:
    """One update from one batch."""
    autocast = getattr(torch, args.autocast)
    with torch.autocast(batch["own"].device.type, autocast, enabled=autocast != torch.float32):
        images, texts = encode(model, batch)
    scale = model.logit_scale.exp()
    losses = {"loss/contrastive": contrastive_loss(images, texts, batch["own"], scale)}
    loss = losses["loss/contrastive"]
    if "rivals" in batch and args.anchors_weight:
        losses["loss/anchors"] = anchors_loss(images, texts, batch["rivals"], batch["label"], scale)
        loss = loss + args.anchors_weight * losses["loss/anchors"]
    take_step(optimizer, loss, rate, args.max_norm)
    with torch.no_grad():
        model.logit_scale.clamp_(max=HIGHEST_SCALE)
    return {name: each.detach() for name, each in losses.items()}


def label_scores(found: np.ndarray, labels: np.ndarray, neighbours: np.ndarray | None) -> dict[str, float]:
    """Accuracy of `found` int64 [N] against `labels` int64 [N], plain and balanced, beside the most frequent label's.

    With `neighbours` bool [K, K] also the share of the errors that fall on a neighbour of the true label, and what it
    would be if each error fell evenly on the other labels.
    """
    right = found == labels
    present, counts = np.unique(labels, return_counts=True)
    scores = {
        "heldout/accuracy": float(right.mean()),
        "heldout/balanced_accuracy": float(np.mean([right[labels == label].mean() for label in present])),
        "heldout/majority": float(counts.max() / len(labels)),
        "heldout/balanced_majority": 1.0 / len(present),
    }
    if neighbours is not None and not right.all():
        wrong, said = labels[~right], found[~right]
        scores["heldout/near_errors"] = float(neighbours[wrong, said].mean())
        scores["heldout/near_errors_by_chance"] = float(
            ((neighbours[wrong].sum(1) - 1) / (neighbours.shape[1] - 1)).mean()
        )
    return scores


def measure(folder: Path, samples: Sequence[Sample], anchors: list[list[str]], device: str) -> dict[str, float]:
    """`label_scores` of the model saved in `folder`, which weighs the anchors as a mentor does."""
    mentor = load_clip(str(folder), anchors=anchors, device=device)
    found = []
    nothing = np.full(2, np.nan, np.float32)
    for start in range(0, len(samples), 64):
        group = samples[start : start + 64]
        weighed = mentor([Request(each.picture, "", each.words["context"], nothing) for each in group])
        found += [int(np.argmax(each)) for each in weighed if isinstance(each, np.ndarray)]
    labels = np.array([each.words["label"] for each in samples])
    return label_scores(np.array(found), labels, language.NEIGHBOURS if anchors == language.anchors() else None)


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.autocast not in ("bfloat16", "float32"):
        raise ValueError(f"autocast {args.autocast!r} is unknown; choose bfloat16 or float32")
    if args.save_dtype not in ("float16", "bfloat16", "float32"):
        raise ValueError(f"save_dtype {args.save_dtype!r} is unknown; choose float16, bfloat16 or float32")
    start_torch(args.seed, args.torch_threads)
    samples = Samples(args.data)
    if any("caption" not in words for words in samples.words):
        raise ValueError(f"{args.data} has samples without a caption")
    heldout = Samples(args.heldout) if args.heldout else None
    if heldout is not None and not heldout.anchors:
        raise ValueError(f"{args.heldout} has no anchors.json, the captions of each context to choose from")
    model, processor = make_model(args, samples)
    run = Run("clip_finetune", args, environment=args.data.stem)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.to(args.device)
    optimizer = make_optimizer(model, args.weight_decay)
    step = run.load(nn.Module(), {"model": optimizer}, {"model": Weights(model)})
    anchors = samples.anchors if args.anchors_weight else []
    prepare = Preparation(processor, anchors, model.config.text_config.max_position_embeddings)
    meter = Meter(run)
    model.train()
    for batch in batches(
        samples, prepare, range(step, args.total_steps), args.batch_size, args.seed, args.balance, args.workers
    ):
        batch = {name: tensor.to(args.device) for name, tensor in batch.items()}
        rate = learning_rate(step, args.total_steps, args.learning_rate, args.warm_up)
        meter.add(update(model, optimizer, batch, rate, args))
        step += 1
        if step % args.log_every == 0 or step == args.total_steps:
            meter.log(step, args.total_steps)
        if step % args.checkpoint_every == 0 and step < args.total_steps:
            run.save(step, nn.Module(), {"model": optimizer}, {"model": Weights(model)})
    saved = run.folder / "model"
    save_pretrained(model, processor, getattr(torch, args.save_dtype), saved)
    if heldout is not None:
        run.log(step, measure(saved, spread(heldout, args.heldout_samples), heldout.anchors, args.device))
    run.finish(step)
    return run.folder


if __name__ == "__main__":
    train(tyro.cli(Args))
