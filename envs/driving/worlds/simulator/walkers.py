"""Walkers: along pavements, and now and then across the road, on crosswalks and elsewhere, when every car can still
stop for them."""

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.map.tables import same_level
from mentorgym.envs.driving.random import random_bits, uniform
from mentorgym.envs.driving.worlds.simulator.records import (
    CROSSING,
    FIRST_WALKER_ID,
    NOTHING,
    STREAM_WALKER,
    STREAM_WALKER_TURN,
    WAITING,
    WALKING,
)
from mentorgym.envs.driving.worlds.state import CAR, TICK, WALKER

HALF_SIZE = np.array([0.19, 0.19, 0.93], np.float32)
"""Half extents of CARLA's adult walkers, m."""

CROSSWALK_SHARE, JAYWALK_SHARE = 0.25, 0.02
"""Probability of wanting to cross at a walkway point (they are 2 m apart) with a crosswalk, and at others."""

PATIENCE = 15.0
"""Seconds that a walker waits at the kerb before walking on."""

BERTH, CLOSE_BERTH, POLITE = 1.2, 0.3, 2.0
"""Metres that a crossing walker keeps from a vehicle: more than drivers keep from walkers, or both would wait for ever.
One who has waited so long (s) in front of a car, which waits too, passes before its bumper."""

REACTION, BRAKING, MARGIN = 1.0, 3.0, 4.0
"""A car can stop for a walker from speed * REACTION (s) + speed^2 / (2 BRAKING (m/s2)) + MARGIN (m) on."""


@inner
def _turn(tables, previous, at, choice):
    """The walkway point after `at` for a walker who comes from `previous`; back where there is no other."""
    one, other = tables.walkway_next[at], tables.walkway_previous[at]
    if choice:
        one, other = other, one
    if one >= 0 and one != previous:
        return one
    if other >= 0 and other != previous:
        return other
    return previous


@inner
def place_walker(tables, world, traffic, b, w, egos):
    """Set walker `w` somewhere on the town's pavements, more than 10 m from every ego where that is found."""
    town = world.town[b]
    key = traffic.key[b]
    first = tables.walkway_first[town]
    points = tables.walkway_first[town + 1] - first
    at = first
    for attempt in range(10):
        at = np.int32(first + np.int32(random_bits(key, STREAM_WALKER, w, 16 * attempt) % np.uint64(points)))
        near = False
        for e in range(egos):
            dx = tables.walkway_point[at, 0] - world.vehicle_pose[b, e, 0]
            dy = tables.walkway_point[at, 1] - world.vehicle_pose[b, e, 1]
            dz = tables.walkway_point[at, 2] - world.vehicle_pose[b, e, 2]
            near |= dx * dx + dy * dy < f32(100.0) and same_level(dz)
        if not near:
            break
    traffic.walker_from[b, w] = at
    traffic.walker_to[b, w] = _turn(tables, NOTHING, at, random_bits(key, STREAM_WALKER, w, 1) & np.uint64(1) != 0)
    traffic.walker_along[b, w] = f32(0.0)
    # CARLA's walkers: up to 1 + U(0, 1) m/s.
    traffic.walker_speed[b, w] = f32(1.0) + uniform(key, STREAM_WALKER, w, 2)
    traffic.walker_mode[b, w] = WALKING
    traffic.walker_patience[b, w] = f32(0.0)
    traffic.walker_aside[b, w, 0] = f32(1.2) * (uniform(key, STREAM_WALKER, w, 3) - f32(0.5))
    traffic.walker_aside[b, w, 1] = f32(1.2) * (uniform(key, STREAM_WALKER, w, 4) - f32(0.5))
    world.walker_id[b, w] = FIRST_WALKER_ID + w
    world.walker_kind[b, w] = WALKER
    for axis in range(3):
        world.walker_half_size[b, w, axis] = HALF_SIZE[axis]
    _write(tables, world, traffic, b, w, f32(0.0))


@inner
def _write(tables, world, traffic, b, w, speed):
    start, stop = traffic.walker_from[b, w], traffic.walker_to[b, w]
    dx = tables.walkway_point[stop, 0] - tables.walkway_point[start, 0]
    dy = tables.walkway_point[stop, 1] - tables.walkway_point[start, 1]
    length = max(np.sqrt(dx * dx + dy * dy), f32(1e-3))
    share = min(traffic.walker_along[b, w] / length, f32(1.0))
    world.walker_pose[b, w, 0] = tables.walkway_point[start, 0] + share * dx + traffic.walker_aside[b, w, 0]
    world.walker_pose[b, w, 1] = tables.walkway_point[start, 1] + share * dy + traffic.walker_aside[b, w, 1]
    height = tables.walkway_point[stop, 2] - tables.walkway_point[start, 2]
    world.walker_pose[b, w, 2] = tables.walkway_point[start, 2] + share * height
    world.walker_pose[b, w, 3] = np.arctan2(dy, dx)
    world.walker_velocity[b, w, 0] = speed * dx / length
    world.walker_velocity[b, w, 1] = speed * dy / length
    return length


@inner
def _may_cross(tables, world, traffic, b, start, stop):
    """Whether every vehicle that comes near the line of crossing could still stop, a standing one after a start.

    On a crosswalk nobody waits for a background car that waits at the line itself: it sees the walker before it starts.
    """
    egos = world.ego_gear.shape[1]
    crosswalk = tables.walkway_crosswalk[start] > 0
    ax, ay, az = tables.walkway_point[start, 0], tables.walkway_point[start, 1], tables.walkway_point[start, 2]
    bx, by = tables.walkway_point[stop, 0], tables.walkway_point[stop, 1]
    length2 = max((bx - ax) ** 2 + (by - ay) ** 2, f32(1e-3))
    for v in range(world.vehicle_kind.shape[1]):
        if world.vehicle_kind[b, v] != CAR or not same_level(world.vehicle_pose[b, v, 2] - az):
            continue
        x, y = world.vehicle_pose[b, v, 0], world.vehicle_pose[b, v, 1]
        if abs(x - ax) > f32(80.0) or abs(y - ay) > f32(80.0):
            continue
        speed = np.hypot(world.vehicle_velocity[b, v, 0], world.vehicle_velocity[b, v, 1])
        waits = traffic.path_step[b, v] == 0 and not traffic.granted[b, v]
        if crosswalk and v >= egos and waits and speed < f32(0.1):
            continue
        # A standing car may be about to go.
        speed = max(speed, f32(2.0))
        share = min(max(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, f32(0.0)), f32(1.0))
        dx, dy = ax + share * (bx - ax) - x, ay + share * (by - ay) - y
        distance = np.sqrt(dx * dx + dy * dy)
        needed = (
            speed * f32(REACTION) + speed * speed / f32(2.0 * BRAKING) + f32(MARGIN) + world.vehicle_half_size[b, v, 0]
        )
        if distance < needed:
            yaw = world.vehicle_pose[b, v, 3]
            if dx * np.cos(yaw) + dy * np.sin(yaw) > -world.vehicle_half_size[b, v, 0] - f32(1.0):
                return False
    return True


@inner
def _way_is_blocked(world, b, w, step, berth):
    """Whether the next `step` metres lead into a vehicle, or nearer than `berth` to its ends."""
    yaw = world.walker_pose[b, w, 3]
    x = world.walker_pose[b, w, 0] + step * np.cos(yaw)
    y = world.walker_pose[b, w, 1] + step * np.sin(yaw)
    for v in range(world.vehicle_kind.shape[1]):
        dx, dy = x - world.vehicle_pose[b, v, 0], y - world.vehicle_pose[b, v, 1]
        if world.vehicle_kind[b, v] == CAR and abs(dx) < f32(5.0) and abs(dy) < f32(5.0):
            cos, sin = np.cos(world.vehicle_pose[b, v, 3]), np.sin(world.vehicle_pose[b, v, 3])
            inside = abs(dx * cos + dy * sin) < world.vehicle_half_size[b, v, 0] + berth
            inside &= abs(dy * cos - dx * sin) < world.vehicle_half_size[b, v, 1] + f32(BERTH)
            if inside and same_level(world.walker_pose[b, w, 2] - world.vehicle_pose[b, v, 2]):
                return True
    return False


@inner
def walk(tables, world, traffic, b):
    """Move every walker of one world by one tick."""
    key = traffic.key[b]
    tick = world.tick[b]
    for w in range(world.walker_kind.shape[1]):
        if world.walker_kind[b, w] != WALKER:
            continue
        mode = traffic.walker_mode[b, w]
        speed = traffic.walker_speed[b, w]
        if mode == WAITING:
            start = traffic.walker_from[b, w]
            stop = tables.walkway_opposite[start]
            traffic.walker_patience[b, w] -= f32(TICK)
            if _may_cross(tables, world, traffic, b, start, stop):
                traffic.walker_mode[b, w] = CROSSING
                traffic.walker_to[b, w] = stop
                traffic.walker_patience[b, w] = f32(0.0)
            elif traffic.walker_patience[b, w] <= f32(0.0):
                traffic.walker_mode[b, w] = WALKING
            else:
                speed = f32(0.0)
        elif mode == CROSSING:
            waited = traffic.walker_patience[b, w] > f32(POLITE)
            if _way_is_blocked(world, b, w, f32(0.5), f32(CLOSE_BERTH if waited else BERTH)):
                speed = f32(0.0)
                traffic.walker_patience[b, w] += f32(TICK)
        traffic.walker_along[b, w] += speed * f32(TICK)
        length = _write(tables, world, traffic, b, w, speed)
        if traffic.walker_along[b, w] >= length:
            came, at = traffic.walker_from[b, w], traffic.walker_to[b, w]
            crossed = traffic.walker_mode[b, w] == CROSSING
            traffic.walker_along[b, w] -= length
            traffic.walker_from[b, w] = at
            choice = random_bits(key, STREAM_WALKER_TURN, w, 2 * tick)
            previous, swap = NOTHING if crossed else came, crossed and choice & np.uint64(1) != 0
            traffic.walker_to[b, w] = _turn(tables, previous, at, swap)
            traffic.walker_mode[b, w] = WALKING
            share = f32(CROSSWALK_SHARE) if tables.walkway_crosswalk[at] else f32(JAYWALK_SHARE)
            wants = uniform(key, STREAM_WALKER_TURN, w, 2 * tick + 1) < share
            if wants and not crossed and tables.walkway_opposite[at] >= 0:
                traffic.walker_mode[b, w] = WAITING
                traffic.walker_patience[b, w] = f32(PATIENCE)
                traffic.walker_along[b, w] = f32(0.0)
