"""What the agents share that is not their algorithm: masks packed to bits, the replay buffer, the folder of a run."""

from mentorgym.agents.toolbox.masks import PatchConvolution, pack_observations, unpack
from mentorgym.agents.toolbox.replay import Batch, Observations, ReplayBuffer
from mentorgym.agents.toolbox.runs import METRICS, Run, make_envs, start_torch, to_tensors

__all__ = [
    "METRICS",
    "Batch",
    "Observations",
    "PatchConvolution",
    "ReplayBuffer",
    "Run",
    "make_envs",
    "pack_observations",
    "start_torch",
    "to_tensors",
    "unpack",
]
