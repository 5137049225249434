"""A tiny CLIP with random weights."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the module's own, for features of texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENTORGYM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel of 24 pixels, whose words are those of captions."""
    import torch

    from mentorgym.envs.caption import language
    from mentorgym.mentors.tiny import build_clip

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, processor = build_clip(
        2 * language.captions(), image_size=24, patch_size=12, width=32, vision_layers=1, text_layers=1
    )
    folder = tmp_path_factory.mktemp("caption_clip")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
