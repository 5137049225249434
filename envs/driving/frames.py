"""Between OpenDRIVE's right-handed frame, which is ours, and CARLA's left-handed one, in degrees."""

import numpy as np

Number = np.ndarray | float


def from_carla(x: Number, y: Number, yaw_degrees: Number) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Map coordinates (m) and yaw (rad) of a CARLA location (m) and yaw (degrees)."""
    return np.asarray(x, np.float64), -np.asarray(y, np.float64), -np.radians(np.asarray(yaw_degrees, np.float64))


def to_carla(x: Number, y: Number, yaw: Number) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A CARLA location (m) and yaw (degrees) of map coordinates (m) and yaw (rad)."""
    return np.asarray(x, np.float64), -np.asarray(y, np.float64), -np.degrees(np.asarray(yaw, np.float64))
