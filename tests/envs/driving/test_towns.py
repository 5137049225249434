"""The towns of our own: reproducible files, and places where every lane leads on, smoothly, to every other one."""

import math
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.opendrive import OpenDrive, drivable_links, read_opendrive
from mentorgym.envs.driving.towns import write_towns
from mentorgym.envs.driving.towns.plans import SUBURB, VILLAGE
from mentorgym.envs.driving.towns.plans import TOWNS as PLANS
from mentorgym.envs.driving.towns.writer import Piece, Pose, bend, town_xml, wrap

FOLDER = Path(write_towns.__file__).parent
TOWNS = ("Suburb", "Village")
SIDE = {"end": -1, "start": 1}
"""Sign of the ids of the lanes that leave a road at this end of it."""


@pytest.fixture(scope="module", params=TOWNS)
def town(request) -> OpenDrive:
    return read_opendrive((FOLDER / f"{request.param}.xodr").read_text("utf-8"), request.param)


def lane_ends(network: OpenDrive, road: int, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a lane begins and ends in the direction of travel, each as x and y of its two borders, z and heading."""
    whole = network.roads[road]
    s = np.array([0.0, whole.length] if lane < 0 else [whole.length, 0.0])
    edges = [np.stack(whole.position(s, t)) for t in whole.lane_edges(0, lane, s)]
    heading = whole.reference(s)[3] + (0.0 if lane < 0 else math.pi)
    rows = np.array([*edges[0][:2], *edges[1][:2], edges[0][2], heading]).T
    return rows[0], rows[1]


def lane_centre(network: OpenDrive, road: int, lane: int, spacing: float = 0.25) -> np.ndarray:
    """Points along a lane's centre, float64 [n, 3]."""
    whole = network.roads[road]
    s = np.linspace(0.0, whole.length, max(3, int(whole.length / spacing)))
    return np.stack(whole.position(s, np.mean(whole.lane_edges(0, lane, s), axis=0)), axis=1)


def joint(end: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """Gap in metres and kink in radians between the end of one lane and the start of the next."""
    gap = max(math.dist(end[:2], start[:2]), math.dist(end[2:4], start[2:4]), abs(end[4] - start[4]))
    return gap, abs(wrap(end[5] - start[5]))


def reached(links: dict, start: tuple[int, int, int]) -> set:
    seen, ahead = {start}, [start]
    while ahead:
        new = set(links.get(ahead.pop(), ())) - seen
        seen |= new
        ahead += new
    return seen


# The program


def test_the_packaged_files_are_the_programs_own(capsys):
    assert write_towns.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_check_names_a_file_that_is_missing_or_differs_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write_towns, "__file__", str(tmp_path / "write_towns.py"))
    assert write_towns.main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in lines] == [f"{plan.name}.xodr differs" for plan in PLANS]

    assert write_towns.main([]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{plan.name}.xodr": (FOLDER / f"{plan.name}.xodr").read_bytes() for plan in PLANS
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


# The files


@pytest.mark.parametrize("name", TOWNS)
def test_ids_are_disjoint_and_every_light_names_its_lane(name):
    root = ET.parse(FOLDER / f"{name}.xodr").getroot()
    ids = Counter(
        node.get("id")
        for tag in ("road", "junction", "controller", "road/signals/signal")
        for node in root.findall(tag)
    )
    assert max(ids.values()) == 1
    for road in root.findall("road"):
        for signal in road.findall("signals/signal"):
            assert signal.get("type") == "1000001"
            (validity,) = signal.findall("validity")
            lane = "-1" if signal.get("orientation") == "+" else "1"
            assert (validity.get("fromLane"), validity.get("toLane")) == (lane, lane)
    assert "+lat_0" in root.findtext("header/geoReference")


def test_every_driving_lane_leads_to_every_other_one(town):
    links = drivable_links(town)
    assert all(links.values())
    backwards: dict = {}
    for lane, successors in links.items():
        for successor in successors:
            backwards.setdefault(successor, []).append(lane)
    start = min(links)
    assert reached(links, start) == reached(backwards, start) == links.keys()


def test_lanes_join_without_gap_or_kink(town):
    joints = [
        joint(lane_ends(town, lane[0], lane[2])[1], lane_ends(town, successor[0], successor[2])[0])
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


def test_every_junction_offers_every_turn_at_a_comfortable_radius(town):
    connecting = {junction: [] for junction in town.junctions}
    for road in town.roads.values():
        if road.junction >= 0:
            connecting[road.junction].append(road)
    for roads in connecting.values():
        turns = {(road.predecessor.id, road.successor.id) for road in roads}
        arms = {street for turn in turns for street in turn}
        assert len(arms) == 3
        assert turns == {(a, b) for a in arms for b in arms if a != b}
        for road in roads:
            x, y, _ = lane_centre(town, road.id, -1).T
            heading = np.unwrap(np.arctan2(np.diff(y), np.diff(x)))
            curvature = np.abs(np.diff(heading)) / np.hypot(np.diff(x), np.diff(y))[1:]
            assert curvature.max() < 1 / 6


def test_sidewalks_run_on_around_every_junction(town):
    streets = [road for road in town.roads.values() if road.junction < 0]
    kerbs = [road for road in town.roads.values() if road.junction >= 0 and -3 in road.sections[0].lanes]
    assert len(kerbs) == 3 * len(town.junctions)
    for road in kerbs:
        assert [road.sections[0].lanes[lane].type for lane in (-1, -2, -3)] == ["driving", "shoulder", "sidewalk"]
        before = 3 * SIDE[road.predecessor.contact]
        after = -3 * SIDE[road.successor.contact]
        begin, end = lane_ends(town, road.id, -3)
        assert max(joint(lane_ends(town, road.predecessor.id, before)[1], begin)) < 1e-5
        assert max(joint(end, lane_ends(town, road.successor.id, after)[0])) < 1e-5
    ends = Counter(
        (link.id, link.contact, way)
        for road in kerbs
        for way, link in (("in", road.predecessor), ("out", road.successor))
    )
    assert ends == Counter((road.id, contact, way) for road in streets for contact in SIDE for way in ("in", "out"))


def test_one_arm_at_a_time_is_green(town):
    lights = {signal.id: signal for road in town.roads.values() for signal in road.signals}
    unsignalised = 0
    for junction in town.junctions.values():
        entries = {connection.incoming for connection in junction.connections}
        assert [sequence for _, sequence in junction.controllers] == list(range(len(junction.controllers)))
        shown = [town.controllers[controller].signals for controller, _ in junction.controllers]
        assert all(len(signals) == 1 for signals in shown)
        if not shown:
            unsignalised += 1
            continue
        assert {lights[signals[0]].road for signals in shown} == entries
        for (signal,) in shown:
            light, road = lights[signal], town.roads[lights[signal].road]
            ((lane, last),) = light.validities
            link = road.successor if lane < 0 else road.predecessor
            assert lane == last and link.id == junction.id
            assert 0 < (road.length - light.s if lane < 0 else light.s) < 2
            sidewalk = sorted(float(t[0]) for t in road.lane_edges(0, 3 * lane, light.s))
            assert sidewalk[0] < light.t < sidewalk[1]
    assert len(lights) == 3 * (len(town.junctions) - unsignalised)
    assert unsignalised == {"Suburb": 0, "Village": 2}[town.name]


@pytest.mark.parametrize(
    ("name", "extent", "lane_km", "junctions"), [("Suburb", (420, 350), 6.1, 12), ("Village", (205, 205), 2.9, 8)]
)
def test_size(name, extent, lane_km, junctions):
    network = read_opendrive((FOLDER / f"{name}.xodr").read_text("utf-8"), name)
    lanes = [(road, lane) for road, _, lane in drivable_links(network)]
    points = np.concatenate([lane_centre(network, *lane, spacing=2.0) for lane in lanes])
    assert np.ptp(points[:, :2], axis=0) == pytest.approx(extent, abs=10)
    assert sum(network.roads[road].length for road, _ in lanes) / 1000 == pytest.approx(lane_km, abs=0.1)
    assert len(network.junctions) == junctions
    assert min(road.length for road in network.roads.values() if road.junction < 0) >= 40
    assert np.ptp(points[:, 2]) == pytest.approx(4 if name == "Suburb" else 0, abs=1e-5)


def test_streets_have_the_marks_and_limits_they_declare(town):
    declared = {"Suburb": SUBURB, "Village": VILLAGE}[town.name]
    styles = {
        "quiet": {("broken", "white")},
        "double": {("solid solid", "yellow")},
        "main": {("broken", "yellow"), ("solid solid", "yellow")},
    }
    for number, street in enumerate(declared.streets):
        road = town.roads[number]
        (section,) = road.sections
        assert {(mark.type, mark.color) for mark in section.center_marks} <= styles[street.centre]
        assert [section.lanes[lane].marks[0].type for lane in (1, -1)] == ["solid", "solid"]
        assert road.speed == [(0.0, pytest.approx(street.mph * 0.44704))]
        assert 25 <= street.mph <= 35
    used = {(mark.type, mark.color) for road in town.roads.values() for mark in road.sections[0].center_marks}
    assert used >= {("broken", "white"), ("broken", "yellow"), ("solid solid", "yellow")}


@pytest.mark.parametrize("name", TOWNS)
def test_carla_shows_each_driver_the_one_light_ahead(name):
    carla = pytest.importorskip("carla")
    text = (FOLDER / f"{name}.xodr").read_text("utf-8")
    carla_map, network = carla.Map(name, text), read_opendrive(text, name)
    controlled = {controller for junction in network.junctions.values() for controller, _ in junction.controllers}
    seen = Counter()
    for road in network.roads.values():
        for lane in (-1, 1) if road.junction < 0 else ():
            start = carla_map.get_waypoint_xodr(road.id, lane, 0.5 if lane < 0 else road.length - 0.5)
            link = road.successor if lane < 0 else road.predecessor
            ahead = start.get_landmarks_of_type(road.length - 1.0, "1000001")
            assert len(ahead) == (1 if network.junctions[link.id].controllers else 0)
            for light in ahead:
                seen[light.id] += 1
                yaw = math.radians(light.transform.rotation.yaw - light.waypoint.transform.rotation.yaw)
                assert abs(wrap(yaw)) < 1e-3
    assert len(seen) == len(controlled) and set(seen.values()) == {1}
