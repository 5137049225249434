"""The sheet of rooms says what is true, and is written."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from mentorgym.benchmarks.spatial import sheet as spatial_sheet
from mentorgym.envs.spatial.language import caption
from mentorgym.envs.spatial.relations import relation_of
from mentorgym.envs.spatial.rooms import SIDE


def test_a_room_has_a_picture_of_each_kind_with_a_true_caption(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spatial_sheet, "DRAWN", 60)
    monkeypatch.setattr(spatial_sheet, "LOOKED_AT", 8)
    drawn = {kind: spatial_sheet.candidates(kind, 0) for kind in ("paper", "close")}
    said: Counter = Counter()
    shots = spatial_sheet.shots("workshop", drawn, said)
    assert [shot.colours.shape for shot in shots] == [(SIDE, SIDE, 3)] * 3
    assert len({shot.arrangement.camera for shot in shots}) == 3
    for shot in shots:
        subject, referent = (shot.arrangement.names[place] for place in shot.pair)
        terms = relation_of(shot.arrangement, *shot.pair).terms
        assert terms == relation_of(shot.arrangement, *shot.pair, "bases").terms
        assert shot.words == caption(subject, referent, terms)
        assert said[subject] and said[referent] and said[terms]


def test_captions_fit_below_their_pictures():
    pen, font = ImageDraw.Draw(Image.new("RGB", (9, 9))), ImageFont.load_default(size=13)
    words = "The bird sculpture is above, in front and to the right of the bird sculpture."
    wrapped = spatial_sheet._wrapped(pen, words, font)
    assert wrapped.replace("\n", " ") == words
    assert all(pen.textlength(line, font) <= SIDE for line in wrapped.split("\n"))


def test_the_sheet_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(spatial_sheet, "sheet", lambda seed: Image.new("RGB", (20, 10)))
    spatial_sheet.main(["--output", str(tmp_path / "rooms.png"), "--json"])
    assert json.loads(capsys.readouterr().out)["bytes"] == (tmp_path / "rooms.png").stat().st_size
    with pytest.raises(SystemExit, match="cannot be written"):
        spatial_sheet.main(["--output", str(tmp_path / "nowhere" / "rooms.png")])
