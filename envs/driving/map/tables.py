"""The static world as flat arrays: what every kernel reads.

Several towns lie one behind another in the same arrays, so that a batch may mix them: lanes, waypoints, stop lines and
so on have one numbering throughout, and `*_first` arrays [T + 1] say where each town's share begins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.record import record

PIXELS_PER_METRE = 5.0
"""Scale of the raster (Found-RL's bird's-eye masks at their native 192 pixels)."""

CELL = 5.0
"""Side in metres of a cell of the waypoint grid."""

ROAD, SOLID, BROKEN, DRIVABLE = 1, 2, 4, 8
"""Raster bits: road as drawn (outlined), a marking that is not white broken, a white broken marking (never both), and
the driving lanes' own area without the outline."""

LEFT, RIGHT, STRAIGHT, FOLLOW, CHANGE_LEFT, CHANGE_RIGHT = 1, 2, 3, 4, 5, 6
"""Route commands, numbered as CARLA's RoadOption."""

YIELDS, STOPS = 2, 4
"""Ranks of right of way (`path_rank`) at a yield and at a stop sign; 0 without either. A left turn gives way to others
of its rank, so it ranks one lower; but at stop signs it is first come, first served."""


@record
class TownTables(NamedTuple):
    """T towns, N lanes, P waypoints, S stop lines, L lights, G stop signs, Q walkway points."""

    # A lane of n steps has n + 1 waypoints: the last one is its end, where its successors begin. Steps are about 1 m.
    waypoint_pose: np.ndarray  # float32 [P, 4] x, y, z, yaw in the direction of travel
    waypoint_direction: np.ndarray  # float32 [P, 2] cos, sin of yaw
    waypoint_width: np.ndarray  # float32 [P] lane width, m
    waypoint_speed: np.ndarray  # float32 [P] m/s: the speed limit, lower in and before curves of the same lane
    waypoint_lane: np.ndarray  # int32 [P]
    waypoint_left: np.ndarray  # int32 [P] the waypoint beside it on the lane to the left, -1 where none may be entered
    waypoint_right: np.ndarray  # int32 [P] likewise to the right
    lane_first: np.ndarray  # int32 [N + 1] first waypoint of each lane; lane_first[l + 1] - 1 is the lane's end
    lane_length: np.ndarray  # float32 [N] m
    lane_step: np.ndarray  # float32 [N] m between waypoints
    lane_junction: np.ndarray  # int32 [N] junction id, -1 outside junctions
    lane_turn: np.ndarray  # uint8 [N] route command on this lane: LEFT, RIGHT, STRAIGHT in junctions, else FOLLOW
    lane_road: np.ndarray  # int32 [N] OpenDRIVE road id
    lane_section: np.ndarray  # int32 [N] OpenDRIVE section index
    lane_number: np.ndarray  # int32 [N] OpenDRIVE lane id
    lane_town: np.ndarray  # int16 [N]
    lane_change: np.ndarray  # int32 [N, 2] the first waypoint that has one to its left, to its right, -1 for none
    lane_storage: np.ndarray  # uint8 [N] 1 where a car may wait: outside junctions and at least 14 m long
    lane_stop_line: np.ndarray  # int32 [N] stop line at the lane's end, -1 for none
    lane_light: np.ndarray  # int32 [N] light (global) that a junction lane obeys, -1 for none
    lane_to_junction: np.ndarray  # float32 [N] m from the lane's end to the next junction, inf where none follows
    lane_ends: np.ndarray  # float32 [N] m from the lane's start after which no lane goes on, inf where one does
    town_lane_first: np.ndarray  # int32 [T + 1]
    # CSR graphs: neighbours of lane l are x[x_first[l] : x_first[l + 1]]
    successor_first: np.ndarray  # int32 [N + 1]
    successor: np.ndarray  # int32
    predecessor_first: np.ndarray  # int32 [N + 1]
    predecessor: np.ndarray  # int32
    conflict_first: np.ndarray  # int32 [N + 1] junction lanes that cross or merge into this junction lane
    conflict: np.ndarray  # int32
    sibling_first: np.ndarray  # int32 [N + 1] lanes that leave the same lane
    sibling: np.ndarray  # int32
    sibling_overlap: np.ndarray  # float32, beside `sibling`: metres for which the two still run within a car's width
    # Compound paths: from a storage lane over junction lanes and short links to the next storage lane (the last entry)
    path_first: np.ndarray  # int32 [N + 1] paths of each storage lane
    path_lane_first: np.ndarray  # int32 [paths + 1]
    path_lane: np.ndarray  # int32
    path_light: np.ndarray  # int32 [paths] light (global) of the path's first junction lane, -1 for none
    path_crosses: np.ndarray  # uint8 [paths] whether it crosses a junction at all
    path_rank: np.ndarray  # uint8 [paths] right of way at its first junction, 0 the highest
    # Lights and signs
    stop_line_first: np.ndarray  # int32 [T + 1]
    stop_line_lane: np.ndarray  # int32 [S] the lane that ends at the line
    stop_line_light: np.ndarray  # int32 [S] light (global)
    stop_line_pose: np.ndarray  # float32 [S, 4] middle of the line and the lane's direction there
    stop_line_half_width: np.ndarray  # float32 [S] 0.4 lane widths
    light_first: np.ndarray  # int32 [T + 1]
    light_phase: np.ndarray  # float32 [L, 4] cycle, start of green within it, green and yellow durations, s
    light_junction: np.ndarray  # int32 [L] junction whose cycle the light follows
    stop_sign_first: np.ndarray  # int32 [T + 1]
    stop_sign_pose: np.ndarray  # float32 [G, 4] middle of the trigger box on the lane
    stop_sign_half_size: np.ndarray  # float32 [G] the squared-up half extent, m
    # Spawn points
    spawn_first: np.ndarray  # int32 [T + 1]
    spawn_lane: np.ndarray  # int32
    spawn_s: np.ndarray  # float32 m from the lane's start
    # Walkways: polylines of points about 2 m apart
    walkway_first: np.ndarray  # int32 [T + 1]
    walkway_point: np.ndarray  # float32 [Q, 3]
    walkway_next: np.ndarray  # int32 [Q] -1 at an end
    walkway_previous: np.ndarray  # int32 [Q] -1 at an end
    walkway_opposite: np.ndarray  # int32 [Q] the point across the road, -1 where nobody crosses
    walkway_crosswalk: np.ndarray  # uint8 [Q] whether a crosswalk leads there
    # Grid of waypoints for "which lane is here"
    grid_first: np.ndarray  # int64 [T] the town's first cell
    grid_size: np.ndarray  # int32 [T, 2] rows, columns
    grid_origin: np.ndarray  # float32 [T, 2] x, y of the corner of cell (0, 0)
    cell_first: np.ndarray  # int32 [cells + 1]
    cell_waypoint: np.ndarray  # int32
    # Raster at PIXELS_PER_METRE; row grows with y, column with x
    raster: np.ndarray  # uint8, flat
    raster_first: np.ndarray  # int64 [T]
    raster_size: np.ndarray  # int32 [T, 2] rows, columns
    raster_origin: np.ndarray  # float32 [T, 2] x, y of the corner of pixel (0, 0)


_POINTS_AT = {
    "waypoint_lane": "lane",
    "waypoint_left": "waypoint",
    "waypoint_right": "waypoint",
    "lane_first": "waypoint",
    "lane_change": "waypoint",
    "lane_town": "town",
    "lane_stop_line": "stop_line",
    "lane_light": "light",
    "town_lane_first": "lane",
    **{f"{graph}_first": graph for graph in ("successor", "predecessor", "conflict", "sibling", "path", "path_lane")},
    **dict.fromkeys(("successor", "predecessor", "conflict", "sibling", "path_lane"), "lane"),
    "path_light": "light",
    **{f"{thing}_first": thing for thing in ("stop_line", "light", "stop_sign", "spawn", "walkway")},
    "stop_line_lane": "lane",
    "stop_line_light": "light",
    "spawn_lane": "lane",
    **dict.fromkeys(("walkway_next", "walkway_previous", "walkway_opposite"), "walkway"),
    "grid_first": "cell",
    "cell_first": "cell_waypoint",
    "cell_waypoint": "waypoint",
    "raster_first": "raster",
}
"""Fields that hold indices, and of what; -1 stands for none. Any other field is the same in joined tables."""


def _counts(tables: TownTables) -> dict[str, int]:
    """How many there are of each thing; an array of none has one unused row."""
    graphs = ("successor", "predecessor", "conflict", "sibling", "path", "path_lane")
    things = ("stop_line", "light", "stop_sign", "spawn", "walkway")
    return {
        "town": len(tables.raster_first),
        "lane": len(tables.lane_length),
        "waypoint": len(tables.waypoint_lane),
        **{name: int(getattr(tables, f"{name}_first")[-1]) for name in (*graphs, *things)},
        "cell": len(tables.cell_first) - 1,
        "cell_waypoint": len(tables.cell_waypoint),
        "raster": len(tables.raster),
    }


def join(towns: Sequence[TownTables]) -> TownTables:
    """The tables of several towns one behind another: town k of the result is `towns[k]`, of one town each.

    The first waypoint of town k is `lane_first[town_lane_first[k]]`; what the towns' own tables say of a waypoint w
    the joined ones say of that one plus w. Road, section, lane and junction ids stay the maps' own.
    """
    if len(towns) == 1:
        return towns[0]
    counts = [_counts(tables) for tables in towns]
    offsets = [
        {name: sum(earlier[name] for earlier in counts[:k]) for name in counts[0]} for k in range(len(towns) + 1)
    ]
    joined = {}
    for field in TownTables._fields:
        closed = field.endswith("_first") and field not in ("grid_first", "raster_first")
        rows = max((name for name in counts[0] if f"{field}_".startswith(f"{name}_")), key=len, default="")
        parts = []
        for k, tables in enumerate(towns):
            part = getattr(tables, field)
            if closed:
                part = part[:-1]
            elif rows not in ("", "raster"):
                part = part[: counts[k][rows]]
            if field in _POINTS_AT:
                shift = part.dtype.type(offsets[k][_POINTS_AT[field]])
                part = np.where(part < 0, part, part + shift)
            parts.append(part)
        if closed:
            parts.append(np.array([offsets[-1][_POINTS_AT[field]]], parts[0].dtype))
        whole = np.concatenate(parts)
        joined[field] = whole if len(whole) else getattr(towns[0], field)
    return TownTables(**joined)


@kernel
def same_level(dz):
    """Whether two things this far apart in height meet: the one test that keeps a bridge and what is under it apart."""
    return abs(dz) < f32(4.0)


@inner
def raster_bits(tables, town, x, y):
    """The raster's bits under a point in the town's frame, 0 outside the raster."""
    column = int((x - tables.raster_origin[town, 0]) * f32(PIXELS_PER_METRE))
    row = int((y - tables.raster_origin[town, 1]) * f32(PIXELS_PER_METRE))
    if x < tables.raster_origin[town, 0] or y < tables.raster_origin[town, 1]:
        return np.uint8(0)
    if row >= tables.raster_size[town, 0] or column >= tables.raster_size[town, 1]:
        return np.uint8(0)
    return tables.raster[tables.raster_first[town] + np.int64(row) * tables.raster_size[town, 1] + column]


@inner
def nearest_waypoint(tables, town, x, y, z):
    """The waypoint nearest to a point on its level, and the planar distance in m; (-1, inf) with none within one cell.

    Lanes' end points are left out: the successor's first waypoint stands at the same place.
    """
    best = -1
    distance = f32(np.inf)
    column = int(np.floor((x - tables.grid_origin[town, 0]) / f32(CELL)))
    row = int(np.floor((y - tables.grid_origin[town, 1]) / f32(CELL)))
    rows, columns = tables.grid_size[town, 0], tables.grid_size[town, 1]
    for r in range(max(row - 1, 0), min(row + 2, rows)):
        for c in range(max(column - 1, 0), min(column + 2, columns)):
            cell = tables.grid_first[town] + r * columns + c
            for i in range(tables.cell_first[cell], tables.cell_first[cell + 1]):
                waypoint = tables.cell_waypoint[i]
                dx = tables.waypoint_pose[waypoint, 0] - x
                dy = tables.waypoint_pose[waypoint, 1] - y
                squared = dx * dx + dy * dy
                if squared < distance and same_level(tables.waypoint_pose[waypoint, 2] - z):
                    best, distance = waypoint, squared
    return best, np.sqrt(distance)
