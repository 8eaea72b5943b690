"""How a download goes: records and bytes a second, the share that came, the time left."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from datetime import timedelta

from clear.core.logs import logger
from clear.curation.filters import KEPT


class Rates:
    """Counts a shard's records: a bar on a terminal, else a line now and then.

    Args:
        title: what is counted.
        total: records to come.
        interval_s: between two lines.
    """

    def __init__(self, title: str, total: int, interval_s: float = 15.0):
        self.title, self.total, self.interval_s = title, total, interval_s
        self.done, self.bytes = 0, 0
        self.outcomes: Counter[str] = Counter()
        self._started = self._told = time.monotonic()
        self._bar = None
        # Workers of a pool share one terminal, on which the driver counts shards.
        if total and sys.stderr.isatty() and multiprocessing.parent_process() is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=title, unit='img', dynamic_ncols=True, leave=False)

    def add(self, outcome: str, size: int) -> None:
        """One more record."""
        self.done, self.bytes = self.done + 1, self.bytes + size
        self.outcomes[outcome] += 1
        if self._bar is not None:
            self._bar.set_postfix_str(self._share(), refresh=False)
            self._bar.update()
        elif time.monotonic() - self._told >= self.interval_s:
            self._told = time.monotonic()
            logger.info('%s', self.line())

    def again(self, count: int) -> None:
        """Some records are tried once more."""
        self.total += count
        if self._bar is not None:
            self._bar.total = self.total

    def line(self) -> str:
        """Where it stands."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        left = (self.total - self.done) * seconds / max(self.done, 1)
        return (f'{self.title}  {self.done:,} of {self.total:,} records  {self.done / seconds:.1f}/s  '
                f'{self.bytes / seconds / 1e6:.1f} MB/s  {self._share()}  ETA {timedelta(seconds=round(left))}')

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _share(self) -> str:
        others = [(name, count) for name, count in self.outcomes.most_common(3) if name != KEPT]
        return ' '.join([f'ok {self.outcomes[KEPT] / max(self.done, 1):.0%}',
                         *(f'{name} {count / self.done:.0%}' for name, count in others[:2])])
