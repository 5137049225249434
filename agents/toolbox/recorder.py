"""What the loops of `train` write down: the episodes that end, means of losses, speed, and how far the run is."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mentorgym.agents.toolbox.progress import ProgressLine
from mentorgym.agents.toolbox.runs import Run, passed


class Recorder:
    """The record of a loop that steps `num_envs` environments together.

    `stride` environment steps pass between two calls of `log_due` and `checkpoint_due`, by default `num_envs`. `window`
    is the number of episodes whose mean return the progress line shows.
    """

    def __init__(self, run: Run, args: Any, stride: int = 0, window: int = 20):
        self.run, self.args, self.stride = run, args, stride or args.num_envs
        self.returns, self.lengths = np.zeros(args.num_envs), np.zeros(args.num_envs, np.int64)
        self._recent: deque[float] = deque(maxlen=window)
        self._losses: list[dict[str, torch.Tensor]] = []

    def start(self, step: int) -> None:
        """Open the run's folder and start the clocks, at `step`."""
        self.run.open()
        self._progress = ProgressLine(step, self.args.total_steps, "steps")
        self._logged_step, self._logged_time = step, time.monotonic()

    def add_step(
        self, step: int, rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, infos: Mapping[str, Any]
    ) -> list[tuple[int, str]]:
        """Take what a step of all N environments returned, after which `step` environment steps are done.

        Returns the environments whose episodes ended, each with the reason.
        """
        self.returns += rewards
        self.lengths += 1
        ended = []
        for env in np.flatnonzero(terminated | truncated).tolist():
            end = self.run.log_episode(step, self.returns[env], self.lengths[env], bool(terminated[env]), infos, env)
            ended.append((env, end))
            self._recent.append(self.returns[env])
            self.returns[env], self.lengths[env] = 0, 0
        self._progress.show(step, f"return {np.mean(self._recent):8.1f}" if self._recent else "")
        return ended

    def add_losses(self, losses: dict[str, torch.Tensor]) -> None:
        """Take the figures of an update."""
        self._losses.append(losses)

    def log_due(self, step: int) -> bool:
        """Whether to call `log` now."""
        return passed(step, self.args.log_every, self.stride) or step >= self.args.total_steps

    def log(self, step: int, figures: Mapping[str, float] | None = None) -> None:
        """Write the line of `step`: means since the line before, speed, and other `figures`."""
        seconds = time.monotonic() - self._logged_time
        names = dict.fromkeys(name for entry in self._losses for name in entry)
        means = {name: float(torch.stack([e[name] for e in self._losses if name in e]).mean()) for name in names}
        speed = {
            "speed/steps_per_s": (step - self._logged_step) / seconds,
            "speed/updates_per_s": len(self._losses) / seconds,
        }
        self.run.log(step, means | speed | dict(figures or {}))
        self._losses, self._logged_step, self._logged_time = [], step, time.monotonic()

    def checkpoint_due(self, step: int) -> bool:
        """Whether to save the policy and a checkpoint now."""
        return self.run.checkpoint_due(step, self.args.checkpoint_every, self.stride)
