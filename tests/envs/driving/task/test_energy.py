"""Energy: test vectors worked out from Found-RL's published metrics, and a slow reference that solves the circuit."""

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.task.energy import RATES, cell_current, fuel_rate
from tests.envs.driving.scripted_world import Drive

speeds = st.floats(0, 40)
accelerations = st.floats(-15, 15)


def reference(speed: float, acceleration: float) -> tuple[float, float]:
    """Cell current and fuel, through torque and motor speed, with the current found by a root search."""
    mass, radius, ratio = 1847.0, 0.33, 9.0

    def force(rotating: float) -> float:
        air = 0.5 * 1.226 * 0.23 * 2.2 * speed**2
        return mass * 9.81 * 0.01 + air + rotating * mass * acceleration

    torque = force(1.1) * radius / ratio
    motor_speed = speed * ratio / radius
    motor = motor_speed * torque * 0.9 ** (-1 if torque >= 0 else 1)
    cell = motor / 0.95 / (100 * 10)
    current = scipy.optimize.brentq(lambda i: i * (370.0 - 0.1 * i) - cell, -1850.0, 1850.0, xtol=1e-15)
    power = force(1.05) * speed
    return current, power / 0.30 / 44e6 if power > 0 else 0.0


@pytest.mark.parametrize(
    ("speed", "acceleration", "current", "fuel"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (3.0, 0.0, 0.0017447, 4.18142e-5),
        (3.0, 1.0, 0.0210118, 4.82576e-4),
        (6.0, 0.0, 0.0036483, 8.74351e-5),
        (6.0, 1.0, 0.0421827, 9.68958e-4),
        (6.0, -1.0, -0.0282571, 0.0),
        (3.0, 3.0, 0.0595465, 1.36410e-3),
    ],
)
def test_vectors(speed, acceleration, current, fuel):
    assert cell_current(speed, acceleration) == pytest.approx(current, abs=5e-8)
    assert fuel_rate(speed, acceleration) == pytest.approx(fuel, rel=1e-5)


@pytest.mark.parametrize(
    ("speed", "acceleration", "power"),
    [
        (3.0, 0.0, 0.645552),
        (3.0, 1.0, 7.774324),
        (6.0, 0.0, 1.349874),
        (6.0, 1.0, 15.607418),
        (6.0, -1.0, -10.455212),
        (3.0, 3.0, 22.031868),
    ],
)
def test_the_current_carries_the_power_of_a_cell(speed, acceleration, power):
    current = cell_current(speed, acceleration)
    assert current * (370.0 - 0.1 * current) == pytest.approx(power, abs=5e-7)


@given(speeds, accelerations)
def test_both_agree_with_the_reference(speed, acceleration):
    current, fuel = reference(speed, acceleration)
    assert cell_current(speed, acceleration) == pytest.approx(current, rel=1e-9, abs=1e-12)
    assert fuel_rate(speed, acceleration) == pytest.approx(fuel, rel=1e-12, abs=1e-18)


@given(speeds, accelerations, st.floats(0, 15))
def test_more_acceleration_never_costs_less(speed, acceleration, more):
    assert cell_current(speed, acceleration) <= cell_current(speed, acceleration + more)
    assert fuel_rate(speed, acceleration) <= fuel_rate(speed, acceleration + more)


def test_a_power_beyond_the_circuit_draws_its_greatest_current():
    assert cell_current(100.0, 1e6) == pytest.approx(1850.0)


def drive(*steps: tuple[float, float, float, float]) -> dict[str, float]:
    """The sums after a drive of steps (velocity x, y, acceleration x, y)."""
    run = Drive(endless=True)
    for vx, vy, ax, ay in steps:
        run.world.ego_acceleration[0, 0] = ax, ay
        run.step(yaw=math.atan2(vy, vx), speed=math.hypot(vx, vy))
    return dict(zip(RATES, run.energy_sums.tolist(), strict=True))


def test_the_released_reading_takes_the_norm_and_the_other_the_part_along_the_motion():
    sums = drive((6, 0, 0, 0), (6, 0, -1, 0), (0, 3, 4, 1))
    norm = [reference(6, 0), reference(6, 1), reference(3, math.sqrt(17))]
    along = [reference(6, 0), reference(6, -1), reference(3, 1)]
    assert sums["cell_current_found_rl"] == pytest.approx(sum(current for current, _ in norm), rel=1e-6)
    assert sums["fuel_rate_found_rl"] == pytest.approx(sum(fuel for _, fuel in norm), rel=1e-6)
    assert sums["cell_current"] == pytest.approx(sum(current for current, _ in along), rel=1e-6)
    assert sums["fuel_rate"] == pytest.approx(sum(fuel for _, fuel in along), rel=1e-6)


def test_braking_to_a_stand_charges_and_the_released_reading_pays_for_it():
    sums = drive(*((speed, 0, -2, 0) for speed in np.arange(6, 0, -0.2)))
    assert sums["cell_current"] < 0 < sums["cell_current_found_rl"]
    assert sums["fuel_rate"] == 0 < sums["fuel_rate_found_rl"]


def test_standing_costs_nothing_whatever_the_acceleration():
    assert set(drive((0, 0, 3, -4)).values()) == {0.0}


def test_an_ended_episode_adds_nothing():
    run = Drive(endless=True).step(speed=6)
    before = run.energy_sums.copy()
    run.episode.active[0] = 0
    run.step(speed=6)
    assert run.energy_sums.tolist() == before.tolist()
