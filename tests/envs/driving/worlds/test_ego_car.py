"""The ego against the published figures of CARLA's default car, and the properties that any car has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.envs.driving.map.town import load_town
from mentorgym.envs.driving.worlds.simulator.ego_car import HALF_SIZE, gear, next_speed, slip
from mentorgym.envs.driving.worlds.simulator.world import EmbeddedWorld

KMH = 1 / 3.6
TOP = 80 * KMH
speeds = st.floats(0, TOP)
shares = st.floats(0, 1, width=32)

# Powers of (v in km/h, throttle) and their coefficients, PDM-Lite's fit of a step of 0.05 s.
ACCELERATING = {
    (1, 0): 0.963873001,
    (2, 0): 0.000437535692,
    (0, 1): -0.380192912,
    (0, 2): 1.74950069,
    (1, 1): 0.0916787414,
    (1, 2): -0.0705461530,
    (2, 1): -0.00105996152,
    (2, 2): 0.000671079346,
}
BRAKING = [0, 0.0093171137, 0.0820967431, -0.00283832427, 5.06587474e-5, -4.90357228e-7, 2.44419284e-9, -4.91381935e-12]


def after(speed: float, throttle: float = 0.0, brake: float = 0.0) -> float:
    return float(next_speed(np.float32(speed), np.float32(throttle), np.float32(brake)))


def drive(steer: float, ticks: int, throttle: float = 0.6, yaw: float = 0.0) -> np.ndarray:
    """Poses float64 [ticks + 1, 4] of an ego alone in its world that starts at rest."""
    world = EmbeddedWorld(load_town("Village").tables, worlds=1, vehicles=0, walkers=0)
    world.reset(0, 0, 0, 1, np.array([[0, 0, 0, yaw]], np.float32), 0, 0)
    poses = [world.state.vehicle_pose[0, 0].astype(float)]
    for _ in range(ticks):
        world.tick(np.array([[[throttle, steer, 0.0]]], np.float32), np.ones(1, np.uint8), 0, 1)
        poses.append(world.state.vehicle_pose[0, 0].astype(float))
    return np.array(poses)


def test_full_brake_from_city_speed():
    speed, metres, steps = 6.0, 0.0, 0
    while speed > 0.05:
        speed = after(speed, brake=1.0)
        metres, steps = metres + 0.05 * speed, steps + 1
    assert metres == pytest.approx(0.83, abs=0.05)
    assert 0.05 * steps == pytest.approx(0.4, abs=0.05)


def test_full_brake_from_60_kmh():
    speed, metres = 60 * KMH, 0.0
    while speed > 0.05:
        speed = after(speed, brake=1.0)
        metres += 0.05 * speed
    assert metres == pytest.approx(15.9, abs=0.3)


@pytest.mark.parametrize(("throttle", "seconds"), [(0.75, 1.75), (0.5, 6.6)])
def test_time_from_rest_to_6_metres_per_second(throttle, seconds):
    speed, steps = 0.0, 0
    while speed <= 6.0:
        speed, steps = after(speed, throttle), steps + 1
    assert 0.05 * steps == pytest.approx(seconds, abs=0.051)


@given(speeds, st.floats(0.3125, 1, width=32))
def test_accelerating_is_the_published_polynomial(speed, throttle):
    v = speed / KMH
    expected = sum(c * v**i * throttle**j for (i, j), c in ACCELERATING.items()) * KMH
    assert after(speed, throttle) == pytest.approx(np.clip(expected, 0, TOP), abs=1e-4)


@given(speeds)
def test_full_brake_is_the_published_polynomial(speed):
    expected = np.polynomial.Polynomial(BRAKING)(speed / KMH) * KMH
    assert after(speed, brake=1.0) == pytest.approx(max(expected, 0), abs=1e-3)


@given(speeds, speeds, shares, shares)
def test_a_faster_car_stays_the_faster_one(one, other, throttle, brake):
    slow, fast = sorted((one, other))
    for control in ((throttle, 0.0), (0.0, brake), (throttle, 1.0), (1.0, brake)):
        assert after(slow, *control) <= after(fast, *control) + 1e-5


@given(speeds, shares, shares)
def test_more_throttle_is_never_slower_and_more_brake_never_faster(speed, one, other):
    low, high = sorted((one, other))
    assert after(speed, low) <= after(speed, high) + 1e-5
    assert after(speed, brake=high) <= after(speed, brake=low) + 1e-5
    assert after(speed, brake=low) <= speed


@given(st.floats(-1, 40, width=32), shares, shares)
def test_speed_stays_between_rest_and_80_kmh(speed, throttle, brake):
    assert 0.0 <= after(speed, throttle, brake) <= TOP + 1e-5


@given(speeds)
def test_nothing_jumps_where_the_fit_begins(speed):
    assert after(speed, 0.3 - 1e-4) == pytest.approx(after(speed, 0.3), abs=2e-4)
    assert after(speed, 0.0, 1e-4) == pytest.approx(after(speed), abs=2e-4)
    assert after(speed, 0.0, 1 - 1e-4) == pytest.approx(after(speed, 0.0, 1.0), abs=2e-3)


def test_a_coasting_car_comes_to_rest():
    speed = 6.0
    for _ in range(1200):
        speed = after(speed)
    assert speed == 0.0
    assert after(0.0) == 0.0


def test_the_gears_go_up_with_speed():
    gears = [gear(speed) for speed in np.linspace(0, TOP, 200, dtype=np.float32)]
    assert sorted(gears) == gears
    assert set(gears) == {1, 2, 3, 4, 5}


def test_the_box_is_the_lincoln_of_carla():
    assert HALF_SIZE.tolist() == pytest.approx([2.4508, 1.0642, 0.7554])


@given(st.floats(-1, 1, width=32))
def test_slip_is_the_kinematic_bicycles(steer):
    front, rear, gain = -0.090769015, 1.4178275, 0.36848336
    expected = np.arctan(rear / (front + rear) * np.tan(gain * steer))
    assert slip(np.float32(steer)) == pytest.approx(-expected, abs=1e-6)
    assert slip(np.float32(-steer)) == -slip(np.float32(steer))


@pytest.mark.parametrize("steer", [1.0, -1.0, 0.4])
def test_a_constant_steer_drives_a_circle_of_the_closed_forms_radius(steer):
    poses = drive(steer, ticks=120)
    x, y = poses[:, 0], poses[:, 1]
    (a, b, c), *_ = np.linalg.lstsq(np.column_stack([2 * x, 2 * y, np.ones_like(x)]), x**2 + y**2)
    radius = np.hypot(a, np.sqrt(c + b * b))
    front, rear, gain = -0.090769015, 1.4178275, 0.36848336
    angle = np.arctan(rear / (front + rear) * np.tan(gain * abs(steer)))
    assert radius == pytest.approx(rear / np.sin(angle), rel=0.01)
    assert np.hypot(x - a, y - b) == pytest.approx(radius, rel=0.01)


def test_positive_steer_turns_right_and_left_is_its_mirror_image():
    right, left = drive(0.3, ticks=20), drive(-0.3, ticks=20)
    assert (np.diff(right[3:, 3]) < 0).all()
    assert right[-1, 1] < 0
    assert right == pytest.approx(left * [1, -1, 1, -1], abs=1e-5)


def test_straight_on_is_straight_and_as_long_as_the_speeds_say():
    poses = drive(0.0, ticks=40, throttle=0.75)
    assert not poses[:, 3].any()
    assert not poses[:, 1].any()
    speed, metres = 0.0, 0.0
    for _ in range(80):
        speed = after(speed, 0.75)
        metres += 0.05 * speed
    assert poses[-1, 0] == pytest.approx(metres, rel=1e-4)


def test_the_start_is_at_rest_and_the_velocity_is_the_motion():
    world = EmbeddedWorld(load_town("Village").tables, worlds=1, vehicles=0, walkers=0)
    world.reset(0, 0, 0, 1, np.array([[0, 0, 0, 1.0]], np.float32), 0, 0)
    assert not world.state.vehicle_velocity.any()
    previous = world.state.vehicle_velocity[0, 0].copy()
    for tick in range(30):
        before = world.state.vehicle_pose[0, 0, :2].copy()
        world.tick(np.array([[[0.8, 0.2, 0.0]]], np.float32), np.ones(1, np.uint8), 0, 1)
        velocity = world.state.vehicle_velocity[0, 0]
        moved = (world.state.vehicle_pose[0, 0, :2] - before) / 0.1
        # The speed at a tick's end against its mean over the tick.
        assert np.hypot(*(velocity - moved)) < 0.3 + 0.05 * np.hypot(*velocity), tick
        assert world.state.ego_acceleration[0, 0] == pytest.approx((velocity - previous) / 0.1, abs=1e-4)
        previous = velocity.copy()
