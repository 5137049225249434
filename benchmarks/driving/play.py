"""Drive with the keyboard, in real time, and see what the rules make of it.

    mentorgym play --town Village --traffic dense

Arrows or WASD accelerate, brake and steer, the space bar brakes fully, R starts the episode anew, N goes on to the next
route, Escape ends. The window needs the extra `human`.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mentorgym.benchmarks.driving.dashboard import Trip
from mentorgym.benchmarks.driving.drivers import Driver
from mentorgym.benchmarks.driving.measure import Episode
from mentorgym.benchmarks.driving.watch import Scene, film, open_scene, place_of
from mentorgym.benchmarks.harness.command import show, user_input, verb
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.envs.driving.view.window import Window

TITLE = "arrows or WASD: drive    space: brake    R: again    N: next route    Esc: end"

COMMANDS = ("r", "n", "escape")

FPS = 10
"""A step is 0.1 s."""

STEER_PER_STEP, STEER_LIMIT = 0.08, 0.7
"""How fast a held key turns the wheel, and how far; keys know no half measures, and full steer is for parking."""


class KeyboardDriver(Driver):
    """A human: the keys that are held become actions. The wheel turns while a key is held and goes back after it."""

    name, observation = "keyboard", "masks"

    def __init__(self, held: Set[str]) -> None:
        self._held = held
        self._steer = 0.0

    def start(self, row: int, seed: int) -> None:
        self._steer = 0.0

    def act(self, envs: DrivingVectorEnv, observations: dict[str, np.ndarray]) -> np.ndarray:
        def down(*names: str) -> bool:
            return any(name in self._held for name in names)

        aim = STEER_LIMIT * (down("right", "d") - down("left", "a"))
        # Letting go brings the wheel back at twice the speed.
        change = STEER_PER_STEP * (2.0 if aim == 0.0 or aim * self._steer < 0.0 else 1.0)
        self._steer += float(np.clip(aim - self._steer, -change, change))
        acceleration = 0.7 * down("up", "w") - 0.5 * down("down", "s")
        return np.array([[-1.0 if down("space") else acceleration, self._steer]], np.float32)


@dataclass
class Args(Scene):
    """Drive with the keyboard."""


def play(scene: Scene, window: Window) -> list[dict[str, Any]]:
    """Let whoever sits before `window` drive until it is closed; every finished drive with `route` and `score`."""
    envs, episode = open_scene(scene)
    driver: Driver = KeyboardDriver(window.held)
    driven: list[dict[str, Any]] = []
    try:
        while not window.closed:
            trip = Trip(driver.name, place_of(replace(scene, route=episode.route)))
            command = ""
            for image, score in film(driver, envs, episode, trip):
                if score:
                    driven.append({"route": episode.route, "score": score})
                command = wait(window, image, until_key=score is not None)
                if command or window.closed:
                    break
            if command == "n":
                routes = [route for route in range(envs.num_routes) if route not in envs.route_problems]
                following = (routes.index(episode.route) + 1) % len(routes)
                episode = Episode(routes[following], episode.seed)
            elif command == "escape":
                window.close()
    finally:
        envs.close()
        window.close()
    return driven


def wait(window: Window, image: np.ndarray, until_key: bool) -> str:
    """Show `image` for one frame, or `until_key` to go on; returns the key among COMMANDS that was struck, or ""."""
    while not window.closed:
        window.show(image)
        if keys := [key for key in window.struck if key in COMMANDS]:
            return keys[0]
        if not until_key:
            break
    return ""


@verb("play")
def main(args: Args) -> dict[str, Any]:
    """Drive in a window until it is closed."""
    with user_input():
        window = Window(TITLE, FPS)
    driven = play(args, window)
    for drive in driven:
        score = drive["score"]
        show(
            f"route {drive['route']}: {score['end']} after {score['seconds']:.1f} s, driving score "
            f"{score['driving_score']:.3f}, return {score['return']:.1f}"
        )
    return {"drives": driven}
