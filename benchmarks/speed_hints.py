"""What a mentor's hints cost the environments that it watches: `python -m mentorgym.benchmarks.speed hints`.

The same drives with and without a mentor that takes a second for a batch, the share of steps that get an answer where
the environments wait for room, and how many answers the service gets out of a model against plain calls of it.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox import start_torch
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.mentors import Mentor, MentorService, Request, load_mentor
from mentorgym.wrappers.vector import ActionHints

ENVS = 16
BATCH_SIZE = 32
STRETCH_S = 3.0
"""About how long one arm drives before it is the other's turn."""

LEAD = 3
"""Steps at the beginning of a turn that are not timed: in them comes what the mentor answered in the other's turn."""

LAST_STEPS = 100
"""Steps in which the last answers have to arrive."""

SIZE, PATCH, WIDTH, LAYERS, HEADS, ANSWERS = 192, 16, 128, 4, 4, 30


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
        envs = gym.make_vec("CarlaNoCrash-v0", num_envs=ENVS, town="Suburb", traffic="regular")
        self.drivers = cast(DrivingVectorEnv, envs.unwrapped)
        self.envs: gym.vector.VectorEnv = ActionHints(envs, **hints) if hints else envs
        self.numbers: list[np.ndarray] = []
        self.arrived: list[tuple[int, int]] = []
        self.clear()
        _, infos = self.envs.reset(seed=0)
        self._note(infos)

    def clear(self) -> None:
        """Forget what the timed steps have come to so far."""
        self.steps, self.answers, self.seconds, self.cpu_seconds = 0, 0, 0.0, 0.0

    def plan(self, steps: int) -> list[np.ndarray]:
        """The expert's next actions, each [ENVS, 2]; this drive takes them."""
        actions = []
        for _ in range(steps):
            actions.append(self.drivers.expert_actions().copy())
            self.envs.step(actions[-1])
        return actions

    def follow(self, plan: list[np.ndarray]) -> tuple[float, float]:
        """Seconds that the steps of a plan but the first few take, on the clock and of this process's own."""
        for actions in plan[:LEAD]:
            self.step(actions)
        answers = len(self.arrived)
        start, cpu_start = time.perf_counter(), time.process_time()
        for actions in plan[LEAD:]:
            self.step(actions)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        self.steps += ENVS * (len(plan) - LEAD)
        self.answers += len(self.arrived) - answers
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        return seconds, cpu_seconds

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


def measure_skip(seconds: float, mentor: dict[str, Any], say: Callable[[str], Any]) -> dict[str, Any]:
    """The same drives with hints and without, `seconds` of each, in turns."""
    pilot, bare, hinted = Drive(), Drive(), Drive(at_bound="skip", batch_size=BATCH_SIZE, **mentor)
    say("driving with a mentor and without ...")
    # What is compiled or made at first use is, after one round; the next says how long a step takes.
    for _ in range(2):
        plan = pilot.plan(LEAD + 20)
        hinted.follow(plan)
        steps = max(1, round(20 * STRETCH_S / bare.follow(plan)[0]))
    for drive in (bare, hinted):
        drive.clear()
    ratios: list[tuple[float, float]] = []
    while min(bare.seconds, hinted.seconds) < seconds:
        plan = pilot.plan(LEAD + steps)
        # Whoever goes first, it is the other's turn the next time.
        first, second = (bare, hinted) if len(ratios) % 2 else (hinted, bare)
        taken = {first: first.follow(plan), second: second.follow(plan)}
        ratios.append((taken[bare][0] / taken[hinted][0], taken[bare][1] / taken[hinted][1]))
    counters = cast(ActionHints, hinted.envs).counters()
    for drive in (pilot, bare, hinted):
        drive.envs.close()
    return {
        "ratio": statistics.median(ratio for ratio, _ in ratios),
        "cpu_ratio": statistics.median(ratio for _, ratio in ratios),
        "stretches": len(ratios),
        "steps_per_s": {"none": bare.steps / bare.seconds, "skip": hinted.steps / hinted.seconds},
        "availability": hinted.answers / hinted.steps,
        "latency_s": counters["latency_s"],
        "batch_size": counters["batch_size"],
    }


def measure_pause(seconds: float, mentor: dict[str, Any], say: Callable[[str], Any]) -> dict[str, Any]:
    """Drive for `seconds` with environments that wait until they may ask, and then until all answers have come."""
    drive = Drive(at_bound="pause", batch_size=BATCH_SIZE, **mentor)
    say("driving with a mentor for whom the environments wait ...")
    start, steps = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < seconds:
        drive.step(drive.drivers.expert_actions())
        steps += ENVS
    asked = drive.handed_out()
    for _ in range(LAST_STEPS):
        if asked <= set(drive.arrived):
            break
        drive.step(drive.drivers.expert_actions())
    drive.envs.close()
    lost = len(asked - set(drive.arrived))
    return {
        "pause_asked": len(asked),
        "pause_answered_share": 1 - lost / len(asked),
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
    asked = answered = 0
    while answered < count:
        while asked < count and service.submit((asked % ENVS, asked), requests[asked % len(requests)]):
            asked += 1
        answered += len(service.poll(timeout=1.0))


def measure_throughput(
    seconds: float, repeats: int, spec: str, options: dict[str, Any], say: Callable[[str], Any]
) -> dict[str, Any]:
    """Answers per second through the service, of batches in a plain loop, and of one call for each request."""
    mentor: Mentor = load_mentor(spec, **options)
    requests = random_requests(BATCH_SIZE)
    say(f"asking {spec} through the service and without ...")
    mentor(requests)
    start = time.perf_counter()
    mentor(requests)
    batches = max(1, round(seconds / (time.perf_counter() - start)))
    count = batches * BATCH_SIZE

    def loop(size: int) -> None:
        for _ in range(batches):
            for first in range(0, BATCH_SIZE, size):
                mentor(requests[first : first + size])

    # Room for two batches: one to be answered, one to wait.
    bound = -(-2 * BATCH_SIZE // ENVS)
    with MentorService(
        spec, options=options, picture_shape=(SIZE, SIZE, 3), batch_size=BATCH_SIZE, max_outstanding=bound
    ) as service:
        ways: dict[str, Callable[[], None]] = {
            "service": lambda: serve(service, requests, count),
            "batched loop": lambda: loop(BATCH_SIZE),
            "one call each": lambda: loop(1),
        }
        serve(service, requests, BATCH_SIZE)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                rates[name].append(count / (time.perf_counter() - start))

    def times(name: str) -> float:
        return statistics.median(one / other for one, other in zip(rates["service"], rates[name], strict=True))

    return {
        "model": spec,
        "repeats": repeats,
        "answers_per_s": {name: statistics.median(values) for name, values in rates.items()},
        "throughput_ratio": times("batched loop"),
        "blocking_ratio": times("one call each"),
    }


def measure(
    seconds: float,
    repeats: int,
    say: Callable[[str], Any],
    mentor_seconds: float = 1.0,
    model: str = f"{__name__}:SmallVision",
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All figures: `seconds` of driving for each arm, and `repeats` runs of the throughput of `model`."""
    start_torch(0, 1)
    slow = {"mentor": f"{__name__}:OneSecond", "options": {"seconds": mentor_seconds}}
    return {
        "num_envs": ENVS,
        "batch_size_limit": BATCH_SIZE,
        "mentor_seconds": mentor_seconds,
        "seconds": seconds,
        **measure_skip(seconds, slow, say),
        **measure_pause(seconds, slow, say),
        **measure_throughput(min(3.0, seconds), repeats, model, options or {}, say),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    rates, answers = figures["steps_per_s"], figures["answers_per_s"]
    return [
        f"`CarlaNoCrash-v0` in Suburb, regular traffic, {figures['num_envs']} worlds, masks drawn, under the expert. A "
        f"mentor that takes {figures['mentor_seconds']:g} s for a batch of up to {figures['batch_size_limit']} is "
        f"asked about every step. {figures['seconds']:g} s of stepping in each arm, with a mentor and without in turns "
        f"of about {STRETCH_S:g} s; ratios are medians over {figures['stretches']} turns.",
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
