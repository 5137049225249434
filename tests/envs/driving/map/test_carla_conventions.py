"""What maps leave to convention: the side of traffic, missing attributes, sections of no length, jumping offsets."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.map.opendrive import OpenDriveError, read_opendrive
from mentorgym.envs.driving.map.tables import LEFT, RIGHT, TownTables
from mentorgym.envs.driving.map.town import Town, build_town, load_town, packaged_towns
from mentorgym.envs.driving.worlds.state import DEAD_END
from tests.envs.driving.fork import fork_xml

MARK = '<roadMark sOffset="0" type="broken" color="white" width="0.12"{}/>'
LANE = '<lane id="{}" type="{}"><link>{}</link><width sOffset="0" a="3.5" b="0" c="0" d="0"/>{}</lane>'


def street(mark: str = MARK.format(""), kind: str = "driving", attributes: str = 'junction="-1"') -> str:
    """A straight road with one lane to the west and two to the east, between which there is `mark`."""
    right = LANE.format(-1, "driving", "", mark) + LANE.format(-2, kind, "", "")
    return f"""<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="" length="120" id="1" {attributes}><planView>
<geometry s="0" x="0" y="0" hdg="0" length="120"><line/></geometry></planView><lanes><laneSection s="0">
<left>{LANE.format(1, "driving", "", "")}</left><center><lane id="0" type="none"/></center><right>{right}</right>
</laneSection></lanes></road></OpenDRIVE>"""


def town_of(text: str, name: str = "Map") -> Town:
    return build_town(read_opendrive(text, name))


def mirrored(text: str) -> str:
    """A map of geometry, lanes, links, signals and junctions seen in a mirror along x: its traffic keeps left."""
    root = ElementTree.fromstring(text)

    def negate(element, *keys: str) -> None:
        for key in set(keys) & element.attrib.keys():
            number = -float(element.attrib[key])
            element.set(key, str(int(number)) if key in ("id", "from", "to", "fromLane", "toLane") else repr(number))

    for road in root.iter("road"):
        road.set("rule", "LHT")
        for tag, keys in {
            "geometry": ("y", "hdg"),
            "arc": ("curvature",),
            "spiral": ("curvStart", "curvEnd"),
            "paramPoly3": ("aV", "bV", "cV", "dV"),
            "laneOffset": ("a", "b", "c", "d"),
            "signal": ("t",),
            "signalReference": ("t",),
            "validity": ("fromLane", "toLane"),
        }.items():
            for element in road.iter(tag):
                negate(element, *keys)
        for section in road.iter("laneSection"):
            for side in section:
                for lane in side.findall("lane"):
                    for element in (lane, *lane.iter("predecessor"), *lane.iter("successor")):
                        negate(element, "id")
                side[:] = sorted(side, key=lambda lane: -int(lane.get("id")))
                side.tag = {"left": "right", "right": "left"}.get(side.tag, side.tag)
        for objects in road.findall("objects"):
            road.remove(objects)
    for link in root.iter("laneLink"):
        negate(link, "from", "to")
    return ElementTree.tostring(root, "unicode")


def named(tables: TownTables, sign: int = 1) -> dict[tuple[int, int, int], int]:
    """Lanes by road, section and number, this times `sign`."""
    numbers = zip(tables.lane_road, tables.lane_section, sign * tables.lane_number, strict=True)
    return {tuple(map(int, key)): lane for lane, key in enumerate(numbers)}


# The side of traffic


@pytest.mark.parametrize("name", ["Village", "City"])
def test_a_map_in_the_mirror_keeps_left_and_is_the_same_otherwise(name):
    text = packaged_towns()[name].read_text("utf-8")
    right, left = load_town(name), town_of(mirrored(text))
    lanes, others = named(right.tables), named(left.tables, -1)
    assert lanes.keys() == others.keys()
    turns = {LEFT: RIGHT, RIGHT: LEFT}
    for key, lane in lanes.items():
        other = others[key]
        poses = []
        for town, which in ((right, lane), (left, other)):
            first, after = town.tables.lane_first[which : which + 2]
            poses.append(town.tables.waypoint_pose[first:after, :3].astype(float) + [*town.origin, 0])
        np.testing.assert_allclose(poses[1], poses[0] * [1, -1, 1], atol=1e-3)
        turn = int(right.tables.lane_turn[lane])
        assert left.tables.lane_turn[other] == turns.get(turn, turn)
        following = []
        for tables, which, by_name in ((right.tables, lane, lanes), (left.tables, other, others)):
            after = tables.successor[tables.successor_first[which] : tables.successor_first[which + 1]]
            following.append({key for key, value in by_name.items() if value in after})
        assert following[0] == following[1]
        ranks = [
            sorted(tables.path_rank[tables.path_first[which] : tables.path_first[which + 1]].tolist())
            for tables, which in ((right.tables, lane), (left.tables, other))
        ]
        assert ranks[0] == ranks[1]


@pytest.mark.parametrize("rule", ["LHT", "RHT", "lht", ""])
@pytest.mark.filterwarnings("ignore")
def test_carla_sees_traffic_on_the_same_side(rule):
    carla = pytest.importorskip("carla")
    text = street(attributes=f'junction="-1" rule="{rule}"')
    theirs, tables = carla.Map("m", text), town_of(text).tables
    for lane, number in enumerate(tables.lane_number.tolist()):
        yaw = theirs.get_waypoint_xodr(1, number, 60.0).transform.rotation.yaw
        assert (abs(yaw) < 90) == bool(tables.waypoint_direction[tables.lane_first[lane], 0] > 0)


# What a file leaves out


@pytest.mark.parametrize(
    "mark",
    [
        "",
        MARK.format(""),
        MARK.format(' laneChange="both"'),
        MARK.format(' laneChange="none"'),
        MARK.format(' laneChange=""'),
    ],
    ids=["no paint", "no word", "both", "none", "empty"],
)
def test_carla_lets_the_same_lanes_be_changed_where_the_file_says_little(mark):
    carla = pytest.importorskip("carla")
    tables = town_of(street(mark)).tables
    theirs = carla.Map("m", street(mark))
    for number, side, beside in ((-1, "Right", tables.waypoint_right), (-2, "Left", tables.waypoint_left)):
        allowed = str(theirs.get_waypoint_xodr(1, number, 60.0).lane_change) in (side, "Both")
        lane = named(tables)[1, 0, number]
        assert (beside[tables.lane_first[lane] + 60] >= 0) == allowed


@pytest.mark.parametrize("kind", ["driving", "Driving", "DRIVING", "bus", "none"])
def test_carla_knows_the_same_types_of_lanes(kind):
    carla = pytest.importorskip("carla")
    theirs = carla.Map("m", street(kind=kind)).get_waypoint_xodr(1, -2, 60.0)
    assert ((1, 0, -2) in named(town_of(street(kind=kind)).tables)) == (str(theirs.lane_type) == "Driving")


def test_a_direct_junction_is_named_with_the_remedy():
    text = fork_xml().replace('<junction id="100"', '<junction type="direct" id="100"')
    text = text.replace("connectingRoad", "linkedRoad")
    with pytest.raises(OpenDriveError, match="junction 100: it is a direct junction .* export .* common junctions"):
        read_opendrive(text, "Fork")


# Sections


def sections(*starts: float, offsets: str = "", numbers: tuple[int, ...] = ()) -> str:
    """An eastward road of 100 m in sections that begin at `starts`; its one lane has the next of `numbers` in each."""
    numbers = numbers or (-1,) * len(starts)
    parts = []
    for k, (start, number) in enumerate(zip(starts, numbers, strict=True)):
        links = f'<predecessor id="{numbers[k - 1]}"/>' if k else ""
        links += f'<successor id="{numbers[k + 1]}"/>' if k + 1 < len(numbers) else ""
        inner = "".join(LANE.format(n, "none", "", "") for n in range(-1, number, -1))
        lane = inner + LANE.format(number, "driving", links, "")
        parts.append(
            f'<laneSection s="{start}"><center><lane id="0" type="none"/></center><right>{lane}</right></laneSection>'
        )
    return f"""<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="" length="100" id="1" junction="-1"><planView>
<geometry s="0" x="0" y="0" hdg="0" length="100"><line/></geometry></planView><lanes>{offsets}{"".join(parts)}</lanes>
</road></OpenDRIVE>"""


@pytest.mark.parametrize("starts", [(0.0, 50.0, 50.0), (0.0, 50.0, 50.0000001), (0.0, 40.0, 40.0, 40.0, 70.0)])
def test_lanes_go_on_over_sections_of_no_length(starts):
    tables = town_of(sections(*starts)).tables
    count = len(tables.lane_length)
    assert count == sum(end - start > 1e-6 for start, end in pairwise((*starts, 100.0)))
    for lane in range(count - 1):
        assert tables.successor[tables.successor_first[lane] : tables.successor_first[lane + 1]].tolist() == [lane + 1]


def test_a_lane_is_continuous_where_offset_and_numbers_jump_together():
    # The lane is third from the middle, then first, on a middle that has moved by two lanes.
    offsets = '<laneOffset s="0" a="7" b="0" c="0" d="0"/><laneOffset s="50" a="0" b="0" c="0" d="0"/>'
    town = town_of(sections(0.0, 50.0, offsets=offsets, numbers=(-3, -1)))
    np.testing.assert_allclose(town.tables.waypoint_pose[:, 1] + town.origin[1], -1.75, atol=1e-5)
    np.testing.assert_allclose(town.tables.waypoint_pose[:, 3], 0.0, atol=1e-5)


def test_the_lanes_of_carlas_towns_follow_one_another_without_a_gap(maps_folder):
    for path in sorted(maps_folder.glob("Town0[1-4].xodr")):
        tables = load_town(path).tables
        for lane in range(len(tables.lane_length)):
            end = tables.waypoint_pose[tables.lane_first[lane + 1] - 1, :2]
            for after in tables.successor[tables.successor_first[lane] : tables.successor_first[lane + 1]]:
                assert np.hypot(*(tables.waypoint_pose[tables.lane_first[after], :2] - end)) < 1.0
        # A car that may wait somewhere can go on from there.
        waits = tables.lane_storage > 0
        leads_on = np.diff(tables.successor_first) > 0
        assert (np.diff(tables.path_first)[waits & leads_on] > 0).all()


def test_a_way_over_many_short_lanes_is_a_path():
    starts = (0.0, *np.linspace(30.0, 60.0, 13))
    tables = town_of(sections(*starts)).tables
    assert np.diff(tables.path_first)[0] == 1
    assert len(tables.path_lane) >= 13


# Where nothing leads on


def lone_road(folder, length: float, name: str = "Lone") -> str:
    path = folder / f"{name}.xodr"
    path.write_text(sections(0.0).replace('"100"', f'"{length}"'))
    return str(path)


@pytest.mark.parametrize("towns", [("Short",), ("Short", "Village"), ("Village", "Short")])
def test_a_town_without_a_place_to_start_from_is_refused(tmp_path, towns):
    path = lone_road(tmp_path, 12.0, "Short")
    with pytest.raises(ValueError, match="Short has no place to start from: .* outside junctions, of 14 m at least"):
        DrivingVectorEnv(2, town=tuple(path if town == "Short" else town for town in towns), traffic="empty")


@pytest.mark.parametrize("ends", ["found-rl", "leaderboard"])
def test_an_endless_route_is_completed_at_a_dead_end(tmp_path, ends):
    envs = DrivingVectorEnv(
        3, town=lone_road(tmp_path, 90.0), traffic="empty", observation="state", ends=ends, soft_reset=0.0
    )
    envs.reset(seed=1)
    lanes = envs.town.tables.waypoint_lane
    assert set(lanes[envs.episode.route[0, : envs.episode.route_length[0]]].tolist()) == {0}
    ended = np.zeros(3, bool)
    for _ in range(400):
        dead_end = envs.episode.endless == DEAD_END
        _, _, terminated, truncated, infos = envs.step(envs.expert_actions())
        assert not terminated.any()
        assert (dead_end | ~truncated).all()
        for row in np.flatnonzero(truncated & ~ended):
            assert infos["final_info"]["score"]["end"][row] == "completed"
        ended |= truncated
        if ended.all():
            break
    assert ended.all()


def test_named_levels_have_no_walkers_in_a_town_without_pavements(tmp_path):
    path = lone_road(tmp_path, 400.0)
    for level in ("train", "regular", "busy"):
        envs = DrivingVectorEnv(2, town=(path, "Village"), traffic=level, observation="state")
        (_, lone), (_, village) = envs._traffic
        assert lone == (0, 0) and village[1] > 0
        envs.reset(seed=0)
        kinds = envs.state.walker_kind[np.asarray(envs.state.town) == 0]
        assert not kinds.any()
    with pytest.raises(ValueError, match=r"Lone has no pavements .* pass traffic=\(3, 0\), or a level, .*busy, train"):
        DrivingVectorEnv(2, town=path, traffic=(3, 3))
