"""How drivers follow one another: the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000)."""

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner

ACCELERATION, BRAKING, HEADWAY, STANDSTILL_GAP = 1.8, 2.5, 1.2, 2.0
"""m/s2, comfortable m/s2, s, m."""

HARDEST_BRAKING = 8.0
"""m/s2."""


@inner
def acceleration_behind(speed, desired, gap, ahead):
    """m/s2 of a driver at `speed` who would like `desired` (m/s), `gap` metres behind one who drives `ahead` (m/s)."""
    wanted = f32(STANDSTILL_GAP) + max(
        f32(0.0), speed * f32(HEADWAY) + speed * (speed - ahead) / f32(2.0 * np.sqrt(ACCELERATION * BRAKING))
    )
    free = (speed / max(desired, f32(0.1))) ** 4
    near = wanted / max(gap, f32(0.1))
    # Too fast for the place is slowed down comfortably; too near is braked for as hard as it takes.
    return max(
        max(f32(ACCELERATION) * (f32(1.0) - free), f32(-BRAKING)) - f32(ACCELERATION) * near * near,
        f32(-HARDEST_BRAKING),
    )
