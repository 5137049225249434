"""Collect what an expert does, in pictures and words: `mentorgym collect`.

The rule-based expert drives on endless random routes, and every few steps the picture, the prompt and its answer, the
caption and the expert's action are kept, in shards (`agents.toolbox.shards`). The presets are Found-RL's three
collections, each of episodes of at most 300 s: Leaderboard 160 (about 457,000 steps), NoCrash 80 (235,000) and
Challenge 240 (682,000).

So that the data show how to come back from a mistake, bursts of noise, which rise and fall linearly, are added to the
pedals or the wheel (as in CARLA-Roach); what is kept is the expert's own action. What leads up to a failure is left
out, again as there: the last 300 steps before a rule was broken, the last 600 before standing too long; an episode off
its route, or one of which fewer than 300 steps are left, is left out whole.

A round drives `num_envs` episodes and writes one shard; a collection that was interrupted goes on with the next round.
Where the episodes end early there are fewer frames than asked for.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import gymnasium as gym
import numpy as np

from mentorgym.agents.toolbox.runs import describe_start, write_atomically
from mentorgym.agents.toolbox.shards import ANCHORS, Samples, filling, to_png, write_shard, write_sharegpt
from mentorgym.benchmarks.harness.command import UsageError, progress_bars, show_result, user_input, verb
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.task.tasks import LEADERBOARD
from mentorgym.envs.driving.view import language
from mentorgym.envs.driving.worlds.state import ENDS, TICK


class Preset(NamedTuple):
    """One of Found-RL's collections."""

    env: str
    episodes: int
    town: tuple[str, ...]
    traffic: str
    weather: str


PRESETS = {
    "leaderboard": Preset("CarlaLeaderboard-BEV-v0", 160, LEADERBOARD.train_towns, "train", "train"),
    "nocrash": Preset("CarlaNoCrash-v0", 80, ("Suburb",), "train", "train"),
    "challenge": Preset("CarlaLeaderboard-BEV-v0", 240, LEADERBOARD.test_towns, "train", "dynamic"),
}

LEAST_STEPS = 300
"""An episode with fewer steps to keep is left out."""

DROPPED = {
    "running": 0,
    "timeout": 0,
    "completed": 0,
    "blocked": 600,
    "collision": 300,
    "pixel collision": 300,
    "red light": 300,
    "stop sign": 300,
}
"""Steps left out at the end of an episode, by its end; one with another end is left out whole."""

BURST_EVERY = 3.0
"""Seconds between the end of a burst of noise and the next, on average."""
BURST_SECONDS = (0.5, 3.0)
BURST_STRENGTH = (1.5, 0.6)
"""The highest peak, in acceleration and in steer."""


@dataclass
class Args:
    """Collect expert drives, or export a collection."""

    preset: Literal["leaderboard", "nocrash", "challenge"] = "nocrash"
    """one of Found-RL's three collections; the flags below change its parts"""
    output: Path = Path("drives")
    """folder of the shards"""
    town: tuple[str, ...] = ()
    """towns, in place of the preset's"""
    traffic: str = ""
    """traffic level, in place of the preset's"""
    episodes: int = 0
    """episodes, in place of the preset's number; rounds are driven whole, so there may be a few more"""
    steps: int = 3000
    """steps of 0.1 s after which an episode ends"""
    every: int = 1
    """steps between two frames that are kept"""
    noise: bool = True
    """add bursts of noise to what the car does"""
    num_envs: int = 16
    """episodes of a round, driven together; a shard holds one round"""
    seed: int = 0
    """seed of the first episode; the others count on from it"""
    sharegpt: Path | None = None
    """folder for ShareGPT records of the collection, as LLaMA-Factory reads them"""


class Bursts:
    """Noise that comes over N cars now and then: each burst rises to its peak and falls to nothing, linearly."""

    def __init__(self, num_envs: int, generator: np.random.Generator):
        self._generator = generator
        self._left = np.zeros(num_envs, int)
        self._length = np.ones(num_envs, int)
        self._peak = np.zeros((num_envs, 2))

    def step(self) -> np.ndarray:
        """What to add to the next actions, float [N, 2]."""
        draw = self._generator
        for env in np.flatnonzero((self._left == 0) & (draw.random(len(self._left)) < TICK / BURST_EVERY)):
            self._length[env] = self._left[env] = draw.uniform(*BURST_SECONDS) / TICK
            self._peak[env] = 0.0
            number = draw.integers(2)
            self._peak[env, number] = draw.uniform(-1.0, 1.0) * BURST_STRENGTH[number]
        share = 1.0 - np.abs(2.0 * self._left / self._length - 1.0)
        noise = self._peak * np.where(self._left > 0, share, 0.0)[:, None]
        self._left = np.maximum(self._left - 1, 0)
        return noise


def kept_steps(end: str, steps: int) -> int:
    """How many steps to keep, from the first on, of an episode that ended so after `steps` steps."""
    if end not in DROPPED:
        return 0
    rest = steps - DROPPED[end]
    return rest if rest >= LEAST_STEPS else 0


def look(envs: DrivingVectorEnv, row: int, action: np.ndarray) -> tuple[bytes, dict[str, Any]]:
    """The picture of a row as a PNG file, and its words."""
    situation = envs.prompt_context(row)
    context, label = language.context(situation["command"], situation["speed"]), int(language.labels(action))
    words = {
        "prompt": language.fill(language.PROMPT, situation),
        "answer": language.answer(action),
        "caption": language.caption(context, label),
        "context": context,
        "label": label,
        "action": [round(float(number), 4) for number in action],
        "speed": round(situation["speed"], 3),
        "command": situation["command"],
    }
    return to_png(envs.picture(row)), words


class Frame(NamedTuple):
    step: int
    png: bytes
    words: dict[str, Any]


def drive_round(envs: DrivingVectorEnv, seeds: Sequence[int], args: Args) -> list[tuple[str, list[Frame]]]:
    """Drive an episode in each row; for each its end and the frames to keep."""
    rows = envs.num_envs
    noise = Bursts(rows, np.random.default_rng(list(seeds)))
    frames: list[list[Frame]] = [[] for _ in range(rows)]
    ends, lengths = ["running"] * rows, [args.steps] * rows
    running = np.ones(rows, bool)
    envs.reset(seed=list(seeds))
    for step in range(args.steps):
        actions = envs.expert_actions()
        # The rows take turns, so that the frames of a step are not all of one moment.
        for row in np.flatnonzero(running & ((np.arange(rows) + step) % args.every == 0)).tolist():
            frames[row].append(Frame(step, *look(envs, row, actions[row])))
        driven = np.clip(actions + noise.step(), -1.0, 1.0) if args.noise else actions
        _, _, terminated, truncated, infos = envs.step(driven)
        for row in np.flatnonzero(running & (terminated | truncated)).tolist():
            running[row], ends[row], lengths[row] = False, str(infos["score"]["end"][row]), step + 1
        if not running.any():
            break
        # A world at rest has to be started again to be stepped with the others.
        if (stopped := terminated | truncated).any():
            envs.reset(options={"reset_mask": stopped})
    return [
        (end, [frame for frame in shots if frame.step < kept_steps(end, length)])
        for end, shots, length in zip(ends, frames, lengths, strict=True)
    ]


def collect(args: Args) -> dict[str, Any]:
    """Drive the rounds that are missing in `args.output` and return what is new, by end of episode."""
    preset = PRESETS[args.preset]
    towns, traffic = args.town or preset.town, args.traffic or preset.traffic
    episodes = args.episodes or preset.episodes
    if min(episodes, args.steps, args.every, args.num_envs) < 1:
        raise UsageError("--episodes, --steps, --every and --num-envs count from 1")
    keep = {"output", "sharegpt", "as_json", "episodes"}
    flags = {name: value for name, value in asdict(args).items() if name not in keep}
    flags = json.loads(json.dumps(flags | {"town": towns, "traffic": traffic}))
    output = args.output
    output.mkdir(parents=True, exist_ok=True)
    about = output / "collection.json"
    if about.exists():
        if (before := json.loads(about.read_text())["flags"]) != flags:
            differ = sorted(name for name in flags if flags[name] != before.get(name))
            raise UsageError(f"{output} was collected with another {', '.join(differ)}: choose another --output")
    else:
        write_atomically(about, json.dumps({"flags": flags, "start": describe_start()}, indent=2) + "\n")
        write_atomically(output / ANCHORS, json.dumps(language.anchors(), indent=0) + "\n")
    rounds = -(-episodes // args.num_envs)
    missing = [number for number in range(rounds) if not (output / f"{number:05d}.tar").exists()]
    ends = dict.fromkeys(ENDS, 0)
    frames_kept = 0
    with filling(output), progress_bars("{task.completed}/{task.total} rounds") as progress:
        task = progress.add_task("expert", total=rounds, completed=rounds - len(missing))
        if missing:
            with user_input():
                made = gym.make_vec(
                    preset.env,
                    num_envs=args.num_envs,
                    autoreset_mode=gym.vector.AutoresetMode.DISABLED,
                    observation="state",
                    copy=False,
                    town=towns,
                    traffic=traffic,
                    weather=preset.weather,
                )
            envs = cast(DrivingVectorEnv, made.unwrapped)
            for number in missing:
                first = number * args.num_envs
                seeds = [args.seed + first + row for row in range(args.num_envs)]
                samples = []
                for row, (end, frames) in enumerate(drive_round(envs, seeds, args)):
                    ends[end] += 1
                    frames_kept += len(frames)
                    place = {"town": towns[seeds[row] % len(towns)], "seed": seeds[row]}
                    samples += [
                        (f"{seeds[row]:08d}_{frame.step:05d}", frame.png, frame.words | place | {"step": frame.step})
                        for frame in frames
                    ]
                write_shard(output / f"{number:05d}.tar", samples)
                progress.advance(task)
            envs.close()
    ended = {end: count for end, count in ends.items() if count}
    return {"output": str(output), "shards": rounds, "new_frames": frames_kept, "new_episodes": ended}


@verb("collect")
def main(args: Args) -> dict[str, Any]:
    """Collect the drives, and export them where that is asked for."""
    result = collect(args)
    if args.sharegpt is not None:
        result["sharegpt"] = str(write_sharegpt(Samples(args.output), args.sharegpt))
    return show_result(**result)
