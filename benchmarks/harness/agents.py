"""Agents as the harness knows them: a Python file, and the folders of its training runs.

An agent is a file in `agents/`, called by its name, or anywhere else, called by its path. It defines

- `Args`, a dataclass of flags, among them `seed`;
- `train(args) -> Path`, which trains, unless that run is done, and returns the run's folder;
- `load_policy(folder, device) -> policy`, with `policy(observations) -> actions` for whole batches. A file without it
  is a trainer: it can be run, not ranked.

A run's folder holds at least `config.json` (`agent`, the file's stem, and `args`, its flags), the weights in
`policy.*` or, where they are a model of transformers, in `model/`, and `done` (a JSON object with `step`, the
environment steps taken), which is written last. An agent that trains elsewhere than in its environment's own town says
so in the flag `env_args`, as in `["town=Village"]`.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mentorgym.agents
from mentorgym.agents.toolbox.runs import NOT_HASHED, parse_keywords, policy_step
from mentorgym.benchmarks.harness.command import UsageError, progress_console
from mentorgym.digests import files_digest
from mentorgym.names import nearest_name

AGENTS = Path(mentorgym.agents.__file__).parent

RESERVED = ("random", "expert")
"""Names of drivers that need no file."""

NOT_NAMED = (*NOT_HASHED, "heldout", "heldout_split", "eval_every")
"""Flags that leave what is learned as it is, so that no name needs them."""


@dataclass(frozen=True)
class Training:
    """Where a driver comes from: its run's folder, and what that says of agent, seed, environment steps and weights."""

    folder: Path
    agent: str
    seed: int
    steps: int
    weights: str
    args: dict[str, Any]
    """all flags"""
    flags: dict[str, Any] | None
    """those that differ from the agent's defaults; None where the agent's file is not known"""


def agent_names() -> list[str]:
    """Names of the files in `agents/` that define `train`; none of them is imported."""

    def trains(path: Path) -> bool:
        body = ast.parse(path.read_bytes()).body
        return any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in body)

    return sorted(path.stem for path in AGENTS.glob("*.py") if trains(path))


def load_agent(agent: str | Path, others: Sequence[str] = ()) -> ModuleType:
    """The module of an agent given by name or by the path of its file; `others` are names that would do as well."""
    path = Path(agent)
    if path.suffix != ".py":
        names = agent_names()
        if str(agent) not in names:
            raise UsageError(
                f"no agent {str(agent)!r}: {nearest_name(str(agent), [*others, *names])}, or the path of a file"
            )
        return importlib.import_module(f"mentorgym.agents.{agent}")
    if not path.is_file():
        raise UsageError(f"no file {path}: an agent is called by its name or by the path of its file")
    if path.resolve().parent == AGENTS.resolve():
        return load_agent(path.stem)
    if path.stem in (*RESERVED, *agent_names()):
        raise UsageError(f"{path} has the name of the driver {path.stem}: rename the file, rows go by its name")
    name = f"mentorgym_agent_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path.resolve())
    assert specification and specification.loader, "a .py file always has them"
    module = importlib.util.module_from_spec(specification)
    # Dataclasses and tyro look the module of a class up by its name.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    if missing := [part for part in ("Args", "train") if not hasattr(module, part)]:
        raise UsageError(f"{path} is no agent: it does not define {' and '.join(missing)}")
    return module


def require_policy(module: ModuleType) -> None:
    """Raise UsageError if the agent `module` is a trainer."""
    if not hasattr(module, "load_policy"):
        raise UsageError(
            f"{module.__file__} is a trainer: it can be run, but not ranked, for it has no load_policy(folder, device)"
        )


def require_folder(folder: Path) -> None:
    """Raise UsageError if `folder` is not that of a run."""
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} is not the folder of a training run: it has no config.json")


def read_training(folder: Path, module: ModuleType | None = None) -> Training:
    """What a run's folder says of its training; raises UsageError for a folder without a policy.

    Of a run that still trains, it is the policy of the newest checkpoint, and its steps.
    `module` is the agent's, by default the one that the folder names.
    """
    require_folder(folder)
    unfinished_at = None if (folder / "done").is_file() else policy_step(folder)
    if unfinished_at is not None:
        progress_console.print(f"{folder} is not finished: this is its policy at step {unfinished_at:,}")
    elif not (folder / "done").is_file():
        raise UsageError(f"{folder} is not finished: run its training command again, or wait for its first checkpoint")
    weights = sorted(folder.glob("policy.*")) or sorted((folder / "model").glob("*.safetensors"))
    if not weights:
        raise UsageError(f"{folder} has no weights (policy.* or model/): delete the folder and train again")
    digest = files_digest(weights, 12)
    try:
        args = json.loads((folder / "config.json").read_text("utf-8"))["args"]
        steps = unfinished_at
        if steps is None:
            steps = int(json.loads((folder / "done").read_text("utf-8"))["step"])
        agent = Path(str(module.__file__)).stem if module else agent_of(folder)
        if module is None and agent in agent_names():
            module = load_agent(agent)
        flags = changed_flags(module.Args, args) if module else None
        return Training(folder, agent, int(args["seed"]), steps, digest, args, flags)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is incomplete ({type(error).__name__}: {error}): config.json has args with a seed, done has step"
        ) from None


def agent_of(folder: Path) -> str:
    """The name of the agent that trained the run in `folder`."""
    require_folder(folder)
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["agent"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder}/config.json does not name the agent that trained it: give --driver") from None


def changed_flags(kind: type, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an agent's `flags` that differ from the defaults of its `Args`, `kind`, as JSON has them.

    Flags in NOT_NAMED are left out, and those that the agent no longer has are kept.
    """
    if not dataclasses.is_dataclass(kind):
        return {}
    defaults = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(kind)
    }
    plain = json.loads(json.dumps(defaults, default=str))
    return {
        name: value
        for name, value in flags.items()
        if name not in NOT_NAMED and not (name in plain and plain[name] == value)
    }


def run_name(agent: str, flags: Mapping[str, Any] | None, environment: Mapping[str, Any] | None = None) -> str:
    """A name for `agent` with the `flags` that differ from its defaults: `sac@15k,small-separate,regular`.

    Steps come first and the environment's id and arguments last, without those that are as in `environment`. A text is
    its own word; a number or a switch has its flag's name.
    """
    flags = dict(flags or {})
    steps = flags.pop("total_steps", None)
    keywords = parse_keywords(tuple(flags.pop("env_args", ())))
    if env_id := flags.pop("env_id", None):
        keywords = {"env_id": str(env_id).split(":")[-1], **keywords}
    words = [] if steps is None else [_steps(steps)]
    words += [_word(name, value) for name, value in flags.items()]
    words += [_word(name, value) for name, value in keywords.items() if (environment or {}).get(name) != value]
    return f"{agent}@{','.join(words)}" if words else agent


def _steps(steps: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if steps >= size and steps % (size // 10) == 0:
            return f"{steps / size:g}{letter}"
    return str(steps)


def _word(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return flag if value else f"no-{flag}"
    if isinstance(value, float):
        return f"{flag}={value:g}"
    text = "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if not re.fullmatch(r"[\w.+=:/-]{1,40}", text):
        return f"{flag}={hashlib.sha256(text.encode()).hexdigest()[:6]}" if text else f"{flag}=none"
    return text if isinstance(value, str) else f"{flag}={text}"
