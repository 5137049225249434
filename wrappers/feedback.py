"""What all wrappers share: which observations a mentor is asked about, and how its answers are matched to them.

The key of an observation is its environment's index and its number n. Numbers count the observations that the
environment returned and that the agent acts on, across episodes. The final observation of an episode has no number
(-1), and the mentor is not asked about it. With same-step autoreset the first observation of the next episode takes the
next number.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.mentors.mentor import GRID, Adapter, Feedback
from mentorgym.mentors.replies import READINGS
from mentorgym.mentors.service import MentorService
from mentorgym.wrappers.normaliser import Normaliser

WINDOW = 1000
"""Latest answers that the means of `counters` cover."""

logger = logging.getLogger(__name__)


class LateHints(NamedTuple):
    """K hints, which are actions that a mentor suggests, each with the key of its observation."""

    envs: np.ndarray  # int64 [K]
    numbers: np.ndarray  # int64 [K]
    actions: np.ndarray  # float32 [K, A]


class LateBonuses(NamedTuple):
    """K bonuses for rewards, each with the key of the observation that the action was taken on."""

    envs: np.ndarray  # int64 [K]
    numbers: np.ndarray  # int64 [K]
    values: np.ndarray  # float32 [K]


Key = tuple[int, int]
"""Environment and number of an observation."""


def adapter_of(env: gym.Env | gym.vector.VectorEnv) -> Adapter:
    """The adapter of the environment's family; TypeError for one that has none."""
    adapter = getattr(env.unwrapped, "adapter", None)
    if adapter is None:
        raise TypeError(
            f"no mentor can be used with {env}: its base environment {type(env.unwrapped).__name__} has no `adapter`, "
            "which mentorgym.mentors.Adapter describes; make a vector environment with gym.make_vec(id, num_envs)"
        )
    return adapter


def check_autoreset(envs: gym.vector.VectorEnv) -> None:
    """Raise ValueError for next-step autoreset."""
    mode = envs.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        raise ValueError(
            f"autoreset_mode={mode}: mentors need AutoresetMode.SAME_STEP or DISABLED; in the next-step mode one step "
            "per episode only resets"
        )


def reader_of(adapter: Adapter, reading: str) -> Callable[[Feedback], np.ndarray | None]:
    """What an adapter reads feedback with in one of READINGS; ValueError where the environment has no such reading."""
    if reading == "strict":
        return adapter.to_action
    reader = getattr(adapter, f"{reading}_to_action", None)
    if reading not in READINGS or reader is None:
        raise ValueError(f"reading={reading!r}: actions of this environment are read 'strict' alone")
    return reader


class MentorClient:
    """Asks a mentor about the observations of N environments and collects its answers.

    Args:
        mentor: a name that `mentorgym.mentors.load_mentor` takes, or a callable that takes a list of
            `mentorgym.mentors.Request` and returns a list of answers. "clip" and "vlm" are the small models of the
            environment's family (`own_models` of its adapter), where it has its own.
        options: keyword arguments of `load_mentor`; `answers="grid"` stands for the adapter's `answers`.
        every: the mentor is asked about observations whose number is a multiple of this.
        events: ask also about observations that the adapter declares urgent.
        at_bound: where `max_outstanding` requests of an environment are open: "skip" the request, or "pause" the step
            until an answer arrives.
        mode: "async" returns answers in later steps, "sync" waits for them.
        prompt: template for the prompt, "" for the environment's own.
        batch_size: most requests in one call of the mentor.
        max_wait: seconds that a request waits for others of its batch.
        max_outstanding: most open requests of one environment.
        pause_timeout: longest wait of a step, in seconds; answers that arrive later are unavailable.
        reading: what counts as an action in a reply: "strict" takes what the prompt asks for and leaves out what is
            malformed; "first_numbers" takes the first numbers of any text, as Found-RL's released code does.
        worker: "process" or "thread"; None is "process" for a name and "thread" for a callable.

    Raises:
        TypeError: options with a callable.
        ValueError: an argument is out of range.
        MentorError: the mentor could not be loaded.
    """

    purpose: str
    """what an answer is read for, in the words of the warning about answers that cannot be used"""

    def __init__(
        self,
        adapter: Adapter,
        num_envs: int,
        mentor: str | Callable[..., Any],
        *,
        options: Mapping[str, Any] | None = None,
        every: int = 1,
        events: bool = True,
        at_bound: str = "skip",
        mode: str = "async",
        prompt: str = "",
        batch_size: int = 32,
        max_wait: float = 0.01,
        max_outstanding: int = 4,
        pause_timeout: float = 30.0,
        reading: str = "strict",
        worker: Literal["process", "thread"] | None = None,
    ):
        for name, value, valid in (
            ("at_bound", at_bound, ("skip", "pause")),
            ("mode", mode, ("async", "sync")),
            ("reading", reading, READINGS),
            ("worker", worker, ("process", "thread", None)),
        ):
            if value not in valid:
                raise ValueError(f"{name}={value!r}: choose one of {', '.join(map(str, valid))}")
        for name, number in (("every", every), ("batch_size", batch_size), ("max_outstanding", max_outstanding)):
            if not isinstance(number, int | np.integer) or number < 1:
                raise ValueError(f"{name}={number!r}: give a whole number, at least 1")
        for name, seconds in (("max_wait", max_wait), ("pause_timeout", pause_timeout)):
            if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
                raise ValueError(f"{name}={seconds!r}: give seconds, at least 0")
        if prompt:
            adapter.check_prompt(prompt)
        if isinstance(mentor, str):
            mentor = getattr(adapter, "own_models", {}).get(mentor, mentor)
        options = dict(options or {})
        if isinstance(options.get("answers"), str) and options["answers"] == GRID:
            options["answers"] = list(adapter.answers)
        self.adapter, self.num_envs = adapter, num_envs
        self.to_action = reader_of(adapter, reading)
        self.every, self.events, self.prompt = int(every), bool(events), prompt
        self.patience = pause_timeout if at_bound == "pause" else 0.0
        self.sync, self.timeout = mode == "sync", pause_timeout
        self.numbers = np.full(num_envs, -1, np.int64)
        self.next_numbers = np.zeros(num_envs, np.int64)
        self._open: set[Key] = set()
        self._arrived: list[tuple[Key, Feedback | None]] = []
        self._skipped = 0
        self._has_warned = False
        self._usable: deque[bool] = deque(maxlen=WINDOW)
        self._staleness: deque[int] = deque(maxlen=WINDOW)
        self.service = MentorService(
            mentor,
            options=options,
            picture_shape=adapter.picture_shape,
            batch_size=int(batch_size),
            max_wait=float(max_wait),
            max_outstanding=int(max_outstanding),
            num_envs=num_envs,
            worker=worker,
        )

    def number(self, fresh: np.ndarray, others: np.ndarray | int, infos: dict[str, Any]) -> None:
        """Number the new observations of the rows `fresh`, and write `observation_number` to `infos`.

        `others`: the numbers of the other rows; -1 where no action follows their observation.
        """
        inner = infos.get("observation_number")
        if inner is None:
            self.numbers = np.where(fresh, self.next_numbers, others)
            self.next_numbers += fresh
        else:
            # An inner wrapper has numbered them; an observation has one number.
            self.numbers = np.array(inner, np.int64).reshape(self.num_envs)
            self.next_numbers = np.maximum(self.next_numbers, self.numbers + 1)
        infos["observation_number"] = self.numbers.copy()

    def ask(self, fresh: np.ndarray, infos: dict[str, Any]) -> list[Key]:
        """Submit requests about the new observations that are due, as far as `max_outstanding` allows; their keys."""
        due = fresh
        if self.every > 1:
            due = self.numbers % self.every == 0
            if self.events:
                due |= self.adapter.urgent(infos)
            due &= fresh
        keys: list[Key] = []
        deadline = time.monotonic() + self.patience
        # np.count_nonzero takes a fraction of the time of any(), and each step calls it.
        while waiting := int(np.count_nonzero(due)):
            if not self.service.full:
                ready = due & self.service.room(self.num_envs)
                if np.count_nonzero(ready):
                    keys += self._submit(ready.nonzero()[0])
                    due = due & ~ready
                    continue
            left = deadline - time.monotonic()
            if left <= 0:
                self._skip(waiting)
                break
            self.poll(left)
        return keys

    def poll(self, timeout: float = 0.0) -> None:
        """Take in the answers that have arrived; wait up to `timeout` seconds for the first."""
        for key, feedback in self.service.poll(timeout):
            if key in self._open:
                self._open.remove(key)
                self._staleness.append(int(self.next_numbers[key[0]]) - 1 - key[1])
                self._arrived.append((key, feedback))

    def collect(self, wanted: Collection[Key]) -> list[tuple[Key, Feedback | None]]:
        """The answers since the last call; waits for those to the keys `wanted`, at most `pause_timeout` seconds."""
        deadline = time.monotonic() + self.timeout
        while not self._open.isdisjoint(wanted) and (left := deadline - time.monotonic()) > 0:
            self.poll(left)
        arrived, self._arrived = self._arrived, []
        return arrived

    def count(self, usable: bool) -> None:
        """Count an answer for `availability`."""
        self._usable.append(usable)

    def warn(self, feedback: Feedback, expected: str) -> None:
        """Log the first answer that cannot be used, with an example of a usable one."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "an answer of mentor %r cannot be read as %s: %s. Such answers count as unavailable (`availability` in "
                "`counters()`); further ones are not reported. A usable answer is, for example, %s",
                self.service.name,
                self.purpose,
                _shorten(feedback),
                expected,
            )

    def counters(self) -> dict[str, float]:
        """The counters of `MentorService`, and, over the latest 1,000 answers:

        | key | meaning |
        | --- | --- |
        | `availability` | share of the due observations with a usable answer; open requests are left out |
        | `staleness` | mean steps from an observation to its answer |
        | `skipped` | due observations without a request, because `max_outstanding` requests were open |
        """
        counters = dict(self.service.counters())
        counters["skipped"] = counters.get("skipped", 0) + self._skipped
        counters["availability"] = float(np.mean(self._usable)) if self._usable else math.nan
        counters["staleness"] = float(np.mean(self._staleness)) if self._staleness else math.nan
        return counters

    def close(self) -> None:
        """Stop the service."""
        self.service.close()

    def _skip(self, count: int) -> None:
        self._skipped += count
        self._usable.extend([False] * count)

    def _submit(self, rows: np.ndarray) -> list[Key]:
        keys = [(row, int(self.numbers[row])) for row in rows.tolist()]
        for key, request in zip(keys, self.adapter.requests(rows.tolist(), self.prompt), strict=True):
            # `ask` has checked that the service takes it.
            self.service.submit(key, request)
            self._open.add(key)
        return keys


class Hints(MentorClient):
    """Actions that a mentor suggests."""

    purpose = "an action"

    def __init__(self, adapter: Adapter, *arguments: Any, **options: Any):
        super().__init__(adapter, *arguments, **options)
        self._none = self._late([])

    def after_reset(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        """Ask about the observations of a reset of the rows `fresh`; write `observation_number` and `hints`."""
        self.number(fresh, self.numbers, infos)
        self._ask_and_collect(fresh, infos)

    def after_step(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        """Ask about the observations of the rows `fresh`, which an action follows; write as `after_reset` does."""
        self.number(fresh, -1, infos)
        self._ask_and_collect(fresh, infos)

    def _ask_and_collect(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        self.poll()
        keys = self.ask(fresh, infos)
        arrived = self.collect(keys if self.sync else ())
        infos["hints"] = self._late(arrived) if arrived else self._none

    def _late(self, arrived: list[tuple[Key, Feedback | None]]) -> LateHints:
        keys: list[Key] = []
        actions = []
        for key, feedback in arrived:
            action = None if feedback is None else self.to_action(feedback)
            self.count(action is not None)
            if action is None and feedback is not None:
                self.warn(feedback, repr(self.adapter.answers[0]))
            if action is not None:
                keys.append(key)
                actions.append(action)
        envs, numbers = np.array(keys, np.int64).reshape(-1, 2).T
        return LateHints(envs, numbers, np.array(actions, np.float32).reshape(-1, self.adapter.action_size))


class Bonuses(MentorClient):
    """Bonuses for actions: the scorer sees the observation, and its answer is compared with the action taken.

    Args:
        scale: bonuses lie in [-scale, scale].
        arguments: those of `MentorClient`.
    """

    purpose = "probabilities of the anchors"

    def __init__(
        self,
        adapter: Adapter,
        num_envs: int,
        mentor: str | Callable[..., Any],
        *,
        scale: float = 0.25,
        options: Mapping[str, Any] | None = None,
        **arguments: Any,
    ):
        if not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise ValueError(f"scale={scale!r}: give the largest bonus, a number above 0")
        if isinstance(mentor, str):
            options = {"anchors": [list(texts) for texts in adapter.anchors], **(options or {})}
        super().__init__(adapter, num_envs, mentor, options=options, **arguments)
        self.scale = scale
        self.normaliser = Normaliser()
        self._undecided: list[Key] = []
        self._actions: dict[Key, np.ndarray] = {}
        self._margins: deque[float] = deque(maxlen=WINDOW)

    def after_reset(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        """Ask about the observations of a reset; write `observation_number` and empty `bonuses` to `infos`."""
        self._undecided = [key for key in self._undecided if not fresh[key[0]]]
        self.number(fresh, self.numbers, infos)
        self._undecided += self.ask(fresh, infos)
        infos["bonuses"] = self._late([], np.empty(0, np.float32))

    def after_step(self, actions: Any, fresh: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
        """Compute the bonuses of the step's `actions`, [N, A] or N texts, and ask about the observations `fresh`.

        Writes `observation_number` and `bonuses` to `infos`. Returns what to add to this step's rewards, float32 [N]:
        in sync mode the bonuses of `actions`, and `infos["bonuses"]` is empty; in async mode 0.
        """
        decided, self._undecided = self._undecided, []
        for key in decided:
            self._actions[key] = self._numbers(actions[key[0]])
        self.number(fresh, -1, infos)
        self.poll()
        keys, values = self._compute(self.collect(decided if self.sync else ()), decided)
        gain = np.zeros(self.num_envs, np.float32)
        if self.sync:
            gain[[env for env, _ in keys]] = values
            keys, values = [], values[:0]
        infos["bonuses"] = self._late(keys, values)
        self._undecided += self.ask(fresh, infos)
        return gain

    def counters(self) -> dict[str, float]:
        """As `MentorClient.counters`, with `margin`, the mean margin of the latest 1,000 actions, not normalised."""
        return super().counters() | {"margin": float(np.mean(self._margins)) if self._margins else math.nan}

    def _compute(
        self, arrived: list[tuple[Key, Feedback | None]], decided: Collection[Key]
    ) -> tuple[list[Key], np.ndarray]:
        keys: list[Key] = []
        probabilities, actions = [], []
        for key, feedback in arrived:
            action = self._actions.pop(key, None)
            readable = self._is_readable(feedback)
            if feedback is not None and not readable:
                self.warn(feedback, f"float32 ({len(self.adapter.anchors[0])},), finite")
            usable = action is not None and readable and (key in decided or not self.sync)
            self.count(usable)
            if usable:
                keys.append(key)
                probabilities.append(feedback)
                actions.append(action)
        if not keys:
            return [], np.empty(0, np.float32)
        margins = self.adapter.margins(np.array(probabilities), np.array(actions))
        self._margins.extend(margins.tolist())
        return keys, (self.scale * self.normaliser(margins)).astype(np.float32)

    def _numbers(self, action: Any) -> np.ndarray:
        """An action as float32 [A]; of a text, what the adapter reads in it, all 0 where it reads no action."""
        if isinstance(action, str):
            read = self.to_action(action)
            return np.zeros(self.adapter.action_size, np.float32) if read is None else read
        return np.array(action, np.float32)

    def _is_readable(self, feedback: Feedback | None) -> bool:
        anchors = len(self.adapter.anchors[0])
        return isinstance(feedback, np.ndarray) and feedback.shape == (anchors,) and bool(np.isfinite(feedback).all())

    @staticmethod
    def _late(keys: list[Key], values: np.ndarray) -> LateBonuses:
        envs, numbers = np.array(keys, np.int64).reshape(-1, 2).T
        return LateBonuses(envs, numbers, values)


def _shorten(feedback: Feedback) -> str:
    """An answer as one line of at most about 200 characters."""
    if isinstance(feedback, str):
        return repr(feedback if len(feedback) <= 200 else f"{feedback[:200]} ...")
    return f"{feedback.dtype} {feedback.shape} {feedback.ravel()[:8].tolist()}"
