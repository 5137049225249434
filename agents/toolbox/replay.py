"""A replay buffer for bird's-eye masks and a state vector, with the masks packed to bits, that takes late feedback.

A transition's next observation is the row that follows it in the same environment; only an episode's final observation,
which no row follows, has a place of its own. A stored transition takes about 26 kB, or 51 kB if each ends an episode.

What a mentor says of an observation arrives steps later, under the environment's index and the observation's number
(`mentorgym.wrappers`). A row carries its observation's number as a stamp; feedback whose number no row bears any more
is dropped.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from mentorgym.agents.toolbox.masks import PACKED_BYTES, pack
from mentorgym.wrappers.feedback import LateBonuses, LateHints

STATE_SIZE = 10
ACTION_SIZE = 2

ROWS_PER_FILE = 256


class Batch(NamedTuple):
    """B transitions, as arrays or tensors. An observation is a dict of `packed` uint8 [B, 25344] and `state` float32
    [B, 10]."""

    observations: dict[str, Any]
    actions: Any  # float32 [B, 2]
    rewards: Any  # float32 [B]
    next_observations: dict[str, Any]
    terminated: Any  # float32 [B], 1 where no reward can follow; a truncated transition has 0
    # What a mentor said of `observations`; None from a buffer whose observations have no numbers.
    hints: Any = None  # float32 [B, 2], 0 where there is none
    hint_mask: Any = None  # float32 [B], 1 where there is a hint
    bonuses: Any = None  # float32 [B], of `actions`, 0 where there is none
    bonus_mask: Any = None  # float32 [B], 1 where there is a bonus
    discounts: Any = None  # float32 [B], what a value of `next_observations` counts; None unless sampled


class Feedback:
    """What has arrived for each of R rows of N environments, and the numbers of their observations."""

    def __init__(self, rows: int, num_envs: int):
        self.hints = np.zeros((rows, num_envs, ACTION_SIZE), np.float32)
        self.hint_mask = np.zeros((rows, num_envs), np.float32)
        self.bonuses = np.zeros((rows, num_envs), np.float32)
        self.bonus_mask = np.zeros((rows, num_envs), np.float32)
        self.stamps = np.full((rows, num_envs), -1, np.int64)
        # Row of the observation whose number leaves this remainder; it may have been overwritten.
        self.row_of = np.zeros((rows, num_envs), np.int64)

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds. Numbers start anew in another process, so that stamps are worth nothing there."""
        return {name: array for name, array in vars(self).items() if name not in ("stamps", "row_of")}

    def stamp(self, row: int, numbers: np.ndarray) -> None:
        """Put the observations of these numbers, int64 [N], -1 for none, in a row; the others' feedback goes."""
        known = np.flatnonzero(numbers >= 0)
        anew = np.flatnonzero((self.stamps[row] != numbers) | (numbers < 0))
        for array in (self.hints, self.hint_mask, self.bonuses, self.bonus_mask):
            array[row, anew] = 0
        self.stamps[row] = numbers
        self.row_of[numbers[known] % len(self.stamps), known] = row

    def attach(self, values: np.ndarray, mask: np.ndarray, envs: np.ndarray, numbers: np.ndarray, late: Any) -> int:
        """Write `late` [K, ...] to the rows of `values` that bear its numbers; returns how many there are."""
        row = self.row_of[numbers % len(self.stamps), envs]
        present = (self.stamps[row, envs] == numbers) & (numbers >= 0)
        values[row[present], envs[present]] = late[present]
        mask[row[present], envs[present]] = 1
        return int(present.sum())


class Observations:
    """Packed observations in numbered slots."""

    def __init__(self, slots: int):
        self.masks = np.zeros((slots, PACKED_BYTES), np.uint8)
        self.states = np.zeros((slots, STATE_SIZE), np.float32)

    def put(self, first: int, observations: dict[str, np.ndarray]) -> None:
        """Write `bev` uint8 [N, 15, 96, 96] and `state` float32 [N, 10] to the slots from `first` on."""
        last = first + len(observations["state"])
        pack(observations["bev"], self.masks[first:last])
        self.states[first:last] = observations["state"]

    def copy(self, slot: int, source: "Observations", source_slot: int) -> None:
        self.masks[slot] = source.masks[source_slot]
        self.states[slot] = source.states[source_slot]

    def take(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """A copy of those of `slots` int64 [B]: `packed` uint8 [B, 25344] and `state` float32 [B, 10]."""
        return {"packed": self.masks[slots], "state": self.states[slots]}

    @property
    def nbytes(self) -> int:
        return self.masks.nbytes + self.states.nbytes


class ReplayBuffer:
    """The last `capacity` transitions of `num_envs` environments that step together (same-step autoreset).

    `start` takes the first observations; then `add` takes what each step returned. An array of indices, 0 the oldest
    transition, gives a `Batch`: `buffer[indices]`.

    With the observations' numbers, `infos["observation_number"]`, `start` and `add` make room for late feedback:
    `attach_hints(infos["hints"])` and `attach_bonuses(infos["bonuses"])` after the `start` or `add` of the same infos.
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
        self.feedback: Feedback | None = None

    def __len__(self) -> int:
        return self.length * self.num_envs

    @property
    def capacity(self) -> int:
        return (self.rows - 1) * self.num_envs

    @property
    def nbytes(self) -> int:
        """Bytes held for transitions."""
        arrays = [self.actions, self.rewards, self.terminated, self.final_slot]
        arrays += [] if self.feedback is None else vars(self.feedback).values()
        return self.rows_of_observations.nbytes + self.finals.nbytes + sum(array.nbytes for array in arrays)

    def start(self, observations: dict[str, np.ndarray], numbers: np.ndarray | None = None) -> None:
        """Take the observations of a reset: `bev` uint8 [N, 15, 96, 96], `state` float32 [N, 10].

        `numbers` int64 [N] are the observations' own; one that the reset has left alone keeps its number and feedback.
        """
        last = (self.head - 1) % self.rows
        for env in range(self.num_envs):
            if self.length and self.final_slot[last, env] < 0:
                # The reset cuts this episode off: what followed its last action moves out of the way.
                slot = self._free_final()
                self.finals.copy(slot, self.rows_of_observations, self.head * self.num_envs + env)
                self.final_slot[last, env] = slot
        self._put_row(observations, numbers)

    def add(
        self,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        observations: dict[str, np.ndarray],
        final_observations: Any,
        numbers: np.ndarray | None = None,
    ) -> None:
        """Take one step of all N environments.

        `actions` [N, 2], `rewards` [N], `terminated` and `truncated` bool [N], `observations` as the step returned them
        (the next episode's first, where one ended), `final_observations` the step's `infos["final_obs"]`, if any,
        `numbers` int64 [N] those of `observations`.
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
            self.finals.put(slot, {name: array[None] for name, array in final_observations[env].items()})
            self.final_slot[row, env] = slot
        self.head = (row + 1) % self.rows
        if self.length == self.rows - 1:
            dropped = self.final_slot[self.head]
            self.free_finals.extend(dropped[dropped >= 0].tolist())
        else:
            self.length += 1
        self._put_row(observations, numbers)

    def attach_hints(self, late: LateHints) -> int:
        """Write late hints to the rows of their observations; returns how many are still there."""
        feedback = self._numbered()
        return feedback.attach(feedback.hints, feedback.hint_mask, late.envs, late.numbers, late.actions)

    def attach_bonuses(self, late: LateBonuses) -> int:
        """Write late bonuses to the rows of their observations; returns how many are still there."""
        feedback = self._numbered()
        return feedback.attach(feedback.bonuses, feedback.bonus_mask, late.envs, late.numbers, late.values)

    def sample(self, batch_size: int, n_step: int = 1, gamma: float = 1.0) -> Batch:
        """`batch_size` transitions drawn uniformly with replacement, over `n_step` steps each.

        Rewards and bonuses are sums, discounted by `gamma` a step. A sum stops early at its episode's end or the newest
        observation; `next_observations`, `terminated` and `discounts` are those of where it stops.
        """
        indices = self.generator.integers(len(self), size=batch_size)
        first = last = self._place(indices)
        going = np.ones(batch_size, bool)
        discounts = np.full(batch_size, gamma, np.float32)
        feedback = self.feedback
        rewards = self.rewards[first]
        bonuses = np.zeros_like(rewards) if feedback is None else feedback.bonuses[first]
        for _ in range(n_step - 1):
            indices = indices + self.num_envs
            going &= (self.final_slot[last] < 0) & (indices < len(self))
            row, env = self._place(indices)
            last = np.where(going, row, last[0]), env
            share = discounts * going
            rewards += share * self.rewards[last]
            if feedback is not None:
                bonuses += share * feedback.bonuses[last]
            discounts[going] *= gamma
        batch = self._batch(first, last)._replace(rewards=rewards, discounts=discounts)
        return batch if feedback is None else batch._replace(bonuses=bonuses)

    def __getitem__(self, indices: np.ndarray) -> Batch:
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"transitions are numbered 0 to {len(self) - 1}")
        place = self._place(indices)
        return self._batch(place, place)

    def _place(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows and environments of transitions by their numbers."""
        return (self.head - self.length + indices // self.num_envs) % self.rows, indices % self.num_envs

    def _batch(self, first: tuple[np.ndarray, np.ndarray], last: tuple[np.ndarray, np.ndarray]) -> Batch:
        """The transitions from the observations at rows and environments `first` to what followed those at `last`."""
        observations = self.rows_of_observations.take(first[0] * self.num_envs + first[1])
        next_observations = self.rows_of_observations.take((last[0] + 1) % self.rows * self.num_envs + last[1])
        final_slots = self.final_slot[last]
        ended = final_slots >= 0
        for name, array in self.finals.take(final_slots[ended]).items():
            next_observations[name][ended] = array
        plain = self.actions[first], self.rewards[first], next_observations, self.terminated[last]
        feedback = self.feedback
        if feedback is None:
            return Batch(observations, *plain)
        late_feedback = (
            feedback.hints[first],
            feedback.hint_mask[first],
            feedback.bonuses[first],
            feedback.bonus_mask[first],
        )
        return Batch(observations, *plain, *late_feedback)

    def save(self, folder: Path) -> None:
        """Write everything, the sampler's random state included, as safetensors files in the new folder `folder`."""
        folder.mkdir(parents=True)
        position = {
            "head": self.head,
            "length": self.length,
            "finals": len(self.finals.states),
            "feedback": int(self.feedback is not None),
        }
        metadata = {"position": json.dumps(position), "generator": json.dumps(self.generator.bit_generator.state)}
        save_file({"rows": np.array([self.rows, self.num_envs])}, folder / "replay.safetensors", metadata)
        for name, arrays, count in self._groups(position):
            for first in range(0, count, ROWS_PER_FILE):
                part = {key: array[first : min(first + ROWS_PER_FILE, count)] for key, array in arrays.items()}
                save_file(part, folder / f"{name}_{first:09d}.safetensors")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, into a buffer of the same capacity and number of environments (else ValueError).

        Feedback that was outstanding when it was saved finds no row any more.
        """
        with safe_open(folder / "replay.safetensors", "np") as file:
            rows = file.get_tensor("rows").tolist()
            position = json.loads(file.metadata()["position"])
            generator = json.loads(file.metadata()["generator"])
        if rows != [self.rows, self.num_envs]:
            raise ValueError(f"{folder} holds rows and environments {rows}, this buffer {[self.rows, self.num_envs]}")
        self.head, self.length = position["head"], position["length"]
        self.generator.bit_generator.state = generator
        self.finals = Observations(position["finals"])
        self.feedback = Feedback(self.rows, self.num_envs) if position.get("feedback") else None
        for name, arrays, count in self._groups(position):
            for first in range(0, count, ROWS_PER_FILE):
                with safe_open(folder / f"{name}_{first:09d}.safetensors", "np") as part:
                    for key, array in arrays.items():
                        array[first : min(first + ROWS_PER_FILE, count)] = part.get_tensor(key)
        used = self.final_slot[(self.head - self.length + np.arange(self.length)) % self.rows]
        self.free_finals = sorted(set(range(len(self.finals.states))) - set(used.ravel().tolist()), reverse=True)

    def _put_row(self, observations: dict[str, np.ndarray], numbers: np.ndarray | None) -> None:
        self.rows_of_observations.put(self.head * self.num_envs, observations)
        if numbers is not None and self.feedback is None:
            self.feedback = Feedback(self.rows, self.num_envs)
        if self.feedback is not None:
            self.feedback.stamp(self.head, np.full(self.num_envs, -1) if numbers is None else numbers)

    def _numbered(self) -> Feedback:
        if self.feedback is None:
            raise ValueError("observations without numbers take no feedback; give `start` and `add` their numbers")
        return self.feedback

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
        if self.feedback is not None:
            per_row |= self.feedback.saved()
        rows = self.rows if position["length"] == self.rows - 1 else position["head"] + 1
        return [("rows", per_row, rows), ("finals", vars(self.finals), position["finals"])]
