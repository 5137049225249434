"""When an episode ends: Found-RL's strict rules, or the CARLA leaderboard's, which drive on after infractions."""

from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.worlds.state import (
    BLOCKED,
    COLLISION,
    COMPLETED,
    DEAD_END,
    GROWS,
    LATERAL_DEVIATION,
    PIXEL_COLLISION,
    RED_LIGHT,
    ROUTE_DEVIATION,
    RUNNING,
    STOP_SIGN,
    TICK,
    TIMEOUT,
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


@kernel
def lateral_limit(lateral, previous):
    """Found-RL's adaptive limit of the lateral distance (its `valeo_no_det_px`), in m, float32 like both arguments.

    After a jump of more than 0.8 m since the previous step, which is the route changing lanes, it is 0.5 m beyond the
    distance; else the larger of 3.5 m and the previous distance. 1 cm is added to both.
    """
    limit = lateral + f32(0.5) if lateral - previous > f32(0.8) else max(previous, f32(3.5))
    return limit + f32(0.01)


@inner
def _reached_goal(episode, row):
    """At least 99 % of the route's length driven, and within 10 m of its end; never on a route that grows."""
    driven = episode.route_done[row] >= COMPLETED_SHARE * episode.route_total[row]
    return driven and episode.goal_distance[row] <= COMPLETED_DISTANCE and episode.endless[row] != GROWS


@inner
def _stood_longer(episode, row, limit):
    # Half a tick of slack: the timer is a sum of float32 ticks.
    return episode.standing[row] > f32(limit + TICK / 2)


@inner
def _found_rl_end(episode, row, training):
    if _reached_goal(episode, row) and (not training or episode.endless[row] == DEAD_END):
        return COMPLETED
    if episode.event_collision[row]:
        return COLLISION
    if episode.event_red[row]:
        return RED_LIGHT
    if episode.event_stop[row]:
        return STOP_SIGN
    if training and episode.event_pixel[row]:
        return PIXEL_COLLISION
    if episode.lateral[row] > lateral_limit(episode.lateral[row], episode.lateral_previous[row]):
        return LATERAL_DEVIATION
    if _stood_longer(episode, row, FOUND_RL_BLOCKED):
        return BLOCKED
    if not training and episode.steps[row] * TICK >= FOUND_RL_TIMEOUT:
        return TIMEOUT
    return RUNNING


@inner
def _leaderboard_end(episode, row):
    total = episode.route_total[row]
    if _reached_goal(episode, row):
        return COMPLETED
    if episode.off_route[row] > OFF_ROUTE_LIMIT or episode.off_route_driven[row] > OFF_ROUTE_SHARE * total:
        return ROUTE_DEVIATION
    if _stood_longer(episode, row, LEADERBOARD_BLOCKED):
        return BLOCKED
    if not episode.endless[row] and episode.steps[row] * TICK >= 0.8 * total + 5.0:
        return TIMEOUT
    return RUNNING


@kernel
def check(episode, first_row, last_row, ends, training, terminated, truncated):
    """Write `episode.end` of the active egos `first_row:last_row`, and what Gymnasium calls it.

    Where several causes meet in one step the first of the list counts:

    - FOUND_RL (Found-RL's `valeo_no_det_px`): completed, collision, red light, stop sign, pixel collision, adaptive
      lateral deviation, blocked for more than 90 s, timeout after 1200 s. Pixel collisions end training alone; timeout
      ends evaluation alone. The paper names completion, which the published code lacks; in training it takes a dead
      end.
    - LEADERBOARD (CARLA leaderboard 1.0): completed, route deviation (more than 30 m, or more than 15 m for over 30 %
      of the route's length), blocked for more than 180 s, timeout after 0.8 s per metre of route + 5 s (none on
      endless routes).

    Args:
        ends: a value of END_RULES.
        training: for Found-RL's differences above.
        terminated, truncated: bool [A], written; a timeout is a truncation, and so is the dead end of an endless route;
            everything else is a termination. False where the episode had ended before.
    """
    for row in range(first_row, last_row):
        terminated[row] = truncated[row] = False
        if not episode.active[row]:
            continue
        end = _found_rl_end(episode, row, training) if ends == FOUND_RL else _leaderboard_end(episode, row)
        episode.end[row] = end
        truncated[row] = end == TIMEOUT or (end == COMPLETED and episode.endless[row] == DEAD_END)
        terminated[row] = end != RUNNING and not truncated[row]
