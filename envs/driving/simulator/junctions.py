"""Who may enter a junction: all-or-nothing reservation of compound paths, with room behind the junction.

A car at the front of a storage lane asks for its whole path to the next storage lane. It is granted when the light is green,
no conflicting junction lane is reserved, no ego is in the way and the exit has room for it and all those already on their way
there. A car that has waited long blocks later requests that conflict with its own. A reservation ends when the car has cleared
the junction; until then the car is granted nothing else.
"""

import numpy as np

from mentorgym.envs.driving.kernel import f32, kernel
from mentorgym.envs.driving.simulator.records import NOTHING
from mentorgym.envs.driving.state import CAR, LIGHT_GREEN, TICK

SLOT = 7.0
"""Metres of lane that a standing car takes."""

ASKING_DISTANCE = 15.0
"""Metres before the junction from which a slow car asks; a fast one asks earlier."""

COMFORTABLE_BRAKING = 2.0
LATEST_BRAKING = 4.0
"""m/s2: a granted car whose light leaves green goes on if it could not stop with this."""

IMPATIENCE = 10.0
"""Seconds after which a refused car blocks others."""

CANDIDATES = 128


@kernel
def hold(tables, traffic, w, path, change):
    """Add `change` to the reservations of every junction lane of a path."""
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        lane = tables.path_lane[k]
        if tables.lane_junction[lane] >= 0:
            traffic.reserved[w, lane] += change


@kernel
def _crosses_junction(tables, path):
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        if tables.lane_junction[tables.path_lane[k]] >= 0:
            return True
    return False


@kernel
def path_light(tables, path):
    """The light (global) that governs a path, -1 for none."""
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        lane = tables.path_lane[k]
        if tables.lane_junction[lane] >= 0:
            return tables.lane_light[lane]
    return NOTHING


@kernel
def _reserved_by_others(tables, traffic, w, path):
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        lane = tables.path_lane[k]
        if tables.lane_junction[lane] >= 0:
            for i in range(tables.conflict_first[lane], tables.conflict_first[lane + 1]):
                if traffic.reserved[w, tables.conflict[i]] > 0:
                    return True
    return False


@kernel
def _ego_in_the_way(tables, world, w, path, egos):
    """Whether an ego stands on the path's junction lanes or will be there within 2.5 s, straight on at its present speed."""
    for e in range(egos):
        x, y = world.vehicle_pose[w, e, 0], world.vehicle_pose[w, e, 1]
        yaw = world.vehicle_pose[w, e, 3]
        cos, sin = np.cos(yaw), np.sin(yaw)
        speed = np.hypot(world.vehicle_velocity[w, e, 0], world.vehicle_velocity[w, e, 1])
        front = world.vehicle_half_size[w, e, 0] + f32(1.0) + speed * f32(2.5)
        back = -world.vehicle_half_size[w, e, 0]
        for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
            lane = tables.path_lane[k]
            if tables.lane_junction[lane] < 0:
                continue
            for p in range(tables.lane_first[lane], tables.lane_first[lane + 1]):
                dx, dy = tables.waypoint_pose[p, 0] - x, tables.waypoint_pose[p, 1] - y
                along, across = dx * cos + dy * sin, dy * cos - dx * sin
                if back < along < front and abs(across) < f32(2.4):
                    if abs(tables.waypoint_pose[p, 2] - world.vehicle_pose[w, e, 2]) < f32(4.0):
                        return True
    return False


@kernel
def grant(tables, world, traffic, w, egos):
    """Decide all requests of one world for this tick, first come first served."""
    town = world.town[w]
    first_light = tables.light_first[town]
    candidates = np.empty(CANDIDATES, np.int32)
    count = 0
    for i in range(egos, world.vehicle_kind.shape[1]):
        path = traffic.path[w, i]
        if world.vehicle_kind[w, i] != CAR or traffic.path_step[w, i] > 0 or path < 0 or traffic.holding[w, i] != NOTHING:
            if traffic.granted[w, i] and traffic.path_step[w, i] == 0 and path >= 0 and traffic.holding[w, i] == path:
                _give_back_at_red(tables, world, traffic, w, i, first_light)
            continue
        if not _crosses_junction(tables, path):
            traffic.granted[w, i] = 1
            continue
        lane = traffic.lane[w, i]
        speed = traffic.speed[w, i]
        to_end = tables.lane_length[lane] - traffic.s[w, i]
        if to_end > max(f32(ASKING_DISTANCE), speed * speed / f32(2 * COMFORTABLE_BRAKING) + f32(8.0)):
            continue
        behind = False
        j = traffic.lane_head[w, lane]
        while j >= 0:
            behind |= traffic.s[w, j] > traffic.s[w, i]
            j = traffic.lane_next[w, j]
        if behind:
            continue
        if traffic.asked[w, i] < 0:
            traffic.asked[w, i] = world.tick[w]
        if count < CANDIDATES:
            place = count
            while place > 0 and traffic.asked[w, candidates[place - 1]] > traffic.asked[w, i]:
                candidates[place] = candidates[place - 1]
                place -= 1
            candidates[place] = i
            count += 1

    blocking = np.empty(CANDIDATES, np.int32)
    blocked = 0
    for c in range(count):
        i = candidates[c]
        path = traffic.path[w, i]
        light = path_light(tables, path)
        if light >= 0 and world.light_state[w, light - first_light] != LIGHT_GREEN:
            continue
        way_out = tables.path_lane[tables.path_lane_first[path + 1] - 1]
        there = f32(traffic.waiting[w, way_out] + traffic.expected[w, way_out] + 1)
        if there * f32(SLOT) > tables.lane_length[way_out]:
            continue
        if _reserved_by_others(tables, traffic, w, path) or _ego_in_the_way(tables, world, w, path, egos):
            if f32(world.tick[w] - traffic.asked[w, i]) * f32(TICK) > f32(IMPATIENCE):
                hold(tables, traffic, w, path, 1)
                blocking[blocked] = path
                blocked += 1
            continue
        hold(tables, traffic, w, path, 1)
        traffic.expected[w, way_out] += 1
        traffic.holding[w, i] = path
        traffic.granted[w, i] = 1
    for k in range(blocked):
        hold(tables, traffic, w, blocking[k], -1)


@kernel
def _give_back_at_red(tables, world, traffic, w, i, first_light):
    """A granted car that has not entered, whose light is no longer green and that can stop, returns its grant."""
    path = traffic.path[w, i]
    light = path_light(tables, path)
    if light < 0 or world.light_state[w, light - first_light] == LIGHT_GREEN:
        return
    room = tables.lane_length[traffic.lane[w, i]] - traffic.s[w, i] - world.vehicle_half_size[w, i, 0] - f32(1.0)
    if room > traffic.speed[w, i] * traffic.speed[w, i] / f32(2 * LATEST_BRAKING):
        hold(tables, traffic, w, path, -1)
        traffic.expected[w, tables.path_lane[tables.path_lane_first[path + 1] - 1]] -= 1
        traffic.holding[w, i] = NOTHING
        traffic.granted[w, i] = 0
