"""Town: everything that does not move, built from OpenDRIVE text and kept on disk.

`load_town` turns a map into `TownTables`: lanes as waypoints 1 m apart, their links, junction conflicts and compound
paths, stop lines and light cycles, spawn points, walkways, a waypoint grid and the raster.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mentorgym.cache import cache_folder
from mentorgym.digests import files_digest
from mentorgym.envs.driving.map.opendrive import Id, OpenDrive, OpenDriveError, Road, drivable_links, read_opendrive
from mentorgym.envs.driving.map.raster import Canvas
from mentorgym.envs.driving.map.tables import CELL, FOLLOW, LEFT, RIGHT, STOPS, STRAIGHT, YIELDS, TownTables
from mentorgym.names import nearest_name

STORAGE_LENGTH = 14.0
"""Metres that a lane outside junctions needs for a car to wait on it without blocking what lies behind."""

CONFLICT_DISTANCE = 2.4
"""Metres between two centre lines under which cars on them may touch (two half widths and a margin)."""

TURN_ANGLE = np.radians(35.0)
"""Change of heading over a junction from which a traverse counts as a turn (as in CARLA's route planner)."""

LATERAL_ACCELERATION = 2.0
"""m/s2 that drivers accept in curves."""

CURVE_BRAKING = 1.5
"""m/s2 with which drivers slow down for a curve."""

DEFAULT_SPEED_LIMIT = 30 / 3.6
"""m/s where the map names none."""

GREEN, YELLOW, ALL_RED = 10.0, 3.0, 2.0
"""Seconds of CARLA's default light phases."""

LONGEST_RED, MOST_PHASES = 57.0, 8
"""Seconds that a light is red at most, well below the 90 s after which an ego counts as blocked; with more groups of
lights than phases some groups share one."""

TRAFFIC_LIGHT, YIELD_SIGN, STOP_SIGN = "1000001", "205", "206"

SHORTEST_SECTION = 1e-6
"""Metres of lane section under which its lanes are no place to be: they are passed over."""

NARROW = 2.4
"""Metres of lane width under which no car drives on."""

WIDEST_JAYWALK = 16.0
"""Metres between two pavements across which walkers cross without a crosswalk."""

CROSSWALK_REACH = 4.0
"""Metres between a crosswalk's end and the pavement that it leads to."""

HOLE = 4096
"""Bytes of a file, as many as of a page of memory, that are left out where all are zero."""

TURNS = 8
"""Lanes that a compound path has at most, unless there is no such path from a lane."""


@dataclass(frozen=True)
class Town:
    """A map ready for use: `tables` in a local frame, whose point (0, 0) is the map's `origin` (float64 [2], m)."""

    name: str
    origin: np.ndarray
    tables: TownTables

    @property
    def lane_kilometres(self) -> float:
        """Length of all driving lanes outside junctions, km."""
        return float(self.tables.lane_length[self.tables.lane_junction < 0].sum()) / 1000


class TownError(ValueError):
    """A map that cannot be driven on, or cannot be found."""


def packaged_towns() -> dict[str, Path]:
    """The towns that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "towns").glob("*.xodr"))}


def find_map(town: str | os.PathLike) -> Path:
    """The OpenDRIVE file of a town: one of ours, a path to an `.xodr`, a name under `MENTORGYM_MAPS` or `CARLA_ROOT`.

    Raises TownError when there is none, naming what was searched.
    """
    path = Path(town)
    if path.suffix == ".xodr":
        if not os.path.isfile(path):
            raise TownError(f"there is no map at {path}")
        return path
    ours = packaged_towns()
    if str(town) in ours:
        return ours[str(town)]
    searched = []
    if folder := os.environ.get("MENTORGYM_MAPS"):
        searched.append(Path(folder) / f"{town}.xodr")
    if folder := os.environ.get("CARLA_ROOT"):
        searched.append(Path(folder) / "CarlaUE4/Content/Carla/Maps/OpenDrive" / f"{town}.xodr")
    for candidate in searched:
        if os.path.isfile(candidate):  # False for a name that is too long for one, too.
            return candidate
    where = ", ".join(map(str, searched)) or "no folder: neither MENTORGYM_MAPS nor CARLA_ROOT is set"
    raise TownError(
        f"unknown town {str(town)!r}: {nearest_name(town, ours)}; no map of that name was found (searched {where}). "
        "Pass the path of an .xodr file, or set MENTORGYM_MAPS to the folder of your maps."
    )


def load_town(town: str | os.PathLike) -> Town:
    """Read a town, from the disk cache where its map has been read before.

    Raises TownError or `opendrive.OpenDriveError` when the map is missing, damaged or has nothing to drive on.
    """
    path = find_map(town)
    content = path.read_bytes()
    digest = files_digest([path, *sorted(Path(__file__).parent.glob("*.py"))])
    folder = cache_folder() / "towns" / f"{path.stem}-{digest}"
    try:
        return _read_cache(path.stem, folder)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        pass
    print(f"mentorgym: reading the map of {path.stem}, once ...", file=sys.stderr, flush=True)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OpenDriveError(f"{path} is not UTF-8 text, so it is no OpenDRIVE map") from error
    built = build_town(read_opendrive(text, path.stem))
    try:
        _write_cache(built, folder)
    except OSError as error:
        print(
            f"mentorgym: the map's cache could not be written ({error}); it will be read anew next time",
            file=sys.stderr,
        )
    return built


def _read_cache(name: str, folder: Path) -> Town:
    # numpy leaves a file that is no archive open, unless it was opened by its caller.
    with (folder / "tables.npz").open("rb") as file, np.load(file) as arrays:
        fields = {field: arrays[field] for field in TownTables._fields if field != "raster"}
        origin = arrays["origin"]
    # Copy-on-write, so that all processes share the pages and kernels still see a writable array (one signature).
    return Town(name, origin, TownTables(**fields, raster=np.load(folder / "raster.npy", mmap_mode="c")))


def _write_cache(town: Town, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    fields = town.tables._asdict()
    _save_sparse(scratch / "raster.npy", fields.pop("raster"))
    np.savez(scratch / "tables.npz", origin=town.origin, **fields)
    try:
        scratch.rename(folder)
    except OSError:  # another process was faster, or left a damaged copy behind
        shutil.rmtree(folder, ignore_errors=True)
        try:
            scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)


def _save_sparse(path: Path, values: np.ndarray) -> None:
    """Write a flat uint8 array as `numpy.save` does, but leave holes in the file where there are zeros."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        start = file.tell()
        ends = range(HOLE - start % HOLE, len(values) + HOLE, HOLE)  # where pages of the file end
        for end in ends:
            first = max(end - HOLE, 0)
            part = values[first:end]
            if part.any():
                file.seek(start + first)
                file.write(part.data)
        file.truncate(start + len(values))


class _Lane:
    """One driving lane of one lane section, sampled in its direction of travel."""

    def __init__(self, road: Road, section: int, number: int):
        self.key = (road.id, section, number)
        self.road, self.number, self.along = road, number, road.is_along(number)
        part = road.sections[section]
        s = np.linspace(part.s, part.end, max(int((part.end - part.s) / 0.25) + 1, 2))
        if not self.along:
            s = s[::-1]
        inner, outer = road.lane_edges(section, number, s)
        x, y, z = road.position(s, (inner + outer) / 2)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        self.length = max(along[-1], 1e-3)
        self.steps = max(round(self.length), 1)
        self.s = np.interp(np.linspace(0, self.length, self.steps + 1), along, s)
        inner, outer = road.lane_edges(section, number, self.s)
        x, y, z = road.position(self.s, (inner + outer) / 2)
        # The slope of the centre line, from a short central difference that stays inside the section.
        reach = min(0.05, (part.end - part.s) / 4)
        ends = [np.clip(self.s + side * reach, part.s, part.end) for side in (-1, 1)]
        back, front = (road.position(e, sum(road.lane_edges(section, number, e)) / 2) for e in ends)
        yaw = np.arctan2(front[1] - back[1], front[0] - back[0]) + (0.0 if self.along else np.pi)
        self.points = np.stack([x, y, z], 1)
        self.yaw = np.unwrap(yaw)
        self.width = np.abs(outer - inner)
        self.speed = self._speed_limit(part) * np.ones(self.steps + 1)
        bend = np.abs(np.diff(self.yaw)) / (self.length / self.steps)
        bend = np.maximum(np.append(bend, bend[-1]), np.insert(bend, 0, bend[0]))
        self.speed = np.minimum(self.speed, np.sqrt(LATERAL_ACCELERATION / np.maximum(bend, 1e-6)))
        for i in range(self.steps - 1, -1, -1):
            reachable = np.sqrt(self.speed[i + 1] ** 2 + 2 * CURVE_BRAKING * self.length / self.steps)
            self.speed[i] = min(self.speed[i], reachable)

    def _speed_limit(self, part) -> np.ndarray:
        own = part.lanes[self.number].speed
        if own:
            return _step_function(own, self.s - part.s)
        return _step_function(self.road.speed, self.s) if self.road.speed else np.full(len(self.s), DEFAULT_SPEED_LIMIT)

    def borders(self, section: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """The borders on the left and right of travel, float64 [n, 2], n points at most `spacing` apart."""
        part = self.road.sections[section]
        s = np.linspace(part.s, part.end, max(int((part.end - part.s) / spacing) + 2, 2))
        inner, outer = self.road.lane_edges(section, self.number, s)
        return np.stack(self.road.position(s, inner)[:2], 1), np.stack(self.road.position(s, outer)[:2], 1)


def _step_function(entries: list[tuple[float, float]], s: np.ndarray) -> np.ndarray:
    starts = np.array([start for start, _ in entries])
    values = np.array([value for _, value in entries])
    return values[np.clip(np.searchsorted(starts, s, side="right") - 1, 0, None)]


def _first(lists: list[list]) -> np.ndarray:
    """Where each list begins when they lie one behind another, and where the last one ends: int32 [n + 1]."""
    return np.concatenate([[0], np.cumsum([len(entries) for entries in lists])]).astype(np.int32)


def _csr(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return _first(lists), _filled([value for entries in lists for value in entries], np.int32)


def _filled(values: Sequence | np.ndarray, dtype: type, shape: tuple[int, ...] = ()) -> np.ndarray:
    """An array of `values`, with one unused row where there are none, so that kernels never meet an empty array."""
    return np.array(values, dtype).reshape(-1, *shape) if len(values) else np.zeros((1, *shape), dtype)


def build_town(network: OpenDrive) -> Town:
    """Build a Town from a map that has been read. Raises TownError without a drivable lane."""
    lanes = [
        _Lane(road, section, number)
        for road in sorted(network.roads.values(), key=lambda road: road.id)
        for section, part in enumerate(road.sections)
        for number in sorted(part.lanes)
        if part.lanes[number].type == "driving" and part.end - part.s > SHORTEST_SECTION
    ]
    if not lanes:
        raise TownError(f"the map {network.name!r} has no lane of type 'driving', so nothing can drive on it")
    index = {lane.key: i for i, lane in enumerate(lanes)}
    links = drivable_links(network)
    successors = [sorted({index[key] for key in _following(lane.key, links, index)}) for lane in lanes]
    predecessors: list[list[int]] = [[] for _ in lanes]
    for i, following in enumerate(successors):
        for j in following:
            predecessors[j].append(i)

    everything = np.concatenate([lane.points[:, :2] for lane in lanes])
    origin = np.round((everything.min(0) + everything.max(0)) / 2)
    shift = np.array([*origin, 0.0])
    first = np.concatenate([[0], np.cumsum([lane.steps + 1 for lane in lanes])]).astype(np.int32)
    yaw = np.concatenate([lane.yaw for lane in lanes])
    pose = np.column_stack(
        [np.concatenate([lane.points for lane in lanes]) - shift, np.arctan2(np.sin(yaw), np.cos(yaw))]
    )
    junction = np.array([lane.road.junction for lane in lanes], np.int32)
    storage = np.array([lane.road.junction < 0 and lane.length >= STORAGE_LENGTH for lane in lanes])

    lights = _lights(network, lanes, index, successors, predecessors)
    conflicts, siblings = _conflicts(lanes, junction, predecessors)
    paths = [_compound_paths(i, storage, successors) if storage[i] else [] for i in range(len(lanes))]
    every_path = [path for own in paths for path in own]
    path_lane_first, path_lane = _csr(every_path)
    entered = [next((lane for lane in path if junction[lane] >= 0), None) for path in every_path]
    sibling_first, sibling = _csr([[other for other, _ in entries] for entries in siblings])
    conflict_first, conflict = _csr(conflicts)
    successor_first, successor = _csr(successors)
    predecessor_first, predecessor = _csr(predecessors)
    spawns = _spawn_points(lanes, storage)
    raster, raster_origin = _paint(lanes, origin)
    grid = _grid(pose, first)
    beside = [_beside(lanes, index, first, side) for side in (1, -1)]

    tables = TownTables(
        waypoint_pose=pose.astype(np.float32),
        waypoint_direction=np.column_stack([np.cos(yaw), np.sin(yaw)]).astype(np.float32),
        waypoint_width=np.concatenate([lane.width for lane in lanes]).astype(np.float32),
        waypoint_speed=np.concatenate([lane.speed for lane in lanes]).astype(np.float32),
        waypoint_lane=np.repeat(np.arange(len(lanes), dtype=np.int32), np.diff(first)),
        waypoint_left=beside[0],
        waypoint_right=beside[1],
        lane_first=first,
        lane_length=np.array([lane.length for lane in lanes], np.float32),
        lane_step=np.array([lane.length / lane.steps for lane in lanes], np.float32),
        lane_junction=junction,
        lane_turn=np.array([_turn(lane) for lane in lanes], np.uint8),
        lane_road=np.array([lane.road.id for lane in lanes], np.int32),
        lane_section=np.array([lane.key[1] for lane in lanes], np.int32),
        lane_number=np.array([lane.number for lane in lanes], np.int32),
        lane_town=np.zeros(len(lanes), np.int16),
        lane_change=_first_changes(beside, first),
        lane_storage=storage.astype(np.uint8),
        lane_stop_line=lights["lane_stop_line"],
        lane_light=lights["lane_light"],
        lane_to_junction=_to_junction(lanes, junction, successors),
        lane_ends=_ends(lanes, junction, successors),
        town_lane_first=np.array([0, len(lanes)], np.int32),
        successor_first=successor_first,
        successor=successor,
        predecessor_first=predecessor_first,
        predecessor=predecessor,
        conflict_first=conflict_first,
        conflict=conflict,
        sibling_first=sibling_first,
        sibling=sibling,
        sibling_overlap=_filled([overlap for entries in siblings for _, overlap in entries], np.float32),
        path_first=_first(paths),
        path_lane_first=path_lane_first,
        path_lane=path_lane,
        path_light=_filled([-1 if lane is None else lights["lane_light"][lane] for lane in entered], np.int32),
        path_crosses=_filled([lane is not None for lane in entered], np.uint8),
        path_rank=_ranks(network, lanes, paths, junction, lights["lane_light"]),
        **_stop_lines(lights["stop_lines"], lanes, shift),
        light_first=np.array([0, len(lights["phases"])], np.int32),
        light_phase=_filled(lights["phases"], np.float32, (4,)),
        light_junction=_filled(lights["junctions"], np.int32),
        **_stop_signs(network, lanes, shift),
        spawn_first=np.array([0, len(spawns)], np.int32),
        spawn_lane=_filled([lane for lane, _ in spawns], np.int32),
        spawn_s=_filled([s for _, s in spawns], np.float32),
        **_walkways(network, shift),
        **grid,
        raster=np.ascontiguousarray(raster.ravel()),
        raster_first=np.zeros(1, np.int64),
        raster_size=np.array([raster.shape], np.int32),
        raster_origin=raster_origin[None],
    )
    return Town(network.name, origin, tables)


def _following(lane: tuple, links: dict[tuple, list[tuple]], index: dict) -> list[tuple]:
    """The lanes of `index` that follow `lane`, also behind sections that are passed over."""
    found: list[tuple] = []
    seen = {lane}
    open_lanes = list(links.get(lane, []))
    while open_lanes:
        key = open_lanes.pop()
        if key not in seen:
            seen.add(key)
            if key in index:
                found.append(key)
            else:
                open_lanes += links.get(key, [])
    return found


def _beside(lanes: list[_Lane], index: dict, first: np.ndarray, left: int) -> np.ndarray:
    """The waypoint beside each one on the lane to the left (1) or right (-1) of travel that the paint allows to enter,
    else -1: int32 [P]."""
    found = np.full(first[-1], -1, np.int32)
    for i, lane in enumerate(lanes):
        road, section, number = lane.key
        along = left if lane.along else -left  # towards higher or lower lane ids
        other = index.get((road, section, number + along))
        if other is None or number * (number + along) < 0 or lane.road.junction >= 0:
            continue
        part = lane.road.sections[section]
        # The paint between two lanes is that on the outer border of the one nearer to lane 0.
        nearer = min(number, number + along, key=abs)
        marks = part.lanes[nearer].marks
        allowed = {"both", "increase" if along > 0 else "decrease"}
        starts = np.array([mark.s_offset for mark in marks])
        mark = np.searchsorted(starts, lane.s - part.s, side="right") - 1
        # Where nothing is painted one may change, as in `carla.Map`.
        free = np.array([k < 0 or marks[k].lane_change in allowed for k in mark])
        theirs = lanes[other]
        order = 1 if theirs.s[-1] > theirs.s[0] else -1
        beside = np.interp(lane.s, theirs.s[::order], np.arange(theirs.steps + 1)[::order])
        # A lane's end point stands for its successor's first, so nobody changes there.
        free &= np.arange(lane.steps + 1) < lane.steps
        beside = np.minimum(np.round(beside).astype(np.int32), theirs.steps - 1)
        found[first[i] : first[i + 1]] = np.where(free, first[other] + beside, -1)
    return found


def _first_changes(beside: list[np.ndarray], first: np.ndarray) -> np.ndarray:
    """For each lane the first of its waypoints that has one beside it on either side, -1 for none: int32 [N, 2]."""
    changes = np.full((len(first) - 1, len(beside)), -1, np.int32)
    for side, waypoints in enumerate(beside):
        having = np.flatnonzero(waypoints >= 0)
        lane = np.searchsorted(first, having, side="right") - 1
        changes[lane[::-1], side] = having[::-1]
    return changes


def _turn(lane: _Lane) -> int:
    if lane.road.junction < 0:
        return FOLLOW
    change = lane.yaw[-1] - lane.yaw[0]
    return LEFT if change > TURN_ANGLE else RIGHT if change < -TURN_ANGLE else STRAIGHT


def _entries(lane: int, lanes: list[_Lane], predecessors: list[list[int]]) -> list[int]:
    """The lanes outside junctions from which a junction lane is entered."""
    found: list[int] = []
    seen: set[int] = set()
    open_lanes = [lane]
    while open_lanes:
        for previous in predecessors[open_lanes.pop()]:
            if previous not in seen:
                seen.add(previous)
                (open_lanes if lanes[previous].road.junction >= 0 else found).append(previous)
    return sorted(found)


def _lights(network, lanes, index, successors, predecessors) -> dict:
    """Lights in the order of their ids, with the stop lines they control and their share of the junction's cycle.

    A light hangs on a connecting road (a reference, as CARLA's own maps have it) or on the incoming road. Either way
    the stop line is the end of the incoming lane, because signals stand anywhere along a connecting road.
    """
    signals: dict[Id, list[int]] = {}
    for road in network.roads.values():
        for signal in road.signals:
            if signal.type == TRAFFIC_LIGHT:
                signals[signal.id] = []
    for road in network.roads.values():
        for hung in [*road.signals, *road.references]:
            if hung.id not in signals:
                continue
            for low, high in hung.validities:
                for number in range(min(low, high), max(low, high) + 1):
                    section = max((k for k, part in enumerate(road.sections) if part.s <= hung.s + 1e-6), default=0)
                    if (lane := index.get((road.id, section, number))) is not None:
                        signals[hung.id].append(lane)
    ids = sorted((i for i, controlled in signals.items() if controlled), key=lambda i: (len(str(i)), str(i)))
    lane_light = np.full(len(lanes), -1, np.int32)
    lane_stop_line = np.full(len(lanes), -1, np.int32)
    stop_lines: list[tuple[int, int]] = []
    junctions: list[int] = []
    for light, signal in enumerate(ids):
        entries: set[int] = set()
        for lane in signals[signal]:
            inside = lanes[lane].road.junction >= 0
            entries.update(_entries(lane, lanes, predecessors) if inside else [lane])
            for obeying in [lane] if inside else successors[lane]:
                lane_light[obeying] = light
        behind = next(lane for entry in sorted(entries) or signals[signal] for lane in successors[entry] or [entry])
        junctions.append(lanes[behind].road.junction)
        for entry in sorted(entries):
            if lane_stop_line[entry] < 0:
                lane_stop_line[entry] = len(stop_lines)
            stop_lines.append((light, entry))

    groups = {
        signal: (controller.sequence if controller.sequence is not None else 0, str(key))
        for key, controller in network.controllers.items()
        for signal in controller.signals
    }
    for junction in network.junctions.values():
        for controller, sequence in junction.controllers:
            for signal in network.controllers[controller].signals if controller in network.controllers else []:
                groups[signal] = (sequence if sequence is not None else groups[signal][0], str(controller))
    phases: list[tuple[float, ...]] = [()] * len(ids)
    for junction in set(junctions):
        members = [light for light in range(len(ids)) if junctions[light] == junction]
        order = sorted({groups.get(ids[light], (0, f"~{ids[light]}")) for light in members})
        count = min(len(order), MOST_PHASES)
        slot = GREEN + YELLOW + ALL_RED
        if count > 1:
            slot = min(slot, (LONGEST_RED - ALL_RED) / (count - 1))
        for light in members:
            phase = order.index(groups.get(ids[light], (0, f"~{ids[light]}"))) % count
            phases[light] = (slot * count, phase * slot, slot - YELLOW - ALL_RED, YELLOW)
    return {
        "lane_light": lane_light,
        "lane_stop_line": lane_stop_line,
        "stop_lines": stop_lines,
        "phases": phases,
        "junctions": junctions,
    }


def _stop_lines(stop_lines, lanes, shift) -> dict[str, np.ndarray]:
    ends = [lanes[entry] for _, entry in stop_lines]
    return {
        "stop_line_first": np.array([0, len(stop_lines)], np.int32),
        "stop_line_lane": _filled([entry for _, entry in stop_lines], np.int32),
        "stop_line_light": _filled([light for light, _ in stop_lines], np.int32),
        "stop_line_pose": _filled([[*(lane.points[-1] - shift), lane.yaw[-1]] for lane in ends], np.float32, (4,)),
        "stop_line_half_width": _filled([0.4 * lane.width[-1] for lane in ends], np.float32),
    }


def _to_junction(lanes: list[_Lane], junction: np.ndarray, successors: list[list[int]]) -> np.ndarray:
    """Metres from each lane's end to the next junction, float32 [N], inf where none follows; 0 inside junctions."""
    beyond = np.full(len(lanes), np.inf)
    beyond[junction >= 0] = 0.0
    for i, following in enumerate(successors):
        if any(junction[j] >= 0 for j in following):
            beyond[i] = 0.0
    for _ in lanes:
        shorter = [min([beyond[i], *(lanes[j].length + beyond[j] for j in successors[i])]) for i in range(len(lanes))]
        if np.array_equal(shorter, beyond):
            break
        beyond = np.array(shorter)
    return beyond.astype(np.float32)


def _ends(lanes: list[_Lane], junction: np.ndarray, successors: list[list[int]]) -> np.ndarray:
    """Metres from each lane's start after which no lane goes on, float32 [N], inf where one does.

    A lane that ends by growing narrow ends where it gets too narrow for a car.
    """
    ends = np.full(len(lanes), np.inf)
    for i, lane in enumerate(lanes):
        if not successors[i] and junction[i] < 0:
            wide = np.flatnonzero(lane.width >= NARROW)
            ends[i] = (wide[-1] if len(wide) else 0) * lane.length / lane.steps
    for _ in lanes:
        before = ends.copy()
        for i, lane in enumerate(lanes):
            if successors[i] and all(junction[j] < 0 for j in successors[i]):
                ends[i] = min(lane.length + max(ends[j] for j in successors[i]), np.inf)
        if np.array_equal(before, ends):
            break
    return ends.astype(np.float32)


def _ranks(network, lanes, paths: list[list[list[int]]], junction: np.ndarray, lane_light: np.ndarray) -> np.ndarray:
    """The rank of every compound path at its first junction: YIELDS or STOPS by the sign at its mouth, on the lanes
    before the junction or on the first one inside, unless a light rules there; one more for a turn across the oncoming
    lanes, but at stops.
    """
    kinds = {YIELD_SIGN: YIELDS, STOP_SIGN: STOPS}
    by_id = {
        signal.id: kinds[signal.type]
        for road in network.roads.values()
        for signal in road.signals
        if signal.type in kinds
    }
    sign = np.zeros(len(lanes), int)
    for i, lane in enumerate(lanes):
        part = lane.road.sections[lane.key[1]]
        for hung in [*lane.road.signals, *lane.road.references]:
            if hung.id in by_id and part.s - 1e-6 <= hung.s <= part.end + 1e-6 and _holds_for(hung, lane):
                sign[i] = max(sign[i], by_id[hung.id])
    ranks = []
    for start, own in enumerate(paths):
        for path in own:
            inside = next((k for k, lane in enumerate(path) if junction[lane] >= 0), None)
            rank = 0
            if inside is not None:
                if lane_light[path[inside]] < 0:
                    rank = max(sign[lane] for lane in [start, *path[: inside + 1]])
                across = RIGHT if lanes[start].road.keeps_left else LEFT
                rank += rank < STOPS and _turn(lanes[path[inside]]) == across
            ranks.append(rank)
    return _filled(ranks, np.uint8)


def _holds_for(hung, lane: _Lane) -> bool:
    """Whether a signal on the lane's road, or a reference to one, holds for the lane."""
    if hung.validities:
        return any(min(pair) <= lane.number <= max(pair) for pair in hung.validities)
    return (lane.number < 0) == (hung.orientation == "+")


def _stop_signs(network, lanes, shift) -> dict[str, np.ndarray]:
    """Stop signs on the lanes they hold for; their trigger box is as wide as the lane and squared up, as in Roach."""
    poses, sizes = [], []
    for lane in lanes:
        part = lane.road.sections[lane.key[1]]
        for signal in lane.road.signals:
            if signal.type != STOP_SIGN or not part.s <= signal.s <= part.end:
                continue
            if _holds_for(signal, lane):
                at = int(np.argmin(np.abs(lane.s - signal.s)))
                poses.append([*(lane.points[at] - shift), lane.yaw[at]])
                sizes.append(lane.width[at] / 2)
    return {
        "stop_sign_first": np.array([0, len(poses)], np.int32),
        "stop_sign_pose": _filled(poses, np.float32, (4,)),
        "stop_sign_half_size": _filled(sizes, np.float32),
    }


def _conflicts(lanes, junction, predecessors) -> tuple[list[list[int]], list[list[tuple[int, float]]]]:
    """Per lane: the junction lanes that cross or merge into it, and the lanes that leave the same lane as it does."""
    conflicts: list[list[int]] = [[] for _ in lanes]
    siblings: list[list[tuple[int, float]]] = [[] for _ in lanes]
    for name in sorted(set(junction[junction >= 0])):
        members = np.flatnonzero(junction == name)
        dense = [_densify(lanes[i].points) for i in members]
        for a, i in enumerate(members):
            for b, j in enumerate(members):
                if i == j:
                    continue
                gap = np.linalg.norm(dense[a][:, None, :2] - dense[b][None, :, :2], axis=2)
                gap[np.abs(dense[a][:, None, 2] - dense[b][None, :, 2]) > 4.0] = np.inf
                near = gap.min(1) < CONFLICT_DISTANCE
                if set(predecessors[i]) & set(predecessors[j]):
                    clear = np.flatnonzero(~near)
                    share = clear[0] / len(near) if len(clear) else 1.0
                    siblings[i].append((int(j), float(share * lanes[i].length)))
                elif near.any():
                    conflicts[i].append(int(j))
    return conflicts, siblings


def _densify(points: np.ndarray, spacing: float = 0.25) -> np.ndarray:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1))])
    s = np.linspace(0, along[-1], int(along[-1] / spacing) + 2)
    return np.column_stack([np.interp(s, along, points[:, k]) for k in range(3)])


def _compound_paths(start: int, storage: np.ndarray, successors: list[list[int]]) -> list[list[int]]:
    """Every way from a storage lane to the next storage lanes, as the lanes after `start`."""
    complete, open_paths = [], [[lane] for lane in successors[start]]
    passed: set[int] = set()
    while open_paths:
        path = open_paths.pop(0)
        if storage[path[-1]]:
            complete.append(path)
        elif len(path) < TURNS:
            open_paths += [[*path, lane] for lane in successors[path[-1]] if lane not in path]
        elif not complete and path[-1] not in passed:
            passed.add(path[-1])  # From here on one path to each lane is enough.
            open_paths += [[*path, lane] for lane in successors[path[-1]] if lane not in path]
    return complete


def _spawn_points(lanes: list[_Lane], storage: np.ndarray) -> list[tuple[int, float]]:
    """Points 12 m apart on the lanes where cars may wait, at least 6 m from the lane's ends."""
    return [
        (i, float(s))
        for i, lane in enumerate(lanes)
        if storage[i]
        for s in np.arange(6.0, max(lane.length - 6.0, 6.5), 12.0)
    ]


def _walkways(network: OpenDrive, shift: np.ndarray, spacing: float = 2.0) -> dict[str, np.ndarray]:
    """Pavements as chains of points, joined where ends meet, and the point across the road where walkers cross: by a
    crosswalk, or where both pavements of a road are near enough and its ends, where junctions are, far."""
    chains = []
    for road in sorted(network.roads.values(), key=lambda road: road.id):
        for section, part in enumerate(road.sections):
            for number in sorted(part.lanes):
                if part.lanes[number].type == "sidewalk" and part.end - part.s > spacing:
                    s = np.linspace(part.s, part.end, int((part.end - part.s) / spacing) + 2)
                    inner, outer = road.lane_edges(section, number, s)
                    points = np.stack(road.position(s, (inner + outer) / 2), 1) - shift
                    chains.append((road, section, number, points))
    count = sum(len(points) for *_, points in chains)
    previous = np.arange(-1, count - 1, dtype=np.int32)
    following = np.arange(1, count + 1, dtype=np.int32)
    opposite = np.full(count, -1, np.int32)
    starts = np.concatenate([[0], np.cumsum([len(points) for *_, points in chains])]).astype(int)
    every = np.concatenate([points for *_, points in chains]) if chains else np.zeros((0, 3))
    ends = []
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        previous[start], following[stop - 1] = -1, -1
        ends += [(start, previous), (stop - 1, following)]
    pairs = sorted(
        (float(np.linalg.norm(every[a] - every[b])), i, j)
        for i, (a, _) in enumerate(ends)
        for j, (b, _) in enumerate(ends[:i])
        if i // 2 != j // 2
    )
    for distance, i, j in pairs:
        (a, a_links), (b, b_links) = ends[i], ends[j]
        if distance < spacing and a_links[a] < 0 and b_links[b] < 0:
            a_links[a], b_links[b] = b, a
    for i, (road, section, number, points) in enumerate(chains):
        for j, (other_road, other_section, other_number, across) in enumerate(chains):
            if road.junction < 0 and (road, section) == (other_road, other_section) and number * other_number < 0:
                gap = np.linalg.norm(points[:, None] - across[None], axis=2)
                nearest = gap.argmin(1)
                # Away from the road's ends, where junctions are.
                inner = np.arange(len(points))
                allowed = (gap.min(1) < WIDEST_JAYWALK) & (np.minimum(inner, len(points) - 1 - inner) * spacing > 8.0)
                opposite[starts[i] : starts[i + 1]] = np.where(allowed, starts[j] + nearest, -1)
    crosswalk = np.zeros(count, np.uint8)
    for road in sorted(network.roads.values(), key=lambda road: road.id):
        for painted in road.crosswalks:
            outline = painted.outline - shift[:2]
            middle = outline.mean(0)
            # Walkers follow the longer axis: a road is wider than its crosswalks are.
            along = np.linalg.svd(outline - middle)[2][0]
            reach = (outline - middle) @ along
            pair: list[int] = []
            for end in (middle + reach.min() * along, middle + reach.max() * along):
                distance = np.linalg.norm(every[:, :2] - end, axis=1)
                distance[(crosswalk > 0) | np.isin(np.arange(count), pair)] = np.inf
                if count and distance.min() < CROSSWALK_REACH:
                    pair.append(int(distance.argmin()))
            if len(pair) == 2 and abs(every[pair[0], 2] - every[pair[1], 2]) < 4.0:
                opposite[pair] = pair[::-1]
                crosswalk[pair] = 1
    return {
        "walkway_first": np.array([0, count], np.int32),
        "walkway_point": _filled(every, np.float32, (3,)),
        "walkway_next": _filled(following, np.int32),
        "walkway_previous": _filled(previous, np.int32),
        "walkway_opposite": _filled(opposite, np.int32),
        "walkway_crosswalk": _filled(crosswalk, np.uint8),
    }


def _grid(pose: np.ndarray, first: np.ndarray) -> dict[str, np.ndarray]:
    keep = np.setdiff1d(np.arange(len(pose)), first[1:] - 1)
    corner = np.floor(pose[:, :2].min(0)) - 1
    cells = ((pose[keep, :2] - corner) / CELL).astype(int)
    columns, rows = cells.max(0) + 1
    flat = cells[:, 1] * columns + cells[:, 0]
    order = np.argsort(flat, kind="stable")
    cell_first = np.zeros(rows * columns + 1, np.int32)
    np.add.at(cell_first, flat + 1, 1)
    np.cumsum(cell_first, out=cell_first)
    return {
        "grid_first": np.zeros(1, np.int64),
        "grid_size": np.array([[rows, columns]], np.int32),
        "grid_origin": corner[None].astype(np.float32),
        "cell_first": cell_first,
        "cell_waypoint": keep[order].astype(np.int32),
    }


def _paint(lanes: list[_Lane], origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    canvas = Canvas(np.concatenate([lane.points[:, :2] for lane in lanes]) - origin)
    for lane in lanes:
        canvas.lane(*(border - origin for border in lane.borders(lane.key[1], 0.5)))
    for lane in lanes:
        part = lane.road.sections[lane.key[1]]
        sides = sorted((n for n in part.lanes if n * lane.number > 0), key=abs)
        within = sides[: sides.index(lane.number)]
        marks_of_inner = part.lanes[within[-1]].marks if within else part.center_marks
        for side, marks in ((0, marks_of_inner), (1, part.lanes[lane.number].marks)):
            for k, mark in enumerate(marks):
                start = part.s + mark.s_offset
                stop = part.s + marks[k + 1].s_offset if k + 1 < len(marks) else part.end
                if mark.type == "none" or stop - start < 0.05:
                    continue
                s = np.linspace(start, stop, int((stop - start) / 0.1) + 2)
                t = lane.road.lane_edges(lane.key[1], lane.number, s)[side]
                white_broken = mark.type == "broken" and mark.color in ("standard", "white")
                for shift in (0.0, 0.5) if " " in mark.type else (0.0,):
                    line = np.stack(lane.road.position(s, t - np.sign(t + 1e-9) * shift)[:2], 1)
                    canvas.marking(line - origin, white_broken)
    return canvas.finish(), canvas.origin
