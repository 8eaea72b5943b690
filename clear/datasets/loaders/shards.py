"""Pairs in tar shards, read on and on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clear.datasets.loaders.pairs import Batch, ImageTextPairs, Key, Sample
from clear.datasets.readers.pairs.shards import CAPTION, IMAGE, LABEL, TIME
from clear.registry import DATASETS


@DATASETS.register_module()
class WebDatasetPairs(ImageTextPairs):
    """`ImageTextPairs` of the reader `ImageTextShards`, in the order of `ShardSampler` unless the config names another.

    Samples are as there, with the same draws and stand-ins: where an image lies is known, so any can be read, and a
    run that is resumed reads none of those that it had. What a batch needs of a shard is asked for at once.

    Args:
        shards, image, caption, label, time, names, index_dir: as for `ImageTextShards`.
        transform, every_caption, max_bad_fraction: as for `ImageTextPairs`.

    Raises:
        ConfigError, DataError: as these two.
    """

    sampler_type = 'ShardSampler'

    def __init__(self, shards: str | Sequence[str], transform: Sequence[Mapping], *, image: str = IMAGE,
                 caption: str = CAPTION, label: str = LABEL, time: str = TIME, names: Sequence[str] | None = None,
                 index_dir: str | None = None, every_caption: bool = False, max_bad_fraction: float = 0.01):
        images = dict(type='ImageTextShards', shards=shards, image=image, caption=caption, label=label, time=time,
                      names=names, index_dir=index_dir)
        super().__init__(images, transform, every_caption=every_caption, max_bad_fraction=max_bad_fraction)

    def __getitems__(self, keys: Sequence[Key]) -> Batch | list[Sample]:
        if 'image' not in self._stored and all(isinstance(key, tuple) for key in keys):
            self.images.expect(self._rows[[index for _, index in keys]])
        return super().__getitems__(keys)
