"""How far a run has come, on standard error."""

import sys
import time
from collections import deque
from datetime import timedelta

FIRST = 5.0
"""Seconds after which the first line is shown where no terminal is."""

INTERVAL = 30.0
"""Seconds between two lines where no terminal is."""


class ProgressLine:
    """One status line: on a terminal over the line before, elsewhere a new line every 30 s."""

    def __init__(self, step: int, total: int, unit: str):
        """A run that starts at `step` of `total`, both counted in `unit`; 0 for a total that is unknown."""
        self.total, self.unit = total, unit
        self._terminal = sys.stderr.isatty()
        now = time.monotonic()
        self._due = now + (0.5 if self._terminal else FIRST)
        # The rate is that of the last half minute.
        self._marks = deque([(now, step)], maxlen=60 if self._terminal else 2)

    def show(self, step: int, text: str = "") -> None:
        """Show `step` with `text`, where a line is due; the last step always is."""
        now, last = time.monotonic(), 0 < self.total <= step
        if now < self._due and not last:
            return
        self._due = now + (0.5 if self._terminal else INTERVAL)
        then, before = self._marks[0]
        self._marks.append((now, step))
        line = progress_line(step, self.total, self.unit, (step - before) / max(now - then, 1e-9), text)
        start, end = ("\r", "\n" if last else "\x1b[K") if self._terminal else ("", "\n")
        print(start + line, end=end, file=sys.stderr, flush=True)


def progress_line(step: int, total: int, unit: str, rate: float, text: str = "") -> str:
    """`step` of `total`, never more than that, the rate, and the time that is left at this rate."""
    speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"
    if not total:
        return "  ".join(filter(None, [f"{step:>9,} {unit}", f"{speed:>6}/s", text]))
    left = f"{timedelta(seconds=round(max(total - step, 0) / rate))} left" if rate > 0 else ""
    return "  ".join(filter(None, [f"{min(step, total):>9,}/{total:,} {unit}", f"{speed:>6}/s", text, left]))
