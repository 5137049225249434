"""`CarlaLeaderboard-BEV-v0`: several towns in one batch, drawn traffic, fixed routes, and weather that changes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import mentorgym  # noqa: F401 - registers the id
from mentorgym.envs.driving import DrivingVectorEnv, LeaderboardVectorEnv, load_town
from mentorgym.envs.driving.map.town import packaged_towns
from mentorgym.envs.driving.task import write_routes
from mentorgym.envs.driving.task.tasks import LEADERBOARD, NOCRASH, WEATHERS, change_weather, traffic_range
from mentorgym.envs.driving.worlds.state import CAR, WALKER

ID = "CarlaLeaderboard-BEV-v0"
TWO = ("Village", "City")


def test_training_drives_in_the_four_towns_at_once():
    envs = gym.make_vec(ID, num_envs=6, traffic="empty", observation="state")
    assert [town.name for town in envs.towns] == ["Suburb", "City", "Ring", "Avenue"]
    envs.reset(seed=4)
    state = envs.get_state()
    assert state["world.town"].tolist() == [0, 1, 2, 3, 0, 1]
    tables = envs._tables
    for row, town in enumerate(state["world.town"]):
        route = state["episode.route"][row, : state["episode.route_length"][row]]
        assert (tables.lane_town[tables.waypoint_lane[route]] == town).all()
        assert len(route) >= 900
    envs.reset()
    assert envs.get_state()["world.town"].tolist() == [1, 2, 3, 0, 1, 2]


def test_a_world_among_towns_is_the_environment_of_its_seed():
    arguments = dict(town=TWO, traffic=(8, 8))
    envs, env = gym.make_vec(ID, num_envs=3, **arguments), gym.make(ID, **arguments).unwrapped
    together, alone = envs.reset(seed=5)[0], env.reset(seed=7)[0]
    for step in range(60):
        for name, array in alone.items():
            np.testing.assert_array_equal(together[name][2], array)
        action = np.array([0.5, 0.3 * np.sin(step / 5)], np.float32)
        together, alone = envs.step(np.tile(action, (3, 1)))[0], env.step(action)[0]


def test_traffic_is_drawn_anew_for_each_training_episode_in_its_towns_range():
    envs = LeaderboardVectorEnv(4, town=TWO, observation="state")
    counts = {0: [], 1: []}
    for seed in range(8):
        envs.reset(seed=10 * seed)
        state = envs.get_state()
        for row, town in enumerate(state["world.town"]):
            cars = (state["world.vehicle_kind"][row, 1:] == CAR).sum()
            counts[int(town)].append((cars, (state["world.walker_kind"][row] == WALKER).sum()))
    for town, drawn in counts.items():
        ranges = traffic_range("train", load_town(TWO[town]), benchmark=LEADERBOARD)
        assert len(set(drawn)) > 8
        for (fewest, most), numbers in zip(ranges, np.transpose(drawn), strict=True):
            assert fewest <= numbers.min() <= fewest + 0.4 * (most - fewest)
            assert most >= numbers.max() >= most - 0.4 * (most - fewest)


def test_counts_are_scaled_to_the_lanes_of_towns_of_another_size():
    assert traffic_range("train", load_town("Suburb"), benchmark=LEADERBOARD) == ((80, 160), (80, 160))
    assert traffic_range("train", load_town("Suburb"), benchmark=NOCRASH) == ((0, 150), (0, 200))
    ring = load_town("Ring")
    share = float(ring.tables.lane_length.sum()) / 33_700
    (vehicles, _), (walkers, _) = traffic_range("busy", ring)
    assert vehicles == pytest.approx(150 * share, abs=0.5) and walkers == pytest.approx(80 * share, abs=0.5)


def test_tests_enumerate_the_routes_of_all_towns():
    envs = LeaderboardVectorEnv(2, split="test", traffic="empty", observation="state")
    counts = {name: sum(count for count, _ in sets) for name, sets in write_routes.LEADERBOARD.items()}
    assert [town.name for town in envs.towns] == list(LEADERBOARD.test_towns)
    assert envs.num_routes == sum(counts.values()) == 76
    tables = envs._tables
    towns = [int(tables.lane_town[tables.waypoint_lane[route.waypoints[0]]]) for route in envs.routes]
    assert towns == [k for k, name in enumerate(LEADERBOARD.test_towns) for _ in range(counts[name])]
    envs.reset(seed=0, options={"route": np.array([9, 10])})
    assert envs.get_state()["world.town"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="Suburb . Village . City .* has routes 0 to 75"):
        envs.reset(options={"route": 76})


def test_a_fixed_route_is_the_same_in_its_town_alone():
    alone = LeaderboardVectorEnv(1, town="Village", split="test", traffic=(5, 5), observation="state")
    among = LeaderboardVectorEnv(1, town=("City", "Village"), split="test", traffic=(5, 5), observation="state")
    alone.reset(seed=3, options={"route": 2})
    among.reset(seed=3, options={"route": 22})
    for _ in range(50):
        one, other = alone.step(alone.expert_actions()), among.step(among.expert_actions())
        np.testing.assert_array_equal(one[0], other[0])


def test_no_training_route_joins_the_lanes_of_a_leaderboard_route():
    envs = LeaderboardVectorEnv(8, town="Village", traffic="empty", observation="state")
    lane = envs.town.tables.waypoint_lane
    forbidden = {(lane[route.waypoints[0]], lane[route.waypoints[-1]]) for route in envs.routes}
    assert len(forbidden) == 6
    for _ in range(30):
        envs.reset(seed=None)
        state = envs.get_state()
        ends = state["episode.route_length"] - 1
        drawn = set(zip(lane[state["episode.route"][:, 0]], lane[state["episode.route"][range(8), ends]], strict=True))
        assert not drawn & forbidden


def test_each_town_has_as_many_routes_as_long_as_those_it_stands_for():
    for name, sets in write_routes.LEADERBOARD.items():
        envs = LeaderboardVectorEnv(1, town=name, split="test", traffic="empty", observation="state")
        tables, first = envs.town.tables, 0
        for count, quantiles in sets:
            lengths = []
            for route in envs.routes[first : first + count]:
                assert len(set(route.waypoints.tolist())) == len(route.waypoints)
                pose = tables.waypoint_pose[route.waypoints, :2].astype(float)
                lengths.append(np.hypot(*np.diff(pose, axis=0).T).sum())
            quartiles = np.percentile(lengths, (25, 50, 75))
            np.testing.assert_allclose(quartiles, quantiles[1:4], rtol=0.3)
            first += count


@pytest.mark.slow
@pytest.mark.parametrize("town", LEADERBOARD.test_towns)
def test_the_expert_drives_the_leaderboard(town):
    envs = gym.make_vec(
        ID, num_envs=10, town=town, split="test", observation="state", autoreset_mode=AutoresetMode.DISABLED
    )
    envs.reset(seed=0, options={"route": np.arange(10) % envs.num_routes})
    done, scores = np.zeros(10, bool), np.zeros(10)
    while not done.all():
        *_, terminated, truncated, infos = envs.step(envs.expert_actions())
        ended = (terminated | truncated) & ~done
        if ended.any():
            scores[ended] = infos["score"]["driving_score"][ended]
            done |= ended
    assert scores.mean() >= 0.7


# Weather


def labels(speed: float, seconds: int, worlds: int = 64) -> np.ndarray:
    """The weather of worlds at every second, uint8 [seconds, worlds]."""
    keys, weather = np.arange(worlds, dtype=np.uint64), np.zeros(worlds, np.uint8)
    seen = []
    for second in range(seconds):
        change_weather(keys, np.full(worlds, 10 * second, np.int32), speed, 0, worlds, weather)
        seen.append(weather.copy())
    return np.array(seen)


def test_dynamic_weather_goes_through_every_preset_in_a_storms_order():
    seen = labels(1.0, 1200)
    assert set(seen.ravel()) == set(range(len(WEATHERS)))
    kinds = ("Clear", "Cloudy", "Wet", "WetCloudy", "SoftRain", "MidRain", "HardRain")
    after = {kind: set() for kind in kinds}
    for before, now in zip(seen[:-1].ravel() % 7, seen[1:].ravel() % 7, strict=True):
        if before != now:
            after[kinds[before]].add(kinds[now])
    assert after == {
        "Clear": {"Cloudy"},
        "Cloudy": {"SoftRain"},
        "SoftRain": {"MidRain", "WetCloudy"},
        "MidRain": {"HardRain", "SoftRain"},
        "HardRain": {"MidRain"},
        "WetCloudy": {"Wet"},
        "Wet": {"Clear"},
    }
    # A storm takes 700 / 1.3 s, the sun 2 pi / 0.008 s.
    period = round(700 / 1.3)
    assert ((seen[:-period] % 7) == (seen[period:] % 7)).mean() > 0.98


def test_a_faster_weather_is_the_same_one_sooner():
    np.testing.assert_array_equal(labels(2.0, 100), labels(1.0, 200)[::2])


@pytest.mark.parametrize("weather", ["dynamic", "dynamic_20"])
def test_an_episode_under_changing_weather(weather):
    envs = DrivingVectorEnv(16, town="Village", traffic="empty", observation="state", weather=weather, split="test")
    envs.reset(seed=1)
    before = envs.get_state()["world.weather"]
    assert len(set(before.tolist())) > 3
    for _ in range(100):
        envs.step(np.zeros((16, 2)))
    after = envs.get_state()["world.weather"]
    assert (before != after).any() == (weather == "dynamic_20") or (before != after).sum() <= 4


def test_training_for_one_benchmark_keeps_off_the_routes_of_both():
    driving = DrivingVectorEnv(town="Suburb", traffic="empty", observation="state")
    leaderboard = LeaderboardVectorEnv(town="Suburb", traffic="empty", observation="state")
    assert np.array_equal(driving._test_pairs, leaderboard._test_pairs)
    assert len(driving._test_pairs) > 30


def test_a_town_of_ours_named_by_its_path_keeps_its_routes(tmp_path, monkeypatch):
    town = packaged_towns()["Village"]
    monkeypatch.chdir(town.parent.parent)
    named = DrivingVectorEnv(town="towns/Village.xodr", traffic="empty", observation="state")
    assert named.num_routes == 25
    assert np.array_equal(named._test_pairs, DrivingVectorEnv(town="Village", observation="state")._test_pairs)


def test_a_saved_state_of_the_same_towns_in_another_order_is_refused():
    one, other = (
        LeaderboardVectorEnv(num_envs=2, town=towns, traffic="empty", observation="state")
        for towns in (("Suburb", "Village"), ("Village", "Suburb"))
    )
    one.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(ValueError, match="other towns"):
        other.set_state(one.get_state())
