"""The commands about staged scenes: drawing them ahead, a sheet of them, and a classifier that reads them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.benchmarks.captions import readability, stage
from mentorgym.benchmarks.captions import sheet as contact_sheet
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.envs.caption.language import REASONS
from mentorgym.envs.caption.staging import StagedScenes, draw


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_drawn_ahead_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch):
    done = stage.stage(stage.Args(split="val", count=3, frames=2))
    assert done["scenes"] == 3
    assert len(list(Path(done["folder"]).iterdir())) == 6
    monkeypatch.setattr(draw, "draw", lambda *arguments: pytest.fail("drawn again"))
    assert StagedScenes("val", count=3).frames(2, 2).shape == (2, 108, 192, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"workers": 0}, "workers"), ({"frames": 7}, "frames must be 1 to 6"), ({"count": 0}, "count must be")],
)
def test_staging_names_a_wrong_argument(arguments: dict, message: str):
    with pytest.raises(UsageError, match=message):
        stage.stage(stage.Args(**arguments))


def test_the_sheet_has_a_row_for_each_reason(tmp_path: Path):
    done = contact_sheet.contact_sheet(contact_sheet.Args(tmp_path / "sheet.png", columns=1))
    with Image.open(done["file"]) as image:
        assert image.height == len(REASONS) * (108 + contact_sheet.MARGIN)
        corner = np.array(image.convert("RGB"))[:108, contact_sheet.LABEL : contact_sheet.LABEL + 192]
    assert np.abs(corner.astype(int) - StagedScenes("test", count=21).frames(0, 1)[0]).max() <= 2
    with pytest.raises(UsageError, match="cannot be written"):
        contact_sheet.contact_sheet(contact_sheet.Args(tmp_path / "no folder" / "sheet.png", columns=1))


def test_the_classifier_learns_what_it_is_shown(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 255, (21, 3, 96, 96))

    def pictures(scenes: StagedScenes):
        import torch

        return torch.from_numpy(looks[scenes.staged_for].astype(np.uint8))

    monkeypatch.setattr(readability, "pictures", pictures)
    # A flipped picture means its mirrored reason, so that the looks must be mirrored too.
    for reason, other in enumerate(readability.MIRRORED_REASONS):
        if other > reason:
            looks[other] = looks[reason][..., ::-1]
        elif other == reason:
            looks[reason, ..., 48:] = looks[reason, ..., :48][..., ::-1]
    found = readability.readability(readability.Args(train=63, test=21, epochs=5))
    assert found["accuracy"] > 0.9
    assert np.sum(found["confusion"]) == 21
    with pytest.raises(UsageError, match="--train"):
        readability.readability(readability.Args(train=20))
