"""How fast RLOO learns from pictures: `mentorgym speed rloo`, against TRL's RLOOTrainer.

Both take the same updates: the same small VLM, pictures, prompt and number of texts, which are cut at the same length,
the same cheap reward, a KL divergence to the start that costs the same, AdamW with clipped gradients. They alternate,
update by update, in one process. TRL samples and learns without gradient checkpointing, from whole batches and from
halves; what counts is the faster.
"""

import importlib
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mentorgym.agents import rloo
from mentorgym.agents.toolbox import start_torch
from mentorgym.agents.toolbox.captioner import Captioner, Sampling, load_captioner
from mentorgym.benchmarks.harness.command import TableFlags, UsageError, progress_console
from mentorgym.benchmarks.speed.timing import keep_to_cores, median_ratio, require_counts
from mentorgym.envs.caption import language
from mentorgym.extras import remedy
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.tiny import build_vlm
from mentorgym.mentors.trainable import make_optimizer

TITLE = "Speed of RLOO"

KL = 0.05
LEARNING_RATE = 1e-5
SCENES, PICTURE = 8, (96, 96, 3)
GROUP_SIZE, TOKENS = 8, 24
"""Texts for a picture, and the length at which they are cut."""


@dataclass
class Args(TableFlags):
    """Time updates of RLOO and of TRL's trainer."""

    updates: int = 10
    """updates that are timed, of each arm"""


def reward(texts: list[str]) -> np.ndarray:
    """Something that takes no time and differs between texts, float64 [N]."""
    return np.array([(text.count("e") + text.count("o")) / (1 + len(text)) for text in texts])


class Pictures:
    """An environment that shows the same scenes every time."""

    def __init__(self, pictures: np.ndarray):
        self.frames = pictures[:, None].repeat(GROUP_SIZE, 0)

    def reset(self, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"frames": self.frames, "instruction": (language.PROMPT,) * len(self.frames)}, {}

    def step(self, texts: list[str]) -> tuple[Any, ...]:
        return None, reward(texts), None, None, {"terms": {}}


def build(folder: Path) -> None:
    """Save a small VLM with random weights, whose words are those of captions."""
    torch.manual_seed(0)
    texts = 2 * [*language.captions(), language.PROMPT.replace(IMAGE_SLOT, "")]
    for part in build_vlm(texts):
        part.save_pretrained(folder)


class Ours:
    """`agents/rloo.py`'s own update; texts never end before TOKENS."""

    def __init__(self, folder: Path, pictures: np.ndarray):
        self.args = rloo.Args(group_size=GROUP_SIZE, batch_size=len(pictures), kl=KL)
        self.captioner: Captioner = load_captioner(str(folder), sampling=Sampling(max_new_tokens=TOKENS))
        self.captioner.vlm.banned += self.captioner.vlm.ends
        self.reference = rloo.Reference(self.captioner)
        self.optimizer = make_optimizer(self.captioner.model, 0.0)
        self.generator = torch.Generator().manual_seed(0)
        self.envs = Pictures(pictures)

    def __call__(self) -> None:
        rloo.update(
            self.captioner, self.reference, self.optimizer, self.envs, self.generator, LEARNING_RATE, self.args, None
        )


def alternate(
    trl: Any, folder: Path, pictures: np.ndarray, updates: int, parts: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """CPU and wall seconds of each update of TRL's, in `parts` batches, and of ours after each of them."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback

    datasets: Any = importlib.import_module("datasets")
    ours = Ours(folder, pictures)
    processor = AutoProcessor.from_pretrained(folder)
    banned = sorted(set(ours.captioner.vlm.banned) - set(ours.captioner.vlm.ends))
    question = [{"role": "user", "content": language.PROMPT.replace(IMAGE_SLOT, "")}]
    features = datasets.Features(
        {
            "prompt": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
            "image": datasets.Image(),
        }
    )
    images = [Image.fromarray(picture) for picture in pictures]
    rows = datasets.Dataset.from_dict({"prompt": len(images) * [question], "image": images}, features=features)
    theirs_taken: list[tuple[float, float]] = []
    ours_taken: list[tuple[float, float]] = []

    def clocks() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    class Turns(TrainerCallback):
        def on_step_begin(self, *arguments: Any, **keywords: Any) -> None:
            self.start = clocks()

        def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
            end = clocks()
            theirs_taken.append((end[0] - self.start[0], end[1] - self.start[1]))
            ours()
            after = clocks()
            ours_taken.append((after[0] - end[0], after[1] - end[1]))

    def rewards(completions: list[Any], **keywords: Any) -> list[float]:
        return reward([each[0]["content"] for each in completions]).tolist()

    with tempfile.TemporaryDirectory() as output:
        config = trl.RLOOConfig(
            output_dir=output,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            bf16=False,
            gradient_checkpointing=False,
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=len(images) * GROUP_SIZE // parts,
            gradient_accumulation_steps=parts,
            num_generations=GROUP_SIZE,
            max_completion_length=TOKENS,
            beta=KL,
            max_steps=updates,
            shuffle_dataset=False,
            generation_kwargs={"min_new_tokens": TOKENS, "suppress_tokens": banned},
        )
        model = AutoModelForImageTextToText.from_pretrained(folder)
        trainer = trl.RLOOTrainer(
            model=model,
            reward_funcs=rewards,
            args=config,
            train_dataset=rows,
            processing_class=processor,
            callbacks=[Turns()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return theirs_taken, ours_taken


def measure(args: Args) -> dict[str, Any]:
    """The figures: medians over the updates of each arm, after two that do not count."""
    require_counts(updates=args.updates)
    keep_to_cores(1)
    try:
        import trl
        from transformers import logging
    except ImportError as error:
        raise UsageError(f"the peer is missing ({error}): {remedy('test')}") from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    start_torch(0, 1)
    pictures = np.random.default_rng(0).integers(0, 256, (SCENES, *PICTURE), dtype=np.uint8)
    arms = {}
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        for parts in (1, 2):
            size = SCENES * GROUP_SIZE // parts
            progress_console.print(f"{args.updates} updates of each, TRL with batches of {size} texts ...")
            theirs, ours = alternate(trl, Path(folder), pictures, args.updates + 2, parts)
            figures: dict[str, float] = {}
            for index, clock in enumerate(("cpu", "wall")):
                their_s, our_s = ([each[index] for each in taken[2:]] for taken in (theirs, ours))
                figures |= {
                    f"trl_{clock}_s": statistics.median(their_s),
                    f"ours_{clock}_s": statistics.median(our_s),
                    f"{clock}_ratio": median_ratio(their_s, our_s),
                }
            arms[str(size)] = figures
    best = min(arms.values(), key=lambda arm: arm["cpu_ratio"])
    return {
        "scenes": SCENES,
        "group_size": GROUP_SIZE,
        "tokens": TOKENS,
        "updates": args.updates,
        "trl": trl.__version__,
        "arms": arms,
        "ratio": best["cpu_ratio"],
        "wall_ratio": best["wall_ratio"],
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    texts = figures["scenes"] * figures["group_size"]
    lines = [
        f"RLOO of our small VLM: {figures['scenes']} pictures, {figures['group_size']} texts of {figures['tokens']} "
        f"tokens each, KL divergence to the start, one thread. Medians of {figures['updates']} updates of each, which "
        "alternate; the process's own time.",
        "",
        f"| TRL {figures['trl']}, texts in a batch | its samples/s | ours | ours is so many times as fast | by wall "
        "clock |",
        "| --- | --- | --- | --- | --- |",
    ]
    for size, arm in figures["arms"].items():
        lines.append(
            f"| {size} | {texts / arm['trl_cpu_s']:.1f} | {texts / arm['ours_cpu_s']:.1f} | {arm['cpu_ratio']:.2f} | "
            f"{arm['wall_ratio']:.2f} |"
        )
    return lines
