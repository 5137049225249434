"""Paints a town's raster: road, drivable area and lane markings at 5 px/m.

Found-RL's masks (section 4.1; the method is Roach's, Zhang et al. 2021) draw each lane as a filled polygon with a 5
pixel outline and each marking as a line of one pixel.
"""

import mmap

import numpy as np

from mentorgym.envs.driving.kernel import f32, kernel
from mentorgym.envs.driving.map.tables import BROKEN, DRIVABLE, PIXELS_PER_METRE, ROAD, SOLID

OUTLINE = 0.5
"""Metres by which the road's outline (5 px) reaches beyond the lane."""

MARGIN = 10.0
"""Metres of raster around the lanes."""

ROWS = 256
"""Rows of raster that are worked on together: a copy of a large town's whole raster takes gigabytes."""


@kernel
def _fill_strip(raster, left, right, bit):
    """Set `bit` where a pixel's centre lies in the strip of quadrilaterals between two polylines, in pixel units."""
    rows, columns = raster.shape
    corner = np.empty((4, 2), np.float64)
    for i in range(left.shape[0] - 1):
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for axis in range(2):
            corner[0, axis], corner[1, axis] = left[i, axis], left[i + 1, axis]
            corner[2, axis], corner[3, axis] = right[i + 1, axis], right[i, axis]
            for k in range(4):
                low[axis], high[axis] = min(low[axis], corner[k, axis]), max(high[axis], corner[k, axis])
        low_x, high_x = max(int(np.floor(low[0])), 0), min(int(np.ceil(high[0])), columns - 1)
        low_y, high_y = max(int(np.floor(low[1])), 0), min(int(np.ceil(high[1])), rows - 1)
        for row in range(low_y, high_y + 1):
            for column in range(low_x, high_x + 1):
                x, y = column + 0.5, row + 0.5
                negative = positive = False
                for k in range(4):
                    ax, ay = corner[k, 0], corner[k, 1]
                    bx, by = corner[(k + 1) % 4, 0], corner[(k + 1) % 4, 1]
                    side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
                    negative |= side < -1e-9
                    positive |= side > 1e-9
                if not (negative and positive):
                    raster[row, column] |= bit


class Canvas:
    """A raster that covers all `points` (float64 [n, 2], metres) with a margin."""

    def __init__(self, points: np.ndarray):
        low, high = points.min(0) - MARGIN, points.max(0) + MARGIN
        self.origin = np.floor(low).astype(f32)
        columns, rows = np.ceil((high - self.origin) * PIXELS_PER_METRE).astype(int)
        # Memory that the system fills in where it is written, in small pages: the raster of a long road that lies
        # diagonally is empty nearly everywhere, and numpy's own arrays ask for large pages.
        memory = mmap.mmap(-1, int(rows) * int(columns), access=mmap.ACCESS_COPY)
        self.raster = np.frombuffer(memory, np.uint8).reshape(rows, columns)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((points - self.origin.astype(np.float64)) * PIXELS_PER_METRE)

    def lane(self, left: np.ndarray, right: np.ndarray) -> None:
        """Paint the area between two borders (float64 [n, 2], metres)."""
        across = right - left
        outward = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9) * OUTLINE
        _fill_strip(self.raster, self._pixels(left), self._pixels(right), np.uint8(DRIVABLE))
        _fill_strip(self.raster, self._pixels(left - outward), self._pixels(right + outward), np.uint8(ROAD))

    def marking(self, line: np.ndarray, white_broken: bool) -> None:
        """Paint a marking along a polyline (float64 [n, 2], metres, points closer than a pixel)."""
        column, row = self._pixels(line).astype(int).T
        self.raster[row, column] |= BROKEN if white_broken else SOLID

    def finish(self) -> np.ndarray:
        """The raster, uint8 [rows, columns]; a white broken marking replaces any other under it."""
        for first in range(0, len(self.raster), ROWS):
            rows = self.raster[first : first + ROWS]
            rows[(rows & BROKEN) != 0] &= 255 - SOLID
        return self.raster
