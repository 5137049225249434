"""A matrix of training runs, read from a TOML file: agents x environments x seeds.

    seeds = [1, 2, 3]

    [defaults]                       # flags of every agent that has them
    total_steps = 40_000

    [agents.sac]                     # what the table holds are flags
    [agents.sac_vmr_expert]
    agent = "sac_vmr"                # whose file it is: a name, or a path; by default the table's name
    seeds = [1]                      # in place of the matrix's
    mentor = "expert"

    [environments.regular]
    env_id = "CarlaNoCrash-v0"
    env_args = ["town=Suburb", "traffic=regular"]
    evaluate = { town = ["Suburb", "Village"], traffic = ["regular"] }   # flags of `evaluate`; or suite = "nocrash"

A flag of an agent's table wins over one of its environment's, and that over the defaults. An agent without the flags
that tell environments apart, as a trainer is, has one run for each seed.
"""

import contextlib
import dataclasses
import io
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro

from mentorgym.benchmarks.families import measure_of
from mentorgym.benchmarks.harness.agents import load_agent
from mentorgym.benchmarks.harness.cells import Cell
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.tables import as_arguments
from mentorgym.files import read_text
from mentorgym.names import nearest_name

MATRICES = Path(__file__).parents[1] / "matrices"
"""The matrices that come with the package."""

KEYS = ("seeds", "defaults", "agents", "environments")
NO_FLAGS = ("agent", "seeds")
"""Keys of an agent's table that are not its flags."""

Flags = dict[str, Any]


def find_matrix(name: str) -> Path:
    """The file of a matrix given by its path or, for those of the package, by its name."""
    shipped = {path.stem: path for path in MATRICES.glob("*.toml")}
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise UsageError(f"no file {name}: give a matrix by its path, or one of ours: {', '.join(sorted(shipped))}")
    return path


def require_table(value: Any, where: str) -> dict[str, Any]:
    """`value` if it is a table; raises UsageError otherwise."""
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {value!r}, not a table, as in [{where}]")
    return value


def check_names(names: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise UsageError for the first of `names` that is not `known`."""
    for name in names:
        if name not in known:
            raise UsageError(f"{where} has no {name!r}: {nearest_name(name, list(known))}")


def parse(args_type: type, arguments: Sequence[str], where: str, default: Any = None) -> Any:
    """`arguments` as an instance of the dataclass `args_type`; raises UsageError for values that do not fit."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(args_type, args=list(arguments), default=default)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    except SystemExit:
        words = re.sub(r"[^\x20-\x7e]+", " ", output.getvalue())
        raise UsageError(f"{where}: {re.sub(r' {2,}', ' ', words).strip()}") from None


def check_seeds(seeds: Any, where: str) -> list[int]:
    """`seeds` if they are different whole numbers; raises UsageError otherwise."""
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UsageError(f"{where} are {seeds!r}, not different whole numbers in a list")
    return seeds


def flag_names(module: ModuleType) -> list[str]:
    """Names of the flags of an agent; `preset` is one where the agent has presets."""
    names = [field.name for field in dataclasses.fields(module.Args)]
    return [*names, "preset"] if hasattr(module, "PRESETS") else names


def agent_args(module: ModuleType, flags: Mapping[str, Any], where: str, more: Sequence[str] = ()) -> Any:
    """An agent's `Args` for `flags` and `more` of a command line, as the agent's own command line makes them."""
    default = None
    if preset := flags.get("preset"):
        check_names([preset], list(module.PRESETS), f"{where}: the presets")
        default = module.Args(**module.PRESETS[preset])
    own = {name: value for name, value in flags.items() if name != "preset"}
    return parse(module.Args, [*as_arguments(own), *more], where, default)


def read_matrix(path: Path, overrides: Mapping[str, Any] | None = None) -> list[Cell]:
    """The cells of the matrix at `path`: all of the first seed, environment by environment, then those of the next.

    `overrides` are flags that win over the file's in every agent that has them. Raises UsageError, before anything is
    run, for unknown keys, agents and flags, naming the nearest known one, and for values of the wrong type.
    """
    try:
        matrix = tomllib.loads(read_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    try:
        return make_cells(matrix, dict(overrides or {}))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def make_cells(matrix: Mapping[str, Any], overrides: Flags) -> list[Cell]:
    """The cells of the content of a matrix's file; see `read_matrix`."""
    check_names(matrix, KEYS, "the file")
    if missing := [key for key in ("seeds", "agents", "environments") if not matrix.get(key)]:
        raise UsageError(f"{missing[0]} is missing, or empty")
    seeds = check_seeds(matrix["seeds"], "seeds")
    agents = {
        name: require_table(table, f"agents.{name}")
        for name, table in require_table(matrix["agents"], "agents").items()
    }
    environments = {
        name: require_table(table, f"environments.{name}")
        for name, table in require_table(matrix["environments"], "environments").items()
    }
    seeds_of = {name: check_seeds(table.get("seeds", seeds), f"agents.{name}.seeds") for name, table in agents.items()}
    defaults = require_table(matrix.get("defaults", {}), "defaults")
    modules = {name: load_agent(str(table.get("agent", name))) for name, table in agents.items()}
    every_flag = sorted({flag for module in modules.values() for flag in flag_names(module)})
    check_names(defaults, every_flag, "defaults: the agents' flags")
    check_names(overrides, every_flag, "--set: the agents' flags")
    for name, table in environments.items():
        check_names(table, [*every_flag, "evaluate"], f"environments.{name}: the agents' flags")
        tasks = measure_of(str(table.get("env_id", ""))).Tasks
        evaluation = require_table(table.get("evaluate", {}), f"environments.{name}.evaluate")
        check_names(evaluation, [field.name for field in dataclasses.fields(tasks)], f"environments.{name}.evaluate")
        parse(tasks, as_arguments(evaluation), f"environments.{name}.evaluate")
    cells: dict[tuple[str, ...], Cell] = {}
    for seed in dict.fromkeys(seed for own in (seeds, *seeds_of.values()) for seed in own):
        for environment, place in environments.items():
            for name, table in agents.items():
                if seed not in seeds_of[name]:
                    continue
                names = flag_names(modules[name])
                own = {flag: value for flag, value in table.items() if flag not in NO_FLAGS}
                check_names(own, names, f"agents.{name}: {table.get('agent', name)}")
                shared = {flag: value for flag, value in {**defaults, **place}.items() if flag in names}
                forced = {flag: value for flag, value in overrides.items() if flag in names}
                flags = {**shared, **own, **forced, "seed": seed}
                arguments = as_arguments(flags)
                args = agent_args(modules[name], flags, f"agents.{name}")
                env_id = str(getattr(args, "env_id", ""))
                measure = measure_of(str(place.get("env_id", "")))
                evaluation = place.get("evaluate", {})
                trainer = not hasattr(modules[name], "load_policy")
                where = {"env": place["env_id"] if trainer and measure.RANKS_TRAINERS else env_id}
                where = {} if "suite" in evaluation else where
                ranked = not trainer or measure.RANKS_TRAINERS
                cells.setdefault(
                    (name, *arguments),
                    Cell(
                        f"{name}__{environment}__seed{seed}",
                        str(table.get("agent", name)),
                        env_id,
                        seed,
                        tuple(arguments),
                        args,
                        tuple(as_arguments(where | evaluation)) if ranked else None,
                    ),
                )
    return list(cells.values())


def shard(cells: Sequence[Cell], part: str) -> list[Cell]:
    """The i-th of n parts of `cells`, for `part` "i/n" with i from 1 to n; every cell is in one part."""
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {part}: not i/n with i from 1 to n, as in 1/4")
    return list(cells[number - 1 :: count])
