"""The rule-based driver: privileged, and a yardstick rather than a learner.

It reads the records that the rules read and none of the embedded world's own, so it drives any world. Steering is
pure pursuit (Coulter 1992) at the rear axle; speed is the lowest of what the curve, the light, the car ahead and
crossing traffic allow.
"""

import math

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.reward import TARGET_SPEED
from mentorgym.envs.driving.simulator.ego_car import FRONT, REAR, STEER_GAIN
from mentorgym.envs.driving.state import CAR, LIGHT_RED, LIGHT_YELLOW, WALKER
from mentorgym.envs.driving.tables import DRIVABLE, raster_bits, same_level

SIGHT = 35
"""Metres of route that the driver looks along."""

BRAKING = 2.0
"""m/s2 that it plans to brake with."""

CURVE_BRAKING = 1.5
"""m/s2, before curves."""

SIDE_MARGIN = 0.35
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
def _speed_among_vehicles(world, b, e, path, count, speed, wish):
    x, y, z, _ = world.vehicle_pose[b, e]
    length, width = world.vehicle_half_size[b, e, 0], world.vehicle_half_size[b, e, 1] + f32(SIDE_MARGIN)
    for i in range(world.vehicle_kind.shape[1]):
        px, py, pz, pyaw = world.vehicle_pose[b, i]
        if i == e or world.vehicle_kind[b, i] != CAR or abs(px - x) > f32(60.0) or abs(py - y) > f32(60.0):
            continue
        if not same_level(pz - z):
            continue
        vx, vy = world.vehicle_velocity[b, i, 0], world.vehicle_velocity[b, i, 1]
        other_length = world.vehicle_half_size[b, i, 0] + f32(0.2)
        other_width = world.vehicle_half_size[b, i, 1] + width
        k = _first_touch(path, count, px, py, pyaw, other_length, other_width)
        if k >= 0:
            along = max(vx * path[k, 3] + vy * path[k, 4], f32(0.0))
            gap = path[k, 2] - length - f32(GAP_MARGIN) - f32(0.3) * max(speed - along, f32(0.0))
            wish = min(wish, _speed_for(gap, along) if gap > 0 else min(along, f32(0.5) * along))
            continue
        if vx * vx + vy * vy < f32(0.25):
            continue
        # A car that will cross the path, straight on at its present speed, while the ego is about there.
        for moment in range(1, 7):
            t = f32(0.5) * f32(moment)
            k = _first_touch(path, count, px + vx * t, py + vy * t, pyaw, other_length, other_width)
            if k < 0:
                continue
            turned = math.cos(pyaw) * path[k, 3] + math.sin(pyaw) * path[k, 4]
            arrival = path[k, 2] / max(speed, f32(3.0))
            if turned < f32(0.8) and abs(arrival - t) < f32(2.0) and path[k, 2] > length:
                wish = min(wish, _speed_for(path[k, 2] - length - f32(GAP_MARGIN), f32(0.0)))
                break
    return wish


@inner
def _speed_among_walkers(tables, world, b, e, path, count, wish):
    x, y, z, _ = world.vehicle_pose[b, e]
    length, width = world.vehicle_half_size[b, e, 0], world.vehicle_half_size[b, e, 1] + f32(SIDE_MARGIN)
    for j in range(world.walker_kind.shape[1]):
        px, py, pz, pyaw = world.walker_pose[b, j]
        if world.walker_kind[b, j] != WALKER or abs(px - x) > f32(40.0) or abs(py - y) > f32(40.0):
            continue
        vx, vy = world.walker_velocity[b, j, 0], world.walker_velocity[b, j, 1]
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


@kernel
def drive_by_rules(tables, world, episode, first, last, actions):
    """Write the expert's action for every active ego of worlds `first:last` into `actions`, float32 [A, 2]."""
    egos = world.ego_control.shape[1]
    path = np.empty((SIGHT, 5), np.float32)  # x, y, metres ahead of the ego's centre, direction
    for row in range(first * egos, last * egos):
        actions[row] = f32(0.0)
        if not episode.active[row]:
            continue
        b, e = row // egos, row % egos
        x, y, z, yaw = world.vehicle_pose[b, e]
        speed = math.hypot(world.vehicle_velocity[b, e, 0], world.vehicle_velocity[b, e, 1])
        count = min(SIGHT, episode.route_length[row] - episode.route_index[row])
        ahead = f32(0.0)
        wish = TARGET_SPEED
        for k in range(count):
            p = episode.route[row, episode.route_index[row] + k]
            path[k, 0], path[k, 1] = tables.waypoint_pose[p, 0], tables.waypoint_pose[p, 1]
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
        wish = _speed_among_vehicles(world, b, e, path, count, speed, wish)
        wish = _speed_among_walkers(tables, world, b, e, path, count, wish)
        error = wish - speed
        if wish < f32(0.2) or error < f32(-0.4):
            actions[row, 0] = (
                max(f32(0.25) * error, f32(-1.0)) if wish > f32(0.2) else max(f32(-0.3) - f32(0.25) * speed, f32(-1.0))
            )
        else:
            # About 0.43 holds 6 m/s.
            actions[row, 0] = min(max(f32(0.3) + f32(0.02) * wish + f32(0.5) * error, f32(0.0)), f32(0.9))
