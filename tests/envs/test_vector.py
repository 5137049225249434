"""What the vector environments of all families have in common: Gymnasium's contract and wrappers."""

import copy
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium.wrappers.vector as wrappers
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import mentorgym  # noqa: F401 - registers the ids
from tests.envs.caption.drawn import DrawnScenes
from tests.envs.driving.test_env import same

DRIVING = {"town": "Village", "traffic": (5, 5), "observation": "state"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "CarlaNoCrash-v0": DRIVING,
    "CarlaLeaderboard-BEV-v0": DRIVING,
    "UnitySpatial-v0": {"steps": 3},
    "BddOia-Caption-v0": {"data": DrawnScenes(), "reward": "none", "terms": {"action": 1.0}},
}
IDS = list(ARGUMENTS)
CAPTIONS = "BddOia-Caption-v0"
MODES = list(AutoresetMode)
STEPS = 25
"""Enough for a car that leaves the road at full throttle."""


def make(name: str, mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, num_envs: int = 2, **arguments) -> VectorEnv:
    return gym.make_vec(name, num_envs=num_envs, autoreset_mode=mode, **ARGUMENTS[name] | arguments)


def actions_for(envs: VectorEnv, step: int) -> Any:
    """The first row leaves the road; of captions and rooms any action will do."""
    envs.unwrapped.action_space.seed(step)
    actions = envs.unwrapped.action_space.sample()
    if getattr(actions, "shape", None) == (2, 2):
        actions[0] = 1.0, 0.6
    return actions


def identity(value: Any) -> Any:
    return value


class NumbersAlone(gym.vector.VectorWrapper):
    """Drops the words of infos, such as why an episode ended: Gymnasium's conversions fail on arrays of words."""

    def step(self, actions: Any) -> Any:
        *rest, infos = self.env.step(np.asarray(actions))
        return *rest, numbers(infos)

    def reset(self, **arguments: Any) -> Any:
        observations, infos = self.env.reset(**arguments)
        return observations, numbers(infos)


def numbers(infos: dict[str, Any]) -> dict[str, Any]:
    """The numbers of infos."""
    return {
        name: numbers(value) if isinstance(value, dict) else value
        for name, value in infos.items()
        if isinstance(value, dict) or value.dtype.kind in "biuf"
    }


def pictures(envs: VectorEnv) -> VectorEnv:
    """Observations as small pictures, for the wrappers that want some."""
    space = gym.spaces.Box(0, 255, (6, 8, 3), np.uint8)
    return wrappers.VectorizeTransformObservation(
        envs, gym.wrappers.TransformObservation, func=lambda _: np.full((6, 8, 3), 9, np.uint8), observation_space=space
    )


def rescaled(envs: VectorEnv) -> VectorEnv:
    space = envs.single_observation_space
    bounds = [
        np.where(np.isfinite(each), own, each).astype(np.float32) for each, own in ((space.low, -1), (space.high, 1))
    ]
    return wrappers.RescaleObservation(envs, *bounds)


WRAPPERS: dict[str, Callable[[VectorEnv, Path], Any]] = {
    "VectorizeTransformObservation": lambda envs, _: wrappers.VectorizeTransformObservation(
        envs, gym.wrappers.TransformObservation, func=identity, observation_space=envs.single_observation_space
    ),
    "VectorizeTransformAction": lambda envs, _: wrappers.VectorizeTransformAction(
        envs, gym.wrappers.TransformAction, func=identity, action_space=envs.single_action_space
    ),
    "VectorizeTransformReward": lambda envs, _: wrappers.VectorizeTransformReward(
        envs, gym.wrappers.TransformReward, func=identity
    ),
    "DictInfoToList": lambda envs, _: wrappers.DictInfoToList(envs),
    "TransformObservation": lambda envs, _: wrappers.TransformObservation(envs, identity),
    "FilterObservation": lambda envs, _: wrappers.FilterObservation(envs, list(envs.single_observation_space)[:1]),
    "FlattenObservation": lambda envs, _: wrappers.FlattenObservation(envs),
    "GrayscaleObservation": lambda envs, _: wrappers.GrayscaleObservation(pictures(envs)),
    "ResizeObservation": lambda envs, _: wrappers.ResizeObservation(pictures(envs), (4, 4)),
    "ReshapeObservation": lambda envs, _: wrappers.ReshapeObservation(
        envs, (2, envs.single_observation_space.shape[0] // 2)
    ),
    "RescaleObservation": lambda envs, _: rescaled(envs),
    "DtypeObservation": lambda envs, _: wrappers.DtypeObservation(envs, np.float32),
    "NormalizeObservation": lambda envs, _: wrappers.NormalizeObservation(envs),
    "TransformAction": lambda envs, _: wrappers.TransformAction(envs, identity),
    "ClipAction": lambda envs, _: wrappers.ClipAction(envs),
    "RescaleAction": lambda envs, _: wrappers.RescaleAction(envs, np.float32(-1), np.float32(1)),
    "TransformReward": lambda envs, _: wrappers.TransformReward(envs, identity),
    "ClipReward": lambda envs, _: wrappers.ClipReward(envs, -1, 1),
    "NormalizeReward": lambda envs, _: wrappers.NormalizeReward(envs),
    "RecordEpisodeStatistics": lambda envs, _: wrappers.RecordEpisodeStatistics(envs),
    "RecordVideo": lambda envs, folder: wrappers.RecordVideo(envs, str(folder / "films"), video_length=3),
    "HumanRendering": lambda envs, _: wrappers.HumanRendering(envs),
    "ArrayConversion": lambda envs, _: wrappers.ArrayConversion(NumbersAlone(envs), np, np),
    "JaxToNumpy": lambda envs, _: wrappers.JaxToNumpy(NumbersAlone(envs)),
    "JaxToTorch": lambda envs, _: wrappers.JaxToTorch(NumbersAlone(envs)),
    "NumpyToTorch": lambda envs, _: wrappers.NumpyToTorch(NumbersAlone(envs)),
}
"""How to wrap each."""

NEEDS = {
    "ArrayConversion": ["array_api_compat"],
    "HumanRendering": ["cv2", "pygame"],
    "JaxToNumpy": ["jax", "array_api_compat"],
    "JaxToTorch": ["jax", "array_api_compat"],
    "NumpyToTorch": ["array_api_compat"],
    "RecordVideo": ["moviepy"],
    "ResizeObservation": ["cv2"],
}
"""Packages that a wrapper needs and this project does not."""

OBSERVATIONS = {name for name in WRAPPERS if name.endswith("Observation")}
"""Gymnasium refuses these with same-step autoreset."""

ARRAYS = {"ReshapeObservation", "RescaleObservation", "DtypeObservation", "NormalizeObservation", *NEEDS} | {
    "GrayscaleObservation",
    "ClipAction",
    "RescaleAction",
}
"""Wrappers of arrays or pictures; captions are texts."""

RENDERED = {"HumanRendering", "RecordVideo"}


def cases() -> Iterator[Any]:
    """Each wrapper on each environment, in each mode that Gymnasium admits."""
    for name, wrapper, mode in itertools.product(IDS, WRAPPERS, MODES):
        if mode == AutoresetMode.SAME_STEP and wrapper in OBSERVATIONS:
            continue
        if mode == AutoresetMode.DISABLED and wrapper == "NormalizeObservation":
            continue
        if name == CAPTIONS and wrapper in ARRAYS - RENDERED:
            continue
        if name == "UnitySpatial-v0" and wrapper == "FilterObservation":
            continue
        missing = [each for each in NEEDS.get(wrapper, ()) if importlib.util.find_spec(each) is None]
        marks = [pytest.mark.skipif(bool(missing), reason=f"{wrapper} needs {', '.join(missing)}")]
        yield pytest.param(name, wrapper, mode, marks=marks, id=f"{name}-{wrapper}-{mode.value}")


def test_every_wrapper_of_gymnasium_is_known_here():
    assert set(wrappers.__all__) <= set(WRAPPERS)


@pytest.mark.filterwarnings("ignore:.*Recorded episodes will not contain the last frame:UserWarning")
@pytest.mark.parametrize(("name", "wrapper", "mode"), list(cases()))
def test_gymnasiums_wrappers_work(name: str, wrapper: str, mode: AutoresetMode, tmp_path: Path, monkeypatch):
    if wrapper not in wrappers.__all__:
        pytest.skip(f"Gymnasium {gym.__version__} has no {wrapper}")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    arguments: dict[str, Any] = {"render_mode": "rgb_array"} if wrapper in RENDERED else {}
    if wrapper == "FilterObservation" and name != CAPTIONS:
        arguments["observation"] = "masks"
    envs = WRAPPERS[wrapper](make(name, mode, **arguments), tmp_path)
    envs.reset(seed=0)
    ends = 0
    for step in range(3 if wrapper in RENDERED else STEPS):
        observations, rewards, terminated, truncated, _ = envs.step(actions_for(envs, step))
        # Gymnasium 1.2 hands out normalised observations as float64.
        assert wrapper in {*NEEDS, "NormalizeObservation"} or observations in envs.observation_space
        assert len(rewards) == 2
        ended = np.asarray(terminated) | np.asarray(truncated)
        ends += int(ended.sum())
        if mode == AutoresetMode.DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})
    assert ends or wrapper in RENDERED
    envs.close()


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_itself_refuses_wrappers_of_observations_with_same_step_autoreset(name: str):
    with pytest.raises((AssertionError, ValueError)):
        wrappers.TransformObservation(make(name, AutoresetMode.SAME_STEP), identity)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    ("name", "arguments"), [*((name, {}) for name in IDS), *((name, {"observation": "masks"}) for name in IDS[:2])]
)
def test_observations_stay_as_they_are(name: str, arguments: dict, mode: AutoresetMode):
    envs = make(name, mode, **arguments)
    handed_out = [envs.reset(seed=1)[0]]
    copies = copy.deepcopy(handed_out)
    for step in range(STEPS):
        observations, _, terminated, truncated, infos = envs.step(actions_for(envs, step))
        handed_out += [observations, infos.get("final_obs")]
        copies += copy.deepcopy(handed_out[-2:])
        if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
            handed_out.append(envs.reset(options={"reset_mask": terminated | truncated})[0])
            copies.append(copy.deepcopy(handed_out[-1]))
    assert same(handed_out, copies)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_an_autoreset_mode_goes_by_its_value_too(name: str, mode: AutoresetMode):
    envs = make(name, mode.value, num_envs=1)
    assert envs.metadata["autoreset_mode"] is mode


def test_next_step_autoreset_of_rooms_is_gymnasiums():
    batch = make("UnitySpatial-v0", num_envs=3, steps=4, block=2)
    singles = SyncVectorEnv([lambda: gym.make("UnitySpatial-v0", steps=4, block=2)] * 3, autoreset_mode="NextStep")
    for seed in (3, None):
        np.testing.assert_equal(batch.reset(seed=seed), singles.reset(seed=seed))
        due = np.zeros(3, bool)
        for _ in range(20):
            actions = batch.action_space.sample()
            # The action of a row that is reset is ignored, whatever it is.
            ours = batch.step(np.where(due[:, None], np.nan, actions))
            theirs = singles.step(actions)
            np.testing.assert_equal(ours, theirs)
            for row in range(3):
                assert str(batch.arrangement(row)) == str(singles.envs[row].unwrapped.arrangement())
            due = ours[3]
        with pytest.raises(ValueError, match="NaN"):
            batch.step(np.where(due[:, None], 0.0, np.full((3, 3), np.nan)) if not due.all() else np.nan)


def test_next_step_autoreset_of_captions_shows_the_next_scenes_in_the_step_after():
    envs = make(CAPTIONS, num_envs=4, group_size=2, split="test")
    _, infos = envs.reset(seed=0)
    scenes = infos["scene"].tolist()
    for step in range(3):
        observations, rewards, terminated, truncated, infos = envs.step(infos["caption"].tolist())
        assert (rewards == 1).all() and terminated.all() and not truncated.any()
        assert infos["scene"].tolist() == scenes and infos["_terms"].all()
        before = observations["frames"]
        observations, rewards, terminated, truncated, infos = envs.step([None] * 4)
        assert not (rewards.any() or terminated.any() or truncated.any()) and "terms" not in infos
        assert infos["scene"].tolist() == [2 * step + 2] * 2 + [2 * step + 3] * 2 != scenes
        assert (observations["frames"] != before).any()
        scenes = infos["scene"].tolist()
    # One group in the middle of an episode, the other past its end.
    envs.step(["a"] * 4)
    _, infos = envs.reset(options={"reset_mask": np.array([False, False, True, True])})
    third, fourth = infos["scene"][0], infos["scene"][2]
    _, rewards, terminated, _, infos = envs.step([None, None, infos["caption"][2], "nothing"])
    assert rewards.tolist() == [0, 0, 1, 0] and terminated.tolist() == [False, False, True, True]
    assert infos["_terms"].tolist() == [False, False, True, True]
    assert infos["scene"][0] != third and infos["scene"][2] == fourth
    with pytest.raises(ValueError, match="row 0 is a NoneType"):
        envs.step([None, "a", None, None])
