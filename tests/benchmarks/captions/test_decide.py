"""The command that describes a user's own pictures, with a tiny model of random weights."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.benchmarks.captions import decide
from mentorgym.envs.caption import language
from mentorgym.envs.caption.inference import describe_and_decide

os.environ.setdefault("HF_HUB_OFFLINE", "1")

RED, GREEN = np.zeros((20, 30, 3), np.uint8), np.zeros((33, 17, 3), np.uint8)
RED[..., 0], GREEN[..., 1] = 255, 255


@pytest.fixture(scope="module")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, which writes something."""
    import torch

    from mentorgym.mentors.tiny import build_vlm

    torch.manual_seed(0)
    model, processor = build_vlm(
        2 * language.captions(), image_size=24, patch_size=12, width=32, vision_layers=1, text_layers=1
    )
    folder = tmp_path_factory.mktemp("caption_vlm")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_the_command_prints_a_line_for_each_picture(tmp_path: Path, vlm_folder: Path, capsys):
    paths = [tmp_path / "red.png", tmp_path / "green.jpg"]
    for path, picture in zip(paths, (RED, GREEN), strict=True):
        Image.fromarray(picture).save(path)
    names = [str(path) for path in paths]
    decide.main([*names, "--model", str(vlm_folder), "--model-args", "max_new_tokens=4", "--json"])
    printed = capsys.readouterr()
    told = json.loads(printed.out)["decisions"]
    assert [each["picture"] for each in told] == names and set(told[0]) == {
        "picture",
        "description",
        "reply",
        "action",
    }
    assert "red.png" in printed.err and "green.jpg" in printed.err
    wanted = describe_and_decide(paths, str(vlm_folder), max_new_tokens=4)
    assert [tuple(each.values())[1:] for each in told] == [tuple(each) for each in wanted]


def test_the_command_explains_a_mistake_in_a_line(tmp_path: Path):
    with pytest.raises(SystemExit, match="decide: cannot read the picture"):
        decide.main([str(tmp_path / "none.png")])
    with pytest.raises(SystemExit, match="decide: name at least one"):
        decide.main([])
