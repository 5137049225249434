"""Evaluate drivers on enumerated episodes, one row for each.

    mentorgym evaluate --driver expert --town Suburb Village --traffic empty regular
    mentorgym evaluate --run runs/CarlaNoCrash-v0/sac__seed1__0123abcd
    mentorgym evaluate --driver expert --suite leaderboard

Every combination of town, traffic, weather, route and seed is driven once, in the task's `split="test"`; or exactly the
episodes that a suite names (`mentorgym.envs.driving.task.suites`). The environment's seed for an episode is
1000 * seed + route, whoever drives, so that all drivers meet the same traffic.

The rows (`benchmarks.harness.rows`) go to `--output`, else to the run's `eval.jsonl`, else to
`runs/rows/<driver>__<env>.jsonl`; a row that is already there for the same episode is replaced.

Fields of a row: `town`, `seen` (whether the driver may have trained there), `traffic`, `weather`, `route`, `seed`, and
`score`, what the environment reports at the episode's end.

Other families of environments have flags of their own, as in `mentorgym evaluate --env BddOia-Caption-v0 --help`.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from rich.table import Table

from mentorgym.agents.toolbox.runs import parse_keywords
from mentorgym.benchmarks.driving.drivers import Driver, load_drivers
from mentorgym.benchmarks.families import Row
from mentorgym.benchmarks.harness.agents import run_name
from mentorgym.benchmarks.harness.command import UsageError, progress_bars, user_input
from mentorgym.benchmarks.harness.rows import add_rows, default_file, make_header, read_rows
from mentorgym.benchmarks.harness.tables import choose_columns, driver_and_seed, group_rows, text_table
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.task.energy import RATES
from mentorgym.envs.driving.task.score import COUNTS, aggregate
from mentorgym.envs.driving.task.suites import find_suite, read_suite
from mentorgym.envs.driving.task.tasks import LEADERBOARD, NOCRASH

FIELDS: dict[str, tuple[type, ...]] = {
    "town": (str,),
    "seen": (bool,),
    "traffic": (str,),
    "weather": (str,),
    "route": (int,),
    "seed": (int,),
}

KEY = ("town", "traffic", "weather", "route", "seed")

EPISODE = KEY

CELL = ("town", "traffic")

RANKS_TRAINERS = False

GROUP = ("driver", "training_seed", "town", "traffic")
"""What a line of the table stands for."""

SCORES = ("driving_score", "success", "strict_success", "route_completion", "infractions_per_km")
"""The scores that tables show by default; `infractions_per_km` counts every kind, other collisions too."""

MORE_SCORES = (
    "success_found_rl",
    "driving_score_2_1",
    "infraction_penalty",
    "infraction_penalty_2_1",
    "return",
    "mean_speed",
    *RATES,
    *(f"{name}_per_km" for name in COUNTS),
    "outside_km",
    "wrong_lane_km",
    "completed_km",
    "seconds",
    "reward_per_step",
    "metres_per_step",
    "replies_parsed",
)
"""Scores for whoever asks; rows of an earlier version lack some, and only `vlm_driver` reads replies."""

REQUIRED = ("driving_score", "route_completion", "success", "strict_success", "completed_km")
"""Scores that every row has; the environment decides on the rest, and rows of an earlier version have fewer."""

TRAINING_TOWNS = {
    "CarlaNoCrash-v0": ("Suburb", "Town01"),
    "CarlaLeaderboard-BEV-v0": (*LEADERBOARD.train_towns, "Town01", "Town03", "Town04", "Town06"),
}
"""The towns that a driver trained on an environment has seen, unless its flags name others; NoCrash's for any other
environment."""


@dataclass
class Tasks:
    """The episodes to drive, and with how many at a time."""

    suite: str | None = None
    """nocrash, leaderboard, or a file like theirs, in place of env, town, traffic, weather, routes and seeds"""
    env: str = "CarlaNoCrash-v0"
    """environment id, with `module:` before it where a module of yours registers it"""
    town: tuple[str, ...] = ("Suburb", "Village")
    """towns: ours, names in MENTORGYM_MAPS, or paths to .xodr"""
    traffic: tuple[str, ...] = ("regular",)
    """traffic levels: empty, regular, dense, busy"""
    weather: tuple[str, ...] = ("train_eval",)
    """weather groups or presets"""
    routes: tuple[int, ...] = ()
    """numbers of the routes in each town; all of them if none is given"""
    route_file: str | None = None
    """file with other routes than the town's own"""
    seeds: tuple[int, ...] = (0,)
    """seeds of the episodes; each drives every route once more, in other traffic"""
    num_envs: int = 25
    """episodes driven at the same time"""


@dataclass
class Args(Tasks):
    """Evaluate drivers on enumerated episodes."""

    driver: str = ""
    """random, expert, an agent's name, or the path of its file; by default the agent that trained the run"""
    run: tuple[Path, ...] = ()
    """folders of finished training runs, each evaluated in turn"""
    name: str = ""
    """name on the table; by default the driver's"""
    device: str = "cpu"
    """torch device of the policy"""
    output: Path | None = None
    """file for the rows"""
    columns: tuple[str, ...] = SCORES
    """scores that the table shows, by name; `all` shows every one"""


@dataclass(frozen=True)
class Cell:
    """Episodes that one vector environment can run: they differ in route and seed alone."""

    town: str
    traffic: str
    weather: str


@dataclass(frozen=True)
class Episode:
    """One drive along a route of its cell."""

    route: int
    seed: int

    @property
    def env_seed(self) -> int:
        """What the environment is seeded with."""
        return 1000 * self.seed + self.route


def cells(tasks: Tasks) -> list[Cell]:
    """Every cell of `tasks`."""
    return [Cell(*names) for names in itertools.product(tasks.town, tasks.traffic, tasks.weather)]


def episodes(tasks: Tasks, num_routes: int, problems: Mapping[int, str]) -> list[Episode]:
    """Every episode of a cell of `tasks` whose town has `num_routes` routes, `problems` says which are no use."""
    for route in tasks.routes:
        if not 0 <= route < num_routes:
            raise UsageError(f"no route {route}: there are {num_routes}, counted from 0")
        if route in problems:
            raise UsageError(f"route {route} cannot be driven: {problems[route]}")
    # A number given twice is still one episode.
    routes = dict.fromkeys(tasks.routes or (route for route in range(num_routes) if route not in problems))
    return [Episode(route, seed) for seed in dict.fromkeys(tasks.seeds) for route in routes]


def rounds(tasks: Tasks) -> list[tuple[Tasks, Cell, list[Episode] | None]]:
    """Every cell of `tasks` with the environment to drive it in, and its episodes where a suite names them."""
    if tasks.suite is None:
        return [(tasks, cell, None) for cell in cells(tasks)]
    names = ("env", "town", "traffic", "weather", "routes", "seeds")
    if named := [name for name in names if getattr(tasks, name) != getattr(Tasks(), name)]:
        raise UsageError(f"--suite names every episode: leave out --{named[0]}")
    with user_input():
        suite = read_suite(find_suite(tasks.suite), tasks.route_file)
    queues: dict[tuple[str, Cell], list[Episode]] = {}
    for line in suite:
        cell = Cell(line.town, line.traffic, line.weather)
        queues.setdefault((line.env, cell), []).append(Episode(line.route, line.seed))
    most = {key: min(tasks.num_envs, len(queue)) for key, queue in queues.items()}
    return [(replace(tasks, env=key[0], num_envs=most[key]), key[1], queue) for key, queue in queues.items()]


def make_envs(tasks: Tasks, cell: Cell, observation: str) -> DrivingVectorEnv:
    """The vector environment of `cell`, in which the caller restarts what has ended."""
    if tasks.num_envs < 1:
        raise UsageError(f"--num-envs {tasks.num_envs}: at least 1 episode is driven at a time")
    rows = min(tasks.num_envs, len(tasks.routes) * len(tasks.seeds) or tasks.num_envs)
    with user_input():
        envs = gym.make_vec(
            tasks.env,
            num_envs=rows,
            autoreset_mode=gym.vector.AutoresetMode.DISABLED,
            split="test",
            routes=tasks.route_file,
            observation=observation,
            copy=False,
            **asdict(cell),
        )
    return cast(DrivingVectorEnv, envs.unwrapped)


def entry(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """Row `row` of a dict of arrays with masks, Gymnasium's form of batched infos, as plain Python values."""
    return {
        name: values[row].item() if isinstance(values[row], np.generic) else values[row]
        for name, values in infos.items()
        if not name.startswith("_") and infos[f"_{name}"][row]
    }


def drive(
    driver: Driver, envs: DrivingVectorEnv, queue: Sequence[Episode], report: Callable[..., None]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    """Drive every episode of `queue` and yield each with its score as it ends.

    `report(completed=...)` hears after every step how many episodes are done, those under way counted by their share.
    """
    waiting = iter(queue)
    current = [next(waiting, None) for _ in range(envs.num_envs)]
    done = 0
    begins = np.ones(envs.num_envs, bool)
    while any(current):
        if begins.any():
            # All rows are stepped together, so one that has nothing left to do drives on, unrecorded.
            driven = [episode or queue[0] for episode in current]
            for row in np.flatnonzero(begins).tolist():
                driver.start(row, driven[row].env_seed)
            routes = np.array([episode.route for episode in driven])
            observations, _ = envs.reset(
                seed=[episode.env_seed for episode in driven], options={"route": routes, "reset_mask": begins}
            )
        observations, _, terminated, truncated, infos = envs.step(driver.act(envs, observations))
        begins = terminated | truncated
        for row in np.flatnonzero(begins).tolist():
            if episode := current[row]:
                yield episode, entry(infos["score"], row) | driver.report(row)
                current[row] = next(waiting, None)
                done += 1
        busy = np.array([episode is not None for episode in current]) & ~begins
        report(completed=done + float(infos["route_completion"][busy].sum()))


def required_scores(row: Row) -> Sequence[str]:
    """Scores that a row has to have."""
    return REQUIRED


def environment_defaults(env: str) -> Mapping[str, Any]:
    """The town of a benchmark that has one to train in."""
    towns = {"CarlaNoCrash-v0": NOCRASH.train_towns}.get(env.split(":")[-1], ())
    return {"town": towns[0]} if len(towns) == 1 else {}


def name_of(driver: Driver, env: str) -> str:
    """The name of a driver on the table of `env`: if trained, with the flags that differ from its agent's defaults."""
    if (training := driver.training) is None:
        return driver.name
    trained_in = str(training.args.get("env_id", ""))
    return run_name(driver.name, training.flags, {"env_id": env.split(":")[-1], **environment_defaults(trained_in)})


def evaluate(
    driver: Driver, name: str, tasks: Tasks, command: str, output: Path
) -> tuple[list[Row], dict[tuple[str, int], str]]:
    """Drive every episode of `tasks`, showing progress, and add the rows to `output`, cell by cell.

    Returns the rows and, by town and number, why routes are left out.
    """
    if output.exists():
        read_rows(output)
    training = driver.training
    keywords = parse_keywords(tuple(training.args.get("env_args", ()))) if training else {}
    named = keywords.get("town")
    towns = (named,) if isinstance(named, str) else named
    parts = rounds(tasks)
    header = make_header("", "embedded", name or name_of(driver, parts[0][0].env), training, command)
    rows: list[Row] = []
    left_out: dict[tuple[str, int], str] = {}
    with progress_bars("{task.completed:.1f}/{task.total} episodes") as progress:
        for part, cell, listed in parts:
            env = part.env.split(":")[-1]
            trained_on = training.args.get("env_id", env).split(":")[-1] if training else env
            seen = TRAINING_TOWNS.get(trained_on, TRAINING_TOWNS["CarlaNoCrash-v0"]) if towns is None else towns
            envs = make_envs(part, cell, driver.observation)
            try:
                problems = envs.route_problems
                queue = episodes(tasks, envs.num_routes, problems) if listed is None else listed
                if listed is None and not tasks.routes:
                    for route, problem in problems.items():
                        if (cell.town, route) not in left_out:
                            print(f"mentorgym: route {route} is left out: {problem}", file=sys.stderr, flush=True)
                        left_out[cell.town, route] = problem
                label = f"{header['driver']}: {cell.town}, {cell.traffic} traffic"
                report = functools.partial(progress.update, progress.add_task(label, total=len(queue)))
                where = header | {"env": env} | asdict(cell) | {"seen": cell.town in seen}
                finished = [
                    where | asdict(episode) | {"score": score} for episode, score in drive(driver, envs, queue, report)
                ]
            finally:
                envs.close()
            add_rows(output, finished)
            rows += finished
    return rows, left_out


def summaries(rows: Sequence[Row], group: Sequence[str] = GROUP) -> list[dict[str, Any]]:
    """The scores of each `group` of `rows` with equal fields, in the order in which they first appear.

    What `score.aggregate` makes of the episodes, and `infractions_per_km`: those of every kind, other collisions too,
    over all kilometres driven.
    """
    lines = []
    for key, own in group_rows(rows, group).items():
        means = aggregate([row["score"] for row in own])
        infractions = sum(means[f"{name}_per_km"] for name in COUNTS)
        lines.append(dict(zip(group, key, strict=True)) | means | {"infractions_per_km": infractions})
    return lines


def heading(name: str) -> str:
    """The score called `name` in words."""
    return name.replace("_2_1", " 2.1").replace("_found_rl", " Found-RL").replace("_", " ")


def in_digits(name: str, value: float | None) -> str:
    """The score called `name` as a table shows it: shares of episodes in percent, "-" where there is none."""
    if value is None:
        return "-"
    if "success" in name:
        return f"{value:.1%}"
    if name.startswith(("cell_current", "fuel_rate")):
        return f"{value:.3g}"
    return f"{value:.1f}" if name in ("return", "steps", "seconds") else f"{value:.3f}"


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """`rows` as `mentorgym evaluate --json` prints them: a cell for each driver, training seed, town and traffic."""
    return {"cells": summaries(rows)}


def summary(rows: Sequence[Row], args: Args) -> Table:
    """`rows` for the terminal, with the scores `args.columns`."""
    columns = choose_columns(args.columns, (*SCORES, *MORE_SCORES))
    header = ["driver", "town", "traffic", *(heading(name).replace(" ", "\n") for name in ("episodes", *columns))]
    cells = [
        [
            driver_and_seed(line),
            line["town"],
            line["traffic"],
            str(line["episodes"]),
            *(in_digits(name, line.get(name)) for name in columns),
        ]
        for line in summaries(rows)
    ]
    return text_table(header, cells, 3)


def measure(args: Args, command: str) -> tuple[list[Row], list[Path], dict[str, Any]]:
    """Drive all episodes with all drivers that `args` name; returns the rows, the files that they went to, and
    `routes_left_out`, the town, number and problem of each route that cannot be driven."""
    choose_columns(args.columns, (*SCORES, *MORE_SCORES))
    rows: list[Row] = []
    outputs = []
    left_out: dict[tuple[str, int], str] = {}
    for driver in load_drivers(args.driver, args.run, args.device):
        output = args.output or default_file(driver.training, args.name or driver.name, rounds(args)[0][0].env)
        driven, problems = evaluate(driver, args.name, args, command, output)
        rows += driven
        left_out |= problems
        outputs.append(output)
    routes = [{"town": town, "route": route, "problem": problem} for (town, route), problem in left_out.items()]
    return rows, outputs, {"routes_left_out": routes}
