"""Every reply lands on the row of its own observation, or nowhere."""

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.agents.toolbox import ReplayBuffer
from mentorgym.wrappers import feedback
from mentorgym.wrappers.vector import ActionHints, ClipReward
from tests.wrappers.scripted import ScriptedService, ScriptedVectorEnv


def check(buffer: ReplayBuffer) -> tuple[int, int]:
    """Assert that what the buffer holds is on its own row; returns how many hints and bonuses there are."""
    batch = buffer[np.arange(len(buffer))]
    own = batch.observations["state"]
    hinted, earned = batch.hint_mask > 0, batch.bonus_mask > 0
    np.testing.assert_array_equal(batch.hints[hinted], own[hinted, :2])
    np.testing.assert_array_equal(batch.hints[~hinted], 0)
    np.testing.assert_array_equal(batch.bonuses[earned], own[earned, 1])
    np.testing.assert_array_equal(batch.bonuses[~earned], 0)
    return int(hinted.sum()), int(earned.sum())


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_envs=st.integers(1, 3),
    capacity=st.integers(3, 40),
    every=st.integers(1, 3),
    at_bound=st.sampled_from(["skip", "pause"]),
    duplicates=st.booleans(),
    slowest=st.integers(0, 12),
)
def test_through_the_wrappers_every_reply_is_on_its_row_or_dropped(
    seed, num_envs, capacity, every, at_bound, duplicates, slowest
):
    rng = np.random.default_rng(seed)

    class Service(ScriptedService):
        delay = staticmethod(lambda key: int(rng.integers(-1, slowest + 1)))

    Service.duplicates = duplicates
    arguments = {"every": every, "at_bound": at_bound, "max_outstanding": int(rng.integers(1, 5))}
    with mock.patch.object(feedback, "MentorService", Service):
        inner = ScriptedVectorEnv(num_envs, lambda env, serial: rng.random() < 0.1)
        envs = ClipReward(ActionHints(inner, "one", **arguments), "another", scale=1.0, **arguments)
    envs._bonuses.normaliser = lambda margins: margins
    adapter, buffer = inner.adapter, ReplayBuffer(max(capacity, num_envs), num_envs)
    observations, infos = envs.reset()
    buffer.start(observations, infos["observation_number"])
    for _ in range(60):
        buffer.attach_hints(infos["hints"])
        buffer.attach_bonuses(infos["bonuses"])
        adapter.pressing[:] = rng.random(num_envs) < 0.2
        if rng.random() < 0.05:
            mask = rng.random(num_envs) < 0.6
            observations, infos = envs.reset(options={"reset_mask": mask})
            buffer.start(observations, infos["observation_number"])
            continue
        actions = observations["state"][:, :2].copy()
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        np.testing.assert_array_equal(rewards, 1)
        told = infos.get("final_obs"), infos["observation_number"]
        buffer.add(actions, rewards, terminated, truncated, observations, *told)
    hints, bonuses = check(buffer)
    if slowest == 0 and every == 1 and num_envs * 20 < capacity:
        assert hints > 0 and bonuses > 0


STEPS = st.tuples(st.just("add"), st.lists(st.booleans(), min_size=3, max_size=3))
RESETS = st.tuples(st.just("start"), st.lists(st.booleans(), min_size=3, max_size=3))
REPLIES = st.tuples(st.just("attach"), st.tuples(st.integers(0, 2), st.integers(-1, 30)))
RELOADS = st.tuples(st.just("reload"), st.none())


@settings(max_examples=60)
@given(
    capacity=st.integers(3, 21),
    schedule=st.lists(st.one_of(STEPS, STEPS, REPLIES, REPLIES, RESETS, RELOADS), max_size=60),
)
def test_the_buffer_keeps_what_is_there_and_drops_the_rest(capacity, schedule, tmp_path_factory):
    num_envs = 3
    envs = np.arange(num_envs)
    buffer = ReplayBuffer(capacity, num_envs)
    # In a plain list for each environment: the numbers and serial numbers of its rows, the newest last.
    rows: list[list[tuple[int, int]]] = [[] for _ in envs]
    hinted: set[tuple[int, int]] = set()
    numbers, serial = np.zeros(num_envs, np.int64), np.full(num_envs, 6)

    def observations():
        state = np.zeros((num_envs, 10), np.float32)
        state[:, 0], state[:, 1] = envs, serial
        return {"bev": np.zeros((num_envs, 15, 96, 96), np.uint8), "state": state}

    def start():
        buffer.start(observations(), numbers.copy())
        for env in envs:
            rows[env][-1:] = [(int(numbers[env]), int(serial[env]))]

    start()
    for name, what in schedule:
        if name == "add":
            ended = np.array(what)
            final = np.full(num_envs, None, object)
            for env in np.flatnonzero(ended):
                final[env] = {key: array[env] for key, array in observations().items()}
            numbers, serial = numbers + 1, serial + 1
            false = np.zeros(num_envs, bool)
            buffer.add(np.zeros((num_envs, 2)), np.zeros(num_envs), ended, false, observations(), final, numbers.copy())
            for env in envs:
                rows[env] = [*rows[env], (int(numbers[env]), int(serial[env]))][-buffer.rows :]
        elif name == "start":
            numbers, serial = numbers + np.array(what), serial + np.array(what)
            start()
        elif name == "attach":
            env, back = what
            number = int(numbers[env]) - back
            found = [own for own in rows[env] if own[0] == number >= 0]
            late = np.array([[env, own[1]] for own in found] or [[np.nan, np.nan]], np.float32)
            attached = buffer.attach_hints(feedback.LateHints(np.array([env]), np.array([number]), late))
            buffer.attach_bonuses(feedback.LateBonuses(np.array([env]), np.array([number]), late[:, 1]))
            assert attached == len(found)
            hinted |= {(env, own[1]) for own in found}
        else:
            folder = tmp_path_factory.mktemp("replay") / "saved"
            buffer.save(folder)
            buffer = ReplayBuffer(capacity, num_envs)
            buffer.load(folder)
            # Numbers begin anew, and what was asked before finds nothing; the resumed run begins with a reset.
            rows = [[(-1, own[1]) for own in each] for each in rows]
            numbers, serial = np.zeros(num_envs, np.int64), serial + 1
            start()
    kept = {(env, own[1]) for env in envs for own in rows[env][:-1]}
    assert check(buffer) == (len(kept & hinted), len(kept & hinted))
