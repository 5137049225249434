"""The leaderboard: a table of all evaluation rows, in the terminal and under `results/`.

    python -m mentorgym.benchmarks.leaderboard
    python -m mentorgym.benchmarks.leaderboard --add my_agent.py --training-seeds 1 2 3 -- --total-steps 100000

The first command reads the rows in `results/rows/` and writes `results/leaderboard.md` and `results/leaderboard.csv`;
the same rows give the same bytes. The second also trains an agent, unless its runs are done, and evaluates it; flags
after `--` are the agent's own.

A score is the mean over a training seed's episodes, then over the seeds. From three seeds on, the driving score also
comes as interquartile mean over the seeds with its 95 % bootstrap interval; with fewer, as the seeds' values.
"""

import csv
import io
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.benchmarks.cli import UsageError, progress_console, run_command, show
from mentorgym.benchmarks.drivers import AgentDriver, load_agent, read_training, require_policy
from mentorgym.benchmarks.evaluate import ROWS, Tasks, evaluate, summarise
from mentorgym.benchmarks.rows import Row, merge, read_rows
from mentorgym.benchmarks.statistics import bootstrap_interval, interquartile_mean

TRAFFIC_ORDER = ("empty", "regular", "dense", "busy")

SEEDS_FOR_INTERVAL = 3

SCORES = ("driving_score", "success", "strict_success", "route_completion", "infractions_per_km")

CSV_COLUMNS = (
    "env",
    "backend",
    "town",
    "seen",
    "traffic",
    "driver",
    "episodes",
    *SCORES,
    "driving_score_iqm",
    "driving_score_low",
    "driving_score_high",
    "driving_score_by_seed",
    "training_seeds",
    "training_steps",
    "commit",
    "date",
    "command",
)

LEGEND = """
- driving score: route completion times infraction penalty, the mean over episodes, then over training seeds
- IQM or seeds: the interquartile mean over training seeds and its 95 % bootstrap interval, or each seed's driving score
- success: at least 99 % of the route's length and within 10 m of its end; strict: that, with no infraction
"""


@dataclass
class Args(Tasks):
    """Rank drivers by their evaluation rows, or add one with --add, which alone uses the flags on episodes."""

    rows: Path = ROWS
    """folder of the rows, *.jsonl"""
    output: Path = Path("results")
    """folder for leaderboard.md and leaderboard.csv"""
    add: str = ""
    """an agent's name or the path of its file, to be trained and evaluated"""
    training_seeds: tuple[int, ...] = (0,)
    """seeds to train the added agent with"""
    device: str = "cpu"
    """torch device of the added agent's policy"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """print one JSON object instead of the table"""


Entry = dict[str, Any]
"""One line of the table: what a driver scored in a town and traffic, by the names of CSV_COLUMNS."""


def read_folder(folder: Path) -> list[Row]:
    """All rows in the files of `folder`, in the order of their keys."""
    rows = merge(row for path in sorted(folder.glob("*.jsonl")) for row in read_rows(path))
    if not rows:
        raise UsageError(f"no rows in {folder}/*.jsonl: evaluate a driver first, or add an agent with --add")
    return rows


def by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of one line of the table by training seed; raises UsageError where the seeds cannot be compared."""
    groups: dict[int | None, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["training_seed"], []).append(row)
    where = f"{rows[0]['driver']} in {rows[0]['town']}, {rows[0]['traffic']} traffic"
    driven = None
    for seed, group in groups.items():
        runs = sorted({str(row["run"]) for row in group})
        if len(runs) > 1:
            raise UsageError(
                f"{where}: runs {' and '.join(runs)} have the same training seed {seed}; "
                "delete the rows of one, or evaluate it under another --name"
            )
        episodes = {(row["weather"], row["route"], row["seed"]) for row in group}
        if driven is not None and episodes != driven:
            raise UsageError(
                f"{where}: training seed {seed} drove other episodes than another seed; evaluate both on the same ones"
            )
        driven = episodes
    return list(groups.values())


def make_entry(rows: Sequence[Row]) -> Entry:
    """The line of the table that `rows`, one driver's in one town and traffic, add up to."""
    seeds = [summarise(group)[0] for group in by_seed(rows)]
    trained = rows[0]["training_seed"] is not None
    values = [seed["driving_score"] for seed in seeds]
    entry: Entry = {name: rows[0][name] for name in ("env", "town", "seen", "traffic", "driver")}
    for name in SCORES:
        entry[name] = sum(seed[name] for seed in seeds) / len(seeds)
    interval: tuple[float | None, ...] = (None, None, None)
    if trained and len(values) >= SEEDS_FOR_INTERVAL:
        column = [[value] for value in values]
        interval = (float(interquartile_mean(values)), *bootstrap_interval(column))
    dates = sorted({row["time"][:10] for row in rows})
    steps = sorted({row["training_steps"] for row in rows if trained})
    commits = {f"{row['commit'][:9]}{'+' if row['dirty'] else ''}" for row in rows if row["commit"]}
    return entry | {
        "backend": " ".join(sorted({row["backend"] for row in rows})),
        "episodes": len(rows),
        "driving_score_iqm": interval[0],
        "driving_score_low": interval[1],
        "driving_score_high": interval[2],
        "driving_score_by_seed": values if trained else [],
        "training_seeds": len(seeds) if trained else 0,
        "training_steps": " ".join(map(str, steps)),
        "commit": " ".join(sorted(commits)),
        "date": dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}",
        "command": "; ".join(sorted({row["command"] for row in rows})),
    }


def make_entries(rows: Sequence[Row]) -> list[Entry]:
    """The table: towns seen in training first, light traffic before heavy, and then the best driving score on top."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ("env", "town", "seen", "traffic", "driver")), []).append(row)

    def place(entry: Entry) -> tuple[Any, ...]:
        traffic = entry["traffic"]
        level = TRAFFIC_ORDER.index(traffic) if traffic in TRAFFIC_ORDER else len(TRAFFIC_ORDER)
        town = (not entry["seen"], entry["town"])
        return (entry["env"], *town, level, traffic, -entry["driving_score"], entry["driver"])

    return sorted((make_entry(group) for group in groups.values()), key=place)


def in_words(entry: Entry) -> dict[str, str]:
    """The columns that a reader of the table sees."""
    spread = " ".join(f"{value:.3f}" for value in entry["driving_score_by_seed"])
    if entry["driving_score_iqm"] is not None:
        low, high = entry["driving_score_low"], entry["driving_score_high"]
        spread = f"{entry['driving_score_iqm']:.3f} [{low:.3f}, {high:.3f}]"
    return {
        "town": f"{entry['town']} ({'seen' if entry['seen'] else 'unseen'})",
        "traffic": entry["traffic"],
        "driver": entry["driver"],
        "driving score": f"{entry['driving_score']:.3f}",
        "IQM or seeds": spread or "-",
        "success": f"{entry['success']:.1%}",
        "strict": f"{entry['strict_success']:.1%}",
        "route completion": f"{entry['route_completion']:.3f}",
        "infractions/km": f"{entry['infractions_per_km']:.2f}",
        "episodes": str(entry["episodes"]),
        "training steps": entry["training_steps"] or "-",
        "seeds": str(entry["training_seeds"] or "-"),
    }


def terminal_table(entries: Sequence[Entry]) -> Table:
    """The table for the terminal."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in in_words(entries[0]):
        table.add_column(
            heading.replace(" ", "\n"), justify="left" if heading in ("town", "traffic", "driver") else "right"
        )
    previous = None
    for entry in entries:
        cell = (entry["env"], entry["town"], entry["traffic"])
        if previous not in (None, cell):
            table.add_section()
        previous = cell
        table.add_row(*in_words(entry).values())
    return table


def markdown(entries: Sequence[Entry]) -> str:
    """The table as a page, with the commands that made each line."""
    text = "# Leaderboard\n\nWritten by `python -m mentorgym.benchmarks.leaderboard` from `results/rows/`.\n"
    commands: dict[str, int] = {}
    env = None
    for entry in entries:
        made = commands.setdefault(entry["command"], len(commands) + 1)
        columns = in_words(entry) | {"commit": entry["commit"] or "-", "date": entry["date"], "command": str(made)}
        if entry["env"] != env:
            env = entry["env"]
            text += f"\n## {env}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"
        text += f"| {' | '.join(value.replace('|', chr(92) + '|') for value in columns.values())} |\n"
    return (
        text
        + LEGEND
        + "\n## Commands\n\n"
        + "".join(f"{number}. `{command}`\n" for command, number in commands.items())
    )


def csv_text(entries: Sequence[Entry]) -> str:
    """The table as CSV, numbers to six decimals."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(map(cell, value))
        return f"{value:.6f}" if isinstance(value, float) else "" if value is None else str(value)

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([cell(entry[name]) for name in CSV_COLUMNS] for entry in entries)
    return file.getvalue()


def add_agent(args: Args, flags: Sequence[str], command: str) -> None:
    """Train the agent `args.add` with each of the training seeds, and evaluate it into the folder of rows."""
    module = load_agent(args.add)
    require_policy(module)
    name = Path(module.__file__).stem
    for seed in dict.fromkeys(args.training_seeds):
        progress_console.print(f"training {name}, seed {seed}")
        folder = Path(module.train(tyro.cli(module.Args, args=[*flags, "--seed", str(seed)], prog=name)))
        driver = AgentDriver(name, module.load_policy(folder, args.device), read_training(folder))
        evaluate(driver, name, args, command, args.rows / f"{name}__{args.env.split(':')[-1]}.jsonl")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the command line by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    args = tyro.cli(Args, args=arguments[:split], prog="leaderboard", description=__doc__)
    flags = arguments[split + 1 :]

    def job() -> dict[str, Any]:
        if args.add:
            add_agent(args, flags, shlex.join(["python", "-m", "mentorgym.benchmarks.leaderboard", *arguments]))
        elif flags:
            raise UsageError("flags after -- are those of an agent to train: name it with --add")
        entries = make_entries(read_folder(args.rows))
        args.output.mkdir(parents=True, exist_ok=True)
        written = [args.output / "leaderboard.md", args.output / "leaderboard.csv"]
        write_atomically(written[0], markdown(entries))
        write_atomically(written[1], csv_text(entries))
        show(terminal_table(entries), f"written: {', '.join(map(str, written))}")
        return {"entries": entries, "outputs": [str(path) for path in written]}

    run_command("leaderboard", job, args.as_json)


if __name__ == "__main__":
    main()
