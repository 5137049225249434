"""Mentors for the tests of the service, which its worker imports by name."""

import os
import sys
import time
from pathlib import Path

import numpy as np

SUM = 1000.0
"""Sums of pictures are told modulo this, which float32 holds exactly."""


def echo(requests):
    """What came with each request, as numbers: prompt, context, action, and the picture's sum."""
    return [
        np.array([float(each.prompt), each.context, *each.action, each.picture.sum() % SUM], np.float32)
        for each in requests
    ]


def moody(requests):
    """Late now and then; answers those whose prompt is a multiple of three in words, of five not at all."""
    time.sleep(0.02 * (len(requests) % 3 == 0))
    numbers = [int(each.prompt) for each in requests]
    return [None if n % 5 == 0 else f"né {n}" if n % 3 == 0 else np.array([n], np.float32) for n in numbers]


class Sleepy:
    """Takes `seconds` for a batch, whose size is its answer; writes to the file `began` when it begins one."""

    def __init__(self, seconds=0.0, began=os.devnull):
        self.seconds, self.began = seconds, Path(began)

    def __call__(self, requests):
        print("a word on standard output", flush=True)
        with self.began.open("a") as file:
            file.write("x")
        time.sleep(self.seconds)
        return [np.array([len(requests)], np.float32) for _ in requests]


def failing(requests):
    """Does whatever the first prompt says."""
    match requests[0].prompt:
        case "raise":
            raise KeyError("no idea")
        case "exit":
            sys.exit("enough")
        case "few":
            return ["one too few"] * (len(requests) - 1)
        case "list":
            return [[0.0, 1.0]] * len(requests)
        case "matrix":
            return [np.zeros((2, 2), np.float32)] * len(requests)
        case "long":
            return ["x" * 10_000_000] * len(requests)
    return [each.prompt for each in requests]


class Broken:
    """Cannot be loaded once the file `when` exists; without it, the process dies of its first batch."""

    def __init__(self, when, silently=False):
        if Path(when).exists():
            if silently:
                os._exit(7)
            raise ImportError("pip install 'mentorgym[vlm]'")

    def __call__(self, requests):
        os._exit(1)


class Misshapen:
    """Fails in NumPy."""

    def __call__(self, requests):
        return np.concatenate([each.action for each in requests] + [np.zeros((2, 2))])
