"""The command that writes a miniature of BDD-OIA."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks.captions import miniature
from mentorgym.envs.caption import load_scenes


@pytest.mark.parametrize("layout", ["25k_images", "gt_4a_21r"])
def test_a_miniature_is_read_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture, layout: str):
    folder = tmp_path / "miniature"
    counts = ["--train", "4", "--val", "2", "--test", "3"]
    miniature.main(["--output", str(folder), "--layout", layout, "--labels", "one", "--frames", "2", *counts, "--json"])
    assert json.loads(capsys.readouterr().out)["test"] == 3
    for split, size in (("train", 4), ("val", 2), ("test", 3)):
        scenes, staged = load_scenes(folder, split, "all"), load_scenes("staged", split)
        assert len(scenes.labels.names) == size and scenes.picture_shape == staged.picture_shape
        np.testing.assert_array_equal(scenes.labels.reasons, staged.labels.reasons[:size])
        # JPEG halves the resolution of the colours.
        assert np.abs(scenes.frames(1, 2).astype(int) - staged.frames(1, 2)).mean() < 6
    with pytest.raises(SystemExit, match="not empty"):
        miniature.main(["--output", str(folder)])
    with pytest.raises(SystemExit, match="--frames must be 1 to"):
        miniature.main(["--output", str(tmp_path / "other"), "--frames", "99"])
