"""The rules of the road and of the task: what an EpisodeState remembers of the WorldStates that pass.

    route planned -> begin -> [ world ticks -> update -> termination.check -> reward -> reward.accumulate ] ...

Kernels over rows take `first_row:last_row`, a slice of the A egos, and leave rows that are not active alone. `begin`
runs the lookups too, so that the first observation knows them. Whatever pairs the ego with something else asks
`same_level`.

Sources: Found-RL's released environment for lights, stop signs, hazards and the route; CARLA leaderboard 1.0
(`atomic_criteria`) for what counts as one collision and for lanes.
"""

import math

import numpy as np

from mentorgym.envs.driving.geometry import (
    SMALLEST_HALF_SIZE,
    WALKER_SCALE,
    boxes_overlap,
    offset_in_frame,
    wrap_angle,
)
from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.map.tables import DRIVABLE, TownTables, nearest_waypoint, raster_bits, same_level
from mentorgym.envs.driving.task.energy import add_energy
from mentorgym.envs.driving.worlds.state import (
    COLLISION_MEMORY,
    CONTACT_STATIC,
    CONTACT_VEHICLE,
    CONTACT_WALKER,
    DEAD_END,
    EMPTY,
    GROWS,
    LIGHT_OFF,
    LIGHT_RED,
    ROUTE_CAPACITY,
    TICK,
    EpisodeState,
    WorldState,
)

ROUTE_WINDOW = 5
"""Waypoints before and behind the ego that progress and the distance to the route look at."""

EXTEND_BELOW = 10
"""An endless route grows when fewer waypoints than this remain."""

OFF_ROUTE = f32(15.0)
"""Metres from the route beyond which driving counts as off it (CARLA leaderboard 1.0)."""

OUTSIDE_MARGIN = f32(1.3)
"""Metres beyond half the lane's width at which the ego is outside."""

WRONG_LANE_ANGLE = f32(math.radians(120.0))
"""Angle between ego and lane beyond which the ego drives against it."""

STANDING_SPEED = f32(0.1)
"""Planar speed in m/s under which the ego stands."""

LIGHT_RANGE = f32(18.0)
RED_LIGHT_RANGE = f32(30.0)
SHORT_LANE = f32(4.0)
"""Lights govern the lane that ends at their stop line and the one 4 m before the line, where the first is shorter."""

SIGN_RANGE = f32(50.0)
SIGN_WAYPOINTS = 20

HAZARD_RANGE = f32(9.5)
VEHICLE_BEARING = f32(math.radians(45.0))
ONCOMING_ANGLE = f32(math.radians(150.0))

IMPULSE = f32(400.0)
"""N s: weaker contacts are no collisions."""

SAME_ACTOR_TICKS = 50
SAME_PLACE = f32(3.0)
FORGET_PLACE = f32(5.0)


@inner
def _nearest_on_route(tables, episode, row, x, y, z):
    """The nearest of the route's waypoints around the last one passed, and its distance in space, m."""
    index = episode.route_index[row]
    best, shortest = episode.route[row, index], f32(np.inf)
    for i in range(max(index - ROUTE_WINDOW, 0), min(index + ROUTE_WINDOW + 1, episode.route_length[row])):
        waypoint = episode.route[row, i]
        dx, dy = tables.waypoint_pose[waypoint, 0] - x, tables.waypoint_pose[waypoint, 1] - y
        dz = tables.waypoint_pose[waypoint, 2] - z
        squared = dx * dx + dy * dy + dz * dz
        if squared < shortest:
            best, shortest = waypoint, squared
    return best, math.sqrt(shortest)


@inner
def follow_route(tables, world, episode, row, b, e):
    """Progress along the route, and the ego's deviation from it.

    A waypoint is passed once the ego is beyond it along its direction; only the next five are looked at. `route_done`
    is the route's length up to the last one passed, so it never falls.
    """
    x, y, z, yaw = world.vehicle_pose[b, e]
    episode.lateral_previous[row] = episode.lateral[row]
    index = episode.route_index[row]
    passed = index
    for i in range(index + 1, min(index + ROUTE_WINDOW + 1, episode.route_length[row])):
        waypoint = episode.route[row, i]
        pose, direction = tables.waypoint_pose[waypoint], tables.waypoint_direction[waypoint]
        along = (x - pose[0]) * direction[0] + (y - pose[1]) * direction[1]
        if along >= 0 and same_level(z - pose[2]):
            passed = i
    for i in range(index, passed):
        start, end = tables.waypoint_pose[episode.route[row, i]], tables.waypoint_pose[episode.route[row, i + 1]]
        episode.route_done[row] += math.sqrt((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2)
    episode.route_index[row] = passed
    waypoint = episode.route[row, passed]
    pose, direction = tables.waypoint_pose[waypoint], tables.waypoint_direction[waypoint]
    episode.lateral[row] = abs((y - pose[1]) * direction[0] - (x - pose[0]) * direction[1])
    episode.yaw_error[row] = wrap_angle(yaw - pose[3])
    episode.off_route[row] = _nearest_on_route(tables, episode, row, x, y, z)[1]
    dx, dy = episode.goal[row, 0] - x, episode.goal[row, 1] - y
    at_level = same_level(episode.goal[row, 2] - z)
    episode.goal_distance[row] = math.sqrt(dx * dx + dy * dy) if at_level else f32(np.inf)


@inner
def find_lane(tables, world, episode, row, b, e):
    """The lane under the ego's centre, and whether the ego is outside every lane or drives against its own.

    Where lanes cross, in junctions, the route's own lane counts as long as the ego is within its half width, and no
    lane is the wrong one. Deviation from Found-RL's `ego_vehicle_handler`, which looks for jumps of the lane's
    direction (120 degrees after a junction, 150 elsewhere): the heading is compared with the lane's, which needs no
    memory.
    """
    x, y, z, yaw = world.vehicle_pose[b, e]
    waypoint, _ = nearest_waypoint(tables, world.town[b], x, y, z)
    if waypoint < 0:
        episode.lane[row], episode.lane_distance[row] = -1, np.inf
        episode.outside[row], episode.wrong_lane[row] = 1, 0
        return
    in_junction = tables.lane_junction[tables.waypoint_lane[waypoint]] >= 0
    if in_junction:
        on_route, distance = _nearest_on_route(tables, episode, row, x, y, z)
        if distance <= f32(0.5) * tables.waypoint_width[on_route]:
            waypoint = on_route
    lane = tables.waypoint_lane[waypoint]
    pose = tables.waypoint_pose[waypoint]
    along, lateral = offset_in_frame(x - pose[0], y - pose[1], pose[3])
    beyond = max(abs(along) - tables.lane_step[lane], f32(0.0))
    distance = math.sqrt(lateral * lateral + beyond * beyond)
    outside = distance > f32(0.5) * tables.waypoint_width[waypoint] + OUTSIDE_MARGIN
    against = abs(wrap_angle(yaw - pose[3])) > WRONG_LANE_ANGLE
    episode.lane[row], episode.lane_distance[row] = lane, distance
    episode.outside[row], episode.wrong_lane[row] = outside, against and not outside and not in_junction


@inner
def _lane_has_line(tables, waypoint, line):
    """Whether a waypoint is on the lane that ends at a stop line, or on the lane 4 m before the line.

    Nearest waypoints are never lanes' ends, so the first one of what follows still belongs to the lane.
    """
    here, lane = tables.waypoint_lane[waypoint], tables.stop_line_lane[line]
    if here == lane:
        return True
    if waypoint == tables.lane_first[here]:
        for i in range(tables.predecessor_first[here], tables.predecessor_first[here + 1]):
            if tables.predecessor[i] == lane:
                return True
    if tables.lane_length[lane] < SHORT_LANE:
        for i in range(tables.predecessor_first[lane], tables.predecessor_first[lane + 1]):
            if tables.predecessor[i] == here:
                return True
    return False


@inner
def _line_faces(tables, line, x, y, z, yaw, reach):
    """Whether a stop line's middle is within `reach` metres of a point, on its level, and crossed in this direction."""
    pose = tables.stop_line_pose[line]
    dx, dy = pose[0] - x, pose[1] - y
    return dx * dx + dy * dy <= reach * reach and same_level(pose[2] - z) and math.cos(pose[3] - yaw) > 0


@inner
def find_light(tables, world, episode, row, b, e):
    """The traffic light that governs the ego (Found-RL's state vector and reward), if it is on.

    It is looked up from a point 0.8 half lengths behind the ego's centre, so that it holds until the ego's tail has
    passed: the nearest stop line within 18 m of that point, in its lane and crossed in its direction.
    """
    town = world.town[b]
    x, y, z, yaw = world.vehicle_pose[b, e]
    back = f32(0.8) * world.vehicle_half_size[b, e, 0]
    probe_x, probe_y = x - back * math.cos(yaw), y - back * math.sin(yaw)
    waypoint, _ = nearest_waypoint(tables, town, probe_x, probe_y, z)
    governing, nearest = -1, f32(np.inf)
    for line in range(tables.stop_line_first[town], tables.stop_line_first[town + 1]):
        light = tables.stop_line_light[line] - tables.light_first[town]
        if waypoint < 0 or world.light_state[b, light] == LIGHT_OFF:
            continue
        if not _line_faces(tables, line, probe_x, probe_y, z, yaw, LIGHT_RANGE):
            continue
        dx, dy = tables.stop_line_pose[line, 0] - x, tables.stop_line_pose[line, 1] - y
        distance = math.sqrt(dx * dx + dy * dy)
        if distance < nearest and _lane_has_line(tables, waypoint, line):
            governing, nearest = line, distance
    episode.light[row], episode.light_distance[row] = governing, nearest
    episode.light_seen[row], episode.light_remaining[row] = LIGHT_OFF, -1.0
    if governing >= 0:
        light = tables.stop_line_light[governing] - tables.light_first[town]
        left = max(world.light_duration[b, light] - world.light_elapsed[b, light], f32(0.0))
        episode.light_seen[row] = world.light_state[b, light]
        episode.light_remaining[row] = left / max(world.light_duration[b, light], f32(TICK))


@inner
def _reaches_line(tables, line, ax, ay, bx, by):
    """Whether the segment from a to b meets a stop line."""
    x, y, _, yaw = tables.stop_line_pose[line]
    a_along, a_left = offset_in_frame(ax - x, ay - y, yaw)
    b_along, b_left = offset_in_frame(bx - x, by - y, yaw)
    if a_along * b_along > 0 or a_along == b_along:
        return False
    left = a_left + (b_left - a_left) * a_along / (a_along - b_along)
    return abs(left) <= tables.stop_line_half_width[line]


@inner
def count_red_lights(tables, world, episode, row, b, e):
    """A red light is run when a red light's stop line, within 30 m, lies under the ego's tail.

    The tail is the segment from 0.8 half lengths to half a length + 1 m behind the centre; its far end must be in the
    line's lane and the ego face the line's direction. The light counted last is not counted again until another one
    has been.
    """
    town = world.town[b]
    x, y, z, yaw = world.vehicle_pose[b, e]
    cos, sin = math.cos(yaw), math.sin(yaw)
    near = f32(0.8) * world.vehicle_half_size[b, e, 0]
    far = world.vehicle_half_size[b, e, 0] + f32(1.0)
    waypoint, _ = nearest_waypoint(tables, town, x - far * cos, y - far * sin, z)
    episode.event_red[row] = 0
    for line in range(tables.stop_line_first[town], tables.stop_line_first[town + 1]):
        light = tables.stop_line_light[line]
        if waypoint < 0 or light == episode.red_counted[row]:
            continue
        if world.light_state[b, light - tables.light_first[town]] != LIGHT_RED:
            continue
        if not _line_faces(tables, line, x, y, z, yaw, RED_LIGHT_RANGE):
            continue
        if not _reaches_line(tables, line, x - near * cos, y - near * sin, x - far * cos, y - far * sin):
            continue
        if _lane_has_line(tables, waypoint, line):
            episode.red_counted[row] = light
            episode.event_red[row] = 1
            episode.red_lights[row] += 1


@inner
def _in_sign_box(tables, sign, x, y, z):
    """Whether a point is in a stop sign's box, on its level."""
    pose, half = tables.stop_sign_pose[sign], tables.stop_sign_half_size[sign]
    ahead, left = offset_in_frame(x - pose[0], y - pose[1], pose[3])
    return abs(ahead) <= half and abs(left) <= half and same_level(z - pose[2])


@inner
def _sign_applies(tables, episode, row, sign, x, y, z):
    """Whether a stop sign is within 50 m and its box holds the ego's centre or one of the route's next 20 waypoints."""
    dx, dy = tables.stop_sign_pose[sign, 0] - x, tables.stop_sign_pose[sign, 1] - y
    if dx * dx + dy * dy > SIGN_RANGE * SIGN_RANGE:
        return False
    if _in_sign_box(tables, sign, x, y, z):
        return True
    ahead = episode.route_index[row] + 1
    for i in range(ahead, min(ahead + SIGN_WAYPOINTS, episode.route_length[row])):
        wx, wy, wz, _ = tables.waypoint_pose[episode.route[row, i]]
        if _in_sign_box(tables, sign, wx, wy, wz):
            return True
    return False


@inner
def follow_stop_signs(tables, world, episode, row, b, e):
    """The stop sign that concerns the ego: entered, complied with by standing, or run by leaving it without.

    Signs are not targeted while the ego is in the wrong lane. The waypoints ahead are the route's; Found-RL takes the
    first branch of the map at every fork.
    """
    town = world.town[b]
    x, y, z, _ = world.vehicle_pose[b, e]
    sign = episode.stop_sign[row]
    if sign < 0 and not episode.wrong_lane[row]:
        for candidate in range(tables.stop_sign_first[town], tables.stop_sign_first[town + 1]):
            if _sign_applies(tables, episode, row, candidate, x, y, z):
                sign = candidate
                break
    episode.event_stop[row] = 0
    episode.stop_distance[row] = np.inf
    if sign >= 0:
        vx, vy = world.vehicle_velocity[b, e]
        if math.sqrt(vx * vx + vy * vy) < STANDING_SPEED:
            episode.stop_complied[row] = 1
        if _in_sign_box(tables, sign, x, y, z):
            episode.stop_entered[row] = 1
        if _sign_applies(tables, episode, row, sign, x, y, z):
            dx, dy = tables.stop_sign_pose[sign, 0] - x, tables.stop_sign_pose[sign, 1] - y
            episode.stop_distance[row] = math.sqrt(dx * dx + dy * dy)
        else:
            violated = episode.stop_entered[row] and not episode.stop_complied[row]
            episode.event_stop[row] = violated
            episode.stop_signs[row] += violated
            episode.stop_entered[row], episode.stop_complied[row] = 0, 0
            sign = -1
    episode.stop_sign[row] = sign


@inner
def find_hazards(tables, world, episode, row, b, e):
    """Distances, centre to centre, to the nearest vehicle and walker that the ego should slow down for, within 9.5 m.

    A vehicle within 45 degrees of straight ahead that is not oncoming (headings within 150 degrees); a walker on a
    driving lane within 162 / (clip(d, 1.5, 10.5) + 0.3) degrees. Found-RL looks at the ten nearest of each; here all
    are.
    """
    x, y, z, yaw = world.vehicle_pose[b, e]
    nearest = f32(np.inf)
    for v in range(world.vehicle_pose.shape[1]):
        dx, dy = world.vehicle_pose[b, v, 0] - x, world.vehicle_pose[b, v, 1] - y
        distance = math.sqrt(dx * dx + dy * dy)
        if distance >= min(nearest, HAZARD_RANGE) or v == e or world.vehicle_kind[b, v] == EMPTY:
            continue
        ahead, left = offset_in_frame(dx, dy, yaw)
        if abs(math.atan2(left, ahead)) >= VEHICLE_BEARING or not same_level(world.vehicle_pose[b, v, 2] - z):
            continue
        if abs(wrap_angle(world.vehicle_pose[b, v, 3] - yaw)) <= ONCOMING_ANGLE:
            nearest = distance
    episode.vehicle_hazard[row] = nearest
    nearest = f32(np.inf)
    for w in range(world.walker_pose.shape[1]):
        wx, wy = world.walker_pose[b, w, 0], world.walker_pose[b, w, 1]
        distance = math.sqrt((wx - x) * (wx - x) + (wy - y) * (wy - y))
        if distance >= min(nearest, HAZARD_RANGE) or world.walker_kind[b, w] == EMPTY:
            continue
        ahead, left = offset_in_frame(wx - x, wy - y, yaw)
        bearing = math.radians(f32(162.0) / (min(max(distance, f32(1.5)), f32(10.5)) + f32(0.3)))
        if abs(math.atan2(left, ahead)) >= bearing or not same_level(world.walker_pose[b, w, 2] - z):
            continue
        if raster_bits(tables, world.town[b], wx, wy) & DRIVABLE:
            nearest = distance
    episode.walker_hazard[row] = nearest


@inner
def count_collisions(world, episode, row, b, e):
    """Count contacts of at least 400 N s as collisions, each once.

    The same actor is not counted again within 5 s, nor is any actor while the ego is within 3 m of where it was when
    one was counted; a place is forgotten once the ego has been more than 5 m away.
    """
    x, y = world.vehicle_pose[b, e, 0], world.vehicle_pose[b, e, 1]
    ids, ticks, places = episode.collision_id[row], episode.collision_tick[row], episode.collision_position[row]
    place = f32(np.inf)
    for m in range(COLLISION_MEMORY):
        if ids[m] < 0:
            continue
        distance = math.sqrt((places[m, 0] - x) ** 2 + (places[m, 1] - y) ** 2)
        if distance > FORGET_PLACE:
            places[m] = np.inf
            if world.tick[b] - ticks[m] > SAME_ACTOR_TICKS:
                ids[m] = -1
        place = min(place, distance)
    episode.event_collision[row] = 0
    for k in range(world.contact_count[b, e]):
        actor = world.contact_id[b, e, k]
        known = False
        oldest = 0
        for m in range(COLLISION_MEMORY):
            known |= ids[m] == actor and world.tick[b] - ticks[m] <= SAME_ACTOR_TICKS
            if ids[oldest] >= 0 and (ids[m] < 0 or ticks[m] < ticks[oldest]):
                oldest = m
        if known or place <= SAME_PLACE or world.contact_impulse[b, e, k] < IMPULSE:
            continue
        ids[oldest], ticks[oldest] = actor, world.tick[b]
        places[oldest, 0], places[oldest, 1] = x, y
        place = f32(0.0)
        episode.event_collision[row] = 1
        kind = world.contact_kind[b, e, k]
        episode.static_collisions[row] += kind == CONTACT_STATIC
        episode.vehicle_collisions[row] += kind == CONTACT_VEHICLE
        episode.walker_collisions[row] += kind == CONTACT_WALKER
        episode.other_collisions[row] += kind > CONTACT_WALKER


@inner
def find_pixel_collisions(world, episode, row, b, e):
    """Whether the ego's box overlaps a walker's enlarged box (see WALKER_SCALE, SMALLEST_HALF_SIZE).

    Deviation from Found-RL, which intersects the two masks of the bird's-eye view: the rotated boxes themselves are
    intersected, so that the rule holds without drawing and to less than a pixel.
    """
    x, y, z, yaw = world.vehicle_pose[b, e]
    length, width, _ = world.vehicle_half_size[b, e]
    episode.event_pixel[row] = 0
    for w in range(world.walker_pose.shape[1]):
        if world.walker_kind[b, w] == EMPTY or not same_level(world.walker_pose[b, w, 2] - z):
            continue
        wx, wy, _, walker_yaw = world.walker_pose[b, w]
        half_length = max(WALKER_SCALE * world.walker_half_size[b, w, 0], SMALLEST_HALF_SIZE)
        half_width = max(WALKER_SCALE * world.walker_half_size[b, w, 1], SMALLEST_HALF_SIZE)
        reach = length + width + half_length + half_width
        if abs(wx - x) < reach and abs(wy - y) < reach:
            if boxes_overlap(x, y, yaw, length, width, wx, wy, walker_yaw, half_length, half_width):
                episode.event_pixel[row] = 1


@inner
def _add_up(world, episode, row, b, e):
    """The timer of standing, and the sums."""
    vx, vy = world.vehicle_velocity[b, e]
    speed = math.sqrt(vx * vx + vy * vy)
    driven = np.float64(speed) * TICK
    episode.steps[row] += 1
    episode.standing[row] = episode.standing[row] + f32(TICK) if speed < STANDING_SPEED else f32(0.0)
    episode.speed_sum[row] += speed
    episode.outside_driven[row] += driven * episode.outside[row]
    episode.wrong_lane_driven[row] += driven * episode.wrong_lane[row]
    episode.off_route_driven[row] += driven * (episode.off_route[row] > OFF_ROUTE)


@kernel
def update(tables, world, episode, first_row, last_row, ticked):
    """Bring active egos up to date: look everything up and, once per tick (`ticked`), count what it brought.

    Counting means infractions (`event_*` say which of them happened now), the step, and the sums; distances driven are
    planar speed times the tick.
    """
    egos = world.ego_control.shape[1]
    for row in range(first_row, last_row):
        if not episode.active[row]:
            continue
        b, e = row // egos, row % egos
        follow_route(tables, world, episode, row, b, e)
        find_lane(tables, world, episode, row, b, e)
        find_light(tables, world, episode, row, b, e)
        follow_stop_signs(tables, world, episode, row, b, e)
        find_hazards(tables, world, episode, row, b, e)
        if ticked:
            count_red_lights(tables, world, episode, row, b, e)
            count_collisions(world, episode, row, b, e)
            find_pixel_collisions(world, episode, row, b, e)
            _add_up(world, episode, row, b, e)
            add_energy(world, episode, row, b, e)


def _measure(tables: TownTables, episode: EpisodeState, row: int, first_index: int) -> None:
    """Add the route's length from `first_index` on to its total, and set the goal."""
    pose = tables.waypoint_pose[episode.route[row, first_index : episode.route_length[row]]]
    episode.route_total[row] += np.hypot(*np.diff(pose[:, :2], axis=0).T).sum(dtype=np.float64)
    episode.goal[row] = pose[-1, :3]


def begin(
    tables: TownTables, world: WorldState, episode: EpisodeState, row: int, route: np.ndarray, endless: bool
) -> None:
    """Start an episode: forget everything in this row of `episode`, and look at the world as it stands.

    Args:
        route: int32 [n], 2 <= n <= ROUTE_CAPACITY: waypoints in driving order from the ego's place, about 1 m apart and
            without the lanes' end points.
        endless: whether `extend` will lengthen the route, so that it never counts as completed.

    Raises:
        ValueError: the route is too short or too long.
    """
    if not 2 <= len(route) <= ROUTE_CAPACITY:
        raise ValueError(f"a route of {len(route)} waypoints, not 2 to {ROUTE_CAPACITY}: choose start and goal anew")
    for array in episode:
        array[row] = 0
    episode.red_counted[row] = episode.stop_sign[row] = episode.collision_id[row] = -1
    episode.active[row], episode.endless[row] = 1, GROWS * endless
    episode.route[row, : len(route)], episode.route_length[row] = route, len(route)
    world_index, ego = divmod(row, world.ego_control.shape[1])
    episode.steer_previous[row] = world.ego_control[world_index, ego, 1]
    _measure(tables, episode, row, 0)
    update(tables, world, episode, row, row + 1, False)
    episode.lateral_previous[row] = episode.lateral[row]


def needs_extension(episode: EpisodeState, row: int | slice) -> np.bool | np.ndarray:
    """Whether the route of an ego (of each ego in a slice) grows and is nearly driven."""
    remaining = episode.route_length[row] - 1 - episode.route_index[row]
    return (episode.endless[row] == GROWS) & (remaining < EXTEND_BELOW)


def extend(tables: TownTables, episode: EpisodeState, row: int, more: np.ndarray) -> None:
    """Append int32 [n] waypoints, the first of which follows the route's last one, and move the goal.

    What lies behind the ego is dropped when there is no room; `route_done` and `route_total` go on counting from the
    start.

    Raises:
        ValueError: the waypoints ahead and the new ones exceed ROUTE_CAPACITY.
    """
    length = int(episode.route_length[row])
    if length + len(more) > ROUTE_CAPACITY:
        dropped = max(int(episode.route_index[row]) - ROUTE_WINDOW, 0)
        kept = episode.route[row, dropped:length].copy()
        if len(kept) + len(more) > ROUTE_CAPACITY:
            raise ValueError(
                f"{len(kept)} waypoints and {len(more)} more exceed the route's {ROUTE_CAPACITY}: extend it by less"
            )
        length = len(kept)
        episode.route[row, :length] = kept
        episode.route_index[row] -= dropped
    episode.route[row, length : length + len(more)] = more
    episode.route_length[row] = length + len(more)
    _measure(tables, episode, row, length - 1)


def stop_growth(episode: EpisodeState, row: int) -> None:
    """Say that no lane leads on from the end of an endless route: the episode is completed there."""
    episode.endless[row] = DEAD_END
