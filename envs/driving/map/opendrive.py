"""OpenDRIVE: a map's text as roads, lanes, links, junctions and signals, evaluated with numpy alone.

It reads what CARLA's maps use of OpenDRIVE 1.4: reference lines of lines, arcs, spirals and parametric cubics,
elevation, lane offsets, lane sections with width polynomials, links, junctions, road marks, speed limits, signals with
references and controllers, and crosswalk objects. Superelevation, crossfall and lateral shape are left out, as in
`carla.Map`: every road is level across.

The frame is OpenDRIVE's: x, y, z in metres, right-handed, z up, headings in radians, counterclockwise from x; s in
metres along a road's reference line, t in metres to its left. Where traffic keeps to the right, lanes with a negative
id run along s, those with a positive id against it; on roads with rule="LHT" it is the other way round.

What a file leaves out is what `carla.Map` takes it for.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol
from xml.etree import ElementTree

import numpy as np

SPEED_UNITS = {"m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704}
"""m/s in one unit of speed that OpenDRIVE knows."""

SECTION_ROUNDING = 1e-6
"""Metres by which a lane offset may begin apart from the section that it is for, as files round them."""

OFFSET_JUMP = 0.1
"""Metres from which on a change of the lane offset in one place is a jump."""

Id = int | str
"""The id of a signal or controller: an int where the text is one, as in CARLA's maps."""


class OpenDriveError(ValueError):
    """A text that is no usable OpenDRIVE map. The message names the map, the element and the remedy."""


class Cubics:
    """OpenDRIVE's records (start, a, b, c, d): from `start` on, a + b u + c u^2 + d u^3, u the distance from `start`.

    Before the first start the value is the one there; without records it is zero.
    """

    def __init__(self, records: list[tuple[float, ...]]):
        table = np.array(sorted(records) or [(0.0,) * 5])
        self.starts, self.coefficients = table[:, 0], table[:, 1:]

    def __call__(self, s: np.ndarray, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        """The values at `s`, by records that hold between `low` and `high`: at these ends too, where others begin."""
        piece = np.maximum(np.searchsorted(self.starts, np.clip(s, low, high), side="right") - 1, 0)
        d = np.maximum(s - self.starts[piece], 0.0)
        return _cubic(self.coefficients[piece].T, d)


def _cubic(coefficients: np.ndarray, d: np.ndarray) -> np.ndarray:
    a, b, c, e = coefficients
    return a + d * (b + d * (c + d * e))


class Curve(Protocol):
    """The shape of one piece of reference line, from the origin along the x axis."""

    def __call__(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and heading, float64 [n], at arc lengths `d`, float64 [n]."""


@dataclass(frozen=True)
class Arc:
    """A circular arc of constant `curvature` (1/m, positive to the left); a line where that is zero."""

    curvature: float

    def __call__(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        heading = self.curvature * d
        # The chord has the length d sinc(heading / 2) and half the heading; numpy's sinc carries a factor of pi.
        chord = d * np.sinc(heading / (2 * np.pi))
        return chord * np.cos(heading / 2), chord * np.sin(heading / 2), heading


@dataclass(frozen=True)
class Spiral:
    """A clothoid: curvature goes linearly from `start` to `end` (1/m) over `length`."""

    start: float
    end: float
    length: float

    def __call__(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        def heading(u: np.ndarray) -> np.ndarray:
            return u * (self.start + u * (self.end - self.start) / (2 * self.length))

        # Gauss-Legendre quadrature of the Fresnel integrals, exact to 1e-12 as no panel turns by more than a radian.
        panels = 1 + int(max(abs(self.start), abs(self.end)) * self.length)
        nodes, weights = np.polynomial.legendre.leggauss(8)
        fractions = ((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel()
        weights = np.tile(weights / 2 / panels, panels)
        angles = heading(d[:, None] * fractions)
        return d * (np.cos(angles) @ weights), d * (np.sin(angles) @ weights), heading(d)


class ParamPoly3:
    """A parametric cubic (u(p), v(p)), evaluated by arc length.

    `u` and `v` are the coefficients (a, b, c, d); p goes from 0 to `end`. Arc lengths are scaled so that `length`,
    which files give rounded, is where the curve ends.
    """

    def __init__(self, u: tuple[float, ...], v: tuple[float, ...], end: float, length: float):
        self.u, self.v = np.array(u), np.array(v)
        self.du, self.dv = (np.append(w[1:] * (1, 2, 3), 0.0) for w in (self.u, self.v))
        self.parameter = np.linspace(0.0, end, 2 + math.ceil(length / 0.05))
        step = self.parameter[1]
        speeds = [np.hypot(*self._slope(self.parameter[:-1] + step * fraction)) for fraction in (0.0, 0.5, 1.0)]
        self.distance = np.concatenate([[0.0], np.cumsum((speeds[0] + 4 * speeds[1] + speeds[2]) * step / 6)])
        self.distance *= length / self.distance[-1]

    def _slope(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _cubic(self.du, p), _cubic(self.dv, p)

    def __call__(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = np.interp(d, self.distance, self.parameter)
        along, across = self._slope(p)
        return _cubic(self.u, p), _cubic(self.v, p), np.arctan2(across, along)


@dataclass(frozen=True)
class Geometry:
    """One piece of a reference line: `curve` moved to (x, y) and turned by `heading`, from `s` on."""

    s: float
    x: float
    y: float
    heading: float
    curve: Curve


@dataclass(frozen=True)
class RoadMark:
    """The paint on a lane's outer border from `s_offset` (m from the start of the section) on.

    `type` is OpenDRIVE's ("none", "solid", "broken", "solid solid", "curb", ...), `width` in metres (0 where the file
    gives none), `lane_change` one of "increase", "decrease", "both", "none".
    """

    s_offset: float
    type: str
    color: str
    width: float
    lane_change: str


@dataclass(frozen=True)
class Lane:
    """One lane of a section. `predecessor` and `successor` are lane ids before and after it along s, or None.

    `width` is in metres, by metres from the start of the section; `speed` holds its own limits as (s_offset, m/s) and
    is empty where the road's hold.
    """

    id: int
    type: str
    predecessor: int | None
    successor: int | None
    width: Cubics
    marks: list[RoadMark]
    speed: list[tuple[float, float]]


@dataclass(frozen=True)
class LaneSection:
    """The lanes between `s` and `end` (m), by id and without lane 0, whose road marks are `center_marks`."""

    s: float
    end: float
    lanes: dict[int, Lane]
    center_marks: list[RoadMark]


@dataclass(frozen=True)
class RoadLink:
    """What a road joins: `element` is "road" or "junction", `contact` that road's "start" or "end" (junction: None)."""

    element: str
    id: int
    contact: str | None


@dataclass(frozen=True)
class Signal:
    """A traffic light or sign on `road` at (s, t), `z_offset` above it, `width` by `height` (all m).

    `orientation` is "+", "-" or "none". `validities` are ranges of lane ids (from, to), both included, for which it
    holds. Lane 0 is no lane to drive on: (0, 0), which CARLA's lights have, leaves it to references to say where the
    light holds. Where the file names no lanes, "+" means the positive ids, "-" the negative ones, "none" both. That is
    how `carla.Map` reads the attribute; in OpenDRIVE itself "+" is the direction of s, so better name the lanes.
    """

    id: Id
    road: int
    s: float
    t: float
    type: str
    subtype: str
    name: str
    dynamic: bool
    orientation: str
    validities: list[tuple[int, int]]
    z_offset: float
    width: float
    height: float


@dataclass(frozen=True)
class SignalReference:
    """A place (s, t) on a road where the signal `id` of another road holds; the other fields are a Signal's."""

    id: Id
    s: float
    t: float
    orientation: str
    validities: list[tuple[int, int]]


@dataclass(frozen=True)
class Crosswalk:
    """A crosswalk on `road`: `outline` is float64 [n, 2], x and y of its corners (m), the first not repeated."""

    road: int
    outline: np.ndarray


@dataclass(frozen=True)
class Connection:
    """A way into a junction, from road `incoming` to the end `contact` of road `connecting`, for pairs of lane ids."""

    incoming: int
    connecting: int
    contact: str
    lanes: list[tuple[int, int]]


@dataclass(frozen=True)
class Junction:
    """Connections, and the junction's controllers as (controller id, place in the sequence or None)."""

    id: int
    connections: list[Connection]
    controllers: list[tuple[Id, int | None]]


@dataclass(frozen=True)
class Controller:
    """Signals that change together; `sequence` is its place in the junction's cycle, None where the file gives none."""

    id: Id
    name: str
    sequence: int | None
    signals: list[Id]


@dataclass
class Road:
    """One road: `length` in m, `junction` an id or -1 outside junctions, `speed` limits as (s, m/s), maybe none.

    `keeps_left` says that its traffic does.
    """

    id: int
    name: str
    length: float
    junction: int
    predecessor: RoadLink | None
    successor: RoadLink | None
    geometry: list[Geometry]
    elevation: Cubics
    lane_offset: Cubics
    sections: list[LaneSection]
    speed: list[tuple[float, float]]
    keeps_left: bool = False
    signals: list[Signal] = field(default_factory=list)
    references: list[SignalReference] = field(default_factory=list)
    crosswalks: list[Crosswalk] = field(default_factory=list)

    def reference(self, s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z (m) and heading (rad, not wrapped) of the reference line, float64 [n] each.

        `s` is [n] or a number (n = 1), in m; beyond the road's ends it counts as the end.
        """
        s = np.clip(np.atleast_1d(np.asarray(s, np.float64)), 0.0, self.length)
        x, y, heading = np.empty((3, len(s)))
        piece = np.maximum(np.searchsorted([g.s for g in self.geometry], s, side="right") - 1, 0)
        for i in np.unique(piece):
            here, g = piece == i, self.geometry[i]
            u, v, turn = g.curve(s[here] - g.s)
            cos, sin = math.cos(g.heading), math.sin(g.heading)
            x[here] = g.x + cos * u - sin * v
            y[here] = g.y + sin * u + cos * v
            heading[here] = g.heading + turn
        return x, y, self.elevation(s), heading

    def position(self, s: np.ndarray | float, t: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z (m), float64 [n] each, at `s` and `t` (m; `t` counts from the reference line, not from lane 0)."""
        s, t = np.broadcast_arrays(np.atleast_1d(s), t)
        x, y, z, heading = self.reference(s)
        return x - t * np.sin(heading), y + t * np.cos(heading), z

    def lane_edges(self, section: int, lane: int, s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """t (m, lane offset included) of a lane's borders at `s`, float64 [n] each: the one towards lane 0, the other.

        `section` is an index into `sections`, `lane` an id in it. Raises KeyError for a lane that is not there.
        """
        s = np.atleast_1d(np.asarray(s, np.float64))
        part = self.sections[section]
        side = 1 if lane > 0 else -1
        widths = [side * part.lanes[i].width(s - part.s) for i in range(side, lane + side, side)]
        # The offset may jump where a section begins, and its lanes' numbers with it.
        inside = min(SECTION_ROUNDING, (part.end - part.s) / 4)
        offset, own = self.lane_offset(s), self.lane_offset(s, part.s + inside, part.end - inside)
        offset = np.where(np.abs(own - offset) > OFFSET_JUMP, own, offset)
        inner = offset + sum(widths[:-1], np.zeros(len(s)))
        return inner, inner + widths[-1]

    def is_along(self, lane: int) -> bool:
        """Whether the traffic of lane `lane` runs along s."""
        return (lane < 0) != self.keeps_left

    def section_at(self, s: float) -> int:
        """Index of the lane section at `s` (m); at a border that of the later one."""
        return max((i for i, part in enumerate(self.sections) if part.s <= s), default=0)


@dataclass
class OpenDrive:
    """A map: roads, junctions and controllers by id, and the projection text of its header, "" where there is none."""

    roads: dict[int, Road]
    junctions: dict[int, Junction]
    controllers: dict[Id, Controller]
    georeference: str
    name: str


def drivable_links(network: OpenDrive) -> dict[tuple[int, int, int], list[tuple[int, int, int]]]:
    """Successors in the direction of travel of every lane of type "driving", as (road, section index, lane id), sorted.

    As in `carla.Map` they lie in the road's next section, else on the road that its link names, else on every road that
    the junction connects to the lane. A link to what is missing from the map, or is no driving lane, leads nowhere.
    """

    def entry(number: int, lane: int) -> tuple[int, int, int]:
        road = network.roads.get(number)
        return number, (0 if road is None or road.is_along(lane) else len(road.sections) - 1), lane

    def following(road: Road, section: int, lane: Lane) -> list[tuple[int, int, int]]:
        forward = road.is_along(lane.id)
        joined = lane.successor if forward else lane.predecessor
        neighbour = section + (1 if forward else -1)
        if 0 <= neighbour < len(road.sections):
            return [] if joined is None else [(road.id, neighbour, joined)]
        link = road.successor if forward else road.predecessor
        if link is None:
            return []
        if link.element == "road":
            return [] if joined is None else [entry(link.id, joined)]
        connections = network.junctions[link.id].connections if link.id in network.junctions else []
        return [
            entry(connection.connecting, to)
            for connection in connections
            if connection.incoming == road.id
            for start, to in connection.lanes
            if start == lane.id
        ]

    driving = {
        (road.id, section, lane.id): (road, section, lane)
        for road in network.roads.values()
        for section, part in enumerate(road.sections)
        for lane in part.lanes.values()
        if lane.type == "driving"
    }
    return {key: sorted({to for to in following(*place) if to in driving}) for key, place in driving.items()}


class _Element:
    """An XML element that knows where it stands, so that whatever is wrong with it can be named."""

    def __init__(self, xml: ElementTree.Element, where: str):
        self.xml, self.where = xml, where

    def error(self, problem: str) -> OpenDriveError:
        return OpenDriveError(f"{self.where}: {problem}")

    def all(self, path: str) -> list["_Element"]:
        """The elements at `path`, named by their id where they have one, else by their number."""
        tag = path.rpartition("/")[2]
        return [
            _Element(xml, f"{self.where}: {tag} {xml.get('id', f'no. {number}')}")
            for number, xml in enumerate(self.xml.findall(path), 1)
        ]

    def first(self, path: str) -> "_Element | None":
        xml = self.xml.find(path)
        return None if xml is None else _Element(xml, f"{self.where}: {path}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.xml.get(key, default)
        if value is None:
            raise self.error(f"the attribute {key!r} is missing; export the map again or add it")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        text = self.text(key, None if default is None else str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"{key}={text!r} is not a finite number; correct the attribute")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        text = self.text(key, None if default is None else str(default))
        try:
            return int(text)
        except ValueError:
            raise self.error(f"{key}={text!r} is not an integer, which CARLA's maps need there; renumber it") from None

    def id(self, key: str = "id") -> Id:
        text = self.text(key)
        try:
            return int(text)
        except ValueError:
            return text

    def cubics(self, path: str, start: str) -> Cubics:
        return Cubics([tuple(record.number(key) for key in (start, "a", "b", "c", "d")) for record in self.all(path)])

    def cubic(self, suffix: str) -> tuple[float, ...]:
        return tuple(self.number(letter + suffix) for letter in "abcd")


def read_opendrive(text: str, name: str = "map") -> OpenDrive:
    """Read a map from its OpenDRIVE text; `name` is what errors call it.

    Raises OpenDriveError for a text that is no XML or cut off, another kind of XML, a map without roads, and elements
    that are incomplete, not numeric where they must be, or outside what this module reads.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise OpenDriveError(f"{name}: the text is cut off or no XML ({error}); fetch the map again") from None
    for xml in root.iter():
        xml.tag = xml.tag.rpartition("}")[2]  # OpenDRIVE 1.6 and later may name its namespace
    if root.tag != "OpenDRIVE":
        raise OpenDriveError(f"{name}: the root element is <{root.tag}>, not <OpenDRIVE>; pass an .xodr map")
    document = _Element(root, name)
    roads = _by_id(document, [_read_road(element) for element in document.all("road")])
    if not roads:
        raise OpenDriveError(f"{name}: the map has no <road>; export it again")
    return OpenDrive(
        roads=roads,
        junctions=_by_id(document, [_read_junction(element) for element in document.all("junction")]),
        controllers=_by_id(document, [_read_controller(element) for element in document.all("controller")]),
        georeference=root.findtext("header/geoReference", "").strip(),
        name=name,
    )


def _by_id(document: _Element, items: list) -> dict:
    found = {}
    for item in items:
        if item.id in found:
            raise document.error(f"two of its {type(item).__name__.lower()}s have the id {item.id}; make ids unique")
        found[item.id] = item
    return found


def _read_road(element: _Element) -> Road:
    length = element.number("length")
    if length <= 0:
        raise element.error(f"length={length} is not positive; remove the road or correct its length")
    geometry = sorted((_read_geometry(piece) for piece in element.all("planView/geometry")), key=lambda piece: piece.s)
    if not geometry:
        raise element.error("it has no <planView> with a <geometry>, so no reference line; export the map again")
    road = Road(
        id=element.integer("id"),
        name=element.text("name", ""),
        length=length,
        junction=element.integer("junction"),
        predecessor=_read_road_link(element.first("link/predecessor")),
        successor=_read_road_link(element.first("link/successor")),
        geometry=geometry,
        elevation=element.cubics("elevationProfile/elevation", "s"),
        lane_offset=element.cubics("lanes/laneOffset", "s"),
        sections=_read_sections(element, length),
        speed=_read_limits([(kind.number("s"), speed) for kind in element.all("type") for speed in kind.all("speed")]),
        keeps_left=element.text("rule", "RHT") == "LHT",
    )
    road.signals.extend(_read_signal(signal, road) for signal in element.all("signals/signal"))
    road.references.extend(_read_reference(reference, road) for reference in element.all("signals/signalReference"))
    for item in element.all("objects/object"):
        if item.text("type", "") == "crosswalk":
            road.crosswalks.extend(_read_crosswalks(item, road))
    return road


def _read_geometry(element: _Element) -> Geometry:
    length = element.number("length")
    if length <= 0:
        raise element.error(f"length={length} is not positive; remove the piece")
    shapes = [child for child in element.xml if child.tag != "userData"]
    kind = shapes[0].tag if shapes else "none"
    shape = _Element(shapes[0], f"{element.where}: {kind}") if shapes else element
    curve: Curve
    match kind:
        case "line":
            curve = Arc(0.0)
        case "arc":
            curve = Arc(shape.number("curvature"))
        case "spiral":
            curve = Spiral(shape.number("curvStart"), shape.number("curvEnd"), length)
        case "paramPoly3":
            ranges = {"arcLength": length, "normalized": 1.0}
            span = shape.text("pRange", "normalized")
            if span not in ranges:
                raise shape.error(f"pRange={span!r} is neither 'arcLength' nor 'normalized'; correct it")
            u, v = shape.cubic("U"), shape.cubic("V")
            if not any(u[1:] + v[1:]):
                raise shape.error("its curve is a single point; correct its coefficients")
            curve = ParamPoly3(u, v, ranges[span], length)
        case _:
            known = "line, arc, spiral or paramPoly3"
            raise element.error(f"its shape is {kind}, not {known}; export the map with one of these")
    return Geometry(element.number("s"), element.number("x"), element.number("y"), element.number("hdg"), curve)


def _read_road_link(element: _Element | None) -> RoadLink | None:
    if element is None:
        return None
    kind = element.text("elementType")
    if kind not in ("road", "junction"):
        raise element.error(f"elementType={kind!r} is neither 'road' nor 'junction'; correct it")
    contact = element.text("contactPoint") if kind == "road" else None
    return RoadLink(kind, element.integer("elementId"), contact)


def _read_limits(records: list[tuple[float, _Element]]) -> list[tuple[float, float]]:
    """(start, m/s) of `<speed>` elements with their starts; "no limit" and "undefined" count as no record."""
    limits = []
    for start, element in records:
        unit = element.text("unit", "m/s")
        if unit not in SPEED_UNITS:
            raise element.error(f"unit={unit!r} is none of {', '.join(SPEED_UNITS)}; correct it")
        if element.text("max") not in ("no limit", "undefined"):
            limits.append((start, element.number("max") * SPEED_UNITS[unit]))
    return sorted(limits)


def _read_sections(road: _Element, length: float) -> list[LaneSection]:
    elements = sorted(road.all("lanes/laneSection"), key=lambda element: element.number("s"))
    if not elements:
        raise road.error("it has no <laneSection>, so no lanes; export the map again")
    ends = [element.number("s") for element in elements[1:]] + [length]
    sections = []
    for element, end in zip(elements, ends, strict=True):
        lanes: dict[int, Lane] = {}
        for side, sign in (("left", 1), ("right", -1)):
            own = sorted((_read_lane(lane) for lane in element.all(f"{side}/lane")), key=lambda lane: abs(lane.id))
            if [lane.id for lane in own] != [sign * (i + 1) for i in range(len(own))]:
                ids = [lane.id for lane in own]
                raise element.error(f"the lane ids on the {side} are {ids}; number them from the centre without gaps")
            lanes.update((lane.id, lane) for lane in own)
        center = element.first("center/lane")
        sections.append(LaneSection(element.number("s"), end, lanes, _read_marks(center) if center else []))
    return sections


def _read_lane(element: _Element) -> Lane:
    if element.first("width") is None:
        raise element.error("it has no <width>; lanes given by <border> are not read: export the map with lane widths")
    predecessor, successor = element.first("link/predecessor"), element.first("link/successor")
    return Lane(
        id=element.integer("id"),
        type=element.text("type", "none").lower(),
        predecessor=predecessor.integer("id") if predecessor else None,
        successor=successor.integer("id") if successor else None,
        width=element.cubics("width", "sOffset"),
        marks=_read_marks(element),
        speed=_read_limits([(speed.number("sOffset"), speed) for speed in element.all("speed")]),
    )


def _read_marks(lane: _Element) -> list[RoadMark]:
    marks = [
        RoadMark(
            s_offset=element.number("sOffset"),
            type=element.text("type", "none"),
            color=element.text("color", "standard"),
            width=element.number("width", 0.0),
            lane_change=_lane_change(element.text("laneChange", "both").lower()),
        )
        for element in lane.all("roadMark")
    ]
    return sorted(marks, key=lambda mark: mark.s_offset)


def _lane_change(text: str) -> str:
    return text if text in ("increase", "decrease", "none") else "both"


def _read_signal(element: _Element, road: Road) -> Signal:
    return Signal(
        id=element.id(),
        road=road.id,
        s=element.number("s"),
        t=element.number("t"),
        type=element.text("type", ""),
        subtype=element.text("subtype", ""),
        name=element.text("name", ""),
        dynamic=element.text("dynamic", "no") == "yes",
        orientation=element.text("orientation", "none"),
        validities=_read_validities(element, road),
        z_offset=element.number("zOffset", 0.0),
        width=element.number("width", 0.0),
        height=element.number("height", 0.0),
    )


def _read_reference(element: _Element, road: Road) -> SignalReference:
    return SignalReference(
        id=element.id(),
        s=element.number("s"),
        t=element.number("t"),
        orientation=element.text("orientation", "none"),
        validities=_read_validities(element, road),
    )


def _read_validities(element: _Element, road: Road) -> list[tuple[int, int]]:
    """The ranges that the file names, else those of the orientation (see Signal)."""
    named = [(record.integer("fromLane"), record.integer("toLane")) for record in element.all("validity")]
    if named:
        return named
    lanes = road.sections[road.section_at(element.number("s"))].lanes
    orientation = element.text("orientation", "none")
    sides = []
    if orientation != "+" and min(lanes, default=0) < 0:
        sides.append((min(lanes), -1))
    if orientation != "-" and max(lanes, default=0) > 0:
        sides.append((1, max(lanes)))
    return sides


def _read_crosswalks(element: _Element, road: Road) -> list[Crosswalk]:
    """One crosswalk per outline, which stands in the object itself (OpenDRIVE 1.4) or in its `<outlines>` (1.5)."""
    x, y, _ = road.position(element.number("s"), element.number("t"))
    angle = road.reference(element.number("s"))[3] + element.number("hdg", 0.0)
    crosswalks = []
    for outline in element.all("outline") + element.all("outlines/outline"):
        local = np.array([(corner.number("u"), corner.number("v")) for corner in outline.all("cornerLocal")])
        along = np.array([(corner.number("s"), corner.number("t")) for corner in outline.all("cornerRoad")])
        if len(local) > 0:
            cos, sin = np.cos(angle[0]), np.sin(angle[0])
            corners = np.array([x[0], y[0]]) + local @ np.array([[cos, sin], [-sin, cos]])
        elif len(along) > 0:
            corners = np.column_stack(road.position(*along.T)[:2])
        else:
            corners = np.empty((0, 2))
        if len(corners) > 1 and np.allclose(corners[0], corners[-1], rtol=0.0, atol=1e-3):
            corners = corners[:-1]
        if len(corners) < 3:
            raise outline.error("a crosswalk needs three corners, <cornerLocal> or <cornerRoad>; add them or remove it")
        crosswalks.append(Crosswalk(road.id, corners))
    return crosswalks


def _read_junction(element: _Element) -> Junction:
    if element.text("type", "default") == "direct":
        raise element.error(
            "it is a direct junction (OpenDRIVE 1.7), whose roads meet without connecting roads, and neither CARLA nor "
            "this reader knows those; export the map with common junctions, as OpenDRIVE 1.4 has them"
        )
    connections = [
        Connection(
            incoming=connection.integer("incomingRoad"),
            connecting=connection.integer("connectingRoad"),
            contact=connection.text("contactPoint"),
            lanes=[(link.integer("from"), link.integer("to")) for link in connection.all("laneLink")],
        )
        for connection in element.all("connection")
    ]
    controllers = [(controller.id(), _read_sequence(controller)) for controller in element.all("controller")]
    return Junction(element.integer("id"), connections, controllers)


def _read_controller(element: _Element) -> Controller:
    # RoadRunner writes one <control> per lane, so a signal may be named more than once.
    signals = list(dict.fromkeys(control.id("signalId") for control in element.all("control")))
    return Controller(element.id(), element.text("name", ""), _read_sequence(element), signals)


def _read_sequence(element: _Element) -> int | None:
    return element.integer("sequence") if "sequence" in element.xml.attrib else None
