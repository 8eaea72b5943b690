"""Images that cannot be read: listed in one file of the run, counted, and tolerated up to a limit."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from clear.core.errors import ConfigError, DataError


class BadSampleError(DataError):
    """One image that cannot be read, where nothing may stand in for it."""


class BadSamples:
    """The list of unreadable images of a run, shared by its processes and kept over restarts.

    Each is one JSON line (split, bucket, id, reason) in `path`, once per split and id. The file is read again
    before it is added to, so counts hold over loader workers, ranks and restarts.

    Args:
        path: `work_dir/bad_samples.jsonl`; None keeps the list in memory, per process.
        total: images per split over the whole stream, e.g. `{'train': 23100, 'test': 9900}`.
        max_bad_fraction: share of a split that may be bad, 0 ... 1.

    Raises:
        ConfigError: if `max_bad_fraction` is outside its range.
    """

    def __init__(self, path: str | Path | None, total: dict[str, int], max_bad_fraction: float = 0.01):
        if not 0 <= max_bad_fraction <= 1:
            raise ConfigError(f'max_bad_fraction is {max_bad_fraction}, expected a share from 0 to 1.')
        self.path = None if path is None else Path(path)
        self.total = dict(total)
        self.max_bad_fraction = max_bad_fraction
        self._records: dict[tuple[str, str], dict] = {}

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
            self._records[split, name] = record
        else:
            self._append(record)
        self._check(split)

    def records(self) -> list[dict]:
        """Everything reported so far, by any process."""
        if self.path is not None and self.path.is_file():
            self._parse(self.path.read_bytes())
        return list(self._records.values())

    def counts(self) -> dict[str, int]:
        """Bad images per split so far, by any process."""
        found = Counter(record['split'] for record in self.records())
        return {split: found[split] for split in self.total}

    def _append(self, record: dict) -> None:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            # Between reading and writing no other process may add the same line.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            content = self.path.read_bytes()
            self._parse(content)
            key = (record['split'], record['id'])
            if key not in self._records:
                # A process killed in the middle of its line must not spoil this one.
                start = '\n' if content and not content.endswith(b'\n') else ''
                os.write(descriptor, (start + json.dumps(record) + '\n').encode())
                self._records[key] = record
        finally:
            os.close(descriptor)

    def _parse(self, content: bytes) -> None:
        for line in content.splitlines():
            try:
                record = json.loads(line)
                self._records.setdefault((record['split'], record['id']), record)
            except (ValueError, KeyError, TypeError):
                continue  # the half line of a killed process; its image is reported again when it is read again

    def _check(self, split: str) -> None:
        bad = sum(known == split for known, _ in self._records)
        total = self.total[split]
        if bad > self.max_bad_fraction * total:
            where = f'Listed in {self.path}.' if self.path is not None else \
                f'Last: {next(reversed(self._records.values()))}.'
            raise DataError(f'{bad} of {total} {split} images cannot be read ({bad / max(total, 1):.1%}), more than '
                            f'max_bad_fraction = {self.max_bad_fraction:.1%}. {where} Repair the data, or raise '
                            'max_bad_fraction to go on without them.')
