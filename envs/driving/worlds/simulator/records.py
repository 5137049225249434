"""What the embedded world remembers beside `WorldState`; nothing outside this folder reads it, except to freeze it."""

from typing import NamedTuple

import numpy as np

from mentorgym.envs.driving.record import record

STREAM_VEHICLE, STREAM_PATH, STREAM_RESPAWN, STREAM_WALKER, STREAM_WALKER_TURN, STREAM_LIGHT = range(1, 7)
STREAM_DETOUR = 7
"""Streams of random numbers."""

WALKING, WAITING, CROSSING = 0, 1, 2

FIRST_WALKER_ID = 1_000_000

NOTHING = np.int32(-1)


@record
class TrafficState(NamedTuple):
    """B worlds, V vehicle slots (the egos' are unused), W walker slots, N lanes of all towns."""

    key: np.ndarray  # uint64 [B] of the random numbers
    next_id: np.ndarray  # int32 [B] id of the next respawned vehicle
    respawns: np.ndarray  # int32 [B] fallback respawns since the world was populated
    ego_speed: np.ndarray  # float32 [B, E] m/s along the direction of motion
    lane: np.ndarray  # int32 [B, V]
    s: np.ndarray  # float32 [B, V] m of the car's centre from the lane's start
    speed: np.ndarray  # float32 [B, V] m/s
    temper: np.ndarray  # float32 [B, V] share of the speed limit that the driver drives
    path: np.ndarray  # int32 [B, V] compound path, -1 on a dead end
    path_step: np.ndarray  # int32 [B, V] lanes of the path entered so far
    granted: np.ndarray  # uint8 [B, V] the path may be driven
    holding: np.ndarray  # int32 [B, V] path whose junction lanes are reserved for the car, -1 for none
    asked: np.ndarray  # int32 [B, V] tick of the first request for the path, -1 before it
    refused: np.ndarray  # float32 [B, V] seconds for which requests have been refused although the lights allowed them
    standing: np.ndarray  # float32 [B, V] seconds without motion
    wants: np.ndarray  # int8 [B, V] the lane that the drawn path begins on: 1 the one to the left, -1 to the right, 0
    other_lane: np.ndarray  # int32 [B, V] the lane that a changing car has not cleared yet, -1 for none
    other_s: np.ndarray  # float32 [B, V] m, its place there
    change_from: np.ndarray  # float32 [B, V] m to the left of the lane's centre line at which a change began
    change_done: np.ndarray  # float32 [B, V] m driven since
    change_length: np.ndarray  # float32 [B, V] m that the change takes, 0 before the first one
    changed: np.ndarray  # int32 [B, V] tick of the last change
    lets_in: np.ndarray  # int16 [B, V] slot of the car for which this one keeps a gap, -1 for none, of this tick
    reserved: np.ndarray  # int16 [B, N] cars that hold each junction lane
    expected: np.ndarray  # int16 [B, N] cars granted into each exit lane that have not reached it
    waiting: np.ndarray  # int16 [B, N] cars on each lane, of this tick
    # A changing car is listed on two lanes: entry i is car i on its lane, entry V + i the same car on `other_lane`.
    lane_head: np.ndarray  # int16 [B, N] first entry on each lane, -1 for none, of this tick
    lane_next: np.ndarray  # int16 [B, 2 V] next entry on the same lane
    walker_from: np.ndarray  # int32 [B, W] walkway points
    walker_to: np.ndarray  # int32 [B, W]
    walker_along: np.ndarray  # float32 [B, W] m walked from walker_from
    walker_speed: np.ndarray  # float32 [B, W] m/s when walking
    walker_mode: np.ndarray  # uint8 [B, W] WALKING, WAITING, CROSSING
    walker_patience: np.ndarray  # float32 [B, W] seconds left of WAITING, seconds waited while CROSSING
    walker_aside: np.ndarray  # float32 [B, W, 2] m, constant offset from the walkway's line


def empty_traffic_state(worlds: int, vehicles: int, walkers: int, lanes: int, egos: int) -> TrafficState:
    """A TrafficState of zeros."""
    w = max(walkers, 1)
    shapes = {
        "key": ((), "u8"),
        "next_id": ((), "i4"),
        "respawns": ((), "i4"),
        "ego_speed": ((egos,), "f4"),
        **dict.fromkeys(
            ("lane", "path", "path_step", "holding", "asked", "other_lane", "changed"), ((vehicles,), "i4")
        ),
        **dict.fromkeys(("s", "speed", "temper", "refused", "standing", "other_s"), ((vehicles,), "f4")),
        **dict.fromkeys(("change_from", "change_done", "change_length"), ((vehicles,), "f4")),
        "granted": ((vehicles,), "u1"),
        "wants": ((vehicles,), "i1"),
        "lets_in": ((vehicles,), "i2"),
        **dict.fromkeys(("reserved", "expected", "waiting", "lane_head"), ((lanes,), "i2")),
        "lane_next": ((2 * vehicles,), "i2"),
        **dict.fromkeys(("walker_from", "walker_to"), ((w,), "i4")),
        **dict.fromkeys(("walker_along", "walker_speed", "walker_patience"), ((w,), "f4")),
        "walker_mode": ((w,), "u1"),
        "walker_aside": ((w, 2), "f4"),
    }
    return TrafficState(
        **{name: np.zeros((worlds, *shapes[name][0]), shapes[name][1]) for name in TrafficState._fields}
    )
