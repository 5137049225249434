"""Published figures, cited from papers: shown beside the leaderboard, never ranked on it.

They come from CARLA, from its own towns and from episodes that are not ours: a scale to read our figures against, not
competitors. `results/driving/published.csv` has a line for each figure:

- `paper`, `table`, `method`, `benchmark`: where it stands and what was measured on what
- `metric`: a score of ours by its name, or one of OTHER_METRICS
- `value`, `spread`: as printed; the spread is what follows the paper's plus-minus sign, over three training seeds
- `note`: what else a reader should know
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.names import nearest_name

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


@dataclass(frozen=True)
class Figure:
    """One line of the file; `value` and `spread` are kept as they were printed."""

    paper: str
    table: int
    method: str
    benchmark: str
    metric: str
    value: str
    spread: str
    note: str


def _number(text: str, what: str) -> None:
    try:
        valid = math.isfinite(float(text))
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{what} is {text!r}, not a finite number")


def _figure(cells: list[str]) -> Figure:
    """The figure that a line's cells state; raises ValueError with what is wrong."""
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells, not {len(COLUMNS)}")
    paper, table, method, benchmark, metric, value, spread, note = cells
    for name, cell in zip(COLUMNS[:6], cells, strict=False):
        if not cell or cell != cell.strip():
            raise ValueError(f"{name} is {cell!r}: it is empty or has blanks around it")
    if not table.isdecimal():
        raise ValueError(f"table is {table!r}, not a number")
    if metric not in (known := [*FOUND_RL_METRICS, *OTHER_METRICS]):
        raise ValueError(f"unknown metric {metric!r}: {nearest_name(metric, known)}")
    _number(value, "value")
    if spread:
        _number(spread, "spread")
    return Figure(paper, int(table), method, benchmark, metric, value, spread, note)


def read_published(path: Path) -> list[Figure]:
    """The figures of the CSV file at `path`; raises UsageError with file, line and reason for what is none."""
    figures: dict[tuple[str, int, str, str, str], Figure] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            if tuple(header := next(reader, [])) != COLUMNS:
                raise ValueError(f"the header is {','.join(header)!r}, not {','.join(COLUMNS)!r}")
            for cells in reader:
                figure = _figure(cells)
                key = (figure.paper, figure.table, figure.method, figure.benchmark, figure.metric)
                if key in figures:
                    raise ValueError(f"a second {figure.metric} of {figure.method} in table {figure.table}")
                figures[key] = figure
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{path}:{max(reader.line_num, 1)}: {error}") from None
    return list(figures.values())


@dataclass(frozen=True)
class PublishedTable:
    """Figures of one paper's table on one benchmark, arranged: a header, a row for each method, and notes."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def arrange(figures: list[Figure]) -> list[PublishedTable]:
    """The figures as tables, in the order of the file; what a paper leaves out is a dash."""
    groups: dict[tuple[str, int, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.paper, figure.table, figure.benchmark), []).append(figure)
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
