"""What is done of a shard that is not finished: kept on the disk record by record, through any kill.

    STAGE/ledger/000003/NAME.jsonl    a line for each record that is done
    STAGE/ledger/000003/NAME.bodies   the bytes of those images that are kept, in the order of their arrival

Every attempt at a shard writes files of its own, and reads those of all before it, if they are of the same plan. Bytes
are on the disk before the line that speaks of them. When the shard is published the bodies go; the lines stay, and tell
of attempts and times.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clear.core.errors import NO_ROOM, WriteError
from clear.curation.filters import KEPT
from clear.curation.manifest import StageFolder

LEDGER = 'ledger'


@dataclass(frozen=True)
class Entry:
    """What became of a record.

    Attributes:
        row: of the shard.
        outcome: 'ok', or why there is no image.
        file, offset, bytes: where the body lies; None and 0 without one.
        width, height, format, sha256: of the image.
    """

    row: int
    outcome: str
    file: Path | None = None
    offset: int = 0
    bytes: int = 0
    width: int = 0
    height: int = 0
    format: str = ''
    sha256: str = ''


@dataclass(frozen=True)
class Note:
    """A record that was just done, to be entered.

    Attributes:
        entry: without a place of its body.
        body: of an image that is kept, else empty.
        told: what else the line should say, e.g. attempts.
    """

    entry: Entry
    body: bytes
    told: dict[str, str | int]


class Ledger:
    """The ledger of a shard; one thread at a time may add to it.

    Args:
        folder: of the stage.
        shard: its number.
        temporary: outcomes that are not final: any other entry of the same record counts more.

    Attributes:
        entries: row -> what became of it.
    """

    def __init__(self, folder: StageFolder, shard: int, temporary: Collection[str] = ()):
        self.folder = folder.path / LEDGER / f'{shard:06d}'
        self._plan = folder.plan_checksum() or ''
        self.temporary = frozenset(temporary)
        self.entries: dict[int, Entry] = {}
        part = f'{time.time_ns():020d}.{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}'
        self._lines_path, self._bodies_path = self.folder / f'{part}.jsonl', self.folder / f'{part}.bodies'
        self._lines: BinaryIO | None = None
        self._bodies: BinaryIO | None = None
        # Held open: another attempt may publish the shard and remove them meanwhile.
        self._opened: dict[Path, BinaryIO] = {}
        for path in sorted(self.folder.glob('*.jsonl')):
            for entry in self._read(path):
                self.take(entry)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._lines, self._bodies, *self._opened.values()):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was told of when it was written
                    file.close()

    def take(self, entry: Entry) -> None:
        """Know of an entry, unless there is a better one."""
        before = self.entries.get(entry.row)
        if before is None or before.outcome in self.temporary:
            self.entries[entry.row] = entry

    def is_final(self, row: int) -> bool:
        """Whether a record needs not be fetched again."""
        entry = self.entries.get(row)
        return entry is not None and entry.outcome not in self.temporary

    def add(self, notes: Sequence[Note]) -> None:
        """Enter records that are done; they are on the disk when this returns.

        Raises:
            WriteError: if there is no room.
        """
        with writing_to(self.folder):
            if self._lines is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._bodies, self._lines = self._bodies_path.open('wb', 0), self._lines_path.open('wb', 0)
                _write_all(self._lines, [(json.dumps(dict(plan=self._plan)) + '\n').encode()])
                _sync_folder(self.folder)
            entered, lines, place = [], [], self._bodies.tell()
            for note in notes:
                entry = note.entry
                told: dict[str, str | int] = dict(row=entry.row, outcome=entry.outcome)
                if entry.outcome == KEPT:
                    entry = Entry(entry.row, entry.outcome, self._bodies_path, place, len(note.body), entry.width,
                                  entry.height, entry.format, entry.sha256)
                    told |= dict(offset=place, bytes=entry.bytes, width=entry.width, height=entry.height,
                                 format=entry.format, sha256=entry.sha256)
                    place += len(note.body)
                entered.append(entry)
                lines.append(json.dumps(told | note.told))
            _write_all(self._bodies, [note.body for note in notes if note.entry.outcome == KEPT])
            os.fsync(self._bodies.fileno())
            _write_all(self._lines, [('\n'.join(lines) + '\n').encode()])
            os.fsync(self._lines.fileno())
        for entry in entered:
            self.take(entry)

    def body(self, entry: Entry) -> bytes:
        """The bytes of an image."""
        file = self._opened.get(entry.file)
        if file is None and entry.file is not self._bodies_path:
            with entry.file.open('rb') as file:
                return os.pread(file.fileno(), entry.bytes, entry.offset)
        if file is None:
            self.hold(entry.file)
            file = self._opened[entry.file]
        return os.pread(file.fileno(), entry.bytes, entry.offset)

    def hold(self, path: Path) -> int:
        """Keep a file open of which several bodies will be read; its size, 0 if it is not there."""
        with contextlib.suppress(FileNotFoundError):
            if path not in self._opened:
                self._opened[path] = path.open('rb')
            return os.fstat(self._opened[path].fileno()).st_size
        return 0

    def remove_bodies(self) -> None:
        """The shard is published: its images lie there."""
        for path in self.folder.glob('*.bodies'):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Iterator[Entry]:
        """Entries up to the first line that is damaged: what was written when the process or the machine stopped."""
        bodies = path.with_suffix('.bodies')
        size = self.hold(bodies)
        with path.open('rb') as file:
            for number, line in enumerate(file):
                try:
                    found = json.loads(line) if line.endswith(b'\n') else {}
                    if number == 0:
                        if found['plan'] != self._plan:
                            return
                        continue
                    entry = Entry(found['row'], found['outcome'])
                    if entry.outcome == KEPT:
                        entry = Entry(entry.row, entry.outcome, bodies, *(found[name] for name in (
                            'offset', 'bytes', 'width', 'height', 'format', 'sha256')))
                except (ValueError, KeyError, TypeError):
                    return
                if entry.offset + entry.bytes <= size:
                    yield entry


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the system's word for a full disk into ours.

    Raises:
        WriteError: saying what is kept.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        told = WriteError(f'{path} cannot be written: {error.strerror}. Free some space and go on with --resume: what '
                          'was fetched before stands in the ledger and is not fetched again.')
        told.errno = error.errno
        raise told from error


def _write_all(file: BinaryIO, pieces: Sequence[bytes]) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    for piece in pieces:
        data = memoryview(piece)
        while data:
            data = data[file.write(data):]


def _sync_folder(folder: Path) -> None:
    for path in (folder, folder.parent):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
