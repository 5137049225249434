"""What is refused, in words that name the thing and the remedy."""

import re

import gymnasium as gym
import numpy as np
import pytest

from mentorgym.envs.driving import DrivingEnv, DrivingVectorEnv, LeaderboardEnv, LeaderboardVectorEnv, load_town
from mentorgym.envs.driving.map.opendrive import OpenDriveError
from mentorgym.envs.driving.map.town import TownError, find_map
from mentorgym.envs.driving.task.routes import COLUMNS, RouteError, find_routes, plan_route, read_routes

QUICK = dict(town="Village", traffic="empty", observation="state")
HEADER = ",".join(("route", *COLUMNS)) + "\n"


@pytest.fixture(scope="module")
def envs() -> DrivingVectorEnv:
    envs = DrivingVectorEnv(num_envs=2, **QUICK)
    envs.reset(seed=1)
    return envs


@pytest.fixture(scope="module")
def tested() -> DrivingVectorEnv:
    envs = DrivingVectorEnv(num_envs=2, split="test", **QUICK)
    envs.reset(seed=1)
    return envs


@pytest.fixture
def village():
    return load_town("Village")


@pytest.fixture(autouse=True)
def no_folders(monkeypatch):
    for variable in ("MENTORGYM_MAPS", "MENTORGYM_ROUTES", "CARLA_ROOT"):
        monkeypatch.delenv(variable, raising=False)


def one_road(lane: str = "driving", length: float = 50.0, start: float = 0.0, number: int = 1) -> str:
    """A straight eastward road with one lane on its right."""
    return f"""<road name="" length="{length}" id="{number}" junction="-1"><planView>
<geometry s="0" x="{start}" y="0" hdg="0" length="{length}"><line/></geometry></planView><lanes><laneSection s="0">
<center><lane id="0" type="none"/></center><right><lane id="-1" type="{lane}">
<width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right></laneSection></lanes></road>"""


def write_map(path, *roads: str):
    path.write_text(f'<OpenDRIVE><header revMajor="1" revMinor="4"/>{"".join(roads)}</OpenDRIVE>')
    return path


# Maps


@pytest.mark.parametrize(
    ("town", "error", "message"),
    [
        ("Town99", TownError, "unknown town 'Town99': Valid are .*'Suburb', 'Village'; no map .* set MENTORGYM_MAPS"),
        ("suburb", TownError, r"unknown town 'suburb': did you mean 'Suburb'\?"),
        ("", TownError, "unknown town ''"),
        ("maps/nowhere.xodr", TownError, "there is no map at maps/nowhere.xodr"),
        ("V" * 5000, TownError, "unknown town 'VVV"),
        ("V" * 5000 + ".xodr", TownError, "there is no map at VVV"),
    ],
)
def test_a_town_that_is_not_there(town, error, message):
    with pytest.raises(error, match=message):
        DrivingVectorEnv(town=town)


def test_an_unknown_town_names_the_folders_that_were_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("MENTORGYM_MAPS", str(tmp_path / "mine"))
    monkeypatch.setenv("CARLA_ROOT", str(tmp_path / "carla"))
    with pytest.raises(TownError) as raised:
        find_map("Town99")
    assert str(tmp_path / "mine" / "Town99.xodr") in str(raised.value)
    assert str(tmp_path / "carla") in str(raised.value)
    monkeypatch.setenv("MENTORGYM_MAPS", str(tmp_path))
    write_map(tmp_path / "Town99.xodr", one_road())
    assert find_map("Town99") == tmp_path / "Town99.xodr"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "broken"),
        (b"%PDF-1.4 not a map", "broken"),
        (b"<html><body>404</body></html>", "broken"),
        (b"<OpenDRIVE></OpenDRIVE>", "broken"),
        (b"\xff\xfe\x00\x01", "broken.xodr is not UTF-8 text"),
        (one_road().encode(), "broken"),
    ],
    ids=["empty", "another format", "web page", "no roads", "binary", "no root"],
)
def test_a_file_that_is_no_map(tmp_path, content, message):
    (tmp_path / "broken.xodr").write_bytes(content)
    with pytest.raises((OpenDriveError, TownError), match=message):
        DrivingVectorEnv(town=str(tmp_path / "broken.xodr"), traffic="empty")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_map_that_was_cut_off(tmp_path, share):
    content = find_map("Village").read_bytes()
    (tmp_path / "Cut.xodr").write_bytes(content[: int(share * len(content))])
    with pytest.raises(OpenDriveError, match="Cut"):
        load_town(tmp_path / "Cut.xodr")


def test_a_map_without_a_driving_lane(tmp_path):
    path = write_map(tmp_path / "Park.xodr", one_road(lane="sidewalk"))
    with pytest.raises(TownError, match="the map 'Park' has no lane of type 'driving'"):
        DrivingVectorEnv(town=str(path))


def test_a_map_without_pavements_has_no_walkers(tmp_path):
    path = write_map(tmp_path / "Road.xodr", one_road(length=200.0))
    with pytest.raises(ValueError, match=r"Road has no pavements .* for walkers: pass traffic=\(0, 0\)"):
        DrivingVectorEnv(town=str(path), traffic=(0, 5))


def test_a_map_of_ones_own_has_no_test_routes(tmp_path):
    path = write_map(tmp_path / "Road.xodr", one_road(length=200.0))
    with pytest.raises(ValueError, match="Road has no test routes of its own: name a file of them, routes='...csv'"):
        DrivingVectorEnv(town=str(path), traffic="empty", split="test")


# Routes


def pose_text(town, waypoint: int) -> str:
    x, y, _, yaw = town.tables.waypoint_pose[waypoint]
    return f"{x + town.origin[0]:.3f},{-(y + town.origin[1]):.3f},{-np.degrees(yaw):.3f}"


def test_a_goal_that_no_lane_leads_to(tmp_path):
    path = write_map(tmp_path / "Two.xodr", one_road(), one_road(start=60.0, number=2))
    town = load_town(path)
    first, second = town.tables.lane_first[:2]
    with pytest.raises(RouteError, match=r"no lane of Two leads to \(.*\) from the point before it: choose other ends"):
        plan_route(town, [int(first), int(second)])
    routes = tmp_path / "far.csv"
    routes.write_text(HEADER + f"a,{pose_text(town, first)},{pose_text(town, second + 5)}\n")
    with pytest.raises(RouteError, match="far.csv, line 2: no lane of Two leads to"):
        DrivingVectorEnv(town=str(path), routes=str(routes), traffic="empty", split="test")


@pytest.mark.parametrize("place", ["9999,0,0", "1e30,-1e30,0"])
def test_a_route_off_the_map(tmp_path, village, place):
    path = tmp_path / "off.csv"
    good = pose_text(village, int(village.tables.lane_first[0]))
    path.write_text(HEADER + f"a,{good},{place}\n")
    with pytest.raises(RouteError, match=r"off.csv, line 2: \(.*\) is off the map: no lane of Village within 5.0 m"):
        read_routes(village, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the columns start_x_m"),
        ("route,x,y\n1,2,3\n", "lacks the columns start_x_m, .*: a route file has route, start_x_m"),
        (HEADER.replace(",goal_yaw_deg", "") + "0,1,2,3,4,5\n", "lacks the columns goal_yaw_deg"),
        (HEADER, "holds no routes"),
        (HEADER + "0,1,2,three,4,5,6\n", "line 2: not a row of numbers .*three"),
        (HEADER + "0,1,2\n", "line 2: not a row of numbers"),
        (HEADER + "0,1,2,3,4,5,nan\n", "line 2: not a row of finite numbers"),
        (HEADER + "0,1,inf,3,4,5,6\n", "line 2: not a row of finite numbers"),
    ],
    ids=["empty", "other columns", "a column short", "no rows", "words", "short row", "nan", "inf"],
)
def test_a_table_that_names_no_routes(tmp_path, village, text, message):
    path = tmp_path / "routes.csv"
    path.write_text(text)
    with pytest.raises(RouteError, match=f"routes.csv.*{message}"):
        read_routes(village, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<routes><route", "is not XML"),
        ("<routes/>", "holds no routes of Village, but of no town"),
        (
            '<routes><route id="1" town="Town02"/><route id="2" town="Town01"/></routes>',
            "holds no routes of Village, but of Town01, Town02",
        ),
        (
            '<routes><route id="7" town="Village"><waypoint x="1" y="2"/></route></routes>',
            "route 7: a waypoint needs .*yaw",
        ),
        (
            '<routes><route id="7" town="Village"><waypoint x="1" y="2" yaw="east"/></route></routes>',
            "route 7: a waypoint needs the numbers x, y, yaw",
        ),
        (
            '<routes><route id="7" town="Village"><waypoint x="1" y="2" yaw="0"/></route></routes>',
            "route 7: a route needs two waypoints",
        ),
        (
            '<routes><route id="7" town="Village"><waypoint x="1" y="2" yaw="0"/>'
            '<waypoint x="nan" y="2" yaw="0"/></route></routes>',
            "route 7: a route needs two waypoints with finite numbers",
        ),
    ],
    ids=["no xml", "no route", "another town", "no yaw", "words", "one waypoint", "nan"],
)
def test_a_tree_that_names_no_routes(tmp_path, village, text, message):
    path = tmp_path / "routes.xml"
    path.write_text(text)
    with pytest.raises(RouteError, match=f"routes.xml.*{message}"):
        read_routes(village, path)


def test_a_route_file_that_is_not_there_or_not_text(tmp_path, village, monkeypatch):
    with pytest.raises(RouteError, match="no route file lost.csv; pass its path, or set MENTORGYM_ROUTES"):
        DrivingVectorEnv(**QUICK, routes="lost.csv")
    with pytest.raises(RouteError, match="no route file lll"):
        DrivingVectorEnv(**QUICK, routes="l" * 5000)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RouteError, match="binary.csv cannot be read"):
        read_routes(village, tmp_path / "binary.csv")
    monkeypatch.setenv("MENTORGYM_ROUTES", str(tmp_path))
    assert find_routes("binary.csv") == tmp_path / "binary.csv"


# Arguments


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("traffic", "regulr", r"unknown traffic 'regulr': did you mean 'regular'\?"),
        ("traffic", "rush hour", "unknown traffic 'rush hour': Valid are 'empty', .*'busy', 'train'"),
        ("traffic", "heavy", "unknown traffic 'heavy': Valid are 'empty'"),
        ("traffic", "DENSE", r"unknown traffic 'DENSE': did you mean 'dense'\?"),
        ("traffic", (1000, 0), "Suburb has room for 0 to [0-9]+ vehicles .*not .1000, 0"),
        ("traffic", (-1, 5), "Suburb has room for 0 .*not .-1, 5"),
        ("traffic", (5, -1), "Suburb has room for 0 .*not .5, -1"),
        ("traffic", (1, 2, 3), r"traffic=\(1, 2, 3\) is neither a level's name nor a pair of whole numbers"),
        ("traffic", 20, "traffic=20 is neither a level's name nor a pair"),
        ("traffic", ("many", "few"), "is neither a level's name nor a pair"),
        ("weather", "ClearNon", r"unknown weather 'ClearNon': did you mean 'ClearNoon'\?"),
        ("weather", "trian", r"did you mean 'train'\?"),
        ("split", "tset", r"unknown split='tset': did you mean 'test'\? Valid are 'train', 'test'"),
        ("ends", "foundrl", r"unknown ends='foundrl': did you mean 'found-rl'\?"),
        ("observation", "mask", r"unknown observation='mask': did you mean 'masks'\? Valid are 'masks', 'state'"),
        ("reward", "found_rl", r"unknown reward='found_rl': did you mean 'found-rl'\?"),
        ("render_mode", "video", "unknown render_mode='video': Valid are None, 'rgb_array', 'human'"),
        ("render_mode", "ansi", "unknown render_mode='ansi': Valid are None, 'rgb_array', 'human'"),
        ("soft_reset", 1.5, "soft_reset=1.5: a probability is between 0 and 1"),
        ("soft_reset", "often", "soft_reset='often': a probability is between 0 and 1"),
        ("traffic", (2.7, 3), "is neither a level's name nor a pair of whole numbers"),
        ("traffic", (float("inf"), 3), "is neither a level's name nor a pair of whole numbers"),
        ("weather", ["ClearNoon"], "unknown weather"),
        ("town", 3, "town=3: give a name or a path, or several"),
        ("town", (), r"town=\(\): give a name or a path, or several"),
        ("town", ("Suburb", None), "give a name or a path, or several"),
        ("town", ("Suburb", "Suburb"), "name each town once"),
        ("town", ("Suburb", "Vilage"), "unknown town 'Vilage'"),
        ("weather", "dynamic_", "unknown weather 'dynamic_': give the speed as in 'dynamic_2.5'"),
        ("weather", "dynamic_fast", "unknown weather 'dynamic_fast': give the speed as in 'dynamic_2.5'"),
        ("weather", "dynamic_-1", "unknown weather 'dynamic_-1'"),
        ("weather", "dynamic_inf", "unknown weather 'dynamic_inf'"),
        ("weather", "dynamc", r"unknown weather 'dynamc': did you mean 'dynamic'\?"),
        ("routes", 3, "routes=3: give a name or a path"),
        ("num_envs", 1.5, "num_envs=1.5: give a whole number, at least 1"),
        ("soft_reset", float("nan"), "soft_reset=nan: a probability is between 0 and 1"),
        ("num_envs", 0, "num_envs=0: give a whole number, at least 1"),
        ("autoreset_mode", "next_step", r"unknown autoreset_mode='next_step': did you mean 'NextStep'\?"),
        ("autoreset_mode", None, "unknown autoreset_mode=None: Valid are 'NextStep', 'SameStep', 'Disabled'"),
        ("carla", "localhost:2000", "carla='localhost:2000': .* reserved .* leave the argument out"),
    ],
)
def test_an_argument_that_is_not_valid(argument, value, message):
    with pytest.raises(ValueError, match=message):
        DrivingVectorEnv(**{argument: value})


@pytest.mark.parametrize(
    ("argument", "nearest"),
    [("weathr", "weather"), ("trafic", "traffic"), ("soft_resets", "soft_reset"), ("rewards", "reward")],
)
def test_an_argument_that_does_not_exist_names_the_nearest_one(argument, nearest):
    for kind in (DrivingEnv, DrivingVectorEnv, LeaderboardEnv, LeaderboardVectorEnv):
        message = rf"^{kind.__name__}.__init__\(\) got an unexpected keyword argument '{argument}': "
        with pytest.raises(TypeError, match=message + rf"did you mean '{nearest}'\?") as raised:
            kind(**{argument: 1})
        assert "'carla'" in str(raised.value)


# Actions


def test_nan_actions_are_refused_and_change_nothing(envs):
    before = envs.get_state()
    with pytest.raises(ValueError, match=r"actions of the rows \[1\] are NaN: check the policy"):
        envs.step(np.array([[0.0, 0.0], [0.0, np.nan]]))
    after = envs.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 3), (2, 2, 1), ()])
def test_actions_of_another_shape_are_refused(envs, shape):
    with pytest.raises(ValueError, match=re.escape(f"actions have shape {shape}, not (2, 2)")):
        envs.step(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(1, 2), (3,), ()])
def test_an_action_of_another_shape_is_refused(shape):
    env = DrivingEnv(**QUICK)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=re.escape(f"the action has shape {shape}, not (2,)")):
        env.step(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("wild", "tame"),
    [((3.0, -7.0), (1.0, -1.0)), ((np.inf, -np.inf), (1.0, -1.0)), ((-1e30, 1.0001), (-1.0, 1.0))],
)
def test_actions_out_of_range_are_clipped(envs, wild, tame):
    frozen = envs.get_state()
    results = []
    for action in (wild, tame):
        envs.set_state(frozen)
        observation, rewards, *_ = envs.step(np.array([action, action], np.float32))
        results.append((observation, rewards))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    envs.set_state(frozen)


def test_a_step_before_the_first_reset_is_refused():
    for env, action in ((DrivingEnv(**QUICK), np.zeros(2)), (DrivingVectorEnv(2, **QUICK), np.zeros((2, 2)))):
        with pytest.raises(gym.error.ResetNeeded, match="call reset first"):
            env.step(action)


# Options, seeds, states and rewards


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rout": 3}, r"unknown option 'rout': did you mean 'route'\?"),
        ({"route": 25}, r"options\['route'\]=.*: Village has routes 0 to 24"),
        ({"route": -1}, "Village has routes 0 to 24"),
        ({"reset_mask": [1, 0]}, r"options\['reset_mask'\] must be a bool array of shape \(2,\), not int64"),
        ({"reset_mask": np.ones(3, bool)}, r"must be a bool array of shape \(2,\), not bool \(3,\)"),
    ],
)
def test_options_that_are_not_valid(tested, options, message):
    before = tested.get_state()
    with pytest.raises(ValueError, match=message):
        tested.reset(options=options)
    after = tested.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("route", [2.7, "3", [1, 2, 3]])
def test_a_route_that_is_no_whole_number_per_world(tested, route):
    with pytest.raises(ValueError, match="route"):
        tested.reset(options={"route": route})


def test_a_route_where_none_is_taken(envs):
    with pytest.raises(ValueError, match=r"options\['route'\] picks a test route: make .* with split='test'"):
        envs.reset(options={"route": 3})


def test_as_many_seeds_as_worlds(envs):
    with pytest.raises(ValueError, match="3 seeds for 2 rows: give one per row, or a single one"):
        envs.reset(seed=[1, 2, 3])


@pytest.mark.parametrize("seeds", [[1, -2], [1.7, 2], ["a", 2]])
def test_seeds_are_whole_numbers(envs, seeds):
    with pytest.raises(ValueError, match="a seed is a whole number from 0 on, or None"):
        envs.reset(seed=seeds)


def test_soft_resets_are_for_training():
    with pytest.raises(ValueError, match="soft_reset is for training"):
        DrivingVectorEnv(split="test", soft_reset=0.5, **QUICK)


def test_what_belongs_to_a_batch_is_refused_by_the_single_environment():
    with pytest.raises(
        TypeError, match="keyword argument 'num_envs': it belongs to a batch: make one with gym.make_vec"
    ):
        DrivingEnv(num_envs=2, **QUICK)
    with pytest.raises(ValueError, match="unknown option 'reset_mask': it belongs to a batch"):
        DrivingEnv(**QUICK).reset(options={"reset_mask": np.array([False])})


def test_a_file_for_several_towns_says_which_a_route_is_in(tmp_path):
    with pytest.raises(ValueError, match="only a leaderboard XML says which town a route is in; give one town"):
        LeaderboardVectorEnv(town=("Village", "Suburb"), routes=str(tmp_path / "mine.csv"))


def test_a_town_without_leaderboard_routes(tmp_path):
    path = write_map(tmp_path / "Road.xodr", one_road(length=200.0))
    with pytest.raises(ValueError, match="Road has no test routes of its own: name a file of them"):
        LeaderboardVectorEnv(town=str(path), traffic="empty", split="test")


def test_a_state_of_another_split_or_other_ends(envs, tested):
    for other in (tested, DrivingVectorEnv(2, ends="leaderboard", **QUICK)):
        with pytest.raises(ValueError, match="the saved state is of another split, other ends or other towns"):
            envs.set_state(other.get_state())


def test_a_state_of_another_batch(envs):
    before = envs.get_state()
    three, busier = DrivingVectorEnv(3, **QUICK), DrivingVectorEnv(2, **QUICK | {"traffic": (4, 4)})
    three.reset(seed=0)
    busier.reset(seed=0)
    for other in (three, busier):
        with pytest.raises(ValueError, match="the saved .* has shape .*, this environment's .*: same id"):
            envs.set_state(other.get_state())
        after = envs.get_state()
        assert all(np.array_equal(before[name], after[name]) for name in before), "a refused state leaves no trace"
    del before["world.tick"]
    with pytest.raises(ValueError, match="the saved state lacks 'world.tick': was it made by get_state"):
        envs.set_state(before)


@pytest.mark.parametrize(
    "reward",
    [lambda world, episode: 1.0, lambda world, episode: np.zeros(3), lambda world, episode: np.full(2, np.nan)],
    ids=["a number", "another shape", "nan"],
)
def test_a_reward_function_that_returns_something_else(reward):
    envs = DrivingVectorEnv(2, **QUICK, reward=reward)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"the reward function must return \(2,\) finite numbers, it returned"):
        envs.step(np.zeros((2, 2)))
