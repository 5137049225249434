"""The window, on SDL's screen that is none."""

import sys
import time

import gymnasium as gym
import numpy as np
import pytest

from mentorgym.envs.driving.view.window import Window, load_pygame

FRAME = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    module = load_pygame()
    yield module
    module.display.quit()


@pytest.fixture
def window(pygame) -> Window:
    return Window("test", fps=200, scale=2)


def press(pygame, kind: str, key: str) -> None:
    pygame.event.post(pygame.event.Event(getattr(pygame, kind), key=pygame.key.key_code(key)))


def test_a_frame_is_shown_enlarged(pygame, window: Window):
    window.show(FRAME)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert np.array_equal(shown, FRAME.repeat(2, axis=0).repeat(2, axis=1))
    assert pygame.display.get_caption()[0] == "test"


def test_frames_come_no_faster_than_asked_for(pygame):
    window = Window("test", fps=20)
    start = time.monotonic()
    for _ in range(5):
        window.show(FRAME)
    assert 0.2 <= time.monotonic() - start < 2


def test_keys_are_known_while_they_are_held(pygame, window: Window):
    window.show(FRAME)
    for key in ("left", "w"):
        press(pygame, "KEYDOWN", key)
    window.show(FRAME)
    assert (window.held, window.struck) == ({"left", "w"}, ["left", "w"])
    press(pygame, "KEYUP", "left")
    window.show(FRAME)
    assert (window.held, window.struck) == ({"w"}, [])
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    window.show(FRAME)
    assert window.held == set()


def test_whoever_looks_may_close_it(pygame, window: Window):
    window.show(FRAME)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.show(FRAME)
    assert window.closed and not pygame.display.get_init()
    window.show(FRAME)
    window.close()
    assert not pygame.display.get_init()


def test_a_window_that_never_showed_anything_is_closed_as_well(pygame, window: Window):
    window.close()
    window.show(FRAME)
    assert window.closed and not pygame.display.get_init()


def test_without_pygame_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"a window needs pygame: pip install .*\[human\]'"):
        Window("test", fps=10)


def test_without_a_screen_the_reason_is_named(pygame, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(gym.error.Error, match="no window can be opened .*no-such-driver"):
        Window("test", fps=10).show(FRAME)
