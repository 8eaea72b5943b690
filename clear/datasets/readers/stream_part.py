"""A part of a stream: some buckets of a reader, with a reservoir of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.datasets.columns import runs
from clear.datasets.readers.bucket_lists import BucketChoice
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.registry import READERS

REPLAY = 'replay'
SHARES = ('equal', 'halves')


@READERS.register_module(name='StreamPart')
def stream_part(images: Mapping, buckets: int | str | Sequence[int | str],
                replay_buckets: Sequence[int | str] | None = None, replay_size: int | None = None,
                replay_seed: int = 0, replay_shares: str | None = None) -> ImageTable:
    """Some buckets of any reader with all its columns, captions among them, and a reservoir of earlier buckets.

    What is replayed follows in one bucket called 'replay', in the order of the stream (see `reservoir_rows`).

    Args:
        images: `dict(type=READER, ...)` whose images have buckets.
        buckets: names (text) or positions in the order in which they first occur (whole numbers).
        replay_buckets: the buckets before, in the order of the stream.
        replay_size: images of the reservoir, at least 1; all there are, if they are fewer.
        replay_seed: of the reservoir.
        replay_shares: how much of it is of which bucket, see `replay_counts`.

    Raises:
        ConfigError: if images have no buckets, one does not exist or is both new and earlier, or `replay_size` is out
            of range.
    """
    found = read_images(images, 'images')
    if 'bucket' not in found:
        raise ConfigError(f"images in buckets are wanted, and those of type {images.get('type')} have none. A table "
                          "with time_key='...', or type='BucketImages', for example, gives some. ConcatPairs "
                          'keeps those of its parts if all have the same, in the same order.')
    if replay_buckets is None:
        return choose_buckets(found, buckets)
    found, places = found.in_buckets()
    names, replayed = (BucketChoice(each).chosen(list(places), found.root) for each in (buckets, replay_buckets))
    both = {*names} & {*replayed}
    if both:
        raise ConfigError(f"bucket '{min(both)}' is both new and replayed.")
    kept = reservoir_rows([(name, len(places[name])) for name in replayed], replay_size, replay_seed,
                          replay_shares)
    rows = np.concatenate([_rows(places, names), _rows(places, replayed)[kept]])
    column = runs([*((name, len(places[name])) for name in names), (REPLAY, len(kept))])
    return found.select(rows).with_column('bucket', column)


def _rows(places: Mapping[str, range], names: Sequence[str]) -> np.ndarray:
    return np.concatenate([np.arange(places[name].start, places[name].stop) for name in names])


def choose_buckets(images: ImageTable, buckets: int | str | Sequence[int | str] | None) -> ImageTable:
    """The images of some buckets, one after another in the order asked for; of one bucket a view.

    Args:
        buckets: names (text) or positions in the order in which they first occur (whole numbers); None takes all.

    Raises:
        ConfigError: if one does not exist or is asked for twice.
    """
    if buckets is None:
        return images
    images, known = images.in_buckets()
    rows = [known[name] for name in BucketChoice(buckets).chosen(list(known), images.root)]
    if len(rows) == 1:
        return images.select(slice(rows[0].start, rows[0].stop))
    return images.select(np.concatenate([np.arange(each.start, each.stop) for each in rows]))


def replay_counts(sizes: Sequence[int], replay_size: int, shares: str) -> list[int]:
    """How many images of each earlier bucket are replayed; all of a bucket that has fewer.

    They get fewer as the stream goes on, never more, so that nothing comes back.

    Args:
        sizes: images of each bucket, in the order of the stream.
        shares: 'equal' gives every bucket as many; 'halves' the last one a half of all, the one before a fourth, and
            so on (Cumulative-Equal and Cumulative-Exp of TiC-CLIP, Garg et al. 2023, arXiv:2310.16226).

    Raises:
        ConfigError: for other shares.
    """
    check_choice('replay_shares', shares, SHARES)
    if shares == 'equal':
        wanted = [replay_size // len(sizes) + (place < replay_size % len(sizes)) for place in range(len(sizes))]
    else:
        wanted, left = [], replay_size
        for _ in sizes[1:]:
            wanted.append((left + 1) // 2)
            left -= wanted[-1]
        wanted = [left, *reversed(wanted)]
    return [min(pair) for pair in zip(wanted, sizes)]


def reservoir_rows(sizes: Sequence[tuple[str, int]], replay_size: int, seed: int, shares: str | None = None
                   ) -> list[int]:
    """Rows, ascending, of a sample without replacement from buckets that lie one after another.

    Every image draws a number once, from (seed, name of its bucket), and those with the smallest stay. That is
    reservoir sampling (Vitter 1985) without a state: what a longer stream keeps of the first buckets is a part of
    what a shorter one kept.

    Args:
        sizes: name and number of images of each bucket.
        shares: None draws alike from all images; else see `replay_counts`.

    Raises:
        ConfigError: if `replay_size` is no whole number of at least 1.
    """
    check_whole('replay_size', replay_size, 1)
    draws = [np.random.default_rng(derive_seed('reservoir', seed, name)).random(count) for name, count in sizes]
    if shares is None:
        return np.sort(_smallest(np.concatenate(draws), replay_size)).tolist()
    counts = [count for _, count in sizes]
    kept = [_smallest(*pair) for pair in zip(draws, replay_counts(counts, replay_size, shares))]
    return np.sort(np.concatenate([rows + start for rows, start in zip(kept, np.cumsum([0, *counts]))])).tolist()


def _smallest(draws: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(draws, kind='stable')[:count]
