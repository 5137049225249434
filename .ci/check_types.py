"""Check the package's types with mypy, as somebody who installed it would see it: `python .ci/check_types.py`.

The folders of the repository become packages only when they are installed, and mypy does not follow setuptools'
mapping; so the sources are laid out in a folder as a wheel holds them. What only an extra brings is not followed (see
`pyproject.toml`), so that the result is that of a plain install.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("mentors", "envs", "wrappers", "agents", "benchmarks")


def lay_out(folder: Path) -> None:
    """Copy the package's sources into `folder`, which is made."""
    sources = [(ROOT / "src" / "mentorgym", folder), *((ROOT / floor, folder / floor) for floor in FLOORS)]
    for source, target in sources:
        for path in [*source.rglob("*.py"), *source.rglob("py.typed")]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            # With its time, by which mypy knows what it has seen before.
            shutil.copy2(path, copy)


def main() -> int:
    """Lay the package out and check it; returns mypy's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder, "mentorgym"))
        options = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")
        return subprocess.call([sys.executable, "-m", "mypy", *options, "-p", "mentorgym"], cwd=folder)


if __name__ == "__main__":
    sys.exit(main())
