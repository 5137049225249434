"""Error messages for unknown names: they name the nearest valid one."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

BATCH_ARGUMENTS = ("num_envs", "group_size", "autoreset_mode", "copy", "reset_mask")
"""What a vector environment takes and a single one does not."""

BATCH_REMEDY = "it belongs to a batch: make one with gym.make_vec, or leave it out"

Initializer = TypeVar("Initializer", bound=Callable[..., None])


def nearest_name(name: object, valid: Iterable[str | None]) -> str:
    """A hint for an error message: the nearest valid name, if one is near, and all of them. Case does not count."""
    valid = list(valid)
    names = {each.lower(): each for each in valid if isinstance(each, str)}
    text = str(name).lower()
    beginnings = [each for each in names if text and each.startswith(text)]
    close = difflib.get_close_matches(text, names, n=1, cutoff=0.6) or beginnings
    return (f"did you mean {names[close[0]]!r}? " if close else "") + f"Valid are {', '.join(map(repr, valid))}"


def names_unknown_arguments(initializer: Initializer) -> Initializer:
    """Decorate an `__init__`, so that its TypeError for an unknown keyword argument names the nearest valid one.

    The message begins as Python's own does: other libraries look for it.
    """
    valid = list(inspect.signature(initializer).parameters)[1:]

    @functools.wraps(initializer)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in valid:
                hint = BATCH_REMEDY if name in BATCH_ARGUMENTS else nearest_name(name, valid)
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}: {hint}")
        initializer(self, *args, **kwargs)

    return checked  # type: ignore[return-value]
