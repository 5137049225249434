"""What travels beside the 32 numbers and the picture: JSON on a side channel of ML-Agents.

The channel's identity is `CHANNEL`; its payloads are one JSON object each, UTF-8. In our frame: metres, radians, x and
y level, z up, see `Arrangement`; a player turns its own frame into it.

To the player, with each reset:

- `rows`: which agents, from 0, are to be drawn anew: room, camera, objects and their places; the others stay as they
  are;
- `seeds`: for each of these rows the whole number that its draws start from, or -1 to draw on;
- `split` "train", "val" or "test"; `camera` "close" or "paper"; `move_scale`, metres that an action of 1 asks for;
  `in_view`, whether a move out of the picture is invalid; a player leaves out what it has no use for;
- `pictures`: whether the camera's pictures are wanted.

With each step:

- `rows`: which agents are to be drawn anew after this step's move. These, and no others, then end their episodes in the
  terms of ML-Agents, so that what the move led to is seen before it is gone.

From the player, one object for each agent and each observation, in the order in which it sends them:

- `row`: which of the agents, from 0; it stays when episodes end;
- `done`: whether this observation is an episode's last;
- `room`; `camera`: `position` [3], `yaw`, `pitch`, `field`, `height` and `width`, as `rendering.render.Camera` has
  them;
- `objects`: the names of the three, different ones of `objects.NAMES`; `positions` [3, 3], or the same numbers in one
  list; `yaws` [3];
- `moved`: which of the objects the last action moved, -1 before the first; `valid`: whether it could; `reason`: why
  not, one of `world.REASONS`, "" where it could.
"""

import json
import math
import struct
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES

CHANNEL = uuid.UUID("5d0f37a6-63c1-4d3e-a2b5-1e7f4c9d8a10")


class Record(NamedTuple):
    """What a player tells of one observation."""

    row: int
    done: bool
    arrangement: Arrangement
    moved: int
    valid: bool
    reason: str


def encode(message: dict[str, Any]) -> bytes:
    """A payload of the channel."""
    return json.dumps(message, allow_nan=False).encode()


def decode(payload: bytes) -> dict[str, Any]:
    """What a payload holds; ValueError unless that is a JSON object of finite numbers."""
    message = json.loads(payload, parse_constant=_finite, parse_float=_finite)
    if not isinstance(message, dict):
        raise ValueError(f"a JSON object was expected, not {type(message).__name__}")
    return message


def describe(record: Record) -> dict[str, Any]:
    """A record as a JSON object."""
    arrangement = record.arrangement
    return {
        "row": record.row,
        "done": record.done,
        "room": arrangement.room,
        "camera": asdict(arrangement.camera),
        "objects": list(arrangement.names),
        "positions": np.asarray(arrangement.positions, np.float64).tolist(),
        "yaws": np.asarray(arrangement.yaws, np.float64).tolist(),
        "moved": record.moved,
        "valid": record.valid,
        "reason": record.reason,
    }


def understand(message: dict[str, Any]) -> Record:
    """The record that a JSON object holds; ValueError, naming the entry, where it holds none."""
    try:
        names = list(message["objects"])
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise ValueError(f"objects: {unknown[0]!r} is none of {', '.join(NAMES)}")
        if len(set(names)) < len(names):
            raise ValueError(f"objects: {names} are not different ones")
        camera = dict(message["camera"])
        arrangement = Arrangement(
            room=str(message["room"]),
            camera=Camera(
                position=_three(camera["position"]),
                height=int(camera["height"]),
                width=int(camera["width"]),
                **{name: float(camera[name]) for name in ("yaw", "pitch", "field")},
            ),
            objects=tuple(NAMES.index(name) for name in names),
            positions=np.array(message["positions"], np.float64).reshape(len(names), 3),
            yaws=np.array(message["yaws"], np.float64).reshape(len(names)),
        )
        row, moved = int(message["row"]), int(message["moved"])
        return Record(row, bool(message["done"]), arrangement, moved, bool(message["valid"]), str(message["reason"]))
    except KeyError as error:
        raise ValueError(f"the entry {error} is missing") from None
    except TypeError as error:
        raise ValueError(str(error)) from None


def pack(payload: bytes) -> bytes:
    """A payload as side channels carry it: the channel's UUID, little-endian; the length, int32; the payload."""
    return CHANNEL.bytes_le + struct.pack("<i", len(payload)) + payload


def unpack(data: bytes) -> Iterator[bytes]:
    """This channel's payloads in what side channels carry."""
    start = 0
    while start < len(data):
        (length,) = struct.unpack_from("<i", data, start + 16)
        if data[start : start + 16] == CHANNEL.bytes_le:
            yield data[start + 20 : start + 20 + length]
        start += 20 + length


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _three(numbers: Any) -> tuple[float, float, float]:
    x, y, z = (float(number) for number in numbers)
    return x, y, z
