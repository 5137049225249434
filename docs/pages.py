"""Generate pages of the site, as Markdown, from docstrings, dataclasses and tables of the package. Needs no Sphinx."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium

ROOT = Path(__file__).resolve().parents[1]

API = {
    "mentorgym.envs.driving": None,
    "mentorgym.envs.caption": None,
    "mentorgym.envs.spatial": None,
    "mentorgym.wrappers": ("ActionHints", "ClipReward"),
    "mentorgym.wrappers.vector": ("ActionHints", "ClipReward"),
    "mentorgym.wrappers.feedback": ("MentorClient", "Bonuses", "LateHints", "LateBonuses"),
    "mentorgym.mentors": None,
    "mentorgym.mentors.vlm": ("load_vlm",),
    "mentorgym.mentors.clip": ("load_clip", "load_openclip"),
    "mentorgym.mentors.endpoint": ("load_endpoint",),
    "mentorgym.agents.toolbox": None,
}
"""Modules of the API reference and their public names; None for those of `__all__`."""

CURVES = {"mentors": ("sac_vmr", "sac_awag")}
"""Learning curves in `results/` that show several agents; others are named after their agent."""

SECTIONS = {"Args": "Arguments", "Returns": "Returns", "Raises": "Errors", "Example": "Example", "Examples": "Examples"}
"""Section titles in docstrings, and their headings."""


def environment_ids() -> list[str]:
    """The ids that this package registers, sorted."""
    import mentorgym  # noqa: F401 - registers the ids

    return sorted(id for id, spec in gymnasium.registry.items() if str(spec.entry_point).startswith("mentorgym."))


def environment_page(id: str) -> str:
    """The page of an environment: how to make it, its docstring, and its classes."""
    spec = gymnasium.spec(id)
    single, vector = (load(str(point)) for point in (spec.entry_point, spec.vector_entry_point))
    lines = [
        f"# {id}",
        "",
        "```python",
        "import gymnasium as gym",
        "import mentorgym",
        "",
        f'env = gym.make("{id}")',
        f'envs = gym.make_vec("{id}", num_envs=16)  # native vector environment',
        "```",
        "",
        markdown(inspect.getdoc(single) or "", level=2),
        "",
        "## Classes",
        "",
        "| | class |",
        "| --- | --- |",
        f"| `gym.make` | `{single.__module__}.{single.__qualname__}` |",
        f"| `gym.make_vec` | `{vector.__module__}.{vector.__qualname__}` |",
    ]
    return "\n".join(lines) + "\n"


def environment_summary(id: str) -> str:
    """One sentence on an environment."""
    return summary(inspect.getdoc(load(str(gymnasium.spec(id).entry_point))) or "")


def agent_names() -> list[str]:
    """The agents, which are the files in `agents/`, sorted."""
    return sorted(path.stem for path in (ROOT / "agents").glob("*.py") if not path.stem.startswith("_"))


def agent_page(name: str) -> str:
    """The page of an agent: its docstring, its command, its flags and, where `results/` has one, its learning curve."""
    tree = ast.parse((ROOT / "agents" / f"{name}.py").read_text("utf-8"))
    title, _, text = (ast.get_docstring(tree) or name).partition("\n\n")
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    arguments = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Args")
    # The file's docstring links to this page.
    text = re.sub(r"^Documentation: .*\n*", "", text, flags=re.MULTILINE)
    lines = [f"# {name}", "", escape(title), "", markdown(text, level=2), ""]
    lines += ["## Command", "", "```text", f"mentorgym train {name} --seed 3"]
    if "load_policy" in functions:
        lines += [f"mentorgym evaluate --run runs/*/{name}__seed3__*"]
    lines += ["```", ""]
    for curve in curves_of(name):
        lines += ["## Learning curve", "", f"![Learning curve](../../{curve.relative_to(ROOT).as_posix()})", ""]
    lines += ["## Flags", "", "| flag | default | meaning |", "| --- | --- | --- |"]
    for field, default, meaning in fields(arguments):
        lines.append(f"| `--{field.replace('_', '-')}` | {code(default_text(default))} | {cell(meaning)} |")
    return "\n".join(lines) + "\n"


def agent_summary(name: str) -> str:
    """One sentence on an agent."""
    return summary(ast.get_docstring(ast.parse((ROOT / "agents" / f"{name}.py").read_text("utf-8"))) or "")


def curves_of(name: str) -> list[Path]:
    """The learning curve in `results/` that shows an agent; none or one."""
    for path in sorted((ROOT / "results").rglob("curves/*.png")):
        owners = [agent for agent in agent_names() if path.stem == agent or path.stem.startswith(f"{agent}_")]
        if name in CURVES.get(path.stem, ()) or max(owners, key=len, default="") == name:
            return [path]
    return []


def summary(docstring: str) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9`)])\.\s", paragraph)[0].rstrip(".")


def fields(definition: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Name, default and docstring of each annotated field of a class; "" for what it does not have."""
    for node, after in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            meaning = str(after.value.value) if documented else ""
            yield node.target.id, ast.unparse(node.value) if node.value else "", " ".join(meaning.split())


def default_text(source: str) -> str:
    """The source of a default as it is typed on the command line; "" for an empty text or tuple."""
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return source
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def verbs_page(verbs: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """The page of the commands; `verbs` maps groups to verbs to (module, one line)."""
    lines = [
        "# Commands",
        "",
        "Every command is `mentorgym <verb>`, and `mentorgym <verb> --help` prints its flags. With `--json` the last "
        "line of standard output is one JSON object.",
        "",
    ]
    for group, members in verbs.items():
        lines += [f"## {group[:1].upper()}{group[1:]}", "", "| command | purpose |", "| --- | --- |"]
        lines += [f"| `mentorgym {verb}` | {cell(line)} |" for verb, (_, line) in members.items()] + [""]
    return "\n".join(lines)


def metrics_page(metrics: Mapping[str, str]) -> str:
    """The page of the metrics that a run logs, one table for each prefix."""
    lines = [
        "# Metrics",
        "",
        "A training run appends rows to `metrics.jsonl` in its folder. These are all keys of the agents in the "
        "package; `mentorgym curves` plots them.",
        "",
    ]
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, meaning in metrics.items():
        groups.setdefault(name.partition("/")[0] if "/" in name else "", []).append((name, meaning))
    for prefix, rows in groups.items():
        lines += [f"## {prefix or 'Every row'}", "", "| key | meaning |", "| --- | --- |"]
        lines += [f"| `{name}` | {cell(meaning)} |" for name, meaning in rows] + [""]
    return "\n".join(lines)


def module_page(name: str) -> str:
    """The reference of a module of API, as directives of Sphinx's Python domain."""
    module = importlib.import_module(name)
    lines = [f"# {name}", "", markdown(inspect.getdoc(module) or "", level=2), ""]
    for public in API[name] or module.__all__:
        lines += [*member(name, public, getattr(module, public)), ""]
    return "\n".join(lines)


def module_summary(name: str) -> str:
    """One sentence on a module."""
    return summary(importlib.import_module(name).__doc__ or "")


def member(module: str, name: str, value: Any) -> list[str]:
    """The directive that documents `value`, which is `module.name`."""
    if inspect.isclass(value):
        body = [own_docstring(value)]
        methods = [each for each in vars(value).items() if not each[0].startswith("_") and callable(each[1])]
        described = {field: text for field, _, text in class_fields(value) if text}
        if described:
            body += ["**Fields**", "\n".join(f"- `{field}`: {escape(text)}" for field, text in described.items())]
        body += [
            "\n".join(directive("py:method", f"{method}{signature(function, bound=True)}", own_docstring(function), 5))
            for method, function in methods
        ]
        parameters = "" if getattr(value, "_is_protocol", False) else signature(value)
        return directive("py:class", f"{module}.{name}{parameters}", "\n\n".join(filter(None, body)), 6)
    if callable(value):
        return directive("py:function", f"{module}.{name}{signature(value)}", own_docstring(value), 6)
    text = repr(value)
    return directive("py:data", f"{module}.{name}", f"`{text}`" if len(text) <= 100 else "", 6)


def own_docstring(value: Any) -> str:
    """The docstring as Markdown without headings, which a directive cannot hold."""
    text = inspect.getdoc(value) if value.__doc__ else ""
    return re.sub(r"^#+ (.*)$", r"**\1**", markdown(text or "", level=2), flags=re.MULTILINE)


def class_fields(value: type) -> Iterator[tuple[str, str, str]]:
    """Fields of a class as `fields` gives them; none where its source is not at hand."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    except (OSError, TypeError):
        return
    if isinstance(definition, ast.ClassDef):
        yield from fields(definition)


def signature(value: Any, bound: bool = False) -> str:
    """The signature without annotations; `bound` leaves out the first parameter."""
    try:
        parameters = list(inspect.signature(value).parameters.values())[int(bound) :]
    except (ValueError, TypeError):
        return "()"
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(plain))


def directive(kind: str, heading: str, body: str, fence: int) -> list[str]:
    """A directive of MyST with a fence of so many backticks, so that it can hold others."""
    return [f"{'`' * fence}{{{kind}}} {heading}", "", body, "`" * fence]


def markdown(docstring: str, level: int) -> str:
    """A docstring as Markdown: sections of Google's style get headings of `level`, their entries become lists.

    Headings, tables and lists of Markdown stay as they are. Indented blocks and examples with `>>>` become blocks of
    code.
    """
    lines = inspect.cleandoc(docstring).splitlines()
    parts: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        section = SECTIONS.get(line.removesuffix(":")) if line.endswith(":") else None
        if section:
            block = indented(lines, at + 1)
            # A heading of Markdown right above may have the same title.
            last = next((part for part in reversed(parts) if part.strip()), "")
            if last.strip("# ").lower() != section.lower():
                parts += ["", f"{'#' * level} {section}"]
            inner = textwrap.dedent("\n".join(block))
            parts += ["", markdown(inner, level) if section.startswith("Example") else entries(inner), ""]
            at += 1 + len(block)
        elif line.lstrip().startswith(">>>"):
            end = next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))
            parts += ["", "```pycon", textwrap.dedent("\n".join(lines[at:end])), "```", ""]
            at = end
        elif line.startswith("    ") and at and not lines[at - 1].strip():
            block = indented(lines, at)
            parts += ["", "```text", textwrap.dedent("\n".join(block)).strip(), "```", ""]
            at += len(block)
        else:
            parts.append(escape(line.removesuffix(":") if line.endswith("::") else line))
            at += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip()


def indented(lines: list[str], start: int) -> list[str]:
    """The lines from `start` on that are indented or empty, up to the first that is neither."""
    end = start
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
        end += 1
    return lines[start:end]


def entries(block: str) -> str:
    """`name: text` entries of a section as a list; text without a name stays text."""
    items: list[str] = []
    for line in block.splitlines():
        match = re.match(r"((?:[\w.*]+(?:, )?)+): (.*)", line)
        if match:
            items.append(f"- `{match[1]}`: {escape(match[2])}")
        elif line.strip():
            items.append(f"  {escape(line.strip())}" if items else escape(line.strip()))
    return "\n".join(items)


def escape(text: str) -> str:
    """`text` with angle brackets outside of code escaped, which Markdown would take for HTML."""
    return "".join(
        part if part.startswith("`") else part.replace("<", "&lt;") for part in re.split(r"(`+[^`]*`+)", text)
    )


def cell(text: str) -> str:
    """`text` for a cell of a table."""
    return escape(text).replace("|", "\\|")


def code(text: str) -> str:
    """`text` as code for a cell of a table; nothing for none."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def load(entry_point: str) -> Any:
    """The object that an entry point `module:name` names."""
    module, _, name = entry_point.partition(":")
    return getattr(importlib.import_module(module), name)
