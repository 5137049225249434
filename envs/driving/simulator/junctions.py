"""Who may enter a junction: all-or-nothing reservation of compound paths, with room behind the junction.

A car at the front of a storage lane asks for its whole path to the next storage lane. It is granted when the light is
green, no conflicting junction lane is reserved, no ego is in the way and the exit has room for it and all those
already on their way there. A car that has waited long blocks later requests that conflict with its own. A reservation
ends when the car has cleared the junction; until then the car is granted nothing else. No road has priority over
another, and background cars do not stop for stop signs.
"""

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.simulator.records import NOTHING
from mentorgym.envs.driving.state import CAR, LIGHT_GREEN, TICK
from mentorgym.envs.driving.tables import same_level

SLOT = 7.0
"""Metres of lane that a standing car takes."""

ASKING_DISTANCE = 15.0
"""Metres before the junction from which a slow car asks; a fast one asks earlier."""

COMFORTABLE_BRAKING = 2.0
LATEST_BRAKING = 4.0
"""m/s2: a granted car whose light leaves green goes on if it could not stop with this."""

IMPATIENCE = 10.0
"""Seconds after which a refused car blocks others."""


@inner
def hold(path_lane_first, path_lane, lane_junction, reserved, path, change):
    """Add `change` to the reservations (int16 [N], of one world) of every junction lane of a path."""
    for k in range(path_lane_first[path], path_lane_first[path + 1]):
        if lane_junction[path_lane[k]] >= 0:
            reserved[path_lane[k]] += change


@inner
def _reserved_by_others(path_lane_first, path_lane, lane_junction, conflict_first, conflict, reserved, path):
    for k in range(path_lane_first[path], path_lane_first[path + 1]):
        lane = path_lane[k]
        if lane_junction[lane] >= 0:
            for i in range(conflict_first[lane], conflict_first[lane + 1]):
                if reserved[conflict[i]] > 0:
                    return True
    return False


@inner
def _lies_across(path_lane_first, path_lane, lane_junction, lane_first, waypoint_pose, path, pose, front, back):
    """Whether a corridor from `back` to `front` metres along a pose, a lane wide, meets the path's junction lanes."""
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    for k in range(path_lane_first[path], path_lane_first[path + 1]):
        lane = path_lane[k]
        if lane_junction[lane] < 0:
            continue
        for p in range(lane_first[lane], lane_first[lane + 1]):
            dx, dy = waypoint_pose[p, 0] - pose[0], waypoint_pose[p, 1] - pose[1]
            if back < dx * cos + dy * sin < front and abs(dy * cos - dx * sin) < f32(2.4):
                if same_level(waypoint_pose[p, 2] - pose[2]):
                    return True
    return False


@inner
def grant(tables, world, traffic, w, egos):
    """Decide all requests of one world for this tick, first come first served."""
    first_light = tables.light_first[world.town[w]]
    path_lane_first, path_lane = tables.path_lane_first, tables.path_lane
    lane_junction, lane_length = tables.lane_junction, tables.lane_length
    light_state = world.light_state[w]
    lanes, places, speeds = traffic.lane[w], traffic.s[w], traffic.speed[w]
    paths, steps, granted = traffic.path[w], traffic.path_step[w], traffic.granted[w]
    holding, asked = traffic.holding[w], traffic.asked[w]
    reserved, expected, waiting = traffic.reserved[w], traffic.expected[w], traffic.waiting[w]
    head, following = traffic.lane_head[w], traffic.lane_next[w]

    candidates = np.empty(lanes.shape[0], np.int32)
    count = 0
    for i in range(egos, lanes.shape[0]):
        path = paths[i]
        if world.vehicle_kind[w, i] != CAR or path < 0 or steps[i] > 0:
            continue
        light = tables.path_light[path]
        green = light < 0 or light_state[light - first_light] == LIGHT_GREEN
        room = lane_length[lanes[i]] - places[i]
        if holding[i] == path:
            # Granted, not entered yet: a car whose light has left green and that can stop returns its grant.
            room -= world.vehicle_half_size[w, i, 0] + f32(1.0)
            if not green and room > speeds[i] * speeds[i] / f32(2 * LATEST_BRAKING):
                hold(path_lane_first, path_lane, lane_junction, reserved, path, -1)
                expected[path_lane[path_lane_first[path + 1] - 1]] -= 1
                holding[i] = NOTHING
                granted[i] = 0
            continue
        if holding[i] != NOTHING:
            continue
        if not tables.path_crosses[path]:
            granted[i] = 1
            continue
        if room > max(f32(ASKING_DISTANCE), speeds[i] * speeds[i] / f32(2 * COMFORTABLE_BRAKING) + f32(8.0)):
            continue
        leads = True
        j = head[lanes[i]]
        while j >= 0:
            leads &= places[j] <= places[i]
            j = following[j]
        if not leads:
            continue
        if asked[i] < 0:
            asked[i] = world.tick[w]
        if green:
            place = count
            while place > 0 and asked[candidates[place - 1]] > asked[i]:
                candidates[place] = candidates[place - 1]
                place -= 1
            candidates[place] = i
            count += 1

    blocking = np.empty(count, np.int32)
    blocked = 0
    for c in range(count):
        i = candidates[c]
        path = paths[i]
        way_out = path_lane[path_lane_first[path + 1] - 1]
        if f32(waiting[way_out] + expected[way_out] + 1) * f32(SLOT) > lane_length[way_out]:
            continue
        refused = _reserved_by_others(
            path_lane_first, path_lane, lane_junction, tables.conflict_first, tables.conflict, reserved, path
        )
        for e in range(egos):
            pose = world.vehicle_pose[w, e]
            speed = np.hypot(world.vehicle_velocity[w, e, 0], world.vehicle_velocity[w, e, 1])
            # Where the ego stands, and where it will be within 2.5 s, straight on at its present speed.
            front = world.vehicle_half_size[w, e, 0] + f32(1.0) + speed * f32(2.5)
            back = -world.vehicle_half_size[w, e, 0]
            refused = refused or _lies_across(
                path_lane_first,
                path_lane,
                lane_junction,
                tables.lane_first,
                tables.waypoint_pose,
                path,
                pose,
                front,
                back,
            )
        if not refused:
            hold(path_lane_first, path_lane, lane_junction, reserved, path, 1)
            expected[way_out] += 1
            holding[i] = path
            granted[i] = 1
        elif f32(world.tick[w] - asked[i]) * f32(TICK) > f32(IMPATIENCE):
            hold(path_lane_first, path_lane, lane_junction, reserved, path, 1)
            blocking[blocked] = path
            blocked += 1
    for k in range(blocked):
        hold(path_lane_first, path_lane, lane_junction, reserved, blocking[k], -1)
