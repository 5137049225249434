"""What the tests of the caption agents share: drawn scenes, the smallest VLM, and flags of runs of seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mentorgym.envs.caption import language, vector
from mentorgym.envs.caption.scenes import Labels

torch.set_num_threads(1)


class Colours:
    """`scenes.Scenes`: each reason is a colour."""

    picture_shape = (24, 32, 3)

    def __init__(self, size: int = 12, reasons: tuple[int, ...] = (1, 7, 10, 13)):
        chosen = np.array([reasons[i % len(reasons)] for i in range(size)])
        actions = np.eye(4, dtype=bool)[language.ACTION_OF_REASON[chosen]]
        self.labels = Labels([f"colour-{i}" for i in range(size)], actions, np.eye(21, dtype=bool)[chosen])

    def frames(self, index: int, count: int) -> np.ndarray:
        reason = int(self.labels.reasons[index].argmax())
        colour = np.random.default_rng(reason).integers(0, 256, 3, dtype=np.uint8)
        return np.broadcast_to(colour, (count, *self.picture_shape)).copy()


class Liking:
    """Stands in for `reward.CaptionReward`: no CLIP, but a liking for the letters e and o."""

    def __init__(self, scenes: Colours, kind: str, model: str, terms: dict[str, float] | None, *rest: Any):
        self.kind, self.terms = kind, dict(terms or {})
        self.truths = [
            language.caption(*each) for each in zip(scenes.labels.actions, scenes.labels.reasons, strict=True)
        ]
        self.captions = sorted(set(self.truths))

    def score(self, indices: Any, texts: list[str]) -> dict[str, np.ndarray]:
        liked = np.array([(text.count("e") + text.count("o")) / (len(text) + 4) for text in texts], np.float32)
        return {"reward": liked, self.kind: liked, **{name: (liked > 0.1).astype(np.float32) for name in self.terms}}


def use_colours(monkeypatch: Any, size: int = 12) -> None:
    """Environments show colours, whatever data they are asked for, and like what `Liking` does."""
    monkeypatch.setattr(vector, "load_scenes", lambda *arguments, **keywords: Colours(size))
    monkeypatch.setattr(vector, "CaptionReward", Liking)


def save_vlm(folder: Path) -> Path:
    """An Idefics3 of 0.1 M random weights, whose words are those of captions."""
    from mentorgym.mentors.checkpoints import save_pretrained
    from mentorgym.mentors.tiny import build_vlm

    torch.manual_seed(0)
    texts = 2 * [*language.captions(), "What is the next action of the car that sees this, and why?"]
    sizes = {"image_size": 32, "patch_size": 8, "width": 32, "vision_layers": 1, "text_layers": 2}
    model, processor = build_vlm(texts, **sizes)
    save_pretrained(model, processor, torch.float32, folder)
    return folder


def scenes_shown(count: int, frames: int = 1) -> np.ndarray:
    """Noise, uint8 [count, frames, 24, 32, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, frames, 24, 32, 3), dtype=np.uint8)
