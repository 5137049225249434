"""What the agents share that is not their algorithm: the replay buffer and the folder of a run."""

from mentorgym.agents.toolbox.replay import Batch, Observations, ReplayBuffer
from mentorgym.agents.toolbox.runs import METRICS, Run, make_envs, start_torch, to_tensors

__all__ = ["METRICS", "Batch", "Observations", "ReplayBuffer", "Run", "make_envs", "start_torch", "to_tensors"]
