"""The wrappers for `gymnasium.Env`."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.wrappers.feedback import Bonuses, Hints, adapter_of


def _observation_number(info: dict[str, Any]) -> None:
    info["observation_number"] = int(info["observation_number"][0])


class ActionHints(gym.Wrapper):
    """As `mentorgym.wrappers.vector.ActionHints`; `info["observation_number"]` is an int, `envs` of `hints` are 0."""

    def __init__(self, env: gym.Env, mentor: str | Callable[..., Any] = "vlm", **arguments: Any):
        super().__init__(env)
        self._hints = Hints(adapter_of(env), 1, mentor, **arguments)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask about the first observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._hints.begin(np.ones(1, bool), info)
        _observation_number(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, ask about the new observation, and pass on what has arrived."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._hints.tell(np.array([not (terminated or truncated)]), info)
        _observation_number(info)
        return observation, reward, terminated, truncated, info

    def counters(self) -> dict[str, float]:
        """See `feedback.Consultation.counters`."""
        return self._hints.counters()

    def close(self) -> None:
        """Stop the mentor and close the environment."""
        self._hints.close()
        super().close()


class ClipReward(gym.Wrapper):
    """As `mentorgym.wrappers.vector.ClipReward`; `info["observation_number"]` is an int, `envs` of `bonuses` are 0."""

    def __init__(self, env: gym.Env, mentor: str | Callable[..., Any] = "clip", **arguments: Any):
        super().__init__(env)
        self._bonuses = Bonuses(adapter_of(env), 1, mentor, **arguments)
        self.normaliser = self._bonuses.normaliser

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and show the scorer the first observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._bonuses.begin(np.ones(1, bool), info)
        _observation_number(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, weigh the actions that the scorer has judged, and show it the new observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        gain = self._bonuses.tell([action], np.array([not (terminated or truncated)]), info)
        _observation_number(info)
        return observation, float(reward) + float(gain[0]), terminated, truncated, info

    def counters(self) -> dict[str, float]:
        """See `feedback.Bonuses.counters`."""
        return self._bonuses.counters()

    def close(self) -> None:
        """Stop the scorer and close the environment."""
        self._bonuses.close()
        super().close()
