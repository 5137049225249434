"""The leaderboard's section on driving: who drives best in a town and its traffic, and over whole suites.

A score is the mean over a training seed's episodes, then over the seeds; its spread is the sample standard deviation
over the seeds. From three seeds on, the driving score also comes as interquartile mean over the seeds with its 95 %
bootstrap interval; with fewer, as the seeds' values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentorgym.benchmarks.driving.measure import MORE_SCORES, SCORES, heading, in_digits, summaries
from mentorgym.benchmarks.driving.published import FOUND_RL_METRICS, PublishedTable, arrange, read_published
from mentorgym.benchmarks.families import Entry, Row
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.statistics import SEEDS_FOR_INTERVAL, bootstrap_interval, interquartile_mean
from mentorgym.benchmarks.harness.tables import PROVENANCE, markdown_table, provenance, spread

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
    *(f"{name}_std" for name in (*SCORES, *MORE_SCORES)),
    *PROVENANCE,
)

LEGEND = """
- driving score: route completion times infraction penalty, the mean over episodes, then over training seeds
- IQM or seeds: the interquartile mean over training seeds and its 95 % bootstrap interval, or each seed's driving score
- success: at least 99 % of the route's length and within 10 m of its end; strict: that, with no infraction
- driver: an agent with those of its training's flags that differ from the defaults

Every other score, that of leaderboard 2.1 among them, and the spread of each over training seeds are in
`driving/leaderboard.csv`.
"""

SUITES = """
## Whole suites, in the measures of Found-RL's tables 1 to 6

A row is a driver on all episodes of a suite: the mean over its training seeds ± their sample standard deviation. Counts
per kilometre are sums over all episodes divided by all kilometres. All rows of a table are of the same episodes.
"""

PUBLISHED = """
## Published, in another simulator

Cited from the papers, not ranked: measured in CARLA, in its towns, on other episodes. The line by line figures with
their notes are in `driving/published.csv`.
"""


def by_seed(rows: Sequence[Row], where: str) -> list[list[Row]]:
    """The rows of one line of a table by training seed; raises UsageError where the seeds cannot be compared."""
    groups: dict[int | None, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["training_seed"], []).append(row)
    first = None
    for seed, group in groups.items():
        runs = sorted({str(row["run"]) for row in group})
        if len(runs) > 1:
            raise UsageError(
                f"{where}: runs {' and '.join(runs)} have the same training seed {seed}; "
                "delete the rows of one, or evaluate it under another --name"
            )
        episodes = episodes_of(group)
        if first is not None and episodes != first:
            raise UsageError(
                f"{where}: training seed {seed} drove other episodes than another seed; evaluate both on the same ones"
            )
        first = episodes
    return list(groups.values())


def episodes_of(rows: Sequence[Row]) -> frozenset[tuple[Any, ...]]:
    """What tells the episodes of `rows` from others of the same environment."""
    return frozenset((row["town"], row["traffic"], row["weather"], row["route"], row["seed"]) for row in rows)


def statistics_of(rows: Sequence[Row], where: str, group: Sequence[str]) -> tuple[Entry, list[float]]:
    """Means and spreads of every score over the training seeds of `rows`, and each seed's driving score."""
    seeds = [summaries(each, group)[0] for each in by_seed(rows, where)]
    trained = rows[0]["training_seed"] is not None
    entry: Entry = {}
    for name in (*SCORES, *MORE_SCORES):
        values = [seed[name] for seed in seeds if seed.get(name) is not None]
        complete = len(values) == len(seeds)
        entry[name] = sum(values) / len(seeds) if complete else None
        entry[f"{name}_std"] = spread(values) if complete and trained else None
    return entry, [seed["driving_score"] for seed in seeds]


def make_entry(rows: Sequence[Row]) -> Entry:
    """The line of the table that `rows`, one driver's in one town and traffic, add up to."""
    first = rows[0]
    where = f"{first['driver']} in {first['town']}, {first['traffic']} traffic"
    entry, values = statistics_of(rows, where, ("driver", "training_seed", "town", "traffic"))
    entry |= {name: first[name] for name in ("env", "town", "seen", "traffic", "driver")}
    trained = first["training_seed"] is not None
    interval: tuple[float | None, ...] = (None, None, None)
    if trained and len(values) >= SEEDS_FOR_INTERVAL:
        interval = (float(interquartile_mean(values)), *bootstrap_interval([[value] for value in values]))
    names = ("driving_score_iqm", "driving_score_low", "driving_score_high")
    return (
        entry
        | dict(zip(names, interval, strict=True))
        | {"episodes": len(rows), "driving_score_by_seed": values if trained else []}
        | provenance(rows)
    )


def make_entries(rows: Sequence[Row]) -> list[Entry]:
    """The table: towns seen in training first, light traffic before heavy, and then the best driving score on top."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ("env", "town", "seen", "traffic", "driver")), []).append(row)

    def place(entry: Entry) -> tuple[Any, ...]:
        town = (not entry["seen"], entry["town"])
        return (entry["env"], *town, *traffic_place(entry["traffic"]), -entry["driving_score"], entry["driver"])

    return sorted((make_entry(group) for group in groups.values()), key=place)


def traffic_place(traffic: str) -> tuple[int, str]:
    """Light traffic before heavy, and levels of a user's own last."""
    known = traffic in TRAFFIC_ORDER
    return (TRAFFIC_ORDER.index(traffic) if known else len(TRAFFIC_ORDER), traffic)


def title(entry: Entry) -> str:
    """An environment has one table."""
    return str(entry["env"])


def group(entry: Entry) -> tuple[str, str, bool]:
    """A town and its traffic stand together."""
    return entry["town"], entry["traffic"], entry["seen"]


def in_words(entry: Entry, columns: Sequence[str] = ()) -> dict[str, str]:
    """The cells that a reader of the table sees, with the scores `columns` if there are any."""
    place = {
        "town": f"{entry['town']} ({'seen' if entry['seen'] else 'unseen'})",
        "traffic": entry["traffic"],
        "driver": entry["driver"],
    }
    if columns:
        return place | {heading(name): in_digits(name, entry[name]) for name in columns}
    values = " ".join(f"{value:.3f}" for value in entry["driving_score_by_seed"])
    if entry["driving_score_iqm"] is not None:
        low, high = entry["driving_score_low"], entry["driving_score_high"]
        values = f"{entry['driving_score_iqm']:.3f} [{low:.3f}, {high:.3f}]"
    return place | {
        "driving score": f"{entry['driving_score']:.3f}",
        "IQM or seeds": values or "-",
        "success": f"{entry['success']:.1%}",
        "strict": f"{entry['strict_success']:.1%}",
        "route completion": f"{entry['route_completion']:.3f}",
        "infractions/km": f"{entry['infractions_per_km']:.2f}",
        "episodes": str(entry["episodes"]),
        "training steps": entry["training_steps"] or "-",
        "seeds": str(entry["training_seeds"] or "-"),
    }


def suite_tables(rows: Sequence[Row]) -> dict[str, list[tuple[str, Entry]]]:
    """Drivers with their scores over whole suites by the suite's title: an environment's towns together, and each town.

    A suite is what all runs of some driver drove; every driver whose runs all drove that is in its table.
    """
    tables: dict[str, list[tuple[str, Entry]]] = {}
    for env in sorted({row["env"] for row in rows}):
        of_env = [row for row in rows if row["env"] == env]
        for town in ("", *sorted({row["town"] for row in of_env})):
            drivers: dict[str, dict[Any, list[Row]]] = {}
            for row in of_env:
                if town in ("", row["town"]):
                    drivers.setdefault(row["driver"], {}).setdefault(row["run"], []).append(row)
            shared = {
                driver: frozenset.intersection(*map(episodes_of, runs.values())) for driver, runs in drivers.items()
            }
            suites = {suite for suite in shared.values() if suite and (town or len({each[0] for each in suite}) > 1)}
            for suite in sorted(suites, key=lambda each: (suite_words(each), len(each))):
                entries = []
                for driver in (name for name, driven in shared.items() if suite <= driven):
                    own = [row for run in drivers[driver].values() for row in run if episodes_of([row]) <= suite]
                    entry, _ = statistics_of(own, f"{driver} on {env}", ("driver", "training_seed"))
                    entries.append((driver, entry))
                name = f"{env}: {suite_words(suite)}, {len(suite)} episodes"
                tables[name] = sorted(entries, key=lambda pair: (-pair[1]["driving_score"], pair[0]))
    return tables


def suite_words(episodes: frozenset[tuple[Any, ...]]) -> str:
    """The towns and the traffic of a suite."""
    towns = sorted({episode[0] for episode in episodes})
    levels = sorted({episode[1] for episode in episodes}, key=traffic_place)
    return f"{', '.join(towns)}; {', '.join(levels)} traffic"


def with_spread(name: str, entry: Entry) -> str:
    """A score and its spread over training seeds, as a table of a suite shows them."""
    value, deviation = in_digits(name, entry[name]), entry[f"{name}_std"]
    return value if deviation is None else f"{value} ± {in_digits(name, deviation)}"


def more(rows: Sequence[Row], folder: Path) -> str:
    """The tables over whole suites, and the published figures of `folder`, as Markdown."""
    text = ""
    for name, drivers in suite_tables(rows).items():
        lines = [[driver, *(with_spread(metric, entry) for metric in FOUND_RL_METRICS)] for driver, entry in drivers]
        text += f"\n### {name}\n\n" + markdown_table(["method", *FOUND_RL_METRICS.values()], lines)
    text = SUITES + text if text else ""
    tables = published_tables(folder)
    text += PUBLISHED if tables else ""
    for table in tables:
        text += f"\n### {table.title}\n\n{markdown_table(table.header, table.rows)}"
        text += "".join(f"\n- {note}" for note in table.notes) + "\n" * bool(table.notes)
    return text


def published_tables(folder: Path) -> list[PublishedTable]:
    """The published figures in a folder of results, none where there is no file of them."""
    path = folder / "published.csv"
    return arrange(read_published(path)) if path.is_file() else []
