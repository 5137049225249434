"""`docs/agents.md` lists every default of every agent, and what the preset makes of it."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def shown(value: Any) -> str:
    """A value as the page writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return value or '""' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def test_the_page_says_what_the_agents_do(all_agents: list[ModuleType]):
    names = [agent.__name__.split(".")[-1] for agent in all_agents]
    groups = {"all": names, "all but ppo": [name for name in names if name != "ppo"]}
    listed = {}
    for line in (ROOT / "docs" / "agents.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            flag, who, default, preset, source = cells
            assert source
            for name in groups.get(who, who.split(", ")):
                assert (name, flag.strip("`")) not in listed, "listed twice"
                listed[name, flag.strip("`")] = default, preset
    actual = {}
    for name, agent in zip(names, all_agents, strict=True):
        preset = getattr(agent, "PRESETS", {}).get("found-rl", {})
        for field in dataclasses.fields(agent.Args):
            changed = shown(preset[field.name]) if field.name in preset else ""
            actual[name, field.name] = shown(field.default), changed
    assert listed == actual
