"""The watch over long traffic: its overlap test, what it counts, and the command."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.benchmarks.driving import soak
from mentorgym.envs.driving.map.town import load_town
from mentorgym.envs.driving.worlds.state import CAR, WALKER, empty_world_state

NUMBERS = st.floats(-3, 3)


def box(x: float, y: float, yaw: float, length: float, width: float, z: float = 0.0) -> tuple[list, list]:
    return [x, y, z, yaw], [length, width, 0.8]


def meet(*boxes: tuple[list, list]) -> set[tuple[int, int]]:
    pose, half = (np.array(each, np.float32) for each in zip(*boxes, strict=True))
    return soak.overlapping(pose, half, len(boxes))


@given(NUMBERS, NUMBERS, st.floats(-4, 4), st.floats(-4, 4))
def test_boxes_that_share_a_point_overlap(x, y, one, other):
    a, b = box(0, 0, one, 2.3, 0.9), box(x, y, other, 1.9, 1.0)

    def inside(points, pose, half):
        away = points - pose[:2]
        cos, sin = np.cos(pose[3]), np.sin(pose[3])
        return (np.abs(away @ (cos, sin)) <= half[0]) & (np.abs(away @ (-sin, cos)) <= half[1])

    grid = np.stack(np.meshgrid(*[np.linspace(-6, 6, 121)] * 2), -1).reshape(-1, 2)
    shared = bool((inside(grid, *a) & inside(grid, *b)).any())
    # The grid misses what is smaller than its cells: boxes that are 0.15 m larger on every side decide then.
    wider = [box(pose[0], pose[1], pose[3], half[0] + 0.15, half[1] + 0.15) for pose, half in (a, b)]
    nearly = bool((inside(grid, *wider[0]) & inside(grid, *wider[1])).any())
    found = meet(a, b) == {(0, 1)}
    assert found >= shared
    assert found <= nearly


def test_boxes_on_different_levels_do_not_overlap():
    assert meet(box(0, 0, 0, 2, 1), box(1, 0, 0, 2, 1, z=6.0)) == set()
    assert meet(box(0, 0, 0, 2, 1), box(1, 0, 0, 2, 1, z=1.0)) == {(0, 1)}


def test_a_watch_counts_contacts_stands_and_respawns():
    town = load_town("Village")
    tables = town.tables
    world = empty_world_state(1, 3, 1, max(int(tables.light_first[-1]), 1), 1)
    world.vehicle_kind[:], world.walker_kind[:] = CAR, WALKER
    world.vehicle_half_size[:], world.walker_half_size[:] = (2.0, 1.0, 0.8), (0.2, 0.2, 0.9)
    lane = int(np.argmax(tables.lane_length * tables.lane_storage))
    here = tables.lane_first[lane] + 20
    world.vehicle_pose[0, 1], world.vehicle_pose[0, 2] = tables.waypoint_pose[here], tables.waypoint_pose[here + 10]
    world.walker_pose[0, 0, :2] = tables.waypoint_pose[here, :2] + 100.0
    world.vehicle_id[0] = 1, 2, 3
    watch = soak.Watch(town, 2, 1)
    for tick in range(1, 51):
        # The second one stands; the first drives into it and stays there, then is moved away.
        if tick == 20:
            world.vehicle_pose[0, 1] = tables.waypoint_pose[here + 8]
        if tick == 40:
            world.vehicle_pose[0, 1], world.vehicle_id[0, 1] = tables.waypoint_pose[here], 4
        watch.look(tick, world, 0)
    assert watch.vehicle_contacts == 1
    assert watch.respawns == 1
    assert watch.longest_stand == pytest.approx(5.0, abs=0.11)
    assert watch.constant
    assert watch.off_lane < 0.01
    sideways = np.array([-np.sin(tables.waypoint_pose[here, 3]), np.cos(tables.waypoint_pose[here, 3])])
    world.vehicle_pose[0, 1, :2] -= 3.0 * sideways
    world.vehicle_kind[0, 2] = 0
    watch.look(60, world, 0)
    assert watch.off_lane == pytest.approx(3.0 - tables.waypoint_width[here] / 2, abs=0.05)
    assert not watch.constant


def test_the_command_watches_a_town(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["soak", "--town", "Village", "--minutes", "0.5", "--seeds", "3", "--json"])
    soak.main()
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert row["town"] == "Village"
    assert row["missed"] == []
    assert 0 < row["longest_stand_s"] <= 30
    assert row["kilometres"] > 1


def test_an_unknown_town_is_an_error_that_names_ours(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["soak", "--town", "Vilage"])
    with pytest.raises(SystemExit, match="Village"):
        soak.main()
