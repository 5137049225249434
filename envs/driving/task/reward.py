"""Found-RL's reward, and the close of a step, which is the same for every reward."""

import math

import numpy as np

from mentorgym.envs.driving.kernel import f32, kernel
from mentorgym.envs.driving.worlds.state import (
    COLLISION,
    LIGHT_RED,
    LIGHT_YELLOW,
    PIXEL_COLLISION,
    RED_LIGHT,
    RUNNING,
    STOP_SIGN,
    TIMEOUT,
)

TARGET_SPEED = 6.0
"""m/s: the speed that earns most on a free road."""

STEER_CHANGE = 0.01
"""A larger change of the applied steer costs."""


@kernel
def desired_speed(vehicle, walker, light, sign):
    """The speed in m/s, in [0, 6], that Found-RL's reward asks for: min of 6 clip(d - d0, 0, 5) / 5 over what is ahead.

    Args:
        vehicle, walker, light, sign: metres, float32, to the vehicle ahead (d0 = 8), the walker ahead (6), the red or
            yellow light (5) and the stop sign not yet complied with (5); inf for none.
    """
    room = min(min(vehicle - f32(8.0), walker - f32(6.0)), min(light, sign) - f32(5.0))
    return f32(TARGET_SPEED) * min(max(room, f32(0.0)), f32(5.0)) / f32(5.0)


@kernel
def found_rl(world, episode, first_row, last_row, reward):
    """Found-RL's reward ("valeo action"): the sum of five terms, which go to `episode.reward_terms` too.

    - speed: 1 - |v - v*| / 6, v the planar speed and v* the desired one
    - position: -0.5 per metre of lateral distance
    - rotation: -|yaw error| in radians
    - action: -0.1 when the applied steer changed by more than 0.01
    - terminal: -1 when the episode terminates, and -v on top when a collision, a red light, a stop sign or a pixel
      collision is the cause; a timeout is no termination

    Args:
        reward: float64 [A], written in rows `first_row:last_row`; 0 where the episode had ended before, and the terms
            too.
    """
    egos = world.ego_control.shape[1]
    for row in range(first_row, last_row):
        terms = episode.reward_terms[row]
        terms[:] = f32(0.0)
        reward[row] = 0.0
        if not episode.active[row]:
            continue
        b, e = row // egos, row % egos
        vx, vy = world.vehicle_velocity[b, e]
        speed = math.sqrt(vx * vx + vy * vy)
        light, sign = f32(np.inf), f32(np.inf)
        if episode.light_seen[row] == LIGHT_RED or episode.light_seen[row] == LIGHT_YELLOW:
            light = episode.light_distance[row]
        if not episode.stop_complied[row]:
            sign = episode.stop_distance[row]
        desired = desired_speed(episode.vehicle_hazard[row], episode.walker_hazard[row], light, sign)
        terms[0] = f32(1.0) - abs(speed - desired) / f32(TARGET_SPEED)
        terms[1] = f32(-0.5) * episode.lateral[row]
        terms[2] = -abs(episode.yaw_error[row])
        if abs(world.ego_control[b, e, 1] - episode.steer_previous[row]) > f32(STEER_CHANGE):
            terms[3] = f32(-0.1)
        end = episode.end[row]
        if end == COLLISION or end == RED_LIGHT or end == STOP_SIGN or end == PIXEL_COLLISION:
            terms[4] = f32(-1.0) - speed
        elif end != RUNNING and end != TIMEOUT:
            terms[4] = f32(-1.0)
        for term in terms:
            reward[row] += term


@kernel
def accumulate(world, episode, first_row, last_row, reward):
    """Close the step of egos `first_row:last_row`: once per step, whatever the reward, after it has been computed.

    Adds `reward` (float64 [A]) to the return, remembers the applied steer, and puts egos whose episode has ended to
    rest.
    """
    egos = world.ego_control.shape[1]
    for row in range(first_row, last_row):
        if episode.active[row]:
            episode.episode_return[row] += reward[row]
            episode.steer_previous[row] = world.ego_control[row // egos, row % egos, 1]
            episode.active[row] = episode.end[row] == RUNNING
