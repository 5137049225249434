"""One mentor behind queues: requests go in one by one, are answered in batches, and come back when they are done.

Nothing here waits for the mentor unless it is told to. A batch closes when it holds `batch_size` requests, or
`max_wait` seconds after the first of them was asked and nothing more waits; while the mentor is busy, requests gather.
"""

import logging
import multiprocessing
import statistics
import time
import weakref
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np

from mentorgym.mentors.mentor import Feedback, Mentor, Request
from mentorgym.mentors.shared_pictures import TEXT_BYTES
from mentorgym.mentors.worker import ProcessWorker, Reply, ThreadWorker, WorkerDied, tell

Key = tuple[int, int]
"""(env, n): the environment, and which of the observations that it has handed out."""

LOADS = 5
"""Times in a row that a worker may die before it has loaded its mentor again."""

WINDOW = 1000
"""Answers, and batches, that the counters' means are of."""

logger = logging.getLogger(__name__)


class MentorError(RuntimeError):
    """A mentor cannot be asked at all: it could not be loaded, or its worker keeps dying before it is."""


class MentorService:
    """Asks `mentor` in a worker; one thread submits and polls.

    `mentor`: what `load_mentor` takes, with `options`; in a thread it may be the mentor itself.
    `picture_shape`: (H, W, 3) of all requests' pictures, which travel through shared memory.
    `batch_size`: the most requests that are asked at once.
    `max_wait`: seconds that the first request of a batch waits for others.
    `max_outstanding`: requests of one environment that may be under way.
    `num_envs`: environments that room is made for at once, so that a lack of it shows before anything is asked.
    `worker`: "process" keeps the mentor's work off this process, on one thread of its own; "thread" shares it.

    A worker that dies is replaced: what it held comes back as None, and what is asked until its successor has loaded
    the mentor waits for it. Raises MentorError if the mentor cannot be loaded, at first or five times in a row after a
    death.
    """

    def __init__(
        self,
        mentor: str | Mentor,
        *,
        options: Mapping[str, Any] | None = None,
        picture_shape: tuple[int, int, int] = (192, 192, 3),
        batch_size: int = 32,
        max_wait: float = 0.01,
        max_outstanding: int = 4,
        num_envs: int = 1,
        worker: Literal["process", "thread"] = "process",
    ):
        if min(batch_size, max_outstanding, num_envs) < 1 or max_wait < 0:
            raise ValueError(
                f"batch_size, max_outstanding and num_envs must be at least 1 and max_wait at least 0, "
                f"not {batch_size}, {max_outstanding}, {num_envs} and {max_wait}"
            )
        self.picture_shape, self.max_outstanding = tuple(picture_shape), max_outstanding
        self.name = mentor if isinstance(mentor, str) else type(mentor).__name__
        self._slots = num_envs * max_outstanding
        self._worker = self._start_worker(mentor, options or {}, batch_size, max_wait, worker)
        self._close = weakref.finalize(self, self._worker.close)
        self._failed_loads = 0
        # Requests under way, by ticket: their keys and when they were asked. A ticket that has come back is used again.
        self._pending: dict[int, tuple[Key, float]] = {}
        self._free: list[int] = []
        self._returned: list[tuple[Key, Feedback | None]] = []
        self._held = np.zeros(0, np.int64)
        self._counts = dict.fromkeys(
            ("asked", "answered", "unavailable", "skipped", "batches", "failures", "restarts"), 0
        )
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._batch_sizes: deque[int] = deque(maxlen=WINDOW)
        self.last_error = ""
        """What went wrong last, in the mentor or with its worker; "" if nothing has."""

    def submit(self, key: Key, request: Request) -> bool:
        """Ask, if the environment `key[0]` is below its bound; otherwise nothing is asked, and this returns False.

        The request's arrays are copied. Raises ValueError for a picture of another shape or type, or a prompt that is
        too long, and MentorError, as `poll` does.
        """
        self._check_open()
        picture = request.picture
        if picture.shape != self.picture_shape or picture.dtype != np.uint8:
            raise ValueError(
                f"this service takes pictures uint8 {self.picture_shape}, not {picture.dtype} {picture.shape}"
            )
        prompt_bytes, action_bytes = len(request.prompt.encode("utf-8", "replace")), 4 * request.action.size
        if prompt_bytes + action_bytes > TEXT_BYTES:
            raise ValueError(f"a prompt of {prompt_bytes:,} bytes is too long; a request has room for {TEXT_BYTES:,}")
        env = key[0]
        if self.outstanding(env) >= self.max_outstanding:
            self._counts["skipped"] += 1
            return False
        # Tickets under way and free ones are together all that there are, so the next new one is their number.
        ticket, now = self._free.pop() if self._free else len(self._pending), time.monotonic()
        while True:
            try:
                self._worker.send(ticket, request, now)
                break
            except WorkerDied:
                self._receive(0.0)
            except BaseException:
                self._free.append(ticket)
                raise
        self._pending[ticket] = key, now
        self._held[env] += 1
        self._counts["asked"] += 1
        return True

    def outstanding(self, env: int) -> int:
        """Requests of an environment that are under way."""
        if env >= len(self._held):
            self._held = np.concatenate([self._held, np.zeros(env + 1 - len(self._held), np.int64)])
        return int(self._held[env])

    @property
    def full(self) -> bool:
        """Whether all `num_envs` environments are at their bound."""
        return len(self._pending) >= self._slots

    def room(self, num_envs: int) -> np.ndarray:
        """Bool [num_envs]: environments below their bound."""
        self.outstanding(num_envs - 1)
        return self._held[:num_envs] < self.max_outstanding

    def poll(self, timeout: float = 0.0) -> list[tuple[Key, Feedback | None]]:
        """What has come back since the last call, each submitted key once; None means unavailable.

        Waits up to `timeout` seconds for the first of it, but not where nothing is under way. Raises MentorError if the
        worker cannot be replaced.
        """
        self._check_open()
        if self._pending and self._worker.has_come():
            self._receive(0.0)
        end = time.monotonic() + timeout
        while self._pending and not self._returned and (left := end - time.monotonic()) > 0:
            self._receive(left)
        returned, self._returned = self._returned, []
        return returned

    def counters(self) -> dict[str, float]:
        """What has happened so far.

        Requests: `asked`; `answered`, `unavailable` of those that came back; `outstanding`; `skipped` at the bound and
        so never asked. `batches`; `failures`, those with errors of the mentor's; `restarts` of the worker.
        Of the last thousand: the mean `batch_size`, and of the answered requests the mean and the 95th percentile of
        the seconds from `submit` to `poll`, `latency_s` and `latency_p95_s`; 0 before there are any.
        """
        latencies = self._latencies or [0.0]
        return {
            **self._counts,
            "outstanding": len(self._pending),
            "batch_size": statistics.fmean(self._batch_sizes or [0]),
            "latency_s": statistics.fmean(latencies),
            "latency_p95_s": float(np.quantile(latencies, 0.95)),
        }

    def close(self) -> None:
        """End the worker and remove the shared memory; what is under way is dropped. Closing twice does no harm."""
        self._close()

    def __enter__(self) -> "MentorService":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_worker(
        self, mentor: str | Mentor, options: Mapping[str, Any], batch_size: int, max_wait: float, worker: str
    ) -> ProcessWorker | ThreadWorker:
        if worker not in ("process", "thread"):
            raise ValueError(f"worker must be 'process' or 'thread', not {worker!r}")
        if worker == "process" and not isinstance(mentor, str):
            raise ValueError(
                "a mentor itself can only be asked in a thread: worker='thread'; or name it: 'package.module:callable'"
            )
        if worker == "process" and multiprocessing.current_process().daemon:
            raise ValueError(
                "a daemonic process, such as a worker of AsyncVectorEnv, may not start others: worker='thread'"
            )
        try:
            if worker == "process":
                assert isinstance(mentor, str)
                return ProcessWorker(mentor, options, self.picture_shape, self._slots, batch_size, max_wait)
            return ThreadWorker(mentor, options, batch_size, max_wait)
        except WorkerDied as death:
            raise MentorError(f"mentor {self.name!r} could not be loaded: {death}") from None
        except MemoryError:
            raise
        except Exception as error:
            raise MentorError(f"mentor {self.name!r} could not be loaded: {tell(error)}") from error

    def _receive(self, timeout: float) -> None:
        """Take all that has come; if the worker has died, give what it held back as None, and start another."""
        try:
            while (reply := self._worker.receive(timeout)) is not None:
                self._take(reply)
                timeout = 0.0
        except WorkerDied as death:
            self._replace(str(death))

    def _take(self, reply: Reply) -> None:
        now = time.monotonic()
        self._counts["batches"] += 1
        self._batch_sizes.append(len(reply.tickets))
        if reply.error:
            self._counts["failures"] += 1
            self._tell(f"mentor {self.name!r} failed on a batch: {reply.error}")
        for ticket, feedback in zip(reply.tickets, reply.feedback, strict=True):
            if feedback is not None:
                self._latencies.append(now - self._pending[ticket][1])
            self._give_back(ticket, feedback)

    def _give_back(self, ticket: int, feedback: Feedback | None) -> None:
        key, _ = self._pending.pop(ticket)
        self._free.append(ticket)
        self._held[key[0]] -= 1
        self._counts["unavailable" if feedback is None else "answered"] += 1
        self._returned.append((key, feedback))

    def _replace(self, cause: str) -> None:
        assert isinstance(self._worker, ProcessWorker)
        for ticket in list(self._pending):
            self._give_back(ticket, None)
        self._failed_loads = 0 if self._worker.started else self._failed_loads + 1
        if self._failed_loads == LOADS:
            self.close()
            raise MentorError(
                f"mentor {self.name!r} could not be loaded again after its worker died, {LOADS} times in a row: {cause}"
            )
        self._counts["restarts"] += 1
        self._tell(f"the worker of mentor {self.name!r} died and is replaced: {cause}")
        self._worker.restart()

    def _tell(self, error: str) -> None:
        """Log an error, unless it is the one of the last time."""
        if error != self.last_error:
            logger.warning(error)
        self.last_error = error

    def _check_open(self) -> None:
        if not self._close.alive:
            raise RuntimeError("this service is closed")
