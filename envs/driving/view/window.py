"""A window that shows frames in real time and knows which keys are held. Needs pygame: the extra `human`."""

import os
import time
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.extras import remedy


def load_pygame() -> ModuleType:
    """pygame; raises gymnasium's DependencyNotInstalled with the line that installs it."""
    # Its greeting would stand among the results on standard output.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise gym.error.DependencyNotInstalled(f"a window needs pygame: {remedy('human')}") from error
    return pygame


class Window:
    """A window on the screen, open from the first frame on until it is closed, by `close` or by whoever looks at it.

    Args:
        title: what stands above it.
        fps: frames a second; `show` waits so that they come no faster.
        scale: screen pixels along a frame's pixel.

    Raises:
        gymnasium.error.DependencyNotInstalled: pygame is missing.
        gymnasium.error.Error: there is no screen to open it on.
    """

    def __init__(self, title: str, fps: float, scale: int = 1):
        self.title, self.scale = title, scale
        self.held: set[str] = set()
        """Names of the keys that are down, as pygame has them: "left", "space", "w"."""
        self.struck: list[str] = []
        """Names of the keys that went down during the last `show`."""
        self.closed = False
        self._pygame = load_pygame()
        self._screen: Any = None
        self._period, self._next = 1.0 / fps, 0.0

    def show(self, frame: np.ndarray) -> None:
        """Show `frame`, uint8 RGB [height, width, 3], when its time has come; nothing once the window is closed."""
        if self.closed:
            return
        pygame, size = self._pygame, (frame.shape[1] * self.scale, frame.shape[0] * self.scale)
        if self._screen is None:
            # The display alone: sound and joysticks may be missing, and would be opened for nothing.
            try:
                pygame.display.init()
                self._screen = pygame.display.set_mode(size)
            except pygame.error as error:
                raise gym.error.Error(
                    f"no window can be opened ({error}): choose render_mode='rgb_array' where there is no screen"
                ) from error
            pygame.display.set_caption(self.title)
        picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._screen.blit(pygame.transform.scale(picture, size), (0, 0))
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        # A late frame is not made up for: those after it keep their distance.
        self._next = max(self._next, now) + self._period
        pygame.display.flip()
        self._handle_events()

    def _handle_events(self) -> None:
        pygame = self._pygame
        self.struck = []
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self.close()
                return
            if event.type == pygame.KEYDOWN:
                self.struck.append(pygame.key.name(event.key))
                self.held.add(self.struck[-1])
            elif event.type == pygame.KEYUP:
                self.held.discard(pygame.key.name(event.key))
            elif event.type == pygame.WINDOWFOCUSLOST:
                # Keys that are let go of elsewhere are never reported.
                self.held.clear()

    def close(self) -> None:
        """Take the window off the screen; a second call does nothing."""
        if not self.closed and self._screen is not None:
            self._pygame.display.quit()
        self.closed, self._screen = True, None
        self.held.clear()
