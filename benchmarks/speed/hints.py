"""What a mentor's hints cost the environments that it watches: `mentorgym speed hints`.

A drive with and without a mentor that takes a second for a batch, the share of steps that get an answer where
the environments wait for room, and how many answers the service gets out of a model against plain calls of it.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox import start_torch
from mentorgym.benchmarks.harness.command import progress_console
from mentorgym.benchmarks.speed.timing import TimingFlags, alternate, median_ratio, require_counts
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.mentors import Mentor, MentorService, Request, load_mentor
from mentorgym.wrappers.vector import ActionHints

TITLE = "Cost of hints"

ENVS = 16
BATCH_SIZE = 32
TURN = 20
"""Steps that one arm takes before it is the other's turn."""

STRETCH_S = 6.0
"""About how long a stretch of turns is, from which comes one ratio."""

LEAD = 3
"""Steps at the beginning of a stretch that are not timed: in them comes what the mentor answered before it."""

LAST_STEPS = 100
"""Steps in which the last answers have to arrive."""

SIZE, PATCH, WIDTH, LAYERS, HEADS, ANSWERS = 192, 16, 128, 4, 4, 30


@dataclass
class Args(TimingFlags):
    """Time steps with and without a slow mentor."""

    seconds: float = 60.0
    """seconds of each arm"""


class OneSecond:
    """A mentor that takes `seconds` for a batch of up to 32, and answers as the expert would."""

    def __init__(self, seconds: float = 1.0):
        self.seconds = seconds

    def __call__(self, requests: Sequence[Request]) -> list[np.ndarray]:
        time.sleep(self.seconds * -(-len(requests) // BATCH_SIZE))
        return [each.action for each in requests]


class SmallVision(nn.Module):
    """A vision transformer of 0.9 M random weights that scores 30 answers to each picture, uint8 [192, 192, 3]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.places = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2, WIDTH))
        layers = (
            nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True, norm_first=True)
            for _ in range(LAYERS)
        )
        self.layers = nn.Sequential(*layers)
        self.scores = nn.Linear(WIDTH, ANSWERS)
        self.eval()

    @torch.inference_mode()
    def forward(self, requests: Sequence[Request]) -> list[np.ndarray]:
        pictures = torch.from_numpy(np.stack([each.picture for each in requests]))
        patches = self.patches(pictures.permute(0, 3, 1, 2).float() / 255)
        tokens = self.layers(patches.flatten(2).transpose(1, 2) + self.places)
        return list(self.scores(tokens.mean(1)).softmax(-1).numpy())


class Drive:
    """`CarlaNoCrash-v0` with masks in regular traffic; all drives are the same while they get the same actions."""

    def __init__(self, **hints: Any):
        self.plain = gym.make_vec("CarlaNoCrash-v0", num_envs=ENVS, town="Suburb", traffic="regular", copy=False)
        self.drivers = cast(DrivingVectorEnv, self.plain.unwrapped)
        self.envs: gym.vector.VectorEnv = ActionHints(self.plain, **hints) if hints else self.plain
        self.numbers: list[np.ndarray] = []
        self.arrived: list[tuple[int, int]] = []
        _, infos = self.envs.reset(seed=0)
        self._note(infos)

    def plan(self, steps: int) -> list[np.ndarray]:
        """The expert's next actions, each [ENVS, 2]; this drive takes them."""
        actions = []
        for _ in range(steps):
            actions.append(self.drivers.expert_actions().copy())
            self.envs.step(actions[-1])
        return actions

    def follow(self, plan: list[np.ndarray], watched_first: bool) -> dict[bool, np.ndarray]:
        """What the steps of a plan but the first few cost, in turns watched by the mentor (True) and past it (False).

        Float64 of each: seconds on the clock, seconds of this process's own, steps, answers.
        """
        for actions in plan[:LEAD]:
            self.step(actions)
        costs = {True: np.zeros(4), False: np.zeros(4)}
        for turn, start in enumerate(range(LEAD, len(plan), TURN)):
            watched = watched_first ^ bool(turn % 2)
            step = self.step if watched else self.plain.step
            answers = len(self.arrived)
            before = np.array([time.perf_counter(), time.process_time()])
            for actions in plan[start : start + TURN]:
                step(actions)
            seconds = np.array([time.perf_counter(), time.process_time()]) - before
            costs[watched] += [*seconds, ENVS * len(plan[start : start + TURN]), len(self.arrived) - answers]
        return costs

    def step(self, actions: np.ndarray) -> None:
        """One step of all environments."""
        _, _, _, _, infos = self.envs.step(actions)
        self._note(infos)

    def handed_out(self) -> set[tuple[int, int]]:
        """Environment and number of every observation so far that was to be acted on."""
        return {(env, n) for numbers in self.numbers for env, n in enumerate(numbers.tolist()) if n >= 0}

    def _note(self, infos: dict[str, Any]) -> None:
        if "hints" in infos:
            self.numbers.append(infos["observation_number"])
            self.arrived += zip(infos["hints"].envs.tolist(), infos["hints"].numbers.tolist(), strict=True)


def measure_skip(seconds: float, mentor: dict[str, Any]) -> dict[str, Any]:
    """A drive with hints and without, `seconds` of each, in turns.

    Both arms step the same environments, for two that do the same differ by some percent for where their memory lies.
    Turns are short, for other programs come and go. As half of the time nobody watches, the mentor should take twice as
    long; what is told of seconds is as in a drive that it watches throughout.
    """
    pilot, drive = Drive(), Drive(at_bound="skip", batch_size=BATCH_SIZE, **mentor)
    progress_console.print("driving with a mentor and without ...")
    # What is compiled or made at first use is, after one round; the next says how long a step takes.
    for _ in range(2):
        costs = drive.follow(pilot.plan(LEAD + 2 * TURN), True)
    turns = max(1, round(STRETCH_S / sum(cost[0] for cost in costs.values())))
    totals = {watched: np.zeros(4) for watched in costs}
    ratios: list[np.ndarray] = []
    while min(total[0] for total in totals.values()) < seconds:
        # Whoever goes first, it is the other's turn the next time.
        costs = drive.follow(pilot.plan(LEAD + turns * 2 * TURN), bool(len(ratios) % 2))
        for watched, cost in costs.items():
            totals[watched] += cost
        ratios.append(costs[False][:2] / costs[True][:2])
    counters = cast(ActionHints, drive.envs).counters()
    for each in (pilot, drive):
        each.envs.close()
    ratio, cpu_ratio = np.median(ratios, axis=0).tolist()

    def rate(watched: bool) -> float:
        return float(totals[watched][2] / totals[watched][0])

    return {
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "stretches": len(ratios),
        "steps_per_s": {"none": rate(False), "skip": rate(True)},
        "availability": float(totals[True][3] / totals[True][2]),
        "latency_s": counters["latency_s"] / 2,
        "batch_size": counters["batch_size"],
    }


def measure_pause(seconds: float, mentor: dict[str, Any]) -> dict[str, Any]:
    """Drive for `seconds` with environments that wait until they may ask, and then until all answers have come."""
    drive = Drive(at_bound="pause", batch_size=BATCH_SIZE, **mentor)
    progress_console.print("driving with a mentor for whom the environments wait ...")
    start, steps = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < seconds:
        drive.step(drive.drivers.expert_actions())
        steps += ENVS
    requests = drive.handed_out()
    for _ in range(LAST_STEPS):
        if requests <= set(drive.arrived):
            break
        drive.step(drive.drivers.expert_actions())
    drive.envs.close()
    lost = len(requests - set(drive.arrived))
    return {
        "pause_asked": len(requests),
        "pause_answered_share": 1 - lost / len(requests),
        "pause_lost": lost,
        "pause_twice": len(drive.arrived) - len(set(drive.arrived)),
        "pause_steps_per_s": steps / taken,
    }


def random_requests(count: int) -> list[Request]:
    """Requests with pictures of noise."""
    pictures = np.random.default_rng(0).integers(256, size=(count, SIZE, SIZE, 3), dtype=np.uint8)
    return [Request(picture, "<image>", 0, np.zeros(2, np.float32)) for picture in pictures]


def serve(service: MentorService, requests: Sequence[Request], count: int) -> None:
    """Ask the service `count` times, as fast as it takes requests, and wait for all answers."""
    sent = answered = 0
    while answered < count:
        while sent < count and service.submit((sent % ENVS, sent), requests[sent % len(requests)]):
            sent += 1
        answered += len(service.poll(timeout=1.0))


def measure_throughput(seconds: float, repeats: int, spec: str, options: dict[str, Any]) -> dict[str, Any]:
    """Answers per second through the service, of batches in a plain loop, and of one call for each request."""
    mentor: Mentor = load_mentor(spec, **options)
    requests = random_requests(BATCH_SIZE)
    progress_console.print(f"asking {spec} through the service and without ...")
    mentor(requests)
    start = time.perf_counter()
    mentor(requests)
    batches = max(1, round(seconds / (time.perf_counter() - start)))
    count = batches * BATCH_SIZE

    def loop(size: int) -> None:
        for _ in range(batches):
            for first in range(0, BATCH_SIZE, size):
                mentor(requests[first : first + size])

    def rate(answer: Callable[[], None]) -> float:
        start = time.perf_counter()
        answer()
        return count / (time.perf_counter() - start)

    # Room for two batches: one to be answered, one to wait.
    bound = -(-2 * BATCH_SIZE // ENVS)
    with MentorService(
        spec, options=options, picture_shape=(SIZE, SIZE, 3), batch_size=BATCH_SIZE, max_outstanding=bound
    ) as service:
        ways = {
            "service": lambda: rate(lambda: serve(service, requests, count)),
            "batched loop": lambda: rate(lambda: loop(BATCH_SIZE)),
            "one call each": lambda: rate(lambda: loop(1)),
        }
        serve(service, requests, BATCH_SIZE)
        rates = alternate(ways, repeats)

    return {
        "model": spec,
        "repeats": repeats,
        "answers_per_s": {name: statistics.median(values) for name, values in rates.items()},
        "throughput_ratio": median_ratio(rates["service"], rates["batched loop"]),
        "blocking_ratio": median_ratio(rates["service"], rates["one call each"]),
    }


def measure(args: Args) -> dict[str, Any]:
    """All figures."""
    require_counts(repeats=args.repeats)
    start_torch(0, 1)

    def slow(seconds: float) -> dict[str, Any]:
        return {"mentor": f"{__name__}:OneSecond", "options": {"seconds": seconds}}

    return {
        "num_envs": ENVS,
        "batch_size_limit": BATCH_SIZE,
        "mentor_seconds": 1.0,
        "seconds": args.seconds,
        **measure_skip(args.seconds, slow(2.0)),
        **measure_pause(args.seconds, slow(1.0)),
        **measure_throughput(min(3.0, args.seconds), args.repeats, f"{__name__}:SmallVision", {}),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    rates, answers = figures["steps_per_s"], figures["answers_per_s"]
    return [
        f"`CarlaNoCrash-v0` in Suburb, regular traffic, {figures['num_envs']} worlds, masks drawn, under the expert. A "
        f"mentor that takes {figures['mentor_seconds']:g} s for a batch of up to {figures['batch_size_limit']} is "
        f"asked about every step. {figures['seconds']:g} s of stepping in each arm, with a mentor and without in turns "
        f"of {TURN} steps, the mentor's clock running in the former; ratios are medians over {figures['stretches']} "
        f"stretches of about {STRETCH_S:g} s.",
        "",
        "| at the bound | steps/s | over no mentor | the same, in the process's own time | steps with an answer |",
        "| --- | --- | --- | --- | --- |",
        f"| no mentor | {rates['none']:,.0f} | 1 | 1 | |",
        f"| skip | {rates['skip']:,.0f} | {figures['ratio']:.3f} | {figures['cpu_ratio']:.3f} | "
        f"{figures['availability']:.2%} |",
        f"| pause | {figures['pause_steps_per_s']:,.1f} | {figures['pause_steps_per_s'] / rates['none']:.4f} | | "
        f"{figures['pause_answered_share']:.2%} |",
        "",
        f"- pause: {figures['pause_asked']:,} requests, {figures['pause_lost']} of them lost, {figures['pause_twice']} "
        "answered twice",
        f"- skip: {figures['latency_s']:.2f} s from question to answer, {figures['batch_size']:.1f} requests a batch",
        "",
        f"One model, {figures['model'].rpartition(':')[2] or figures['model']}, asked in three ways; medians of "
        f"{figures['repeats']} alternating runs on one thread.",
        "",
        "| way | answers/s | the service is so many times as fast |",
        "| --- | --- | --- |",
        f"| through the service, batches of up to {figures['batch_size_limit']} | {answers['service']:.1f} | |",
        f"| batches of {figures['batch_size_limit']} in a plain loop | {answers['batched loop']:.1f} | "
        f"{figures['throughput_ratio']:.3f} |",
        f"| a blocking call for each request | {answers['one call each']:.1f} | {figures['blocking_ratio']:.2f} |",
    ]
