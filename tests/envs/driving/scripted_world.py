"""A world that shows what it is given, a small town by hand, and a drive that ties both to the rules."""

from collections.abc import Mapping

import numpy as np

from mentorgym.envs.driving.map.tables import CELL, DRIVABLE, PIXELS_PER_METRE, ROAD, TownTables
from mentorgym.envs.driving.task import rules, termination
from mentorgym.envs.driving.task.reward import accumulate, found_rl
from mentorgym.envs.driving.worlds.state import CAR, EpisodeState, WorldState, empty_episode_state, empty_world_state
from tests.envs.driving.synthetic import town_tables

Frame = Mapping[str, np.ndarray]
"""Fields of a WorldState; a world keeps those that a frame leaves out."""


class ScriptedWorld:
    """Writes its WorldState from a list of frames, which may grow: each `reset` and each `tick` shows the next one."""

    def __init__(self, frames: list[Frame], worlds: int = 1, vehicles: int = 4, walkers: int = 4, lights: int = 2):
        self.frames = frames
        self.shown = 0
        self.state: WorldState = empty_world_state(worlds, vehicles, walkers, lights)
        self.respawns = np.zeros(worlds, np.int32)

    def reset(self, rows: np.ndarray | slice, *_: object) -> None:
        """Show the next frame in these worlds alone."""
        self.state.tick[rows] = 0
        self._show(rows)

    def tick(self, controls: object = None) -> None:
        """Show the next frame, whatever the controls; IndexError after the last one."""
        self.state.tick[:] += 1
        self._show(slice(None))

    def _show(self, rows: np.ndarray | slice) -> None:
        frame = self.frames[self.shown]
        self.shown += 1
        for name, values in frame.items():
            getattr(self.state, name)[rows] = np.asarray(values)[rows]


# start, end, height, junction
LANES = (
    ((0, 0), (50, 0), 0, -1),  # 0: eastward to the stop line of light 0
    ((50, 0), (70, 0), 0, 7),  # 1: straight on
    ((70, 0), (120, 0), 0, -1),  # 2: eastward, a stop sign at 100 m
    ((120, 3.5), (0, 3.5), 0, -1),  # 3: the opposite direction
    ((60, -10), (60, 10), 0, 7),  # 4: northward across lane 1
    ((20, 20), (50, 20), 0, -1),  # 5: eastward,
    ((50, 20), (52, 20), 0, -1),  # 6: and its last two metres, to the stop line of light 1
    ((0, 0), (120, 0), 8, -1),  # 7: a bridge over 0, 1 and 2
)
SUCCESSORS = ((0, 1), (1, 2), (5, 6))


def small_town() -> TownTables:
    """The lanes above, 3.5 m wide, with waypoints a metre apart; pavement is all that lies beside 0 to 3."""
    poses, lane_of = [], []
    for lane, (start, end, height, _) in enumerate(LANES):
        offset = np.subtract(end, start)
        yaw = np.arctan2(offset[1], offset[0])
        for s in np.linspace(0, 1, int(np.abs(offset).sum()) + 1):
            poses.append((*(start + s * offset), height, yaw))
            lane_of.append(lane)
    pose, lane_of = np.array(poses), np.array(lane_of)
    count = np.bincount(lane_of)
    ends = np.cumsum(count) - 1

    corner, shape = np.array([-30.0, -30.0]), (24, 40)
    cells = {cell: [] for cell in range(shape[0] * shape[1])}
    for waypoint in np.delete(np.arange(len(pose)), ends):
        column, row = ((pose[waypoint, :2] - corner) // CELL).astype(int)
        cells[row * shape[1] + column].append(waypoint)

    raster = np.zeros((int(60 * PIXELS_PER_METRE), int(160 * PIXELS_PER_METRE)), np.uint8)
    y = -20 + (np.arange(len(raster)) + 0.5) / PIXELS_PER_METRE
    raster[(y > -1.75) & (y < 5.25)] = ROAD | DRIVABLE

    def neighbours(pairs):
        return {
            "first": np.searchsorted([pair[0] for pair in pairs], range(len(LANES) + 1)),
            "lanes": [pair[1] for pair in pairs],
        }

    after, before = neighbours(SUCCESSORS), neighbours([(b, a) for a, b in SUCCESSORS])
    return town_tables(
        waypoint_pose=pose,
        waypoint_direction=np.column_stack([np.cos(pose[:, 3]), np.sin(pose[:, 3])]),
        waypoint_width=np.full(len(pose), 3.5),
        waypoint_speed=np.full(len(pose), 10.0),
        waypoint_lane=lane_of,
        lane_first=np.append(0, ends + 1),
        lane_length=count - 1,
        lane_step=np.ones(len(LANES)),
        lane_junction=[lane[3] for lane in LANES],
        successor_first=after["first"],
        successor=after["lanes"],
        predecessor_first=before["first"],
        predecessor=before["lanes"],
        stop_line_first=[0, 2],
        stop_line_lane=[0, 6],
        stop_line_light=[0, 1],
        stop_line_pose=[(50, 0, 0, 0), (52, 20, 0, 0)],
        stop_line_half_width=[1.4, 1.4],
        light_first=[0, 2],
        stop_sign_first=[0, 1],
        stop_sign_pose=[(100, 0, 0, 0)],
        stop_sign_half_size=[1.5],
        grid_origin=[corner],
        grid_size=[shape],
        cell_first=np.cumsum([0] + [len(waypoints) for waypoints in cells.values()]),
        cell_waypoint=np.concatenate(list(cells.values())),
        raster=raster,
        raster_origin=[(-20, -20)],
    )


TOWN = small_town()


def route_over(*lanes: int) -> np.ndarray:
    """The waypoints of these lanes, one after another, without the lanes' end points."""
    return np.concatenate([np.arange(TOWN.lane_first[lane], TOWN.lane_first[lane + 1] - 1) for lane in lanes])


class Drive:
    """One ego whose every pose is given: `step` runs what an environment runs between two observations.

    `place` and `step` take the ego's x, y, z, yaw, speed and steer, 0 where left out; anything else in `world` stays as
    a test has set it. The other vehicles and walkers are empty slots at first, both lights off.
    """

    def __init__(self, route=(0, 1, 2), endless=False, ends="found-rl", training=False, **start: float):
        self.ends, self.training = termination.END_RULES[ends], training
        self.player = ScriptedWorld([])
        self.world = self.player.state
        self.world.vehicle_half_size[:, 0] = (2.5, 1.0, 0.75)
        self.world.vehicle_id[:, 0], self.world.vehicle_kind[:, 0] = 1, CAR
        self.episode: EpisodeState = empty_episode_state(1)
        self.reward = np.zeros(1)
        self.terminated, self.truncated = np.zeros(1, bool), np.zeros(1, bool)
        self.place(**start)
        self.player.reset(slice(None))
        rules.begin(TOWN, self.world, self.episode, 0, route_over(*route), endless)

    def place(self, x=0.0, y=0.0, z=0.0, yaw=0.0, speed=0.0, steer=0.0) -> None:
        pose, velocity = self.world.vehicle_pose.copy(), self.world.vehicle_velocity.copy()
        control = self.world.ego_control.copy()
        pose[:, 0], velocity[:, 0] = (x, y, z, yaw), (speed * np.cos(yaw), speed * np.sin(yaw))
        control[:, 0] = (0, steer, 0)
        self.player.frames.append({"vehicle_pose": pose, "vehicle_velocity": velocity, "ego_control": control})

    def step(self, **ego: float) -> "Drive":
        self.place(**ego)
        self.player.tick()
        rules.update(TOWN, self.world, self.episode, 0, 1, True)
        termination.check(self.episode, 0, 1, self.ends, self.training, self.terminated, self.truncated)
        found_rl(self.world, self.episode, 0, 1, self.reward)
        accumulate(self.world, self.episode, 0, 1, self.reward)
        return self

    def __getattr__(self, name: str):
        """A field of the EpisodeState, of the only row."""
        return getattr(self.episode, name)[0]
