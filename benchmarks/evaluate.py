"""Evaluate agents and models: `mentorgym evaluate`. The family of the environment has the flags.

The environment is that of `--env` or of the runs of `--run`, by default CarlaNoCrash-v0.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentorgym.benchmarks.families import Family, family_of, load_family
from mentorgym.benchmarks.harness.command import show, verb


def environment_of(folder: Path) -> str:
    """The id of the environment that the run in `folder` was trained in; "" where it does not say."""
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["args"]["env_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def family_for(arguments: Sequence[str]) -> Family:
    """The family whose flags a command line has: that of `--env`, else that of the first run that names one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env", default="")
    parser.add_argument("--run", nargs="*", type=Path, default=[])
    known, _ = parser.parse_known_args(arguments)
    named = [env for env in (known.env, *map(environment_of, known.run)) if env]
    return load_family(family_of(named[0] if named else ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the process by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    measure = family_for(arguments).measure

    def evaluate(args: Any, command: str) -> dict[str, Any]:
        rows, outputs, remarks = measure.measure(args, command)
        written = [str(path) for path in dict.fromkeys(outputs)]
        show(measure.summary(rows, args), f"rows: {', '.join(written)}")
        return measure.summarise(rows) | {"outputs": written} | remarks

    verb("evaluate", measure.Args, measure.__doc__)(evaluate)(arguments)


if __name__ == "__main__":
    main()
