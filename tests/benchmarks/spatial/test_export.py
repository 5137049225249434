"""The command that exports samples."""

import json
from pathlib import Path

import pytest

from mentorgym.benchmarks.spatial import export as spatial_export
from mentorgym.envs.spatial.exports import FORMATS
from tests.envs.spatial.conftest import sketched

__all__ = ["sketched"]


def test_the_folder_says_how_it_was_made(sketched: list, tmp_path: Path, capsys: pytest.CaptureFixture):
    arguments = ["--output", str(tmp_path / "out"), "--format", "whatsup", "--split", "test", "--count", "3", "--json"]
    spatial_export.main(arguments)
    assert json.loads(capsys.readouterr().out) == {"output": str(tmp_path / "out"), "format": "whatsup", "samples": 3}
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert about["command"].endswith("--split test --count 3 --json") and about["seed"] == 0
    assert len(json.loads((tmp_path / "out" / "whatsup.json").read_text())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count must be at least 1"),
        (["--seed", "-1"], "seed must not be negative"),
        (["--count", "1"], "choose another folder"),
    ],
)
def test_mistakes_are_explained_in_one_line(sketched: list, tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "something").touch()
    with pytest.raises(SystemExit, match=message):
        spatial_export.main(["--output", str(tmp_path), "--format", "coco", *arguments])


def test_help_names_every_format(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        spatial_export.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and all(name in shown for name in FORMATS)
