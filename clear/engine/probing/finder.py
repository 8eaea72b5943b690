"""What the jobs of a probing run read: banks, opened or made, data sources and encoders."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.config import to_plain
from clear.core.contracts import JoinsTowers
from clear.core.errors import ClearError, ConfigError
from clear.engine.probing.keys import BANK_KEYS
from clear.evaluation.image.rows import BucketRows
from clear.evaluation.task import TaskData, reads_text_alone
from clear.features.identity import fingerprint_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from clear.core.types import Options
    from clear.datasets import ImageTable
    from clear.engine.probing.jobs import Job
    from clear.features import FeatureBank


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
        self._encoders: dict[str, nn.Module] = {}  # by what is read of them
        self._vectors: dict[str, dict[str, Tensor]] = {}  # likewise: what tasks made of texts
        self._found: dict[str, FeatureBank] = {}
        self._encoder_hashes: dict[str, str] = {}
        self._sources: dict[str, ImageTable] = {}
        self._data_hashes: dict[str, str] = {}

    def find(self, job: Job) -> tuple[nn.Module | None, TaskData]:
        """The encoder, unless banks are all that the task reads, and its data; fills `banks` and `encoder_hash`.

        Raises:
            ConfigError, DataError, CheckpointError: if an encoder, a data source or a bank cannot be had, towers of two
                widths are to be compared, or the task knows the classes by other names.
        """
        self._turn_to(job.encoder_cfg)
        needs, found = job.needs, {}
        beside = {**job.read_jobs_fingerprints(), **job.files_fingerprint()}
        test = job.data.get('test')
        if test is not None and bank_path(job.encoder_cfg, test) is None:
            job.check_classes(self._source(test).class_names)  # before anything is encoded
        encoder, identities = None, {}
        if {'images', 'text', 'text_encoder'} & {*needs}:
            encoder = self._made_encoder(job).to(self.options.get('device') or 'cpu')
            _check_widths(job, encoder)
        if {'bank', 'maps'} & {*needs}:
            banks = {split: self._bank(job, source) for split, source in job.data.items()}
            identities = {split: (bank.fingerprint, bank.meta['identity']['encoder']) for split, bank in banks.items()}
            found = dict(bank={split: _rows(bank, job.data[split]) for split, bank in banks.items()}, maps=banks)
        if {'images', 'text'} & {*needs}:
            found['images'] = {split: self._source(source) for split, source in job.data.items()}
            found['text'] = {split: _captions(images) for split, images in found['images'].items()
                             if 'caption' in images}
            if not identities:
                wanted = {split: self._wanted(job, source)['identity'] for split, source in job.data.items()}
                identities = {split: (fingerprint_of(each), each['encoder']) for split, each in wanted.items()}
        own = self._own_hash(job)
        job.banks = {**{split: fingerprint for split, (fingerprint, _) in identities.items()}, **own, **beside,
                     **self._captions_hash(job)}
        hashes = {encoder_hash for _, encoder_hash in identities.values()} or {*own.values()}
        # Imported banks are named by their content, so two splits have two names and the encoder is unknown.
        job.encoder_hash = hashes.pop().removeprefix('sha256:')[:16] if len(hashes) == 1 else ''
        storage = {key: value for key, value in self.options.items() if key in BANK_KEYS}
        return encoder, TaskData(encoder_name=job.encoder, vectors=self._vectors.setdefault(job.features, {}),
                                 storage=storage, **{need: found[need] for need in needs if need in found})

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
        """What `find` would put into `banks`; nothing is encoded.

        Raises:
            ConfigError, DataError, CheckpointError: as `find` does.
        """
        self._turn_to(job.encoder_cfg)
        found = {}
        for split, source in job.data.items():
            path = bank_path(job.encoder_cfg, source)
            found[split] = _open(path).fingerprint if path is not None else \
                fingerprint_of(self._wanted(job, source, job.levels)['identity'])
        return {**found, **self._own_hash(job), **job.read_jobs_fingerprints(), **job.files_fingerprint(),
                **self._captions_hash(job)}

    def picture(self, job: Job, split: str, row: int) -> Image | None:
        """An image of a split; None where there is none: a bank holds none, and some cannot be read.

        Raises:
            ConfigError, DataError: if the data are gone.
        """
        from clear.datasets.images.decode import UnreadableImage

        source = job.data.get(split)
        if not isinstance(source, dict) or 'type' not in source:
            return None
        try:
            return self._source(source).open_image(row)
        except (UnreadableImage, IndexError):
            return None

    def _own_hash(self, job: Job) -> dict[str, str]:
        """`dict(encoder=...)` where texts are encoded and no bank of the job is sure to be of this encoder."""
        is_named = any(bank_path(job.encoder_cfg, source) is not None for source in job.data.values())
        is_alone = 'text_encoder' in job.needs and (is_named or not job.data)
        return dict(encoder=self._encoder_hash(job)) if is_alone else {}

    def _captions_hash(self, job: Job) -> dict[str, str]:
        """`dict(captions=...)` of a task that reads captions, which are no part of a bank and its fingerprint."""
        if not {'images', 'text'} & {*job.needs}:
            return {}
        tables = {split: self._source(source) for split, source in job.data.items()}
        texts = {split: _captions(images) for split, images in tables.items() if 'caption' in images}
        return dict(captions=hashlib.sha256(json.dumps(texts).encode()).hexdigest()) if texts else {}

    def _turn_to(self, encoder_cfg: dict) -> None:
        if encoder_cfg != self._encoder_cfg:
            self._encoder_cfg, self._encoders, self._vectors, self._found = encoder_cfg, {}, {}, {}

    def _bank(self, job: Job, source: str | dict) -> FeatureBank:
        path = bank_path(job.encoder_cfg, source)
        key = _key([_whole(source), job.levels, job.features]) if path is None else _key(str(path))
        if key not in self._found:
            self._found[key] = self._extracted(job, source) if path is None else _open(path)
        return self._found[key]

    def _extracted(self, job: Job, source: dict) -> FeatureBank:
        from clear.features import extract

        return extract(**self._wanted(job, source, job.levels), maps=job.levels, **self.options)

    def _wanted(self, job: Job, source: dict, levels: Sequence[int] = ()) -> dict[str, Any]:
        """The bank of an encoder over a source, as `extract` takes it: both as objects, and the identity."""
        from clear.features import identity_of

        encoder, place = self._made_encoder(job), _key(_whole(source))
        built = self._source(source)
        if place not in self._data_hashes:
            self._data_hashes[place] = built.fingerprint()
        storage = {key: self.options[key] for key in ('dtype',) if key in self.options}
        identity = identity_of(encoder, built, encoder_hash=self._encoder_hash(job),
                               data_hash=self._data_hashes[place], maps=list(levels), **storage)
        return dict(encoder=encoder, source=built, identity=identity)

    def _encoder_hash(self, job: Job) -> str:
        name = _key([job.encoder_cfg, job.features])
        if name not in self._encoder_hashes:
            self._encoder_hashes[name] = self._made_encoder(job).fingerprint()
        return self._encoder_hashes[name]

    def _source(self, source: dict) -> ImageTable:
        from clear.datasets import read_images

        place = _key(_whole(source))
        if place not in self._sources:
            self._sources[place] = read_images(_whole(source))
        return self._sources[place]

    def _made_encoder(self, job: Job) -> nn.Module:
        from clear.features.build import make_encoder

        if 'embedding' not in self._encoders:
            self._encoders['embedding'] = make_encoder(job.encoder_cfg)
        whole = self._encoders['embedding']
        if job.features not in self._encoders:
            self._encoders[job.features] = whole.without_heads() if isinstance(whole, JoinsTowers) else whole
        return self._encoders[job.features]


def _check_widths(job: Job, encoder: nn.Module) -> None:
    """Refuse to compare images with text in two widths."""
    if not isinstance(encoder, JoinsTowers) or 'text_encoder' not in job.needs or reads_text_alone(job.needs):
        return
    if encoder.embed_dim != encoder.text_dim:
        raise ConfigError(f'{job.key}: the images of this encoder have {encoder.embed_dim} dimensions, its texts '
                          f'{encoder.text_dim}, so they cannot be compared. ' + (
                              "It is read without its heads (features='backbone')." if job.features == 'backbone' else
                              'Give one of them a head that ends in the width of the other: image_head or text_head.'))


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


def _captions(images: ImageTable) -> list[list[str]]:
    """All captions of every image."""
    return [images.captions(row) for row in range(len(images))]
