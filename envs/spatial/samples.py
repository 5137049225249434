"""Samples of what a random policy leaves behind it: arrangements, their pictures, and words for them.

They train the first models and make the fixed sets that all models are compared on. Sample i depends on the split, the
seed, the camera and i alone, so a larger set begins with a smaller one.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mentorgym.cache import cache_folder, read_picture, write_picture
from mentorgym.digests import files_digest
from mentorgym.envs.rendering.render import Picture
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.language import Example, example
from mentorgym.envs.spatial.world import PICTURE_SHAPE

SIZES = {"train": 4000, "val": 500, "test": 1000}
"""Samples of each split by default; the fixed sets that models are validated and tested on have seed 0 and these."""

ROWS = 128
"""Rooms in which objects are moved side by side; samples are taken from them as they come."""

APART = 4
"""Valid moves of a room between two samples."""

_DRAWN_BY = ("arrangement.py", "models.py", "objects.py", "picture.py", "rooms.py")


class Sample(NamedTuple):
    """One arrangement with what is seen and said of it."""

    arrangement: Arrangement
    picture: Picture
    example: Example


def arrangements(split: str, seed: int = 0, camera: str = "close") -> Iterator[Arrangement]:
    """Arrangements after valid moves of a random policy, without end; `APART` moves lie between two of one room.

    Seeds less than `ROWS` apart draw many of the same rooms, cameras, objects and yaws, and then move them otherwise.

    Raises ValueError, as `SpatialVectorEnv` does, for a split or a camera that there is not.
    """
    from mentorgym.envs.spatial.vector import SpatialVectorEnv

    _check_seed(seed)
    envs = SpatialVectorEnv(ROWS, split=split, camera=camera)
    return _arrangements(envs, seed)


def _arrangements(envs, seed: int) -> Iterator[Arrangement]:
    envs.reset(seed=seed)
    generator = np.random.default_rng([seed, ROWS])
    moves = np.zeros(ROWS, np.int64)
    while True:
        actions = generator.uniform(-1.0, 1.0, (ROWS, 3)).astype(np.float32)
        *_, infos = envs.step(actions)
        moves += infos["valid"]
        for row in np.flatnonzero(moves >= APART):
            moves[row] = 0
            # As the move left it, even where the room has been furnished anew since.
            yield envs.arrangement(int(row))


def collect(split: str, count: int, seed: int = 0, camera: str = "close") -> Iterator[Sample]:
    """The first `count` samples, each drawn when it is asked for, with masks and depth, which are kept nowhere.

    Raises ValueError for an unknown split or camera, a negative seed or a count below 1.
    """
    _check_count(count)
    first = enumerate(_first(arrangements(split, seed, camera), count))
    return (Sample(each, _draw(each), _example(each, seed, index)) for index, each in first)


class Samples(Sequence):
    """The same samples as a set: `samples[i]` is the colours uint8 [224, 224, 3] and the `Example`.

    What stands where is known at once; pictures are drawn when they are first asked for, and kept on disk by what they
    show (`picture_of`). Raises as `collect` does.
    """

    def __init__(self, split: str, count: int | None = None, seed: int = 0, camera: str = "close"):
        if count is None:
            count = SIZES.get(split, 1)
        _check_count(count)
        self.arrangements = list(_first(arrangements(split, seed, camera), count))
        self.examples = [_example(each, seed, index) for index, each in enumerate(self.arrangements)]

    def __len__(self) -> int:
        return len(self.arrangements)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        return picture_of(self.arrangements[index]), self.examples[index]

    def pictures(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """The colours of all samples, or of some, uint8 [n, 224, 224, 3]."""
        chosen = range(len(self)) if indices is None else indices
        colours = np.empty((len(chosen), *PICTURE_SHAPE), np.uint8)
        for row, index in enumerate(chosen):
            colours[row] = picture_of(self.arrangements[index])
        return colours


@lru_cache
def code_version() -> str:
    """A hash of all that the picture of an arrangement depends on."""
    here = Path(__file__).parent
    return files_digest([*(here / name for name in _DRAWN_BY), *sorted((here.parent / "rendering").glob("*.py"))])


def picture_path(arrangement: Arrangement) -> Path:
    """Where the picture of an arrangement is kept: a place that depends on all that it shows."""
    seen = (arrangement.room, arrangement.camera, arrangement.objects)
    numbers = np.concatenate([np.ravel(arrangement.positions), np.ravel(arrangement.yaws)]).astype(np.float64)
    digest = hashlib.sha256(repr(seen).encode() + numbers.tobytes()).hexdigest()
    return cache_folder() / "spatial" / code_version() / digest[:2] / f"{digest[2:26]}.png"


def picture_of(arrangement: Arrangement) -> np.ndarray:
    """The colours of an arrangement, uint8 [224, 224, 3], from disk where they are kept; else drawn, and kept.

    Any number of processes may ask; a file that is not whole is drawn again.
    """
    path = picture_path(arrangement)
    colours = read_picture(path, PICTURE_SHAPE)
    if colours is None:
        colours = _draw(arrangement).colours
        write_picture(path, colours)
    return colours


def _draw(arrangement: Arrangement) -> Picture:
    from mentorgym.envs.spatial.picture import draw

    return draw(arrangement)


def _example(arrangement: Arrangement, seed: int, index: int) -> Example:
    return example(arrangement, np.random.default_rng([seed, index]))


def _first(sequence: Iterator[Arrangement], count: int) -> Iterator[Arrangement]:
    return itertools.islice(sequence, count)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}")


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
