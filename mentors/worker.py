"""Where a mentor is asked, in batches of what has come in: a thread, or a process of its own."""

import contextlib
import json
import multiprocessing
import os
import queue
import secrets
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mentorgym.memory import keep_large_blocks
from mentorgym.mentors.mentor import Feedback, Mentor, Request
from mentorgym.mentors.shared_pictures import TEXT_BYTES, SharedPictures

Item = TypeVar("Item")

ERROR_CHARACTERS = 500
"""Of an error's text, how much is passed on."""

SECONDS_TO_END = 5.0
"""How long a worker may take to end before it is killed, or if it is a thread, left behind."""


class WorkerDied(Exception):
    """The worker is gone; the message says what is known of why."""


class Reply(NamedTuple):
    """What came of one batch."""

    tickets: list[int]
    """the requests' numbers"""
    feedback: list[Feedback | None]
    """as many"""
    error: str
    """why some or all are None through no choice of the mentor's, or """ ""


def load(mentor: str | Mentor, options: Mapping[str, Any]) -> Mentor:
    """The mentor that a spec names, or the one that is given."""
    if callable(mentor):
        return mentor
    from mentorgym.mentors.load import load_mentor

    return load_mentor(mentor, **options)


def tell(error: BaseException) -> str:
    """An error in words, not too many."""
    return f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]


def collect(take: Callable[[float | None], tuple[Item, float] | None], batch_size: int, max_wait: float) -> list[Item]:
    """A batch: closed when it is full, or `max_wait` seconds after its first item was asked and nothing more waits.

    `take(timeout)` gives the next item and when it was asked, or None after `timeout` seconds; with None it waits.
    """
    first = take(None)
    assert first is not None
    batch, due = [first[0]], first[1] + max_wait
    while len(batch) < batch_size and (more := take(max(0.0, due - time.monotonic()))):
        batch.append(more[0])
    return batch


def answer(mentor: Mentor, requests: Sequence[Request]) -> tuple[list[Feedback | None], str]:
    """One answer for each request, and what was wrong with the mentor's, if anything: such answers are None."""
    try:
        answers = list(mentor(requests))
    except (Exception, SystemExit) as error:
        return [None] * len(requests), tell(error)
    if len(answers) != len(requests):
        return [None] * len(requests), f"the mentor gave {len(answers)} answers to {len(requests)} requests"
    checked = [check_feedback(each) for each in answers]
    return [feedback for feedback, _ in checked], next((error for _, error in checked if error), "")


def check_feedback(feedback: Any) -> tuple[Feedback | None, str]:
    """A mentor's answer as text, float32 [K] or None, and what was wrong with it, if anything: then it is None."""
    if feedback is None:
        return None, ""
    if isinstance(feedback, str):
        size = len(feedback.encode("utf-8", "replace"))
    elif isinstance(feedback, np.ndarray) and feedback.ndim == 1 and feedback.dtype.kind in "fiu":
        feedback = feedback.astype(np.float32)
        size = feedback.nbytes
    else:
        kind = f"{feedback.dtype} {feedback.shape}" if isinstance(feedback, np.ndarray) else type(feedback).__name__
        return None, f"feedback is a text or an array of numbers [K], not {kind}"
    if size > TEXT_BYTES:
        return None, f"feedback of {size:,} bytes is more than the {TEXT_BYTES:,} that are passed on"
    return feedback, ""


class ThreadWorker:
    """A mentor that is asked in a thread of this process."""

    def __init__(self, mentor: str | Mentor, options: Mapping[str, Any], batch_size: int, max_wait: float):
        self.mentor = load(mentor, options)
        self.batch_size, self.max_wait = batch_size, max_wait
        self.requests: queue.SimpleQueue[tuple[tuple[int, Request] | None, float]] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="mentor", daemon=True)
        self.thread.start()

    def send(self, ticket: int, request: Request, asked: float) -> None:
        """Hand a request over; its arrays are copied."""
        copied = request._replace(picture=request.picture.copy(), action=np.array(request.action, np.float32))
        self.requests.put(((ticket, copied), asked))

    def receive(self, timeout: float) -> Reply | None:
        """The next batch's answers, if they come within `timeout` seconds."""
        try:
            return self.replies.get(timeout=timeout)
        except queue.Empty:
            return None

    def has_come(self) -> bool:
        """Whether there is something to receive."""
        return not self.replies.empty()

    def close(self) -> None:
        """End the thread once the batch that it is at is done."""
        self.requests.put((None, 0.0))
        # A service that nobody holds any more may be collected in this very thread.
        if self.thread is not threading.current_thread():
            self.thread.join(SECONDS_TO_END)

    def _take(self, timeout: float | None) -> tuple[tuple[int, Request] | None, float] | None:
        try:
            return self.requests.get(timeout=timeout)
        except queue.Empty:
            return None

    def _work(self) -> None:
        while True:
            batch = collect(self._take, self.batch_size, self.max_wait)
            asked = [item for item in batch if item is not None]
            if len(asked) < len(batch):
                return
            feedback, error = answer(self.mentor, [request for _, request in asked])
            self.replies.put(Reply([ticket for ticket, _ in asked], feedback, error))


class ProcessWorker:
    """A mentor that is asked in a process of its own, which `restart` replaces when it has died.

    Room for `slots` requests at once is made at the start, more when it is needed.
    """

    def __init__(
        self,
        mentor: str,
        options: Mapping[str, Any],
        picture_shape: tuple[int, ...],
        slots: int,
        batch_size: int,
        max_wait: float,
    ):
        self.pictures = SharedPictures(f"mentor-{os.getpid()}-{secrets.token_hex(2)}-", picture_shape, owner=True)
        self.arguments = (mentor, dict(options), self.pictures.prefix, picture_shape, batch_size, max_wait)
        self.owner = os.getpid()
        self.process: multiprocessing.process.BaseProcess | None = None
        try:
            self.pictures.reserve(slots)
            self.restart()
            while not self.started:
                self.receive(1.0)
        except BaseException:
            self.close()
            raise

    def restart(self) -> None:
        """Start a process, in place of the one before if there was one, and do not wait until the mentor is loaded."""
        self._end_process()
        context = multiprocessing.get_context("spawn")
        requests, self.requests = context.Pipe(duplex=False)
        self.replies, replies = context.Pipe(duplex=False)
        # Connection.poll makes a selector each time, which takes several times as long; this is asked at every step.
        self.poller = select.poll() if hasattr(select, "poll") else None
        if self.poller:
            self.poller.register(self.replies, select.POLLIN)
        self.started, self.failure = False, ""
        process = context.Process(target=serve, args=(*self.arguments, requests, replies), name="mentor", daemon=True)
        with without_main_module():
            process.start()
        self.process = process
        # Only the worker holds its ends now, so that its death closes them.
        requests.close()
        replies.close()

    def send(self, ticket: int, request: Request, asked: float) -> None:
        """Hand a request over; raises WorkerDied."""
        self.pictures.put_request(ticket, request, asked)
        try:
            self.requests.send_bytes(ticket.to_bytes(4, "little"))
        except OSError:
            raise WorkerDied from None

    def receive(self, timeout: float) -> Reply | None:
        """The next batch's answers, if they come within `timeout` seconds; raises WorkerDied."""
        try:
            while self.has_come() or (timeout > 0 and self.replies.poll(timeout)):
                message = json.loads(self.replies.recv_bytes())
                if "tickets" in message:
                    tickets = message["tickets"]
                    return Reply(tickets, [self.pictures.feedback(ticket) for ticket in tickets], message["error"])
                self.started, self.failure = "failure" not in message, message.get("failure", "")
                timeout = 0.0
        except (EOFError, OSError):
            raise WorkerDied(self.failure or self._last_words()) from None
        return None

    def has_come(self) -> bool:
        """Whether there is something to receive, if only that the process has died."""
        return bool(self.poller.poll(0)) if self.poller else self.replies.poll()

    def close(self) -> None:
        """End the process and remove the shared memory. A fork of the owner, which inherits this, leaves them alone."""
        if os.getpid() == self.owner:
            self._end_process()
            self.pictures.close()

    def _end_process(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        self.process.join(SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()
        self.process = None
        self.requests.close()
        self.replies.close()

    def _last_words(self) -> str:
        assert self.process is not None
        self.process.join(SECONDS_TO_END)
        return f"its process ended with exit code {self.process.exitcode}"


@contextlib.contextmanager
def without_main_module() -> Iterator[None]:
    """Let processes that are spawned here not run the user's script again: they need nothing of it.

    It may be large, as an agent's is, lack a main guard, or come from standard input, where nothing can read it twice.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def serve(
    spec: str,
    options: Mapping[str, Any],
    prefix: str,
    picture_shape: tuple[int, ...],
    batch_size: int,
    max_wait: float,
    requests: Connection,
    replies: Connection,
) -> None:
    """What the worker process does: load the mentor, then answer until the pipe of requests is closed."""
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Standard output is for the results of the parent's command.
    os.dup2(2, 1)
    # One thread for each library that counts on threads: the learner's cores are its own.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    keep_large_blocks()

    def say(**message: Any) -> None:
        replies.send_bytes(json.dumps(message).encode())

    try:
        mentor = load(spec, options)
    except (Exception, SystemExit) as error:
        say(failure=tell(error))
        return
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    say(started=True)
    pictures = SharedPictures(prefix, picture_shape, owner=False)

    def take(timeout: float | None) -> tuple[int, float] | None:
        if not requests.poll(timeout):
            return None
        ticket = int.from_bytes(requests.recv_bytes(), "little")
        return ticket, pictures.time_asked(ticket)

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            tickets = collect(take, batch_size, max_wait)
            feedback, failure = answer(mentor, [pictures.request(ticket) for ticket in tickets])
            for ticket, each in zip(tickets, feedback, strict=True):
                pictures.put_feedback(ticket, each)
            say(tickets=tickets, error=failure)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
