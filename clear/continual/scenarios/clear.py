"""The CLEAR benchmark: a stream of time buckets read from a CLEAR folder."""

from __future__ import annotations

import torch

from clear.continual.scenarios.bank_features import add_bank_features
from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.scenarios.bucket_images import add_images
from clear.core.errors import ConfigError
from clear.datasets import Bucket, SampleContext, read_clear
from clear.datasets.images.cache import check_cache
from clear.registry import SCENARIOS


@SCENARIOS.register_module(name='CLEAR')
def clear_benchmark(data_root: str, data_name: str | None = None, evaluation_protocol: str = 'iid',
                    seed: int | None = None, shot: int | None = None, feature_type: str | None = None,
                    feature: dict | None = None, layout: str = 'auto', train_transform: list[dict] | None = None,
                    eval_transform: list[dict] | None = None, cache: str | None = None,
                    cache_dir: str | None = None, decoder: str = 'pil',
                    max_bad_fraction: float = 0.01, work_dir: str | None = None):
    """Read CLEAR (Lin et al. 2021, arXiv:2201.06289) as an Avalanche benchmark, one experience per time bucket.

    Under `iid` an experience trains on the training list of its bucket and is tested on the bucket's test list;
    under `streaming` both are the whole bucket, and only entries j > i of the accuracy matrix measure unseen data.
    `both` trains and tests as `iid`, and also measures whole buckets before their time, as `streaming` does: one run
    then says how much better a bucket's own held-out images are recognised than the next bucket.

    Args:
        data_root: folder in either CLEAR layout.
        data_name: `clear10`, `clear100`, `clear10_neurips2021`, `clear100_cvpr2022`, `demo`; None for own data.
        evaluation_protocol: 'iid', 'streaming' or 'both'.
        seed: which split, 0 ... 4; None means 0 under `iid` and must be None under `streaming`.
        shot: train on `shot` images per class, test on the rest of the bucket.
        feature_type: read stored features in place of images; the transforms are then not used.
        feature: read a feature bank in place of images: `dict(bank=PATH)`, or `dict(encoder=dict(type=...))` for the
            bank of that encoder, made on first use and found again afterwards (keys: `bank_features.open_bank`).
        layout: 'auto' looks which of 'old' and 'new' it is.
        train_transform, eval_transform: lists of transform dicts; a bare name is torchvision's v2.
        cache: 'ram' keeps decoded images in memory; where a transform is deterministic, its results. 'disk' keeps
            decoded images in `cache_dir`, for all processes and later runs.
        decoder: 'pil', or 'cv2', which is faster and gives the same pixels.
        max_bad_fraction: share of unreadable images past which the run stops.
        work_dir: where `bad_samples.jsonl` is written; None counts without a file.

    Raises:
        ConfigError, DataError: as `read_clear` does; ConfigError for image mode without transforms, or for both
            `feature` and `feature_type`.
    """
    check_cache(cache, cache_dir, where='scenario.')
    if feature is not None and feature_type is not None:
        raise ConfigError('scenario.feature reads a feature bank, scenario.feature_type the features stored in the '
                          'tree; give one of them.')
    measures_both = evaluation_protocol == 'both'
    protocol = 'iid' if measures_both else evaluation_protocol
    if seed is None and protocol == 'iid':
        seed = 0
    data = read_clear(data_root, data_name=data_name, evaluation_protocol=protocol, seed=seed, shot=shot,
                      feature_type=feature_type, layout=layout)
    info = ScenarioInfo(class_names=data.class_names, bucket_names=[bucket.name for bucket in data.train],
                        protocol=data.protocol, fingerprint=data.fingerprint, train=[], test=[],
                        context=SampleContext(), rest=[] if measures_both else None)
    if feature_type is not None:
        info.train = [_feature_bucket(bucket) for bucket in data.train]
        info.test = [_feature_bucket(bucket) for bucket in data.test]
    elif feature is not None:
        add_bank_features(info, data, feature, max_bad_fraction, work_dir)
    else:
        add_images(info, data, train_transform, eval_transform,
                   dict(cache=cache, cache_dir=cache_dir, decoder=decoder),
                   max_bad_fraction, work_dir)
    if measures_both and not info.rest:
        info.rest = info.train  # features are the same in training and test
    return make_benchmark(info)


def _feature_bucket(bucket: Bucket) -> TensorBucket:
    return TensorBucket(bucket.features, torch.from_numpy(bucket.targets))
