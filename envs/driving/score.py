"""Scores of finished episodes, and of a set of them."""

from collections.abc import Sequence

from mentorgym.envs.driving.state import COMPLETED, ENDS, TICK, EpisodeState

PENALTIES = {
    "walker_collisions": 0.50,
    "vehicle_collisions": 0.60,
    "static_collisions": 0.65,
    "red_lights": 0.70,
    "stop_signs": 0.80,
}
"""Factor per infraction (CARLA leaderboard 1.0). Collisions with anything else are counted but cost nothing."""

COUNTS = (*PENALTIES, "other_collisions")

SHORTEST_KM = 0.001
"""Kilometres that a rate is at least taken over."""


def infraction_penalty(counts: dict[str, int], astray_km: float, completed_km: float) -> float:
    """The product of CARLA leaderboard 1.0, in [0, 1].

    Args:
        counts: infractions by the names of PENALTIES.
        astray_km: kilometres driven outside the lanes or against their direction.
        completed_km: kilometres of route driven.
    """
    penalty = max(1.0 - astray_km / max(completed_km, SHORTEST_KM), 0.0)
    for name, factor in PENALTIES.items():
        penalty *= factor ** counts[name]
    return penalty


def episode_score(episode: EpisodeState, row: int) -> dict[str, float | bool | str]:
    """The scores of one ego's episode as it stands (CARLA leaderboard 1.0 as in Found-RL's `ego_vehicle_handler`).

    - `completed_km`, `outside_km`, `wrong_lane_km`: kilometres of route driven; driven outside every lane; against
      the lane
    - the counts of COUNTS, and each per completed kilometre (`red_lights_per_km` ...), at least a metre of them
    - `infraction_penalty` in [0, 1]
    - `return`, `mean_speed` (m/s), `steps`, `seconds`, `end` (a name of ENDS)

    Unless the route is endless also:

    - `route_completion`: share of the route's length, 1.0 when the episode ended as completed
    - `driving_score`: route completion times penalty
    - `success`: completed; `strict_success`: completed without an infraction, a metre outside or in the wrong lane,
      or a collision of any kind
    """
    counts = {name: int(getattr(episode, name)[row]) for name in COUNTS}
    completed_km = float(episode.route_done[row]) / 1000.0
    outside_km = float(episode.outside_driven[row]) / 1000.0
    wrong_lane_km = float(episode.wrong_lane_driven[row]) / 1000.0
    penalty = infraction_penalty(counts, outside_km + wrong_lane_km, completed_km)
    steps = int(episode.steps[row])
    score: dict[str, float | bool | str] = {
        "completed_km": completed_km,
        "outside_km": outside_km,
        "wrong_lane_km": wrong_lane_km,
        **counts,
        **{f"{name}_per_km": count / max(completed_km, SHORTEST_KM) for name, count in counts.items()},
        "infraction_penalty": penalty,
        "return": float(episode.episode_return[row]),
        "mean_speed": float(episode.speed_sum[row]) / max(steps, 1),
        "steps": steps,
        "seconds": steps * TICK,
        "end": ENDS[episode.end[row]],
    }
    if not episode.endless[row]:
        success = bool(episode.end[row] == COMPLETED)
        completion = 1.0 if success else float(episode.route_done[row] / episode.route_total[row])
        score["route_completion"] = completion
        score["driving_score"] = completion * penalty
        score["success"] = success
        score["strict_success"] = success and not any(counts.values()) and outside_km + wrong_lane_km == 0.0
    return score


def aggregate(scores: Sequence[dict[str, float | bool | str]]) -> dict[str, float]:
    """The mean of every number over episodes; of rates per kilometre, weighted by the kilometres they were taken over.

    `driving_score` is therefore the mean of products, not the product of means. `episodes` is how many there were.

    Raises:
        ValueError: there is no episode.
    """
    if not scores:
        raise ValueError("no episode to aggregate: evaluate at least one")
    weights = [max(float(score["completed_km"]), SHORTEST_KM) for score in scores]
    result: dict[str, float] = {"episodes": len(scores)}
    for name in scores[0]:
        if name == "end":
            continue
        values = [float(score[name]) for score in scores]
        if name.endswith("_per_km"):
            result[name] = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
        else:
            result[name] = sum(values) / len(values)
    return result
