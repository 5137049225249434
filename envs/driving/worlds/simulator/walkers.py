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
def place_walker(tables, world, traffic, w, j, egos):
    """Set walker `j` somewhere on the town's pavements, more than 10 m from every ego where that is found."""
    town = world.town[w]
    key = traffic.key[w]
    first = tables.walkway_first[town]
    points = tables.walkway_first[town + 1] - first
    at = first
    for attempt in range(10):
        at = np.int32(first + np.int32(random_bits(key, STREAM_WALKER, j, 16 * attempt) % np.uint64(points)))
        near = False
        for e in range(egos):
            dx = tables.walkway_point[at, 0] - world.vehicle_pose[w, e, 0]
            dy = tables.walkway_point[at, 1] - world.vehicle_pose[w, e, 1]
            dz = tables.walkway_point[at, 2] - world.vehicle_pose[w, e, 2]
            near |= dx * dx + dy * dy < f32(100.0) and same_level(dz)
        if not near:
            break
    traffic.walker_from[w, j] = at
    traffic.walker_to[w, j] = _turn(tables, NOTHING, at, random_bits(key, STREAM_WALKER, j, 1) & np.uint64(1) != 0)
    traffic.walker_along[w, j] = f32(0.0)
    # CARLA's walkers: up to 1 + U(0, 1) m/s.
    traffic.walker_speed[w, j] = f32(1.0) + uniform(key, STREAM_WALKER, j, 2)
    traffic.walker_mode[w, j] = WALKING
    traffic.walker_patience[w, j] = f32(0.0)
    traffic.walker_aside[w, j, 0] = f32(1.2) * (uniform(key, STREAM_WALKER, j, 3) - f32(0.5))
    traffic.walker_aside[w, j, 1] = f32(1.2) * (uniform(key, STREAM_WALKER, j, 4) - f32(0.5))
    world.walker_id[w, j] = FIRST_WALKER_ID + j
    world.walker_kind[w, j] = WALKER
    for axis in range(3):
        world.walker_half_size[w, j, axis] = HALF_SIZE[axis]
    _write(tables, world, traffic, w, j, f32(0.0))


@inner
def _write(tables, world, traffic, w, j, speed):
    start, stop = traffic.walker_from[w, j], traffic.walker_to[w, j]
    dx = tables.walkway_point[stop, 0] - tables.walkway_point[start, 0]
    dy = tables.walkway_point[stop, 1] - tables.walkway_point[start, 1]
    length = max(np.sqrt(dx * dx + dy * dy), f32(1e-3))
    share = min(traffic.walker_along[w, j] / length, f32(1.0))
    world.walker_pose[w, j, 0] = tables.walkway_point[start, 0] + share * dx + traffic.walker_aside[w, j, 0]
    world.walker_pose[w, j, 1] = tables.walkway_point[start, 1] + share * dy + traffic.walker_aside[w, j, 1]
    height = tables.walkway_point[stop, 2] - tables.walkway_point[start, 2]
    world.walker_pose[w, j, 2] = tables.walkway_point[start, 2] + share * height
    world.walker_pose[w, j, 3] = np.arctan2(dy, dx)
    world.walker_velocity[w, j, 0] = speed * dx / length
    world.walker_velocity[w, j, 1] = speed * dy / length
    return length


@inner
def _may_cross(tables, world, traffic, w, start, stop):
    """Whether every vehicle that comes near the line of crossing could still stop, a standing one after a start.

    On a crosswalk nobody waits for a background car that waits at the line itself: it sees the walker before it starts.
    """
    egos = world.ego_gear.shape[1]
    crosswalk = tables.walkway_crosswalk[start] > 0
    ax, ay, az = tables.walkway_point[start, 0], tables.walkway_point[start, 1], tables.walkway_point[start, 2]
    bx, by = tables.walkway_point[stop, 0], tables.walkway_point[stop, 1]
    length2 = max((bx - ax) ** 2 + (by - ay) ** 2, f32(1e-3))
    for i in range(world.vehicle_kind.shape[1]):
        if world.vehicle_kind[w, i] != CAR or not same_level(world.vehicle_pose[w, i, 2] - az):
            continue
        x, y = world.vehicle_pose[w, i, 0], world.vehicle_pose[w, i, 1]
        if abs(x - ax) > f32(80.0) or abs(y - ay) > f32(80.0):
            continue
        speed = np.hypot(world.vehicle_velocity[w, i, 0], world.vehicle_velocity[w, i, 1])
        waits = traffic.path_step[w, i] == 0 and not traffic.granted[w, i]
        if crosswalk and i >= egos and waits and speed < f32(0.1):
            continue
        # A standing car may be about to go.
        speed = max(speed, f32(2.0))
        share = min(max(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, f32(0.0)), f32(1.0))
        dx, dy = ax + share * (bx - ax) - x, ay + share * (by - ay) - y
        distance = np.sqrt(dx * dx + dy * dy)
        needed = (
            speed * f32(REACTION) + speed * speed / f32(2.0 * BRAKING) + f32(MARGIN) + world.vehicle_half_size[w, i, 0]
        )
        if distance < needed:
            yaw = world.vehicle_pose[w, i, 3]
            if dx * np.cos(yaw) + dy * np.sin(yaw) > -world.vehicle_half_size[w, i, 0] - f32(1.0):
                return False
    return True


@inner
def _way_is_blocked(world, w, j, step, berth):
    """Whether the next `step` metres lead into a vehicle, or nearer than `berth` to its ends."""
    yaw = world.walker_pose[w, j, 3]
    x = world.walker_pose[w, j, 0] + step * np.cos(yaw)
    y = world.walker_pose[w, j, 1] + step * np.sin(yaw)
    for i in range(world.vehicle_kind.shape[1]):
        dx, dy = x - world.vehicle_pose[w, i, 0], y - world.vehicle_pose[w, i, 1]
        if world.vehicle_kind[w, i] == CAR and abs(dx) < f32(5.0) and abs(dy) < f32(5.0):
            cos, sin = np.cos(world.vehicle_pose[w, i, 3]), np.sin(world.vehicle_pose[w, i, 3])
            inside = abs(dx * cos + dy * sin) < world.vehicle_half_size[w, i, 0] + berth
            inside &= abs(dy * cos - dx * sin) < world.vehicle_half_size[w, i, 1] + f32(BERTH)
            if inside and same_level(world.walker_pose[w, j, 2] - world.vehicle_pose[w, i, 2]):
                return True
    return False


@inner
def walk(tables, world, traffic, w):
    """Move every walker of one world by one tick."""
    key = traffic.key[w]
    tick = world.tick[w]
    for j in range(world.walker_kind.shape[1]):
        if world.walker_kind[w, j] != WALKER:
            continue
        mode = traffic.walker_mode[w, j]
        speed = traffic.walker_speed[w, j]
        if mode == WAITING:
            start = traffic.walker_from[w, j]
            stop = tables.walkway_opposite[start]
            traffic.walker_patience[w, j] -= f32(TICK)
            if _may_cross(tables, world, traffic, w, start, stop):
                traffic.walker_mode[w, j] = CROSSING
                traffic.walker_to[w, j] = stop
                traffic.walker_patience[w, j] = f32(0.0)
            elif traffic.walker_patience[w, j] <= f32(0.0):
                traffic.walker_mode[w, j] = WALKING
            else:
                speed = f32(0.0)
        elif mode == CROSSING:
            waited = traffic.walker_patience[w, j] > f32(POLITE)
            if _way_is_blocked(world, w, j, f32(0.5), f32(CLOSE_BERTH if waited else BERTH)):
                speed = f32(0.0)
                traffic.walker_patience[w, j] += f32(TICK)
        traffic.walker_along[w, j] += speed * f32(TICK)
        length = _write(tables, world, traffic, w, j, speed)
        if traffic.walker_along[w, j] >= length:
            came, at = traffic.walker_from[w, j], traffic.walker_to[w, j]
            crossed = traffic.walker_mode[w, j] == CROSSING
            traffic.walker_along[w, j] -= length
            traffic.walker_from[w, j] = at
            choice = random_bits(key, STREAM_WALKER_TURN, j, 2 * tick)
            previous, swap = NOTHING if crossed else came, crossed and choice & np.uint64(1) != 0
            traffic.walker_to[w, j] = _turn(tables, previous, at, swap)
            traffic.walker_mode[w, j] = WALKING
            share = f32(CROSSWALK_SHARE) if tables.walkway_crosswalk[at] else f32(JAYWALK_SHARE)
            wants = uniform(key, STREAM_WALKER_TURN, j, 2 * tick + 1) < share
            if wants and not crossed and tables.walkway_opposite[at] >= 0:
                traffic.walker_mode[w, j] = WAITING
                traffic.walker_patience[w, j] = f32(PATIENCE)
                traffic.walker_along[w, j] = f32(0.0)
