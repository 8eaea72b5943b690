"""The stage that encodes images once: a feature bank for each range of rows of a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
import torch

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json
from clear.curation.images import BUCKETS, bucket_ids, bucket_names, files_of, kept_in_shards, select_images
from clear.curation.manifest import TEMPORARY, Finished, Plan, StageFolder
from clear.curation.queries import querying, tables
from clear.curation.stage import Inputs, Job, Stage
from clear.features.bank import META_FILE, FeatureBank
from clear.features.build import make_encoder
from clear.features.extract import check_sizes, extract
from clear.features.identity import DTYPES, identity_of
from clear.registry import STAGES

if TYPE_CHECKING:
    from torch import nn

    from clear.core.types import Options, Plain
    from clear.datasets.table import ImageTable

BANK = 'bank'
_SHARDS_A_JOB = 8  # whose rows are looked up in one pass, and encoded by one encoder


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder without a forward pass."""

    kind: str
    fingerprint: str
    dim: int
    crop: int
    parameters: int


@STAGES.register_module()
class Features(Stage):
    """Encode the images of every bucket.

    A shard is a range of rows of one bucket, in the order of ids; its folder holds a `FeatureBank` in `bank/`, raw
    features as the encoder gives them, whose ids are those of the photos. Images that cannot be read are masked there.
    Its rows are known by their smallest and largest id, so that any worker finds them; a kill loses the shards that are
    under way.

    Args:
        encoder: `dict(type=...)` of an image encoder.
        dtype: of the stored features.
        shard_rows: most rows of a shard.
        batch_size, block_size: see `clear.features.extract`.
        threads: of torch in every worker. It is part of what decides the bytes: sums over other threads are rounded
            otherwise.
        loader_workers: processes that decode images for each worker; 0 = itself.
        device: None = a GPU if there is one, of several each worker another.
        max_bad_fraction: share of all images that may be unreadable; looked at when all shards are there, so that more
            can be allowed without losing them.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('images', 'buckets')
    MAKES = 'features'
    PACKAGES = ('pyarrow', 'duckdb', 'torch', 'pillow')
    EXECUTION = frozenset({'device', 'loader_workers', 'max_bad_fraction'})

    def __init__(self, encoder: Options, dtype: str = 'float16', shard_rows: int = 50_000, batch_size: int = 64,
                 block_size: int | None = None, threads: int = 1, loader_workers: int = 0, device: str | None = None,
                 max_bad_fraction: float = 0.01):
        if not isinstance(encoder, Mapping) or not isinstance(encoder.get('type'), str):
            raise ConfigError(f'encoder is {encoder!r}; expected dict(type=...) of an image encoder.')
        self.encoder = dict(encoder)
        self.dtype = check_choice('dtype', dtype, DTYPES)
        self.shard_rows = check_whole('shard_rows', shard_rows, 1)
        self.batch_size, self.block_size = batch_size, check_sizes(batch_size, block_size, max_bad_fraction, False)
        self.threads = check_whole('threads', threads, 1)
        self.loader_workers = check_whole('loader_workers', loader_workers, 0)
        self.device = device
        self.max_bad_fraction = check_number('max_bad_fraction', max_bad_fraction, 0, 1)

    @cached_property
    def facts(self) -> EncoderFacts:
        """Builds the encoder, and keeps none of it."""
        encoder = make_encoder(self.encoder)
        return EncoderFacts(type(encoder).__name__, encoder.fingerprint(), encoder.embed_dim, encoder.preprocess.crop,
                            sum(each.numel() for each in encoder.parameters()))

    def check(self) -> None:
        """Build the encoder, with its weights."""
        assert self.facts.dim

    def sources(self) -> Mapping[str, Plain]:
        """The encoder, as its config and its weights make it."""
        return dict(encoder=self.facts.fingerprint)

    def preview(self) -> list[str]:
        """The encoder; as far as inputs are there, how many images there are at most, and what features take."""
        facts = self.facts
        lines = [f'{facts.kind}  {facts.parameters:,} parameters  {facts.crop} x {facts.crop} pixels -> {facts.dim} '
                 f'numbers as {self.dtype}']
        if {*self.READS} <= {*self.inputs}:
            found = sum(len(kept) for kept in kept_in_shards(self.inputs['images'], ['id']))
            counts = {name: each['count'] for name, each in self.inputs['buckets'].summary['buckets'].items()}
            most = min(found, sum(counts.values()))
            size = most * facts.dim * np.dtype(self.dtype).itemsize
            lines += [f'{found:,} images, {len(counts)} buckets of {min(counts.values()):,} to '
                      f'{max(counts.values()):,}: at most {most:,} rows, {size / 2**20:,.1f} MiB']
        return lines

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Cut the images of every bucket, in the order of ids, into ranges."""
        names = bucket_names(inputs['buckets'])
        shards: list[dict[str, Plain]] = []
        for code, ids in self._ordered(inputs, names, folder):
            self._cut(shards, names[code], ids)
        if not shards:
            raise DataError(f'{inputs["images"].folder.path}: none of its images is in a bucket of '
                            f'{inputs["buckets"].folder.path}.')
        jobs: list[list[int]] = []
        for number, shard in enumerate(shards):
            if not jobs or len(jobs[-1]) == _SHARDS_A_JOB or shards[jobs[-1][0]]['bucket'] != shard['bucket']:
                jobs.append([])
            jobs[-1].append(number)
        return Plan(shards, dict(buckets=names, dim=self.facts.dim), jobs)

    def work(self, job: Job) -> Iterator[int]:
        """Encode the rows of some shards of one bucket."""
        encoder = _encoder_of(json.dumps(self.encoder), job.folder.plan_checksum())
        fingerprint = encoder.fingerprint()
        entries = [job.plan.shards[shard] for shard in job.shards]
        bucket = entries[0]['bucket']
        ids, codes = bucket_ids(job.inputs['buckets'], [bucket], entries[0]['first'], entries[-1]['last'])
        images = select_images(job.inputs['images'], [bucket], ids, codes)
        found = np.array(images.texts('id'), np.int64)
        device = self.device or _device(job.shards[0])
        for shard, entry in zip(job.shards, entries):
            first, end = np.searchsorted(found, [entry['first'], entry['last'] + 1])
            part = images.select(slice(first, end))
            if len(part) != entry['rows']:
                raise DataError(f'shard {shard}: {len(part)} images of bucket {bucket} from {entry["first"]} to '
                                f'{entry["last"]}, {entry["rows"]} when it was planned. Were the inputs made anew?')
            with job.writing(shard) as attempt, _threads(self.threads):
                bank = self._encode(encoder, fingerprint, part, attempt.folder / BANK, device)
                attempt.counts.update(images=len(bank), unreadable=len(bank) - bank.meta['num_valid'])
            yield shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """What made the features, and of each bucket the shards and how many of its images could be read."""
        summary = summary_of(folder, plan)
        count, valid = (sum(each[key] for each in summary['buckets'].values()) for key in ('count', 'valid'))
        if count - valid > self.max_bad_fraction * count:
            raise DataError(f'{count - valid} of {count} images cannot be read ({(count - valid) / count:.1%}), more '
                            f'than max_bad_fraction = {self.max_bad_fraction:.1%}. bad_samples.jsonl of a bank lists '
                            'them. Raise max_bad_fraction to go on without them; what is encoded stays.')
        return summary

    def report(self, finished: Finished) -> list[str]:
        """A line for every bucket."""
        return [f'{name:>8}  {each["count"]:>12,} images  {each["count"] - each["valid"]:,} unreadable'
                for name, each in finished.summary['buckets'].items()] + super().report(finished)

    def _ordered(self, inputs: Inputs, names: Sequence[str], folder: StageFolder) -> Iterator[tuple[int, np.ndarray]]:
        """The ids of all images in a bucket, with its position, sorted by both; what does not fit is spilled."""
        with querying(folder.path / TEMPORARY) as connection:
            connection.execute('CREATE TABLE images (id BIGINT)')
            for kept in kept_in_shards(inputs['images'], ['id']):
                connection.register('kept', kept)
                connection.execute('INSERT INTO images SELECT id FROM kept')
                connection.unregister('kept')
            connection.register('places', pyarrow.table(dict(name=pyarrow.array(names, pyarrow.string()),
                                                             place=range(len(names)))))
            buckets = tables(files_of(inputs['buckets'], BUCKETS, 'time buckets'))
            reader = connection.sql(f'SELECT place, id FROM images JOIN {buckets} AS buckets USING (id) '
                                    'JOIN places ON name = bucket ORDER BY place, id').to_arrow_reader(1 << 20)
            for batch in reader:
                places, ids = batch['place'].to_numpy(), batch['id'].to_numpy()
                starts = np.flatnonzero(np.diff(places, prepend=-1))
                for start, end in zip(starts, [*starts[1:], len(places)]):
                    yield int(places[start]), ids[start:end]

    def _cut(self, shards: list[dict[str, Plain]], bucket: str, ids: np.ndarray) -> None:
        """Go on with the last shard, if it is of this bucket, then with others."""
        while len(ids):
            if not shards or shards[-1]['bucket'] != bucket or shards[-1]['rows'] == self.shard_rows:
                shards.append(dict(bucket=bucket, rows=0, first=int(ids[0]), last=int(ids[0])))
            room = self.shard_rows - shards[-1]['rows']
            part, ids = ids[:room], ids[room:]
            shards[-1]['rows'] += len(part)
            shards[-1]['last'] = int(part[-1])

    def _encode(self, encoder: nn.Module, fingerprint: str, images: ImageTable, out: Path,
                device: str | None) -> FeatureBank:
        identity = identity_of(encoder, images, dtype=self.dtype, encoder_hash=fingerprint)
        return extract(encoder, images, out, identity=identity, batch_size=self.batch_size, dtype=self.dtype,
                       block_size=self.block_size, num_workers=self.loader_workers, device=device, max_bad_fraction=1.0,
                       progress=lambda done, total: None)


def summary_of(folder: StageFolder, plan: Plan) -> dict[str, Plain]:
    """What made the banks of a stage's shards, and of each bucket the shards, their rows and how many are features.

    Raises:
        DataError: if banks are of different encoders.
    """
    buckets = {name: dict(shards=[], count=0, valid=0) for name in plan.values['buckets']}
    first: dict[str, Plain] = {}
    for shard, entry in enumerate(plan.shards):
        meta = read_json(folder.shard_folder(shard) / BANK / META_FILE)
        made = dict(dtype=meta['dtype'], dim=meta['dim'], preprocess=meta['identity']['preprocess'],
                    encoder=dict(meta['encoder'], fingerprint=meta['identity']['encoder']),
                    verified=meta.get('verified', True))
        first = first or made
        if made != first:
            raise DataError(f'shard {shard} of {folder.path} was made by another encoder than shard 0. Were weights '
                            'changed meanwhile? Make the stage anew with --overwrite.')
        found = buckets[entry['bucket']]
        found['shards'].append(shard)
        found['count'] += meta['count']
        found['valid'] += meta['num_valid']
    return dict(first, buckets=buckets)


def banks_of(finished: Finished, bucket: str) -> list[FeatureBank]:
    """The banks of a bucket, in the order of its ids.

    Raises:
        DataError: if a stage makes no features, there is no such bucket, or a bank is damaged.
    """
    buckets = finished.summary.get('buckets', {}) if finished.files(f'{BANK}/{META_FILE}') else {}
    if bucket not in buckets:
        raise DataError(f'{finished.folder.path} has no features of bucket {bucket!r}; of '
                        f'{", ".join(buckets) or "none"}.')
    return [FeatureBank.open(finished.file(shard, BANK)) for shard in buckets[bucket]['shards']]


def _device(shard: int) -> str | None:
    count = torch.cuda.device_count()
    return f'cuda:{shard // _SHARDS_A_JOB % count}' if count > 1 else None


@lru_cache(maxsize=1)
def _encoder_of(config: str, plan: str) -> nn.Module:
    """An encoder, kept for the next job of a worker: it may take seconds to build. A plan belongs to its weights."""
    return make_encoder(json.loads(config))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
