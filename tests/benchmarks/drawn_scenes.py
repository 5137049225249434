"""Scenes that are drawn in a moment, a reward that knows what is true, and an agent that reads the picture."""

import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Labels

REPEATS = 2

asked: list[tuple[str, str, str, str]] = []
"""Data, split, labels and order of the reasons of the scenes that were asked for."""


class DrawnScenes:
    """Two scenes of each reason; the brightness of a picture is the number of the reason, 250 in the red for none."""

    picture_shape = (12, 16, 3)

    def __init__(self) -> None:
        reasons = np.tile(np.arange(21), REPEATS)
        self.labels = Labels(
            [f"scene-{index}" for index in range(len(reasons))],
            np.arange(4) == language.ACTION_OF_REASON[reasons][:, None],
            np.arange(21) == reasons[:, None],
        )

    def frames(self, index: int, count: int) -> np.ndarray:
        """`count` frames, all alike but for their green, which counts them."""
        if not 1 <= count <= 3:
            raise ValueError(f"{self.labels.names[index]} has 3 frames, not {count}")
        frames = np.zeros((count, *self.picture_shape), np.uint8)
        frames[..., 0] = self.labels.reasons[index].argmax()
        frames[..., 1] = np.arange(count)[:, None, None]
        return frames


class DrawnReward:
    """0.9 for captions that name the scene's reason or action, 0.2 for others."""

    def __init__(self, scenes: DrawnScenes, kind: str, scorer: object, frames: int) -> None:
        assert kind == "prob"
        self.scenes = scenes

    def score(self, indices: np.ndarray, texts: Sequence[str]) -> dict[str, np.ndarray]:
        names = [
            (
                language.REASONS[self.scenes.labels.reasons[i].argmax()],
                language.ACTIONS[self.scenes.labels.actions[i].argmax()],
            )
            for i in indices
        ]
        fits = [any(name in text for name in own) for own, text in zip(names, texts, strict=True)]
        return {"prob": np.where(fits, 0.9, 0.2).astype(np.float32)}


@dataclasses.dataclass
class Args:
    """Flags of the agent."""

    env_id: str = "BddOia-Caption-v0"
    """environment"""
    env_args: tuple[str, ...] = ()
    """its keyword arguments"""
    data: str = "staged"
    """scenes"""
    seed: int = 0
    """seed"""
    model: str = ""
    """what it starts from"""
    loss: str = ""
    """what it minimises"""
    epochs: float = 1.0
    """passes"""
    known: int = 10
    """reasons, from the first on, that it knows; of others it says that the road is clear"""
    total_steps: int = 5
    """steps"""
    runs: str = "runs"
    """folder of the run folders"""


def train(args: Args) -> Path:
    """Write down how many reasons are known."""
    flags = json.dumps(dataclasses.asdict(args), sort_keys=True)
    folder = Path(args.runs) / f"drawn_scenes__seed{args.seed}__{zlib.crc32(flags.encode()):08x}"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"agent": "drawn_scenes", "args": dataclasses.asdict(args)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "policy.json").write_text(json.dumps(args.known))
    (folder / "done").write_text(json.dumps({"step": args.total_steps}))
    return folder


def load_policy(folder: Path, device: str = "cpu") -> Callable[[dict], list[str]]:
    """Observations to captions."""
    known = json.loads((folder / "policy.json").read_text())
    captions = language.captions()

    def policy(observations: dict) -> list[str]:
        assert observations["frames"].ndim == 5
        assert observations["instruction"] == (language.PROMPT,) * len(observations["frames"])
        numbers = observations["frames"][:, -1, 0, 0, 0]
        return [captions[number] if number < known else captions[1] for number in numbers.tolist()]

    return policy
