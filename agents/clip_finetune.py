"""Fine-tuning of CLIP on pictures and captions: a trainer, nothing to rank.

Documentation: `docs/agents/clip_finetune.md`.

`--loss contrastive`: symmetric cross-entropy over the batch (Radford et al., arXiv 2103.00020), in which an equal
caption is no negative; driving has only 720 captions, so a batch holds many twice. Where the data name each context's
captions (driving: the 30 actions in words), a second term asks for the picture's own among those alone, which is what
the reward asks later (Found-RL, eq. 25).

`--loss pairs`: Algorithm 1 of the RLOO paper and its appendix B. A picture matches its own text and does not match
another, drawn from all distinct ones; binary cross-entropy of sigmoid(exp(scale) * cosine + bias). The rate falls when
the area under the ROC curve (AUROC) on the validation pictures does not rise, training ends when it does not for long,
and the weights with the highest are what is saved. The learned bias (SigLIP, arXiv 2303.15343) is ours: the paper's
read-out lacks one (`--no-bias`), so that any cosine above 0 is a match. Ours, too: both pairs of a picture are in one
batch, wrong texts are drawn anew each time, an epoch is as many draws as there are pictures, and a flip of the picture
also flips left and right in the words. `--preset paper` has its constants and its 1,400, 200 and 400 pairs.

Without `--model` a small CLIP of our own is trained from nothing (`mentors.tiny`); a folder or hub name fine-tunes that
checkpoint, whole. The data are what `mentorgym collect` or `mentorgym caption-data` write, or any folder
of WebDataset shards of PNG and text. Model, tokenizer and preprocessing are saved in the run's folder, under `model/`;
the bias in its `config.json`, as `logit_bias`.

    mentorgym train clip_finetune --data drives --heldout heldout_drives
    mentorgym train clip_finetune --loss pairs --data captions/train --validation captions/val --model <folder>
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mentorgym.agents.toolbox import Run, run_program, start_torch
from mentorgym.agents.toolbox.augmentation import Augmentation, Change
from mentorgym.agents.toolbox.pairs import Pairing, Part, balanced_bias, deal, distinct_texts, pairs_auroc
from mentorgym.agents.toolbox.runs import Stored
from mentorgym.agents.toolbox.shards import Sample, Samples
from mentorgym.agents.toolbox.tuning import (
    Best,
    Meter,
    Weights,
    batches,
    learning_rate,
    saved_dtype,
    spread,
)
from mentorgym.envs.driving.view import language
from mentorgym.extras import import_transformers
from mentorgym.mentors.checkpoints import load_model, save_pretrained
from mentorgym.mentors.clip import load_clip
from mentorgym.mentors.mentor import Request
from mentorgym.mentors.tiny import build_clip
from mentorgym.mentors.trainable import HIGHEST_SCALE, contrastive_losses, make_optimizer, take_step


@dataclasses.dataclass
class Args:
    """Flags of fine-tuning of CLIP.

    Rerunning the same command continues the run from its last checkpoint.
    """

    data: Path = Path("drives")
    """folder of shards"""
    heldout: Path | None = None
    """the same, to measure on; with the contrastive loss it needs anchors.json"""
    model: str = ""
    """folder or hub name of the checkpoint to start from; without one a small model is trained from nothing"""
    seed: int = 0
    """seed of the weights, where they are new, and of the batches"""
    total_steps: int = 3_000
    """gradient updates of the contrastive loss"""
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

    loss: Literal["contrastive", "pairs"] = "contrastive"
    """contrastive over the batch, or binary over pairs that match or do not"""
    augment: bool = False
    """crop, flip and jitter pictures; a flip also flips left and right in the words"""
    tokens: Literal["sentences", "words"] = "sentences"
    """the longest pieces of text that are one token, of a small model from nothing"""
    image_size: int = 96
    """side of the pictures in pixels, of a small model from nothing"""
    patch_size: int = 12
    """side of its patches in pixels"""
    width: int = 128
    """its width"""
    scale: float = 1 / 0.07
    """its first scale of the cosines, learned from there; 1 / 0.07 as in CLIP, which ends at 100"""
    batch_size: int = 64
    """samples in a batch; of pairs, two a picture"""
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
    """dtype of the weights that are saved: float16, bfloat16 or float32"""
    workers: int = 0
    """processes that prepare batches beside the training"""
    heldout_samples: int = 5_000
    """held-out and validation samples to measure on, at most"""

    texts: Part = "output"
    """pairs: what of the caption the picture is weighed against, all of it, its action or its reason"""
    bias: bool = True
    """pairs: learn a bias of the read-out"""
    epochs: int = 30
    """pairs: passes over the data, at most"""
    validation: Path | None = None
    """pairs: folder of shards to choose the best weights by; without, a tenth of the data is held back"""
    split: tuple[int, ...] = ()
    """pairs to train on, to validate and to test on (heldout/auroc), dealt from the data, stratified by caption"""
    patience: int = 3
    """pairs: epochs without a higher AUROC after which the rate falls"""
    factor: float = 0.2
    """pairs: what the rate is multiplied with then"""
    stop_after: int = 7
    """pairs: epochs without a higher AUROC after which training ends"""


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "loss": "pairs",
        "seed": 42,
        "split": (1_400, 200, 400),
        "augment": True,
        "bias": False,
        "batch_size": 32,
        "balance": 0.0,
        "learning_rate": 2e-5,
        "weight_decay": 0.01,
        "autocast": "float32",
    }
}
"""`paper`: the RLOO paper, appendix B.3; for BDD-OIA's subset of one action and one reason."""


class Preparation:
    """Samples to pixels and the tokens of the texts that the pictures are weighed against.

    Those are the captions of the batch, each once, the wrong texts of pairs, and with `anchors` all captions of its
    contexts.
    """

    def __init__(self, processor: Any, anchors: Sequence[Sequence[str]], longest: int):
        self.processor, self.anchors, self.longest = processor, anchors, longest

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """`pixel_values`; `input_ids` and `attention_mask` [T, L] of the texts; `own` int64 [B], each picture's text;
        and `rivals` int64 [B, K], with the texts of its context, and `label` int64 [B], its own place among those; of
        pairs, `wrong` int64 [B], the text that does not match.
        """
        captions = [str(sample.words["caption"]) for sample in samples]
        wrong = [sample.words["wrong"] for sample in samples if "wrong" in sample.words]
        contexts = [self.anchors[sample.words["context"]] for sample in samples] if self.anchors else []
        texts = list(dict.fromkeys([*captions, *wrong, *(text for context in contexts for text in context)]))
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
        if wrong:
            batch["wrong"] = torch.tensor([places[text] for text in wrong])
        return batch


class ReadOut(nn.Module):
    """A CLIP and the bias of its read-out."""

    def __init__(self, model: Any, learned: bool):
        super().__init__()
        self.model = model
        self.bias = nn.Parameter(torch.tensor(float(getattr(model.config, "logit_bias", 0.0)) if learned else 0.0))
        self.bias.requires_grad_(learned)


def make_model(args: Args, samples: Samples) -> tuple[Any, Any]:
    """The model to train and its processor."""
    if not args.model:
        texts = [str(words["caption"]) for words in samples.words]
        sizes = {name: getattr(args, name) for name in ("image_size", "patch_size", "width", "scale")}
        return build_clip(texts, **sizes, words=args.tokens == "words")
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
    return contrastive_losses(images, texts[own], own[:, None] == own, scale).mean()


def anchors_loss(
    images: torch.Tensor, texts: torch.Tensor, rivals: torch.Tensor, label: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each picture's own text among its `rivals`, int64 [B, K], the `label`-th of which it is."""
    logits = scale * torch.einsum("bd,bkd->bk", images, texts[rivals])
    return F.cross_entropy(logits, label)


def pairs_loss(
    images: torch.Tensor, texts: torch.Tensor, batch: dict[str, torch.Tensor], scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Binary cross-entropy of scale * cosine + bias over each picture's two pairs (RLOO paper, appendix B.3)."""
    match, other = (scale * (images * texts[batch[name]]).sum(-1) + bias for name in ("own", "wrong"))
    return (F.softplus(-match).mean() + F.softplus(other).mean()) / 2


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


def update_pairs(
    readout: ReadOut, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor], rate: float, args: Args
) -> dict[str, torch.Tensor]:
    """One update from one batch of pictures with two pairs each."""
    autocast = getattr(torch, args.autocast)
    with torch.autocast(batch["own"].device.type, autocast, enabled=autocast != torch.float32):
        images, texts = encode(readout.model, batch)
    loss = pairs_loss(images, texts, batch, readout.model.logit_scale.exp(), readout.bias)
    take_step(optimizer, loss, rate, args.max_norm)
    with torch.no_grad():
        readout.model.logit_scale.clamp_(max=HIGHEST_SCALE)
    return {"loss/pairs": loss.detach()}


def label_scores(predictions: np.ndarray, labels: np.ndarray, neighbours: np.ndarray | None) -> dict[str, float]:
    """Accuracy of `predictions` int64 [N] for `labels` int64 [N], plain, balanced, and of the most frequent label.

    With `neighbours` bool [K, K] also the share of the errors that fall on a neighbour of the true label, and what it
    would be if each error fell evenly on the other labels.
    """
    right = predictions == labels
    present, counts = np.unique(labels, return_counts=True)
    scores = {
        "heldout/accuracy": float(right.mean()),
        "heldout/balanced_accuracy": float(np.mean([right[labels == label].mean() for label in present])),
        "heldout/majority": float(counts.max() / len(labels)),
        "heldout/balanced_majority": 1.0 / len(present),
    }
    if neighbours is not None and not right.all():
        wrong, predicted = labels[~right], predictions[~right]
        scores["heldout/near_errors"] = float(neighbours[wrong, predicted].mean())
        scores["heldout/near_errors_by_chance"] = float(
            ((neighbours[wrong].sum(1) - 1) / (neighbours.shape[1] - 1)).mean()
        )
    return scores


def measure(folder: Path, samples: Sequence[Sample], anchors: list[list[str]], device: str) -> dict[str, float]:
    """`label_scores` of the model saved in `folder`, which weighs the anchors as a mentor does."""
    mentor = load_clip(str(folder), anchors=anchors, device=device)
    predictions = []
    nothing = np.full(2, np.nan, np.float32)
    for start in range(0, len(samples), 64):
        group = samples[start : start + 64]
        weighed = mentor([Request(each.picture, "", each.words["context"], nothing) for each in group])
        predictions += [int(np.argmax(each)) for each in weighed if isinstance(each, np.ndarray)]
    labels = np.array([each.words["label"] for each in samples])
    return label_scores(np.array(predictions), labels, language.NEIGHBOURS if anchors == language.anchors() else None)


@torch.no_grad()
def weigh(model: Any, samples: Samples, pairing: Pairing, prepare: Preparation, args: Args) -> np.ndarray:
    """Cosines float32 [2, N] of pictures with their own texts and with wrong ones; always the same, with one seed."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, args.heldout_samples).astype(int))
    generator = np.random.default_rng(args.seed)
    cosines = []
    for start in range(0, len(chosen), 64):
        batch = prepare([pairing(samples[int(index)], generator) for index in chosen[start : start + 64]])
        batch = {name: tensor.to(args.device) for name, tensor in batch.items()}
        images, texts = encode(model, batch)
        cosines.append(torch.stack([(images * texts[batch[name]]).sum(-1) for name in ("own", "wrong")]).cpu().numpy())
    return np.concatenate(cosines, 1)


def learn_contrasts(args: Args, run: Run, model: Any, processor: Any, samples: Samples) -> int:
    """Train with the contrastive loss; returns the updates."""
    optimizer = make_optimizer(model, args.weight_decay)
    step = run.load(nn.Module(), {"model": optimizer}, {"model": Weights(model)})
    anchors = samples.anchors if args.anchors_weight else []
    prepare = Preparation(processor, anchors, model.config.text_config.max_position_embeddings)
    change = Augmentation(anchors) if args.augment else None
    meter = Meter(run, step, args.total_steps)
    model.train()
    for batch in draw_batches(args, samples, prepare, range(step, args.total_steps), args.batch_size, change):
        rate = learning_rate(step, args.total_steps, args.learning_rate, args.warm_up)
        meter.add(update(model, optimizer, batch, rate, args))
        step += 1
        if step % args.log_every == 0 or step == args.total_steps:
            meter.log(step)
        if step < args.total_steps and run.checkpoint_due(step, args.checkpoint_every):
            run.save(step, nn.Module(), {"model": optimizer}, {"model": Weights(model)})
    return step


def draw_batches(
    args: Args, samples: Samples, prepare: Preparation, steps: range, batch_size: int, change: Change | None
) -> Iterator[dict[str, torch.Tensor]]:
    """`tuning.batches` on the model's device."""
    for batch in batches(samples, prepare, steps, batch_size, args.seed, args.balance, args.workers, change):
        yield {name: tensor.to(args.device) for name, tensor in batch.items()}


def learn_pairs(args: Args, run: Run, model: Any, processor: Any, samples: Samples) -> int:
    """Train with the loss over pairs, and leave the best weights in `model`; returns the updates."""
    if args.validation:
        train_samples, validation, test = samples, Samples(args.validation), None
    else:
        train_samples, validation, test = deal(samples, args.split, args.seed)
    texts = distinct_texts(samples, args.texts, args.augment)
    readout = ReadOut(model, args.bias).to(args.device)
    best = Best(readout, args.patience, args.factor, args.stop_after)
    optimizer = make_optimizer(readout, args.weight_decay)
    stored: dict[str, Stored] = {"model": Weights(readout), "best": best}
    step = run.load(nn.Module(), {"model": optimizer}, stored)
    prepare = Preparation(processor, [], model.config.text_config.max_position_embeddings)
    plain = Pairing(args.texts, texts)
    if not step and args.bias and not hasattr(model.config, "logit_bias"):
        # A bias takes as many updates to come from far as the weights take to fit it.
        with torch.no_grad():
            some = train_samples.select(range(0, len(train_samples), 1 + len(train_samples) // 256))
            cosines = weigh(model, some, plain, prepare, args)
            readout.bias.fill_(balanced_bias(cosines, float(model.logit_scale.exp())))
    pictures = args.batch_size // 2
    epoch = max(1, round(len(train_samples) / pictures))
    total_steps = args.epochs * epoch
    change = Pairing(args.texts, texts, Augmentation() if args.augment else None)
    meter = Meter(run, step, total_steps)
    model.train()
    for batch in draw_batches(args, train_samples, prepare, range(step, total_steps), pictures, change):
        if best.finished:
            break
        meter.add(update_pairs(readout, optimizer, batch, args.learning_rate * best.rate, args))
        step += 1
        if step % epoch == 0:
            model.eval()
            best.count(pairs_auroc(weigh(model, validation, plain, prepare, args)))
            model.train()
            meter.log(step, {"validation/auroc": best.latest})
        if step < total_steps and run.checkpoint_due(step, args.checkpoint_every):
            run.save(step, nn.Module(), {"model": optimizer}, stored)
    best.restore()
    model.config.logit_bias = readout.bias.item()
    if test is None and args.heldout:
        test = Samples(args.heldout)
    if test is not None:
        run.log(step, {"heldout/auroc": pairs_auroc(weigh(model.eval(), test, plain, prepare, args))})
    return step


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.autocast not in ("bfloat16", "float32"):
        raise ValueError(f"autocast {args.autocast!r} is unknown; choose bfloat16 or float32")
    save_dtype = saved_dtype(args.save_dtype)
    if args.loss == "pairs" and (args.batch_size < 2 or args.batch_size % 2 or args.epochs < 1):
        raise ValueError("of pairs, batch_size is even and epochs count from 1: a picture makes two")
    if args.validation and args.split:
        raise ValueError("--validation stands in for --split: give one of them")
    if args.heldout_samples < 1:
        raise ValueError(f"--heldout-samples {args.heldout_samples}: at least 1 is measured on")
    if args.loss == "pairs" and min(args.patience, args.stop_after) < 1:
        raise ValueError("patience and stop_after count epochs from 1")
    start_torch(args.seed, args.torch_threads)
    samples = Samples(args.data)
    if any("caption" not in words for words in samples.words):
        raise ValueError(f"{args.data} has samples without a caption")
    heldout = Samples(args.heldout) if args.heldout else None
    if heldout is not None and not heldout.anchors and args.loss == "contrastive":
        raise ValueError(f"{args.heldout} has no anchors.json, the captions of each context to choose from")
    model, processor = make_model(args, samples)
    run = Run("clip_finetune", args, environment=args.data.stem)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.to(args.device)
    step = (learn_pairs if args.loss == "pairs" else learn_contrasts)(args, run, model, processor, samples)
    saved = run.folder / "model"
    save_pretrained(model, processor, save_dtype, saved)
    if heldout is not None and heldout.anchors:
        run.log(step, measure(saved, spread(heldout, args.heldout_samples), heldout.anchors, args.device))
    run.finish(step)
    return run.folder


if __name__ == "__main__":
    run_program(train, Args, PRESETS)
