"""The folder of a run: who may write into it, and what becomes of the run that it held before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.errors import ConfigError
from clear.core.files import remove_left_overs, write_text
from clear.core.logs import setup_logging, write_environment
from clear.core.results import RESULTS_FILE, software
from clear.core.storage.locks import locked
from clear.core.storage.tracking import WANDB_ID
from clear.engine.checkpoint import ITERATION, LATEST, OUTDATED_FILE, find_checkpoint
from clear.engine.repeats import SUMMARY_FILE
from clear.engine.runners import runners

if TYPE_CHECKING:
    from mmengine.config import Config

# What every runner writes, beside its own `FILES`.
COMMON_FILES = (RESULTS_FILE, 'run.log', 'env.txt', 'config.py', 'bad_samples.jsonl', OUTDATED_FILE)
LOCK_FILE = '.lock'
# An old run that makes room for a new one: while its files are moved, either way; while the new one is built; while
# it is removed. A kill leaves one of them, and the next run in the folder knows by its name what is to be done.
MOVING, REPLACED, GONE = '.replaced.moving', '.replaced', '.replaced.gone'


def file_patterns() -> tuple[str, ...]:
    """Names and patterns of what a run of any runner writes: the one before may have been another's."""
    return tuple(dict.fromkeys([*COMMON_FILES, *(name for runner in runners().values() for name in runner.FILES)]))


def run_files(work_dir: Path) -> list[Path]:
    """The files of a run in its folder, and the folders that W&B makes for one."""
    found = []
    for name in file_patterns():
        if any(sign in name for sign in '*?['):
            found += sorted(work_dir.glob(name))
        elif (work_dir / name).is_file():
            found.append(work_dir / name)
    return list(dict.fromkeys(found))


def refuse_run(work_dir: Path, folders: Iterable[Path]) -> None:
    """Refuse to begin anew where a run is, or those of seeds or of a sweep; one that saved nothing is none.

    Raises:
        ConfigError: if one of `folders`, or a seed's folder in it, holds results or a checkpoint.
    """
    if any(_holds_run(place) for folder in {work_dir, *folders} for place in (folder, *folder.glob('seed_*'))):
        raise ConfigError(f'{work_dir} already holds a run. Continue it with --resume, replace it with --overwrite, or '
                          'choose another folder with --work-dir.')


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (RESULTS_FILE, LATEST, ITERATION, SUMMARY_FILE))


def outdate_runs(folders: Iterable[Path]) -> None:
    """Note in those of the folders that hold a run that it is to be replaced. Replacing it takes the note away."""
    if dist.is_main():
        for folder in filter(_holds_run, folders):
            write_text(folder / OUTDATED_FILE, 'A sweep that was begun with --overwrite has still to replace this.\n')


@contextmanager
def held(work_dir: Path) -> Iterator[None]:
    """Hold a folder, which is made if need be, for one run; its processes share it.

    What a run that was killed left there is put in order: the old run that it was to replace is put back, and files
    under temporary names are removed.

    Raises:
        ConfigError: if the folder cannot be made, or another run writes into it.
    """
    with ExitStack() as stack:
        dist.in_agreement(lambda: _hold(work_dir, stack) if dist.is_main() else None)
        yield


def _hold(work_dir: Path, stack: ExitStack) -> None:
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'work_dir {work_dir} cannot be made: {error.strerror}.') from error
    stack.enter_context(locked(work_dir / LOCK_FILE, 'Wait until that run has ended or stop it, or choose another '
                               'folder with --work-dir.'))
    _put_back(work_dir)
    shutil.rmtree(work_dir / GONE, ignore_errors=True)
    names = file_patterns()
    for folder in sorted({(work_dir / name).parent for name in names}):
        remove_left_overs(folder, [Path(name).name for name in names])


@contextmanager
def claimed(work_dir: Path, resume: str | bool | None, overwrite: bool) -> Iterator[None]:
    """Hold the folder of a single run, whose checkpoint is there if it is to be resumed.

    Raises:
        ConfigError: as `held`; or if another run's results are there, and they are neither to be resumed nor replaced.
        CheckpointError: if there is nothing to resume.
    """
    if resume and not work_dir.is_dir():
        find_checkpoint(resume, work_dir)  # makes no folder where there is none
    with held(work_dir):
        if resume:
            find_checkpoint(resume, work_dir)
        elif not overwrite:
            dist.in_agreement(lambda: refuse_run(work_dir, [work_dir]) if dist.is_main() else None)
        yield


@contextmanager
def replacing(work_dir: Path, overwrite: bool, parts: Sequence[Path] = ()) -> Iterator[Callable[[], None]]:
    """Set the files of an old run aside while a new one is built, and put them back if it cannot be.

    Args:
        parts: folders in `work_dir` that belong to the run, e.g. of its seeds.

    Yields:
        What to call when the new run is built: the old one goes then, else at the end of the block.
    """
    is_waiting = overwrite
    if overwrite and dist.is_main():
        _set_aside(work_dir, [work_dir, *parts])
    dist.barrier()

    def built() -> None:
        nonlocal is_waiting
        if not is_waiting:
            return
        dist.barrier()
        is_waiting = False
        if dist.is_main():
            (work_dir / REPLACED).rename(work_dir / GONE)
            shutil.rmtree(work_dir / GONE, ignore_errors=True)

    try:
        yield built
        built()
    except BaseException:
        if is_waiting and dist.is_main():
            _put_back(work_dir)
        raise


def _set_aside(work_dir: Path, folders: Sequence[Path]) -> None:
    moving = work_dir / MOVING
    for folder in folders:
        (moving / folder.relative_to(work_dir)).mkdir(parents=True, exist_ok=True)
        for path in run_files(folder):
            _move(path, moving / path.relative_to(work_dir))
    moving.rename(work_dir / REPLACED)


def _put_back(work_dir: Path) -> None:
    """Put an old run back that was set aside, if there is one; what its successor has written goes."""
    replaced, moving = work_dir / REPLACED, work_dir / MOVING
    if replaced.is_dir():
        for folder in (work_dir, *(work_dir / part.name for part in replaced.iterdir()
                                   if part.name.startswith(('seed_', 'bucket_')))):
            for path in run_files(folder):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        replaced.rename(moving)
    for root, folders, names in os.walk(moving):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(root) / name
            _move(path, work_dir / path.relative_to(moving))
    shutil.rmtree(moving, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def start_logs(work_dir: Path, cfg: Config, is_resumed: bool) -> None:
    """Log into the folder from now on; keep the config and the environment there."""
    setup_logging(work_dir)
    keep_config(work_dir, lambda: cfg.pretty_text, is_resumed)


def keep_config(work_dir: Path, text: Callable[[], str], is_resumed: bool) -> None:
    """Write the config of a run, whose text is asked for if need be, and the environment into its folder."""
    if dist.is_main():
        # A resume that is refused must leave the config of the run that is there.
        if not (is_resumed and (work_dir / 'config.py').is_file()):
            write_text(work_dir / 'config.py', text())
        if not is_resumed:
            (work_dir / WANDB_ID).unlink(missing_ok=True)  # of a run that was killed before it saved anything
        write_environment(work_dir / 'env.txt', **software())
