"""The RLOO paper's inference in two stages (section 4, Fig. 1), on any pictures: the scene in words, then what to do.

(decision,) = describe_and_decide(["street.jpg"], model="runs/rloo/model")
print(decision.description, decision.action)
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.envs.caption.reward import clean
from mentorgym.mentors.load import WEIGHTS, load_mentor
from mentorgym.mentors.mentor import IMAGE_SLOT, Request, without_slot
from mentorgym.pictures import read_rgb

AT_ONCE = 16
"""Pictures that the model reads together."""


class Decision(NamedTuple):
    """What a model says of a picture."""

    description: str
    """what it wrote at first"""
    reply: str
    """what it wrote when it was asked for the action, with its description before its eyes"""
    action: str | None
    """the one of `language.ACTIONS` that the reply names, or None where it names none or several"""


def read_picture(picture: str | Path | np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of a file, upright, or such an array itself.

    Raises ValueError, naming the file, where it is neither.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a picture is uint8 [H, W, 3], not {picture.dtype} {picture.shape}")
        return picture
    try:
        return read_rgb(picture)
    except ValueError as error:
        raise ValueError(f"cannot read the picture {picture}: {error}") from None


def action_of(reply: str) -> str | None:
    """The one action that a reply names, with or without "Action:" before it; None for none or several."""
    named = language.read(reply).actions
    if not named.any():
        named = language.read(f"Action: {reply}").actions
    return language.ACTIONS[int(named.argmax())] if named.sum() == 1 else None


def action_question(description: str, action_prompt: str = language.ACTION_PROMPT) -> str:
    """The second question, with the slot for the picture: the description, on the next line the prompt."""
    # A slot in the description would be a second one.
    return f"{IMAGE_SLOT}{without_slot(description)}\n{action_prompt}"


def describe_and_decide(
    pictures: Sequence[str | Path | np.ndarray],
    model: str | Callable[..., Any] = "",
    prompt: str = language.PROMPT,
    action_prompt: str = language.ACTION_PROMPT,
    **options: Any,
) -> list[Decision]:
    """Describe each picture, then ask for the action with picture, description and `action_prompt`.

    Args:
        pictures: files, or arrays uint8 [H, W, 3], each of any size.
        model: folder or hub name of any `AutoModelForImageTextToText`, "" for our own; an endpoint's address, or
            whatever else `mentors.load.load_mentor` takes as "vlm:...", "http://..." or "module:callable"; or a mentor.
        prompt: the first question, with one slot for the picture.
        action_prompt: the second question, which comes after the description.
        options: of `load_mentor`.

    Raises:
        ValueError: a picture cannot be read, the prompt has no slot, or the model or an option does not fit.
        ImportError, ConnectionError: as `load_mentor` explains.
    """
    if isinstance(pictures, str | Path):
        raise ValueError(f"pictures={pictures!r}: give a list of pictures, also of one")
    if prompt.count(IMAGE_SLOT) != 1:
        raise ValueError(f"the prompt needs one slot {IMAGE_SLOT} for the picture: {prompt!r}")
    read = [read_picture(picture) for picture in pictures]
    mentor = load_mentor(_spec(model), **options) if isinstance(model, str) else model
    decisions: list[Decision] = []
    for start in range(0, len(read), AT_ONCE):
        group = read[start : start + AT_ONCE]
        descriptions = _ask(mentor, group, [prompt] * len(group))
        replies = _ask(mentor, group, [action_question(each, action_prompt) for each in descriptions])
        decisions += [
            Decision(description, reply, action_of(reply))
            for description, reply in zip(descriptions, replies, strict=True)
        ]
    return decisions


def _spec(model: str) -> str:
    if not model:
        return f"vlm:{WEIGHTS / 'caption_vlm'}"
    known = ("http://", "https://", "vlm:")
    # A name of the hub or of a folder has no colon, but for a drive's.
    return model if model.startswith(known) or (":" in model and not Path(model).exists()) else f"vlm:{model}"


def _ask(mentor: Callable[..., Any], pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> list[str]:
    nothing = np.full(0, np.nan, np.float32)
    requests = [Request(picture, prompt, 0, nothing) for picture, prompt in zip(pictures, prompts, strict=True)]
    answers = mentor(requests)
    return [clean(answer) if isinstance(answer, str) else "" for answer in answers]
