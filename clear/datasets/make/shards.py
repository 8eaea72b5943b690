"""Pairs of any reader as tar shards, by webdataset's writer: the same pairs give the same bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from clear.core.checks import check_number, check_whole
from clear.core.errors import DataError
from clear.core.files import atomic_writer, read_json, remove_left_overs, write_json
from clear.core.logs import Report, logger
from clear.datasets.fingerprints import pairs_fingerprint
from clear.datasets.images.decode import UnreadableImage, decode_image
from clear.datasets.readers.pairs.shards import MANIFEST, require_webdataset
from clear.datasets.shards.index import Fields, index_file, make_index, open_index
from clear.datasets.table import ImageTable

FORMAT = 1
# What is stored as it is, by its first bytes; other images become PNG.
_KINDS = ((b'\xff\xd8\xff', 'jpg'), (b'\x89PNG\r\n\x1a\n', 'png'))


@dataclass(frozen=True)
class ShardSummary:
    """What `write_shards` has made.

    Attributes:
        names: of the shards.
        counts, sizes: pairs and bytes of each.
        bad: row of the reader -> why its image is left out.
        kept: shards that were there already.
    """

    names: list[str]
    counts: list[int]
    sizes: list[int]
    bad: dict[int, str]
    kept: int


def write_shards(images: ImageTable, out: str | Path, *, shard_size: int = 1000, shuffle: int | None = None,
                 max_bad_fraction: float = 0.01, overwrite: bool = False, progress: Report | None = None
                 ) -> ShardSummary:
    """Write `shards-00000.tar`, ... with their indices to a folder, and at last `shards.json`.

    A key is the row of the pair in the reader. Its files are the image as it is (`jpg`, `png` or `webp`; what is none
    of these as `png`), `txt`, or `captions.json` for several captions, `cls` if it has a label, `time` if it has one. A
    shard gets its name when it is whole; after a kill the same call goes on with the first that is not there, or from
    the beginning with `overwrite`. Shards have times and no buckets; of buckets without times a warning says so.

    Args:
        shard_size: pairs of a shard; the last may have fewer.
        shuffle: a seed mixes the pairs first. Within a shard a training mixes by its buffer alone, so pairs sorted by
            class or time should be mixed here.
        max_bad_fraction: share of images that may be missing or unreadable; they are left out. Damage that shows in
            decoding alone is kept, and found in training.
        overwrite: replace the shards in the folder, all of them.
        progress: called as `progress(done, total)` with pairs of the shards that are not there yet.

    Raises:
        DataError: for pairs without captions or with weights, a folder with other content, or too many unreadable
            images.
        ConfigError: without webdataset.
    """
    require_webdataset()
    check_whole('shard_size', shard_size, 1)
    check_number('max_bad_fraction', max_bad_fraction, 0, 1)
    bare = np.flatnonzero(images.caption_counts() == 0)
    if len(bare):
        raise DataError(f"{images.root}: {len(bare)} of {len(images)} images have no caption; the first is "
                        f"'{images.text('id', int(bare[0]))}'.")
    if 'weight' in images:
        raise DataError(f'{images.root}: the pairs have weights, for which shards have no place. Write them without '
                        'weights=[...], or each part to a folder of its own, and join the folders by ConcatPairs.')
    if images.bucket_names() and ('taken_at' not in images or images['taken_at'].null_count):
        logger.warning('%s: the shards will have no buckets: they hold times alone, of which these pairs lack some or '
                       'all.', images.root)
    out = Path(out)
    if out.resolve() == Path(images.root).resolve():
        raise DataError(f'{out} is where the pairs are read from. Write their shards to another folder.')
    order = np.arange(len(images)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(images))
    parts = {f'shards-{place:05}.tar': order[start:start + shard_size]
             for place, start in enumerate(range(0, len(order), shard_size))}
    plan = dict(format=FORMAT, pairs=pairs_fingerprint(images.fingerprint(), map(images.captions, range(len(images)))),
                shard_size=shard_size, shuffle=shuffle, class_names=list(images.class_names))
    bad = _begin(out, plan, overwrite)
    kept = {name for name, rows in parts.items() if _is_whole(out / name, rows, bad)}
    total, done = sum(len(rows) for name, rows in parts.items() if name not in kept), 0
    for name in (name for name in parts if name not in kept):
        report = partial(_report, progress, done, total)
        bad |= _write(images, out / name, parts[name], report)
        _check_bad(images, bad, max_bad_fraction)
        done += len(parts[name])
        _note(out, plan, bad)
        make_index(out / name, Fields())
    counts = [len(open_index(out / name, Fields())) for name in parts]
    sizes = [(out / name).stat().st_size for name in parts]
    shards = [dict(name=name, count=count, bytes=size) for name, count, size in zip(parts, counts, sizes)]
    _note(out, plan, bad, shards)
    return ShardSummary(list(parts), counts, sizes, bad, len(kept))


def _begin(out: Path, plan: dict, overwrite: bool) -> dict[int, str]:
    """Make the folder, or find in it what is known of the pairs that were left out.

    Raises:
        DataError: if it holds something else.
    """
    found = read_json(out / MANIFEST) if (out / MANIFEST).is_file() else None
    if isinstance(found, dict) and all(found.get(key) == value for key, value in plan.items()):
        remove_left_overs(out, ['*.tar', f'*{index_file(Path()).name}', MANIFEST])
        if not overwrite:
            return {int(row): reason for row, reason in found.get('left_out', {}).items()}
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            other = sorted(key for key in plan if found.get(key) != plan[key]) if isinstance(found, dict) else []
            reason = f'shards with other {", ".join(other)}' if other else 'other content'
            raise DataError(f'{out} holds {reason}. Write to another folder, or use --overwrite.')
        for path in out.glob('shards-*.tar*'):
            path.unlink()
    _note(out, plan, {})
    return {}


def _note(out: Path, plan: dict, bad: dict[int, str], shards: Sequence[dict] = ()) -> None:
    left_out = {str(row): bad[row] for row in sorted(bad)}
    write_json(out / MANIFEST, dict(plan, complete=bool(shards), left_out=left_out, shards=list(shards)))


def _is_whole(shard: Path, rows: Sequence[int], bad: dict[int, str]) -> bool:
    """Whether a shard that has its name is there with its index; one without is written again."""
    index = open_index(shard, Fields()) if shard.is_file() else None
    return index is not None and index['key'].to_pylist() == [_key(row) for row in rows if row not in bad]


def _report(progress: Report | None, before: int, total: int, done: int) -> None:
    if progress is not None:
        progress(before + done, total)


def _check_bad(images: ImageTable, bad: dict[int, str], most: float) -> None:
    if len(bad) > most * len(images):
        row = next(reversed(bad))
        raise DataError(f'{len(bad)} of {len(images)} images cannot be read, more than max_bad_fraction = {most:.1%}. '
                        f"Last: '{images.text('id', row)}' ({bad[row]}).")


def _write(images: ImageTable, shard: Path, rows: Sequence[int], report: Callable[[int], None]) -> dict[int, str]:
    """Write a shard; the rows that are left out, and why."""
    from webdataset import TarWriter

    bad = {}
    with atomic_writer(shard) as file, TarWriter(file, encoder=False, mtime=0) as writer:
        for done, row in enumerate(map(int, rows), 1):
            try:
                writer.write(_sample(images, row))
            except UnreadableImage as error:
                bad[row] = str(error)
            report(done)
    return bad


def _key(row: int) -> str:
    return f'{row:09}'


def _sample(images: ImageTable, row: int) -> dict[str, str | bytes]:
    content = images.content(row)
    kind = None if content is None else _kind(content)
    if kind is None:
        image = images.open_image(row) if content is None else decode_image(content)
        stored = io.BytesIO()
        image.save(stored, 'PNG')
        kind, content = 'png', stored.getvalue()
    sample = {'__key__': _key(row), kind: content}
    captions = images.captions(row)
    if len(captions) == 1:
        sample['txt'] = captions[0].encode()
    else:
        sample['captions.json'] = json.dumps(captions, ensure_ascii=False).encode()
    if 'label' in images and (label := images['label'][row].as_py()) not in (None, -1):
        sample['cls'] = str(label).encode()
    if 'taken_at' in images and (time := images['taken_at'][row].as_py()) is not None:
        sample['time'] = time.isoformat().encode()
    return sample


def _kind(content: bytes) -> str | None:
    if content[:4] == b'RIFF' and content[8:12] == b'WEBP':
        return 'webp'
    return next((kind for start, kind in _KINDS if content.startswith(start)), None)
