"""`UnitySpatial-v0` as a Gymnasium environment: a vector environment with one row."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.vector import SpatialVectorEnv

if TYPE_CHECKING:
    from mentorgym.envs.spatial.mentoring import SpatialAdapter

OF_A_BATCH = ("num_envs", "autoreset_mode")
"""Arguments of `SpatialVectorEnv` that a single environment lacks."""


class SpatialEnv(gym.Env):
    """A room in which three objects are moved in turn. Arguments, spaces and infos are those of `SpatialVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, **arguments: Any):
        for name in OF_A_BATCH:
            if name in arguments:
                raise TypeError(f"{name} belongs to a batch: make one with gym.make_vec, or leave it out")
        self.vector = SpatialVectorEnv(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **arguments)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.render_mode = self.vector.render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; it takes no options."""
        super().reset(seed=seed)
        for name in options or {}:
            raise ValueError(f"unknown option {name!r}: a reset takes none")
        observation, infos = self.vector.reset(seed=seed)
        return observation[0].copy(), _first(infos)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move one object by an action float [3]."""
        observation, reward, terminated, truncated, infos = self.vector.step(np.asarray(action)[None])
        return observation[0].copy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(infos)

    def arrangement(self) -> Arrangement:
        """See `SpatialVectorEnv.arrangement`."""
        return self.vector.arrangement(0)

    def observed(self) -> Arrangement:
        """See `SpatialVectorEnv.observed`."""
        return self.vector.observed(0)

    def truth(self) -> dict[str, Any]:
        """See `SpatialVectorEnv.truth`."""
        return self.vector.truth(0)

    def render(self) -> np.ndarray | None:
        """The picture, see `SpatialVectorEnv.render`."""
        pictures = self.vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """End the Unity player, if there is one."""
        self.vector.close()

    @property
    def adapter(self) -> "SpatialAdapter":
        """What mentors are told of this room: row 0."""
        return self.vector.adapter


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    return {name: values[0].item() for name, values in infos.items() if not name.startswith("_")}
