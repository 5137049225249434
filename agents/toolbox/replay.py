"""A replay buffer for bird's-eye masks and a state vector, with the masks packed to bits.

The 15 masks of `CarlaNoCrash-v0` hold few values (Found-RL's `chauffeurnet.py`): 0, 120, 255 in channels 0 to 2, 0, 255
in 3 to 10, 0, 80, 170, 255 in 11 to 14. Bits 7 and 6 of the byte tell the values of one channel apart, and bit 7 alone
those of the two-valued ones: 22 bit planes of 1 152 bytes, 25 344 bytes an observation instead of 138 240.

A transition's next observation is the row that follows it in the same environment; only an episode's final observation,
which no row follows, has a place of its own. A stored transition takes about 26 kB, or 51 kB if each ends an episode.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

MASKS_SHAPE = (15, 96, 96)
STATE_SIZE = 10
ACTION_SIZE = 2

# A channel's value is high * bit7 + low * bit6 + both * (bit7 and bit6); one with low = 0 needs bit 7 alone.
DECODING = np.array([(255, 120, -120)] * 3 + [(255, 0, 0)] * 8 + [(170, 80, 5)] * 4).astype(np.uint64)
CHANNEL_VALUES = ((0, 120, 255),) * 3 + ((0, 255),) * 8 + ((0, 80, 170, 255),) * 4
PLANE_BYTES = MASKS_SHAPE[1] * MASKS_SHAPE[2] // 8
PACKED_BYTES = (len(DECODING) + int((DECODING[:, 1] > 0).sum())) * PLANE_BYTES

LOW_BITS = np.uint64(0x0101010101010101)
GATHER = np.uint64(0x0102040810204080)
# Byte k of SPREAD[b] is bit k of b: eight pixels from eight bits.
SPREAD = np.array([sum((b >> k & 1) << 8 * k for k in range(8)) for b in range(256)], np.uint64)

ROWS_PER_FILE = 256


class Batch(NamedTuple):
    """B transitions. An observation is a dict of `bev` uint8 [B, 15, 96, 96] and `state` float32 [B, 10]."""

    observations: dict[str, np.ndarray]
    actions: np.ndarray  # float32 [B, 2]
    rewards: np.ndarray  # float32 [B]
    next_observations: dict[str, np.ndarray]
    terminated: np.ndarray  # float32 [B], 1 where no reward can follow; a truncated transition has 0


@numba.njit(cache=True, nogil=True)
def pack_words(words, packed, decoding, low_bits, gather):
    """Pack `words` uint64 [15, P] of eight pixels into `packed` uint8 [22 * P]; the channel that does not fit or -1."""
    plane = 0
    pixels = words.shape[1]
    for channel in range(words.shape[0]):
        high_value, low_value, both_value = decoding[channel]
        two_planes = low_value > 0
        difference = np.uint64(0)
        for i in range(pixels):
            word = words[channel, i]
            high = (word >> np.uint64(7)) & low_bits
            low = (word >> np.uint64(6)) & low_bits
            difference |= word ^ (high * high_value + low * low_value + (high & low) * both_value)
            packed[plane + i] = (high * gather) >> np.uint64(56)
            if two_planes:
                packed[plane + pixels + i] = (low * gather) >> np.uint64(56)
        if difference != 0:
            return channel
        plane += 2 * pixels if two_planes else pixels
    return -1


@numba.njit(cache=True, nogil=True)
def unpack_words(packed, slots, words, decoding, spread):
    """Unpack rows `slots` int64 [B] of `packed` uint8 [rows, 22 * P] into `words` uint64 [B, 15, P]."""
    pixels = words.shape[2]
    for b in range(len(slots)):
        row = packed[slots[b]]
        plane = 0
        for channel in range(words.shape[1]):
            high_value, low_value, both_value = decoding[channel]
            if low_value > 0:
                for i in range(pixels):
                    high = spread[row[plane + i]]
                    low = spread[row[plane + pixels + i]]
                    words[b, channel, i] = high * high_value + low * low_value + (high & low) * both_value
                plane += 2 * pixels
            else:
                for i in range(pixels):
                    words[b, channel, i] = spread[row[plane + i]] * high_value
                plane += pixels


def pack(masks: np.ndarray, packed: np.ndarray) -> None:
    """Pack `masks` uint8 [15, 96, 96] into `packed` uint8 [25344].

    Raises ValueError, naming channel and value, for a value that the channel cannot hold.
    """
    if masks.shape != MASKS_SHAPE or masks.dtype != np.uint8:
        raise ValueError(f"masks must be uint8 {MASKS_SHAPE}, got {masks.dtype} {masks.shape}")
    words = np.ascontiguousarray(masks).reshape(len(DECODING), -1).view(np.uint64)
    channel = pack_words(words, packed, DECODING, LOW_BITS, GATHER)
    if channel >= 0:
        known = CHANNEL_VALUES[channel]
        value = np.setdiff1d(masks[channel], known)[0]
        raise ValueError(f"mask channel {channel} holds {value}; the replay buffer can store {known} there")


class Observations:
    """Packed observations in numbered slots."""

    def __init__(self, slots: int):
        self.masks = np.zeros((slots, PACKED_BYTES), np.uint8)
        self.states = np.zeros((slots, STATE_SIZE), np.float32)

    def put(self, slot: int, masks: np.ndarray, state: np.ndarray) -> None:
        pack(masks, self.masks[slot])
        self.states[slot] = state

    def copy(self, slot: int, source: "Observations", source_slot: int) -> None:
        self.masks[slot] = source.masks[source_slot]
        self.states[slot] = source.states[source_slot]

    def take(self, slots: np.ndarray, out: np.ndarray) -> dict[str, np.ndarray]:
        """Those of `slots` int64 [B], the masks written to `out` uint8 [B, 15, 96, 96]."""
        words = out.reshape(len(slots), len(DECODING), -1).view(np.uint64)
        unpack_words(self.masks, slots, words, DECODING, SPREAD)
        return {"bev": out, "state": self.states[slots]}

    @property
    def nbytes(self) -> int:
        return self.masks.nbytes + self.states.nbytes


class ReplayBuffer:
    """The last `capacity` transitions of `num_envs` environments that step together (same-step autoreset).

    `start` takes the first observations; then `add` takes what each step returned. An array of indices, 0 the oldest
    transition, gives a `Batch`: `buffer[indices]`. Its masks stay valid until the next one is taken.
    """

    def __init__(self, capacity: int, num_envs: int, seed: int = 0):
        if num_envs < 1 or capacity < num_envs:
            raise ValueError(f"a replay buffer of {capacity} transitions cannot serve {num_envs} environments")
        self.num_envs = num_envs
        # One row more than transitions: the newest row is an observation whose action is still to come.
        self.rows = capacity // num_envs + 1
        self.head = 0
        self.length = 0
        self.generator = np.random.default_rng(seed)
        self.rows_of_observations = Observations(self.rows * num_envs)
        self.actions = np.zeros((self.rows, num_envs, ACTION_SIZE), np.float32)
        self.rewards = np.zeros((self.rows, num_envs), np.float32)
        self.terminated = np.zeros((self.rows, num_envs), np.float32)
        # The slot in `finals` of a transition that the next row does not continue, else -1.
        self.final_slot = np.full((self.rows, num_envs), -1, np.int32)
        self.finals = Observations(0)
        self.free_finals: list[int] = []
        self._scratch = np.zeros((2, 0, *MASKS_SHAPE), np.uint8)

    def __len__(self) -> int:
        return self.length * self.num_envs

    @property
    def capacity(self) -> int:
        return (self.rows - 1) * self.num_envs

    @property
    def nbytes(self) -> int:
        """Bytes held for transitions."""
        arrays = (self.actions, self.rewards, self.terminated, self.final_slot)
        return self.rows_of_observations.nbytes + self.finals.nbytes + sum(array.nbytes for array in arrays)

    def start(self, observations: dict[str, np.ndarray]) -> None:
        """Take the observations of a reset: `bev` uint8 [N, 15, 96, 96], `state` float32 [N, 10]."""
        last = (self.head - 1) % self.rows
        for env in range(self.num_envs):
            if self.length and self.final_slot[last, env] < 0:
                # The reset cuts this episode off: what followed its last action moves out of the way.
                slot = self._free_final()
                self.finals.copy(slot, self.rows_of_observations, self.head * self.num_envs + env)
                self.final_slot[last, env] = slot
        self._put_row(observations)

    def add(
        self,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        observations: dict[str, np.ndarray],
        final_observations: np.ndarray | None,
    ) -> None:
        """Take one step of all N environments.

        `actions` [N, 2], `rewards` [N], `terminated` and `truncated` bool [N], `observations` as the step returned them
        (the next episode's first, where one ended), `final_observations` the step's `infos["final_obs"]`, if any.
        """
        ended = terminated | truncated
        if ended.any() and final_observations is None:
            raise ValueError(
                "an episode ended without infos['final_obs']; make the environments with same-step autoreset"
            )
        row = self.head
        self.actions[row] = actions
        self.rewards[row] = rewards
        self.terminated[row] = terminated
        self.final_slot[row] = -1
        for env in np.flatnonzero(ended):
            slot = self._free_final()
            self.finals.put(slot, final_observations[env]["bev"], final_observations[env]["state"])
            self.final_slot[row, env] = slot
        self.head = (row + 1) % self.rows
        if self.length == self.rows - 1:
            dropped = self.final_slot[self.head]
            self.free_finals.extend(dropped[dropped >= 0].tolist())
        else:
            self.length += 1
        self._put_row(observations)

    def sample(self, batch_size: int) -> Batch:
        """`batch_size` transitions drawn uniformly with replacement."""
        return self[self.generator.integers(len(self), size=batch_size)]

    def __getitem__(self, indices: np.ndarray) -> Batch:
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"transitions are numbered 0 to {len(self) - 1}")
        if self._scratch.shape[1] != len(indices):
            self._scratch = np.empty((2, len(indices), *MASKS_SHAPE), np.uint8)
        env = indices % self.num_envs
        row = (self.head - self.length + indices // self.num_envs) % self.rows
        observations = self.rows_of_observations.take(row * self.num_envs + env, self._scratch[0])
        next_slots = (row + 1) % self.rows * self.num_envs + env
        next_observations = self.rows_of_observations.take(next_slots, self._scratch[1])
        final_slots = self.final_slot[row, env]
        for i in np.flatnonzero(final_slots >= 0):
            final = self.finals.take(final_slots[i : i + 1], next_observations["bev"][i : i + 1])
            next_observations["state"][i] = final["state"][0]
        return Batch(
            observations, self.actions[row, env], self.rewards[row, env], next_observations, self.terminated[row, env]
        )

    def save(self, folder: Path) -> None:
        """Write everything, the sampler's random state included, as safetensors files in the new folder `folder`."""
        folder.mkdir(parents=True)
        position = {"head": self.head, "length": self.length, "finals": len(self.finals.states)}
        metadata = {"position": json.dumps(position), "generator": json.dumps(self.generator.bit_generator.state)}
        save_file({"rows": np.array([self.rows, self.num_envs])}, folder / "replay.safetensors", metadata)
        for name, arrays, count in self._groups(position):
            for first in range(0, count, ROWS_PER_FILE):
                part = {key: array[first : min(first + ROWS_PER_FILE, count)] for key, array in arrays.items()}
                save_file(part, folder / f"{name}_{first:09d}.safetensors")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, into a buffer of the same capacity and number of environments (else ValueError)."""
        with safe_open(folder / "replay.safetensors", "np") as file:
            rows = file.get_tensor("rows").tolist()
            position = json.loads(file.metadata()["position"])
            generator = json.loads(file.metadata()["generator"])
        if rows != [self.rows, self.num_envs]:
            raise ValueError(f"{folder} holds rows and environments {rows}, this buffer {[self.rows, self.num_envs]}")
        self.head, self.length = position["head"], position["length"]
        self.generator.bit_generator.state = generator
        self.finals = Observations(position["finals"])
        for name, arrays, count in self._groups(position):
            for first in range(0, count, ROWS_PER_FILE):
                with safe_open(folder / f"{name}_{first:09d}.safetensors", "np") as part:
                    for key, array in arrays.items():
                        array[first : min(first + ROWS_PER_FILE, count)] = part.get_tensor(key)
        used = self.final_slot[(self.head - self.length + np.arange(self.length)) % self.rows]
        self.free_finals = sorted(set(range(len(self.finals.states))) - set(used.ravel().tolist()), reverse=True)

    def _put_row(self, observations: dict[str, np.ndarray]) -> None:
        for env in range(self.num_envs):
            slot = self.head * self.num_envs + env
            self.rows_of_observations.put(slot, observations["bev"][env], observations["state"][env])

    def _free_final(self) -> int:
        if not self.free_finals:
            old = self.finals
            used = len(old.states)
            self.finals = Observations(min(max(2 * used, 16), self.rows * self.num_envs))
            self.finals.masks[:used], self.finals.states[:used] = old.masks, old.states
            self.free_finals = list(range(len(self.finals.states) - 1, used - 1, -1))
        return self.free_finals.pop()

    def _groups(self, position: dict[str, int]) -> list[tuple[str, dict[str, np.ndarray], int]]:
        """What is saved: a name, arrays, and how many of their leading rows are in use."""
        per_row = {
            "masks": self.rows_of_observations.masks.reshape(self.rows, self.num_envs, -1),
            "states": self.rows_of_observations.states.reshape(self.rows, self.num_envs, -1),
            "actions": self.actions,
            "rewards": self.rewards,
            "terminated": self.terminated,
            "final_slot": self.final_slot,
        }
        rows = self.rows if position["length"] == self.rows - 1 else position["head"] + 1
        return [("rows", per_row, rows), ("finals", vars(self.finals), position["finals"])]
