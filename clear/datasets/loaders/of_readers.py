"""Every reader as a data set for pretraining: `dataset=dict(type=READER, <its options>, image_size=64)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clear.core.configs.signatures import accepted_arguments, check_keys, joined_signature
from clear.core.errors import ConfigError
from clear.core.types import Options
from clear.datasets.loaders.replayed_buckets import with_replay
from clear.datasets.loaders.self_supervised import SelfSupervisedImages
from clear.datasets.readers.build import read_images
from clear.datasets.readers.stream_part import choose_buckets
from clear.datasets.table import ImageTable
from clear.registry import READERS

READING = accepted_arguments(SelfSupervisedImages)


def dataset_of(kind: str) -> Callable[..., SelfSupervisedImages] | None:
    """What `DATASETS` builds under the name of a reader; None if there is no reader of that name.

    It takes the arguments of the reader, those of `SelfSupervisedImages`, `buckets` (see `choose_buckets`; unless the
    reader has its own) and the replay of a stream (see `with_replay`).
    """
    reader = READERS.get_own(kind)
    if reader is None:
        return None

    def build(**options: object) -> SelfSupervisedImages:
        check_keys('dataset', options, accepted_arguments(build), kind)
        chosen_here = CHOICE - _own_buckets(kind)
        reading, choice = ({key: options.pop(key) for key in keys & {*options}} for keys in (READING, chosen_here))
        return SelfSupervisedImages(_choose(options | dict(type=kind), **choice), **reading)

    build.__name__ = build.__qualname__ = kind
    build.__module__, build.__doc__ = reader.__module__, reader.__doc__
    build.__signature__ = joined_signature(reader, SelfSupervisedImages, _choose)
    return build


def bucket_key(kind: str) -> str | None:
    """By which argument a reader itself is told which buckets are wanted, so that it reads no others; None if by none.

    That is `buckets`, or `bucket` where a reader has both, as `buckets` then says where buckets are.
    """
    accepted = accepted_arguments(READERS.require(kind)) or set()
    return 'bucket' if {'bucket', 'buckets'} <= accepted else 'buckets' if 'buckets' in accepted else None


def _own_buckets(kind: str) -> set[str]:
    """The key `buckets`, if the reader takes it."""
    return {'buckets'} & (accepted_arguments(READERS.require(kind)) or set())


def images_of(cfg: Options, buckets: int | str | Sequence[int | str] | None = None,
              where: str = 'dataset') -> ImageTable:
    """The images of a data set's config, all or those of some buckets; nothing is decoded.

    Raises:
        ConfigError: if a bucket does not exist or is asked for twice, or the images have none.
        DataError: as the reader does.
    """
    kind = cfg['type']
    elsewhere = READING | CHOICE - _own_buckets(kind)
    options = {key: value for key, value in cfg.items() if key not in elsewhere}
    if (key := bucket_key(kind)) is not None:
        return read_images(options if buckets is None else options | {key: buckets}, where)
    images = read_images(options, where)
    if buckets is not None and 'bucket' not in images:
        raise ConfigError(f"{where}: images in buckets are wanted, and those of type {cfg['type']} have none. "
                          "type='BucketImages', for example, gives some.")
    return choose_buckets(images, buckets)


def _choose(cfg: Options, /, *, buckets: int | str | Sequence[int | str] | None = None,
            replay_buckets: Sequence[int | str] | None = None, replay_size: int | None = None, replay_seed: int = 0,
            replay_shares: str | None = None) -> ImageTable:
    images = images_of(cfg, buckets)
    if replay_buckets is None:
        return images
    return with_replay(images, images_of(cfg, replay_buckets), replay_size, replay_seed, replay_shares)


CHOICE = accepted_arguments(_choose)
