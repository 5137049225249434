"""Several egos in one world, as PettingZoo's users meet them."""

import sys
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest

from mentorgym.envs.driving import DrivingEnv, parallel_env
from mentorgym.envs.driving.parallel import DrivingParallelEnv
from mentorgym.envs.driving.view.window import load_pygame
from mentorgym.envs.driving.worlds.state import CAR, EMPTY
from tests.envs.driving.test_env import same

QUICK = dict(town="Village", traffic=(15, 30))
AHEAD_NOW = 6
"""The channel of the vehicles as they are."""


def poses(env: DrivingParallelEnv) -> np.ndarray:
    return env.get_state()["world.vehicle_pose"][0]


def careless(env: DrivingParallelEnv, step: int) -> dict[str, np.ndarray]:
    """`ego_0` leaves the road at full throttle, the others do as the expert would."""
    actions = env.expert_actions()
    if "ego_0" in actions:
        actions["ego_0"] = np.float32([1.0, 0.6])
    return actions


def wild(env: DrivingParallelEnv, step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    every = rng.uniform([0.0, -1.0], 1.0, (env.num_egos, 2)).astype(np.float32)
    return {name: every[env.possible_agents.index(name)] for name in env.agents}


def drive(env: DrivingParallelEnv, driver: Callable, steps: int) -> list:
    taken = []
    for step in range(steps):
        if not env.agents:
            break
        taken.append((*env.step(driver(env, step)), list(env.agents)))
    return taken


def pair_on_a_lane(gap: float = 12.0, **arguments) -> DrivingParallelEnv:
    """Two egos on an empty road and one route, the second one `gap` metres straight ahead of the first."""
    env = parallel_env(2, **QUICK | {"traffic": "empty"} | arguments)
    env.reset(seed=0)
    state = env.get_state()
    x, y, z, yaw = state["world.vehicle_pose"][0, 0]
    state["world.vehicle_pose"][0, 1] = x + gap * np.cos(yaw), y + gap * np.sin(yaw), z, yaw
    for name, array in state.items():
        if name.startswith("episode."):
            array[1] = array[0]
    env.set_state(state)
    return env


# PettingZoo's interface


# Its test package imports one of its own games by a deprecated name.
@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
def test_pettingzoos_own_checks_pass(monkeypatch):
    from pettingzoo.test import parallel_api_test, parallel_seed_test, render_test
    from pettingzoo.utils import parallel_to_aec

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    parallel_api_test(parallel_env(3, **QUICK), num_cycles=150)
    parallel_seed_test(lambda: parallel_env(3, **QUICK), num_cycles=50)
    render_test(lambda **arguments: parallel_to_aec(parallel_env(3, **QUICK, **arguments)))


def test_every_ego_has_spaces_of_its_own():
    env = parallel_env(3, **QUICK)
    single = gym.make("CarlaNoCrash-v0", **QUICK)
    assert env.possible_agents == ["ego_0", "ego_1", "ego_2"]
    for agent in env.possible_agents:
        assert env.observation_space(agent) == single.observation_space
        assert env.action_space(agent) == single.action_space
    observations, infos = env.reset(seed=2)
    assert infos == {agent: {} for agent in env.possible_agents}
    for agent, observation in observations.items():
        assert env.observation_space(agent).contains(observation)
    assert not same(observations["ego_0"], observations["ego_1"])


def test_one_ego_is_the_single_environment():
    many, single = parallel_env(1, **QUICK), DrivingEnv(**QUICK)
    for seed in (3, None, None):
        observation = many.reset(seed=seed)[0]["ego_0"]
        assert same(observation, single.reset(seed=seed)[0])
        while many.agents:
            ours = many.step({"ego_0": np.float32([0.9, 0.02])})
            theirs = single.step(np.float32([0.9, 0.02]))
            assert ours[4]["ego_0"].pop("score", None) == theirs[4].pop("score", None)
            assert all(same(one["ego_0"], other) for one, other in zip(ours, theirs, strict=True))
        assert theirs[2]


def test_the_first_ego_starts_where_the_single_environment_does():
    many, single = parallel_env(4, **QUICK), DrivingEnv(**QUICK)
    many.reset(seed=8)
    single.reset(seed=8)
    route = many.get_state()["episode.route"]
    assert np.array_equal(poses(many)[0], single.get_state()["world.vehicle_pose"][0, 0])
    assert np.array_equal(route[0], single.get_state()["episode.route"][0])
    assert len({tuple(row[:200]) for row in route}) == 4


# The start


@pytest.mark.parametrize("arguments", [QUICK, QUICK | {"split": "test"}, QUICK | {"soft_reset": 1.0}])
def test_egos_start_apart_from_each_other_and_from_the_traffic(arguments):
    env = parallel_env(6, observation="state", **arguments)
    env.reset(seed=0)
    for _ in range(40):
        place = poses(env)[:, :2]
        kind = env.get_state()["world.vehicle_kind"][0]
        assert (kind[:6] == CAR).all()
        between = np.hypot(*(place[:6, None] - place[None, kind == CAR]).transpose(2, 0, 1))
        between[np.arange(6), np.arange(6)] = np.inf
        assert between[:, :6].min() >= 12.0
        assert between.min() >= 10.0
        env.step(env.expert_actions())
        env.reset()


def test_a_crowded_town_still_has_a_place_for_every_ego():
    env = parallel_env(9, observation="state", town="Village", traffic="empty")
    for seed in range(10):
        env.reset(seed=seed)
        place = poses(env)[:, :2]
        between = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1)) + 100 * np.eye(9)
        assert between.min() >= 12.0


def test_the_test_split_gives_each_ego_a_fixed_route():
    env = parallel_env(3, split="test", observation="state", **QUICK)
    starts = [route.waypoints[0] for route in env.routes]
    for _ in range(9):
        env.reset(seed=None)
        first = env.get_state()["episode.route"][:, 0]
        assert len({starts.index(start) for start in first}) == 3
    env.reset(options={"route": [4, 0, 9]})
    assert env.get_state()["episode.route"][:, 0].tolist() == [starts[4], starts[0], starts[9]]
    with pytest.raises(ValueError, match="3 egos need test routes .* 12 m apart: choose other numbers"):
        env.reset(options={"route": 4})


# One leaves, the others drive on


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_ego_that_ends_leaves_the_road(split):
    env = parallel_env(3, split=split, **QUICK)
    env.reset(seed=4)
    for step in range(100):
        before = env.get_state()["world.vehicle_kind"][0, :3]
        assert (before == CAR).all()
        observations, rewards, terminated, truncated, infos = env.step(careless(env, step))
        if terminated["ego_0"]:
            break
    assert env.agents == ["ego_1", "ego_2"]
    assert list(observations) == list(rewards) == list(infos) == list(truncated) == env.possible_agents
    assert infos["ego_0"]["score"]["end"] in ("lateral deviation", "collision", "pixel collision")
    assert infos["ego_0"]["score"]["steps"] == step + 1
    assert rewards["ego_0"] < 0
    assert "score" not in infos["ego_1"]
    for _ in range(50):
        state = env.get_state()
        assert state["world.vehicle_kind"][0, :3].tolist() == [EMPTY, CAR, CAR]
        assert np.abs(state["world.vehicle_pose"][0, 0, :2]).min() > 1e5
        step_of = dict(zip(env.possible_agents, state["episode.steps"], strict=True))
        observations, *_ = env.step(env.expert_actions())
        assert list(observations) == ["ego_1", "ego_2"]
        assert step_of["ego_0"] == step + 1
    env.reset()
    assert env.agents == env.possible_agents
    assert (env.get_state()["world.vehicle_kind"][0, :3] == CAR).all()


def test_when_the_last_ego_has_ended_a_reset_is_needed():
    env = parallel_env(2, **QUICK)
    with pytest.raises(gym.error.ResetNeeded, match="call reset first"):
        env.step({})
    env.reset(seed=1)
    drive(env, wild, 500)
    assert env.agents == []
    with pytest.raises(gym.error.ResetNeeded, match="call reset first"):
        env.step({})


def test_egos_see_and_hit_each_other():
    env = pair_on_a_lane(ends="leaderboard")
    stand, full = np.float32([-1.0, 0.0]), np.float32([1.0, 0.0])
    observations, *_ = env.step({"ego_0": stand, "ego_1": stand})
    # 5 px/m at 192 pixels, halved: 12 m ahead of row 76 is row 46.
    assert observations["ego_0"]["bev"][AHEAD_NOW, 44:49, 46:50].all()
    assert not observations["ego_0"]["bev"][AHEAD_NOW, 56:].any()
    # From the front car the other one, 8 m and more behind, is out of the window.
    assert not observations["ego_1"]["bev"][AHEAD_NOW].any()
    for _ in range(100):
        observations, rewards, terminated, _, infos = env.step({"ego_0": full, "ego_1": stand})
        if env.get_state()["episode.vehicle_collisions"][0]:
            break
    assert env.get_state()["episode.vehicle_collisions"].tolist()[0] == 1
    gap = np.hypot(*(poses(env)[0] - poses(env)[1])[:2])
    assert 4.0 < gap < 6.5


def test_a_car_that_has_left_is_in_nobodys_way():
    env = pair_on_a_lane(gap=8.0)
    stand, full = np.float32([-1.0, 0.0]), np.float32([1.0, 0.0])
    state = env.get_state()
    state["episode.standing"][1] = 90.0
    env.set_state(state)
    observations, _, terminated, _, infos = env.step({"ego_0": stand, "ego_1": stand})
    assert terminated == {"ego_0": False, "ego_1": True}
    assert infos["ego_1"]["score"]["end"] == "blocked"
    assert observations["ego_0"]["bev"][AHEAD_NOW].any()
    assert env.get_state()["episode.vehicle_hazard"][0] == pytest.approx(8.0, abs=0.01)
    for _ in range(30):
        observations, *_ = env.step({"ego_0": full})
        assert not observations["ego_0"]["bev"][AHEAD_NOW].any()
    state = env.get_state()
    assert state["episode.vehicle_hazard"][0] == np.inf
    assert state["episode.vehicle_collisions"][0] == 0
    assert state["episode.route_done"][0] > 8.0


def test_what_one_ego_does_changes_nothing_for_those_far_from_it():
    one, other = (parallel_env(2, observation="state", town="Village", traffic="empty") for _ in range(2))
    for env in (one, other):
        env.reset(seed=3)
    for _ in range(15):
        actions = one.expert_actions()
        ours = one.step(actions)
        theirs = other.step(actions | {"ego_0": np.float32([1.0, 0.1])})
        assert same(ours[0]["ego_1"], theirs[0]["ego_1"])
        assert ours[1]["ego_1"] == theirs[1]["ego_1"]


# Rewards, pictures, freezes


def test_rewards_and_ends_are_each_egos_own():
    env = parallel_env(4, **QUICK)
    env.reset(seed=5)
    ends = {}
    for observations, rewards, terminated, _, infos, agents in drive(env, wild, 400):
        for name in observations:
            assert rewards[name] == pytest.approx(infos[name]["reward_terms"].sum(), abs=1e-6)
            assert (infos[name]["reward_terms"][4] <= -1.0) == terminated[name] == ("score" in infos[name])
            assert (name in agents) != terminated[name]
            if terminated[name]:
                ends[name] = infos[name]["score"]["steps"]
    assert sorted(ends) == env.possible_agents
    assert len(set(ends.values())) > 1


def test_a_reward_of_ones_own_has_a_number_for_each_ego():
    env = parallel_env(3, reward=lambda world, episode: np.arange(3.0), **QUICK)
    env.reset(seed=0)
    rewards = env.step(env.expert_actions())[1]
    assert rewards == {"ego_0": 0.0, "ego_1": 1.0, "ego_2": 2.0}


def test_the_picture_shows_the_egos_side_by_side():
    env = parallel_env(3, render_mode="rgb_array", **QUICK)
    env.reset(seed=4)
    frame = env.render()
    assert frame.shape == (192, 3 * 192, 3)
    assert same(frame[:, 192:384], env.picture(1))
    while "ego_0" in env.agents:
        env.step(careless(env, 0))
    frame = env.render()
    assert not frame[:, :192].any()
    assert same(frame[:, 384:], env.picture(2))
    assert parallel_env(1, **QUICK).render() is None


def test_a_window_shows_the_egos_side_by_side(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = load_pygame()
    env, seen = parallel_env(3, render_mode="human", **QUICK), parallel_env(3, render_mode="rgb_array", **QUICK)
    seen.reset(seed=4)
    env.reset(seed=4)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert same(shown[::2, ::2], seen.render())
    assert env.render() is None
    env.close()
    assert not pygame.display.get_init()


def test_a_frozen_world_goes_on_with_the_egos_that_were_left():
    env = parallel_env(3, **QUICK)
    env.reset(seed=4)
    while "ego_0" in env.agents:
        last = env.step(careless(env, 0))
    frozen = env.get_state()
    here = drive(env, wild, 300)
    assert env.agents == []
    other = parallel_env(3, **QUICK)
    observations = other.set_state(frozen)
    assert other.agents == ["ego_1", "ego_2"]
    assert same(observations["ego_1"], last[0]["ego_1"])
    assert all(map(same, drive(other, wild, 300), here))


# Bad input


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"ego_0": [0, 0]}, "actions are for ego_0, those who drive are ego_0, ego_1"),
        ({}, "actions are for nobody, those who drive are ego_0, ego_1"),
        ({"ego_0": [0, 0], "ego_1": [0, 0], "ego_2": [0, 0]}, "actions are for ego_0, ego_1, ego_2, those who drive"),
        ({"ego_0": [0, 0], "ego_1": [0, np.nan]}, "the action of ego_1 is NaN: check the policy"),
        ({"ego_0": [0, 0, 0], "ego_1": [0, 0]}, r"the action of ego_0 has shape \(3,\), not \(2,\)"),
    ],
)
def test_actions_that_do_not_fit_change_nothing(actions, message):
    env = parallel_env(2, **QUICK)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.step({name: np.asarray(action, np.float32) for name, action in actions.items()})
    assert same(env.get_state(), before)


@pytest.mark.parametrize("count", [0, -1, 2.5, "two"])
def test_a_number_of_egos_that_is_none(count):
    with pytest.raises(ValueError, match="num_egos=.*: give a whole number, at least 1"):
        parallel_env(count)


def test_more_egos_than_the_town_has_room_for():
    with pytest.raises(ValueError, match="Village has no room for 500 egos, but for 9 at most"):
        parallel_env(500, town="Village", traffic="empty")
    with pytest.raises(ValueError, match="23 egos need test routes .* 12 m apart: there are too few"):
        parallel_env(23, town="Suburb", traffic="empty", split="test").reset(seed=0)


def test_an_unknown_argument_names_the_nearest_one():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'num_ego': did you mean 'num_egos'\?"):
        parallel_env(num_ego=3)


def test_without_pettingzoo_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "mentorgym.envs.driving.parallel")
    with pytest.raises(ImportError, match=r"several egos need PettingZoo: pip install .*\[multi\]'"):
        from mentorgym.envs.driving import parallel_env  # noqa: F401
