"""The view against a slow drawing of the same scenes, and the rules of its history, its edges and its numbers."""

import math
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mentorgym  # noqa: F401 - registers the id
from mentorgym.envs.driving.map.tables import BROKEN, ROAD, SOLID
from mentorgym.envs.driving.view.masks import draw_planes, empty_view_memory, masks, remember, state_vector
from mentorgym.envs.driving.worlds.state import (
    CAR,
    LIGHT_GREEN,
    LIGHT_OFF,
    LIGHT_RED,
    LIGHT_YELLOW,
    WALKER,
    empty_episode_state,
    empty_world_state,
)
from tests.envs.driving.synthetic import copy_record, move, random_scene, random_town, town_tables

OPEN_FIELD = dict(raster=np.zeros((500, 500)), raster_origin=[(-50.0, -50.0)])


class SlowView:
    """The masks of one ego, by testing the centre of each native pixel in the town's frame."""

    def __init__(self, tables, world, episode, row=0):
        self.tables, self.world, self.episode, self.row = tables, world, episode, row
        self.b, self.ego = divmod(row, world.ego_control.shape[1])
        self.pose = world.vehicle_pose[self.b, self.ego].astype(float)
        c, s = np.cos(self.pose[3]), np.sin(self.pose[3])
        ahead, right = (152 - 0.5 - np.arange(192)[:, None]) / 5, (np.arange(192) + 0.5 - 96) / 5
        self.x, self.y = self.pose[0] + ahead * c + right * s, self.pose[1] + ahead * s - right * c
        half = np.maximum(world.vehicle_half_size[self.b, self.ego], 0.8)
        self.in_ego = (np.abs(ahead) <= half[0]) & (np.abs(right) <= half[1])

    def box(self, plane, pose, half_length, half_width, value=255):
        def inside(x, y):
            dx, dy, c, s = x - pose[0], y - pose[1], np.cos(pose[3]), np.sin(pose[3])
            return (np.abs(dx * c + dy * s) <= half_length) & (np.abs(dy * c - dx * s) <= half_width)

        self.paint(plane, pose, inside, value)

    def line(self, plane, start, end, radius, value=255):
        along = end[:2] - start[:2].astype(float)

        def inside(x, y):
            part = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
            return np.hypot(x - start[0] - part * along[0], y - start[1] - part * along[1]) <= radius

        self.paint(plane, start, inside, value)

    def paint(self, plane, middle, inside, value):
        """Look only within 8 m of the middle, as nothing drawn is larger, and not 8 m above or below the ego."""
        if abs(middle[2] - self.pose[2]) >= 8 or math.dist(middle[:2], self.pose[:2]) > 45:
            return
        near = np.hypot(self.x[::8, ::8] - middle[0], self.y[::8, ::8] - middle[1]) < 8
        if near.any():
            rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
            patch = slice(8 * rows[0], 8 * rows[-1] + 8), slice(8 * columns[0], 8 * columns[-1] + 8)
            plane[patch][inside(self.x[patch], self.y[patch])] = value

    def draw(self, history) -> np.ndarray:
        """The masks, when `history` ends with the present (WorldState, EpisodeState)."""
        native = np.zeros((15, 192, 192), np.uint8)
        tables, b = self.tables, self.b
        rows, columns = tables.raster_size[0]
        r = np.floor((self.y - tables.raster_origin[0, 1]) * 5).astype(int)
        k = np.floor((self.x - tables.raster_origin[0, 0]) * 5).astype(int)
        inside = (r >= 0) & (r < rows) & (k >= 0) & (k < columns)
        bits = np.where(inside, tables.raster.reshape(rows, columns)[np.where(inside, r, 0), np.where(inside, k, 0)], 0)
        native[0][bits & ROAD > 0] = 255
        index = self.episode.route_index[self.row]
        route = self.episode.route[self.row, index : min(index + 80, self.episode.route_length[self.row])]
        points = tables.waypoint_pose[route].astype(float)
        points[:, 2] = self.pose[2]
        for start, end in pairwise(points):
            self.line(native[1], start, end, 1.6)
        native[:2, self.in_ego] = 120
        native[2][bits & SOLID > 0] = 255
        native[2][bits & BROKEN > 0] = 120
        for i, age in enumerate((15, 10, 5, 0)):
            world, episode = history[max(len(history) - 1 - age, 0)]
            for slot in np.flatnonzero(world.vehicle_kind[b]):
                if slot != self.ego:
                    size = np.maximum(self.world.vehicle_half_size[b, slot], 0.8)
                    self.box(native[3 + i], world.vehicle_pose[b, slot], size[0], size[1])
            for slot in np.flatnonzero(world.walker_kind[b]):
                size = np.maximum(2 * self.world.walker_half_size[b, slot], 0.8)
                self.box(native[7 + i], world.walker_pose[b, slot], size[0], size[1])
            for state, value in ((LIGHT_GREEN, 80), (LIGHT_YELLOW, 170), (LIGHT_RED, 255)):
                for n in np.flatnonzero(world.light_state[b, tables.stop_line_light] == state):
                    pose = tables.stop_line_pose[n]
                    across = tables.stop_line_half_width[n] * np.array([-np.sin(pose[3]), np.cos(pose[3]), 0, 0])
                    self.line(native[11 + i], pose - across, pose + across, 0.6, value)
            sign = episode.stop_sign[self.row]
            if sign >= 0 and not episode.stop_complied[self.row]:
                half = tables.stop_sign_half_size[sign]
                self.box(native[11 + i], tables.stop_sign_pose[sign], half, half)
        return native.reshape(15, 96, 2, 96, 2).max((2, 4))


def drawn(tables, world, episode, memory) -> np.ndarray:
    out = np.zeros((len(episode.active), 15, 96, 96), np.uint8)
    masks(tables, world, episode, memory, 0, len(world.tick), out)
    return out


def field(vehicles=2, walkers=1, egos=1, **fields):
    """An empty plain of 100 x 100 m with one ego at (0, 0), looking along x, 4.8 m long and 2 m wide."""
    tables = town_tables(**OPEN_FIELD | fields)
    lights = int(tables.light_first[-1])
    sizes = (1, vehicles, walkers, lights, egos)
    world, memory = empty_world_state(*sizes), empty_view_memory(*sizes)
    world.vehicle_kind[0, :egos] = CAR
    world.vehicle_half_size[:] = 2.4, 1.0, 0.8
    world.walker_half_size[:] = 0.2, 0.2, 0.9
    episode = empty_episode_state(egos)
    episode.stop_sign[:] = -1
    return tables, world, episode, memory


def push(world, episode, memory, restart=False):
    remember(world, episode, memory, 0, 1, np.array([restart], np.uint8))


def overlap(ours, reference):
    """Pooled intersection over union of what is not zero, and whether the values agree where both are set."""
    a, b = ours > 0, reference > 0
    return (a & b).sum() / (a | b).sum(), (ours[a & b] == reference[a & b]).mean()


def test_masks_agree_with_a_slow_drawing_over_500_frames():
    ours, reference = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        tables = random_town(rng)
        world, episode = random_scene(rng, tables, worlds=40, vehicles=100, walkers=100)
        memory = empty_view_memory(40, 100, 100, 30)
        history = []
        for tick in range(20):
            history.append((copy_record(world), copy_record(episode)))
            remember(world, episode, memory, 0, 40, np.zeros(40, np.uint8))
            if tick in (0, 3, 7, 14, 19):
                ours.append(drawn(tables, world, episode, memory))
                reference.append([SlowView(tables, world, episode, row).draw(history) for row in range(40)])
            move(rng, world, episode)
    ours, reference = np.concatenate(ours), np.concatenate(reference)
    for channel in range(15):
        used = reference[:, channel].any((1, 2))
        assert used.sum() >= 500, f"channel {channel}"
        shared, equal = overlap(ours[used, channel], reference[used, channel])
        assert shared >= 0.99, f"channel {channel}: {shared:.4f}"
        assert equal >= 0.9995, f"channel {channel}: {equal:.4f}"


def test_masks_of_the_environment_agree_with_a_slow_drawing_of_its_drives():
    """Over 500 frames with every channel in use but the stop sign's, from 25 expert drives in dense traffic."""
    envs = gym.make_vec("CarlaNoCrash-v0", num_envs=25, town="Village", traffic="dense", split="test")
    envs.reset(seed=1, options={"route": np.arange(25)})
    envs = envs.unwrapped
    history = [(copy_record(envs._world.state), copy_record(envs._episode))]
    ours, reference, episodes = [], [], envs._episodes.copy()
    for step in range(1, 441):
        observation = envs.step(envs.expert_actions())[0]
        history = [*history[-20:], (copy_record(envs._world.state), copy_record(envs._episode))]
        # A world that has just started again has another history than the one kept here.
        steady = np.flatnonzero(envs._episodes == episodes)
        if step % 20 == 0:
            ours.append(observation["bev"][steady])
            for row in steady:
                reference.append(SlowView(envs._tables, envs._world.state, envs._episode, row).draw(history))
    ours, reference = np.concatenate(ours), np.array(reference)
    for channel in range(15):
        used = reference[:, channel].any((1, 2))
        assert used.sum() >= (500 if channel < 3 else 100), f"channel {channel}: {used.sum()}"
        shared, equal = overlap(ours[used, channel], reference[used, channel])
        assert shared >= 0.99, f"channel {channel}: {shared:.4f}"
        assert equal >= 0.9995, f"channel {channel}: {equal:.4f}"


def test_history_shows_15_10_5_and_0_ticks_ago_in_the_present_frame():
    tables, world, episode, memory = field()
    for tick in range(40):
        world.vehicle_pose[0, 0, 0] = -0.1 * tick
        world.vehicle_kind[0, 1] = CAR
        world.vehicle_pose[0, 1, :2] = tick - 30.0, 10.0
        push(world, episode, memory)
    now = drawn(tables, world, episode, memory)[0]
    for channel, age in zip(range(3, 7), (15, 10, 5, 0), strict=True):
        rows = np.flatnonzero(now[channel].any(1))
        ahead = (39 - age) - 30.0 - world.vehicle_pose[0, 0, 0]
        assert (rows[0] + rows[-1] + 1) / 2 == pytest.approx((152 - 5 * ahead) / 2, abs=1)


def test_a_short_history_shows_its_oldest_instant_and_a_restart_forgets():
    tables, world, episode, memory = field()
    world.vehicle_kind[0, 1] = CAR
    for x in (5.0, 10.0, 15.0, 20.0, 25.0, 28.0, 3.0):
        world.vehicle_pose[0, 1, :2] = x, 0.0
        push(world, episode, memory)
    oldest, older, old, now = drawn(tables, world, episode, memory)[0, 3:7]
    assert np.array_equal(oldest, older)
    assert np.argmax(oldest.any(1)) > np.argmax(old.any(1)), "5 m ahead lies further down than 10 m ahead"
    assert np.argmax(now.any(1)) > np.argmax(oldest.any(1))
    push(world, episode, memory, restart=True)
    planes = drawn(tables, world, episode, memory)[0]
    assert all(np.array_equal(plane, now) for plane in planes[3:7])


def test_nothing_that_moves_is_drawn_before_the_first_instant():
    rng = np.random.default_rng(0)
    tables = random_town(rng)
    world, episode = random_scene(rng, tables, worlds=4)
    planes = drawn(tables, world, episode, empty_view_memory(4, 60, 60, 30))
    assert not planes[:, 3:].any() and planes[:, 0].any()


@pytest.mark.parametrize("road", [False, True])
def test_the_ego_is_painted_120_unless_road_or_route_reaches_into_the_cell(road):
    tables, world, episode, memory = field(
        raster=np.full((500, 500), ROAD * road), waypoint_pose=[(x, 0, 0, 0) for x in range(-50, 50)]
    )
    episode.route[0, :100], episode.route_length[0], episode.route_index[0] = np.arange(100), 100, 39
    world.vehicle_half_size[0, 0] = 2.4, 0.8, 0.8
    push(world, episode, memory)
    planes = drawn(tables, world, episode, memory)[0]
    # The box covers native rows 140 to 163 and columns 92 to 99.
    inside = np.zeros((96, 96), bool)
    inside[70:82, 46:50] = True
    assert (planes[0] == np.where(inside, 120, 255 * road)).all()
    band = np.zeros((96, 96), bool)
    band[:, 44:52] = True
    assert (planes[1] == np.where(inside, 120, 255 * band)).all()
    world.vehicle_half_size[0, 0] = 2.2, 0.8, 0.8
    planes = drawn(tables, world, episode, memory)[0]
    assert planes[0, 70, 47] == (255 if road else 120), "row 140 is road, row 141 ego: the higher value wins"


def test_markings_are_255_and_white_broken_ones_120():
    raster = np.zeros((500, 500))
    raster[:, 300], raster[:, 320], raster[:, 340:342] = SOLID, BROKEN, (BROKEN, SOLID)
    tables, world, episode, memory = field(raster=raster)
    markings = drawn(tables, world, episode, memory)[0, 2]
    # Column c lies 0.2 (c - 250) m ahead, in native row 401 - c.
    assert (markings[50] == 255).all() and (markings[40] == 120).all() and (markings[30] == 255).all()
    assert np.count_nonzero(markings) == 3 * 96


LIGHTS = dict(
    stop_line_first=[0, 1],
    light_first=[0, 1],
    stop_line_pose=[(10.0, 0.0, 0.0, 0.0)],
    stop_line_half_width=[1.4],
    stop_line_light=[0],
    stop_sign_first=[0, 1],
    stop_sign_pose=[(10.0, 0.0, 0.0, 0.3)],
    stop_sign_half_size=[1.5],
)


@pytest.mark.parametrize("state, value", [(LIGHT_OFF, 0), (LIGHT_GREEN, 80), (LIGHT_YELLOW, 170), (LIGHT_RED, 255)])
def test_stop_lines_show_their_light(state, value):
    tables, world, episode, memory = field(**LIGHTS)
    world.light_state[:] = state
    push(world, episode, memory)
    for plane in drawn(tables, world, episode, memory)[0, 11:]:
        assert set(np.unique(plane)) == {0, value}
        if value:
            rows, columns = np.nonzero(plane)
            # 10 m ahead: native row 102; 6 pixels thick, 14 + 6 long.
            assert (rows.min(), rows.max(), columns.min(), columns.max()) == (49, 52, 43, 52)


def test_only_a_targeted_stop_sign_without_compliance_is_drawn_and_over_the_light():
    tables, world, episode, memory = field(**LIGHTS)
    world.light_state[:] = LIGHT_GREEN
    push(world, episode, memory)
    light = drawn(tables, world, episode, memory)[0, 14]
    episode.stop_sign[:] = 0
    push(world, episode, memory, restart=True)
    both = drawn(tables, world, episode, memory)[0, 14]
    assert both[51, 48] == 255 and (both == 255).sum() == pytest.approx((3.0 * 2.5) ** 2, abs=16)
    assert both[51, 43] == 80
    episode.stop_complied[:] = 1
    push(world, episode, memory, restart=True)
    assert np.array_equal(drawn(tables, world, episode, memory)[0, 14], light)


@pytest.mark.parametrize("height, seen", [(7.9, True), (-7.9, True), (8.1, False), (-8.1, False)])
def test_what_lies_8_m_above_or_below_is_not_drawn(height, seen):
    tables, world, episode, memory = field(**LIGHTS)
    world.light_state[:] = LIGHT_RED
    world.vehicle_kind[0, 1], world.walker_kind[0, 0] = CAR, WALKER
    world.vehicle_pose[0, 1, :3], world.walker_pose[0, 0, :3] = (5, 0, height), (5, 5, height)
    tables.stop_line_pose[:, 2] = height
    push(world, episode, memory)
    assert (drawn(tables, world, episode, memory)[0, 3:].any((1, 2)) == seen).all()


def test_walkers_are_drawn_twice_as_large_and_nothing_smaller_than_80_cm_in_half():
    tables, world, episode, memory = field()
    world.vehicle_kind[0, 1], world.walker_kind[0, 0] = CAR, WALKER
    world.vehicle_pose[0, 1, :2], world.walker_pose[0, 0, :2] = (10, 5), (10, -5)
    world.vehicle_half_size[0, 1], world.walker_half_size[0, 0] = (3.0, 0.1, 0.5), (0.6, 0.2, 0.9)
    push(world, episode, memory)
    planes = drawn(tables, world, episode, memory)[0]
    for channel, (length, width) in ((6, (6.0, 1.6)), (10, (2.4, 1.6))):
        rows, columns = np.nonzero(planes[channel])
        assert np.ptp(rows) + 1 == pytest.approx(2.5 * length, abs=1)
        assert np.ptp(columns) + 1 == pytest.approx(2.5 * width, abs=1)


def test_each_ego_leaves_out_itself_alone():
    tables, world, episode, memory = field(vehicles=3, egos=2)
    world.vehicle_pose[0, 1] = 10.0, 0.0, 0.0, np.pi / 2
    push(world, episode, memory)
    first, second = drawn(tables, world, episode, memory)
    assert np.mean(np.nonzero(first[6]), axis=1) == pytest.approx((50.5, 47.5)), "10 m ahead of the first"
    assert np.mean(np.nonzero(second[6]), axis=1) == pytest.approx((75.5, 22.5)), "10 m to the left of the second"


def test_slices_of_worlds_write_their_own_rows_and_equal_the_whole():
    rng = np.random.default_rng(5)
    tables = random_town(rng)
    world, episode = random_scene(rng, tables, worlds=6, egos=2)
    memory = empty_view_memory(6, 60, 60, 30, egos=2)
    remember(world, episode, memory, 0, 6, np.zeros(6, np.uint8))
    whole = drawn(tables, world, episode, memory)
    parts = np.full_like(whole, 7)
    masks(tables, world, episode, memory, 2, 5, parts)
    assert (parts[:4] == 7).all() and (parts[10:] == 7).all()
    assert np.array_equal(parts[4:10], whole[4:10])


anywhere = st.floats(-3e5, 3e5) | st.floats(-60, 60) | st.sampled_from([np.nan, np.inf, -np.inf, 3e38])


@given(anywhere, anywhere, st.floats(-10, 10) | st.just(np.nan), anywhere, anywhere)
def test_no_pose_draws_out_of_range(x, y, yaw, other_x, other_yaw):
    tables, world, episode, memory = field(raster=np.full((500, 500), ROAD | SOLID), **LIGHTS)
    world.vehicle_kind[0, 1], world.walker_kind[0, 0] = CAR, WALKER
    world.light_state[:], episode.stop_sign[:] = LIGHT_RED, 0
    with np.errstate(over="ignore"):
        world.vehicle_pose[0] = (x, y, 0, yaw), (other_x, y, 0, other_yaw)
        world.walker_pose[0, 0] = other_x, other_x, 0, other_yaw
    push(world, episode, memory)
    guarded = np.full((3, 15, 96, 96), 7, np.uint8)
    draw_planes(tables, world, episode, memory, 0, 1, np.full(7, 255, np.uint8), guarded[1:2])
    assert (guarded[[0, 2]] == 7).all()
    planes = drawn(tables, world, episode, memory)[0]
    if not np.isfinite([x, y, yaw]).all() or max(abs(x), abs(y)) > 50 + 37:
        assert set(np.unique(planes[0])) <= {0, 120} and not planes[2].any(), "beyond the raster there is nothing"
    elif np.isfinite([other_x, other_yaw]).all():
        reference = SlowView(tables, world, episode).draw([(world, episode)])
        assert (planes != reference).mean() < 1e-3


def test_state_vector_holds_control_gear_velocity_light_and_stop_sign():
    tables, world, episode, _ = field()
    out = np.full((1, 10), np.nan, np.float32)
    world.ego_control[0, 0], world.ego_gear[0, 0] = (0.5, -0.25, 0.125), 3
    world.vehicle_pose[0, 0, 3] = np.pi / 2
    world.vehicle_velocity[0, 0] = 1.0, 5.0
    episode.light_remaining[:], episode.stop_distance[:] = -1, np.inf
    state_vector(world, episode, 0, 1, out)
    assert out[0] == pytest.approx([0.5, -0.25, 0.125, 0.6, 5.0, 1.0, 0, -1, -1, 0], abs=1e-6)


@pytest.mark.parametrize(
    "state, distance, light, ratio",
    [
        (LIGHT_RED, 3.0, 1, 0.0),
        (LIGHT_RED, 7.5, 1, 0.5),
        (LIGHT_YELLOW, 10.0, 2, 1.0),
        (LIGHT_YELLOW, 17.0, 2, 1.0),
        (LIGHT_GREEN, 7.5, 3, -1.0),
        (LIGHT_OFF, 7.5, 0, -1.0),
    ],
)
def test_state_vector_of_a_light(state, distance, light, ratio):
    tables, world, episode, _ = field()
    out = np.zeros((1, 10), np.float32)
    episode.light_seen[:], episode.light_distance[:], episode.light_remaining[:] = state, distance, 0.25
    state_vector(world, episode, 0, 1, out)
    assert out[0, 6:9] == pytest.approx([light, ratio, 0.25])


@pytest.mark.parametrize(
    "sign, complied, distance, flag", [(0, 0, 9.9, 1), (0, 0, 10.1, 0), (0, 1, 5.0, 0), (-1, 0, 5.0, 0), (3, 0, 0.0, 1)]
)
def test_state_vector_of_a_stop_sign(sign, complied, distance, flag):
    tables, world, episode, _ = field()
    out = np.zeros((1, 10), np.float32)
    episode.stop_sign[:], episode.stop_complied[:], episode.stop_distance[:] = sign, complied, distance
    state_vector(world, episode, 0, 1, out)
    assert out[0, 9] == flag


@given(st.floats(-4, 4), st.floats(-30, 30), st.floats(-30, 30))
def test_state_vector_keeps_the_speed_and_turns_it_into_the_ego_frame(yaw, forward, right):
    tables, world, episode, _ = field()
    out = np.zeros((1, 10), np.float32)
    world.vehicle_pose[0, 0, 3] = yaw
    c, s = np.cos(yaw), np.sin(yaw)
    world.vehicle_velocity[0, 0] = forward * c + right * s, forward * s - right * c
    state_vector(world, episode, 0, 1, out)
    assert out[0, 4:6] == pytest.approx([forward, right], abs=1e-4)
