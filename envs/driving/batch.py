"""B embedded worlds with E egos each: what the vector and the parallel environment share."""

import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.envs.checks import check_choice, check_count, check_seed
from mentorgym.envs.driving.action import to_control
from mentorgym.envs.driving.expert import drive_by_rules
from mentorgym.envs.driving.map.tables import join
from mentorgym.envs.driving.map.town import STORAGE_LENGTH, Town, find_map, load_town
from mentorgym.envs.driving.random import episode_key, random_bits
from mentorgym.envs.driving.task import rules, tasks, termination
from mentorgym.envs.driving.task.reward import accumulate, found_rl
from mentorgym.envs.driving.task.routes import Route, find_routes, read_routes
from mentorgym.envs.driving.view import masks as view
from mentorgym.envs.driving.view.picture import pictures, prompt_contexts
from mentorgym.envs.driving.view.window import Window
from mentorgym.envs.driving.worlds.simulator.world import EmbeddedWorld
from mentorgym.envs.driving.worlds.state import ROUTE_CAPACITY, EpisodeState, WorldState, empty_episode_state
from mentorgym.extras import is_installed

REWARDS = ("found-rl",)
SPLITS = ("train", "test")
OBSERVATIONS = ("masks", "state")

Reward = Callable[[WorldState, EpisodeState], np.ndarray]
"""A custom reward: from the records of the whole batch to a float for each ego."""

Observation = dict[str, np.ndarray] | np.ndarray
"""`bev` and `state` by name, or with observation="state" the state vector alone."""

Towns = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

STEP_INFOS = ("reward_terms", "route_completion", "respawns")
"""What the infos of every step hold."""

SPAWN_ATTEMPTS = 32

EGO_DISTANCE = 12.0
"""Metres that the egos of a world start apart at least."""

WINDOW_SCALE = 3
"""Screen pixels along a pixel of the picture; fewer where several egos share the window."""


class DrivingBatch:
    """The episodes of B worlds with E egos each; ego e of world b is row b * E + e of all that is per ego.

    All egos of a world begin together, each on a route of its own. What is drawn depends on the world's seed and the
    number of its episode alone, and ego 0 of many is drawn as the only ego is. `DrivingEnv` explains the arguments.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 10}
    benchmark = tasks.NOCRASH
    # Closing needs these, even where construction failed.
    _window: Window | None = None
    _pool: ThreadPoolExecutor | None = None

    def __init__(
        self,
        worlds: int,
        egos: int,
        *,
        town: Towns | None,
        routes: str | os.PathLike[str] | None,
        traffic: str | tuple[int, int] | None,
        weather: str,
        split: str,
        ends: str,
        observation: str,
        reward: str | Reward,
        soft_reset: float,
        threads: int,
        carla: str | None,
        render_mode: str | None,
    ):
        if carla is not None:
            raise ValueError(
                f"carla={carla!r}: driving on a CARLA server is reserved and not built yet; leave the argument out to "
                "drive in the embedded world"
            )
        check_choice("split", split, SPLITS)
        benchmark, training = self.benchmark, split == "train"
        if town is None:
            town = benchmark.train_towns if training else benchmark.test_towns
        names = (town,) if isinstance(town, str | os.PathLike) else tuple(town) if isinstance(town, Sequence) else ()
        if not names or not all(isinstance(name, str | os.PathLike) for name in names):
            raise ValueError(f"town={town!r}: give a name or a path, or several")
        if len(set(map(str, names))) < len(names):
            raise ValueError(f"town={town!r}: name each town once")
        if routes is not None and not isinstance(routes, str | os.PathLike):
            raise ValueError(f"routes={routes!r}: give a name or a path")
        if routes is not None and len(names) > 1 and Path(routes).suffix != ".xml":
            raise ValueError(f"routes={routes!r}: only a leaderboard XML says which town a route is in; give one town")
        check_choice("ends", ends, termination.END_RULES)
        check_choice("observation", observation, OBSERVATIONS)
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if not callable(reward):
            check_choice("reward", reward, REWARDS)
        if not isinstance(soft_reset, int | float) or not 0.0 <= soft_reset <= 1.0:
            raise ValueError(f"soft_reset={soft_reset!r}: a probability is between 0 and 1")
        if soft_reset and split == "test":
            raise ValueError("soft_reset is for training: the episodes of split='test' each have their own traffic")
        threads = check_count("threads", threads)
        self.num_worlds, self.num_egos = worlds, egos
        self.towns = tuple(load_town(name) for name in names)
        for each in self.towns:
            if training and not each.tables.spawn_first[-1]:
                raise ValueError(
                    f"{each.name} has no place to start from: episodes begin on lanes outside junctions, of "
                    f"{STORAGE_LENGTH:.0f} m at least; take another map, or split='test' with a route file"
                )
        self._tables = join([each.tables for each in self.towns])
        self.routes: list[Route] = []
        protected: list[Route] = []
        for each, name, first in zip(self.towns, names, self._tables.town_lane_first[:-1], strict=True):
            ours = tasks.packaged_routes(each, find_map(name), benchmark) or []
            own = ours if routes is None else read_routes(each, find_routes(routes))
            if not own and not training:
                raise ValueError(f"{each.name} has no test routes of its own: name a file of them, routes='...csv'")
            shift = self._tables.lane_first[first]
            self.routes += [replace(route, waypoints=route.waypoints + shift) for route in own]
            for either in (tasks.NOCRASH, tasks.LEADERBOARD):
                fixed = tasks.packaged_routes(each, find_map(name), either) or []
                protected += [replace(route, waypoints=route.waypoints + shift) for route in fixed]
        self._test_pairs = tasks.lane_pairs([*protected, *self.routes], self._tables)
        self.split, self.observation, self.soft_reset = split, observation, soft_reset
        self.render_mode, self.threads = render_mode, threads
        level = (benchmark.train_level if training else benchmark.test_level) if traffic is None else traffic
        self._traffic = [tasks.traffic_range(level, each, self.num_egos, benchmark) for each in self.towns]
        self._weather_speed = tasks.weather_speed(weather)
        self._weathers = tasks.weather_indices("all" if self._weather_speed else weather)
        self._ends = termination.END_RULES[ends]
        self._own_reward = reward if callable(reward) else None

        self._world = self._make_world()
        state, rows = self._world.state, self.num_worlds * self.num_egos
        self._episode = empty_episode_state(rows)
        self._memory = view.empty_view_memory(
            self.num_worlds,
            state.vehicle_kind.shape[1],
            state.walker_kind.shape[1],
            state.light_state.shape[1],
            self.num_egos,
        )
        self._seeds = np.zeros(self.num_worlds, np.uint64)
        self._seeded = np.zeros(self.num_worlds, bool)
        self._episodes = np.zeros(self.num_worlds, np.int64)
        self._keys = np.zeros(self.num_worlds, np.uint64)
        self._pool_process = 0

        spaces: dict[str, gym.Space] = {"state": gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)}
        if observation == "masks":
            spaces["bev"] = gym.spaces.Box(0, 255, (15, 96, 96), np.uint8)
        self.single_observation_space: gym.Space = self._observation(gym.spaces.Dict(spaces))
        self.single_action_space: gym.spaces.Box = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._buffers = [
            {name: np.zeros((rows, *(space.shape or ())), space.dtype) for name, space in spaces.items()}
            for _ in range(2)
        ]
        self._kept = np.zeros(self.num_worlds, np.uint8)
        self._rewards = np.zeros(rows, np.float64)
        self._terminated = np.zeros(rows, bool)
        self._truncated = np.zeros(rows, bool)
        if not is_installed("pygame"):
            # The class says what the environment can show, an environment what it can show on this machine.
            self.metadata = self.metadata | {"render_modes": ["rgb_array"]}
        if render_mode == "human":
            self._window = Window("mentorgym", self.metadata["render_fps"], max(1, min(WINDOW_SCALE, 6 // egos)))

    def _make_world(self) -> EmbeddedWorld:
        """The world that writes WorldState; tests put another one here."""
        vehicles, walkers = (max(most for _, most in ranges) for ranges in zip(*self._traffic, strict=True))
        return EmbeddedWorld(self._tables, self.num_worlds, vehicles, walkers, self.num_egos)

    @property
    def town(self) -> Town:
        """The first of the towns, which is the only one unless several were asked for."""
        return self.towns[0]

    @property
    def state(self) -> WorldState:
        """All that the worlds hold, a row per world."""
        return self._world.state

    @property
    def episode(self) -> EpisodeState:
        """The memory of the tasks, a row per ego."""
        return self._episode

    @property
    def num_routes(self) -> int:
        """How many fixed routes the test split has, those of all towns one after another; 0 without any.

        Routes of a file that cannot be driven count too, so that numbers are those of the file.
        """
        return len(self.routes)

    @property
    def route_problems(self) -> dict[int, str]:
        """Why fixed routes cannot be driven, by their numbers. Episodes pass over them, and to name one is an error."""
        return {number: route.problem for number, route in enumerate(self.routes) if route.problem}

    # The start of an episode

    def _seed_worlds(self, seeds: Sequence[int | None], mask: np.ndarray, entropy: np.random.Generator) -> None:
        for each in seeds:
            check_seed(each)
        for world in np.flatnonzero(mask).tolist():
            seed = seeds[world]
            if seed is not None:
                self._seeds[world] = int(seed) & 0xFFFFFFFFFFFFFFFF
                self._episodes[world] = 0
            elif not self._seeded[world]:
                self._seeds[world] = entropy.integers(0, 2**63)
            self._seeded[world] = True

    def _check_routes(self, routes: object, count: int) -> np.ndarray | None:
        """`options["route"]` as int [count], or None when it was not given."""
        if routes is None:
            return None
        if self.split != "test":
            raise ValueError("options['route'] picks a test route: make the environment with split='test'")
        numbers = np.asarray(routes)
        if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (count,)):
            raise ValueError(f"options['route']={numbers.tolist()!r} must be a whole number, or {count} of them")
        if not ((numbers >= 0) & (numbers < self.num_routes)).all():
            raise ValueError(
                f"options['route']={numbers.tolist()}: {' + '.join(town.name for town in self.towns)} has routes 0 to "
                f"{self.num_routes - 1}"
            )
        problems = self.route_problems
        for number in numbers.ravel().tolist():
            if number in problems:
                raise ValueError(f"options['route']={number} cannot be driven: {problems[number]}")
        return np.broadcast_to(numbers, count)

    def _start_world(self, world: int, chosen: Iterable[int] | None = None) -> None:
        """Begin a world's next episode. `chosen`: test routes for its egos, in place of the next ones."""
        number = int(self._episodes[world])
        key = np.uint64(episode_key(int(self._seeds[world]), number))
        tables, state, egos = self._tables, self._world.state, self.num_egos
        kept: list[int] | None = None
        if self.split == "test":
            routes = self._next_routes(number, chosen)
        else:
            lot = random_bits(key, tasks.STREAM_SOFT, 0, 0) >> np.uint64(11)
            if number and float(lot) * 2.0**-53 < self.soft_reset:
                kept = self._free_starts(world, key)
            # Neighbours in a batch are seeded one after another, so they drive in different towns.
            town = (int(self._seeds[world]) + number) % len(self.towns)
            starts = self._draw_starts(town, key) if kept is None else kept
            routes = [self._draw_route(self._ego_key(key, ego), start) for ego, start in enumerate(starts)]
        self._episodes[world] += 1
        self._keys[world] = key
        weather = self._weathers[int(random_bits(key, tasks.STREAM_WEATHER, 0, 0) % np.uint64(len(self._weathers)))]
        poses = tables.waypoint_pose[[route[0] for route in routes]]
        if kept is None:
            town = self._town_of(routes[0][0])
            vehicles, walkers = tasks.draw_traffic(self._traffic[town], key)
            self._world.reset(world, town, weather, key, poses, vehicles, walkers)
        else:
            for ego in range(egos):
                self._world.move_ego(world, ego, poses[ego], weather)
            # Nothing of the last episode's task may be drawn for this one.
            self._memory.stop_sign[world] = -1
        self._change_weather(world, world + 1)
        for ego, route in enumerate(routes):
            rules.begin(tables, state, self._episode, world * egos + ego, route, endless=self.split == "train")
        restart = np.zeros(self.num_worlds, np.uint8)
        restart[world] = kept is None
        view.remember(state, self._episode, self._memory, world, world + 1, restart)

    def _change_weather(self, first: int, last: int) -> None:
        if self._weather_speed:
            state = self._world.state
            tasks.change_weather(self._keys, state.tick, self._weather_speed, first, last, state.weather)

    @staticmethod
    def _ego_key(key: np.uint64, ego: int) -> np.uint64:
        """The key of what is drawn for one ego; the first one's is the episode's."""
        return np.uint64(episode_key(int(key), ego)) if ego else key

    def _town_of(self, waypoint: int) -> int:
        return int(self._tables.lane_town[self._tables.waypoint_lane[waypoint]])

    def _apart(self, waypoint: int, others: list[int]) -> bool:
        place = self._tables.waypoint_pose[:, :2]
        return all(np.hypot(*(place[waypoint] - place[other])) >= EGO_DISTANCE for other in others)

    def _draw_starts(self, town: int, key: np.uint64) -> list[int]:
        """A random spawn point for each ego, at a distance from the others'."""
        tables = self._tables
        every = tasks.spawn_waypoints(tables, town)
        starts: list[int] = []
        for ego in range(self.num_egos):
            own = self._ego_key(key, ego)
            drawn = (tasks.draw_spawn(tables, town, own, attempt) for attempt in range(SPAWN_ATTEMPTS))
            # `traffic_range` has seen to it that there always is one.
            starts.append(next(start for start in itertools.chain(drawn, every) if self._apart(start, starts)))
        return starts

    def _free_starts(self, world: int, key: np.uint64) -> list[int] | None:
        """Random spawn points with nobody near them, for a soft reset; None when one was not found."""
        tables, town = self._tables, int(self._world.state.town[world])
        starts: list[int] = []
        for ego in range(self.num_egos):
            own = self._ego_key(key, ego)
            for attempt in range(SPAWN_ATTEMPTS):
                start = tasks.draw_spawn(tables, town, own, attempt)
                if self._world.is_free(world, ego, tables.waypoint_pose[start]) and self._apart(start, starts):
                    starts.append(start)
                    break
            else:
                return None
        return starts

    def _draw_route(self, key: np.uint64, start: int) -> np.ndarray:
        buffer = np.empty(ROUTE_CAPACITY, np.int32)
        length = tasks.begin_endless(self._tables, self._town_of(start), key, start, self._test_pairs, buffer)
        return buffer[:length]

    def _next_routes(self, number: int, chosen: Iterable[int] | None) -> list[np.ndarray]:
        """The test routes of episode `number`: those `chosen`, or the next that start apart in one town."""
        following = ((number * self.num_egos + k) % self.num_routes for k in range(self.num_routes))
        picked: list[np.ndarray] = []
        for k in following if chosen is None else chosen:
            if self.routes[k].problem:
                continue
            route = self.routes[k].waypoints
            starts = [other[0] for other in picked]
            if self._apart(route[0], starts) and self._town_of(route[0]) == self._town_of((starts or route)[0]):
                picked.append(route)
            if len(picked) == self.num_egos:
                return picked
        raise ValueError(
            f"{self.num_egos} egos need test routes in one town that start {EGO_DISTANCE:.0f} m apart: "
            + ("there are too few, so take fewer egos" if chosen is None else "choose other numbers")
        )

    # A step

    def _drive(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """One tick of everything that runs, actions float [A, 2]; writes rewards and ends, returns the observation."""
        state, episode, egos, training = self._world.state, self._episode, self.num_egos, self.split == "train"
        controls = to_control(actions).reshape(self.num_worlds, egos, 3)
        running = episode.active.reshape(self.num_worlds, egos).max(axis=1)
        observation = self._next_buffers()

        def advance(first: int, last: int) -> None:
            rows = first * egos, last * egos
            self._world.tick(controls, running, first, last)
            rules.update(self._tables, state, episode, *rows, True)
            termination.check(episode, *rows, self._ends, training, self._terminated, self._truncated)
            if self._own_reward is None:
                found_rl(state, episode, *rows, self._rewards)
                close(first, last)

        def close(first: int, last: int) -> None:
            accumulate(state, episode, first * egos, last * egos, self._rewards)
            self._look(running, observation, first, last)

        self._in_slices(advance)
        if self._own_reward is not None:
            self._rewards[:] = self._custom_reward(self._own_reward)
            self._in_slices(close)
        return observation

    def _look(self, running: np.ndarray, observation: dict[str, np.ndarray], first: int, last: int) -> None:
        """Change the weather, lengthen routes, and see what there is to see."""
        self._change_weather(first, last)
        episode, rows = self._episode, slice(first * self.num_egos, last * self.num_egos)
        if self.split == "train":
            wanting = rules.needs_extension(episode, rows) & (episode.active[rows] == 1)
            for row in np.flatnonzero(wanting):
                self._extend_route(rows.start + int(row))
        for begin, end in _spans(running, first, last):
            # Worlds at rest show what they showed.
            view.remember(self._world.state, episode, self._memory, begin, end, self._kept)
        self._draw(observation, first, last)

    def _in_slices(self, work: Callable[[int, int], None]) -> None:
        """Call `work(first, last)` for all worlds, cut into a slice for each thread."""
        count = min(self.threads, self.num_worlds)
        if count == 1:
            work(0, self.num_worlds)
            return
        if self._pool is None or self._pool_process != os.getpid():
            # A fork takes the pool along without its threads.
            self._pool, self._pool_process = ThreadPoolExecutor(count - 1), os.getpid()
        cuts = [self.num_worlds * k // count for k in range(count + 1)]
        others = [self._pool.submit(work, *cut) for cut in itertools.pairwise(cuts[1:])]
        try:
            work(*cuts[:2])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _custom_reward(self, function: Reward) -> np.ndarray:
        reward = np.asarray(function(self._world.state, self._episode), np.float64)
        if reward.shape != self._rewards.shape or not np.isfinite(reward).all():
            raise ValueError(
                f"the reward function must return {self._rewards.shape} finite numbers, it returned {reward!r}"
            )
        return np.where(self._episode.active, reward, 0.0)

    def _extend_route(self, row: int) -> None:
        # What is kept of the route has to fit before it.
        kept = rules.EXTEND_BELOW + rules.ROUTE_WINDOW + 1
        episode, buffer = self._episode, np.empty(ROUTE_CAPACITY - kept, np.int32)
        world, ego = divmod(row, self.num_egos)
        start, last = episode.route[row, 0], episode.route[row, episode.route_length[row] - 1]
        # Legs drawn at the start count from 1; a later one is told apart by the step it is drawn in.
        moment = ROUTE_CAPACITY + int(episode.steps[row])
        key, town = self._ego_key(self._keys[world], ego), self._town_of(start)
        more = tasks.extend_endless(self._tables, town, key, moment, start, last, self._test_pairs, buffer)
        if more:
            rules.extend(self._tables, episode, row, buffer[:more])
        else:
            rules.stop_growth(episode, row)

    def _step_infos(self) -> dict[str, np.ndarray]:
        """The arrays of STEP_INFOS, a row per ego."""
        episode = self._episode
        completion = np.minimum(episode.route_done / np.maximum(episode.route_total, 1e-9), 1.0)
        respawns = np.repeat(self._world.respawns, self.num_egos)
        return dict(zip(STEP_INFOS, (episode.reward_terms.copy(), completion, respawns), strict=True))

    # Observations

    def _observation(self, named: Any) -> Any:
        """Arrays or spaces by name, in the form of the observations."""
        return named if self.observation == "masks" else named["state"]

    def _next_buffers(self) -> dict[str, np.ndarray]:
        self._buffers.reverse()
        return dict(self._buffers[0])

    def _observe(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The next pair of buffers with the present observation of the worlds in `mask`, the last one of the others."""
        previous = self._buffers[0]
        observation = self._next_buffers()
        if not mask.all():
            for name, array in observation.items():
                array[:] = previous[name]
        for first, last in _spans(mask, 0, self.num_worlds):
            self._draw(observation, first, last)
        return observation

    def _draw(self, observation: dict[str, np.ndarray], first: int, last: int) -> None:
        state, episode = self._world.state, self._episode
        view.state_vector(state, episode, first, last, observation["state"])
        if self.observation == "masks":
            view.masks(self._tables, state, episode, self._memory, first, last, observation["bev"])

    def picture(self, row: int = 0) -> np.ndarray:
        """What is around ego `row` as an image, uint8 [192, 192, 3]."""
        return self.pictures([row])[0]

    def pictures(self, rows: Sequence[int]) -> np.ndarray:
        """What is around each of the K egos `rows` as images, uint8 [K, 192, 192, 3]."""
        return pictures(self._tables, self._world.state, self._episode, self._memory, rows)

    def prompt_context(self, row: int = 0) -> dict[str, Any]:
        """What a prompt says about ego `row`: see `picture.prompt_contexts`."""
        return self.prompt_contexts([row])[0]

    def prompt_contexts(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """What a prompt says about each of the egos `rows`: see `picture.prompt_contexts`."""
        return prompt_contexts(self._tables, self._world.state, self._episode, rows)

    def rule_based_actions(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """What the rule-based driver would do now in worlds `first:last`: float32 [A, 2], elsewhere 0."""
        actions = np.zeros((self.num_worlds * self.num_egos, 2), np.float32)
        last = self.num_worlds if last is None else last
        drive_by_rules(self._tables, self._world.state, self._episode, first, last, actions)
        return actions

    # Freezing

    def _arrays(self) -> dict[str, np.ndarray]:
        """Everything that the batch's future depends on, by name, not copied."""
        arrays: dict[str, np.ndarray] = {
            "task": np.array([SPLITS.index(self.split), self._ends], np.uint8),
            "towns": np.array([zlib.crc32(self._tables.waypoint_pose.tobytes())], np.uint32),
            "seeds": self._seeds,
            "seeded": self._seeded,
            "episodes": self._episodes,
            "keys": self._keys,
        }
        records: dict[str, Any] = {"episode": self._episode, "memory": self._memory, **self._world.records()}
        for name, record in records.items():
            arrays |= {f"{name}.{field}": array for field, array in record._asdict().items()}
        return arrays

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the batch's future depends on, as independent arrays by name."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def _restore(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Go back to a state of `get_state`; returns its observation."""
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
        if any(list(state[name]) != list(arrays[name]) for name in ("task", "towns")):
            raise ValueError(
                "the saved state is of another split, other ends or other towns: make the environment with the same"
            )
        for name, array in arrays.items():
            array[...] = state[name]
        return self._observe(np.ones(self.num_worlds, bool))

    def _release(self) -> None:
        """Stop the threads and close the window."""
        if self._pool is not None and self._pool_process == os.getpid():
            self._pool.shutdown()
        self._pool = None
        if self._window is not None:
            self._window.close()


def _spans(mask: np.ndarray, first: int, last: int) -> list[tuple[int, int]]:
    """The runs of true entries of `mask[first:last]`, as pairs (first, last)."""
    if mask[first:last].all():
        return [(first, last)]
    edges = np.flatnonzero(np.diff(mask[first:last].astype(bool), prepend=False, append=False))
    return [(first + int(begin), first + int(end)) for begin, end in edges.reshape(-1, 2)]
