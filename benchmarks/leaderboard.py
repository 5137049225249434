"""The leaderboard: a table of all evaluation rows, in the terminal and under `results/`.

    python -m mentorgym.benchmarks.leaderboard
    python -m mentorgym.benchmarks.leaderboard --add my_agent.py --training-seeds 1 2 3 -- --total-steps 100000

The first command reads the rows in `results/rows/` and writes `results/leaderboard.md` and `results/leaderboard.csv`;
the same rows give the same bytes. The page ends with the figures of `results/published.csv`, which are cited and not
ranked; `--published` shows them in the terminal too. The second command also trains an agent, unless its runs are done,
and evaluates it; flags after `--` are the agent's own.

Rows of captions and of rooms make tables of their own on the same page, and `results/leaderboard_captions.csv` and
`results/leaderboard_spatial.csv`.

A score is the mean over a training seed's episodes, then over the seeds. From three seeds on, the driving score also
comes as interquartile mean over the seeds with its 95 % bootstrap interval; with fewer, as the seeds' values.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.benchmarks.captions import measure as captions
from mentorgym.benchmarks.captions import section as caption_leaderboard
from mentorgym.benchmarks.driving.drivers import AgentDriver, load_agent, read_training, require_policy
from mentorgym.benchmarks.driving.measure import (
    MORE_SCORES,
    SCORES,
    Tasks,
    choose_columns,
    environment_of,
    evaluate,
    heading,
    in_digits,
    summarise,
)
from mentorgym.benchmarks.driving.published import FOUND_RL_METRICS, PublishedTable, arrange, read_published
from mentorgym.benchmarks.harness.command import UsageError, command_line, csv_text, progress_console, run_command, show
from mentorgym.benchmarks.harness.rows import ROWS, Row, has_captions, has_rooms, merge, read_rows
from mentorgym.benchmarks.harness.statistics import SEEDS_FOR_INTERVAL, bootstrap_interval, interquartile_mean
from mentorgym.benchmarks.spatial import measure as spatial
from mentorgym.benchmarks.spatial import section as spatial_leaderboard

TRAFFIC_ORDER = ("empty", "regular", "dense", "busy")

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
    *MORE_SCORES,
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

Every other score, that of leaderboard 2.1 among them, is in `leaderboard.csv`.
"""

PUBLISHED = """
## Published, in another simulator

Cited from the papers, not ranked: measured in CARLA, in its towns, on other episodes. The line by line figures with
their notes are in `published.csv`.
"""


@dataclass
class Args(Tasks):
    """Rank drivers by their evaluation rows, or add one with --add, which alone uses the flags on episodes."""

    rows: Path = ROWS
    """folder of the rows, *.jsonl"""
    output: Path = Path("results")
    """folder for leaderboard.md, leaderboard.csv and, where there are rows of them, leaderboard_captions.csv and
    leaderboard_spatial.csv"""
    add: str = ""
    """an agent's name or the path of its file, to be trained and evaluated"""
    training_seeds: tuple[int, ...] = (0,)
    """seeds to train the added agent with"""
    columns: tuple[str, ...] = ()
    """scores that the terminal's table shows, by name; `all` shows every one"""
    published: bool = False
    """show the published figures too, which are not ranked"""
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
    for name in (*SCORES, *MORE_SCORES):
        given = [seed[name] for seed in seeds if name in seed]
        entry[name] = sum(given) / len(seeds) if len(given) == len(seeds) else None
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


def in_words(entry: Entry, columns: Sequence[str] = ()) -> dict[str, str]:
    """The columns that a reader of the table sees; the scores `columns` where any are given."""
    place = {
        "town": f"{entry['town']} ({'seen' if entry['seen'] else 'unseen'})",
        "traffic": entry["traffic"],
        "driver": entry["driver"],
    }
    if columns:
        return place | {heading(name): in_digits(name, entry[name]) for name in columns}
    spread = " ".join(f"{value:.3f}" for value in entry["driving_score_by_seed"])
    if entry["driving_score_iqm"] is not None:
        low, high = entry["driving_score_low"], entry["driving_score_high"]
        spread = f"{entry['driving_score_iqm']:.3f} [{low:.3f}, {high:.3f}]"
    return place | {
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


def section_tables(section: ModuleType, entries: Sequence[Entry]) -> list[Table]:
    """The tables of a section of the page, captions' or rooms', for the terminal."""
    tables: dict[str, Table] = {}
    for entry in entries:
        name, words = section.title(entry), section.in_words(entry)
        if name not in tables:
            tables[name] = Table(title=name, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for heads in words:
                tables[name].add_column(heads.replace(" ", "\n"), justify="left" if heads == "driver" else "right")
        tables[name].add_row(*words.values())
    return [*tables.values()]


def terminal_table(entries: Sequence[Entry], columns: Sequence[str] = ()) -> Table:
    """The table for the terminal, with the scores `columns` where any are given."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for words in in_words(entries[0], columns):
        table.add_column(
            words.replace(" ", "\n"), justify="left" if words in ("town", "traffic", "driver") else "right"
        )
    previous = None
    for entry in entries:
        cell = (entry["env"], entry["town"], entry["traffic"])
        if previous not in (None, cell):
            table.add_section()
        previous = cell
        table.add_row(*in_words(entry, columns).values())
    return table


def published_table(table: PublishedTable) -> Table:
    """A table of cited figures for the terminal."""
    shown = Table(title=table.title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for words in table.header:
        shown.add_column(words.replace(" ", "\n"), justify="left" if words == "method" else "right")
    for row in table.rows:
        shown.add_row(*(cell.replace(" ± ", "±") for cell in row))
    return shown


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars inside the cells are escaped."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown(
    entries: Sequence[Entry],
    published: Sequence[PublishedTable] = (),
    described: Sequence[Entry] = (),
    rooms: Sequence[Entry] = (),
) -> str:
    """The page: the tables with the commands that made each line, Found-RL's measures of the same, cited figures."""
    text = "# Leaderboard\n\nWritten by `python -m mentorgym.benchmarks.leaderboard` from `results/rows/`.\n"
    commands: dict[str, int] = {}

    def made(entry: Entry) -> dict[str, str]:
        number = str(commands.setdefault(entry["command"], len(commands) + 1)) if entry["command"] else "-"
        return {"commit": entry["commit"] or "-", "date": entry["date"] or "-", "command": number}

    for env in dict.fromkeys(entry["env"] for entry in entries):
        own = [entry for entry in entries if entry["env"] == env]
        lines = [in_words(entry) | made(entry) for entry in own]
        text += f"\n## {env}\n\n" + markdown_table([*lines[0]], [[*line.values()] for line in lines])
        if measured := [entry for entry in own if all(entry[name] is not None for name in FOUND_RL_METRICS)]:
            header = ["town", "traffic", "driver", *FOUND_RL_METRICS.values()]
            rows = [[*in_words(entry, [*FOUND_RL_METRICS]).values()] for entry in measured]
            text += f"\n### {env} in the measures of Found-RL's tables\n\n" + markdown_table(header, rows)
    text += LEGEND if entries else ""
    sections: tuple[tuple[ModuleType, Sequence[Entry]], ...] = (
        (caption_leaderboard, described),
        (spatial_leaderboard, rooms),
    )
    for section, found in sections:
        for name in dict.fromkeys(map(section.title, found)):
            own = [entry for entry in found if section.title(entry) == name]
            lines = [section.in_words(entry) | made(entry) for entry in own]
            text += f"\n## {name}\n\n" + markdown_table([*lines[0]], [[*line.values()] for line in lines])
        text += section.LEGEND if found else ""
    text += "\n## Commands\n\n" + "".join(f"{number}. `{command}`\n" for command, number in commands.items())
    if published:
        text += PUBLISHED
    for table in published:
        text += f"\n### {table.title}\n\n{markdown_table(table.header, table.rows)}"
        text += "".join(f"\n- {note}" for note in table.notes) + "\n" * bool(table.notes)
    return text


def add_agent(args: Args, flags: Sequence[str], command: str) -> None:
    """Train the agent `args.add` with each of the training seeds, and evaluate it into the folder of rows."""
    module = load_agent(args.add)
    require_policy(module)
    name = Path(str(module.__file__)).stem
    for seed in dict.fromkeys(args.training_seeds):
        progress_console.print(f"training {name}, seed {seed}")
        folder = Path(module.train(tyro.cli(module.Args, args=[*flags, "--seed", str(seed)], prog=name)))
        if captions.is_of_captions(environment_of(folder)):
            output = args.rows / f"{name}__{captions.ENV}.jsonl"
            file = (args.add,) if args.add.endswith(".py") else ()
            captions.evaluate(captions.Args(run=(folder,), driver=file, device=args.device, output=output), command)
            continue
        if spatial.is_spatial(environment_of(folder)):
            output = args.rows / f"{name}__{spatial.ENV}.jsonl"
            spatial.evaluate(spatial.Args(run=(folder,), driver=name, device=args.device, output=output), command)
            continue
        driver = AgentDriver(name, module.load_policy(folder, args.device), read_training(folder))
        evaluate(driver, name, args, command, args.rows / f"{name}__{args.env.split(':')[-1]}.jsonl")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the command line by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    args = tyro.cli(Args, args=arguments[:split], prog="leaderboard", description=__doc__)
    flags = arguments[split + 1 :]

    def job() -> dict[str, Any]:
        columns = choose_columns(args.columns)
        if args.add:
            add_agent(args, flags, command_line("leaderboard", arguments))
        elif flags:
            raise UsageError("flags after -- are those of an agent to train: name it with --add")
        rows = read_folder(args.rows)
        entries = make_entries([row for row in rows if not (has_captions(row) or has_rooms(row))])
        described = caption_leaderboard.make_entries([row for row in rows if has_captions(row)])
        rooms = spatial_leaderboard.make_entries([row for row in rows if has_rooms(row)])
        cited = args.output / "published.csv"
        if args.published and not cited.is_file():
            raise UsageError(f"no file {cited}: it comes with the repository, beside the leaderboard")
        published = arrange(read_published(cited)) if cited.is_file() else []
        args.output.mkdir(parents=True, exist_ok=True)
        written = [args.output / "leaderboard.md", args.output / "leaderboard.csv"]
        write_atomically(written[0], markdown(entries, published, described, rooms))
        write_atomically(written[1], csv_text(entries, CSV_COLUMNS))
        shown = [terminal_table(entries, columns)] if entries else []
        sections = (("captions", caption_leaderboard, described), ("spatial", spatial_leaderboard, rooms))
        for name, section, found in sections:
            if found:
                written.append(args.output / f"leaderboard_{name}.csv")
                write_atomically(written[-1], csv_text(found, section.CSV_COLUMNS))
            shown += section_tables(section, found)
        cited_tables = [published_table(each) for each in published] if args.published else []
        show(*shown, f"written: {', '.join(map(str, written))}", *cited_tables)
        return {"entries": entries, "captions": described, "rooms": rooms, "outputs": [str(path) for path in written]}

    run_command("leaderboard", job, args.as_json)


if __name__ == "__main__":
    main()
