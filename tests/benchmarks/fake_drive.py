"""A straight road with the interface of `CarlaNoCrash-v0`: acceleration arrives, hard steering runs a red light."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.envs.driving.task.score import COUNTS
from mentorgym.envs.driving.view import language
from mentorgym.mentors.mentor import Request

NUM_ROUTES = 5
TIME_LIMIT = 20


class FakeAdapter:
    """What a mentor is told of the road: the prompt names the row and the metres it has come."""

    def __init__(self, envs: "FakeDrive"):
        self.envs = envs

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        unknown = np.full(2, np.nan, np.float32)
        told = [f"{prompt} row {row}, {self.envs.metres[row]:.2f} m" for row in rows]
        return [Request(self.envs.picture(row), text, 0, unknown) for row, text in zip(rows, told, strict=True)]

    def to_action(self, feedback: str) -> np.ndarray | None:
        return language.to_action(feedback)

    def first_numbers_to_action(self, feedback: str) -> np.ndarray | None:
        return language.first_numbers_to_action(feedback)


class FakeDrive(gym.vector.VectorEnv):
    """Route k is 3 + k m long, a step of full acceleration covers 1 m, and the seed decides how slippery the road is.

    The state vector shows the distance driven and the slip. Without autoreset a row that has ended may not be stepped.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    started: list[tuple[str, int, int]] = []
    """(town, route, seed) of every episode that a test environment began."""

    def __init__(
        self,
        num_envs: int = 1,
        town: str = "Suburb",
        traffic: str = "regular",
        weather: str = "train",
        split: str = "train",
        routes: str | None = None,
        observation: str = "masks",
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        copy: bool = True,
    ):
        if town not in ("Suburb", "Village"):
            raise ValueError(f"unknown town {town!r}: there are Suburb and Village")
        self.num_envs, self.town, self.split, self.autoreset_mode = num_envs, town, split, autoreset_mode
        self.metadata = {"autoreset_mode": autoreset_mode}
        self.num_routes = NUM_ROUTES
        self.route_problems: dict[int, str] = {}
        state = gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)
        both = gym.spaces.Dict(state=state, bev=gym.spaces.Box(0, 255, (15, 96, 96), np.uint8))
        self.single_observation_space = both if observation == "masks" else state
        self.single_action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.route, self.steps, self.reds = (np.zeros(num_envs, int) for _ in range(3))
        self.metres, self.slip, self.returns = (np.zeros(num_envs) for _ in range(3))
        self.ended = np.ones(num_envs, bool)
        self.adapter = FakeAdapter(self)

    def _begin(self, row: int, route: int, seed: int) -> None:
        if self.split == "test":
            self.started.append((self.town, route, seed))
        self.route[row], self.slip[row] = route, np.random.default_rng(seed).uniform(0, 0.5)
        self.metres[row], self.steps[row], self.reds[row], self.returns[row] = 0, 0, 0, 0
        self.ended[row] = False

    def _observe(self) -> dict[str, np.ndarray] | np.ndarray:
        state = np.zeros((self.num_envs, 10), np.float32)
        state[:, 0], state[:, 1] = self.metres, self.slip
        if isinstance(self.single_observation_space, gym.spaces.Box):
            return state
        return {"state": state, "bev": np.zeros((self.num_envs, 15, 96, 96), np.uint8)}

    def _completion(self) -> np.ndarray:
        return np.minimum(self.metres / (3 + self.route), 1)

    def _score(self, row: int) -> dict[str, Any]:
        completion, reds = float(self._completion()[row]), int(self.reds[row])
        counts = dict.fromkeys(COUNTS, 0) | {"red_lights": reds}
        kilometres = float(self.metres[row]) / 1000
        return {
            **counts,
            **{f"{name}_per_km": count / max(kilometres, 0.001) for name, count in counts.items()},
            "completed_km": kilometres,
            "route_completion": completion,
            "driving_score": completion * 0.7**reds,
            "success": completion == 1,
            "strict_success": completion == 1 and reds == 0,
            "return": float(self.returns[row]),
            "seconds": float(self.steps[row] / 10),
            "end": "completed" if completion == 1 else "timeout",
        }

    def reset(self, *, seed=None, options=None):
        options = options or {}
        seeds = seed if isinstance(seed, list) else [(seed or 0) + row for row in range(self.num_envs)]
        routes = options.get("route", np.zeros(self.num_envs, int))
        for row in np.flatnonzero(options.get("reset_mask", np.ones(self.num_envs, bool))):
            self._begin(row, int(routes[row]), seeds[row])
        return self._observe(), {}

    def step(self, actions):
        assert actions.shape == (self.num_envs, 2) and actions.dtype == np.float32
        assert not self.ended.any(), "a row that has ended was stepped"
        before = self.metres.copy()
        self.metres += np.maximum(actions[:, 0], 0) * (1 - self.slip)
        self.reds += actions[:, 1] > 0.9
        self.steps += 1
        rewards = (self.metres - before).astype(np.float32)
        self.returns += rewards
        terminated = self._completion() == 1
        truncated = (self.steps >= TIME_LIMIT) & ~terminated
        every = np.ones(self.num_envs, bool)
        infos = {"route_completion": self._completion(), "_route_completion": every}
        infos |= {"reward_terms": np.outer(rewards, np.float32([1, 0, 0, 0, 0])), "_reward_terms": every}
        for row in np.flatnonzero(terminated | truncated):
            self.ended[row] = True
            own = {"score": self._score(row)}
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                seen = self._observe()
                last = {name: seen[name][row] for name in seen} if isinstance(seen, dict) else seen[row]
                own = {"final_obs": last, "final_info": own}
                self._begin(row, 0, row)
            infos = self._add_info(infos, own, row)
        return self._observe(), rewards, terminated, truncated, infos

    def expert_actions(self) -> np.ndarray:
        return np.tile(np.float32([1, 0]), (self.num_envs, 1))

    def get_state(self) -> dict[str, np.ndarray]:
        none = np.zeros(self.num_envs, int)
        return {f"episode.{name}": none for name in COUNTS} | {"episode.red_lights": self.reds.copy()}

    def prompt_context(self, row: int) -> dict[str, Any]:
        return {"speed": float(1 - self.slip[row]), "command_name": "follow the lane"}

    def picture(self, row: int) -> np.ndarray:
        return np.full((192, 192, 3), int(255 * self._completion()[row]), np.uint8)


if "FakeDrive-v0" not in gym.registry:
    gym.register("FakeDrive-v0", vector_entry_point=FakeDrive)
