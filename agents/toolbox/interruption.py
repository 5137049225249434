"""Ctrl-C and SIGTERM: the first one asks the run to save a checkpoint and end, the second one ends it at once."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was asked to end, and has saved a checkpoint; the message says how it goes on."""


class Interruption:
    """Whether the process was asked to end while a training loop could still save a checkpoint."""

    def __init__(self) -> None:
        self.requested = False
        self.awaited = False
        """whether a training loop looks at `requested`; without one a signal ends the process at once"""

    def handle(self, number: int, frame: Any) -> None:
        """Take a signal."""
        if self.requested or not self.awaited:
            raise KeyboardInterrupt
        self.requested = True
        print("\nstopping after the next checkpoint; once more stops at once", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Take both signals while the context lasts, in a program's main thread; elsewhere change nothing."""
        self.requested = self.awaited = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            self.requested = self.awaited = False
            for number, handler in before.items():
                signal.signal(number, handler)


INTERRUPTION = Interruption()
"""Of this process. `program.run_program` takes the signals, and `runs.Run` looks at them."""
