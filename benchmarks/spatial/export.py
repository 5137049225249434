"""Write samples of UnitySpatial-v0 as files that other projects read: pictures, captions, questions, ground truth.

    mentorgym spatial-export --format parquet --split test --count 1000 --output exports/test

Samples are what a random policy leaves behind it; the same arguments give the same samples, and more of them begin with
fewer. The folder is written whole or not at all. Formats and who reads them: `mentorgym.envs.spatial.exports`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.progress import track

import mentorgym
from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
from mentorgym.envs.spatial.exports import export
from mentorgym.envs.spatial.samples import SIZES, collect


@dataclass
class Args:
    """Write samples as files."""

    output: Path
    """folder to write, which must not hold anything yet"""
    format: Literal["imagefolder", "parquet", "llava", "paligemma", "negclip", "whatsup", "clevr", "coco"]
    """whose loader is to read it"""
    split: Literal["train", "val", "test"] = "train"
    """rooms to draw from; test has rooms of its own"""
    count: int | None = None
    """samples; the split's own number where none is given"""
    seed: int = 0
    """seed of the samples"""
    camera: Literal["close", "paper"] = "close"
    """near a surface, or at room scale as in the paper"""


def write(args: Args, command: str) -> dict[str, Any]:
    """Write the folder; `command` is what its `about.json` says made it."""
    count = SIZES[args.split] if args.count is None else args.count
    about = {
        "command": command,
        "environment": "UnitySpatial-v0",
        "version": mentorgym.__version__,
        "seed": args.seed,
        "camera": args.camera,
        "renderer": "embree, on the CPU",
    }
    try:
        samples = collect(args.split, count, args.seed, args.camera)
        shown = track(samples, "writing", total=count, console=progress_console, transient=True)
        written = export(shown, args.output, args.format, args.split, about)
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(str(error)) from error
    return {"output": str(args.output), "format": args.format, "samples": written}


@verb("spatial-export")
def main(args: Args, command: str) -> dict[str, Any]:
    """The command."""
    result = write(args, command)
    show(*(f"{name}: {value}" for name, value in result.items()))
    return result
