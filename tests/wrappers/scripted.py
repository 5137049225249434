"""Environments whose observations, hints and judgements tell their own number, and a service that answers as told."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.mentors.mentor import IMAGE_SLOT, Request

MASKS = np.zeros((15, 96, 96), np.uint8)


class ScriptedAdapter:
    """A request's action is (row, serial number of the row's observation), and so is what judges it."""

    picture_shape = (2, 3, 3)
    action_size = 2
    anchors = (("a cat", "a dog"),)
    answers = ("sit", "run")

    def __init__(self, serial: np.ndarray):
        self.serial = serial
        self.pressing = np.zeros(len(serial), bool)
        self.asked: list[tuple[int, int]] = []

    def requests(self, rows, prompt):
        self.asked += [(int(row), int(self.serial[row])) for row in rows]
        picture = np.zeros(self.picture_shape, np.uint8)
        return [Request(picture, prompt, 0, np.array([row, self.serial[row]], np.float32)) for row in rows]

    def urgent(self, infos):
        return self.pressing.copy()

    def check_prompt(self, prompt):
        if IMAGE_SLOT not in prompt:
            raise ValueError(f"no slot {IMAGE_SLOT}")

    def to_action(self, feedback):
        return None if isinstance(feedback, str) else feedback

    def margins(self, probabilities, actions):
        """The serial number that both tell, NaN where they differ."""
        return np.where((probabilities == actions).all(1), probabilities[:, 1], np.nan).astype(np.float32)


SPACES = {
    "single_observation_space": gym.spaces.Dict(
        bev=gym.spaces.Box(0, 255, MASKS.shape, np.uint8), state=gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)
    ),
    "single_action_space": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
}


class ScriptedVectorEnv(gym.vector.VectorEnv):
    """`state` holds the row and the serial number of the observation; `ends(env, serial)` says when an episode ends."""

    def __init__(
        self,
        num_envs: int = 2,
        ends: Callable[[int, int], bool] = lambda env, serial: False,
        mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ):
        self.num_envs, self.ends, self.mode = num_envs, ends, mode
        self.metadata = {"autoreset_mode": mode}
        for name, space in SPACES.items():
            setattr(self, name, space)
        self.serial = np.full(num_envs, 6)
        self.adapter = ScriptedAdapter(self.serial)

    def observation(self) -> dict[str, np.ndarray]:
        state = np.zeros((self.num_envs, 10), np.float32)
        state[:, 0], state[:, 1] = np.arange(self.num_envs), self.serial
        return {"bev": np.broadcast_to(MASKS, (self.num_envs, *MASKS.shape)), "state": state}

    def reset(self, *, seed=None, options=None):
        self.serial += (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        return self.observation(), {}

    def step(self, actions):
        ended = np.array([self.ends(env, int(self.serial[env])) for env in range(self.num_envs)])
        infos: dict[str, Any] = {}
        final = self.observation()
        if self.mode == AutoresetMode.SAME_STEP:
            for env in np.flatnonzero(ended):
                # What nobody acts on tells a number that no hint may carry.
                own = {name: array[env].copy() for name, array in final.items()}
                own["state"][1] = -5
                infos = self._add_info(infos, {"final_obs": own}, env)
        self.serial += 1
        return self.observation(), np.ones(self.num_envs), ended, np.zeros(self.num_envs, bool), infos


class ScriptedEnv(gym.Env):
    """The same with one environment and no autoreset."""

    def __init__(self, ends: Callable[[int, int], bool] = lambda env, serial: False):
        self.vector = ScriptedVectorEnv(1, ends, AutoresetMode.DISABLED)
        self.observation_space, self.action_space = SPACES.values()
        self.adapter = self.vector.adapter

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {name: array[0] for name, array in self.vector.reset()[0].items()}, {}

    def step(self, action):
        observation, reward, terminated, truncated, infos = self.vector.step(np.asarray(action)[None])
        observation = {name: array[0] for name, array in observation.items()}
        return observation, float(reward[0]), bool(terminated[0]), bool(truncated[0]), infos


class ScriptedService:
    """`MentorService`'s interface: each request comes back as its own action, after as many polls as `delay` says.

    `delay(key)`: polls that a reply takes, -1 for one that comes back as None at once. A duplicate follows each reply
    where `duplicates` is set.
    """

    delay: Callable[[tuple[int, int]], int] = staticmethod(lambda key: 1)
    duplicates = False

    def __init__(self, mentor, *, options, picture_shape, batch_size, max_wait, max_outstanding, num_envs, worker):
        self.mentor, self.options, self.max_outstanding, self.num_envs = mentor, options, max_outstanding, num_envs
        self.under_way: list[list[Any]] = []
        self.again: list[Any] = []
        self.closed = False

    def submit(self, key, request):
        assert self.room(key[0] + 1)[key[0]], "asked beyond the bound"
        self.under_way.append([self.delay(key), key, request.action.copy()])
        return True

    @property
    def full(self):
        return not self.room(self.num_envs).any()

    def room(self, num_envs):
        held = np.bincount([key[0] for _, key, _ in self.under_way], minlength=num_envs)
        return held[:num_envs] < self.max_outstanding

    def poll(self, timeout=0.0):
        come = self.again if self.duplicates else []
        self.again = []
        for reply in self.under_way:
            reply[0] -= 1
        due = [reply for reply in self.under_way if reply[0] < 0]
        self.under_way = [reply for reply in self.under_way if reply[0] >= 0]
        # The latest first: out of order.
        for left, key, action in reversed(due):
            come.append((key, None if left < -1 else action))
            self.again.append((key, action))
        return come

    def counters(self):
        return {"skipped": 0, "restarts": 0}

    def close(self):
        self.closed = True
