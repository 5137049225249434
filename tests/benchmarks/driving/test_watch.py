"""Films, and driving by keys, on the fake road."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.benchmarks.driving import play, watch
from mentorgym.benchmarks.driving.dashboard import HEIGHT, WIDTH, Trip, compose
from mentorgym.benchmarks.driving.measure import REQUIRED
from mentorgym.envs.driving.task.score import COUNTS
from mentorgym.envs.driving.view.window import load_pygame
from tests.benchmarks.driving.test_demo import decode

ENV = "fake_drive:FakeDrive-v0"

CONTEXT = {"speed": 3.25, "command_name": "follow the lane"}


def infos(completion: float, end: str | None = None) -> dict:
    given = {"reward_terms": np.float32([[0.5, -0.25, 0, 0, 0]]), "route_completion": np.array([completion])}
    return given | ({"score": {"end": np.array([end], object)}} if end else {})


def test_a_trip_remembers_when_what_happened():
    trip, none = Trip("expert", "here"), dict.fromkeys(COUNTS, 0)
    trip.advance(np.float32([1, 0]), 0.25, infos(0.1), none, ended=False)
    trip.advance(np.float32([1, 0]), 0.25, infos(0.2), none | {"red_lights": 1, "vehicle_collisions": 2}, ended=False)
    trip.advance(np.float32([0, 1]), -1.0, infos(0.2, "red light"), none | {"red_lights": 2}, ended=True)
    assert [(round(moment, 1), what) for moment, what in trip.events] == [
        (0.2, "vehicle collision"),
        (0.2, "vehicle collision"),
        (0.2, "red light"),
        (0.3, "red light"),
    ]
    assert (trip.total, trip.completion, trip.end) == (-0.5, 0.2, "red light")


def test_the_image_holds_picture_and_masks_as_they_are():
    generator = np.random.default_rng(0)
    picture, masks = generator.integers(0, 256, (192, 192, 3), np.uint8), generator.integers(0, 256, (15, 96, 96))
    image = compose(picture, masks.astype(np.uint8), CONTEXT, Trip("expert", "here"))
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(image[:HEIGHT:3, :HEIGHT:3], picture)
    gray = image[..., 0][(image[..., 0] == image[..., 1]) & (image[..., 1] == image[..., 2])]
    assert np.bincount(gray, minlength=256).min() >= np.bincount(masks.ravel(), minlength=256).min() * 0.9


def test_what_changes_shows():
    picture, masks = np.zeros((192, 192, 3), np.uint8), np.zeros((15, 96, 96), np.uint8)

    def image(**change) -> np.ndarray:
        return compose(picture, masks, CONTEXT, Trip("expert", "here", **change))

    plain = image()
    assert np.array_equal(plain, image())
    many = [(float(n), "red light") for n in range(20)]
    for change in (
        {"reward": 0.5},
        {"completion": 0.3},
        {"total": 7.0},
        {"seconds": 3.0},
        {"terms": np.float32([0, -1, 0, 0, 0])},
        {"action": np.float32([0, 1])},
        {"events": many[:1]},
        {"events": many},
        {"end": "blocked"},
    ):
        assert not np.array_equal(plain, image(**change)), change
    assert not np.array_equal(plain, compose(picture, masks, CONTEXT | {"speed": 5.0}, Trip("expert", "here")))


def test_a_film_has_a_frame_for_each_step(fake_drive, capsys: pytest.CaptureFixture):
    watch.main(f"--env {ENV} --driver expert --route 2 --town Village --output film.mp4 --json".split())
    told = json.loads(capsys.readouterr().out)
    frames = decode(Path("film.mp4"), HEIGHT, WIDTH)
    assert len(frames) == told["frames"] > 4
    assert fake_drive.FakeDrive.started[0] == ("Village", 2, 2)
    # The road brightens as the expert gets on.
    assert frames[-1][100:, :HEIGHT].mean() > frames[0][100:, :HEIGHT].mean() + 100
    assert told["score"]["success"] and told["score"].keys() >= set(REQUIRED)
    assert (told["output"], told["events"]) == ("film.mp4", [])


def test_an_image_shows_six_moments_and_needs_no_encoder(
    fake_drive, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watch, "load_encoder", None)
    watch.main(f"--env {ENV} --driver random --output new/strip.png".split())
    with Image.open("new/strip.png") as image:
        assert image.size == (2 * WIDTH, 3 * HEIGHT)
    assert "written: new/strip.png" in capsys.readouterr().out


@pytest.mark.parametrize("length", [1, 5, 6, 31, 32, 33, 500])
def test_the_moments_are_spread_from_the_first_to_the_last(length: int):
    frames = (np.full((8, 8, 3), n // 2, np.uint8) for n in range(length))
    shown = watch.strip(frames)[::8, ::8, 0].ravel().astype(int) * 2
    assert shown[0] == 0 and shown[-1] >= length - 2
    assert (np.diff(shown) >= 0).all()
    assert np.abs(shown - np.linspace(0, length - 1, 6)).max() <= max(length / 10, 2)


def test_a_film_ends_when_its_time_is_up(fake_drive, capsys: pytest.CaptureFixture):
    watch.main(f"--env {ENV} --driver random --seconds 0.5 --output strip.png --json".split())
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["score"]) == (5, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--driver expert --output film.gif", "ends in .mp4 or .png"),
        ("--driver expert --speed 0", "--speed 0 --seconds 600: both have to be above 0"),
        ("--driver expert --route 77", "no route 77: there are 5"),
        ("--driver expert --town Nowhere", "unknown town 'Nowhere'"),
        ("", "nobody to drive"),
    ],
)
def test_a_mistake_ends_with_one_message(fake_drive, arguments: str, message: str):
    with pytest.raises(SystemExit, match=message):
        watch.main(["--env", ENV, *arguments.split()])


class Keys:
    """A window in front of somebody who strikes and holds keys by plan: one set of held, one of struck, for a frame."""

    def __init__(self, *plan: tuple[str, str]):
        self.plan, self.closed, self.shown = list(plan), False, 0
        self.held, self.struck = set(), []

    def show(self, frame: np.ndarray) -> None:
        self.shown += 1
        if not self.plan:
            return self.close()
        held, struck = self.plan.pop(0)
        self.held.clear()
        self.held.update(held.split())
        self.struck = struck.split()

    def close(self) -> None:
        self.closed = True


def test_a_held_key_turns_the_wheel_and_it_comes_back():
    held: set[str] = set()
    driver = play.KeyboardDriver(held)
    driver.start(0, 0)

    def act(*keys: str) -> tuple[float, float]:
        held.clear()
        held.update(keys)
        ((acceleration, steer),) = driver.act(None, {}).tolist()
        return acceleration, steer

    rights = [act("right")[1] for _ in range(20)]
    assert rights == sorted(rights) and rights[0] > 0 and rights[-1] == pytest.approx(play.STEER_LIMIT)
    back = [act()[1] for _ in range(20)]
    assert back == sorted(back, reverse=True) and back[-1] == 0
    assert act("a")[1] < 0
    driver.start(0, 0)
    assert act("left", "right") == (0, 0)
    assert act("w")[0] > 0 > act("s")[0] > act("space")[0] == -1
    assert act("up", "space")[0] == -1


def test_keys_drive_the_route_to_its_end_and_on_to_the_next(fake_drive):
    scene = play.Args(env=ENV)
    driven = play.play(scene, Keys(*[("w", "")] * 16, ("", "n"), *[("up", "")] * 2))
    assert [(drive["route"], drive["score"]["end"]) for drive in driven] == [(0, "completed")]
    assert [route for _, route, _ in fake_drive.FakeDrive.started] == [0, 1]


def test_r_starts_the_same_episode_anew_and_escape_ends(fake_drive):
    window = Keys(("", ""), ("", "r"), ("", ""), ("", "escape"))
    assert play.play(play.Args(env=ENV, route=1, seed=2), window) == []
    assert fake_drive.FakeDrive.started == [("Suburb", 1, 2001)] * 2
    assert window.closed and window.shown == 4


def test_the_command_opens_a_window_and_reports_what_was_driven(
    fake_drive, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(play, "FPS", 100)
    pygame = load_pygame()
    pygame.display.init()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_UP))
    advance, steps = Trip.advance, []

    def leave_at_the_end(self, *step) -> None:
        advance(self, *step)
        steps.append(self.completion)
        if self.end:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    monkeypatch.setattr(Trip, "advance", leave_at_the_end)
    play.main(f"--env {ENV} --json".split())
    (drive,) = json.loads(capsys.readouterr().out)["drives"]
    assert (drive["route"], drive["score"]["end"], steps[-1]) == (0, "completed", 1)


def test_without_pygame_play_names_what_installs_it(fake_drive, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(SystemExit, match=r"play: a window needs pygame: pip install .*\[human\]'"):
        play.main(["--env", ENV])
