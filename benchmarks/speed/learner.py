"""How fast SAC learns from a full replay buffer: `mentorgym speed learner`.

The same algorithm with the same networks, first written plainly, then with one change after the other up to what
`agents/sac.py` does; and, apart from these, other algorithms. All draw batches of the same transitions.
"""

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from mentorgym.agents import sac
from mentorgym.agents.sac import SmallEncoder
from mentorgym.agents.toolbox import Batch, ReplayBuffer, start_torch, to_tensors, unpack
from mentorgym.agents.toolbox.masks import CHANNELS
from mentorgym.benchmarks.harness.command import progress_console
from mentorgym.benchmarks.harness.tables import markdown_lines
from mentorgym.benchmarks.speed.timing import TimingFlags, alternate, keep_to_cores, median_ratio, require_counts
from mentorgym.envs.driving import DrivingVectorEnv

Optimizers = dict[str, torch.optim.Optimizer]

TITLE = "Speed of the learner"

ENVS = 32
BATCH_SIZE = 128
LEARNING_RATE = 5e-4
ARGS = sac.Args(batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE)


@dataclass
class Args(TimingFlags):
    """Time updates of SAC."""

    transitions: int = 1024
    """transitions in the replay buffer"""


class PlainEncoder(SmallEncoder):
    """The small encoder as one would write it: masks `bev` uint8 [B, 15, 96, 96] become floats and are convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions[0] = nn.Conv2d(CHANNELS, 16, 4, stride=4)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        masks = self.masks(self.convolutions(observations["bev"].float() / 255))
        return torch.cat([masks, self.state(observations["state"] * self.state_scale)], dim=1)


class PlainNetworks(sac.Networks):
    """`sac.Networks` that moves its targets parameter by parameter."""

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        for target, online in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            target.copy_((1 - tau) * target + tau * online)


class PlainReplay:
    """Whole observations side by side, masks as uint8 [N, 15, 96, 96], drawn by indexing."""

    def __init__(self, packed: ReplayBuffer):
        everything = packed[np.arange(len(packed))]
        self.generator = np.random.default_rng(0)
        self.observations, self.next_observations = (
            {"bev": unpack(torch.from_numpy(each["packed"])).numpy(), "state": each["state"]}
            for each in (everything.observations, everything.next_observations)
        )
        self.rest = (everything.actions, everything.rewards, everything.terminated)

    def sample(self, batch_size: int) -> Batch:
        drawn = self.generator.integers(len(self.rest[0]), size=batch_size)
        actions, rewards, terminated = (array[drawn] for array in self.rest)
        observations, next_observations = (
            {name: array[drawn] for name, array in each.items()} for each in (self.observations, self.next_observations)
        )
        return Batch(observations, actions, rewards, next_observations, terminated)


def fill_replay(transitions: int) -> ReplayBuffer:
    """A packed replay buffer of `transitions` of the expert's in regular traffic."""
    envs = gym.make_vec("CarlaNoCrash-v0", num_envs=ENVS, town="Suburb", traffic="regular", copy=False)
    drivers = cast(DrivingVectorEnv, envs.unwrapped)
    buffer = ReplayBuffer(transitions, ENVS)
    observations, _ = envs.reset(seed=0)
    buffer.start(observations)
    while len(buffer) < buffer.capacity:
        actions = drivers.expert_actions()
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        buffer.add(actions, rewards, terminated, truncated, observations, infos.get("final_obs"))
    envs.close()
    return buffer


def unpacked(batch: Batch) -> Batch:
    """A packed batch of tensors with its masks unpacked to `bev` uint8 [B, 15, 96, 96]."""
    observations, next_observations = (
        {"bev": unpack(each["packed"]), "state": each["state"]}
        for each in (batch.observations, batch.next_observations)
    )
    return batch._replace(observations=observations, next_observations=next_observations)


def plain_adam(networks: sac.Networks) -> Optimizers:
    """`sac.make_optimizers` with Adam parameter by parameter."""
    optimizers = sac.make_optimizers(networks, LEARNING_RATE)
    return {
        name: torch.optim.Adam(optimizer.param_groups[0]["params"], lr=LEARNING_RATE, foreach=False)
        for name, optimizer in optimizers.items()
    }


def small_networks(kind: type[sac.Networks], encoder: type[nn.Module]) -> sac.Networks:
    """SAC's networks with the shared small encoder, written as `encoder`; always the same weights."""
    torch.manual_seed(0)
    networks = kind("small", ARGS.initial_temperature)
    weights = networks.encoder.state_dict()
    networks.encoder = encoder()
    networks.encoder.load_state_dict(weights)
    return networks


class Learner:
    """Networks, their optimizers and where batches come from."""

    def __init__(self, networks: sac.Networks, optimizers: Optimizers, draw: Callable[[], Batch]):
        self.networks, self.optimizers, self.draw = networks, optimizers, draw

    def update(self) -> dict[str, torch.Tensor]:
        """Draw a batch and make one update of everything."""
        return sac.update(self.networks, self.optimizers, self.draw(), ARGS)

    def updates_per_s(self, seconds: float) -> float:
        """Updates per second of the processor's time, over at least `seconds` of it."""
        count, start = 0, time.process_time()
        while (busy := time.process_time() - start) < seconds or not count:
            self.update()
            count += 1
        return count / busy


def same_algorithm(buffer: ReplayBuffer) -> dict[str, Learner]:
    """The steps from plain to ours; each keeps what the ones before it changed."""
    plain_buffer = PlainReplay(buffer)

    def draw_plain() -> Batch:
        return to_tensors(plain_buffer.sample(BATCH_SIZE), "cpu")

    def draw_packed() -> Batch:
        return to_tensors(buffer.sample(BATCH_SIZE), "cpu")

    plain, packed, ours = (
        small_networks(PlainNetworks, PlainEncoder),
        small_networks(PlainNetworks, PlainEncoder),
        small_networks(PlainNetworks, SmallEncoder),
    )
    shipped = small_networks(sac.Networks, SmallEncoder)
    return {
        "plain": Learner(plain, plain_adam(plain), draw_plain),
        "packed replay, unpacked for the encoder": Learner(packed, plain_adam(packed), lambda: unpacked(draw_packed())),
        "the first convolution reads packed masks": Learner(ours, plain_adam(ours), draw_packed),
        "fused Adam and targets: agents/sac.py": Learner(
            shipped, sac.make_optimizers(shipped, LEARNING_RATE), draw_packed
        ),
    }


def other_algorithms(buffer: ReplayBuffer) -> dict[str, Learner]:
    """Learners that do not compute the same."""

    def learner(encoder: str) -> Learner:
        networks = sac.Networks(encoder, ARGS.initial_temperature)
        optimizers = sac.make_optimizers(networks, LEARNING_RATE)
        return Learner(networks, optimizers, lambda: to_tensors(buffer.sample(BATCH_SIZE), "cpu"))

    return {
        "--encoder small-separate: one each for actor, critics and targets": learner("small-separate"),
        "--encoder found-rl, one each too": learner("found-rl"),
    }


def measure(args: Args) -> dict[str, Any]:
    """Updates per second of every learner, and how many times plain's; medians of alternating runs on one thread."""
    require_counts(transitions=args.transitions, repeats=args.repeats)
    keep_to_cores(1)
    start_torch(0, 1)
    progress_console.print("driving to fill the replay buffer ...")
    buffer = fill_replay(args.transitions)
    same, other = same_algorithm(buffer), other_algorithms(buffer)
    learners = same | other
    for learner in learners.values():
        learner.update()
    ways = {name: functools.partial(learner.updates_per_s, args.seconds) for name, learner in learners.items()}
    rates = alternate(ways, args.repeats)
    rows = {
        name: {"updates_per_s": statistics.median(own), "times_plain": median_ratio(own, rates["plain"])}
        for name, own in rates.items()
    }
    return {
        "batch_size": BATCH_SIZE,
        "transitions": len(buffer),
        "repeats": args.repeats,
        "same_algorithm": {name: rows[name] for name in same},
        "other_algorithms": {name: rows[name] for name in other},
        "ratio": rows["fused Adam and targets: agents/sac.py"]["times_plain"],
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    lines = [
        f"SAC, batches of {figures['batch_size']} from {figures['transitions']:,} transitions, one thread on one core, "
        f"seconds of its own time; medians of {figures['repeats']} alternating runs.",
    ]
    titles = {
        "same_algorithm": "the same algorithm and networks; each row keeps what those above it changed",
        "other_algorithms": "other algorithms, for comparison",
    }
    for group, title in titles.items():
        rows = [
            [name, f"{row['updates_per_s']:.1f}", f"{row['times_plain']:.2f}"] for name, row in figures[group].items()
        ]
        lines += ["", *markdown_lines([title, "updates/s", "times plain"], rows)]
    return lines
