"""`UnitySpatial-v0`, single and vector: what a move does, what is drawn, and what is refused."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.envs.spatial import world
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.env import SpatialEnv
from mentorgym.envs.spatial.objects import NAMES, OBJECTS
from mentorgym.envs.spatial.rooms import ROOMS, TESTING, TRAINING
from mentorgym.envs.spatial.vector import SpatialVectorEnv
from tests.envs.spatial.solid_reference import part_of, parts_of, share_a_point

UNSURE = 0.004
"""Metres by which solids are shrunk before the reference is asked whether they overlap."""


def actions_of(steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 3))


def same(one: Arrangement, other: Arrangement) -> bool:
    alike = (one.room, one.camera, one.objects) == (other.room, other.camera, other.objects)
    return alike and np.array_equal(one.positions, other.positions) and np.array_equal(one.yaws, other.yaws)


def stands(arrangement: Arrangement, place: int) -> bool:
    """Whether the whole base of an object lies on a surface."""
    x, y, z = arrangement.positions[place]
    base = OBJECTS[arrangement.objects[place]].profile[0][1]
    for surface in ROOMS[arrangement.room].surfaces:
        dx, dy = x - surface.centre[0], y - surface.centre[1]
        if surface.round:
            inside = np.hypot(dx, dy) + base <= surface.size[0] / 2 + 1e-9
        else:
            inside = abs(dx) + base <= surface.size[0] / 2 + 1e-9 and abs(dy) + base <= surface.size[1] / 2 + 1e-9
        if inside and abs(z - surface.centre[2]) < 1e-9:
            return True
    return False


def in_picture(arrangement: Arrangement) -> bool:
    """Whether the middles of all objects are in the picture."""
    camera = arrangement.camera
    ahead, right, down = camera.axes() @ (arrangement.centres - camera.position).T
    return bool((ahead > 0).all() and (np.maximum(abs(right), abs(down)) < ahead * np.tan(camera.field / 2)).all())


def check(arrangement: Arrangement) -> None:
    """All that holds of what a valid move, or a reset, leaves."""
    assert len(set(arrangement.objects)) == 3 and (np.abs(arrangement.yaws) <= np.pi).all()
    solids = [parts_of(*each) for each in zip(*_things(arrangement), strict=True)]
    furniture = [part_of(piece) for piece in ROOMS[arrangement.room].pieces]
    walls = np.array(ROOMS[arrangement.room].size[:2]) / 2
    for place in range(3):
        assert stands(arrangement, place)
        assert (np.abs(arrangement.positions[place, :2]) < walls).all()
        assert not share_a_point(solids[place], furniture, -UNSURE)
        assert not any(share_a_point(solids[place], other, -UNSURE) for other in solids[:place])


def _things(arrangement: Arrangement) -> tuple:
    return arrangement.objects, arrangement.positions, arrangement.yaws


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_single_environment_passes_gymnasiums_check_by_its_id(split: str, sketched: list):
    env = gym.make("UnitySpatial-v0", split=split)
    check_env(env.unwrapped)
    assert isinstance(env.unwrapped, SpatialEnv) and sketched, "pictures are part of the check"


@pytest.mark.filterwarnings("error")
def test_the_id_makes_native_batches():
    envs = gym.make_vec("UnitySpatial-v0", num_envs=3, split="test", steps=2)
    assert isinstance(envs.unwrapped, SpatialVectorEnv)
    observation, _ = envs.reset(seed=4)
    np.testing.assert_array_equal(observation[2], SpatialEnv(split="test").reset(seed=6)[0])
    for actions in actions_of(3, 3):
        observation, *_ = envs.step(actions.astype(np.float32))
        assert observation in envs.observation_space
    envs.close()


def test_states_alone_load_none_of_what_pictures_models_and_unity_need():
    heavy = "{'PIL', 'embreex', 'grpc', 'mlagents_envs', 'numba', 'torch', 'transformers', 'trimesh'}"
    code = f"""
import sys
from mentorgym.envs.spatial import SpatialVectorEnv
envs = SpatialVectorEnv(2)
envs.reset(seed=0)
envs.step(envs.action_space.sample())
print(*sorted({heavy} & sys.modules.keys()))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_spaces_hold_what_comes():
    for split in ("train", "test"):
        for camera in ("close", "paper"):
            envs = SpatialVectorEnv(64, split=split, camera=camera, steps=12)
            space = envs.single_observation_space
            assert space.shape == (32,) and space.dtype == np.float32 and np.isfinite([space.low, space.high]).all()
            observation, infos = envs.reset(seed=0)
            assert observation in envs.observation_space and infos["valid"].all() and (infos["moved"] == -1).all()
            for actions in actions_of(25, 64):
                observation, rewards, terminated, truncated, infos = envs.step(actions)
                assert observation in envs.observation_space and not terminated.any()
                np.testing.assert_array_equal(rewards, np.where(infos["valid"], 1, -1))
                assert set(infos["reason"]) <= set(world.REASONS)
                np.testing.assert_array_equal(infos["reason"] == "", infos["valid"])


def test_an_observation_tells_what_stands_where_the_moved_one_first():
    envs = SpatialVectorEnv(32, camera="paper")
    observation, _ = envs.reset(seed=4)
    for step, actions in enumerate(actions_of(8, 32)):
        for row in range(32):
            now, told = envs.observed(row), observation[row]
            turn = step % 3
            order = [turn, (turn + 1) % 3, (turn + 2) % 3]
            assert (int(told[0]), list(ROOMS)[int(told[1])]) == (now.objects[turn], now.room)
            things = told[8:26].reshape(3, 6)
            np.testing.assert_array_equal(things[:, :3], now.positions[order].astype(np.float32))
            np.testing.assert_array_equal(things[:, 5], now.yaws[order].astype(np.float32))
            assert not things[:, 3:5].any()
            np.testing.assert_allclose(told[26:], (*now.camera.position, 0, now.camera.pitch, now.camera.yaw), 1e-6)
            (surface,) = [
                each
                for each in ROOMS[now.room].surfaces
                if np.allclose(each.centre, told[5:8], atol=1e-6) and np.allclose(each.size, told[2:4])
            ]
            away = np.abs(np.subtract(now.positions[turn], surface.centre))
            assert (away[:2] <= np.array(surface.size) / 2).all() and away[2] < 1e-9
            assert 0.2 < told[4] <= ROOMS[now.room].size[2]
        observation, *_ = envs.step(actions)


@settings(max_examples=10)
@given(st.integers(0, 1 << 40), st.sampled_from(["train", "val", "test"]), st.sampled_from(["close", "paper"]))
def test_what_is_left_is_possible_and_an_invalid_move_changes_nothing(seed: int, split: str, camera: str):
    env = SpatialEnv(split=split, camera=camera, block=100)
    env.reset(seed=seed)
    before = env.arrangement()
    check(before)
    assert before.room in (TESTING if split == "test" else TRAINING) and in_picture(before)
    assert before.camera in ROOMS[before.room].cameras[camera]
    for step, action in enumerate(actions_of(9, 1, seed)[:, 0]):
        _, reward, _, _, info = env.step(action)
        after = env.arrangement()
        assert info["moved"] == step % 3
        others = [place for place in range(3) if place != info["moved"]]
        np.testing.assert_array_equal(after.positions[others], before.positions[others])
        if info["valid"]:
            moved = after.positions[info["moved"]] - before.positions[info["moved"]]
            np.testing.assert_allclose(moved[:2], 0.28 * action[:2], rtol=0, atol=1e-12)
            assert abs(moved[2] - 0.28 * action[2]) <= world.REACH + 1e-9
            assert np.linalg.norm(moved) >= world.LEAST_MOVE
            check(after)
            assert in_picture(after)
        else:
            assert same(after, before)
        before = after


def test_a_row_is_the_single_environment_whatever_stands_beside_it():
    few, many = SpatialVectorEnv(3, steps=7, block=3), SpatialVectorEnv(40, steps=7, block=3)
    actions = actions_of(20, 40)
    for envs in (few, many):
        envs.reset(seed=11)
    for step in actions:
        one, other = few.step(step[:3]), many.step(step)
        for a, b in zip(one[:4], other[:4], strict=True):
            np.testing.assert_array_equal(a, b[:3])
        assert all(same(few.arrangement(row), many.arrangement(row)) for row in range(3))
    env = SpatialEnv(steps=7, block=3)
    again = SpatialVectorEnv(3, steps=7, block=3)
    again.reset(seed=11)
    observation, _ = env.reset(seed=13)
    for step in actions[:, 2]:
        alone = env.step(step)
        batch = again.step(np.stack([step] * 3))
        if alone[3]:
            np.testing.assert_array_equal(alone[0], batch[4]["final_obs"][2])
            np.testing.assert_array_equal(env.reset()[0], batch[0][2])
        else:
            np.testing.assert_array_equal(alone[0], batch[0][2])
        assert alone[1] == batch[1][2] and alone[4]["reason"] == batch[4]["reason"][2]


def test_seeds_splits_and_episodes_differ():
    def first(seed: int, **arguments) -> bytes:
        return SpatialVectorEnv(4, **arguments).reset(seed=seed)[0].tobytes()

    assert first(0) == first(0) != first(4)
    assert len({first(0, split=split) for split in ("train", "val", "test")}) == 3
    envs = SpatialVectorEnv(4)
    one, other, third = envs.reset(seed=0)[0], envs.reset()[0], envs.reset()[0]
    assert (one != other).any(1).all() and (other != third).any(1).all()
    np.testing.assert_array_equal(envs.reset(seed=0)[0], one)
    np.testing.assert_array_equal(envs.reset(seed=[5, None, 3, 7])[0][0], envs.reset(seed=[5, 0, 0, 0])[0][0])
    assert len({row.tobytes() for row in SpatialVectorEnv(500).reset(seed=0)[0]}) == 500


def test_draws_are_those_of_splitmix64():
    # The first three numbers of its C version (Vigna) with the seed 1234567.
    told = world._mixed(np.full(3, 1234567, np.uint64), np.arange(1, 4, dtype=np.uint64))
    assert told.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_blocks_and_episodes_end_when_they_should():
    envs = SpatialVectorEnv(6, steps=10, block=4)
    envs.reset(seed=2)
    for step, actions in enumerate(actions_of(24, 6), 1):
        left = [envs.observed(row) for row in range(6)]
        observation, _, _, truncated, infos = envs.step(actions)
        assert truncated.all() == truncated.any() == (step % 10 == 0)
        assert ("final_obs" in infos) == truncated.any()
        fresh = step % 10 in (0, 4, 8)
        for row in range(6):
            # What the move left is shown even where the room has been drawn anew.
            now = envs.arrangement(row)
            assert (now.room, now.camera, now.objects) == (left[row].room, left[row].camera, left[row].objects)
            assert same(now, envs.observed(row)) != fresh
        if truncated.any():
            assert infos["final_obs"].shape == (6, 32) and infos["final_obs"].dtype == np.float32
            assert (infos["final_obs"] != observation).any(1).all()
            np.testing.assert_array_equal(infos["final_info"]["valid"], infos["valid"])
    assert len({envs.observed(row).room for row in range(6)}) > 1


def test_all_rooms_objects_surfaces_and_cameras_come_up():
    for camera in ("close", "paper"):
        for split, names in (("train", TRAINING), ("test", TESTING)):
            envs = SpatialVectorEnv(1000, split=split, camera=camera)
            envs.reset(seed=0)
            drawn = [envs.arrangement(row) for row in range(1000)]
            assert {each.room for each in drawn} == set(names)
            assert {name for each in drawn for name in each.names} == set(NAMES)
            for name in names:
                room = [each for each in drawn if each.room == name]
                assert {each.camera.position for each in room} == {
                    each.position for each in ROOMS[name].cameras[camera]
                }
                heights = {height for each in room for height in each.positions[:, 2]}
                assert heights <= {surface.centre[2] for surface in ROOMS[name].surfaces} and len(heights) > 2


@pytest.mark.parametrize("arguments", [{}, {"in_view": False}, {"camera": "paper"}], ids=["close", "anywhere", "paper"])
def test_about_half_of_random_moves_are_valid(arguments: dict):
    envs = SpatialVectorEnv(512, **arguments)
    envs.reset(seed=0)
    valid = [envs.step(actions)[4]["valid"].mean() for actions in actions_of(30, 512)]
    assert 0.45 < np.mean(valid) < 0.55


def placed(objects, positions, yaws=(0.0, 0.0, 0.0), room="bedroom", in_view=False) -> world.World:
    """A world with one row in which this stands."""
    made = world.EmbeddedWorld(1, (room,), "close", 1.0, in_view)
    made.seed(np.array([0]), np.array([0], np.uint64), 0)
    made.arrange(np.array([0]))
    made.room[0] = list(ROOMS).index(room)
    made.objects[0], made.positions[0], made.yaws[0] = objects, positions, yaws
    return made


BED = ((0.0, 0.6, 0.5), (0.45, 0.6, 0.5), (-0.5, 1.2, 0.5))
"""A vase, a plate and a bottle on the bed."""


@pytest.mark.parametrize(
    "action, reason",
    [
        ((0.015, 0.01, 0.3), "still"),
        ((0.1, 0.1, -0.39), ""),
        ((0.1, 0.1, -0.41), "no surface"),
        ((0.1, 0.1, 0.39), ""),
        ((0.1, 0.1, 0.41), "no surface"),
        ((0.64, 0.0, 0.0), "no surface"),
        ((0.45, 0.02, 0.0), "object"),
        ((0.0, -0.75, 0.0), ""),
    ],
)
def test_each_reason_has_its_move(action, reason: str):
    made = placed((5, 4, 6), BED)
    before = made.positions.copy()
    why, moved = made.move(np.array([action]))
    assert world.REASONS[why[0]] == reason and moved[0] == 0 and made.turn[0] == 1
    assert np.array_equal(made.positions, before) == bool(reason)


def test_an_object_settles_on_the_nearest_surface_within_reach():
    made = placed((5, 4, 6), BED)
    made.move(np.array([(0.0, -0.75, 0.0)]))
    np.testing.assert_allclose(made.positions[0, 0], (0.0, -0.15, 0.42), atol=1e-12)
    made.turn[:] = 0
    assert made.move(np.array([(0.0, -0.8, 0.0)]))[0] == world.REASONS.index("no surface"), "too deep a fall"
    made.turn[:] = 0
    made.move(np.array([(0.0, -0.8, -0.05)]))
    np.testing.assert_allclose(made.positions[0, 0], (0.0, -0.95, 0.012), atol=1e-12)
    for rise, height in ((0.18, 0.91), (0.21, 1.3)):
        made = placed((5, 4, 6), ((0.9, 1.9, 0.91), (0.2, 0.3, 0.75), (-0.3, 0.3, 0.75)), room="green kitchen")
        made.move(np.array([(0.2, 0.0, rise)]))
        np.testing.assert_allclose(made.positions[0, 0], (1.1, 1.9, height), atol=1e-12)


def test_a_handle_runs_into_a_table_leg():
    made = placed((1, 4, 6), ((0.3, -0.7, 0.012), *BED[1:]), (np.pi / 2, 0.0, 0.0))
    why, _ = made.move(np.array([(0.4, 0.13, 0.1)]))
    assert world.REASONS[why[0]] == "furniture"


def test_what_would_stick_through_a_wall_is_outside():
    made = placed((1, 4, 6), ((-1.2, 1.9, 0.62), *BED[1:]), (np.pi / 2, 0.0, 0.0))
    why, _ = made.move(np.array([(0.02, 0.18, 0.0)]))
    assert world.REASONS[why[0]] == "outside"


def test_what_leaves_the_picture_is_invalid_only_where_asked():
    for in_view in (False, True):
        made = placed((5, 4, 6), BED, in_view=in_view)
        made.camera[0] = 1
        why, _ = made.move(np.array([(0.55, -0.25, 0.0)]))
        assert world.REASONS[why[0]] == ("out of view" if in_view else "")


def test_a_state_goes_back_and_on_as_before():
    envs, actions = SpatialVectorEnv(5, steps=9, block=4), actions_of(30, 5)
    envs.reset(seed=1)
    for step in actions[:11]:
        envs.step(step)
    state = envs.get_state()
    shown = envs.arrangement(3)
    first = [envs.step(step)[:4] for step in actions[11:]]
    other = SpatialVectorEnv(5, steps=9, block=4)
    other.set_state(state)
    assert same(other.arrangement(3), shown)
    for step, told in zip(actions[11:], first, strict=True):
        for a, b in zip(other.step(step)[:4], told, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="another batch"):
        SpatialVectorEnv(4).set_state(state)
    with pytest.raises(gym.error.ResetNeeded):
        SpatialVectorEnv(4).get_state()


def test_rows_can_be_reset_by_themselves():
    envs = SpatialVectorEnv(4, steps=3, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    for actions in actions_of(3, 4):
        observation, _, _, truncated, infos = envs.step(actions)
    assert truncated.all() and "final_obs" not in infos
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(actions)
    mask = np.array([True, False, True, False])
    fresh, _ = envs.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal((fresh == observation).all(1), ~mask)
    envs.reset(options={"reset_mask": ~mask})
    envs.step(actions)


def test_pictures_and_truth_are_those_of_the_arrangement(sketched: list):
    envs = SpatialVectorEnv(2, block=1, render_mode="rgb_array")
    envs.reset(seed=0)
    envs.step(actions_of(1, 2)[0])
    pictures = envs.render()
    assert len(pictures) == 2 and pictures[0].shape == (224, 224, 3) and pictures[0].dtype == np.uint8
    assert same(sketched[0], envs.arrangement(0)) and same(sketched[1], envs.arrangement(1))
    assert SpatialVectorEnv(2).render() is None
    env = SpatialEnv(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (224, 224, 3) and same(sketched[-1], env.arrangement())
    assert same(env.arrangement(), env.observed())
    env.close()


@pytest.mark.parametrize(
    "action, told",
    [
        (np.full((2, 3), np.nan), r"rows \[0, 1\] are NaN"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), r"rows \[1\] are NaN"),
        (np.zeros((2, 2)), r"shape \(2, 2\), not \(2, 3\)"),
        (np.zeros(3), r"shape \(3,\)"),
        ([["a", "b", "c"]] * 2, "must be numbers"),
    ],
)
def test_bad_actions_are_named(action, told: str):
    envs = SpatialVectorEnv(2)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        envs.step(np.zeros((2, 3)))
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(ValueError, match=told):
        envs.step(action)
    after = envs.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_actions_beyond_the_space_are_clipped():
    one, other = SpatialVectorEnv(8), SpatialVectorEnv(8)
    one.reset(seed=0), other.reset(seed=0)
    actions = actions_of(1, 8)[0] * 3
    np.testing.assert_array_equal(one.step(actions)[0], other.step(np.clip(actions, -1, 1))[0])
    one.step(np.full((8, 3), np.inf))


@pytest.mark.parametrize(
    "arguments, error, told",
    [
        ({"split": "tests"}, ValueError, "unknown split='tests': did you mean 'test'"),
        ({"camera": "closer"}, ValueError, "did you mean 'close'"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"block": 2.5}, ValueError, "block=2.5"),
        ({"num_envs": True}, ValueError, "num_envs=True"),
        ({"move_scale": -1}, ValueError, "move_scale=-1"),
        ({"move_scale": np.nan}, ValueError, "move_scale=nan"),
        ({"move_scale": "far"}, ValueError, "move_scale='far'"),
        ({"render_mode": "human"}, ValueError, "unknown render_mode='human': Valid are None, 'rgb_array'"),
        ({"autoreset_mode": "SameSteps"}, ValueError, "did you mean 'SameStep'"),
        ({"movescale": 1}, TypeError, "did you mean 'move_scale'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], told: str):
    with pytest.raises(error, match=told):
        SpatialVectorEnv(**arguments)


def test_bad_resets_are_named():
    envs = SpatialVectorEnv(2)
    with pytest.raises(gym.error.ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gym.error.ResetNeeded):
        envs.arrangement(0)
    with pytest.raises(gym.error.ResetNeeded):
        envs.observed(0)
    for seed in (-1, 1.5, [1, 2, 3], [0, -2], "one"):
        with pytest.raises(ValueError, match="seed"):
            envs.reset(seed=seed)
    with pytest.raises(ValueError, match="did you mean 'reset_mask'"):
        envs.reset(options={"reset_masks": 1})
    with pytest.raises(ValueError, match="bool array"):
        envs.reset(options={"reset_mask": [0, 1]})
    with pytest.raises(ValueError, match="a reset takes none"):
        SpatialEnv().reset(options={"room": "bedroom"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_envs': it belongs to a batch"):
        SpatialEnv(num_envs=2)
