"""The agent to copy: it learns, resumes, loads to the same actions, and its returns are those of the formula."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mentorgym.agents.toolbox import make_envs, template


def make_args(toy_road: str, tmp_path, **changes) -> template.Args:
    flags = {"env_id": toy_road, "env_args": ("steps=20",), "num_envs": 2, "runs": str(tmp_path / "runs")}
    return template.Args(**flags | {"total_steps": 400, "log_every": 100, "rollout_steps": 10} | changes)


def test_a_short_run_changes_every_parameter_and_loads_to_the_same_actions(toy_road, tmp_path):
    folder = template.train(make_args(toy_road, tmp_path))
    torch.manual_seed(0)
    trained = load_file(folder / "policy.safetensors")
    assert all(not torch.equal(trained[name], start) for name, start in template.Policy().state_dict().items())
    observations, _ = make_envs(toy_road, 3, ()).reset(seed=1)
    policy = template.load_policy(folder)
    actions = policy(observations)
    assert actions.shape == (3, 2) and actions.dtype == np.float32 and np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, policy(observations))


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(toy_road, tmp_path, monkeypatch):
    args = make_args(toy_road, tmp_path, checkpoint_every=200)

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(template.Run, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            template.train(args)
    starts: list[int] = []
    load = template.Run.load
    monkeypatch.setattr(template.Run, "load", lambda *arguments: starts.append(load(*arguments)) or starts[-1])
    assert (template.train(args) / "done").exists()
    assert starts == [400]


def test_returns_are_discounted_sums_that_end_with_an_episode():
    rewards = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    ended = np.array([[False, False], [True, False], [False, False]])
    expected = [[1 + 0.5 * 2, 1 + 0.5 * 2 + 0.25 * 4], [2, 2 + 0.5 * 4], [4, 4]]
    np.testing.assert_allclose(template.discounted_returns(rewards, ended, 0.5), expected)
