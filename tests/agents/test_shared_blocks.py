"""What several agents share of their algorithms is written identically in each of their files."""

import ast
import itertools
import re
from pathlib import Path

import pytest

from mentorgym import agents

OWN = {
    "Args",
    "Actor",
    "Critic",
    "Networks",
    "make_optimizers",
    "hint_weight",
    "update",
    "update_critic",
    "update_actor",
    "extendable",
    "train",
    "load_policy",
}
"""The algorithm itself: in each file, but different."""

FAMILIES = ("sac", "drqv2")
"""An agent and those that a mentor helps; of these, all but what the hints change is the same."""

CHANGED_BY_HINTS = {"Args", "update", "extendable", "train"}

CHANGED_BY = {
    "vmr": {"update_critic"},
    "awag": {"Actor", "update_actor"},
}

FILES = sorted(
    path
    for path in Path(agents.__file__).parent.glob("*.py")
    if "class Networks(" in path.read_text() and path.stem != "rls3"
)
"""Those that learn to drive; trainers, and drivers that do not learn, have blocks of their own, and test_rls3.py asks
the same of RLS3's sampler."""

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
    assert "ppo" in (first.stem, second.stem) or "warm_up_actions" in shared
    for name in sorted(shared):
        assert ours[name] == theirs[name], f"{name} differs between {first.name} and {second.name}"


def test_what_is_trained_is_all_that_all_files_share():
    assert len(FILES) >= 8
    in_all = set.intersection(*(set(blocks(path).items()) for path in FILES))
    assert {name for name, _ in in_all} == {"SmallEncoder", "FoundRLEncoder", "Policy"}, "the rest is the toolbox's"


def test_the_table_of_encoders_reads_the_same():
    def table(path: Path) -> str:
        return path.read_text("utf-8").partition("\nENCODERS")[2].partition("\n\n\n")[0]

    tables = {table(path) for path in FILES if path.stem != "ppo"}
    assert len(tables) == 1 and "small-separate" in tables.pop()


LOOP_FILES = [path for path in FILES if path.stem != "ppo"]
"""Those whose loops step and update in turn."""


@pytest.mark.parametrize("path", LOOP_FILES, ids=lambda path: path.stem)
def test_the_off_policy_loops_differ_in_what_the_algorithm_needs_alone(path: Path):
    def parts(path: Path) -> tuple[str, str]:
        learn, _, record = blocks(path)["train"].partition("        # Learn.\n")[2].partition("        # Record.\n")
        learn = re.sub(r"buffer\.sample\(.*?\)|update\(.*\)", "...", learn)
        record = re.sub(r"recorder\.log\(.*\)", "...", record)
        return learn, record.replace("stored", '{"replay": buffer}')

    assert parts(path) == parts(LOOP_FILES[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", CHANGED_BY)
def test_hints_change_what_they_must_and_nothing_else(family: str, method: str):
    plain, mentored = (blocks(FILES[0].with_name(f"{name}.py")) for name in (family, f"{family}_{method}"))
    assert plain.keys() <= mentored.keys()
    changed = {name for name in plain if plain[name] != mentored[name]}
    assert changed == CHANGED_BY_HINTS | CHANGED_BY[method]


@pytest.mark.parametrize("method", CHANGED_BY)
def test_hints_enter_both_families_in_the_same_way(method: str):
    first, second = (blocks(FILES[0].with_name(f"{family}_{method}.py")) for family in FAMILIES)
    for name in ("hint_weight", "margin_loss" if method == "vmr" else "guidance_loss"):
        assert first[name] == second[name]


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_differ_in_nothing_but_their_losses(family: str):
    first, second = (blocks(FILES[0].with_name(f"{family}_{method}.py")) for method in CHANGED_BY)
    assert first["train"].replace("_vmr", "") == second["train"].replace("_awag", "")


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda path: path.stem)
def test_flags_that_agents_share_read_the_same(first: Path, second: Path):
    def flags(path: Path) -> dict[str, str]:
        body = ast.parse(blocks(path)["Args"]).body[0].body
        return {
            ast.unparse(field.target): f"{ast.unparse(field.annotation)}: {ast.unparse(text)}"
            for field, text in itertools.pairwise(body)
            if isinstance(field, ast.AnnAssign)
        }

    common = ("env_id", "env_args", "num_envs", "seed", "runs", "resume", "device", "torch_threads", "gamma")
    if "ppo" not in (first.stem, second.stem):
        common += ("encoder",)
    ours, theirs = flags(first), flags(second)
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}


CAPTION_FILES = sorted(FILES[0].with_name(f"{name}.py") for name in ("rloo", "best_of_k", "a2c_caption", "action_sft"))
"""Those that write about driving scenes; their algorithms are their own, the rest is in the toolbox."""


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations(CAPTION_FILES, 2)), ids=lambda path: path.stem
)
def test_caption_agents_share_what_is_not_their_algorithm(first: Path, second: Path):
    ours, theirs = blocks(first), blocks(second)
    for name in sorted((ours.keys() & theirs.keys()) - OWN):
        assert ours[name] == theirs[name], f"{name} differs between {first.name} and {second.name}"

    def flags(path: Path) -> dict[str, str]:
        body = ast.parse(blocks(path)["Args"]).body[0].body
        return {
            ast.unparse(field.target): f"{ast.unparse(field.annotation)}: {ast.unparse(text)}"
            for field, text in itertools.pairwise(body)
            if isinstance(field, ast.AnnAssign)
        }

    one, other = flags(first), flags(second)
    # What is sampled in groups, and what a batch has, differs.
    for name in sorted((one.keys() & other.keys()) - {"group_size", "batch_size"}):
        assert one[name] == other[name], f"{name} differs between {first.name} and {second.name}"
