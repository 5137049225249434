"""Whom the wrappers ask and when, what they tell, and what they refuse."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import mentorgym.wrappers
import mentorgym.wrappers.vector
from mentorgym.wrappers import feedback
from tests.wrappers.scripted import ScriptedEnv, ScriptedService, ScriptedVectorEnv
from tests.wrappers.test_normaliser import slow

single, vector = mentorgym.wrappers, mentorgym.wrappers.vector


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedService]:
    """The service that wrappers get, for a test to shape."""
    shaped = type("Shaped", (ScriptedService,), {})
    monkeypatch.setattr(feedback, "MentorService", shaped)
    return shaped


def expert(requests):
    """A mentor that a service in a thread can ask."""
    return [request.action for request in requests]


def drive(envs: gym.vector.VectorEnv, steps: int) -> list[dict[str, Any]]:
    """The infos of a reset and `steps` steps whose actions tell what they answer."""
    observations, infos = envs.reset()
    told = [infos]
    for _ in range(steps):
        observations, _, _, _, infos = envs.step(observations["state"][:, :2])
        told.append(infos)
    return told


def hints_of(told: list[dict[str, Any]]) -> dict[tuple[int, int], tuple[float, ...]]:
    """All hints by environment and number."""
    late = [each for infos in told for each in zip(*infos["hints"], strict=True)]
    assert len({(int(env), int(number)) for env, number, _ in late}) == len(late), "each comes once"
    return {(int(env), int(number)): tuple(action.tolist()) for env, number, action in late}


def test_every_observation_gets_the_next_number_across_episodes(service):
    envs = vector.ActionHints(ScriptedVectorEnv(2, lambda env, serial: serial % 4 == env), "any")
    told = drive(envs, 8)
    numbers = np.stack([infos["observation_number"] for infos in told])
    np.testing.assert_array_equal(numbers, np.repeat(np.arange(9)[:, None], 2, 1))
    assert numbers.dtype == np.int64
    # Serial numbers begin with 7; every observation to act on was asked about, final ones never.
    assert sorted(envs.unwrapped.adapter.asked) == [(env, serial) for env in (0, 1) for serial in range(7, 16)]
    assert hints_of(told) == {(env, n): (env, n + 7) for env in (0, 1) for n in range(7)}


def test_where_nothing_resets_by_itself_final_observations_have_no_number(service):
    inner = ScriptedVectorEnv(2, lambda env, serial: env == 0 and serial == 8, AutoresetMode.DISABLED)
    envs = vector.ActionHints(inner, "any")
    told = drive(envs, 3)
    mask = np.array([True, False])
    _, infos = envs.reset(options={"reset_mask": mask})
    told.append(infos)
    assert [infos["observation_number"].tolist() for infos in told] == [[0, 0], [1, 1], [-1, 2], [-1, 3], [2, 3]]
    assert inner.adapter.asked.count((1, 10)) == 1, "what a reset leaves alone is not asked about again"


def test_a_partial_reset_numbers_only_what_it_starts(service):
    envs = vector.ActionHints(ScriptedVectorEnv(2), "any")
    drive(envs, 2)
    _, infos = envs.reset(options={"reset_mask": np.array([False, True])})
    assert infos["observation_number"].tolist() == [2, 3]


@pytest.mark.parametrize(("every", "asked"), [(1, range(10)), (3, (0, 3, 6, 9)), (100, (0,))])
def test_every_kth_observation_is_asked_about(service, every, asked):
    envs = vector.ActionHints(ScriptedVectorEnv(2), "any", every=every)
    drive(envs, 9)
    assert envs.unwrapped.adapter.asked == [(env, n + 7) for n in asked for env in (0, 1)]


@pytest.mark.parametrize("events", [True, False])
def test_urgent_observations_are_asked_about_out_of_turn(service, events):
    inner = ScriptedVectorEnv(2)
    inner.adapter.pressing[1] = True
    drive(vector.ActionHints(inner, "any", every=100, events=events), 2)
    assert inner.adapter.asked == [(0, 7), (1, 7), *([(1, 8), (1, 9)] if events else [])]


def test_at_the_bound_questions_are_skipped_and_counted(service):
    service.delay = staticmethod(lambda key: 1000)
    envs = vector.ActionHints(ScriptedVectorEnv(2), "any", max_outstanding=2)
    drive(envs, 9)
    assert envs.unwrapped.adapter.asked == [(0, 7), (1, 7), (0, 8), (1, 8)], "no picture is drawn in vain"
    assert envs.counters()["skipped"] == 16 and envs.counters()["availability"] == 0.0


def test_at_the_bound_a_step_pauses_and_nothing_is_lost(service):
    service.delay = staticmethod(lambda key: 5 + key[1] % 3)
    envs = vector.ActionHints(ScriptedVectorEnv(2), "any", max_outstanding=2, at_bound="pause")
    told = drive(envs, 40)
    assert len(envs.unwrapped.adapter.asked) == 82 and envs.counters()["skipped"] == 0
    arrived = hints_of(told)
    assert {(env, n) for env in (0, 1) for n in range(38)} <= set(arrived)
    assert envs.counters()["availability"] == 1.0


def test_a_pause_has_an_end(service):
    service.delay = staticmethod(lambda key: 10**9)
    envs = vector.ActionHints(ScriptedVectorEnv(2), "any", max_outstanding=1, at_bound="pause", pause_timeout=0.05)
    start = time.monotonic()
    drive(envs, 2)
    assert 0.1 <= time.monotonic() - start < 5
    assert envs.counters()["skipped"] == 4


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_counters_tell_availability_and_staleness(service, mode):
    # Number 1 of each environment comes back empty.
    service.delay = staticmethod(lambda key: -1 if key[1] == 1 else 2)
    envs = vector.ActionHints(ScriptedVectorEnv(2), "any", mode=mode)
    told = drive(envs, 9)
    counters = envs.counters()
    answered = 9 if mode == "sync" else 6
    assert counters["availability"] == pytest.approx(answered / (answered + 1))
    assert counters["staleness"] == (0 if mode == "sync" else pytest.approx((3 * answered + 1) / (answered + 1)))
    assert counters["restarts"] == 0
    assert (0, 1) not in hints_of(told)


def mumble(requests):
    """A mentor whose replies suggest no action."""
    return ["well ..." for _ in requests]


def test_a_reply_that_suggests_nothing_is_no_hint_and_logged_once_with_an_example(caplog):
    envs = vector.ActionHints(ScriptedVectorEnv(2), mumble, mode="sync")
    assert hints_of(drive(envs, 3)) == {}
    assert envs.counters()["availability"] == 0.0
    envs.close()
    (message,) = caplog.messages
    assert message.startswith("an answer of mentor 'mumble' cannot be read as an action: 'well ...'.")
    assert message.endswith("A usable answer is, for example, 'sit'")


def test_the_single_wrapper_logs_what_it_cannot_read(caplog):
    env = single.ActionHints(ScriptedEnv(), lambda requests: ["x" * 1000] * len(requests), mode="sync")
    env.reset()
    env.step(np.zeros(2))
    env.close()
    (message,) = caplog.messages
    assert f"'{'x' * 200} ...'" in message and "x" * 201 not in message


def chat(requests):
    """A mentor that talks of numbers."""
    return ["I see 2 cars and 1 walker 30 m ahead, so I brake" for _ in requests]


@pytest.mark.parametrize(("reading", "hints"), [({}, 0), ({"reading": "strict"}, 0), ({"reading": "first_numbers"}, 2)])
def test_a_chatty_reply_is_a_hint_only_where_first_numbers_are_wanted(reading, hints):
    import gymnasium as gym

    envs = vector.ActionHints(gym.make_vec("UnitySpatial-v0", num_envs=2), chat, mode="sync", **reading)
    _, infos = envs.reset(seed=0)
    assert len(infos["hints"].actions) == hints
    assert envs.counters()["availability"] == hints / 2
    envs.close()


def test_a_reading_that_an_environment_does_not_have_is_refused():
    with pytest.raises(ValueError, match="reading='loose': choose one of strict, first_numbers"):
        vector.ActionHints(ScriptedVectorEnv(1), expert, reading="loose")
    with pytest.raises(
        ValueError, match="reading='first_numbers': actions of this environment are read 'strict' alone"
    ):
        vector.ActionHints(ScriptedVectorEnv(1), expert, reading="first_numbers")


def test_an_unavailable_answer_is_no_fault(caplog):
    envs = vector.ActionHints(ScriptedVectorEnv(1), lambda requests: [None] * len(requests), mode="sync")
    drive(envs, 2)
    envs.close()
    assert caplog.messages == []


def test_sync_and_async_give_the_same_hints():
    def ends(env, serial):
        return serial % (3 + env) == 0

    told = {}
    for mode in ("sync", "async"):
        envs = vector.ActionHints(ScriptedVectorEnv(3, ends), expert, mode=mode, at_bound="pause", max_wait=0.0)
        told[mode] = drive(envs, 30)
        envs.close()
    for number, infos in enumerate(told["sync"]):
        assert infos["hints"].numbers.tolist() == [number] * 3, "all of a step's hints come with it"
    sync, late = hints_of(told["sync"]), hints_of(told["async"])
    assert sync == {(env, n): (env, n + 7) for env in range(3) for n in range(31)}
    assert late.items() <= sync.items() and len(late) >= 93 - 3 * 4


def test_sync_gives_up_on_an_answer_in_the_end(service):
    service.delay = staticmethod(lambda key: 10**9)
    envs = vector.ActionHints(ScriptedVectorEnv(1), "any", mode="sync", pause_timeout=0.02)
    assert hints_of(drive(envs, 2)) == {}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_bonuses_are_normalised_clipped_scaled_margins_of_the_actions_taken(service, mode):
    service.delay = staticmethod(lambda key: 0 if mode == "sync" else 3)
    inner = ScriptedVectorEnv(1, lambda env, serial: serial % 5 == 0)
    envs = vector.ClipReward(inner, "any", mode=mode, scale=0.5)
    observations, infos = envs.reset()
    assert len(infos["bonuses"].envs) == 0
    rewards, late = [], []
    for _ in range(20):
        observations, reward, _, _, infos = envs.step(observations["state"][:, :2])
        rewards.append(float(reward[0]))
        late += zip(*(column.tolist() for column in infos["bonuses"]), strict=True)
    # The margin of observation n is its serial number, n + 7.
    expected = [0.5 * value for value in slow([n + 7.0 for n in range(20)])]
    if mode == "sync":
        np.testing.assert_allclose(rewards, np.add(expected, 1), rtol=1e-5)
        assert late == []
    else:
        assert set(rewards) == {1.0}
        assert [each[:2] for each in late] == [(0, n) for n in range(len(late))] and len(late) >= 16
        np.testing.assert_allclose([each[2] for each in late], expected[: len(late)], rtol=1e-5)
    assert envs.counters()["margin"] == pytest.approx(
        np.mean([n + 7 for n in range(20 if mode == "sync" else len(late))])
    )
    assert infos["bonuses"].values.dtype == np.float32


def test_the_scorer_gets_the_adapters_anchors(service):
    envs = vector.ClipReward(ScriptedVectorEnv(1), "clip", options={"device": "cpu"})
    assert envs._bonuses.service.options == {"anchors": [["a cat", "a dog"]], "device": "cpu"}


@pytest.mark.parametrize(("told", "passed"), [("grid", ["sit", "run"]), (["go"], ["go"]), (None, None)])
def test_a_grid_of_answers_is_the_adapters(service, told, passed):
    envs = vector.ActionHints(ScriptedVectorEnv(1), "vlm", options={"answers": told, "device": "cpu"})
    assert envs._hints.service.options == {"answers": passed, "device": "cpu"}


def test_what_is_no_judgement_of_the_anchors_earns_nothing(caplog):
    envs = vector.ClipReward(ScriptedVectorEnv(2), lambda requests: [np.ones(7), "fine"], mode="sync")
    envs.reset()
    _, rewards, _, _, _ = envs.step(np.zeros((2, 2)))
    assert rewards.tolist() == [1.0, 1.0] and envs.counters()["availability"] == 0.0
    envs.close()
    (message,) = caplog.messages
    assert "as probabilities of the anchors: float32 (7,) [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]." in message
    assert message.endswith("A usable answer is, for example, float32 (2,), finite")


def test_an_observation_that_a_reset_overtakes_earns_nothing(service):
    envs = vector.ClipReward(ScriptedVectorEnv(1), "any")
    envs.reset()
    observations, _ = envs.reset()
    for _ in range(4):
        observations, _, _, _, infos = envs.step(observations["state"][:, :2])
        assert 0 not in infos["bonuses"].numbers.tolist()
    assert not envs._bonuses._actions.keys() - {(0, n) for n in range(2, 5)}


def test_stacked_wrappers_share_the_numbers(service):
    inner = vector.ActionHints(ScriptedVectorEnv(2), "vlm", every=2)
    drive(inner, 3)
    outer = vector.ClipReward(inner, "clip")
    told = drive(outer, 5)
    assert [infos["observation_number"].tolist() for infos in told] == [[n, n] for n in range(4, 10)]
    assert {"hints", "bonuses"} <= told[-1].keys()
    assert {number for infos in told for number in infos["bonuses"].numbers.tolist()} <= set(range(4, 10))


def test_the_single_wrappers_tell_the_same():
    env = single.ClipReward(
        single.ActionHints(ScriptedEnv(lambda _, serial: serial == 9), expert, mode="sync"),
        expert,
        mode="sync",
    )
    observation, info = env.reset(seed=1)
    numbers, hints, rewards = [info["observation_number"]], [info["hints"]], []
    for _ in range(3):
        observation, reward, terminated, _, info = env.step(observation["state"][:2])
        numbers.append(info["observation_number"])
        hints.append(info["hints"])
        rewards.append(reward)
    assert terminated and numbers == [0, 1, 2, -1]
    assert [late.actions.tolist() for late in hints] == [[[0, 7]], [[0, 8]], [[0, 9]], []]
    np.testing.assert_allclose(rewards, np.add(1, [0.25 * value for value in slow([7, 8, 9])]))
    observation, info = env.reset()
    assert info["observation_number"] == 3
    assert env.counters()["availability"] == 1.0
    env.close()


def test_closing_closes_the_service(service):
    for env in (vector.ActionHints(ScriptedVectorEnv(1), "a"), single.ActionHints(ScriptedEnv(), "a")):
        env.close()
        assert env._hints.service.closed
    for env in (vector.ClipReward(ScriptedVectorEnv(1), "a"), single.ClipReward(ScriptedEnv(), "a")):
        env.close()
        assert env._bonuses.service.closed


@pytest.mark.parametrize("name", ["ActionHints", "ClipReward"])
def test_an_environment_without_an_adapter_is_refused(name):
    with pytest.raises(TypeError, match="CartPoleEnv has no `adapter`"):
        getattr(single, name)(gym.make("CartPole-v1"), expert)
    envs = SyncVectorEnv([lambda: ScriptedEnv()], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(TypeError, match="SyncVectorEnv has no `adapter`.*make_vec"):
        getattr(vector, name)(envs, expert)
    envs.close()


@pytest.mark.parametrize("name", ["ActionHints", "ClipReward"])
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"at_bound": "stop"}, ValueError, "at_bound='stop': choose one of skip, pause"),
        ({"mode": "later"}, ValueError, "mode='later'"),
        ({"worker": "ray"}, ValueError, "worker='ray'"),
        ({"every": 0}, ValueError, "every=0: give a whole number, at least 1"),
        ({"every": 2.5}, ValueError, "every=2.5"),
        ({"max_outstanding": 0}, ValueError, "max_outstanding=0"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"max_wait": -1}, ValueError, "max_wait=-1"),
        ({"pause_timeout": float("inf")}, ValueError, "pause_timeout=inf"),
        ({"prompt": "no picture"}, ValueError, "no slot <image>"),
        ({"evry": 2}, TypeError, "evry"),
    ],
)
def test_bad_arguments_are_refused_before_a_mentor_starts(service, name, arguments, error, words):
    with pytest.raises(error, match=words):
        getattr(vector, name)(ScriptedVectorEnv(1), "any", **arguments)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), "much"])
def test_a_scale_that_is_none_is_refused(service, scale):
    with pytest.raises(ValueError, match="scale="):
        vector.ClipReward(ScriptedVectorEnv(1), "any", scale=scale)


def test_environments_that_reset_a_step_late_are_refused(service):
    with pytest.raises(ValueError, match="AutoresetMode.SAME_STEP"):
        vector.ActionHints(ScriptedVectorEnv(1, mode=AutoresetMode.NEXT_STEP), "any")


def test_a_mentor_that_cannot_be_loaded_fails_at_construction():
    with pytest.raises(mentorgym.mentors.MentorError, match="oracle"):
        vector.ActionHints(ScriptedVectorEnv(1), "oracle", worker="thread")
