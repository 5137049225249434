"""Learning curves of RLS3's runs: scores against samples and iterations, by term and complexity, drawn and as tables.

    mentorgym spatial-curves --name spatial --run runs/UnitySpatial-v0/rls3__seed*

Runs with the same flags but for the seed are one variant, named after the flags in which it differs from most. Written
are `<name>.png`, `<name>.csv` with a line for each iteration of each run, and `<name>.md`, where variants are compared
with the first in the order of their names, `default` or `sampler random`. The panels are those of RLS3's figures 5 to
9: the test's headline score (a VLM's mean on the rubric, a CLIP's two-way accuracy) against the samples generated,
invalid ones included and those of the pre-training left out, and against iterations; the same by the terms of captions
and by their number; how many captions had each term; the share of valid moves; the loss of all fine-tunings, one behind
the other; validation, with each run's best iteration marked. Thin lines are runs; thick ones the mean over seeds, from
three seeds on with its 95 % bootstrap interval. Between two tests a score is taken to lie on a straight line.
"""

import csv
import io
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mentorgym.agents.toolbox.runs import NOT_HASHED, write_atomically
from mentorgym.benchmarks.curves import group, read_run
from mentorgym.benchmarks.harness.command import UsageError, made_by, output_files, show, verb
from mentorgym.benchmarks.harness.plots import draw_seeds, import_matplotlib, means, new_figure
from mentorgym.benchmarks.harness.statistics import SEEDS_FOR_INTERVAL, difference, seeds_interval
from mentorgym.benchmarks.harness.tables import markdown_table
from mentorgym.envs.spatial.metrics import SPATIAL_TERMS, in_words

HEADLINES = {"score": "score on the rubric, 1 to 5", "two_way": "two-way accuracy, chance 0.5"}
"""The scores that runs are told by, the first that they have."""

COMPLEXITY = ("terms_1", "terms_2", "terms_3")

NOTES = """\
Scores are {headline}: means over captions, then over seeds. Samples are all that were generated in the loop, invalid
ones included; the steps of SAC's pre-training, of which nothing is drawn, are not among them. The runs were tested last
after {fewest:,.0f} to {most:,.0f} samples, which is where their ends are compared. Brackets: 95 % bootstrap
interval of the seeds' mean, or of a difference of means; with three seeds it is rather too narrow. In the tables by
term: before all learning, at the end, and in parentheses how many captions with it a run has learned from, the mean.
"""

GRID = 41
"""Points of a mean against samples."""

WINDOW = 10
"""Updates whose mean loss is a point."""


@dataclass
class Args:
    """Flags of the command."""

    run: tuple[Path, ...]
    """folders of RLS3's runs: the seeds of each variant, finished or not"""
    name: str = "spatial"
    """name of the files"""
    output: Path = Path("runs/curves")
    """folder for them"""


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


def against_samples(own: Sequence[Sequence[tuple[float, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Samples float [GRID], as far as every run has come, and values there, float [runs, GRID].

    `own` has for each run what was measured: samples generated and value.
    """
    grid = np.linspace(0, min(each[-1][0] for each in own), GRID)
    return grid, np.array([np.interp(grid, [x for x, _ in each], [y for _, y in each]) for each in own])


def loss_by_window(histories: Sequence[History]) -> tuple[np.ndarray, np.ndarray]:
    """Updates float [U], as far as every run has come, and the mean loss of each WINDOW up to there, [runs, U]."""
    count = min(len(history.losses) for history in histories) // WINDOW
    losses = [np.reshape(history.losses[: count * WINDOW], (count, WINDOW)).mean(1) for history in histories]
    return WINDOW * (np.arange(count) + 1.0), np.array(losses)


def by_iteration(histories: Sequence[History], split: str, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Iterations float [I] that every run has measured, and the scores there, float [runs, I]."""
    points = [{where: value for where, _, value in history.scores(split, name)} for history in histories]
    shared = sorted(set.intersection(*(set(each) for each in points)))
    return np.array(shared, float), np.array([[each[where] for where in shared] for each in points])


def draw_lines(axes: Any, x: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """The runs of `values` [runs, X], thinly, and their mean."""
    draw_seeds(axes, means(zip(x, values.T, strict=True)), colour, label, [(x, row) for row in values])


def places_of(number: int, count: int) -> np.ndarray:
    """Where the `number`-th of `count` variants has its marks, by term."""
    return np.arange(len(SPATIAL_TERMS)) + 0.8 * ((number + 0.5) / count - 0.5)


def draw_marks(axes: Any, places: np.ndarray, before: np.ndarray, after: np.ndarray, colour: str) -> None:
    """Means of scores [runs, terms], hollow before all learning, full and with their intervals after it."""
    _, middle, *ends = np.array(means(zip(places, after.T, strict=True))).T
    axes.vlines(places, before.mean(0), middle, color=colour, linewidth=0.8, alpha=0.6)
    axes.plot(places, before.mean(0), "o", color=colour, markerfacecolor="white", markersize=4)
    axes.errorbar(places, middle, np.abs(ends - middle), fmt="o", color=colour, markersize=4.5, linewidth=2)


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
    matplotlib = import_matplotlib()
    with new_figure(path, 13.6, 8.8) as figure:
        grid = figure.subplots(3, 3).ravel()
        headline, count = HEADLINES[next(iter(agents.values()))[0].headline], len(agents)
        colours = matplotlib.colormaps["tab10" if count <= 10 else "tab20"].colors
        for number, (agent, histories) in enumerate(agents.items()):
            colour, places = colours[number % len(colours)], places_of(number, count)
            tests = [[each[1:] for each in history.scores("test")] for history in histories]
            draw_lines(grid[0], *against_samples(tests), colour, agent)
            draw_lines(grid[1], *by_iteration(histories, "test"), colour, agent)
            draw_lines(grid[2], *by_iteration(histories, "validation"), colour, agent)
            for history in histories:
                best = max(history.scores("validation"), key=lambda each: each[2])
                grid[2].plot(best[0], best[2], "o", color=colour, markersize=4)
            before, after = (
                np.array([last_test(each, SPATIAL_TERMS, first) for each in histories]) for first in (True, False)
            )
            draw_marks(grid[3], places, before, after, colour)
            for style, name in zip(("-", "--", ":"), COMPLEXITY, strict=True):
                iterations, values = by_iteration(histories, "test", name)
                grid[4].plot(iterations, values.mean(0), style, color=colour)
            learned = np.array([counts(history, SPATIAL_TERMS) for history in histories]).mean(0)
            grid[5].bar(places, learned, 0.8 / count, color=colour)
            if all(history.valid for history in histories):
                draw_lines(grid[6], *against_samples([history.valid for history in histories]), colour, agent)
            draw_lines(grid[7], *loss_by_window(histories), colour, agent)
        titles = (
            ("test rooms, against samples", "samples generated, invalid ones included", headline),
            ("test rooms, against iterations", "fine-tunings", headline),
            ("training rooms (validation); dots: each run's best", "fine-tunings", headline),
            ("test rooms, by term; hollow: before, full: at the end", "captions that have the term", headline),
            ("test rooms, by the number of terms", "fine-tunings", headline),
            ("captions learned from, by term", "captions that have the term", "captions, mean of a run"),
            ("valid moves of an episode", "samples generated, invalid ones included", "share"),
            ("fine-tuning, one after another", "updates of the model", f"loss, mean of {WINDOW} updates"),
        )
        for axes, (heading, across, up) in zip(grid, titles, strict=False):
            axes.set(title=heading, xlabel=across, ylabel=up)
        for place in (1, 2, 4):
            grid[place].xaxis.get_major_locator().set_params(integer=True)
        for place in (3, 5):
            grid[place].set_xticks(range(len(SPATIAL_TERMS)), [in_words(name) for name in SPATIAL_TERMS])
        line = matplotlib.lines.Line2D
        styles = [line([], [], color="black", linestyle=style) for style in ("-", "--", ":")]
        grid[4].legend(styles, [in_words(name) for name in COMPLEXITY], frameon=False, ncols=3, fontsize=8)
        grid[8].set_axis_off()
        handles, labels = grid[0].get_legend_handles_labels()
        counted = [f"{label}, {len(agents[label])} seed{'s' * (len(agents[label]) > 1)}" for label in labels]
        meaning = "thick: mean over seeds; thin: one seed\nband, bar: 95 % bootstrap interval of the mean"
        grid[8].legend(handles, counted, frameon=False, loc="center", title=meaning)
        figure.suptitle(title)


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


def in_digits(values: Sequence[float]) -> str:
    """A mean over seeds, with its interval where there are enough of them."""
    interval = seeds_interval(values)
    return f"{np.mean(values):.3f}" + (" [{:.3f}, {:.3f}]".format(*interval) if interval else "")


def over(values: Sequence[float], others: Sequence[float]) -> str:
    """By how much the mean over seeds is above that of others, with its interval where there are enough of both."""
    gap = difference(np.array(values)[:, None], np.array(others)[:, None], [0])
    known = min(len(values), len(others)) >= SEEDS_FOR_INTERVAL
    return f"{gap.mean:+.3f}" + (f" [{gap.low:+.3f}, {gap.high:+.3f}]" if known else "")


def tables(agents: Mapping[str, Sequence[History]]) -> list[str]:
    """The tables of the page: the scores of each variant, by term, and by the number of terms."""
    header = ["variant", "seeds", "samples", "valid", "fine-tunings", "test, start", "test, end", "best validation"]
    base = next(iter(agents))
    ends = {agent: [history.scores("test")[-1][2] for history in own] for agent, own in agents.items()}
    if len(agents) > 1:
        header.append(f"end, above {base}")
    lines = []
    for agent, own in agents.items():
        tests = [history.scores("test") for history in own]
        # Weighed by the samples of each episode.
        valid = [
            np.average([share for _, share in each.valid], weights=np.diff([0.0, *(count for count, _ in each.valid)]))
            for each in own
            if each.valid
        ]
        line = [
            agent,
            str(len(own)),
            f"{np.mean([each[-1][1] for each in tests]):,.0f}",
            f"{np.mean(valid):.1%}" if valid else "-",
            f"{np.mean([each[-1][0] for each in tests]):.1f}",
            in_digits([each[0][2] for each in tests]),
            in_digits(ends[agent]),
            in_digits([max(score for *_, score in each.scores("validation")) for each in own]),
        ]
        lines.append(line + [("-" if agent == base else over(ends[agent], ends[base]))] * (len(agents) > 1))
    text = [markdown_table(header, lines)]
    for names in (SPATIAL_TERMS, COMPLEXITY):
        rows = []
        for agent, own in agents.items():
            start, end = (np.array([last_test(each, names, first) for each in own]).mean(0) for first in (True, False))
            learned = np.array([counts(each, names) for each in own]).mean(0)
            cells = zip(start, end, learned, strict=True)
            rows.append([agent, *(f"{one:.3f} to {other:.3f} ({count:,.0f})" for one, other, count in cells)])
        text.append(markdown_table(["variant", *map(in_words, names)], rows))
    return text


def names_of(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Variants by the flags in which each differs from more than half of them; `default` for one that does in none.

    One alone is `rls3`.
    """
    if len(variants) == 1:
        return ["rls3"]

    def usual(name: str) -> Any:
        values = [json.dumps(flags.get(name)) for flags in variants]
        most = max(values, key=values.count)
        return json.loads(most) if 2 * values.count(most) > len(values) else ()

    flags = [name for name in dict.fromkeys(itertools.chain(*variants)) if name not in NOT_HASHED]
    names = [", ".join(f"{name} {one.get(name)}" for name in flags if one.get(name) != usual(name)) for one in variants]
    return [name or "default" for name in names]


def read_agents(folders: Sequence[Path]) -> dict[str, list[History]]:
    """The runs of each variant by its name, `default` first; UsageError where scores do not fit together."""
    configs = {folder: read_run(folder)[0] for folder in folders}
    groups = [*group(configs).values()]
    names = names_of([configs[own[0]]["args"] for own in groups])
    order = sorted(range(len(groups)), key=lambda place: (names[place] != "default", names[place]))
    agents = {names[place]: [read_history(folder) for folder in groups[place]] for place in order}
    if len({history.headline for own in agents.values() for history in own}) > 1:
        raise UsageError("runs of a VLM and of a CLIP have different scores: draw them apart")
    return agents


@verb("spatial-curves")
def main(args: Args, command: str) -> dict[str, Any]:
    """Draw the curves of the runs, and write their numbers and tables."""
    agents = read_agents(args.run)
    headline = HEADLINES[next(iter(agents.values()))[0].headline]
    picture, numbers, page = output_files(args.output, args.name, ".png", ".csv", ".md")
    draw(agents, f"RLS3, {args.name}: {headline}", picture)
    write_atomically(numbers, csv_of(agents))
    summary, *rest = tables(agents)
    last = [each.scores("test")[-1][1] for own in agents.values() for each in own]
    notes = NOTES.format(headline=headline, fewest=min(last), most=max(last))
    text = [f"# RLS3: {args.name}", "", made_by(command), "", notes, summary, *rest]
    write_atomically(page, "\n".join([*text, f"![curves]({picture.name})", ""]))
    outputs = [str(path) for path in (picture, numbers, page)]
    show(summary, f"written: {', '.join(outputs)}")
    ends = {agent: [each.scores("test")[-1][2] for each in own] for agent, own in agents.items()}
    return {"outputs": outputs, "ends": ends}
