"""Towns joined in one batch: every world drives as it would in its own town alone, bit for bit."""

import numpy as np
import pytest

from mentorgym.envs.driving.action import to_control
from mentorgym.envs.driving.expert import drive_by_rules
from mentorgym.envs.driving.map.opendrive import read_opendrive
from mentorgym.envs.driving.map.tables import TownTables, join
from mentorgym.envs.driving.map.town import build_town, load_town, packaged_towns
from mentorgym.envs.driving.task import rules
from mentorgym.envs.driving.task.routes import nearest_of_lanes, plan
from mentorgym.envs.driving.view import masks as view
from mentorgym.envs.driving.worlds.simulator.world import EmbeddedWorld
from mentorgym.envs.driving.worlds.state import ROUTE_CAPACITY, empty_episode_state
from tests.envs.driving.fork import fork_xml

STEPS = 200


@pytest.fixture(scope="module")
def towns() -> list[TownTables]:
    """All of ours, and one in the middle without lights, signs or pavements."""
    ours = [load_town(name).tables for name in packaged_towns()]
    return [*ours[:1], build_town(read_opendrive(fork_xml(), "Fork")).tables, *ours[1:]]


def first_waypoint(tables: TownTables, town: int) -> int:
    return int(tables.lane_first[tables.town_lane_first[town]])


def seen(tables: TownTables, town: int, shift: int, vehicles: int, walkers: int, worlds: int) -> list:
    """What the last of `worlds` worlds shows while the expert drives in `town`: states and observations over time."""
    world, episode = EmbeddedWorld(tables, worlds, vehicles, walkers), empty_episode_state(worlds)
    state, row = world.state, worlds - 1
    lights, cars, walker_slots = state.light_state.shape[1], state.vehicle_kind.shape[1], state.walker_kind.shape[1]
    memory = view.empty_view_memory(worlds, cars, walker_slots, lights)
    first, last = tables.spawn_first[town : town + 2]
    spawns = [
        int(tables.lane_first[tables.spawn_lane[k]] + tables.spawn_s[k] / tables.lane_step[tables.spawn_lane[k]])
        for k in range(first, last)
    ]
    out = np.empty(ROUTE_CAPACITY, np.int32)
    rng = np.random.default_rng(2)
    length = -1
    while length < 60:
        start, goal = rng.choice(spawns, 2)
        length, _ = plan(tables, start, goal, out, 0, False)
    world.reset(row, town, 3, 11, tables.waypoint_pose[start][None], vehicles, walkers)
    rules.begin(tables, state, episode, row, out[:length].copy(), False)
    view.remember(state, episode, memory, row, row + 1, np.ones(worlds, np.uint8))
    running = np.zeros(worlds, np.uint8)
    running[row] = 1
    actions = np.zeros((worlds, 2), np.float32)
    vectors, masks = np.zeros((worlds, 10), np.float32), np.zeros((worlds, 15, 96, 96), np.uint8)
    story = [out[:length] - shift]
    for _ in range(STEPS):
        drive_by_rules(tables, state, episode, row, row + 1, actions)
        world.tick(to_control(actions.astype(np.float64))[:, None], running, row, row + 1)
        rules.update(tables, state, episode, row, row + 1, True)
        view.remember(state, episode, memory, row, row + 1, np.zeros(worlds, np.uint8))
        view.state_vector(state, episode, row, row + 1, vectors)
        view.masks(tables, state, episode, memory, row, row + 1, masks)
        story += [vectors[row].copy(), masks[row].copy()]
        story += [array[row].copy() for name, array in state._asdict().items() if name != "town"]
    return story


def test_a_world_drives_in_joined_towns_as_in_its_own(towns):
    joined = join(towns)
    most = max(int(np.diff(tables.light_first).max()) for tables in towns)
    for town, tables in enumerate(towns):
        vehicles, walkers = 12, 20 if tables.walkway_first[-1] else 0
        alone = seen(tables, 0, 0, vehicles, walkers, 1)
        together = seen(joined, town, first_waypoint(joined, town), vehicles, walkers, 3)
        assert len(alone) == len(together)
        for one, other in zip(alone, together, strict=True):
            if one.shape != other.shape:  # lights: as many as the town with most has
                assert other.shape == (most,)
                other = other[: one.size]
            np.testing.assert_array_equal(one, other[: one.size] if one.shape != other.shape else other)


def test_places_are_found_in_ones_own_town_alone(towns):
    joined = join(towns)
    rng = np.random.default_rng(3)

    def near(tables, town: int, x, y) -> list:
        waypoints, distances = (np.zeros(len(tables.lane_length), kind) for kind in (np.int32, np.float32))
        count = nearest_of_lanes(tables, town, x, y, waypoints, distances)
        return [waypoints[:count] - first_waypoint(tables, town), distances[:count]]

    for town, tables in enumerate(towns):
        for p in rng.choice(len(tables.waypoint_lane), 40):
            x, y = tables.waypoint_pose[p, :2] + rng.normal(0, 1, 2).astype(np.float32)
            alone = near(tables, 0, x, y)
            assert len(alone[0]) > 0
            np.testing.assert_array_equal(near(joined, town, x, y), alone)


def test_indices_stay_within_their_towns_share(towns):
    joined = join(towns)
    for name in (
        "waypoint_lane",
        "waypoint_left",
        "successor",
        "conflict",
        "path_lane",
        "stop_line_lane",
        "spawn_lane",
    ):
        values = getattr(joined, name)
        assert values.max() < (len(joined.waypoint_lane) if name == "waypoint_left" else len(joined.lane_length))
    own = joined.lane_town[joined.waypoint_lane]
    np.testing.assert_array_equal(np.bincount(own), [len(tables.waypoint_lane) for tables in towns])
    for graph in ("successor", "predecessor", "conflict", "sibling"):
        first, values = getattr(joined, f"{graph}_first"), getattr(joined, graph)
        lane = np.repeat(np.arange(len(first) - 1), np.diff(first))
        np.testing.assert_array_equal(joined.lane_town[lane], joined.lane_town[values])


def test_one_town_is_its_own_join(towns):
    assert join(towns[:1]) is towns[0]


def test_towns_of_nothing_but_road_join_too(towns):
    bare = towns[1]
    joined = join([bare, bare])
    assert joined.light_first.tolist() == [0, 0, 0] and len(joined.light_phase) == 1
    assert joined.walkway_first.tolist() == [0, 0, 0] and len(joined.walkway_point) == 1
