"""Lane changes on a motorway made up here, one lane of which ends."""

import numpy as np
import pytest

from mentorgym.envs.driving.map.opendrive import read_opendrive
from mentorgym.envs.driving.map.tables import TownTables
from mentorgym.envs.driving.map.town import NARROW, build_town
from tests.envs.driving.watched import Watched, overlapping, watch

WIDE, TAPER = 500.0, 60.0
LENGTH = 1100.0
TICKS = 1800


def motorway(change: str = "both") -> TownTables:
    """A one-way road along x: two lanes for 500 m, of which the right one shrinks away over the next 60 m."""

    def section(s: float, lanes: str) -> str:
        center = '<center><lane id="0" type="none"><roadMark sOffset="0" type="solid" color="yellow"/></lane></center>'
        return f'<laneSection s="{s}">{center}<right>{lanes}</right></laneSection>'

    def lane(number: int, width: str, links: str) -> str:
        mark = f'<roadMark sOffset="0" type="broken" color="white" laneChange="{change}"/>'
        return f'<lane id="{number}" type="driving"><link>{links}</link><width sOffset="0" {width}/>{mark}</lane>'

    def linked(number: int, *ends: str) -> str:
        return "".join(f'<{end} id="{number}"/>' for end in ends)

    full, shrinking = 'a="3.5" b="0" c="0" d="0"', f'a="3.5" b="{-3.5 / TAPER}" c="0" d="0"'
    both = ("predecessor", "successor")
    text = f"""<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="" length="{LENGTH}" id="1" junction="-1">
<type s="0" type="motorway"><speed max="20" unit="m/s"/></type>
<planView><geometry s="0" x="0" y="0" hdg="0" length="{LENGTH}"><line/></geometry></planView><lanes>
{section(0, lane(-1, full, linked(-1, "successor")) + lane(-2, full, linked(-2, "successor")))}
{section(WIDE, lane(-1, full, linked(-1, *both)) + lane(-2, shrinking, linked(-2, "predecessor")))}
{section(WIDE + TAPER, lane(-1, full, linked(-1, "predecessor")))}
</lanes></road></OpenDRIVE>"""
    return build_town(read_opendrive(text, "Motorway")).tables


@pytest.fixture(scope="module")
def tables() -> TownTables:
    return motorway()


@pytest.fixture(scope="module")
def drive(tables) -> Watched:
    return watch(tables, vehicles=24, walkers=0, ticks=TICKS)


def x_of(drive: Watched) -> np.ndarray:
    """Metres along the road, [ticks + 1, cars]; the map's frame begins in its middle."""
    return drive.vehicle_pose[..., 0] - drive.tables.waypoint_pose[:, 0].min()


def stays(drive: Watched) -> np.ndarray:
    """Whether each car is the same one as a tick before, bool [ticks, cars]."""
    return drive.vehicle_id[1:] == drive.vehicle_id[:-1]


def test_the_tables_know_where_a_lane_ends(tables):
    lanes = {(int(s), int(n)): i for i, (s, n) in enumerate(zip(tables.lane_section, tables.lane_number, strict=True))}
    ends = TAPER * (1 - NARROW / 3.5)
    assert tables.lane_ends[lanes[1, -2]] == pytest.approx(ends, abs=1.0)
    assert tables.lane_ends[lanes[0, -2]] == pytest.approx(WIDE + ends, abs=1.0)
    assert tables.lane_ends[lanes[0, -1]] == pytest.approx(LENGTH, abs=0.1)
    assert np.isinf(tables.lane_to_junction).all()


def test_cars_leave_the_lane_that_ends_before_it_does(drive):
    x = x_of(drive)
    right = drive.vehicle_pose[..., 1] - drive.tables.waypoint_pose[:, 1].min() < 1.0
    assert (right & (x < WIDE)).any()
    assert not (right & (x > WIDE + TAPER)).any()
    number = drive.tables.lane_number[drive.lane]
    changed = (number[1:] == -1) & (number[:-1] == -2) & stays(drive)
    assert changed.sum() >= 8
    # Nobody is left standing where the lane ends: all who were there are gone a minute later.
    waiting = (number == -2) & (x > WIDE) & (drive.speed < 0.1)
    assert max((run_length(waiting[:, car]) for car in range(waiting.shape[1])), default=0) < 450


def run_length(flags: np.ndarray) -> int:
    """The longest run of True."""
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def test_nobody_changes_into_a_lane_that_ends(tables):
    # Not even past a parked ego on the lane that goes on.
    ego = tables.waypoint_pose[100].copy()
    drive = watch(tables, vehicles=6, walkers=0, ticks=900, ego=ego[None])
    number = tables.lane_number[drive.lane]
    assert ((number[1:] == -2) & (number[:-1] == -1) & stays(drive)).sum() == 0


def test_a_change_is_smooth(drive):
    same = stays(drive)
    moved = np.diff(drive.vehicle_pose[..., :2].astype(float), axis=0) / 0.1
    mean = (drive.vehicle_velocity[1:] + drive.vehicle_velocity[:-1]) / 2
    assert np.abs(np.where(same[..., None], moved - mean, 0)).max() < 0.25
    turn = np.diff(drive.vehicle_pose[..., 3].astype(float), axis=0)
    assert np.abs(np.where(same, turn, 0)).max() < 0.07
    assert np.abs(np.where(same[1:] & same[:-1], np.diff(turn, axis=0), 0)).max() < 0.07
    heading = np.arctan2(drive.vehicle_velocity[..., 1], drive.vehicle_velocity[..., 0])
    driving = drive.speed > 0.5
    assert np.abs(np.where(driving, heading - drive.vehicle_pose[..., 3], 0)).max() < 1e-3
    assert np.abs(drive.vehicle_pose[..., 3]).max() > 0.02


def test_a_change_takes_about_three_seconds(drive):
    lateral = np.abs(drive.vehicle_velocity[..., 1])
    number = drive.tables.lane_number[drive.lane]
    fast = []
    for tick, car in np.argwhere((number[1:] != number[:-1]) & stays(drive)):
        if (
            drive.speed[tick, car] > 8
            and (drive.vehicle_id[tick : tick + 60, car] == drive.vehicle_id[tick, car]).all()
        ):
            fast.append((lateral[tick : tick + 60, car] > 0.05).sum() / 10)
    assert fast
    assert 1.8 < np.median(fast) < 4.0


def test_a_changing_car_is_on_both_lanes_until_it_has_cleared_the_old_one(drive):
    other = drive.other_lane >= 0
    assert other.any()
    right_lane, left_lane = (drive.tables.waypoint_pose[:, 1].min(), drive.tables.waypoint_pose[:, 1].max())
    y = drive.vehicle_pose[..., 1]
    between = np.minimum(np.abs(y - right_lane), np.abs(y - left_lane)) > 0.8
    before_the_taper = x_of(drive) < WIDE
    assert other[between & before_the_taper].all()


def test_nobody_touches_anybody(drive):
    hits = {
        tick: pairs
        for tick in range(TICKS + 1)
        if (pairs := overlapping(drive.vehicle_pose[tick], drive.vehicle_half_size[tick]))
    }
    assert hits == {}
    change = np.where(stays(drive), np.diff(drive.speed, axis=0), 0) / 0.1
    assert change.min() > -6.0, "a change forced somebody to brake hard"


def test_nobody_changes_where_the_paint_forbids_it():
    drive = watch(motorway("none"), vehicles=24, walkers=0, ticks=600)
    number = drive.tables.lane_number[drive.lane]
    assert not ((number[1:] != number[:-1]) & stays(drive)).any()


def test_nobody_changes_into_an_ego(tables):
    # The ego stands on the lane that goes on, beside the end of the other one.
    lane = int(np.flatnonzero((tables.lane_section == 1) & (tables.lane_number == -1))[0])
    ego = tables.waypoint_pose[tables.lane_first[lane] + 10]
    drive = watch(tables, vehicles=24, walkers=0, ticks=900, ego=ego[None])
    half = np.array([2.4508, 1.0642, 0.7554])
    for tick in range(901):
        pose = np.concatenate([ego[None], drive.vehicle_pose[tick]])
        assert overlapping(pose, np.concatenate([half[None], drive.vehicle_half_size[tick]])) == []
