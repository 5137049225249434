"""Check the package's types with mypy, as somebody who installed it would see it: `python .ci/types.py`.

The folders of the repository become packages only when they are installed, and mypy does not follow setuptools'
mapping; so the sources are laid out in a folder as a wheel holds them.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("mentors", "envs", "wrappers", "agents", "benchmarks")


def lay_out(folder: Path) -> None:
    """Copy the package's sources into `folder`."""
    for path in (ROOT / "src" / "mentorgym").glob("*"):
        if path.is_file():
            folder.mkdir(exist_ok=True)
            shutil.copy(path, folder)
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def main() -> int:
    """Lay the package out and check it; returns mypy's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder, "mentorgym"))
        options = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")
        return subprocess.call([sys.executable, "-m", "mypy", *options, "-p", "mentorgym"], cwd=folder)


if __name__ == "__main__":
    sys.exit(main())
