"""Avalanche's CSV logger whose files outlive a stop."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from avalanche.logging import CSVLogger

from clear.core.files import write_text

# File -> header, and the column that says through which experience the model was trained.
FILES = {'training_results.csv': ('training_exp,epoch,training_accuracy,val_accuracy,training_loss,val_loss', 0),
         'eval_results.csv': ('eval_exp,training_exp,eval_accuracy,eval_loss,forgetting', 1)}


class ResumableCSVLogger(CSVLogger):
    """Avalanche's empties its files when it is built. This one begins them with its first row, or goes on in them.

    Args:
        log_folder: of `training_results.csv` and `eval_results.csv`.
    """

    def __init__(self, log_folder: str):
        super(CSVLogger, self).__init__()  # not Avalanche's own, which opens and empties the files
        self.log_folder = log_folder
        self.training_exp_id = self.in_train_phase = None
        self.val_acc, self.val_loss = 0, 0
        self._files: dict[str, IO] = {}

    @property
    def training_file(self) -> IO:
        return self._file('training_results.csv')

    @property
    def eval_file(self) -> IO:
        return self._file('eval_results.csv')

    def log_state(self) -> dict[str, int]:
        """How many rows each file has, for a checkpoint."""
        for name in FILES:
            self._file(name).flush()
        return {name: len(self._rows(name)) for name in FILES}

    def resume(self, state: dict[str, int] | None, finished: int) -> None:
        """Go on behind the rows that a checkpoint counted.

        Args:
            state: of `log_state`; None (of an earlier version) keeps the rows of finished experiences.
            finished: how many there are.
        """
        for name, (_, column) in FILES.items():
            rows = self._rows(name)
            self._begin(name, rows[:state[name]] if state else
                        [row for row in rows if _experience(row, column) < finished])

    def _file(self, name: str) -> IO:
        if name not in self._files:
            self._begin(name, [])
        return self._files[name]

    def _begin(self, name: str, rows: list[str]) -> None:
        path = Path(self.log_folder) / name
        write_text(path, ''.join(f'{line}\n' for line in (FILES[name][0], *rows)))
        self._files[name] = path.open('a')

    def _rows(self, name: str) -> list[str]:
        """The whole rows of a file; one that a kill has torn is left out."""
        path = Path(self.log_folder) / name
        return path.read_bytes().decode(errors='replace').split('\n')[1:-1] if path.is_file() else []


def _experience(row: str, column: int) -> float:
    try:
        return int(row.split(',')[column])
    except (IndexError, ValueError):
        return float('inf')
