"""The rule-based driver on every fixed route of a town: the share that it completes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import mentorgym  # noqa: F401 - registers the id


def completed(**arguments) -> np.ndarray:
    """Whether the expert completes each test route, bool [routes]."""
    envs = gym.make_vec(
        "CarlaNoCrash-v0",
        num_envs=25,
        split="test",
        observation="state",
        autoreset_mode=AutoresetMode.DISABLED,
        **arguments,
    )
    assert envs.num_routes == 25
    envs.reset(seed=0, options={"route": np.arange(25)})
    done, success = np.zeros(25, bool), np.zeros(25, bool)
    while not done.all():
        *_, terminated, truncated, infos = envs.step(envs.expert_actions())
        ended = (terminated | truncated) & ~done
        if ended.any():
            success[ended] = infos["score"]["success"][ended]
            done |= ended
    return success


@pytest.mark.parametrize("town", ["Suburb", "Village"])
@pytest.mark.parametrize(("traffic", "share"), [("empty", 0.95), ("regular", 0.85)])
def test_the_expert_completes_our_routes(town, traffic, share):
    assert completed(town=town, traffic=traffic).mean() >= share


@pytest.mark.parametrize("number", ["01", "02"])
def test_the_expert_completes_the_real_nocrash_routes(number, maps_folder, routes_folder):
    routes = completed(town=f"Town{number}", routes=f"nocrash_town{number}.csv", traffic="empty")
    assert routes.mean() >= 0.9
