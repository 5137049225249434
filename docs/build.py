"""Build the site: collect hand-written and generated pages in `build/docs`, and let Sphinx write `build/site`.

Any warning is an error. `python3 run.py docs` installs what this needs and calls it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pages

DOCS, BUILD = pages.ROOT / "docs", pages.ROOT / "build"

TREES = {
    "Guide": ["driving", "captions", "spatial", "mentors", "own_mentor", "libraries", "own_agent", "own_family"],
    "Reference": ["environments/index", "agents/index", "agents", "commands", "metrics", "api/index"],
    "Results": ["results/README", "results/driving/README", "results/captions/README", "results/spatial/README", "log"],
}
"""The site's navigation: titles and pages, by their paths without suffix."""

LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def main() -> int:
    """Collect and build; returns Sphinx's exit code."""
    source, site = BUILD / "docs", BUILD / "site"
    for folder in (source, site):
        shutil.rmtree(folder, ignore_errors=True)
    collect(source)
    sphinx = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-c", DOCS, source, site)
    code = subprocess.call(sphinx, env={**os.environ, "PYTHONHASHSEED": "0"})
    if code == 0:
        print(f"open {site / 'index.html'}")
    return code


def collect(target: Path) -> None:
    """Write all pages, and the pictures that they show, to `target`."""
    queue = sorted(DOCS.glob("*.md"))
    seen: set[Path] = set()
    for place, text in generated():
        write(target / place, relink(text, DOCS / place, queue))
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        place = staged(path)
        if path.suffix == ".md":
            write(target / place, framed(place, relink(path.read_text("utf-8"), path, queue)))
        else:
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / place)


def generated() -> Iterator[tuple[str, str]]:
    """Place and text of every generated page."""
    from mentorgym.agents.toolbox.metrics import METRICS
    from mentorgym.cli import VERBS

    ids, agents = pages.environment_ids(), pages.agent_names()
    yield from listing("environments", "Environments", {id: pages.environment_summary(id) for id in ids})
    yield from ((f"environments/{id}.md", pages.environment_page(id)) for id in ids)
    yield from listing("agents", "Agents", {name: pages.agent_summary(name) for name in agents})
    yield from ((f"agents/{name}.md", pages.agent_page(name)) for name in agents)
    yield from listing("api", "API", {name: pages.module_summary(name) for name in pages.API})
    yield from ((f"api/{name}.md", pages.module_page(name)) for name in pages.API)
    yield "commands.md", pages.verbs_page(VERBS)
    yield "metrics.md", pages.metrics_page(METRICS)


def listing(folder: str, title: str, summaries: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Place and text of the page that lists the pages in `folder`, each with its summary."""
    rows = [f"| [`{name}`]({name}.md) | {pages.cell(text)} |" for name, text in summaries.items()]
    table = "\n".join(["| | |", "| --- | --- |", *rows])
    yield f"{folder}/index.md", f"# {title}\n\n{table}\n\n{toctree(list(summaries), ':hidden:')}"


def toctree(names: list[str], *options: str) -> str:
    """A directive that lists pages."""
    return "\n".join(["```{toctree}", *(options or (":maxdepth: 1",)), "", *names, "```", ""])


def framed(place: Path, text: str) -> str:
    """A hand-written page with what Sphinx needs: the navigation on the start page, a mark on pages outside of it."""
    if place == Path("index.md"):
        return text + "".join("\n" + toctree(names, ":hidden:", f":caption: {title}") for title, names in TREES.items())
    if place.with_suffix("").as_posix() not in sum(TREES.values(), []):
        return f"---\norphan: true\n---\n\n{text}"
    return text


def staged(path: Path) -> Path:
    """Where a file of the repository lies in the site: pages of docs/ at the top, others as in the repository."""
    return path.relative_to(DOCS if path.is_relative_to(DOCS) else pages.ROOT)


def relink(text: str, path: Path, queue: list[Path]) -> str:
    """`text` of `path` with its links to files as they lie in the site; pages and pictures join `queue`.

    A link to a file that is neither becomes text.
    """

    def replace(match: re.Match[str]) -> str:
        label, address = match.groups()
        name, mark, anchor = address.partition("#")
        if not name or ":" in name:
            return match[0]
        target = Path(os.path.normpath(path.parent / name))
        if target.suffix not in (".md", ".png") or not target.is_file():
            # Generated pages link to each other by their places in the site.
            return match[0] if target.suffix == ".md" else label.lstrip("!")[1:-1]
        queue.append(target)
        place = os.path.relpath(staged(target), staged(path).parent)
        return f"{label}({place}{mark}{anchor})"

    fences = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in fences)


def write(path: Path, text: str) -> None:
    """Write a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
