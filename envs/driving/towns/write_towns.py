"""Write the towns beside this file: ``python -m mentorgym.envs.driving.towns.write_towns [--check]``.

A town is declared as nodes (junctions) and two-way streets between them, in metres in OpenDRIVE's right-handed frame
(x east, y north). Everything else follows from three rules:

- A street runs along its polyline; each bend is a circular arc, or a clothoid, an arc and a clothoid. It ends `reach`
  metres before its node, at the junction's mouth.
- All mouths of a junction lie equally far from its node, so one arc, tangent to both centre lines, joins any two of
  them. That arc is the reference line of a connecting road, whose lanes lie to its right as the street's do.
- The connecting road from an arm to the next one counter-clockwise follows the kerb, so it alone carries on the
  shoulder and the sidewalk; together these roads close the sidewalks around the junction.

Junctions with lights have one signal (type 1000001, CARLA's traffic light) and one controller per arm; the junction's
controllers are numbered in sequence, which shows green to one arm at a time. Elements follow OpenDRIVE 1.4.
"""

import argparse
import math
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Ranges of ids: carla.Map takes a junction for a road when both have the same number.
JUNCTION_ID, CONNECTING_ROAD_ID, SIGNAL_ID, CONTROLLER_ID = 100, 200, 1000, 2000
STOP_SETBACK = 1.0  # m from a traffic light to the junction's mouth
KERB_TO_POST = 0.6  # m
SOLID_NEAR_JUNCTION = 25.0  # m of solid centre line before a junction on main streets
LINE_WIDTH = 0.12  # m
GEOREFERENCE = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"


class Node(NamedTuple):
    """A junction: centre, height and, on each arm, the distance from the centre to the mouth, all in metres."""

    x: float
    y: float
    z: float = 0.0
    reach: float = 12.0
    lights: bool = True


class Bend(NamedTuple):
    """A corner of a street's polyline; each of its two clothoids turns `clothoid` (0 to 0.5) of the whole angle."""

    x: float
    y: float
    radius: float
    clothoid: float = 0.0


class Street(NamedTuple):
    """A two-way street between two nodes, one lane each way.

    `centre` is the centre line: "quiet" (broken white), "main" (broken yellow, double solid yellow near junctions) or
    "double" (double solid yellow).
    """

    name: str
    start: str
    end: str
    mph: int
    centre: str
    bends: tuple[Bend, ...] = ()


class Town(NamedTuple):
    """A town: the widths of its lanes from the centre line outwards, in metres, its nodes and its streets."""

    name: str
    lanes: dict[str, float]
    nodes: dict[str, Node]
    streets: list[Street]


SUBURB = Town(
    name="Suburb",
    lanes={"driving": 3.8, "shoulder": 0.4, "sidewalk": 2.5},
    nodes={
        # The ring, counter-clockwise from the south-west; its north side lies on a low hill.
        "southwest": Node(140, 0),
        "southeast": Node(275, 0),
        "east": Node(420, 135),
        "northeast": Node(420, 245),
        "hill east": Node(265, 340, z=4),
        "hill west": Node(105, 340, z=4),
        "west": Node(0, 175),
        "orchard": Node(0, 85),
        # Inside the ring.
        "church": Node(125, 175),
        "market": Node(275, 135),
        "school": Node(140, 85),
        "meadow": Node(275, 66),
    },
    streets=[
        Street("South Road", "southwest", "southeast", 35, "main"),
        Street("River Road", "southeast", "east", 35, "double", (Bend(420, 0, 62, 0.2),)),
        Street("East Road", "east", "northeast", 35, "main"),
        Street("East Road", "northeast", "hill east", 30, "main", (Bend(420, 340, 34, 0.2),)),
        Street("Hill Road", "hill east", "hill west", 30, "quiet", (Bend(185, 354, 180),)),
        Street("Mill Road", "hill west", "west", 30, "quiet", (Bend(0, 340, 48, 0.25),)),
        Street("West Road", "west", "orchard", 30, "main"),
        Street("Orchard Road", "orchard", "southwest", 30, "quiet", (Bend(0, 40, 30), Bend(40, 0, 30))),
        Street("High Street", "west", "church", 25, "main"),
        Street("High Street", "church", "market", 25, "double", (Bend(172, 175, 45, 0.2), Bend(228, 135, 45, 0.2))),
        Street("High Street", "market", "east", 25, "main"),
        Street("Church Lane", "church", "hill west", 25, "quiet", (Bend(125, 235, 80), Bend(105, 290, 80))),
        Street("Market Street", "market", "meadow", 25, "main"),
        Street("Market Street", "meadow", "southeast", 25, "main"),
        Street("School Lane", "school", "southwest", 25, "quiet"),
        Street("Orchard Lane", "school", "orchard", 25, "quiet", (Bend(70, 100, 90),)),
        Street("Meadow Lane", "school", "meadow", 25, "quiet", (Bend(180, 85, 60), Bend(235, 66, 60))),
        Street("The Crescent", "hill east", "northeast", 25, "quiet", (Bend(265, 245, 55, 0.2),)),
    ],
)

VILLAGE = Town(
    name="Village",
    lanes={"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.0},
    nodes={
        # The ring road, counter-clockwise from the south.
        "south": Node(86, 0, reach=10),
        "east": Node(205, 98, reach=10),
        "north": Node(105, 204, reach=10),
        "west": Node(0, 102, reach=10),
        # The green in the middle.
        "green south": Node(95, 62, reach=10),
        "green east": Node(140, 98, reach=10, lights=False),
        "green north": Node(105, 138, reach=10),
        "green west": Node(62, 102, reach=10, lights=False),
    },
    streets=[
        Street("Pond Road", "south", "east", 30, "main", (Bend(205, 0, 36, 0.2),)),
        Street("Forest Road", "east", "north", 30, "double", (Bend(205, 158, 30), Bend(159, 204, 30))),
        Street("Castle Road", "north", "west", 30, "main", (Bend(0, 204, 45, 0.25),)),
        Street("Farm Road", "west", "south", 30, "quiet", (Bend(0, 52, 35), Bend(30, 10, 35), Bend(60, 0, 35))),
        Street("Green South", "green south", "green east", 25, "quiet", (Bend(140, 62, 14),)),
        Street("Green East", "green east", "green north", 25, "quiet", (Bend(140, 138, 14),)),
        Street("Green North", "green north", "green west", 25, "quiet", (Bend(62, 138, 16),)),
        Street("Green West", "green west", "green south", 25, "quiet", (Bend(62, 62, 14),)),
        Street("Station Road", "south", "green south", 25, "main"),
        Street("Baker Lane", "east", "green east", 25, "quiet"),
        Street("Castle Lane", "north", "green north", 25, "main"),
        Street("Farm Lane", "west", "green west", 25, "quiet"),
    ],
)

TOWNS = (SUBURB, VILLAGE)


class Pose(NamedTuple):
    """A point in metres and a heading in radians."""

    x: float
    y: float
    heading: float

    def ahead(self, distance: float) -> "Pose":
        """The pose `distance` metres straight ahead."""
        x, y = self.x + distance * math.cos(self.heading), self.y + distance * math.sin(self.heading)
        return Pose(x, y, self.heading)

    def reverse(self) -> "Pose":
        """The same point, facing back."""
        return self._replace(heading=self.heading + math.pi)


class Piece(NamedTuple):
    """A stretch of reference line, `length` metres, whose curvature (1/m, left positive) changes linearly."""

    length: float
    start: float = 0.0
    end: float = 0.0

    def follow(self, pose: Pose) -> Pose:
        """The pose at the end of the piece that begins at `pose`."""
        nodes, weights = np.polynomial.legendre.leggauss(20)
        s = self.length * (nodes + 1) / 2
        heading = pose.heading + self.start * s + (self.end - self.start) * s**2 / (2 * self.length)
        return Pose(
            pose.x + self.length / 2 * float(weights @ np.cos(heading)),
            pose.y + self.length / 2 * float(weights @ np.sin(heading)),
            pose.heading + (self.start + self.end) / 2 * self.length,
        )


class Arm(NamedTuple):
    """A street's end at a junction: `contact` is "start" or "end"; `mouth` faces away from the junction."""

    road: int
    contact: str
    street: Street
    length: float
    mouth: Pose

    @property
    def side_in(self) -> int:
        """Sign of the ids of the lanes that enter the junction."""
        return -1 if self.contact == "end" else 1


def wrap(angle: float) -> float:
    """The same angle in [-pi, pi]."""
    return math.remainder(angle, math.tau)


def bend(angle: float, radius: float, clothoid: float) -> tuple[list[Piece], float]:
    """The pieces that turn by `angle` radians, and the distance in metres from their ends to the polyline's corner."""
    curvature = math.copysign(1 / radius, angle)
    easing = 2 * clothoid * abs(angle) * radius
    arc = (1 - 2 * clothoid) * abs(angle) * radius
    pieces = [Piece(easing, 0.0, curvature), Piece(arc, curvature, curvature), Piece(easing, curvature, 0.0)]
    pieces = [piece for piece in pieces if piece.length > 0]
    end = Pose(0.0, 0.0, 0.0)
    for piece in pieces:
        end = piece.follow(end)
    return pieces, end.x - end.y / math.tan(angle)


def street_pieces(town: Town, street: Street) -> tuple[Pose, list[Piece]]:
    """Reference line of a street, mouth to mouth: its first pose and its pieces."""
    start, end = town.nodes[street.start], town.nodes[street.end]
    points = [(start.x, start.y), *((corner.x, corner.y) for corner in street.bends), (end.x, end.y)]
    legs = [(math.hypot(x1 - x0, y1 - y0), math.atan2(y1 - y0, x1 - x0)) for (x0, y0), (x1, y1) in pairwise(points)]
    pieces: list[Piece] = []
    used = start.reach
    for ((length, heading), (_, next_heading)), corner in zip(pairwise(legs), street.bends, strict=True):
        turn, tangent = bend(wrap(next_heading - heading), corner.radius, corner.clothoid)
        pieces += [Piece(length - used - tangent), *turn]
        used = tangent
    pieces.append(Piece(legs[-1][0] - used - end.reach))
    if min(piece.length for piece in pieces) <= 0:
        raise ValueError(
            f"{town.name}, {street.name} from {street.start} to {street.end}: the bends overlap each "
            "other or a junction; choose smaller radii or move the corners apart"
        )
    return Pose(start.x, start.y, legs[0][1]).ahead(start.reach), pieces


def connection_pieces(origin: Arm, target: Arm, reach: float) -> list[Piece]:
    """Reference line of a connecting road from the mouth of one arm to that of another."""
    angle = wrap(target.mouth.heading - origin.mouth.reverse().heading)
    if abs(angle) < 1e-9:
        return [Piece(2 * reach)]
    return bend(angle, reach / math.tan(abs(angle) / 2), clothoid=0.0)[0]


def number(value: float) -> str:
    """Decimal text, rounded so far that the bytes do not hang on the last bits of a mathematical library."""
    return f"{round(value, 12) + 0.0:.12g}"


def element(parent: ET.Element, tag: str, **attributes: str | float) -> ET.Element:
    """A new child of `parent`; numbers become text."""
    text = {key: value if isinstance(value, str) else number(value) for key, value in attributes.items()}
    return ET.SubElement(parent, tag, text)


def add_road(
    root: ET.Element,
    road: int,
    name: str,
    junction: int,
    mph: int,
    pose: Pose,
    pieces: list[Piece],
    heights: tuple[float, float],
) -> ET.Element:
    """A road without lanes; its height eases from the first of `heights` to the second with level ends."""
    length = sum(piece.length for piece in pieces)
    node = element(root, "road", name=name, length=length, id=road, junction=junction)
    element(node, "link")
    element(element(node, "type", s=0, type="town"), "speed", max=mph, unit="mph")
    plan = element(node, "planView")
    s = 0.0
    for piece in pieces:
        geometry = element(plan, "geometry", s=s, x=pose.x, y=pose.y, hdg=pose.heading, length=piece.length)
        if piece.start != piece.end:
            element(geometry, "spiral", curvStart=piece.start, curvEnd=piece.end)
        elif piece.start:
            element(geometry, "arc", curvature=piece.start)
        else:
            element(geometry, "line")
        pose, s = piece.follow(pose), s + piece.length
    rise = heights[1] - heights[0]
    element(
        element(node, "elevationProfile"),
        "elevation",
        s=0,
        a=heights[0],
        b=0,
        c=3 * rise / length**2,
        d=-2 * rise / length**3,
    )
    return node


def add_lane(side: ET.Element, lane: int, kind: str, width: float, mark: str, links: tuple[int, int] | None) -> None:
    """One lane; `mark` is the type of its outer line, `links` the signs of the lanes before and after it."""
    node = element(side, "lane", id=lane, type=kind, level="false")
    link = element(node, "link")
    if links:
        element(link, "predecessor", id=links[0] * abs(lane))
        element(link, "successor", id=links[1] * abs(lane))
    element(node, "width", sOffset=0, a=width, b=0, c=0, d=0)
    add_mark(node, 0.0, mark, "white")


def add_mark(lane: ET.Element, s: float, kind: str, color: str) -> None:
    """A road mark from `s` metres into the lane section on."""
    element(lane, "roadMark", sOffset=s, type=kind, weight="standard", color=color, width=LINE_WIDTH, laneChange="none")


def add_lanes(
    road: ET.Element,
    lanes: dict[str, float],
    centre: list[tuple[float, str, str]],
    edges: tuple[str, ...],
    links: tuple[int, int] | None = None,
) -> None:
    """One lane section, on both sides unless there are `links`, which belong to one-way connecting roads.

    `centre` holds the marks of lane 0 as (s, type, colour); `edges` the outer marks of as many lanes as the road has on
    a side.
    """
    section = element(element(road, "lanes"), "laneSection", s=0)
    outwards = [(lane, kind, lanes[kind], edge) for lane, (kind, edge) in enumerate(zip(lanes, edges, strict=False), 1)]
    if links is None:
        left = element(section, "left")
        for lane, kind, width, edge in reversed(outwards):
            add_lane(left, lane, kind, width, edge, links)
    middle = element(element(section, "center"), "lane", id=0, type="none", level="false")
    for s, kind, color in centre:
        add_mark(middle, s, kind, color)
    right = element(section, "right")
    for lane, kind, width, edge in outwards:
        add_lane(right, -lane, kind, width, edge, links)


def centre_marks(street: Street, length: float) -> list[tuple[float, str, str]]:
    """Marks of a street's centre line as (s, type, colour)."""
    if street.centre == "quiet":
        return [(0.0, "broken", "white")]
    if street.centre == "double" or length < 3 * SOLID_NEAR_JUNCTION:
        return [(0.0, "solid solid", "yellow")]
    return [
        (0.0, "solid solid", "yellow"),
        (SOLID_NEAR_JUNCTION, "broken", "yellow"),
        (length - SOLID_NEAR_JUNCTION, "solid solid", "yellow"),
    ]


def add_light(signals: ET.Element, signal: int, arm: Arm, lanes: dict[str, float]) -> None:
    """The traffic light that the drivers entering at `arm` obey, on their right."""
    at_end = arm.contact == "end"
    light = element(
        signals,
        "signal",
        name=f"Light {signal}",
        id=signal,
        s=arm.length - STOP_SETBACK if at_end else STOP_SETBACK,
        t=arm.side_in * (lanes["driving"] + lanes["shoulder"] + KERB_TO_POST),
        # CARLA puts the foot of the whole post at zOffset, and turns it by hOffset alone, whatever its orientation.
        zOffset=0,
        hOffset=0 if at_end else math.pi,
        roll=0,
        pitch=0,
        orientation="+" if at_end else "-",
        dynamic="yes",
        country="OpenDRIVE",
        type="1000001",
        subtype="-1",
        value=-1,
        text="",
        height=1.0,
        width=0.4,
    )
    element(light, "validity", fromLane=arm.side_in, toLane=arm.side_in)


def town_xml(town: Town) -> bytes:
    """The OpenDRIVE file of a town."""
    root = ET.Element("OpenDRIVE")
    corners = [*town.nodes.values(), *(corner for street in town.streets for corner in street.bends)]
    header = element(
        root,
        "header",
        revMajor=1,
        revMinor=4,
        name=town.name,
        version="1",
        north=max(corner.y for corner in corners),
        south=min(corner.y for corner in corners),
        east=max(corner.x for corner in corners),
        west=min(corner.x for corner in corners),
    )
    element(header, "geoReference").text = GEOREFERENCE

    junctions = {node: JUNCTION_ID + index for index, node in enumerate(town.nodes)}
    arms: dict[str, list[Arm]] = {node: [] for node in town.nodes}
    streets = []
    for road_id, street in enumerate(town.streets):
        pose, pieces = street_pieces(town, street)
        heights = town.nodes[street.start].z, town.nodes[street.end].z
        road = add_road(root, road_id, street.name, -1, street.mph, pose, pieces, heights)
        element(road[0], "predecessor", elementType="junction", elementId=junctions[street.start])
        element(road[0], "successor", elementType="junction", elementId=junctions[street.end])
        length = sum(piece.length for piece in pieces)
        add_lanes(road, town.lanes, centre_marks(street, length), ("solid", "curb", "none"))
        element(road, "objects")
        streets.append(element(road, "signals"))
        arms[street.start].append(Arm(road_id, "start", street, length, pose))
        for piece in pieces:
            pose = piece.follow(pose)
        arms[street.end].append(Arm(road_id, "end", street, length, pose.reverse()))

    controllers, junction_nodes = [], []
    connecting_id, signal_id = CONNECTING_ROAD_ID, SIGNAL_ID
    for name, node in town.nodes.items():
        # Counter-clockwise from a direction that no arm has, lest rounding choose which arm comes first.
        around = sorted(arms[name], key=lambda arm: wrap(arm.mouth.heading + 1.0))
        junction = ET.Element("junction", id=str(junctions[name]), name=name)
        junction_nodes.append(junction)
        for index, origin in enumerate(around):
            for turn in range(1, len(around)):
                target = around[(index + turn) % len(around)]
                road = add_road(
                    root,
                    connecting_id,
                    name,
                    junctions[name],
                    min(origin.street.mph, target.street.mph),
                    origin.mouth.reverse(),
                    connection_pieces(origin, target, node.reach),
                    (node.z, node.z),
                )
                element(road[0], "predecessor", elementType="road", elementId=origin.road, contactPoint=origin.contact)
                element(road[0], "successor", elementType="road", elementId=target.road, contactPoint=target.contact)
                edges = ("solid", "curb", "none") if turn == 1 else ("none",)
                add_lanes(road, town.lanes, [(0.0, "none", "white")], edges, (origin.side_in, -target.side_in))
                connection = element(
                    junction,
                    "connection",
                    id=len(junction),
                    incomingRoad=origin.road,
                    connectingRoad=connecting_id,
                    contactPoint="start",
                )
                for lane in range(1, len(edges) + 1):
                    element(connection, "laneLink", **{"from": origin.side_in * lane, "to": -lane})
                connecting_id += 1
        if node.lights:
            for sequence, arm in enumerate(around):
                controller = CONTROLLER_ID + signal_id - SIGNAL_ID
                add_light(streets[arm.road], signal_id, arm, town.lanes)
                controllers.append((controller, sequence, signal_id))
                element(junction, "controller", id=controller, type="0", sequence=sequence)
                signal_id += 1

    for controller, sequence, signal in controllers:
        node = element(root, "controller", name=f"Controller {controller}", id=controller, sequence=sequence)
        element(node, "control", signalId=signal, type="0")
    root.extend(junction_nodes)
    ET.indent(root)
    return ET.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the files, or with ``--check`` only compare them; returns 1 if that finds a difference, else 0."""
    parser = argparse.ArgumentParser(description="Write the towns as OpenDRIVE files beside this program.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    check = parser.parse_args(arguments).check
    stale = 0
    for town in TOWNS:
        path, text = Path(__file__).with_name(f"{town.name}.xodr"), town_xml(town)
        if check and (not path.is_file() or path.read_bytes() != text):
            print(f"{path.name} differs; rewrite it with python -m mentorgym.envs.driving.towns.write_towns")
            stale = 1
        elif not check:
            path.write_bytes(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
