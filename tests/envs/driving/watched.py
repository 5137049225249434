"""What an embedded world does over time, seen from outside, with geometry of its own."""

from typing import NamedTuple

import numpy as np

from mentorgym.envs.driving.map.tables import TownTables
from mentorgym.envs.driving.worlds.simulator.world import EmbeddedWorld

FAR_AWAY = np.array([[5000, 5000, 0, 0]], np.float32)


class Watched(NamedTuple):
    """Fields of WorldState and TrafficState over time: arrays [ticks + 1, ...] of the only world, egos left out."""

    tables: TownTables
    fields: dict[str, np.ndarray]
    respawns: int

    def __getattr__(self, name: str) -> np.ndarray:
        return self.fields[name]


def watch(tables: TownTables, vehicles: int, walkers: int, ticks: int = 900, ego=FAR_AWAY, seed: int = 5) -> Watched:
    world = EmbeddedWorld(tables, 1, vehicles, walkers)
    world.reset(0, 0, 0, seed, np.asarray(ego, np.float32), vehicles, walkers)
    seen: dict[str, list] = {}
    for tick in range(ticks + 1):
        if tick:
            world.tick(np.zeros((1, 1, 3), np.float32), np.ones(1, np.uint8), 0, 1)
        for record in (world.state, world.traffic):
            for name, array in record._asdict().items():
                seen.setdefault(name, []).append(array[0].copy())
    fields = {name: np.array(values) for name, values in seen.items()}
    cars = world.state.vehicle_kind.shape[1]
    for name, array in fields.items():
        if name.startswith("vehicle_") or (array.ndim > 1 and array.shape[1] == cars and name in CAR_FIELDS):
            fields[name] = array[:, 1:]
    return Watched(tables, fields, int(world.respawns[0]))


CAR_FIELDS = {"lane", "s", "speed", "path", "path_step", "granted", "holding", "refused", "other_lane"}


def overlapping(pose: np.ndarray, half: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rectangles, poses [n, 4] and half extents [n, 3], that no axis of either separates."""
    yaw = pose[:, 3].astype(float)
    axes = np.stack([np.column_stack([np.cos(yaw), np.sin(yaw)]), np.column_stack([-np.sin(yaw), np.cos(yaw)])], 1)
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])
    corners = pose[:, None, :2] + np.einsum("ks,ns,nsd->nkd", signs, half[:, :2], axes)
    near = np.linalg.norm(pose[:, None, :2] - pose[None, :, :2], axis=2) < 8
    pairs = []
    for a, b in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        separated = abs(pose[a, 2] - pose[b, 2]) > 4
        for axis in (*axes[a], *axes[b]):
            one, other = corners[a] @ axis, corners[b] @ axis
            separated |= one.max() < other.min() or other.max() < one.min()
        if not separated:
            pairs.append((int(a), int(b)))
    return pairs


def lane_points(tables: TownTables, lane: int) -> np.ndarray:
    return tables.waypoint_pose[tables.lane_first[lane] : tables.lane_first[lane + 1]].astype(float)


def path_lanes(tables: TownTables, path: int) -> list[int]:
    return tables.path_lane[tables.path_lane_first[path] : tables.path_lane_first[path + 1]].tolist()
