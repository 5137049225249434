"""The environment, single and vector: which scenes come when, what infos tell, and what is refused."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from mentorgym.envs.caption import CaptionEnv, CaptionVectorEnv, language
from tests.envs.caption.drawn import DrawnScenes
from tests.envs.caption.test_reward import ODD, CountingScorer

pytestmark = pytest.mark.usefixtures("cache")

TEXTS = ("Action: stop. Reason: Traffic sign.", "", "a\ud800", "Action: forward. Reason: Road is clear.")


def vector(num_envs: int = 4, **arguments) -> CaptionVectorEnv:
    arguments = {"data": DrawnScenes(), "model": CountingScorer()} | arguments
    return CaptionVectorEnv(num_envs, **arguments)


def single(**arguments) -> CaptionEnv:
    return CaptionEnv(**{"data": DrawnScenes(), "model": CountingScorer()} | arguments)


def scenes_of(envs: CaptionVectorEnv, steps: int, **reset) -> list[int]:
    """The scenes that each reset and step shows, one after another."""
    _, infos = envs.reset(**reset)
    seen = infos["scene"].tolist()
    for _ in range(steps):
        *_, infos = envs.step(["a"] * envs.num_envs)
        seen += infos["scene"].tolist()
    return seen


@pytest.mark.filterwarnings("error")
def test_the_single_environment_passes_gymnasiums_check(clip_folder: Path):
    env = gym.make("BddOia-Caption-v0", data=DrawnScenes(), model=str(clip_folder), render_mode="rgb_array")
    assert type(env.unwrapped) is CaptionEnv
    check_env(env.unwrapped)
    assert type(gym.make_vec("BddOia-Caption-v0", 2, data=DrawnScenes(), model=str(clip_folder))) is CaptionVectorEnv


def test_spaces_hold_what_comes():
    envs = vector(4, group_size=2, frames=3)
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space
    assert observation["frames"].shape == (4, 3, 24, 32, 3) and observation["instruction"] == (language.PROMPT,) * 4
    assert envs.step(envs.action_space.sample())[0] in envs.observation_space
    assert all(len(envs.single_action_space.sample()) <= 256 for _ in range(20))


def test_an_epoch_shows_each_training_scene_once_in_an_order_of_the_seed():
    seen = np.array(scenes_of(vector(4), 9, seed=5))
    for epoch in seen.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in seen.reshape(4, 10)}) == 4
    np.testing.assert_array_equal(seen, scenes_of(vector(4), 9, seed=5))
    np.testing.assert_array_equal(seen, scenes_of(vector(8, group_size=2), 9, seed=5)[::2])
    assert (seen != scenes_of(vector(4), 9, seed=6)).any()
    assert scenes_of(vector(4), 0) != scenes_of(vector(4), 0), "without a seed the order is drawn"


@pytest.mark.parametrize("split", ["val", "test"])
def test_other_splits_are_shown_in_order(split: str):
    assert scenes_of(vector(4, split=split), 4, seed=5) == [i % 10 for i in range(20)]


def test_the_rows_read_together_what_the_single_environment_reads_alone():
    envs, env = vector(3), single()
    observation, infos = envs.reset(seed=7)
    for step in range(5):
        texts = [TEXTS[(step + row) % 4] for row in range(3)]
        following, rewards, terminated, truncated, told = envs.step(texts)
        for row in range(3):
            alone, info = env.reset(seed=7 if step == row == 0 else None)
            np.testing.assert_array_equal(observation["frames"][row], alone["frames"])
            assert info["scene"] == infos["scene"][row] and info["caption"] == infos["caption"][row]
            np.testing.assert_array_equal(info["reasons"], infos["reasons"][row])
            _, reward, end, cut, info = env.step(texts[row])
            assert reward == pytest.approx(rewards[row], rel=1e-4)
            assert info["terms"]["contrast"] == pytest.approx(told["terms"]["contrast"][row], rel=1e-4)
            assert (end, cut) == (True, False) == (terminated[row], truncated[row])
            assert info["scene"] == told["final_info"]["scene"][row]
        observation, infos = following, told


def test_a_step_tells_of_the_scenes_judged_and_shows_the_next():
    envs = vector(4, group_size=2, terms={"action": 1.0})
    before, first = envs.reset(seed=1)
    kept = before["frames"].copy()
    after, rewards, _, _, infos = envs.step(first["caption"].tolist())
    np.testing.assert_array_equal(infos["terms"]["action"], 1)
    np.testing.assert_allclose(rewards, infos["terms"]["contrast"] + 1, rtol=1e-6)
    for name in ("scene", "caption", "actions", "reasons"):
        np.testing.assert_array_equal(infos["final_info"][name], first[name])
        np.testing.assert_array_equal(infos[name][::2], infos[name][1::2])
    assert (infos["scene"] != first["scene"]).all()
    for row in range(4):
        assert infos["final_obs"][row] in envs.single_observation_space
        np.testing.assert_array_equal(infos["final_obs"][row]["frames"], kept[row])
    np.testing.assert_array_equal(before["frames"], kept, "an observation is the user's to keep")
    labels = envs.scenes.labels
    for row, scene in enumerate(infos["scene"]):
        np.testing.assert_array_equal(after["frames"][row], envs.scenes.frames(scene, 1))
        assert infos["caption"][row] == language.caption(labels.actions[scene], labels.reasons[scene])
        np.testing.assert_array_equal(infos["actions"][row], labels.actions[scene])


def test_a_group_shares_one_encoding_of_its_scene():
    scorer = CountingScorer()
    envs = vector(12, group_size=4, frames=2, model=scorer)
    envs.reset(seed=0)
    for step in range(20):
        envs.step([f"{step} {row}" for row in range(12)])
    assert scorer.pictures == 2 * 10, "two frames of ten scenes"


def test_rows_of_a_group_with_one_text_get_one_reward(clip_folder: Path):
    envs = vector(6, group_size=3, model=str(clip_folder))
    envs.reset(seed=0)
    _, rewards, *_ = envs.step([TEXTS[0]] * 6)
    assert len(set(rewards[:3])) == len(set(rewards[3:])) == 1


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_scored(text: str):
    env = single(terms={"bleu": 1.0, "format": 1.0}, render_mode="rgb_array")
    env.reset(seed=0)
    assert np.isfinite(env.step(text)[1])
    assert env.render().dtype == np.uint8


def test_scenes_on_demand_leave_the_order_alone():
    envs, env = vector(4, group_size=2), single(split="test")
    plain = scenes_of(envs, 2, seed=3)
    _, infos = envs.reset(seed=3, options={"indices": [9, 2]})
    assert infos["scene"].tolist() == [9, 9, 2, 2]
    assert [*scenes_of(envs, 2)] == plain
    assert [env.reset(options={"index": i})[1]["scene"] for i in (4, 4, 0)] == [4, 4, 0]
    assert env.reset()[1]["scene"] == 0


def test_with_no_autoreset_rows_are_reset_by_mask():
    envs = vector(4, group_size=2, split="test", autoreset_mode=AutoresetMode.DISABLED)
    _, infos = envs.reset(seed=0)
    observation, *_, told = envs.step(TEXTS)
    assert told["scene"].tolist() == infos["scene"].tolist() == [0, 0, 1, 1] and "final_obs" not in told
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(TEXTS)
    _, infos = envs.reset(options={"reset_mask": np.array([False, False, True, True])})
    assert infos["scene"].tolist() == [0, 0, 2, 2]
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(TEXTS)
    with pytest.raises(ValueError, match="alike"):
        envs.reset(options={"reset_mask": np.array([False, True, True, True])})


def test_a_state_brings_back_what_follows():
    envs = vector(4, group_size=2)
    scenes_of(envs, 3, seed=11)
    state = envs.get_state()
    shown = envs._rows().tolist()
    expected = [envs.step(TEXTS)[4]["scene"].tolist() for _ in range(6)]
    other = vector(4, group_size=2)
    observation, infos = other.set_state(state)
    assert infos["scene"].tolist() == shown
    np.testing.assert_array_equal(observation["frames"][0], other.scenes.frames(shown[0], 1))
    assert [other.step(TEXTS)[4]["scene"].tolist() for _ in range(6)] == expected
    with pytest.raises(ValueError, match="another batch"):
        vector(4).set_state(state)


def test_a_picture_shows_the_scene_and_what_was_said_of_it():
    envs = vector(2, split="test", render_mode="rgb_array")
    envs.reset(seed=0)
    fresh = envs.render()
    envs.step(["Action: forward. Reason: Follow traffic.", "nonsense " * 100])
    told = envs.render()
    for row in range(2):
        film = envs.scenes.frames(row, 1)[-1]
        np.testing.assert_array_equal(fresh[row][:24], film)
        np.testing.assert_array_equal(told[row][:24], film)
        assert told[row].shape == fresh[row].shape and (told[row] != fresh[row])[24:].any()
    green, red = told[0][24:].reshape(-1, 3).max(0), told[1][24:].reshape(-1, 3).max(0)
    assert green[1] > 200 and red[0] > 200
    assert vector(2).render() is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"spilt": "train"}, TypeError, "did you mean 'split'"),
        ({"split": "tets"}, ValueError, "did you mean 'test'"),
        ({"data": "stagd"}, ValueError, "did you mean 'staged'"),
        ({"data": "no/such/folder"}, ValueError, "or a folder with BDD-OIA's files"),
        ({"data": "staged", "labels": "on"}, ValueError, "did you mean 'one'"),
        ({"data": "staged", "split": "toy"}, ValueError, "one of BDD-OIA's"),
        ({"data": "staged", "reason_order": "table1"}, ValueError, "is for BDD-OIA's files"),
        ({"reward": "contrats"}, ValueError, "did you mean 'contrast'"),
        ({"num_envs": 0}, ValueError, "at least 1"),
        ({"num_envs": 4, "group_size": 3}, ValueError, "multiple of group_size"),
        ({"frames": 1.5}, ValueError, "whole number"),
        ({"frames": 6}, ValueError, "5 frames, not 6"),
        ({"data": DrawnScenes(0)}, ValueError, "no scenes"),
        ({"render_mode": "human"}, ValueError, "rgb_array"),
        ({"autoreset_mode": "NextSteps"}, ValueError, "did you mean 'NextStep'"),
        ({"device": "nonsense", "model": ""}, ValueError, "nonsense"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        if "split" in arguments and "data" not in arguments:
            arguments = arguments | {"data": "staged"}
        vector(**arguments)


def test_a_batch_s_arguments_are_refused_by_the_single_environment():
    for name in ("num_envs", "group_size", "autoreset_mode", "copy"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}': it belongs to a batch"):
            single(**{name: 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"indicse": [0]}, "did you mean 'indices'"),
        ({"indices": [0]}, "2 whole numbers"),
        ({"indices": [0, 10]}, "from 0 to 9"),
        ({"indices": [0, -1]}, "from 0 to 9"),
        ({"indices": [0.5, 1.0]}, "whole numbers"),
        ({"reset_mask": [1, 0, 1, 1]}, "bool array"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        vector(4, group_size=2).reset(options=options)


def test_a_single_environment_refuses_unknown_options():
    with pytest.raises(ValueError, match="did you mean 'index'"):
        single().reset(options={"indexx": 1})


@pytest.mark.parametrize("seed", [-1, 1.5, [1, 2, 3, 4], True])
def test_seeds_that_do_not_fit_are_refused(seed):
    with pytest.raises(ValueError, match="one whole number from 0"):
        vector(4).reset(seed=seed)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("one text", "not one text"),
        (["a"], "4 texts"),
        (["a", "b", "c", 3], "row 3 is a int"),
        (["a", None, "c", "d"], "row 1 is a NoneType"),
        (3, "4 texts"),
    ],
)
def test_actions_that_are_no_texts_are_refused(actions, message: str):
    envs = vector(4)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(actions)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(actions)


def test_a_picture_that_cannot_be_read_leaves_the_environment_as_it_was():
    class Torn(DrawnScenes):
        def frames(self, index, count):
            if index == 3:
                raise ValueError("cannot read scene-3")
            return super().frames(index, count)

    envs = vector(1, data=Torn(), split="test")
    envs.reset(seed=0)
    envs.step(["a"])
    envs.step(["b"])
    with pytest.raises(ValueError, match="scene-3"):
        envs.step(["c"])
    assert envs.reset(options={"indices": [4]})[1]["scene"].tolist() == [4]
