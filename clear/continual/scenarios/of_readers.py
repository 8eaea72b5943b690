"""Every reader as a scenario: `scenario=dict(type=READER, <its options>, train_transform=[...])`."""

from __future__ import annotations

from collections.abc import Callable

from clear.continual.scenarios.by_time import benchmark_of, split_options
from clear.core.configs.signatures import accepted_arguments, joined_signature
from clear.datasets.streams import read_stream_of
from clear.registry import READERS


def scenario_of(kind: str) -> Callable[..., object] | None:
    """What `SCENARIOS` builds under the name of a reader; None if there is no reader of that name.

    One experience per bucket, in the order in which buckets first occur. It takes the arguments of the reader and
    those of `_build`.
    """
    reader = READERS.get_own(kind)
    if reader is None:
        return None

    def build(**options: object):
        given = {key: options.pop(key) for key in OPTIONS & {*options}}
        return _build(options | dict(type=kind), **given)

    build.__name__ = build.__qualname__ = kind
    build.__module__, build.__doc__ = reader.__module__, reader.__doc__
    build.__signature__ = joined_signature(reader, _build)
    return build


def _build(cfg: dict, /, *, evaluation_protocol: str = 'iid', seed: int | None = None, shot: int | None = None,
           test_ratio: float = 0.3, feature: dict | None = None, train_transform: list[dict] | None = None,
           eval_transform: list[dict] | None = None, cache: str | None = None, cache_dir: str | None = None,
           decoder: str = 'pil', max_bad_fraction: float = 0.01, work_dir: str | None = None):
    """As for `FolderByTime`."""
    data, images = read_stream_of(cfg, split_options(evaluation_protocol, seed, shot, test_ratio), 'scenario')
    return benchmark_of(images.kind, data, feature, train_transform, eval_transform,
                        dict(cache=cache, cache_dir=cache_dir, decoder=decoder), max_bad_fraction, work_dir, images)


OPTIONS = accepted_arguments(_build)
