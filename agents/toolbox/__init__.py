"""What the agents share that is not their algorithm: packed masks, the replay buffer, a run's record and folder."""

from mentorgym.agents.toolbox.layers import mlp
from mentorgym.agents.toolbox.masks import CHANNELS, PatchConvolution, pack_observations, rotate, shift, unpack
from mentorgym.agents.toolbox.mentoring import FOUND_RL, mentor_metrics, with_hints
from mentorgym.agents.toolbox.metrics import METRICS
from mentorgym.agents.toolbox.program import parse_flags, run_program
from mentorgym.agents.toolbox.progress import ProgressLine
from mentorgym.agents.toolbox.recorder import Recorder
from mentorgym.agents.toolbox.replay import ACTION_SIZE, STATE_SIZE, Batch, Observations, ReplayBuffer
from mentorgym.agents.toolbox.runs import (
    Run,
    make_envs,
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
    "CHANNELS",
    "FOUND_RL",
    "METRICS",
    "STATE_SIZE",
    "Batch",
    "Observations",
    "PatchConvolution",
    "ProgressLine",
    "Recorder",
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
    "run_program",
    "set_learning_rate",
    "shift",
    "start_torch",
    "to_tensors",
    "unpack",
    "with_hints",
]
