"""What mentors are told of scenes, and the wrappers on this id: texts as actions, single and vector, sync and async."""

import time
from pathlib import Path

import numpy as np
import pytest

import mentorgym.wrappers
import mentorgym.wrappers.vector
from mentorgym.envs.caption import CaptionEnv, CaptionVectorEnv, language
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.mentor import IMAGE_SLOT
from tests.envs.caption.drawn import DrawnScenes

pytestmark = pytest.mark.usefixtures("cache")

single, vector = mentorgym.wrappers, mentorgym.wrappers.vector
CAPTIONS = language.captions()


def envs_of(num_envs: int = 4, **arguments) -> CaptionVectorEnv:
    return CaptionVectorEnv(num_envs, **{"data": DrawnScenes(21), "reward": "none", "split": "test"} | arguments)


def env_of(**arguments) -> CaptionEnv:
    return CaptionEnv(**{"data": DrawnScenes(21), "reward": "none", "split": "test"} | arguments)


def bits(text: str) -> np.ndarray:
    reading = language.read(text)
    return np.concatenate([reading.actions, reading.reasons]).astype(np.float32)


def namer(requests):
    """The caption of the labels that a request carries."""
    return [language.caption(request.action[:4] > 0, request.action[4:] > 0) for request in requests]


def scorer(requests):
    """Probabilities of the sorted captions: 0.6 for the scene's own, the rest even."""
    anchors = sorted(CAPTIONS)
    answers = []
    for request in requests:
        own = language.caption(request.action[:4] > 0, request.action[4:] > 0)
        answers.append(np.array([0.6 if each == own else 0.02 for each in anchors], np.float32))
    return answers


def arrived(step, name: str, wanted: int) -> list:
    """What `step` brings under this name until there are so many."""
    told: list = []
    deadline = time.monotonic() + 20
    while len(told) < wanted and time.monotonic() < deadline:
        told += zip(*step()[name], strict=True)
    return told


def test_requests_show_the_newest_frame_and_carry_the_labels():
    envs = envs_of(4, group_size=2, frames=3)
    observation, infos = envs.reset(seed=0)
    asked = envs.adapter.requests([0, 3], "")
    for row, request in zip((0, 3), asked, strict=True):
        np.testing.assert_array_equal(request.picture, observation["frames"][row, -1])
        assert request.picture.shape == envs.adapter.picture_shape and request.context == 0
        assert request.prompt == language.PROMPT and request.prompt.count(IMAGE_SLOT) == 1
        np.testing.assert_array_equal(request.action[:4], infos["actions"][row])
        np.testing.assert_array_equal(request.action[4:], infos["reasons"][row])
    assert envs.adapter.requests([1], f"{IMAGE_SLOT}Why?")[0].prompt == f"{IMAGE_SLOT}Why?"
    assert not envs.adapter.urgent(infos).any()


def test_anchors_and_answers_are_the_captions_of_the_scenes():
    adapter = envs_of(data=DrawnScenes(9, (0, 7, 3))).adapter
    assert adapter.anchors == [sorted(CAPTIONS[i] for i in (0, 7, 3))] and adapter.answers == adapter.anchors[0]


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_is_the_action_with_its_labels(caption: str):
    action = env_of().adapter.to_action(caption)
    np.testing.assert_array_equal(action, bits(caption))
    assert action.dtype == np.float32 and action.shape == (env_of().adapter.action_size,) and action.sum() == 2


@pytest.mark.parametrize(
    ("feedback", "there"),
    [
        ("A truck stands there.", False),
        ("Action: fly.", False),
        ("", False),
        ("Action: stop", True),
        (np.zeros(25, np.float32), False),
        (np.full(25, np.nan, np.float32), False),
        (np.ones(2, np.float32), False),
        (np.eye(25, dtype=np.float32)[3], True),
    ],
)
def test_what_names_nothing_is_no_action(feedback, there: bool):
    assert (env_of().adapter.to_action(feedback) is not None) == there


def test_margins_compare_the_caption_that_was_said_with_the_best_other():
    adapter = envs_of(data=DrawnScenes(9, (0, 7, 3))).adapter
    probabilities = np.array([[0.5, 0.2, 0.3]] * 4, np.float32)
    said = [*adapter.anchors[0], "Action: turn left. Reason: Road is clear."]
    margins = adapter.margins(probabilities, np.array([bits(each) for each in said]))
    np.testing.assert_allclose(margins, [0.5 - 0.3, 0.2 - 0.5, 0.3 - 0.5, 0.0 - 0.5], atol=1e-6)
    assert margins.dtype == np.float32


@pytest.mark.parametrize("prompt", ["Why?", "<image><image>Why?"])
def test_prompts_without_the_one_slot_are_refused(prompt: str):
    with pytest.raises(ValueError, match="one slot"):
        single.ActionHints(env_of(), namer, worker="thread", prompt=prompt)


def test_hints_are_the_labels_that_the_mentor_names_in_sync_mode():
    envs = vector.ActionHints(envs_of(4, group_size=2), namer, mode="sync", worker="thread")
    _, infos = envs.reset(seed=0)
    for _ in range(6):
        labels = np.concatenate([infos["actions"], infos["reasons"]], 1)
        assert infos["hints"].envs.tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(infos["hints"].actions, labels)
        *_, infos = envs.step(["Action: stop. Reason: Traffic sign."] * 4)
    assert envs.counters()["availability"] == 1.0
    envs.close()


def test_hints_come_late_with_their_number_in_async_mode():
    envs = vector.ActionHints(envs_of(4), namer, mode="async", worker="thread")
    shown = []
    _, infos = envs.reset(seed=0)

    def step():
        nonlocal infos
        shown.append(np.concatenate([infos["actions"], infos["reasons"]], 1))
        infos = envs.step(["a"] * 4)[4]
        time.sleep(0.005)
        return infos

    late = arrived(step, "hints", 12)
    assert len(late) >= 12
    for env, number, action in late:
        if number < len(shown):
            np.testing.assert_array_equal(action, shown[number][env])
    envs.close()


def test_hints_work_on_the_single_environment():
    env = single.ActionHints(env_of(), "expert", mode="sync", worker="thread")
    for _ in range(3):
        _, info = env.reset()
        np.testing.assert_array_equal(info["hints"].actions[0], np.concatenate([info["actions"], info["reasons"]]))
        env.step("anything at all")
    env.close()


def test_texts_that_fit_gain_more_in_sync_mode():
    envs = vector.ClipReward(envs_of(4), scorer, mode="sync", worker="thread", scale=0.5)
    _, infos = envs.reset(seed=0)
    for _ in range(4):
        texts = infos["caption"].tolist()
        texts[1], texts[2], texts[3] = CAPTIONS[3], "nonsense \ud800", ""
        wrong = infos["caption"][1] != CAPTIONS[3]
        _, rewards, *_, infos = envs.step(texts)
        assert len(infos["bonuses"].values) == 0 and (np.abs(rewards) <= 0.5).all()
    assert wrong and rewards[0] > max(rewards[1:]), "rewards are 0 but for the bonus"
    assert envs.counters()["availability"] == 1.0
    envs.close()


def test_bonuses_come_late_with_their_number_in_async_mode():
    envs = vector.ClipReward(envs_of(2), scorer, mode="async", worker="thread")
    _, infos = envs.reset(seed=0)

    def step():
        nonlocal infos
        _, rewards, *_, infos = envs.step((infos["caption"][0], "nonsense"))
        assert (rewards == 0).all()
        time.sleep(0.005)
        return infos

    late = arrived(step, "bonuses", 20)
    by_env = [[value for env, _, value in late[4:] if env == row] for row in (0, 1)]
    assert len(late) >= 20 and min(by_env[0]) > max(by_env[1])
    envs.close()


def test_the_single_environment_is_rewarded_too():
    env = single.ClipReward(env_of(), scorer, mode="sync", worker="thread")
    rewards = []
    for step in range(6):
        _, info = env.reset()
        rewards.append(env.step(info["caption"] if step % 2 else "no caption")[1])
    assert min(rewards[1::2]) > max(rewards[2::2])
    env.close()


@pytest.mark.parametrize(("wrapper", "mentor"), [(single.ActionHints, "vlm"), (single.ClipReward, "clip")])
def test_our_own_models_are_those_for_captions(monkeypatch: pytest.MonkeyPatch, wrapper, mentor: str):
    loaded = []

    def load(spec, **options):
        loaded.append(spec)
        return namer

    monkeypatch.setattr("mentorgym.mentors.load.load_mentor", load)
    wrapper(env_of(), worker="thread").close()
    assert loaded == [f"{mentor}:{WEIGHTS / f'caption_{mentor}'}"]


def test_a_real_scorer_weighs_the_captions(clip_folder: Path):
    envs = vector.ClipReward(envs_of(2), f"clip:{clip_folder}", mode="sync", worker="thread")
    envs.reset(seed=0)
    for _ in range(2):
        assert np.isfinite(envs.step([CAPTIONS[0], "else"])[1]).all()
    assert envs.counters()["availability"] == 1.0
    envs.close()
