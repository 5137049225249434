"""A small language for towns, and OpenDRIVE 1.4 written from it; `plans` holds the towns that are declared in it.

A town is declared as nodes (junctions) and streets between them, in metres in OpenDRIVE's right-handed frame (x east,
y north). Everything else follows from these rules:

- A street runs along its polyline; each bend is a circular arc, or a clothoid, an arc and a clothoid. It ends `reach`
  metres before its node, at the junction's mouth. Traffic keeps to the right.
- A connecting road carries one driving lane; its reference line joins the left edges of two lanes by a straight and a
  tangent arc, or by two arcs where there is no such arc.
- Left turns leave from the leftmost lane, right turns from the rightmost; lanes that go straight on keep their order.
  Streets that part or meet at a small angle share the lanes from left to right. A lane that ends merges into the one
  on its left and gives way to it.
- The kerb between neighbouring arms carries on the shoulder and the sidewalk, on the connecting road beside it or on a
  road of its own, so sidewalks close around junctions.
- Lanes of one direction may be changed where the line between them is broken: away from junctions.

A junction with lights has one signal (type 1000001, CARLA's traffic light) and one controller per arm; the junction's
controllers are numbered in sequence, which shows green to one arm at a time. Stop signs are of type 206, give-way
signs of type 205. Every signal names the lanes that it holds for.
"""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import NamedTuple

import numpy as np

# Ranges of ids: carla.Map takes a junction for a road when both have the same number.
JUNCTION_ID, CONNECTING_ROAD_ID, SIGNAL_ID, CONTROLLER_ID, CROSSWALK_ID = 100, 200, 1000, 2000, 3000
STOP_SETBACK = 1.0  # m from a traffic light to the junction's mouth
SIGN_SETBACK = 3.0  # m from a stop sign to the mouth: a car whose centre is there shows its nose at the mouth
KERB_TO_POST = 0.6  # m
SOLID_NEAR_JUNCTION = 25.0  # m of solid centre line before a junction on main streets
KEEP_LANE = 20.0  # m before and after a junction in which lanes are not changed
LINE_WIDTH = 0.12  # m
POCKET_WIDTH = 3.2  # m, a left-turn lane cut into a median
TAPER = 13.0  # m over which it opens: too short for a car to wait there
CROSSWALK = (0.8, 3.8)  # m beyond the mouth at which a crosswalk begins and ends
STRAIGHT_ANGLE, U_TURN_ANGLE = math.radians(40), math.radians(130)
TIGHTEST_TURN = 5.0  # m, radius of a lane's left edge in a junction
QUADRATURE = np.polynomial.legendre.leggauss(20)
GEOREFERENCE = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"


class Node(NamedTuple):
    """A junction: centre, height and, on each arm, the distance from the centre to the mouth, all in metres.

    With `lights` every arm has one; else drivers stop, or give way, where they come from the streets that `stop` or
    `give_way` names, and have priority on the others. `crosswalks` crosses every arm that has sidewalks.
    """

    x: float
    y: float
    z: float = 0.0
    reach: float = 12.0
    lights: bool = True
    stop: tuple[str, ...] = ()
    give_way: tuple[str, ...] = ()
    crosswalks: bool = False


class Bend(NamedTuple):
    """A corner of a street's polyline; each of its two clothoids turns `clothoid` (0 to 0.5) of the whole angle."""

    x: float
    y: float
    radius: float
    clothoid: float = 0.0


class Street(NamedTuple):
    """A street between two nodes.

    `centre` is the centre line where there is no median: "quiet" (broken white), "main" (broken yellow, double solid
    yellow near junctions), "double" (double solid yellow) or "edge" (solid yellow, for one-way streets). `lanes` counts
    the driving lanes along the polyline and against it, `width` is theirs in metres (None: the town's). A `median` (m)
    lies in the middle of the road. Left-turn lanes, `pockets` metres long at the street's start and end (0: none), are
    cut into it. `sidewalks` says whether there is one on the right and on the left of the polyline.
    """

    name: str
    start: str
    end: str
    mph: int
    centre: str
    bends: tuple[Bend, ...] = ()
    lanes: tuple[int, int] = (1, 1)
    width: float | None = None
    median: float = 0.0
    pockets: tuple[float, float] = (0.0, 0.0)
    sidewalks: tuple[bool, bool] = (True, True)


class Town(NamedTuple):
    """A town: the widths of its lanes from the centre line outwards, in metres, its nodes and its streets."""

    name: str
    lanes: dict[str, float]
    nodes: dict[str, Node]
    streets: list[Street]


class Pose(NamedTuple):
    """A point in metres and a heading in radians."""

    x: float
    y: float
    heading: float

    def ahead(self, distance: float) -> "Pose":
        """The pose `distance` metres straight ahead."""
        x, y = self.x + distance * math.cos(self.heading), self.y + distance * math.sin(self.heading)
        return Pose(x, y, self.heading)

    def aside(self, distance: float) -> "Pose":
        """The pose `distance` metres to the right."""
        x, y = self.x + distance * math.sin(self.heading), self.y - distance * math.cos(self.heading)
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
        nodes, weights = QUADRATURE
        s = self.length * (nodes + 1) / 2
        heading = pose.heading + self.start * s + (self.end - self.start) * s**2 / (2 * self.length)
        return Pose(
            pose.x + self.length / 2 * float(weights @ np.cos(heading)),
            pose.y + self.length / 2 * float(weights @ np.sin(heading)),
            pose.heading + (self.start + self.end) / 2 * self.length,
        )


Mark = tuple[float, str, str, str]
"""A road mark: s (m) from the lane section's start, type, colour and laneChange."""


class Strip(NamedTuple):
    """A lane within one lane section: its type, the name it has in all sections, its width (m) at both ends, and the
    marks of its outer border."""

    kind: str
    name: str
    width: tuple[float, float]
    marks: list[Mark]


class Section(NamedTuple):
    """A lane section from `start` to `end` (m along the road) with its strips from lane 0 outwards.

    `offset` is t of lane 0 at both ends (m), `centre` holds the marks of lane 0.
    """

    start: float
    end: float
    offset: tuple[float, float]
    centre: list[Mark]
    left: list[Strip]
    right: list[Strip]


class Port(NamedTuple):
    """A lane at a junction's mouth: id, type, the distance (m) of its left edge to the right of the reference line as
    its drivers see it, and its width (m); `turns` marks a left-turn lane."""

    lane: int
    kind: str
    edge: float
    width: float
    turns: bool


class Arm(NamedTuple):
    """A street's end at a junction: `contact` is "start" or "end"; `mouth` faces away from the junction.

    `arriving` and `leaving` are the lanes towards and out of the junction, from left to right for their drivers, with
    shoulder and sidewalk as the last of them.
    """

    road: int
    contact: str
    street: Street
    length: float
    mouth: Pose
    arriving: list[Port]
    leaving: list[Port]

    @property
    def side_in(self) -> int:
        """Sign of the ids of the lanes that enter the junction."""
        return -1 if self.contact == "end" else 1

    @property
    def entries(self) -> list[Port]:
        """The driving lanes that enter the junction."""
        return [port for port in self.arriving if port.kind == "driving"]

    @property
    def exits(self) -> list[Port]:
        """The driving lanes that leave the junction."""
        return [port for port in self.leaving if port.kind == "driving"]


# Geometry


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


def biarc(start: Pose, end: Pose) -> list[Piece]:
    """Two arcs that join two poses, with equal distances from both poses to where their tangents meet the joint's."""
    chord = np.array([end.x - start.x, end.y - start.y])
    first, last = (np.array([math.cos(pose.heading), math.sin(pose.heading)]) for pose in (start, end))
    along, bent = float(chord @ (first + last)), 2 * (1 - float(first @ last))
    if bent < 1e-12:
        reach = float(chord @ chord) / (2 * along)
    else:
        reach = (math.sqrt(along**2 + bent * float(chord @ chord)) - along) / bent
    middle = (np.array([start.x, start.y]) + reach * first + np.array([end.x, end.y]) - reach * last) / 2
    pieces = []
    for here, there, heading, sign in ((start, middle, start.heading, 1), (middle, end, end.heading, -1)):
        across = np.array(there[:2]) - np.array(here[:2])
        distance = float(np.hypot(*across))
        half = sign * wrap(math.atan2(across[1], across[0]) - heading)  # half the angle by which this arc turns
        pieces.append(Piece(distance / float(np.sinc(half / math.pi)), *(2 * math.sin(half) / distance,) * 2))
    return pieces


def connection_pieces(origin: Pose, target: Pose, reach: float, edges: tuple[float, float]) -> list[Piece]:
    """Reference line of a connecting road through a junction whose mouths lie `reach` metres from its node.

    `origin` is the pose on the incoming road's reference line in the direction of travel, `target` that on the outgoing
    one's; the line runs `edges` metres to their right.
    """
    angle = wrap(target.heading - origin.heading)
    near, far = edges
    if abs(angle) < 1e-9:
        return [Piece(2 * reach)] if abs(far - near) < 1e-6 else biarc(origin.aside(near), target.aside(far))
    # The two edge lines cross `before` metres after the first mouth and `after` metres before the second.
    beyond = (far * math.cos(angle) - near) / math.sin(angle)
    before, after = reach + far * math.sin(angle) + beyond * math.cos(angle), reach - beyond
    tangent = min(before, after)
    if tangent <= 0:
        return biarc(origin.aside(near), target.aside(far))
    arc = bend(angle, tangent / math.tan(abs(angle) / 2), clothoid=0.0)[0]
    pieces = [Piece(before - tangent), *arc, Piece(after - tangent)]
    return [piece for piece in pieces if piece.length > 1e-6]


# Cross-sections


def lane_marks(start: float, end: float, length: float) -> list[Mark]:
    """Marks between lanes of one direction in the section from `start` to `end` of a street `length` metres long."""
    if length < 3 * KEEP_LANE:
        return [(0.0, "solid", "white", "none")]
    changes: list[tuple[float, str, str]] = [
        (0.0, "solid", "none"),
        (KEEP_LANE, "broken", "both"),
        (length - KEEP_LANE, "solid", "none"),
    ]
    marks = []
    for (s, kind, change), (after, *_) in pairwise([*changes, (length, "", "")]):
        if after > start and s < end:
            marks.append((max(s - start, 0.0), kind, "white", change))
    return marks


def centre_marks(street: Street, length: float) -> list[Mark]:
    """Marks of a street's centre line."""
    if street.median or street.centre == "edge":
        return [(0.0, "solid", "yellow", "none")]
    if street.centre == "quiet":
        return [(0.0, "broken", "white", "none")]
    if street.centre == "double" or length < 3 * SOLID_NEAR_JUNCTION:
        return [(0.0, "solid solid", "yellow", "none")]
    return [
        (0.0, "solid solid", "yellow", "none"),
        (SOLID_NEAR_JUNCTION, "broken", "yellow", "none"),
        (length - SOLID_NEAR_JUNCTION, "solid solid", "yellow", "none"),
    ]


def street_sections(town: Town, street: Street, length: float) -> list[Section]:
    """The lane sections of a street: one, or more where left-turn lanes open."""
    along, against = street.lanes
    width = street.width or town.lanes["driving"]
    first, last = street.pockets
    stations = [0.0, length]
    if first:
        stations += [first, first + TAPER]
    if last:
        stations += [length - last - TAPER, length - last]
    stations = sorted(set(stations))
    if max(street.pockets) and (
        street.median < POCKET_WIDTH
        or min(after - before for before, after in pairwise(stations)) < 2.0
        or first + last + TAPER * (bool(first) + bool(last)) > length
    ):
        raise ValueError(
            f"{town.name}, {street.name} from {street.start} to {street.end}: its left-turn lanes need a "
            f"median of {POCKET_WIDTH} m and a longer street than {length:.0f} m; shorten the pockets"
        )

    def opening(distance: float, pocket: float) -> float:
        """Width of a left-turn lane at a border between sections, `distance` metres from its junction."""
        return POCKET_WIDTH if pocket and distance < pocket + 1e-6 else 0.0

    def side(prefix: str, count: int, walk: bool, turning: tuple[float, float], between: list[Mark]) -> list[Strip]:
        strips = []
        if max(turning):
            marks = between if min(turning) == POCKET_WIDTH else [(0.0, "broken", "white", "none")]
            strips.append(Strip("driving", f"{prefix} pocket", turning, marks))
        for lane in range(1, count + 1):
            marks = between if lane < count else [(0.0, "solid", "white", "none")]
            strips.append(Strip("driving", f"{prefix} {lane}", (width, width), marks))
        for kind, mark in (("shoulder", "curb"), ("sidewalk", "none")):
            if walk or (kind == "shoulder" and count):
                strips.append(Strip(kind, f"{prefix} {kind}", (town.lanes[kind],) * 2, [(0.0, mark, "white", "none")]))
        return strips

    sections = []
    for start, end in pairwise(stations):
        # Widths of the turning lanes at both ends of the section, at the street's start and at its end.
        early = opening(start, first), opening(end, first)
        late = opening(length - start, last), opening(length - end, last)
        median = []
        if street.median:
            widths = street.median - early[0] - late[0], street.median - early[1] - late[1]
            median = [Strip("median", "median", widths, [(0.0, "solid", "yellow", "none")])]
        offset = street.median / 2 - early[0], street.median / 2 - early[1]
        centre = centre_marks(street, length)
        between = lane_marks(start, end, length)
        left = side("back", against, street.sidewalks[1], early, between)
        right = median + side("fore", along, street.sidewalks[0], late, between)
        sections.append(Section(start, end, offset, centre, left, right))
    return sections


def ports(section: Section, contact: str, arriving: bool) -> list[Port]:
    """The lanes of a street's first or last section on the side that arrives at the junction there, or leaves it."""
    at = 1 if contact == "end" else 0
    sign = -1 if (contact == "end") == arriving else 1
    found, edge = [], sign * section.offset[at]
    for number, strip in enumerate(section.right if sign < 0 else section.left, 1):
        if strip.kind != "median":
            found.append(Port(sign * number, strip.kind, edge, strip.width[at], strip.name.endswith("pocket")))
        edge += strip.width[at]
    return found


# Junctions


Pairs = dict[tuple[int, int], list[tuple[int, int]]]
"""For pairs (from, to) of arms, by their numbers: the lanes (entry, exit) that lead there, numbered from the left."""


def movements(arms: list[Arm]) -> Pairs:
    """Which lanes lead where in a junction. Raises ValueError where a lane leads nowhere."""
    numbers = range(len(arms))
    turns = {
        (i, j): wrap(arms[j].mouth.heading - arms[i].mouth.reverse().heading)
        for i in numbers
        for j in numbers
        if i != j and arms[i].entries and arms[j].exits
    }
    turns = {way: turn for way, turn in turns.items() if abs(turn) < U_TURN_ANGLE}
    lanes: Pairs = {}
    for i in numbers:
        lanes |= ways_from(i, arms, turns)
    # An exit that nobody leads to gets the lane beside it, straight on where possible.
    for j in numbers:
        used = {leave for way, pairs in lanes.items() if way[1] == j for _, leave in pairs}
        for missing in sorted(set(range(len(arms[j].exits))) - used):
            way = min((way for way in lanes if way[1] == j), key=lambda way: abs(turns[way]))
            entry, _ = min(lanes[way], key=lambda pair: abs(pair[1] - missing))
            lanes[way].append((entry, missing))
    for i in numbers:
        leading = {entry for way, pairs in lanes.items() if way[0] == i for entry, _ in pairs}
        if stranded := set(range(len(arms[i].entries))) - leading:
            raise ValueError(f"{arms[i].street.name}: its lanes {sorted(stranded)} lead nowhere at a junction")
    return {way: sorted(set(pairs)) for way, pairs in lanes.items()}


def ways_from(i: int, arms: list[Arm], turns: dict[tuple[int, int], float]) -> Pairs:
    """The share of arm `i` in `movements`; `turns` are the angles of all ways (radians, left positive)."""
    entries = arms[i].entries
    count = len(entries)
    # From left to right, as the drivers see them.
    targets = sorted((j for start, j in turns if start == i), key=lambda j: -turns[i, j])
    ahead = [j for j in targets if abs(turns[i, j]) < STRAIGHT_ANGLE]
    left = [j for j in targets if turns[i, j] >= STRAIGHT_ANGLE]
    right = [j for j in targets if turns[i, j] <= -STRAIGHT_ANGLE]
    if entries and entries[0].turns and not left:
        raise ValueError(f"{arms[i].street.name}: a left-turn lane meets a junction without a left turn")
    if ahead:
        turning_left, turning_right = [0], [count - 1]
    else:
        middle = (count + 1) // 2
        turning_left = list(range(middle if right else count))
        turning_right = list(range(middle if left and count > 1 else 0, count))

    lanes: Pairs = {}
    going = list(range(1 if ahead and entries[0].turns else 0, count))
    room = sum(len(arms[j].exits) for j in ahead)
    if len(going) > room and (left or right):
        going = going[:room] if right else going[-room:]
    for j in ahead:
        # Streets that meet at a small angle fill the exits from left to right, as do those that part the entries.
        meeting = [k for k, end in turns if end == j and abs(turns[k, j]) < STRAIGHT_ANGLE]
        base = sum(len(arms[k].entries) for k in meeting if turns[k, j] > turns[i, j])
        exits = len(arms[j].exits)
        share = going if j == ahead[-1] else going[:exits]
        lanes[i, j] = [(lane, min(base + k, exits - 1)) for k, lane in enumerate(share)]
        going = going[len(share) :] or going[-1:]
    for j in left:
        lanes[i, j] = [(lane, min(k, len(arms[j].exits) - 1)) for k, lane in enumerate(turning_left)]
    for j in right:
        lanes[i, j] = [(lane, max(len(arms[j].exits) - count + lane, 0)) for lane in turning_right]
    return lanes


# Text


def number(value: float) -> str:
    """Decimal text, rounded so far that the bytes do not hang on the last bits of a mathematical library."""
    return f"{round(value, 12) + 0.0:.12g}"


def element(parent: ET.Element, tag: str, **attributes: str | float) -> ET.Element:
    """A new child of `parent`; numbers become text."""
    text = {key: value if isinstance(value, str) else number(value) for key, value in attributes.items()}
    return ET.SubElement(parent, tag, text)


def cubic(values: tuple[float, float], length: float) -> dict[str, float]:
    """Coefficients of the cubic that eases from the first value to the second with level ends."""
    rise = values[1] - values[0]
    return {"a": values[0], "b": 0, "c": 3 * rise / length**2, "d": -2 * rise / length**3}


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
    element(element(node, "elevationProfile"), "elevation", s=0, **cubic(heights, length))
    return node


def add_mark(lane: ET.Element, s: float, kind: str, color: str, change: str) -> None:
    """A road mark from `s` metres into the lane section on."""
    element(lane, "roadMark", sOffset=s, type=kind, weight="standard", color=color, width=LINE_WIDTH, laneChange=change)


def add_sections(road: ET.Element, sections: list[Section], joined: dict[str, tuple[int, int]] | None = None) -> None:
    """The lanes of a road. `joined` holds, by strip name, the lanes before and after those of a connecting road."""
    lanes = element(road, "lanes")
    for previous, section in zip([None, *sections], sections, strict=False):
        # A constant offset goes on from the section before.
        if any(section.offset) or (previous and previous.offset[1]):
            element(lanes, "laneOffset", s=section.start, **cubic(section.offset, section.end - section.start))

    def ids(section: Section) -> dict[str, int]:
        numbered = {strip.name: number for number, strip in enumerate(section.left, 1)}
        return numbered | {strip.name: -number for number, strip in enumerate(section.right, 1)}

    for index, section in enumerate(sections):
        node = element(lanes, "laneSection", s=section.start)
        own = ids(section)
        before = ids(sections[index - 1]) if index else {}
        after = ids(sections[index + 1]) if index + 1 < len(sections) else {}
        if joined:
            before, after = ({name: pair[k] for name, pair in joined.items()} for k in (0, 1))

        def add(side: ET.Element, strip: Strip, section=section, own=own, before=before, after=after) -> None:
            lane = element(side, "lane", id=own[strip.name], type=strip.kind, level="false")
            link = element(lane, "link")
            for tag, there in (("predecessor", before), ("successor", after)):
                if strip.name in there:
                    element(link, tag, id=there[strip.name])
            element(lane, "width", sOffset=0, **cubic(strip.width, section.end - section.start))
            for mark in strip.marks:
                add_mark(lane, *mark)

        if section.left:
            left = element(node, "left")
            for strip in reversed(section.left):
                add(left, strip)
        middle = element(element(node, "center"), "lane", id=0, type="none", level="false")
        for mark in section.centre:
            add_mark(middle, *mark)
        right = element(node, "right")
        for strip in section.right:
            add(right, strip)


def add_signal(signals: ET.Element, signal: int, kind: str, arm: Arm, lanes: list[Port]) -> None:
    """The light or sign that drivers entering at `arm` on `lanes` obey, on their right; `kind` is its CARLA type."""
    at_end = arm.contact == "end"
    name = {"1000001": "Light", "206": "Stop", "205": "Yield"}[kind]
    setback = STOP_SETBACK if kind == "1000001" else SIGN_SETBACK
    kerb = next((port for port in arm.arriving if port.kind == "shoulder"), arm.arriving[-1])
    light = element(
        signals,
        "signal",
        name=f"{name} {signal}",
        id=signal,
        s=arm.length - setback if at_end else setback,
        t=arm.side_in * (kerb.edge + kerb.width + KERB_TO_POST),
        # CARLA puts the foot of the whole post at zOffset, and turns it by hOffset alone, whatever its orientation.
        zOffset=0,
        hOffset=0 if at_end else math.pi,
        roll=0,
        pitch=0,
        orientation="+" if at_end else "-",
        dynamic="yes" if kind == "1000001" else "no",
        country="OpenDRIVE",
        type=kind,
        subtype="-1",
        value=-1,
        text="",
        height=1.0,
        width=0.4,
    )
    # carla.Map counts upwards from the first to the last.
    first, last = sorted((lanes[0].lane, lanes[-1].lane))
    element(light, "validity", fromLane=first, toLane=last)


def add_crosswalk(road: ET.Element, crosswalk: int, arm: Arm, edge: float, arriving: bool) -> None:
    """A crosswalk from kerb to kerb across an arm with two sidewalks, just beyond its mouth.

    It is an object of a connecting road, `road`, that begins there (`arriving`) or ends there, and whose reference line
    lies `edge` metres to the right of the arm's: carla.Map counts an object's t from lane 0, OpenDRIVE from the
    reference line, and on connecting roads the two are the same.
    """
    ahead, right, left = (1, arm.arriving, arm.leaving) if arriving else (-1, arm.leaving, arm.arriving)
    v = [edge - right[-1].edge, edge + left[-1].edge]
    objects = road.find("objects")
    node = element(
        element(road, "objects") if objects is None else objects,
        "object",
        type="crosswalk",
        name=f"Crosswalk {crosswalk}",
        id=crosswalk,
        s=0 if arriving else road.get("length", ""),
        t=0,
        zOffset=0,
        orientation="none",
        hdg=0,
        pitch=0,
        roll=0,
        length=CROSSWALK[1] - CROSSWALK[0],
        width=v[1] - v[0],
    )
    outline = element(node, "outline")
    u = [ahead * distance for distance in CROSSWALK]
    for along, across in ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1]), (u[0], v[0])):
        element(outline, "cornerLocal", u=along, v=across, z=0, height=0)


def town_xml(town: Town) -> bytes:
    """The OpenDRIVE file of a town. Raises ValueError where a street or a turn does not fit."""
    root = ET.Element("OpenDRIVE")
    corners: list[Node | Bend] = [*town.nodes.values(), *(corner for street in town.streets for corner in street.bends)]
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
    signals = []
    for road_id, street in enumerate(town.streets):
        pose, pieces = street_pieces(town, street)
        heights = town.nodes[street.start].z, town.nodes[street.end].z
        road = add_road(root, road_id, street.name, -1, street.mph, pose, pieces, heights)
        element(road[0], "predecessor", elementType="junction", elementId=junctions[street.start])
        element(road[0], "successor", elementType="junction", elementId=junctions[street.end])
        length = sum(piece.length for piece in pieces)
        sections = street_sections(town, street, length)
        add_sections(road, sections)
        element(road, "objects")
        signals.append(element(road, "signals"))
        for node, contact, section in ((street.start, "start", sections[0]), (street.end, "end", sections[-1])):
            if contact == "end":
                for piece in pieces:
                    pose = piece.follow(pose)
                pose = pose.reverse()
            sides = (ports(section, contact, arriving) for arriving in (True, False))
            arms[node].append(Arm(road_id, contact, street, length, pose, *sides))

    builder = _Junctions(town, root, signals)
    junction_nodes = [builder.build(name, junctions[name], arms[name]) for name in town.nodes]
    for controller, sequence, signal in builder.controllers:
        listed = element(root, "controller", name=f"Controller {controller}", id=controller, sequence=sequence)
        element(listed, "control", signalId=signal, type="0")
    root.extend(junction_nodes)
    ET.indent(root)
    return ET.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


class _Junctions:
    """Writes junctions one after the other, and counts the ids that they use up."""

    def __init__(self, town: Town, root: ET.Element, signals: list[ET.Element]):
        self.town, self.root, self.signals = town, root, signals
        self.road, self.signal, self.crosswalk = CONNECTING_ROAD_ID, SIGNAL_ID, CROSSWALK_ID
        self.controllers: list[tuple[int, int, int]] = []

    def build(self, name: str, junction_id: int, arms: list[Arm]) -> ET.Element:
        """The `<junction>`; its connecting roads, signals and crosswalks go where they belong."""
        node = self.town.nodes[name]
        # Counter-clockwise from a direction that no arm has, lest rounding choose which arm comes first.
        around = sorted(arms, key=lambda arm: wrap(arm.mouth.heading + 1.0))
        junction = ET.Element("junction", id=str(junction_id), name=name)
        lanes = movements(around)
        beside: dict[int, tuple[ET.Element, float, bool]] = {}  # by arm, a connecting road that begins or ends there
        for index, origin in enumerate(around):
            for turn in range(1, len(around)):
                other = (index + turn) % len(around)
                target = around[other]
                kerb = kerb_between(origin, target) if turn == 1 else []
                for entry, leave in lanes.get((index, other), []):
                    strips = [(origin.entries[entry], target.exits[leave])]
                    if entry == len(origin.entries) - 1 and leave == len(target.exits) - 1:
                        strips, kerb = strips + kerb, []
                    road = self._connect(junction, name, origin, target, strips)
                    if index not in beside or not beside[index][2]:
                        beside[index] = road, strips[0][0].edge, True
                    beside.setdefault(other, (road, strips[0][1].edge, False))
                if kerb:
                    self._connect(junction, name, origin, target, kerb)
        if node.lights:
            entering = [arm for arm in around if arm.entries]
            for sequence, arm in enumerate(entering):
                controller = CONTROLLER_ID + self.signal - SIGNAL_ID
                self.controllers.append((controller, sequence, self.signal))
                element(junction, "controller", id=controller, type="0", sequence=sequence)
                self._sign("1000001", arm, arm.entries)
        self._signs(node, around, lanes)
        if node.crosswalks:
            for index, arm in enumerate(around):
                if all(arm.street.sidewalks):
                    road, edge, arriving = beside[index]
                    add_crosswalk(road, self.crosswalk, arm, edge, arriving)
                    self.crosswalk += 1
        return junction

    def _signs(self, node: Node, around: list[Arm], lanes: Pairs) -> None:
        names = {arm.street.name for arm in around}
        if unknown := {*node.stop, *node.give_way} - names:
            raise ValueError(f"{self.town.name}: no street {sorted(unknown)} at the junction of {sorted(names)}")
        for index, arm in enumerate(around):
            for kind, minor in (("206", node.stop), ("205", node.give_way)):
                if arm.street.name in minor and arm.entries:
                    self._sign(kind, arm, arm.entries)
            # Two lanes of one arm into the same lane: the one on the right ends.
            for (origin, _), pairs in lanes.items():
                if origin == index:
                    ending = [entry for k, (entry, leave) in enumerate(pairs) if leave in {b for _, b in pairs[:k]}]
                    if ending and arm.street.name not in node.give_way and not node.lights:
                        self._sign("205", arm, [arm.entries[entry] for entry in ending])

    def _sign(self, kind: str, arm: Arm, lanes: list[Port]) -> None:
        add_signal(self.signals[arm.road], self.signal, kind, arm, lanes)
        self.signal += 1

    def _connect(
        self, junction: ET.Element, name: str, origin: Arm, target: Arm, strips: list[tuple[Port, Port]]
    ) -> ET.Element:
        """A connecting road whose lanes -1, -2, ... join each pair of `strips`."""
        node = self.town.nodes[name]
        edges = strips[0][0].edge, strips[0][1].edge
        arriving = origin.mouth.reverse()
        pieces = connection_pieces(arriving, target.mouth, node.reach, edges)
        tightest = max(abs(piece.start) for piece in pieces) * TIGHTEST_TURN
        if tightest > 1 and strips[0][0].kind == "driving":
            raise ValueError(
                f"{self.town.name}, {name}: the turn from {origin.street.name} to {target.street.name} has a radius of "
                f"{TIGHTEST_TURN / tightest:.1f} m; give the node a longer reach"
            )
        road = add_road(
            self.root,
            self.road,
            name,
            int(junction.get("id", "")),
            min(origin.street.mph, target.street.mph),
            arriving.aside(edges[0]),
            pieces,
            (node.z, node.z),
        )
        element(road[0], "predecessor", elementType="road", elementId=origin.road, contactPoint=origin.contact)
        element(road[0], "successor", elementType="road", elementId=target.road, contactPoint=target.contact)
        outer = {"driving": "solid" if len(strips) > 1 else "none", "shoulder": "curb", "sidewalk": "none"}
        right = [
            Strip(start.kind, start.kind, (start.width, end.width), [(0.0, outer[start.kind], "white", "none")])
            for start, end in strips
        ]
        length = sum(piece.length for piece in pieces)
        section = Section(0.0, length, (0.0, 0.0), [(0.0, "none", "white", "none")], [], right)
        add_sections(road, [section], {start.kind: (start.lane, end.lane) for start, end in strips})
        connection = element(
            junction,
            "connection",
            id=len(junction),
            incomingRoad=origin.road,
            connectingRoad=self.road,
            contactPoint="start",
        )
        for lane, (start, _) in enumerate(strips, 1):
            element(connection, "laneLink", **{"from": start.lane, "to": -lane})
        self.road += 1
        return road


def kerb_between(origin: Arm, target: Arm) -> list[tuple[Port, Port]]:
    """Shoulder and sidewalk that go on from one arm to the next one counter-clockwise, where both have them."""
    there = {port.kind: port for port in target.leaving}
    kerb = [port for port in origin.arriving if port.kind != "driving"]
    if {port.kind for port in kerb} != {kind for kind in there if kind != "driving"}:
        return []
    return [(port, there[port.kind]) for port in kerb]
