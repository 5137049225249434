"""Places in our towns where a street can be staged, and what of the town is seen from there."""

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from mentorgym.envs.driving.map.opendrive import OpenDrive, Road, read_opendrive

TOWNS = {"train": ("Suburb", "City", "Ring"), "val": ("Suburb", "City", "Ring"), "test": ("Village", "Grid", "Avenue")}
"""The towns of each split: nothing is tested where it was trained."""

BEHIND, AHEAD = 40.0, 130.0
"""Metres of a street behind and ahead of the ego."""

_STRAIGHT = np.radians(9.0)
"""Change of heading over the next 30 m up to which a place will do."""


@dataclass(frozen=True)
class Site:
    """A place on a driving lane outside junctions."""

    town: str
    road: int
    origin: tuple[float, float, float, float]
    """x, y, z, yaw of the lane there"""
    distances: np.ndarray  # float32 [n] m along the lane's course, 0 at the place
    course: np.ndarray  # float32 [n, 3] x, y, z in the frame of the place
    end: float
    """m to the end of the road"""

    def other_roads(self) -> np.ndarray:
        """Points on the edges of other roads' lanes and pavements around, in the frame of the place, float64 [n, 2]."""
        x, y, _, yaw = self.origin
        points = _roadway(self.town)
        moved = points[:, :2] - (x, y)
        moved = moved[(points[:, 2] != self.road) & (np.abs(moved).max(1) < AHEAD)]
        cos, sin = np.cos(yaw), np.sin(yaw)
        return moved @ np.array([[cos, -sin], [sin, cos]])


@dataclass(frozen=True)
class Surface:
    """A lane of the town seen from above."""

    road: int
    kind: str
    """OpenDRIVE's type of lane"""
    left: np.ndarray  # float32 [n, 3] m
    right: np.ndarray  # float32 [n, 3] m


@lru_cache(maxsize=6)
def read_town(name: str) -> OpenDrive:
    """The roads of one of our towns."""
    text = (resources.files("mentorgym.envs.driving.map.towns") / f"{name}.xodr").read_text("utf-8")
    return read_opendrive(text, name)


@lru_cache(maxsize=6)
def _approaches(name: str) -> list[tuple[Road, int, np.ndarray]]:
    """The driving lanes outside junctions and their centre lines along travel, x, y, z [n, 3] m, 1 m apart."""
    found = []
    for road in sorted(read_town(name).roads.values(), key=lambda road: road.id):
        section = road.sections[-1]
        for number, lane in sorted(section.lanes.items()):
            if road.junction >= 0 or lane.type != "driving" or number > 0 or road.length < 40:
                continue
            s = np.arange(0.0, road.length, 1.0)
            # Lanes of the last section are followed back to the road's start: offsets differ little between sections.
            inner, outer = road.lane_edges(len(road.sections) - 1, number, s)
            found.append((road, number, np.stack(road.position(s, (inner + outer) / 2), 1)))
    return found


@lru_cache(maxsize=6)
def _leading_on(town: str) -> list[tuple[Road, int, np.ndarray]]:
    """Those of the approaches that have a road straight ahead beyond their junction."""
    lanes = np.concatenate([part.left[:, :2] for part in surfaces(town) if part.kind == "driving"])
    found = []
    for approach in _approaches(town):
        line = approach[2][:, :2]
        ahead = line[-1] + (line[-1] - line[-2]) * np.array([[30.0], [45.0]])
        gaps = ((ahead[:, None] - lanes) ** 2).sum(2).min(1)
        if (gaps < 3.0**2).all():
            found.append(approach)
    return found


def pick_site(town: str, junction: bool, onward: bool, rng: np.random.Generator) -> Site:
    """A place whose street runs straight for 30 m: 8 to 14 m before a junction, or else anywhere.

    With `onward` the junction has a road straight ahead, if any of the town's has.
    """
    places = (_leading_on(town) if onward else []) or _approaches(town)
    while True:
        road, _, line = places[int(rng.integers(len(places)))]
        last = len(line) - 1
        place = last - (int(rng.integers(8, 15)) if junction else int(rng.integers(10, last)))
        ahead = line[place : min(place + 30, last) + 1, :2]
        steps = np.diff(ahead, axis=0)
        headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        if np.ptp(headings) <= _STRAIGHT:
            break
    yaw = float(headings[0])
    distances = np.arange(len(line)) - float(place)
    line, distances = _prolonged(line, distances)
    kept = (distances >= -BEHIND) & (distances <= AHEAD)
    line, distances = line[kept], distances[kept]
    origin = line[np.argmin(np.abs(distances))]
    moved = line - origin
    cos, sin = np.cos(yaw), np.sin(yaw)
    course = np.stack([cos * moved[:, 0] + sin * moved[:, 1], cos * moved[:, 1] - sin * moved[:, 0], moved[:, 2]], 1)
    x, y, z = (float(value) for value in origin)
    return Site(
        town, road.id, (x, y, z, yaw), distances.astype(np.float32), course.astype(np.float32), float(last - place)
    )


def _prolonged(line: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line with straight and level ends."""
    count = int(BEHIND + AHEAD)
    steps = np.arange(1, count + 1)[:, None]
    before, after = (line[0] - line[1]), (line[-1] - line[-2])
    before[2] = after[2] = 0
    before, after = before / np.linalg.norm(before), after / np.linalg.norm(after)
    whole = np.concatenate([(line[0] + steps * before)[::-1], line, line[-1] + steps * after])
    far = np.arange(1, count + 1)
    return whole, np.concatenate([distances[0] - far[::-1], distances, distances[-1] + far])


@lru_cache(maxsize=6)
def surfaces(town: str) -> list[Surface]:
    """All lanes of a town."""
    found = []
    for road in sorted(read_town(town).roads.values(), key=lambda road: road.id):
        for index, section in enumerate(road.sections):
            s = np.linspace(section.s, section.end, max(int((section.end - section.s) / 3) + 1, 2))
            for number, lane in sorted(section.lanes.items()):
                inner, outer = road.lane_edges(index, number, s)
                a, b = (np.stack(road.position(s, edge), 1) for edge in (inner, outer))
                left, right = (b, a) if number > 0 else (a, b)
                found.append(Surface(road.id, lane.type, left.astype(np.float64), right.astype(np.float64)))
    return found


@lru_cache(maxsize=6)
def _roadway(town: str) -> np.ndarray:
    """Points on the edges of all lanes and the roads that these are of, [n, 3]."""
    parts = [
        np.column_stack([edge[:, :2], np.full(len(edge), part.road)])
        for part in surfaces(town)
        if part.kind in ("driving", "sidewalk")
        for edge in (part.left, part.right)
    ]
    return np.concatenate(parts)
