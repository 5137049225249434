"""Watch the embedded world's traffic for a long time.

Each town is populated with its Leaderboard's traffic and left alone, without an ego. What is judged is what anyone
could see: poses, sizes and ids in `WorldState`, and the map. The overlap of boxes is computed here, in plain numpy, and
shares no code with the world.

- *Standing*: seconds without a break that a vehicle stays below 0.1 m/s, at reds and in queues too.
- *Collisions*: pairs of boxes (vehicle and vehicle, moving vehicle and walker) on one level that overlap, once for
  each contact.
- *Respawns*: vehicles whose id changes: the world has moved one elsewhere.
- *Unhindered*: a vehicle on a lane outside junctions with at least 30 m to the next junction, no vehicle centre in the
  30 m ahead of it (4 m wide, along its heading) and no walker on a driving lane there, for three seconds by now (which
  leaves out some of the acceleration after a turn or a stop). Its speed is compared with the limit, or with what a
  curve allows where that is less.
- *Off lane*: metres from a vehicle's centre to the nearest lane's centre line, less half that lane's width, where that
  lane lies outside junctions; looked at once a second. A vehicle that changes lane is between two lanes and on the
  centre of neither, so *centre* gives the plain distance to the nearest centre line beside it.

The exit code is 1 when a bar is missed.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from mentorgym.benchmarks.harness.command import UsageError, progress_bars, progress_console, show, user_input, verb
from mentorgym.benchmarks.harness.tables import text_table
from mentorgym.envs.driving.map.tables import DRIVABLE, PIXELS_PER_METRE, TownTables
from mentorgym.envs.driving.map.town import Town, TownError, load_town, packaged_towns
from mentorgym.envs.driving.random import episode_key
from mentorgym.envs.driving.task.tasks import traffic_range
from mentorgym.envs.driving.worlds.simulator.world import EmbeddedWorld
from mentorgym.envs.driving.worlds.state import TICK, WorldState

MOST_SECONDS_STANDING = 90.0
MOST_COLLISIONS, MOST_RESPAWNS = 1.0, 2.0
"""Per 1,000 vehicle minutes."""
LEAST_SPEED_SHARE = 0.6
MOST_METRES_OFF_LANE = 1.0

AHEAD = 30.0
"""Metres that have to be free before a vehicle counts as unhindered."""

FREE_FOR = 3.0
"""Seconds for which they have to have been."""

CELL = 4.0
"""Metres: side of the cells of this module's own index of lane centres."""

PARKED = np.array([[1e6, 1e6, 0.0, 0.0]], np.float32)
"""Where the ego that every world has is left."""


def overlapping(pose: np.ndarray, half: np.ndarray, movable: int) -> set[tuple[int, int]]:
    """Pairs (i < j, i < movable) of boxes that share a point, by separating axes.

    `pose` [n, 4] is x, y, z, yaw, `half` [n, 3] half extents. Boxes 4 m or more apart in height never meet.
    """
    pose, half = pose.astype(np.float64), half.astype(np.float64)
    radius = np.hypot(half[:, 0], half[:, 1])
    x, y = pose[:, 0], pose[:, 1]
    dx, dy = x[None, :] - x[:movable, None], y[None, :] - y[:movable, None]
    near = dx * dx + dy * dy <= (radius[:movable, None] + radius[None, :]) ** 2
    near &= np.arange(len(pose))[None, :] > np.arange(movable)[:, None]
    a, b = np.nonzero(near)
    level = np.abs(pose[a, 2] - pose[b, 2]) < 4.0
    a, b = a[level], b[level]
    forward = np.stack([np.cos(pose[:, 3]), np.sin(pose[:, 3])], 1)
    sideways = np.stack([-forward[:, 1], forward[:, 0]], 1)
    between = pose[b, :2] - pose[a, :2]
    meet = np.ones(len(a), bool)
    for axis in (forward[a], sideways[a], forward[b], sideways[b]):
        reach = sum(
            np.abs((each[k] * axis).sum(1)) * half[k, extent]
            for k in (a, b)
            for extent, each in enumerate((forward, sideways))
        )
        meet &= np.abs((between * axis).sum(1)) <= reach
    return set(zip(a[meet].tolist(), b[meet].tolist(), strict=True))


class Lanes:
    """Which lane is under a point: waypoints in square cells, each cell with those of its neighbours."""

    def __init__(self, tables: TownTables):
        self.tables = tables
        # A lane's last waypoint stands where the next lane begins.
        self.waypoints = np.setdiff1d(np.arange(len(tables.waypoint_lane)), tables.lane_first[1:] - 1)
        places = tables.waypoint_pose[self.waypoints, :2].astype(np.float64)
        self.corner = places.min(0) - 2 * CELL
        column, row = ((places - self.corner) / CELL).astype(int).T
        self.columns, self.rows = column.max() + 3, row.max() + 3
        cells: list[list[int]] = [[] for _ in range(self.rows * self.columns)]
        for waypoint, r, c in zip(self.waypoints.tolist(), row.tolist(), column.tolist(), strict=True):
            for y in (r - 1, r, r + 1):
                for x in (c - 1, c, c + 1):
                    cells[y * self.columns + x].append(waypoint)
        self.near = np.full((len(cells), max(map(len, cells))), -1, np.int32)
        for cell, members in enumerate(cells):
            self.near[cell, : len(members)] = members

    def nearest(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest waypoint on each pose's level (int, -1 for none within reach) and the distance in m to that
        lane's centre line, as the segment's straight continuation there."""
        tables = self.tables
        column, row = np.floor((pose[:, :2] - self.corner) / CELL).astype(int).T
        inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        candidates = self.near[np.where(inside, row * self.columns + column, 0)]
        offset = tables.waypoint_pose[candidates, :3] - pose[:, None, :3]
        distance = np.hypot(offset[..., 0], offset[..., 1])
        distance[(candidates < 0) | (np.abs(offset[..., 2]) >= 4.0) | ~inside[:, None]] = np.inf
        best = distance.argmin(1)
        rows = np.arange(len(pose))
        under = np.where(np.isfinite(distance[rows, best]), candidates[rows, best], -1)
        direction, away = tables.waypoint_direction[under], offset[rows, best]
        return under, np.abs(away[:, 1] * direction[:, 0] - away[:, 0] * direction[:, 1])


class Watch:
    """What one world shows, tick by tick."""

    def __init__(self, town: Town, vehicles: int, walkers: int):
        tables = town.tables
        self.tables, self.vehicles, self.walkers = tables, vehicles, walkers
        self.lanes = Lanes(tables)
        lane = tables.waypoint_lane
        place = (np.arange(len(lane)) - tables.lane_first[lane]) * tables.lane_step[lane]
        self.to_junction = tables.lane_length[lane] - place + tables.lane_to_junction[lane]
        self.raster = tables.raster.reshape(tables.raster_size[0])
        self.standing, self.free_for = np.zeros(vehicles), np.zeros(vehicles)
        self.touching: set[tuple[int, int]] = set()
        self.ids: np.ndarray | None = None
        self.longest_stand, self.metres, self.off_lane, self.centre = 0.0, 0.0, 0.0, 0.0
        self.vehicle_contacts, self.walker_contacts, self.respawns = 0, 0, 0
        self.speed_share, self.unhindered = 0.0, 0
        self.constant = True
        self.where: dict[str, list] = {}

    def look(self, tick: int, world: WorldState, row: int) -> None:
        """Take in one tick of world `row`."""
        present = world.vehicle_kind[row, 1:] > 0
        walking = world.walker_kind[row] > 0
        self.constant &= int(present.sum()) == self.vehicles and int(walking.sum()) == self.walkers
        pose, half = world.vehicle_pose[row, 1:], world.vehicle_half_size[row, 1:]
        ids = world.vehicle_id[row, 1:].copy()
        speed = np.hypot(*world.vehicle_velocity[row, 1:].T)
        changed = np.zeros(len(ids), bool) if self.ids is None else ids != self.ids
        self.ids = ids
        self.respawns += int(changed.sum())
        self.standing = np.where((speed < 0.1) & ~changed, self.standing + TICK, 0.0)
        if self.standing.max(initial=0.0) > self.longest_stand:
            self.longest_stand = float(self.standing.max())
        self.metres += float(speed.sum()) * TICK
        walkers = world.walker_pose[row, walking]
        self._contacts(tick, pose, half, speed, walkers, world.walker_half_size[row, walking])
        if tick % round(1 / TICK) == 0:
            self._lane_keeping(tick, pose, speed, walkers)

    def _contacts(self, tick, pose, half, speed, walkers, walker_half) -> None:
        count = len(pose)
        touching = {
            (i, j)
            for i, j in overlapping(np.concatenate([pose, walkers]), np.concatenate([half, walker_half]), count)
            if j < count or speed[i] > 0.1
        }
        for i, j in touching - self.touching:
            if j < count:
                self.vehicle_contacts += 1
            else:
                self.walker_contacts += 1
            self.where.setdefault("contacts", []).append((tick, i, j, *pose[i, :2].round(1).tolist()))
        self.touching = touching

    def _lane_keeping(self, tick, pose, speed, walkers) -> None:
        tables = self.tables
        waypoint, away = self.lanes.nearest(pose)
        lane = tables.waypoint_lane[waypoint]
        outside = (waypoint >= 0) & (tables.lane_junction[lane] < 0)
        if outside.any():
            beyond = np.where(outside, away - tables.waypoint_width[waypoint] / 2, -np.inf)
            if beyond.max() > self.off_lane:
                self.off_lane = float(beyond.max())
            self.centre = max(self.centre, float(np.where(outside, away, 0.0).max()))
        # A vehicle with no lane under it within the index's reach is off its lane by at least a cell.
        if (waypoint < 0).any():
            self.off_lane = max(self.off_lane, CELL)
        column, row = ((walkers[:, :2] - tables.raster_origin[0]) * PIXELS_PER_METRE).astype(int).T
        on_road = walkers[self.raster[row.clip(0, len(self.raster) - 1), column % self.raster.shape[1]] & DRIVABLE > 0]
        others = np.concatenate([pose, on_road])
        dx, dy = others[None, :, 0] - pose[:, None, 0], others[None, :, 1] - pose[:, None, 1]
        cos, sin = np.cos(pose[:, None, 3]), np.sin(pose[:, None, 3])
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        level = np.abs(others[None, :, 2] - pose[:, None, 2]) < 4.0
        hindered = ((ahead > 0.5) & (ahead < AHEAD) & (np.abs(left) < 2.0) & level).any(1)
        free = outside & ~hindered & (self.to_junction[waypoint] >= AHEAD)
        self.free_for = np.where(free, self.free_for + 1.0, 0.0)
        free = self.free_for > FREE_FOR
        self.unhindered += int(free.sum())
        self.speed_share += float((speed[free] / tables.waypoint_speed[waypoint[free]]).sum())


class Result(NamedTuple):
    """One town under one seed."""

    town: str
    seed: int
    vehicles: int
    walkers: int
    minutes: float
    longest_stand_s: float
    collisions_per_1000: float
    walker_hits: int
    respawns_per_1000: float
    speed_share: float
    off_lane_m: float
    centre_m: float
    kilometres: float
    constant: bool

    def missed(self) -> list[str]:
        """The bars that this run misses."""
        bars = {
            "standing": self.longest_stand_s <= MOST_SECONDS_STANDING,
            "collisions": self.collisions_per_1000 <= MOST_COLLISIONS,
            "respawns": self.respawns_per_1000 <= MOST_RESPAWNS,
            "speed": self.speed_share >= LEAST_SPEED_SHARE,
            "lane": self.off_lane_m <= MOST_METRES_OFF_LANE,
            "actors": self.constant,
        }
        return [name for name, held in bars.items() if not held]


def leaderboard_traffic(town: Town) -> tuple[int, int]:
    """The Leaderboard's vehicles and walkers, at the density of the town that `town` stands for.

    Raises UsageError for a town that has no room for them, or no pavements.
    """
    with user_input():
        (_, vehicles), (_, walkers) = traffic_range("busy", town)
    return vehicles, walkers


def soak(
    town: Town, minutes: float, seeds: Sequence[int], traffic: tuple[int, int], each_second: Callable[[], object]
) -> list[Watch]:
    """Drive one world for each seed, and call `each_second` after every simulated second."""
    vehicles, walkers = traffic
    world = EmbeddedWorld(town.tables, len(seeds), vehicles, walkers)
    for row, seed in enumerate(seeds):
        world.reset(row, 0, 0, episode_key(seed, 0), PARKED, vehicles, walkers)
    watches = [Watch(town, vehicles, walkers) for _ in seeds]
    controls, running = np.zeros((len(seeds), 1, 3), np.float32), np.ones(len(seeds), np.uint8)
    for tick in range(1, round(minutes * 60 / TICK) + 1):
        world.tick(controls, running, 0, len(seeds))
        for row, watch in enumerate(watches):
            watch.look(tick, world.state, row)
        if tick % round(1 / TICK) == 0:
            each_second()
    return watches


def _result(town: Town, seed: int, minutes: float, watch: Watch) -> Result:
    vehicle_minutes = max(watch.vehicles * minutes, 1e-9) / 1000
    return Result(
        town=town.name,
        seed=seed,
        vehicles=watch.vehicles,
        walkers=watch.walkers,
        minutes=minutes,
        longest_stand_s=watch.longest_stand,
        collisions_per_1000=(watch.vehicle_contacts + watch.walker_contacts) / vehicle_minutes,
        walker_hits=watch.walker_contacts,
        respawns_per_1000=watch.respawns / vehicle_minutes,
        speed_share=watch.speed_share / max(watch.unhindered, 1),
        off_lane_m=watch.off_lane,
        centre_m=watch.centre,
        kilometres=watch.metres / 1000,
        constant=watch.constant,
    )


def _table(results: list[Result]) -> Table:
    header = ("town, seed", "cars + walkers", "km", "longest stand s", "collisions", "(walkers)", "respawns", "speed")
    rows = [
        [
            f"{result.town}, {result.seed}",
            f"{result.vehicles} + {result.walkers}",
            f"{result.kilometres:.0f}",
            f"{result.longest_stand_s:.1f}",
            f"{result.collisions_per_1000:.2f}",
            f"{result.walker_hits}",
            f"{result.respawns_per_1000:.2f}",
            f"{result.speed_share:.0%}",
            f"{result.off_lane_m:.2f}",
            f"{result.centre_m:.2f}",
            ", ".join(result.missed()) or "-",
        ]
        for result in results
    ]
    return text_table((*header, "off lane m", "centre m", "missed"), rows, 1)


@dataclass
class Args:
    """Watch the embedded world's traffic for a long time."""

    town: tuple[str, ...] = ()
    """towns; by default ours, and Town01 and Town02 if found"""
    minutes: float = 20.0
    """simulated minutes"""
    seeds: tuple[int, ...] = (0, 1)
    """one world each"""
    contacts: int = 0
    """print the first so many collisions of each run"""


@verb("soak")
def main(args: Args) -> tuple[dict[str, Any], int]:
    """Watch the towns, print a table, and return its rows."""
    names = list(args.town)
    if not names:
        names = list(packaged_towns())
        for name in ("Town01", "Town02"):
            try:
                load_town(name)
                names.append(name)
            except TownError:
                progress_console.print(f"{name} is left out: MENTORGYM_MAPS names no folder that has it")
    if args.minutes <= 0 or min(args.seeds) < 0:
        raise UsageError("--minutes must be positive and --seeds whole numbers from 0 on")
    with user_input():
        towns = [load_town(name) for name in names]
    results = []
    with progress_bars() as progress:
        for town in towns:
            job = progress.add_task(town.name, total=int(args.minutes * 60))
            watches = soak(
                town,
                args.minutes,
                args.seeds,
                leaderboard_traffic(town),
                functools.partial(progress.advance, job),
            )
            for seed, watch in zip(args.seeds, watches, strict=True):
                results.append(_result(town, seed, args.minutes, watch))
                for contact in watch.where.get("contacts", [])[: args.contacts]:
                    progress.console.print(f"{town.name}, {seed}: tick, vehicle, other, x, y = {contact}")
    show(_table(results), "collisions and respawns per 1,000 vehicle minutes; speed of unhindered vehicles / limit")
    ended = [result._asdict() | {"missed": result.missed()} for result in results]
    return {"results": ended}, int(any(result["missed"] for result in ended))
