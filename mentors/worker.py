"""The workers that call a mentor, with batches of the requests that wait: a thread, or a separate process."""

import contextlib
import json
import multiprocessing
import os
import queue
import secrets
import select
import signal
import sys
import sysconfig
import threading
import time
import traceback
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
"""Longest text of an error that is passed on."""

SECONDS_TO_END = 5.0
"""Seconds that a worker may take to end; then a process is killed and a thread is abandoned."""

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
"""Folders whose files are not the user's."""


class WorkerDied(Exception):
    """The worker has ended; the message gives the cause as far as it is known."""


class Reply(NamedTuple):
    """The mentor's answers to one batch."""

    tickets: list[int]
    """numbers of the requests"""
    feedback: list[Feedback | None]
    """one answer for each ticket"""
    error: str
    """the mentor's fault that made answers None; empty where there was no fault"""


def load(mentor: str | Mentor, options: Mapping[str, Any]) -> Mentor:
    """The mentor that a spec names, or the callable itself, which takes no options."""
    if isinstance(mentor, str):
        from mentorgym.mentors.load import load_mentor

        return load_mentor(mentor, **options)
    if not callable(mentor):
        raise TypeError(f"a mentor is a name or a callable, not {type(mentor).__name__}")
    if options:
        raise TypeError(f"options are for mentors by name; bind {', '.join(options)} with functools.partial")
    return mentor


def describe(error: BaseException) -> str:
    """Type and text of an error, and the innermost file and line of the user's code that it passed through."""
    text = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_of_libraries(frame)
    ]
    return f"{text} ({places[-1]})" if places else text


def _is_of_libraries(frame: types.FrameType) -> bool:
    file, module = frame.f_code.co_filename, frame.f_globals.get("__name__") or ""
    return module.startswith("mentorgym.") or file.startswith("<frozen") or file.startswith(LIBRARIES)


def collect(take: Callable[[float | None], tuple[Item, float] | None], batch_size: int, max_wait: float) -> list[Item]:
    """A batch of items: closed when it is full, or `max_wait` seconds after its first item was submitted and no other
    item waits.

    `take(timeout)` gives the next item and the time of its submission, or None after `timeout` seconds; with
    `timeout=None` it waits for an item.
    """
    first = take(None)
    assert first is not None
    batch, due = [first[0]], first[1] + max_wait
    while len(batch) < batch_size and (more := take(max(0.0, due - time.monotonic()))):
        batch.append(more[0])
    return batch


def answer(mentor: Mentor, requests: Sequence[Request]) -> tuple[list[Feedback | None], str]:
    """One answer for each request, and the fault of the mentor, "" for none; faulty answers are None."""
    try:
        answers = list(mentor(requests))
    except (Exception, SystemExit) as error:
        return [None] * len(requests), describe(error)
    if len(answers) != len(requests):
        return [None] * len(requests), f"the mentor gave {len(answers)} answers to {len(requests)} requests"
    checked = [check_feedback(each) for each in answers]
    return [feedback for feedback, _ in checked], next((error for _, error in checked if error), "")


def check_feedback(feedback: Any) -> tuple[Feedback | None, str]:
    """A mentor's answer as text, float32 [K] or None, and its fault, "" for none; a faulty answer becomes None."""
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
    """Calls a mentor in a thread of this process."""

    def __init__(self, mentor: str | Mentor, options: Mapping[str, Any], batch_size: int, max_wait: float):
        self.mentor = load(mentor, options)
        self.batch_size, self.max_wait = batch_size, max_wait
        self.requests: queue.SimpleQueue[tuple[tuple[int, Request] | None, float]] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="mentor", daemon=True)
        self.thread.start()

    def send(self, ticket: int, request: Request, time_submitted: float) -> None:
        """Queue a request; its arrays are copied."""
        copy = request._replace(picture=request.picture.copy(), action=np.array(request.action, np.float32))
        self.requests.put(((ticket, copy), time_submitted))

    def receive(self, timeout: float) -> Reply | None:
        """The answers to the next batch; None where none arrive within `timeout` seconds."""
        try:
            return self.replies.get(timeout=timeout)
        except queue.Empty:
            return None

    def has_come(self) -> bool:
        """Whether there is a reply to receive."""
        return not self.replies.empty()

    def close(self) -> None:
        """End the thread after its present batch."""
        self.requests.put((None, 0.0))
        # The garbage collector may call this in the thread itself.
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
            items = [item for item in batch if item is not None]
            if len(items) < len(batch):
                return
            feedback, error = answer(self.mentor, [request for _, request in items])
            self.replies.put(Reply([ticket for ticket, _ in items], feedback, error))


class ProcessWorker:
    """Calls a mentor in a separate process, which `restart` replaces after its death.

    Shared memory for `slots` simultaneous requests is reserved at the start, more when it is needed.
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
        """Start a process, in place of an earlier one, without waiting until it has loaded the mentor."""
        self._end_process()
        context = multiprocessing.get_context("spawn")
        requests, self.requests = context.Pipe(duplex=False)
        self.replies, replies = context.Pipe(duplex=False)
        # Connection.poll makes a selector at each call, which takes several times as long, and each step calls it.
        self.poller = select.poll() if hasattr(select, "poll") else None
        if self.poller:
            self.poller.register(self.replies, select.POLLIN)
        self.started, self.failure = False, ""
        process = context.Process(target=serve, args=(*self.arguments, requests, replies), name="mentor", daemon=True)
        with without_main_module():
            process.start()
        self.process = process
        # The worker alone holds its ends now, so that its death closes them.
        requests.close()
        replies.close()

    def send(self, ticket: int, request: Request, time_submitted: float) -> None:
        """Pass a request to the process; raises WorkerDied."""
        self.pictures.put_request(ticket, request, time_submitted)
        try:
            self.requests.send_bytes(ticket.to_bytes(4, "little"))
        except OSError:
            raise WorkerDied from None

    def receive(self, timeout: float) -> Reply | None:
        """The answers to the next batch; None where none arrive within `timeout` seconds. Raises WorkerDied."""
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
        """Whether there is a message to receive, the death of the process included."""
        if self.poller:
            return bool(self.poller.poll(0))
        try:
            return self.replies.poll()
        except OSError:  # Windows reports a closed pipe here; `receive` turns it into WorkerDied.
            return True

    def close(self) -> None:
        """End the process and remove the shared memory; without effect in a fork of the owner."""
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
    """Keep processes that are spawned here from running the user's script again, which they do not need.

    The script may be large, lack a main guard, or come from standard input, which cannot be read twice.
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
    """Main function of the worker process: load the mentor, then answer until the pipe of requests is closed."""
    # Ctrl-C reaches every process of a terminal; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Standard output belongs to the parent's command.
    os.dup2(2, 1)
    # One thread for each numerical library: the other cores belong to the learner.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    keep_large_blocks()

    def send(**message: Any) -> None:
        replies.send_bytes(json.dumps(message).encode())

    try:
        mentor = load(spec, options)
    except (Exception, SystemExit) as error:
        send(failure=describe(error))
        return
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    send(started=True)
    pictures = SharedPictures(prefix, picture_shape, owner=False)

    def take(timeout: float | None) -> tuple[int, float] | None:
        if not requests.poll(timeout):
            return None
        ticket = int.from_bytes(requests.recv_bytes(), "little")
        return ticket, pictures.time_submitted(ticket)

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            tickets = collect(take, batch_size, max_wait)
            feedback, failure = answer(mentor, [pictures.request(ticket) for ticket in tickets])
            for ticket, each in zip(tickets, feedback, strict=True):
                pictures.put_feedback(ticket, each)
            send(tickets=tickets, error=failure)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
