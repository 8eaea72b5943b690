"""A bank in the making: blocks of rows that are finished one by one, in any order, by any process.

::

    OUT.partial/plan.json            what is being made; written when the arrays below have their disk space
    OUT.partial/features.npy, ...    arrays of full size, filled block by block
    OUT.partial/done/<block>.json    a finished block: its unreadable images, and a sum over them and its rows

A block is noted in `done/` only after its rows are on disk, so a kill at any moment loses at most the blocks under
way, and doing one again writes the same bytes. Whoever goes on believes no note whose sum the arrays do not give.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from clear.core import dist
from clear.core.errors import BusyError, ConfigError, DataError
from clear.core.files import read_json, remove_left_overs, write_json
from clear.core.logs import logger, progress_bar
from clear.core.storage.locks import locked
from clear.features.bank import META_FILE, Meta
from clear.features.identity import Identity, require_same
from clear.features.writing import allocate_array, remove_folder, room_on_disk, write_rows

if TYPE_CHECKING:
    from clear.core.types import Plain

# Called with (done, to do) of this process.
Report = Callable[[int, int], None]


class Plan(TypedDict):
    """What blocks make: the bank, its rows and those of a block, images in a forward pass, array -> shape of a row."""

    identity: Identity
    count: int
    block_size: int
    batch_size: int
    arrays: dict[str, list[int]]


class BlockFolder:
    """The folder `<out>.partial`.

    Args:
        out: the bank to be.
        plan: `identity`, `count`, `block_size`, `batch_size`, and `arrays`: name -> row shape.
    """

    def __init__(self, out: Path, plan: Plan):
        self.out = out
        self.path = out.with_name(f'{out.name}.partial')
        self.plan = plan
        self._done = self.path / 'done'

    @property
    def num_blocks(self) -> int:
        return -(-self.plan['count'] // self.plan['block_size'])

    def block_range(self, block: int) -> tuple[int, int]:
        """First row of a block and the one after its last."""
        start = block * self.plan['block_size']
        return start, min(start + self.plan['block_size'], self.plan['count'])

    def prepare(self, resume: bool) -> None:
        """Make the folder, or check that the one there belongs to this plan. For one process only.

        Raises:
            DataError: if the folder belongs to another bank, or the disk is full.
            ConfigError: if it was begun with another block or batch size.
        """
        remove_left_overs(self.path, ('plan.json', META_FILE))
        source = self.path / (META_FILE if self.is_complete else 'plan.json')
        if not resume or not source.is_file():
            self._start_over()
            return
        old = _read_plan(source)
        if old is None:
            self._start_over(f'{source.name} is damaged')
            return
        require_same(str(self.path), old['identity'], self.plan['identity'],
                     'Write to another folder, or delete this one (resume=False, --no-resume).')
        for key in ('block_size', 'batch_size', 'count', 'arrays'):
            if not self.is_complete and old.get(key) != self.plan[key]:
                raise ConfigError(f'{self.path} was begun with {key} {old.get(key)}, not {self.plan[key]}. Continue '
                                  'with that value, or start over (resume=False, --no-resume).')
        if not self._has_arrays():
            self._start_over('an array is not whole')
        elif not self.is_complete:
            self._done.mkdir(exist_ok=True)
            for note in sorted(self._done.iterdir()):
                if not self._is_true(note):
                    shutil.rmtree(note) if note.is_dir() else note.unlink()

    @property
    def is_complete(self) -> bool:
        """Whether only the new name is missing: `meta.json` is written after everything else."""
        return (self.path / META_FILE).is_file()

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.path / f'{name}.npy', mmap_mode='r', allow_pickle=False)

    def _has_arrays(self) -> bool:
        """Whether every array is there in its type and full size."""
        try:
            return all(self._array(name).dtype == np.dtype(self.plan['identity']['dtype'])
                       and self._array(name).shape == (self.plan['count'], *shape)
                       for name, shape in self.plan['arrays'].items())
        except (OSError, ValueError, EOFError):
            return False

    def _is_true(self, note: Path) -> bool:
        """Whether a note in `done/` belongs to a block of this plan whose rows are on disk as they were noted."""
        block = int(note.stem) if note.stem.isascii() and note.stem.isdigit() and len(note.stem) == 8 else -1
        if note.suffix != '.json' or not 0 <= block < self.num_blocks:
            return False
        try:
            found = read_json(note)
        except DataError:
            return False
        start, stop = self.block_range(block)
        rows = {name: self._array(name)[start:stop] for name in self.plan['arrays']}
        return isinstance(found, dict) and found.get('sum') == _sum(rows, found.get('bad'))

    def _start_over(self, reason: str = '') -> None:
        if reason:
            logger.warning('%s: %s. The extraction starts over.', self.path, reason)
        found = {path.name for path in self.path.iterdir()} - {'lock'}
        if found and not found & {'plan.json', 'done', META_FILE}:
            raise DataError(f'{self.path} holds files that no extraction wrote. Move it away.')
        for name in sorted(found, key=lambda name: name != 'plan.json'):  # first what says that the rest is whole
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._done.mkdir()
        with room_on_disk(self.path):
            for name, shape in self.plan['arrays'].items():
                allocate_array(self.path / f'{name}.npy', self.plan['identity']['dtype'],
                               (self.plan['count'], *shape))
            write_json(self.path / 'plan.json', self.plan)

    def missing(self) -> list[int]:
        """Blocks that are not finished, in order."""
        finished = {path.stem for path in self._done.glob('*.json')}
        return [block for block in range(self.num_blocks) if f'{block:08}' not in finished]

    def write_block(self, block: int, arrays: dict[str, np.ndarray], bad: list[dict]) -> None:
        """Store the rows of a block, then note it as finished.

        Raises:
            DataError: if the disk is full.
        """
        with room_on_disk(self.path):
            for name, rows in arrays.items():
                write_rows(self.path / f'{name}.npy', self.block_range(block)[0], rows)
            write_json(self._done / f'{block:08}.json', {'bad': bad, 'sum': _sum(arrays, bad)})

    def bad_samples(self) -> list[dict]:
        """Records of the unreadable images of all finished blocks, in row order."""
        return [record for path in sorted(self._done.glob('*.json')) for record in read_json(path)['bad']]

    def publish(self) -> None:
        """Give the complete folder its name; a bank that was there before goes."""
        shutil.rmtree(self._done, ignore_errors=True)
        for name in ('plan.json', 'lock'):
            (self.path / name).unlink(missing_ok=True)
        old = self.out.with_name(f'.{self.out.name}.old')
        for _ in range(2):  # one that a kill left, then the one replaced now
            if old.exists():
                remove_folder(old)
            if self.path.exists():
                if self.out.exists():
                    self.out.replace(old)
                self.path.replace(self.out)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other runs. The lock goes with the process, however that ends.

        Raises:
            BusyError: if another run holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / 'lock', 'Wait until that extraction has ended, or stop it.', BusyError):
            yield


def _read_plan(path: Path) -> Plan | Meta | None:
    """What `plan.json` or `meta.json` say, or None if they are damaged."""
    try:
        plan = read_json(path)
    except DataError:
        return None
    return plan if isinstance(plan, dict) and isinstance(plan.get('identity'), dict) else None


def _sum(arrays: dict[str, np.ndarray], bad: list[dict[str, Plain]]) -> int:
    """CRC-32 of a block's rows, array by array, and of its unreadable images."""
    value = zlib.crc32(json.dumps(bad).encode())
    for name in sorted(arrays):
        value = zlib.crc32(memoryview(np.ascontiguousarray(arrays[name])).cast('B'), value)
    return value


def fill_blocks(folder: BlockFolder, encode: Callable[[list[int], Report | None], None], finish: Callable[[], None],
                resume: bool, progress: Report | None, unit: str) -> None:
    """Do the missing blocks of a folder, a contiguous part of them in each process, then publish it.

    Args:
        encode: writes the given blocks; called with them and with what to report progress to.
        finish: writes what else belongs to the bank and publishes it; called in the main process.
        resume: False throws unfinished work away.
        progress: called with (done, to do) of this process; by default the main process shows a bar.
        unit: what the bar counts.
    """
    with dist.patient_group() as group, ExitStack() as held:
        if progress is None and dist.is_main():
            progress = held.enter_context(progress_bar('encode', unit))
        dist.in_agreement(lambda: _begin(folder, resume, held) if dist.is_main() else None, group)
        # Listed before anyone writes, so that all processes divide the same list.
        todo = [] if folder.is_complete else _shard(folder.missing())
        dist.barrier()
        dist.in_agreement(lambda: encode(todo, progress), group)
        dist.in_agreement(lambda: finish() if dist.is_main() else None, group)


def _shard(blocks: list[int]) -> list[int]:
    """This process's contiguous part of the blocks that are left."""
    rank, size = dist.rank(), dist.world_size()
    return blocks[len(blocks) * rank // size:len(blocks) * (rank + 1) // size]


def _begin(folder: BlockFolder, resume: bool, held: ExitStack) -> None:
    held.enter_context(folder.locked())
    folder.prepare(resume)
