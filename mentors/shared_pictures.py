"""Requests and feedback in shared memory, so that two processes exchange them without copying through a pipe.

A slot holds one request and later the feedback on it. Only its number goes through the pipe.
"""

import os
import struct
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from mentorgym.mentors.mentor import Feedback, Request

BLOCK = 32
"""Slots of one block of shared memory."""

TEXT_BYTES = 16384
"""Bytes in a slot for a request's action and prompt, which the feedback later overwrites."""

REQUEST = struct.Struct("<dqII")  # time, context, bytes of the action, bytes of the prompt
FEEDBACK = struct.Struct("<II")  # kind, bytes
TEXT, NUMBERS, NOTHING = range(3)
HEADER_BYTES = REQUEST.size

MOUNT = Path("/dev/shm")
"""Linux's folder of shared memory; in a container it may be small, and writing beyond its end kills the process."""


class SharedPictures:
    """Numbered slots for requests with pictures of one shape, in blocks that are made as their numbers are used.

    The owner makes the blocks and removes them when it closes. The other process opens them by name, from `prefix`.
    """

    def __init__(self, prefix: str, picture_shape: tuple[int, ...], owner: bool):
        self.prefix, self.picture_shape, self.owner = prefix, picture_shape, owner
        self.picture_bytes = int(np.prod(picture_shape))
        self.slot_bytes = HEADER_BYTES + TEXT_BYTES + self.picture_bytes
        self.blocks: list[SharedMemory] = []

    def put_request(self, slot: int, request: Request, time_submitted: float) -> None:
        """Write a request, whose action and prompt have to fit TEXT_BYTES, and its time of submission to its slot."""
        action, prompt = np.asarray(request.action, np.float32).tobytes(), request.prompt.encode("utf-8", "replace")
        memory, at = self._find(slot)
        REQUEST.pack_into(memory, at, time_submitted, request.context, len(action), len(prompt))
        at += HEADER_BYTES
        memory[at : at + len(action) + len(prompt)] = action + prompt
        picture = np.frombuffer(memory, np.uint8, self.picture_bytes, at + TEXT_BYTES)
        picture.reshape(self.picture_shape)[...] = request.picture

    def time_submitted(self, slot: int) -> float:
        """When the request of a slot was submitted, by `time.monotonic`, a clock that all processes share."""
        memory, at = self._find(slot)
        return REQUEST.unpack_from(memory, at)[0]

    def request(self, slot: int) -> Request:
        """A copy of the request of a slot."""
        memory, at = self._find(slot)
        _, context, action_bytes, prompt_bytes = REQUEST.unpack_from(memory, at)
        at += HEADER_BYTES
        action = np.frombuffer(bytes(memory[at : at + action_bytes]), np.float32)
        prompt = bytes(memory[at + action_bytes : at + action_bytes + prompt_bytes]).decode("utf-8")
        picture = np.frombuffer(memory, np.uint8, self.picture_bytes, at + TEXT_BYTES)
        return Request(picture.reshape(self.picture_shape).copy(), prompt, context, action)

    def put_feedback(self, slot: int, feedback: Feedback | None) -> None:
        """Write the feedback on a slot's request over it; it has to fit TEXT_BYTES."""
        if feedback is None:
            kind, content = NOTHING, b""
        elif isinstance(feedback, str):
            kind, content = TEXT, feedback.encode("utf-8", "replace")
        else:
            kind, content = NUMBERS, feedback.tobytes()
        memory, at = self._find(slot)
        FEEDBACK.pack_into(memory, at, kind, len(content))
        at += HEADER_BYTES
        memory[at : at + len(content)] = content

    def feedback(self, slot: int) -> Feedback | None:
        """A copy of the feedback in a slot."""
        memory, at = self._find(slot)
        kind, size = FEEDBACK.unpack_from(memory, at)
        if kind == NOTHING:
            return None
        at += HEADER_BYTES
        content = bytes(memory[at : at + size])
        return content.decode("utf-8") if kind == TEXT else np.frombuffer(content, np.float32)

    def reserve(self, slots: int) -> None:
        """Make blocks for at least `slots` slots; raises MemoryError, with the remedy, where the memory is full."""
        while len(self.blocks) * BLOCK < slots:
            size = BLOCK * self.slot_bytes
            if MOUNT.is_dir() and shared_memory_left() < size:
                raise MemoryError(
                    f"{MOUNT} has no room for {size:,} bytes more of pictures: enlarge it (docker run --shm-size=1g), "
                    "lower max_outstanding, or use worker='thread'"
                )
            block = SharedMemory(f"{self.prefix}{len(self.blocks)}", create=True, size=size)
            self.blocks.append(block)
            # Pages are allocated at their first write: now, while it is certain that there are enough.
            np.frombuffer(memory_of(block), np.uint8)[:] = 0

    def close(self) -> None:
        """Release the memory; the owner removes it."""
        for block in self.blocks:
            block.close()
            if self.owner:
                block.unlink()
        self.blocks = []

    def _find(self, slot: int) -> tuple[memoryview, int]:
        """The memory that holds a slot, and where in it the slot begins."""
        number, place = divmod(slot, BLOCK)
        if self.owner:
            self.reserve(slot + 1)
        while len(self.blocks) <= number:
            self.blocks.append(SharedMemory(f"{self.prefix}{len(self.blocks)}"))
        return memory_of(self.blocks[number]), place * self.slot_bytes


def memory_of(block: SharedMemory) -> memoryview:
    """The bytes of a block that is not closed."""
    assert block.buf is not None
    return block.buf


def shared_memory_left() -> int:
    """Bytes of shared memory that are free, on Linux."""
    state = os.statvfs(MOUNT)
    return state.f_bavail * state.f_frsize
