"""The records that pass between worlds, rules and views: plain arrays, one row per world or per ego.

Axes: B worlds, V vehicle slots (0 .. E-1 are the egos), W walker slots, L lights, E egos, A = B * E (row `world * E +
ego`), K contacts, R route waypoints, M
remembered collisions. Lengths are metres, times seconds, angles radians, in the town's local
right-handed frame (`Town.origin` holds the float64 offset). Every array is C-contiguous.

`WorldState` is all that a world tells the rest, and only a world writes it. `EpisodeState` is the task's own memory,
and only `rules` and what it calls write it.
"""

from typing import Annotated, NamedTuple

import numpy as np

from mentorgym.envs.driving.record import empty_record, record

TICK = 0.1
"""Seconds between two observations (Found-RL, section 4.1: 10 Hz)."""

CONTACTS = 4
ROUTE_CAPACITY = 4096
COLLISION_MEMORY = 8

GROWS, DEAD_END = 1, 2
"""Endless routes: see `EpisodeState.endless`."""

EMPTY, CAR, WALKER = 0, 1, 2
"""Values of `vehicle_kind` and `walker_kind`: 0 is an empty slot."""

LIGHT_OFF, LIGHT_RED, LIGHT_YELLOW, LIGHT_GREEN = 0, 1, 2, 3

CONTACT_STATIC, CONTACT_VEHICLE, CONTACT_WALKER = 0, 1, 2

ENDS = (
    "running",
    "completed",
    "blocked",
    "lateral deviation",
    "collision",
    "red light",
    "stop sign",
    "pixel collision",
    "route deviation",
    "timeout",
)
(
    RUNNING,
    COMPLETED,
    BLOCKED,
    LATERAL_DEVIATION,
    COLLISION,
    RED_LIGHT,
    STOP_SIGN,
    PIXEL_COLLISION,
    ROUTE_DEVIATION,
    TIMEOUT,
) = range(len(ENDS))


@record
class WorldState(NamedTuple):
    """What is where, at one instant. Written by a world, read by everything."""

    tick: Annotated[np.ndarray, "int32 [B]"]
    """ticks of 0.1 s since the world was populated"""
    town: Annotated[np.ndarray, "int16 [B]"]
    """row of the town in `TownTables`"""
    weather: Annotated[np.ndarray, "uint8 [B]"]
    """index into `tasks.WEATHERS`"""
    vehicle_pose: Annotated[np.ndarray, "float32 [B, V, 4]"]
    """x, y, z, yaw of the box's centre on the ground"""
    vehicle_velocity: Annotated[np.ndarray, "float32 [B, V, 2]"]
    """m/s in the town's frame"""
    vehicle_half_size: Annotated[np.ndarray, "float32 [B, V, 3]"]
    """half length, half width, half height"""
    vehicle_id: Annotated[np.ndarray, "int32 [B, V]"]
    """changes when a slot is used anew"""
    vehicle_kind: Annotated[np.ndarray, "uint8 [B, V]"]
    """EMPTY or CAR"""
    walker_pose: Annotated[np.ndarray, "float32 [B, W, 4]"]
    walker_velocity: Annotated[np.ndarray, "float32 [B, W, 2]"]
    walker_half_size: Annotated[np.ndarray, "float32 [B, W, 3]"]
    walker_id: Annotated[np.ndarray, "int32 [B, W]"]
    """disjoint from the vehicles' ids"""
    walker_kind: Annotated[np.ndarray, "uint8 [B, W]"]
    """EMPTY or WALKER"""
    light_state: Annotated[np.ndarray, "uint8 [B, L]"]
    """LIGHT_OFF, LIGHT_RED, LIGHT_YELLOW, LIGHT_GREEN; L counts from the town's first light"""
    light_elapsed: Annotated[np.ndarray, "float32 [B, L]"]
    """seconds of the current phase that have passed"""
    light_duration: Annotated[np.ndarray, "float32 [B, L]"]
    """seconds that the current phase lasts in all"""
    ego_control: Annotated[np.ndarray, "float32 [B, E, 3]"]
    """applied throttle in [0, 1], steer in [-1, 1] (positive turns right), brake in [0, 1]"""
    ego_gear: Annotated[np.ndarray, "int8 [B, E]"]
    ego_acceleration: Annotated[np.ndarray, "float32 [B, E, 2]"]
    """m/s2 in the town's frame"""
    contact_count: Annotated[np.ndarray, "uint8 [B, E]"]
    """contacts of this tick, at most K"""
    contact_id: Annotated[np.ndarray, "int32 [B, E, K]"]
    """id of the other actor"""
    contact_kind: Annotated[np.ndarray, "uint8 [B, E, K]"]
    """CONTACT_STATIC, CONTACT_VEHICLE, CONTACT_WALKER, or another value for anything else"""
    contact_impulse: Annotated[np.ndarray, "float32 [B, E, K]"]
    """N s"""
    contact_position: Annotated[np.ndarray, "float32 [B, E, K, 2]"]


@record
class EpisodeState(NamedTuple):
    """The memory of each ego's task. Written by `rules` (and what it calls) only."""

    active: Annotated[np.ndarray, "uint8 [A]"]
    """0 once the episode has ended, until the next reset."""
    steps: Annotated[np.ndarray, "int32 [A]"]
    """actions taken"""
    endless: Annotated[np.ndarray, "uint8 [A]"]
    """GROWS while the route is extended at its end (training), DEAD_END where no lane leads on; 0 for a fixed route"""
    route: Annotated[np.ndarray, "int32 [A, R]"]
    """waypoints of `TownTables`, about 1 m apart, in driving order"""
    route_length: Annotated[np.ndarray, "int32 [A]"]
    """how many of `route` are valid"""
    route_index: Annotated[np.ndarray, "int32 [A]"]
    """the last waypoint passed"""
    route_total: Annotated[np.ndarray, "float64 [A]"]
    """metres from the route's first to its last waypoint"""
    route_done: Annotated[np.ndarray, "float64 [A]"]
    """metres of route behind the ego"""
    goal: Annotated[np.ndarray, "float32 [A, 3]"]
    """x, y, z of the route's end"""
    goal_distance: Annotated[np.ndarray, "float32 [A]"]
    """planar metres from the ego's centre to it, inf from another level"""
    lateral: Annotated[np.ndarray, "float32 [A]"]
    """metres from the line through the last waypoint passed, along the route"""
    lateral_previous: Annotated[np.ndarray, "float32 [A]"]
    """the same, a step ago"""
    yaw_error: Annotated[np.ndarray, "float32 [A]"]
    """ego yaw minus route yaw, in [-pi, pi]"""
    off_route: Annotated[np.ndarray, "float32 [A]"]
    """metres to the nearest of the route's waypoints around the ego"""
    off_route_driven: Annotated[np.ndarray, "float64 [A]"]
    """metres driven while more than 15 m off the route"""
    lane: Annotated[np.ndarray, "int32 [A]"]
    """the lane under the ego's centre, -1 when none is near"""
    lane_distance: Annotated[np.ndarray, "float32 [A]"]
    """metres to that lane's centre line"""
    outside: Annotated[np.ndarray, "uint8 [A]"]
    """1 outside every lane (distance above half the lane's width + 1.3 m)."""
    wrong_lane: Annotated[np.ndarray, "uint8 [A]"]
    """1 on a lane of the opposite direction."""
    steer_previous: Annotated[np.ndarray, "float32 [A]"]
    """the applied steer, a step ago"""
    standing: Annotated[np.ndarray, "float32 [A]"]
    """seconds for which the planar speed has been under 0.1 m/s without a break"""
    light: Annotated[np.ndarray, "int32 [A]"]
    """row of the stop line that governs the ego now, -1 for none"""
    light_distance: Annotated[np.ndarray, "float32 [A]"]
    """planar metres from the ego's centre to that stop line's middle"""
    light_seen: Annotated[np.ndarray, "uint8 [A]"]
    """the state of that line's light, LIGHT_OFF without one"""
    light_remaining: Annotated[np.ndarray, "float32 [A]"]
    """remaining fraction of its phase, -1 without a light"""
    red_counted: Annotated[np.ndarray, "int32 [A]"]
    """light of the last red-light infraction, -1 for none; the same light is not counted twice in a row"""
    stop_sign: Annotated[np.ndarray, "int32 [A]"]
    """row of the targeted stop sign, -1 for none"""
    stop_entered: Annotated[np.ndarray, "uint8 [A]"]
    """the ego has been inside the targeted sign's box"""
    stop_complied: Annotated[np.ndarray, "uint8 [A]"]
    """the ego has stopped for it"""
    stop_distance: Annotated[np.ndarray, "float32 [A]"]
    """metres to the targeted sign, inf for none"""
    vehicle_hazard: Annotated[np.ndarray, "float32 [A]"]
    """metres to the vehicle ahead, inf for none"""
    walker_hazard: Annotated[np.ndarray, "float32 [A]"]
    """metres to the walker ahead, inf for none"""
    collision_id: Annotated[np.ndarray, "int32 [A, M]"]
    """actors already counted, -1 for a free place"""
    collision_tick: Annotated[np.ndarray, "int32 [A, M]"]
    collision_position: Annotated[np.ndarray, "float32 [A, M, 2]"]
    event_collision: Annotated[np.ndarray, "uint8 [A]"]
    """a collision was counted in this step"""
    event_red: Annotated[np.ndarray, "uint8 [A]"]
    """a red light was run in this step"""
    event_stop: Annotated[np.ndarray, "uint8 [A]"]
    """a stop sign was run in this step"""
    event_pixel: Annotated[np.ndarray, "uint8 [A]"]
    """the ego's box overlaps an enlarged walker in this step"""
    vehicle_collisions: Annotated[np.ndarray, "int32 [A]"]
    walker_collisions: Annotated[np.ndarray, "int32 [A]"]
    static_collisions: Annotated[np.ndarray, "int32 [A]"]
    other_collisions: Annotated[np.ndarray, "int32 [A]"]
    red_lights: Annotated[np.ndarray, "int32 [A]"]
    stop_signs: Annotated[np.ndarray, "int32 [A]"]
    outside_driven: Annotated[np.ndarray, "float64 [A]"]
    """metres driven outside every lane"""
    wrong_lane_driven: Annotated[np.ndarray, "float64 [A]"]
    """metres driven on a lane of the opposite direction"""
    speed_sum: Annotated[np.ndarray, "float64 [A]"]
    """sum over steps of the planar speed, m/s"""
    energy_sums: Annotated[np.ndarray, "float64 [A, 4]"]
    """sums over steps of `energy.RATES`"""
    reward_terms: Annotated[np.ndarray, "float32 [A, 5]"]
    """speed, position, rotation, action, terminal"""
    episode_return: Annotated[np.ndarray, "float64 [A]"]
    """undiscounted sum of rewards"""
    end: Annotated[np.ndarray, "uint8 [A]"]
    """index into ENDS."""


def empty_world_state(worlds: int, vehicles: int, walkers: int, lights: int, egos: int = 1) -> WorldState:
    """A WorldState of zeros; `vehicles` counts the egos too. Empty axes get one unused slot, for the kernels' sake."""
    slots = {"V": max(vehicles, egos), "W": max(walkers, 1), "L": max(lights, 1)}
    return empty_record(WorldState, B=worlds, E=egos, K=CONTACTS, **slots)


def empty_episode_state(rows: int) -> EpisodeState:
    """An EpisodeState of zeros for `rows` egos."""
    return empty_record(EpisodeState, A=rows, R=ROUTE_CAPACITY, M=COLLISION_MEMORY)
