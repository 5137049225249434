"""Threads share the worlds of a step and change nothing but the time that it takes."""

import os
import threading

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from mentorgym.envs.driving import DrivingVectorEnv, parallel_env
from mentorgym.envs.driving.map.town import packaged_towns
from tests.envs.driving.test_env import careless_actions, run, same

QUICK = dict(town="Village", traffic=(15, 30))


def drives(num_envs: int, steps: int, threads: tuple[int, ...], **arguments) -> list:
    """The same drive, resets included, with each number of threads."""
    taken = []
    for count in threads:
        envs = DrivingVectorEnv(num_envs, threads=count, **arguments)
        first = envs.reset(seed=3)[0]
        taken.append([first, run(envs, careless_actions(num_envs, steps)), envs.get_state()])
        envs.close()
    return taken


@pytest.mark.parametrize("num_envs", [1, 7, 16, 64])
def test_threads_change_nothing(num_envs):
    one, *others = drives(num_envs, 30 if num_envs < 64 else 15, (1, 2, 3), **QUICK)
    assert num_envs == 1 or any(step[2].any() for step in one[1])
    assert all(same(one, other) for other in others)


@pytest.mark.parametrize("town", sorted(packaged_towns()))
def test_threads_change_nothing_in_any_town(town):
    one, *others = drives(7, 20, (1, 2, 3), town=town)
    assert all(same(one, other) for other in others)


@pytest.mark.real_maps
@pytest.mark.parametrize("number", ["01", "02"])
def test_threads_change_nothing_on_real_maps(number, maps_folder):
    one, other = drives(5, 10, (1, 2), town=f"Town{number}", traffic=(20, 0))
    assert same(one, other)


def test_threads_change_nothing_under_a_reward_of_ones_own_and_without_autoreset():
    arguments = QUICK | dict(reward=lambda world, _: world.vehicle_velocity[:, 0, 0] / 7, soft_reset=0.5)
    arguments |= dict(autoreset_mode=AutoresetMode.DISABLED, ends="leaderboard")
    one, other = drives(9, 60, (1, 3), **arguments)
    assert same(one, other)


def test_an_error_in_a_slice_reaches_the_caller():
    envs = DrivingVectorEnv(4, threads=3, **QUICK)
    envs.reset(seed=0)

    def fail(first: int, last: int) -> None:
        if last == envs.num_envs:
            raise RuntimeError("in the last slice")

    with pytest.raises(RuntimeError, match="in the last slice"):
        envs._in_slices(fail)
    envs.step(np.zeros((4, 2)))
    envs.close()


def test_a_closed_batch_leaves_no_thread_behind_and_can_still_be_stepped():
    before = threading.active_count()
    envs = DrivingVectorEnv(4, threads=3, **QUICK)
    envs.reset(seed=0)
    envs.step(np.zeros((4, 2)))
    assert before < threading.active_count() <= before + 2
    envs.close()
    assert threading.active_count() == before


def test_several_egos_of_one_world_need_no_second_thread():
    env = parallel_env(2, threads=2, **QUICK)
    env.reset(seed=0)
    env.step(env.expert_actions())
    env.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# Python warns of every fork beside threads; that this one is survived is what is tested.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_forked_from_a_process_with_threads_have_threads_of_their_own():
    envs = DrivingVectorEnv(4, threads=2, **QUICK)
    envs.reset(seed=0)
    expected = [step[1:4] for step in run(envs, careless_actions(4, 5))]
    envs.reset(seed=0)
    child = os.fork()
    if child == 0:
        # Whatever goes wrong here must not run the rest of the tests once more.
        ok = False
        try:
            ok = all(map(same, [step[1:4] for step in run(envs, careless_actions(4, 5))], expected))
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert all(map(same, [step[1:4] for step in run(envs, careless_actions(4, 5))], expected))

    workers = AsyncVectorEnv([lambda: gym.make("CarlaNoCrash-v0", threads=2, **QUICK)] * 2, context="fork")
    try:
        assert workers.reset(seed=0)[0]["bev"].shape == (2, 15, 96, 96)
        workers.step(np.zeros((2, 2), np.float32))
    finally:
        workers.close()
    envs.close()


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two"])
def test_a_number_of_threads_that_is_none(threads):
    with pytest.raises(ValueError, match="threads=.*: give a whole number, at least 1"):
        DrivingVectorEnv(2, threads=threads, **QUICK)
