"""The replay buffer gives back exactly what went in, holds no transition across episodes, and keeps to its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.agents.toolbox import ReplayBuffer, unpack

VALUES = [(0, 120, 255)] * 3 + [(0, 255)] * 8 + [(0, 80, 170, 255)] * 4
"""The values of each mask channel, from Found-RL's description of the observation."""


def draw_masks(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([generator.choice(np.array(values, np.uint8), size=(96, 96)) for values in VALUES])


POOL = [draw_masks(seed) for seed in range(8)]


def numbered(number: int) -> dict[str, np.ndarray]:
    """An observation that tells its number."""
    return {"bev": POOL[number % len(POOL)], "state": np.full(10, number, np.float32)}


def stack(observations: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([observation[name] for observation in observations]) for name in ("bev", "state")}


def masks_of(observations: dict[str, np.ndarray]) -> np.ndarray:
    return unpack(torch.from_numpy(observations["packed"])).numpy()


def objects(observations: list[dict[str, np.ndarray] | None]) -> np.ndarray:
    array = np.full(len(observations), None, dtype=object)
    for i, observation in enumerate(observations):
        array[i] = observation
    return array


def fill(buffer: ReplayBuffer, steps: int, every_step_ends: bool = False) -> None:
    envs = buffer.num_envs
    row = stack([numbered(env) for env in range(envs)])
    ended = np.full(envs, every_step_ends)
    final = objects([numbered(env) for env in range(envs)]) if every_step_ends else None
    buffer.start(row)
    for _ in range(steps):
        buffer.add(np.zeros((envs, 2)), np.zeros(envs), ended, np.zeros(envs, bool), row, final)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), state=st.lists(st.floats(width=32, allow_nan=False), min_size=10, max_size=10))
def test_every_value_of_masks_and_state_comes_back(seed, state):
    first, second = (
        {"bev": draw_masks(seed)[None], "state": np.array([state], np.float32)},
        {"bev": draw_masks(seed + 1)[None], "state": np.array([state[::-1]], np.float32)},
    )
    buffer = ReplayBuffer(4, 1)
    buffer.start(first)
    action, reward, false = np.array([[0.25, -0.5]]), np.array([1.5]), np.zeros(1, bool)
    buffer.add(action, reward, false, false, second, None)
    batch = buffer[np.array([0])]
    for expected, found in ((first, batch.observations), (second, batch.next_observations)):
        assert found["state"].dtype == np.float32
        np.testing.assert_array_equal(masks_of(found), expected["bev"])
        np.testing.assert_array_equal(found["state"], expected["state"])
    np.testing.assert_array_equal(batch.actions, action)
    np.testing.assert_array_equal(batch.rewards, reward)


@pytest.mark.parametrize("channel", range(15))
def test_each_value_at_each_place_of_a_byte(channel):
    masks = np.zeros((1, 15, 96, 96), np.uint8)
    pixels = masks[0, channel].reshape(-1)
    for place in range(8):
        for i, value in enumerate(VALUES[channel]):
            pixels[64 * i + 9 * place] = pixels[-1 - 64 * i - 9 * place] = value
    buffer = ReplayBuffer(1, 1)
    buffer.start({"bev": masks, "state": np.zeros((1, 10), np.float32)})
    false = np.zeros(1, bool)
    buffer.add(np.zeros((1, 2)), np.zeros(1), false, false, stack([numbered(0)]), None)
    np.testing.assert_array_equal(masks_of(buffer[np.array([0])].observations), masks)


@pytest.mark.parametrize(("channel", "value"), [(0, 80), (2, 135), (3, 120), (10, 1), (11, 120), (14, 254), (1, 128)])
def test_a_value_that_a_channel_cannot_hold_is_refused_by_name(channel, value):
    masks = np.zeros((1, 15, 96, 96), np.uint8)
    masks[0, channel, 40, 50] = value
    with pytest.raises(ValueError, match=rf"channel {channel} holds {value}\b"):
        ReplayBuffer(1, 1).start({"bev": masks, "state": np.zeros((1, 10), np.float32)})


@pytest.mark.parametrize("masks", [np.zeros((1, 15, 96, 95), np.uint8), np.zeros((1, 15, 96, 96), np.float32)])
def test_masks_of_another_shape_or_type_are_refused(masks):
    with pytest.raises(ValueError, match="masks must be uint8"):
        ReplayBuffer(1, 1).start({"bev": masks, "state": np.zeros((1, 10), np.float32)})


def test_a_buffer_smaller_than_one_step_is_refused():
    with pytest.raises(ValueError, match="cannot serve 8 environments"):
        ReplayBuffer(7, 8)


def test_an_end_without_its_final_observation_is_refused():
    buffer = ReplayBuffer(4, 1)
    buffer.start(stack([numbered(0)]))
    with pytest.raises(ValueError, match="same-step autoreset"):
        buffer.add(np.zeros((1, 2)), np.zeros(1), np.ones(1, bool), np.zeros(1, bool), stack([numbered(1)]), None)


@pytest.mark.parametrize("every_step_ends", [False, True])
def test_a_transition_takes_at_most_60_kb_with_both_observations(every_step_ends):
    buffer = ReplayBuffer(400, 4)
    fill(buffer, 200, every_step_ends)
    assert len(buffer) == buffer.capacity == 400
    assert buffer.nbytes / buffer.capacity <= 60_000


class ListBuffer:
    """The same buffer, written down plainly: a list of steps, each a list of whole transitions of numbers."""

    def __init__(self, capacity: int, num_envs: int):
        self.limit = capacity // num_envs
        self.steps: list[list[tuple]] = []

    def add(self, step: list[tuple]) -> None:
        self.steps = (self.steps + [step])[-self.limit :]

    def transitions(self) -> list[tuple]:
        return [transition for step in self.steps for transition in step]


@settings(max_examples=100)
@given(data=st.data(), num_envs=st.integers(1, 3), capacity=st.integers(3, 20))
def test_any_schedule_matches_a_plain_list(data, num_envs, capacity, tmp_path_factory):
    buffer, plain = ReplayBuffer(capacity, num_envs, seed=1), ListBuffer(capacity, num_envs)
    count = num_envs
    current = list(range(num_envs))
    buffer.start(stack([numbered(n) for n in current]))
    kinds = st.lists(st.sampled_from("....tx"), min_size=num_envs, max_size=num_envs)
    schedule = data.draw(st.lists(st.one_of(kinds, st.sampled_from(["reset", "reload"])), max_size=25))
    for entry in schedule:
        if entry == "reset":
            current = list(range(count, count + num_envs))
            count += num_envs
            buffer.start(stack([numbered(n) for n in current]))
        elif entry == "reload":
            folder = tmp_path_factory.mktemp("replay") / "saved"
            buffer.save(folder)
            buffer = ReplayBuffer(capacity, num_envs, seed=2)
            buffer.load(folder)
        else:
            terminated, truncated = (np.array([kind == letter for kind in entry]) for letter in "tx")
            following = list(range(count, count + num_envs))
            begun = list(range(count + num_envs, count + 2 * num_envs))
            count += 2 * num_envs
            after = [b if ends else f for f, b, ends in zip(following, begun, terminated | truncated, strict=True)]
            plain.add(list(zip(current, following, terminated, strict=True)))
            finals = [numbered(f) if ends else None for f, ends in zip(following, terminated | truncated, strict=True)]
            actions = np.array([[n, -n] for n in current], np.float32)
            rewards = np.array(current, np.float32)
            observations = stack([numbered(n) for n in after])
            buffer.add(actions, rewards, terminated, truncated, observations, objects(finals))
            current = after
    expected = plain.transitions()
    assert len(buffer) == len(expected)
    if not expected:
        return
    batch = buffer[np.arange(len(buffer))]
    first, following, terminated = (np.array(column) for column in zip(*expected, strict=True))
    for numbers, observations in ((first, batch.observations), (following, batch.next_observations)):
        np.testing.assert_array_equal(observations["state"], np.repeat(numbers[:, None], 10, 1))
        np.testing.assert_array_equal(masks_of(observations), np.stack([POOL[n % len(POOL)] for n in numbers]))
    np.testing.assert_array_equal(batch.rewards, first)
    np.testing.assert_array_equal(batch.actions, np.stack([first, -first], 1))
    np.testing.assert_array_equal(batch.terminated, terminated)


def test_samples_are_uniform_over_what_is_stored():
    buffer = ReplayBuffer(5, 1)
    buffer.start(stack([numbered(0)]))
    false = np.zeros(1, bool)
    for n in range(1, 9):
        buffer.add(np.zeros((1, 2)), np.array([n - 1]), false, false, stack([numbered(n)]), None)
    rewards = np.concatenate([buffer.sample(50).rewards for _ in range(20)])
    values, counts = np.unique(rewards, return_counts=True)
    np.testing.assert_array_equal(values, [3, 4, 5, 6, 7])
    assert counts.min() > 140  # 200 expected, standard deviation below 13


def test_a_reloaded_buffer_draws_the_same_batches(tmp_path: Path):
    buffer, other = ReplayBuffer(30, 2, seed=1), ReplayBuffer(30, 2, seed=2)
    fill(buffer, 40)
    buffer.sample(3)
    buffer.save(tmp_path / "saved")
    other.load(tmp_path / "saved")
    np.testing.assert_array_equal(buffer.sample(5).observations["state"], other.sample(5).observations["state"])


def test_a_saved_buffer_of_another_size_is_refused(tmp_path: Path):
    buffer = ReplayBuffer(30, 2)
    fill(buffer, 3)
    buffer.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"\[16, 2\], this buffer \[11, 2\]"):
        ReplayBuffer(20, 2).load(tmp_path / "saved")


def test_an_index_beyond_what_is_stored_is_refused():
    buffer = ReplayBuffer(30, 2)
    fill(buffer, 3)
    with pytest.raises(IndexError, match="0 to 5"):
        buffer[np.array([6])]
