"""The towns of our own: reproducible files, and places where every lane leads on, smoothly, to every other one."""

import math
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.map.opendrive import LaneSection, OpenDrive, Road, drivable_links, read_opendrive
from mentorgym.envs.driving.map.tables import same_level
from mentorgym.envs.driving.map.town import STORAGE_LENGTH, load_town
from mentorgym.envs.driving.map.towns import write_towns
from mentorgym.envs.driving.map.towns.plans import CITY, GRID, SUBURB, TOWNS
from mentorgym.envs.driving.map.towns.writer import Node, Piece, Pose, Street, Town, bend, biarc, town_xml, wrap

FOLDER = Path(write_towns.__file__).parent
PLANS = {plan.name: plan for plan in TOWNS}
SINGLE_LANES = ("Suburb", "Village")
"""Towns of T-junctions between streets with one lane each way."""
SIDE = {"end": -1, "start": 1}
"""Sign of the ids of the lanes that leave a road at this end of it."""

Key = tuple[int, int, int]
"""A lane: road, section, lane id."""


@pytest.fixture(scope="module", params=PLANS)
def town(request) -> OpenDrive:
    return read_opendrive((FOLDER / f"{request.param}.xodr").read_text("utf-8"), request.param)


@pytest.fixture(scope="module", params=SINGLE_LANES)
def simple_town(request) -> OpenDrive:
    return read_opendrive((FOLDER / f"{request.param}.xodr").read_text("utf-8"), request.param)


def lane_ends(network: OpenDrive, road: int, section: int, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a lane begins and ends in the direction of travel, each as x and y of its two borders, z and heading."""
    whole, part = network.roads[road], network.roads[road].sections[section]
    s = np.array([part.s, part.end] if lane < 0 else [part.end, part.s])
    edges = [np.stack(whole.position(s, t)) for t in whole.lane_edges(section, lane, s)]
    heading = whole.reference(s)[3] + (0.0 if lane < 0 else math.pi)
    rows = np.array([*edges[0][:2], *edges[1][:2], edges[0][2], heading]).T
    return rows[0], rows[1]


def lane_centre(network: OpenDrive, road: int, section: int, lane: int, spacing: float = 0.25) -> np.ndarray:
    """Points along a lane's centre, float64 [n, 3]."""
    whole, part = network.roads[road], network.roads[road].sections[section]
    s = np.linspace(part.s, part.end, max(3, int((part.end - part.s) / spacing)))
    return np.stack(whole.position(s, np.mean(whole.lane_edges(section, lane, s), axis=0)), axis=1)


def joint(end: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """Gap in metres and kink in radians between the end of one lane and the start of the next."""
    gap = max(math.dist(end[:2], start[:2]), math.dist(end[2:4], start[2:4]), abs(end[4] - start[4]))
    return gap, abs(wrap(end[5] - start[5]))


def reached(links: dict, start: Key) -> set:
    seen, ahead = {start}, [start]
    while ahead:
        new = set(links.get(ahead.pop(), ())) - seen
        seen |= new
        ahead += new
    return seen


def arriving_lanes(road: Road, end: str) -> list[Key]:
    """The driving lanes that a street leads into the junction at its `end`, from left to right for their drivers."""
    section = len(road.sections) - 1 if end == "end" else 0
    lanes = road.sections[section].lanes.values()
    ids = [lane.id for lane in lanes if lane.type == "driving" and lane.id * SIDE[end] > 0]
    return [(road.id, section, lane) for lane in sorted(ids, key=abs)]


def arms(network: OpenDrive) -> list[tuple[Road, str, int]]:
    """Every end of every street with the junction there."""
    streets = [road for road in network.roads.values() if road.junction < 0]
    return [(road, "start", road.predecessor.id) for road in streets] + [
        (road, "end", road.successor.id) for road in streets
    ]


# The program


def test_the_packaged_files_are_the_programs_own(capsys):
    assert write_towns.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_check_names_a_file_that_is_missing_or_differs_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write_towns, "__file__", str(tmp_path / "write_towns.py"))
    assert write_towns.main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in lines] == [f"{name}.xodr differs" for name in PLANS]

    assert write_towns.main([]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{name}.xodr": (FOLDER / f"{name}.xodr").read_bytes() for name in PLANS
    }
    (tmp_path / "Village.xodr").write_bytes(b"<OpenDRIVE/>")
    assert write_towns.main(["--check"]) == 1
    assert "Suburb" not in (told := capsys.readouterr().out) and "Village.xodr differs" in told
    assert (tmp_path / "Village.xodr").read_bytes() == b"<OpenDRIVE/>"


def test_bends_that_do_not_fit_their_street_are_named():
    crescent = SUBURB.streets[-1]
    wide = crescent._replace(bends=(crescent.bends[0]._replace(radius=200.0),))
    with pytest.raises(ValueError, match="Suburb, The Crescent from hill east to northeast: .* smaller radii"):
        town_xml(SUBURB._replace(streets=[*SUBURB.streets[:-1], wide]))


@given(
    st.floats(0.05, 2.6),
    st.sampled_from([-1, 1]),
    st.floats(5, 200),
    st.just(0.0) | st.floats(0.01, 0.5),
    st.floats(-math.pi, math.pi),
)
def test_a_bend_joins_the_legs_of_its_corner(angle, side, radius, clothoid, heading):
    angle *= side
    pieces, tangent = bend(angle, radius, clothoid)
    corner = Pose(10.0, -20.0, heading)
    end = corner.ahead(-tangent)
    for piece in pieces:
        end = piece.follow(end)
    expected = corner._replace(heading=heading + angle).ahead(tangent)
    assert math.dist(end[:2], expected[:2]) < 1e-8 * radius
    assert end.heading == pytest.approx(expected.heading, abs=1e-12)
    assert pieces[0].start == 0 or clothoid == 0
    assert all(before.end == after.start for before, after in pairwise(pieces))


@given(st.floats(0.05, 2.6), st.floats(5, 200))
def test_a_bend_without_clothoids_is_the_inscribed_arc(angle, radius):
    (arc,), tangent = bend(angle, radius, 0.0)
    assert arc == (pytest.approx(radius * angle), pytest.approx(1 / radius), pytest.approx(1 / radius))
    assert tangent == pytest.approx(radius * math.tan(angle / 2))


def test_a_clothoid_follows_the_fresnel_integrals():
    scipy_special = pytest.importorskip("scipy.special")
    length, curvature = 30.0, 1 / 20
    scale = math.sqrt(math.pi * length / curvature)
    sine, cosine = scipy_special.fresnel(length / scale)
    end = Piece(length, 0.0, curvature).follow(Pose(0.0, 0.0, 0.0))
    assert end == pytest.approx((scale * cosine, scale * sine, curvature * length / 2), abs=1e-10)


@given(st.floats(5, 80), st.floats(-20, 20), st.floats(-1.2, 1.2), st.floats(-math.pi, math.pi))
def test_two_arcs_join_two_poses(ahead, aside, turn, heading):
    start = Pose(3.0, -7.0, heading)
    end = start.ahead(ahead).aside(aside)._replace(heading=heading + turn)
    pieces = biarc(start, end)
    reached = start
    for piece in pieces:
        assert piece.length > 0 and piece.start == piece.end
        reached = piece.follow(reached)
    assert math.dist(reached[:2], end[:2]) < 1e-6
    assert wrap(reached.heading - end.heading) == pytest.approx(0, abs=1e-7)


def test_left_turn_lanes_that_do_not_fit_are_named():
    street = next(street for street in CITY.streets if max(street.pockets))
    others = [other for other in CITY.streets if other is not street]
    for wrong in (street._replace(median=2.0), street._replace(pockets=(40.0, 40.0))):
        with pytest.raises(ValueError, match="City, Boulevard from west to canal: .* left-turn lanes need a median"):
            town_xml(CITY._replace(streets=[*others, wrong]))


def test_a_left_turn_lane_without_a_left_turn_is_refused():
    streets = [
        street._replace(pockets=(35.0, 0.0)) if (street.name, street.start) == ("Boulevard", "mill") else street
        for street in CITY.streets
    ]
    with pytest.raises(ValueError, match="Boulevard: a left-turn lane meets a junction without a left turn"):
        town_xml(CITY._replace(streets=streets))


def test_a_lane_that_leads_nowhere_is_refused():
    """Four lanes arrive where one street goes on with two and another leaves to the left with one."""
    lanes = {"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.5}
    nodes = {name: Node(x, y, reach=30) for name, x, y in (("a", 0, 0), ("b", 200, 0), ("c", 0, 200), ("d", -200, 0))}
    streets = [
        Street("Wide", "d", "a", 30, "edge", lanes=(4, 0)),
        Street("On", "a", "b", 30, "edge", lanes=(2, 0)),
        Street("Left", "a", "c", 30, "edge", lanes=(1, 0)),
    ]
    with pytest.raises(ValueError, match=r"Wide: its lanes \[1\] lead nowhere"):
        town_xml(Town("T", lanes, nodes, streets))


def test_a_turn_that_is_too_tight_is_named():
    small = {name: node._replace(reach=9.0) for name, node in GRID.nodes.items()}
    with pytest.raises(ValueError, match="Grid, .*: the turn from .* has a radius of .* longer reach"):
        town_xml(GRID._replace(nodes=small))


def test_a_sign_for_a_street_that_is_not_there_is_refused():
    nodes = CITY.nodes | {"hill": CITY.nodes["hill"]._replace(stop=("Hill Road",))}
    with pytest.raises(ValueError, match="City: no street .'Hill Road'. at the junction of"):
        town_xml(CITY._replace(nodes=nodes))


# The files


def test_ids_are_disjoint_and_every_signal_names_the_lanes_before_it(town):
    root = ET.parse(FOLDER / f"{town.name}.xodr").getroot()
    ids = Counter(
        node.get("id")
        for tag in ("road", "junction", "controller", "road/signals/signal", "road/objects/object")
        for node in root.findall(tag)
    )
    assert max(ids.values()) == 1
    for road in root.findall("road"):
        for signal in road.findall("signals/signal"):
            assert signal.get("type") in ("1000001", "205", "206")
            (validity,) = signal.findall("validity")
            end = "end" if signal.get("orientation") == "+" else "start"
            lanes = [lane for *_, lane in arriving_lanes(town.roads[int(road.get("id"))], end)]
            named = [int(validity.get("fromLane")), int(validity.get("toLane"))]
            assert named == sorted(named) and set(named) <= set(lanes)
            if signal.get("type") != "205":
                assert named == sorted((lanes[0], lanes[-1]))
    assert "+lat_0" in root.findtext("header/geoReference")


def test_the_towns_have_between_them_what_maps_have():
    text = "".join((FOLDER / f"{name}.xodr").read_text("utf-8") for name in PLANS)
    for piece in ("<spiral ", "<laneOffset ", 'laneChange="both"', 'type="crosswalk"', 'type="206"', 'type="205"'):
        assert piece in text
    towns = [read_opendrive((FOLDER / f"{name}.xodr").read_text("utf-8"), name) for name in PLANS]
    streets = [road for town in towns for road in town.roads.values() if road.junction < 0]
    ways = [{lane.id > 0 for lane in road.sections[0].lanes.values() if lane.type == "driving"} for road in streets]
    assert any(len(way) == 1 for way in ways), "no one-way street"
    widths = [lane.width for road in streets for part in road.sections for lane in part.lanes.values()]
    assert any(width.coefficients[:, 1:].any() for width in widths), "no lane of changing width"
    assert any(road.elevation.coefficients[:, 1:].any() for road in streets), "no slope"


def test_every_lane_leads_on_and_is_led_to(town):
    links = drivable_links(town)
    assert all(links.values())
    entered = {lane for successors in links.values() for lane in successors}
    for road, section, lane in links.keys() - entered:
        # A left-turn lane opens beside the one that drivers come from, too short to wait or to be set down on.
        part = town.roads[road].sections[section]
        s = part.s if lane < 0 else part.end
        inner, outer = town.roads[road].lane_edges(section, lane, s)
        assert inner == pytest.approx(outer, abs=1e-9)
        assert part.end - part.s < STORAGE_LENGTH


@pytest.mark.parametrize("name", PLANS)
def test_every_lane_where_cars_wait_leads_to_every_other_one(name):
    """Along the lanes and, where the paint allows, from lane to lane."""
    tables = load_town(name).tables
    forwards, backwards = defaultdict(set), defaultdict(set)
    for lane in range(len(tables.lane_length)):
        forwards[lane] |= set(
            tables.successor[tables.successor_first[lane] : tables.successor_first[lane + 1]].tolist()
        )
    if name not in SINGLE_LANES:
        for beside in (tables.waypoint_left, tables.waypoint_right):
            for p in np.flatnonzero(beside >= 0):
                forwards[int(tables.waypoint_lane[p])].add(int(tables.waypoint_lane[beside[p]]))
    for lane, following in forwards.items():
        for other in following:
            backwards[other].add(lane)
    storage = set(np.flatnonzero(tables.lane_storage).tolist())
    start = min(storage)
    assert storage <= reached(forwards, start) & reached(backwards, start)


def test_lanes_join_without_gap_or_kink(town):
    joints = [
        joint(lane_ends(town, *lane)[1], lane_ends(town, *successor)[0])
        for lane, successors in drivable_links(town).items()
        for successor in successors
    ]
    gaps, kinks = np.array(joints).T
    assert gaps.max() < 1e-5
    assert kinks.max() < 1e-5


def test_reference_lines_are_smooth_inside_roads(town):
    for road in town.roads.values():
        s = np.linspace(0.0, road.length, 1 + int(road.length / 0.1))
        x, y, z, heading = road.reference(s)
        chord, step = np.hypot(np.diff(x), np.diff(y)), np.diff(s)
        np.testing.assert_allclose(chord, step, atol=1e-4)
        # No street or turn is tighter than 7 m.
        assert np.abs(np.diff(heading)).max() <= step.max() / 7
        assert np.abs(np.diff(z) / step).max() < 0.06


def test_turns_have_a_comfortable_radius(town):
    for road in town.roads.values():
        if road.junction >= 0 and road.sections[0].lanes[-1].type == "driving":
            x, y, _ = lane_centre(town, road.id, 0, -1).T
            heading = np.unwrap(np.arctan2(np.diff(y), np.diff(x)))
            curvature = np.abs(np.diff(heading)) / np.hypot(np.diff(x), np.diff(y))[1:]
            assert curvature.max() < 1 / 6


def test_every_t_junction_of_single_lanes_offers_every_turn(simple_town):
    turns = {junction: set() for junction in simple_town.junctions}
    for road in simple_town.roads.values():
        if road.junction >= 0:
            turns[road.junction].add((road.predecessor.id, road.successor.id))
    for ways in turns.values():
        streets = {street for way in ways for street in way}
        assert len(streets) == 3
        assert ways == {(a, b) for a in streets for b in streets if a != b}


def test_ways_of_one_arm_through_a_junction_do_not_cross(town):
    """Lanes from left to right lead to ends from left to right: nobody turns across the lane beside."""
    links = drivable_links(town)
    for road, end, _ in arms(town):
        ways = [
            (k, lane_centre(town, *way, spacing=1.0)[:, :2])
            for k, lane in enumerate(arriving_lanes(road, end))
            for way in links[lane]
        ]
        for (left, one), (right, other) in combinations(ways, 2):
            if left == right:
                continue
            # The right one's points, seen from the nearest points of the left one, lie on its right.
            nearest = np.linalg.norm(one[:, None] - other[None], axis=2).argmin(0)
            along = np.gradient(one, axis=0)[nearest]
            offset = other - one[nearest]
            assert (along[:, 0] * offset[:, 1] - along[:, 1] * offset[:, 0]).max() < 0.3, (town.name, road.name)


def test_the_outer_lanes_turn(town):
    """Where several lanes arrive at lights and not all of them turn, only the outermost do."""
    links = drivable_links(town)
    for road, end, junction in arms(town):
        lanes = arriving_lanes(road, end)
        if len(lanes) < 2 or not town.junctions[junction].controllers:
            continue
        turns = {lane: [] for lane in lanes}
        for lane in lanes:
            for way in links[lane]:
                start, stop = lane_ends(town, *way)
                turns[lane].append(math.degrees(wrap(stop[5] - start[5])))
        if not any(abs(turn) < 40 for ways in turns.values() for turn in ways):
            continue
        for k, lane in enumerate(lanes):
            assert k == 0 or max(turns[lane]) < 40
            assert k == len(lanes) - 1 or min(turns[lane]) > -40


def test_sidewalks_run_on_around_every_t_junction(simple_town):
    streets = [road for road in simple_town.roads.values() if road.junction < 0]
    kerbs = [road for road in simple_town.roads.values() if road.junction >= 0 and -3 in road.sections[0].lanes]
    assert len(kerbs) == 3 * len(simple_town.junctions)
    for road in kerbs:
        assert [road.sections[0].lanes[lane].type for lane in (-1, -2, -3)] == ["driving", "shoulder", "sidewalk"]
        before = 3 * SIDE[road.predecessor.contact]
        after = -3 * SIDE[road.successor.contact]
        begin, end = lane_ends(simple_town, road.id, 0, -3)
        assert max(joint(lane_ends(simple_town, road.predecessor.id, 0, before)[1], begin)) < 1e-5
        assert max(joint(end, lane_ends(simple_town, road.successor.id, 0, after)[0])) < 1e-5
    ends = Counter(
        (link.id, link.contact, way)
        for road in kerbs
        for way, link in (("in", road.predecessor), ("out", road.successor))
    )
    assert ends == Counter((road.id, contact, way) for road in streets for contact in SIDE for way in ("in", "out"))


# Lights, signs and paint


def test_one_arm_at_a_time_is_green(town):
    signals = {signal.id: signal for road in town.roads.values() for signal in road.signals}
    plan = list(PLANS[town.name].nodes.values())
    seen = 0
    for index, junction in enumerate(town.junctions.values()):
        entries = {road.id for road, end, there in arms(town) if there == junction.id and arriving_lanes(road, end)}
        assert [sequence for _, sequence in junction.controllers] == list(range(len(junction.controllers)))
        shown = [town.controllers[controller].signals for controller, _ in junction.controllers]
        assert all(len(lights) == 1 for lights in shown)
        assert bool(shown) == plan[index].lights
        if not shown:
            continue
        seen += len(shown)
        assert {signals[lights[0]].road for lights in shown} == entries
        assert len(shown) == len(entries)
        for (signal,) in shown:
            light, road = signals[signal], town.roads[signals[signal].road]
            end = "end" if light.validities[0][0] < 0 else "start"
            link = road.successor if end == "end" else road.predecessor
            assert light.type == "1000001" and link.id == junction.id
            assert 0 < (road.length - light.s if end == "end" else light.s) < 2
            # The post stands beyond the shoulder, within the sidewalk where there is one.
            _, section, outermost = arriving_lanes(road, end)[-1]
            edge = max(abs(t.item()) for t in road.lane_edges(section, outermost, light.s))
            assert edge + 0.4 < abs(light.t) < edge + 2.9 and light.t * outermost > 0
    assert seen == sum(signal.type == "1000001" for signal in signals.values())


def test_signs_stand_where_they_are_declared(town):
    """Stop and give-way signs on the streets that the plan names, and a give-way sign for every lane that ends."""
    found = defaultdict(set)
    for road, end, junction in arms(town):
        lanes = {lane for *_, lane in arriving_lanes(road, end)}
        for signal in road.signals:
            ((low, high),) = signal.validities
            if signal.type != "1000001" and set(range(min(low, high), max(low, high) + 1)) <= lanes:
                assert abs((road.length if end == "end" else 0) - signal.s) == pytest.approx(3.0)
                found[junction, signal.type].add((road.id, end, abs(high - low) + 1))
    for junction, (name, node) in zip(town.junctions, PLANS[town.name].nodes.items(), strict=True):
        for kind, minor in (("206", node.stop), ("205", node.give_way)):
            expected = {
                (road.id, end, len(arriving_lanes(road, end)))
                for road, end, there in arms(town)
                if there == junction and road.name in minor and arriving_lanes(road, end)
            }
            ending = {
                (road.id, end, 1)
                for road, end, there in arms(town)
                if there == junction and kind == "205" and not node.lights and road.name not in minor
                if merging(town, road, end)
            }
            assert found[junction, kind] == expected | ending, name


def merging(network: OpenDrive, road: Road, end: str) -> bool:
    """Whether two lanes of an arm lead into the same lane beyond its junction."""
    links = drivable_links(network)
    exits = [{out for way in links[lane] for out in links[way]} for lane in arriving_lanes(road, end)]
    return any(one & other for one, other in combinations(exits, 2))


@pytest.mark.parametrize("name", PLANS)
def test_lanes_are_changed_over_broken_lines_away_from_junctions(name):
    network = read_opendrive((FOLDER / f"{name}.xodr").read_text("utf-8"), name)
    changes = 0
    for road in network.roads.values():
        for part in road.sections:
            for lane in part.lanes.values():
                stations = [part.s + mark.s_offset for mark in lane.marks] + [part.end]
                beyond = part.lanes.get(lane.id + (1 if lane.id > 0 else -1))
                for mark, (start, stop) in zip(lane.marks, pairwise(stations), strict=True):
                    if mark.lane_change == "none":
                        continue
                    changes += 1
                    assert mark.lane_change == "both" and mark.type == "broken" and mark.color == "white"
                    assert lane.type == beyond.type == "driving"
                    assert road.junction < 0 and start >= 20 - 1e-6 and stop <= road.length - 20 + 1e-6
            assert all(mark.lane_change == "none" for mark in part.center_marks)
    assert (changes > 0) == (name not in SINGLE_LANES)


def test_crosswalks_cross_whole_arms_between_the_mouths_and_the_middle(town):
    plan = PLANS[town.name]
    crosswalks = [walk.outline for road in town.roads.values() for walk in road.crosswalks]
    expected = 0
    for road, end, junction in arms(town):
        node = list(plan.nodes.values())[list(town.junctions).index(junction)]
        kinds = Counter(lane.type for lane in road.sections[0].lanes.values())
        if not node.crosswalks or kinds["sidewalk"] < 2:
            continue
        expected += 1
        s, section = (road.length, len(road.sections) - 1) if end == "end" else (0.0, 0)
        x, y, _, heading = (value.item() for value in road.reference(s))
        inwards = np.array([math.cos(heading), math.sin(heading)]) * (1 if end == "end" else -1)
        lanes = road.sections[section].lanes
        edges = [
            t.item() for lane in lanes.values() if lane.type == "sidewalk" for t in road.lane_edges(section, lane.id, s)
        ]
        edges = sorted(edges, key=abs)
        mine = []
        for outline in crosswalks:
            u = (outline - (x, y)) @ inwards
            t = (outline - (x, y)) @ np.array([-math.sin(heading), math.cos(heading)])
            if -1 < u.min() and u.max() < 5 and np.abs(t).max() < 30:
                mine.append((u, t))
        ((u, t),) = mine
        assert (u.min(), u.max()) == pytest.approx((0.8, 3.8), abs=1e-6)
        inner = next(t_ for t_ in edges if t_ < 0), next(t_ for t_ in edges if t_ > 0)
        assert (t.min(), t.max()) == pytest.approx(inner, abs=1e-6)
        assert u.max() < node.reach - 8
    assert len(crosswalks) == expected


# Places


def test_the_roundabout_circulates_and_its_entries_give_way():
    network = read_opendrive((FOLDER / "City.xodr").read_text("utf-8"), "City")
    links = drivable_links(network)
    circle = {road.id: road for road in network.roads.values() if road.name == "Circle" and road.junction < 0}
    assert len(circle) == 4
    at, turned, seen = (min(circle), 0, -1), 0.0, []
    while at not in seen:
        seen.append(at)
        start, stop = lane_ends(network, *at)
        turned += wrap(stop[5] - start[5])
        # Of the ways on, the one that stays on the circle is the leftmost.
        ways = links[at]
        at = max(ways, key=lambda way: wrap(lane_ends(network, *way)[1][5] - lane_ends(network, *at)[1][5]))  # noqa: B023
    assert at == seen[0] and len(seen) == 8
    assert turned == pytest.approx(2 * math.pi)
    for road in circle.values():
        x, y, _ = lane_centre(network, road.id, 0, -1).T
        assert np.hypot(np.diff(x), np.diff(y)).sum() > 14, "a car may wait on the circle"
        assert not road.signals
    junctions = {road.successor.id for road in circle.values()}
    entries = [(road, end) for road, end, there in arms(network) if there in junctions and road.id not in circle]
    assert len(entries) == 4
    for road, end in entries:
        assert [signal.type for signal in road.signals if (signal.s > 10) == (end == "end")] == ["205"]


def test_the_highway_passes_over_the_street():
    town = load_town("Ring")
    tables = town.tables
    cross = np.array([-1.75, -240 - 3.85]) - town.origin
    near = np.flatnonzero(np.hypot(*(tables.waypoint_pose[:, :2] - cross).T) < 1.2)
    heights = tables.waypoint_pose[near, 2]
    below, above = near[heights < 3], near[heights > 3]
    assert len(below) > 0 and len(above) > 0
    assert heights[heights > 3].min() - heights[heights < 3].max() >= 6
    assert not same_level(np.float32(heights.max() - heights.min()))
    assert abs(np.cos(tables.waypoint_pose[below[0], 3] - tables.waypoint_pose[above[0], 3])) < 1e-3
    for lane in tables.waypoint_lane[near]:
        assert tables.conflict_first[lane] == tables.conflict_first[lane + 1]
    # Wherever else lanes of different roads cross, it is in a junction.
    outside = np.flatnonzero((tables.lane_junction[tables.waypoint_lane] < 0) & (tables.waypoint_pose[:, 2] < 3))[::3]
    places, roads = tables.waypoint_pose[outside, :2], tables.lane_road[tables.waypoint_lane[outside]]
    for place, road in zip(places, roads, strict=True):
        others = places[roads != road]
        assert np.hypot(*(others - place).T).min() > 3.0


@pytest.mark.parametrize(
    ("name", "extent", "lane_km", "junctions", "rise"),
    [
        ("Suburb", (420, 350), 4.6, 12, 4),
        ("Village", (205, 205), 2.0, 8, 0),
        ("City", (480, 480), 10.0, 24, 4),
        ("Ring", (880, 625), 17.9, 15, 6.5),
        ("Grid", (510, 490), 13.8, 16, 0),
        ("Avenue", (1010, 375), 14.4, 19, 3),
    ],
)
def test_size(name, extent, lane_km, junctions, rise):
    network = read_opendrive((FOLDER / f"{name}.xodr").read_text("utf-8"), name)
    points = np.concatenate([lane_centre(network, *lane, spacing=2.0) for lane in drivable_links(network)])
    assert np.ptp(points[:, :2], axis=0) == pytest.approx(extent, abs=10)
    assert len(network.junctions) == junctions
    assert np.ptp(points[:, 2]) == pytest.approx(rise, abs=1e-5)
    town = load_town(name)
    assert town.lane_kilometres == pytest.approx(lane_km, abs=0.1)
    assert town.tables.raster.size < 16e6
    shortest = 40 if name in SINGLE_LANES else 20
    assert min(road.length for road in network.roads.values() if road.junction < 0) >= shortest


def drives(section: LaneSection) -> set[int]:
    return {number for number, lane in section.lanes.items() if lane.type == "driving"}


def test_streets_have_the_marks_and_limits_they_declare(town):
    styles = {
        "quiet": {("broken", "white")},
        "double": {("solid solid", "yellow")},
        "main": {("broken", "yellow"), ("solid solid", "yellow")},
        "edge": {("solid", "yellow")},
    }
    for number, street in enumerate(PLANS[town.name].streets):
        road = town.roads[number]
        style = styles["edge" if street.median else street.centre]
        for section in road.sections:
            assert {(mark.type, mark.color) for mark in section.center_marks} <= style
            for sign, count in ((-1, street.lanes[0]), (1, street.lanes[1])):
                driving = [number for number in drives(section) if number * sign > 0]
                assert count <= len(driving) <= count + 1
                if driving:
                    assert section.lanes[max(driving, key=abs)].marks[0].type == "solid"
        assert road.speed == [(0.0, pytest.approx(street.mph * 0.44704))]
        assert 20 <= street.mph <= (55 if town.name == "Ring" else 35)


@pytest.mark.parametrize("name", PLANS)
def test_carla_shows_each_driver_the_one_light_ahead(name):
    carla = pytest.importorskip("carla")
    text = (FOLDER / f"{name}.xodr").read_text("utf-8")
    carla_map, network = carla.Map(name, text), read_opendrive(text, name)
    controlled = {controller for junction in network.junctions.values() for controller, _ in junction.controllers}
    seen = defaultdict(set)
    for road, end, junction in arms(network):
        for _, _, lane in arriving_lanes(road, end):
            s = 10.0 if end == "start" else road.length - 10.0
            start = carla_map.get_waypoint_xodr(road.id, lane, s)
            ahead = start.get_landmarks_of_type(9.5, "1000001")
            assert len(ahead) == (1 if network.junctions[junction].controllers else 0)
            for light in ahead:
                seen[light.id].add((road.id, end))
                yaw = math.radians(light.transform.rotation.yaw - light.waypoint.transform.rotation.yaw)
                assert abs(wrap(yaw)) < 1e-3
    assert len(seen) == len(controlled) and all(len(places) == 1 for places in seen.values())
