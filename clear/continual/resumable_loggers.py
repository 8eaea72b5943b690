"""Avalanche's loggers whose records outlive a stop: a resumed run goes on in them, and nothing is in them twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO

from avalanche.logging import CSVLogger, TensorboardLogger, WandBLogger

from clear.core.files import write_text
from clear.core.storage.tracking import cut_events, event_file, event_sizes

# File -> header, and the column that says through which experience the model was trained.
FILES = {'training_results.csv': ('training_exp,epoch,training_accuracy,val_accuracy,training_loss,val_loss', 0),
         'eval_results.csv': ('eval_exp,training_exp,eval_accuracy,eval_loss,forgetting', 1)}


class ResumableLogger(ABC):
    """What a checkpoint asks of a logger."""

    @abstractmethod
    def log_state(self) -> dict[str, int]:
        """How far the records are, for a checkpoint."""

    @abstractmethod
    def resume(self, state: dict[str, int] | None, finished: int) -> None:
        """Go on behind what a checkpoint knew of.

        Args:
            state: of `log_state`; None in checkpoints of an earlier version.
            finished: experiences that the checkpoint has behind it.
        """


class ResumableCSVLogger(ResumableLogger, CSVLogger):
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
        for name in FILES:
            self._file(name).flush()
        return {name: len(self._rows(name)) for name in FILES}

    def resume(self, state: dict[str, int] | None, finished: int) -> None:
        # Without a state the rows of finished experiences are kept.
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


class ResumableTensorboardLogger(ResumableLogger, TensorboardLogger):
    """Avalanche's, whose event files are cut back to a checkpoint.

    Args:
        is_shared: the folder is not the run's own, and files that it does not know are left alone.
    """

    def __init__(self, tb_log_dir: str, filename_suffix: str = '', is_shared: bool = False):
        super().__init__(tb_log_dir, filename_suffix)
        self.is_shared = is_shared
        self._known: set[str] = set()

    def log_state(self) -> dict[str, int]:
        self.writer.flush()
        return event_sizes(self.writer.log_dir, {*self._known, event_file(self.writer)})

    def resume(self, state: dict[str, int] | None, finished: int) -> None:
        if state is None:
            return
        opened = Path(self.writer.log_dir) / event_file(self.writer)
        self.writer.close()
        opened.unlink()  # empty so far
        cut_events(self.writer.log_dir, state, self.is_shared)
        self._known = set(state)
        self.writer = self._make_writer(self.writer.log_dir, self.writer.filename_suffix)


class ResumableWandBLogger(ResumableLogger, WandBLogger):
    """Avalanche's, which goes on counting experiences and steps. W&B takes no step twice."""

    def log_state(self) -> dict[str, int]:
        return dict(step=self.step, exp_count=self.exp_count)

    def resume(self, state: dict[str, int] | None, finished: int) -> None:
        self.step, self.exp_count = (state['step'], state['exp_count']) if state else (self.step, finished)
