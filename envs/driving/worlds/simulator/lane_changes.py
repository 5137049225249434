"""Lane changes of background cars, where the paint allows them.

A car has to change where its lane ends, and would like to where the path it has drawn begins on the lane beside it, or
where it would get on better: the incentive and the safety criterion are those of MOBIL (Kesting, Treiber, Helbing
2007), with the accelerations of the car-following model. It changes nothing near a junction or once it has a grant.

The car belongs to the new lane at once, with an offset from its centre line that fades over about three seconds; until
it has cleared the old lane it is listed there as well. Where a lane ends, the driver behind on the other one makes
room.
"""

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.map.tables import same_level
from mentorgym.envs.driving.worlds.simulator.car_following import acceleration_behind
from mentorgym.envs.driving.worlds.simulator.records import NOTHING
from mentorgym.envs.driving.worlds.simulator.traffic import choose_path, list_lanes
from mentorgym.envs.driving.worlds.state import CAR, TICK

DURATION, SHORTEST = 3.0, 16.0
"""A change takes this many seconds at the present speed, and this many metres at least."""

EVERY, PAUSE = 5, 60
"""Ticks between two looks at the lanes beside, and after a change before a car changes again of its own will."""

ADVANTAGE, POLITENESS = 0.3, 0.25
"""m/s2 that a change has to gain, and the weight of what it costs the driver behind."""

SAFE_BRAKING, URGENT_BRAKING = 2.0, 4.0
"""m/s2 that a change may force upon the driver behind and on oneself, and where the lane ends soon."""

LEAST_GAP, LEAST_GAP_AT_REST = 1.5, 0.3
"""Metres before and behind; and behind where the other one stands and makes room."""

SOON = 60.0
"""Metres before the end of a lane from which others make room."""

BEFORE_JUNCTION, LATEST_BEFORE_JUNCTION = 18.0, 6.0
"""Metres before a junction at which a change has to be complete, and where the old lane ends."""

SHORT_LANE = 40.0
"""Metres; behind a shorter lane its predecessors are searched too."""


@inner
def _ahead(world, traffic, b, v, lane, base):
    """The nearest car ahead on a lane that begins `base` metres ahead of car `v`: its slot or NOTHING, and the gap."""
    s, other_s, sizes = traffic.s[b], traffic.other_s[b], world.vehicle_half_size[b]
    nearest, gap = NOTHING, f32(np.inf)
    vehicles = s.shape[0]
    entry = traffic.lane_head[b, lane]
    while entry >= 0:
        other = entry if entry < vehicles else entry - vehicles
        distance = base + (s[other] if entry < vehicles else other_s[other])
        if other != v and distance > f32(0.0) and distance - sizes[v, 0] - sizes[other, 0] < gap:
            nearest, gap = np.int32(other), distance - sizes[v, 0] - sizes[other, 0]
        entry = traffic.lane_next[b, entry]
    return nearest, gap


@inner
def _behind(world, traffic, b, v, lane, base):
    """The nearest car behind on a lane that begins `base` metres behind car `v`, likewise."""
    s, other_s, sizes = traffic.s[b], traffic.other_s[b], world.vehicle_half_size[b]
    nearest, gap = NOTHING, f32(np.inf)
    vehicles = s.shape[0]
    entry = traffic.lane_head[b, lane]
    while entry >= 0:
        other = entry if entry < vehicles else entry - vehicles
        distance = base - (s[other] if entry < vehicles else other_s[other])
        if other != v and distance >= f32(0.0) and distance - sizes[v, 0] - sizes[other, 0] < gap:
            nearest, gap = np.int32(other), distance - sizes[v, 0] - sizes[other, 0]
        entry = traffic.lane_next[b, entry]
    return nearest, gap


@inner
def _leader(tables, world, traffic, b, v, lane, at):
    """The car ahead of place `at` on a lane or on the lanes that follow it: its slot or NOTHING, and the gap in m."""
    nearest, gap = _ahead(world, traffic, b, v, lane, -at)
    if nearest == NOTHING:
        base = tables.lane_length[lane] - at
        for k in range(tables.successor_first[lane], tables.successor_first[lane + 1]):
            other, room = _ahead(world, traffic, b, v, tables.successor[k], base)
            if room < gap:
                nearest, gap = other, room
    return nearest, gap


@inner
def _follower(tables, world, traffic, b, v, lane, at):
    """The car behind place `at` on a lane or on the lanes before it, likewise."""
    nearest, gap = _behind(world, traffic, b, v, lane, at)
    if nearest == NOTHING:
        for k in range(tables.predecessor_first[lane], tables.predecessor_first[lane + 1]):
            before = tables.predecessor[k]
            base = at + tables.lane_length[before]
            other, room = _behind(world, traffic, b, v, before, base)
            if room < gap:
                nearest, gap = other, room
            if other != NOTHING or tables.lane_length[before] > f32(SHORT_LANE):
                continue
            for n in range(tables.predecessor_first[before], tables.predecessor_first[before + 1]):
                first = tables.predecessor[n]
                other, room = _behind(world, traffic, b, v, first, base + tables.lane_length[first])
                if room < gap:
                    nearest, gap = other, room
    return nearest, gap


@inner
def _ego_beside(world, b, egos, v, side, speed):
    """Whether an ego is on the lane on this side of car `v`, or comes up on it so fast that it would have to brake."""
    x, y, z, yaw = world.vehicle_pose[b, v]
    cos, sin = np.cos(yaw), np.sin(yaw)
    for e in range(egos):
        dx, dy = world.vehicle_pose[b, e, 0] - x, world.vehicle_pose[b, e, 1] - y
        if world.vehicle_kind[b, e] != CAR or not same_level(world.vehicle_pose[b, e, 2] - z):
            continue
        aside = f32(side) * (dy * cos - dx * sin)
        if aside < f32(-1.0) or aside > f32(6.0):
            continue
        along = dx * cos + dy * sin
        theirs = world.vehicle_velocity[b, e, 0] * cos + world.vehicle_velocity[b, e, 1] * sin
        closing = max(theirs - speed, f32(0.0))
        lengths = world.vehicle_half_size[b, e, 0] + world.vehicle_half_size[b, v, 0] + f32(LEAST_GAP)
        behind = lengths + max(theirs, f32(0.0)) + closing * closing / f32(2.0 * SAFE_BRAKING)
        if -behind < along < lengths + speed:
            return True
    return False


@inner
def change_lanes(tables, world, traffic, b, egos):
    """Let the cars of one world begin lane changes; the lists of `list_lanes` are kept up to date."""
    tick = world.tick[b]
    lanes, places, speeds, sizes = traffic.lane[b], traffic.s[b], traffic.speed[b], world.vehicle_half_size[b]
    traffic.lets_in[b, :] = -1
    for v in range(egos, lanes.shape[0]):
        if world.vehicle_kind[b, v] != CAR:
            continue
        lane = lanes[v]
        must = tables.lane_ends[lane] < f32(np.inf)
        if not must and (tick + v) % EVERY:
            continue
        s, speed = places[v], speeds[v]
        here = tables.lane_first[lane] + min(
            np.int32(s / tables.lane_step[lane]), tables.lane_first[lane + 1] - 2 - tables.lane_first[lane]
        )
        if tables.waypoint_left[here] < 0 and tables.waypoint_right[here] < 0:
            continue
        if traffic.change_done[b, v] < traffic.change_length[b, v] or traffic.path_step[b, v] > 0:
            continue
        if traffic.holding[b, v] != NOTHING:
            continue
        to_end = tables.lane_ends[lane] - s
        wants = traffic.wants[b, v]
        if not must and wants == 0 and tick - traffic.changed[b, v] < PAUSE:
            continue
        desired = tables.waypoint_speed[here] * traffic.temper[b, v]
        leader, gap = _leader(tables, world, traffic, b, v, lane, s)
        present = acceleration_behind(speed, desired, gap, speeds[leader] if leader != NOTHING else f32(0.0))
        best, gain = NOTHING, f32(-np.inf)
        for side in (1, -1):
            beside = tables.waypoint_left[here] if side == 1 else tables.waypoint_right[here]
            if beside < 0 or (wants != 0 and not must and side != wants):
                continue
            lane_beside = tables.waypoint_lane[beside]
            if tables.lane_ends[lane_beside] < f32(np.inf) and not (
                must and tables.lane_ends[lane_beside] > tables.lane_ends[lane]
            ):
                continue
            at = f32(beside - tables.lane_first[lane_beside]) * tables.lane_step[lane_beside]
            at += s - f32(here - tables.lane_first[lane]) * tables.lane_step[lane]
            room = tables.lane_length[lane_beside] - at + tables.lane_to_junction[lane_beside]
            if room < max(f32(DURATION) * speed, f32(SHORTEST)) + f32(BEFORE_JUNCTION) and not (
                must and room > f32(SHORTEST + LATEST_BEFORE_JUNCTION)
            ):
                continue
            if _ego_beside(world, b, egos, v, side, speed):
                continue
            safe = f32(-URGENT_BRAKING) if must and to_end < f32(SOON) else f32(-SAFE_BRAKING)
            leader, gap = _leader(tables, world, traffic, b, v, lane_beside, at)
            mine = acceleration_behind(speed, desired, gap, speeds[leader] if leader != NOTHING else f32(0.0))
            follower, room_behind = _follower(tables, world, traffic, b, v, lane_beside, at)
            before, after = f32(0.0), f32(0.0)
            if follower != NOTHING:
                theirs = tables.waypoint_speed[beside] * traffic.temper[b, follower]
                after = acceleration_behind(speeds[follower], theirs, room_behind, speed)
                before = acceleration_behind(
                    speeds[follower],
                    theirs,
                    room_behind + gap + f32(2.0) * sizes[v, 0],
                    speeds[leader] if leader != NOTHING else f32(0.0),
                )
            # One who stands there has stopped to make room.
            stands = must and follower != NOTHING and speeds[follower] < f32(0.5)
            fits = gap > f32(LEAST_GAP) and room_behind > f32(LEAST_GAP_AT_REST if stands else LEAST_GAP)
            if not fits or mine < safe or (after < safe and not stands):
                if must and to_end < f32(SOON) and follower != NOTHING and room_behind > f32(LEAST_GAP_AT_REST):
                    traffic.lets_in[b, follower] = np.int16(v)
                continue
            advantage = mine - present - f32(POLITENESS) * (before - after)
            if (must or wants == side or advantage > f32(ADVANTAGE)) and advantage > gain:
                best, gain = beside, advantage
        if best != NOTHING:
            _begin(tables, world, traffic, b, v, best, tick)
            list_lanes(world, traffic, b, egos)


@inner
def _begin(tables, world, traffic, b, v, beside, tick):
    """Put car `v` on the lane of waypoint `beside`, off its centre line by as much as it is away from it."""
    lane = tables.waypoint_lane[beside]
    dx = world.vehicle_pose[b, v, 0] - tables.waypoint_pose[beside, 0]
    dy = world.vehicle_pose[b, v, 1] - tables.waypoint_pose[beside, 1]
    cos, sin = tables.waypoint_direction[beside, 0], tables.waypoint_direction[beside, 1]
    at = f32(beside - tables.lane_first[lane]) * tables.lane_step[lane] + dx * cos + dy * sin
    at = min(max(at, f32(0.0)), tables.lane_length[lane] - f32(0.01))
    room = tables.lane_length[lane] - at + tables.lane_to_junction[lane]
    length = max(f32(DURATION) * (traffic.speed[b, v] + f32(TICK)), f32(SHORTEST))
    traffic.other_lane[b, v], traffic.other_s[b, v] = traffic.lane[b, v], traffic.s[b, v]
    traffic.lane[b, v], traffic.s[b, v] = lane, at
    traffic.change_from[b, v] = dy * cos - dx * sin
    traffic.change_done[b, v] = f32(0.0)
    traffic.change_length[b, v] = min(length, max(room - f32(LATEST_BEFORE_JUNCTION), f32(SHORTEST)))
    traffic.changed[b, v] = tick
    choose_path(tables, traffic, b, v, lane, tick)
    traffic.wants[b, v] = 0
