"""What mentors are told of rooms, what their replies mean, and the wrappers on this id, single and vector."""

import time

import numpy as np
import pytest

import mentorgym.wrappers
import mentorgym.wrappers.vector
from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import language
from mentorgym.envs.spatial.env import SpatialEnv
from mentorgym.envs.spatial.mentoring import FIELDS, SpatialAdapter
from mentorgym.envs.spatial.relations import relation_of
from mentorgym.envs.spatial.unity.link import UnityError, UnityWorld, View
from mentorgym.envs.spatial.vector import SpatialVectorEnv
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.mentor import IMAGE_SLOT

pytestmark = pytest.mark.usefixtures("sketched")

single, vector = mentorgym.wrappers, mentorgym.wrappers.vector


@pytest.fixture(scope="module")
def adapter() -> SpatialAdapter:
    return SpatialVectorEnv(1).adapter


def moves(requests):
    """A suggestion of so many hundredths as the context counts, modulo 100."""
    return [f"[{request.context % 100 / 100}, -0.5, 7]" for request in requests]


def scorer(requests):
    """The true caption where the context is even, else a false one."""
    return [np.array([0.6, 0.3, 0.1] if request.context % 2 == 0 else [0.2, 0.7, 0.1]) for request in requests]


def truth(envs: SpatialVectorEnv, row: int) -> str:
    """The caption of the object to be moved, whose turn the world knows, and the next."""
    seen, subject = envs.observed(row), int(envs._world.turn[row])
    other = (subject + 1) % 3
    return language.caption(seen.names[subject], seen.names[other], relation_of(seen, subject, other).terms)


def test_requests_show_the_room_and_ask_about_the_object_to_be_moved():
    envs = SpatialVectorEnv(3, block=2)
    observation, infos = envs.reset(seed=0)
    for _ in range(5):
        asked = envs.adapter.requests([0, 2], "{object}|{other}|{question}|{x}|{y}" + IMAGE_SLOT)
        for row, request in zip((0, 2), asked, strict=True):
            seen = envs.observed(row)
            name, other, question, *_ = request.prompt.split("|")
            assert name == language.NAMES[int(observation[row, 0])] == seen.names[envs._world.turn[row]]
            assert question == language.question(name, other)
            assert SpatialAdapter.anchors[request.context][0] == truth(envs, row)
            assert request.picture.shape == envs.adapter.picture_shape and request.picture.dtype == np.uint8
            assert set(np.unique(request.picture)) == set(seen.objects)
            assert request.action.shape == (envs.adapter.action_size,) and np.isnan(request.action).all()
        observation, *_, infos = envs.step(np.full((3, 3), 0.2, np.float32))
        assert not envs.adapter.urgent(infos).any()


class Linked(UnityWorld):
    """Our rooms with pictures that come from elsewhere."""

    def __init__(self, world, picture: np.ndarray | None):
        self.inner, self.pictures = world, True
        self._views = [View(None, None, picture, 0.0)]

    def observe(self):
        return self.inner.observe()

    def arrangement(self, row, shown=False):
        return self.inner.arrangement(row)


def test_pictures_of_unity_are_shown_as_they_come_or_what_is_missing_is_said():
    envs = SpatialVectorEnv(1, render_mode="rgb_array")
    envs.reset(seed=0)
    ours = envs._world
    envs._world = Linked(ours, np.full((224, 224, 3), 7, np.uint8))
    assert (envs.adapter.requests([0], "")[0].picture == 7).all()
    envs._world = Linked(ours, np.zeros((84, 84, 3), np.uint8))
    with pytest.raises(ValueError, match="camera sensor"):
        envs.adapter.requests([0], "")
    envs._world = Linked(ours, None)
    with pytest.raises(UnityError, match="camera sensor"):
        envs.adapter.requests([0], "")
    envs._world.pictures = False
    with pytest.raises(ValueError, match="render_mode='rgb_array'"):
        envs.adapter.requests([0], "")


def test_the_prompt_has_one_picture_and_says_where_the_axes_point(monkeypatch: pytest.MonkeyPatch):
    envs = SpatialVectorEnv(1)
    envs.reset(seed=3)
    seen = envs.observed(0)
    assert envs.adapter.requests([0], "")[0].prompt.count(IMAGE_SLOT) == 1
    for yaw, x, y in (
        (0.1, "away from you", "left"),
        (np.pi / 2, "right", "away from you"),
        (3.1, "towards you", "right"),
    ):
        turned = type(seen)(seen.room, Camera((0, 0, 1), yaw, 0, 1, 9, 9), seen.objects, seen.positions, seen.yaws)
        monkeypatch.setattr(envs, "observed", lambda row, turned=turned: turned)
        assert envs.adapter.requests([0], "{x}|{y}" + IMAGE_SLOT)[0].prompt == f"{x}|{y}{IMAGE_SLOT}"


def test_each_context_has_the_true_caption_and_two_false_ones():
    assert [texts[0] for texts in SpatialAdapter.anchors] == language.all_captions()
    assert all(len(set(texts)) == 3 for texts in SpatialAdapter.anchors)


@pytest.mark.parametrize(
    ("feedback", "action"),
    [
        ("0.3 -0.2 0.0", (0.3, -0.2, 0)),
        ("(2; -.5; 1e-1)", (1, -0.5, 0.1)),
        ("x: 2, y: -.5, z: 1e-1 and 9", None),
        ("The cup is 0.3 m from 1 of 2 chairs", None),
        ("[0.25,0.5,-7]", (0.25, 0.5, -1)),
        ("to the left", None),
        ("0.3 0.2", None),
        ("", None),
        ("nan nan nan", None),
        ("1 2 " + "9" * 400, None),
        (np.array([0.5, 3, -3], np.float32), (0.5, 1, -1)),
        (np.array([0.5, np.nan, 0], np.float32), None),
        (np.zeros(2, np.float32), None),
    ],
)
def test_three_numbers_are_a_displacement(adapter: SpatialAdapter, feedback, action):
    read = adapter.to_action(feedback)
    if action is None:
        assert read is None
    else:
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, action, atol=1e-6)


def test_the_first_numbers_of_any_text_are_a_displacement_where_that_is_wanted(adapter: SpatialAdapter):
    np.testing.assert_allclose(
        adapter.first_numbers_to_action("x: 2, y: -.5, z: 1e-1 and 9"), (1, -0.5, 0.1), atol=1e-6
    )
    assert adapter.first_numbers_to_action("0.3 of 2") is None
    np.testing.assert_array_equal(adapter.first_numbers_to_action(np.array([0.5, 3, -3])), [0.5, 1, -1])


def test_the_replies_that_a_model_is_held_to_are_26_displacements(adapter: SpatialAdapter):
    actions = np.array([adapter.to_action(text) for text in SpatialAdapter.answers])
    assert len(np.unique(actions, axis=0)) == 26 and (np.abs(actions).max(1) == 0.5).all()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Why?", "one slot"),
        ("<image><image>", "one slot"),
        ("<image>{colour}", "unknown fields"),
        ("<image>{", "no temp"),
    ],
)
def test_prompts_that_cannot_be_filled_are_refused(adapter: SpatialAdapter, prompt: str, message: str):
    with pytest.raises(ValueError, match=message):
        single.ActionHints(SpatialEnv(), moves, worker="thread", prompt=prompt)
    adapter.check_prompt(IMAGE_SLOT + "".join(f"{{{field}}}" for field in FIELDS))


def test_hints_are_displacements_in_sync_mode():
    envs = vector.ActionHints(SpatialVectorEnv(3, steps=4), moves, mode="sync", worker="thread")
    _, infos = envs.reset(seed=0)
    for _ in range(6):
        contexts = [language.all_captions().index(truth(envs.unwrapped, row)) for row in range(3)]
        np.testing.assert_allclose(
            infos["hints"].actions, [[each % 100 / 100, -0.5, 1] for each in contexts], atol=1e-6
        )
        *_, infos = envs.step(infos["hints"].actions)
    assert envs.counters()["availability"] == 1.0
    envs.close()


def test_hints_come_late_in_async_mode_and_in_the_single_environment():
    env = single.ActionHints(SpatialEnv(), moves, mode="async", worker="thread")
    _, info = env.reset(seed=0)
    deadline, told = time.monotonic() + 20, 0
    while told < 3 and time.monotonic() < deadline:
        told += len(info["hints"].actions)
        *_, info = env.step(np.full(3, 0.1, np.float32))
        time.sleep(0.005)
    env.close()
    assert told >= 3


def test_a_mentor_of_nonsense_suggests_nothing():
    envs = vector.ActionHints(SpatialVectorEnv(2), lambda asked: ["Blue."] * len(asked), mode="sync", worker="thread")
    _, infos = envs.reset(seed=0)
    assert infos["hints"].actions.shape == (0, 3) and envs.counters()["availability"] == 0.0
    envs.close()


def test_margins_are_those_of_the_true_caption(adapter: SpatialAdapter):
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], np.float32)
    margins = adapter.margins(probabilities, np.zeros((2, 3), np.float32))
    np.testing.assert_allclose(margins, [0.2, -0.5], atol=1e-6)
    assert margins.dtype == np.float32


@pytest.mark.parametrize("num_envs", [None, 4])
def test_acting_where_clip_reads_rightly_gains_more(num_envs: int | None):
    module, env = (single, SpatialEnv()) if num_envs is None else (vector, SpatialVectorEnv(num_envs))
    wrapped = module.ClipReward(env, scorer, mode="sync", worker="thread", scale=0.5)
    inner, rows = (env.vector, 1) if num_envs is None else (env, num_envs)
    wrapped.reset(seed=0)
    gains: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(24 // rows):
        parities = [language.all_captions().index(truth(inner, row)) % 2 for row in range(rows)]
        action = np.full((rows, 3), 0.15, np.float32)
        _, reward, *_, infos = wrapped.step(action if num_envs else action[0])
        valid = np.where(infos["valid"], 1.0, -1.0)
        for parity, gain in zip(parities, np.ravel(reward - valid), strict=True):
            gains[parity].append(gain)
    wrapped.close()
    assert min(gains[0][2:]) > max(gains[1][2:]) and max(map(abs, gains[0] + gains[1])) <= 0.5


@pytest.mark.parametrize(("wrapper", "mentor"), [(single.ActionHints, "vlm"), (single.ClipReward, "clip")])
def test_our_own_models_are_those_for_rooms(monkeypatch: pytest.MonkeyPatch, wrapper, mentor: str):
    loaded = []
    monkeypatch.setattr("mentorgym.mentors.load.load_mentor", lambda spec, **options: loaded.append(spec) or moves)
    wrapper(SpatialEnv(), worker="thread").close()
    assert loaded == [f"{mentor}:{WEIGHTS / f'spatial_{mentor}'}"]
