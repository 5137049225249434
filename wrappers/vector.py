"""The wrappers for `gymnasium.vector.VectorEnv`."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.wrappers.feedback import Bonuses, Hints, adapter_of, check_autoreset


class _Mentored(gym.vector.VectorWrapper):
    """Keeps which rows have an observation that an action follows."""

    def __init__(self, env: gym.vector.VectorEnv):
        super().__init__(env)
        check_autoreset(env)
        self._same_step = env.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
        self._running = np.ones(env.num_envs, bool)

    def _started(self, options: dict[str, Any] | None) -> np.ndarray:
        """The rows that a reset has started, bool [N]."""
        started = np.array((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        self._running |= started
        return started

    def _stepped(self, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        """The rows with a new observation that an action follows, bool [N]; the episodes of the others have ended."""
        if not self._same_step:
            self._running &= ~(terminated | truncated)
        return self._running


class ActionHints(_Mentored):
    """Ask a mentor for actions; its hints arrive in the infos of this or a later step.

    The infos of each reset and step hold

    | key | value |
    | --- | --- |
    | `observation_number` | int64 [N], the numbers of the new observations; -1 where no action follows |
    | `hints` | `LateHints`: the hints since the last step; in mode "sync" those for the new observations |

    Observations, rewards, terminations and truncations are the environment's own.

    Args:
        env: vector environments with same-step autoreset, or with autoreset disabled.
        mentor: a name that `mentorgym.mentors.load_mentor` takes, or a callable that takes a list of
            `mentorgym.mentors.Request` and returns a list of answers.
        arguments: those of `feedback.MentorClient`.

    Raises:
        TypeError: the environment has no adapter, or an argument is unknown.
        ValueError: an argument is out of range.
        mentorgym.mentors.MentorError: the mentor could not be loaded.

    >>> import gymnasium as gym
    >>> from mentorgym.wrappers.vector import ActionHints
    >>> def mentor(requests):
    ...     return ["0.5 0.0 0.0" for request in requests]
    >>> envs = ActionHints(gym.make_vec("UnitySpatial-v0", num_envs=2), mentor, every=2, mode="sync")
    >>> observations, infos = envs.reset(seed=3)
    >>> infos["hints"]
    LateHints(envs=array([0, 1]), numbers=array([0, 0]), actions=array([[0.5, 0. , 0. ],
           [0.5, 0. , 0. ]], dtype=float32))
    >>> observations, rewards, terminated, truncated, infos = envs.step(infos["hints"].actions)
    >>> infos["observation_number"], infos["hints"].numbers  # number 1 is not a multiple of `every`
    (array([1, 1]), array([], dtype=int64))
    >>> envs.close()
    """

    def __init__(self, env: gym.vector.VectorEnv, mentor: str | Callable[..., Any] = "vlm", **arguments: Any):
        super().__init__(env)
        self._hints = Hints(adapter_of(env), env.num_envs, mentor, **arguments)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask about the first observations."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._hints.after_reset(self._started(options), infos)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, ask about the new observations, and add the hints that have arrived to the infos."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self._hints.after_step(self._stepped(terminated, truncated), infos)
        return observations, rewards, terminated, truncated, infos

    def counters(self) -> dict[str, float]:
        """See `feedback.MentorClient.counters`."""
        return self._hints.counters()

    def close(self, **kwargs: Any) -> None:
        """Stop the mentor and close the environments."""
        # Where construction failed there is none.
        if hasattr(self, "_hints"):
            self._hints.close()
        super().close(**kwargs)


class ClipReward(_Mentored):
    """Reward actions that a CLIP scorer finds to fit the picture.

    Found-RL's Conditional Contrastive Action Alignment (section 4.3). The scorer gives a probability to each anchor, a
    text that describes an action. The bonus is the margin of the action taken over the other anchors
    (`Adapter.margins`), normalised (`normaliser.Normaliser`) and scaled. In mode "sync" the rewards include the bonus.
    In mode "async" the rewards are the environment's own, and `infos["bonuses"]` holds the `LateBonuses` since the last
    step, to be added to stored rewards. `infos["observation_number"]` is as with `ActionHints`; the two wrappers can be
    stacked.

    Args:
        env: vector environments with same-step autoreset, or with autoreset disabled.
        mentor: a name that `mentorgym.mentors.load_mentor` takes, which gets the adapter's anchors as an option; or a
            callable that takes a list of `mentorgym.mentors.Request` and returns a list of float32 [K], the
            probabilities of the K anchors `env.unwrapped.adapter.anchors[request.context]`.
        arguments: `scale`, the largest bonus, and those of `feedback.MentorClient`.

    Raises:
        TypeError: the environment has no adapter, or an argument is unknown.
        ValueError: an argument is out of range.
        mentorgym.mentors.MentorError: the mentor could not be loaded.

    >>> import gymnasium as gym
    >>> import numpy as np
    >>> from mentorgym.wrappers.vector import ClipReward
    >>> def scorer(requests):
    ...     return [np.array([0.8, 0.1, 0.1], np.float32) for request in requests]
    >>> envs = ClipReward(gym.make_vec("UnitySpatial-v0", num_envs=2), scorer, mode="sync", scale=0.5)
    >>> observations, infos = envs.reset(seed=3)
    >>> observations, rewards, terminated, truncated, infos = envs.step(np.zeros((2, 3), np.float32))
    >>> round(envs.counters()["margin"], 3)
    0.7
    >>> envs.close()
    """

    def __init__(self, env: gym.vector.VectorEnv, mentor: str | Callable[..., Any] = "clip", **arguments: Any):
        super().__init__(env)
        self._bonuses = Bonuses(adapter_of(env), env.num_envs, mentor, **arguments)
        self.normaliser = self._bonuses.normaliser

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask about the first observations."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._bonuses.after_reset(self._started(options), infos)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, compute the bonuses of actions on scored observations, and ask about the new observations."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        gain = self._bonuses.after_step(actions, self._stepped(terminated, truncated), infos)
        return observations, rewards + gain, terminated, truncated, infos

    def counters(self) -> dict[str, float]:
        """See `feedback.Bonuses.counters`."""
        return self._bonuses.counters()

    def close(self, **kwargs: Any) -> None:
        """Stop the scorer and close the environments."""
        # Where construction failed there is none.
        if hasattr(self, "_bonuses"):
            self._bonuses.close()
        super().close(**kwargs)
