"""What is true of a staged scene, found from its record and its picture by geometry of its own.

It shares no code with what composes, labels or draws scenes: things are projected with a camera model written here,
compared with the picture's instances and depths, and paint is read off the pixels.
"""

import math

import numpy as np

from mentorgym.envs.caption.staging.records import EYE, FIELD, HEIGHT, PITCH, WIDTH, Record, Thing
from mentorgym.envs.rendering.render import Picture

VEHICLES, RIDERS = {"car", "van", "truck"}, {"bicycle", "motorbike"}
CLUTTER = {"cone", "crate", "tyres", "trunk", "barrier"}
ENOUGH = 45
"""Pixels of a thing that can be recognised: 7 x 7."""
LIT = 9
"""Pixels of a lamp."""


def along_street(record: Record, x: float, y: float) -> tuple[float, float]:
    """Metres along the course and to its left of a point, by its nearest foot on any piece of the polyline."""
    best = (math.inf, 0.0, 0.0)
    points, s = record.street.course, record.street.distances
    for a, b, start in zip(points[:-1], points[1:], s[:-1], strict=True):
        if abs(a[0] - x) + abs(a[1] - y) > 12:
            continue
        ux, uy = float(b[0] - a[0]), float(b[1] - a[1])
        length = math.hypot(ux, uy)
        t = min(max(((x - a[0]) * ux + (y - a[1]) * uy) / length**2, 0.0), 1.0)
        gap = math.hypot(x - a[0] - t * ux, y - a[1] - t * uy)
        side = (ux * (y - a[1]) - uy * (x - a[0])) / length
        best = min(best, (gap, float(start) + t * length, side))
    return best[1], best[2]


def footprint(thing: Thing) -> list[tuple[float, float]]:
    cos, sin = math.cos(thing.yaw), math.sin(thing.yaw)
    length, width, _ = thing.size
    corners = [(sx * length / 2, sy * width / 2) for sx in (-1, 1) for sy in (-1, 1)]
    return [(thing.position[0] + cos * u - sin * v, thing.position[1] + sin * u + cos * v) for u, v in corners]


def pixel_of(record: Record, x: float, y: float, z: float) -> tuple[float, float, float] | None:
    """Row, column and distance of a point in the picture, None where it is not in view."""
    here = int(np.argmin(np.abs(record.street.distances)))
    a, b = record.street.course[here - 1], record.street.course[here]
    yaw = math.atan2(b[1] - a[1], b[0] - a[0])
    z -= float(record.street.course[here][2]) + EYE
    ahead, left = x * math.cos(yaw) + y * math.sin(yaw), y * math.cos(yaw) - x * math.sin(yaw)
    forward = ahead * math.cos(PITCH) + z * math.sin(PITCH)
    up = z * math.cos(PITCH) - ahead * math.sin(PITCH)
    if forward < 0.1:
        return None
    focal = WIDTH / 2 / math.tan(FIELD / 2)
    row, column = HEIGHT / 2 - focal * up / forward, WIDTH / 2 - focal * left / forward
    if not (0 <= row < HEIGHT and 0 <= column < WIDTH):
        return None
    return row, column, math.sqrt(x * x + y * y + z * z)


def seen(record: Record, picture: Picture, k: int) -> int:
    """Pixels of thing k that lie where its box is and at its box's distance."""
    thing = record.things[k]
    rows, columns = np.nonzero(picture.instances == k)
    if not len(rows):
        return 0
    reach = math.hypot(*thing.size) / 2 + 0.9
    middle = (thing.position[0], thing.position[1], thing.position[2] + thing.size[2] / 2 - EYE)
    here = int(np.argmin(np.abs(record.street.distances)))
    away = math.sqrt(middle[0] ** 2 + middle[1] ** 2 + (middle[2] - float(record.street.course[here][2])) ** 2)
    depth = picture.depth[rows, columns]
    return int((np.abs(depth - away) < reach).sum())


def ground(record: Record, distance: float, offset: float) -> tuple[float, float, float]:
    s, course = record.street.distances, record.street.course
    x, y, z = (float(np.interp(distance, s, course[:, i])) for i in range(3))
    k = int(np.searchsorted(s, distance))
    ux, uy = course[k][:2] - course[k - 1][:2]
    return x - offset * uy / math.hypot(ux, uy), y + offset * ux / math.hypot(ux, uy), z


def paint(record: Record, picture: Picture, distance: float, offset: float, reference=max) -> bool | None:
    """Whether the road is painted there: brighter than what is 0.85 m left and right of it (`reference`: than the
    brighter or the darker of the two); None where something hides it."""
    point = pixel_of(record, *ground(record, distance, offset))
    if point is None:
        return None
    row, column, away = point
    if picture.instances[int(row), int(column)] != -1:
        return None
    if abs(float(picture.depth[int(row), int(column)]) - away) > 0.06 * away + 0.2:
        return None
    asphalt = []
    for beside in (-0.85, 0.85):
        if (other := pixel_of(record, *ground(record, distance, offset + beside))) is not None:
            if picture.instances[int(other[0]), int(other[1])] == -1:
                asphalt.append(picture.colours[int(other[0]), int(other[1])].astype(int).max())
    return bool(asphalt) and picture.colours[int(row), int(column)].astype(int).max() > reference(asphalt) + 18


def line_kind(record: Record, picture: Picture, offset: float) -> str:
    """The line along the street at an offset, from the picture: "solid", "dashed", "none" or "unseen"."""
    spots = np.arange(3.2, 11.0, 0.2)
    middles = (
        [0.0]
        if not any(line.kind == "double" and line.offset == offset for line in record.street.lines)
        else [-0.2, 0.2]
    )
    found = []
    for distance in spots:
        reads = [paint(record, picture, float(distance), offset + middle) for middle in middles]
        found += [any(read for read in reads if read)] if any(read is not None for read in reads) else []
    if len(found) < 10:
        return "unseen"
    share = sum(found) / len(found)
    return "solid" if share > 0.85 else "dashed" if share > 0.2 else "none"


def lamp_pixels(picture: Picture, k: int, colour: str) -> int:
    """Saturated pixels of a colour on thing k."""
    red, green, blue = (picture.colours[picture.instances == k].astype(int)[:, i] for i in range(3))
    if colour == "red":
        return int(((red > 110) & (red > green + 60) & (red > blue + 50)).sum())
    if colour == "green":
        return int(((green > 110) & (green > red + 50)).sum())
    if colour == "yellow":
        return int(((red > 120) & (green > 90) & (red > blue + 50)).sum())
    return int(((red > 120) & (red > blue + 50) & (green > 50)).sum())


def arrow_side(record: Record, picture: Picture) -> str:
    """Where the arrow on the own lane points, from its paint: the shaft on the other side, the head on that side."""
    for side, sign in (("left", 1), ("right", -1)):
        shaft = [(distance, -sign * 0.48) for distance in (4.0, 4.4, 4.8, 5.2)]
        there = [*shaft, (6.4, sign * 0.5), (6.4, sign * 0.8)]
        bare = [*((distance, -offset) for distance, offset in shaft), (6.4, -sign * 1.0)]
        painted, spilt = (sum(bool(paint(record, picture, *spot, min)) for spot in spots) for spots in (there, bare))
        if painted >= 5 and spilt <= 1:
            return side
    return ""


def confirmed(record: Record, picture: Picture) -> set[str]:
    """The names of the reasons that the picture shows."""
    names: set[str] = set()
    near_own: dict[str, list[tuple[float, int]]] = {"vehicle": [], "rider": [], "person": [], "clutter": []}
    beside: dict[str, int] = {"left": 0, "right": 0}
    far_vehicles: list[float] = []
    for k, thing in enumerate(record.things):
        pixels = seen(record, picture, k)
        group = (
            "vehicle" if thing.kind in VEHICLES else "rider" if thing.kind in RIDERS
            else "clutter" if thing.kind in CLUTTER else thing.kind
        )  # fmt: skip
        if group in near_own:
            corners = [along_street(record, *corner) for corner in footprint(thing)]
            low, high = min(c[1] for c in corners), max(c[1] for c in corners)
            near = min(c[0] for c in corners)
            if low < 1.4 and high > -1.4 and near > 0:
                if pixels >= ENOUGH:
                    near_own[group].append((near, k))
                if group == "vehicle":
                    far_vehicles.append(near)
            elif group == "vehicle" and pixels >= 3 * ENOUGH and near < 15:
                middle = sum(c[1] for c in corners) / 4
                if 2.0 < abs(middle) < 5.0:
                    beside["left" if middle > 0 else "right"] += 1
        if thing.kind == "light" and pixels >= ENOUGH:
            if thing.state in ("left", "right"):
                if lamp_pixels(picture, k, "green") >= LIT:
                    names.add(f"Traffic light allows to turn {thing.state}")
            elif lamp_pixels(picture, k, thing.state) >= LIT:
                names.add("Traffic light is green" if thing.state == "green" else "Traffic light is not green")
        if thing.kind == "sign" and pixels >= ENOUGH and lamp_pixels(picture, k, "red") >= 8:
            names.add("Traffic sign")

    for near, k in near_own["vehicle"]:
        thing = record.things[k]
        if thing.state in ("left", "right"):
            street = math.atan2(*(record.street.course[41][i] - record.street.course[40][i] for i in (1, 0)))
            turn = math.sin(thing.yaw - street)
            if lamp_pixels(picture, k, "amber") >= 5 and near < 12 and (turn > 0.3) == (thing.state == "left"):
                names.add(f"Front car turning {thing.state}")
        elif near < 7:
            names.add("Obstacle: car")
    if any(near < 11 for near, _ in near_own["person"]):
        names.add("Obstacle: person")
    if any(near < 11 for near, _ in near_own["rider"]):
        names.add("Obstacle: rider")
    barrier = any(record.things[k].kind == "barrier" and near < 12 for near, k in near_own["clutter"])
    if any(record.things[k].kind != "barrier" and near < 12 for near, k in near_own["clutter"]):
        names.add("Obstacle: others")
    if side := arrow_side(record, picture):
        names.add(f"On the {side}-turn lane")

    if barrier:
        for side, sign in (("left", 1), ("right", -1)):
            kind = line_kind(record, picture, sign * 1.75)
            kerb = pixel_of(record, *(np.add(ground(record, 6.0, sign * 2.9), (0, 0, 0.16))))
            raised = kerb is not None and abs(float(picture.depth[int(kerb[0]), int(kerb[1])]) - kerb[2]) < 0.25
            if raised:
                names.add(f"No lane on the {side}")
            elif kind == "solid":
                names.add(f"Solid line on the {side}")
            elif beside[side]:
                names.add(f"Obstacles on the {side} lane")
    stopping = names & {"Obstacle: car", "Obstacle: person", "Obstacle: rider", "Obstacle: others",
                        "Traffic light is not green", "Traffic sign"}  # fmt: skip
    deciding = stopping or barrier or any("turn" in name for name in names)
    if not deciding and any(7 <= near < 25 for near, _ in near_own["vehicle"]):
        names.add("Follow traffic")
    if not deciding and not names and not any(near < 25 for near in far_vehicles):
        names.add("Road is clear")
    return names
