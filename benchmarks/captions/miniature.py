"""Write a miniature of BDD-OIA in its exact layouts, from staged scenes, to try what reads the real files.

    mentorgym miniature --output miniature --layout gt_4a_21r

Then `gym.make("BddOia-Caption-v0", data="miniature", labels="all")`, or `--env-args data=miniature` of an agent.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mentorgym.benchmarks.harness.command import UsageError, show, verb
from mentorgym.envs.caption.bddoia import OFFICIAL_SPLITS, write_bddoia
from mentorgym.envs.caption.staging.scenes import MOST_FRAMES, StagedScenes


@dataclass
class Args:
    """Write a miniature of BDD-OIA."""

    output: Path
    """folder for it, new or empty"""
    layout: Literal["25k_images", "gt_4a_21r"] = "25k_images"
    """the official layout, or that with one file for each split"""
    labels: Literal["one", "all"] = "all"
    """one action and one reason a scene, or all that are true"""
    train: int = 84
    """training scenes"""
    val: int = 42
    """validation scenes"""
    test: int = 42
    """test scenes"""
    frames: int = 1
    """frames of each, 0.5 s apart; more than one make clips"""
    seed: int = 0
    """seed of the scenes"""


def write(args: Args) -> dict[str, Any]:
    """Write the splits; returns what was written."""
    if args.output.exists() and any(args.output.iterdir()):
        raise UsageError(f"{args.output} is not empty: name another folder")
    if not 1 <= args.frames <= MOST_FRAMES:
        raise UsageError(f"--frames must be 1 to {MOST_FRAMES}, not {args.frames}")
    for split in OFFICIAL_SPLITS:
        try:
            scenes = StagedScenes(split, args.labels, seed=args.seed, count=getattr(args, split))
            write_bddoia(args.output, split, scenes, args.layout, args.frames)
        except (ValueError, ImportError, OSError) as error:
            raise UsageError(str(error)) from error
    counts = {split: getattr(args, split) for split in OFFICIAL_SPLITS}
    show(f"{args.output}: {', '.join(f'{count} {split}' for split, count in counts.items())} scenes as {args.layout}")
    return {"output": str(args.output), "layout": args.layout, **counts}


@verb("miniature")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    return write(args)
