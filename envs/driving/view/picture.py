"""The picture and the numbers that a mentor is shown of an ego's situation.

The picture is the window of `view` at its native 192 x 192 pixels, in Found-RL's colours (released configuration).
"""

import math
from collections.abc import Sequence

import numpy as np

from mentorgym.envs.driving.kernel import inner, kernel
from mentorgym.envs.driving.map.tables import CHANGE_LEFT, CHANGE_RIGHT, FOLLOW, LEFT, RIGHT, STRAIGHT, TownTables
from mentorgym.envs.driving.view.masks import AGES, CHANNELS, PEDESTRIAN, SIZE, STOP, VEHICLE, ViewMemory, draw_planes
from mentorgym.envs.driving.worlds.state import EMPTY, LIGHT_GREEN, LIGHT_RED, LIGHT_YELLOW, EpisodeState, WorldState

COMMAND_NAMES = {
    LEFT: "turn left at the intersection",
    RIGHT: "turn right at the intersection",
    STRAIGHT: "go straight at the intersection",
    FOLLOW: "follow the lane",
    CHANGE_LEFT: "change to the left lane",
    CHANGE_RIGHT: "change to the right lane",
}

TARGET_SPACING = 50.0
"""Metres between target points on a stretch with one command."""

TARGET_REACHED = 12.0
"""Metres within which a target point behind the ego counts as passed."""

# Values for `draw_planes`, which keeps the highest, in painter's order: within an instant a light hides the stop sign,
# red hides yellow and green. Beside it the colours of the latest instant.
_PAINT = np.zeros(7, np.uint8)
_PAINT[[STOP, LIGHT_GREEN, LIGHT_YELLOW, LIGHT_RED, VEHICLE, PEDESTRIAN]] = 1, 2, 3, 4, 5, 6
_MOVING = ((160, 160, 0), (0, 255, 0), (255, 255, 0), (255, 0, 0), (0, 0, 255), (0, 255, 255))

_TINTS = (3, 2, 1, 0)
"""Fifths of the way to white, from the oldest of the four instants to now."""

_PALETTE = np.array(
    [
        (0, 0, 0),
        (46, 52, 54),
        (136, 138, 133),
        (255, 0, 255),
        (255, 140, 255),
        *(tuple(c + (255 - c) * fifths // 5 for c in colour) for colour in _MOVING for fifths in _TINTS),
        (255, 255, 255),
    ],
    np.uint8,
)
"""Colours in painter's order: background, road, route, markings, broken ones, each value of _PAINT at its four
instants, ego."""

_FIRST_MOVING, _EGO = 5, len(_PALETTE) - 1


@inner
def _compose(planes, palette, image):
    """Write the topmost colour of each pixel of `planes`, uint8 [15, 192, 192], to `image`, uint8 [192, 192, 3]."""
    road, route, marking = planes[0], planes[1], planes[2]
    covered = np.empty(SIZE, np.uint8)
    for r in range(SIZE):
        covered[:] = 0
        for plane in range(3, CHANNELS):
            line = planes[plane, r]
            for k in range(SIZE):
                covered[k] |= line[k]
        for k in range(SIZE):
            top = 0
            if road[r, k] == 120:
                top = _EGO
            elif covered[k]:
                for plane in range(3, CHANNELS):
                    value = np.int64(planes[plane, r, k])
                    if value > 0:
                        top = max(top, _FIRST_MOVING + (value - 1) * len(AGES) + (plane - 3) % len(AGES))
            elif marking[r, k] == 255:
                top = 3
            elif marking[r, k] == 120:
                top = 4
            elif route[r, k] == 255:
                top = 2
            elif road[r, k] == 255:
                top = 1
            for channel in range(3):
                image[r, k, channel] = palette[top, channel]


@kernel
def _paint(tables, world, episode, memory, rows, paint, palette, images):
    """Write the pictures of the egos `rows`, int64 [K], to `images`, uint8 [K, 192, 192, 3]."""
    egos = world.ego_control.shape[1]
    planes = np.zeros((egos, CHANNELS, SIZE, SIZE), np.uint8)
    for i in range(len(rows)):
        b, e = rows[i] // egos, rows[i] % egos
        if world.vehicle_kind[b, e] == EMPTY:
            images[i] = 0
            continue
        draw_planes(tables, world, episode, memory, b, b + 1, paint, planes)
        _compose(planes[e], palette, images[i])


def pictures(
    tables: TownTables, world: WorldState, episode: EpisodeState, memory: ViewMemory, rows: Sequence[int] | np.ndarray
) -> np.ndarray:
    """The scenes around the K egos `rows` (world * E + ego) as RGB, uint8 [K, 192, 192, 3].

    Painter's order: background, road, route, lane markings, white broken markings, stop sign, green, yellow and red
    lights, vehicles, walkers, ego; within each the past first, tinted toward white (Found-RL, released configuration).
    """
    images = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)
    _paint(tables, world, episode, memory, np.asarray(rows, np.int64), _PAINT, _PALETTE, images)
    return images


def picture(tables: TownTables, world: WorldState, episode: EpisodeState, memory: ViewMemory, row: int) -> np.ndarray:
    """The scene around ego `row` as RGB, uint8 [192, 192, 3]: see `pictures`."""
    return pictures(tables, world, episode, memory, [row])[0]


@inner
def _command(tables, route, place):
    """The command (1 to 6) in force at a waypoint of a route.

    A turn holds on the junction's lanes; a lane change at the first waypoint on the new lane.
    """
    lane = tables.waypoint_lane[route[place]]
    before = tables.waypoint_lane[route[max(place - 1, 0)]]
    same_road = tables.lane_road[before] == tables.lane_road[lane]
    same_section = same_road and tables.lane_section[before] == tables.lane_section[lane]
    if same_section and tables.lane_number[before] != tables.lane_number[lane]:
        start, end = tables.waypoint_pose[route[max(place - 1, 0)]], tables.waypoint_pose[route[place]]
        across = (end[1] - start[1]) * np.cos(start[3]) - (end[0] - start[0]) * np.sin(start[3])
        return np.int64(CHANGE_LEFT if across > 0 else CHANGE_RIGHT)
    return np.int64(tables.lane_turn[lane])


@inner
def _guide(tables, route, index, pose):
    """What `prompt_contexts` says of a route, all of whose waypoints are valid, from its waypoint `index` on.

    Returns the target's offset forward and to the right in the frame of `pose`, and the command.
    """
    x, y, yaw = np.float64(pose[0]), np.float64(pose[1]), np.float64(pose[3])
    cos, sin = math.cos(yaw), math.sin(yaw)
    metres, stretch, before = 0.0, 0.0, np.int64(0)  # metres since the last change of the command
    command, forward, right = np.int64(FOLLOW), 0.0, 0.0
    last = len(route) - 1
    for place in range(last + 1):
        here = _command(tables, route, place)
        pose_here = tables.waypoint_pose[route[place]]
        at_x, at_y = np.float64(pose_here[0]), np.float64(pose_here[1])
        if here != before:
            metres = 0.0
        else:
            behind = route[place - 1]
            metres += math.hypot(at_x - tables.waypoint_pose[behind, 0], at_y - tables.waypoint_pose[behind, 1])
        stands = here != before or metres // TARGET_SPACING != stretch
        before, stretch = here, metres // TARGET_SPACING
        if place == index:
            command = here
        if (place > index and stands) or place == last:
            forward, right = (at_x - x) * cos + (at_y - y) * sin, (at_x - x) * sin - (at_y - y) * cos
            if forward >= 0.0 or math.hypot(forward, right) >= TARGET_REACHED:
                break
    return forward, right, before if command == FOLLOW else command


@kernel
def guide(tables, world, episode, rows, contexts):
    """Write what `prompt_contexts` says of the egos `rows`, int64 [K], to `contexts`, float64 [K, 4].

    Columns: speed, metres to the target forward and to the right, command.
    """
    for i in range(len(rows)):
        row = rows[i]
        b, e = row // world.ego_control.shape[1], row % world.ego_control.shape[1]
        pose, velocity = world.vehicle_pose[b, e], world.vehicle_velocity[b, e]
        yaw = np.float64(pose[3])
        contexts[i, 0] = np.float64(velocity[0]) * math.cos(yaw) + np.float64(velocity[1]) * math.sin(yaw)
        route = episode.route[row, : episode.route_length[row]]
        contexts[i, 1], contexts[i, 2], contexts[i, 3] = _guide(tables, route, episode.route_index[row], pose)


def prompt_contexts(
    tables: TownTables, world: WorldState, episode: EpisodeState, rows: Sequence[int] | np.ndarray
) -> list[dict]:
    """What a mentor is told in words about each of the egos `rows` (world * E + ego).

    | key | value |
    | --- | --- |
    | `speed` | forward speed, m/s |
    | `target` | the next target point of the route, metres (forward, right) in the ego's frame |
    | `command` | 1 left, 2 right, 3 straight, 4 follow, 5 change left, 6 change right |
    | `command_name` | the same in words |

    Target points stand where the command changes, every 50 m between, and at the end; one that is behind the ego and
    within 12 m has been passed (Found-RL, released configuration). Deviations: positions are exact, without a GNSS
    receiver's noise; the command is that of the manoeuvre under way or, on a plain lane, of the one that begins at the
    target point, so that a turn is announced before the junction.
    """
    contexts = np.empty((len(rows), 4))
    guide(tables, world, episode, np.asarray(rows, np.int64), contexts)
    return [
        {"speed": speed, "target": (forward, right), "command": command, "command_name": COMMAND_NAMES[command]}
        for (speed, forward, right), command in zip(
            contexts[:, :3].tolist(), contexts[:, 3].astype(int).tolist(), strict=True
        )
    ]


def prompt_context(tables: TownTables, world: WorldState, episode: EpisodeState, row: int) -> dict:
    """What a mentor is told in words about ego `row`: see `prompt_contexts`."""
    return prompt_contexts(tables, world, episode, [row])[0]
