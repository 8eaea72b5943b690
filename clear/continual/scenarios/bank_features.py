"""A stream on a feature bank: its lists say which image is where, the bank has the features."""

from __future__ import annotations

import hashlib
from pathlib import Path

from clear.continual.scenarios.base import ScenarioInfo, TensorBucket
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.datasets import BadSamples, ClearData, ImageTable, read_images
from clear.features import FeatureBank, extract, join_bucket

BANK_KEYS = {'bank'}
ENCODER_KEYS = {'encoder', 'root', 'dtype', 'batch_size', 'num_workers', 'device'}


def add_bank_features(info: ScenarioInfo, data: ClearData, feature: dict, max_bad_fraction: float,
                      work_dir: str | None, source: ImageTable | None = None) -> None:
    """Fill `info` with features in place of images; unreadable images are left out of train and test and counted.

    Args:
        source: all images of the stream; None means those of the CLEAR tree at `data.root`.

    Raises:
        ConfigError, DataError: as `open_bank` and `join_bucket` do.
    """
    bank = open_bank(feature, data, max_bad_fraction, source)
    info.fingerprint = hashlib.sha256(f'{data.fingerprint} {bank.fingerprint}'.encode()).hexdigest()
    totals = {'train': sum(map(len, data.train)), 'test': sum(map(len, data.test))}
    path = Path(work_dir) / 'bad_samples.jsonl' if work_dir else None
    info.bad_samples = BadSamples(path, totals, max_bad_fraction)
    reasons = {record['id']: record['reason'] for record in bank.bad_samples()}
    for split, buckets, datasets in (('train', data.train, info.train), ('test', data.test, info.test)):
        for bucket in buckets:
            joined = join_bucket(bank, bucket)
            datasets.append(TensorBucket(joined.features, joined.targets))
            for name in joined.missing:
                info.bad_samples.report(split, bucket.name, name, reasons.get(name, 'not valid in the bank'))


def open_bank(feature: dict, data: ClearData, max_bad_fraction: float = 0.01, source: ImageTable | None = None
              ) -> FeatureBank:
    """The bank of `dict(bank=PATH)`, or of `dict(encoder=...)` over all images of the tree, or of `source`.

    With an encoder the other keys are those of `extract`: root (where banks are kept), dtype, batch_size,
    num_workers, device.

    Raises:
        ConfigError: for other keys.
        DataError: if the bank was made from other classes or other image files.
    """
    if not isinstance(feature, dict) or ('bank' in feature) == ('encoder' in feature):
        raise ConfigError(f"scenario.feature is {feature!r}; expected dict(bank='path of a bank') or "
                          'dict(encoder=dict(type=...)).')
    keys = BANK_KEYS if 'bank' in feature else ENCODER_KEYS
    check_keys('scenario.feature', feature, keys, 'feature with a bank' if 'bank' in feature else
               'feature with an encoder')
    source = source or read_images(dict(type='CLEAR', data_root=str(data.root), layout=data.layout))
    if 'encoder' in feature:
        options = {key: value for key, value in feature.items() if key != 'encoder'}
        return extract(feature['encoder'], source, max_bad_fraction=max_bad_fraction, **options)
    bank = FeatureBank.open(feature['bank'])
    _check_data(bank, source)
    return bank


def _check_data(bank: FeatureBank, source: ImageTable) -> None:
    if bank.class_names != list(source.class_names):
        raise DataError(f'{bank.path} has {len(bank.class_names)} classes ({", ".join(bank.class_names[:4])} ...), '
                        f'{source.root} has {len(source.class_names)} ({", ".join(source.class_names[:4])} ...): the '
                        'bank was made from other data.')
    # A bank of this tree must be of these very files; others (imported, of a larger set) are joined by id and label.
    if bank.meta.get('source') != source.kind:
        return
    now = source.fingerprint()
    if bank.meta['identity']['data'] != now:
        raise DataError(f'{bank.path} was made from other images than {source.root} holds now: its data fingerprint is '
                        f"{bank.meta['identity']['data']}, the tree's is {now}. Make the bank again.")
