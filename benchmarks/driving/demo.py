"""A first look: train SAC briefly, rank it beside random and expert on one NoCrash cell, and film it beside the expert.

    mentorgym demo

Everything goes to the folder `demo/`; nothing of it enters the results.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mentorgym.agents import sac
from mentorgym.benchmarks.driving.drivers import AgentDriver, Driver, ExpertDriver, RandomDriver, read_training
from mentorgym.benchmarks.driving.measure import Episode, Tasks, cells, evaluate, make_envs
from mentorgym.benchmarks.driving.video import load_encoder, write_video
from mentorgym.benchmarks.harness.command import program, progress_console, show, verb
from mentorgym.benchmarks.leaderboard import rank, terminal_tables

CALIBRATION_STEPS = 1_600
"""Updates begin after 1 000 steps; the speed is that of the steps after them."""

SCALE, CAPTION_HEIGHT = 2, 64
"""Enlargement of the pictures, and height in pixels of the caption below each."""

STEPS_PER_FRAME, FPS = 2, 15
"""A step is 0.1 s, so the film runs at three times the speed of the drive."""


@dataclass
class Args:
    """Train SAC briefly, evaluate random, expert and SAC, and film two of them."""

    minutes: float = 3.0
    """time to compile what is not compiled yet and to train; the rest takes about a minute more"""
    env: str = "CarlaNoCrash-v0"
    """environment id"""
    town: str = "Suburb"
    """town to train and drive in"""
    traffic: str = "regular"
    """traffic level to train and drive in"""
    routes: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """test routes to drive; the film shows the first"""
    seconds: float = 12.0
    """length of the film"""
    folder: Path = Path("demo")
    """where everything is written"""


def train(args: Args) -> Path:
    """Train SAC within about `args.minutes` and return its run's folder.

    A short run goes first, to tell how many steps the time that is left is worth on this machine.
    """
    deadline = time.monotonic() + 60 * args.minutes
    flags = sac.Args(
        env_id=args.env, env_args=(f"town={args.town}", f"traffic={args.traffic}"), runs=str(args.folder / "runs")
    )

    def train_for(steps: int) -> Path:
        # Nothing to resume from: a checkpoint holds the replay, which takes longer to write than it is worth here.
        return sac.train(replace(flags, total_steps=steps, buffer_size=steps, checkpoint_every=2 * steps))

    affordable = int(steps_per_second(train_for(CALIBRATION_STEPS)) * (deadline - time.monotonic()))
    return train_for(max(affordable, CALIBRATION_STEPS))


def steps_per_second(folder: Path) -> float:
    """The speed that the run in `folder` logged last."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [float(row["speed/steps_per_s"]) for row in map(json.loads, lines) if "speed/steps_per_s" in row][-1]


def panel(driver: Driver, tasks: Tasks) -> Iterator[np.ndarray]:
    """Frames of `driver` on the first episode of `tasks`, uint8 RGB, to its end: the picture above a caption."""
    envs = make_envs(replace(tasks, num_envs=1), cells(tasks)[0], driver.observation)
    episode = Episode(tasks.routes[0], tasks.seeds[0])
    driver.start(0, episode.env_seed)
    observations, _ = envs.reset(seed=[episode.env_seed], options={"route": np.array([episode.route])})
    completion, total, end = 0.0, 0.0, ""
    for step in itertools.count(1):
        if end or step % STEPS_PER_FRAME == 0:
            state = observations["state"] if isinstance(observations, dict) else observations
            speed = float(np.hypot(*state[0, 4:6]))
            caption = f"{driver.name}   {end}\nroute {completion:.0%}   {speed:.1f} m/s   reward {total:+.1f}"
            yield captioned(envs.picture(0), caption)
        if end:
            break
        observations, rewards, terminated, truncated, infos = envs.step(driver.act(envs, observations))
        completion, total = float(infos["route_completion"][0]), total + float(rewards[0])
        if terminated[0] or truncated[0]:
            end = str(infos["score"]["end"][0])
    envs.close()


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """`picture`, uint8 RGB, enlarged, with two lines of text below it."""
    image = Image.fromarray(picture).resize(
        (picture.shape[1] * SCALE, picture.shape[0] * SCALE), Image.Resampling.NEAREST
    )
    frame = Image.new("RGB", (image.width, image.height + CAPTION_HEIGHT))
    frame.paste(image)
    ImageDraw.Draw(frame).multiline_text(
        (12, image.height + 8), caption, fill="white", font=ImageFont.load_default(size=18), spacing=6
    )
    return np.asarray(frame)


def side_by_side(panels: Sequence[Iterator[np.ndarray]], num_frames: int) -> Iterator[np.ndarray]:
    """The panels beside each other, until all have ended or `num_frames` are shown; one that has ended stands still."""
    shown: list[np.ndarray] = [next(frames) for frames in panels]
    for _ in range(num_frames):
        yield np.concatenate(shown, axis=1)
        following = [next(frames, None) for frames in panels]
        if all(frame is None for frame in following):
            return
        shown = [old if new is None else new for old, new in zip(shown, following, strict=True)]


@verb("demo")
def main(args: Args, command: str) -> dict[str, Any]:
    """Train, evaluate, film, and print the table."""
    tasks = Tasks(env=args.env, town=(args.town,), traffic=(args.traffic,), routes=args.routes)
    load_encoder()
    progress_console.print(f"training SAC for about {args.minutes:g} minutes")
    folder = train(args)
    agent = AgentDriver("sac", sac.load_policy(folder), read_training(folder))
    rows = [
        row
        for driver in (RandomDriver(), ExpertDriver(), agent)
        for row in evaluate(driver, driver.name, tasks, command, args.folder / "rows" / f"{driver.name}.jsonl")[0]
    ]
    film = args.folder / "expert_and_sac.mp4"
    progress_console.print("filming the expert and SAC on the same route, in the same traffic")
    panels = [panel(driver, tasks) for driver in (ExpertDriver(), agent)]
    place = f"--env-args town={args.town} traffic={args.traffic}"
    hours = 1_000_000 / steps_per_second(folder) / 3600
    write_video(film, side_by_side(panels, round(args.seconds * FPS)), FPS)
    show(
        *terminal_tables(rank(rows)),
        f"film: {film}",
        f"run:  {folder}",
        f"rows: {args.folder / 'rows'}",
        f"SAC needs far more steps. This trains 1,000,000, {hours:.1f} hours here, and ranks it beside all others:",
        f"  {program()} leaderboard --add sac -- --total-steps 1000000 {place}",
    )
    return {"film": str(film), "run": str(folder)}
