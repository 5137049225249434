"""Train an agent: `mentorgym train <agent> [flags]` is `python <the agent's file> [flags]`.

    mentorgym train sac_vmr --mentor expert --seed 3
    mentorgym train ./my_agent.py --help

An agent is one of `agents/`, by its name, or any file that defines one, by its path.
"""

import sys
import types
from collections.abc import Sequence
from pathlib import Path

from mentorgym.benchmarks.harness.agents import AGENTS, agent_names
from mentorgym.names import nearest_name


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the process by default."""
    agent, *flags = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if agent in ("-h", "--help"):
        print(f"usage: mentorgym train <agent> [flags]\n\n{__doc__}\nAgents: {', '.join(agent_names())}")
        return
    path = Path(agent) if agent.endswith(".py") else AGENTS / f"{agent}.py"
    if not agent.endswith(".py") and agent not in agent_names():
        print(f"mentorgym train: no agent {agent!r}: {nearest_name(agent, agent_names())}", file=sys.stderr)
        sys.exit(2)
    if not path.is_file():
        print(f"mentorgym train: no file {path}", file=sys.stderr)
        sys.exit(2)
    # As Python runs a file: its folder first on the path, its flags as the arguments of the process, and `__main__`.
    sys.path.insert(0, str(path.resolve().parent))
    sys.argv = [f"mentorgym train {agent}", *flags]
    module = types.ModuleType("__main__")
    module.__file__ = str(path.resolve())
    sys.modules["__main__"] = module
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
