"""Damaged files and texts for fuzzers."""

import codecs
from collections.abc import Iterator

import numpy as np

ODD = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\r\n",
    b"\n",
    b",",
    b";",
    b"\t",
    b'"',
    b"'",
    b"<",
    b">",
    b"&",
]
ODD += [b"{", b"}", b"[", b"]", b"nan", b"inf", b"-1e999", b"1" * 400, b"1_0", b"0x10", b"null", b"true", b"../", b"%s"]
ODD += ["é\u2028\u0085".encode(), b"\xed\xa0\x80", b"[" * 3000, b"<!DOCTYPE x>", b"=1+1", b"-", b" ", b"\\ud800", b":"]


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """`data` with one or two random changes: bytes, cuts, copies, odd strings, and other encodings."""
    for _ in range(int(generator.integers(1, 3))):
        first, last = sorted(generator.integers(0, len(data) + 1, 2).tolist())
        near = min(last, first + int(generator.integers(1, 12)))
        odd = ODD[int(generator.integers(len(ODD)))]
        change = int(generator.integers(9))
        if change == 0:
            data = data[:first] + bytes([int(generator.integers(256))]) + data[first + 1 :]
        elif change == 1:
            data = data[:first]
        elif change == 2:
            data = data[:first] + data[near:]
        elif change == 3:
            data = data[:near] + data[first:near] + data[near:]
        elif change == 4:
            data = data[:first] + odd + data[near:]
        elif change == 5:
            data = data[:first] + odd + data[first:]
        elif change == 6:
            data = data[:first] + bytes(near - first) + data[near:]
        elif change == 7:
            data = data[:first] + data[near : near + 20] + data[first:]
        else:
            text = data.decode("latin-1")
            bom = [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b""][int(generator.integers(3))]
            data = bom + text.encode(["utf-8", "utf-16-le", "latin-1"][int(generator.integers(3))])
    return data


def mutations(originals: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` mutated copies of `originals`, each in turn."""
    generator = np.random.default_rng(seed)
    for index in range(count):
        yield mutated(originals[index % len(originals)], generator)
