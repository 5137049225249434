"""What all wrappers share: whom to ask about which observation, and what comes back for it.

An observation is known by its environment's index and its number n, which counts the observations that this environment
handed out for action, across episodes. An episode's final observation, which nobody acts on, has no number (-1) and is
never asked about; with same-step autoreset the next episode's first observation takes the next number.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.mentors.mentor import GRID, Adapter, Feedback
from mentorgym.mentors.service import MentorService
from mentorgym.wrappers.normaliser import Normaliser

RECENT = 1000
"""Answers that the averages of `counters` run over."""


class LateHints(NamedTuple):
    """K actions that a mentor suggests, each with its observation's environment and number."""

    envs: np.ndarray  # int64 [K]
    numbers: np.ndarray  # int64 [K]
    actions: np.ndarray  # float32 [K, A]


class LateBonuses(NamedTuple):
    """K bonuses to rewards, each with the environment and number of the observation that was acted on."""

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
            f"{env} cannot be mentored: its base environment {type(env.unwrapped).__name__} has no `adapter`, which "
            "mentorgym.mentors.mentor.Adapter describes; a batch of mentored environments is made with "
            "gym.make_vec(id, num_envs) where the id has a vector environment of its own"
        )
    return adapter


def check_autoreset(envs: gym.vector.VectorEnv) -> None:
    """Raise ValueError for vector environments that reset in the step after an episode's end."""
    mode = envs.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        raise ValueError(
            f"autoreset_mode={mode}: wrappers need AutoresetMode.SAME_STEP (or DISABLED): the observation before a "
            "step that only resets is one that nobody acts on"
        )


class Consultation:
    """Asks a mentor about the observations of N environments and brings back what it says.

    Args:
        mentor: what `mentorgym.mentors.load.load_mentor` takes; with `worker="thread"` also a mentor itself. "clip" and
            "vlm" are the small models of the environment's family (`own_models` of its adapter), where it has its own.
        options: keyword arguments of `load_mentor`; `answers="grid"` stands for the adapter's `answers`.
        every: observations whose number this divides are asked about.
        events: ask also about those that the adapter finds urgent.
        at_bound: what happens where `max_outstanding` questions about an environment are open: "skip" the question, or
            "pause" the step until there is room.
        mode: "async" lets answers come in later steps, "sync" waits for them.
        prompt: template for the prompt, "" for the environment's own.
        batch_size: most questions that the mentor gets at once.
        max_wait: seconds that a question waits for others to join it.
        max_outstanding: open questions about one environment.
        pause_timeout: seconds that a step waits at most; what it waited for is then unavailable.
        worker: "process", or "thread".

    Raises:
        ValueError: a value is none of these.
        MentorError: the mentor cannot be had.
    """

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
        worker: Literal["process", "thread"] = "process",
    ):
        for name, value, valid in (
            ("at_bound", at_bound, ("skip", "pause")),
            ("mode", mode, ("async", "sync")),
            ("worker", worker, ("process", "thread")),
        ):
            if value not in valid:
                raise ValueError(f"{name}={value!r}: choose one of {', '.join(valid)}")
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
        chosen = dict(options or {})
        if chosen.get("answers") == GRID:
            chosen["answers"] = list(adapter.answers)
        self.adapter, self.num_envs = adapter, num_envs
        self.every, self.events, self.prompt = int(every), bool(events), prompt
        self.patience = pause_timeout if at_bound == "pause" else 0.0
        self.sync, self.timeout = mode == "sync", pause_timeout
        self.numbers = np.full(num_envs, -1, np.int64)
        self.next_numbers = np.zeros(num_envs, np.int64)
        self._open: set[Key] = set()
        self._arrived: list[tuple[Key, Feedback | None]] = []
        self.skipped = 0
        self._usable: deque[bool] = deque(maxlen=RECENT)
        self._staleness: deque[int] = deque(maxlen=RECENT)
        self.service = MentorService(
            mentor,
            options=chosen,
            picture_shape=adapter.picture_shape,
            batch_size=int(batch_size),
            max_wait=float(max_wait),
            max_outstanding=int(max_outstanding),
            num_envs=num_envs,
            worker=worker,
        )

    def number(self, fresh: np.ndarray, others: np.ndarray | int, infos: dict[str, Any]) -> None:
        """Number the observations just handed out to the rows `fresh`, and write `observation_number` to `infos`.

        `others`: the numbers of the other rows; -1 where nobody acts on their observation.
        """
        inner = infos.get("observation_number")
        if inner is None:
            self.numbers = np.where(fresh, self.next_numbers, others)
            self.next_numbers += fresh
        else:
            # A wrapper inside has numbered them; there is one number to an observation.
            self.numbers = np.array(inner, np.int64).reshape(self.num_envs)
            self.next_numbers = np.maximum(self.next_numbers, self.numbers + 1)
        infos["observation_number"] = self.numbers.copy()

    def ask(self, fresh: np.ndarray, infos: dict[str, Any]) -> list[Key]:
        """Ask about those of the observations just handed out that are due, as far as there is room."""
        due = fresh
        if self.every > 1:
            due = self.numbers % self.every == 0
            if self.events:
                due |= self.adapter.urgent(infos)
            due &= fresh
        asked: list[Key] = []
        deadline = time.monotonic() + self.patience
        # np.count_nonzero takes a fraction of what any() does, and this is asked at every step.
        while waiting := int(np.count_nonzero(due)):
            if not self.service.full:
                ready = due & self.service.room(self.num_envs)
                if np.count_nonzero(ready):
                    asked += self._submit(ready.nonzero()[0])
                    due = due & ~ready
                    continue
            left = deadline - time.monotonic()
            if left <= 0:
                self._skip(waiting)
                break
            self.poll(left)
        return asked

    def poll(self, timeout: float = 0.0) -> None:
        """Take in what has arrived; with nothing there, wait for it."""
        for key, feedback in self.service.poll(timeout):
            if key in self._open:
                self._open.remove(key)
                self._staleness.append(int(self.next_numbers[key[0]]) - 1 - key[1])
                self._arrived.append((key, feedback))

    def collect(self, wanted: Collection[Key]) -> list[tuple[Key, Feedback | None]]:
        """What has arrived since the last call, once the answers `wanted` have, or the time-out has passed."""
        deadline = time.monotonic() + self.timeout
        while not self._open.isdisjoint(wanted) and (left := deadline - time.monotonic()) > 0:
            self.poll(left)
        arrived, self._arrived = self._arrived, []
        return arrived

    def count(self, usable: bool) -> None:
        """Count an answer for `availability`."""
        self._usable.append(usable)

    def counters(self) -> dict[str, float]:
        """The service's counters, and, over the latest answers:

        | key | meaning |
        | --- | --- |
        | `availability` | share of the observations that were due with a usable answer; the open ones do not count |
        | `staleness` | mean steps from an observation to its answer |
        | `skipped` | how many were due and never asked about, for want of room |
        """
        told = dict(self.service.counters())
        told["skipped"] = told.get("skipped", 0) + self.skipped
        told["availability"] = float(np.mean(self._usable)) if self._usable else math.nan
        told["staleness"] = float(np.mean(self._staleness)) if self._staleness else math.nan
        return told

    def close(self) -> None:
        """Stop the service."""
        self.service.close()

    def _skip(self, count: int) -> None:
        self.skipped += count
        self._usable.extend([False] * count)

    def _submit(self, rows: np.ndarray) -> list[Key]:
        keys = [(row, int(self.numbers[row])) for row in rows.tolist()]
        for key, request in zip(keys, self.adapter.requests(rows.tolist(), self.prompt), strict=True):
            # The service has said that there is room.
            self.service.submit(key, request)
            self._open.add(key)
        return keys


class Hints(Consultation):
    """Actions that a mentor suggests."""

    def __init__(self, adapter: Adapter, *arguments: Any, **options: Any):
        super().__init__(adapter, *arguments, **options)
        self._none = self._late([])

    def begin(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        """Ask about the observations of a reset of the rows `fresh`; write `observation_number` and `hints`."""
        self.number(fresh, self.numbers, infos)
        self._ask_and_collect(fresh, infos)

    def tell(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        """Ask about the observations that a step has handed out to be acted on; write as `begin` does."""
        self.number(fresh, -1, infos)
        self._ask_and_collect(fresh, infos)

    def _ask_and_collect(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        self.poll()
        asked = self.ask(fresh, infos)
        arrived = self.collect(asked if self.sync else ())
        infos["hints"] = self._late(arrived) if arrived else self._none

    def _late(self, arrived: list[tuple[Key, Feedback | None]]) -> LateHints:
        keys: list[Key] = []
        actions = []
        for key, feedback in arrived:
            action = None if feedback is None else self.adapter.to_action(feedback)
            self.count(action is not None)
            if action is not None:
                keys.append(key)
                actions.append(action)
        envs, numbers = np.array(keys, np.int64).reshape(-1, 2).T
        return LateHints(envs, numbers, np.array(actions, np.float32).reshape(-1, self.adapter.action_size))


class Bonuses(Consultation):
    """Bonuses for actions: the scorer sees the observation, and its answer is weighed by the action taken there.

    Args:
        scale: bonuses lie in [-scale, scale].
        arguments: those of `Consultation`.
    """

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
            raise ValueError(f"scale={scale!r}: give the largest bonus, above 0")
        if isinstance(mentor, str):
            options = {"anchors": [list(texts) for texts in adapter.anchors], **(options or {})}
        super().__init__(adapter, num_envs, mentor, options=options, **arguments)
        self.scale = scale
        self.normaliser = Normaliser()
        self._undecided: list[Key] = []
        self._actions: dict[Key, np.ndarray] = {}
        self._margins: deque[float] = deque(maxlen=RECENT)

    def begin(self, fresh: np.ndarray, infos: dict[str, Any]) -> None:
        """Ask about the observations of a reset; write `observation_number` and `bonuses`, none, to `infos`."""
        self._undecided = [key for key in self._undecided if not fresh[key[0]]]
        self.number(fresh, self.numbers, infos)
        self._undecided += self.ask(fresh, infos)
        infos["bonuses"] = self._late([], np.empty(0, np.float32))

    def tell(self, actions: Any, fresh: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
        """Weigh the `actions`, N of A numbers each or N texts, that led here; ask about the observations `fresh`.

        Writes `observation_number` and `bonuses` to `infos`. Returns what this step's rewards gain, float32 [N]: in
        sync mode the bonuses of `actions`, and `bonuses` is empty; in async mode 0.
        """
        decided, self._undecided = self._undecided, []
        for key in decided:
            self._actions[key] = self._numbers(actions[key[0]])
        self.number(fresh, -1, infos)
        self.poll()
        keys, values = self._weigh(self.collect(decided if self.sync else ()), decided)
        gain = np.zeros(self.num_envs, np.float32)
        if self.sync:
            gain[[env for env, _ in keys]] = values
            keys, values = [], values[:0]
        infos["bonuses"] = self._late(keys, values)
        self._undecided += self.ask(fresh, infos)
        return gain

    def counters(self) -> dict[str, float]:
        """As `Consultation.counters`, with `margin`, the mean margin of the latest actions, before normalisation."""
        return super().counters() | {"margin": float(np.mean(self._margins)) if self._margins else math.nan}

    def _weigh(
        self, arrived: list[tuple[Key, Feedback | None]], decided: Collection[Key]
    ) -> tuple[list[Key], np.ndarray]:
        keys: list[Key] = []
        probabilities, actions = [], []
        for key, feedback in arrived:
            action = self._actions.pop(key, None)
            usable = action is not None and self._is_usable(feedback) and (key in decided or not self.sync)
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
        """An action as float32 [A]: of a text what the adapter reads in it, all 0 where that is nothing."""
        if isinstance(action, str):
            read = self.adapter.to_action(action)
            return np.zeros(self.adapter.action_size, np.float32) if read is None else read
        return np.array(action, np.float32)

    def _is_usable(self, feedback: Feedback | None) -> bool:
        anchors = len(self.adapter.anchors[0])
        return isinstance(feedback, np.ndarray) and feedback.shape == (anchors,) and bool(np.isfinite(feedback).all())

    @staticmethod
    def _late(keys: list[Key], values: np.ndarray) -> LateBonuses:
        envs, numbers = np.array(keys, np.int64).reshape(-1, 2).T
        return LateBonuses(envs, numbers, values)
