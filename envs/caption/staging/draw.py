"""The picture of a staged scene."""

from functools import lru_cache

import numpy as np

from mentorgym.envs.caption.staging import models, sites
from mentorgym.envs.caption.staging.records import EYE, FIELD, HEIGHT, PITCH, WIDTH, Record, Street
from mentorgym.envs.rendering.meshes import GRAIN, PLAIN, Colour, Mesh, joined, painted, placed, polygon, ribbon
from mentorgym.envs.rendering.render import Camera, Light, Picture, Tracer, render

STEP = 0.5
"""Seconds between frames."""

_ASPHALT: Colour = (0.105, 0.105, 0.11)
_PAVEMENT: Colour = (0.30, 0.29, 0.27)
_KERB: Colour = (0.45, 0.45, 0.43)
_GRASS: Colour = (0.10, 0.20, 0.05)
_PAINT: dict[str, Colour] = {"white": (0.85, 0.85, 0.85), "yellow": (0.85, 0.55, 0.03)}
_LINE, _DASH, _GAP = 0.24, 2.0, 2.0
"""Metres: the width of a line, and its dashes."""
_KERB_WIDTH, _PAVEMENT_WIDTH, _KERB_HEIGHT = 0.25, 2.2, 0.16


def camera(record: Record, ago: float = 0.0) -> Camera:
    """The ego's camera so many seconds before the labelled moment."""
    (x, y, z), yaw = record.street.at(-ago * record.speed)
    return Camera((x, y, z + EYE), yaw, PITCH, FIELD, HEIGHT, WIDTH)


def light(record: Record) -> Light:
    """Sun, sky and fog of a scene's weather and daylight."""
    rng = np.random.default_rng([record.look, 1])
    around = rng.uniform(0, 2 * np.pi)
    rise, sun, ambient, zenith, horizon = {
        "noon": (1.1, (0.95, 0.92, 0.85), (0.52, 0.55, 0.62), (0.12, 0.30, 0.70), (0.60, 0.72, 0.85)),
        "low sun": (0.38, (1.0, 0.72, 0.42), (0.42, 0.42, 0.48), (0.16, 0.26, 0.55), (0.85, 0.66, 0.45)),
        "dusk": (0.2, (0.12, 0.07, 0.06), (0.24, 0.25, 0.32), (0.03, 0.05, 0.14), (0.34, 0.24, 0.28)),
    }[record.daylight]
    fog = 2000.0
    if record.weather != "clear":
        through, soft = 0.04 * sum(sun), 0.2 * sum(ambient)
        sun = (through, through, through)
        ambient = (0.5 * ambient[0] + soft, 0.5 * ambient[1] + soft, 0.5 * ambient[2] + soft)
        grey = max(0.28 * sum(horizon), 0.32)
        horizon, zenith = (grey, grey * 1.01, grey * 1.04), (grey * 0.75, grey * 0.78, grey * 0.84)
        fog = {"overcast": 900.0, "fog": 48.0, "rain": 130.0}[record.weather]
    direction = (float(np.cos(around) * np.cos(rise)), float(np.sin(around) * np.cos(rise)), float(np.sin(rise)))
    return Light(sun, direction, ambient, zenith, horizon, fog, 0.9 if record.daylight == "dusk" else 0.0)


def _line(street: Street, offset: float, rise: float, distances: np.ndarray) -> np.ndarray:
    """Points along the street, [n, 3]."""
    x, y, z = (np.interp(distances, street.distances, street.course[:, k]) for k in range(3))
    yaw = np.interp(distances, (street.distances[1:] + street.distances[:-1]) / 2, street.headings)
    return np.stack([x - offset * np.sin(yaw), y + offset * np.cos(yaw), z + rise], 1)


def _strip(
    street: Street, left: float, right: float, rise: float, start: float, end: float, colour: Colour, texture: int = 0
) -> Mesh:
    distances = np.linspace(start, end, max(int((end - start) / 2.0) + 1, 2))
    return ribbon(_line(street, left, rise, distances), _line(street, right, rise, distances), colour, texture)


def _dashes(street: Street, left: float, right: float, starts: np.ndarray, colour: Colour) -> Mesh:
    """The dashes that begin at `starts`, each one straight."""
    corners = [_line(street, offset, 0.02, starts + along) for along in (0.0, _DASH) for offset in (left, right)]
    k = 4 * np.arange(len(starts))[:, None]
    faces = np.concatenate([k + (0, 1, 2), k + (2, 1, 3)])
    return painted(np.stack(corners, 1).reshape(-1, 3), faces, colour)


def street_mesh(street: Street) -> Mesh:
    """The staged street: asphalt, paint, kerbs and pavements."""
    start, end = float(street.distances[0]), min(street.end, float(street.distances[-1]))
    right, left = street.edges
    parts = [_strip(street, left, right, 0.0, start, end, _ASPHALT, GRAIN)]
    for side, edge in ((1, left), (-1, right)):
        outer = edge + side * _KERB_WIDTH
        far = outer + side * _PAVEMENT_WIDTH
        high, low = max(edge, outer), min(edge, outer)
        parts.append(_strip(street, high, low, _KERB_HEIGHT, start, end, _KERB))
        distances = np.linspace(start, end, max(int((end - start) / 2.0) + 1, 2))
        parts.append(ribbon(_line(street, edge, 0, distances), _line(street, edge, _KERB_HEIGHT, distances), _KERB))
        parts.append(_strip(street, max(outer, far), min(outer, far), _KERB_HEIGHT, start, end, _PAVEMENT, GRAIN))
    stop = street.stop_line if street.stop_line is not None else end
    for line in street.lines:
        middles = (-0.2, 0.2) if line.kind == "double" else (0.0,)
        for middle in middles:
            a, b = line.offset + middle + _LINE / 2, line.offset + middle - _LINE / 2
            if line.kind == "dashed":
                first = np.arange(start + 0.4, min(stop, end, 90.0) - _DASH, _DASH + _GAP)
                parts.append(_dashes(street, a, b, first[first > -12], _PAINT[line.colour]))
            else:
                parts.append(_strip(street, a, b, 0.02, start, min(stop, end), _PAINT[line.colour]))
    if street.stop_line is not None:
        for lane in street.lanes:
            if lane.direction > 0:
                a, b = lane.offset + lane.width / 2 - 0.15, lane.offset - lane.width / 2 + 0.15
                parts.append(_strip(street, a, b, 0.02, street.stop_line, street.stop_line + 0.5, _PAINT["white"]))
    if street.crosswalk is not None:
        for offset in np.arange(right + 0.4, left - 0.5, 1.0):
            parts.append(
                _strip(
                    street, offset + 0.5, offset, 0.021, street.crosswalk - 1.3, street.crosswalk + 1.3, _PAINT["white"]
                )
            )
    for lane in street.lanes:
        if lane.arrow:
            for distance in (5.6, 11.5):
                if distance + 2 > end:
                    continue
                (x, y, z), yaw = street.at(distance, lane.offset)
                for piece in models.arrow_parts(lane.arrow):
                    flat = np.stack([piece[:, 1] * 3.6, piece[:, 0] * 2.4, np.full(len(piece), 0.025)], 1)
                    parts.append(placed(polygon(flat, _PAINT["white"]), (x, y, z), yaw))
    return joined(parts)


@lru_cache(maxsize=6)
def _town(name: str) -> tuple[Mesh, np.ndarray]:
    """The lanes of a town in its own frame, and of which road each face is."""
    heights = {
        "driving": (-0.04, _ASPHALT),
        "shoulder": (-0.05, _ASPHALT),
        "sidewalk": (-0.03, _PAVEMENT),
        "median": (-0.03, _GRASS),
    }
    parts, roads = [], []
    for surface in sites.surfaces(name):
        if surface.kind in heights:
            rise, colour = heights[surface.kind]
            texture = GRAIN if surface.kind == "driving" else PLAIN
            parts.append(ribbon(surface.left + (0, 0, rise), surface.right + (0, 0, rise), colour, texture))
            roads.append(np.full(len(parts[-1].faces), surface.road))
    return joined(parts), np.concatenate(roads)


def town_mesh(record: Record) -> Mesh:
    """What of the town is seen from the street: the ground, and the roads and pavements around."""
    x, y, z, yaw = record.origin
    low = float(record.street.course[:, 2].min()) - 0.35
    reach = 400.0
    ground = polygon([(-reach, -reach, low), (reach, -reach, low), (reach, reach, low), (-reach, reach, low)], _GRASS)
    town, roads = _town(record.town)
    near = np.abs(town.vertices[town.faces[:, 0], :2] - np.array([x, y], np.float32)).max(1) < 120
    chosen = np.flatnonzero(near & (roads != record.road))
    kept = {name: getattr(town, name)[chosen] for name in Mesh._fields if name != "vertices"}
    moved = placed(town._replace(vertices=town.vertices - np.array([x, y, z], np.float32)), (0, 0, 0), -yaw)
    return joined([ground, Mesh(vertices=moved.vertices, **kept)])


def scene_mesh(record: Record, ago: float = 0.0) -> Mesh:
    """Everything, so many seconds before the labelled moment; thing k is instance k."""
    # Banks beside the street hide the ground's edge where the street climbs.
    street = record.street
    right, left = street.edges
    start, end = float(street.distances[0]), min(street.end, float(street.distances[-1]))
    banks = [
        _strip(street, left + 14, left + 2.4, -0.06, start, end, _GRASS),
        _strip(street, right - 2.4, right - 14, -0.06, start, end, _GRASS),
    ]
    parts = [town_mesh(record), street_mesh(street), *banks]
    for k, thing in enumerate(record.things):
        back = thing.speed * ago
        x, y, z = thing.position
        position = (x - back * np.cos(thing.yaw), y - back * np.sin(thing.yaw), z)
        parts.append(models.stood(thing.kind, thing.size, thing.state, thing.look, position, thing.yaw, k))
    return joined(parts)


def draw(record: Record, ago: float = 0.0) -> Picture:
    """The ego's view so many seconds before the labelled moment."""
    picture = render(Tracer(scene_mesh(record, ago)), camera(record, ago), light(record))
    if record.weather == "rain":
        _rain(picture.colours, np.random.default_rng([record.look, 2, round(ago / STEP)]))
    return picture


def _rain(colours: np.ndarray, rng: np.random.Generator) -> None:
    """Pale streaks."""
    height, width = colours.shape[:2]
    for _ in range(45):
        length = int(rng.integers(4, 9))
        row, column = int(rng.integers(height - length)), int(rng.integers(width - 2))
        rows = np.arange(row, row + length)
        columns = column + (np.arange(length) > length // 2)
        pixels = colours[rows, columns].astype(np.float32)
        colours[rows, columns] = (pixels * 0.75 + 0.25 * 190).astype(np.uint8)
