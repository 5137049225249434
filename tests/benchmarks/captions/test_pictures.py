"""Pictures with what is said of them: which colours the words have, and that the grid is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.benchmarks.captions import pictures as caption_pictures
from mentorgym.benchmarks.captions.pictures import MISSED, RIGHT, UNKNOWN, WRONG, Description, action_colours, lines

PICTURE = np.zeros((4, 6, 3), np.uint8)
TRUTH = (np.arange(4) == 1, np.arange(21) == 7)


def test_what_is_said_and_true_is_green_what_is_wrong_red_and_what_is_missed_gray():
    said = Description(PICTURE, "Action: stop, forward. Reason: Obstacle: car.", TRUTH)
    assert lines(said) == [
        ("forward", WRONG),
        ("stop", RIGHT),
        ("Obstacle: car", WRONG),
        ("Traffic light is not green", MISSED),
    ]
    assert action_colours(said) == [WRONG, RIGHT, None, None]


def test_of_ones_own_pictures_nobody_knows_what_is_true():
    assert lines(Description(PICTURE, "Action: turn left. Reason: Road is clear.", None)) == [
        ("turn left", UNKNOWN),
        ("Road is clear", UNKNOWN),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "(nothing)"), ("A truck\x00 is\nparked.", "A truck is parked."), ("$x_{1}$ " * 400, "$x_{1}$")],
)
def test_other_texts_stand_as_they_are_shortened(text: str, told: str):
    words = [words for words, own in lines(Description(PICTURE, text, None)) if own == UNKNOWN]
    assert words[0].startswith(told)
    assert sum(map(len, words)) <= 80
    missed = [words for words, own in lines(Description(PICTURE, text, TRUTH)) if own == MISSED]
    assert missed == ["stop", "Traffic light is not green"]


def test_a_grid_of_scenes_and_one_of_pictures_are_drawn(drawn_captions, capsys: pytest.CaptureFixture[str]):
    caption_pictures.main("--driver random --limit 3 --across 2 --output new/grid.png --json".split())
    assert len(json.loads(capsys.readouterr().out)["texts"]) == 3
    with Image.open("new/grid.png") as grid:
        assert grid.width > 600
        assert {(26, 138, 46), (204, 34, 34)} & {colour for _, colour in grid.convert("RGB").getcolors(1 << 20)}
    for name, size in (("a.png", (30, 20)), ("b.jpg", (20, 40))):
        Image.new("RGB", size).save(name)
    agent = Path(__file__).parents[1] / "drawn_scenes.py"
    folder = drawn_captions.train(drawn_captions.Args())
    caption_pictures.main(f"--run {folder} --driver {agent} --pictures a.png b.jpg --output own.png --json".split())
    assert json.loads(capsys.readouterr().out)["texts"] == ["Action: forward. Reason: Follow traffic."] * 2


def test_what_looks_like_a_formula_is_drawn_as_it_is(tmp_path: Path):
    caption_pictures.draw([Description(PICTURE, r"$\frac{$ \\", TRUTH)], 4, r"$\bad$ on $x_$", tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as drawing:
        assert drawing.width > 300


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--driver truth --pictures a.png", "looks at labels"),
        ("--driver truth --run x", "one describes the pictures"),
        ("--driver truth --across 0", "count from 1"),
        ("", "nobody to measure"),
    ],
)
def test_mistakes_are_told_in_one_line(drawn_captions, arguments: str, reason: str):
    with pytest.raises(SystemExit, match=reason):
        caption_pictures.main(arguments.split())


def test_a_file_that_is_no_picture_is_named(drawn_captions):
    Path("no.png").write_text("no")
    folder = drawn_captions.train(drawn_captions.Args())
    agent = Path(__file__).parents[1] / "drawn_scenes.py"
    with pytest.raises(SystemExit, match=r"no\.png is no picture"):
        caption_pictures.main(f"--run {folder} --driver {agent} --pictures no.png".split())
