"""Driving from bird's-eye masks: Found-RL's tasks on the embedded world, or on any that writes `WorldState`."""

from mentorgym.envs.driving.env import DrivingEnv
from mentorgym.envs.driving.town import Town, load_town
from mentorgym.envs.driving.vector import DrivingVectorEnv

__all__ = ["DrivingEnv", "DrivingVectorEnv", "Town", "load_town"]
