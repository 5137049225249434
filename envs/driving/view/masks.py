"""What an ego observes: the bird's-eye masks, the state vector, and the short memory behind the masks' history.

The window is Found-RL's (released configuration), taken over from Roach (Zhang et al. 2021): 192 x 192 native pixels at
5 px/m, the ego's forward direction up, 30.4 m ahead of its centre, 8 m behind, 19.2 m to each side.

One convention for pixels: pixel (r, c) is the square [r, r + 1) x [c, c + 1), a shape covers it when it holds its
centre (r + 0.5, c + 0.5), and the ego's centre is the point (152, 96). Rows grow backwards, columns to the right.
"""

from typing import Annotated, NamedTuple

import numpy as np

from mentorgym.envs.driving.geometry import SMALLEST_HALF_SIZE, WALKER_SCALE
from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.map.tables import BROKEN, PIXELS_PER_METRE, ROAD, SOLID, TownTables
from mentorgym.envs.driving.record import empty_record, record
from mentorgym.envs.driving.worlds.state import EMPTY, LIGHT_GREEN, LIGHT_RED, LIGHT_YELLOW, EpisodeState, WorldState

SIZE = 192
"""Side of the window in native pixels."""

CELLS = 96
"""Side of a mask: each cell is the maximum of 2 x 2 native pixels."""

EGO_ROW, EGO_COLUMN = 152, 96

CHANNELS = 15

AGES = (15, 10, 5, 0)
"""Ticks before now of the four instants drawn: the indices -16, -11, -6, -1 of a queue that ends with now."""

FRAMES = AGES[0] + 1

STRIP = 64
"""Columns of the window that are looked up together: the raster under them stays in the cache from row to row."""

ROUTE_AHEAD = 80
"""Waypoints of the route that are drawn, about 1 m apart."""

ROUTE_RADIUS = 8.0
LIGHT_RADIUS = 3.0
"""Half the thickness of the route and of a stop line, in native pixels."""


HEIGHT = 8.0
"""Metres above or below the ego from which nothing is drawn."""

ROUTE, EGO = 16, 32
"""Bits of the ground beside the raster's own."""

NOBODY = np.int64(-1)
"""A slot that nobody is in."""

STOP, VEHICLE, PEDESTRIAN = 4, 5, 6
"""Places in a `paint` (see `draw_planes`), after the four states of a light."""

_MASK_PAINT = np.zeros(7, np.uint8)
_MASK_PAINT[[LIGHT_GREEN, LIGHT_YELLOW, LIGHT_RED, STOP, VEHICLE, PEDESTRIAN]] = 80, 170, 255, 255, 255, 255


@record
class ViewMemory(NamedTuple):
    """The last 16 instants of what moves or changes: a ring of frames for each of B worlds, written by `remember`."""

    newest: Annotated[np.ndarray, "int32 [B]"]
    """the frame of the latest instant"""
    frames: Annotated[np.ndarray, "int32 [B]"]
    """how many frames are valid, at most 16"""
    vehicle_pose: Annotated[np.ndarray, "float32 [B, 16, V, 4]"]
    """x, y, z, yaw"""
    vehicle_kind: Annotated[np.ndarray, "uint8 [B, 16, V]"]
    walker_pose: Annotated[np.ndarray, "float32 [B, 16, W, 4]"]
    walker_kind: Annotated[np.ndarray, "uint8 [B, 16, W]"]
    light_state: Annotated[np.ndarray, "uint8 [B, 16, L]"]
    """L counts from the town's first light."""
    stop_sign: Annotated[np.ndarray, "int32 [B, 16, E]"]
    """row of the stop sign that an ego is headed for and has not stopped at, else -1"""


def empty_view_memory(worlds: int, vehicles: int, walkers: int, lights: int, egos: int = 1) -> ViewMemory:
    """A ViewMemory without any frame; the sizes are those given to `empty_world_state`."""
    slots = {"V": max(vehicles, egos), "W": max(walkers, 1), "L": max(lights, 1)}
    memory = empty_record(ViewMemory, B=worlds, E=egos, **slots)
    memory.stop_sign[:] = -1
    return memory


@kernel
def remember(world, episode, memory, first, last, restart):
    """Add the present instant of worlds `first:last` to the memory.

    `restart`, uint8 [B], is 1 where the world was populated anew: its history is forgotten first.
    """
    egos = world.ego_control.shape[1]
    for b in range(first, last):
        if restart[b]:
            memory.frames[b] = 0
        frame = (memory.newest[b] + 1) % FRAMES
        memory.newest[b] = frame
        memory.frames[b] = min(memory.frames[b] + 1, FRAMES)
        for v in range(world.vehicle_kind.shape[1]):
            memory.vehicle_kind[b, frame, v] = world.vehicle_kind[b, v]
            for k in range(4):
                memory.vehicle_pose[b, frame, v, k] = world.vehicle_pose[b, v, k]
        for w in range(world.walker_kind.shape[1]):
            memory.walker_kind[b, frame, w] = world.walker_kind[b, w]
            for k in range(4):
                memory.walker_pose[b, frame, w, k] = world.walker_pose[b, w, k]
        for i in range(world.light_state.shape[1]):
            memory.light_state[b, frame, i] = world.light_state[b, i]
        for e in range(egos):
            row = b * egos + e
            memory.stop_sign[b, frame, e] = -1 if episode.stop_complied[row] else episode.stop_sign[row]


@inner
def to_window(eye, x, y):
    """Native row and column, float32, of a point in the town's frame."""
    dx, dy = x - eye[0], y - eye[1]
    row = f32(EGO_ROW) - f32(PIXELS_PER_METRE) * (dx * eye[3] + dy * eye[4])
    column = f32(EGO_COLUMN) + f32(PIXELS_PER_METRE) * (dx * eye[4] - dy * eye[3])
    return row, column


@inner
def turned(eye, yaw):
    """The unit vector of a heading in the town's frame, in the window's rows and columns."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return -(cosine * eye[3] + sine * eye[4]), cosine * eye[4] - sine * eye[3]


@inner
def in_window(row, column, reach):
    """Whether something within `reach` pixels of (row, column) can touch the window; never for NaN."""
    return row > -reach and row < f32(SIZE) + reach and column > -reach and column < f32(SIZE) + reach


@inner
def fill_span(plane, shift, row, low, high, value):
    """Raise to `value` what covers the native pixels of a row whose centres lie in [low, high].

    `plane` is uint8 [192, 192] with shift 0, or [96, 96] with shift 1: a cell is drawn when any of its pixels is.
    """
    first = int(np.ceil(max(low, f32(0.0)) - f32(0.5)))
    last = int(np.floor(min(high, f32(SIZE - 0.5)) - f32(0.5)))
    if last < first:
        return
    line = plane[row >> shift]
    for k in range(first >> shift, (last >> shift) + 1):
        line[k] = max(line[k], value)


@inner
def slopes(along_row, along_column, half_length, half_width):
    """A rectangle as the cut of two slabs: for each, the columns it shifts by per row and half its width in columns.

    A side along a row has no slope; a tilt below a hundredth of a pixel over the window stands in for it.
    """
    r = along_row if abs(along_row) > f32(1e-5) else f32(1e-5)
    c = along_column if abs(along_column) > f32(1e-5) else f32(1e-5)
    return -along_row / c, half_length / abs(c), along_column / r, half_width / abs(r)


@inner
def slabs(slope, offset):
    """First and last column, relative to its middle, of a rectangle `offset` rows below; none when first > last."""
    low = max(slope[0] * offset - slope[1], slope[2] * offset - slope[3])
    high = min(slope[0] * offset + slope[1], slope[2] * offset + slope[3])
    return low, high


@inner
def fill_box(plane, shift, row, column, along_row, along_column, half_length, half_width, value):
    """Raise to `value` every pixel whose centre lies in an oriented rectangle.

    (row, column): its middle; (along_row, along_column): unit vector of its length; all in native pixels. The middle is
    within reach of the window (`in_window`).
    """
    rows = abs(along_row) * half_length + abs(along_column) * half_width
    if not rows >= f32(0.0):  # a heading that is no number
        return
    slope = slopes(along_row, along_column, half_length, half_width)
    first = max(int(np.ceil(row - rows - f32(0.5))), 0)
    last = min(int(np.floor(row + rows - f32(0.5))), SIZE - 1)
    for r in range(first, last + 1):
        low, high = slabs(slope, f32(r) + f32(0.5) - row)
        fill_span(plane, shift, r, column + low, column + high, value)


@inner
def fill_line(plane, shift, row, column, to_row, to_column, radius, value):
    """Raise to `value` every pixel whose centre lies within `radius` of a segment: a thick line with round ends.

    All in native pixels; some part of it is within reach of the window (`in_window`).
    """
    dr, dc = to_row - row, to_column - column
    length = np.sqrt(dr * dr + dc * dc)
    along_row, along_column = (dr / length, dc / length) if length > f32(0.0) else (f32(1.0), f32(0.0))
    slope = slopes(along_row, along_column, f32(0.5) * length, radius)
    middle_row, middle_column = f32(0.5) * (row + to_row), f32(0.5) * (column + to_column)
    first = max(int(np.ceil(min(row, to_row) - radius - f32(0.5))), 0)
    last = min(int(np.floor(max(row, to_row) + radius - f32(0.5))), SIZE - 1)
    for r in range(first, last + 1):
        centre = f32(r) + f32(0.5)
        low, high = slabs(slope, centre - middle_row)
        if low <= high:
            low, high = middle_column + low, middle_column + high
        else:
            low, high = f32(SIZE), f32(-1.0)
        # The shape is convex: its cut is the hull of the cuts of the rectangle and of the two discs.
        start = radius * radius - (centre - row) * (centre - row)
        if start >= f32(0.0):
            low, high = min(low, column - np.sqrt(start)), max(high, column + np.sqrt(start))
        end = radius * radius - (centre - to_row) * (centre - to_row)
        if end >= f32(0.0):
            low, high = min(low, to_column - np.sqrt(end)), max(high, to_column + np.sqrt(end))
        fill_span(plane, shift, r, low, high, value)


@inner
def add_raster(tables, town, eye, plane):
    """OR the raster under the window onto `plane`, uint8 [192, 192]: the nearest pixel of each, 0 outside of it."""
    raster = tables.raster
    rows, columns = np.int64(tables.raster_size[town, 0]), np.int64(tables.raster_size[town, 1])
    row = (eye[1] - tables.raster_origin[town, 1]) * f32(PIXELS_PER_METRE)
    column = (eye[0] - tables.raster_origin[town, 0]) * f32(PIXELS_PER_METRE)
    cosine, sine = eye[3], eye[4]
    # A pose that is not finite, or 200 km away, is over no raster, and has no integers either.
    if not (abs(row) < f32(1e6) and abs(column) < f32(1e6) and abs(cosine) + abs(sine) < f32(2.0)):
        return
    # 16.16 fixed point relative to the pixel under the ego: exact steps, and no overflow however large the town.
    one = f32(65536.0)
    base_row, base_column = np.int64(np.floor(row)), np.int64(np.floor(column))
    up, left = f32(EGO_ROW - 0.5), f32(EGO_COLUMN - 0.5)
    x0 = np.int64((column - np.floor(column) + up * cosine - left * sine) * one)
    y0 = np.int64((row - np.floor(row) + up * sine + left * cosine) * one)
    c, s = np.int64(cosine * one), np.int64(sine * one)
    inside = True
    for r in (0, SIZE - 1):
        for k in (0, SIZE - 1):
            y, x = base_row + ((y0 - r * s - k * c) >> 16), base_column + ((x0 - r * c + k * s) >> 16)
            inside = inside and y >= 0 and y < rows and x >= 0 and x < columns
    base = tables.raster_first[town] + base_row * columns + base_column
    # The places apart from the look-ups and in 32 bits, so that the arithmetic becomes short vector instructions.
    at = np.empty(STRIP, np.int32)
    for strip in range(0, SIZE, STRIP):
        for r in range(SIZE):
            x, y, line = x0 - r * c + strip * s, y0 - r * s - strip * c, plane[r, strip : strip + STRIP]
            for k in range(STRIP):
                at_row, at_column = np.int32(y - k * c) >> 16, np.int32(x + k * s) >> 16
                at[k] = np.int32(at_row * columns + at_column)
            if inside:
                for k in range(STRIP):
                    line[k] |= raster[np.uint64(base + at[k])]
            else:
                for k in range(STRIP):
                    at_row, at_column = base_row + ((y - k * c) >> 16), base_column + ((x + k * s) >> 16)
                    if at_row >= 0 and at_row < rows and at_column >= 0 and at_column < columns:
                        line[k] |= raster[np.uint64(base + at[k])]


@inner
def draw_route(waypoint_pose, route, eye, plane):
    """Set `plane`, uint8 [192, 192], to ROUTE along the polyline of the waypoints `route`, and to 0 elsewhere."""
    plane[:] = 0
    reach = f32(2.0 * PIXELS_PER_METRE + ROUTE_RADIUS)
    for i in range(len(route) - 1):
        here, ahead = waypoint_pose[route[i]], waypoint_pose[route[i + 1]]
        row, column = to_window(eye, here[0], here[1])
        if in_window(row, column, reach):
            to_row, to_column = to_window(eye, ahead[0], ahead[1])
            fill_line(plane, np.int64(0), row, column, to_row, to_column, f32(ROUTE_RADIUS), np.uint8(ROUTE))


@inner
def draw_actors(eye, poses, kinds, half_sizes, skip, scale, plane, shift, value):
    """Draw the boxes of all actors of a kind at one instant, except the one in slot `skip`."""
    for i in range(poses.shape[0]):
        row, column = to_window(eye, poses[i, 0], poses[i, 1])
        half_length = f32(PIXELS_PER_METRE) * max(half_sizes[i, 0] * scale, SMALLEST_HALF_SIZE)
        half_width = f32(PIXELS_PER_METRE) * max(half_sizes[i, 1] * scale, SMALLEST_HALF_SIZE)
        if not in_window(row, column, half_length + half_width):
            continue
        if kinds[i] == EMPTY or i == skip or abs(poses[i, 2] - eye[2]) >= f32(HEIGHT):
            continue
        along_row, along_column = turned(eye, poses[i, 3])
        fill_box(plane, shift, row, column, along_row, along_column, half_length, half_width, value)


@inner
def draw_stop_sign(eye, pose, half_size, plane, shift, value):
    """Draw the square of a stop sign's trigger box; `half_size` in m."""
    row, column = to_window(eye, pose[0], pose[1])
    half = f32(PIXELS_PER_METRE) * half_size
    if in_window(row, column, f32(2.0) * half) and abs(pose[2] - eye[2]) < f32(HEIGHT):
        along_row, along_column = turned(eye, pose[3])
        fill_box(plane, shift, row, column, along_row, along_column, half, half, value)


@inner
def draw_lights(eye, poses, half_widths, lights, first_light, states, plane, shift, paint):
    """Draw stop lines in the colours of their lights; the state of light n is `states[n - first_light]`."""
    for i in range(poses.shape[0]):
        row, column = to_window(eye, poses[i, 0], poses[i, 1])
        half = f32(PIXELS_PER_METRE) * half_widths[i]
        if not in_window(row, column, half + f32(LIGHT_RADIUS)) or abs(poses[i, 2] - eye[2]) >= f32(HEIGHT):
            continue
        value = paint[states[lights[i] - first_light]]
        if value > 0:
            along_row, along_column = turned(eye, poses[i, 3])
            dr, dc = half * along_column, -half * along_row
            fill_line(plane, shift, row - dr, column - dc, row + dr, column + dc, f32(LIGHT_RADIUS), value)


@inner
def mark_ego(plane, half_size):
    """Put EGO in the place of road and route in the ego's own box (`half_size` in m, from WorldState)."""
    half_length = f32(PIXELS_PER_METRE) * max(half_size[0], SMALLEST_HALF_SIZE)
    half_width = f32(PIXELS_PER_METRE) * max(half_size[1], SMALLEST_HALF_SIZE)
    for r in range(SIZE):
        if abs(f32(r + 0.5 - EGO_ROW)) <= half_length:
            for k in range(SIZE):
                if abs(f32(k + 0.5 - EGO_COLUMN)) <= half_width:
                    plane[r, k] = (plane[r, k] & np.uint8(SOLID | BROKEN)) | np.uint8(EGO)


@inner
def halve(ground, cells):
    """OR each 2 x 2 pixels of the ground, uint8 [192, 192], into a cell, uint8 [96, 96]."""
    for r in range(CELLS):
        upper, lower, line = ground[2 * r], ground[2 * r + 1], cells[r]
        for k in range(CELLS):
            line[k] = upper[2 * k] | upper[2 * k + 1] | lower[2 * k] | lower[2 * k + 1]


@inner
def expand(bits, road, route, markings):
    """The first three planes from the bits of the ground."""
    for r in range(bits.shape[0]):
        for k in range(bits.shape[1]):
            bit = bits[r, k]
            ego = np.uint8(120) if bit & EGO else np.uint8(0)
            road[r, k] = np.uint8(255) if bit & ROAD else ego
            route[r, k] = np.uint8(255) if bit & ROUTE else ego
            markings[r, k] = np.uint8(255) if bit & SOLID else (np.uint8(120) if bit & BROKEN else np.uint8(0))


@kernel
def draw_planes(tables, world, episode, memory, first, last, paint, out):
    """Draw the planes of every ego of worlds `first:last`, with the content that `masks` describes.

    `out`, uint8 [(last - first) * E, 15, n, n]: n is 96 for masks and 192 for native pixels. `paint`, uint8 [7]: the
    values of lights that are off, red, yellow, green, of the stop sign, of vehicles, of walkers. The highest value on a
    cell stays, 0 draws nothing.
    """
    egos = world.ego_control.shape[1]
    shift = 1 if out.shape[2] == CELLS else 0
    ground, cells = np.empty((SIZE, SIZE), np.uint8), np.empty((CELLS, CELLS), np.uint8)
    for b in range(first, last):
        town = world.town[b]
        lines = slice(tables.stop_line_first[town], tables.stop_line_first[town + 1])
        vehicle_sizes, walker_sizes = world.vehicle_half_size[b], world.walker_half_size[b]
        for e in range(egos):
            if world.vehicle_kind[b, e] == EMPTY:
                continue  # it has left the world
            row = b * egos + e
            planes = out[row - first * egos]
            pose = world.vehicle_pose[b, e]
            eye = (pose[0], pose[1], pose[2], np.cos(pose[3]), np.sin(pose[3]))
            begin = episode.route_index[row]
            end = min(begin + ROUTE_AHEAD, episode.route_length[row])
            draw_route(tables.waypoint_pose, episode.route[row, begin:end], eye, ground)
            add_raster(tables, town, eye, ground)
            mark_ego(ground, vehicle_sizes[e])
            if shift == 1:
                halve(ground, cells)
                expand(cells, planes[0], planes[1], planes[2])
            else:
                expand(ground, planes[0], planes[1], planes[2])
            planes[3:] = 0
            for i in range(len(AGES)):
                frame = (memory.newest[b] - min(AGES[i], max(memory.frames[b] - 1, 0))) % FRAMES
                poses, kinds = memory.vehicle_pose[b, frame], memory.vehicle_kind[b, frame]
                draw_actors(eye, poses, kinds, vehicle_sizes, e, f32(1.0), planes[3 + i], shift, paint[VEHICLE])
                poses, kinds, scale = memory.walker_pose[b, frame], memory.walker_kind[b, frame], WALKER_SCALE
                draw_actors(eye, poses, kinds, walker_sizes, NOBODY, scale, planes[7 + i], shift, paint[PEDESTRIAN])
                draw_lights(
                    eye,
                    tables.stop_line_pose[lines],
                    tables.stop_line_half_width[lines],
                    tables.stop_line_light[lines],
                    tables.light_first[town],
                    memory.light_state[b, frame],
                    planes[11 + i],
                    shift,
                    paint,
                )
                sign = memory.stop_sign[b, frame, e]
                if sign >= 0:
                    half = tables.stop_sign_half_size[sign]
                    draw_stop_sign(eye, tables.stop_sign_pose[sign], half, planes[11 + i], shift, paint[STOP])


def masks(
    tables: TownTables,
    world: WorldState,
    episode: EpisodeState,
    memory: ViewMemory,
    first: int,
    last: int,
    out: np.ndarray,
) -> None:
    """Draw the masks of every ego of worlds `first:last` into their rows of `out`, uint8 [A, 15, 96, 96].

    | channel | content | values |
    | --- | --- | --- |
    | 0 | road | 255, the ego's box 120 |
    | 1 | route: the next 80 waypoints, 3.2 m wide | 255, the ego's box 120 |
    | 2 | lane markings | 255, white broken ones 120 |
    | 3 to 6 | vehicles 1.5, 1.0, 0.5 s ago and now | 255 |
    | 7 to 10 | walkers, at twice their size, at the same instants | 255 |
    | 11 to 14 | stop lines and the targeted stop sign, at the same instants | green 80, yellow 170, red 255, sign 255 |

    Drawn at 192 x 192 pixels, a cell being the maximum of its four. The past is drawn in the ego's present frame; where
    the history is shorter, its oldest instant stands in. Boxes have half extents of at least 0.8 m, lines round ends.
    What is 8 m above or below the ego is left out, and so is the ego among the vehicles (Found-RL, section 4.1 and
    released configuration).

    Deviations: shapes are exact, where OpenCV rounds corners to whole pixels and adds their border; the ego is told by
    its slot, not by lying within a metre of the middle; the 8 m hold for stop lines and signs too; the published limits
    of 39 m for actors and 50 m for lights are left to the window, whose farthest corner is 36 m away.
    """
    egos = world.ego_control.shape[1]
    draw_planes(tables, world, episode, memory, first, last, _MASK_PAINT, out[first * egos : last * egos])


@kernel
def state_vector(world, episode, first, last, out):
    """Write the state of every ego of worlds `first:last` into its row of `out`, float32 [A, 10].

    | entry | meaning |
    | --- | --- |
    | 0, 1, 2 | applied throttle in [0, 1], steer in [-1, 1] (positive right), brake in [0, 1] |
    | 3 | gear / 5 |
    | 4, 5 | velocity forward and to the right (CARLA's axes), m/s |
    | 6 | light that governs the ego: 0 none, 1 red, 2 yellow, 3 green |
    | 7 | red or yellow: clip(d - 5, 0, 5) / 5 with d metres to the stop line; -1 otherwise |
    | 8 | fraction of the light's phase that remains, -1 without a light |
    | 9 | 1 when the targeted stop sign is within 10 m and not complied with, else 0 |

    From Found-RL's released configuration; only the gear is scaled.
    """
    egos = world.ego_control.shape[1]
    for b in range(first, last):
        for e in range(egos):
            row = b * egos + e
            entry = out[row]
            for k in range(3):
                entry[k] = world.ego_control[b, e, k]
            entry[3] = f32(world.ego_gear[b, e]) / f32(5.0)
            yaw = world.vehicle_pose[b, e, 3]
            cosine, sine = np.cos(yaw), np.sin(yaw)
            vx, vy = world.vehicle_velocity[b, e, 0], world.vehicle_velocity[b, e, 1]
            entry[4] = vx * cosine + vy * sine
            entry[5] = vx * sine - vy * cosine
            light = episode.light_seen[row]
            entry[6] = f32(light)
            if light == LIGHT_RED or light == LIGHT_YELLOW:
                entry[7] = min(max(episode.light_distance[row] - f32(5.0), f32(0.0)), f32(5.0)) / f32(5.0)
            else:
                entry[7] = f32(-1.0)
            entry[8] = episode.light_remaining[row]
            targeted = episode.stop_sign[row] >= 0 and not episode.stop_complied[row]
            entry[9] = f32(1.0) if targeted and episode.stop_distance[row] <= f32(10.0) else f32(0.0)
