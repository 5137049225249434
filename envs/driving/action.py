"""Actions: what an agent says, what a car is told, and what a mentor answers.

An agent's action is (acceleration, steer), both in [-1, 1]; a car's control is (throttle, steer, brake) with throttle
and brake in [0, 1]. Steer is positive to the right. Found-RL's released code uses both orders; here each has its type.
"""

from typing import NamedTuple

import numpy as np


class Control(NamedTuple):
    """A car's control, each entry a float or an array of one shape."""

    throttle: float
    """[0, 1]."""
    steer: float
    """[-1, 1], positive to the right."""
    brake: float
    """[0, 1]."""


def to_control(actions: np.ndarray) -> np.ndarray:
    """Controls float32 [..., 3] = (throttle, steer, brake) of actions [..., 2] = (acceleration, steer), clipped."""
    actions = np.clip(np.asarray(actions, np.float32), -1.0, 1.0)
    acceleration, steer = actions[..., 0], actions[..., 1]
    return np.stack([np.maximum(acceleration, 0), steer, np.maximum(-acceleration, 0)], axis=-1).astype(np.float32)


def to_action(control: Control | np.ndarray) -> np.ndarray:
    """The action float32 [..., 2] of controls [..., 3]: throttle where it exceeds the brake, else minus the brake.

    Found-RL's conversion of a VLM's three numbers (its replay buffer).
    """
    throttle, steer, brake = np.moveaxis(np.clip(np.asarray(control, np.float32), (0, -1, 0), 1), -1, 0)
    acceleration = np.where((throttle > 0) & (throttle > brake), throttle, -brake)
    return np.stack([acceleration, steer], axis=-1).astype(np.float32)
