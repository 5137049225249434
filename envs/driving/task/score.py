"""Scores of finished episodes, and of a set of them."""

from collections.abc import Mapping, Sequence

from mentorgym.envs.driving.task.energy import RATES
from mentorgym.envs.driving.worlds.state import COMPLETED, ENDS, TICK, EpisodeState

PENALTIES = {
    "walker_collisions": 0.50,
    "vehicle_collisions": 0.60,
    "static_collisions": 0.65,
    "red_lights": 0.70,
    "stop_signs": 0.80,
}
"""Factor per infraction (CARLA leaderboard 1.0). Collisions with anything else are counted but cost nothing."""

PENALTIES_2_1 = {
    "walker_collisions": 1.0,
    "vehicle_collisions": 0.7,
    "static_collisions": 0.6,
    "red_lights": 0.4,
    "stop_signs": 0.25,
}
"""Weight per infraction in the denominator (CARLA leaderboard 2.1). Its scenarios' infractions (a scenario's timeout,
not yielding, driving too slowly) do not occur here."""

COUNTS = (*PENALTIES, "other_collisions")

SHORTEST_KM = 0.001
"""Kilometres that a rate is at least taken over."""

ARRIVED = 0.999
"""Route completion from which Found-RL's tables count an episode as a success."""

Score = Mapping[str, float | bool | str]


def _share_on_lanes(astray_km: float, completed_km: float) -> float:
    return max(1.0 - astray_km / max(completed_km, SHORTEST_KM), 0.0)


def infraction_penalty(counts: Mapping[str, int], astray_km: float, completed_km: float) -> float:
    """The product of CARLA leaderboard 1.0, in [0, 1].

    Args:
        counts: infractions by the names of PENALTIES.
        astray_km: kilometres driven outside the lanes or against their direction.
        completed_km: kilometres of route driven.
    """
    penalty = _share_on_lanes(astray_km, completed_km)
    for name, factor in PENALTIES.items():
        penalty *= factor ** counts[name]
    return penalty


def infraction_penalty_2_1(counts: Mapping[str, int], astray_km: float, completed_km: float) -> float:
    """The quotient of CARLA leaderboard 2.1, in [0, 1]; arguments as for `infraction_penalty`.

    Each further infraction costs less than the one before.
    """
    weighted = sum(weight * counts[name] for name, weight in PENALTIES_2_1.items())
    return _share_on_lanes(astray_km, completed_km) / (1.0 + weighted)


def episode_score(episode: EpisodeState, row: int) -> dict[str, float | bool | str]:
    """The scores of one ego's episode as it stands (CARLA leaderboard 1.0 as in Found-RL's `ego_vehicle_handler`).

    - `completed_km`, `outside_km`, `wrong_lane_km`: kilometres of route driven; driven outside every lane; against
      the lane
    - the counts of COUNTS, and each per completed kilometre (`red_lights_per_km` ...), at least a metre of them
    - `infraction_penalty` in [0, 1], and `infraction_penalty_2_1` by the rule of leaderboard 2.1
    - `cell_current_found_rl`, `cell_current` (A), `fuel_rate_found_rl`, `fuel_rate` (kg/s): means over the steps
      (`energy`)
    - `return`, `mean_speed` (m/s), `steps`, `seconds`, `end` (a name of ENDS)
    - `reward_per_step`, `metres_per_step` (of route): what training on endless routes is judged by

    Unless the route is endless also:

    - `route_completion`: share of the route's length, 1.0 when the episode ended as completed
    - `driving_score`, `driving_score_2_1`: route completion times either penalty
    - `success`: completed; `strict_success`: completed without an infraction, a metre outside or in the wrong lane,
      or a collision of any kind; `success_found_rl`: a route completion of at least 0.999, as Found-RL's tables have it
    """
    counts = {name: int(getattr(episode, name)[row]) for name in COUNTS}
    metres = float(episode.route_done[row])
    completed_km = metres / 1000.0
    outside_km = float(episode.outside_driven[row]) / 1000.0
    wrong_lane_km = float(episode.wrong_lane_driven[row]) / 1000.0
    astray_km = outside_km + wrong_lane_km
    penalty = infraction_penalty(counts, astray_km, completed_km)
    penalty_2_1 = infraction_penalty_2_1(counts, astray_km, completed_km)
    steps = int(episode.steps[row])
    total = float(episode.episode_return[row])
    score: dict[str, float | bool | str] = {
        "completed_km": completed_km,
        "outside_km": outside_km,
        "wrong_lane_km": wrong_lane_km,
        **counts,
        **{f"{name}_per_km": count / max(completed_km, SHORTEST_KM) for name, count in counts.items()},
        "infraction_penalty": penalty,
        "infraction_penalty_2_1": penalty_2_1,
        "return": total,
        "mean_speed": float(episode.speed_sum[row]) / max(steps, 1),
        **{name: float(episode.energy_sums[row, i]) / max(steps, 1) for i, name in enumerate(RATES)},
        "reward_per_step": total / max(steps, 1),
        "metres_per_step": metres / max(steps, 1),
        "steps": steps,
        "seconds": steps * TICK,
        "end": ENDS[episode.end[row]],
    }
    if not episode.endless[row]:
        success = bool(episode.end[row] == COMPLETED)
        completion = 1.0 if success else float(episode.route_done[row] / episode.route_total[row])
        score["route_completion"] = completion
        score["driving_score"] = completion * penalty
        score["driving_score_2_1"] = completion * penalty_2_1
        score["success"] = success
        score["strict_success"] = success and not any(counts.values()) and astray_km == 0.0
        score["success_found_rl"] = completion >= ARRIVED
    return score


def aggregate(scores: Sequence[Score]) -> dict[str, float]:
    """The mean over episodes of every number that all of them have.

    Rates are sums over sums: those per kilometre are weighted by the kilometres they were taken over, those per step by
    the steps. `driving_score` is the mean of products, not the product of means. `episodes` is how many there were.

    Raises:
        ValueError: there is no episode.
    """
    if not scores:
        raise ValueError("no episode to aggregate: evaluate at least one")
    result: dict[str, float] = {"episodes": len(scores)}
    for name in scores[0]:
        if name == "end" or not all(name in score for score in scores):
            continue
        if name.endswith("_per_km"):
            weights = [max(float(score["completed_km"]), SHORTEST_KM) for score in scores]
        elif name.endswith("_per_step"):
            weights = [max(float(score["steps"]), 1.0) for score in scores]
        else:
            weights = [1.0] * len(scores)
        values = [float(score[name]) for score in scores]
        result[name] = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    return result
