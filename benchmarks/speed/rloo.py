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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import mentorgym
from mentorgym.agents import rloo
from mentorgym.agents.toolbox import start_torch
from mentorgym.agents.toolbox.captioner import Captioner, Sampling, load_captioner
from mentorgym.benchmarks.harness.command import Reported, UsageError, progress_console, report, verb
from mentorgym.benchmarks.speed.timing import keep_to_cores, require_counts
from mentorgym.envs.caption import language
from mentorgym.extras import remedy
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.tiny import build_vlm
from mentorgym.mentors.trainable import make_optimizer

KL = 0.05
LEARNING_RATE = 1e-5
PICTURE = (96, 96, 3)


def reward(texts: list[str]) -> np.ndarray:
    """Something that takes no time and differs between texts, float64 [N]."""
    return np.array([(text.count("e") + text.count("o")) / (1 + len(text)) for text in texts])


class Pictures:
    """An environment that shows the same scenes every time."""

    def __init__(self, pictures: np.ndarray, group_size: int):
        self.frames = pictures[:, None].repeat(group_size, 0)

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
    """`agents/rloo.py`'s own update; texts never end before `tokens`."""

    def __init__(self, folder: Path, pictures: np.ndarray, group_size: int, tokens: int):
        self.args = rloo.Args(group_size=group_size, batch_size=len(pictures), kl=KL)
        self.captioner: Captioner = load_captioner(str(folder), sampling=Sampling(max_new_tokens=tokens))
        self.captioner.vlm.banned += self.captioner.vlm.ends
        self.reference = rloo.Reference(self.captioner)
        self.optimizer = make_optimizer(self.captioner.model, 0.0)
        self.generator = torch.Generator().manual_seed(0)
        self.envs = Pictures(pictures, group_size)

    def __call__(self) -> None:
        rloo.update(
            self.captioner, self.reference, self.optimizer, self.envs, self.generator, LEARNING_RATE, self.args, None
        )


def alternate(
    trl: Any, folder: Path, pictures: np.ndarray, group_size: int, tokens: int, updates: int, parts: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """CPU and wall seconds of each update of TRL's, in `parts` batches, and of ours after each of them."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback

    datasets: Any = importlib.import_module("datasets")
    ours = Ours(folder, pictures, group_size, tokens)
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
            per_device_train_batch_size=len(images) * group_size // parts,
            gradient_accumulation_steps=parts,
            num_generations=group_size,
            max_completion_length=tokens,
            beta=KL,
            max_steps=updates,
            shuffle_dataset=False,
            generation_kwargs={"min_new_tokens": tokens, "suppress_tokens": banned},
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


def measure(
    updates: int, say: Callable[[str], Any], scenes: int = 8, group_size: int = 8, tokens: int = 24
) -> dict[str, Any]:
    """The figures: medians over `updates` of each arm, after two that do not count."""
    try:
        import trl
        from transformers import logging
    except ImportError as error:
        raise UsageError(f"the peer is missing ({error}): {remedy('test')}") from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    start_torch(0, 1)
    pictures = np.random.default_rng(0).integers(0, 256, (scenes, *PICTURE), dtype=np.uint8)
    arms = {}
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        for parts in (1, 2):
            say(f"{updates} updates of each, TRL with batches of {scenes * group_size // parts} texts ...")
            theirs, ours = alternate(trl, Path(folder), pictures, group_size, tokens, updates + 2, parts)
            figures: dict[str, float] = {}
            for index, clock in enumerate(("cpu", "wall")):
                their_s, our_s = ([each[index] for each in taken[2:]] for taken in (theirs, ours))
                figures |= {
                    f"trl_{clock}_s": statistics.median(their_s),
                    f"ours_{clock}_s": statistics.median(our_s),
                    f"{clock}_ratio": statistics.median(a / b for a, b in zip(their_s, our_s, strict=True)),
                }
            arms[str(scenes * group_size // parts)] = figures
    best = min(arms.values(), key=lambda arm: arm["cpu_ratio"])
    return {
        "scenes": scenes,
        "group_size": group_size,
        "tokens": tokens,
        "updates": updates,
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


@dataclass
class Args(Reported):
    """Time updates of RLOO and of TRL's trainer."""

    updates: int = 10
    """updates that are timed, of each arm"""


@verb("speed rloo")
def main(args: Args, command: str) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    require_counts(updates=args.updates)
    keep_to_cores(1)
    figures = measure(args.updates, progress_console.print)
    report("Speed of RLOO", table(figures), args.table, command)
    return {"version": mentorgym.__version__, **figures}
