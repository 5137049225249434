"""One drive, two worlds: what the embedded world writes, shown again by a scripted one, gives the same everything."""

import gymnasium as gym
import numpy as np
import pytest

from mentorgym.envs.driving import DrivingVectorEnv
from tests.envs.driving.scripted_world import ScriptedWorld
from tests.envs.driving.synthetic import copy_record

ARGUMENTS = dict(num_envs=2, town="Village", traffic=(15, 50), autoreset_mode=gym.vector.AutoresetMode.DISABLED)


class Replay(ScriptedWorld):
    """A scripted world in the embedded one's place: it shows its frames whatever it is told."""

    def reset(self, row: int, *_: object) -> None:
        super().reset(row)

    def tick(self, *_: object) -> None:
        super().tick()

    def records(self) -> dict:
        return {"world": self.state}


class ReplayedEnv(DrivingVectorEnv):
    """The environment on a world of frames."""

    def __init__(self, frames: list, **arguments: object):
        self.frames = frames
        super().__init__(**arguments)

    def _make_world(self) -> Replay:
        lights = int(self.town.tables.light_first[-1])
        (_, vehicles), (_, walkers) = self._traffic[0]
        return Replay(self.frames, self.num_worlds, 1 + vehicles, walkers, lights)


class Recorder:
    """Takes the embedded world's place and keeps what it shows after each reset and tick."""

    def __init__(self, world):
        self.world, self.frames = world, []
        self.state, self.records = world.state, world.records

    def reset(self, *arguments: object) -> None:
        self.world.reset(*arguments)
        self._keep()

    def tick(self, *arguments: object) -> None:
        self.world.tick(*arguments)
        self._keep()

    @property
    def respawns(self) -> np.ndarray:
        return self.world.respawns

    def _keep(self) -> None:
        self.frames.append(copy_record(self.world.state)._asdict())


class RecordedEnv(DrivingVectorEnv):
    """The environment on the embedded world, which is recorded."""

    def _make_world(self) -> Recorder:
        return Recorder(super()._make_world())


def shown(observation: dict, *rest: object) -> tuple:
    return ({name: array.copy() for name, array in observation.items()}, *rest)


def compare(one: tuple, other: tuple) -> None:
    for a, b in zip(one, other, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            compare(tuple(a.values()), tuple(b.values()))
        else:
            np.testing.assert_array_equal(a, b)


def expert(envs: DrivingVectorEnv, _: int) -> np.ndarray:
    return envs.expert_actions()


def careless(envs: DrivingVectorEnv, step: int) -> np.ndarray:
    return np.random.default_rng(step).uniform([0.3, -0.4], [1.0, 0.4], (envs.num_envs, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("driver", "arguments", "steps"),
    [
        (expert, dict(split="test"), 900),
        (expert, dict(ends="leaderboard"), 150),
        (careless, dict(split="train"), 150),
        (careless, dict(split="train", ends="leaderboard", reward=lambda world, _: world.tick / 7), 150),
    ],
    ids=["expert on test routes", "expert by the leaderboard", "careless", "careless by the leaderboard"],
)
def test_a_replayed_drive_cannot_be_told_from_the_first_one(driver, arguments, steps):
    first = RecordedEnv(**ARGUMENTS, **arguments)
    shortest = np.argsort([len(route.waypoints) for route in first.routes])[:2]
    options = {"route": shortest} if arguments.get("split") == "test" else None
    drive = [shown(*first.reset(seed=5, options=options))]
    actions = []
    for step in range(steps):
        actions.append(driver(first, step))
        drive.append(shown(*first.step(actions[-1])))
    ended = np.any([terminated | truncated for _, _, terminated, truncated, _ in drive[1:]], axis=0)
    if arguments.get("ends") != "leaderboard":
        assert ended.all()

    again = ReplayedEnv(first._world.frames, **ARGUMENTS, **arguments)
    compare(drive[0], shown(*again.reset(seed=5, options=options)))
    for step, action in enumerate(actions):
        # The expert too reads no more than the records.
        assert driver is careless or np.array_equal(again.expert_actions(), action)
        compare(drive[step + 1], shown(*again.step(action)))
    assert again._world.shown == len(first._world.frames)


def test_the_drives_are_what_they_are_meant_to_be():
    """The expert completes its routes, the careless driver ends by an infraction."""
    for driver, split, steps, good in ((expert, "test", 900, True), (careless, "train", 150, False)):
        envs = DrivingVectorEnv(**ARGUMENTS, split=split)
        shortest = np.argsort([len(route.waypoints) for route in envs.routes])[:2]
        envs.reset(seed=5, options={"route": shortest} if split == "test" else None)
        names = {}
        for step in range(steps):
            *_, infos = envs.step(driver(envs, step))
            if "score" in infos:
                names |= {row: infos["score"]["end"][row] for row in np.flatnonzero(infos["_score"])}
        assert [name == "completed" for name in names.values()] == [good, good]
