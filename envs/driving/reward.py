"""Found-RL's reward, and the close of a step, which is the same for every reward."""

import numpy as np

from mentorgym.envs.driving.state import (
    COLLISION,
    LIGHT_RED,
    LIGHT_YELLOW,
    PIXEL_COLLISION,
    RED_LIGHT,
    RUNNING,
    STOP_SIGN,
    TIMEOUT,
    EpisodeState,
    WorldState,
)

TARGET_SPEED = 6.0
"""m/s: the speed that earns most on a free road."""

STEER_CHANGE = 0.01
"""A larger change of the applied steer costs."""


def desired_speed(vehicle: np.ndarray, walker: np.ndarray, light: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """The speed in m/s, in [0, 6], that Found-RL's reward asks for: min of 6 clip(d - d0, 0, 5) / 5 over what is ahead.

    Args:
        vehicle, walker, light, sign: metres to the vehicle ahead (d0 = 8), the walker ahead (6), the red or yellow
            light (5) and the stop sign not yet complied with (5); inf for none.
    """
    room = np.minimum(np.minimum(vehicle - 8.0, walker - 6.0), np.minimum(light, sign) - 5.0)
    return TARGET_SPEED * np.clip(room, 0.0, 5.0) / 5.0


def found_rl(world: WorldState, episode: EpisodeState, first: int, last: int, reward: np.ndarray) -> None:
    """Found-RL's reward ("valeo action"): the sum of five terms, which go to `episode.reward_terms` too.

    - speed: 1 - |v - v*| / 6, v the planar speed and v* the desired one
    - position: -0.5 per metre of lateral distance
    - rotation: -|yaw error| in radians
    - action: -0.1 when the applied steer changed by more than 0.01
    - terminal: -1 when the episode terminates, and -v on top when a collision, a red light, a stop sign or a pixel
      collision is the cause; a timeout is no termination

    Args:
        reward: float64 [A], written for worlds `first:last`; 0 where the episode had ended before, and the terms too.
    """
    egos = world.ego_control.shape[1]
    rows = slice(first * egos, last * egos)
    speed = np.sqrt(np.square(world.vehicle_velocity[first:last, :egos]).sum(axis=-1)).ravel()
    steer = world.ego_control[first:last, :, 1].ravel()
    slow_light = (episode.light_seen[rows] == LIGHT_RED) | (episode.light_seen[rows] == LIGHT_YELLOW)
    desired = desired_speed(
        episode.vehicle_hazard[rows],
        episode.walker_hazard[rows],
        np.where(slow_light, episode.light_distance[rows], np.inf),
        np.where(episode.stop_complied[rows], np.inf, episode.stop_distance[rows]),
    )
    end = episode.end[rows]
    at_fault = np.isin(end, (COLLISION, RED_LIGHT, STOP_SIGN, PIXEL_COLLISION))
    terms = episode.reward_terms[rows]
    terms[:, 0] = 1.0 - np.abs(speed - desired) / TARGET_SPEED
    terms[:, 1] = -0.5 * episode.lateral[rows]
    terms[:, 2] = -np.abs(episode.yaw_error[rows])
    terms[:, 3] = np.where(np.abs(steer - episode.steer_previous[rows]) > STEER_CHANGE, -0.1, 0.0)
    terms[:, 4] = np.where((end == RUNNING) | (end == TIMEOUT), 0.0, -1.0 - speed * at_fault)
    terms[episode.active[rows] == 0] = 0.0
    reward[rows] = terms.sum(axis=1, dtype=np.float64)


def accumulate(world: WorldState, episode: EpisodeState, reward: np.ndarray, first: int, last: int) -> None:
    """Close the step of worlds `first:last`: once per step, whatever the reward, after it has been computed.

    Adds `reward` (float64 [A]) to the return, remembers the applied steer, and puts egos whose episode has ended to
    rest.
    """
    egos = world.ego_control.shape[1]
    rows = slice(first * egos, last * egos)
    active = episode.active[rows] == 1
    episode.episode_return[rows] += np.where(active, reward[rows], 0.0)
    steer = world.ego_control[first:last, :, 1].ravel()
    episode.steer_previous[rows] = np.where(active, steer, episode.steer_previous[rows])
    episode.active[rows] = active & (episode.end[rows] == RUNNING)
