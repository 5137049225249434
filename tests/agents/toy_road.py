"""A road of one lane with the spaces and vector semantics of `CarlaNoCrash-v0`, and nothing hidden."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.mentors.mentor import IMAGE_SLOT, Feedback, Request

LENGTH = 60
HALF_WIDTH = 3.0


class ToyAdapter:
    """Asks what a driver would do who holds 6 m/s and the middle of the lane; the anchors are to brake, to accelerate.

    The picture is as bright as the speed is high, red where the car is right of the middle and green where it is left.
    """

    picture_shape = (4, 4, 3)
    action_size = 2
    anchors = [["It brakes.", "It accelerates."]]

    def __init__(self, envs: "ToyRoadEnv"):
        self.envs = envs

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        asked = []
        for env in rows:
            picture = np.zeros(self.picture_shape, np.uint8)
            picture[..., 0 if self.envs.offset[env] > 0 else 1] = 10 * self.envs.speed[env]
            ideal = np.clip([6 - self.envs.speed[env], -self.envs.offset[env]], -1, 1).astype(np.float32)
            asked.append(Request(picture, prompt or IMAGE_SLOT + "What now?", 0, ideal))
        return asked

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        return np.zeros(self.envs.num_envs, bool)

    def check_prompt(self, prompt: str) -> None:
        pass

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        return None if isinstance(feedback, str) else feedback

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        accelerates = actions[:, 0] > 0
        difference = probabilities[:, 1] - probabilities[:, 0]
        return np.maximum(np.where(accelerates, difference, -difference), 0).astype(np.float32)


def scorer(requests: Sequence[Request], anchors: Any = None) -> list[np.ndarray]:
    """Finds that below 6 m/s one accelerates."""
    return [np.array([0.2, 0.8] if each.picture.max() < 60 else [0.8, 0.2], np.float32) for each in requests]


class ToyRoadEnv(gym.vector.VectorEnv):
    """A car is to hold 6 m/s and its lane; an episode terminates off the road and is truncated after `steps` steps.

    The state vector carries the environment's row, episode and step in entries 0 to 2, so that a transition tells where
    it comes from; the masks show the offset as a band of the route channel.
    """

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int = 1, steps: int = LENGTH):
        self.num_envs = num_envs
        self.steps = steps
        self.single_observation_space = gym.spaces.Dict(
            bev=gym.spaces.Box(0, 255, (15, 96, 96), np.uint8), state=gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)
        )
        self.single_action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.adapter = ToyAdapter(self)
        self.seeds, self.episode = np.zeros(num_envs, np.int64), np.full(num_envs, -1)
        self.clock, self.speed, self.offset = np.zeros(num_envs, int), np.zeros(num_envs), np.zeros(num_envs)

    def _begin(self, env: int) -> None:
        self.episode[env] += 1
        self.clock[env], self.speed[env] = 0, 0.0
        self.offset[env] = np.random.default_rng([self.seeds[env], self.episode[env]]).uniform(-1, 1)

    def _observe(self) -> dict[str, np.ndarray]:
        state = np.zeros((self.num_envs, 10), np.float32)
        state[:, 0], state[:, 1], state[:, 2] = np.arange(self.num_envs), self.episode, self.clock
        state[:, 4] = self.speed
        masks = np.zeros((self.num_envs, 15, 96, 96), np.uint8)
        for env in range(self.num_envs):
            centre = int(48 + 8 * self.offset[env])
            masks[env, 1, :, centre - 4 : centre + 4] = 255
        return {"bev": masks, "state": state}

    def reset(self, *, seed=None, options=None):
        self.seeds[:] = seed
        for env in range(self.num_envs):
            self._begin(env)
        return self._observe(), {}

    def step(self, actions):
        self.speed = np.clip(self.speed + actions[:, 0], 0, 9)
        self.offset = self.offset + 0.1 * self.speed * actions[:, 1]
        self.clock += 1
        rewards = 1 - np.abs(self.speed - 6) / 6 - 0.5 * np.abs(self.offset)
        terminated = np.abs(self.offset) > HALF_WIDTH
        truncated = (self.clock >= self.steps) & ~terminated
        rewards = np.where(terminated, rewards - 1, rewards).astype(np.float32)
        infos = {}
        if (ended := terminated | truncated).any():
            final = self._observe()
            for env in np.flatnonzero(ended):
                score = {"completed_km": 0.1, "mean_speed": self.speed[env], "end": "lateral deviation"}
                info = {"final_obs": {name: final[name][env].copy() for name in final}, "final_info": {"score": score}}
                infos = self._add_info(infos, info, env)
                self._begin(env)
        return self._observe(), rewards, terminated, truncated, infos

    def get_state(self):
        return {name: getattr(self, name).copy() for name in ("seeds", "episode", "clock", "speed", "offset")}

    def set_state(self, state):
        for name, array in state.items():
            getattr(self, name)[:] = array
        return self._observe()


gym.register("ToyRoad-v0", vector_entry_point=ToyRoadEnv)
