"""The jobs of a probing run, encoders x tasks: what each computes, its state on disk, and the banks it reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.config import to_plain
from clear.core.errors import ClearError, ConfigError, DataError
from clear.core.files import read_json, write_json
from clear.core.logs import logger
from clear.core.storage.damage import COUNT, NUMBER, Each, Maybe, Such, check_shape
from clear.engine.probing.keys import build_task, task_data, task_name, task_options
from clear.evaluation.image.rows import BucketRows
from clear.evaluation.task import Task, TaskData, needs_of, reads_labels
from clear.features.identity import fingerprint_of

if TYPE_CHECKING:
    from torch import nn

    from clear.core.types import Options
    from clear.datasets import ImageTable
    from clear.features import FeatureBank

JOBS_FILE = 'jobs.json'
SCHEMA = 1
STATES = ('pending', 'running', 'done', 'failed')
# What is read of a job that an earlier run noted.
RECORD = dict(attempts=COUNT, state=Such(f'one of {", ".join(STATES)}', lambda value: value in STATES),
              time_s=Maybe(NUMBER), banks=Each(str, names=True), encoder_hash=str,
              result=Maybe(dict(metric=str, value=NUMBER, extras=dict)))


@dataclass
class Job:
    """One encoder on one task.

    Args:
        options: type and arguments of the task; data: split -> source; encoder_cfg: the encoder without `info`.
        state: one of `STATES`.
        attempts: how often it was started.
        banks: split -> fingerprint of the bank that was read, or that would be made of the images that were.
        encoder_hash: first 16 digits of the encoder's fingerprint, '' while unknown.
        result: `TaskResult.to_dict()` of a finished job.
        error: last line of the traceback of a failed one.
    """

    encoder: str
    task: str
    encoder_cfg: dict[str, Any]
    options: dict[str, object]
    data: dict[str, Any]
    state: str = 'pending'
    attempts: int = 0
    time_s: float | None = None
    banks: dict[str, str] = field(default_factory=dict)
    encoder_hash: str = ''
    result: dict[str, Any] | None = None
    error: str | None = None

    @property
    def key(self) -> str:
        return f'{self.encoder}--{self.task}'

    @cached_property
    def _task(self) -> Task:
        return build_task(self.options)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the task reads."""
        return needs_of(self._task)

    @property
    def reads_labels(self) -> bool:
        """Whether the task can do nothing without labels."""
        return reads_labels(self._task)

    @property
    def levels(self) -> list[int]:
        """Levels of the maps that the task reads."""
        return list(self._task.levels) if 'maps' in self.needs else []

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of what the job computes; names, device and state left out."""
        what = dict(encoder=self.encoder_cfg, task=self.options, data=self.data)
        return hashlib.sha256(json.dumps(to_plain(what), sort_keys=True).encode()).hexdigest()[:16]


def plan_jobs(cfg: dict) -> list[Job]:
    """The jobs of a checked config: all tasks of the first encoder, then of the second, ..."""
    jobs = []
    for name, encoder in cfg['encoders'].items():
        encoder_cfg = {key: value for key, value in encoder.items() if key != 'info'}
        for task in cfg['tasks']:
            data = {split: source for split, source in task_data(cfg, task).items() if source is not None}
            jobs.append(Job(name, task_name(task), encoder_cfg, task_options(task, cfg['seed'], cfg['grid']), data))
    return jobs


def restore_jobs(jobs: list[Job], work_dir: Path, finder: DataFinder) -> int:
    """Take over the finished jobs of an earlier run in `work_dir`, those with the same hash; how many there are.

    A finished job is done again if a bank that it read would have another fingerprint now: other weights behind the
    same path, other images, labels or dtype. Where that cannot be told, as the encoder or the data are gone, the
    result is kept, with a warning.

    Raises:
        DataError, CheckpointError: if `jobs.json` is damaged.
    """
    path = work_dir / JOBS_FILE
    if not path.exists():
        return 0
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get('schema') != SCHEMA or not isinstance(stored.get('jobs'), dict):
        raise DataError(f'{path} is no job list of schema {SCHEMA}. Start again with --overwrite.')
    count = 0
    for job in jobs:
        record = stored['jobs'].get(job.key)
        if record is not None:
            check_shape(path, record, dict(hash=str), job.key)
        if not record or record.get('hash') != job.hash:
            continue
        check_shape(path, record, RECORD, job.key)
        job.attempts = record['attempts']
        if record['state'] == 'done' and not _changed_banks(job, record['banks'], finder):
            for key in ('state', 'time_s', 'banks', 'encoder_hash', 'result'):
                setattr(job, key, record[key])
            count += 1
    return count


def _changed_banks(job: Job, fingerprints: dict[str, str], finder: DataFinder) -> bool:
    try:
        return finder.fingerprints(job) != fingerprints
    except ClearError as error:
        logger.warning('%s: its banks cannot be compared with those of now; its result is kept. %s', job.key, error)
        return False


def save_jobs(jobs: list[Job], work_dir: Path) -> None:
    """Write `jobs.json`, atomically. Jobs of an earlier config that are not planned any more are left out."""
    records = {job.key: {**to_plain(asdict(job)), 'hash': job.hash} for job in jobs}
    write_json(work_dir / JOBS_FILE, dict(schema=SCHEMA, jobs=records))


class DataFinder:
    """Gets what the task of a job needs: opens or makes banks, reads sources, builds encoders.

    Keeps the last encoder and its banks: jobs come encoder by encoder.

    Weights are hashed once for each encoder, and files looked at once for each source, however many jobs need them.

    Args:
        options: of `clear.features.extract`: root, dtype, batch_size, num_workers, device ...
    """

    def __init__(self, options: Options):
        self.options = options
        self._encoder_cfg: dict | None = None
        self._encoder: nn.Module | None = None
        self._found: dict[str, FeatureBank] = {}
        self._encoder_hashes: dict[str, str] = {}
        self._sources: dict[str, ImageTable] = {}
        self._data_hashes: dict[str, str] = {}

    def find(self, job: Job) -> tuple[nn.Module | None, TaskData]:
        """The encoder, unless banks are all that the task reads, and its data; fills `banks` and `encoder_hash`.

        Raises:
            ConfigError, DataError, CheckpointError: if an encoder, a data source or a bank cannot be had.
        """
        self._turn_to(job.encoder_cfg)
        needs, found = job.needs, {}
        encoder, identities = None, {}
        if {'bank', 'maps'} & {*needs}:
            banks = {split: self._bank(job.encoder_cfg, source, job.levels) for split, source in job.data.items()}
            identities = {split: (bank.fingerprint, bank.meta['identity']['encoder']) for split, bank in banks.items()}
            found = dict(bank={split: _rows(bank, job.data[split]) for split, bank in banks.items()}, maps=banks)
        if {'images', 'text', 'text_encoder'} & {*needs}:
            wanted = {split: self._wanted(job.encoder_cfg, source) for split, source in job.data.items()}
            encoder = self._made_encoder(job.encoder_cfg).to(self.options.get('device') or 'cpu')
            found['images'] = {split: each['source'] for split, each in wanted.items()}
            found['text'] = {split: [next(iter(images.captions(row)), None) for row in range(len(images))]
                             for split, images in found['images'].items() if 'caption' in images}
            if not identities:
                identities = {split: (fingerprint_of(each['identity']), each['identity']['encoder'])
                              for split, each in wanted.items()}
        job.banks = {split: fingerprint for split, (fingerprint, _) in identities.items()}
        hashes = {encoder_hash for _, encoder_hash in identities.values()}
        # Imported banks are named by their content, so two splits have two names and the encoder is unknown.
        job.encoder_hash = hashes.pop().removeprefix('sha256:')[:16] if len(hashes) == 1 else ''
        return encoder, TaskData(encoder_name=job.encoder, **{need: found[need] for need in needs if need in found})

    def check(self, job: Job) -> None:
        """Refuse a task that needs what its data cannot give, before anything is encoded.

        What cannot be read at all is left to `find`.

        Raises:
            ConfigError: saying what is missing where.
        """
        for split, source in job.data.items():
            lacking = ''
            with contextlib.suppress(ClearError):
                path = bank_path(job.encoder_cfg, source)
                if 'maps' in job.needs and path is not None:
                    levels = _open(path).meta['maps']
                    missing = [str(level) for level in job.levels if str(level) not in levels]
                    lacking = f'maps of level {", ".join(missing)}; the bank {path} has none' if missing else ''
                if 'text' in job.needs and 'caption' not in self._source(source):
                    lacking = f"text, but the images of type {source['type']} have no captions"
                if job.reads_labels and path is None and not (self._source(source).label_array() >= 0).any():
                    lacking = f"labels, but the images of type {source['type']} have none"
            if lacking:
                raise ConfigError(f"{job.options['type']} needs {lacking} (data.{split} of {job.key}). Nothing was "
                                  'encoded.')

    def fingerprints(self, job: Job) -> dict[str, str]:
        """Split -> fingerprint of the bank that `find` would give; nothing is encoded.

        Raises:
            ConfigError, DataError, CheckpointError: as `find` does.
        """
        self._turn_to(job.encoder_cfg)
        return {split: self._fingerprint(job.encoder_cfg, source, job.levels) for split, source in job.data.items()}

    def _fingerprint(self, encoder_cfg: dict, source: str | dict, levels: list[int]) -> str:
        path = bank_path(encoder_cfg, source)
        if path is not None:
            return _open(path).fingerprint
        return fingerprint_of(self._wanted(encoder_cfg, source, levels)['identity'])

    def _turn_to(self, encoder_cfg: dict) -> None:
        if encoder_cfg != self._encoder_cfg:
            self._encoder_cfg, self._encoder, self._found = encoder_cfg, None, {}

    def _bank(self, encoder_cfg: dict, source: str | dict, levels: list[int]) -> FeatureBank:
        path = bank_path(encoder_cfg, source)
        key = _key([_whole(source), levels]) if path is None else _key(str(path))
        if key not in self._found:
            self._found[key] = self._extracted(encoder_cfg, source, levels) if path is None else _open(path)
        return self._found[key]

    def _extracted(self, encoder_cfg: dict, source: dict, levels: list[int]) -> FeatureBank:
        from clear.features import extract

        return extract(**self._wanted(encoder_cfg, source, levels), maps=levels, **self.options)

    def _wanted(self, encoder_cfg: dict, source: dict, levels: Sequence[int] = ()) -> dict[str, Any]:
        """The bank of an encoder over a source, as `extract` takes it: both as objects, and the identity."""
        from clear.features import identity_of

        encoder, name, place = self._made_encoder(encoder_cfg), _key(encoder_cfg), _key(_whole(source))
        if name not in self._encoder_hashes:
            self._encoder_hashes[name] = encoder.fingerprint()
        built = self._source(source)
        if place not in self._data_hashes:
            self._data_hashes[place] = built.fingerprint()
        storage = {key: self.options[key] for key in ('dtype',) if key in self.options}
        identity = identity_of(encoder, built, encoder_hash=self._encoder_hashes[name],
                               data_hash=self._data_hashes[place], maps=list(levels), **storage)
        return dict(encoder=encoder, source=built, identity=identity)

    def _source(self, source: dict) -> ImageTable:
        from clear.datasets import read_images

        place = _key(_whole(source))
        if place not in self._sources:
            self._sources[place] = read_images(_whole(source))
        return self._sources[place]

    def _made_encoder(self, encoder_cfg: dict) -> nn.Module:
        from clear.features.build import make_encoder

        if self._encoder is None:
            self._encoder = make_encoder(encoder_cfg)
        return self._encoder


def _key(cfg: object) -> str:
    return json.dumps(to_plain(cfg), sort_keys=True)


def _whole(source: dict) -> dict:
    """The source without the bucket: a bank holds all of them."""
    return {key: value for key, value in source.items() if key != 'bucket'}


def bank_path(encoder_cfg: dict, source: str | dict) -> Path | None:
    """Where the bank lies if the config says so; None if it is to be found by fingerprint or made."""
    if isinstance(source, str):
        return Path(encoder_cfg['bank']) / source
    return Path(encoder_cfg.get('bank', '.')) / source['bank'] if 'bank' in source else None


def _open(path: Path) -> FeatureBank:
    from clear.features import FeatureBank

    return FeatureBank.open(path)


def _rows(bank: FeatureBank, source: str | dict) -> FeatureBank | BucketRows:
    bucket = source.get('bucket') if isinstance(source, dict) else None
    return bank if bucket is None else BucketRows(bank, bucket)
