"""How far a run is and how long it will take: a bar on a terminal or below a cell, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from clear.core import dist
from clear.core.logs import logger
from clear.core.programs.cells import CellBar, in_notebook
from clear.core.programs.heartbeat import said

# Seconds between two looks at the numbers of a bar: each waits for the device.
_BETWEEN_LOOKS_S = 0.5


class Progress:
    """Counts training iterations over a whole run.

    Args:
        total: expected iterations of the run, an estimate where a strategy decides on the way.
        interval_s: seconds between two log lines where there is no terminal.
        unit: what is counted, if not iterations: then there are exactly `total`.
        is_silent: count only.
    """

    def __init__(self, total: int, interval_s: float = 8.0, unit: str | None = None, *, is_silent: bool = False):
        self.total = max(total, 1)
        self.done = 0
        self.interval_s = interval_s
        self._of = f'of {self.total} {unit}' if unit else f'of about {self.total} iterations'
        self._started = self._last_line = time.monotonic()
        self._begun_at = 0
        self._next_look = 0.0
        self._is_main = dist.is_main() and not is_silent
        self._bar = None
        if self._is_main and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, unit=f' {unit}' if unit else 'it', dynamic_ncols=True, leave=False)
        elif self._is_main and in_notebook():
            self._bar = CellBar(total=self.total, unit=unit or 'iterations')

    def start_at(self, done: int) -> None:
        """Count from `done`, after a resume; the speed is measured from here on."""
        self.done = self._begun_at = done
        self._started = time.monotonic()
        if self._bar is not None:
            self._bar.update(done)

    def step(self, where: str, numbers: Callable[[], Mapping[str, float | None]] | None = None) -> None:
        """One more iteration.

        Args:
            where: in which experience and epoch.
            numbers: gives what is shown beside, as loss and learning rate; asked once a line, or twice a second for a
                bar, and not in every step, as reading them may wait for the device. None among them is left out.
        """
        self.done += 1
        now = time.monotonic()
        if self._bar is not None:
            if numbers is not None and now >= self._next_look:
                self._bar.set_postfix_str(_text_of(numbers()), refresh=False)
                self._next_look = now + _BETWEEN_LOOKS_S
            self._bar.set_description_str(where, refresh=False)
            if self._bar.update():
                said()
        elif self._is_main and now - self._last_line >= self.interval_s:
            self._last_line = now
            shown = _text_of(numbers()) if numbers is not None else ''
            logger.info('%s  %d %s%s  ETA %s', where, self.done, self._of, shown and f'  {shown}', self.eta())

    def eta(self) -> str:
        """Time left at the mean speed so far, as h:mm:ss."""
        made = self.done - self._begun_at
        if made <= 0:
            return 'unknown'
        left_s = (time.monotonic() - self._started) / made * max(self.total - self.done, 0)
        return str(timedelta(seconds=round(left_s)))

    def clear(self) -> None:
        """Take the bar off the screen, so that lines can be printed; the next step draws it again."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _text_of(numbers: Mapping[str, float | None]) -> str:
    return '  '.join(f'{name} {value:.4g}' for name, value in numbers.items() if value is not None)
