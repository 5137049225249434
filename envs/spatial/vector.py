"""`UnitySpatial-v0` as a vector environment: many rooms, rearranged at once."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentorgym.envs.checks import (
    check_actions,
    check_autoreset_mode,
    check_choice,
    check_count,
    check_options,
    check_reset_mask,
    check_seeds,
    needs_reset,
)
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import KINDS, ROOMS, TESTING, TRAINING
from mentorgym.envs.spatial.unity.link import UnityWorld
from mentorgym.envs.spatial.world import OBSERVED, REASONS, EmbeddedWorld, World
from mentorgym.extras import is_installed, remedy
from mentorgym.names import names_unknown_arguments

if TYPE_CHECKING:
    from mentorgym.envs.spatial.mentoring import SpatialAdapter

SPLITS = {"train": TRAINING, "val": TRAINING, "test": TESTING}
"""The rooms of each split; the same seed draws other things in each."""

_REASONS = np.array(REASONS)


class SpatialVectorEnv(gym.vector.VectorEnv):
    """`num_envs` rooms in which objects are moved, Gymnasium's vector interface.

    Row i under seed s is the single environment under seed s + i. `SpatialEnv` describes actions, observations,
    rewards and the end of an episode, and the arguments that are not listed here.

    Args:
        num_envs: N, rooms in the batch.
        autoreset_mode: SAME_STEP, NEXT_STEP or DISABLED, as the enumeration or its value. SAME_STEP begins the next
            episode within the step that ends one; the last observation is in `infos["final_obs"]`, float32 [N, 32], the
            last infos in `infos["final_info"]`. NEXT_STEP begins it in the step after, which ignores the row's action,
            with reward 0. DISABLED leaves it to `reset` with `options={"reset_mask": ...}`.

    Observations are independent arrays. `reset` takes `options={"reset_mask": mask}`, bool [N], the rows to reset.

    Infos: those of the single environment as arrays [N], each with its mask `_<name>`.

    Raises:
        ValueError, TypeError: an argument is unknown or does not fit; the message names what would.
        ImportError: render_mode="rgb_array" without the extra `scenes`.
        unity.link.UnityError: the Unity player cannot be reached, has ended or does what it should not.

    Example:
        >>> import numpy as np
        >>> envs = SpatialVectorEnv(3, split="test")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape
        (3, 32)
        >>> observations, rewards, terminated, truncated, infos = envs.step(np.zeros((3, 3)))
        >>> rewards, infos["reason"].tolist()
        (array([-1., -1., -1.]), ['still', 'still', 'still'])
        >>> envs.close()
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    single_observation_space: gym.spaces.Box
    single_action_space: gym.spaces.Box
    _world: World

    @names_unknown_arguments
    def __init__(
        self,
        num_envs: int = 1,
        split: str = "train",
        camera: str = "close",
        steps: int = 200,
        block: int = 10,
        move_scale: float = 0.28,
        in_view: bool = True,
        unity: str | Path | int | None = None,
        *,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ):
        self.num_envs, self.steps, self.block = (
            check_count(name, number) for name, number in (("num_envs", num_envs), ("steps", steps), ("block", block))
        )
        if not isinstance(move_scale, int | float | np.number) or not 0 < move_scale <= 10:
            raise ValueError(f"move_scale={move_scale!r}: give metres, above 0 and at most 10")
        check_choice("split", split, SPLITS)
        check_choice("camera", camera, KINDS)
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.split, self.camera, self.render_mode = split, camera, render_mode
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = _observation_space()
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        if unity is None:
            self._world = EmbeddedWorld(self.num_envs, SPLITS[split], camera, float(move_scale), bool(in_view))
            missing = [package for package in ("embreex", "trimesh") if not is_installed(package)]
            if missing and render_mode is not None:
                raise ImportError(f"drawing scenes needs {missing[0]}: {remedy('scenes')}")
            if missing:
                # The class says what the environment can show, an environment what it can show on this machine.
                self.metadata = self.metadata | {"render_modes": []}
        else:
            options = {"split": split, "camera": camera, "move_scale": float(move_scale), "in_view": bool(in_view)}
            self._world = UnityWorld(unity, self.num_envs, options, pictures=render_mode is not None)
        self._taken = np.full(self.num_envs, -1)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every row, or in those of `options["reset_mask"]`, bool [N]."""
        options = options or {}
        check_options(options, ("reset_mask",))
        mask = check_reset_mask(options, self.num_envs)
        if (self._taken[~mask] < 0).any():
            raise gym.error.ResetNeeded("reset everything before only some rows")
        seeds = check_seeds(seed, self.num_envs)
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
        fresh = [row for row in np.flatnonzero(mask).tolist() if seeds[row] is not None or self._taken[row] < 0]
        drawn = [int(self.np_random.integers(1 << 62)) if (given := seeds[row]) is None else given for row in fresh]
        # Each split's draws are its own.
        numbers = np.array([each & 0xFFFFFFFFFFFFFFFF for each in drawn], np.uint64)
        self._world.seed(np.array(fresh, int), numbers, list(SPLITS).index(self.split))
        self._start(np.flatnonzero(mask))
        self._world.show(np.arange(self.num_envs))
        return self._world.observe(), self._first_infos()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move one object in every row. Actions float [N, 3]; NaN is refused."""
        due, every = self._taken >= self.steps, np.ones(self.num_envs, bool)
        if (self._taken < 0).any() or (due.any() and self.autoreset_mode != AutoresetMode.NEXT_STEP):
            raise needs_reset("step")
        actions = np.clip(check_actions(actions, self.action_space, due), -1, 1)
        self._taken += 1
        truncated = (self._taken >= self.steps) & ~due
        again = (self._taken % self.block == 0) & ~truncated & ~due
        restarted = truncated if self.autoreset_mode == AutoresetMode.SAME_STEP else due
        self._world.announce(np.flatnonzero(again | restarted))
        why, moved = self._world.move(actions)
        self._world.show(np.flatnonzero(~due))
        valid = why == 0
        values = {"valid": valid, "reason": _REASONS[why], "moved": moved}
        rewards = np.where(valid, 1.0, -1.0)
        infos: dict[str, Any] = values | {f"_{name}": every for name in values}
        if restarted.any():
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                info = values | {f"_{name}": truncated for name in values}
                infos |= {"final_obs": self._world.observe(), "_final_obs": truncated}
                infos |= {"final_info": info, "_final_info": truncated}
                self._start(np.flatnonzero(truncated))
            else:
                self._start(np.flatnonzero(due))
                self._world.show(np.flatnonzero(due))
                first = self._first_infos()
                infos |= {name: np.where(due, first[name], values[name]) for name in values}
                rewards[due] = 0.0
        self._world.arrange(np.flatnonzero(again))
        return self._world.observe(), rewards, np.zeros(self.num_envs, bool), truncated, infos

    def get_state(self) -> dict[str, np.ndarray]:
        """All that the future depends on, as independent arrays by name. ValueError for Unity's rooms."""
        state = self._world.frozen()
        self._check_begun("get_state")
        return state | {"taken": self._taken.copy()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
        """Go back to a state of `get_state`; returns what a reset there would. ValueError for one of another batch."""
        for name, array in (self._world.frozen() | {"taken": self._taken}).items():
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise ValueError(f"this state is of another batch: {name} does not fit {self.num_envs} rows")
        self._world.thaw(dict(state))
        self._taken = state["taken"].copy()
        return self._world.observe(), self._first_infos()

    def observations(self) -> np.ndarray:
        """What every row shows now, float32 [N, 32]."""
        self._check_begun("observations")
        return self._world.observe()

    def arrangement(self, row: int = 0) -> Arrangement:
        """What the last step left in a row, before anything was drawn anew; after a reset what it drew.

        This is the sample that `valid` judges. What the observation shows is `observed`, another one only where a block
        or an episode has just ended.
        """
        self._check_begun("arrangement")
        return self._world.arrangement(row, shown=True)

    def observed(self, row: int = 0) -> Arrangement:
        """What the observation of a row shows now."""
        self._check_begun("observed")
        return self._world.arrangement(row)

    def observed_picture(self, row: int = 0) -> np.ndarray:
        """The picture of `observed`, uint8 [H, W, 3]; Unity's rooms need render_mode="rgb_array" for it."""
        self._check_begun("observed_picture")
        return self._world.picture(row)

    def truth(self, row: int = 0) -> dict[str, Any]:
        """The ground truth of `arrangement`, see `truth.describe`. ValueError for Unity's rooms."""
        self._check_begun("truth")
        return self._world.truth(row)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The picture uint8 [224, 224, 3] of each row's `arrangement` with render_mode="rgb_array", else None."""
        if self.render_mode is None:
            return None
        self._check_begun("render")
        return tuple(self._world.picture(row, shown=True) for row in range(self.num_envs))

    @functools.cached_property
    def adapter(self) -> "SpatialAdapter":
        """What mentors are told of these rooms."""
        from mentorgym.envs.spatial.mentoring import SpatialAdapter

        return SpatialAdapter(self)

    def close_extras(self, **kwargs: Any) -> None:
        """End the Unity player, if there is one."""
        # Where construction failed there is none.
        if hasattr(self, "_world"):
            self._world.close()

    def _check_begun(self, method: str) -> None:
        if (self._taken < 0).any():
            raise needs_reset(method)

    def _start(self, rows: np.ndarray) -> None:
        self._world.arrange(rows)
        self._taken[rows] = 0

    def _first_infos(self) -> dict[str, Any]:
        """The infos of rows in which nothing has been moved."""
        every = np.ones(self.num_envs, bool)
        values = {"valid": every, "reason": _REASONS[np.zeros(self.num_envs, int)], "moved": np.full(self.num_envs, -1)}
        return values | {f"_{name}": every for name in values}


def _observation_space() -> gym.spaces.Box:
    """Bounds of `World.observe`: those of the largest room."""
    side, turn = max(max(room.size) for room in ROOMS.values()), np.pi
    low = np.full(OBSERVED, -side, np.float32)
    high = np.full(OBSERVED, side, np.float32)
    low[:5], high[:2] = 0, (len(OBJECTS) - 1, len(ROOMS) - 1)
    for start in (11, 17, 23, 29):
        low[start : start + 3], high[start : start + 3] = -turn, turn
    return gym.spaces.Box(low, high, dtype=np.float32)
