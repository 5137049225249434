"""Driving in words: the prompt and its answer, and the captions of contexts and actions.

Found-RL's discretisation, prompt contents and answer format (its released `llm_wrapper.py`, `preprocess.py` and CLIP
server); the wording is our own.
"""

import json
import math
import string
from itertools import product
from typing import Any

import numpy as np

from mentorgym.envs.driving.action import from_control, to_control
from mentorgym.envs.driving.view.picture import COMMAND_NAMES
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.replies import bare_numbers, first_numbers, object_numbers

PROMPT = (
    IMAGE_SLOT + "You drive the white car, seen from above; it faces up. Speed: {speed:.1f} m/s. "
    'Next target point: {forward:.2f} m forward, {right:.2f} m right. Command: "{command}". '
    'Answer with the next action as JSON with the float keys "throttle", "steer" and "brake".'
)
"""Fields: `speed` in m/s, `forward` and `right` in metres in the ego's frame, `command` in words."""

FIELDS = ("speed", "forward", "right", "command")

COMMANDS = tuple(COMMAND_NAMES.values())
"""Phrases in the order of command - 1."""

SPEED_BINS = (0.1, 2.0, 4.5)
"""m/s between the four bins of forward speed."""

SPEEDS = ("standing still", "driving slowly", "driving at medium speed", "driving fast")

LONGITUDINAL = (
    "braking hard",
    "braking",
    "accelerating fast",
    "accelerating",
    "accelerating gently",
    "idling",
)
LATERAL = ("turning sharply left", "turning left", "keeping straight", "turning right", "turning sharply right")

NUM_CONTEXTS = len(COMMANDS) * len(SPEEDS)
NUM_ACTIONS = len(LONGITUDINAL) * len(LATERAL)


def context(command: int, speed: float) -> int:
    """0 to 23 for a command (1 to 6) and a forward speed in m/s."""
    return (command - 1) * len(SPEEDS) + int(np.searchsorted(SPEED_BINS, speed, side="right"))


def labels(actions: np.ndarray) -> np.ndarray:
    """The semantic action, int64 [...], 0 to 29, of actions [..., 2]: longitudinal * 5 + lateral."""
    throttle, steer, brake = np.moveaxis(to_control(actions), -1, 0)
    longitudinal = np.select(
        [brake > 0.5, brake > 0.05, throttle > 0.8, throttle > 0.3, throttle > 0.05], [0, 1, 2, 3, 4], 5
    )
    lateral = np.select([np.abs(steer) < 0.05, steer > 0.3, steer > 0, steer < -0.3], [2, 4, 3, 0], 1)
    return longitudinal * len(LATERAL) + lateral


def caption(context: int, label: int) -> str:
    """What the picture of a context (0 to 23) shows where the action is `label` (0 to 29)."""
    command, speed = divmod(context, len(SPEEDS))
    longitudinal, lateral = divmod(label, len(LATERAL))
    return (
        f"The route says to {COMMANDS[command]}. The car is {SPEEDS[speed]}. "
        f"It is {LONGITUDINAL[longitudinal]} and {LATERAL[lateral]}."
    )


def anchors() -> list[list[str]]:
    """The captions of the 30 actions in each of the 24 contexts: texts [24][30]."""
    return [[caption(c, label) for label in range(NUM_ACTIONS)] for c in range(NUM_CONTEXTS)]


def _near(words: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
    near = np.eye(len(words), dtype=bool)
    for first, second in pairs:
        i, j = words.index(first), words.index(second)
        near[i, j] = near[j, i] = True
    return near


NEIGHBOURS = np.kron(
    _near(
        LONGITUDINAL,
        (
            ("braking hard", "braking"),
            ("accelerating fast", "accelerating"),
            ("accelerating", "accelerating gently"),
        ),
    ),
    _near(LATERAL, (("turning left", "turning sharply left"), ("turning right", "turning sharply right"))),
)
"""bool [30, 30]: actions of like meaning, itself included, that are no evidence against each other."""


def margins(probabilities: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """How much more likely each action is than the likeliest unlike one, at least 0: float32 [B].

    `probabilities` [B, 30] over a context's captions, `actions` [B, 2]. Found-RL, eq. 26, with the maximum over the
    actions that are not neighbours, as its text and code have it; the printed equation says the opposite.
    """
    chosen = labels(actions)
    unlike = np.where(NEIGHBOURS[chosen], 0.0, probabilities).max(axis=1)
    own = np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0]
    return np.maximum(own - unlike, 0.0).astype(np.float32)


def check_prompt(template: str) -> None:
    """Raise ValueError for a prompt template that lacks the picture's slot or has fields unlike FIELDS."""
    if template.count(IMAGE_SLOT) != 1:
        raise ValueError(
            f"the prompt must have one slot {IMAGE_SLOT} for the picture, not {template.count(IMAGE_SLOT)}"
        )
    try:
        unknown = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None} - set(FIELDS)
        if not unknown:
            fill(template, {"speed": 0.0, "target": (0.0, 0.0), "command_name": ""})
    except (ValueError, IndexError) as error:
        raise ValueError(f"the prompt is no template for str.format: {error}; braces of JSON are doubled") from None
    if unknown:
        raise ValueError(
            f"the prompt has unknown fields {sorted(unknown)}; there are {', '.join(FIELDS)}; double the braces of JSON"
        )


def fill(template: str, context: dict[str, Any]) -> str:
    """The prompt for what `picture.prompt_context` tells."""
    forward, right = context["target"]
    return template.format(speed=context["speed"], forward=forward, right=right, command=context["command_name"])


def answer(action: np.ndarray) -> str:
    """The reply that suggests `action` [2], rounded to two decimals."""
    throttle, steer, brake = (round(float(each), 2) + 0.0 for each in to_control(action))
    return json.dumps({"throttle": throttle, "steer": steer, "brake": brake})


CONTROLS = ("throttle", "steer", "brake")
"""Keys of an answer."""


def to_action(reply: str) -> np.ndarray | None:
    """The action float32 [2] that a reply suggests, clipped into range; None for a reply that is malformed.

    A reply is the JSON that the prompt asks for, which may stand in a code fence or between sentences, or the three
    numbers throttle, steer and brake alone. Found-RL (section 4.1) masks what is malformed.
    """
    return _action(object_numbers(reply, CONTROLS) or bare_numbers(reply, len(CONTROLS)))


def first_numbers_to_action(reply: str) -> np.ndarray | None:
    """As `to_action`, or else by the first three numbers of a reply, whatever stands around them.

    This is the parser of Found-RL's released code. It takes "I see 2 cars and 1 walker 30 m ahead" for an action.
    """
    return _action(object_numbers(reply, CONTROLS) or first_numbers(reply, len(CONTROLS)))


def _action(numbers: list[float] | None) -> np.ndarray | None:
    if numbers is None or not all(map(math.isfinite, numbers)):
        return None
    return from_control(np.array(numbers))


def grid() -> list[str]:
    """A reply for each of the 30 semantic actions, its numbers in the middle of their ranges."""
    longitudinal = ((0.0, 0.75), (0.0, 0.3), (0.9, 0.0), (0.55, 0.0), (0.18, 0.0), (0.0, 0.0))
    lateral = (-0.5, -0.15, 0.0, 0.15, 0.5)
    return [
        json.dumps({"throttle": throttle, "steer": steer, "brake": brake})
        for (throttle, brake), steer in product(longitudinal, lateral)
    ]
