"""Scenes made up at random: everything that a view draws, where no map and no simulation has a part."""

from typing import NamedTuple

import numpy as np

from mentorgym.envs.driving.map.tables import BROKEN, DRIVABLE, ROAD, SOLID, TownTables
from mentorgym.envs.driving.worlds.state import (
    CAR,
    WALKER,
    EpisodeState,
    WorldState,
    empty_episode_state,
    empty_world_state,
)

_FLOATS = "waypoint_width waypoint_speed lane_length lane_step lane_to_junction lane_ends spawn_s "
_FLOATS += "sibling_overlap stop_line_half_width stop_sign_half_size"
_OTHERS = {
    **{name: ((1,), "f4") for name in _FLOATS.split()},
    **{name: ((1, 4), "f4") for name in ("waypoint_pose", "stop_line_pose", "light_phase", "stop_sign_pose")},
    **{name: ((1, 2), "f4") for name in ("waypoint_direction", "grid_origin", "raster_origin")},
    **{name: ((1, 2), "i4") for name in ("grid_size", "raster_size", "lane_change")},
    **{name: ((1,), "u1") for name in ("lane_turn", "lane_storage", "path_crosses", "path_rank", "raster")},
    **{name: ((1,), "i8") for name in ("grid_first", "raster_first")},
    "lane_town": ((1,), "i2"),
    "walkway_point": ((1, 3), "f4"),
    "walkway_crosswalk": ((1,), "u1"),
}


def town_tables(**fields: np.ndarray) -> TownTables:
    """TownTables of one town with these fields; the others hold zeros, and `raster` may be given in two dimensions."""
    arrays = {name: np.zeros(*_OTHERS.get(name, ((2,), "i4"))) for name in TownTables._fields}
    if "raster" in fields:
        fields["raster_size"] = np.array([fields["raster"].shape])
        fields["raster"] = fields["raster"].ravel()
    for name, values in fields.items():
        arrays[name] = np.ascontiguousarray(values, arrays[name].dtype)
    return TownTables(**arrays)


def random_raster(rng: np.random.Generator, rows: int = 700, columns: int = 760) -> np.ndarray:
    """Streets as wide bands with a marking in their middle and at their sides, uint8 [rows, columns]."""
    raster = np.zeros((rows, columns), np.uint8)
    y, x = np.mgrid[:rows, :columns] + 0.5
    for _ in range(8):
        angle, middle = rng.uniform(0, np.pi), rng.uniform(0, 1, 2) * (columns, rows)
        side = (y - middle[1]) * np.cos(angle) - (x - middle[0]) * np.sin(angle)
        along = (x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle)
        half = rng.uniform(15, 40)
        raster[np.abs(side) < half] |= ROAD
        raster[np.abs(side) < half - 2] |= DRIVABLE
        raster[np.abs(np.abs(side) - half + 5) < 0.7] |= SOLID
        raster[(np.abs(side) < 0.7) & (along % 30 < 15)] |= BROKEN
    raster[(raster & SOLID) > 0] &= ~np.uint8(BROKEN)
    return raster


def random_town(rng: np.random.Generator) -> TownTables:
    """A town of 152 x 140 m with 40 winding lanes of 100 m, 60 stop lines, 30 lights and 20 stop signs."""
    low, high = np.array([-12.0, 30.0]), np.array([140.0, 170.0])
    lanes, points = 40, 101
    yaw = rng.uniform(-np.pi, np.pi, (lanes, 1)) + np.cumsum(rng.normal(0, 0.05, (lanes, points)), axis=1)
    steps = np.stack([np.cos(yaw), np.sin(yaw)], -1)
    waypoints = np.zeros((lanes, points, 4))
    waypoints[:, :, :2] = rng.uniform(low, high, (lanes, 1, 2)) + np.cumsum(steps, axis=1)
    waypoints[:, :, 3] = yaw

    def poses(count):
        places, heights = rng.uniform(low, high, (count, 2)), rng.choice([0.0, 0.0, 3.0, 9.0], count)
        return np.column_stack([places, heights, rng.uniform(-4, 4, count)])

    return town_tables(
        raster=random_raster(rng),
        raster_origin=[low],
        waypoint_pose=waypoints.reshape(-1, 4),
        waypoint_lane=np.repeat(np.arange(lanes), points),
        lane_first=np.arange(lanes + 1) * points,
        lane_turn=np.full(lanes, 4),
        lane_road=np.arange(lanes),
        lane_section=np.zeros(lanes),
        lane_number=np.full(lanes, -1),
        stop_line_first=[0, 60],
        stop_line_pose=poses(60),
        stop_line_half_width=rng.uniform(1.0, 1.8, 60),
        stop_line_light=rng.integers(0, 30, 60),
        light_first=[0, 30],
        stop_sign_first=[0, 20],
        stop_sign_pose=poses(20),
        stop_sign_half_size=rng.uniform(1.0, 2.5, 20),
    )


def random_scene(
    rng: np.random.Generator, tables: TownTables, worlds: int, vehicles: int = 60, walkers: int = 60, egos: int = 1
) -> tuple[WorldState, EpisodeState]:
    """Worlds with actors and egos strewn over the town, and a route for each ego that leads past it."""
    world = empty_world_state(worlds, vehicles, walkers, int(tables.light_first[-1]), egos)
    episode = empty_episode_state(worlds * egos)
    low, high = tables.raster_origin[0] + 10, tables.raster_origin[0] + tables.raster_size[0, ::-1] / 5 - 10
    world.vehicle_half_size[:] = rng.uniform([1.5, 0.6, 0.5], [4.0, 1.4, 1.0], (worlds, vehicles, 3))
    world.walker_half_size[:] = 0.25, 0.25, 0.9
    for actor, slots, kind in (("vehicle", vehicles, CAR), ("walker", walkers, WALKER)):
        pose = getattr(world, f"{actor}_pose")
        pose[:, :, :2] = rng.uniform(low, high, (worlds, slots, 2))
        pose[:, :, 2] = rng.choice([0.0, 0.0, 0.0, 5.0, -9.0], (worlds, slots))
        pose[:, :, 3] = rng.uniform(-7, 7, (worlds, slots))
        getattr(world, f"{actor}_velocity")[:] = rng.uniform(-6, 6, (worlds, slots, 2))
        getattr(world, f"{actor}_kind")[:] = kind * (rng.random((worlds, slots)) < 0.9)
    world.vehicle_kind[:, :egos] = CAR
    world.vehicle_pose[:, :egos, 2] = 0.0
    world.light_state[:] = rng.integers(0, 4, world.light_state.shape)
    lanes = len(tables.lane_first) - 1
    for row in range(worlds * egos):
        first = tables.lane_first[rng.integers(0, lanes)]
        episode.route[row, :100] = np.arange(first, first + 100)
        episode.route_length[row] = 100
        episode.route_index[row] = rng.integers(0, 60)
        near = tables.waypoint_pose[episode.route[row, episode.route_index[row]], :2]
        b, ego = divmod(row, egos)
        world.vehicle_pose[b, ego, :2] = np.clip(near + rng.normal(0, 1.5, 2), low, high)
        episode.stop_sign[row] = rng.integers(-1, len(tables.stop_sign_pose))
        episode.stop_complied[row] = rng.random() < 0.3
    return world, episode


def move(rng: np.random.Generator, world: WorldState, episode: EpisodeState, seconds: float = 0.1) -> None:
    """Let everything go on straight ahead, lights and stop signs change at times."""
    for pose, velocity in ((world.vehicle_pose, world.vehicle_velocity), (world.walker_pose, world.walker_velocity)):
        pose[:, :, :2] += seconds * velocity
        pose[:, :, 3] += 0.05
    changed = rng.random(world.light_state.shape) < 0.1
    world.light_state[changed] = rng.integers(0, 4, int(changed.sum()))
    episode.stop_complied[rng.random(len(episode.stop_complied)) < 0.1] ^= 1


def copy_record(record: NamedTuple) -> NamedTuple:
    """An independent copy of a record's arrays."""
    return type(record)(*(array.copy() for array in record))
