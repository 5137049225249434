"""One image of everything about a moment of a drive: the picture, the 15 masks, reward, controls, infractions."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.task.score import COUNTS
from mentorgym.envs.driving.worlds.state import TICK

WIDTH, HEIGHT = 1104, 576
"""Pixels of the image: the picture on the left takes a square of its height."""

REWARD_TERMS = ("speed", "position", "rotation", "action", "terminal")

EVENTS_SHOWN = 6

FLASH = 1.5
"""Seconds for which an infraction is shown in red."""

_MASK, _GAP, _LABEL = 96, 6, 15
_LEFT = HEIGHT + 12
_INFO = 3 * (_LABEL + _MASK) + 18
_GROUND = ("road", "route", "markings")
_ACTORS = ("vehicles", "walkers", "lights")
_AGES = ("-1.5 s", "-1.0 s", "-0.5 s", "now")

_BACKGROUND, _LINE, _TEXT, _FAINT = (24, 26, 30), (70, 74, 82), (235, 235, 235), (150, 154, 162)
_GOOD, _BAD = (110, 200, 120), (240, 96, 88)


@dataclass
class Trip:
    """What has happened in an episode so far, as `advance` is told after every step."""

    driver: str
    place: str
    """the episode in words"""
    seconds: float = 0.0
    action: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))
    reward: float = 0.0
    terms: np.ndarray = field(default_factory=lambda: np.zeros(len(REWARD_TERMS), np.float32))
    total: float = 0.0
    completion: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    events: list[tuple[float, str]] = field(default_factory=list)
    end: str = ""

    def advance(
        self, action: np.ndarray, reward: float, infos: Mapping[str, Any], counts: Mapping[str, int], ended: bool
    ) -> None:
        """Take in a step of the first world: its action float [2], its reward, the batch's infos, the counts so far."""
        self.seconds += TICK
        self.action, self.reward, self.terms = action, reward, infos["reward_terms"][0]
        self.total += reward
        self.completion = float(infos["route_completion"][0])
        for name in COUNTS:
            for _ in range(counts[name] - self.counts[name]):
                self.events.append((self.seconds, name.removesuffix("s").replace("_", " ")))
        self.counts = dict(counts)
        if ended:
            self.end = str(infos["score"]["end"][0])


def infraction_counts(envs: DrivingVectorEnv) -> dict[str, int]:
    """The infractions so far of the first world, by the names of COUNTS."""
    state = envs.get_state()
    return {name: int(state[f"episode.{name}"][0]) for name in COUNTS}


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _tile_corner(channel: int) -> tuple[int, int]:
    """The upper left corner of a mask: what does not move in the first column, then an instant in each."""
    if channel < 3:
        column, row = 0, channel
    else:
        row, column = divmod(channel - 3, 4)
        column += 1
    return _LEFT + column * (_MASK + _GAP), 6 + _LABEL + row * (_MASK + _LABEL)


@functools.cache
def _template() -> Image.Image:
    """What is the same in every image."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    for channel in range(15):
        x, y = _tile_corner(channel)
        name = _GROUND[channel] if channel < 3 else f"{_ACTORS[(channel - 3) // 4]} {_AGES[(channel - 3) % 4]}"
        draw.text((x, y - _LABEL), name, fill=_FAINT, font=_font(11))
    return image


def _bar(draw: ImageDraw.ImageDraw, x: int, y: int, name: str, value: float) -> None:
    """A line with a bar to either side of its middle, full at 1."""
    draw.text((x, y), name, fill=_FAINT, font=_font(12))
    middle, half = x + 112, 44
    draw.line((middle, y, middle, y + 12), fill=_LINE)
    end = middle + half * float(np.clip(value, -1.0, 1.0))
    if round(end) != middle:
        draw.rectangle((min(middle, end), y + 2, max(middle, end), y + 11), fill=_GOOD if value > 0 else _BAD)
    draw.text((x + 206, y), f"{value:+.2f}", fill=_TEXT, font=_font(12), anchor="ra")


def compose(picture: np.ndarray, masks: np.ndarray, context: Mapping[str, Any], trip: Trip) -> np.ndarray:
    """The image, uint8 RGB [576, 1104, 3].

    Args:
        picture: uint8 [192, 192, 3].
        masks: uint8 [15, 96, 96].
        context: `speed` (m/s) and `command_name`, as of `prompt_context`.
        trip: what has happened so far.
    """
    image = _template().copy()
    image.paste(Image.fromarray(picture).resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST))
    for channel, mask in enumerate(masks):
        image.paste(Image.fromarray(mask), _tile_corner(channel))
    draw = ImageDraw.Draw(image)

    x, y = _LEFT, _INFO
    draw.text((x, y), trip.driver, fill=_TEXT, font=_font(18))
    draw.text((WIDTH - 12, y + 4), trip.place, fill=_FAINT, font=_font(12), anchor="ra")
    y += 28
    draw.text((x, y), f"{context['speed']:.1f} m/s", fill=_TEXT, font=_font(22))
    draw.text((x + 110, y + 7), str(context["command_name"]), fill=_TEXT, font=_font(14))
    draw.text((WIDTH - 12, y + 7), f"{trip.seconds:.1f} s", fill=_TEXT, font=_font(14), anchor="ra")
    y += 34
    draw.rectangle((x, y, WIDTH - 12, y + 7), outline=_LINE)
    draw.rectangle((x, y, x + (WIDTH - 12 - x) * min(trip.completion, 1.0), y + 7), fill=_GOOD)
    y += 16

    lines = [("acceleration", float(trip.action[0])), ("steer", float(trip.action[1]))]
    lines += [(name, float(value)) for name, value in zip(REWARD_TERMS, trip.terms, strict=True)]
    lines.append(("reward", trip.reward))
    for number, (name, value) in enumerate(lines):
        _bar(draw, x, y + 16 * number + 4 * (number > 1), name, value)

    column = x + 240
    draw.text((column, y), f"return {trip.total:+.1f}", fill=_TEXT, font=_font(14))
    draw.text((WIDTH - 12, y), f"route {trip.completion:.0%}", fill=_TEXT, font=_font(14), anchor="ra")
    hidden = max(len(trip.events) - EVENTS_SHOWN, 0)
    text = [(f"{moment:6.1f} s  {what}", moment) for moment, what in trip.events[hidden:]]
    if hidden:
        text[0] = (f"... and {hidden + 1} infractions before", 0.0)
    for number, (line, moment) in enumerate(text or [("no infraction", 0.0)]):
        fresh = bool(trip.events) and trip.seconds - moment < FLASH
        draw.text((column, y + 22 + 16 * number), line, fill=_BAD if fresh else _FAINT, font=_font(12))
    if trip.end:
        colour = _GOOD if trip.end == "completed" else _BAD
        draw.rectangle((0, 0, HEIGHT - 1, 40), fill=_BACKGROUND)
        draw.text((HEIGHT / 2, 20), trip.end, fill=colour, font=_font(24), anchor="mm")
    return np.asarray(image)
