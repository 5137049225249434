"""The decorators for compiled functions.

Numba's own on-disk cache looks only at the file of the function it stores: after an edit of a callee in another module
the caller would return old results. Kernels are therefore cached in a folder named after a hash of every module that
defines a kernel, or a record that kernels read, so that an edit of one of them compiles all anew.

Nothing that feeds a state may depend on the order of threads or on re-association: no `parallel`, no `fastmath`.
"""

import gc
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import event

from mentorgym.cache import cache_folder
from mentorgym.digests import files_digest

Function = TypeVar("Function", bound=Callable[..., Any])

u64 = np.uint64
f32 = np.float32

_FEEDS_KERNELS = re.compile(r"^(@|def )(kernel|inner|inline|record)\b", re.MULTILINE)

_SECONDS_BETWEEN_LINES = 10.0
"""Where progress goes to a file, at most one line in so many seconds."""


def kernel_modules(folder: Path) -> list[Path]:
    """The modules in a folder and below that define kernels or records, and the decorators for them."""
    return [path for path in sorted(folder.rglob("*.py")) if _FEEDS_KERNELS.search(path.read_text("utf-8"))]


def kernels_digest(folder: Path) -> str:
    """The name of the cache of the kernels in a folder and below."""
    return f"{numba.__version__}-{np.__version__}-{files_digest(kernel_modules(folder))}"


_CACHE = cache_folder() / "kernels" / kernels_digest(Path(__file__).parent)

_kernels: list[Any] = []


class _Compilation(event.Listener):
    """Shows on standard error how far the compilation is, and stops the garbage collector meanwhile: the compiler's
    objects are so many that it takes a seventh of the time."""

    def __init__(self) -> None:
        self._count, self._depth = 0, 0
        self._collects = True
        self._line_time = 0.0

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"] not in _kernels:
            return
        if not self._depth:
            self._collects = gc.isenabled()
            gc.disable()
        if not self._count and not self._depth:
            self._say("compiling the driving kernels, once (about half a minute) ...")
        self._depth += 1

    def on_end(self, event: Any) -> None:
        if event.data["dispatcher"] not in _kernels:
            return
        self._depth -= 1
        self._count += 1
        progress = f"{self._count} of up to {len(_kernels)} kernels are compiled"
        if sys.stderr.isatty():
            # The line goes once the kernel that Python called is ready: it may be the last one.
            line = f"mentorgym: {progress}" if self._depth else ""
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() >= self._line_time + _SECONDS_BETWEEN_LINES:
            self._say(progress)
        if not self._depth and self._collects:
            gc.enable()

    def _say(self, line: str) -> None:
        print(f"mentorgym: {line}", file=sys.stderr, flush=True)
        self._line_time = time.monotonic()


event.register("numba:compile", _Compilation())


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    options |= {"nogil": True, "error_model": "numpy", "fastmath": False, "no_cfunc_wrapper": True}
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_CACHE)
    try:
        dispatcher = numba.njit(**options)(function)
    finally:
        numba.config.CACHE_DIR = before
    _kernels.append(dispatcher)
    return dispatcher


def kernel(function: Function) -> Function:
    """Compile `function` to machine code, without the interpreter lock, cached across processes."""
    return cast(Function, _compile(function, cache=True))


def inner(function: Function) -> Function:
    """A kernel that only kernels call, whose code is part of theirs: neither cached nor wrapped for Python's arguments.

    A literal number among its arguments is a type of its own and compiles it once more: `np.int64(0)` is not.
    """
    return cast(Function, _compile(function, no_cpython_wrapper=True))


def inline(function: Function) -> Function:
    """A kernel whose lines take the place of each call in a kernel: for short ones, called with many types."""
    return cast(Function, _compile(function, cache=True, inline="always"))
