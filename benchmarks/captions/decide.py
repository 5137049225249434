"""What a model makes of your own pictures: the scene in words, then what to do.

    mentorgym decide street.jpg crossing.png --model runs/rloo/model

The two-stage inference of the RLOO paper (section 4), `envs.caption.inference.describe_and_decide`, as a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentorgym.agents.toolbox import parse_keywords, start_torch
from mentorgym.benchmarks.harness.command import UsageError, show, verb
from mentorgym.envs.caption import language
from mentorgym.envs.caption.inference import Decision, describe_and_decide


@dataclass
class Args:
    """Describe pictures and decide what to do."""

    pictures: tyro.conf.Positional[tuple[Path, ...]]
    """files of pictures"""
    model: str = ""
    """folder or hub name of a vision-language model, or an endpoint's address; without one our own small model"""
    model_args: tuple[str, ...] = ()
    """the model's keyword arguments, as in: device=cuda max_new_tokens=64"""
    prompt: str = language.PROMPT
    """the first question, with <image> where the picture belongs"""
    action_prompt: str = language.ACTION_PROMPT
    """the second question, which comes after the description"""
    torch_threads: int = 1
    """threads of torch on the CPU"""


def table_of(pictures: Sequence[Path], decisions: Sequence[Decision]) -> Table:
    """A line for each picture."""
    table = Table("picture", "description", "action", box=SIMPLE_HEAD)
    for path, decision in zip(pictures, decisions, strict=True):
        table.add_row(path.name, decision.description, decision.action or f"none: {decision.reply}")
    return table


@verb("decide")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    if not args.pictures:
        raise UsageError("name at least one picture")
    start_torch(seed=0, threads=args.torch_threads)
    try:
        options = parse_keywords(args.model_args)
        decisions = describe_and_decide(args.pictures, args.model, args.prompt, args.action_prompt, **options)
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(str(error)) from error
    show(table_of(args.pictures, decisions))
    told = zip(args.pictures, decisions, strict=True)
    return {"decisions": [{"picture": str(path)} | decision._asdict() for path, decision in told]}
