"""A vector environment with one row, shown as a Gymnasium environment."""

from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.envs.checks import check_options


class SingleEnv(gym.Env):
    """Row 0 of `vector`, a vector environment with one row and no autoreset.

    Attributes: `vector`; `adapter`, the environment's for mentors.
    """

    vector: Any
    reset_options: tuple[str, ...] = ()
    """names of what `reset` takes"""

    def __init__(self, vector: gym.vector.VectorEnv):
        self.vector = vector
        self.metadata = {name: value for name, value in vector.metadata.items() if name != "autoreset_mode"}
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.render_mode = vector.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode."""
        super().reset(seed=seed)
        check_options(options or {}, self.reset_options)
        observations, infos = self.vector.reset(seed=seed, options=self._batch_options(options or {}))
        return first_row(observations), self._info(infos)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        observations, rewards, terminated, truncated, infos = self.vector.step(self._batch_action(action))
        ends = bool(terminated[0]), bool(truncated[0])
        return first_row(observations), float(rewards[0]), *ends, self._info(infos)

    def render(self) -> np.ndarray | None:
        """The picture, uint8 [H, W, 3], with render_mode="rgb_array", else None."""
        pictures = self.vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Release what the environment holds."""
        self.vector.close()

    @property
    def adapter(self) -> Any:
        """What mentors are told of this environment: row 0."""
        return self.vector.adapter

    def _batch_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return options

    def _batch_action(self, action: Any) -> Any:
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"the action has shape {np.shape(action)}, not {self.action_space.shape}")
        return np.asarray(action)[None]

    def _info(self, infos: dict[str, Any]) -> dict[str, Any]:
        return plain(first_row(infos))


def first_row(batch: Any) -> Any:
    """The first row of arrays and tuples, and of dicts of them without Gymnasium's masks; arrays are copied."""
    if isinstance(batch, dict):
        return {name: first_row(values) for name, values in batch.items() if not name.startswith("_")}
    return batch[0].copy() if isinstance(batch[0], np.ndarray) else batch[0]


def plain(value: Any) -> Any:
    """NumPy's scalars, and those in dicts, as Python's."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value.item() if isinstance(value, np.generic) else value
