"""Clips: images of which a fixed number belong together, as the frames of a video or the two views of a motion.

A clip is S rows of a table that follow each other and have the same text in the column `clip`; the label stands on each
of them, a target for pixels (column `mask`) on the first. A bank holds a row for each frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from clear.core.errors import DataError
from clear.datasets.columns import encoded_texts, plain_text
from clear.datasets.table import ImageTable

CLIP = 'clip'


def clip_table(root: Path, clips: Iterable[tuple[str, Sequence[str], int]], class_names: Sequence[str],
               name: str = '') -> ImageTable:
    """The frames of clips, each under the id `<clip>#<place>`: one file may be a frame of several clips.

    Args:
        root: what paths are relative to.
        clips: of each its name, the paths of its frames, and its class index.

    Raises:
        DataError: if clips have different lengths or the same name, or as `ImageTable` does.
    """
    rows = [(f'{clip}#{place}', path, label, clip) for clip, paths, label in clips for place, path in enumerate(paths)]
    columns = dict(zip(('id', 'path', 'label', CLIP), zip(*rows) if rows else ((),) * 4))
    images = ImageTable.from_columns(root, columns, class_names, name=name)
    clip_length(images)
    return images


def clip_length(images: ImageTable) -> int:
    """S, how many rows make a clip: 1 without the column `clip`.

    Raises:
        DataError: naming the clip, if one has another length than the rest, is split up, or has several labels, or if
            an image belongs to none.
    """
    if CLIP not in images or not len(images):
        return 1
    encoded = encoded_texts(images[CLIP])
    if encoded.indices.null_count:
        row = int(encoded.indices.is_null().to_numpy(zero_copy_only=False).argmax())
        raise DataError(f"{images.root}: the image '{images.text('id', row)}' belongs to no clip, others do.")
    codes = encoded.indices.to_numpy()
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
    lengths = np.diff([*firsts, len(codes)])

    def name(run: int) -> str:
        return ascii(plain_text(encoded.dictionary[int(codes[firsts[run]])].as_py()))

    runs, counts = np.unique(codes[firsts], return_counts=True)
    if (counts > 1).any():
        run = int((codes[firsts] == runs[counts.argmax()]).argmax())
        raise DataError(f'{images.root}: the frames of clip {name(run)} do not follow each other.')
    length = Counter(lengths.tolist()).most_common(1)[0][0]
    if (lengths != length).any():
        run = int((lengths != length).argmax())
        raise DataError(f'{images.root}: clip {name(run)} has {lengths[run]} frames, others have {length}.')
    labels = images.label_array().reshape(-1, length)
    odd = (labels != labels[:, :1]).any(1)
    if odd.any():
        run = int(odd.argmax())
        raise DataError(f'{images.root}: the frames of clip {name(run)} have different labels, '
                        f'{sorted({*labels[run].tolist()})}.')
    return length


def whole_clips(usable: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """The rows of clips whose every frame can be used: one that lacks a frame is left out as a whole.

    Args:
        usable: (M * S,) bool, row by row: the image could be read and has a label.
        length: S.

    Returns:
        rows (K, S) int64 of the clips that stay, in their order, and how many are left out.

    Raises:
        DataError: if the rows are no whole number of clips.
    """
    if len(usable) % length:
        raise DataError(f'{len(usable)} rows make no whole number of clips of {length} frames.')
    rows = np.arange(len(usable)).reshape(-1, length)
    whole = np.asarray(usable, bool).reshape(-1, length).all(1)
    return rows[whole], int((~whole).sum())

