"""The log of a run: the console, `run.log`, and a page about the machine and the libraries."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clear.core import dist
from clear.core.errors import printable, unwritable
from clear.core.files import write_text
from clear.core.programs.cells import CellBar, in_notebook
from clear.core.programs.heartbeat import said

logger = logging.getLogger('clear')

Report = Callable[[int, int | None], None]  # (done, total); total is None while it is unknown


class _Printable(logging.Formatter):
    """Names of files and classes may hold control characters: the log shows them as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        said()
        return printable(super().format(record))


def setup_logging(work_dir: Path | None) -> logging.Logger:
    """Send the `clear` log to the console and, with a folder, to `work_dir/run.log`. Other ranks only warn."""
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO if dist.is_main() else logging.WARNING)
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(_Printable('%(message)s'))
    logger.addHandler(console)
    if work_dir is not None and dist.is_main():
        logger.addHandler(run_log(work_dir))
    return logger


def run_log(work_dir: Path) -> logging.Handler:
    """What writes to `work_dir/run.log`; the folder is made if need be."""
    work_dir.mkdir(parents=True, exist_ok=True)
    try:
        file = _RunLog(work_dir / 'run.log')
    except OSError as error:
        raise unwritable(work_dir / 'run.log', error) from error
    file.setFormatter(_Printable('%(asctime)s %(levelname)s %(message)s'))
    return file


class _RunLog(logging.FileHandler):
    """Stops the run where a line cannot be written; `logging` would print a traceback for each."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise unwritable(self.baseFilename, error) from error
        super().handleError(record)


def write_environment(path: Path, versions: dict[str, str | None], git: dict | None) -> None:
    """Write the machine, the libraries, the commit and the command line to `path`."""
    import torch

    lines = [f'command: {" ".join(sys.argv)}', f'python: {sys.version.split()[0]}', f'platform: {platform.platform()}',
             f'cpus: {os.cpu_count()}', f'torch threads: {torch.get_num_threads()}',
             f'processes: {dist.world_size()}',
             'gpus: ' + (', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or 'none'),
             f'git: {git}']
    lines += [f'{name}: {version}' for name, version in versions.items()]
    write_text(path, '\n'.join(lines) + '\n')


@contextmanager
def progress_bar(title: str, unit: str = 'files') -> Iterator[Report]:
    """Show a bar with an ETA on stderr, in a notebook below the cell, from the first report on.

    The block gets the function to report with. With `unit='B'` the counts are bytes and shown as MiB, GiB.
    """
    from tqdm import tqdm

    scaled = unit == 'B'
    bar = None

    def report(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None and in_notebook():
            bar = CellBar(title, total, unit, done if scaled else 0)
        elif bar is None:
            bar = tqdm(desc=title, unit=unit if scaled else f' {unit}', unit_scale=scaled, unit_divisor=1024,
                       total=total, initial=done if scaled else 0,  # a resumed download does not start at zero
                       mininterval=0.2 if sys.stderr.isatty() else 8.0)
        bar.total = total
        if bar.update(done - bar.n):
            said()

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
