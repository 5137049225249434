"""Numbers in the replies of language models."""

import json
import re
from collections.abc import Sequence
from typing import Any

READINGS = ("strict", "first_numbers")
"""Ways to read a reply: what is malformed is unavailable, or its first numbers count, whatever stands around them."""

MOST_BRACES = 64
"""Opening braces of a reply that is searched for JSON."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FENCE = re.compile(r"```\w*\s(.*?)```", re.DOTALL)
_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_BRACKETS = ("[]", "()")


def first_numbers(reply: str, count: int) -> list[float] | None:
    """The first `count` numbers of a reply, whatever stands around them; None where there are fewer."""
    numbers = [float(text) for text in _NUMBER.findall(reply)[:count]]
    return numbers if len(numbers) == count else None


def bare_numbers(reply: str, count: int) -> list[float] | None:
    """The `count` numbers of a reply that holds these alone; None for any other.

    Spaces, commas or semicolons are between them. Brackets or a code fence may be around them.
    """
    text = reply.strip()
    if fence := _FENCE.fullmatch(text):
        text = fence[1].strip()
    if text[:1] + text[-1:] in _BRACKETS:
        text = text[1:-1].strip()
    parts = _SEPARATOR.split(text)
    if len(parts) != count or not all(map(_NUMBER.fullmatch, parts)):
        return None
    return [float(part) for part in parts]


def object_numbers(reply: str, keys: Sequence[str]) -> list[float] | None:
    """The numbers under `keys` of the one JSON object in a reply that has them; None for none, and for several.

    The object may stand in a code fence or between sentences, and have other keys, too.
    """
    answers = [each for each in _objects(reply) if all(key in each for key in keys)]
    if len(answers) != 1:
        return None
    numbers = [_number(answers[0][key]) for key in keys]
    return None if None in numbers else numbers  # type: ignore[return-value]


def _objects(reply: str) -> list[dict[str, Any]]:
    """The JSON objects in a text, those within others left out."""
    if reply.count("{") > MOST_BRACES:
        return []
    decoder, objects, place = json.JSONDecoder(), [], reply.find("{")
    while place >= 0:
        end = place + 1
        try:
            value, end = decoder.raw_decode(reply, place)
            objects.append(value)
        except (ValueError, RecursionError):
            pass
        place = reply.find("{", end)
    return objects


def _number(value: Any) -> float | None:
    """A number, or a text of one, as a float; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
