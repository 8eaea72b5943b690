"""Progress in a notebook: a bar below the cell that is replaced, where a terminal's would leave lines behind."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from html import escape

_BETWEEN_S = 0.5


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this process; imports nothing."""
    find = getattr(sys.modules.get('IPython'), 'get_ipython', None)
    return find is not None and hasattr(find(), 'kernel')


class CellBar:
    """What this framework calls of `tqdm`, shown as one output of the cell and renewed at most twice a second.

    Args:
        title: in front of the bar.
        total: what is counted to; None while it is unknown.
        unit: of what is counted; 'B' shows MiB.
        done: where it begins.
    """

    def __init__(self, title: str = '', total: int | None = None, unit: str = 'it', done: int = 0):
        from IPython.display import display

        self.total, self.n = total, done
        self._title, self._unit, self._postfix, self._begun_at = title, unit.strip(), '', done
        self._started, self._shown = time.monotonic(), 0.0
        self._handle = display(self, display_id=True)

    def update(self, count: int = 1) -> None:
        self.n += count
        if time.monotonic() - self._shown >= _BETWEEN_S:
            self._show()

    def set_description_str(self, title: str, refresh: bool = True) -> None:
        self._title = title

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        self._postfix = text

    def clear(self) -> None:
        """Nothing: lines of the log stand above or below it, not in its place."""

    def close(self) -> None:
        self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self._handle is not None:
            self._handle.update(self)

    def __repr__(self) -> str:
        scale = 2**20 if self._unit == 'B' else 1
        counts = [f'{count / scale:,.{1 if scale > 1 else 0}f}' for count in (self.n, self.total) if count is not None]
        passed = time.monotonic() - self._started
        made = self.n - self._begun_at
        left = passed / made * max(self.total - self.n, 0) if made > 0 and self.total is not None else None
        times = [str(timedelta(seconds=round(passed))), *([f'ETA {timedelta(seconds=round(left))}'] if left else [])]
        unit = 'MiB' if self._unit == 'B' else self._unit
        return '  '.join(filter(None, [self._title, f'{" of ".join(counts)} {unit}', self._postfix, *times]))

    def _repr_html_(self) -> str:
        share = f' value="{self.n}" max="{self.total}"' if self.total else ''
        return f'<div><progress{share} style="width: 12em"></progress> {escape(repr(self))}</div>'
