"""The pages of the site that are generated, without Sphinx, and the links of those that are written by hand."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def load(name: str) -> ModuleType:
    """A module of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return load("pages")


@pytest.fixture
def build(pages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "pages", pages)
    return load("build")


DOCSTRING = """A thing.

    ## Arguments

    Args:
        size, shape: two numbers,
            of which <one> is zero.
        name: a `<text>`.

    Raises:
        ValueError: a number is negative.

    - a list
      that goes on

        python thing.py --flag

    >>> 1 + 1
    2

    After it."""


def test_a_docstring_becomes_markdown(pages):
    assert (
        pages.markdown(DOCSTRING, level=2)
        == """A thing.

## Arguments

- `size, shape`: two numbers,
  of which &lt;one> is zero.
- `name`: a `<text>`.

## Errors

- `ValueError`: a number is negative.

- a list
  that goes on

```text
python thing.py --flag
```

```pycon
>>> 1 + 1
2
```

After it."""
    )


def test_every_environment_has_a_page_with_its_docstring(pages):
    assert pages.environment_ids() == [
        "BddOia-Caption-v0",
        "CarlaLeaderboard-BEV-v0",
        "CarlaNoCrash-v0",
        "UnitySpatial-v0",
    ]
    for id in pages.environment_ids():
        page = pages.environment_page(id)
        assert page.startswith(f"# {id}\n") and f'gym.make("{id}")' in page
        assert f"\n{pages.environment_summary(id)}" in page


def test_every_agent_has_a_page_with_each_of_its_flags(pages):
    import mentorgym.agents.sac_vmr

    assert "sac_vmr" in pages.agent_names() and "toolbox" not in pages.agent_names()
    flags = re.findall(r"^\| `--([\w-]+)` \|", pages.agent_page("sac_vmr"), re.MULTILINE)
    names = list(mentorgym.agents.sac_vmr.Args.__dataclass_fields__)
    assert [flag.replace("-", "_") for flag in flags] == names
    for name in pages.agent_names():
        page = pages.agent_page(name)
        assert f"mentorgym train {name} --seed 3" in page and "| `--seed` | `" in page
        # Each flag has a meaning.
        assert not re.search(r"^\| `--.*\|\s*\|$", page, re.MULTILINE)


def test_the_pages_of_agents_load_no_torch():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import pages; "
        "[pages.agent_page(name) for name in pages.agent_names()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_and_commands_are_tables(pages):
    from mentorgym.agents.toolbox.metrics import METRICS

    page = pages.metrics_page(METRICS)
    assert [name for name in METRICS if f"| `{name}` |" not in page] == []
    verbs = {"data": {"collect": ("module", "record | drives"), "stage": ("module", "write <scenes>")}}
    page = pages.verbs_page(verbs)
    assert "## Data" in page
    assert "| `mentorgym collect` | record \\| drives |" in page
    assert "| `mentorgym stage` | write &lt;scenes> |" in page


def test_the_reference_has_every_public_name(pages):
    import mentorgym.mentors

    page = pages.module_page("mentorgym.mentors")
    documented = re.findall(r"^`{6}\{py:\w+\} mentorgym\.mentors\.(\w+)", page, re.MULTILINE)
    assert documented == mentorgym.mentors.__all__
    assert "`````{py:method} submit(key, request)" in page
    assert "- `picture`: uint8 [H, W, 3], RGB" in page


def test_links_are_those_of_the_site(build, tmp_path):
    queue: list[Path] = []
    text = (
        "[a](../results/README.md#x) [b](../run.py) ![c](driving.png) [d](https://x.y) [e](#z)\n```\n[f](../x.py)\n```"
    )
    linked = build.relink(text, ROOT / "docs" / "index.md", queue)
    assert linked == ("[a](results/README.md#x) b ![c](driving.png) [d](https://x.y) [e](#z)\n```\n[f](../x.py)\n```")
    assert queue == [ROOT / "results" / "README.md", ROOT / "docs" / "driving.png"]


def test_every_page_that_is_written_by_hand_is_in_the_navigation(build):
    listed = set(sum(build.TREES.values(), []))
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"} <= listed


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_links_lead_somewhere(build, pages, path):
    generated = {f"environments/{id}.md" for id in pages.environment_ids()} | {f"api/{name}.md" for name in pages.API}
    targets = [address.partition("#")[0] for _, address in build.LINK.findall(path.read_text("utf-8"))]
    local = [target for target in targets if target and ":" not in target]
    assert [each for each in local if not (path.parent / each).exists() and each not in generated] == []
