"""Returns over several steps stop where an episode or the buffer does, and count bonuses as rewards are counted."""

import sys

import numpy as np
import pytest

from mentorgym.agents.toolbox import Batch, ReplayBuffer
from mentorgym.wrappers import LateBonuses


@pytest.fixture
def filled(toy_road) -> tuple[ReplayBuffer, dict]:
    """A buffer that has wrapped round, and each step's reward, bonus, end by (environment, episode, step)."""
    __import__(toy_road.split(":")[0])
    envs = sys.modules["toy_road"].ToyRoadEnv(2, steps=9)
    buffer, generator, told = ReplayBuffer(60, 2, seed=3), np.random.default_rng(0), {}
    observations, _ = envs.reset(seed=[1, 2])
    numbers = np.zeros(2, np.int64)
    buffer.start(observations, numbers)
    for _ in range(50):
        # The first environment's episodes end off the road, the second's in time.
        actions = np.array([[1.0, 1.0], [1.0, 0.0]]) * generator.uniform(0.9, 1, (2, 2))
        before = observations["state"]
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        bonuses = generator.uniform(-1, 1, 2).astype(np.float32)
        for env in range(2):
            key = tuple(before[env, :3].astype(int))
            told[key] = float(rewards[env]), float(bonuses[env]), bool(terminated[env]), bool(truncated[env])
        late = LateBonuses(np.arange(2), numbers, bonuses)
        numbers = numbers + 1
        buffer.add(actions, rewards, terminated, truncated, observations, infos.get("final_obs"), numbers)
        assert buffer.attach_bonuses(late) == 2
    return buffer, told


@pytest.mark.parametrize("n_step", [1, 2, 3, 5])
def test_returns_against_sums_over_the_episode(filled, n_step):
    buffer, told = filled
    newest = {tuple(row) for row in buffer[np.arange(len(buffer))[-2:]].observations["state"][:, :3].astype(int)}
    batch: Batch = buffer.sample(400, n_step, 0.9)
    seen = set()
    for i in range(400):
        env, episode, step = batch.observations["state"][i, :3].astype(int)
        reward, bonus, discount = 0.0, 0.0, 1.0
        for k in range(n_step):
            gain, extra, terminated, truncated = told[env, episode, step + k]
            reward, bonus, discount = reward + discount * gain, bonus + discount * extra, discount * 0.9
            stops = terminated, truncated, (env, episode, step + k) in newest
            if any(stops):
                break
        seen.add((k, stops))
        assert batch.rewards[i] == pytest.approx(reward, abs=1e-5)
        assert batch.bonuses[i] == pytest.approx(bonus, abs=1e-5)
        assert batch.discounts[i] == pytest.approx(discount)
        assert batch.terminated[i] == terminated
        np.testing.assert_array_equal(batch.next_observations["state"][i, :3], [env, episode, step + k + 1])
        assert batch.hint_mask[i] == 0
    ends = {stops for _, stops in seen}
    assert (True, False, False) in ends and (False, True, False) in ends and (False, False, False) in ends
    assert {k for k, _ in seen} == set(range(n_step))


def test_a_buffer_without_bonuses_has_none(toy_road):
    buffer = ReplayBuffer(10, 1)
    observation = {"bev": np.zeros((1, 15, 96, 96), np.uint8), "state": np.zeros((1, 10), np.float32)}
    buffer.start(observation)
    for _ in range(4):
        buffer.add(np.zeros((1, 2)), np.ones(1), np.zeros(1, bool), np.zeros(1, bool), observation, None)
    batch = buffer.sample(50, 3, 0.5)
    assert batch.bonuses is None
    # The newest two transitions have fewer steps ahead of them.
    assert set(batch.rewards.tolist()) == {1.75, 1.5, 1.0}
    assert set(batch.discounts.tolist()) == {0.125, 0.25, 0.5}
