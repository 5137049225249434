"""Suites: strict tables of episodes, ours as their program writes them."""

import pytest

from mentorgym.envs.driving.map.town import packaged_towns
from mentorgym.envs.driving.task.suites import (
    COLUMNS,
    SuiteError,
    find_suite,
    packaged_suites,
    read_suite,
    write_suites,
)

HEADER = ",".join(COLUMNS) + "\n"
GOOD = "CarlaNoCrash-v0,Village,3,busy,WetNoon,0\n"


def test_the_packaged_files_are_the_programs_own(capsys):
    assert write_suites.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_ours_hold_every_route_in_two_rounds():
    suites = {name: read_suite(path) for name, path in packaged_suites().items()}
    assert {name: len(episodes) for name, episodes in suites.items()} == {"leaderboard": 2 * 76, "nocrash": 4 * 2 * 50}
    for episodes in suites.values():
        assert {episode.seed for episode in episodes} == {0, 1}
        assert {episode.weather for episode in episodes} == {"WetNoon", "ClearSunset", "SoftRainSunset", "WetSunset"}
    assert {episode.traffic for episode in suites["nocrash"]} == {"empty", "regular", "dense", "busy"}
    assert {episode.traffic for episode in suites["leaderboard"]} == {"busy"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace("Village", "Vilage"), "line 3: unknown town 'Vilage': did you mean 'Village'"),
        (GOOD.replace("3", "25"), "line 3: route 25: Village has routes 0 to 24"),
        (GOOD.replace("3", "-1"), "line 3: route='-1' is not a whole number from 0 on"),
        (GOOD.replace("3", "3.5"), "line 3: route='3.5' is not a whole number"),
        (GOOD.replace("3", "3" * 5000), "line 3: route='3+' is not a whole number"),
        (GOOD.replace("busy", "bussy"), "line 3: unknown traffic 'bussy': did you mean 'busy'"),
        (GOOD.replace("WetNoon", "WetNon"), "line 3: unknown weather 'WetNon': did you mean 'WetNoon'"),
        (GOOD.replace("WetNoon", "train"), "line 3: unknown weather 'train'"),
        (GOOD.replace("NoCrash", "NoCrush"), "line 3: unknown env 'CarlaNoCrush-v0': did you mean 'CarlaNoCrash-v0'"),
        (GOOD.replace(",0", ",zero"), "line 3: seed='zero' is not a whole number"),
        ("CarlaNoCrash-v0,City,0,busy,WetNoon,0\n", "line 3: City has no routes of its own for this environment"),
        ("CarlaNoCrash-v0,Village\n", "line 3: a line has 6 fields: env, town, route"),
        (GOOD.strip() + ",more\n", "line 3: a line has 6 fields"),
        (GOOD.replace(",0", ",1"), "line 3: the episode of line 2 again; give it another seed, or delete it"),
    ],
)
def test_a_line_that_names_no_episode(tmp_path, line, message):
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + GOOD.replace(",0", ",1") + line)
    with pytest.raises(SuiteError, match=f"mine.csv, {message}"):
        read_suite(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "mine.csv names no episodes"),
        ("", "mine.csv, line 1: a suite has the columns env,town,route,traffic,weather,seed"),
        (HEADER.replace("seed", "sed"), "line 1: a suite has the columns"),
        ("\xff", "mine.csv cannot be read"),
    ],
    ids=["no rows", "empty", "another column", "not text"],
)
def test_a_file_that_is_no_suite(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text, "latin-1")
    with pytest.raises(SuiteError, match=message):
        read_suite(path)


def test_a_route_off_the_map_names_both_files(tmp_path):
    routes = tmp_path / "off.csv"
    columns = "route,start_x_m,start_y_m,start_yaw_deg,goal_x_m,goal_y_m,goal_yaw_deg"
    routes.write_text(f"{columns}\n0,9999,9999,0,0,0,0\n")
    (tmp_path / "mine.csv").write_text(HEADER + GOOD.replace("3", "0"))
    with pytest.raises(SuiteError, match=r"mine.csv, line 2: .*off.csv, line 2: .* is off the map"):
        read_suite(tmp_path / "mine.csv", str(routes))


def test_a_suite_that_is_not_there():
    assert find_suite("nocrash").name == "nocrash.csv"
    with pytest.raises(SuiteError, match="unknown suite 'nocrush': did you mean 'nocrash'.*, or a file's path"):
        find_suite("nocrush")
    with pytest.raises(SuiteError, match="unknown suite 'nnn"):
        find_suite("n" * 5000)


def test_a_suite_names_no_route_that_cannot_be_driven(tmp_path):
    routes = tmp_path / "some.csv"
    own = packaged_towns()["Village"].with_name("nocrash_Village.csv").read_text("utf-8").splitlines()
    routes.write_text("\n".join([own[0], "off,9999,9999,0,0,0,0", own[1]]))
    line = "CarlaNoCrash-v0,Village,{},regular,WetNoon,0\n"
    (tmp_path / "mine.csv").write_text(HEADER + line.format(1))
    assert len(read_suite(tmp_path / "mine.csv", str(routes))) == 1
    (tmp_path / "mine.csv").write_text(HEADER + line.format(0))
    with pytest.raises(SuiteError, match=r"mine.csv, line 2: route 0 cannot be driven: .*some.csv, line 2"):
        read_suite(tmp_path / "mine.csv", str(routes))
