"""Digests of files: they name what is cached, and say which weights made a result."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def files_digest(paths: Iterable[Path], digits: int = 16) -> str:
    """The first hexadecimal `digits` of the SHA-256 of the files' contents, one after the other.

    Raises OSError where a file cannot be read.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:digits]
