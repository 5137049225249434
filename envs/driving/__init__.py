"""Driving from bird's-eye masks: Found-RL's tasks on the embedded world, or on any that writes `WorldState`."""

from typing import TYPE_CHECKING, Any

from mentorgym.envs.driving.batch import Observation
from mentorgym.envs.driving.env import DrivingEnv, LeaderboardEnv
from mentorgym.envs.driving.map.opendrive import OpenDriveError
from mentorgym.envs.driving.map.town import Town, TownError, find_map, load_town, packaged_towns
from mentorgym.envs.driving.task.routes import Route, RouteError, find_routes, read_routes
from mentorgym.envs.driving.task.score import aggregate
from mentorgym.envs.driving.task.suites import SuiteError, find_suite, read_suite
from mentorgym.envs.driving.vector import DrivingVectorEnv, LeaderboardVectorEnv
from mentorgym.envs.driving.view import language
from mentorgym.envs.driving.worlds.state import TICK, EpisodeState, WorldState
from mentorgym.extras import remedy

if TYPE_CHECKING:
    from mentorgym.envs.driving.parallel import DrivingParallelEnv
    from mentorgym.envs.driving.parallel import DrivingParallelEnv as parallel_env

__all__ = [
    "TICK",
    "DrivingEnv",
    "DrivingParallelEnv",
    "DrivingVectorEnv",
    "EpisodeState",
    "LeaderboardEnv",
    "LeaderboardVectorEnv",
    "Observation",
    "OpenDriveError",
    "Route",
    "RouteError",
    "SuiteError",
    "Town",
    "TownError",
    "WorldState",
    "aggregate",
    "find_map",
    "find_routes",
    "find_suite",
    "language",
    "load_town",
    "packaged_towns",
    "parallel_env",
    "read_routes",
    "read_suite",
]


def __getattr__(name: str) -> Any:
    """`parallel_env`, which is `DrivingParallelEnv`; ImportError, with the remedy, where PettingZoo is missing."""
    if name not in ("DrivingParallelEnv", "parallel_env"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from mentorgym.envs.driving.parallel import DrivingParallelEnv
    except ModuleNotFoundError as error:
        if error.name != "pettingzoo":
            raise
        raise ImportError(f"several egos need PettingZoo: {remedy('multi')}") from error
    return DrivingParallelEnv
