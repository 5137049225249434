"""Figures of the commands, as PNG: seeds as thin lines, their mean with its interval as a thick one."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import ArrayLike

from mentorgym.benchmarks.harness.command import user_input
from mentorgym.benchmarks.harness.statistics import seeds_interval
from mentorgym.extras import import_extra

Point = tuple[float, float, float, float]
"""Place on the x-axis, mean over seeds, and the bounds of its interval, NaN for too few seeds."""


def import_matplotlib() -> ModuleType:
    """matplotlib with its figures; UsageError that says what to install."""
    with user_input():
        matplotlib = import_extra("matplotlib", "plots", "a picture of curves")
        import_extra("matplotlib.figure", "plots", "a picture of curves")
    return matplotlib


@contextlib.contextmanager
def new_figure(
    path: Path, width: float, height: float, font_size: int = 9, dpi: int = 120, frames: bool = False
) -> Iterator[Any]:
    """A figure of this size in inches, its axes with or without `frames`, which is written to `path` at the end."""
    matplotlib = import_matplotlib()
    style = {"font.size": font_size, "axes.spines.top": frames, "axes.spines.right": frames}
    with matplotlib.rc_context(style):
        figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, dpi=dpi, metadata={"Software": None})


def means(points: Iterable[tuple[float, Sequence[float]]]) -> list[Point]:
    """The points of places on the x-axis and the values of seeds there."""
    return [(x, sum(values) / len(values), *(seeds_interval(values) or (math.nan, math.nan))) for x, values in points]


def draw_seeds(
    axes: Any,
    points: Sequence[Point],
    colour: str,
    label: str,
    runs: Iterable[tuple[ArrayLike, ArrayLike]] = (),
    band: float = 0.15,
    **style: Any,
) -> None:
    """Draw `runs`, each x and y, as thin lines, and `points` as a thick one, their intervals as a `band` that dense."""
    for x, y in runs:
        axes.plot(x, y, color=colour, alpha=0.35, linewidth=0.8)
    if points:
        steps, middle, low, high = zip(*points, strict=True)
        axes.plot(steps, middle, color=colour, label=label, **{"linewidth": 1.8, **style})
        axes.fill_between(steps, low, high, color=colour, alpha=band, linewidth=0)
