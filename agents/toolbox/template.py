"""REINFORCE with a linear policy on the state vector: the smallest agent that trains, resumes and is ranked. Copy it.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning" (1992). What
differs: returns are cut off at the end of a rollout and normalised over it.

    mentorgym train my_agent.py --env-args town=Suburb traffic=empty --total-steps 20000
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox import ACTION_SIZE, STATE_SIZE, Recorder, Run, make_envs, run_program, start_torch
from mentorgym.tensors import load_tensors


@dataclasses.dataclass
class Args:
    """Flags of the template. Rerunning the same command continues the run from its last checkpoint."""

    env_id: str = "CarlaNoCrash-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: town=Suburb traffic=dense"""
    num_envs: int = 8
    """environments that step together"""
    seed: int = 0
    """seed of the environments, networks and actions"""
    total_steps: int = 100_000
    """environment steps, all environments together"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    log_every: int = 1_000
    """environment steps between two lines of losses and speed"""
    checkpoint_every: int = 50_000
    """environment steps between two checkpoints"""
    rollout_steps: int = 50
    """steps of each environment between two updates"""
    learning_rate: float = 1e-2
    """learning rate (Adam)"""
    gamma: float = 0.95
    """discount factor a step of 0.1 s"""


class Policy(nn.Module):
    """`state` float32 [B, 10] to a Gaussian over two actions."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Linear(STATE_SIZE, ACTION_SIZE)

    def forward(self, state: torch.Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(torch.tanh(self.mean(state)), 0.5)

    @torch.no_grad()
    def act(self, observations: dict[str, np.ndarray], explore: bool = False) -> np.ndarray:
        """Actions float32 [N, 2] for `state` float32 [N, 10]: sampled, or the mean."""
        density = self(torch.as_tensor(observations["state"]))
        return (density.sample() if explore else density.mean).clamp(-1, 1).numpy()


def discounted_returns(rewards: np.ndarray, ended: np.ndarray, gamma: float) -> np.ndarray:
    """Returns [T, N] of rewards [T, N], each cut off where its episode `ended`, bool [T, N], or the rollout does."""
    returns, following = np.zeros_like(rewards), np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        returns[t] = following = rewards[t] + gamma * following * ~ended[t]
    return returns


def update(
    policy: Policy, optimizer: torch.optim.Optimizer, states: np.ndarray, actions: np.ndarray, returns: np.ndarray
) -> dict[str, torch.Tensor]:
    """One step up the log-density of actions [T, N, 2], weighted by their normalised returns [T, N]."""
    weights = torch.as_tensor((returns - returns.mean()) / (returns.std() + 1e-8), dtype=torch.float32)
    loss = -(policy(torch.as_tensor(states)).log_prob(torch.as_tensor(actions)).sum(-1) * weights).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss/policy": loss.detach()}


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    start_torch(args.seed, threads=1)
    envs = make_envs(args.env_id, args.num_envs, args.env_args)
    # The name is that of the file, by which the harness finds the agent of a run.
    run = Run(Path(__file__).stem, args)
    if run.finished:
        envs.close()
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder

    policy = Policy()
    optimizers = {"policy": torch.optim.Adam(policy.parameters(), lr=args.learning_rate)}
    step = run.load(policy, optimizers, {})
    recorder = Recorder(run, args, stride=args.rollout_steps * args.num_envs)
    seeds = np.random.SeedSequence([args.seed, step]).generate_state(args.num_envs)
    observations, _ = envs.reset(seed=seeds.tolist())
    recorder.start(step)
    while step < args.total_steps:
        states, actions, rewards, ended = [], [], [], []
        for _ in range(args.rollout_steps):
            states.append(observations["state"].copy())
            actions.append(policy.act(observations, explore=True))
            observations, reward, terminated, truncated, infos = envs.step(actions[-1])
            rewards.append(reward.copy())
            ended.append(terminated | truncated)
            step += args.num_envs
            recorder.add_step(step, reward, terminated, truncated, infos)
        returns = discounted_returns(np.array(rewards), np.array(ended), args.gamma)
        recorder.add_losses(update(policy, optimizers["policy"], np.array(states), np.array(actions), returns))
        if recorder.log_due(step):
            recorder.log(step)
        if recorder.checkpoint_due(step):
            run.save_policy(policy, step)
            run.save(step, policy, optimizers, {})

    envs.close()
    run.save_policy(policy, step)
    run.finish(step)
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The policy of a run's folder: from batched observations to actions without exploration."""
    policy = Policy()
    policy.load_state_dict(load_tensors(Path(folder) / "policy.safetensors"))
    return policy.act


if __name__ == "__main__":
    run_program(train, Args)
