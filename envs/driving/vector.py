"""`CarlaNoCrash-v0` as a vector environment: any number of embedded worlds in one process."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentorgym.envs.driving import reward as rewards
from mentorgym.envs.driving import rules, tasks, termination, view
from mentorgym.envs.driving.action import to_control
from mentorgym.envs.driving.expert import drive_by_rules
from mentorgym.envs.driving.kernel import announce_compilation, draw, episode_key
from mentorgym.envs.driving.picture import picture, prompt_context
from mentorgym.envs.driving.routes import Route, find_routes, read_routes
from mentorgym.envs.driving.score import episode_score
from mentorgym.envs.driving.simulator.world import EmbeddedWorld
from mentorgym.envs.driving.state import (
    ROUTE_CAPACITY,
    EpisodeState,
    WorldState,
    empty_episode_state,
)
from mentorgym.envs.driving.town import find_map, load_town

REWARDS = {"found-rl": rewards.found_rl}
SPLITS = ("train", "test")
OBSERVATIONS = ("masks", "state")

Reward = Callable[[WorldState, EpisodeState], np.ndarray]

STEP_INFOS = ("reward_terms", "route_completion", "respawns")
"""What the infos of every step hold."""

SPAWN_ATTEMPTS = 32


def _choice(argument: str, value: object, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"unknown {argument}={value!r}: {tasks.nearest_name(value, valid)}")


class DrivingVectorEnv(gym.vector.VectorEnv):
    """NoCrash driving on `num_envs` embedded worlds, Gymnasium's vector interface.

    Observations (batched): `bev` uint8 [15, 96, 96], the masks of `view.masks`; `state` float32 [10], of
    `view.state_vector`. Actions: float32 [2] = (acceleration, steer) in [-1, 1], clipped to that. A step is 0.1 s.

    Args:
        num_envs: worlds in the batch. World i under seed s is the single environment under seed s + i, bit for bit.
        town: one of ours ("Suburb" to train in, "Village" never trained in), a name under `MENTORGYM_MAPS` or
            `CARLA_ROOT`, or the path of an `.xodr` file.
        routes: the test routes: None for the town's own, or a file (CSV of start and goal poses, or leaderboard XML),
            by path or by name under `MENTORGYM_ROUTES`. Training never draws their pairs of start and goal lanes.
        traffic: "empty", "regular", "dense", "busy", or a pair (vehicles, walkers); the same in every episode
            (Found-RL's released settings draw 0 to 150 vehicles and 0 to 200 walkers for each training episode).
        weather: a preset's or a group's name (`tasks.WEATHERS`, `tasks.WEATHER_GROUPS`); a label in the embedded world.
        split: "train" drives endless random routes; "test" the fixed routes, episode n of a world the n-th of them.
        ends: "found-rl" ends at the first infraction, "leaderboard" drives on (`termination.check`).
        observation: "masks", or "state" for the state vector alone, with nothing drawn.
        reward: "found-rl", or a callable of (WorldState, EpisodeState) that returns a float [num_envs].
        soft_reset: probability that a training episode keeps the last one's traffic and moves only the ego (Found-RL).
        carla: reserved.
        render_mode: None or "rgb_array".
        autoreset_mode: SAME_STEP, or DISABLED with `options={"reset_mask": ...}`.

    `reset` takes `options={"route": k}` (an int or one per world) in the test split.

    The arrays of an observation are overwritten by the step after the next: copy them to keep them longer.

    Infos of a step: `reward_terms` float32 [5] (speed, position, rotation, action, terminal), `route_completion`, and
    `respawns`, how many vehicles have been moved elsewhere, stuck or at a dead end, since the traffic appeared. At an
    episode's end also `score`, the dict of `score.episode_score`. With a reward of one's own `reward_terms` stay 0, and
    on an endless route `route_completion` falls whenever the route is lengthened.

    Raises:
        ValueError, TypeError: an argument is unknown, or does not fit the town; the message names what would.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        town: str = "Suburb",
        routes: str | None = None,
        traffic: str | tuple[int, int] = "regular",
        weather: str = "train",
        split: str = "train",
        ends: str = "found-rl",
        observation: str = "masks",
        reward: str | Reward = "found-rl",
        soft_reset: float = 0.0,
        carla: str | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        **unknown: object,
    ):
        if unknown:
            known = [argument for argument in DrivingVectorEnv.__init__.__annotations__ if argument != "unknown"]
            name = next(iter(unknown))
            raise TypeError(f"unknown argument {name!r}: {tasks.nearest_name(name, known)}")
        if carla is not None:
            raise ValueError(
                f"carla={carla!r}: driving on a CARLA server is reserved and not built yet; leave the argument out to "
                "drive in the embedded world"
            )
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: give the number of worlds, at least 1")
        for argument, value in {"town": town, "routes": routes}.items():
            if not isinstance(value, str | os.PathLike) and (argument, value) != ("routes", None):
                raise ValueError(f"{argument}={value!r}: give a name or a path")
        _choice("split", split, SPLITS)
        _choice("ends", ends, tuple(termination.END_RULES))
        _choice("observation", observation, OBSERVATIONS)
        _choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if not callable(reward):
            _choice("reward", reward, tuple(REWARDS))
        if not isinstance(soft_reset, int | float) or not 0.0 <= soft_reset <= 1.0:
            raise ValueError(f"soft_reset={soft_reset!r}: a probability is between 0 and 1")
        if soft_reset and split == "test":
            raise ValueError("soft_reset is for training: the episodes of split='test' each have their own traffic")
        if autoreset_mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise ValueError(f"autoreset_mode={autoreset_mode}: use AutoresetMode.SAME_STEP or AutoresetMode.DISABLED")
        announce_compilation()
        self.num_envs = num_envs
        self.town = load_town(town)
        ours = tasks.packaged_routes(self.town, find_map(town))
        self.routes: list[Route] | None = ours if routes is None else read_routes(self.town, find_routes(routes))
        if split == "test" and self.routes is None:
            raise ValueError(f"{self.town.name} has no test routes of its own: name a file of them, routes='...csv'")
        self.split, self.observation, self.soft_reset = split, observation, soft_reset
        self.render_mode, self.autoreset_mode = render_mode, autoreset_mode
        self.metadata = self.metadata | {"autoreset_mode": autoreset_mode}
        self._vehicles, self._walkers = tasks.traffic_counts(traffic, self.town)
        self._weathers = tasks.weather_indices(weather)
        self._ends = termination.END_RULES[ends]
        self._reward = reward if callable(reward) else REWARDS[reward]
        self._reward_is_ours = not callable(reward)

        self._test_pairs = tasks.lane_pairs([*(ours or ()), *(self.routes or ())], self.town)
        self._tables = self.town.tables
        self._world = self._make_world()
        state = self._world.state
        self._episode = empty_episode_state(num_envs)
        self._memory = view.empty_view_memory(
            num_envs, state.vehicle_kind.shape[1], state.walker_kind.shape[1], state.light_state.shape[1]
        )
        self._seeds = np.zeros(num_envs, np.uint64)
        self._seeded = np.zeros(num_envs, bool)
        self._episodes = np.zeros(num_envs, np.int64)
        self._keys = np.zeros(num_envs, np.uint64)
        self._route_buffer = np.empty(ROUTE_CAPACITY, np.int32)

        spaces: dict[str, gym.Space] = {"state": gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)}
        if observation == "masks":
            spaces["bev"] = gym.spaces.Box(0, 255, (15, 96, 96), np.uint8)
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._buffers = [
            {name: np.zeros((num_envs, *space.shape), space.dtype) for name, space in spaces.items()} for _ in range(2)
        ]
        self._rewards = np.zeros(num_envs, np.float64)
        self._terminated = np.zeros(num_envs, bool)
        self._truncated = np.zeros(num_envs, bool)

    def _make_world(self) -> EmbeddedWorld:
        """The world that writes WorldState; tests put another one here."""
        return EmbeddedWorld(self._tables, self.num_envs, self._vehicles, self._walkers)

    @property
    def num_routes(self) -> int:
        """How many fixed routes the test split has, 0 without any."""
        return len(self.routes or ())

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
        routes = options.pop("route", None)
        if routes is not None:
            if self.split != "test":
                raise ValueError("options['route'] picks a test route: make the environment with split='test'")
            routes = np.asarray(routes)
            if routes.dtype.kind not in "iu" or routes.shape not in ((), (self.num_envs,)):
                raise ValueError(
                    f"options['route']={routes.tolist()!r} must be a whole number, or {self.num_envs} of them"
                )
            routes = np.broadcast_to(routes, (self.num_envs,))
            if not ((routes >= 0) & (routes < self.num_routes)).all():
                raise ValueError(
                    f"options['route']={routes.tolist()}: {self.town.name} has routes 0 to {self.num_routes - 1}"
                )
        if options:
            name = next(iter(options))
            raise ValueError(f"unknown option {name!r}: {tasks.nearest_name(name, ('route', 'reset_mask'))}")
        self._seed_worlds(seed, mask)
        for row in np.flatnonzero(mask):
            self._start_episode(row, None if routes is None else int(routes[row]))
        return self._observe(mask), {}

    def _seed_worlds(self, seed: int | Sequence[int | None] | None, mask: np.ndarray) -> None:
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds: give one per world, or a single one")
            for each in seeds:
                if each is not None and not (isinstance(each, int | np.integer) and each >= 0):
                    raise ValueError(f"seed {each!r}: a seed is a whole number from 0 on, or None")
        for row in np.flatnonzero(mask):
            if seeds[row] is not None:
                self._seeds[row] = int(seeds[row]) & 0xFFFFFFFFFFFFFFFF
                self._episodes[row] = 0
            elif not self._seeded[row]:
                self._seeds[row] = self.np_random.integers(0, 2**63)
            self._seeded[row] = True

    def _start_episode(self, row: int, chosen: int | None) -> None:
        number = int(self._episodes[row])
        self._episodes[row] += 1
        key = np.uint64(episode_key(int(self._seeds[row]), number))
        tables, state = self._tables, self._world.state
        keep = False
        if self.split == "test":
            route = self.routes[chosen if chosen is not None else number % self.num_routes].waypoints
            start = route[0]
        else:
            start = tasks.draw_spawn(tables, 0, key, 0)
            lot = draw(key, tasks.STREAM_SOFT, 0, 0) >> np.uint64(11)
            if number and float(lot) * 2.0**-53 < self.soft_reset:
                start, keep = self._free_start(row, key, start)
            length = tasks.begin_endless(tables, 0, key, start, self._test_pairs, self._route_buffer)
            route = self._route_buffer[:length].copy()
        pose = tables.waypoint_pose[start][None]
        weather = self._weathers[int(draw(key, tasks.STREAM_WEATHER, 0, 0) % np.uint64(len(self._weathers)))]
        if keep:
            self._world.move_ego(row, 0, pose[0], weather)
            # Nothing of the last episode's task may be drawn for this one.
            self._memory.stop_sign[row] = -1
        else:
            self._world.reset(row, 0, weather, key, pose, self._vehicles, self._walkers)
        self._keys[row] = key
        rules.begin(tables, state, self._episode, row, route, endless=self.split == "train")
        restart = np.zeros(self.num_envs, np.uint8)
        restart[row] = not keep
        view.remember(state, self._episode, self._memory, row, row + 1, restart)

    def _free_start(self, row: int, key: np.uint64, otherwise: int) -> tuple[int, bool]:
        """A random spawn point without a vehicle near it, and whether one was found."""
        for attempt in range(SPAWN_ATTEMPTS):
            start = tasks.draw_spawn(self._tables, 0, key, attempt)
            if self._world.is_free(row, 0, self._tables.waypoint_pose[start]):
                return start, True
        return otherwise, False

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
        episode, worlds = self._episode, self.num_envs
        active = episode.active.copy()
        self._world.tick(to_control(actions)[:, None], active)
        state = self._world.state
        rules.advance(self._tables, state, episode, 0, worlds)
        training = self.split == "train"
        termination.check(state, episode, 0, worlds, self._ends, training, self._terminated, self._truncated)
        if self._reward_is_ours:
            self._reward(state, episode, 0, worlds, self._rewards)
        else:
            self._rewards[:] = self._own_reward(state, episode)
        rewards.accumulate(state, episode, self._rewards, 0, worlds)
        if training:
            for row in np.flatnonzero(rules.needs_extension(episode, slice(None)) & (episode.active == 1)):
                self._extend_route(row)
        fresh = np.zeros(worlds, np.uint8)
        # Worlds at rest show what they showed.
        for first, last in [(0, worlds)] if active.all() else [(row, row + 1) for row in np.flatnonzero(active)]:
            view.remember(state, episode, self._memory, first, last, fresh)

        every = np.ones(worlds, bool)
        infos: dict[str, Any] = {
            "reward_terms": episode.reward_terms.copy(),
            "_reward_terms": every,
            "route_completion": np.minimum(episode.route_done / np.maximum(episode.route_total, 1e-9), 1.0),
            "_route_completion": every,
            "respawns": self._world.respawns.copy(),
            "_respawns": every,
        }
        reward, terminated, truncated = self._rewards.copy(), self._terminated.copy(), self._truncated.copy()
        observation = self._observe(every)
        ended = np.flatnonzero(terminated | truncated)
        for row in ended:
            own = {"score": episode_score(episode, row)}
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                last = {name: array[row].copy() for name, array in observation.items()}
                own = {name: infos[name][row] for name in STEP_INFOS} | own
                infos = self._add_info(infos, {"final_obs": last, "final_info": own}, row)
                self._start_episode(row, None)
            else:
                infos = self._add_info(infos, own, row)
        if len(ended) and self.autoreset_mode == AutoresetMode.SAME_STEP:
            mask = np.zeros(worlds, bool)
            mask[ended] = True
            self._draw(mask, observation)
        return observation, reward, terminated, truncated, infos

    def _own_reward(self, state: WorldState, episode: EpisodeState) -> np.ndarray:
        reward = np.asarray(self._reward(state, episode), np.float64)
        if reward.shape != (self.num_envs,) or not np.isfinite(reward).all():
            raise ValueError(
                f"the reward function must return ({self.num_envs},) finite numbers, it returned {reward!r}"
            )
        return np.where(episode.active, reward, 0.0)

    def _extend_route(self, row: int) -> None:
        episode = self._episode
        start, last = episode.route[row, 0], episode.route[row, episode.route_length[row] - 1]
        # Legs drawn at the start count from 1; a later one is told apart by the step it is drawn in.
        moment = ROUTE_CAPACITY + int(episode.steps[row])
        more = tasks.extend_endless(
            self._tables, 0, self._keys[row], moment, start, last, self._test_pairs, self._route_buffer
        )
        if more:
            rules.extend(self._tables, episode, row, self._route_buffer[:more])

    def _observe(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The next pair of buffers with the present observation; rows outside `mask` keep their last one."""
        previous = self._buffers[0]
        self._buffers.reverse()
        observation = self._buffers[0]
        if not mask.all():
            for name, array in observation.items():
                array[:] = previous[name]
        self._draw(mask, observation)
        return dict(observation)

    def _draw(self, mask: np.ndarray, observation: dict[str, np.ndarray]) -> None:
        state, episode, memory = self._world.state, self._episode, self._memory
        spans = [(0, self.num_envs)] if mask.all() else [(row, row + 1) for row in np.flatnonzero(mask)]
        for first, last in spans:
            view.state_vector(state, episode, first, last, observation["state"])
            if self.observation == "masks":
                view.masks(self._tables, state, episode, memory, first, last, observation["bev"])

    def expert_actions(self) -> np.ndarray:
        """What the rule-based driver would do now: float32 [num_envs, 2]."""
        actions = np.zeros((self.num_envs, 2), np.float32)
        drive_by_rules(self._tables, self._world.state, self._episode, 0, self.num_envs, actions)
        return actions

    def picture(self, row: int = 0) -> np.ndarray:
        """World `row` as an image, uint8 [192, 192, 3]."""
        return picture(self._tables, self._world.state, self._episode, self._memory, row)

    def prompt_context(self, row: int = 0) -> dict[str, Any]:
        """What a prompt says about world `row`: see `picture.prompt_context`."""
        return prompt_context(self._tables, self._world.state, self._episode, row)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The picture of each world with render_mode="rgb_array", else None."""
        return tuple(self.picture(row) for row in range(self.num_envs)) if self.render_mode == "rgb_array" else None

    def _arrays(self) -> dict[str, np.ndarray]:
        """Everything that the batch's future depends on, by name, not copied."""
        task = np.array([SPLITS.index(self.split), self._ends], np.uint8)
        arrays = {
            "task": task,
            "seeds": self._seeds,
            "seeded": self._seeded,
            "episodes": self._episodes,
            "keys": self._keys,
        }
        records = {"episode": self._episode, "memory": self._memory, **self._world.records()}
        for name, record in records.items():
            arrays |= {f"{name}.{field}": array for field, array in record._asdict().items()}
        return arrays

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the batch's future depends on, as independent arrays by name."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def set_state(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Go back to a state of `get_state`; returns its observation.

        Raises ValueError, and changes nothing, when the state is of another batch.
        """
        arrays = self._arrays()
        for name, array in arrays.items():
            if name not in state:
                raise ValueError(f"the saved state lacks {name!r}: was it made by get_state of this version?")
            saved = np.asarray(state[name])
            if (saved.shape, saved.dtype) != (array.shape, array.dtype):
                raise ValueError(
                    f"the saved {name} has shape {saved.shape} of {saved.dtype}, this environment's {array.shape} of "
                    f"{array.dtype}: same id and arguments?"
                )
        if list(state["task"]) != list(arrays["task"]):
            raise ValueError("the saved state is of another split or other ends: make the environment with the same")
        for name, array in arrays.items():
            array[...] = state[name]
        return self._observe(np.ones(self.num_envs, bool))
