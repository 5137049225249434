"""What environments say of arguments that they do not know."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any


def nearest_name(name: object, valid: Iterable[str | None]) -> str:
    """A hint for an error message: the nearest valid name, and all of them."""
    valid = list(valid)
    close = difflib.get_close_matches(str(name), [each for each in valid if isinstance(each, str)], n=1, cutoff=0.4)
    return (f"did you mean {close[0]!r}? " if close else "") + f"Valid are {', '.join(map(repr, valid))}"


def check_names(unknown: Mapping[str, Any], kind: type) -> None:
    """Raise TypeError for an unknown argument of `kind`, naming the nearest valid one."""
    valid = [name for name in inspect.signature(kind).parameters if name != "unknown"]
    for name in unknown:
        raise TypeError(f"unknown argument {name!r}: {nearest_name(name, valid)}")
