"""Cross-entropy search for a linear policy on the state vector: a whole agent in one small file."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro

import mentorgym  # noqa: F401 - registers the environments


@dataclasses.dataclass
class Args:
    """Flags of the search."""

    env_id: str = "CarlaNoCrash-v0"
    """environment"""
    seed: int = 0
    """seed of the search and of the environments"""
    total_steps: int = 40_000
    """environment steps, all environments together"""
    num_envs: int = 16
    """candidates of a generation, each driving an environment of its own"""
    horizon: int = 100
    """steps that a candidate is judged by"""
    runs: str = "runs"
    """folder of the run folders"""


def act(weights: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Actions float32 [N, 2] for weights [N or 1, 2, 11] and states [N, 10]."""
    inputs = np.column_stack([states, np.ones(len(states))])
    return np.tanh((weights @ inputs[:, :, None])[:, :, 0]).astype(np.float32)


def train(args: Args) -> Path:
    """Search, unless that was done before, and return the run's folder."""
    folder = Path(args.runs) / f"tiny_agent__seed{args.seed}__{args.total_steps}"
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = {"agent": "tiny_agent", "args": dataclasses.asdict(args)}
    (folder / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng(args.seed)
    envs = gym.make_vec(args.env_id, num_envs=args.num_envs, observation="state")
    mean, spread, step = np.zeros((2, 11)), np.full((2, 11), 0.5), 0
    while step < args.total_steps:
        candidates = generator.normal(mean, spread, (args.num_envs, 2, 11))
        returns, alive = np.zeros(args.num_envs), np.ones(args.num_envs, bool)
        observations, _ = envs.reset(seed=args.seed)
        for _ in range(args.horizon):
            observations, rewards, terminated, truncated, _ = envs.step(act(candidates, observations))
            returns += rewards * alive
            alive &= ~(terminated | truncated)
        step += args.num_envs * args.horizon
        elite = candidates[np.argsort(returns)[-args.num_envs // 4 :]]
        mean, spread = elite.mean(0), elite.std(0) + 0.02
    envs.close()
    np.save(folder / "policy.npy", mean)
    (folder / "done").write_text(json.dumps({"step": step}))
    return folder


def load_policy(folder: Path, device: str = "cpu") -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The policy of a run's folder: batched observations to actions."""
    weights = np.load(folder / "policy.npy")[None]
    return lambda observations: act(weights, observations["state"])


if __name__ == "__main__":
    train(tyro.cli(Args))
