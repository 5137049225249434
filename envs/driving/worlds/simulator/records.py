"""What the embedded world remembers beside `WorldState`; nothing outside this folder reads it, except to freeze it."""

from typing import Annotated, NamedTuple

import numpy as np

from mentorgym.envs.driving.record import empty_record, record

STREAM_VEHICLE, STREAM_PATH, STREAM_RESPAWN, STREAM_WALKER, STREAM_WALKER_TURN, STREAM_LIGHT = range(1, 7)
STREAM_DETOUR = 7
"""Streams of random numbers."""

WALKING, WAITING, CROSSING = 0, 1, 2

FIRST_WALKER_ID = 1_000_000

NOTHING = np.int32(-1)


@record
class TrafficState(NamedTuple):
    """B worlds, V vehicle slots (the egos' are unused), P = 2 V places in the lists of cars, W walker slots, N lanes of
    all towns."""

    key: Annotated[np.ndarray, "uint64 [B]"]
    """key of the random numbers"""
    next_id: Annotated[np.ndarray, "int32 [B]"]
    """id of the next respawned vehicle"""
    respawns: Annotated[np.ndarray, "int32 [B]"]
    """fallback respawns since the world was populated"""
    ego_speed: Annotated[np.ndarray, "float32 [B, E]"]
    """m/s along the direction of motion"""
    lane: Annotated[np.ndarray, "int32 [B, V]"]
    s: Annotated[np.ndarray, "float32 [B, V]"]
    """m of the car's centre from the lane's start"""
    speed: Annotated[np.ndarray, "float32 [B, V]"]
    """m/s"""
    temper: Annotated[np.ndarray, "float32 [B, V]"]
    """share of the speed limit that the driver drives"""
    path: Annotated[np.ndarray, "int32 [B, V]"]
    """compound path, -1 on a dead end"""
    path_step: Annotated[np.ndarray, "int32 [B, V]"]
    """lanes of the path entered so far"""
    granted: Annotated[np.ndarray, "uint8 [B, V]"]
    """the path may be driven"""
    holding: Annotated[np.ndarray, "int32 [B, V]"]
    """path whose junction lanes are reserved for the car, -1 for none"""
    request_tick: Annotated[np.ndarray, "int32 [B, V]"]
    """tick of the first request for the path, -1 before it"""
    refused: Annotated[np.ndarray, "float32 [B, V]"]
    """seconds for which requests have been refused although the lights allowed them"""
    standing: Annotated[np.ndarray, "float32 [B, V]"]
    """seconds without motion"""
    wants: Annotated[np.ndarray, "int8 [B, V]"]
    """the lane that the drawn path begins on: 1 the one to the left, -1 to the right, 0"""
    other_lane: Annotated[np.ndarray, "int32 [B, V]"]
    """the lane that a changing car has not cleared yet, -1 for none"""
    other_s: Annotated[np.ndarray, "float32 [B, V]"]
    """m, its place there"""
    change_from: Annotated[np.ndarray, "float32 [B, V]"]
    """m to the left of the lane's centre line at which a change began"""
    change_done: Annotated[np.ndarray, "float32 [B, V]"]
    """m driven since"""
    change_length: Annotated[np.ndarray, "float32 [B, V]"]
    """m that the change takes, 0 before the first one"""
    changed: Annotated[np.ndarray, "int32 [B, V]"]
    """tick of the last change"""
    lets_in: Annotated[np.ndarray, "int16 [B, V]"]
    """slot of the car for which this one keeps a gap, -1 for none, of this tick"""
    reserved: Annotated[np.ndarray, "int16 [B, N]"]
    """cars that hold each junction lane"""
    expected: Annotated[np.ndarray, "int16 [B, N]"]
    """cars granted into each exit lane that have not reached it"""
    waiting: Annotated[np.ndarray, "int16 [B, N]"]
    """cars on each lane, of this tick"""
    lane_head: Annotated[np.ndarray, "int16 [B, N]"]
    """first entry on each lane, -1 for none, of this tick"""
    lane_next: Annotated[np.ndarray, "int16 [B, P]"]
    """next entry on the same lane: entry v is car v on its lane, entry V + v a changing car on `other_lane`"""
    walker_from: Annotated[np.ndarray, "int32 [B, W]"]
    """walkway points"""
    walker_to: Annotated[np.ndarray, "int32 [B, W]"]
    walker_along: Annotated[np.ndarray, "float32 [B, W]"]
    """m walked from walker_from"""
    walker_speed: Annotated[np.ndarray, "float32 [B, W]"]
    """m/s when walking"""
    walker_mode: Annotated[np.ndarray, "uint8 [B, W]"]
    """WALKING, WAITING, CROSSING"""
    walker_patience: Annotated[np.ndarray, "float32 [B, W]"]
    """seconds left of WAITING, seconds waited while CROSSING"""
    walker_aside: Annotated[np.ndarray, "float32 [B, W, 2]"]
    """m, constant offset from the walkway's line"""


def empty_traffic_state(worlds: int, vehicles: int, walkers: int, lanes: int, egos: int) -> TrafficState:
    """A TrafficState of zeros."""
    return empty_record(TrafficState, B=worlds, E=egos, V=vehicles, P=2 * vehicles, W=max(walkers, 1), N=lanes)
