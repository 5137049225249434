"""Benchmarks of speed, one for each subject: `mentorgym speed <subject> --help` explains it."""

import importlib
import sys
from collections.abc import Sequence

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
        print("usage: mentorgym speed <subject> [flags]\n\n" + (__doc__ or "") + "\n")
        print("\n".join(f"  {name:{width}}  {words}" for name, words in SUBJECTS.items()))
        return
    if subject not in SUBJECTS:
        print(f"mentorgym speed: no subject {subject!r}: {nearest_name(subject, SUBJECTS)}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module(f"mentorgym.benchmarks.speed.{subject}").main(rest)


if __name__ == "__main__":
    main()
