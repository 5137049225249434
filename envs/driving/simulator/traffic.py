"""Background vehicles: lane following with the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000).

A car sees the car ahead on its lane and path, cars that have just left its path for another branch, egos and walkers on or
about to step onto its path, the end of its lane while its path is not granted, and the curves ahead.
"""

import numpy as np

from mentorgym.envs.driving.kernel import draw, f32, kernel, uniform
from mentorgym.envs.driving.simulator.junctions import hold
from mentorgym.envs.driving.simulator.records import CROSSING, NOTHING, STREAM_PATH, STREAM_RESPAWN
from mentorgym.envs.driving.state import CAR, LIGHT_GREEN, TICK, WALKER
from mentorgym.envs.driving.tables import DRIVABLE, raster_bits, same_level

ACCELERATION, BRAKING, HEADWAY, STANDSTILL_GAP = 1.8, 2.5, 1.2, 2.0
"""IDM: m/s2, comfortable m/s2, s, m."""

HARDEST_BRAKING = 8.0
"""m/s2."""

STOP_LINE_GAP = 1.0
"""Metres between a waiting car's front and the end of its lane."""

LOOKAHEAD = 50.0
"""Metres."""

STUCK = 60.0
"""Seconds of standing, not at a red, after which a car far from every ego is moved elsewhere."""

FAR_FROM_EGOS = 50.0
"""Metres."""

MOST_OBSTACLES = 16


@kernel
def list_lanes(world, traffic, w, egos):
    """Rebuild the lists of cars on each lane."""
    traffic.lane_head[w, :] = -1
    traffic.waiting[w, :] = 0
    for i in range(egos, world.vehicle_kind.shape[1]):
        if world.vehicle_kind[w, i] == CAR:
            lane = traffic.lane[w, i]
            traffic.lane_next[w, i] = traffic.lane_head[w, lane]
            traffic.lane_head[w, lane] = i
            traffic.waiting[w, lane] += 1


@kernel
def choose_path(tables, traffic, w, i, tick):
    """Draw the next compound path of a car that has just come onto a storage lane."""
    lane = traffic.lane[w, i]
    first, after = tables.path_first[lane], tables.path_first[lane + 1]
    if after > first:
        traffic.path[w, i] = first + np.int32(draw(traffic.key[w], STREAM_PATH, i, tick) % np.uint64(after - first))
    else:
        traffic.path[w, i] = NOTHING
    traffic.path_step[w, i] = 0
    traffic.granted[w, i] = 0
    traffic.asked[w, i] = -1


@kernel
def _idm(speed, desired, gap, ahead):
    wanted = f32(STANDSTILL_GAP) + max(
        f32(0.0), speed * f32(HEADWAY) + speed * (speed - ahead) / f32(2.0 * np.sqrt(ACCELERATION * BRAKING))
    )
    free = (speed / max(desired, f32(0.1))) ** 4
    near = wanted / max(gap, f32(0.1))
    # Too fast for the place is slowed down comfortably; too near is braked for as hard as it takes.
    return max(max(f32(ACCELERATION) * (f32(1.0) - free), f32(-BRAKING)) - f32(ACCELERATION) * near * near, f32(-HARDEST_BRAKING))


@kernel
def _car_ahead(tables, world, traffic, w, i):
    """Gap in m to the car ahead on the lane or path, and its speed; (inf, 0) for none in sight."""
    lane, s = traffic.lane[w, i], traffic.s[w, i]
    half = world.vehicle_half_size[w, i, 0]
    gap, ahead = f32(np.inf), f32(0.0)
    path = traffic.path[w, i]
    step = traffic.path_step[w, i]
    base = -s
    after = 0 if path < 0 else tables.path_lane_first[path + 1] - tables.path_lane_first[path]
    while True:
        j = traffic.lane_head[w, lane]
        while j >= 0:
            distance = base + traffic.s[w, j]
            if distance > f32(0.0) or (distance == f32(0.0) and j > i):
                room = distance - half - world.vehicle_half_size[w, j, 0]
                if j != i and room < gap:
                    gap, ahead = room, traffic.speed[w, j]
            j = traffic.lane_next[w, j]
        for k in range(tables.sibling_first[lane], tables.sibling_first[lane + 1]):
            j = traffic.lane_head[w, tables.sibling[k]]
            while j >= 0:
                tail = traffic.s[w, j] - world.vehicle_half_size[w, j, 0]
                room = base + tail - half
                if tail < tables.sibling_overlap[k] and base + traffic.s[w, j] > f32(0.0) and room < gap:
                    gap, ahead = room, traffic.speed[w, j]
                j = traffic.lane_next[w, j]
        if gap < f32(np.inf):
            return gap, ahead
        base += tables.lane_length[lane]
        if base > f32(LOOKAHEAD) or path < 0 or step >= after:
            return gap, ahead
        lane = tables.path_lane[tables.path_lane_first[path] + step]
        step += 1


@kernel
def _obstacle_ahead(tables, world, w, i, lane, s, path, step, obstacles, count, sight):
    """Gap in m to the first obstacle (rows x, y, vx, vy, radius) on the path within `sight`, and its speed along the path."""
    half_length, half_width = world.vehicle_half_size[w, i, 0], world.vehicle_half_size[w, i, 1]
    p = tables.lane_first[lane] + np.int32(s / tables.lane_step[lane]) + 1
    end = tables.lane_first[lane + 1] - 1
    travelled = f32(p - tables.lane_first[lane]) * tables.lane_step[lane] - s
    while travelled < sight:
        if p >= end:
            if path < 0 or tables.path_lane_first[path] + step >= tables.path_lane_first[path + 1]:
                break
            lane = tables.path_lane[tables.path_lane_first[path] + step]
            step += 1
            p = tables.lane_first[lane]
            end = tables.lane_first[lane + 1] - 1
        x, y = tables.waypoint_pose[p, 0], tables.waypoint_pose[p, 1]
        for k in range(count):
            dx, dy = obstacles[k, 0] - x, obstacles[k, 1] - y
            reach = half_width + obstacles[k, 4]
            if dx * dx + dy * dy < reach * reach:
                cos, sin = tables.waypoint_direction[p, 0], tables.waypoint_direction[p, 1]
                along = max(obstacles[k, 2] * cos + obstacles[k, 3] * sin, f32(0.0))
                return travelled + min(dx * cos + dy * sin, f32(0.0)) - half_length, along
        travelled += tables.lane_step[lane]
        p += 1
    return f32(np.inf), f32(0.0)


@kernel
def drive(tables, world, traffic, w, egos):
    """Accelerate and move every background car of one world by one tick, along lanes and paths."""
    town = world.town[w]
    tick = world.tick[w]
    vehicles, walkers = world.vehicle_kind.shape[1], world.walker_kind.shape[1]
    # Walkers on the road or stepping onto it, gathered once.
    on_road = np.empty(walkers, np.int32)
    roaming = 0
    for j in range(walkers):
        if world.walker_kind[w, j] == WALKER and (
            traffic.walker_mode[w, j] == CROSSING
            or raster_bits(tables, town, world.walker_pose[w, j, 0], world.walker_pose[w, j, 1]) & DRIVABLE
        ):
            on_road[roaming] = j
            roaming += 1
    obstacles = np.empty((MOST_OBSTACLES, 5), np.float32)
    acceleration = np.zeros(vehicles, np.float32)
    for i in range(egos, vehicles):
        if world.vehicle_kind[w, i] != CAR:
            continue
        lane, s, speed = traffic.lane[w, i], traffic.s[w, i], traffic.speed[w, i]
        path, step = traffic.path[w, i], traffic.path_step[w, i]
        p = tables.lane_first[lane] + np.int32(s / tables.lane_step[lane])
        desired = tables.waypoint_speed[p] * traffic.temper[w, i]
        to_end = tables.lane_length[lane] - s
        distance = to_end
        if path >= 0:
            for k in range(tables.path_lane_first[path] + step, tables.path_lane_first[path + 1]):
                if distance > f32(LOOKAHEAD):
                    break
                entry = tables.waypoint_speed[tables.lane_first[tables.path_lane[k]]] * traffic.temper[w, i]
                desired = min(desired, np.sqrt(entry * entry + f32(2.0 * 1.5) * distance))
                distance += tables.lane_length[tables.path_lane[k]]
        gap, ahead = _car_ahead(tables, world, traffic, w, i)
        wish = _idm(speed, desired, gap, ahead)
        if path < 0 or (step == 0 and not traffic.granted[w, i]):
            room = to_end - world.vehicle_half_size[w, i, 0] - f32(STOP_LINE_GAP) + f32(STANDSTILL_GAP)
            wish = min(wish, _idm(speed, desired, room, f32(0.0)))

        x, y, z = world.vehicle_pose[w, i, 0], world.vehicle_pose[w, i, 1], world.vehicle_pose[w, i, 2]
        cos, sin = np.cos(world.vehicle_pose[w, i, 3]), np.sin(world.vehicle_pose[w, i, 3])
        sight = f32(12.0) + f32(3.0) * speed
        count = 0
        for e in range(egos):
            dx, dy = world.vehicle_pose[w, e, 0] - x, world.vehicle_pose[w, e, 1] - y
            reach = sight + f32(5.0)
            if dx * dx + dy * dy < reach * reach and count + 3 <= MOST_OBSTACLES:
                if same_level(world.vehicle_pose[w, e, 2] - z):
                    # A box as three discs.
                    yaw = world.vehicle_pose[w, e, 3]
                    for k in range(3):
                        offset = f32(k - 1) * (world.vehicle_half_size[w, e, 0] - world.vehicle_half_size[w, e, 1])
                        obstacles[count, 0] = world.vehicle_pose[w, e, 0] + offset * np.cos(yaw)
                        obstacles[count, 1] = world.vehicle_pose[w, e, 1] + offset * np.sin(yaw)
                        obstacles[count, 2] = world.vehicle_velocity[w, e, 0]
                        obstacles[count, 3] = world.vehicle_velocity[w, e, 1]
                        obstacles[count, 4] = world.vehicle_half_size[w, e, 1] + f32(0.15)
                        count += 1
        for k in range(roaming):
            j = on_road[k]
            dx, dy = world.walker_pose[w, j, 0] - x, world.walker_pose[w, j, 1] - y
            along = dx * cos + dy * sin
            if dx * dx + dy * dy < sight * sight and along > f32(0.0) and count + 4 <= MOST_OBSTACLES:
                if same_level(world.walker_pose[w, j, 2] - z):
                    # Where the walker is, and will be over the next 2 s.
                    for ahead_k in range(4):
                        t = f32(ahead_k) * f32(0.7)
                        obstacles[count, 0] = world.walker_pose[w, j, 0] + world.walker_velocity[w, j, 0] * t
                        obstacles[count, 1] = world.walker_pose[w, j, 1] + world.walker_velocity[w, j, 1] * t
                        obstacles[count, 2] = f32(0.0)
                        obstacles[count, 3] = f32(0.0)
                        obstacles[count, 4] = f32(0.8)
                        count += 1
        if count > 0:
            gap, ahead = _obstacle_ahead(tables, world, w, i, lane, s, path, step, obstacles, count, sight)
            if gap < f32(np.inf):
                wish = min(wish, _idm(speed, desired, gap, ahead))
        acceleration[i] = wish

    for i in range(egos, vehicles):
        if world.vehicle_kind[w, i] != CAR:
            continue
        before = traffic.speed[w, i]
        speed = max(before + acceleration[i] * f32(TICK), f32(0.0))
        traffic.speed[w, i] = speed
        traffic.s[w, i] += f32(0.5) * (before + speed) * f32(TICK)
        traffic.standing[w, i] = f32(0.0) if speed > f32(0.1) else traffic.standing[w, i] + f32(TICK)
        _move_along(tables, traffic, w, i, tick)
        holding = traffic.holding[w, i]
        if holding != NOTHING and traffic.path_step[w, i] == 0 and holding != traffic.path[w, i]:
            if traffic.s[w, i] - world.vehicle_half_size[w, i, 0] > f32(5.0):
                hold(tables, traffic, w, holding, -1)
                traffic.holding[w, i] = NOTHING
        _place(tables, world, traffic, w, i)


@kernel
def _move_along(tables, traffic, w, i, tick):
    """Hand a car that has passed its lane's end to the next lane of its path."""
    lane = traffic.lane[w, i]
    while traffic.s[w, i] >= tables.lane_length[lane]:
        path = traffic.path[w, i]
        if path < 0 or (traffic.path_step[w, i] == 0 and not traffic.granted[w, i]):
            traffic.s[w, i] = tables.lane_length[lane]
            traffic.speed[w, i] = f32(0.0)
            return
        traffic.s[w, i] -= tables.lane_length[lane]
        k = tables.path_lane_first[path] + traffic.path_step[w, i]
        lane = tables.path_lane[k]
        traffic.lane[w, i] = lane
        traffic.path_step[w, i] += 1
        if k + 1 == tables.path_lane_first[path + 1]:
            if traffic.holding[w, i] == path:
                traffic.expected[w, lane] -= 1
            choose_path(tables, traffic, w, i, tick)
            if traffic.path[w, i] == traffic.holding[w, i]:
                # A loop back onto the same path: held again would be lost, so let it go first.
                hold(tables, traffic, w, traffic.holding[w, i], -1)
                traffic.holding[w, i] = NOTHING


@kernel
def _place(tables, world, traffic, w, i):
    """Write a car's pose and velocity from its place on its lane."""
    lane = traffic.lane[w, i]
    steps = tables.lane_first[lane + 1] - 1 - tables.lane_first[lane]
    along = traffic.s[w, i] / tables.lane_step[lane]
    k = min(np.int32(along), steps - 1)
    share = along - f32(k)
    p = tables.lane_first[lane] + k
    for axis in range(3):
        start, stop = tables.waypoint_pose[p, axis], tables.waypoint_pose[p + 1, axis]
        world.vehicle_pose[w, i, axis] = start + share * (stop - start)
    cos = tables.waypoint_direction[p, 0] + share * (tables.waypoint_direction[p + 1, 0] - tables.waypoint_direction[p, 0])
    sin = tables.waypoint_direction[p, 1] + share * (tables.waypoint_direction[p + 1, 1] - tables.waypoint_direction[p, 1])
    yaw = np.arctan2(sin, cos)
    world.vehicle_pose[w, i, 3] = yaw
    world.vehicle_velocity[w, i, 0] = traffic.speed[w, i] * np.cos(yaw)
    world.vehicle_velocity[w, i, 1] = traffic.speed[w, i] * np.sin(yaw)


@kernel
def put(tables, world, traffic, w, i, lane, s, tick):
    """Set a car down on a lane, standing, with a path to choose and nothing reserved."""
    traffic.lane[w, i] = lane
    traffic.s[w, i] = s
    traffic.speed[w, i] = f32(0.0)
    traffic.standing[w, i] = f32(0.0)
    traffic.holding[w, i] = NOTHING
    choose_path(tables, traffic, w, i, tick)
    _place(tables, world, traffic, w, i)


@kernel
def _is_free(world, w, x, y, z, distance):
    for j in range(world.vehicle_kind.shape[1]):
        if world.vehicle_kind[w, j] == CAR and same_level(world.vehicle_pose[w, j, 2] - z):
            dx, dy = world.vehicle_pose[w, j, 0] - x, world.vehicle_pose[w, j, 1] - y
            if dx * dx + dy * dy < distance * distance:
                return False
    return True


@kernel
def _far_from_egos(world, w, x, y, egos):
    for e in range(egos):
        dx, dy = world.vehicle_pose[w, e, 0] - x, world.vehicle_pose[w, e, 1] - y
        if dx * dx + dy * dy < f32(FAR_FROM_EGOS * FAR_FROM_EGOS):
            return False
    return True


@kernel
def respawn_stuck(tables, world, traffic, w, egos):
    """Move cars that have stood too long, or reached a dead end, to a free spawn point; counted in `respawns`."""
    town = world.town[w]
    tick = world.tick[w]
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    first_light = tables.light_first[town]
    for i in range(egos, world.vehicle_kind.shape[1]):
        if world.vehicle_kind[w, i] != CAR:
            continue
        dead_end = traffic.path[w, i] < 0 and tables.lane_length[traffic.lane[w, i]] - traffic.s[w, i] < f32(6.0)
        if not dead_end and traffic.standing[w, i] <= f32(STUCK):
            continue
        line = tables.lane_stop_line[traffic.lane[w, i]]
        if not dead_end and line >= 0:
            if world.light_state[w, tables.stop_line_light[line] - first_light] != LIGHT_GREEN:
                continue
        if not _far_from_egos(world, w, world.vehicle_pose[w, i, 0], world.vehicle_pose[w, i, 1], egos):
            continue
        for attempt in range(20):
            k = first + np.int32(draw(traffic.key[w], STREAM_RESPAWN, i + 4096 * attempt, tick) % np.uint64(points))
            lane = tables.spawn_lane[k]
            p = tables.lane_first[lane] + np.int32(tables.spawn_s[k] / tables.lane_step[lane])
            x, y, z = tables.waypoint_pose[p, 0], tables.waypoint_pose[p, 1], tables.waypoint_pose[p, 2]
            if _far_from_egos(world, w, x, y, egos) and _is_free(world, w, x, y, z, f32(10.0)):
                holding = traffic.holding[w, i]
                if holding != NOTHING:
                    hold(tables, traffic, w, holding, -1)
                    if holding == traffic.path[w, i]:
                        traffic.expected[w, tables.path_lane[tables.path_lane_first[holding + 1] - 1]] -= 1
                put(tables, world, traffic, w, i, lane, tables.spawn_s[k], tick)
                world.vehicle_id[w, i] = traffic.next_id[w]
                traffic.next_id[w] += 1
                traffic.respawns[w] += 1
                break


@kernel
def driver(key, i):
    """The share of the speed limit that driver `i` drives, in [0.75, 0.95)."""
    return f32(0.75) + f32(0.2) * uniform(key, STREAM_PATH, i, 0xFFFFFFFF)
