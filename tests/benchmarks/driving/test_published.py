from pathlib import Path

import pytest

from mentorgym.benchmarks.driving.published import COLUMNS, FOUND_RL_METRICS, arrange, read_published
from mentorgym.benchmarks.harness.command import UsageError

CITED = Path(__file__).resolve().parents[3] / "results" / "driving" / "published.csv"

HEADER = ",".join(COLUMNS)
LINE = "Paper,1,Method,Benchmark,driving_score,0.50,0.01,"


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "published.csv"
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def test_a_figure_is_kept_as_it_was_printed(tmp_path: Path):
    (figure,) = read_published(file_of(tmp_path, HEADER, LINE + '"a, b"'))
    assert (figure.table, figure.value, figure.spread, figure.note) == (1, "0.50", "0.01", "a, b")


@pytest.mark.parametrize(
    ("lines", "number", "reason"),
    [
        ([], 1, "the header is ''"),
        ([HEADER + ",more"], 1, "the header is"),
        ([HEADER, "Paper,1"], 2, "2 cells, not 8"),
        ([HEADER, LINE.replace("Method", "")], 2, "method is ''"),
        ([HEADER, LINE.replace("Method", " Method")], 2, "blanks around it"),
        ([HEADER, LINE.replace("1,", "one,", 1)], 2, "table is 'one', not a number"),
        ([HEADER, LINE.replace("driving_score", "driving_scores")], 2, "did you mean 'driving_score'"),
        ([HEADER, LINE.replace("0.50", "high")], 2, "value is 'high', not a finite number"),
        ([HEADER, LINE.replace("0.50", "nan")], 2, "value is 'nan', not a finite number"),
        ([HEADER, LINE.replace("0.01", "±0.01")], 2, "spread is '±0.01', not a finite number"),
        ([HEADER, LINE, LINE], 3, "a second driving_score of Method in table 1"),
        ([HEADER, LINE + '"open'], 2, "unexpected end of data"),
    ],
)
def test_a_fault_is_named_by_file_and_line(tmp_path: Path, lines: list[str], number: int, reason: str):
    with pytest.raises(UsageError, match=f"published.csv:{number}: .*{reason}"):
        read_published(file_of(tmp_path, *lines))


def test_figures_stand_in_a_table_with_dashes_for_what_is_missing(tmp_path: Path):
    lines = (
        HEADER,
        "Paper,2,B,Town,driving_score,0.50,0.01,",
        "Paper,2,A,Town,driving_score,0.4,,odd",
        "Paper,2,A,Town,return,12,,odd",
        "Paper,3,A,Town,frames_per_second,7,,",
    )
    first, second = arrange(read_published(file_of(tmp_path, *lines)))
    assert (first.title, first.header) == ("Paper, table 2: Town", ["method", "return", "driving score"])
    assert first.rows == [["B", "-", "0.50 ± 0.01"], ["A", "12", "0.4"]]
    assert (first.notes, second.notes) == (["A: odd"], [])
    assert (second.title, second.rows) == ("Paper, table 3: Town", [["A", "7"]])


def test_the_cited_figures_are_whole():
    figures = read_published(CITED)
    cells = {(figure.table, figure.method, figure.metric): (figure.value, figure.spread) for figure in figures}
    methods = {table: {figure.method for figure in figures if figure.table == table} for table in range(1, 9)}
    assert [len(methods[table]) for table in range(1, 9)] == [8, 8, 8, 7, 7, 7, 15, 6]
    for table in range(1, 7):
        assert {metric for number, _, metric in cells if number == table} >= set(FOUND_RL_METRICS)
        assert all((table, method, metric) in cells for method in methods[table] for metric in FOUND_RL_METRICS)
    # The first and the last cell of each kind of table, from the paper's pages.
    assert cells[1, "TD3", "return"] == ("1703.83", "843.48")
    assert cells[1, "DrQv2-CLIP", "red_lights_per_km"] == ("0.01", "0.00")
    assert cells[3, "DrQv2-CLIP", "driving_score"] == ("0.76", "0.09")
    assert cells[4, "InternVL3-2B", "driving_score"] == ("0.85", "")
    assert cells[6, "Qwen2.5-VL-3B", "success_found_rl"] == ("0.91", "")
    assert cells[7, "NEAT", "route_completion"] == ("0.42", "")
    assert cells[8, "Visual RWKV 0.1B", "frames_per_second"] == ("0.44", "")


def test_tables_that_repeat_a_figure_agree_but_for_the_one_that_is_noted():
    values: dict[tuple[str, str, str], set[str]] = {}
    noted = set()
    for figure in read_published(CITED):
        key = (figure.method, figure.benchmark, figure.metric)
        values.setdefault(key, set()).add(figure.value)
        if "says" in figure.note:
            noted.add(key)
    assert {key for key, different in values.items() if len(different) > 1} == noted
    assert noted == {("DrQv2-VMR", "Leaderboard", "success_found_rl")}
