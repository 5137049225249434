"""`CarlaNoCrash-v0` and `CarlaLeaderboard-BEV-v0` as Gymnasium environments: vector environments with one world."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.envs.driving.batch import STEP_INFOS
from mentorgym.envs.driving.vector import DrivingVectorEnv, LeaderboardVectorEnv

if TYPE_CHECKING:
    from mentorgym.envs.driving.mentoring import DrivingAdapter


class DrivingEnv(gym.Env):
    """NoCrash driving in one embedded world. Arguments, spaces and infos are those of `DrivingVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 10}
    vector_class = DrivingVectorEnv

    def __init__(self, **arguments: Any):
        for name in ("num_envs", "autoreset_mode"):
            if name in arguments:
                raise TypeError(f"{name} belongs to a batch: make one with gym.make_vec, or leave it out")
        self.vector = self.vector_class(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **arguments)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.render_mode = self.vector.render_mode

    @staticmethod
    def _first(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array[0].copy() for name, array in observation.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start the next episode; `options={"route": k}` picks a test route."""
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            raise ValueError("options['reset_mask'] belongs to a batch: make one with gym.make_vec, or leave it out")
        observation, info = self.vector.reset(seed=seed, options=options)
        return self._first(observation), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Drive 0.1 s. Action float [2] = (acceleration, steer); NaN is refused."""
        if np.shape(action) != (2,):
            raise ValueError(f"the action has shape {np.shape(action)}, not (2,) = (acceleration, steer)")
        observation, reward, terminated, truncated, infos = self.vector.step(np.asarray(action)[None])
        info = {name: infos[name][0] for name in STEP_INFOS}
        if "score" in infos:
            info["score"] = {name: values[0] for name, values in infos["score"].items() if not name.startswith("_")}
        return self._first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        """The picture, uint8 [192, 192, 3], with render_mode="rgb_array", else None: a window shows itself."""
        return self.picture() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Stop the threads and close the window."""
        self.vector.close()

    def expert_action(self) -> np.ndarray:
        """What the rule-based driver would do now: float32 [2]."""
        return self.vector.expert_actions()[0]

    def picture(self) -> np.ndarray:
        """The scene as an image, uint8 [192, 192, 3]."""
        return self.vector.picture(0)

    def prompt_context(self) -> dict[str, Any]:
        """What a prompt says about the scene: see `picture.prompt_contexts`."""
        return self.vector.prompt_context(0)

    @property
    def adapter(self) -> "DrivingAdapter":
        """What mentors are told of this world: row 0."""
        return self.vector.adapter

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the episode's future depends on, as independent arrays by name."""
        return self.vector.get_state()

    def set_state(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Go back to a state of `get_state`; returns its observation."""
        return self._first(self.vector.set_state(state))


class LeaderboardEnv(DrivingEnv):
    """Leaderboard driving in one embedded world. Arguments, spaces and infos are those of `LeaderboardVectorEnv`."""

    vector_class = LeaderboardVectorEnv
