"""Who may enter a junction: all-or-nothing reservation of compound paths, with room behind the junction.

A car that leads its storage lane, or follows cars that all have their grants, asks for its whole path to the next
storage lane. It is granted when its light is green, no conflicting junction lane is reserved, no ego is in the way
and the exit has room for it and all those already on their way there. A reservation ends when the car has cleared the
junction; until then the car is granted nothing else.

Right of way: requests are decided by rank (signs, and left turns after the others: `TownTables.path_rank`), then by
arrival. Cars of the first rank ask while they are still some seconds away, so whoever has to yield finds their
reservation. At a stop sign a car asks only after it has stood at the line. A car that has been refused for long goes
first, and blocks later requests that conflict with its own; one whose exit stays full takes another way.
"""

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.map.tables import STOPS, YIELDS, same_level
from mentorgym.envs.driving.random import random_bits
from mentorgym.envs.driving.worlds.simulator.records import NOTHING, STREAM_DETOUR
from mentorgym.envs.driving.worlds.state import CAR, LIGHT_GREEN, TICK

SLOT = 7.0
"""Metres of lane that a standing car takes."""

ASKING_DISTANCE, ASKING_TIME = 15.0, 4.5
"""A car asks this many metres before the junction, a fast one earlier, and one with the right of way this many seconds:
the gap that those who yield to it leave."""

COMFORTABLE_BRAKING = 2.0
LATEST_BRAKING = 4.0
"""m/s2: a granted car whose light leaves green goes on if it could not stop with this."""

IMPATIENCE, LATE_IMPATIENCE, TURNING_IMPATIENCE = 10.0, 15.0, 5.0
"""Seconds of refusals after which a car goes before others: usually, where it has to yield, and turning left, which has
to be done within one green."""

DETOUR_TIME = 5.0
"""Seconds of a full exit after which a car takes another way, and between two tries."""

LINE_DISTANCE, LINE_TIME = 3.0, 1.0
"""A car has stopped at a stop sign when it has stood this near to the line (m), this long (s)."""

EGO_SECONDS, EGO_SECONDS_YIELDING = 2.5, 4.0
"""Seconds of an ego's way, straight on at its present speed, that others keep out of."""

RESERVE, RELEASE = np.int64(1), np.int64(-1)
"""What `hold` adds to the number of cars that hold a lane."""


@inner
def hold(tables, traffic, b, path, change):
    """Reserve every junction lane of a path (`change` is RESERVE), or give it back (RELEASE)."""
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        lane = tables.path_lane[k]
        if tables.lane_junction[lane] >= 0:
            traffic.reserved[b, lane] += change


@inner
def _reserved_by_others(tables, traffic, b, path):
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        lane = tables.path_lane[k]
        if tables.lane_junction[lane] >= 0:
            for i in range(tables.conflict_first[lane], tables.conflict_first[lane + 1]):
                if traffic.reserved[b, tables.conflict[i]] > 0:
                    return True
    return False


@inner
def _lies_across(tables, path, pose, front, back):
    """Whether a corridor from `back` to `front` metres along a pose, a lane wide, meets the path's junction lanes."""
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        lane = tables.path_lane[k]
        if tables.lane_junction[lane] < 0:
            continue
        for p in range(tables.lane_first[lane], tables.lane_first[lane + 1]):
            dx, dy = tables.waypoint_pose[p, 0] - pose[0], tables.waypoint_pose[p, 1] - pose[1]
            if back < dx * cos + dy * sin < front and abs(dy * cos - dx * sin) < f32(2.4):
                if same_level(tables.waypoint_pose[p, 2] - pose[2]):
                    return True
    return False


@inner
def _lights_allow(tables, world, b, path):
    """Whether the first light on a path is green.

    A later one rules over a junction that begins less than a car behind the first, and may never be green together
    with it: whoever enters the first clears both.
    """
    first_light = tables.light_first[world.town[b]]
    for k in range(tables.path_lane_first[path], tables.path_lane_first[path + 1]):
        light = tables.lane_light[tables.path_lane[k]]
        if light >= 0:
            return world.light_state[b, light - first_light] == LIGHT_GREEN
    return True


@inner
def exit_of(tables, path):
    """The storage lane that a path ends on."""
    return tables.path_lane[tables.path_lane_first[path + 1] - 1]


@inner
def _exit_has_room(tables, traffic, b, path):
    """Whether a path's exit holds one more car.

    Whoever yields leaves one more place free, so that a roundabout never fills up: the condition under which a ring of
    buffers cannot lock up (bubble flow control, Carrión et al. 1997).
    """
    way_out = exit_of(tables, path)
    places = 2 if YIELDS <= tables.path_rank[path] < STOPS else 1
    cars = traffic.waiting[b, way_out] + traffic.expected[b, way_out] + places
    return f32(cars) * f32(SLOT) <= tables.lane_length[way_out]


@inner
def _patience(rank):
    if rank == 1:
        return f32(TURNING_IMPATIENCE)
    return f32(LATE_IMPATIENCE) if rank >= YIELDS else f32(IMPATIENCE)


@inner
def _in_an_egos_way(tables, world, b, egos, path):
    seconds = f32(EGO_SECONDS) if tables.path_rank[path] == 0 else f32(EGO_SECONDS_YIELDING)
    for e in range(egos):
        pose = world.vehicle_pose[b, e]
        if world.vehicle_kind[b, e] != CAR:
            continue
        speed = np.hypot(world.vehicle_velocity[b, e, 0], world.vehicle_velocity[b, e, 1])
        front = world.vehicle_half_size[b, e, 0] + f32(1.0) + speed * seconds
        if _lies_across(tables, path, pose, front, -world.vehicle_half_size[b, e, 0]):
            return True
    return False


@inner
def grant(tables, world, traffic, b, egos):
    """Decide all requests of one world for this tick."""
    lanes, places, speeds = traffic.lane[b], traffic.s[b], traffic.speed[b]
    paths, steps, granted = traffic.path[b], traffic.path_step[b], traffic.granted[b]
    holding, request_tick, refused = traffic.holding[b], traffic.request_tick[b], traffic.refused[b]
    head, following = traffic.lane_head[b], traffic.lane_next[b]
    vehicles = lanes.shape[0]

    candidates = np.empty(vehicles, np.int32)
    order = np.empty(vehicles, np.int32)
    count = 0
    for v in range(egos, vehicles):
        path = paths[v]
        if world.vehicle_kind[b, v] != CAR or path < 0 or steps[v] > 0:
            continue
        room = tables.lane_length[lanes[v]] - places[v]
        if holding[v] == path:
            # Granted, not entered yet: a car whose light has left green and that can stop returns its grant.
            room -= world.vehicle_half_size[b, v, 0] + f32(1.0)
            can_stop = room > speeds[v] * speeds[v] / f32(2 * LATEST_BRAKING)
            if can_stop and not _lights_allow(tables, world, b, path):
                hold(tables, traffic, b, path, RELEASE)
                traffic.expected[b, exit_of(tables, path)] -= 1
                holding[v] = NOTHING
                granted[v] = 0
            continue
        if holding[v] != NOTHING:
            continue
        if not tables.path_crosses[path]:
            granted[v] = 1
            continue
        rank = tables.path_rank[path]
        distance = max(f32(ASKING_DISTANCE), speeds[v] * speeds[v] / f32(2 * COMFORTABLE_BRAKING) + f32(8.0))
        if rank == 0:
            distance = max(distance, speeds[v] * f32(ASKING_TIME))
        if room > distance or traffic.other_lane[b, v] >= 0:
            continue
        if rank == STOPS and request_tick[v] < 0:
            at_line = room - world.vehicle_half_size[b, v, 0] < f32(LINE_DISTANCE)
            if not at_line or traffic.standing[b, v] < f32(LINE_TIME):
                continue
        leads = True
        entry = head[lanes[v]]
        while entry >= 0:
            leads &= entry >= vehicles or places[entry] <= places[v] or granted[entry] == 1
            entry = following[entry]
        if not leads:
            continue
        if request_tick[v] < 0:
            request_tick[v] = world.tick[b]
        if _lights_allow(tables, world, b, path):
            key = -1 if refused[v] > _patience(rank) else np.int32(rank)
            place = count
            while place > 0 and (
                order[place - 1] > key
                or (order[place - 1] == key and request_tick[candidates[place - 1]] > request_tick[v])
            ):
                candidates[place], order[place] = candidates[place - 1], order[place - 1]
                place -= 1
            candidates[place], order[place] = v, key
            count += 1

    blocking = np.empty(count, np.int32)
    blocked = 0
    for c in range(count):
        v = candidates[c]
        path = paths[v]
        if not _exit_has_room(tables, traffic, b, path):
            refused[v] += f32(TICK)
            if refused[v] > f32(DETOUR_TIME) and (world.tick[b] + v) % np.int32(DETOUR_TIME / TICK) == 0:
                paths[v] = _detour(tables, traffic, b, lanes[v], path, v, world.tick[b])
            continue
        if not _reserved_by_others(tables, traffic, b, path) and not _in_an_egos_way(tables, world, b, egos, path):
            hold(tables, traffic, b, path, RESERVE)
            traffic.expected[b, exit_of(tables, path)] += 1
            holding[v] = path
            granted[v] = 1
            continue
        refused[v] += f32(TICK)
        if order[c] < 0:
            hold(tables, traffic, b, path, RESERVE)
            blocking[blocked] = path
            blocked += 1
    for k in range(blocked):
        hold(tables, traffic, b, blocking[k], RELEASE)


@inner
def _detour(tables, traffic, b, lane, path, v, tick):
    """Another path from the same lane whose exit has room, the present one where there is none."""
    first = tables.path_first[lane]
    count = tables.path_first[lane + 1] - first
    start = np.int32(random_bits(traffic.key[b], STREAM_DETOUR, v, tick) % np.uint64(count))
    for k in range(count):
        other = first + (start + k) % count
        if other != path and _exit_has_room(tables, traffic, b, np.int32(other)):
            return np.int32(other)
    return path
