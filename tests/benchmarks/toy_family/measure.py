"""Score guesses of a number: `mentorgym evaluate --env Guess-v0 --driver high`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from mentorgym.benchmarks.families import Row
from mentorgym.benchmarks.harness.agents import load_agent, read_training, run_name
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.rows import ROWS, add_rows, file_name, make_header

ENV = "Guess-v0"
FIELDS: dict[str, tuple[type, ...]] = {"number": (int,)}
KEY = ("number",)
EPISODE = KEY
CELL: tuple[str, ...] = ()
SCORES = ("closeness",)
MORE_SCORES = ("exact",)
RANKS_TRAINERS = False
GUESSES = {"low": 1, "high": 9}


@dataclass
class Tasks:
    """The numbers to guess."""

    env: str = ENV
    """environment id"""
    numbers: tuple[int, ...] = (2, 8)
    """numbers to guess"""


@dataclass
class Args(Tasks):
    """Score guesses."""

    driver: str = ""
    """low, high, or an agent's file"""
    run: tuple[Path, ...] = ()
    """folders of training runs"""
    name: str = ""
    """name on the table"""
    device: str = "cpu"
    """torch device"""
    output: Path | None = None
    """file for the rows"""


def required_scores(row: Row) -> Sequence[str]:
    return SCORES


def environment_defaults(env: str) -> Mapping[str, Any]:
    return {"env_id": ENV}


def measure(args: Args, command: str) -> tuple[list[Row], list[Path], dict[str, Any]]:
    rows, outputs = [], []
    for folder in args.run or [None]:
        training, guess, name = None, GUESSES.get(args.driver), args.name or args.driver
        if folder:
            module = load_agent(args.driver)
            training = read_training(folder, module)
            guess, name = module.load_policy(folder, args.device)({}), run_name(training.agent, training.flags)
        if guess is None:
            raise UsageError(f"nobody guesses: there are {', '.join(GUESSES)}")
        header = make_header(ENV, "toy", name, training, command)
        own = [
            header | {"number": number, "score": {"closeness": 10.0 - abs(number - guess), "exact": number == guess}}
            for number in args.numbers
        ]
        outputs.append(args.output or ROWS / file_name(name, ENV))
        add_rows(outputs[-1], own)
        rows += own
    return rows, outputs, {}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    return {"guesses": [row["score"]["closeness"] for row in rows]}


def summary(rows: Sequence[Row], args: Args) -> Table:
    table = Table("driver", "number", "closeness")
    for row in rows:
        table.add_row(row["driver"], str(row["number"]), f"{row['score']['closeness']:.1f}")
    return table
