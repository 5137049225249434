"""Driving from bird's-eye masks: the tasks of Found-RL on an embedded world, or on any world that writes `WorldState`."""

from mentorgym.envs.driving.env import DrivingEnv
from mentorgym.envs.driving.town import Town, load_town
from mentorgym.envs.driving.vector import DrivingVectorEnv

__all__ = ["DrivingEnv", "DrivingVectorEnv", "Town", "load_town"]
