"""What a mentor is told of driving, when it is asked out of turn, and what its replies mean."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mentorgym.envs.driving.kernel import f32, inner, kernel
from mentorgym.envs.driving.map.tables import same_level
from mentorgym.envs.driving.view import language
from mentorgym.envs.driving.view.masks import SIZE
from mentorgym.envs.driving.worlds.state import EMPTY
from mentorgym.mentors.mentor import Feedback, Request

if TYPE_CHECKING:
    from mentorgym.envs.driving.batch import DrivingBatch

CLOSE = f32(3.0)
"""Seconds to a collision below which the mentor is asked (Found-RL, released configuration)."""


@inner
def _reaches(place, speed, reach):
    """The first and last moment (s) at which something along one axis is within `reach` of the origin."""
    if abs(speed) < f32(1e-3):
        return (-f32(np.inf), f32(np.inf)) if abs(place) <= reach else (f32(np.inf), -f32(np.inf))
    one, other = (-reach - place) / speed, (reach - place) / speed
    return min(one, other), max(one, other)


@inner
def _close_ahead(pose, velocity, half_size, poses, velocities, half_sizes, kinds, skip):
    """Whether one of these actors, at present ahead of the ego, will touch it within CLOSE if all keep their velocity.

    Boxes are taken along the ego's axes, as long and wide as they appear from there.
    """
    cos, sin = math.cos(pose[3]), math.sin(pose[3])
    for i in range(poses.shape[0]):
        dx, dy = poses[i, 0] - pose[0], poses[i, 1] - pose[1]
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        if kinds[i] == EMPTY or i == skip or ahead <= f32(0.0) or not same_level(poses[i, 2] - pose[2]):
            continue
        vx, vy = velocities[i, 0] - velocity[0], velocities[i, 1] - velocity[1]
        turn = poses[i, 3] - pose[3]
        along, across = abs(math.cos(turn)), abs(math.sin(turn))
        length, width = half_sizes[i, 0], half_sizes[i, 1]
        enter, leave = _reaches(ahead, vx * cos + vy * sin, half_size[0] + along * length + across * width)
        enters, leaves = _reaches(left, vy * cos - vx * sin, half_size[1] + across * length + along * width)
        enter, leave = max(enter, enters), min(leave, leaves)
        if enter <= leave and leave >= f32(0.0) and enter < CLOSE:
            return True
    return False


@kernel
def find_urgent(world, urgent):
    """Set `urgent`, bool [B, E], where the ego is about to run into a vehicle or a walker."""
    for b in range(urgent.shape[0]):
        vehicles = world.vehicle_pose[b], world.vehicle_velocity[b], world.vehicle_half_size[b]
        walkers = world.walker_pose[b], world.walker_velocity[b], world.walker_half_size[b]
        for e in range(urgent.shape[1]):
            if not urgent[b, e]:
                pose, velocity, half_size = vehicles[0][e], vehicles[1][e], vehicles[2][e]
                urgent[b, e] = _close_ahead(
                    pose, velocity, half_size, *vehicles, world.vehicle_kind[b], np.int64(e)
                ) or _close_ahead(pose, velocity, half_size, *walkers, world.walker_kind[b], np.int64(-1))


class DrivingAdapter:
    """`mentorgym.mentors.mentor.Adapter` of a batch of egos; ego e of world b is row b * E + e."""

    picture_shape = (SIZE, SIZE, 3)
    action_size = 2

    def __init__(self, batch: "DrivingBatch"):
        self._batch = batch
        self.anchors, self.answers = language.anchors(), language.grid()

    def requests(self, rows: Sequence[int], prompt: str) -> list[Request]:
        """The picture, the prompt (of `language.PROMPT` for ""), the context and the expert's action of each row."""
        batch, egos = self._batch, self._batch.num_egos
        actions = batch.rule_based_actions(min(rows) // egos, max(rows) // egos + 1)
        requests = []
        for row, picture, scene in zip(rows, batch.pictures(rows), batch.prompt_contexts(rows), strict=True):
            text = language.fill(prompt or language.PROMPT, scene)
            requests.append(Request(picture, text, language.context(scene["command"], scene["speed"]), actions[row]))
        return requests

    def urgent(self, infos: dict[str, Any]) -> np.ndarray:
        """Bool [A]: egos less than 3 s from a collision ahead, off their lane, or with an infraction in this step.

        Found-RL's event trigger (released configuration). All is read from the worlds; `infos` are not needed.
        """
        state, episode = self._batch.state, self._batch.episode
        flags = episode.event_collision | episode.event_red | episode.event_stop | episode.event_pixel
        urgent = (flags | episode.outside | episode.wrong_lane).astype(bool)
        find_urgent(state, urgent.reshape(self._batch.num_worlds, self._batch.num_egos))
        return urgent

    def check_prompt(self, prompt: str) -> None:
        """See `language.check_prompt`."""
        language.check_prompt(prompt)

    def to_action(self, feedback: Feedback) -> np.ndarray | None:
        """The action float32 [2] of a reply (`language.to_action`), or of two numbers, clipped; None for neither."""
        if isinstance(feedback, str):
            return language.to_action(feedback)
        if feedback.shape != (self.action_size,) or not np.isfinite(feedback).all():
            return None
        return np.clip(feedback, -1.0, 1.0).astype(np.float32)

    def first_numbers_to_action(self, feedback: Feedback) -> np.ndarray | None:
        """As `to_action`, but a reply counts by its first three numbers (`language.first_numbers_to_action`)."""
        return language.first_numbers_to_action(feedback) if isinstance(feedback, str) else self.to_action(feedback)

    def margins(self, probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """See `language.margins`."""
        return language.margins(probabilities, actions)
