"""Plane geometry that the world and the rules share."""

import math

from mentorgym.envs.driving.kernel import f32, kernel

WALKER_SCALE, SMALLEST_HALF_SIZE = f32(2.0), f32(0.8)
"""Walkers are drawn, and hit, at twice their size, and every box with half extents of at least 0.8 m (Found-RL)."""


@kernel
def wrap_angle(angle):
    """The same angle in [-pi, pi], float32."""
    return f32(angle - 2.0 * math.pi * math.floor(angle / (2.0 * math.pi) + 0.5))


@kernel
def offset_in_frame(dx, dy, yaw):
    """A planar offset as seen from a body with this yaw: (metres ahead, metres to the left)."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return dx * cos + dy * sin, dy * cos - dx * sin


@kernel
def boxes_overlap(ax, ay, a_yaw, a_length, a_width, bx, by, b_yaw, b_length, b_width):
    """Whether two rectangles, given by centre, yaw and half extents, share a point (separating axes)."""
    turn = b_yaw - a_yaw
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    ahead, left = offset_in_frame(bx - ax, by - ay, a_yaw)
    if abs(ahead) > a_length + b_length * cos + b_width * sin:
        return False
    if abs(left) > a_width + b_length * sin + b_width * cos:
        return False
    ahead, left = offset_in_frame(ax - bx, ay - by, b_yaw)
    if abs(ahead) > b_length + a_length * cos + a_width * sin:
        return False
    return abs(left) <= b_width + a_length * sin + a_width * cos
