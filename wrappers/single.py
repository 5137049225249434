"""The wrappers for `gymnasium.Env`."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.wrappers.feedback import Bonuses, Hints, adapter_of


def _observation_number(info: dict[str, Any]) -> None:
    info["observation_number"] = int(info["observation_number"][0])


class ActionHints(gym.Wrapper):
    """Ask a mentor for actions; its hints arrive in the info of this or a later step.

    As `mentorgym.wrappers.vector.ActionHints`, which documents arguments and errors, for one environment:
    `info["observation_number"]` is an int, and `info["hints"].envs` are 0.

    >>> import gymnasium as gym
    >>> from mentorgym.wrappers import ActionHints
    >>> def mentor(requests):
    ...     return ["0.5 0.0 0.0" for request in requests]
    >>> env = ActionHints(gym.make("UnitySpatial-v0"), mentor, mode="sync")
    >>> observation, info = env.reset(seed=3)
    >>> info["observation_number"], info["hints"].actions.tolist()
    (0, [[0.5, 0.0, 0.0]])
    >>> env.close()
    """

    def __init__(self, env: gym.Env, mentor: str | Callable[..., Any] = "vlm", **arguments: Any):
        super().__init__(env)
        self._hints = Hints(adapter_of(env), 1, mentor, **arguments)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask about the first observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._hints.after_reset(np.ones(1, bool), info)
        _observation_number(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, ask about the new observation, and add the hints that have arrived to the info."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._hints.after_step(np.array([not (terminated or truncated)]), info)
        _observation_number(info)
        return observation, reward, terminated, truncated, info

    def counters(self) -> dict[str, float]:
        """See `feedback.MentorClient.counters`."""
        return self._hints.counters()

    def close(self) -> None:
        """Stop the mentor and close the environment."""
        self._hints.close()
        super().close()


class ClipReward(gym.Wrapper):
    """Reward actions that a CLIP scorer finds to fit the picture.

    As `mentorgym.wrappers.vector.ClipReward`, which documents arguments and errors, for one environment:
    `info["observation_number"]` is an int, and `info["bonuses"].envs` are 0.
    """

    def __init__(self, env: gym.Env, mentor: str | Callable[..., Any] = "clip", **arguments: Any):
        super().__init__(env)
        self._bonuses = Bonuses(adapter_of(env), 1, mentor, **arguments)
        self.normaliser = self._bonuses.normaliser

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask about the first observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._bonuses.after_reset(np.ones(1, bool), info)
        _observation_number(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, compute the bonuses of actions whose observation has been scored, and ask about the new observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        gain = self._bonuses.after_step([action], np.array([not (terminated or truncated)]), info)
        _observation_number(info)
        return observation, float(reward) + float(gain[0]), terminated, truncated, info

    def counters(self) -> dict[str, float]:
        """See `feedback.Bonuses.counters`."""
        return self._bonuses.counters()

    def close(self) -> None:
        """Stop the scorer and close the environment."""
        self._bonuses.close()
        super().close()
