"""`BddOia-Caption-v0` as a Gymnasium environment: a vector environment with one row."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.envs.caption.scenes import Scenes
from mentorgym.envs.caption.vector import CaptionVectorEnv
from mentorgym.names import nearest_name

if TYPE_CHECKING:
    from mentorgym.envs.caption.mentoring import CaptionAdapter

OF_A_BATCH = ("num_envs", "group_size", "autoreset_mode")


class CaptionEnv(gym.Env):
    """One driving scene to put into words. Arguments, spaces and infos are those of `CaptionVectorEnv`.

    `reset` takes `options={"index": i}`, the scene to show. The observation of a step is that of the scene judged.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(self, **arguments: Any):
        for name in OF_A_BATCH:
            if name in arguments:
                raise TypeError(f"{name} belongs to a batch: make one with gym.make_vec, or leave it out")
        self.vector = CaptionVectorEnv(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **arguments)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.render_mode = self.vector.render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Show the next scene, or that of `options["index"]`."""
        super().reset(seed=seed)
        options = dict(options or {})
        inner = {"indices": [options.pop("index")]} if "index" in options else {}
        if options:
            name = next(iter(options))
            raise ValueError(f"unknown option {name!r}: {nearest_name(name, ('index',))}")
        observation, infos = self.vector.reset(seed=seed, options=inner)
        return _first(observation), _first_info(infos)

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Score a text; the episode ends."""
        observation, reward, terminated, truncated, infos = self.vector.step([action])
        return _first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first_info(infos)

    def render(self) -> np.ndarray | None:
        """The picture with the caption under it, see `CaptionVectorEnv.render`."""
        pictures = self.vector.render()
        return None if pictures is None else pictures[0]

    @property
    def scenes(self) -> Scenes:
        """The scenes of the split."""
        return self.vector.scenes

    @property
    def captions(self) -> list[str]:
        """The distinct captions of the scenes, sorted."""
        return self.vector.captions

    @property
    def adapter(self) -> "CaptionAdapter":
        """What mentors are told of this scene: row 0."""
        return self.vector.adapter


def _first(observation: dict[str, Any]) -> dict[str, Any]:
    return {"frames": observation["frames"][0].copy(), "instruction": observation["instruction"][0]}


def _first_info(infos: dict[str, Any]) -> dict[str, Any]:
    info = {name: values[0] for name, values in infos.items() if name != "terms" and not name.startswith("_")}
    info["scene"] = int(info["scene"])
    if "terms" in infos:
        info["terms"] = {name: float(values[0]) for name, values in infos["terms"].items()}
    return info
