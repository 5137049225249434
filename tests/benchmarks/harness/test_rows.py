import json
from pathlib import Path

import pytest

from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.rows import add_rows, fault, merge, read_rows

ROW = {
    "backend": "embedded",
    "env": "FakeDrive-v0",
    "driver": "expert",
    "run": None,
    "training_seed": None,
    "training_steps": None,
    "training_args": None,
    "training_flags": None,
    "weights": None,
    "town": "Suburb",
    "seen": True,
    "traffic": "regular",
    "weather": "train_eval",
    "route": 0,
    "seed": 0,
    "score": {
        "driving_score": 0.5,
        "route_completion": 1.0,
        "success": True,
        "strict_success": False,
        "completed_km": 0.25,
    },
    "command": "mentorgym evaluate --driver expert",
    "time": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789abcdef",
    "dirty": False,
    "versions": {"python": "3.11"},
    "hardware": {"cores": 2},
}


def test_rows_come_back_as_they_were_written(tmp_path: Path):
    rows = [ROW, ROW | {"route": 1}]
    add_rows(tmp_path / "new" / "rows.jsonl", rows)
    assert read_rows(tmp_path / "new" / "rows.jsonl") == rows


def test_a_row_for_the_same_episode_replaces_the_one_before(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    add_rows(path, [ROW | {"route": 1}, ROW])
    add_rows(path, [ROW | {"command": "later"}])
    assert [(row["route"], row["command"]) for row in read_rows(path)] == [(0, "later"), (1, ROW["command"])]


def test_merging_does_not_depend_on_the_order():
    rows = [ROW | {"route": route, "run": run} for route in (0, 10, 2) for run in (None, "a", "b")]
    assert merge(rows) == merge(rows[::-1])


def test_captions_of_some_scenes_leave_the_row_of_all_scenes_alone(tmp_path: Path):
    words = {"env": "BddOia-Caption-v0", "data": "staged", "split": "test", "labels": "one", "frames": 1}
    row = ROW | words | {"label_share": None, "scenes": 1050}
    assert merge([row, row | {"scenes": 10}]) == [row | {"scenes": 10}, row]
    assert merge([row, row | {"command": "later"}]) == [row | {"command": "later"}]


def test_a_whole_row_has_no_fault():
    assert fault(ROW) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"route": "0"}, "route is '0', of type str"),
        ({"route": True}, "route is True, of type bool"),
        ({"town": None}, "town is None"),
        ({"extra": 1}, "missing or unknown: extra"),
        ({"score": {}}, "score.driving_score is None"),
        ({"score": ROW["score"] | {"driving_score": float("nan")}}, "score.driving_score is nan"),
    ],
)
def test_a_fault_is_named(change: dict, reason: str):
    assert reason in fault(ROW | change)


def test_a_missing_field_is_named():
    assert fault({name: value for name, value in ROW.items() if name != "commit"}) == "missing: commit"


@pytest.mark.parametrize(("line", "reason"), [("{", "not JSON"), ("[]", "not a JSON object"), ("", "not JSON")])
def test_a_corrupted_file_is_refused_by_line(tmp_path: Path, line: str, reason: str):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"schema": 1, **ROW}) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=f"rows.jsonl:2: {reason}"):
        read_rows(path)


def test_nothing_is_written_into_a_corrupted_file(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text("{\n")
    with pytest.raises(UsageError, match="rows.jsonl:1"):
        add_rows(path, [ROW])
    assert path.read_text() == "{\n"


def test_rows_of_another_systems_editor_are_read(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    add_rows(path, [ROW, ROW | {"route": 1, "command": "a\u2028b"}])
    expected = read_rows(path)
    text = path.read_text().replace("\\u2028", "\u2028").replace("\n", "\r\n")
    path.write_bytes(text.encode("utf-8-sig"))
    assert read_rows(path) == expected
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(UsageError, match="rows.jsonl: byte 0 is not utf-8 text: save the file as UTF-8"):
        read_rows(path)
