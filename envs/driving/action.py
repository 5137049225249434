"""Actions: what an agent says, and what a car is told.

An agent's action is (acceleration, steer), both in [-1, 1]; a car's control is (throttle, steer, brake) with throttle
and brake in [0, 1]. Steer is positive to the right.
"""

import numpy as np


def to_control(actions: np.ndarray) -> np.ndarray:
    """Controls float32 [..., 3] = (throttle, steer, brake) of actions [..., 2] = (acceleration, steer), clipped."""
    actions = np.clip(np.asarray(actions, np.float32), -1.0, 1.0)
    acceleration, steer = actions[..., 0], actions[..., 1]
    return np.stack([np.maximum(acceleration, 0), steer, np.maximum(-acceleration, 0)], axis=-1).astype(np.float32)


def from_control(controls: np.ndarray) -> np.ndarray:
    """Actions float32 [..., 2] of controls [..., 3]: of throttle and brake the larger one counts (Found-RL)."""
    controls = np.clip(controls, [0.0, -1.0, 0.0], 1.0).astype(np.float32)
    throttle, steer, brake = np.moveaxis(controls, -1, 0)
    return np.stack([np.where(throttle > brake, throttle, -brake), steer], axis=-1)
