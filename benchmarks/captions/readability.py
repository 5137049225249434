"""Can the staged scenes be read? A plain classifier, trained in the training towns, tested in towns it never saw.

    mentorgym readability

A small convolutional network learns the 21 reasons of one-one scenes by cross-entropy from pictures squashed to 96 x 96
pixels, each at random as it is or flipped, where left and right change places in its label too. Prints the accuracy of
each reason on the held-out towns and what it was taken for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table
from torch import nn

from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
from mentorgym.envs.caption.language import MIRRORED_REASONS, REASONS
from mentorgym.envs.caption.staging import StagedScenes

SIDE = 96
"""Pixels of the squashed picture."""

BATCH = 32


@dataclass
class Args:
    """Train a plain classifier on staged scenes and test it in towns it never saw."""

    train: int = 2100
    """scenes to learn from"""
    test: int = 1050
    """scenes of the held-out towns"""
    epochs: int = 10
    """passes over the training scenes"""
    learning_rate: float = 1.5e-3
    """at its peak, after the first tenth, on either side of which it is a straight line from or to zero"""
    seed: int = 0
    """seed of the network and of the order; the scenes are always those of seed 0"""


def pictures(scenes: StagedScenes) -> torch.Tensor:
    """All scenes' last frames squashed to uint8 [N, 3, 96, 96]."""
    squashed = torch.empty(scenes.count, 3, SIDE, SIDE, dtype=torch.uint8)
    for index in track(range(scenes.count), f"{scenes.split} scenes", console=progress_console, transient=True):
        picture = torch.from_numpy(scenes.frames(index, 1)[0]).permute(2, 0, 1)[None].float()
        small = nn.functional.interpolate(picture, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        squashed[index] = small[0].round().clamp(0, 255).byte()
    return squashed


def network() -> nn.Module:
    """Logits of the reasons, [N, 21], from pictures in -1 to 1, [N, 3, 96, 96]."""
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 64), (64, 96)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * (SIDE // 16) ** 2, len(REASONS)))


def train(images: torch.Tensor, reasons: np.ndarray, args: Args) -> nn.Module:
    """A network that has learnt `reasons` (int64 [N]) from `images` (uint8 [N, 3, 96, 96])."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    net = network()
    steps = args.epochs * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), args.learning_rate, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(10 * (step + 1) / steps, (steps - step) / (0.9 * steps), 1.0)
    )
    for _ in track(range(args.epochs), "epochs", console=progress_console, transient=True):
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            flip = rng.random(len(rows)) < 0.5
            batch = _scaled(images[rows])
            batch[flip] = batch[flip].flip(3)
            target = np.where(flip, MIRRORED_REASONS[reasons[rows]], reasons[rows])
            loss = nn.functional.cross_entropy(net(batch), torch.from_numpy(target))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return net.eval()


def _scaled(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 127.5 - 1


def readability(args: Args) -> dict[str, Any]:
    """Train, test and print; returns the accuracy, that of each reason and the confusion [21][21] (true, taken for)."""
    if min(args.train, args.test) < len(REASONS) or args.epochs < 1:
        raise UsageError(f"--train and --test need at least {len(REASONS)} scenes, --epochs at least 1")
    sets = [StagedScenes("train", count=args.train), StagedScenes("test", count=args.test)]
    try:
        images = [pictures(scenes) for scenes in sets]
    except ImportError as error:
        raise UsageError(str(error)) from error
    truth = sets[1].staged_for
    net = train(images[0], sets[0].staged_for, args)
    with torch.no_grad():
        taken = torch.cat([net(_scaled(part)).argmax(1) for part in images[1].split(100)]).numpy()
    confusion = np.zeros((len(REASONS), len(REASONS)), int)
    np.add.at(confusion, (truth, taken), 1)
    right = confusion.diagonal() / confusion.sum(1)
    table = Table("reason", "right, %", "most often taken for", box=SIMPLE_HEAD)
    for index, name in enumerate(REASONS):
        wrong = confusion[index].copy()
        wrong[index] = 0
        worst = [
            f"{REASONS[other]} ({wrong[other]})" for other in np.argsort(-wrong, kind="stable")[:2] if wrong[other]
        ]
        table.add_row(name, f"{100 * right[index]:.0f}", ", ".join(worst))
    accuracy = float((truth == taken).mean())
    show(table, f"accuracy on {args.test} scenes of held-out towns: {100 * accuracy:.1f} %")
    return {
        "accuracy": round(accuracy, 4),
        "by_reason": {name: round(float(share), 4) for name, share in zip(REASONS, right, strict=True)},
        "confusion": confusion.tolist(),
    }


@verb("readability")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    return readability(args)
