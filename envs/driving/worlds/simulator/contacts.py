"""Contacts between an ego's box and other boxes.

Static things do not collide in the embedded world, because the masks cannot show them. The impulse of a contact is the
ego's mass times the closing speed, a simple measure on the scale of CARLA's collision sensor.
"""

import numpy as np

from mentorgym.envs.driving.geometry import boxes_overlap
from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.map.tables import same_level
from mentorgym.envs.driving.worlds.simulator.ego_car import MASS
from mentorgym.envs.driving.worlds.state import CAR, CONTACT_VEHICLE, CONTACT_WALKER, CONTACTS, WALKER


@inner
def _add(world, b, e, other_id, kind, closing, x, y):
    n = world.contact_count[b, e]
    if n < CONTACTS:
        world.contact_id[b, e, n] = other_id
        world.contact_kind[b, e, n] = kind
        world.contact_impulse[b, e, n] = f32(MASS) * max(closing, f32(0.0))
        world.contact_position[b, e, n, 0] = x
        world.contact_position[b, e, n, 1] = y
        world.contact_count[b, e] = n + 1


@inner
def touch(world, b, e):
    """Write the contacts of ego `e`; returns whether it runs into a vehicle, and so may not move on."""
    world.contact_count[b, e] = 0
    x, y, z, yaw = world.vehicle_pose[b, e]
    length, width = world.vehicle_half_size[b, e, 0], world.vehicle_half_size[b, e, 1]
    vx, vy = world.vehicle_velocity[b, e]
    stopped = False
    for v in range(world.vehicle_kind.shape[1]):
        dx, dy = world.vehicle_pose[b, v, 0] - x, world.vehicle_pose[b, v, 1] - y
        if v == e or world.vehicle_kind[b, v] != CAR or dx * dx + dy * dy > f32(40.0):
            continue
        if not same_level(world.vehicle_pose[b, v, 2] - z):
            continue
        ox, oy, oyaw = world.vehicle_pose[b, v, 0], world.vehicle_pose[b, v, 1], world.vehicle_pose[b, v, 3]
        other_length, other_width = world.vehicle_half_size[b, v, 0], world.vehicle_half_size[b, v, 1]
        if boxes_overlap(x, y, yaw, length, width, ox, oy, oyaw, other_length, other_width):
            rx, ry = vx - world.vehicle_velocity[b, v, 0], vy - world.vehicle_velocity[b, v, 1]
            _add(world, b, e, world.vehicle_id[b, v], CONTACT_VEHICLE, np.sqrt(rx * rx + ry * ry), ox, oy)
            stopped |= vx * dx + vy * dy > f32(0.0)
    for w in range(world.walker_kind.shape[1]):
        dx, dy = world.walker_pose[b, w, 0] - x, world.walker_pose[b, w, 1] - y
        if world.walker_kind[b, w] != WALKER or dx * dx + dy * dy > f32(10.0):
            continue
        if not same_level(world.walker_pose[b, w, 2] - z):
            continue
        wx, wy, wyaw = world.walker_pose[b, w, 0], world.walker_pose[b, w, 1], world.walker_pose[b, w, 3]
        walker_length, walker_width = world.walker_half_size[b, w, 0], world.walker_half_size[b, w, 1]
        if boxes_overlap(x, y, yaw, length, width, wx, wy, wyaw, walker_length, walker_width):
            rx, ry = vx - world.walker_velocity[b, w, 0], vy - world.walker_velocity[b, w, 1]
            _add(world, b, e, world.walker_id[b, w], CONTACT_WALKER, np.sqrt(rx * rx + ry * ry), wx, wy)
    return stopped
