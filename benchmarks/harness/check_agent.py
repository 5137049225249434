"""Whether a file is an agent that the harness can train, resume, evaluate and rank; nothing is trained for it.

    mentorgym check-agent my_agent.py

Reads the file, imports it, and calls `train` with `total_steps=0`, which leaves the run's folder with an untrained
policy; then loads that policy and asks it for actions. Exit code 1 if there is a problem.
"""

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from mentorgym.agents.toolbox import parse_keywords
from mentorgym.benchmarks.driving.drivers import Watcher
from mentorgym.benchmarks.harness.agents import load_agent, read_training
from mentorgym.benchmarks.harness.command import UsageError, show, verb

NEEDED = {
    "seed": "int = 0, so that seeds can be compared",
    "runs": 'str = "runs", the folder of the run folders',
    "total_steps": "int, the environment steps",
}
"""Flags that the harness sets."""


@dataclasses.dataclass
class Args:
    """Check that a file is an agent."""

    file: tyro.conf.Positional[Path]
    """the agent's file"""


def check_agent(path: Path) -> list[str]:
    """The problems of the agent in the file `path`, each with its remedy; an empty list for an agent without any."""
    if path.suffix != ".py" or not path.is_file():
        return [f"{path} is no Python file: give the path of the agent's file"]
    if path.stem in sys.stdlib_module_names:
        return [f"{path.name} has the name of a module of the standard library: rename the file"]
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}: correct the syntax"]
    problems = check_source(tree)
    try:
        module = load_agent(path)
    except UsageError as error:
        return [*problems, str(error)]
    except Exception as error:
        return [*problems, f"the file cannot be imported: {type(error).__name__}: {error}: correct the import"]
    problems += check_contract(module, tree)
    # What follows calls the file's functions, and would only repeat what is wrong with them.
    return problems or check_run(module)


def check_source(tree: ast.Module) -> list[str]:
    """What can be seen without importing the file."""
    problems = []
    if not ast.get_docstring(tree):
        problems.append("there is no docstring: name the paper, and what differs from it, in the file's first lines")
    guards = [node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
    if not guards:
        problems.append('there is no main guard: end with `if __name__ == "__main__": run_program(train, Args)`')
    return problems


def check_contract(module: ModuleType, tree: ast.Module) -> list[str]:
    """Whether `Args`, `train` and `load_policy` are what the harness expects."""
    if not dataclasses.is_dataclass(module.Args):
        return ["Args is no dataclass: write @dataclasses.dataclass above it"]
    problems = []
    fields = {field.name: field for field in dataclasses.fields(module.Args)}
    needed = NEEDED | ({"resume": "bool = True, which toolbox.Run reads"} if hasattr(module, "Run") else {})
    for name, remedy in needed.items():
        if name not in fields:
            problems.append(f"Args has no {name}: add {name}: {remedy}")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"Args.{name} has no default: give one, for a matrix sets only what differs")
    problems += [f"Args.{name} has no help: put a string below it" for name in undocumented(tree)]
    if len(inspect.signature(module.train).parameters) != 1:
        problems.append("train takes other than one argument: define train(args: Args) -> Path")
    if not hasattr(module, "load_policy"):
        problems.append("there is no load_policy: without load_policy(folder, device) the agent is run, but not ranked")
    elif list(inspect.signature(module.load_policy).parameters)[:2] != ["folder", "device"]:
        problems.append("load_policy takes other arguments: define load_policy(folder, device)")
    return problems


def undocumented(tree: ast.Module) -> list[str]:
    """The fields of `Args` that no string follows."""
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Args"), [])
    strings = [isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body]
    fields = [(node.target.id, place) for place, node in enumerate(body) if is_field(node)]  # type: ignore[attr-defined]
    return [name for name, place in fields if place + 1 == len(body) or not strings[place + 1]]


def is_field(node: ast.stmt) -> bool:
    """Whether a statement of a class declares a field."""
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)


def check_run(module: ModuleType) -> list[str]:
    """Call `train` for no steps, in a folder that is removed, and look at what it leaves."""
    with tempfile.TemporaryDirectory() as scratch:
        args = module.Args(total_steps=0, runs=scratch)
        env_id = getattr(args, "env_id", "CarlaNoCrash-v0")
        keywords = parse_keywords(getattr(args, "env_args", ()))
        try:
            envs = gym.make_vec(env_id, num_envs=2, **keywords)
        except Exception as error:
            return [f"the environment {env_id} cannot be made: {error}: correct env_id and env_args"]
        try:
            if not isinstance(envs.single_action_space, gym.spaces.Box) or envs.single_action_space.shape != (2,):
                return []  # What only drives can be asked to drive.
            return check_folder(module, args, envs)
        finally:
            envs.close()


def check_folder(module: ModuleType, args: Any, envs: gym.vector.VectorEnv) -> list[str]:
    """What is wrong with the folder that `train` leaves, and with the policy in it."""
    stem = Path(str(module.__file__)).stem
    try:
        folder, again = (quietly(module.train, args) for _ in range(2))
    except Exception as error:
        return [f"train(Args(total_steps=0)) raises {type(error).__name__}: {error}: it has to leave a run's folder"]
    if not isinstance(folder, Path):
        return [f"train returns {folder!r}: return the run's folder, a Path"]
    if again != folder:
        return [f"train returns {again} for the flags of {folder}: a run that is done is found again, not repeated"]
    problems = []
    try:
        read_training(folder)
    except UsageError as error:
        return [str(error).replace(str(folder), "the run's folder")]
    agent = json.loads((folder / "config.json").read_text("utf-8")).get("agent")
    if agent != stem:
        problems.append(f'config.json has "agent": {agent!r}: give the file\'s name, {stem!r}')
    try:
        policy = module.load_policy(folder, "cpu")
        if isinstance(policy, Watcher):
            return problems
        observations, _ = envs.reset(seed=0)
        actions, same = policy(observations), policy(observations)
    except Exception as error:
        return [*problems, f"load_policy(folder, device) and its policy raise {type(error).__name__}: {error}"]
    if not isinstance(actions, np.ndarray) or actions.shape != (2, 2) or actions.dtype != np.float32:
        shape = getattr(actions, "shape", type(actions).__name__)
        problems.append(f"the policy returns {shape} for a batch of 2: return actions float32 [N, 2]")
    elif not np.isfinite(actions).all() or np.abs(actions).max() > 1:
        problems.append("the policy returns actions outside [-1, 1]: clip them")
    elif not np.array_equal(actions, same):
        problems.append("the policy returns different actions for the same observations: leave exploration out")
    return problems


def quietly(function: Any, *arguments: Any) -> Any:
    """What `function` returns; what it prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)


@verb("check-agent")
def main(args: Args) -> tuple[dict[str, Any], int]:
    """Print the problems of a file; exit code 1 if there are any."""
    problems = check_agent(args.file)
    show(*(problems or [f"{args.file}: no problem found"]))
    return {"problems": problems}, int(bool(problems))
