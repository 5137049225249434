"""The one decorator for compiled functions, and random numbers by counter.

numba's own on-disk cache looks only at the file of the function it stores: after an edit of a callee in another module
the caller would return old results. `kernel` therefore keeps the cache in a folder named after a hash of every source
file of this package, so that any edit compiles anew.

Nothing that feeds a state may depend on the order of threads or on re-association: no `parallel`, no `fastmath`.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

from mentorgym.cache import cache_folder

Function = TypeVar("Function", bound=Callable[..., Any])

u64 = np.uint64
f32 = np.float32


def _source_hash() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


_KERNEL_FOLDER = cache_folder() / "kernels" / _source_hash()


def kernel(function: Function) -> Function:
    """Compile `function` to machine code, without the interpreter lock, cached across processes."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_KERNEL_FOLDER)
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function))
    finally:
        numba.config.CACHE_DIR = before


def inner(function: Function) -> Function:
    """A kernel that only kernels call: without wrappers that unpack Python's arguments it compiles up to ten times
    faster.

    A literal number among its arguments is a type of its own and compiles it once more: `np.int64(0)` is not.
    """
    compiled: Any = kernel(function)
    if not numba.config.DISABLE_JIT:
        compiled.targetoptions.update(no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return compiled


def announce_compilation() -> None:
    """Say on standard error that the kernels will be compiled, when none of them has been."""
    if not numba.config.DISABLE_JIT and not any(_KERNEL_FOLDER.rglob("*.nbi")):
        print("mentorgym: compiling the driving kernels, once (up to a minute) ...", file=sys.stderr, flush=True)


@kernel
def mix(value):
    """splitmix64's finaliser (Steele, Lea, Flood 2014): a bijection of uint64 that passes for random."""
    z = u64(value) + u64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    return z ^ (z >> u64(31))


@kernel
def draw(key, stream, actor, tick):
    """A uint64 that depends on its four arguments alone: `key` of the episode, `stream` of the purpose, actor, tick."""
    return mix(mix(u64(key) ^ (u64(stream) << u64(56))) ^ (u64(actor) << u64(32)) ^ u64(tick))


@kernel
def uniform(key, stream, actor, tick):
    """A float32 in [0, 1) from `draw`."""
    return f32(draw(key, stream, actor, tick) >> u64(40)) * f32(2.0**-24)


def episode_key(seed: int, episode: int) -> int:
    """The key of an environment's `episode`-th episode (from 0) under `seed`, a uint64."""
    return int(mix(u64(int(mix(u64(seed & 0xFFFFFFFFFFFFFFFF))) ^ episode)))
