"""The folder of a stage: its plan, a receipt for each finished shard, and at the end the manifest of everything in it.

    STAGE/plan.json                 written before the first shard runs: inputs, config, shards, what they share
    STAGE/shards/000007/            one shard's files and its receipt.json; there as a whole, or not at all
    STAGE/former/000007/            a finished shard that is made again, as it was
    STAGE/tmp/                      what attempts are writing
    STAGE/manifest.json             written last: the plan, all receipts in order, sums, versions
    STAGE/timing.json               when and how long, on which machine: the one file that differs between runs

The folder is the only state. Nothing in plan, receipts or manifest tells a time, a machine or an absolute path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import DataError
from clear.core.files import inside, read_json, write_json

if TYPE_CHECKING:
    from clear.core.types import Plain

SCHEMA = 1
PLAN, MANIFEST, RECEIPT, SHARDS, TEMPORARY = 'plan.json', 'manifest.json', 'receipt.json', 'shards', 'tmp'
FORMER = 'former'


@dataclass(frozen=True)
class Plan:
    """What a stage is going to do, fixed before its first shard runs.

    Attributes:
        shards: what each shard reads, plain; its place in the list is its number.
        values: what shards share, plain.
        jobs: numbers of the shards that one worker does in order, because they are read in one pass; None = each by
            itself.
    """

    shards: Sequence[Mapping[str, Plain]]
    values: Mapping[str, Plain]
    jobs: Sequence[Sequence[int]] | None = None


class StageFolder:
    """A stage's folder, to be read and to be filled.

    Args:
        path: the folder; need not exist.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str) -> dict | None:
        """A JSON file of the folder; None if it is not there.

        Raises:
            DataError: if it is damaged, or of another schema.
        """
        path = self.path / name
        if not path.exists():
            return None
        value = read_json(path)
        if not isinstance(value, dict) or value.get('schema') != SCHEMA:
            raise DataError(f'{path} is no {name} of schema {SCHEMA}. Remove {self.path} to make it again.')
        return value

    def shard_folder(self, shard: int) -> Path:
        return self.path / SHARDS / f'{shard:06d}'

    def receipt(self, shard: int) -> dict | None:
        """The receipt of a finished shard; None if it is not finished.

        Raises:
            DataError: if it is damaged.
        """
        return self.read(f'{SHARDS}/{shard:06d}/{RECEIPT}')

    def count(self) -> int:
        """How many shards are finished."""
        return sum(1 for _ in (self.path / SHARDS).glob('[0-9]*'))

    @contextlib.contextmanager
    def writing(self, shard: int, inputs: Mapping[str, str] | None = None) -> Iterator[Attempt]:
        """Fill a shard's folder; published as a whole when the block ends, unless another attempt was faster.

        Args:
            inputs: kind -> fingerprint of what was read; its receipt keeps them, and the checksum of the plan.
        """
        name = f'{shard:06d}.{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}'
        attempt, plan = Attempt(self.path / TEMPORARY / name), self.plan_checksum()
        attempt.folder.mkdir(parents=True)
        try:
            yield attempt
            files = [dict(name=path.relative_to(attempt.folder).as_posix(), bytes=path.stat().st_size,
                          sha256=_sha256(path)) for path in attempt.listed()]
            write_json(attempt.folder / RECEIPT, dict(schema=SCHEMA, shard=shard, plan=plan, inputs=dict(inputs or {}),
                                                      files=files, counts=attempt.counts))
            _publish(attempt.folder, self.shard_folder(shard))
        finally:
            shutil.rmtree(attempt.folder, ignore_errors=True)

    def former_folder(self, shard: int) -> Path:
        """Where a finished shard lies that is made again."""
        return self.path / FORMER / f'{shard:06d}'

    def take_back(self, shards: Sequence[int]) -> None:
        """Let a finished stage be unfinished: these shards are to be made again, and may use what they were.

        Only for who holds the folder's lock.
        """
        (self.path / MANIFEST).unlink()
        _sync(self.path)
        for shard in shards:
            self.former_folder(shard).parent.mkdir(exist_ok=True)
            self.shard_folder(shard).rename(self.former_folder(shard))

    def plan_checksum(self) -> str | None:
        """SHA-256 of `plan.json`; None without one."""
        path = self.path / PLAN
        return _sha256(path) if path.exists() else None

    def clear_attempts(self) -> None:
        """Remove what attempts that were killed have left; only for who holds the folder's lock."""
        shutil.rmtree(self.path / TEMPORARY, ignore_errors=True)

    def clear_strangers(self) -> None:
        """Remove shards that were made by another plan than the one that is here: of a worker that was late to learn
        that its run is over. Only for who holds the folder's lock.
        """
        plan = self.plan_checksum()
        for path in sorted((self.path / SHARDS).glob(f'*/{RECEIPT}')):
            if self.read(path.relative_to(self.path).as_posix()).get('plan', plan) != plan:
                shutil.rmtree(path.parent)


@dataclass
class Attempt:
    """One try at a shard.

    Attributes:
        folder: where its files go.
        counts: what its receipt says of it; the manifest has the sums over all shards.
        tabled: folders in it whose files, with size and SHA-256, are listed by a table of the shard: there may be too
            many for a receipt.
    """

    folder: Path
    counts: dict[str, int] = field(default_factory=dict)
    tabled: set[str] = field(default_factory=set)

    def listed(self) -> list[Path]:
        """The files that the receipt lists."""
        return [path for path in sorted(self.folder.rglob('*'))
                if path.is_file() and path.relative_to(self.folder).parts[0] not in self.tabled]


class Finished:
    """What a finished stage has made.

    Args:
        path: its folder.

    Raises:
        DataError: if it is not finished, or its manifest is damaged.
    """

    def __init__(self, path: str | Path):
        self.folder = StageFolder(Path(path))
        manifest = self.folder.read(MANIFEST)
        if manifest is None:
            hint = '' if Path(path).is_dir() else ' There is no such folder: was it moved?'
            raise DataError(f'{path} holds no finished stage ({MANIFEST} is not there).{hint}')
        self.manifest = manifest

    @property
    def fingerprint(self) -> str:
        return self.manifest['fingerprint']

    @property
    def counts(self) -> dict[str, int]:
        return self.manifest['counts']

    @property
    def summary(self) -> dict[str, Plain]:
        return self.manifest['summary']

    def __len__(self) -> int:
        return len(self.manifest['shards'])

    def file(self, shard: int, name: str) -> Path:
        """A file of a shard."""
        return inside(self.folder.shard_folder(shard), name)

    def files(self, name: str) -> list[Path]:
        """The files of a name of all shards that have one, in order."""
        return [self.file(entry['shard'], name) for entry in self.manifest['shards']
                if any(file['name'] == name for file in entry['files'])]

    def damage(self, checksums: bool = False) -> str:
        """What is wrong with the files that the manifest lists; empty if nothing is.

        Args:
            checksums: whether to read them all, not only look at their sizes.
        """
        for entry in self.manifest['shards']:
            for file in entry['files']:
                path = self.file(entry['shard'], file['name'])
                if not path.is_file():
                    return f'{path} is not there'
                if path.stat().st_size != file['bytes']:
                    return f'{path} has {path.stat().st_size} bytes, not {file["bytes"]}'
                if checksums and _sha256(path) != file['sha256']:
                    return f'the checksum of {path} does not match'
        return ''


def manifest_of(plan: Mapping[str, Plain], receipts: Sequence[Mapping[str, Plain]], summary: Mapping[str, Plain],
                versions: Mapping[str, str]) -> dict[str, Plain]:
    """The manifest of a stage whose shards are all done.

    Args:
        plan: what `plan.json` holds.
        receipts: of the shards, in order.
        summary: what was found out about all of them together.
    """
    counts: dict[str, int] = {}
    for receipt in receipts:
        for name, value in receipt['counts'].items():
            counts[name] = counts.get(name, 0) + value
    shards = [{key: receipt[key] for key in ('shard', 'files', 'counts')} for receipt in receipts]
    content = {key: plan[key] for key in ('stage', 'config', 'inputs', 'plan')}
    content |= dict(shards=shards, summary=dict(summary))
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return dict(schema=SCHEMA, **content, counts=dict(sorted(counts.items())), versions=dict(versions),
                fingerprint=digest)


def _publish(folder: Path, target: Path) -> None:
    """Rename a folder that is on the disk for good, unless the target is there."""
    for path in (*folder.rglob('*'), folder):
        _sync(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError:
        if not (target / RECEIPT).is_file():  # else another attempt was faster: its files are as good
            raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
