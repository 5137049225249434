"""Benchmarks of speed, one for each subject: `mentorgym speed <subject> --help` explains it.

A subject is a module with `TITLE`, its flags `Args`, `measure(args)`, which returns figures, and `table(figures)`, the
lines of Markdown that show them.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import mentorgym
from mentorgym.benchmarks.harness.command import TableFlags, refuse, report, verb
from mentorgym.names import nearest_name

SUBJECTS = {
    "driving": "steps of the driving environments, beside highway-env",
    "spatial": "moves of the spatial environment",
    "pictures": "pictures of the spatial environment, beside pybullet's TinyRenderer",
    "hints": "what a slow mentor costs the environments that it watches",
    "learner": "updates of SAC from a full replay buffer",
    "rloo": "updates of RLOO, beside TRL's trainer",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the process by default."""
    subject, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if subject in ("-h", "--help"):
        width = max(map(len, SUBJECTS))
        print("usage: mentorgym speed <subject> [flags]\n\n" + (__doc__ or "").splitlines()[0] + "\n")
        print("\n".join(f"  {name:{width}}  {words}" for name, words in SUBJECTS.items()))
        return
    if subject not in SUBJECTS:
        refuse(f"mentorgym speed: no subject {subject!r}: {nearest_name(subject, SUBJECTS)}")
    module = importlib.import_module(f"mentorgym.benchmarks.speed.{subject}")

    def time(args: TableFlags, command: str) -> dict[str, Any]:
        figures = module.measure(args)
        report(module.TITLE, module.table(figures), args.table, command)
        return {"version": mentorgym.__version__, **figures}

    verb(f"speed {subject}", module.Args, module.__doc__)(time)(rest)


if __name__ == "__main__":
    main()
