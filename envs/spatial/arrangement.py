"""What stands where and who looks: all that a picture and its captions are made of."""

from dataclasses import dataclass

import numpy as np

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial.objects import OBJECTS


@dataclass(frozen=True)
class Arrangement:
    """Three objects in a room, and a camera. Metres and radians; x and y level, z up; yaw counterclockwise from x."""

    room: str
    """a name in `rooms.ROOMS`"""
    camera: Camera
    objects: tuple[int, ...]
    """into `objects.OBJECTS`, [K] different ones"""
    positions: np.ndarray
    """float64 [K, 3], the middles of their bases"""
    yaws: np.ndarray
    """float64 [K]"""

    @property
    def names(self) -> tuple[str, ...]:
        """The objects' names."""
        return tuple(OBJECTS[each].name for each in self.objects)

    @property
    def centres(self) -> np.ndarray:
        """Half-way between base and top on the axis, float64 [K, 3]: what angles are measured between."""
        heights = np.array([OBJECTS[each].height for each in self.objects])
        return np.asarray(self.positions, np.float64) + heights[:, None] * np.array([0.0, 0.0, 0.5])
