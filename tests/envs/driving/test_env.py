"""`CarlaNoCrash-v0` as Gymnasium's users meet it: ids, batches, freezes, splits and arguments."""

import copy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import mentorgym.envs.driving
from mentorgym.envs.driving import DrivingEnv, DrivingVectorEnv, load_town
from mentorgym.envs.driving.batch import STEP_INFOS
from mentorgym.envs.driving.frames import from_carla
from mentorgym.envs.driving.map.town import find_map
from mentorgym.envs.driving.task import tasks
from mentorgym.envs.driving.task.tasks import TRAFFIC, WEATHER_GROUPS, WEATHERS
from mentorgym.envs.driving.view.window import load_pygame
from mentorgym.envs.driving.worlds.state import CAR, ROUTE_CAPACITY, WALKER

ID = "CarlaNoCrash-v0"
STEPS = 60
TOWNS = ("Suburb", "Village")


def same(a, b) -> bool:
    """Whether two nested observations or infos hold the same values of the same types."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return b.dtype == object and len(a) == len(b) and all(map(same, a, b))
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def careless_actions(num_envs: int, steps: int = STEPS, seed: int = 3) -> np.ndarray:
    """Every third world drives off the road at full throttle, every third dithers, the rest drive straight on."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, num_envs, 2)).astype(np.float32)
    actions[:, 0::3] = 1.0, 0.6
    actions[:, 2::3] = 0.7, 0.0
    return actions


def run(envs: DrivingVectorEnv, actions: np.ndarray) -> list:
    return [envs.step(each) for each in actions]


def pose(env: DrivingEnv | DrivingVectorEnv, row: int = 0) -> np.ndarray:
    return env.get_state()["world.vehicle_pose"][row, 0]


@pytest.fixture(scope="module")
def single() -> DrivingEnv:
    return gym.make(ID).unwrapped


# Gymnasium's interface


# The state vector holds speeds and accelerations, which have no natural bounds.
@pytest.mark.filterwarnings("ignore:.*A Box observation space m..imum value is:UserWarning")
def test_gymnasiums_own_checks_pass():
    check_env(gym.make(ID, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("make_id", [str, "mentorgym:{}".format, gym.spec], ids=["bare", "prefixed", "spec"])
def test_every_spelling_of_the_id_makes_the_same_environment(make_id, single):
    env = gym.make(make_id(ID), town="Suburb")
    assert type(env.unwrapped) is DrivingEnv
    assert same(env.reset(seed=5)[0], single.reset(seed=5)[0])
    envs = gym.make_vec(make_id(ID), num_envs=2)
    assert type(envs.unwrapped) is DrivingVectorEnv


def test_the_spec_makes_the_environment_again_with_its_arguments():
    spec = gym.make(ID, town="Village", traffic=(3, 4), observation="state").spec
    env = gym.make(copy.deepcopy(spec))
    assert env.observation_space == gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)
    assert env.unwrapped.vector.town.name == "Village"


def test_worker_processes_that_import_nothing_make_it_by_its_prefixed_id():
    arguments = dict(town="Village", traffic=(5, 5))
    workers = gym.make_vec(f"mentorgym:{ID}", 2, "async", vector_kwargs={"context": "spawn"}, **arguments)
    try:
        native = gym.make_vec(ID, 2, **arguments)
        assert same(workers.reset(seed=8)[0], native.reset(seed=8)[0])
        for actions in careless_actions(2, steps=5):
            ours, theirs = native.step(actions), workers.step(actions)
            assert same(ours[0], theirs[0])
            assert same(ours[1:4], theirs[1:4])
    finally:
        workers.close()


def test_spaces():
    envs = gym.make_vec(ID, num_envs=3)
    assert envs.single_observation_space == gym.spaces.Dict(
        bev=gym.spaces.Box(0, 255, (15, 96, 96), np.uint8), state=gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)
    )
    assert envs.single_action_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    assert envs.observation_space.contains(envs.reset(seed=1)[0])
    assert envs.observation_space.contains(envs.step(envs.action_space.sample())[0])
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


# Batches


@pytest.mark.parametrize("num_envs", [1, 7, 64])
def test_a_batch_is_the_single_environments_side_by_side(num_envs):
    """Row i under seed s is the environment under seed s + i, bit for bit, over ends and resets, infos included."""
    arguments = dict(town="Village", traffic="dense")
    batch = gym.make_vec(ID, num_envs, **arguments)
    singles = SyncVectorEnv([lambda: gym.make(ID, **arguments)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    assert same(batch.reset(seed=11), singles.reset(seed=11))
    ends = np.zeros(num_envs, int)
    for actions in careless_actions(num_envs):
        *ours, our_infos = batch.step(actions)
        *theirs, their_infos = singles.step(actions)
        assert all(map(same, ours, theirs))
        ended = ours[2] | ours[3]
        ends += ended
        # SyncVectorEnv says nothing about the last step of an ended row beside its final_info; the batch repeats it.
        for name in STEP_INFOS:
            if ended.any():
                assert np.array_equal(our_infos[name][ended], our_infos["final_info"][name][ended])
            running = our_infos.pop(name)[~ended]
            assert our_infos.pop(f"_{name}").all()
            if not ended.all():
                assert np.array_equal(their_infos.pop(f"_{name}"), ~ended)
                assert same(running, their_infos.pop(name)[~ended])
        assert same(our_infos, their_infos)
    assert ends[0] >= 2
    assert num_envs == 1 or (ends > 0).sum() < num_envs


def test_the_end_of_an_episode_is_told_beside_the_first_observation_of_the_next():
    envs = gym.make_vec(ID, num_envs=3)
    envs.reset(seed=0)
    for actions in careless_actions(3):
        observation, _, terminated, truncated, infos = envs.step(actions)
        if terminated[0]:
            break
    assert terminated.tolist() == [True, False, False]
    assert not truncated.any()
    assert infos["final_obs"].dtype == object
    assert infos["_final_obs"].tolist() == [True, False, False]
    assert infos["final_obs"][1] is None
    assert envs.single_observation_space.contains(infos["final_obs"][0])
    assert not same(infos["final_obs"][0]["bev"], observation["bev"][0])
    score = infos["final_info"]["score"]
    assert score["end"][0] in ("collision", "pixel collision", "lateral deviation")
    assert score["steps"][0] == score["seconds"][0] * 10 > 1
    assert score["_end"].tolist() == [True, False, False]
    # What a reset would return: the ego at rest.
    assert observation["state"][0, 5:7].tolist() == [0.0, 0.0]
    assert envs.get_state()["episode.steps"][0] == 0


def test_without_autoreset_ended_worlds_rest_until_they_are_reset_by_mask():
    envs = gym.make_vec(ID, num_envs=3, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    for actions in careless_actions(3):
        observation, _, terminated, _, infos = envs.step(actions)
        if terminated[0]:
            break
    assert terminated.tolist() == [True, False, False]
    assert "final_obs" not in infos
    assert infos["score"]["end"][0] in ("collision", "pixel collision", "lateral deviation")
    assert infos["_score"].tolist() == [True, False, False]
    last = observation
    observation, rewards, terminated, truncated, _ = envs.step(actions)
    assert same(observation["state"][0], last["state"][0])
    assert not same(observation["state"][1], last["state"][1])
    assert rewards[0] == 0.0
    assert not terminated.any()
    assert not truncated.any()
    last = observation
    before = envs.get_state()
    observation, infos = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert infos == {}
    for name in observation:
        assert not same(observation[name][0], last[name][0])
        assert same(observation[name][1:], last[name][1:])
    after = envs.get_state()
    assert after["episodes"].tolist() == [2, 1, 1]
    assert all(np.array_equal(after[name][1:], before[name][1:]) for name in after)
    assert "score" not in envs.step(actions)[4]


@pytest.mark.parametrize("observation", ["masks", "state"])
def test_without_copies_an_observation_outlives_one_step(observation):
    envs = gym.make_vec(ID, num_envs=2, observation=observation, copy=False)
    copies = gym.make_vec(ID, num_envs=2, observation=observation)
    ours, theirs = [envs.reset(seed=4)[0]], [copies.reset(seed=4)[0]]
    for actions in careless_actions(2, steps=3):
        ours.append(envs.step(actions)[0])
        theirs.append(copies.step(actions)[0])
        assert same(ours[-2:], theirs[-2:])
    assert not same(ours[0], theirs[0])


@pytest.mark.parametrize("observation", ["masks", "state"])
def test_next_step_autoreset_is_gymnasiums(observation):
    """Row i is the environment in Gymnasium's own vector environment, over ends and resets, infos included."""
    arguments = dict(town="Village", traffic="regular", observation=observation)
    batch = gym.make_vec(ID, 3, autoreset_mode=AutoresetMode.NEXT_STEP, **arguments)
    singles = SyncVectorEnv([lambda: gym.make(ID, **arguments)] * 3, autoreset_mode="NextStep")
    assert same(batch.reset(seed=2), singles.reset(seed=2))
    due = np.zeros(3, bool)
    for step, actions in enumerate(careless_actions(3)):
        # The action of a row that is reset is ignored, whatever it is.
        *ours, our_infos = batch.step(np.where(due[:, None], np.nan, actions))
        *theirs, their_infos = singles.step(actions)
        assert all(map(same, ours, theirs))
        for name in STEP_INFOS:
            assert np.array_equal(our_infos[f"_{name}"], ~due)
            running = our_infos.pop(name)[~due]
            assert our_infos.pop(f"_{name}").any() == (f"_{name}" in their_infos)
            if not due.all():
                assert np.array_equal(their_infos.pop(f"_{name}"), ~due)
                assert same(running, their_infos.pop(name)[~due])
        assert same(our_infos, their_infos)
        assert not ours[1][due].any() and not (ours[2] | ours[3])[due].any()
        if step == 40:
            # What is due to be reset is part of the state.
            other = gym.make_vec(ID, 3, autoreset_mode="NextStep", **arguments)
            other.set_state(batch.get_state())
            frozen, following = batch.get_state(), careless_actions(3, 5, seed=7)
            expected = run(batch, following)
            assert same(run(other, following), expected)
            batch.set_state(frozen)
        due = ours[2] | ours[3]


# Seeds and freezes


def test_one_seed_is_one_sequence_of_episodes():
    envs = gym.make_vec(ID, num_envs=3)
    actions = careless_actions(3)
    first = (envs.reset(seed=21)[0], run(envs, actions))
    again = (envs.reset(seed=21)[0], run(envs, actions))
    other = gym.make_vec(ID, num_envs=3)
    assert all(map(same, first[1], again[1]))
    assert same(first[0], again[0])
    assert same(first[0], other.reset(seed=[21, 22, 23])[0])
    assert not same(first[0], envs.reset(seed=22)[0])


def test_without_a_seed_episodes_go_on_and_differ_between_environments():
    one, two = (gym.make(ID, observation="state").unwrapped for _ in range(2))
    keys = set()
    for env in (one, one, two, two):
        env.reset()
        keys.add(int(env.get_state()["keys"][0]))
    assert len(keys) == 4


def test_a_world_keeps_its_sequence_when_only_the_others_are_seeded():
    envs = gym.make_vec(ID, num_envs=2)
    envs.reset(seed=[5, 6])
    second = pose(envs, 1).copy()
    envs.reset(seed=[7, None])
    third = pose(envs, 1).copy()
    envs.reset(seed=[None, 6])
    assert np.array_equal(pose(envs, 1), second)
    envs.reset(seed=[None, None])
    assert np.array_equal(pose(envs, 1), third)
    assert not np.array_equal(second, third)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_frozen_batch_goes_on_as_if_nothing_had_happened(split):
    arguments = dict(num_envs=4, town="Village", traffic="dense", split=split)
    if split == "train":
        arguments["soft_reset"] = 0.5
    envs = gym.make_vec(ID, **arguments)
    envs.reset(seed=2)
    actions = careless_actions(4)
    run(envs, actions[:20])
    frozen = envs.get_state()
    kept = {name: array.copy() for name, array in frozen.items()}
    here = run(envs, actions)
    assert any(step[2].any() for step in here)
    assert same(frozen, kept)

    elsewhere = gym.make_vec(ID, **arguments)
    elsewhere.reset(seed=77)
    for other in (envs, elsewhere):
        observation = other.set_state(frozen)
        assert other.observation_space.contains(observation)
        assert all(map(same, run(other, actions), here))


def test_a_restored_observation_is_the_one_of_the_frozen_instant(single):
    single.reset(seed=9)
    for action in careless_actions(1, steps=5)[:, 0]:
        observation = single.step(action)[0]
    frozen = single.get_state()
    single.step(action)
    assert same(single.set_state(frozen), observation)


# Arguments


def test_driving_without_drawing_is_the_same_driving():
    masks, state = (gym.make_vec(ID, num_envs=7, observation=name) for name in ("masks", "state"))
    assert state.observation_space == masks.observation_space["state"]
    assert same(masks.reset(seed=1)[0]["state"], state.reset(seed=1)[0])
    for actions in careless_actions(7):
        seen, *with_masks = masks.step(actions)
        alone, *without = state.step(actions)
        assert same(seen["state"], alone)
        assert all(map(same, with_masks[:3], without[:3]))
        assert same(with_masks[3].get("final_info"), without[3].get("final_info"))
        for row in np.flatnonzero(with_masks[3].get("_final_obs", [])):
            assert same(with_masks[3]["final_obs"][row]["state"], without[3]["final_obs"][row])


def test_a_reward_of_ones_own_replaces_the_reward_alone():
    def speed(world, episode):
        return np.hypot(*world.vehicle_velocity[:, 0].T)

    plain, own = gym.make_vec(ID, num_envs=7), gym.make_vec(ID, num_envs=7, reward=speed)
    assert same(plain.reset(seed=1)[0], own.reset(seed=1)[0])
    returns = np.zeros(7)
    for actions in careless_actions(7):
        expected, _, *ends, _ = plain.step(actions)
        observation, rewards, *own_ends, infos = own.step(actions)
        assert same(observation, expected)
        assert all(map(same, ends, own_ends))
        running = ~(ends[0] | ends[1])
        velocity = own.get_state()["world.vehicle_velocity"][:, 0]
        np.testing.assert_array_equal(rewards[running], np.hypot(*velocity[running].T).astype(np.float64))
        returns += rewards
        for row in np.flatnonzero(~running):
            assert infos["final_info"]["score"]["return"][row] == pytest.approx(returns[row])
            returns[row] = 0.0
    assert rewards.dtype == np.float64


def test_the_reward_is_the_sum_of_its_terms():
    envs = gym.make_vec(ID, num_envs=7)
    envs.reset(seed=6)
    for actions in careless_actions(7):
        _, rewards, terminated, truncated, infos = envs.step(actions)
        np.testing.assert_allclose(rewards, infos["reward_terms"].sum(1), atol=1e-6)
        terminal = infos["reward_terms"][:, 4]
        assert ((terminal <= -1.0) == terminated).all()
        assert not truncated.any()


def traffic_of(env: DrivingEnv) -> dict[str, np.ndarray]:
    state = env.get_state()
    return {
        name: array[0, 1:] if name.startswith("world.vehicle") else array[0]
        for name, array in state.items()
        if name.startswith(("world.vehicle", "world.walker", "world.light", "world.tick", "world.weather"))
    }


def test_a_crash_costs_its_speed():
    envs = gym.make_vec(ID, num_envs=32, town="Village", traffic=(120, 0), observation="state")
    observation, _ = envs.reset(seed=0)
    crashes = []
    for _ in range(60):
        speed = np.hypot(*observation[:, 4:6].T)
        # Straight on, as fast as it goes.
        observation, _, _, _, infos = envs.step(np.tile(np.float32([1.0, 0.0]), (32, 1)))
        for row in np.flatnonzero(infos.get("_final_info", np.zeros(32, bool))):
            if infos["final_info"]["score"]["end"][row] == "collision":
                crashes.append((speed[row], infos["final_info"]["reward_terms"][row, 4]))
    before, terminal = np.array(crashes).T
    assert len(crashes) >= 5
    assert before.max() > 6.0
    assert terminal == pytest.approx(-1.0 - before, abs=0.6)


def test_a_soft_reset_moves_the_ego_and_leaves_the_traffic_where_it_is():
    soft = gym.make(ID, soft_reset=1.0, observation="state").unwrapped
    hard = gym.make(ID, soft_reset=0.0, observation="state").unwrapped
    for env in (soft, hard):
        env.reset(seed=1)
        for _ in range(30):
            env.step(env.expert_action())
    before, start = traffic_of(soft), pose(soft).copy()
    assert same(before, traffic_of(hard))
    soft.reset()
    assert same(traffic_of(soft), before)
    assert before["world.tick"] == 30
    state = soft.get_state()
    assert not np.array_equal(pose(soft), start)
    assert not state["world.vehicle_velocity"][0, 0].any()
    for others in (state["world.vehicle_pose"][0, 1:, :2], state["world.walker_pose"][0, :, :2]):
        assert np.hypot(*(others - pose(soft)[:2]).T).min() >= 12.0
    hard.reset()
    assert traffic_of(hard)["world.tick"] == 0
    assert not same(traffic_of(hard)["world.vehicle_pose"], before["world.vehicle_pose"])


def test_a_share_of_the_resets_is_soft():
    env = gym.make(ID, soft_reset=0.3, observation="state", traffic="empty").unwrapped
    env.reset(seed=1)
    ticks = []
    for _ in range(200):
        env.step(np.zeros(2, np.float32))
        env.reset()
        ticks.append(env.get_state()["world.tick"][0] > 0)
    assert 0.2 < np.mean(ticks) < 0.4


@pytest.mark.parametrize(
    ("town", "level", "vehicles", "walkers"),
    [
        ("Suburb", "empty", 0, 0),
        ("Suburb", "regular", 20, 50),
        ("Suburb", "dense", 100, 250),
        ("Suburb", "busy", 120, 120),
        ("Suburb", (353, 0), 353, 0),
        ("Village", "regular", 15, 50),
        ("Village", "dense", 70, 150),
        ("Village", "busy", 70, 70),
        ("Village", (3, 7), 3, 7),
        ("Village", (141, 0), 141, 0),
    ],
)
def test_as_many_actors_as_the_level_says(town, level, vehicles, walkers):
    envs = gym.make_vec(ID, num_envs=3, town=town, traffic=level, observation="state")
    envs.reset(seed=0)
    state = envs.get_state()
    assert ((state["world.vehicle_kind"][:, 1:] == CAR).sum(1) == vehicles).all()
    assert ((state["world.walker_kind"] == WALKER).sum(1) == walkers).all()
    ids = np.concatenate([state["world.vehicle_id"][0, : vehicles + 1], state["world.walker_id"][0, :walkers]])
    assert len(np.unique(ids)) == vehicles + 1 + walkers


@pytest.mark.parametrize("weather", [*WEATHER_GROUPS, "MidRainSunset"])
def test_episodes_draw_every_weather_of_their_group_and_no_other(weather):
    env = gym.make(ID, weather=weather, traffic="empty", observation="state").unwrapped
    env.reset(seed=3)
    seen = set()
    for _ in range(150):
        env.reset()
        seen.add(WEATHERS[env.get_state()["world.weather"][0]])
    assert seen == set(WEATHER_GROUPS.get(weather, (weather,)))


def test_the_levels_have_the_published_names():
    assert list(TRAFFIC) == ["empty", "regular", "dense", "busy"]
    assert WEATHER_GROUPS["train"] == ("ClearNoon", "WetNoon", "HardRainNoon", "ClearSunset")
    assert WEATHER_GROUPS["new"] == ("SoftRainSunset", "WetSunset")
    assert len(set(WEATHERS)) == 14


# The test split


@pytest.mark.parametrize("town", TOWNS)
def test_a_test_enumerates_the_fixed_routes(town):
    env = gym.make(ID, town=town, split="test", traffic="empty", observation="state").unwrapped
    world = env.vector
    assert world.num_routes == 25
    starts = []
    for number in range(26):
        env.reset(seed=4 if number == 0 else None)
        route = world.routes[number % 25].waypoints
        assert np.array_equal(pose(env), world.town.tables.waypoint_pose[route[0]])
        state = env.get_state()
        assert state["episode.route_length"][0] == len(route)
        assert np.array_equal(state["episode.route"][0, : len(route)], route)
        starts.append(tuple(pose(env)))
    assert starts[25] == starts[0]
    assert len(set(starts)) > 15
    env.reset(options={"route": 7})
    assert np.array_equal(pose(env), world.town.tables.waypoint_pose[world.routes[7].waypoints[0]])


def test_each_world_of_a_batch_may_be_given_its_route():
    envs = gym.make_vec(ID, num_envs=3, split="test", traffic="empty", observation="state")
    lengths = np.array([len(route.waypoints) for route in envs.routes])
    envs.reset(seed=0, options={"route": np.array([4, 0, 24])})
    assert envs.get_state()["episode.route_length"].tolist() == lengths[[4, 0, 24]].tolist()
    mask = np.array([False, True, False])
    envs.reset(options={"route": [9, 9, 9], "reset_mask": mask})
    assert envs.get_state()["episode.route_length"].tolist() == lengths[[4, 9, 24]].tolist()


@pytest.mark.parametrize("ends", ["found-rl", "leaderboard"])
def test_the_expert_completes_a_test_route(ends):
    env = gym.make(ID, town="Village", split="test", traffic="empty", observation="state", ends=ends).unwrapped
    shortest = int(np.argmin([len(route.waypoints) for route in env.vector.routes]))
    env.reset(seed=0, options={"route": shortest})
    completion, ended = [0.0], False
    while not ended:
        _, _, ended, truncated, info = env.step(env.expert_action())
        assert not truncated
        completion.append(info["route_completion"])
    assert (np.diff(completion) >= 0).all()
    assert completion[-1] >= 0.99
    score = info["score"]
    assert score["end"] == "completed"
    assert score["success"]
    assert score["strict_success"]
    assert (score["route_completion"], score["driving_score"], score["infraction_penalty"]) == (1.0, 1.0, 1.0)
    assert score["steps"] == len(completion) - 1


def test_a_test_that_takes_too_long_is_truncated():
    env = gym.make(ID, town="Village", split="test", traffic="empty", observation="state", ends="leaderboard").unwrapped
    # A short route, whose time is up before the 180 s after which a standing car counts as blocked.
    shortest = min(range(env.vector.num_routes), key=lambda k: len(env.vector.routes[k].waypoints))
    env.reset(seed=0, options={"route": shortest})
    route = env.vector.routes[shortest].waypoints
    length = float(np.hypot(*np.diff(env.vector.town.tables.waypoint_pose[route, :2], axis=0).T).sum())
    truncated = False
    while not truncated:
        *_, terminated, truncated, info = env.step(np.array([-1.0, 0.0], np.float32))
        assert not terminated
    assert info["score"]["end"] == "timeout"
    assert info["score"]["seconds"] == pytest.approx(0.8 * length + 5.0, abs=0.11)
    assert not info["score"]["success"]


# Training routes


def drawn_legs(town, pairs: np.ndarray, starts: list[int], draws: int) -> set[tuple[int, int]]:
    """(start lane, goal lane) of `draws` legs from each of these waypoints."""
    out = np.empty(ROUTE_CAPACITY, np.int32)
    lane = town.tables.waypoint_lane
    legs = set()
    for start in starts:
        for moment in range(draws):
            here = np.int32(start)
            length = tasks.extend_endless(town.tables, 0, np.uint64(99), moment, here, here, pairs, out)
            if length:
                legs.add((int(lane[start]), int(lane[out[length - 1]])))
    return legs


@pytest.mark.parametrize("name", TOWNS)
def test_training_draws_no_leg_that_a_test_route_connects(name):
    town = load_town(name)
    routes = tasks.packaged_routes(town, find_map(town.name))
    lane = town.tables.waypoint_lane
    pairs = tasks.lane_pairs(routes, town.tables)
    assert pairs.tolist() == sorted([lane[route.waypoints[0]], lane[route.waypoints[-1]]] for route in routes)
    forbidden = {tuple(pair) for pair in pairs.tolist()}
    starts = [int(route.waypoints[0]) for route in routes]
    assert drawn_legs(town, np.zeros((0, 2), np.int32), starts, 60) & forbidden
    legs = drawn_legs(town, pairs, starts, 60)
    assert len(legs) > 200
    assert not legs & forbidden


@pytest.mark.parametrize("name", TOWNS)
def test_no_training_route_joins_the_lanes_of_a_test_route(name):
    envs = DrivingVectorEnv(num_envs=8, town=name, traffic="empty", observation="state")
    lane = envs.town.tables.waypoint_lane
    forbidden = {(lane[route.waypoints[0]], lane[route.waypoints[-1]]) for route in envs.routes}
    drawn = set()
    for _ in range(60):
        envs.reset(seed=None)
        state = envs.get_state()
        ends = state["episode.route_length"] - 1
        drawn |= set(zip(lane[state["episode.route"][:, 0]], lane[state["episode.route"][range(8), ends]], strict=True))
    assert len(drawn) > 200
    assert not drawn & forbidden


def test_a_training_route_begins_at_the_ego_is_long_and_never_breaks():
    envs = gym.make_vec(ID, num_envs=32, traffic="empty", observation="state")
    envs.reset(seed=0)
    tables = envs.town.tables
    state = envs.get_state()
    for row in range(32):
        route = state["episode.route"][row, : state["episode.route_length"][row]]
        steps = np.hypot(*np.diff(tables.waypoint_pose[route, :2], axis=0).T)
        assert steps.sum() >= 950
        assert steps.max() < 2.5
        assert np.array_equal(state["world.vehicle_pose"][row, 0], tables.waypoint_pose[route[0]])


def test_a_training_route_is_extended_before_its_end():
    env = gym.make(ID, town="Village", traffic="empty", observation="state").unwrapped
    env.reset(seed=1)
    frozen = env.get_state()
    length = int(frozen["episode.route_length"][0])
    for _ in range(4000):
        *_, terminated, truncated, _ = env.step(env.expert_action())
        assert not (terminated or truncated)
        state = env.get_state()
        if state["episode.route_length"][0] > length:
            break
    route = state["episode.route"][0, : state["episode.route_length"][0]]
    assert np.array_equal(route[:length], frozen["episode.route"][0, :length])
    steps = np.hypot(*np.diff(env.vector.town.tables.waypoint_pose[route, :2], axis=0).T)
    assert steps.max() < 2.5
    assert state["episode.route_index"][0] < length
    assert state["episode.route_total"][0] == pytest.approx(steps.sum(), rel=1e-3)


# Pictures


def test_render_is_the_picture_of_each_world(single):
    envs = gym.make_vec(ID, num_envs=2, render_mode="rgb_array")
    envs.reset(seed=3)
    frames = envs.render()
    assert [frame.shape for frame in frames] == [(192, 192, 3)] * 2
    assert same(frames[1], envs.picture(1))
    assert not same(frames[0], frames[1])
    single.reset(seed=4)
    assert same(single.picture(), frames[1])
    assert single.render() is None
    assert single.prompt_context() == envs.prompt_context(1)


def test_the_expert_of_a_batch_is_each_worlds_own(single):
    envs = gym.make_vec(ID, num_envs=3)
    envs.reset(seed=3)
    actions = envs.expert_actions()
    assert actions.shape == (3, 2)
    assert actions.dtype == np.float32
    assert (np.abs(actions) <= 1).all()
    single.reset(seed=4)
    assert same(single.expert_action(), actions[1])


def test_the_first_route_starts_where_its_file_says():
    env = gym.make(ID, split="test", traffic="empty", observation="state").unwrapped
    env.reset(seed=0)
    town = env.vector.town
    path = Path(mentorgym.envs.driving.__file__).parent / "map" / "towns" / f"nocrash_{town.name}.csv"
    x, y, yaw = from_carla(*map(float, path.read_text("utf-8").splitlines()[1].split(",")[1:4]))
    assert np.hypot(*(pose(env)[:2] + town.origin - (x, y))) < 1.0
    assert np.cos(pose(env)[3] - yaw) > 0.99


@pytest.mark.parametrize("batch", [False, True])
def test_a_window_shows_the_first_world_until_the_environment_is_closed(monkeypatch, batch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = load_pygame()
    make = gym.make_vec if batch else gym.make
    env = make(ID, **({"num_envs": 2} if batch else {}), render_mode="human")
    driving = env.unwrapped
    env.reset(seed=1)
    for _ in range(2):
        env.step(np.zeros(env.action_space.shape, np.float32))
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert np.array_equal(shown[::3, ::3], driving.picture(0) if batch else driving.picture())
        assert env.render() is None
    env.close()
    assert not pygame.display.get_init()


def test_a_window_changes_nothing_that_is_driven(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    results = []
    for mode in (None, "human"):
        env = gym.make(ID, render_mode=mode, observation="state")
        env.reset(seed=3)
        results.append([env.step(np.float32([1, 0.1]))[1] for _ in range(3)])
        env.close()
    assert results[0] == results[1]
