"""Background vehicles: lane following with the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000).

A car sees the car ahead on its lane and path, cars that have just left its path for another branch, egos and walkers
on or about to step onto its path, the end of its lane while its path is not granted, and the curves ahead. While it
changes lanes (see `lane_changes`) it is on both: it minds the cars ahead on either, and those behind mind it.
"""

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.map.tables import DRIVABLE, raster_bits, same_level
from mentorgym.envs.driving.random import random_bits, uniform
from mentorgym.envs.driving.worlds.simulator.car_following import BRAKING, STANDSTILL_GAP, acceleration_behind
from mentorgym.envs.driving.worlds.simulator.junctions import RELEASE, exit_of, hold
from mentorgym.envs.driving.worlds.simulator.records import CROSSING, NOTHING, STREAM_PATH, STREAM_RESPAWN
from mentorgym.envs.driving.worlds.state import CAR, LIGHT_GREEN, TICK, WALKER

STOP_LINE_GAP = 1.0
"""Metres between a waiting car's front and the end of its lane."""

LOOKAHEAD, SECONDS_AHEAD, LANES_AHEAD = 50.0, 4.0, 10
"""Metres that a driver looks ahead, seconds where that is farther, and lanes at most."""

CLEARANCE = 5.0
"""Metres of a car's tail beyond the junction at which its reservation ends."""

DEAD_END_WAIT = 2.0
"""Seconds that a car stands at the end of a lane without successors before it is moved elsewhere."""

STUCK, STUCK_AT_LIGHT = 60.0, 80.0
"""Seconds of standing after which a car far from every ego is moved elsewhere: usually, and before a light that is not
green; no red lasts as long as the latter."""

FAR_FROM_EGOS = 50.0
"""Metres."""

MOST_WALKERS = 12
"""Walkers that a driver takes into account at once."""


CLEAR_OF_LANE = 0.7
"""Metres from its new lane's centre line within which a changing car has cleared the old one."""

SOFT_BRAKING = 1.5
"""m/s2 with which drivers make room for one whose lane ends."""


@inner
def list_lanes(world, traffic, b, egos):
    """Rebuild the lists of cars on each lane."""
    vehicles = world.vehicle_kind.shape[1]
    traffic.lane_head[b, :] = -1
    traffic.waiting[b, :] = 0
    for v in range(egos, vehicles):
        if world.vehicle_kind[b, v] == CAR:
            lane = traffic.lane[b, v]
            traffic.lane_next[b, v] = traffic.lane_head[b, lane]
            traffic.lane_head[b, lane] = v
            traffic.waiting[b, lane] += 1
            other = traffic.other_lane[b, v]
            if other >= 0:
                traffic.lane_next[b, vehicles + v] = traffic.lane_head[b, other]
                traffic.lane_head[b, other] = vehicles + v


@inner
def choose_path(tables, traffic, b, v, lane, tick):
    """Draw a path among those of a storage lane and of the lanes beside it.

    The car gets a path of its own lane in any case, NOTHING where there is none; `wants` says on which side the drawn
    one begins.
    """
    here = tables.path_first[lane + 1] - tables.path_first[lane]
    middle = (tables.lane_first[lane] + tables.lane_first[lane + 1]) // 2
    left, right = tables.waypoint_left[middle], tables.waypoint_right[middle]
    on_left, on_right = np.int32(0), np.int32(0)
    if left >= 0:
        beside = tables.waypoint_lane[left]
        on_left = tables.path_first[beside + 1] - tables.path_first[beside]
    if right >= 0:
        beside = tables.waypoint_lane[right]
        on_right = tables.path_first[beside + 1] - tables.path_first[beside]
    lot = random_bits(traffic.key[b], STREAM_PATH, v, tick)
    traffic.path[b, v] = NOTHING
    traffic.wants[b, v] = 0
    if here > 0:
        traffic.path[b, v] = tables.path_first[lane] + np.int32(lot % np.uint64(here))
    if here + on_left + on_right > here:
        choice = np.int32((lot >> np.uint64(32)) % np.uint64(here + on_left + on_right)) - here
        if choice >= 0:
            traffic.wants[b, v] = 1 if choice < on_left else -1
    traffic.path_step[b, v] = 0
    path = traffic.path[b, v]
    traffic.granted[b, v] = path >= 0 and not tables.path_crosses[path] and traffic.holding[b, v] == NOTHING
    traffic.request_tick[b, v] = -1
    traffic.refused[b, v] = f32(0.0)


@inner
def _gap_to_car(tables, world, traffic, b, v, way, ways, at, sight):
    """Gap in m to the car ahead on the way (lanes from the present one on, where car `v` is `at` metres from the
    start), and its speed; (inf, 0) for none."""
    s, other_s, speeds, sizes = traffic.s[b], traffic.other_s[b], traffic.speed[b], world.vehicle_half_size[b]
    head, following = traffic.lane_head[b], traffic.lane_next[b]
    half = sizes[v, 0]
    gap, ahead = f32(np.inf), f32(0.0)
    base = -at
    vehicles = s.shape[0]
    for n in range(ways):
        lane = way[n]
        entry = head[lane]
        while entry >= 0:
            other = entry if entry < vehicles else entry - vehicles
            distance = base + (s[other] if entry < vehicles else other_s[other])
            room = distance - half - sizes[other, 0]
            if (distance > f32(0.0) or (distance == f32(0.0) and other > v)) and other != v and room < gap:
                gap, ahead = room, speeds[other]
            entry = following[entry]
        for k in range(tables.sibling_first[lane], tables.sibling_first[lane + 1]):
            entry = head[tables.sibling[k]]
            while entry >= 0:
                other = entry if entry < vehicles else entry - vehicles
                tail = s[other] - sizes[other, 0]
                room = base + tail - half
                overlaps = tail < tables.sibling_overlap[k]
                if overlaps and base + s[other] > f32(0.0) and room < gap and other != v:
                    gap, ahead = room, speeds[other]
                entry = following[entry]
        base += tables.lane_length[lane]
        if gap < f32(np.inf) or base > sight:
            break
    return gap, ahead


@inner
def _gap_to_obstacle(tables, world, traffic, b, v, way, ways, obstacles, count, sight):
    """Gap in m to the first obstacle (rows x, y, vx, vy, radius) on the way in `sight`, and its speed along it.

    A car aside of the lane's centre line sweeps all that lies between.
    """
    s, half_length = traffic.s[b, v], world.vehicle_half_size[b, v, 0]
    aside = offset(traffic.change_from[b, v], traffic.change_done[b, v], traffic.change_length[b, v])
    half_width = world.vehicle_half_size[b, v, 1] + f32(0.5) * abs(aside)
    steps_done = np.int32(s / tables.lane_step[way[0]]) + 1
    travelled = f32(steps_done) * tables.lane_step[way[0]] - s
    for n in range(ways):
        lane = way[n]
        for p in range(tables.lane_first[lane] + steps_done, tables.lane_first[lane + 1] - 1):
            if travelled > sight:
                return f32(np.inf), f32(0.0)
            x, y = tables.waypoint_pose[p, 0], tables.waypoint_pose[p, 1]
            cos, sin = tables.waypoint_direction[p, 0], tables.waypoint_direction[p, 1]
            if aside != f32(0.0):
                x -= f32(0.5) * aside * sin
                y += f32(0.5) * aside * cos
            for k in range(count):
                dx, dy = obstacles[k, 0] - x, obstacles[k, 1] - y
                reach = half_width + obstacles[k, 4]
                if dx * dx + dy * dy < reach * reach:
                    along = max(obstacles[k, 2] * cos + obstacles[k, 3] * sin, f32(0.0))
                    return travelled + min(dx * cos + dy * sin, f32(0.0)) - half_length, along
            travelled += tables.lane_step[lane]
        steps_done = np.int32(0)
    return f32(np.inf), f32(0.0)


@inner
def _list_egos(world, b, egos, pose, sight, obstacles):
    """Write the egos in sight of a pose as obstacles, a box as three discs; returns how many rows."""
    x, y, z = pose[0], pose[1], pose[2]
    count = 0
    for e in range(egos):
        dx, dy = world.vehicle_pose[b, e, 0] - x, world.vehicle_pose[b, e, 1] - y
        reach = sight + f32(5.0)
        if dx * dx + dy * dy > reach * reach or world.vehicle_kind[b, e] != CAR:
            continue
        if not same_level(world.vehicle_pose[b, e, 2] - z):
            continue
        yaw = world.vehicle_pose[b, e, 3]
        for k in range(3):
            offset = f32(k - 1) * (world.vehicle_half_size[b, e, 0] - world.vehicle_half_size[b, e, 1])
            obstacles[count, 0] = world.vehicle_pose[b, e, 0] + offset * np.cos(yaw)
            obstacles[count, 1] = world.vehicle_pose[b, e, 1] + offset * np.sin(yaw)
            obstacles[count, 2] = world.vehicle_velocity[b, e, 0]
            obstacles[count, 3] = world.vehicle_velocity[b, e, 1]
            obstacles[count, 4] = world.vehicle_half_size[b, e, 1] + f32(0.15)
            count += 1
    return count


@inner
def _add_pedestrians(world, b, pedestrians, pose, sight, obstacles, count):
    """Add the pedestrians ahead of a pose to the obstacles: where each is, and will be over the next 2 s.

    Returns how many rows there are.
    """
    x, y, z = pose[0], pose[1], pose[2]
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    for w in pedestrians:
        dx, dy = world.walker_pose[b, w, 0] - x, world.walker_pose[b, w, 1] - y
        if dx * dx + dy * dy > sight * sight or dx * cos + dy * sin < f32(0.0) or count + 4 > obstacles.shape[0]:
            continue
        if not same_level(world.walker_pose[b, w, 2] - z):
            continue
        for moment in range(4):
            t = f32(0.7) * f32(moment)
            obstacles[count, 0] = world.walker_pose[b, w, 0] + world.walker_velocity[b, w, 0] * t
            obstacles[count, 1] = world.walker_pose[b, w, 1] + world.walker_velocity[b, w, 1] * t
            obstacles[count, 2] = f32(0.0)
            obstacles[count, 3] = f32(0.0)
            obstacles[count, 4] = f32(0.8)
            count += 1
    return count


@inner
def _list_pedestrians(tables, world, traffic, b):
    """The walkers on the road or stepping onto it, int32."""
    pedestrians = np.empty(world.walker_kind.shape[1], np.int32)
    count = 0
    for w in range(world.walker_kind.shape[1]):
        if world.walker_kind[b, w] == WALKER and (
            traffic.walker_mode[b, w] == CROSSING
            or raster_bits(tables, world.town[b], world.walker_pose[b, w, 0], world.walker_pose[b, w, 1]) & DRIVABLE
        ):
            pedestrians[count] = w
            count += 1
    return pedestrians[:count]


@inner
def _wish_among_cars(tables, world, traffic, b, v, way, ways, beside, desired, sight):
    """m/s2 of car `v` behind the cars on its way and on the lane that it leaves, and before its way's end.

    `beside`, int32 [1], is room for that lane.
    """
    lane, s, speed = traffic.lane[b, v], traffic.s[b, v], traffic.speed[b, v]
    gap, ahead = _gap_to_car(tables, world, traffic, b, v, way, ways, s, sight)
    wish = acceleration_behind(speed, desired, gap, ahead)
    if traffic.other_lane[b, v] >= 0:
        beside[0] = traffic.other_lane[b, v]
        gap, ahead = _gap_to_car(tables, world, traffic, b, v, beside, np.int64(1), traffic.other_s[b, v], sight)
        wish = min(wish, acceleration_behind(speed, desired, gap, ahead))
    end = tables.lane_ends[lane] - s
    if traffic.path[b, v] < 0 or (traffic.path_step[b, v] == 0 and not traffic.granted[b, v]):
        end = min(end, tables.lane_length[lane] - s)
    if end < f32(np.inf):
        room = end - world.vehicle_half_size[b, v, 0] - f32(STOP_LINE_GAP) + f32(STANDSTILL_GAP)
        wish = min(wish, acceleration_behind(speed, desired, room, f32(0.0)))
    other = traffic.lets_in[b, v]
    if other >= 0:
        pose, its_pose = world.vehicle_pose[b, v], world.vehicle_pose[b, other]
        dx, dy = its_pose[0] - pose[0], its_pose[1] - pose[1]
        gap = dx * np.cos(pose[3]) + dy * np.sin(pose[3])
        gap = gap - world.vehicle_half_size[b, v, 0] - world.vehicle_half_size[b, other, 0]
        wish = min(wish, max(acceleration_behind(speed, desired, gap, traffic.speed[b, other]), f32(-SOFT_BRAKING)))
    return wish


@inner
def _look_ahead(tables, traffic, b, v, far, way):
    """Write the lanes that car `v` is about to drive within `far` metres; returns how many, and the desired m/s."""
    lane, s, path, temper = traffic.lane[b, v], traffic.s[b, v], traffic.path[b, v], traffic.temper[b, v]
    desired = tables.waypoint_speed[tables.lane_first[lane] + np.int32(s / tables.lane_step[lane])] * temper
    way[0], ways = lane, 1
    if path >= 0:
        distance = tables.lane_length[lane] - s
        for k in range(tables.path_lane_first[path] + traffic.path_step[b, v], tables.path_lane_first[path + 1]):
            if distance > far or ways == LANES_AHEAD:
                break
            way[ways] = tables.path_lane[k]
            ways += 1
            entry = tables.waypoint_speed[tables.lane_first[tables.path_lane[k]]] * temper
            desired = min(desired, np.sqrt(entry * entry + f32(2.0 * 1.5) * distance))
            distance += tables.lane_length[tables.path_lane[k]]
    return ways, desired


@inner
def _move(tables, world, traffic, b, v, acceleration):
    """Move car `v` by one tick along its lane and path, and release its reservation once it is clear."""
    before = traffic.speed[b, v]
    speed = max(before + acceleration * f32(TICK), f32(0.0))
    moved = f32(0.5) * (before + speed) * f32(TICK)
    start, length = traffic.change_from[b, v], traffic.change_length[b, v]
    if traffic.change_done[b, v] < length:
        # The way along the lane is shorter than the slanting one that is driven.
        aslant = slope(start, traffic.change_done[b, v], length)
        moved /= np.sqrt(f32(1.0) + aslant * aslant)
        traffic.change_done[b, v] += moved
        traffic.other_s[b, v] += moved
        if abs(offset(start, traffic.change_done[b, v], length)) < f32(CLEAR_OF_LANE):
            traffic.other_lane[b, v] = NOTHING
    other = traffic.other_lane[b, v]
    if other >= 0 and traffic.other_s[b, v] >= tables.lane_length[other]:
        traffic.other_s[b, v] -= tables.lane_length[other]
        traffic.other_lane[b, v] = _only_successor(tables, other)
    s = traffic.s[b, v] + moved
    traffic.standing[b, v] = f32(0.0) if speed > f32(0.1) else traffic.standing[b, v] + f32(TICK)
    lane = traffic.lane[b, v]
    while s >= tables.lane_length[lane]:
        path = traffic.path[b, v]
        if path < 0 or (traffic.path_step[b, v] == 0 and not traffic.granted[b, v]):
            s, speed = tables.lane_length[lane], f32(0.0)
            break
        s -= tables.lane_length[lane]
        k = tables.path_lane_first[path] + traffic.path_step[b, v]
        lane = tables.path_lane[k]
        traffic.path_step[b, v] += 1
        if k + 1 == tables.path_lane_first[path + 1]:
            if traffic.holding[b, v] == path:
                traffic.expected[b, lane] -= 1
            choose_path(tables, traffic, b, v, lane, world.tick[b])
    traffic.lane[b, v], traffic.s[b, v], traffic.speed[b, v] = lane, s, speed
    holding = traffic.holding[b, v]
    tail = s - world.vehicle_half_size[b, v, 0]
    cleared = tail > f32(CLEARANCE) or (tail > f32(0.5) and traffic.standing[b, v] > f32(1.0))
    cleared |= holding == traffic.path[b, v]
    if holding != NOTHING and traffic.path_step[b, v] == 0 and not traffic.granted[b, v] and cleared:
        hold(tables, traffic, b, holding, RELEASE)
        traffic.holding[b, v] = NOTHING
    done = traffic.change_done[b, v]
    place(tables, world, b, v, lane, s, speed, offset(start, done, length), slope(start, done, length))


@inner
def drive(tables, world, traffic, b, egos):
    """Accelerate and move every background car of one world by one tick, along lanes and paths."""
    vehicles = world.vehicle_kind.shape[1]
    pedestrians = _list_pedestrians(tables, world, traffic, b)
    obstacles = np.empty((3 * egos + 4 * MOST_WALKERS, 5), np.float32)
    acceleration = np.zeros(vehicles, np.float32)
    way, beside = np.empty(LANES_AHEAD, np.int32), np.empty(1, np.int32)
    for v in range(egos, vehicles):
        if world.vehicle_kind[b, v] != CAR:
            continue
        speed = traffic.speed[b, v]
        far = max(f32(LOOKAHEAD), f32(SECONDS_AHEAD) * speed)
        ways, desired = _look_ahead(tables, traffic, b, v, far, way)
        wish = _wish_among_cars(tables, world, traffic, b, v, way, ways, beside, desired, far)
        pose = world.vehicle_pose[b, v]
        sight = f32(12.0) + f32(3.0) * speed
        count = _list_egos(world, b, egos, pose, sight, obstacles)
        count = _add_pedestrians(world, b, pedestrians, pose, sight, obstacles, count)
        if count > 0:
            gap, ahead = _gap_to_obstacle(tables, world, traffic, b, v, way, ways, obstacles, count, sight)
            if gap < f32(np.inf):
                wish = min(wish, acceleration_behind(speed, desired, gap, ahead))
        acceleration[v] = wish
    # Nobody moves before all have decided.
    for v in range(egos, vehicles):
        if world.vehicle_kind[b, v] == CAR:
            _move(tables, world, traffic, b, v, acceleration[v])


@inner
def _only_successor(tables, lane):
    """The lane outside junctions that alone follows a lane, else NOTHING."""
    first = tables.successor_first[lane]
    if tables.successor_first[lane + 1] - first == 1 and tables.lane_junction[tables.successor[first]] < 0:
        return tables.successor[first]
    return NOTHING


@inner
def offset(start, done, length):
    """Metres to the left of the lane's centre line of a car that began a lane change `start` metres aside of it.

    Half a cosine over the distance driven, so that position and heading are continuous at any speed.
    """
    if done >= length:
        return f32(0.0)
    return f32(0.5) * start * (f32(1.0) + np.cos(f32(np.pi) * done / length))


@inner
def slope(start, done, length):
    """The derivative of `offset` by the distance driven."""
    if done >= length:
        return f32(0.0)
    return f32(-0.5 * np.pi) * start / length * np.sin(f32(np.pi) * done / length)


@inner
def place(tables, world, b, v, lane, s, speed, aside, aslant):
    """Write the pose and velocity of a car `s` metres along a lane, `aside` metres to the left of it, at this slope."""
    pose, velocity = world.vehicle_pose[b, v], world.vehicle_velocity[b, v]
    poses, directions = tables.waypoint_pose, tables.waypoint_direction
    along = s / tables.lane_step[lane]
    k = min(np.int32(along), tables.lane_first[lane + 1] - 2 - tables.lane_first[lane])
    share = along - f32(k)
    p = tables.lane_first[lane] + k
    for axis in range(3):
        pose[axis] = poses[p, axis] + share * (poses[p + 1, axis] - poses[p, axis])
    cos = directions[p, 0] + share * (directions[p + 1, 0] - directions[p, 0])
    sin = directions[p, 1] + share * (directions[p + 1, 1] - directions[p, 1])
    length = np.sqrt(cos * cos + sin * sin)
    cos, sin = cos / length, sin / length
    if aside != f32(0.0):
        pose[0] -= sin * aside
        pose[1] += cos * aside
        length = np.sqrt(f32(1.0) + aslant * aslant)
        cos, sin = (cos - aslant * sin) / length, (sin + aslant * cos) / length
    pose[3] = np.arctan2(sin, cos)
    velocity[0] = speed * cos
    velocity[1] = speed * sin


@inner
def put(tables, world, traffic, b, v, lane, s, tick):
    """Set a car down on a lane, standing, with a path drawn and nothing reserved."""
    traffic.lane[b, v] = lane
    traffic.s[b, v] = s
    traffic.speed[b, v] = f32(0.0)
    traffic.standing[b, v] = f32(0.0)
    traffic.holding[b, v] = NOTHING
    traffic.other_lane[b, v] = NOTHING
    traffic.change_done[b, v] = f32(0.0)
    traffic.change_length[b, v] = f32(0.0)
    traffic.changed[b, v] = tick
    choose_path(tables, traffic, b, v, lane, tick)
    place(tables, world, b, v, lane, s, f32(0.0), f32(0.0), f32(0.0))


@inner
def _distance_to_egos(world, b, egos, x, y, z):
    """Metres from a point to the nearest ego on its level."""
    nearest = f32(np.inf)
    for e in range(egos):
        if world.vehicle_kind[b, e] == CAR and same_level(world.vehicle_pose[b, e, 2] - z):
            dx, dy = world.vehicle_pose[b, e, 0] - x, world.vehicle_pose[b, e, 1] - y
            nearest = min(nearest, dx * dx + dy * dy)
    return np.sqrt(nearest)


@inner
def _may_appear(world, b, egos, x, y, z):
    """Whether a car may be set down at a point: 10 m from every other one, and as far as each needs to stop."""
    for v in range(egos, world.vehicle_kind.shape[1]):
        if world.vehicle_kind[b, v] == CAR and same_level(world.vehicle_pose[b, v, 2] - z):
            dx, dy = world.vehicle_pose[b, v, 0] - x, world.vehicle_pose[b, v, 1] - y
            speed = np.hypot(world.vehicle_velocity[b, v, 0], world.vehicle_velocity[b, v, 1])
            room = f32(10.0) + speed + speed * speed / f32(2.0 * BRAKING)
            if dx * dx + dy * dy < room * room:
                return False
    return True


@inner
def respawn_stuck(tables, world, traffic, b, egos):
    """Move cars that have stood too long, or reached a dead end, to a free spawn point; counted in `respawns`."""
    town, tick = world.town[b], world.tick[b]
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    first_light = tables.light_first[town]
    for v in range(egos, world.vehicle_kind.shape[1]):
        standing = traffic.standing[b, v]
        if standing <= f32(DEAD_END_WAIT) or world.vehicle_kind[b, v] != CAR:
            continue
        if standing <= f32(STUCK):
            if traffic.path[b, v] >= 0:
                continue
            # At the end of a lane with another one beside it a car waits for a gap there.
            here = tables.lane_first[traffic.lane[b, v]]
            here += np.int32(traffic.s[b, v] / tables.lane_step[traffic.lane[b, v]])
            if tables.waypoint_left[here] >= 0 or tables.waypoint_right[here] >= 0:
                continue
        line = tables.lane_stop_line[traffic.lane[b, v]]
        red = line >= 0 and world.light_state[b, tables.stop_line_light[line] - first_light] != LIGHT_GREEN
        if red and standing <= f32(STUCK_AT_LIGHT):
            continue
        x, y, z, _ = world.vehicle_pose[b, v]
        if _distance_to_egos(world, b, egos, x, y, z) < f32(FAR_FROM_EGOS):
            continue
        k = first + np.int32(random_bits(traffic.key[b], STREAM_RESPAWN, v, tick) % np.uint64(points))
        lane = tables.spawn_lane[k]
        p = tables.lane_first[lane] + np.int32(tables.spawn_s[k] / tables.lane_step[lane])
        x, y, z, _ = tables.waypoint_pose[p]
        if _distance_to_egos(world, b, egos, x, y, z) < f32(FAR_FROM_EGOS):
            continue
        # Where the drawn point is taken the next tick draws again.
        if _may_appear(world, b, egos, x, y, z):
            holding = traffic.holding[b, v]
            if holding != NOTHING:
                hold(tables, traffic, b, holding, RELEASE)
                if holding == traffic.path[b, v]:
                    traffic.expected[b, exit_of(tables, holding)] -= 1
            put(tables, world, traffic, b, v, lane, tables.spawn_s[k], tick)
            world.vehicle_id[b, v] = traffic.next_id[b]
            traffic.next_id[b] += 1
            traffic.respawns[b] += 1


@inner
def driver(key, v):
    """The share of the speed limit that driver `v` drives, in [0.8, 1)."""
    return f32(0.8) + f32(0.2) * uniform(key, STREAM_PATH, v, 0xFFFFFFFF)
