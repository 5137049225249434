"""Draw staged scenes ahead of time, so that whatever asks for them finds them on disk.

    mentorgym stage --split train --workers 2

Scenes that are there already are left alone, so a run that was stopped goes on where it stood.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
from mentorgym.envs.caption.staging.scenes import MOST_FRAMES, StagedScenes

CHUNK = 20
"""Scenes that a worker draws at a time."""


@dataclass
class Args:
    """Draw staged scenes ahead of time."""

    split: Literal["train", "val", "test"] = "train"
    """which towns and how many scenes"""
    labels: Literal["one", "all"] = "one"
    """one action and one reason a scene, or all that are true"""
    prior: Literal["uniform", "paper"] = "uniform"
    """how often each reason is staged"""
    seed: int = 0
    """seed of the scenes"""
    count: int | None = None
    """scenes; the split's own number where none is given"""
    frames: int = 1
    """frames of each, 0.5 s apart"""
    workers: int = 1
    """processes"""


def _draw(arguments: dict[str, Any], start: int, end: int, frames: int) -> int:
    scenes = StagedScenes(**arguments)
    for index in range(start, end):
        scenes.frames(index, frames)
    return end - start


def stage(args: Args) -> dict[str, Any]:
    """Fill the cache; returns the number of scenes and the folder that holds them."""
    if args.workers < 1:
        raise UsageError(f"--workers must be at least 1, not {args.workers}")
    if not 1 <= args.frames <= MOST_FRAMES:
        raise UsageError(f"--frames must be 1 to {MOST_FRAMES}, not {args.frames}")
    arguments = {name: getattr(args, name) for name in ("split", "labels", "prior", "seed", "count")}
    try:
        scenes = StagedScenes(**arguments)
    except ValueError as error:
        raise UsageError(str(error)) from error
    chunks = [(start, min(start + CHUNK, scenes.count)) for start in range(0, scenes.count, CHUNK)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, TimeRemainingColumn(), console=progress_console) as progress,
        ProcessPoolExecutor(args.workers, context) as pool,
    ):
        task = progress.add_task(f"{args.split} scenes", total=scenes.count)
        jobs = [pool.submit(_draw, arguments, start, end, args.frames) for start, end in chunks]
        try:
            for job in as_completed(jobs):
                progress.advance(task, job.result())
        except ImportError as error:
            raise UsageError(str(error)) from error
    folder = scenes.path(0).parent
    if not scenes.path(scenes.count - 1).is_file():
        raise UsageError(f"nothing can be kept in {folder}; MENTORGYM_CACHE names another folder")
    show(f"{scenes.count} scenes in {folder}")
    return {"scenes": scenes.count, "folder": str(folder)}


@verb("stage")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    return stage(args)
