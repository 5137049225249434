"""The wrappers for `gymnasium.vector.VectorEnv`."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.wrappers.feedback import Bonuses, Hints, adapter_of, check_autoreset


class _Mentored(gym.vector.VectorWrapper):
    """Which of the rows have an observation to act on."""

    def __init__(self, env: gym.vector.VectorEnv):
        super().__init__(env)
        check_autoreset(env)
        self._same_step = env.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
        self._going = np.ones(env.num_envs, bool)

    def _started(self, options: dict[str, Any] | None) -> np.ndarray:
        """The rows that a reset has started, bool [N]."""
        started = np.array((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        self._going |= started
        return started

    def _stepped(self, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        """The rows with a new observation to act on, bool [N]; the others' episodes are over."""
        if not self._same_step:
            self._going &= ~(terminated | truncated)
        return self._going


class ActionHints(_Mentored):
    """A mentor watches and suggests actions, which arrive in the infos of this or a later step.

    Infos of each reset and step: `observation_number` int64 [N], the number of each observation just handed out, -1 for
    a final one; and `hints`, the `LateHints` that arrived since the last step, in mode "sync" those of the observations
    just handed out. Observations, rewards and ends are the environment's own.

    Args:
        env: vector environments with same-step autoreset, or with none.
        mentor: what `mentorgym.mentors.load.load_mentor` takes.
        arguments: those of `feedback.Consultation`.

    Raises:
        TypeError: the environment has no adapter, or an argument is unknown.
        ValueError: an argument does not fit.
        mentorgym.mentors.MentorError: the mentor cannot be had.
    """

    def __init__(self, env: gym.vector.VectorEnv, mentor: str | Callable[..., Any] = "vlm", **arguments: Any):
        super().__init__(env)
        self._hints = Hints(adapter_of(env), env.num_envs, mentor, **arguments)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask about the first observations."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._hints.begin(self._started(options), infos)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, ask about the new observations, and pass on what has arrived."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self._hints.tell(self._stepped(terminated, truncated), infos)
        return observations, rewards, terminated, truncated, infos

    def counters(self) -> dict[str, float]:
        """See `feedback.Consultation.counters`."""
        return self._hints.counters()

    def close(self, **kwargs: Any) -> None:
        """Stop the mentor and close the environments."""
        # Where construction failed there is none.
        if hasattr(self, "_hints"):
            self._hints.close()
        super().close(**kwargs)


class ClipReward(_Mentored):
    """A CLIP scorer watches, and actions that it finds fit for what it sees earn a bonus.

    Found-RL's Conditional Contrastive Action Alignment (section 4.3): the margin by which the action taken stands out
    among the anchors of its context (`Adapter.margins`), normalised (`normaliser.Normaliser`) and scaled. In mode
    "sync" rewards hold the bonus; in mode "async" they are the environment's own, and `infos["bonuses"]` are the
    `LateBonuses` that arrived since the last step, to be added to stored rewards. `infos["observation_number"]` is as
    with `ActionHints`; the two wrappers can be stacked.

    Args:
        env: vector environments with same-step autoreset, or with none.
        mentor: what `mentorgym.mentors.load.load_mentor` takes; it gets the adapter's anchors as an option.
        arguments: those of `feedback.Bonuses`, which are `scale` and those of `feedback.Consultation`.

    Raises:
        TypeError: the environment has no adapter, or an argument is unknown.
        ValueError: an argument does not fit.
        mentorgym.mentors.MentorError: the mentor cannot be had.
    """

    def __init__(self, env: gym.vector.VectorEnv, mentor: str | Callable[..., Any] = "clip", **arguments: Any):
        super().__init__(env)
        self._bonuses = Bonuses(adapter_of(env), env.num_envs, mentor, **arguments)
        self.normaliser = self._bonuses.normaliser

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and show the scorer the first observations."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._bonuses.begin(self._started(options), infos)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, weigh the actions that the scorer has judged, and show it the new observations."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        gain = self._bonuses.tell(actions, self._stepped(terminated, truncated), infos)
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
