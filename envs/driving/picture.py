"""The picture and the numbers that a mentor is shown of an ego's situation.

The picture is the window of `view` at its native 192 x 192 pixels, in Found-RL's colours (released configuration).
"""

from collections.abc import Iterator

import numpy as np

from mentorgym.envs.driving.state import (
    CHANGE_LEFT,
    CHANGE_RIGHT,
    FOLLOW,
    LEFT,
    LIGHT_GREEN,
    LIGHT_RED,
    LIGHT_YELLOW,
    RIGHT,
    STRAIGHT,
    EpisodeState,
    WorldState,
)
from mentorgym.envs.driving.tables import TownTables
from mentorgym.envs.driving.view import CHANNELS, PEDESTRIAN, SIZE, STOP, VEHICLE, ViewMemory, draw

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

# Values for `draw`, which keeps the highest: within an instant a light hides the stop sign, red hides yellow and green.
_STOP, _GREEN, _YELLOW, _RED, _ACTOR = 1, 2, 3, 4, 5
_PAINT = np.zeros(7, np.uint8)
_PAINT[[STOP, LIGHT_GREEN, LIGHT_YELLOW, LIGHT_RED, VEHICLE, PEDESTRIAN]] = _STOP, _GREEN, _YELLOW, _RED, _ACTOR, _ACTOR

_TINTS = (3, 2, 1, 0)
"""Fifths of the way to white, from the oldest of the four instants to now."""


def _layers(planes: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Masks, bool [192, 192], and their colours in painter's order."""
    road, route, marking = planes[:3]
    yield road == 255, (46, 52, 54)
    yield route == 255, (136, 138, 133)
    yield marking == 255, (255, 0, 255)
    yield marking == 120, (255, 140, 255)
    for value, first, colour in (
        (_STOP, 11, (160, 160, 0)),
        (_GREEN, 11, (0, 255, 0)),
        (_YELLOW, 11, (255, 255, 0)),
        (_RED, 11, (255, 0, 0)),
        (_ACTOR, 3, (0, 0, 255)),
        (_ACTOR, 7, (0, 255, 255)),
    ):
        for plane, fifths in zip(planes[first : first + 4], _TINTS, strict=True):
            yield plane == value, tuple(c + (255 - c) * fifths // 5 for c in colour)
    yield road == 120, (255, 255, 255)


def picture(tables: TownTables, world: WorldState, episode: EpisodeState, memory: ViewMemory, row: int) -> np.ndarray:
    """The scene around ego `row` (world * E + ego) as RGB, uint8 [192, 192, 3].

    Painter's order: background, road, route, lane markings, white broken markings, stop sign, green, yellow and red
    lights, vehicles, walkers, ego; within each the past first, tinted toward white (Found-RL, released configuration).
    """
    b, ego = divmod(row, world.ego_control.shape[1])
    planes = np.empty((world.ego_control.shape[1], CHANNELS, SIZE, SIZE), np.uint8)
    draw(tables, world, episode, memory, b, b + 1, _PAINT, planes)
    top = np.zeros((SIZE, SIZE), np.uint8)
    palette: list[tuple[int, ...]] = [(0, 0, 0)]
    for covered, colour in _layers(planes[ego]):
        np.putmask(top, covered, len(palette))
        palette.append(colour)
    return np.array(palette, np.uint8)[top]


def route_commands(tables: TownTables, route: np.ndarray) -> np.ndarray:
    """The command (1 to 6) in force at each waypoint of a route, int64 [n].

    A turn holds on the junction's lanes; a lane change at the first waypoint on the new lane.
    """
    lane = tables.waypoint_lane[route]
    commands = tables.lane_turn[lane].astype(np.int64)
    before, after = lane[:-1], lane[1:]
    same_section = (tables.lane_road[before] == tables.lane_road[after]) & (
        tables.lane_section[before] == tables.lane_section[after]
    )
    # OpenDRIVE numbers lanes outwards from the middle of the road, where traffic keeps right.
    outwards = np.abs(tables.lane_number[after]) - np.abs(tables.lane_number[before])
    commands[1:][same_section & (outwards < 0)] = CHANGE_LEFT
    commands[1:][same_section & (outwards > 0)] = CHANGE_RIGHT
    return commands


def target_points(tables: TownTables, route: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of a route's target points in it, int64 [m], and the route's commands, int64 [n].

    A target point stands wherever the command changes, every 50 m between, and at the end.
    """
    commands = route_commands(tables, route)
    metres = np.zeros(len(route))
    steps = np.diff(tables.waypoint_pose[route, :2].astype(np.float64), axis=0)
    np.cumsum(np.hypot(steps[:, 0], steps[:, 1]), out=metres[1:])
    change = np.ones(len(route), bool)
    change[1:] = commands[1:] != commands[:-1]
    start = metres[change][np.cumsum(change) - 1]
    stretch = (metres - start) // TARGET_SPACING
    chosen = change.copy()
    chosen[1:] |= stretch[1:] != stretch[:-1]
    chosen[-1] = True
    return np.flatnonzero(chosen), commands


def prompt_context(tables: TownTables, world: WorldState, episode: EpisodeState, row: int) -> dict:
    """What a mentor is told in words about ego `row` (world * E + ego).

    | key | value |
    | --- | --- |
    | `speed` | forward speed, m/s |
    | `target` | the next target point of the route, metres (forward, right) in the ego's frame |
    | `command` | 1 left, 2 right, 3 straight, 4 follow, 5 change left, 6 change right |
    | `command_name` | the same in words |

    Target points stand where the command changes and every 50 m; one that is behind the ego and within 12 m has been
    passed (Found-RL, released configuration). Deviations: positions are exact, without a GNSS receiver's noise; the
    command is that of the manoeuvre under way or, on a plain lane, of the one that begins at the target point, so that
    a turn is announced before the junction.
    """
    egos = world.ego_control.shape[1]
    b, ego = row // egos, row % egos
    x, y, _, yaw = world.vehicle_pose[b, ego].astype(np.float64)
    forward, right = np.array([np.cos(yaw), np.sin(yaw)]), np.array([np.sin(yaw), -np.cos(yaw)])
    route = episode.route[row, : episode.route_length[row]]
    places, commands = target_points(tables, route)
    index = episode.route_index[row]
    for place in places[np.searchsorted(places, index, side="right") :]:
        offset = tables.waypoint_pose[route[place], :2] - np.array([x, y])
        if offset @ forward >= 0.0 or np.hypot(*offset) >= TARGET_REACHED:
            break
    else:
        place = places[-1]
        offset = tables.waypoint_pose[route[place], :2] - np.array([x, y])
    command = int(commands[index])
    if command == FOLLOW:
        command = int(commands[place])
    return {
        "speed": float(world.vehicle_velocity[b, ego] @ forward),
        "target": (float(offset @ forward), float(offset @ right)),
        "command": command,
        "command_name": COMMAND_NAMES[command],
    }
