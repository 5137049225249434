"""`docs/agents.md` lists every default of every agent, and what the preset makes of it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mentorgym.agents import a2c_caption, action_sft, best_of_k, rloo, rls3

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = "## The agents of the caption bandit"
ROOMS = "## The agent that moves objects"


def shown(value: Any) -> str:
    """A value as the page writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return value or '""' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def check(page: str, agents: Sequence[ModuleType], preset: str) -> None:
    """That the tables of `page` say what the agents do, and what their preset of this name does."""
    names = [agent.__name__.split(".")[-1] for agent in agents]
    groups = {"all": names, "all but ppo": [name for name in names if name != "ppo"]}
    listed = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            flag, who, default, changed, source = cells
            assert source
            for name in groups.get(who, who.split(", ")):
                assert (name, flag.strip("`")) not in listed, "listed twice"
                listed[name, flag.strip("`")] = default, changed
    actual = {}
    for name, agent in zip(names, agents, strict=True):
        flags = getattr(agent, "PRESETS", {}).get(preset, {})
        for field in dataclasses.fields(agent.Args):
            changed = shown(flags[field.name]) if field.name in flags else ""
            actual[name, field.name] = shown(field.default), changed
    assert listed == actual


def test_the_page_says_what_the_agents_do(all_agents: list[ModuleType]):
    driving, rest = (ROOT / "docs" / "agents.md").read_text("utf-8").split(CAPTIONS)
    captions, rooms = rest.split(ROOMS)
    check(driving, all_agents, "found-rl")
    check(captions, [rloo, best_of_k, a2c_caption, action_sft], "paper")
    check(rooms, [rls3], "paper")
