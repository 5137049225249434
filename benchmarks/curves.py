"""Draw learning curves of training runs, and keep their numbers.

    python -m mentorgym.benchmarks.curves --run runs/CarlaNoCrash-v0/ppo__seed*__2d03c0a1 --name ppo_regular

Writes `<name>.csv` and `<name>.png` into `--output`. Each row of the CSV sums up one seed's episodes that ended within
a window of steps: how many, their mean return, mean speed, and metres driven for each episode's end. On endless
training routes an episode ends with a failure, so the last are metres between failures. Parked cars fail seldom and
collect rewards at red lights; the speed tells them from good drivers.
"""

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from mentorgym.benchmarks.cli import UsageError, run_command, show

COLUMNS = ("seed", "step", "episodes", "return", "mean_speed", "metres_per_end")
PANELS = {
    "return": "return of an episode",
    "mean_speed": "mean speed, m/s",
    "metres_per_end": "metres between failures",
}


@dataclass
class Args:
    """Flags of the command."""

    run: tuple[Path, ...]
    """folders of training runs: the seeds of one agent with the same flags"""
    name: str
    """name of the files"""
    output: Path = Path("results/curves")
    """folder for them"""
    window: int = 20_000
    """environment steps that a point sums up"""
    json: bool = False
    """print one JSON object instead of a line of text"""


def read_curve(folder: Path, window: int) -> list[dict[str, float]]:
    """The rows of one run, in the order of COLUMNS; windows without an episode's end are left out.

    Raises UsageError for a folder that holds no run, or one of whose episodes none has ended.
    """
    try:
        seed = json.loads((folder / "config.json").read_text("utf-8"))["args"]["seed"]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is not the folder of a training run: {error}") from error
    kept: list[dict[str, Any]] = []
    for line in lines:
        # A resumed run takes the steps since its last checkpoint again.
        if kept and (line["step"] < kept[-1]["step"] or line.get("resumes") != kept[-1].get("resumes")):
            kept = [earlier for earlier in kept if earlier["step"] < line["step"]]
        kept.append(line)
    windows: dict[int, list[dict[str, Any]]] = {}
    for line in kept:
        if "episode/return" in line:
            windows.setdefault(math.ceil(line["step"] / window), []).append(line)
    if not windows:
        raise UsageError(f"{folder}: no episode has ended yet, so there is no curve")
    rows = []
    for number, episodes in sorted(windows.items()):
        count = len(episodes)
        steps = sum(line["episode/length"] for line in episodes)
        # An environment of somebody else's may log neither distance nor speed.
        metres = 1000 * sum(line.get("episode/completed_km", math.nan) for line in episodes)
        covered = sum(line.get("episode/mean_speed", math.nan) * line["episode/length"] for line in episodes)
        mean_return = sum(line["episode/return"] for line in episodes) / count
        values = (seed, number * window, count, mean_return, covered / steps, metres / count)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def draw(rows: Sequence[dict[str, float]], name: str, path: Path) -> None:
    """Write one panel for each of PANELS, a line for each seed, as a PNG."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(f'curves need {error.name}: pip install "mentorgym[plots]"') from error
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 3), layout="constrained")
        for axes, (column, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            for seed in dict.fromkeys(row["seed"] for row in rows):
                own = [row for row in rows if row["seed"] == seed]
                axes.plot([row["step"] for row in own], [row[column] for row in own], label=f"seed {seed:g}")
            axes.set(xlabel="environment steps", title=label, ylim=(min(0, axes.get_ylim()[0]), None))
        axes.legend(frameon=False)
        figure.suptitle(name)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the command line by default."""
    args = tyro.cli(Args, args=sys.argv[1:] if arguments is None else list(arguments), description=__doc__)

    def job() -> dict[str, Any]:
        if args.window < 1:
            raise UsageError(f"--window {args.window}: a point sums up at least 1 step")
        curves = [read_curve(folder, args.window) for folder in args.run]
        if len({curve[0]["seed"] for curve in curves}) < len(curves):
            raise UsageError("two runs have the same seed: name runs that differ in nothing but the seed")
        rows = [row for curve in curves for row in curve]
        args.output.mkdir(parents=True, exist_ok=True)
        table, picture = (args.output / f"{args.name}{suffix}" for suffix in (".csv", ".png"))
        draw(rows, args.name, picture)
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([f"{row[column]:.6g}" for column in COLUMNS] for row in rows)
        if not args.json:
            show(f"curves: {table}, {picture}")
        return {"table": str(table), "picture": str(picture)}

    run_command("curves", job, args.json)


if __name__ == "__main__":
    main()
