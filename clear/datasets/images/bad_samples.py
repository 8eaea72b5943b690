"""Images that cannot be read: listed in one file of the run, counted, and tolerated up to a limit."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from clear.core.checks import check_number
from clear.core.errors import DataError
from clear.core.files import parse_json


class BadSampleError(DataError):
    """One image that cannot be read, where nothing may stand in for it."""


class BadSamples:
    """The list of unreadable images of a run, shared by its processes and kept over restarts.

    Each is one JSON line (split, bucket, id, reason) in `path`, once per split and id. What others added is read
    before anything is added, so counts hold over loader workers, ranks and restarts; no line is read twice.

    Args:
        path: `work_dir/bad_samples.jsonl`; None keeps the list in memory, per process.
        total: images per split over the whole stream, e.g. `{'train': 23100, 'test': 9900}`.
        max_bad_fraction: share of a split that may be bad, 0 ... 1.

    Raises:
        ConfigError: if `max_bad_fraction` is outside its range.
    """

    def __init__(self, path: str | Path | None, total: dict[str, int], max_bad_fraction: float = 0.01):
        check_number('max_bad_fraction', max_bad_fraction, 0, 1)
        self.path = None if path is None else Path(path)
        self.total = dict(total)
        self.max_bad_fraction = max_bad_fraction
        self._records: dict[tuple[str, str], dict] = {}
        self._counts: Counter[str] = Counter()
        self._read_bytes = 0  # of the file, up to the end of a line

    def report(self, split: str, bucket: str, name: str, reason: str) -> None:
        """Note that image `name` (its id) of `split` is bad. Known ones cost nothing.

        Raises:
            DataError: if more than `max_bad_fraction` of the split is now bad.
        """
        if split not in self.total:
            raise ValueError(f"split '{split}' has no total; known: {', '.join(self.total)}.")
        if (split, name) in self._records:
            return
        record = {'split': split, 'bucket': bucket, 'id': name, 'reason': reason}
        if self.path is None:
            self._add(record)
        else:
            self._append(record)
        self._check(split)

    def records(self) -> list[dict]:
        """Everything reported so far, by any process."""
        if self.path is not None and self.path.is_file():
            with self.path.open('rb') as file:
                self._read_new(file.fileno())
        return list(self._records.values())

    def counts(self) -> dict[str, int]:
        """Bad images per split so far, by any process."""
        self.records()
        return {split: self._counts[split] for split in self.total}

    def _append(self, record: dict) -> None:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            # Between reading and writing no other process may add the same line.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            rest = self._read_new(descriptor)
            if self._add(record):
                # A process killed in the middle of its line must not spoil this one.
                line = ('\n' if rest else '') + json.dumps(record) + '\n'
                os.write(descriptor, line.encode())
                self._read_bytes += rest + len(line)
        finally:
            os.close(descriptor)

    def _read_new(self, descriptor: int) -> int:
        """Take what was added to the file since the last look; the number of bytes after its last end of line."""
        size = os.fstat(descriptor).st_size
        if size < self._read_bytes:
            self._read_bytes = 0  # somebody put another file there
        content = os.pread(descriptor, size - self._read_bytes, self._read_bytes)
        for line in content.splitlines():
            try:
                self._add(parse_json(line, 'a line'))
            except (DataError, KeyError, TypeError):
                continue  # the half line of a killed process; its image is reported again when it is read again
        whole = content.rfind(b'\n') + 1
        self._read_bytes += whole
        return len(content) - whole

    def _add(self, record: dict) -> bool:
        """Whether the record is new."""
        key = (record['split'], record['id'])
        if key in self._records:
            return False
        self._records[key] = record
        self._counts[record['split']] += 1
        return True

    def _check(self, split: str) -> None:
        bad = self._counts[split]
        total = self.total[split]
        if bad > self.max_bad_fraction * total:
            where = f'Listed in {self.path}.' if self.path is not None else \
                f'Last: {next(reversed(self._records.values()))}.'
            raise DataError(f'{bad} of {total} {split} images cannot be read ({bad / max(total, 1):.1%}), more than '
                            f'max_bad_fraction = {self.max_bad_fraction:.1%}. {where} Repair the data, or raise '
                            'max_bad_fraction to go on without them.')
