"""What stands where in a staged scene: all that its picture and its labels are made from.

The frame is the ego car's at the labelled moment: origin on the road below its camera, x ahead, y left, z up, metres
and radians. Offsets are metres to the left of the course of the ego's lane.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

HEIGHT, WIDTH = 108, 192
"""Pixels of a picture."""

EYE, PITCH, FIELD = 1.55, float(np.radians(-2.0)), float(np.radians(78.0))
"""The camera's height above the road in m, how far it looks up and its horizontal angle of view, rad. It looks along
the street."""


@dataclass(frozen=True)
class Thing:
    """One thing. It moves along its heading with `speed` m/s and is here at the labelled moment."""

    kind: str
    """"car", "van", "truck", "bicycle", "motorbike", "person", "cone", "crate", "trunk", "tyres", "barrier", "light",
    "sign", "building", "tree" or "post" """
    position: tuple[float, float, float]
    """middle of its base, m"""
    yaw: float
    """the way that it faces; lights and signs face the reader"""
    size: tuple[float, float, float]
    """length along its heading, width, height, m"""
    state: str = ""
    """vehicles: "", "brake", "left", "right" (blinkers); lights: "red", "yellow", "green", "left", "right" (green
    arrows); signs: "stop", "give way", "no entry" """
    speed: float = 0.0
    look: int = 0
    """which of the looks of its kind it has"""


@dataclass(frozen=True)
class Lane:
    """One lane of the street."""

    offset: float
    """of its middle, m"""
    width: float
    direction: int
    """1 for the ego's, -1 for the oncoming"""
    arrow: str = ""
    """painted on it: "", "left", "right" """


@dataclass(frozen=True)
class Line:
    """A painted line along the street."""

    offset: float
    kind: str
    """"solid", "dashed" or "double" (two solid ones)"""
    colour: str
    """"white" or "yellow" """


@dataclass(frozen=True)
class Street:
    """The ego's street. Its course is a polyline, x, y, z by metres from the ego."""

    distances: np.ndarray  # float32 [n] m along the course, 0 at the ego
    course: np.ndarray  # float32 [n, 3] m
    lanes: tuple[Lane, ...]
    """from right to left"""
    lines: tuple[Line, ...]
    edges: tuple[float, float]
    """offsets of the right and the left kerb, m"""
    end: float
    """m ahead where it meets a junction; far beyond sight where it does not"""
    stop_line: float | None = None
    """m ahead"""
    crosswalk: float | None = None
    """m ahead of its middle"""

    @cached_property
    def headings(self) -> np.ndarray:
        """The direction of the course's pieces, rad, without jumps, float64 [n - 1]."""
        steps = np.diff(self.course[:, :2], axis=0)
        return np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))

    def at(self, distance: float, offset: float = 0.0) -> tuple[tuple[float, float, float], float]:
        """The point so many metres ahead and to the left, and the street's direction there."""
        x, y, z = (float(np.interp(distance, self.distances, self.course[:, k])) for k in range(3))
        yaw = self.heading(distance)
        return (x - offset * float(np.sin(yaw)), y + offset * float(np.cos(yaw)), z), yaw

    def heading(self, distance: float) -> float:
        """The direction of the street, rad."""
        k = int(np.clip(np.searchsorted(self.distances, distance), 1, len(self.distances) - 1))
        return float(self.headings[k - 1])


@dataclass(frozen=True)
class Record:
    """A staged scene."""

    town: str
    origin: tuple[float, float, float, float]
    """where the ego stands in the town: x, y, z, yaw"""
    road: int
    """the town's road that the street is staged on"""
    reason: int
    """the reason that the scene was staged for"""
    street: Street
    things: tuple[Thing, ...]
    weather: str
    """"clear", "overcast", "fog" or "rain" """
    daylight: str
    """"noon", "low sun" or "dusk" """
    speed: float
    """of the ego, m/s"""
    look: int
    """a seed of what has no meaning: where buildings stand, where rain falls, how the sun stands"""
