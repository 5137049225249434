"""The families of environments, and what each tells the commands, which know families by this table alone.

A family is a package with two modules: `measure`, how its agents and models are scored, and `section`, its part of the
leaderboard. A family from elsewhere needs its package on Python's path and a line in FAMILIES.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from rich.console import RenderableType

FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "driving": ("mentorgym.benchmarks.driving", ("CarlaNoCrash-v0", "CarlaLeaderboard-BEV-v0")),
    "captions": ("mentorgym.benchmarks.captions", ("BddOia-Caption-v0",)),
    "spatial": ("mentorgym.benchmarks.spatial", ("UnitySpatial-v0",)),
}
"""Package and environment ids of each family, in the leaderboard's order."""

DEFAULT = "driving"
"""The family of ids that none names: a variant of the driving environments that a user has registered."""

Row = dict[str, Any]
Entry = dict[str, Any]


class Measure(Protocol):
    """How agents and models of a family are scored."""

    FIELDS: Mapping[str, tuple[type, ...]]
    """Fields of a row, and their types, beside those of every row (`harness.rows`)."""
    KEY: tuple[str, ...]
    """Fields that tell rows of one driver and run apart; of two rows with equal ones the later counts."""
    EPISODE: tuple[str, ...]
    """Fields that tell episodes apart, whoever acts; none where a row is more than an episode."""
    CELL: tuple[str, ...]
    """The first fields of EPISODE: episodes that are alike in these are compared together too."""
    SCORES: Sequence[str]
    """Scores that tables show by default."""
    MORE_SCORES: Sequence[str]
    """All others."""
    RANKS_TRAINERS: bool
    """Whether the model of a trainer, an agent without `load_policy`, is scored."""
    Tasks: type
    """Dataclass of the flags that say what is scored; `env` is one of them."""
    Args: type
    """Dataclass of the flags of `mentorgym evaluate`: `Tasks` and `run`, `driver`, `name`, `device`, `output`."""

    def required_scores(self, row: Row) -> Sequence[str]:
        """Scores that this row has to have."""

    def environment_defaults(self, env: str) -> Mapping[str, Any]:
        """The environment's arguments that need not be named in the name of a run."""

    def measure(self, args: Any, command: str) -> tuple[list[Row], list[Path], dict[str, Any]]:
        """Score all that `args` name, and write the rows; returns the rows, the files, and what else the JSON object
        of the command holds."""

    def summarise(self, rows: Sequence[Row]) -> dict[str, Any]:
        """`rows` as `mentorgym evaluate --json` prints them."""

    def summary(self, rows: Sequence[Row], args: Any) -> RenderableType:
        """`rows` as a table for the terminal."""


class Section(Protocol):
    """A family's part of the leaderboard. An entry is a line of its tables, by the names of CSV_COLUMNS."""

    CSV_COLUMNS: Sequence[str]
    LEGEND: str
    """What the columns of the tables are, as Markdown."""

    def make_entries(self, rows: Sequence[Row]) -> list[Entry]:
        """The entries, in the order of the tables."""

    def title(self, entry: Entry) -> str:
        """What the table of an entry is about."""

    def group(self, entry: Entry) -> Any:
        """Entries of a table with equal values stand together, a line between them and the next."""

    def in_words(self, entry: Entry, columns: Sequence[str] = ()) -> dict[str, str]:
        """The cells of an entry by the headings of its table, with the scores `columns` if there are any."""

    def published_tables(self, folder: Path) -> Sequence[Any]:
        """Published figures that are shown and not ranked, read from `folder`; each with `title`, `header`, `rows`."""

    def more(self, rows: Sequence[Row], folder: Path) -> str:
        """What follows the family's tables, as Markdown; `folder` has the family's published figures."""


class Family(NamedTuple):
    """A family, loaded."""

    name: str
    measure: Measure
    section: Section


def family_of(env: str) -> str:
    """The name of the family of an environment's id, with or without a module before it."""
    name = env.split(":")[-1]
    return next((family for family, (_, ids) in FAMILIES.items() if name in ids), DEFAULT)


def load_family(name: str) -> Family:
    """The family called `name`."""
    package, _ = FAMILIES[name]
    measure, section = (importlib.import_module(f"{package}.{module}") for module in ("measure", "section"))
    return Family(name, cast(Measure, measure), cast(Section, section))


def measure_of(env: str) -> Measure:
    """How the agents of an environment are scored."""
    return load_family(family_of(env)).measure
