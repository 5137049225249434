"""What driving costs: a battery cell's current and an engine's fuel, from speed and acceleration.

Both follow Found-RL's released metrics (`extra_metrics`): a road load F = m g C_r + 0.5 rho C_d A v^2 + delta m a, with
v the planar speed and delta what rotating parts add to the mass. They come in two readings of a:

- `..._found_rl`, as released: the norm of the planar acceleration. It is never negative and counts cornering, so that
  braking costs what accelerating does and nothing is ever regained.
- the plain names: the acceleration along the motion, with its sign, so that braking charges the battery and cuts the
  fuel. Cornering costs nothing.
"""

import math

import numpy as np

from mentorgym.envs.driving.kernel import inner, kernel
from mentorgym.envs.driving.worlds.simulator.ego_car import MASS

RATES = ("cell_current_found_rl", "cell_current", "fuel_rate_found_rl", "fuel_rate")
"""What is summed up in `EpisodeState.energy_sums`: A, A, kg/s, kg/s."""

ROLLING = MASS * 9.81 * 0.01
"""N: weight times the rolling coefficient."""

DRAG = 0.5 * 1.226 * 0.23 * 2.2
"""N s2/m2: half of air density times drag coefficient times frontal area."""

ELECTRIC_ROTATING, COMBUSTION_ROTATING = 1.1, 1.05
"""delta of the two drive trains."""

MOTOR_EFFICIENCY, BATTERY_EFFICIENCY = 0.9, 0.95

CELLS = 100 * 10
"""In series times in parallel."""

OPEN_VOLTAGE, RESISTANCE = 370.0, 0.1
"""V, ohm."""

FUEL_ENERGY = 0.30 * 44e6
"""J of work per kg of fuel: engine efficiency times lower heating value."""


@kernel
def cell_current(speed, acceleration):
    """The current of one battery cell in A, negative while charging; speed >= 0 in m/s, acceleration in m/s2.

    The motor's losses add to what it draws and take from what it regains. The smaller root I of
    I (V_oc - I R) = P; a power beyond the circuit's maximum draws the current of that maximum. As released, P is a
    cell's power and V_oc the pack's voltage, and the battery's efficiency divides when it charges too: the figure is
    for comparison with the published ones, not with an ammeter.
    """
    force = ROLLING + DRAG * speed * speed + ELECTRIC_ROTATING * MASS * acceleration
    power = force * speed
    power = power / MOTOR_EFFICIENCY if power >= 0.0 else power * MOTOR_EFFICIENCY
    power /= BATTERY_EFFICIENCY * CELLS
    root = math.sqrt(max(OPEN_VOLTAGE * OPEN_VOLTAGE - 4.0 * RESISTANCE * power, 0.0))
    # Vieta's form: the difference of two nearly equal numbers would lose half of the digits.
    return 2.0 * min(power, OPEN_VOLTAGE * OPEN_VOLTAGE / (4.0 * RESISTANCE)) / (OPEN_VOLTAGE + root)


@kernel
def fuel_rate(speed, acceleration):
    """Fuel in kg/s, 0 where the load pushes the car; speed >= 0 in m/s, acceleration in m/s2."""
    force = ROLLING + DRAG * speed * speed + COMBUSTION_ROTATING * MASS * acceleration
    return max(force * speed, 0.0) / FUEL_ENERGY


@inner
def add_energy(world, episode, row, b, e):
    """Add this tick's RATES to the sums of an ego."""
    vx, vy = np.float64(world.vehicle_velocity[b, e, 0]), np.float64(world.vehicle_velocity[b, e, 1])
    ax, ay = np.float64(world.ego_acceleration[b, e, 0]), np.float64(world.ego_acceleration[b, e, 1])
    speed = math.sqrt(vx * vx + vy * vy)
    norm = math.sqrt(ax * ax + ay * ay)
    along = (vx * ax + vy * ay) / speed if speed > 0.0 else 0.0
    sums = episode.energy_sums[row]
    sums[0] += cell_current(speed, norm)
    sums[1] += cell_current(speed, along)
    sums[2] += fuel_rate(speed, norm)
    sums[3] += fuel_rate(speed, along)
