"""What RLS3's runs came to: scores against samples and iterations, by term and by complexity, as pictures and tables.

    python -m mentorgym.benchmarks.spatial_curves --name spatial --run runs/UnitySpatial-v0/rls3__seed*

Runs with the same flags but for the seed are one line, named after the flags that differ or by `--label`. Written are
`<name>.png`, `<name>.csv` with a line for each iteration of each run, and `<name>.md`. The panels are those of RLS3's
figures 5 to 9: the test's headline score (a VLM's mean on the rubric, a CLIP's two-way accuracy) against the samples
generated, invalid ones included, and against iterations; the same by the terms of captions and by their number; how
many captions had each term; the share of valid moves; the loss of all fine-tunings, one behind the other; validation,
with each run's best iteration marked. Thin lines are runs; thick ones the mean over seeds, from three seeds on with its
95 % bootstrap interval. Between two tests of a run a score against samples is taken to lie on a straight line.
"""

import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mentorgym.agents.toolbox.runs import SPATIAL_TERMS, describe_start, write_atomically
from mentorgym.benchmarks.cli import UsageError, command_line, import_matplotlib, run_command, show
from mentorgym.benchmarks.curves import group, read_run
from mentorgym.benchmarks.leaderboard import markdown_table
from mentorgym.benchmarks.statistics import SEEDS_FOR_INTERVAL, mean_interval

HEADLINES = {"score": "score, 1 to 5", "two_way": "two-way accuracy"}
"""The scores that runs are told by, the first that they have."""

COMPLEXITY = ("terms_1", "terms_2", "terms_3")

GRID = 41
"""Points of a mean against samples."""


@dataclass
class Args:
    """Flags of the command."""

    run: tuple[Path, ...]
    """folders of RLS3's runs: the seeds of each variant, finished or not"""
    name: str = "spatial"
    """name of the files"""
    label: tuple[str, ...] = ()
    """names of the variants in the order in which their runs are given; by default told by their flags"""
    output: Path = Path("results/spatial")
    """folder for them"""
    json: bool = False
    """print one JSON object instead of the table"""


@dataclass(frozen=True)
class History:
    """What a run has logged: its iterations, its episodes, and the loss of each update of its model."""

    seed: int
    headline: str
    iterations: list[dict[str, float]]
    valid: list[tuple[float, float]]
    """samples generated and share of valid moves, by episode"""
    losses: list[float]

    def scores(self, split: str, name: str = "") -> list[tuple[float, float, float]]:
        """(iteration, samples generated, score) wherever `split` was measured; `name` is the headline by default."""
        key = f"{split}/{name or self.headline}"
        rows = [row for row in self.iterations if key in row]
        return [(row["sampling/iteration"], row["sampling/generated"], row[key]) for row in rows]


def read_history(folder: Path) -> History:
    """The history of a run's folder; UsageError for what is no run of RLS3."""
    config, lines = read_run(folder)
    iterations = [line for line in lines if "sampling/iteration" in line]
    headline = next((name for name in HEADLINES for line in iterations if f"test/{name}" in line), None)
    if headline is None:
        raise UsageError(f"{folder} has logged no test of a model yet: give folders of rls3's runs")
    # Steps of a loop are counted from where its pre-training has ended.
    start = iterations[0]["step"]
    episodes = [line for line in lines if "episode/length" in line]
    valid = [(line["step"] - start, line["sampling/valid"]) for line in episodes]
    losses = [line["loss/tuning"] for line in lines if "loss/tuning" in line]
    return History(config["seed"], headline, iterations, valid, losses)


def against_samples(histories: Sequence[History]) -> tuple[np.ndarray, np.ndarray]:
    """Samples float [GRID], as far as every run has come, and the headline in the test there, float [runs, GRID]."""
    points = [history.scores("test") for history in histories]
    grid = np.linspace(0, min(each[-1][1] for each in points), GRID)
    return grid, np.array([np.interp(grid, [x for _, x, _ in each], [y for *_, y in each]) for each in points])


def by_iteration(histories: Sequence[History], split: str, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Iterations float [I] that every run has measured, and the scores there, float [runs, I]."""
    points = [{where: value for where, _, value in history.scores(split, name)} for history in histories]
    shared = sorted(set.intersection(*(set(each) for each in points)))
    return np.array(shared, float), np.array([[each[where] for where in shared] for each in points])


def bounds(values: np.ndarray) -> tuple[float, float]:
    """The interval of the mean of a value of each seed; NaN for too few seeds."""
    return mean_interval(values) if len(values) >= SEEDS_FOR_INTERVAL else (math.nan, math.nan)


def draw_lines(axes: Any, x: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """Each run of `values` [runs, X] thinly, their mean thickly, its interval as a band."""
    for row in values:
        axes.plot(x, row, color=colour, alpha=0.35, linewidth=0.8)
    axes.plot(x, values.mean(0), color=colour, linewidth=1.8, label=label)
    low, high = zip(*(bounds(column) for column in values.T), strict=True)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def draw_bars(axes: Any, names: Sequence[str], number: int, count: int, values: np.ndarray, colour: str) -> None:
    """The means of `values` [runs, names] as the `number`-th of `count` bars of each name, with their intervals."""
    width = 0.8 / count
    places = np.arange(len(names)) + (number - (count - 1) / 2) * width
    means = values.mean(0)
    ends = np.array([bounds(column) for column in values.T]).T
    axes.bar(places, means, width, color=colour, yerr=np.abs(ends - means), error_kw={"linewidth": 1})
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=30)


def last_test(history: History, names: Sequence[str], first: bool = False) -> list[float]:
    """The headline of the last test, or of the first, over captions of each kind; NaN where it has none."""
    row = [row for row in history.iterations if f"test/{history.headline}" in row][0 if first else -1]
    return [row.get(f"test/{name}", math.nan) for name in names]


def counts(history: History, names: Sequence[str]) -> list[float]:
    """How many captions of each kind the model has learned from."""
    rows = [row for row in history.iterations if "sampling/left" in row]
    return [rows[-1][f"sampling/{name}"] if rows else 0.0 for name in names]


def draw(agents: Mapping[str, Sequence[History]], title: str, path: Path) -> None:
    """Write the panels as a PNG."""
    matplotlib = import_matplotlib("a picture of curves")
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = matplotlib.figure.Figure(figsize=(13.6, 8.4), layout="constrained")
        grid = figure.subplots(3, 3).ravel()
        headline = HEADLINES[next(iter(agents.values()))[0].headline]
        for number, (agent, histories) in enumerate(agents.items()):
            colour, count = f"C{number}", len(agents)
            draw_lines(grid[0], *against_samples(histories), colour, agent)
            draw_lines(grid[1], *by_iteration(histories, "test"), colour, agent)
            draw_lines(grid[2], *by_iteration(histories, "validation"), colour, agent)
            for history in histories:
                best = max(history.scores("validation"), key=lambda each: each[2])
                grid[2].plot(best[0], best[2], "o", color=colour, markersize=4)
                x, y = zip(*history.valid, strict=True) if history.valid else ((), ())
                grid[6].plot(x, y, color=colour, alpha=0.5, linewidth=0.8)
                grid[7].plot(history.losses, color=colour, alpha=0.5, linewidth=0.5)
            after = np.array([last_test(history, SPATIAL_TERMS) for history in histories])
            draw_bars(grid[3], SPATIAL_TERMS, number, count, after, colour)
            for style, name in zip(("-", "--", ":"), COMPLEXITY, strict=True):
                iterations, values = by_iteration(histories, "test", name)
                if len(iterations):
                    grid[4].plot(iterations, values.mean(0), style, color=colour, label=name.replace("_", " "))
            learned = np.array([counts(history, SPATIAL_TERMS) for history in histories])
            draw_bars(grid[5], SPATIAL_TERMS, number, count, learned, colour)
        before = np.array([last_test(each, SPATIAL_TERMS, first=True) for own in agents.values() for each in own])
        grid[3].plot(range(len(SPATIAL_TERMS)), before.mean(0), "_", color="black", markersize=24, zorder=3)
        lowest = np.nanmin(before) if headline == HEADLINES["score"] else 0.0
        grid[3].set_ylim(max(0.0, lowest - 0.5), None)
        titles = (
            ("test", "samples generated", headline),
            ("test", "iterations", headline),
            ("validation; dots: each run's best", "iterations", headline),
            ("test at the end, by term; lines: at the start", "", headline),
            ("test by the number of terms, 1 -, 2 --, 3 :", "iterations", headline),
            ("captions learned from, by term", "", ""),
            ("valid moves of an episode", "samples generated", "share"),
            ("fine-tuning, one behind the other", "updates", "loss"),
        )
        for axes, (heading, across, up) in zip(grid, titles, strict=False):
            axes.set(title=heading, xlabel=across, ylabel=up)
        grid[8].set_axis_off()
        handles, labels = grid[0].get_legend_handles_labels()
        grid[8].legend(handles, labels, frameon=False, loc="center")
        figure.suptitle(title)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def csv_of(agents: Mapping[str, Sequence[History]]) -> str:
    """A line for each iteration of each run, with all that it has logged."""
    rows = [(agent, each.seed, row) for agent, own in agents.items() for each in own for row in each.iterations]
    columns = sorted({name for *_, row in rows for name in row if name.split("/")[0] in ("validation", "test")})
    columns = ["sampling/iteration", "sampling/generated", *columns, *(f"sampling/{name}" for name in SPATIAL_TERMS)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("agent", "seed", *columns))
    for agent, seed, row in rows:
        writer.writerow((agent, seed, *(f"{row[name]:.6g}" if name in row else "" for name in columns)))
    return file.getvalue()


def told(values: Sequence[float]) -> str:
    """A mean over seeds, with its interval where there are enough of them."""
    low, high = bounds(np.array(values))
    return f"{np.mean(values):.3f}" + (f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) else "")


def tables(agents: Mapping[str, Sequence[History]]) -> list[str]:
    """The tables of the page: what each variant came to, by term, and by the number of terms."""
    header = ["sampler", "seeds", "samples", "valid", "iterations", "start", "end", "best validation"]
    lines = []
    for agent, own in agents.items():
        tests = [history.scores("test") for history in own]
        valid = [np.average([y for _, y in each.valid], weights=_lengths(each)) for each in own if each.valid]
        lines.append(
            [
                agent,
                str(len(own)),
                f"{np.mean([each[-1][1] for each in tests]):,.0f}",
                f"{np.mean(valid):.1%}" if valid else "-",
                f"{np.mean([each[-1][0] for each in tests]):.1f}",
                told([each[0][2] for each in tests]),
                told([each[-1][2] for each in tests]),
                told([max(score for *_, score in each.scores("validation")) for each in own]),
            ]
        )
    text = [markdown_table(header, lines)]
    for names in (SPATIAL_TERMS, COMPLEXITY):
        rows = []
        for agent, own in agents.items():
            start, end = (np.array([last_test(each, names, first) for each in own]).mean(0) for first in (True, False))
            learned = np.array([counts(each, names) for each in own]).mean(0)
            cells = zip(start, end, learned, strict=True)
            rows.append([agent, *(f"{one:.3f} to {other:.3f} ({count:,.0f})" for one, other, count in cells)])
        text.append(markdown_table(["sampler", *(name.replace("_", " ") for name in names)], rows))
    return text


def _lengths(history: History) -> np.ndarray:
    """Samples of each episode."""
    return np.diff([0.0, *(generated for generated, _ in history.valid)])


def read_agents(folders: Sequence[Path], labels: Sequence[str]) -> dict[str, list[History]]:
    """The runs of each variant by its name; UsageError where names or scores do not fit."""
    groups = group({folder: read_run(folder)[0] for folder in folders})
    if labels and len(labels) != len(groups):
        raise UsageError(f"{len(labels)} labels for {len(groups)} variants: {'; '.join(groups)}")
    agents = {
        label: [read_history(folder) for folder in own]
        for label, own in zip(labels or groups, groups.values(), strict=True)
    }
    if len({history.headline for own in agents.values() for history in own}) > 1:
        raise UsageError("runs of a VLM and of a CLIP have different scores: draw them apart")
    return agents


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the command line by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = tyro.cli(Args, args=arguments, prog="spatial_curves", description=__doc__)

    def job() -> dict[str, Any]:
        agents = read_agents(args.run, args.label)
        headline = HEADLINES[next(iter(agents.values()))[0].headline]
        args.output.mkdir(parents=True, exist_ok=True)
        paths = {kind: args.output / f"{args.name}.{kind}" for kind in ("png", "csv", "md")}
        draw(agents, f"{args.name}: {headline}", paths["png"])
        write_atomically(paths["csv"], csv_of(agents))
        start, command = describe_start(), command_line("spatial_curves", arguments)
        summary, *rest = tables(agents)
        notes = (
            f"Scores are the test's {headline}; brackets: 95 % bootstrap interval of the seeds' mean. In the tables "
        )
        notes += "by term: at the start, at the end, and how many captions with it were learned from, mean of a run."
        made = f"Written by `{command}` at commit {start['commit'] or 'unknown'} on {start['time'][:10]}."
        page = [f"# RLS3: {args.name}", "", made, "", notes, "", summary, *rest]
        write_atomically(paths["md"], "\n".join([*page, f"![curves]({paths['png'].name})", ""]))
        if not args.json:
            show(summary, f"written: {', '.join(map(str, paths.values()))}")
        ends = {agent: [each.scores("test")[-1][2] for each in own] for agent, own in agents.items()}
        return {"outputs": [str(path) for path in paths.values()], "ends": ends}

    run_command("spatial_curves", job, args.json)


if __name__ == "__main__":
    main()
