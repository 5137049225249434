"""The picture's colours and order, and the numbers of a prompt."""

import numpy as np
import pytest

from mentorgym.envs.driving.map.tables import BROKEN, CHANGE_LEFT, CHANGE_RIGHT, FOLLOW, LEFT, RIGHT, ROAD, SOLID
from mentorgym.envs.driving.view.masks import draw_planes, empty_view_memory, masks, remember
from mentorgym.envs.driving.view.picture import COMMAND_NAMES, picture, pictures, prompt_context, prompt_contexts
from mentorgym.envs.driving.worlds.state import (
    CAR,
    LIGHT_GREEN,
    LIGHT_RED,
    LIGHT_YELLOW,
    WALKER,
    empty_episode_state,
    empty_world_state,
)
from tests.envs.driving.synthetic import move, random_scene, random_town, town_tables

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
ROAD_GREY, ROUTE_GREY, MAGENTA, PINK = (46, 52, 54), (136, 138, 133), (255, 0, 255), (255, 140, 255)
TINTED = {
    "vehicle": [(153, 153, 255), (102, 102, 255), (51, 51, 255), (0, 0, 255)],
    "walker": [(153, 255, 255), (102, 255, 255), (51, 255, 255), (0, 255, 255)],
    "green": [(153, 255, 153), (102, 255, 102), (51, 255, 51), (0, 255, 0)],
    "yellow": [(255, 255, 153), (255, 255, 102), (255, 255, 51), (255, 255, 0)],
    "red": [(255, 153, 153), (255, 102, 102), (255, 51, 51), (255, 0, 0)],
    "stop": [(217, 217, 153), (198, 198, 102), (179, 179, 51), (160, 160, 0)],
}


class Plain:
    """A plain of 100 x 100 m around the one ego, with a stop line, its light and a stop sign at each of four places."""

    places = np.array([(20.0, -12.0), (20.0, -4.0), (20.0, 4.0), (20.0, 12.0)])

    def __init__(self, **fields):
        poses = np.column_stack([self.places, np.zeros((4, 2))])
        fields = (
            dict(
                raster=np.zeros((500, 500)),
                raster_origin=[(-50.0, -50.0)],
                stop_line_first=[0, 4],
                stop_line_pose=poses,
                stop_line_half_width=np.full(4, 1.5),
                stop_line_light=np.arange(4),
                light_first=[0, 4],
                stop_sign_first=[0, 4],
                stop_sign_pose=poses,
                stop_sign_half_size=np.full(4, 1.5),
            )
            | fields
        )
        self.tables = town_tables(**fields)
        self.world, self.episode = empty_world_state(1, 5, 4, 4), empty_episode_state(1)
        self.memory = empty_view_memory(1, 5, 4, 4)
        self.world.vehicle_half_size[:], self.world.walker_half_size[:] = (2.4, 1.0, 0.8), (0.4, 0.4, 0.9)
        self.world.vehicle_kind[0, 0] = CAR
        self.episode.stop_sign[:] = -1

    def push(self, restart=False):
        remember(self.world, self.episode, self.memory, 0, 1, np.array([restart], np.uint8))

    def picture(self):
        return picture(self.tables, self.world, self.episode, self.memory, 0)

    def at(self, x, y):
        """Colour of the picture at a point in the ego's frame, y to the left."""
        return tuple(int(c) for c in self.picture()[int(152 - 5 * x), int(96 - 5 * y)])


@pytest.mark.parametrize("thing", TINTED)
def test_the_past_is_tinted_and_lies_under_the_present(thing):
    plain = Plain()
    world = plain.world
    for tick in range(16):
        # The thing stands at its own place at each of the four instants shown, and nowhere in between.
        instant = {0: 0, 5: 1, 10: 2, 15: 3}.get(tick)
        world.vehicle_kind[0, 1], world.walker_kind[0, 0] = 0, 0
        world.light_state[:], plain.episode.stop_sign[:] = 0, -1
        if instant is not None:
            world.vehicle_pose[0, 1, :2] = world.walker_pose[0, 0, :2] = plain.places[instant]
            if thing == "vehicle":
                world.vehicle_kind[0, 1] = CAR
            elif thing == "walker":
                world.walker_kind[0, 0] = WALKER
            elif thing == "stop":
                plain.episode.stop_sign[:] = instant
            else:
                world.light_state[0, instant] = {"green": LIGHT_GREEN, "yellow": LIGHT_YELLOW, "red": LIGHT_RED}[thing]
        plain.push()
    assert [plain.at(*place) for place in plain.places] == TINTED[thing]
    colours = {tuple(colour) for colour in plain.picture().reshape(-1, 3).tolist()}
    assert colours == {BLACK, WHITE, *TINTED[thing]}


def test_the_same_place_at_two_instants_shows_the_later_one():
    plain = Plain()
    plain.world.vehicle_pose[0, 1, :2] = 10.0, 0.0
    plain.world.vehicle_kind[0, 1] = CAR
    plain.push()
    plain.world.vehicle_pose[0, 1, 0] = 12.0
    plain.push()
    assert plain.at(11.0, 0.0) == TINTED["vehicle"][3]
    assert plain.at(8.0, 0.0) == TINTED["vehicle"][2], "of three equal instants the latest is on top"


def test_painters_order_of_still_things():
    raster = np.zeros((500, 500), np.uint8)
    raster[:, 250:] = ROAD
    raster[:, 300:310] |= SOLID
    raster[:, 320:330] |= BROKEN
    plain = Plain(raster=raster, waypoint_pose=[(x, 0, 0, 0) for x in range(-10, 40)])
    plain.episode.route[0, :50], plain.episode.route_length[0] = np.arange(50), 50
    plain.push()
    assert [plain.at(-5, 10), plain.at(5, 10), plain.at(5, 0), plain.at(11, 0), plain.at(15, 0), plain.at(0, 0)] == [
        BLACK,
        ROAD_GREY,
        ROUTE_GREY,
        MAGENTA,
        PINK,
        WHITE,
    ]


def test_painters_order_of_moving_things():
    plain = Plain(raster=np.full((500, 500), ROAD | SOLID))
    world, episode, place = plain.world, plain.episode, (10.0, 0.0)
    plain.tables.stop_line_pose[:, :2] = plain.tables.stop_sign_pose[:, :2] = place
    world.vehicle_pose[0, 1, :2] = world.walker_pose[0, 0, :2] = place
    shown = []

    def look():
        plain.push(restart=True)
        shown.append(plain.at(*place))

    look()
    episode.stop_sign[:] = 0
    look()
    for light, state in enumerate((LIGHT_GREEN, LIGHT_YELLOW, LIGHT_RED)):
        world.light_state[0, light] = state
        look()
    world.vehicle_kind[0, 1] = CAR
    look()
    world.walker_kind[0, 0] = WALKER
    look()
    world.vehicle_pose[0, 0, 0] = 10.0
    plain.push(restart=True)
    shown.append(plain.at(0, 0))
    now = [TINTED[thing][3] for thing in ("stop", "green", "yellow", "red", "vehicle", "walker")]
    assert shown == [MAGENTA, *now, WHITE]


def test_an_older_red_lies_over_a_newer_green():
    plain = Plain()
    plain.world.light_state[:] = LIGHT_RED
    plain.push()
    for _ in range(4):
        plain.world.light_state[:] = LIGHT_GREEN
        plain.push()
    assert plain.at(*plain.places[0]) == TINTED["red"][2]


def test_picture_shows_at_192_pixels_what_the_masks_hold_at_96():
    rng = np.random.default_rng(1)
    tables = random_town(rng)
    world, episode = random_scene(rng, tables, worlds=5, egos=2)
    memory = empty_view_memory(5, 60, 60, 30, egos=2)
    for tick in range(16):
        remember(world, episode, memory, 0, 5, np.full(5, tick == 0, np.uint8))
        move(rng, world, episode)
    out = np.zeros((10, 15, 96, 96), np.uint8)
    masks(tables, world, episode, memory, 0, 5, out)
    for row in range(10):
        image = picture(tables, world, episode, memory, row)
        assert image.shape == (192, 192, 3) and image.dtype == np.uint8
        walkers = (image == TINTED["walker"][3]).all(-1).reshape(96, 2, 96, 2).any((1, 3))
        hidden = (image == WHITE).all(-1).reshape(96, 2, 96, 2).any((1, 3))
        assert np.array_equal(walkers | hidden, (out[row, 10] > 0) | hidden), f"row {row}"
    assert len(draw_planes.signatures) == 1, "masks and pictures share one compiled kernel"


def layers(planes):
    """Masks and their colours in painter's order, of planes that hold the values of the test below."""
    road, route, marking = planes[:3]
    yield road == 255, (46, 52, 54)
    yield route == 255, (136, 138, 133)
    yield marking == 255, (255, 0, 255)
    yield marking == 120, (255, 140, 255)
    for value, first, thing in (
        (1, 11, "stop"),
        (2, 11, "green"),
        (3, 11, "yellow"),
        (4, 11, "red"),
        (5, 3, "vehicle"),
        (6, 7, "walker"),
    ):
        for plane, colour in zip(planes[first : first + 4], TINTED[thing], strict=True):
            yield plane == value, colour
    yield road == 120, WHITE


def test_pictures_are_their_layers_painted_one_after_another():
    rng = np.random.default_rng(3)
    tables = random_town(rng)
    world, episode = random_scene(rng, tables, worlds=4, egos=2)
    memory = empty_view_memory(4, 60, 60, 30, egos=2)
    for tick in range(16):
        remember(world, episode, memory, 0, 4, np.full(4, tick == 0, np.uint8))
        move(rng, world, episode)
    planes = np.empty((8, 15, 192, 192), np.uint8)
    # Off, red, yellow, green, stop sign, vehicles, walkers.
    draw_planes(tables, world, episode, memory, 0, 4, np.array([0, 4, 3, 2, 1, 5, 6], np.uint8), planes)
    rows = [5, 0, 3]
    for row, image in zip(rows, pictures(tables, world, episode, memory, rows), strict=True):
        painted = np.zeros((192, 192, 3), np.uint8)
        for covered, colour in layers(planes[row]):
            painted[covered] = colour
        np.testing.assert_array_equal(image, painted)


def test_an_ego_that_has_left_sees_nothing():
    plain = Plain(raster=np.full((500, 500), ROAD))
    plain.push()
    plain.world.vehicle_kind[0, 0] = 0
    assert not plain.picture().any()


def chain(*stretches, number=-1):
    """Tables and a route of stretches (metres, command) along x, each a lane of its own."""
    counts, commands = zip(*stretches, strict=True)
    lane = np.repeat(np.arange(len(counts)), counts)
    points = len(lane)
    tables = town_tables(
        waypoint_pose=np.column_stack([np.arange(points), np.zeros((points, 3))]),
        waypoint_lane=lane,
        lane_turn=commands,
        lane_road=np.arange(len(counts)),
        lane_section=np.zeros(len(counts)),
        lane_number=np.broadcast_to(number, len(counts)),
    )
    return tables, np.arange(points)


def context(tables, route, x, y=0.0, yaw=0.0, index=None, velocity=(0.0, 0.0)):
    world, episode = empty_world_state(1, 1, 0, 0), empty_episode_state(1)
    world.vehicle_pose[0, 0], world.vehicle_velocity[0, 0] = (x, y, 0, yaw), velocity
    episode.route[0, : len(route)], episode.route_length[0] = route, len(route)
    episode.route_index[0] = int(x) if index is None else index
    return prompt_context(tables, world, episode, 0)


def test_prompt_context_gives_forward_speed_and_the_target_to_the_right():
    tables, route = chain((200, FOLLOW))
    told = context(tables, route, 10.0, y=3.0, velocity=(4.0, 1.0))
    assert told["speed"] == pytest.approx(4.0)
    assert told["target"] == pytest.approx((40.0, 3.0))
    turned = context(tables, route, 10.0, y=3.0, yaw=np.pi / 2, velocity=(4.0, 1.0))
    assert turned["speed"] == pytest.approx(1.0)
    assert turned["target"] == pytest.approx((-3.0, 40.0), abs=1e-5)


def test_prompt_context_announces_a_turn_before_the_junction_and_through_it():
    tables, route = chain((40, FOLLOW), (15, RIGHT), (70, FOLLOW))
    commands = [context(tables, route, x)["command"] for x in (5.0, 39.5, 41.0, 54.5, 56.0, 110.0)]
    assert commands == [RIGHT, RIGHT, RIGHT, RIGHT, FOLLOW, FOLLOW]
    assert context(tables, route, 5.0)["command_name"] == COMMAND_NAMES[RIGHT]


def test_target_points_stand_at_changes_of_command_every_50_m_and_at_the_end():
    tables, route = chain((120, FOLLOW), (15, LEFT), (60, FOLLOW))
    ahead = {x: context(tables, route, float(x))["target"][0] + x for x in range(194)}
    places = [50, 100, 120, 135, 185, 194]
    assert ahead == {x: next(place for place in places if place > x) for x in range(194)}


@pytest.mark.parametrize(
    "numbers, side, command",
    [
        ((-2, -1), 3.5, CHANGE_LEFT),
        ((-1, -2), -3.5, CHANGE_RIGHT),
        ((2, 1), 3.5, CHANGE_LEFT),
        ((1, 2), -3.5, CHANGE_RIGHT),
        ((1, 2), 3.5, CHANGE_LEFT),  # traffic keeps left
        ((-1, -2), 3.5, CHANGE_LEFT),
    ],
)
def test_a_lane_change_is_a_command_of_its_own(numbers, side, command):
    tables, route = chain((30, FOLLOW), (30, FOLLOW), number=numbers)
    tables.lane_road[:] = 7
    tables.waypoint_pose[route[30:], 1] += side
    told = [context(tables, route, float(x)) for x in range(59)]
    assert [each["command"] for each in told] == [command] * 31 + [FOLLOW] * 28
    assert [each["target"][0] + x for x, each in enumerate(told)] == [30.0] * 30 + [31.0] + [59.0] * 28


def slow_context(tables, route, index, pose):
    """Target and command of a route, from lists of all its commands and metres."""
    lane = tables.waypoint_lane[route].tolist()
    commands = [int(tables.lane_turn[each]) for each in lane]
    for place in range(1, len(route)):
        before, after = lane[place - 1], lane[place]
        same = all(
            getattr(tables, name)[before] == getattr(tables, name)[after] for name in ("lane_road", "lane_section")
        )
        if same and tables.lane_number[after] != tables.lane_number[before]:
            step = tables.waypoint_pose[route[place]] - tables.waypoint_pose[route[place - 1]]
            yaw = tables.waypoint_pose[route[place - 1], 3]
            commands[place] = CHANGE_LEFT if step[1] * np.cos(yaw) > step[0] * np.sin(yaw) else CHANGE_RIGHT
    points = tables.waypoint_pose[route, :2].astype(float)
    metres = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    x, y, _, yaw = pose
    start, candidates = 0, []
    for place in range(1, len(route)):
        if commands[place] != commands[place - 1]:
            start = place
            candidates.append(place)
        elif (metres[place] - metres[start]) // 50 != (metres[place - 1] - metres[start]) // 50:
            candidates.append(place)
    for place in [each for each in candidates if each > index] + [len(route) - 1]:
        offset = points[place] - (x, y)
        target = (offset @ (np.cos(yaw), np.sin(yaw)), offset @ (np.sin(yaw), -np.cos(yaw)))
        if target[0] >= 0 or np.hypot(*target) >= 12:
            break
    return target, commands[place] if commands[index] == FOLLOW else commands[index]


def test_prompt_contexts_agree_with_lists_of_commands_and_metres():
    rng = np.random.default_rng(4)
    tables = random_town(rng)
    tables.lane_turn[:] = rng.choice([LEFT, RIGHT, FOLLOW, FOLLOW], len(tables.lane_turn))
    tables.lane_road[:], tables.lane_number[:] = rng.integers(0, 3, 40), rng.integers(-3, 0, 40)
    world, episode = random_scene(rng, tables, worlds=30)
    for row in range(30):
        # Pieces of several lanes.
        route = np.concatenate([lane * 101 + np.arange(rng.integers(2, 101)) for lane in rng.integers(0, 40, 6)])
        episode.route[row, : len(route)], episode.route_length[row] = route, len(route)
        episode.route_index[row] = rng.integers(0, len(route))
        place = tables.waypoint_pose[route[episode.route_index[row]], :2]
        world.vehicle_pose[row, 0, :2] = place + rng.normal(0, 8, 2)
    for row, told in enumerate(prompt_contexts(tables, world, episode, range(30))):
        route = episode.route[row, : episode.route_length[row]]
        target, command = slow_context(
            tables, route, episode.route_index[row], world.vehicle_pose[row, 0].astype(float)
        )
        assert told["target"] == pytest.approx(target, abs=1e-9) and told["command"] == command


def test_a_target_point_behind_the_ego_and_near_counts_as_passed():
    tables, route = chain((200, FOLLOW))
    assert context(tables, route, 49.0, index=49)["target"][0] == pytest.approx(1.0)
    assert context(tables, route, 51.0, index=49)["target"][0] == pytest.approx(49.0)
    assert context(tables, route, 70.0, index=49)["target"][0] == pytest.approx(-20.0), "too far to have been passed"
    assert context(tables, route, 199.5, index=199)["target"][0] == pytest.approx(-0.5), "the end stays"


def test_every_command_has_a_name():
    assert sorted(COMMAND_NAMES) == [1, 2, 3, 4, 5, 6] and len(set(COMMAND_NAMES.values())) == 6
