"""The toy family's part of the leaderboard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentorgym.benchmarks.families import Entry, Row
from mentorgym.benchmarks.harness.tables import PROVENANCE, provenance

CSV_COLUMNS = ("env", "backend", "driver", "closeness", *PROVENANCE)
LEGEND = "\n- closeness: ten less the distance to the number\n"


def make_entries(rows: Sequence[Row]) -> list[Entry]:
    drivers: dict[str, list[Row]] = {}
    for row in rows:
        drivers.setdefault(row["driver"], []).append(row)
    entries = [
        {"env": own[0]["env"], "driver": driver, "closeness": sum(row["score"]["closeness"] for row in own) / len(own)}
        | provenance(own)
        for driver, own in drivers.items()
    ]
    return sorted(entries, key=lambda entry: -entry["closeness"])


def title(entry: Entry) -> str:
    return f"{entry['env']}: guesses"


def group(entry: Entry) -> str:
    return entry["env"]


def in_words(entry: Entry, columns: Sequence[str] = ()) -> dict[str, str]:
    return {"driver": entry["driver"], "closeness": f"{entry['closeness']:.2f}"}


def published_tables(folder: Path) -> Sequence[Any]:
    """None."""
    return ()


def more(rows: Sequence[Row], folder: Path) -> str:
    return ""
