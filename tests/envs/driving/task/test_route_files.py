"""Route files as people have them: spreadsheets' tables, and the Leaderboards' layouts."""

import csv
import io

import numpy as np
import pytest

from mentorgym.envs.driving import load_town
from mentorgym.envs.driving.frames import to_carla
from mentorgym.envs.driving.task.routes import COLUMNS, RouteError, read_routes
from mentorgym.envs.driving.task.suites import SuiteError, read_suite
from tests.mutations import mutations

HEADER = ["route", *COLUMNS]
POSE = ("x", "y", "yaw")


@pytest.fixture(scope="module")
def village():
    return load_town("Village")


def pose(town, waypoint: int) -> tuple[float, float, float]:
    """x, y and yaw in degrees, in CARLA's frame, of a waypoint."""
    x, y, _, yaw = town.tables.waypoint_pose[waypoint]
    return tuple(float(each) for each in to_carla(x + town.origin[0], y + town.origin[1], yaw))


@pytest.fixture(scope="module")
def poses(village) -> list[tuple[float, float, float]]:
    """Three poses along the longest lane that crosses no junction."""
    tables = village.tables
    lane = int(np.argmax(np.diff(tables.lane_first) * (tables.lane_junction < 0)))
    first = int(tables.lane_first[lane])
    return [pose(village, first + each) for each in (2, 12, 20)]


@pytest.fixture(scope="module")
def rows(poses) -> list[list[str]]:
    (one, two, three) = ([f"{each:.4f}" for each in pose] for pose in poses)
    return [["first", *one, *two], ["second", *two, *three]]


def table(lines: list[list[str]], delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(lines)
    return file.getvalue()


def german(lines: list[list[str]]) -> str:
    return table([[cell.replace(".", ",") for cell in line] for line in lines], ";")


SAVED = {
    "byte-order mark": lambda lines: table(lines).encode("utf-8-sig"),
    "Windows' ends of line": lambda lines: table(lines).replace("\n", "\r\n").replace("\r\r", "\r").encode(),
    "old ends of line": lambda lines: table(lines).replace("\r\n", "\r").encode(),
    "semicolons": lambda lines: table(lines, ";").encode(),
    "tabs in UTF-16": lambda lines: table(lines, "\t").encode("utf-16"),
    "quotes": lambda lines: table(lines, quoting=csv.QUOTE_ALL).encode(),
    "decimal commas": lambda lines: german(lines).encode("utf-8-sig"),
    "decimal commas in quotes": lambda lines: german(lines).replace(";", '";"').replace("\r\n", '"\r\n"').encode(),
    "sep=": lambda lines: b"sep=;\r\n" + german(lines).encode(),
    "another column": lambda lines: table(
        [[str(number), *line, "a note"] for number, line in enumerate(lines)]
    ).encode(),
    "empty lines": lambda lines: (";" * 9 + "\n").join(["", *table(lines, ";").splitlines(keepends=True), ""]).encode(),
}


@pytest.mark.parametrize("kind", SAVED)
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path, village, rows, kind):
    plain, saved = tmp_path / "plain.csv", tmp_path / "saved.csv"
    plain.write_text(table([HEADER, *rows]))
    data = SAVED[kind]([HEADER, *rows])
    saved.write_bytes(b'"' + data[:-1] if kind == "decimal commas in quotes" else data)
    expected, routes = read_routes(village, plain), read_routes(village, saved)
    assert [route.name for route in routes] == [route.name for route in expected] == ["first", "second"]
    for one, other in zip(routes, expected, strict=True):
        np.testing.assert_array_equal(one.waypoints, other.waypoints)


def test_numbers_that_can_be_read_in_two_ways_are_refused(tmp_path, village, rows):
    path = tmp_path / "mixed.csv"
    path.write_text(table([HEADER, rows[0], [cell.replace(".", ",") for cell in rows[1]]], ";"))
    with pytest.raises(RouteError, match="commas in its numbers: write points for decimals, and nothing for"):
        read_routes(village, path)
    path.write_text(table([HEADER, ["a", "1,234", *(cell.partition(".")[0] for cell in rows[0][2:])]]))
    with pytest.raises(RouteError, match="commas in its numbers"):
        read_routes(village, path)
    path.write_text(table([HEADER, ["a", "1,234,5", *rows[0][2:]]], ";").replace(".", ","))
    with pytest.raises(RouteError, match="line 2: not a row of numbers"):
        read_routes(village, path)


def points(tag: str, poses, keys: tuple[str, ...]) -> str:
    """Elements `tag` with these of x, y and yaw."""
    named = [dict(zip(POSE, pose, strict=True)) for pose in poses]
    texts = [" ".join(f"{key}='{pose[key]:.4f}'" for key in keys) for pose in named]
    return "".join(f"<{tag} z='0' {text}/>" for text in texts)


def layouts(poses) -> dict[str, str]:
    ones, twos = points("waypoint", poses, POSE), points("position", poses, POSE[:2])
    other = "<scenario name='1' type='Accident'><trigger_point x='0' y='0' z='0' yaw='0'/></scenario>"
    return {
        "Leaderboard 1": f"<route id='5' town='Village'><weather id='x'/>{ones}</route>",
        "the oldest": f"<route id='5' map='Village'>{ones}</route><route id='6' map='Town02'>{ones}</route>",
        "no town": f"<route id='5'>{ones}</route>",
        "an empty town": f"<route id='5' town=''>{ones}</route>",
        "Roach": f"<route id='5'><ego_vehicle id='hero'>{ones}</ego_vehicle></route>",
        "Leaderboard 2": f"<route id='5' town='Village'><weathers><weather route_percentage='0'/></weathers>"
        f"<waypoints>{twos}</waypoints><scenarios>{other}</scenarios></route>",
    }


@pytest.mark.parametrize("layout", layouts([]))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_routes_of_every_leaderboard_are_read(tmp_path, village, poses, layout, encoding):
    path = tmp_path / "routes.XML"
    other = "<route id='6' town='Town01'><waypoint x='1' y='1' yaw='0'/><waypoint x='2' y='1' yaw='0'/></route>"
    head = f"<?xml version='1.0' encoding='{encoding.removesuffix('-sig')}'?>\r\n<!-- Straße -->\r\n"
    path.write_bytes(f"{head}<routes>{layouts(poses)[layout]}{other}</routes>".encode(encoding))
    plain = tmp_path / "plain.csv"
    plain.write_text(table([HEADER, ["5", *map(str, poses[0]), *map(str, poses[2])]]))
    (route,), (expected,) = read_routes(village, path), read_routes(village, plain)
    assert route.name == "5"
    np.testing.assert_array_equal(route.waypoints, expected.waypoints)


def test_xml_is_known_by_its_content_and_routes_without_an_id_by_their_place(tmp_path, village, poses):
    path = tmp_path / "routes.txt"
    ones = points("waypoint", poses, POSE)
    path.write_text(f"\n  <routes><route>{ones}</route><route town='Village'>{ones}</route></routes>")
    assert [route.name for route in read_routes(village, path)] == ["0", "1"]


def test_a_position_without_a_heading_lies_on_the_nearest_lane(tmp_path, village, poses):
    opposite = points("position", poses[::-1], POSE[:2])
    path = tmp_path / "routes.xml"
    path.write_text(f"<routes><route id='1'><waypoints>{opposite}</waypoints></route></routes>")
    (route,) = read_routes(village, path)
    ends = village.tables.waypoint_pose[route.waypoints[[0, -1]], :2] + village.origin
    expected = np.array([poses[2][:2], poses[0][:2]]) * [1, -1]
    np.testing.assert_allclose(ends, expected, atol=0.6)


def test_a_route_of_several_cars_is_refused(tmp_path, village, poses):
    car = f"<ego_vehicle>{points('waypoint', poses, POSE)}</ego_vehicle>"
    path = tmp_path / "routes.xml"
    path.write_text(f"<routes><route id='3'>{car}{car}</route></routes>")
    with pytest.raises(RouteError, match="route 3: it is of several cars"):
        read_routes(village, path)


SUITE = """env,town,route,traffic,weather,seed
CarlaNoCrash-v0,Village,3,busy,WetNoon,0
CarlaNoCrash-v0,Suburb,0,empty,ClearNoon,12
"""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_a_suite_is_read_as_spreadsheets_save_it(tmp_path, delimiter, end):
    plain, saved = tmp_path / "plain.csv", tmp_path / "saved.csv"
    plain.write_text(SUITE)
    lines = [f"note{delimiter}{line.replace(',', delimiter)}" for line in SUITE.splitlines()]
    saved.write_bytes(end.join([*lines, delimiter * 6, ""]).encode("utf-8-sig"))
    assert read_suite(saved) == read_suite(plain) and len(read_suite(plain)) == 2


@pytest.mark.slow
def test_2000_damaged_route_files_are_read_or_refused(tmp_path, village, poses, rows):
    originals = [table([HEADER, *rows]).encode(), german([HEADER, *rows]).encode("utf-8-sig")]
    originals += [f"<routes>{text}</routes>".encode() for text in layouts(poses).values()]
    outcomes = {"read": 0, "refused": 0}
    for index, data in enumerate(mutations(originals, 2000, seed=6)):
        path = tmp_path / ("routes.csv" if index % len(originals) < 2 else "routes.xml")
        path.write_bytes(data)
        try:
            routes = read_routes(village, path)
        except RouteError as error:
            assert path.name in str(error)
            outcomes["refused"] += 1
        else:
            assert routes and all(len(route.waypoints) for route in routes)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100


@pytest.mark.slow
def test_1000_damaged_suites_are_read_or_refused(tmp_path, monkeypatch):
    path = tmp_path / "suite.csv"
    monkeypatch.setenv("MENTORGYM_MAPS", str(tmp_path))
    originals = [SUITE.encode(), SUITE.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig")]
    outcomes = {"read": 0, "refused": 0}
    for data in mutations(originals, 1000, seed=7):
        path.write_bytes(data)
        try:
            episodes = read_suite(path)
        except SuiteError as error:
            assert path.name in str(error)
            outcomes["refused"] += 1
        else:
            assert episodes and all(episode.route >= 0 for episode in episodes)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 20
