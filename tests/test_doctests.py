"""The examples in the docstrings of the package's modules run as they are printed."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.FAIL_FAST
FLOORS = ("mentors", "envs", "wrappers", "agents", "benchmarks")


def modules() -> list[str]:
    """The modules with examples, by their names."""
    names = []
    for place, root in [(ROOT / floor, ROOT) for floor in FLOORS] + [(ROOT / "src" / "mentorgym", ROOT / "src")]:
        for path in sorted(place.rglob("*.py")):
            if ">>> " in path.read_text("utf-8"):
                parts = path.relative_to(root).with_suffix("").parts
                names.append(".".join(parts if parts[0] == "mentorgym" else ("mentorgym", *parts)))
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name: str):
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert tried and not failed


@pytest.mark.parametrize("family", ["driving", "caption", "spatial"])
def test_the_environments_have_examples(family: str):
    assert {f"mentorgym.envs.{family}.env", f"mentorgym.envs.{family}.vector"} <= set(modules())
