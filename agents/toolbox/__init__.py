"""What the agents share that is not their algorithm: packed masks, encoders, the replay buffer, the folder of a run."""

from mentorgym.agents.toolbox.encoders import ENCODERS, FEATURES, Policy, mlp
from mentorgym.agents.toolbox.masks import PatchConvolution, pack_observations, rotate, shift, unpack
from mentorgym.agents.toolbox.mentoring import FOUND_RL, mentor_metrics, with_hints
from mentorgym.agents.toolbox.metrics import METRICS
from mentorgym.agents.toolbox.replay import ACTION_SIZE, Batch, Observations, ReplayBuffer
from mentorgym.agents.toolbox.runs import (
    Run,
    make_envs,
    parse_flags,
    parse_keywords,
    passed,
    require_positive,
    set_learning_rate,
    start_torch,
    to_tensors,
)
from mentorgym.agents.toolbox.schedules import cosine, linear

__all__ = [
    "ACTION_SIZE",
    "ENCODERS",
    "FEATURES",
    "FOUND_RL",
    "METRICS",
    "Batch",
    "Observations",
    "PatchConvolution",
    "Policy",
    "ReplayBuffer",
    "Run",
    "cosine",
    "linear",
    "make_envs",
    "mentor_metrics",
    "mlp",
    "pack_observations",
    "parse_flags",
    "parse_keywords",
    "passed",
    "require_positive",
    "rotate",
    "set_learning_rate",
    "shift",
    "start_torch",
    "to_tensors",
    "unpack",
    "with_hints",
]
