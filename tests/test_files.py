"""Text and tables as other systems and spreadsheets write them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.files import TableError, decode, read_table, read_text

ROWS = [["a", "b"], ["1", "x y"], ["2", 'say "no", twice'], ["3", "two\nlines"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_text_is_the_same_in_any_encoding_and_with_any_ends_of_line(tmp_path, encoding, end):
    path = tmp_path / "file"
    path.write_bytes(f"über{end}{end}Straße{end}".encode(encoding))
    assert read_text(path) == "über\n\nStraße\n"


def test_another_encoding_is_named_with_the_remedy():
    with pytest.raises(ValueError, match="byte 3 is not utf-8 text: save the file as UTF-8"):
        decode("abcü".encode("latin-1"))
    with pytest.raises(ValueError, match="byte 2 is not utf-16-le text: save the file as UTF-8"):
        decode(b"\xff\xfea")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_is_the_same_however_its_cells_are_separated(delimiter, quoting):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(ROWS)
    for text in (file.getvalue(), f"sep={delimiter}\r\n{file.getvalue()}"):
        table = read_table(decode(text.encode()))
        assert table.delimiter == delimiter
        assert [table.columns, *([row.cells["a"], row.cells["b"]] for row in table.rows)] == ROWS


def test_empty_lines_and_cells_behind_the_columns_are_left_out():
    table = read_table("\n a ;b;;\n;;;\n1;;;\n\n2; x \n")
    assert table.columns == ["a", "b"]
    assert [(row.line, row.cells) for row in table.rows] == [(4, {"a": "1", "b": ""}), (6, {"a": "2", "b": "x"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,a\n1,2,3\n", "line 1: the column 'a' occurs twice"),
        (f"a,b\n1,{'x' * 200_000}\n", "line 2: field larger than field limit"),
    ],
)
def test_a_text_that_is_no_table(text, message):
    with pytest.raises(TableError, match=message):
        read_table(text)


def test_rows_with_other_than_a_cell_for_each_column_are_marked():
    table = read_table("a,b\n1,2,3\n\n1\n1,2\n1,,\n,\n")
    assert [(row.line, row.is_whole) for row in table.rows] == [(2, False), (4, False), (5, True), (6, True)]


def test_a_text_without_content_has_no_columns():
    assert read_table("").columns == read_table("\n;;\n").columns == []


@given(st.text())
def test_any_text_is_a_table_or_an_error_that_says_so(text: str):
    try:
        table = read_table(text)
    except TableError:
        return
    assert all(row.cells.keys() == set(table.columns) for row in table.rows if row.is_whole)
