"""`UnitySpatial-v0` as a vector environment: many rooms, rearranged at once."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import KINDS, ROOMS, TESTING, TRAINING
from mentorgym.envs.spatial.unity.link import UnityWorld
from mentorgym.envs.spatial.world import OBSERVED, REASONS, World
from mentorgym.names import check_names, nearest_name

if TYPE_CHECKING:
    from mentorgym.envs.spatial.mentoring import SpatialAdapter

SPLITS = {"train": TRAINING, "val": TRAINING, "test": TESTING}
"""The rooms of each split; the same seed draws other things in each."""

_REASONS = np.array(REASONS)


class SpatialVectorEnv(gym.vector.VectorEnv):
    """Rooms in which three of nine objects are moved in turn, `num_envs` at a time (RLS3, section 4).

    Observations, float32 [N, 32], in m and rad: index in `objects.OBJECTS` of the object to be moved, index in
    `rooms.ROOMS`; of the surface that it stands on length, width and free height above it, and its middle (3); of each
    of the three objects, that to be moved first and then in the order of their turns, position of the base (3) and
    Euler rotation (3: roll, pitch, yaw); of the camera position (3) and rotation (3).

    Actions, float [N, 3] in [-1, 1], clipped to that: where the object goes from where it is, times `move_scale` m. It
    then settles on the nearest surface that is above or below its whole base, at most `world.REACH` away. Reward 1;
    -1, and the object stays where it was, for each of `world.REASONS`.

    After `block` steps room, camera, objects, yaws and places are drawn anew, all objects in view.

    Args:
        num_envs: N. Row i under seed s is the single environment under seed s + i.
        split: "train", "val" (the same five rooms, other draws) or "test" (three others).
        camera: "close" or "paper", see `rooms.KINDS`.
        steps: of an episode, which is then truncated.
        block: steps between two draws.
        move_scale: metres along each axis that an action of 1 asks for.
        in_view: whether a move that takes an object's middle out of the picture, or behind furniture, is invalid. RLS3
            tests no such thing, but an agent that is paid for a model's errors would learn to hide what is asked about.
        unity: None for our own rooms; else the path of a Unity build, "editor" to wait until Play is pressed in one, or
            the port that a running player calls, see `unity.link.UnityWorld`.
        render_mode: None or "rgb_array".
        autoreset_mode: SAME_STEP, or DISABLED with `options={"reset_mask": ...}`.

    Infos: `valid` bool [N]; `reason` str [N], of `world.REASONS`; `moved` int [N], which of the three, as `arrangement`
    numbers them, or -1 where none has been. With SAME_STEP the last observations of episodes are in `final_obs`,
    float32 [N, 32], and their infos in `final_info`.

    Raises:
        ValueError, TypeError: an argument is unknown or does not fit; the message names what would.
        unity.link.UnityError: the Unity player cannot be reached, has ended or does what it should not.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    single_observation_space: gym.spaces.Box
    single_action_space: gym.spaces.Box

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
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        check_names(unknown, SpatialVectorEnv)
        for name, number in (("num_envs", num_envs), ("steps", steps), ("block", block)):
            if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < 1:
                raise ValueError(f"{name}={number!r}: give a whole number, at least 1")
        if not isinstance(move_scale, int | float | np.number) or not 0 < move_scale <= 10:
            raise ValueError(f"move_scale={move_scale!r}: give metres, above 0 and at most 10")
        for name, value, valid in (("split", split, tuple(SPLITS)), ("camera", camera, KINDS)):
            if value not in valid:
                raise ValueError(f"unknown {name} {value!r}: {nearest_name(str(value), valid)}")
        if autoreset_mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise ValueError(f"autoreset_mode={autoreset_mode}: use AutoresetMode.SAME_STEP or AutoresetMode.DISABLED")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"unknown render_mode {render_mode!r}: {nearest_name(str(render_mode), ('rgb_array',))}, or None"
            )
        self.num_envs, self.split, self.camera = int(num_envs), split, camera
        self.steps, self.block = int(steps), int(block)
        self.render_mode, self.autoreset_mode = render_mode, autoreset_mode
        self.metadata = self.metadata | {"autoreset_mode": autoreset_mode}
        self.single_observation_space = _observation_space()
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._world: World | UnityWorld
        if unity is None:
            self._world = World(self.num_envs, SPLITS[split], camera, float(move_scale), bool(in_view))
        else:
            told = {"split": split, "camera": camera, "move_scale": float(move_scale), "in_view": bool(in_view)}
            self._world = UnityWorld(unity, self.num_envs, told, pictures=render_mode is not None)
        self._taken = np.full(self.num_envs, -1)
        self._shown: Any = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every row, or in those of `options["reset_mask"]`, bool [N]."""
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.dtype != bool or mask.shape != (self.num_envs,):
            raise ValueError(
                f"options['reset_mask'] must be a bool array of shape ({self.num_envs},), not {mask.dtype} {mask.shape}"
            )
        if options:
            name = next(iter(options))
            raise ValueError(f"unknown option {name!r}: {nearest_name(name, ('reset_mask',))}")
        if (self._taken[~mask] < 0).any():
            raise gym.error.ResetNeeded("reset everything before only some rows")
        seeds = self._seeds(seed)
        fresh = [row for row in np.flatnonzero(mask).tolist() if seeds[row] is not None or self._taken[row] < 0]
        drawn = [int(self.np_random.integers(1 << 62)) if seeds[row] is None else seeds[row] for row in fresh]
        # Each split's draws are its own.
        self._world.seed(np.array(fresh, int), np.array(drawn, np.uint64), list(SPLITS).index(self.split))
        self._start(np.flatnonzero(mask))
        self._shown = self._world.copied()
        return self._world.observe(), self._untouched()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move one object in every row. Actions float [N, 3]; NaN is refused."""
        if (self._taken < 0).any() or (self._taken >= self.steps).any():
            raise gym.error.ResetNeeded("step was called before reset: call reset first")
        try:
            actions = np.asarray(actions, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"actions must be numbers, float [{self.num_envs}, 3]: {error}") from error
        if actions.shape != (self.num_envs, 3):
            raise ValueError(f"actions have shape {actions.shape}, not ({self.num_envs}, 3) = (rows, (x, y, z))")
        if np.isnan(actions).any():
            raise ValueError(
                f"actions of the rows {np.flatnonzero(np.isnan(actions).any(1)).tolist()} are NaN: check the policy"
            )
        truncated = self._taken + 1 >= self.steps
        again = ((self._taken + 1) % self.block == 0) & ~truncated
        if isinstance(self._world, UnityWorld):
            resets = truncated if self.autoreset_mode == AutoresetMode.SAME_STEP else False
            self._world.announce(np.flatnonzero(again | resets))
        why, moved = self._world.move(np.clip(actions, -1, 1))
        self._shown = self._world.copied()
        self._taken += 1
        valid, every = why == 0, np.ones(self.num_envs, bool)
        told = {"valid": valid, "reason": _REASONS[why], "moved": moved}
        infos: dict[str, Any] = told | {f"_{name}": every for name in told}
        if truncated.any() and self.autoreset_mode == AutoresetMode.SAME_STEP:
            final = dict(told, **{f"_{name}": truncated for name in told})
            infos |= {"final_obs": self._world.observe(), "_final_obs": truncated}
            infos |= {"final_info": final, "_final_info": truncated}
            self._start(np.flatnonzero(truncated))
        self._world.arrange(np.flatnonzero(again))
        rewards = np.where(valid, 1.0, -1.0)
        return self._world.observe(), rewards, np.zeros(self.num_envs, bool), truncated, infos

    def get_state(self) -> dict[str, np.ndarray]:
        """All that the future depends on, as independent arrays by name. ValueError for Unity's rooms."""
        if isinstance(self._world, UnityWorld):
            raise ValueError("a Unity player keeps its state to itself: make the environment without unity=")
        if self._shown is None:
            raise gym.error.ResetNeeded("get_state was called before reset: call reset first")
        shown = {f"shown.{name}": array.copy() for name, array in self._shown.items()}
        return self._world.frozen() | shown | {"taken": self._taken.copy()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
        """Go back to a state of `get_state`; returns what a reset there would. ValueError for one of another batch."""
        if isinstance(self._world, UnityWorld):
            raise ValueError("a Unity player keeps its state to itself: make the environment without unity=")
        own = self._world.frozen() | {f"shown.{name}": array for name, array in self._world.copied().items()}
        own["taken"] = self._taken
        for name, array in own.items():
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise ValueError(f"this state is of another batch: {name} does not fit {self.num_envs} rows")
        self._world.thaw({name: state[name] for name in self._world.frozen()})
        self._shown = {name: state[f"shown.{name}"].copy() for name in self._world.copied()}
        self._taken = state["taken"].copy()
        return self._world.observe(), self._untouched()

    def arrangement(self, row: int = 0) -> Arrangement:
        """What the last step left in a row, before anything was drawn anew; after a reset what it drew.

        This is the sample that `valid` judges. What the observation shows is `observed`, another one only where a block
        or an episode has just ended.
        """
        if self._shown is None:
            raise gym.error.ResetNeeded("arrangement was called before reset: call reset first")
        return self._world.arrangement(row, self._shown)

    def observed(self, row: int = 0) -> Arrangement:
        """What the observation of a row shows now."""
        if self._shown is None:
            raise gym.error.ResetNeeded("observed was called before reset: call reset first")
        return self._world.arrangement(row)

    def truth(self, row: int = 0) -> dict[str, Any]:
        """The ground truth of `arrangement`, see `truth.describe`."""
        if isinstance(self._world, UnityWorld):
            raise ValueError("Unity sends no masks and depths: `arrangement` and `render` hold what it sends")
        from mentorgym.envs.spatial import picture, truth

        arrangement = self.arrangement(row)
        return truth.describe(arrangement, picture.draw(arrangement))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The picture uint8 [224, 224, 3] of each row's `arrangement` with render_mode="rgb_array", else None."""
        if self.render_mode is None:
            return None
        if isinstance(self._world, UnityWorld):
            return tuple(self._world.picture(row, self._shown) for row in range(self.num_envs))
        from mentorgym.envs.spatial import picture

        return tuple(picture.draw(self.arrangement(row)).colours for row in range(self.num_envs))

    @functools.cached_property
    def adapter(self) -> "SpatialAdapter":
        """What mentors are told of these rooms."""
        from mentorgym.envs.spatial.mentoring import SpatialAdapter

        return SpatialAdapter(self)

    def close_extras(self, **kwargs: Any) -> None:
        """End the Unity player, if there is one."""
        if isinstance(self._world, UnityWorld):
            self._world.close()

    def _start(self, rows: np.ndarray) -> None:
        self._world.arrange(rows)
        self._taken[rows] = 0

    def _untouched(self) -> dict[str, Any]:
        """The infos of rows in which nothing has been moved."""
        every = np.ones(self.num_envs, bool)
        told = {"valid": every, "reason": _REASONS[np.zeros(self.num_envs, int)], "moved": np.full(self.num_envs, -1)}
        return told | {f"_{name}": every for name in told}

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One for each row."""
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        elif isinstance(seed, Sequence | np.ndarray):
            seeds = list(seed)
        else:
            raise ValueError(f"seed {seed!r}: a seed is a whole number from 0 on, or None, or one per row")
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} rows: give one per row, or a single one")
        for each in seeds:
            if each is not None and not (isinstance(each, int | np.integer) and 0 <= each < 1 << 64):
                raise ValueError(f"seed {each!r}: a seed is a whole number from 0 to 2^64 - 1, or None")
        if not isinstance(seed, Sequence | np.ndarray):
            super().reset(seed=None if seed is None else int(seed))
        return [None if each is None else int(each) for each in seeds]


def _observation_space() -> gym.spaces.Box:
    """Bounds of `World.observe`: those of the largest room."""
    side, turn = max(max(room.size) for room in ROOMS.values()), np.pi
    low = np.full(OBSERVED, -side, np.float32)
    high = np.full(OBSERVED, side, np.float32)
    low[:5], high[:2] = 0, (len(OBJECTS) - 1, len(ROOMS) - 1)
    for start in (11, 17, 23, 29):
        low[start : start + 3], high[start : start + 3] = -turn, turn
    return gym.spaces.Box(low, high, dtype=np.float32)
