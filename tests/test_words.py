"""The words of pages, help and public names: plain, and the field's own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mentorgym import cli

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("src", "mentors", "envs", "wrappers", "agents", "benchmarks")
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("results/**/README.md")]
)

RIDDLES = (
    r"what one does",
    r"whose question",
    r"\b(not|be|is|are|were) told from\b",
    r"\btells? (it|them|these|those|episodes|runs) from\b",
    r"above \S+ alone by interval",
    r"in bold what",
    r"of one's own",
    r"cannot be had",
    r"\bcame? to\b(?! (a|the) (end|stop))",
    r"who describes scenes",
    r"whose traffic counts",
    r"whom we are",
    r"nobody to drive",
    r"counts not\b",
    r"that are about\b(?! it)",
    r"stands? beside (them|it)\b",
    r"what to make of it",
)
"""Sentences that a reader has to read twice."""

PARTICIPLES = {"told", "found", "kept", "asked", "said"}
"""Names that say what happened to a thing, and not what it is."""


def public_names(tree: ast.Module) -> Iterator[str]:
    """Names of the public functions, classes and constants of a module, and of parameters and fields of these."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from (argument.arg for argument in [*node.args.args, *node.args.kwonlyargs])
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield item.target.id
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    yield item.name
                if isinstance(item, ast.FunctionDef):
                    yield from (argument.arg for argument in [*item.args.args, *item.args.kwonlyargs])
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_plain(page: Path):
    text = " ".join(page.read_text("utf-8").split())
    assert {phrase: match[0] for phrase in RIDDLES if (match := re.search(phrase, text, re.IGNORECASE))} == {}


@pytest.mark.parametrize("floor", FLOORS)
def test_public_docstrings_and_help_are_plain(floor: str):
    riddles = []
    for path in (ROOT / floor).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                text = " ".join(node.value.value.split())
                riddles += [
                    f"{path.relative_to(ROOT)}:{node.lineno}: {match[0]}"
                    for phrase in RIDDLES
                    if (match := re.search(phrase, text, re.IGNORECASE))
                ]
    assert riddles == []


@pytest.mark.parametrize("floor", FLOORS)
def test_public_names_say_what_things_are(floor: str):
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / floor).rglob("*.py")
        for name in public_names(ast.parse(path.read_text("utf-8")))
        if name in PARTICIPLES
    }
    assert wrong == set()


def test_verbs_are_explained_in_a_few_words():
    for verbs in cli.VERBS.values():
        for verb, (_, words) in verbs.items():
            assert len(words.split()) <= 14 and not words.endswith("."), verb
