"""Published figures, cited from papers: shown beside the leaderboard, never ranked on it.

They come from CARLA, from its own towns and from episodes that are not ours: a scale to read our figures against, not
competitors. In `results/driving/published.csv` (`harness.published`) a metric is a score of ours by its name, or one of
OTHER_METRICS, and a spread is that over three training seeds.
"""

from pathlib import Path
from typing import NamedTuple

from mentorgym.benchmarks.harness.published import Figure, read_published

COLUMNS = ("paper", "table", "method", "benchmark", "metric", "value", "spread", "note")

FOUND_RL_METRICS = {
    "return": "return",
    "driving_score": "driving score",
    "infraction_penalty": "infraction penalty",
    "success_found_rl": "success",
    "route_completion": "route completion",
    "mean_speed": "speed m/s",
    "cell_current_found_rl": "cell current A",
    "fuel_rate_found_rl": "fuel kg/s",
    "walker_collisions_per_km": "walkers hit/km",
    "vehicle_collisions_per_km": "vehicles hit/km",
    "red_lights_per_km": "red lights/km",
}
"""The columns of Found-RL's tables 1 to 6 by our names, with headings."""

OTHER_METRICS = {"frames_per_second": "frames/s", "parameters_millions": "parameters M"}
"""What only papers measure."""


def read_figures(path: Path) -> list[Figure]:
    """The figures of the CSV file at `path`; see `harness.published.read_published`."""
    return read_published(path, COLUMNS, [*FOUND_RL_METRICS, *OTHER_METRICS])


class PublishedTable(NamedTuple):
    """Figures of one paper's table on one benchmark, arranged: a header, a row for each method, and notes."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def arrange(figures: list[Figure]) -> list[PublishedTable]:
    """The figures as tables, in the order of the file; what a paper leaves out is a dash."""
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.paper, figure.place, figure.benchmark), []).append(figure)
    tables = []
    for (paper, number, benchmark), group in groups.items():
        present = {figure.metric for figure in group}
        metrics = {name: words for name, words in (FOUND_RL_METRICS | OTHER_METRICS).items() if name in present}
        cells: dict[str, dict[str, str]] = {}
        notes: dict[str, list[str]] = {}
        for figure in group:
            value = f"{figure.value} ± {figure.spread}" if figure.spread else figure.value
            cells.setdefault(figure.method, {})[figure.metric] = value
            if figure.note and figure.method not in notes.setdefault(figure.note, []):
                notes[figure.note].append(figure.method)
        tables.append(
            PublishedTable(
                f"{paper}, table {number}: {benchmark}",
                ["method", *metrics.values()],
                [[method, *(own.get(name, "-") for name in metrics)] for method, own in cells.items()],
                [f"{', '.join(methods)}: {note}" for note, methods in notes.items()],
            )
        )
    return tables
