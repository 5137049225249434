"""Actions and reasons in words, and back.

The 4 actions and 21 reasons of BDD-OIA (Xu et al., CVPR 2020) in the order of its files; names of the reasons as in
Table 3 and Fig. 8 of the RLOO paper, whose one-line format this is. BDD-OIA is multi-label: several are joined.
"""

import re
from typing import NamedTuple

import numpy as np

from mentorgym.mentors.mentor import IMAGE_SLOT

ACTIONS = ("forward", "stop", "turn left", "turn right")

REASONS = (
    "Follow traffic",
    "Road is clear",
    "Traffic light is green",
    "Obstacle: car",
    "Obstacle: person",
    "Obstacle: rider",
    "Obstacle: others",
    "Traffic light is not green",
    "Traffic sign",
    "Front car turning left",
    "On the left-turn lane",
    "Traffic light allows to turn left",
    "Front car turning right",
    "On the right-turn lane",
    "Traffic light allows to turn right",
    "Obstacles on the left lane",
    "No lane on the left",
    "Solid line on the left",
    "Obstacles on the right lane",
    "No lane on the right",
    "Solid line on the right",
)

ACTION_OF_REASON = np.array([0] * 3 + [1] * 6 + [2] * 3 + [3] * 6 + [2] * 3)
"""The action of a scene with one reason alone, int64 [21].

Reasons 15 to 17 tell why the left is closed, so that there the way is to the right, and 18 to 20 the reverse; the
counts of the paper's test set (Fig. 8) add up to its actions in this way but for 3 of 403.
"""

MIRRORED_ACTIONS = np.array([0, 1, 3, 2])
"""The action in a picture flipped left to right, int64 [4]."""

MIRRORED_REASONS = np.array([*range(9), 12, 13, 14, 9, 10, 11, 18, 19, 20, 15, 16, 17])
"""The same for reasons, int64 [21]."""

PROMPT = IMAGE_SLOT + "What is the next action of the car that sees this, and why?"
"""The instruction, with the slot of the last frame."""

ACTION_PROMPT = "Based on the caption and image, what is the next action: <forward, stop, turn left, turn right>?"
"""The second question, after the scene's description (RLOO paper, section 4, stage 2)."""

_WORDS_OF_ACTIONS = {
    0: ("forward", "move forward", "go forward", "go straight", "keep going"),
    1: ("stop", "stop/slow down", "stop or slow down", "slow down"),
    2: ("turn left", "left", "turn/change lane left", "change lane left"),
    3: ("turn right", "right", "turn/change lane right", "change lane right"),
}
_ACTIONS = {word: index for index, words in _WORDS_OF_ACTIONS.items() for word in words}
_REASONS = {name.lower(): index for index, name in enumerate(REASONS)}
_FORM = re.compile(r"\s*action:[^.]*\.\s*reason:[^.]*\.\s*", re.IGNORECASE)
_ACTION_PART = re.compile(r"action:([^.]*)", re.IGNORECASE)
_REASON_PART = re.compile(r"reason:([^.]*)", re.IGNORECASE)


class Reading(NamedTuple):
    """What a text says."""

    actions: np.ndarray
    """bool [4]"""
    reasons: np.ndarray
    """bool [21]"""
    unknown: int
    """how many of the things it names after "Action:" and "Reason:" are none of these"""
    formatted: bool
    """whether it has the form of `caption`, whatever it names"""


def caption(actions: np.ndarray, reasons: np.ndarray) -> str:
    """The sentence for the labels bool [4] and [21]: "Action: stop. Reason: Traffic light is not green."

    Several actions are joined by a comma, several reasons by a semicolon. Raises ValueError where there is none of
    either.
    """
    named = [name for name, there in zip(ACTIONS, actions, strict=True) if there]
    reason_names = [name for name, there in zip(REASONS, reasons, strict=True) if there]
    if not named or not reason_names:
        raise ValueError("a caption needs at least one action and one reason")
    return f"Action: {', '.join(named)}. Reason: {'; '.join(reason_names)}."


def captions() -> list[str]:
    """The 21 captions of scenes with one action and one reason, in the order of the reasons."""
    return [f"Action: {ACTIONS[ACTION_OF_REASON[index]]}. Reason: {name}." for index, name in enumerate(REASONS)]


def read(text: str) -> Reading:
    """The actions and reasons that a text names; capitals and spaces do not matter, common synonyms count."""
    actions, reasons, unknown = np.zeros(4, bool), np.zeros(21, bool), 0
    for part, separators, names, found in (
        (_ACTION_PART, r"[,;]", _ACTIONS, actions),
        (_REASON_PART, r";", _REASONS, reasons),
    ):
        match = part.search(text)
        for word in re.split(separators, match.group(1)) if match else ():
            if (name := " ".join(word.lower().split())) in names:
                found[names[name]] = True
            else:
                unknown += 1
    return Reading(actions, reasons, unknown, _FORM.fullmatch(text) is not None)


def mirrored(text: str) -> str:
    """The caption of the picture flipped left to right: "left" and "right" change places."""
    swapped = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b([Ll]eft|[Rr]ight)\b", lambda match: swapped[match.group(0)], text)
