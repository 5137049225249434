"""Driving from bird's-eye masks: Found-RL's tasks on the embedded world, or on any that writes `WorldState`."""

from typing import TYPE_CHECKING, Any

from mentorgym.envs.driving.env import DrivingEnv, LeaderboardEnv
from mentorgym.envs.driving.map.town import Town, load_town
from mentorgym.envs.driving.vector import DrivingVectorEnv, LeaderboardVectorEnv

if TYPE_CHECKING:
    from mentorgym.envs.driving.parallel import DrivingParallelEnv

__all__ = [
    "DrivingEnv",
    "DrivingVectorEnv",
    "LeaderboardEnv",
    "LeaderboardVectorEnv",
    "Town",
    "load_town",
    "parallel_env",
]


def parallel_env(num_egos: int = 2, **arguments: Any) -> "DrivingParallelEnv":
    """Several egos in one world, as a PettingZoo parallel environment: see `parallel.DrivingParallelEnv`.

    Raises ImportError, with the command that helps, where PettingZoo is missing.
    """
    try:
        from mentorgym.envs.driving.parallel import DrivingParallelEnv
    except ModuleNotFoundError as error:
        if error.name != "pettingzoo":
            raise
        raise ImportError("several egos need PettingZoo: pip install 'mentorgym[multi]'") from error
    return DrivingParallelEnv(num_egos, **arguments)
