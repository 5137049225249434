"""The rule-based driver: privileged, and a yardstick rather than a learner.

It reads the records that the rules read and none of the embedded world's own, so it drives any world. Steering is
pure pursuit (Coulter 1992) at the rear axle; speed is the lowest of what the curve, the light, the car ahead, crossing
and merging traffic and the gap on the lane to change to allow. Others are taken to follow their lanes at their present
speed, at a fork each way on.
"""

import math

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.map.tables import CELL, DRIVABLE, raster_bits, same_level
from mentorgym.envs.driving.task.reward import TARGET_SPEED
from mentorgym.envs.driving.worlds.simulator.ego_car import FRONT, REAR, STEER_GAIN
from mentorgym.envs.driving.worlds.state import CAR, LIGHT_RED, LIGHT_YELLOW, WALKER

SIGHT = 35
"""Metres of route that the driver looks along."""

BACK = 12
"""Metres of route behind it that still shape its way."""

CHANGE_HALF = 8
"""Metres before and after the route's step to another lane over which the driver moves across."""

COMMITTED = f32(CHANGE_HALF - 3.0)
"""Metres to that step from which on the driver does not wait for a gap any more: it is 0.3 m aside by then."""

REAR_SIGHT = 110
"""Metres of the lane to change to that the driver looks back along."""

HARD_BRAKING = 3.0
"""m/s2 with which others may have to brake for it."""

IMPATIENCE = f32(10.0)
"""Seconds of standing after which smaller gaps are enough, so that nobody waits for ever."""

MOMENTS, MOMENT = 20, 0.25
"""How far the driver foresees where others drive: so many times so many seconds."""

MOST_WAYS = 6
"""Ways on from a fork that it considers."""

TIME_BEFORE, TIME_AFTER = 1.5, 2.5
"""Seconds between the driver's arrival where another one crosses and the other's, before and after it, that are too
few; the latter shrinks to the former once the driver is impatient."""

BRAKING = 2.0
"""m/s2 that it plans to brake with."""

CURVE_BRAKING = 1.5
"""m/s2, before curves."""

SIDE_MARGIN = 0.45
"""Metres that it keeps on each side beyond its own half width."""

STOP_MARGIN = 1.0
"""Metres between its front and a stop line."""

GAP_MARGIN = 2.0
"""Metres between its front and what it waits for."""


@inner
def _speed_for(gap, ahead):
    """The highest speed from which one can slow down to `ahead` (m/s) within `gap` (m)."""
    return math.sqrt(max(ahead * ahead + f32(2.0 * BRAKING) * gap, f32(0.0)))


@inner
def _steer(path, count, x, y, yaw, speed):
    """Pure pursuit: the steer that leads the rear axle on an arc through the point of the path a look-ahead away."""
    rear_x, rear_y = x - f32(REAR) * math.cos(yaw), y - f32(REAR) * math.sin(yaw)
    reach = f32(3.0) + f32(0.4) * speed
    target = count - 1
    for k in range(count):
        if math.hypot(path[k, 0] - rear_x, path[k, 1] - rear_y) > reach and (
            (path[k, 0] - rear_x) * math.cos(yaw) + (path[k, 1] - rear_y) * math.sin(yaw) > 0
        ):
            target = k
            break
    dx, dy = path[target, 0] - rear_x, path[target, 1] - rear_y
    left = dy * math.cos(yaw) - dx * math.sin(yaw)
    curvature = f32(2.0) * left / max(dx * dx + dy * dy, f32(1.0))
    return min(max(-math.atan(curvature * f32(FRONT + REAR)) / f32(STEER_GAIN), -1.0), 1.0)


@inner
def _first_touch(path, count, x, y, yaw, half_length, half_width):
    """The first point of the path at which a car on it touches a box, -1 for none."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    for k in range(count):
        dx, dy = path[k, 0] - x, path[k, 1] - y
        if abs(dx * cos + dy * sin) < half_length and abs(dy * cos - dx * sin) < half_width:
            return k
    return -1


@inner
def _lanes_under(tables, town, pose, places):
    """Write the waypoints at which a car at `pose` may be driving, one for each lane, to `places`; returns how many."""
    count = 0
    origin, size = tables.grid_origin[town], tables.grid_size[town]
    column, row = int(np.floor((pose[0] - origin[0]) / f32(CELL))), int(np.floor((pose[1] - origin[1]) / f32(CELL)))
    cos, sin = math.cos(pose[3]), math.sin(pose[3])
    for r in range(max(row - 1, 0), min(row + 2, size[0])):
        for c in range(max(column - 1, 0), min(column + 2, size[1])):
            cell = tables.grid_first[town] + r * size[1] + c
            for i in range(tables.cell_first[cell], tables.cell_first[cell + 1]):
                p = tables.cell_waypoint[i]
                dx, dy = tables.waypoint_pose[p, 0] - pose[0], tables.waypoint_pose[p, 1] - pose[1]
                squared = dx * dx + dy * dy
                if squared > f32(4.0) or not same_level(tables.waypoint_pose[p, 2] - pose[2]):
                    continue
                if tables.waypoint_direction[p, 0] * cos + tables.waypoint_direction[p, 1] * sin < f32(0.9):
                    continue
                known = False
                for k in range(count):
                    other = places[k]
                    if tables.waypoint_lane[other] == tables.waypoint_lane[p]:
                        known = True
                        ox, oy = tables.waypoint_pose[other, 0] - pose[0], tables.waypoint_pose[other, 1] - pose[1]
                        if squared < ox * ox + oy * oy:
                            places[k] = p
                if not known and count < places.shape[0]:
                    places[count] = p
                    count += 1
    return count


@inner
def _foresee(tables, start, metres, branch):
    """The waypoint `metres` along the lanes from `start`, at the first fork by its `branch`; -1 beyond a lane's end."""
    p = start
    left = metres
    while True:
        lane = tables.waypoint_lane[p]
        end = tables.lane_first[lane + 1] - 1
        room = f32(end - p) * tables.lane_step[lane]
        if left < room:
            return p + np.int32(left / tables.lane_step[lane])
        left -= room
        k = tables.successor_first[lane]
        ways = tables.successor_first[lane + 1] - k
        if ways == 0:
            return np.int32(-1)
        if ways > 1:
            k += branch % ways
            branch = 0
        p = tables.lane_first[tables.successor[k]]


@inner
def _branches(tables, lane):
    """How many ways lead on from the first fork after a lane, 1 without one nearby."""
    for _ in range(4):
        ways = tables.successor_first[lane + 1] - tables.successor_first[lane]
        if ways != 1:
            return max(ways, np.int32(1))
        lane = tables.successor[tables.successor_first[lane]]
    return np.int32(1)


@inner
def _stops_ahead(tables, world, b, p, speed):
    """Whether the light at the end of a waypoint's lane is not green, and a car with this speed can stop for it."""
    lane = tables.waypoint_lane[p]
    line = tables.lane_stop_line[lane]
    if line < 0:
        return False
    room = f32(tables.lane_first[lane + 1] - 1 - p) * tables.lane_step[lane]
    light = tables.stop_line_light[line] - tables.light_first[world.town[b]]
    stops = world.light_state[b, light] == LIGHT_RED or world.light_state[b, light] == LIGHT_YELLOW
    return stops and room > speed * speed / f32(2.0 * HARD_BRAKING)


@inner
def _speed_among_vehicles(tables, world, b, e, path, count, speed, standing, wish):
    x, y, z, _ = world.vehicle_pose[b, e]
    town = world.town[b]
    length, width = world.vehicle_half_size[b, e, 0], world.vehicle_half_size[b, e, 1] + f32(SIDE_MARGIN)
    places = np.empty(6, np.int32)
    after = f32(TIME_AFTER if standing < IMPATIENCE else TIME_BEFORE)
    for v in range(world.vehicle_kind.shape[1]):
        px, py, pz, pyaw = world.vehicle_pose[b, v]
        if v == e or world.vehicle_kind[b, v] != CAR or abs(px - x) > f32(60.0) or abs(py - y) > f32(60.0):
            continue
        if not same_level(pz - z):
            continue
        vx, vy = world.vehicle_velocity[b, v, 0], world.vehicle_velocity[b, v, 1]
        other_length = world.vehicle_half_size[b, v, 0] + f32(0.2)
        other_width = world.vehicle_half_size[b, v, 1] + width
        k = _first_touch(path, count, px, py, pyaw, other_length, other_width)
        if k >= 0:
            along = max(vx * path[k, 3] + vy * path[k, 4], f32(0.0))
            gap = path[k, 2] - length - f32(GAP_MARGIN) - f32(0.3) * max(speed - along, f32(0.0))
            if gap > 0:
                wish = min(wish, _speed_for(gap, along))
            else:
                # One that is close in front is let go ahead, one beside is driven away from.
                close = gap < f32(-1.0) and path[k, 2] > f32(0.5) * length
                wish = min(wish, f32(0.0) if close else f32(0.5) * along)
            continue
        theirs = math.sqrt(vx * vx + vy * vy)
        if theirs < f32(0.5):
            continue
        lanes = _lanes_under(tables, town, world.vehicle_pose[b, v], places)
        for choice in range(max(MOST_WAYS * lanes, 1)):
            if lanes > 0:
                p = places[choice // MOST_WAYS]
                lane = tables.waypoint_lane[p]
                branch = choice % MOST_WAYS
                if branch > 0 and branch >= _branches(tables, lane):
                    continue
                halts = _stops_ahead(tables, world, b, p, theirs)
            for moment in range(1, MOMENTS + 1):
                t = f32(MOMENT) * f32(moment)
                qx, qy, qyaw = px + vx * t, py + vy * t, pyaw
                if lanes > 0:
                    q = _foresee(tables, p, theirs * t, branch)
                    if q < 0 or (halts and tables.waypoint_lane[q] != lane):
                        break
                    qx, qy, qyaw = tables.waypoint_pose[q, 0], tables.waypoint_pose[q, 1], tables.waypoint_pose[q, 3]
                k = _first_touch(path, count, qx, qy, qyaw, other_length, other_width)
                if k < 0 or path[k, 2] <= length:
                    continue
                arrival = path[k, 2] / max(speed, f32(3.0))
                turned = math.cos(qyaw) * path[k, 3] + math.sin(qyaw) * path[k, 4]
                gap = path[k, 2] - length - f32(GAP_MARGIN)
                if turned > f32(0.8):
                    # It merges: the one who is there first goes first.
                    if arrival < t - f32(0.7):
                        break
                    if t > arrival - f32(2.0):
                        wish = min(wish, _speed_for(gap, f32(0.7) * theirs) if gap > 0 else f32(0.0))
                        break
                elif (t > arrival - f32(TIME_BEFORE) or gap < f32(3.0)) and t < arrival + after:
                    wish = min(wish, _speed_for(gap - f32(1.0), f32(0.0)) if gap > f32(1.5) else f32(0.0))
    return wish


@inner
def _look_back(tables, p, back):
    """Write x, y and metres before waypoint `p` of the lane's waypoints up to it; returns how many."""
    count, metres = 0, f32(0.0)
    lane = tables.waypoint_lane[p]
    while count < REAR_SIGHT:
        back[count, 0], back[count, 1], back[count, 2] = tables.waypoint_pose[p, 0], tables.waypoint_pose[p, 1], metres
        count += 1
        if p == tables.lane_first[lane]:
            k = tables.predecessor_first[lane]
            if tables.predecessor_first[lane + 1] == k:
                break
            lane = tables.predecessor[k]
            p = tables.lane_first[lane + 1] - 1
        p -= 1
        metres += tables.lane_step[lane]
    return count


@inner
def _wait_for_gap(tables, world, b, e, path, change, onto, back, speed, standing, wish):
    """The wish, lowered before the route's step to waypoint `onto` of another lane, path point `change`, without room.

    Who comes up behind needs a second's distance and room to brake; once the driver is impatient, the latter alone.
    """
    room = path[change, 2]
    if room < COMMITTED:
        return wish
    z = world.vehicle_pose[b, e, 2]
    length = world.vehicle_half_size[b, e, 0]
    ax, ay, cos, sin = path[change, 0], path[change, 1], path[change, 3], path[change, 4]
    count = _look_back(tables, onto, back)
    # Seconds until the ego begins to move across, and where it then is, in metres along that lane from `onto`.
    begin = max(room - f32(CHANGE_HALF), f32(0.0))
    t = begin / max(speed, f32(2.0))
    here = begin - room
    pace = max(speed, f32(3.0))
    patient = standing < IMPATIENCE
    for v in range(world.vehicle_kind.shape[1]):
        px, py, pz, _ = world.vehicle_pose[b, v]
        if v == e or world.vehicle_kind[b, v] != CAR or not same_level(pz - z):
            continue
        if abs(px - ax) > f32(REAR_SIGHT) or abs(py - ay) > f32(REAR_SIGHT):
            continue
        ahead = (px - ax) * cos + (py - ay) * sin
        nearest = abs((py - ay) * cos - (px - ax) * sin) if f32(0.0) < ahead < f32(20.0) else f32(np.inf)
        for k in range(count):
            distance = math.hypot(px - back[k, 0], py - back[k, 1])
            if distance < nearest:
                nearest, ahead = distance, -back[k, 2]
        if nearest > f32(2.2):
            continue
        theirs = math.hypot(world.vehicle_velocity[b, v, 0], world.vehicle_velocity[b, v, 1])
        both = length + world.vehicle_half_size[b, v, 0]
        closing = max(theirs - pace, f32(0.0))
        behind = both + f32(1.0) + closing * closing / f32(2.0 * HARD_BRAKING)
        if patient:
            behind += f32(1.0) + f32(0.7) * theirs
        there = ahead + theirs * t
        if here - behind < there < here + both + f32(2.0):
            wish = min(wish, _speed_for(room - f32(CHANGE_HALF + 0.5), f32(0.0)))
    return wish


@inner
def _speed_among_walkers(tables, world, b, e, path, count, wish):
    x, y, z, _ = world.vehicle_pose[b, e]
    length, width = world.vehicle_half_size[b, e, 0], world.vehicle_half_size[b, e, 1] + f32(SIDE_MARGIN)
    for w in range(world.walker_kind.shape[1]):
        px, py, pz, pyaw = world.walker_pose[b, w]
        if world.walker_kind[b, w] != WALKER or abs(px - x) > f32(40.0) or abs(py - y) > f32(40.0):
            continue
        vx, vy = world.walker_velocity[b, w, 0], world.walker_velocity[b, w, 1]
        bits = raster_bits(tables, world.town[b], px, py) | raster_bits(tables, world.town[b], px + vx, py + vy)
        if not bits & DRIVABLE or not same_level(pz - z):
            continue
        reach = f32(0.6) + width
        for moment in range(6):
            t = f32(0.5) * f32(moment)
            k = _first_touch(path, count, px + vx * t, py + vy * t, pyaw, reach, reach)
            if k >= 0:
                wish = min(wish, _speed_for(path[k, 2] - length - f32(GAP_MARGIN), f32(0.0)))
                break
    return wish


@inner
def _lay_path(tables, route, behind, points, back, way):
    """Write x, y of `points` waypoints of a route from index `behind` on, the steps between lanes smoothed.

    Returns the first point from `back` on, counted from there, that lies on another lane than the one before it, -1 for
    none. The third column of `way` holds metres along the lanes.
    """
    change = -1
    for k in range(points):
        p = route[behind + k]
        way[k, 0], way[k, 1] = tables.waypoint_pose[p, 0], tables.waypoint_pose[p, 1]
        way[k, 2] = f32(0.0)
        if k > 0:
            dx, dy = way[k, 0] - way[k - 1, 0], way[k, 1] - way[k - 1, 1]
            along = dx * tables.waypoint_direction[p, 0] + dy * tables.waypoint_direction[p, 1]
            way[k, 2] = way[k - 1, 2] + max(along, f32(0.0))
    for k in range(1, points):
        p, q = route[behind + k - 1], route[behind + k]
        cos, sin = tables.waypoint_direction[q, 0], tables.waypoint_direction[q, 1]
        dx = tables.waypoint_pose[q, 0] - tables.waypoint_pose[p, 0]
        dy = tables.waypoint_pose[q, 1] - tables.waypoint_pose[p, 1]
        aside = dy * cos - dx * sin
        if abs(aside) < f32(1.5):
            continue
        if k >= back and change < 0:
            change = k - back
        for m in range(points):
            share = (way[m, 2] - way[k, 2] + f32(CHANGE_HALF)) / f32(2 * CHANGE_HALF)
            share = min(max(share, f32(0.0)), f32(1.0))
            share = share * share * (f32(3.0) - f32(2.0) * share)
            if m >= k:
                share -= f32(1.0)
            way[m, 0] -= sin * aside * share
            way[m, 1] += cos * aside * share
    return change


@kernel
def drive_by_rules(tables, world, episode, first, last, actions):
    """Write the expert's action for every active ego of worlds `first:last` into `actions`, float32 [A, 2]."""
    egos = world.ego_control.shape[1]
    way = np.empty((SIGHT + BACK, 3), np.float32)
    rear = np.empty((REAR_SIGHT, 3), np.float32)
    path = np.empty((SIGHT, 5), np.float32)  # x, y, metres ahead of the ego's centre, direction
    for row in range(first * egos, last * egos):
        actions[row] = f32(0.0)
        if not episode.active[row]:
            continue
        b, e = row // egos, row % egos
        x, y, z, yaw = world.vehicle_pose[b, e]
        speed = math.hypot(world.vehicle_velocity[b, e, 0], world.vehicle_velocity[b, e, 1])
        back = min(BACK, episode.route_index[row])
        behind = episode.route_index[row] - back
        points = min(SIGHT + back, episode.route_length[row] - behind)
        change = _lay_path(tables, episode.route[row], behind, points, back, way)
        count = points - back
        ahead = f32(0.0)
        wish = TARGET_SPEED
        for k in range(count):
            p = episode.route[row, episode.route_index[row] + k]
            path[k, 0], path[k, 1] = way[back + k, 0], way[back + k, 1]
            path[k, 3], path[k, 4] = tables.waypoint_direction[p, 0], tables.waypoint_direction[p, 1]
            if k == 0:
                ahead = (path[0, 0] - x) * path[0, 3] + (path[0, 1] - y) * path[0, 4]
            else:
                ahead += math.hypot(path[k, 0] - path[k - 1, 0], path[k, 1] - path[k - 1, 1])
            path[k, 2] = ahead
            curve = tables.waypoint_speed[p]
            wish = min(wish, math.sqrt(curve * curve + f32(2.0 * CURVE_BRAKING) * max(ahead, f32(0.0))))
        actions[row, 1] = _steer(path, count, x, y, yaw, speed)

        half_length = world.vehicle_half_size[b, e, 0]
        if episode.light_seen[row] == LIGHT_RED or episode.light_seen[row] == LIGHT_YELLOW:
            line = tables.stop_line_pose[episode.light[row]]
            to_line = (line[0] - x) * math.cos(line[3]) + (line[1] - y) * math.sin(line[3])
            # Once the line is under the car, only driving on clears it.
            if to_line > half_length * f32(0.5):
                wish = min(wish, _speed_for(to_line - half_length - f32(STOP_MARGIN), f32(0.0)))
        if episode.stop_sign[row] >= 0 and not episode.stop_complied[row]:
            wish = min(wish, _speed_for(episode.stop_distance[row] - f32(0.5), f32(0.0)))
        wish = _speed_among_vehicles(tables, world, b, e, path, count, speed, episode.standing[row], wish)
        if change >= 0:
            onto = episode.route[row, episode.route_index[row] + change]
            wish = _wait_for_gap(tables, world, b, e, path, change, onto, rear, speed, episode.standing[row], wish)
        wish = _speed_among_walkers(tables, world, b, e, path, count, wish)
        error = wish - speed
        if wish < f32(0.2) or error < f32(-0.4):
            actions[row, 0] = (
                max(f32(0.25) * error, f32(-1.0)) if wish > f32(0.2) else max(f32(-0.3) - f32(0.25) * speed, f32(-1.0))
            )
        else:
            # About 0.43 holds 6 m/s.
            actions[row, 0] = min(max(f32(0.3) + f32(0.02) * wish + f32(0.5) * error, f32(0.0)), f32(0.9))
