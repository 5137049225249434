"""Text and tables in files of users, as other systems and spreadsheets write them."""

import codecs
import csv
import io
from pathlib import Path
from typing import NamedTuple

DELIMITERS = ",;\t"
"""What may separate the cells of a table: a comma, or what spreadsheets write where the comma is the decimal mark."""

_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, or what its byte-order mark says; every end of line becomes a newline.

    Raises ValueError, with the remedy, for another encoding.
    """
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not {error.encoding} text: save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path) -> str:
    """`decode` of a file; raises OSError where it cannot be read, and ValueError for another encoding."""
    return decode(path.read_bytes())


class TableRow(NamedTuple):
    """A row of a table with its line's number, from 1 on, and its cells by column.

    A row `is_whole` if it has as many cells as there are columns.
    """

    line: int
    cells: dict[str, str]
    is_whole: bool


class Table(NamedTuple):
    """A table with a header."""

    columns: list[str]
    rows: list[TableRow]
    delimiter: str


class TableError(ValueError):
    """A text that is no table."""


def read_table(text: str) -> Table:
    """The table in a text, its cells separated by whichever of DELIMITERS the header has most of.

    Lines without any content are left out, and so are empty cells behind the last column. A first line such as `sep=;`
    names the delimiter. Raises TableError, naming the line, for a column that occurs twice, and for what the CSV format
    does not allow.
    """
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first) == len("sep=;"):
        # Keeps the numbers of the lines.
        delimiter, text = first[-1], "\n" + rest
    else:
        header = next((line for line in text.split("\n") if line.strip()), "")
        delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: list[str] = []
    rows: list[TableRow] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            while cells and not cells[-1] and (not columns or len(cells) > len(columns) or not any(cells)):
                cells.pop()
            if not cells:
                continue
            if not columns:
                columns = cells
                if twice := sorted({name for name in columns if columns.count(name) > 1}):
                    raise TableError(f"line {reader.line_num}: the column {twice[0]!r} occurs twice")
            else:
                is_whole = len(cells) == len(columns)
                rows.append(TableRow(reader.line_num, dict(zip(columns, cells, strict=False)), is_whole))
    except csv.Error as error:
        raise TableError(f"line {reader.line_num}: {error}") from None
    return Table(columns, rows, delimiter)
