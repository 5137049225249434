"""What several agents share is written identically in each of their files."""

import ast
import itertools
from pathlib import Path

import pytest

from mentorgym import agents

OWN = {"Args", "Actor", "Critic", "Networks", "update", "train"}
"""The algorithm itself: in each file, but different."""

FILES = sorted(
    path for path in Path(agents.__file__).parent.glob("*.py") if "def load_policy(" in path.read_text("utf-8")
)
"""The agents; trainers of models, which have no `load_policy`, are not alike."""

PAIRS = list(itertools.combinations(FILES, 2))


def blocks(path: Path) -> dict[str, str]:
    """The source of each class and function of a file, by name."""
    source = path.read_text("utf-8")
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) or "" for node in nodes}


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda path: path.stem)
def test_blocks_of_one_name_are_identical(first: Path, second: Path):
    ours, theirs = blocks(first), blocks(second)
    shared = (ours.keys() & theirs.keys()) - OWN
    assert {"SmallEncoder", "FoundRLEncoder", "Policy", "load_policy"} <= shared
    for name in sorted(shared):
        assert ours[name] == theirs[name], f"{name} differs between {first.name} and {second.name}"


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda path: path.stem)
def test_flags_that_agents_share_read_the_same(first: Path, second: Path):
    def flags(path: Path) -> dict[str, str]:
        body = ast.parse(blocks(path)["Args"]).body[0].body
        return {
            ast.unparse(field.target): f"{ast.unparse(field.annotation)}: {ast.unparse(text)}"
            for field, text in itertools.pairwise(body)
            if isinstance(field, ast.AnnAssign)
        }

    common = ("env_id", "env_args", "num_envs", "seed", "runs", "resume", "device", "torch_threads", "encoder", "gamma")
    ours, theirs = flags(first), flags(second)
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}
