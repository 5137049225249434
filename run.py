"""Set the project up and run one job, with nothing but Python 3.11 and pip.

Makes a virtual environment `.venv` beside this file if there is none, installs the project into it, editable, and
leaves a stamp that says what was installed, so that the next call starts at once.
"""

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - nothing else of this project ever meets an older Python
    sys.exit(f"run.py: Python 3.11 or newer is needed, this is {sys.version.split()[0]}; try `python3.11 run.py ...`")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

LINT = ("-m", "ruff", "check", ".")
TYPES = (".ci/check_types.py",)
# verb: the extra of pyproject.toml it needs, and Python's arguments for each step; the user's join the last step
VERBS = {
    "demo": ("video", [("-m", "mentorgym", "demo")]),
    "test": ("test", [TYPES, LINT, ("-m", "pytest", "-m", "not slow")]),
    "slow": ("test", [("-m", "pytest", "-m", "slow")]),
    "lint": ("test", [TYPES, LINT]),
    "docs": ("docs", [("docs/build.py",)]),
}
VERB_HELP = """\
demo  train, evaluate and rank on a small driving task
test  types and lint, then the quick tests
slow  the tests that take minutes
lint  types and lint alone
docs  build the site in build/site; a warning is an error
"""
EPILOG = """\
Further arguments go to the job: `run.py test -k house`, `run.py demo --help`.

environment variables:
  MENTORGYM_PIP_ARGS  more arguments for `pip install`. On Linux, PyTorch by default brings several gigabytes of CUDA
                      libraries; without a GPU, name the CPU index that pytorch.org shows under "Get started":
                      MENTORGYM_PIP_ARGS="--extra-index-url <that address>"
  MENTORGYM_MAPS      folder of CARLA's maps (*.xodr), for the tests on real maps
  MENTORGYM_ROUTES    folder of CARLA's routes (NoCrash *.csv, Leaderboard *.xml), likewise
"""


def say(message: str) -> None:
    """Print `message` on standard error: standard output belongs to the job."""
    print(f"run.py: {message}", file=sys.stderr, flush=True)


def refuse(message: str) -> NoReturn:
    """Print `message` and end with exit code 1."""
    say(message)
    sys.exit(1)


def run(*arguments: str, python: str = str(PYTHON), **environment: str) -> int:
    """Run `python` in the repository root, with `environment` on top of the current one; returns its exit code."""
    return subprocess.call([python, *arguments], cwd=ROOT, env={**os.environ, **environment})


def create_venv() -> None:
    """Make `.venv`; where Python comes without ensurepip, as on Debian, with a temporary virtualenv."""
    say(f"creating {VENV.name}")
    made = False
    try:
        made = run("-m", "venv", "--clear", str(VENV), python=sys.executable) == 0
        if not made:
            say("the venv module failed; trying virtualenv")
            with tempfile.TemporaryDirectory() as folder:
                install = ("-m", "pip", "install", "--quiet", "--target", folder, "virtualenv")
                create = ("-m", "virtualenv", "--clear", str(VENV))
                made = (
                    run(*install, python=sys.executable) == 0
                    and run(*create, python=sys.executable, PYTHONPATH=folder) == 0
                )
    finally:
        if not made:
            shutil.rmtree(VENV, ignore_errors=True)
    if not made:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        refuse(f"Python's venv module does not work here; on Debian or Ubuntu: apt install {package}")


def fingerprint() -> str:
    """Digest of what decides the outcome of an install: the environment's Python, this place, and what is asked for."""
    digest = hashlib.sha256(f"{ROOT} {os.environ.get('MENTORGYM_PIP_ARGS')}".encode())
    for path in (VENV / "pyvenv.cfg", ROOT / "pyproject.toml", ROOT / "setup.py", ROOT / "constraints.txt"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def set_up(extra: str) -> None:
    """Bring `.venv` up to date with the project and one of its extras; the stamp makes a second call a no-op."""
    if not PYTHON.exists():
        create_venv()
    stamp = VENV / f"installed-{extra}"
    wanted = fingerprint()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if run("-c", "import pip") != 0:
        refuse(f"{VENV} has no pip; delete that folder and call again")
    say(f"installing mentorgym[{extra}] into {VENV.name}: about a minute, more where PyTorch downloads slowly")
    # --no-compile: compiling all of PyTorch to bytecode takes longer than compiling later what is in fact imported.
    install = ("-m", "pip", "install", "--no-compile", "-c", "constraints.txt", "-e", f".[{extra}]")
    if run(*install, *shlex.split(os.environ.get("MENTORGYM_PIP_ARGS", ""))) != 0:
        refuse("pip could not install the project; its message is above")
    stamp.write_text(wanted)


def main(arguments: Sequence[str]) -> int:
    """Set up, run the job that `arguments` name, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("verb", choices=VERBS, metavar="verb", help=VERB_HELP)
    extra, steps = VERBS[parser.parse_args(arguments[:1]).verb]
    set_up(extra)
    for step in steps[:-1]:
        if code := run(*step):
            return code
    return run(*steps[-1], *arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
