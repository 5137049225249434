"""An agent's file as a program: flags from the command line, mistakes in one line, and an end that can be resumed."""

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import tyro

from mentorgym.agents.toolbox.interruption import INTERRUPTION, Interrupted
from mentorgym.agents.toolbox.runs import Run
from mentorgym.mentors.service import MentorError

Flags = TypeVar("Flags")

MISTAKES = (ValueError, ImportError, OSError, gym.error.Error, MentorError)
"""What flags that do not fit, or something that they name and that is not there, raise before a run begins."""


def run_program(
    train: Callable[[Any], Path], flags: type, presets: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Call `train` with the flags of the command line.

    A mistake of the user's ends in one line and exit code 2. An error after the run has begun keeps its traceback. The
    first Ctrl-C or SIGTERM lets the run save a checkpoint; both end in one line and exit code 130.
    """
    name = Path(sys.argv[0]).stem
    with INTERRUPTION.handled():
        Run.current = None
        try:
            train(parse_flags(flags, presets or {}))
        except Interrupted as interrupted:
            end(str(interrupted), 130)
        except KeyboardInterrupt:
            end(Run.current.stopped() if Run.current else f"{name}: stopped before training began", 130)
        except MISTAKES as error:
            if Run.current:
                raise
            end(f"{name}: {' '.join(str(error).split())}", 2)


def end(message: str, code: int) -> None:
    """Leave the program with a line on standard error."""
    print(message, file=sys.stderr)
    sys.exit(code)


def parse_flags(flags: type[Flags], presets: Mapping[str, Mapping[str, Any]]) -> Flags:
    """The command line as an instance of the dataclass `flags`.

    `--preset NAME`, where there are `presets`, replaces the defaults of those flags that `presets[NAME]` lists; flags
    that are given win.
    """
    if not presets:
        return tyro.cli(flags)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", choices=sorted(presets))
    known, rest = parser.parse_known_args()
    choice = f"--preset {{{','.join(sorted(presets))}}} replaces defaults by published constants; given flags win."
    default = flags(**presets.get(known.preset, {}))
    return tyro.cli(flags, args=rest, default=default, description=f"{inspect.getdoc(flags)}\n\n{choice}")
