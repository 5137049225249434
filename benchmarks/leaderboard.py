"""The leaderboard: a table of all evaluation rows, in the terminal and in a folder.

    mentorgym leaderboard
    mentorgym leaderboard --add my_agent.py --training-seeds 1 2 3 -- --total-steps 100000

The first command reads the published rows in `results/` and those in `runs/rows/`, and writes `leaderboard.md` and for
each family of environments `<family>/leaderboard.csv` into `runs/leaderboard/`; the same rows give the same bytes. The
page ends with figures of `results/driving/published.csv`, which are cited and not ranked. The second command also
trains an agent, unless its runs are done, and evaluates it; flags after `--` are the agent's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from mentorgym.agents.toolbox.runs import parse_keywords
from mentorgym.benchmarks.evaluate import environment_of
from mentorgym.benchmarks.families import FAMILIES, Entry, Family, Row, family_of, load_family
from mentorgym.benchmarks.harness.agents import load_agent, require_policy
from mentorgym.benchmarks.harness.command import (
    UsageError,
    command_line,
    csv_text,
    progress_console,
    show,
    user_input,
    verb,
    write_text,
)
from mentorgym.benchmarks.harness.matrix import parse
from mentorgym.benchmarks.harness.rows import COMMITTED, ROWS, file_name, read_folders
from mentorgym.benchmarks.harness.tables import as_arguments, choose_columns, markdown_table, terminal_table, text_table

INTRODUCTION = """# Leaderboard

Written by `mentorgym leaderboard` from evaluation rows. Square brackets hold 95 % bootstrap intervals over training
seeds.
"""


@dataclass
class Args:
    """Rank agents and models by their evaluation rows, or add an agent with --add."""

    rows: tuple[Path, ...] = (COMMITTED, ROWS)
    """folders of rows, *.jsonl, or of folders <family>/rows"""
    output: Path = Path("runs/leaderboard")
    """folder for leaderboard.md and <family>/leaderboard.csv"""
    add: str = ""
    """an agent's name or the path of its file, to be trained and evaluated"""
    training_seeds: tuple[int, ...] = (0,)
    """seeds to train the added agent with"""
    evaluate: tuple[str, ...] = ()
    """flags of `mentorgym evaluate` for the added agent, as in: town=Suburb traffic=dense"""
    add_to: Path = ROWS
    """folder for the rows of the added agent"""
    columns: tuple[str, ...] = ()
    """scores that the terminal's tables show, by name; `all` shows every one"""
    published: bool = False
    """show the published figures too, which are not ranked"""
    device: str = "cpu"
    """torch device of the added agent's policy"""


@dataclass(frozen=True)
class Ranked:
    """A family with its rows and the entries of its tables."""

    family: Family
    rows: list[Row]
    entries: list[Entry]

    @property
    def tables(self) -> dict[str, list[Entry]]:
        """The entries of each table by its title."""
        titles = dict.fromkeys(map(self.family.section.title, self.entries))
        return {title: [each for each in self.entries if self.family.section.title(each) == title] for title in titles}


def rank(rows: Sequence[Row]) -> list[Ranked]:
    """The families that `rows` are of."""
    ranked = []
    for name in FAMILIES:
        if own := [row for row in rows if family_of(row["env"]) == name]:
            family = load_family(name)
            ranked.append(Ranked(family, own, family.section.make_entries(own)))
    return ranked


def terminal_tables(ranked: Sequence[Ranked], columns: Sequence[str] = ()) -> list[Table]:
    """All tables for the terminal, with those of the scores `columns` that a family has."""
    known = {each.family.name: [*each.family.measure.SCORES, *each.family.measure.MORE_SCORES] for each in ranked}
    choose_columns(columns, list(dict.fromkeys(score for scores in known.values() for score in scores)))
    tables = []
    for each in ranked:
        section, scores = each.family.section, known[each.family.name]
        chosen = choose_columns([name for name in columns if name in ("all", *scores)], scores)

        def in_words(entry: Entry, section: Any = section, chosen: Sequence[str] = chosen) -> Mapping[str, str]:
            return section.in_words(entry, chosen)

        tables += [terminal_table(own, in_words, section.group, name) for name, own in each.tables.items()]
    return tables


def markdown(ranked: Sequence[Ranked], cited: Path) -> str:
    """The page: each family's tables, the runs behind them, the commands, and what else the families show.

    `cited` is the folder of results with the published figures in `<family>/`.
    """
    text = INTRODUCTION
    commands: dict[str, int] = {}

    def number(command: str) -> str:
        return str(commands.setdefault(command, len(commands) + 1)) if command else "-"

    for each in ranked:
        section = each.family.section
        for title, entries in each.tables.items():
            lines = [
                dict(section.in_words(entry))
                | {"commit": entry["commit"] or "-", "date": entry["date"] or "-", "command": number(entry["command"])}
                for entry in entries
            ]
            text += f"\n## {title}\n\n" + markdown_table([*lines[0]], [[*line.values()] for line in lines])
        text += section.LEGEND
    for each in ranked:
        text += each.family.section.more(each.rows, cited / each.family.name)
    runs = {entry["driver"]: entry["training_flags"] for each in ranked for entry in each.entries}
    if trained := {driver: flags for driver, flags in runs.items() if flags}:
        cells = [[driver, f"`{flags}`"] for driver, flags in sorted(trained.items())]
        text += "\n## Training flags that differ from the agents' defaults\n\n"
        text += markdown_table(["driver", "flags"], cells)
    text += "\n## Commands\n\n" + "".join(f"{index}. `{command}`\n" for command, index in commands.items())
    return text


def add_agent(args: Args, flags: Sequence[str]) -> None:
    """Train the agent `args.add` with each of the training seeds, and evaluate it into `args.add_to`."""
    module = load_agent(args.add)
    require_policy(module)
    name = Path(str(module.__file__)).stem
    with user_input("--evaluate: "):
        keywords = parse_keywords(args.evaluate)
    for seed in dict.fromkeys(args.training_seeds):
        progress_console.print(f"training {name}, seed {seed}")
        folder = Path(module.train(tyro.cli(module.Args, args=[*flags, "--seed", str(seed)], prog=name)))
        env = environment_of(folder) or str(keywords.get("env", ""))
        measure = load_family(family_of(env)).measure
        named = {"env": env} if env and "suite" not in keywords else {}
        given = (
            named | keywords | {"run": [folder], "device": args.device, "output": args.add_to / file_name(name, env)}
        )
        given |= {"driver": args.add} if args.add.endswith(".py") else {}
        arguments = as_arguments(given)
        measure.measure(parse(measure.Args, arguments, "--evaluate"), command_line("evaluate", arguments))


@verb("leaderboard")
def main(args: Args, flags: Sequence[str]) -> dict[str, Any]:
    """Rank all rows."""
    if args.add:
        add_agent(args, flags)
    elif flags:
        raise UsageError("flags after -- are those of an agent to train: name it with --add")
    ranked = rank(read_folders(args.rows))
    tables = terminal_tables(ranked, args.columns)
    cited = next((folder for folder in args.rows if (folder / "driving" / "published.csv").is_file()), COMMITTED)
    written = [args.output / "leaderboard.md"]
    write_text(written[0], markdown(ranked, cited))
    for each in ranked:
        written.append(args.output / each.family.name / "leaderboard.csv")
        write_text(written[-1], csv_text(each.entries, each.family.section.CSV_COLUMNS))
    show(*tables, f"written: {', '.join(map(str, written))}")
    if args.published:
        folders = {each.family: cited / each.family.name for each in ranked}
        published = [table for family, folder in folders.items() for table in family.section.published_tables(folder)]
        if not published:
            files = " or ".join(str(folder / "published.csv") for folder in folders.values())
            raise UsageError(f"no file {files}: it comes with the repository")
        for table in published:
            show(text_table([words.replace(" ", "\n") for words in table.header], table.rows, 1, table.title))
    entries = {each.family.name: each.entries for each in ranked}
    return {"families": entries, "outputs": [str(path) for path in written]}


if __name__ == "__main__":
    main()
