"""Which solids overlap, found slowly: parts are compared two by two, on a grid of points that lie in both."""

from typing import NamedTuple

import numpy as np

from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import Piece


class Part(NamedTuple):
    """An upright cylinder (`half` is its radius, twice) or a box turned by `yaw`."""

    round: bool
    x: float
    y: float
    low: float
    high: float
    half: tuple[float, float]
    yaw: float

    def holds(self, x: np.ndarray, y: np.ndarray, more: float) -> np.ndarray:
        """Whether the part, grown by `more` m all around, holds points seen from above."""
        along = (x - self.x) * np.cos(self.yaw) + (y - self.y) * np.sin(self.yaw)
        across = (y - self.y) * np.cos(self.yaw) - (x - self.x) * np.sin(self.yaw)
        if self.round:
            return np.hypot(along, across) <= self.half[0] + more
        return (np.abs(along) <= self.half[0] + more) & (np.abs(across) <= self.half[1] + more)


def parts_of(index: int, position, yaw: float) -> list[Part]:
    """An object's parts."""
    thing, (x, y, z) = OBJECTS[index], position
    parts = []
    for k in range(len(thing.profile) - 1):
        (low, a), (high, b) = thing.profile[k : k + 2]
        parts.append(Part(True, x, y, z + low, z + high, (max(a, b),) * 2, 0.0))
    for lug in thing.lugs:
        ahead, aside = sum(lug.x) / 2, sum(lug.y) / 2
        middle_x = x + ahead * np.cos(yaw) - aside * np.sin(yaw)
        middle_y = y + ahead * np.sin(yaw) + aside * np.cos(yaw)
        half = ((lug.x[1] - lug.x[0]) / 2, (lug.y[1] - lug.y[0]) / 2)
        parts.append(Part(False, middle_x, middle_y, z + lug.z[0], z + lug.z[1], half, yaw))
    return parts


def part_of(piece: Piece) -> Part:
    """A piece of furniture."""
    (x, y, z), (length, width, height) = piece.centre, piece.size
    return Part(piece.shape == "cylinder", x, y, z - height / 2, z + height / 2, (length / 2, width / 2), 0.0)


def share_a_point(ones: list[Part], others: list[Part], more: float) -> bool:
    """Whether any two parts do, each grown by `more` m (shrunk, where negative)."""
    for one in ones:
        for other in others:
            if min(one.high, other.high) - max(one.low, other.low) <= -2 * more:
                continue
            reach, other_reach = (np.hypot(*part.half) + max(more, 0) for part in (one, other))
            low_x, high_x = max(one.x - reach, other.x - other_reach), min(one.x + reach, other.x + other_reach)
            low_y, high_y = max(one.y - reach, other.y - other_reach), min(one.y + reach, other.y + other_reach)
            if low_x <= high_x and low_y <= high_y:
                x, y = np.meshgrid(np.linspace(low_x, high_x, 80), np.linspace(low_y, high_y, 80))
                if (one.holds(x, y, more) & other.holds(x, y, more)).any():
                    return True
    return False
