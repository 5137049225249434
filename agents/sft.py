"""Supervised fine-tuning of vision-language models on pictures, prompts and answers: a trainer, nothing to rank.

Documentation: `docs/agents/sft.md`.

Cross-entropy on the tokens of the answer and its end alone (Found-RL, section 5.2, fine-tunes InternVL3 so with
LLaMA-Factory, whose recipe it does not publish). Without `--model` a small model of our own is trained from nothing
(`mentors.tiny`); a folder or hub name fine-tunes that checkpoint, whole. The data are what
`mentorgym collect` or `mentorgym caption-data` write, or ShareGPT records of one picture each. The model,
its tokenizer and preprocessing are saved in the run's folder, under `model/`.

    mentorgym train sft --data drives --heldout heldout_drives
    mentorgym train sft --data captions/train --heldout captions/test --tokens words --augment
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mentorgym.agents.toolbox import Run, run_program, start_torch
from mentorgym.agents.toolbox.augmentation import Augmentation
from mentorgym.agents.toolbox.shards import Sample, Samples
from mentorgym.agents.toolbox.tuning import (
    Meter,
    Weights,
    batches,
    learning_rate,
    saved_dtype,
    spread,
)
from mentorgym.envs.caption import language as caption_language
from mentorgym.envs.caption import metrics
from mentorgym.envs.caption.scenes import Labels
from mentorgym.envs.driving.view import language
from mentorgym.extras import import_transformers
from mentorgym.mentors.checkpoints import load_model, save_pretrained
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.tiny import build_vlm
from mentorgym.mentors.trainable import make_optimizer, take_step
from mentorgym.mentors.vlm import encode_answers, load_vlm

CAPTION_MEASURES = ("action_top1", "reason_top1", "action_macro_f1", "reason_macro_f1", "out_of_vocabulary")
"""Of `metrics.measure`, what is logged where the answers are captions."""


@dataclasses.dataclass
class Args:
    """Flags of supervised fine-tuning (SFT) of vision-language models.

    Rerunning the same command continues the run from its last checkpoint.
    """

    data: Path = Path("drives")
    """folder of shards, or a JSON file of ShareGPT records"""
    heldout: Path | None = None
    """the same, to measure on"""
    model: str = ""
    """folder or hub name of the checkpoint to start from; without one a small model is trained from nothing"""
    seed: int = 0
    """seed of the weights, where they are new, and of the batches"""
    total_steps: int = 6_000
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

    tokens: Literal["sentences", "words"] = "sentences"
    """the longest pieces of text that are one token, of a small model from nothing"""
    image_size: int = 96
    """side of the pictures in pixels, of a small model from nothing"""
    patch_size: int = 12
    """side of its patches in pixels; 2 x 2 of them are one token of its language model"""
    vision_layers: int = 4
    """layers of its vision tower"""
    text_layers: int = 3
    """layers of its language model"""
    augment: bool = False
    """crop, flip and jitter pictures; a flip also flips left and right in the caption, which the answer has to be"""
    batch_size: int = 32
    """samples in a batch"""
    balance: float = 0.5
    """draw samples in proportion to n^-balance, n being how many share their caption: 0 all alike, 1 captions alike"""
    learning_rate: float = 1e-3
    """highest learning rate (AdamW); about 1e-5 for checkpoints"""
    warm_up: float = 0.05
    """share of the updates over which the learning rate rises; from there on it falls, a cosine, to 0"""
    weight_decay: float = 0.05
    """of matrices"""
    max_norm: float = 1.0
    """norm that gradients are clipped to"""
    autocast: str = "bfloat16"
    """dtype of the matrix products: bfloat16 or float32"""
    gradient_checkpointing: bool = False
    """compute activations twice rather than keep them"""
    save_dtype: str = "float16"
    """dtype of the weights that are saved: float16, bfloat16 or float32"""
    workers: int = 0
    """processes that prepare batches beside the training"""
    heldout_samples: int = 1_000
    """held-out samples to measure on, at most"""


class Preparation:
    """Samples to what the model is trained on: its inputs, and as labels the answer's tokens, -100 elsewhere."""

    def __init__(self, processor: Any, suffix_type: int):
        self.processor, self.suffix_type = processor, suffix_type

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Tensors by name; prompts are padded on the left and answers on the right, so that the two meet."""
        words = [sample.words for sample in samples]
        prompts, answers = ([each[name] for each in words] for name in ("prompt", "answer"))
        return encode_answers(
            self.processor, [sample.picture for sample in samples], prompts, answers, self.suffix_type
        )


def make_model(args: Args, samples: Samples) -> tuple[nn.Module, Any]:
    """The model to train and its processor."""
    if not args.model:
        texts = [text for words in samples.words for text in (words["prompt"].replace(IMAGE_SLOT, ""), words["answer"])]
        return build_vlm(
            texts,
            image_size=args.image_size,
            patch_size=args.patch_size,
            vision_layers=args.vision_layers,
            text_layers=args.text_layers,
            words=args.tokens == "words",
        )
    transformers = import_transformers()
    model = load_model(transformers.AutoModelForImageTextToText, args.model, torch.float32)
    processor = transformers.AutoProcessor.from_pretrained(args.model)
    for option in ("do_image_splitting", "crop_to_patches"):
        if hasattr(processor.image_processor, option):
            setattr(processor.image_processor, option, False)
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return model.train().requires_grad_(True), processor


def answer_loss(model: nn.Module, batch: dict[str, torch.Tensor], autocast: torch.dtype) -> torch.Tensor:
    """Mean cross-entropy over the tokens of the batch's answers."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    device = batch["labels"].device
    with torch.autocast(device.type, autocast, enabled=autocast != torch.float32):
        logits = model(**inputs).logits
    # The token at each place is foretold at the place before it.
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), ignore_index=-100)


def update(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor], rate: float, args: Args
) -> dict[str, torch.Tensor]:
    """One update from one batch."""
    loss = answer_loss(model, batch, getattr(torch, args.autocast))
    take_step(optimizer, loss, rate, args.max_norm)
    return {"loss/answer": loss.detach()}


def reply_errors(replies: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """How well `replies` meet `answers`: the share that is exact and, of driving actions and of captions, more.

    Of actions that is the share that parses and, over those, the mean absolute error of acceleration and steer beside
    that of the constant action with the smallest, the median of all true ones; of captions see `CAPTION_MEASURES`.
    """
    exact = np.mean([reply == answer for reply, answer in zip(replies, answers, strict=True)])
    figures = {"heldout/exact": float(exact)}
    read = [caption_language.read(answer) for answer in answers]
    if all(each.formatted and not each.unknown for each in read):
        labels = Labels(answers, np.array([each.actions for each in read]), np.array([each.reasons for each in read]))
        scores = metrics.measure(replies, labels)
        figures |= {f"heldout/{name}": scores[name] for name in CAPTION_MEASURES}
    actions = [language.to_action(answer) for answer in answers]
    if all(action is not None for action in actions):
        truth = np.array(actions)
        suggestions = [language.to_action(reply) for reply in replies]
        parsed = np.array([action is not None for action in suggestions])
        figures["heldout/parsed"] = float(parsed.mean())
        constant = np.abs(truth - np.median(truth, axis=0)).mean(0)
        for index, name in enumerate(("acceleration", "steer")):
            figures[f"heldout/{name}_error_of_constant"] = float(constant[index])
            if parsed.any():
                own = np.array([action[index] for action in suggestions if action is not None])
                figures[f"heldout/{name}_error"] = float(np.abs(own - truth[parsed, index]).mean())
    return figures


def measure(folder: Path, samples: Sequence[Sample], device: str) -> dict[str, float]:
    """`reply_errors` of the model saved in `folder`, which generates its replies as a mentor does."""
    mentor = load_vlm(str(folder), device=device, max_new_tokens=64)
    replies = []
    for start in range(0, len(samples), 32):
        group = samples[start : start + 32]
        replies += mentor.generate([each.picture for each in group], [each.words["prompt"] for each in group])
    return reply_errors(replies, [each.words["answer"] for each in samples])


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.autocast not in ("bfloat16", "float32"):
        raise ValueError(f"autocast {args.autocast!r} is unknown; choose bfloat16 or float32")
    save_dtype = saved_dtype(args.save_dtype)
    start_torch(args.seed, args.torch_threads)
    samples = Samples(args.data)
    heldout = spread(Samples(args.heldout), args.heldout_samples) if args.heldout else []
    for source in [*samples.words, *(each.words for each in heldout)]:
        if not {"prompt", "answer"} <= source.keys():
            raise ValueError(f"{args.data} or {args.heldout} has samples without a prompt and an answer")
        if source["prompt"].count(IMAGE_SLOT) != 1:
            raise ValueError(
                f"{args.data} or {args.heldout} has the prompt {source['prompt']!r:.200}: it needs one {IMAGE_SLOT}"
            )
    if args.augment and any(words["answer"] != words.get("caption") for words in samples.words):
        raise ValueError(f"{args.data} has answers that are not the picture's caption: train without --augment")
    model, processor = make_model(args, samples)
    run = Run("sft", args, environment=args.data.stem)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    model.to(args.device)
    optimizer = make_optimizer(model, args.weight_decay)
    step = run.load(nn.Module(), {"model": optimizer}, {"model": Weights(model)})
    prepare = Preparation(processor, suffix_type=int(model.config.model_type == "paligemma"))  # type: ignore[union-attr]
    meter = Meter(run, step, args.total_steps)
    model.train()
    steps = range(step, args.total_steps)
    change = Augmentation(samples.anchors) if args.augment else None
    for batch in batches(samples, prepare, steps, args.batch_size, args.seed, args.balance, args.workers, change):
        batch = {name: tensor.to(args.device) for name, tensor in batch.items()}
        rate = learning_rate(step, args.total_steps, args.learning_rate, args.warm_up)
        meter.add(update(model, optimizer, batch, rate, args))
        step += 1
        if step % args.log_every == 0 or step == args.total_steps:
            meter.log(step)
        if step < args.total_steps and run.checkpoint_due(step, args.checkpoint_every):
            run.save(step, nn.Module(), {"model": optimizer}, {"model": Weights(model)})
    saved = run.folder / "model"
    save_pretrained(model, processor, save_dtype, saved)
    if heldout:
        run.log(step, measure(saved, heldout, args.device))
    run.finish(step)
    return run.folder


if __name__ == "__main__":
    run_program(train, Args)
