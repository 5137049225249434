"""The OpenDRIVE reader against closed forms, numerical integration, hand-written maps, bad input, and `carla.Map`."""

import collections
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mentorgym.envs.driving
from mentorgym.envs.driving.map.opendrive import (
    Arc,
    Connection,
    Cubics,
    OpenDrive,
    OpenDriveError,
    ParamPoly3,
    Road,
    RoadLink,
    RoadMark,
    Spiral,
    drivable_links,
    read_opendrive,
)
from mentorgym.envs.driving.map.town import build_town

MAPS = Path(__file__).parent / "maps"
OURS = sorted(MAPS.glob("*.xodr"))
TOWNS = sorted(Path(mentorgym.envs.driving.__path__[0], "map", "towns").glob("*.xodr"))
CARLAS = ("Town01", "Town02")
KMH, MPH = 1 / 3.6, 0.44704

curvatures = st.floats(-0.2, 0.2)
lengths = st.floats(0.01, 100.0)


def fixture_map(name: str) -> OpenDrive:
    return read_opendrive((MAPS / f"{name}.xodr").read_text("utf-8"), name)


@pytest.fixture(scope="module")
def curves() -> OpenDrive:
    return fixture_map("curves")


@pytest.fixture(scope="module")
def junction() -> OpenDrive:
    return fixture_map("junction")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.real_maps) for name in CARLAS] + [*OURS, *TOWNS],
    ids=lambda param: getattr(param, "stem", param),
)
def text(request) -> str:
    """CARLA's towns, our towns and the hand-written maps, one after the other."""
    path = request.param
    if path in CARLAS:
        path = request.getfixturevalue("maps_folder") / f"{path}.xodr"
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def pair(text):
    """A map as we read it and as CARLA reads it."""
    carla = pytest.importorskip("carla")
    return read_opendrive(text), carla.Map("map", text)


def integrate(heading, distance: float) -> tuple[float, float]:
    """The end of a unit-speed curve from its heading, by the midpoint rule on 200,000 steps."""
    u = (np.arange(200_000) + 0.5) * (distance / 200_000)
    return float(np.cos(heading(u)).mean() * distance), float(np.sin(heading(u)).mean() * distance)


def lane_centre(road: Road, section: int, lane: int, s) -> np.ndarray:
    """x, y, z of a lane's centre, float64 [n, 3]."""
    inner, outer = road.lane_edges(section, lane, s)
    return np.stack(road.position(s, (inner + outer) / 2), 1)


# Reference lines


@given(curvatures.filter(lambda k: abs(k) > 1e-4), lengths)
def test_an_arc_lies_on_its_circle(curvature, length):
    x, y, heading = Arc(curvature)(np.array([length / 3, length]))
    assert x == pytest.approx(np.sin(heading) / curvature, abs=1e-9)
    assert y == pytest.approx((1 - np.cos(heading)) / curvature, abs=1e-9)
    assert heading == pytest.approx(curvature * np.array([length / 3, length]))


def test_an_arc_without_curvature_is_a_line():
    x, y, heading = Arc(0.0)(np.array([0.0, 2.5, 40.0]))
    assert x.tolist() == [0.0, 2.5, 40.0]
    assert not y.any() and not heading.any()


@pytest.mark.parametrize("start, end, length", [(0, 0.04, 25), (0.04, -0.02, 45), (-0.3, 0.5, 60), (0.001, 0.002, 300)])
def test_a_spiral_is_the_integral_of_its_heading(start, end, length):
    distances = np.array([0.0, length / 7, length / 2, length])
    x, y, heading = Spiral(start, end, length)(distances)

    def expected(u):
        return start * u + (end - start) * u**2 / (2 * length)

    assert heading == pytest.approx(expected(distances))
    ends = [integrate(expected, d) for d in distances]
    assert np.stack([x, y], 1) == pytest.approx(np.array(ends), abs=1e-6)


def test_a_spiral_from_a_straight_is_given_by_fresnel_integrals():
    special = pytest.importorskip("scipy.special")
    d = np.linspace(0, 80, 161)
    x, y, _ = Spiral(0.0, 0.1, 80.0)(d)
    scale = np.sqrt(np.pi / (0.1 / 80))
    sine, cosine = special.fresnel(d / scale)
    assert x == pytest.approx(scale * cosine, abs=1e-10)
    assert y == pytest.approx(scale * sine, abs=1e-10)


@given(curvatures, lengths)
def test_a_spiral_of_equal_curvatures_is_an_arc(curvature, length):
    d = np.linspace(0, length, 5)
    assert np.array(Spiral(curvature, curvature, length)(d)) == pytest.approx(np.array(Arc(curvature)(d)), abs=1e-9)


def test_a_parametric_cubic_is_evaluated_by_arc_length():
    # A straight line whose parameter starts and ends at rest.
    x, y, heading = ParamPoly3((0, 0, 60, -40), (0, 0, 0, 0), 1.0, 20.0)(np.linspace(0.5, 20, 40))
    assert x == pytest.approx(np.linspace(0.5, 20, 40), abs=1e-3)
    assert not y.any() and not heading.any()


def test_a_parametric_cubic_ends_where_its_coefficients_say():
    x, y, _ = ParamPoly3((0, 30, 0, 0), (0, 0, 5, 2), 1.0, 31.0)(np.array([0.0, 31.0]))  # it is 31.13 m long
    assert (x, y) == (pytest.approx([0, 30]), pytest.approx([0, 7]))


@pytest.mark.parametrize("end", [1.0, 30.0])
def test_a_parametric_parabola_has_the_known_arc_length(end):
    # (u, c u²) with u = 30 at the end; its arc length from the vertex has a closed form.
    c, reach = 0.02, 30.0

    def arc_length(u):
        return u / 2 * np.sqrt(1 + (2 * c * u) ** 2) + np.arcsinh(2 * c * u) / (4 * c)

    pace = reach / end
    curve = ParamPoly3((0, pace, 0, 0), (0, 0, c * pace**2, 0), end, float(arc_length(reach)))
    d = np.linspace(0, arc_length(reach), 50)
    x, y, heading = curve(d)
    assert arc_length(x) == pytest.approx(d, abs=1e-4)
    assert y == pytest.approx(c * x**2)
    assert np.tan(heading) == pytest.approx(2 * c * x)


def test_every_reference_line_is_continuous_and_has_unit_speed(text):
    for road in read_opendrive(text).roads.values():
        s = np.linspace(0, road.length, 2 + int(road.length / 0.1))
        x, y, _, heading = road.reference(s)
        step = np.diff(s)
        assert np.hypot(np.diff(x), np.diff(y)) == pytest.approx(step, rel=1e-2, abs=1e-3)
        middle = (heading[1:] + heading[:-1]) / 2
        across = np.diff(y) * np.cos(middle) - np.diff(x) * np.sin(middle)
        assert across == pytest.approx(0 * step, abs=1e-3)


def test_a_number_and_an_array_give_the_same_point(curves):
    road = curves.roads[1]
    s = np.linspace(0, road.length, 57)
    together = np.stack(road.reference(s))
    apart = np.concatenate([np.stack(road.reference(value)) for value in s], 1)
    assert together == pytest.approx(apart, abs=1e-12)
    assert np.stack(road.position(30.0, np.array([-1.0, 2.0]))).shape == (3, 2)


def test_beyond_its_ends_a_road_counts_as_ended(curves):
    road = curves.roads[1]
    ends = np.stack(road.reference([0.0, road.length]))
    assert np.stack(road.reference([-1.0, road.length + 1.0])) == pytest.approx(ends)


def test_t_points_to_the_left(junction):
    x, y, z = junction.roads[3].position(np.array([10.0, 20.0]), 2.0)  # northwards from (0, -60)
    assert (x, y, z) == (pytest.approx([-2, -2]), pytest.approx([-50, -40]), pytest.approx([0, 0]))


def test_records_hold_from_their_start_on():
    records = Cubics([(10.0, 3.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.5, 0.0, 0.25)])
    assert records(np.array([-5.0, 0.0, 2.0, 10.0, 12.0])).tolist() == [1.0, 1.0, 4.0, 3.0, 7.0]
    assert Cubics([])(np.array([0.0, 7.0])).tolist() == [0.0, 0.0]


def test_the_road_climbs_along_its_elevation(curves):
    z = curves.roads[1].reference([0, 20, 45, 70, 110])[2]
    assert z == pytest.approx([2, 2, 3.5, 5, 5])


# Lanes


def test_lane_borders_follow_widths_and_lane_offset(curves):
    road = curves.roads[1]
    inner, outer = road.lane_edges(1, -2, [40, 55, 70])  # a lane that grows from nothing to 3.5 m
    assert inner == pytest.approx([-3.5, -3.5, -3.5])
    assert outer == pytest.approx([-3.5, -5.25, -7.0])
    inner, outer = road.lane_edges(1, -3, [40, 55, 70])
    assert inner - outer == pytest.approx([0.5, 0.5, 0.5])
    inner, outer = road.lane_edges(2, 1, [70, 80, 85, 90, 110])  # the offset goes to -1 m between s = 80 and 100
    assert inner == pytest.approx([0, 0, -0.15625, -0.5, -1])
    assert outer - inner == pytest.approx([3.5, 3.5, 3.25, 3.0, 3.0])


def test_lane_sections_cover_the_road(curves):
    sections = curves.roads[1].sections
    assert [(section.s, section.end) for section in sections] == [(0, 40), (40, 70), (70, 120)]
    assert [sorted(section.lanes) for section in sections] == [[-2, -1, 1], [-3, -2, -1, 1], [-3, -2, -1, 1]]
    assert [curves.roads[1].section_at(s) for s in (0, 39.9, 40, 200)] == [0, 0, 1, 2]
    assert sections[0].lanes[-2].type == "shoulder" and sections[0].lanes[-2].successor == -3
    assert sections[1].lanes[-2].predecessor is None


def test_road_marks(curves):
    section = curves.roads[1].sections[0]
    assert section.center_marks == [RoadMark(0.0, "solid solid", "yellow", 0.12, "none")]
    assert section.lanes[-1].marks == [
        RoadMark(0.0, "solid", "white", 0.12, "none"),
        RoadMark(25.0, "broken", "white", 0.12, "both"),
    ]


def test_speed_limits_are_in_metres_per_second(curves):
    limits = {road.id: road.speed for road in curves.roads.values()}
    assert limits == {1: [(0, pytest.approx(50 * KMH))], 2: [(0, 15.0)], 3: [(0, pytest.approx(25 * MPH))]}
    assert curves.roads[1].sections[2].lanes[-1].speed == [(5.0, pytest.approx(30 * MPH))]
    assert curves.roads[1].sections[2].lanes[1].speed == []


def test_a_speed_without_limit_is_no_record():
    text = (MAPS / "curves.xodr").read_text("utf-8").replace('max="50"', 'max="no limit"')
    assert read_opendrive(text).roads[1].speed == []


# Links


def test_links_within_and_between_roads(curves):
    links = drivable_links(curves)
    assert curves.roads[3].successor == RoadLink("road", 2, "end") and curves.roads[3].predecessor is None
    assert links[1, 0, -1] == [(1, 1, -1)]
    assert links[1, 2, 1] == [(1, 1, 1)]
    assert links[1, 1, -2] == [(1, 2, -2)]
    assert links[1, 2, -2] == [(2, 0, -2)]
    assert links[2, 0, -1] == [(3, 1, 1)]  # road 3 runs the other way: entered in its last section
    assert links[3, 1, -1] == [(2, 0, 1)]
    assert links[3, 0, 1] == links[1, 0, 1] == []
    assert not any(curves.roads[road].sections[section].lanes[lane].type != "driving" for road, section, lane in links)


def test_links_through_a_junction(junction):
    assert junction.roads[1].successor == RoadLink("junction", 100, None)
    assert junction.roads[11].junction == 100 and junction.roads[1].junction == -1
    assert junction.junctions[100].connections[1] == Connection(2, 10, "end", [(1, 1), (2, 2)])
    links = {key: value for key, value in drivable_links(junction).items() if value}
    assert links == {
        (1, 0, -1): [(10, 0, -1), (11, 0, -1)],
        (2, 0, 1): [(10, 0, 1), (14, 0, 1)],
        (3, 0, -1): [(12, 0, -1), (13, 0, -1)],
        (10, 0, 1): [(1, 0, 1)],
        (10, 0, -1): [(2, 0, -1)],
        (11, 0, -1): [(3, 0, 1)],
        (12, 0, -1): [(2, 0, -1)],
        (13, 0, -1): [(1, 0, 1)],
        (14, 0, 1): [(3, 0, 1)],
    }


def test_a_connection_leads_on_the_lanes_that_it_names():
    text = (MAPS / "junction.xodr").read_text("utf-8")
    start = text.index('connectingRoad="10"', text.index('connectingRoad="10"') + 1)
    text = text[:start] + text[start:].replace('<laneLink from="1"', '<laneLink from="2"', 1)
    assert drivable_links(read_opendrive(text))[2, 0, 1] == [(14, 0, 1)]


def test_a_link_to_a_missing_road_leads_nowhere():
    text = (MAPS / "junction.xodr").read_text("utf-8").replace('connectingRoad="11"', 'connectingRoad="911"')
    assert drivable_links(read_opendrive(text))[1, 0, -1] == [(10, 0, -1)]


def test_cars_drive_on_from_lane_to_lane_without_a_gap(text):
    network = read_opendrive(text)
    for (road, section, lane), following in drivable_links(network).items():
        part = network.roads[road].sections[section]
        leaving = lane_centre(network.roads[road], section, lane, part.end if lane < 0 else part.s)
        for other, place, number in following:
            part = network.roads[other].sections[place]
            entering = lane_centre(network.roads[other], place, number, part.s if number < 0 else part.end)
            assert entering == pytest.approx(leaving, abs=0.1), f"{road, section, lane} to {other, place, number}"


# Signals, controllers, crosswalks


def test_signals_and_where_they_hold(junction):
    light = junction.roads[1].signals[0]
    assert (light.id, light.road, light.s, light.t) == (500, 1, 48.0, -4.0)
    assert (light.type, light.dynamic, light.orientation, light.name) == ("1000001", True, "-", "light west")
    assert (light.z_offset, light.width, light.height) == (3.0, 0.5, 1.2)
    assert light.validities == [(0, 0)]
    held = {road.id: [(r.id, r.s, r.validities) for r in road.references] for road in junction.roads.values()}
    assert held[10] == [(500, 0.5, [(-1, -1)]), (501, 19.5, [(1, 1)])]
    assert held[11] == [(500, 0.5, [(-1, -1)])] and held[14] == [(501, 15.0, [(1, 1)])]
    stop, give_way = junction.roads[3].signals
    assert (stop.type, stop.validities, stop.dynamic) == ("206", [(-1, -1)], False)
    assert (give_way.id, give_way.type) == ("yield-1", "205")


@pytest.mark.parametrize("orientation, lanes", [("+", [(1, 2)]), ("-", [(-2, -1)]), ("none", [(-2, -1), (1, 2)])])
def test_a_signal_that_names_no_lanes_holds_on_its_side(orientation, lanes):
    text = (MAPS / "junction.xodr").read_text("utf-8")
    before = 'type="205"'
    start = text.rindex("<signal ", 0, text.index(before))
    signal = text[start : text.index(before)].replace('orientation="+"', f'orientation="{orientation}"')
    sign = read_opendrive(text[:start] + signal + text[text.index(before) :]).roads[3].signals[1]
    assert sign.orientation == orientation
    assert sign.validities == lanes


def test_controllers_name_each_signal_once(junction):
    assert {key: (c.name, c.sequence, c.signals) for key, c in junction.controllers.items()} == {
        800: ("arm 0", 0, [500]),
        801: ("arm 1", 1, [501]),
    }
    assert junction.junctions[100].controllers == [(800, 0), (801, 1)]


def test_crosswalks_in_local_and_in_road_coordinates(junction):
    (local,) = junction.roads[1].crosswalks
    assert local.road == 1
    assert local.outline == pytest.approx(np.array([[-17.5, -3.5], [-14.5, -3.5], [-13.5, 3.5], [-16.5, 3.5]]))
    (along,) = junction.roads[3].crosswalks
    expected = np.array([[3.5, -21.5], [3.5, -18.5], [-3.5, -18.5], [-3.5, -21.5]])
    assert along.outline == pytest.approx(expected, abs=1e-6)


def test_a_local_crosswalk_turns_with_the_road_and_its_own_heading():
    text = (MAPS / "junction.xodr").read_text("utf-8")
    turned = text.replace('hdg="0" pitch="0" roll="0" length="3"', f'hdg="{np.pi / 2}" pitch="0" roll="0" length="3"')
    crosswalk = read_opendrive(turned).roads[1].crosswalks[0]
    assert crosswalk.outline == pytest.approx(np.array([[-12.5, -1.5], [-12.5, 1.5], [-19.5, 2.5], [-19.5, -0.5]]))


def test_the_header(junction):
    assert junction.name == "junction"
    assert junction.georeference.startswith("+proj=tmerc")


def test_a_namespace_changes_nothing(junction):
    text = (MAPS / "junction.xodr").read_text("utf-8")
    named = text.replace("<OpenDRIVE>", '<OpenDRIVE xmlns="http://code.asam.net/simulation/standard/opendrive_schema">')
    assert drivable_links(read_opendrive(named)) == drivable_links(junction)


# Bad input


@pytest.mark.parametrize("text", ["", "no map at all", "<OpenDRIVE><road></OpenDRIVE>"])
def test_what_is_no_xml_is_refused(text):
    with pytest.raises(OpenDriveError, match="^Nowhere: .* cut off or no XML"):
        read_opendrive(text, "Nowhere")


@given(st.floats(0.0, 0.999))
def test_a_map_cut_off_anywhere_is_refused(fraction):
    text = (MAPS / "junction.xodr").read_text("utf-8").rstrip()
    with pytest.raises(OpenDriveError, match="cut off"):
        read_opendrive(text[: int(fraction * len(text))])


@pytest.mark.parametrize("text, message", [("<osm/>", "<osm>, not <OpenDRIVE>"), ("<OpenDRIVE/>", "has no <road>")])
def test_a_map_of_another_kind_or_without_roads_is_refused(text, message):
    with pytest.raises(OpenDriveError, match=message):
        read_opendrive(text)


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("curves", 'length="120"', 'length="long"', "road 1: length='long' is not a finite number"),
        ("curves", 'length="120"', 'length="0"', "road 1: length=0.0 is not positive"),
        ("curves", 'length="120"', "", "road 1: the attribute 'length' is missing"),
        ("curves", 'length="30"', 'length="-1"', "road 1: geometry no. 1: length=-1.0 is not positive"),
        ("curves", 'curvature="0.04"', 'curvature="nan"', "geometry no. 3: arc: curvature='nan' is not a finite"),
        ("curves", "<line />", '<poly3 a="0" b="0" c="0" d="0" />', "no. 1: its shape is poly3, not line, arc"),
        ("curves", "<line />", "", "geometry no. 1: its shape is none, not line, arc"),
        ("curves", 'pRange="arcLength"', 'pRange="metres"', "paramPoly3: pRange='metres' is neither"),
        ("curves", 'id="1" junction', 'id="one" junction', "road one: id='one' is not an integer"),
        ("curves", 'id="2" junction', 'id="1" junction', "two of its roads have the id 1"),
        ("curves", 'unit="km/h"', 'unit="knots"', "speed no. 1: unit='knots' is none of m/s, km/h, mph"),
        ("curves", 'elementType="road"', 'elementType="rail"', "link/successor: elementType='rail' is neither"),
        ("curves", '<lane id="-2"', '<lane id="-4"', "lane ids on the right are .* without gaps"),
        ("curves", '<width sOffset="0" a="3.5"', '<border sOffset="0" a="3.5"', "lane 1: it has no <width>; .*border"),
        ("junction", '<cornerRoad s="38.5"', '<cornerRoad s="here"', "cornerRoad no. 1: s='here'"),
        ("junction", 'connectingRoad="10"', "", "connection 0: the attribute 'connectingRoad' is missing"),
        ("junction", 'fromLane="0"', 'fromLane="all"', "signal 500: validity no. 1: fromLane='all' is not an integer"),
    ],
)
def test_a_damaged_element_is_named(name, old, new, message):
    text = (MAPS / f"{name}.xodr").read_text("utf-8")
    assert old in text
    with pytest.raises(OpenDriveError, match=f"^{name}: .*{message}"):
        read_opendrive(text.replace(old, new, 1), name)


@pytest.mark.parametrize("path, message", [("planView", "no <planView>"), ("lanes", "no <laneSection>")])
def test_a_road_without_shape_or_lanes_is_refused(path, message):
    text = (MAPS / "curves.xodr").read_text("utf-8")
    start, end = text.index(f"<{path}>"), text.index(f"</{path}>") + len(path) + 3
    with pytest.raises(OpenDriveError, match=f"road 1: it has {message}"):
        read_opendrive(text[:start] + text[end:])


def test_a_crosswalk_needs_three_corners():
    text = (MAPS / "junction.xodr").read_text("utf-8")
    start, end = text.index("<cornerRoad"), text.index("</outline>", text.index("<cornerRoad"))
    with pytest.raises(OpenDriveError, match="object 601: outline 0: a crosswalk needs three corners"):
        read_opendrive(text[:start] + text[end:])


# carla.Map on the same file


def by_lane(waypoints) -> dict[tuple[int, int, int], list]:
    lanes = collections.defaultdict(list)
    for waypoint in waypoints:
        lanes[waypoint.road_id, waypoint.section_id, waypoint.lane_id].append(waypoint)
    return lanes


def test_carla_sees_the_same_driving_lanes(pair):
    ours, theirs = pair
    assert drivable_links(ours).keys() == by_lane(theirs.generate_waypoints(1.0)).keys()


def test_carla_sees_the_same_lane_centres_and_widths(pair):
    ours, theirs = pair
    errors = []
    for (road, section, lane), waypoints in by_lane(theirs.generate_waypoints(1.0)).items():
        s = np.array([waypoint.s for waypoint in waypoints])
        places = [waypoint.transform.location for waypoint in waypoints]
        expected = np.array([(place.x, -place.y, place.z) for place in places])
        errors.append(np.linalg.norm(lane_centre(ours.roads[road], section, lane, s) - expected, axis=1))
        inner, outer = ours.roads[road].lane_edges(section, lane, s)
        assert abs(outer - inner) == pytest.approx([waypoint.lane_width for waypoint in waypoints], abs=0.02)
    assert np.mean(np.concatenate(errors) < 0.05) >= 0.999


def test_carla_sees_the_same_types_of_lanes(pair):
    ours, theirs = pair
    names = {"driving": "Driving", "sidewalk": "Sidewalk", "shoulder": "Shoulder", "median": "Median"}
    for road in ours.roads.values():
        for section in road.sections:
            for lane in section.lanes.values():
                waypoint = theirs.get_waypoint_xodr(road.id, lane.id, (section.s + section.end) / 2)
                assert str(waypoint.lane_type) == names[lane.type]


def test_carla_drives_on_to_the_same_lanes(pair):
    ours, theirs = pair
    for (road, section, lane), expected in drivable_links(ours).items():
        part = ours.roads[road].sections[section]
        margin = min(1e-3, (part.end - part.s) / 4)
        last = theirs.get_waypoint_xodr(road, lane, part.end - margin if lane < 0 else part.s + margin)
        driving = [waypoint for waypoint in last.next(2 * margin) if str(waypoint.lane_type) == "Driving"]
        assert by_lane(driving).keys() == set(expected), f"after {road, section, lane}"


def test_carla_sees_the_same_signals_on_the_same_lanes(pair):
    ours, theirs = pair

    def lanes(validities) -> list[int]:
        return sorted({i for a, b in validities for i in range(min(a, b), max(a, b) + 1)} - {0})

    types = {signal.id: signal.type for road in ours.roads.values() for signal in road.signals}
    compared = ("1000001", "205", "206")
    mine = sorted(
        (str(item.id), types[item.id], road.id, lanes(item.validities), item.s)
        for road in ours.roads.values()
        for item in [*road.signals, *road.references]
        if types[item.id] in compared and lanes(item.validities)
    )
    carlas = sorted(
        (landmark.id, landmark.type, landmark.road_id, lanes(landmark.get_lane_validities()), landmark.s)
        for landmark in theirs.get_all_landmarks()
        if landmark.type in compared
    )
    assert [row[:4] for row in mine] == [row[:4] for row in carlas]
    assert [row[4] for row in mine] == pytest.approx([row[4] for row in carlas], abs=0.5)


@pytest.mark.parametrize("path", TOWNS, ids=lambda path: path.stem)
def test_carla_sees_the_same_crosswalks_in_our_towns(path):
    carla = pytest.importorskip("carla")
    text = path.read_text("utf-8")
    mine = [walk.outline for road in read_opendrive(text).roads.values() for walk in road.crosswalks]
    points = np.array([(point.x, -point.y) for point in carla.Map(path.stem, text).get_crosswalks()]).reshape(-1, 2)
    # It repeats the first of the four corners.
    theirs = points.reshape(-1, 5, 2)[:, :4]
    assert len(mine) == len(theirs)
    order = [min(range(len(theirs)), key=lambda k: np.abs(theirs[k] - outline).max()) for outline in mine]
    assert sorted(order) == list(range(len(theirs)))
    assert all(theirs[k] == pytest.approx(outline, abs=1e-3) for k, outline in zip(order, mine, strict=True))


@pytest.mark.parametrize("path", TOWNS, ids=lambda path: path.stem)
def test_carla_lets_lanes_be_changed_in_the_same_places(path):
    carla = pytest.importorskip("carla")
    text = path.read_text("utf-8")
    town, theirs = build_town(read_opendrive(text, path.stem)), carla.Map(path.stem, text)
    tables, compared = town.tables, 0
    for lane in np.flatnonzero(tables.lane_junction < 0):
        first, after = tables.lane_first[lane : lane + 2]
        for p in range(first + 2, after - 2, 11):
            x, y, z, _ = tables.waypoint_pose[p].astype(float) + [*town.origin, 0.0, 0.0]
            place = carla.Location(x, -y, z)
            waypoint = theirs.get_waypoint(place)
            if (waypoint.road_id, waypoint.lane_id) != (tables.lane_road[lane], tables.lane_number[lane]):
                continue  # where lanes cross, or one opens with no width, another may be as near
            mine = [around[p - 1 : p + 2] >= 0 for around in (tables.waypoint_left, tables.waypoint_right)]
            if any(side.any() != side.all() for side in mine):
                continue  # where one mark ends and the next begins
            allowed = {"NONE": (False, False), "Left": (True, False), "Right": (False, True), "Both": (True, True)}
            assert tuple(side.all() for side in mine) == allowed[str(waypoint.lane_change)], waypoint
            compared += 1
    assert compared > 150


def test_carla_sees_the_same_crosswalk(junction):
    carla = pytest.importorskip("carla")
    theirs = carla.Map("junction", (MAPS / "junction.xodr").read_text("utf-8"))
    points = np.array([(point.x, -point.y) for point in theirs.get_crosswalks()])
    # It repeats the first corner, and knows outlines that stand directly in the object, but no <outlines>.
    expected = junction.roads[1].crosswalks[0].outline
    assert any(points[i : i + 4] == pytest.approx(expected, abs=1e-4) for i in range(len(points) - 3))
