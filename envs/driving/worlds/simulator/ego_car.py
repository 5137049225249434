"""The ego: a kinematic bicycle fitted to CARLA's default car (Lincoln MKZ 2017).

Steering: "Learning to drive from a world on rails" (Chen, Koltun, Krähenbühl 2021). Speed: PDM-Lite (CARLA Garage,
2024), fitted on straight runs in CARLA 0.9.15, in steps of 0.05 s. Two gaps of the fit are filled here: coasting, a
drag of 1 % and 0.02 km/h per step, and the ranges between coasting, a throttle of 0.3 and full brake, by linear
interpolation.
"""

import math

import numpy as np

from mentorgym.envs.driving.kernel import f32, kernel

HALF_SIZE = np.array([2.4508, 1.0642, 0.7554], np.float32)
"""Half length, width and height of the box, m."""

MASS = 1847.0
"""kg."""

FRONT, REAR = -0.090769015, 1.4178275
"""Offsets of the fitted axles from the centre, m."""

STEER_GAIN = 0.36848336
"""Wheel angle at full steer, rad."""

TOP_SPEED = 80.0
"""km/h; the fit's polynomials leave their range above."""

IDLE_THROTTLE = 0.3
"""The fit holds from here on."""


@kernel
def _accelerated(v, u):
    v2, u2 = v * v, u * u
    return (
        f32(0.963873001) * v
        + f32(0.000437535692) * v2
        - f32(0.380192912) * u
        + f32(1.74950069) * u2
        + f32(0.0916787414) * v * u
        - f32(0.0705461530) * v * u2
        - f32(0.00105996152) * v2 * u
        + f32(0.000671079346) * v2 * u2
    )


@kernel
def _braked(v):
    return v * (
        f32(0.0093171137)
        + v
        * (
            f32(0.0820967431)
            + v
            * (
                f32(-0.00283832427)
                + v
                * (f32(5.06587474e-5) + v * (f32(-4.90357228e-7) + v * (f32(2.44419284e-9) - v * f32(4.91381935e-12))))
            )
        )
    )


@kernel
def next_speed(speed, throttle, brake):
    """Speed after 0.05 s, both in m/s; throttle and brake in [0, 1], brake first."""
    v = min(max(speed * f32(3.6), f32(0.0)), f32(TOP_SPEED))
    coasting = max(v * f32(0.99) - f32(0.02), f32(0.0))
    if brake > f32(0.0):
        v = coasting + brake * (min(_braked(v), coasting) - coasting)
    elif throttle >= f32(IDLE_THROTTLE):
        v = _accelerated(v, throttle)
    else:
        v = coasting + throttle / f32(IDLE_THROTTLE) * (_accelerated(v, f32(IDLE_THROTTLE)) - coasting)
    return min(max(v, f32(0.0)), f32(TOP_SPEED)) / f32(3.6)


@kernel
def gear(speed):
    """The forward gear at a speed in m/s, 1 to 5: a plain map, since nothing but the state vector shows it."""
    return 1 + (speed > f32(5.5)) + (speed > f32(9.0)) + (speed > f32(14.0)) + (speed > f32(20.0))


@kernel
def slip(steer):
    """Angle in rad from the car's axis to its motion; positive to the left, so of the opposite sign as the steer."""
    return -math.atan(f32(REAR / (FRONT + REAR)) * math.tan(f32(STEER_GAIN) * steer))
