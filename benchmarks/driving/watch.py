"""Film a driver on one episode: picture, masks, speed, command, reward, and infractions as they happen.

    mentorgym watch --driver expert --town Village --traffic dense --route 3
    mentorgym watch --run runs/CarlaNoCrash-v0/sac__seed1__0123abcd --output sac.mp4

Episodes are those of `evaluate`, by the same seed; what is filmed is not recorded in any row. An output that ends in
.png becomes one image of six moments, which needs no encoder.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mentorgym.benchmarks.driving.dashboard import Trip, compose, infraction_counts
from mentorgym.benchmarks.driving.drivers import Driver, load_drivers
from mentorgym.benchmarks.driving.measure import Cell, Episode, Tasks, entry, episodes, make_envs
from mentorgym.benchmarks.driving.video import load_encoder, write_video
from mentorgym.benchmarks.harness.command import UsageError, progress_bars, show, verb
from mentorgym.envs.driving import DrivingVectorEnv

MOMENTS = 6
"""Moments in an image: two columns of them."""

EDGE = 4
"""Pixels of white between them."""

KEPT = 32
"""Frames kept at the same time to choose them from."""


@dataclass
class Scene:
    """Which episode."""

    env: str = "CarlaNoCrash-v0"
    """environment id, with `module:` before it where a module of yours registers it"""
    town: str = "Suburb"
    """town: one of ours, a name in MENTORGYM_MAPS, or a path to .xodr"""
    route: int = 0
    """number of the test route"""
    route_file: str | None = None
    """file with other routes than the town's own"""
    traffic: str = "regular"
    """traffic level: empty, regular, dense, busy"""
    weather: str = "train_eval"
    """weather group or preset"""
    seed: int = 0
    """seed of the episode, as of `evaluate --seeds`"""


@dataclass
class Args(Scene):
    """Film a driver on one episode."""

    driver: str = ""
    """random, expert, an agent's name, or the path of its file; by default the agent that trained the run"""
    run: Path | None = None
    """folder of a finished training run"""
    device: str = "cpu"
    """torch device of the policy"""
    output: Path | None = None
    """.mp4 or .png file; by default an .mp4 in the folder `videos`, named after driver and episode"""
    speed: float = 2.0
    """how many times faster than life the film runs"""
    seconds: float = 600.0
    """seconds of driving after which the film ends at the latest"""


def open_scene(scene: Scene) -> tuple[DrivingVectorEnv, Episode]:
    """The environment of `scene`, one world with masks, and its episode; raises UsageError for what there is not."""
    tasks = Tasks(env=scene.env, routes=(scene.route,), seeds=(scene.seed,), route_file=scene.route_file, num_envs=1)
    envs = make_envs(tasks, Cell(scene.town, scene.traffic, scene.weather), "masks")
    try:
        (episode,) = episodes(tasks, envs.num_routes, envs.route_problems)
    except UsageError:
        envs.close()
        raise
    return envs, episode


def place_of(scene: Scene) -> str:
    """The episode of `scene` in words."""
    return f"{Path(scene.town).stem}, route {scene.route}, {scene.traffic} traffic, seed {scene.seed}"


def film(
    driver: Driver, envs: DrivingVectorEnv, episode: Episode, trip: Trip
) -> Iterator[tuple[np.ndarray, dict[str, Any] | None]]:
    """Drive `episode` and yield the image after every step, with the score at the episode's end, else None."""
    driver.start(0, episode.env_seed)
    observations, _ = envs.reset(seed=[episode.env_seed], options={"route": np.array([episode.route])})
    ended = False
    while not ended:
        actions = driver.act(envs, observations)
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        ended = bool(terminated[0] or truncated[0])
        trip.advance(actions[0], float(rewards[0]), infos, infraction_counts(envs), ended)
        image = compose(envs.picture(0), observations["bev"][0], envs.prompt_context(0), trip)
        yield image, entry(infos["score"], 0) if ended else None


def strip(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Six of `frames`, spread from the first to the last, as one image, uint8 RGB, in reading order."""
    choice: list[np.ndarray] = []
    last, every = None, 1
    for number, last in enumerate(frames):
        if number % every == 0:
            choice.append(last)
        # How many will come is not known, and all of an episode's would fill gigabytes.
        if len(choice) == KEPT:
            choice, every = choice[::2], 2 * every
    if last is None:
        raise ValueError("no frame to show")
    chosen = [[*choice, last][round(i)].copy() for i in np.linspace(0, len(choice), MOMENTS)]
    for image in chosen:
        image[-EDGE:] = image[:, -EDGE:] = 255
    return np.concatenate([np.concatenate(chosen[i : i + 2], axis=1) for i in range(0, MOMENTS, 2)])


@verb("watch")
def main(args: Args) -> dict[str, Any]:
    """Film the episode."""
    if args.speed <= 0 or args.seconds <= 0:
        raise UsageError(f"--speed {args.speed:g} --seconds {args.seconds:g}: both have to be above 0")
    (driver,) = load_drivers(args.driver, [args.run] if args.run else [], args.device)
    place = place_of(args)
    output = args.output or Path("videos", f"{driver.name}, {place}.mp4".replace(", ", "__").replace(" ", ""))
    if output.suffix not in (".mp4", ".png"):
        raise UsageError(f"--output {output}: the name ends in .mp4 or .png")
    if output.suffix == ".mp4":
        load_encoder()
    envs, episode = open_scene(args)
    trip, score, count = Trip(driver.name, place), None, 0
    with progress_bars("{task.percentage:.0f} % of the route") as progress:
        bar = progress.add_task(f"{driver.name}: {place}", total=1.0)

        def frames() -> Iterator[np.ndarray]:
            nonlocal score, count
            for image, at_end in film(driver, envs, episode, trip):
                count, score = count + 1, at_end
                progress.update(bar, completed=trip.completion)
                yield image
                if trip.seconds >= args.seconds:
                    return

        try:
            if output.suffix == ".mp4":
                write_video(output, frames(), round(10 * args.speed))
            else:
                output.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(strip(frames())).save(output)
        finally:
            envs.close()
    events = [f"{moment:.1f} s {what}" for moment, what in trip.events]
    show(
        f"{driver.name}: {trip.end or 'still driving'} after {trip.seconds:.1f} s, {trip.completion:.1%} of the "
        f"route, return {trip.total:+.1f}; {', '.join(events) or 'no infraction'}",
        f"written: {output}",
    )
    return {"output": str(output), "frames": count, "events": events, "score": score}
