"""What identifies data, wherever they lie: banks are found, and runs resumed, by these values, so they never change.

A file whose content changes at equal size goes unnoticed: reading every image would cost as much as a bank saves, or an
epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clear.datasets.buckets import Bucket


def bank_source_fingerprint(ids: Iterable[str], labels: np.ndarray, buckets: Iterable[str | None],
                            class_names: Sequence[str], sizes: Sequence[int] | None = None,
                            clips: Sequence[str | None] | None = None) -> str:
    """SHA-256 of what a bank was made from: ids, labels, buckets and class names, in order.

    Args:
        labels: (N,) class indices.
        sizes: of the files, where there are files (see `file_sizes`).
        clips: of the frames, where the images are frames of clips.
    """
    digest = hashlib.sha256(repr(list(class_names)).encode())
    digest.update(np.ascontiguousarray(labels, dtype='<i8').tobytes())
    # JSON, item by item: no two lists of names may give the same bytes.
    for name, bucket in zip(ids, buckets):
        digest.update(json.dumps([name, bucket]).encode())
    if sizes is not None:
        digest.update(np.asarray(sizes, dtype='<i8').tobytes())
    if clips is not None:
        digest.update(json.dumps(list(clips)).encode())
    return digest.hexdigest()


def pairs_fingerprint(images: str, captions: Iterable[list[str]]) -> str:
    """SHA-256 of images with their captions, in order.

    Args:
        images: `bank_source_fingerprint` of the images.
    """
    digest = hashlib.sha256(images.encode())
    for texts in captions:
        digest.update(json.dumps(texts, ensure_ascii=False).encode('utf-8', 'surrogatepass'))
    return digest.hexdigest()


def image_list_fingerprint(root: Path, paths: Iterable[str], buckets: Iterable[tuple[str, int, int]],
                           sizes: Iterable[int] | None = None) -> str:
    """BLAKE2b (256 bits) of the images of a self-supervised run: buckets, paths and sizes, in order.

    Args:
        buckets: (name, first row, row after the last) of each.
        sizes: bytes of each image; None asks for those of the files.
    """
    digest = hashlib.blake2b(repr(list(buckets)).encode(), digest_size=32)
    paths = list(paths)
    for path, size in zip(paths, file_sizes(root, paths) if sizes is None else sizes):
        digest.update(repr((path, int(size))).encode())
    return digest.hexdigest()


def stream_fingerprint(layout: str, protocol: str, class_names: list[str], train: list[Bucket],
                       test: list[Bucket]) -> str:
    """BLAKE2b (256 bits) of what a stream holds, in order; of files only the names."""
    digest = hashlib.blake2b(repr((layout, protocol, class_names)).encode(), digest_size=32)
    # Under 'streaming' the test stream repeats the train stream.
    for bucket in train if protocol == 'streaming' else train + test:
        digest.update(repr((bucket.name, list(bucket.ids))).encode())
        digest.update(np.ascontiguousarray(bucket.targets, dtype='<i8').tobytes())
        if bucket.features is not None:
            digest.update(repr(tuple(bucket.features.shape)).encode())
            digest.update(memoryview(bucket.features.numpy()).cast('B'))
    return digest.hexdigest()


def file_sizes(root: str | Path, paths: Iterable[str]) -> list[int]:
    """Bytes of each file below `root`; -1 where there is none, or no file can be called so."""
    return [_size(os.path.join(root, path)) for path in paths]  # noqa: PTH118 - as there


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - per image: pathlib takes 30 us
    except (OSError, ValueError):
        return -1
