"""`CarlaNoCrash-v0` as a vector environment: any number of embedded worlds in one process."""

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentorgym.envs.checks import (
    check_actions,
    check_autoreset_mode,
    check_count,
    check_options,
    check_reset_mask,
    check_seeds,
    needs_reset,
)
from mentorgym.envs.driving.batch import DrivingBatch, Observation, Reward, Towns
from mentorgym.envs.driving.task.score import episode_score
from mentorgym.envs.driving.task.tasks import LEADERBOARD
from mentorgym.names import names_unknown_arguments

if TYPE_CHECKING:
    from mentorgym.envs.driving.mentoring import DrivingAdapter


class DrivingVectorEnv(DrivingBatch, gym.vector.VectorEnv):
    """NoCrash driving on `num_envs` embedded worlds, Gymnasium's vector interface.

    World i under seed s is the single environment under seed s + i, bit for bit. `DrivingEnv` describes actions,
    observations, rewards and the end of an episode, and the arguments that are not listed here.

    Args:
        num_envs: N, worlds in the batch.
        autoreset_mode: SAME_STEP, NEXT_STEP or DISABLED, as the enumeration or its value. SAME_STEP begins the next
            episode within the step that ends one; the last observation is in `infos["final_obs"]`, the last infos in
            `infos["final_info"]`. NEXT_STEP begins it in the step after, which ignores the world's action, with reward
            0. DISABLED leaves it to `reset` with `options={"reset_mask": ...}`; until then the world rests.
        copy: whether observations are independent arrays. Without, a step costs less, and the step after the next
            overwrites them.

    `reset` takes `options={"reset_mask": mask}`, bool [N], the worlds to reset, and in the test split
    `options={"route": k}`, the number of a route or one for each world.

    Infos of a step: those of the single environment as arrays [N], each with its mask `_<name>`.

    Raises:
        ValueError, TypeError: an argument is unknown, or does not fit the town; the message names what would.
        gymnasium.error.DependencyNotInstalled: render_mode="human" without pygame.

    Example:
        >>> import numpy as np
        >>> envs = DrivingVectorEnv(2, town="Village", traffic="empty", autoreset_mode="NextStep")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations["bev"].shape, observations["state"].shape
        ((2, 15, 96, 96), (2, 10))
        >>> observations, rewards, terminated, truncated, infos = envs.step(np.zeros((2, 2)))
        >>> infos["route_completion"].shape, infos["_route_completion"]
        ((2,), array([ True,  True]))
        >>> envs.close()
    """

    metadata: dict[str, Any] = DrivingBatch.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}
    single_observation_space: Any
    single_action_space: gym.spaces.Box

    @names_unknown_arguments
    def __init__(
        self,
        num_envs: int = 1,
        *,
        town: Towns | None = None,
        routes: str | os.PathLike[str] | None = None,
        traffic: str | tuple[int, int] | None = None,
        weather: str = "train",
        split: str = "train",
        ends: str = "found-rl",
        observation: str = "masks",
        reward: str | Reward = "found-rl",
        soft_reset: float = 0.0,
        threads: int = 1,
        carla: str | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        copy: bool = True,
    ):
        num_envs = check_count("num_envs", num_envs)
        autoreset_mode = check_autoreset_mode(autoreset_mode)
        super().__init__(
            num_envs,
            1,
            town=town,
            routes=routes,
            traffic=traffic,
            weather=weather,
            split=split,
            ends=ends,
            observation=observation,
            reward=reward,
            soft_reset=soft_reset,
            threads=threads,
            carla=carla,
            render_mode=render_mode,
        )
        self.num_envs, self.autoreset_mode, self.copy = num_envs, autoreset_mode, copy
        self.metadata = self.metadata | {"autoreset_mode": autoreset_mode}
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every world's next episode, or those of `options["reset_mask"]` (bool [N])."""
        options = options or {}
        check_options(options, ("route", "reset_mask"))
        mask = check_reset_mask(options, self.num_envs)
        routes = self._check_routes(options.get("route"), self.num_envs)
        seeds = check_seeds(seed, self.num_envs)
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
        self._seed_worlds(seeds, mask, self.np_random)
        for world in np.flatnonzero(mask).tolist():
            self._start_world(world, None if routes is None else routes[world : world + 1])
        arrays = self._observe(mask)
        self._show()
        return self._hand_out(arrays), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Drive 0.1 s in every world. Actions float [N, 2]; NaN is refused."""
        if not self._seeded.all():
            raise needs_reset("step")
        # Worlds whose episode has ended rest, with reward 0 and without another end.
        due = (self._episode.active == 0) & (self.autoreset_mode == AutoresetMode.NEXT_STEP)
        arrays = self._drive(check_actions(actions, self.action_space, due))
        reward, terminated, truncated = self._rewards.copy(), self._terminated.copy(), self._truncated.copy()
        for world in np.flatnonzero(due).tolist():
            self._restart(world, arrays)
        stepped, values = ~due, self._step_infos()
        infos: dict[str, Any] = {}
        for name, array in values.items():
            infos |= {name: array, f"_{name}": stepped}
        for world in np.flatnonzero(terminated | truncated).tolist():
            info: dict[str, Any] = {"score": episode_score(self._episode, world)}
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                last = self._observation({name: array[world].copy() for name, array in arrays.items()})
                info = {"final_obs": last, "final_info": {name: values[name][world] for name in values} | info}
                self._restart(world, arrays)
            infos = self._add_info(infos, info, world)
        self._show()
        return self._hand_out(arrays), reward, terminated, truncated, infos

    def _restart(self, world: int, arrays: dict[str, np.ndarray]) -> None:
        """Begin a world's next episode, and draw its first observation into `arrays`."""
        self._start_world(world)
        self._draw(arrays, world, world + 1)

    def _hand_out(self, arrays: dict[str, np.ndarray]) -> Observation:
        """The batch's own arrays as observations."""
        return self._observation({name: array.copy() for name, array in arrays.items()} if self.copy else arrays)

    def _show(self) -> None:
        if self._window is not None:
            self._window.show(self.picture(0))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The picture of each world with render_mode="rgb_array", else None."""
        return tuple(self.picture(row) for row in range(self.num_envs)) if self.render_mode == "rgb_array" else None

    def expert_actions(self) -> np.ndarray:
        """What the rule-based driver would do now: float32 [N, 2]."""
        return self.rule_based_actions()

    @functools.cached_property
    def adapter(self) -> "DrivingAdapter":
        """What mentors are told of these worlds: a row is a world."""
        from mentorgym.envs.driving.mentoring import DrivingAdapter

        return DrivingAdapter(self)

    def set_state(self, state: dict[str, np.ndarray]) -> Observation:
        """Go back to a state of `get_state`; returns its observation.

        Raises ValueError, and changes nothing, when the state is of another batch.
        """
        return self._hand_out(self._restore(state))

    def close_extras(self, **_: Any) -> None:
        """Stop the threads and close the window; called by `close`."""
        self._release()


class LeaderboardVectorEnv(DrivingVectorEnv):
    """Leaderboard driving, `CarlaLeaderboard-BEV-v0`, on `num_envs` embedded worlds.

    The arguments are those of `DrivingVectorEnv`; `LeaderboardEnv` lists the defaults that differ. In training the
    worlds of a batch drive in the default towns in turn, as Found-RL's four environments do, one in each of its towns.

    Example:
        >>> envs = LeaderboardVectorEnv(2, split="test", town="Village", traffic=(10, 10), observation="state")
        >>> observations, infos = envs.reset(seed=0, options={"route": [3, 4]})
        >>> observations.shape
        (2, 10)
        >>> envs.close()
    """

    benchmark = LEADERBOARD
