"""Figures as papers print them, in a CSV file: shown beside ours, never ranked.

A line has `paper`, `place` (a table's number, or a section), `method`, `metric`, `value` as printed, and where they are
known `benchmark`, `spread` (what follows the plus-minus sign) and `note`, what else a reader should know.
"""

import csv
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.names import nearest_name

REQUIRED = ("paper", "table", "place", "method", "benchmark", "metric", "value")
"""Columns whose cells are not empty, where a file has them."""


class Figure(NamedTuple):
    """One line of the file; `value` and `spread` are as they were printed."""

    paper: str
    place: str
    method: str
    metric: str
    value: str
    benchmark: str = ""
    spread: str = ""
    note: str = ""

    @property
    def table(self) -> int:
        """The number of the paper's table."""
        return int(self.place)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.removesuffix("%")))
    except ValueError:
        return False


def _figure(cells: dict[str, str], metrics: Collection[str]) -> Figure:
    """The figure that a line's cells state; raises ValueError with what is wrong."""
    for name, cell in cells.items():
        if name in REQUIRED and (not cell or cell != cell.strip()):
            raise ValueError(f"{name} is {cell!r}: it is empty or has blanks around it")
        if name in ("value", "spread") and cell and not _is_number(cell):
            raise ValueError(f"{name} is {cell!r}, not a finite number")
    if not cells.get("table", "0").isdecimal():
        raise ValueError(f"table is {cells['table']!r}, not a number")
    if cells["metric"] not in metrics:
        raise ValueError(f"unknown metric {cells['metric']!r}: {nearest_name(cells['metric'], list(metrics))}")
    place = cells.pop("table", "") or cells.pop("place")
    return Figure(place=place, **cells)


def read_published(path: Path, columns: tuple[str, ...], metrics: Collection[str]) -> list[Figure]:
    """The figures of the CSV file at `path`, which has these columns, none where there is no file.

    Raises UsageError with file, line and reason for what is no figure of one of `metrics`, or one that is there twice.
    """
    if not path.is_file():
        return []
    figures: dict[tuple[str, ...], Figure] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            if tuple(header := next(reader, [])) != columns:
                raise ValueError(f"the header is {','.join(header)!r}, not {','.join(columns)!r}")
            for cells in reader:
                if len(cells) != len(columns):
                    raise ValueError(f"{len(cells)} cells, not {len(columns)}")
                figure = _figure(dict(zip(columns, cells, strict=True)), metrics)
                key = (figure.paper, figure.place, figure.method, figure.benchmark, figure.metric)
                if key in figures:
                    raise ValueError(f"a second {figure.metric} of {figure.method} in table {figure.place}")
                figures[key] = figure
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{path}:{max(reader.line_num, 1)}: {error}") from None
    return list(figures.values())
