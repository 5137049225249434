"""One mentor behind queues: requests are submitted one by one, answered in batches, and polled when they are answered.

No call waits for the mentor except `poll` with a timeout. A batch closes when it holds `batch_size` requests, or
`max_wait` seconds after its first request was submitted and no other request waits. While the mentor is busy, requests
queue.
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
from mentorgym.mentors.worker import ProcessWorker, Reply, ThreadWorker, WorkerDied, describe

Key = tuple[int, int]
"""(env, n): index of the environment, and number of one of its observations."""

LOADS = 5
"""Deaths in a row, before the mentor is loaded, after which the service gives up."""

WINDOW = 1000
"""Latest answers, and latest batches, that the means of `counters` cover."""

logger = logging.getLogger(__name__)


class MentorError(RuntimeError):
    """The mentor could not be loaded, at first or again after its worker died."""


class MentorService:
    """Calls `mentor` in a worker. One thread submits and polls.

    A worker process that dies is replaced: its requests come back as None, and later requests wait until its successor
    has loaded the mentor.

    Args:
        mentor: a name that `load_mentor` takes, or the mentor itself, a callable.
        options: keyword arguments of `load_mentor`; none for a callable.
        picture_shape: (H, W, 3) of all requests' pictures, which go through shared memory.
        batch_size: most requests in one call of the mentor.
        max_wait: seconds that the first request of a batch waits for others.
        max_outstanding: most unanswered requests of one environment.
        num_envs: environments for which memory is reserved at the start.
        worker: "process" runs the mentor in a separate process with one thread, "thread" in this process. None is
            "process" for a name and "thread" for a callable, which cannot be sent to another process.

    Raises:
        ValueError: an argument is out of range, or `worker` cannot be used here.
        MentorError: the mentor could not be loaded.
        MemoryError: there is too little shared memory.
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
        worker: Literal["process", "thread"] | None = None,
    ):
        if min(batch_size, max_outstanding, num_envs) < 1 or max_wait < 0:
            raise ValueError(
                f"batch_size, max_outstanding and num_envs must be at least 1 and max_wait at least 0, "
                f"not {batch_size}, {max_outstanding}, {num_envs} and {max_wait}"
            )
        self.picture_shape, self.max_outstanding = tuple(picture_shape), max_outstanding
        self.name = mentor if isinstance(mentor, str) else getattr(mentor, "__name__", type(mentor).__name__)
        self._slots = num_envs * max_outstanding
        self._worker = self._start_worker(mentor, options or {}, batch_size, max_wait, worker)
        self._close = weakref.finalize(self, self._worker.close)
        self._failed_loads = 0
        # Unanswered requests by ticket: key and time of submission. The ticket of an answered request is used again.
        self._pending: dict[int, tuple[Key, float]] = {}
        self._free: list[int] = []
        self._returned: list[tuple[Key, Feedback | None]] = []
        self._open = np.zeros(0, np.int64)
        self._counts = dict.fromkeys(
            ("submitted", "answered", "unavailable", "skipped", "batches", "failures", "restarts"), 0
        )
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._batch_sizes: deque[int] = deque(maxlen=WINDOW)
        self.last_error = ""
        """Latest fault of the mentor or its worker; "" for none."""

    def submit(self, key: Key, request: Request) -> bool:
        """Submit a request; returns False, and submits nothing, where environment `key[0]` has `max_outstanding` open.

        The request's arrays are copied. Raises ValueError for a picture of another shape or dtype and for a prompt that
        is too long, and MentorError as `poll` does.
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
        # Without free tickets all tickets are pending, so the next new one is their number.
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
        self._open[env] += 1
        self._counts["submitted"] += 1
        return True

    def outstanding(self, env: int) -> int:
        """Number of unanswered requests of an environment."""
        if env >= len(self._open):
            self._open = np.concatenate([self._open, np.zeros(env + 1 - len(self._open), np.int64)])
        return int(self._open[env])

    @property
    def full(self) -> bool:
        """Whether each of the `num_envs` environments has `max_outstanding` unanswered requests."""
        return len(self._pending) >= self._slots

    def room(self, num_envs: int) -> np.ndarray:
        """Bool [num_envs]: environments with fewer than `max_outstanding` unanswered requests."""
        self.outstanding(num_envs - 1)
        return self._open[:num_envs] < self.max_outstanding

    def poll(self, timeout: float = 0.0) -> list[tuple[Key, Feedback | None]]:
        """Answers since the last call, each submitted key once; None means unavailable.

        Waits up to `timeout` seconds for the first answer, but not where every request is answered. Raises MentorError
        if the worker cannot be replaced.
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
        """Counts since the start, and means over the latest 1,000 batches or answers, 0 before the first.

        | key | meaning |
        | --- | --- |
        | `submitted`, `answered`, `unavailable`, `outstanding` | requests, by their state |
        | `skipped` | requests refused because `max_outstanding` were open |
        | `batches`, `failures` | calls of the mentor, and those with a fault |
        | `restarts` | replacements of the worker |
        | `batch_size` | mean requests in a batch |
        | `latency_s`, `latency_p95_s` | seconds from `submit` to `poll`, mean and 95th percentile |
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
        """End the worker and remove the shared memory. Unanswered requests are dropped. A second call has no effect."""
        self._close()

    def __enter__(self) -> "MentorService":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_worker(
        self, mentor: str | Mentor, options: Mapping[str, Any], batch_size: int, max_wait: float, worker: str | None
    ) -> ProcessWorker | ThreadWorker:
        if worker not in ("process", "thread", None):
            raise ValueError(f"worker must be 'process' or 'thread', not {worker!r}")
        if worker is None:
            worker = "process" if isinstance(mentor, str) else "thread"
        if worker == "process" and not isinstance(mentor, str):
            raise ValueError(
                "a callable runs only in a thread: worker='thread'; for a process name it: 'package.module:callable'"
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
            raise MentorError(f"mentor {self.name!r} could not be loaded: {describe(error)}") from error

    def _receive(self, timeout: float) -> None:
        """Take all replies that have arrived; replace a dead worker, whose requests are answered with None."""
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
            self._log_once(f"mentor {self.name!r} failed on a batch: {reply.error}")
        for ticket, feedback in zip(reply.tickets, reply.feedback, strict=True):
            if feedback is not None:
                self._latencies.append(now - self._pending[ticket][1])
            self._answer(ticket, feedback)

    def _answer(self, ticket: int, feedback: Feedback | None) -> None:
        key, _ = self._pending.pop(ticket)
        self._free.append(ticket)
        self._open[key[0]] -= 1
        self._counts["unavailable" if feedback is None else "answered"] += 1
        self._returned.append((key, feedback))

    def _replace(self, cause: str) -> None:
        assert isinstance(self._worker, ProcessWorker)
        for ticket in list(self._pending):
            self._answer(ticket, None)
        self._failed_loads = 0 if self._worker.started else self._failed_loads + 1
        if self._failed_loads == LOADS:
            self.close()
            raise MentorError(
                f"mentor {self.name!r} could not be loaded again after its worker died, {LOADS} times in a row: {cause}"
            )
        self._counts["restarts"] += 1
        self._log_once(f"the worker of mentor {self.name!r} died and is replaced: {cause}")
        self._worker.restart()

    def _log_once(self, error: str) -> None:
        """Log an error, unless it repeats the last one."""
        if error != self.last_error:
            logger.warning(error)
        self.last_error = error

    def _check_open(self) -> None:
        if not self._close.alive:
            raise RuntimeError("this service is closed")
