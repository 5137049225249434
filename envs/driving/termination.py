"""When an episode ends: Found-RL's strict rules, or those of the CARLA leaderboard, which drive on after infractions.

One vector operation per rule, elementwise, so that a row's end does not depend on the rows beside it.
"""

import numpy as np

from mentorgym.envs.driving.state import (
    BLOCKED,
    COLLISION,
    COMPLETED,
    LATERAL_DEVIATION,
    PIXEL_COLLISION,
    RED_LIGHT,
    ROUTE_DEVIATION,
    RUNNING,
    STOP_SIGN,
    TICK,
    TIMEOUT,
    EpisodeState,
    WorldState,
)

FOUND_RL, LEADERBOARD = 0, 1

END_RULES = {"found-rl": FOUND_RL, "leaderboard": LEADERBOARD}
"""Names of the two sets of rules and the values that `check` takes for them."""

FOUND_RL_BLOCKED = 90.0
"""Seconds of standing that Found-RL allows."""

FOUND_RL_TIMEOUT = 1200.0
"""Seconds that Found-RL gives an evaluation episode."""

LEADERBOARD_BLOCKED = 180.0
"""Seconds of standing that the CARLA leaderboard allows."""

COMPLETED_SHARE = 0.99
COMPLETED_DISTANCE = 10.0

OFF_ROUTE_LIMIT = 30.0
OFF_ROUTE_SHARE = 0.3


def lateral_limit(lateral: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Found-RL's adaptive limit of the lateral distance (its `valeo_no_det_px`), in m like both arguments.

    After a jump of more than 0.8 m since the previous step, which is the route changing lanes, it is 0.5 m beyond the
    distance; else the larger of 3.5 m and the previous distance. 1 cm is added to both.
    """
    return np.where(lateral - previous > 0.8, lateral + 0.5, np.maximum(previous, 3.5)) + 0.01


def _reached_goal(episode: EpisodeState, rows: slice) -> np.ndarray:
    """At least 99 % of the route's length driven, and within 10 m of its end; never on an endless route."""
    driven = episode.route_done[rows] >= COMPLETED_SHARE * episode.route_total[rows]
    return driven & (episode.goal_distance[rows] <= COMPLETED_DISTANCE) & (episode.endless[rows] == 0)


def _stood_longer(standing: np.ndarray, limit: float) -> np.ndarray:
    # Half a tick of slack: the timer is a sum of float32 ticks.
    return standing > limit + TICK / 2


def check(
    world: WorldState,
    episode: EpisodeState,
    first: int,
    last: int,
    ends: int,
    training: bool,
    terminated: np.ndarray,
    truncated: np.ndarray,
) -> None:
    """Write `episode.end` of the active egos of worlds `first:last`, and what Gymnasium calls it.

    Where several causes meet in one step the first of the list counts:

    - FOUND_RL (Found-RL's `valeo_no_det_px`): completed, collision, red light, stop sign, pixel collision, adaptive
      lateral deviation, blocked for more than 90 s, timeout after 1200 s. Pixel collisions end training alone;
      completion, which the paper names and the published code lacks, and timeout end evaluation alone.
    - LEADERBOARD (CARLA leaderboard 1.0): completed, route deviation (more than 30 m, or more than 15 m for over 30 %
      of the route's length), blocked for more than 180 s, timeout after 0.8 s per metre of route + 5 s (none on
      endless routes).

    Args:
        ends: a value of END_RULES.
        training: for Found-RL's differences above.
        terminated, truncated: bool [A], written; a timeout is a truncation, everything else a termination. False where
            the episode had ended before.
    """
    egos = world.ego_control.shape[1]
    rows = slice(first * egos, last * egos)
    completed = _reached_goal(episode, rows)
    seconds = episode.steps[rows] * TICK
    standing = episode.standing[rows]
    if ends == FOUND_RL:
        lateral = episode.lateral[rows]
        rules = [
            (COMPLETED, completed & (not training)),
            (COLLISION, episode.event_collision[rows] == 1),
            (RED_LIGHT, episode.event_red[rows] == 1),
            (STOP_SIGN, episode.event_stop[rows] == 1),
            (PIXEL_COLLISION, (episode.event_pixel[rows] == 1) & training),
            (LATERAL_DEVIATION, lateral > lateral_limit(lateral, episode.lateral_previous[rows])),
            (BLOCKED, _stood_longer(standing, FOUND_RL_BLOCKED)),
            (TIMEOUT, (seconds >= FOUND_RL_TIMEOUT) & (not training)),
        ]
    else:
        total = episode.route_total[rows]
        strayed = episode.off_route_driven[rows] > OFF_ROUTE_SHARE * total
        rules = [
            (COMPLETED, completed),
            (ROUTE_DEVIATION, (episode.off_route[rows] > OFF_ROUTE_LIMIT) | strayed),
            (BLOCKED, _stood_longer(standing, LEADERBOARD_BLOCKED)),
            (TIMEOUT, (seconds >= 0.8 * total + 5.0) & (episode.endless[rows] == 0)),
        ]
    active = episode.active[rows] == 1
    end = np.select([fires for _, fires in rules], [cause for cause, _ in rules], RUNNING)
    episode.end[rows] = np.where(active, end, episode.end[rows])
    truncated[rows] = active & (end == TIMEOUT)
    terminated[rows] = active & (end != RUNNING) & (end != TIMEOUT)
