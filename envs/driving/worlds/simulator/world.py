"""The embedded world: populates `WorldState` and advances it, any number of worlds in one call."""

from typing import NamedTuple

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.map.tables import TownTables, nearest_waypoint, same_level
from mentorgym.envs.driving.random import random_bits
from mentorgym.envs.driving.worlds.simulator.contacts import touch
from mentorgym.envs.driving.worlds.simulator.ego_car import HALF_SIZE, REAR, gear, next_speed, slip
from mentorgym.envs.driving.worlds.simulator.junctions import grant
from mentorgym.envs.driving.worlds.simulator.lane_changes import change_lanes
from mentorgym.envs.driving.worlds.simulator.lights import set_lights
from mentorgym.envs.driving.worlds.simulator.records import STREAM_VEHICLE, empty_traffic_state
from mentorgym.envs.driving.worlds.simulator.traffic import drive, driver, list_lanes, put, respawn_stuck
from mentorgym.envs.driving.worlds.simulator.walkers import place_walker, walk
from mentorgym.envs.driving.worlds.state import CAR, EMPTY, TICK, WALKER, empty_world_state

VEHICLE_SIZES = np.array(
    [[1.85, 0.86, 0.75], [2.10, 0.92, 0.75], [2.30, 0.95, 0.80], [2.45, 1.06, 0.76], [2.60, 1.00, 1.00]], np.float32
)
"""Half extents of the background vehicles, m: from a small to a large car and a van."""

SPAWN_DISTANCE = 10.0
"""Metres between an ego and the vehicles that appear with it (Found-RL's released settings)."""


NOWHERE = np.array([1e6, 1e6, -1e4, 0.0], np.float32)
"""Where the car of an ego that has left is kept."""


@kernel
def _set_ego(world, traffic, b, e, x, y, z, yaw):
    world.vehicle_pose[b, e, 0], world.vehicle_pose[b, e, 1] = x, y
    world.vehicle_pose[b, e, 2], world.vehicle_pose[b, e, 3] = z, yaw
    world.vehicle_velocity[b, e] = f32(0.0)
    for axis in range(3):
        world.vehicle_half_size[b, e, axis] = HALF_SIZE[axis]
    world.vehicle_id[b, e] = e + 1
    world.vehicle_kind[b, e] = CAR
    world.ego_control[b, e] = f32(0.0)
    world.ego_gear[b, e] = 1
    world.ego_acceleration[b, e] = f32(0.0)
    world.contact_count[b, e] = 0
    traffic.ego_speed[b, e] = f32(0.0)


@kernel
def populate(tables, world, traffic, b, town, weather, key, poses, vehicles, walkers):
    """Start a world anew: egos at `poses` (float32 [E, 4]), `vehicles` cars on distinct spawn points, `walkers` on
    pavements."""
    egos = poses.shape[0]
    world.tick[b], world.town[b], world.weather[b] = 0, town, weather
    traffic.key[b] = key
    traffic.respawns[b] = 0
    traffic.next_id[b] = world.vehicle_kind.shape[1] + 1
    world.vehicle_kind[b] = 0
    world.walker_kind[b] = 0
    traffic.reserved[b] = 0
    traffic.expected[b] = 0
    traffic.holding[b] = -1
    for e in range(egos):
        _set_ego(world, traffic, b, e, poses[e, 0], poses[e, 1], poses[e, 2], poses[e, 3])
    set_lights(tables, world, traffic, b)
    first = tables.spawn_first[town]
    points = tables.spawn_first[town + 1] - first
    # A partial Fisher-Yates shuffle: distinct spawn points, near ones to the egos passed over.
    order = np.empty(points, np.int64)
    for k in range(points):
        order[k] = k
    v = egos
    for k in range(points):
        if v >= min(egos + vehicles, world.vehicle_kind.shape[1]):
            break
        other = k + np.int64(random_bits(key, STREAM_VEHICLE, k, 0) % np.uint64(points - k))
        order[k], order[other] = order[other], order[k]
        lane, s = tables.spawn_lane[first + order[k]], tables.spawn_s[first + order[k]]
        p = tables.lane_first[lane] + np.int32(s / tables.lane_step[lane])
        near = False
        for e in range(egos):
            dx, dy = tables.waypoint_pose[p, 0] - poses[e, 0], tables.waypoint_pose[p, 1] - poses[e, 1]
            level = same_level(tables.waypoint_pose[p, 2] - poses[e, 2])
            near |= level and dx * dx + dy * dy < f32((SPAWN_DISTANCE + 2.0) ** 2)
        if near:
            continue
        size = np.int64(random_bits(key, STREAM_VEHICLE, v, 1) % np.uint64(VEHICLE_SIZES.shape[0]))
        for axis in range(3):
            world.vehicle_half_size[b, v, axis] = VEHICLE_SIZES[size, axis]
        world.vehicle_id[b, v] = v + 1
        world.vehicle_kind[b, v] = CAR
        traffic.temper[b, v] = driver(key, v)
        put(tables, world, traffic, b, v, lane, s, world.tick[b])
        v += 1
    for w in range(min(walkers, world.walker_kind.shape[1])):
        place_walker(tables, world, traffic, b, w, egos)


@inner
def _drive_ego(tables, world, traffic, b, e):
    throttle, steer, brake = world.ego_control[b, e]
    pose = world.vehicle_pose[b, e]
    x, y, yaw = pose[0], pose[1], pose[3]
    before_x, before_y = x, y
    vx, vy = world.vehicle_velocity[b, e, 0], world.vehicle_velocity[b, e, 1]
    speed = traffic.ego_speed[b, e]
    angle = f32(slip(steer))
    for _ in range(2):
        speed = f32(next_speed(speed, throttle, brake))
        x += f32(0.05) * speed * np.cos(yaw + angle)
        y += f32(0.05) * speed * np.sin(yaw + angle)
        yaw += f32(0.05) * speed / f32(REAR) * np.sin(angle)
    yaw = np.arctan2(np.sin(yaw), np.cos(yaw))
    pose[0], pose[1], pose[3] = x, y, yaw
    waypoint, _ = nearest_waypoint(tables, world.town[b], x, y, pose[2])
    if waypoint >= 0:
        pose[2] = tables.waypoint_pose[waypoint, 2]
    world.vehicle_velocity[b, e, 0] = speed * np.cos(yaw + angle)
    world.vehicle_velocity[b, e, 1] = speed * np.sin(yaw + angle)
    if touch(world, b, e):
        # The car that is run into does not give way: the ego stays where it was. The velocity of the impact shows for
        # this tick, because reward and contacts ask for it.
        pose[0], pose[1] = before_x, before_y
        speed = f32(0.0)
    traffic.ego_speed[b, e] = speed
    world.ego_gear[b, e] = gear(speed)
    world.ego_acceleration[b, e, 0] = (world.vehicle_velocity[b, e, 0] - vx) / f32(TICK)
    world.ego_acceleration[b, e, 1] = (world.vehicle_velocity[b, e, 1] - vy) / f32(TICK)


@kernel
def advance(tables, world, traffic, controls, running, first, last):
    """One tick of the worlds `first` to `last` that run (uint8 [B]); `controls` float32 [B, E, 3] as in
    `ego_control`."""
    for b in range(first, last):
        if not running[b]:
            continue
        egos = controls.shape[1]
        for e in range(egos):
            for pedal in range(3):
                world.ego_control[b, e, pedal] = controls[b, e, pedal]
        world.tick[b] += 1
        set_lights(tables, world, traffic, b)
        list_lanes(world, traffic, b, egos)
        grant(tables, world, traffic, b, egos)
        change_lanes(tables, world, traffic, b, egos)
        drive(tables, world, traffic, b, egos)
        respawn_stuck(tables, world, traffic, b, egos)
        walk(tables, world, traffic, b)
        for e in range(egos):
            _drive_ego(tables, world, traffic, b, e)


@kernel
def _is_free(world, b, ego, x, y, z):
    """No vehicle but the ego itself, and no walker, within 12 m on one level (Found-RL: no vehicle 12 m ahead and 8 m
    behind)."""
    for v in range(world.vehicle_kind.shape[1]):
        dx, dy = world.vehicle_pose[b, v, 0] - x, world.vehicle_pose[b, v, 1] - y
        level = same_level(world.vehicle_pose[b, v, 2] - z)
        if v != ego and world.vehicle_kind[b, v] == CAR and level and dx * dx + dy * dy < f32(12.0 * 12.0):
            return False
    for w in range(world.walker_kind.shape[1]):
        dx, dy = world.walker_pose[b, w, 0] - x, world.walker_pose[b, w, 1] - y
        level = same_level(world.walker_pose[b, w, 2] - z)
        if world.walker_kind[b, w] == WALKER and level and dx * dx + dy * dy < f32(12.0 * 12.0):
            return False
    return True


class EmbeddedWorld:
    """`worlds` embedded worlds on the towns of `tables`, with room for the given numbers of actors.

    `state` is the WorldState that it writes. `vehicles` does not count the egos.
    """

    def __init__(self, tables: TownTables, worlds: int, vehicles: int, walkers: int, egos: int = 1):
        self.tables = tables
        lights = int(np.diff(tables.light_first).max())
        self.state = empty_world_state(worlds, egos + vehicles, walkers, lights, egos)
        self.traffic = empty_traffic_state(worlds, egos + vehicles, walkers, len(tables.lane_length), egos)

    def reset(
        self, row: int, town: int, weather: int, key: int | np.uint64, poses: np.ndarray, vehicles: int, walkers: int
    ) -> None:
        """Populate world `row` anew. `poses` float32 [E, 4]: the egos' x, y, z, yaw."""
        populate(self.tables, self.state, self.traffic, row, town, weather, np.uint64(key), poses, vehicles, walkers)

    def tick(self, controls: np.ndarray, running: np.ndarray, first: int, last: int) -> None:
        """Advance those of worlds `first:last` that run by 0.1 s. `controls` float32 [B, E, 3]: throttle, steer, brake;
        `running` uint8 [B]."""
        advance(self.tables, self.state, self.traffic, controls, running, first, last)

    @property
    def respawns(self) -> np.ndarray:
        """int32 [B]: vehicles moved elsewhere, stuck or at a dead end, since each world was populated."""
        return self.traffic.respawns

    def move_ego(self, row: int, ego: int, pose: np.ndarray, weather: int) -> None:
        """Set an ego down at rest at `pose` (x, y, z, yaw), in new weather, and leave everything else as it is."""
        _set_ego(self.state, self.traffic, row, ego, *(f32(value) for value in pose))
        self.state.weather[row] = weather

    def remove_ego(self, row: int, ego: int) -> None:
        """Take an ego's car off the road until the world is reset: an empty slot, out of everything's reach."""
        self.move_ego(row, ego, NOWHERE, self.state.weather[row])
        self.state.vehicle_kind[row, ego] = EMPTY

    def is_free(self, row: int, ego: int, pose: np.ndarray) -> bool:
        """Whether no other vehicle and no walker is within 12 m of a pose."""
        return bool(_is_free(self.state, row, ego, *pose[:3]))

    def records(self) -> dict[str, NamedTuple]:
        """What must be saved to freeze the worlds, by name."""
        return {"world": self.state, "traffic": self.traffic}
