"""What the agents share that is not their algorithm: masks packed to bits, the replay buffer, the folder of a run."""

from mentorgym.agents.toolbox.masks import PatchConvolution, pack_observations, rotate, shift, unpack
from mentorgym.agents.toolbox.mentoring import FOUND_RL, mentor_metrics, with_hints
from mentorgym.agents.toolbox.replay import Batch, Observations, ReplayBuffer
from mentorgym.agents.toolbox.runs import (
    METRICS,
    Run,
    make_envs,
    parse_flags,
    parse_keywords,
    set_learning_rate,
    start_torch,
    to_tensors,
)
from mentorgym.agents.toolbox.schedules import cosine, linear

__all__ = [
    "FOUND_RL",
    "METRICS",
    "Batch",
    "Observations",
    "PatchConvolution",
    "ReplayBuffer",
    "Run",
    "cosine",
    "linear",
    "make_envs",
    "mentor_metrics",
    "pack_observations",
    "parse_flags",
    "parse_keywords",
    "rotate",
    "set_learning_rate",
    "shift",
    "start_torch",
    "to_tensors",
    "unpack",
    "with_hints",
]
