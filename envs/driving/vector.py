"""`CarlaNoCrash-v0` as a vector environment: any number of embedded worlds in one process."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentorgym.envs.driving.batch import DrivingBatch
from mentorgym.envs.driving.task.score import episode_score
from mentorgym.envs.driving.task.tasks import LEADERBOARD
from mentorgym.envs.driving.view.window import Window
from mentorgym.names import nearest_name

if TYPE_CHECKING:
    from mentorgym.envs.driving.mentoring import DrivingAdapter

WINDOW_SCALE = 3
"""Screen pixels along a pixel of the picture."""


class DrivingVectorEnv(DrivingBatch, gym.vector.VectorEnv):
    """NoCrash driving on `num_envs` embedded worlds, Gymnasium's vector interface.

    Observations (batched): `bev` uint8 [15, 96, 96], the masks of `view.masks`; `state` float32 [10], of
    `view.state_vector`. Actions: float32 [2] = (acceleration, steer) in [-1, 1], clipped to that. A step is 0.1 s.

    Args:
        num_envs: worlds in the batch. World i under seed s is the single environment under seed s + i, bit for bit.
        autoreset_mode: SAME_STEP, or DISABLED with `options={"reset_mask": ...}`.
        town: one of ours ("Suburb", the default, to train in; "Village" never trained in), a name under
            `MENTORGYM_MAPS` or `CARLA_ROOT`, or the path of an `.xodr` file. Of several, each in a world of its own,
            training drives in number (seed of the world + number of its episode) mod their count, and soft resets stay
            where they are; the test routes of all are numbered one town after another.
        routes: the test routes: None for the town's own, or a file (CSV of start and goal poses, or leaderboard XML),
            by path or by name under `MENTORGYM_ROUTES`. Training never draws their pairs of start and goal lanes.
        traffic: "empty", "regular" (the default), "dense", "busy", or a pair (vehicles, walkers), the same in every
            episode; or "train", which draws both anew for each episode (Found-RL: 0 to 150 vehicles and 0 to 200
            walkers).
        weather: a preset's or a group's name (`tasks.WEATHERS`, `tasks.WEATHER_GROUPS`), drawn for each episode; or
            "dynamic" and "dynamic_k", which changes during the episode (`tasks.change_weather`) at k times the speed.
            A label in the embedded world.
        split: "train" drives endless random routes; "test" the fixed routes, episode n of a world the n-th of them.
        ends: "found-rl" ends at the first infraction, "leaderboard" drives on (`termination.check`).
        observation: "masks", or "state" for the state vector alone, with nothing drawn.
        reward: "found-rl", or a callable of (WorldState, EpisodeState) that returns a float [num_envs].
        soft_reset: probability that a training episode keeps the last one's traffic and moves only the ego (Found-RL).
        threads: how many threads share the worlds of a step; the results are the same, bit for bit.
        carla: reserved.
        render_mode: None, "rgb_array", or "human": a window shows the first world after every reset and step, in real
            time (the extra `human`).

    `reset` takes `options={"route": k}` (an int or one per world) in the test split.

    The arrays of an observation are overwritten by the step after the next: copy them to keep them longer.

    Infos of a step: `reward_terms` float32 [5] (speed, position, rotation, action, terminal), `route_completion`, and
    `respawns`, how many vehicles have been moved elsewhere, stuck or at a dead end, since the traffic appeared. At an
    episode's end also `score`, the dict of `score.episode_score`. With a reward of one's own `reward_terms` stay 0, and
    on an endless route `route_completion` falls whenever the route is lengthened.

    Raises:
        ValueError, TypeError: an argument is unknown, or does not fit the town; the message names what would.
    """

    metadata: dict[str, Any] = DrivingBatch.metadata | {
        "render_modes": ["rgb_array", "human"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    single_observation_space: gym.spaces.Dict
    single_action_space: gym.spaces.Box

    def __init__(self, num_envs: int = 1, *, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP, **arguments: Any):
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: give the number of worlds, at least 1")
        if autoreset_mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise ValueError(f"autoreset_mode={autoreset_mode}: use AutoresetMode.SAME_STEP or AutoresetMode.DISABLED")
        super().__init__(num_envs, 1, **arguments)
        self.num_envs, self.autoreset_mode = num_envs, autoreset_mode
        self.metadata = self.metadata | {"autoreset_mode": autoreset_mode}
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        human = self.render_mode == "human"
        self._window = Window("mentorgym", self.metadata["render_fps"], WINDOW_SCALE) if human else None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start every world's next episode, or those of `options["reset_mask"]` (bool [num_envs])."""
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.dtype != bool or mask.shape != (self.num_envs,):
            raise ValueError(
                f"options['reset_mask'] must be a bool array of shape ({self.num_envs},), not {mask.dtype} {mask.shape}"
            )
        routes = self._check_routes(options.pop("route", None), self.num_envs)
        if options:
            name = next(iter(options))
            raise ValueError(f"unknown option {name!r}: {nearest_name(name, ('route', 'reset_mask'))}")
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            if not isinstance(seed, Sequence | np.ndarray):
                raise ValueError(f"seed {seed!r}: a seed is a whole number from 0 on, or None, or one per world")
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds: give one per world, or a single one")
        self._seed_worlds(seeds, mask, self.np_random)
        for world in np.flatnonzero(mask).tolist():
            self._start_world(world, None if routes is None else routes[world : world + 1])
        observation = self._observe(mask)
        self._show()
        return observation, {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Drive 0.1 s in every world. Actions float [num_envs, 2]; NaN is refused."""
        if not self._seeded.all():
            raise gym.error.ResetNeeded("step was called before reset: call reset first")
        try:
            actions = np.asarray(actions, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"actions must be numbers, float [{self.num_envs}, 2]: {error}") from error
        if actions.shape != (self.num_envs, 2):
            raise ValueError(
                f"actions have shape {actions.shape}, not ({self.num_envs}, 2) = (worlds, (acceleration, steer))"
            )
        if np.isnan(actions).any():
            raise ValueError(
                f"actions of the worlds {np.flatnonzero(np.isnan(actions).any(1)).tolist()} are NaN: check the policy"
            )
        observation = self._drive(actions)
        reward, terminated, truncated = self._rewards.copy(), self._terminated.copy(), self._truncated.copy()
        every, told = np.ones(self.num_envs, bool), self._step_infos()
        infos: dict[str, Any] = {}
        for name, values in told.items():
            infos |= {name: values, f"_{name}": every}
        for world in np.flatnonzero(terminated | truncated).tolist():
            own: dict[str, Any] = {"score": episode_score(self._episode, world)}
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                last = {name: array[world].copy() for name, array in observation.items()}
                own = {name: values[world] for name, values in told.items()} | own
                own = {"final_obs": last, "final_info": own}
                self._start_world(world)
                self._draw(observation, world, world + 1)
            infos = self._add_info(infos, own, world)
        self._show()
        return observation, reward, terminated, truncated, infos

    def _show(self) -> None:
        if self._window is not None:
            self._window.show(self.picture(0))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The picture of each world with render_mode="rgb_array", else None."""
        return tuple(self.picture(row) for row in range(self.num_envs)) if self.render_mode == "rgb_array" else None

    def expert_actions(self) -> np.ndarray:
        """What the rule-based driver would do now: float32 [num_envs, 2]."""
        return self._expert_actions()

    @functools.cached_property
    def adapter(self) -> "DrivingAdapter":
        """What mentors are told of these worlds: a row is a world."""
        from mentorgym.envs.driving.mentoring import DrivingAdapter

        return DrivingAdapter(self)

    def set_state(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Go back to a state of `get_state`; returns its observation.

        Raises ValueError, and changes nothing, when the state is of another batch.
        """
        return self._restore(state)

    def close_extras(self, **_: Any) -> None:
        """Stop the threads and close the window; called by `close`."""
        self._stop_threads()
        if self._window is not None:
            self._window.close()


class LeaderboardVectorEnv(DrivingVectorEnv):
    """Leaderboard driving, `CarlaLeaderboard-BEV-v0`: as `DrivingVectorEnv`, but for these arguments.

    Args:
        town: by default "Suburb", "City", "Ring" and "Avenue" to train in, a batch's worlds in turn (Found-RL: four
            environments, one in each of the towns that ours stand for); all six for tests.
        routes: the test routes are by default `leaderboard_<town>.xml`, 10 + 6 + 20 + 20 + 10 + 10 = 76 in the towns'
            order Suburb, Village, City, Ring, Grid, Avenue; as long as the public Leaderboard 1.0 routes that stand
            behind Found-RL's suite.
        traffic: "train" by default in training, drawn for every episode that begins with new traffic from Found-RL's
            ranges (Town01: 80 to 160 vehicles, 80 to 160 walkers, and so on); "busy" in tests, as in its tables.
            Both are scaled to our towns' kilometres of lanes.
        ends: "found-rl" by default, in tests too: Found-RL tests under the rules that it trains under, and adds the
            route's completion and a time limit. "leaderboard" drives on after infractions, as the CARLA leaderboard.
    """

    benchmark = LEADERBOARD
