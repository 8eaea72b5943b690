"""Near-duplicates: perceptual hashes of several views of every image, pairs of rows that are alike, and their groups.

A copy may be encoded anew, resized, mirrored or cropped. `dHash` and `pHash` of the whole image stand the first two;
for a crop the hash of the whole copy is compared with those of crops of the original; a mirrored one has hashes of its
own. Two images are alike if in one such comparison both hashes are near: either alone takes textures for copies.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_BITS, MAX_GRADIENT_BITS = 10, 12
_SIDE, _KEPT = 32, 8  # of the image that pHash transforms, and of the frequencies that it keeps
_BITS = 64
_QUERIES, _ROWS = 512, 8192
_BLOCK = 256


def _view_boxes() -> np.ndarray:
    """(V, 4) left, top, right, bottom as shares of an image.

    The whole; a tenth of the area cut away, with what is left in nine places; a tenth of a side cut away from one side;
    and from every side.
    """
    side = 0.9 ** 0.5
    places = [(x * (1 - side), y * (1 - side)) for x in (0, 0.5, 1) for y in (0, 0.5, 1)]
    boxes = [(0, 0, 1, 1), *((x, y, x + side, y + side) for x, y in places), (0.1, 0, 1, 1), (0, 0, 0.9, 1),
             (0, 0.1, 1, 1), (0, 0, 1, 0.9), (0.1, 0.1, 0.9, 0.9)]
    return np.clip(np.array(boxes), 0, 1)


VIEWS = _view_boxes()


@dataclass(frozen=True)
class Hashes:
    """Hashes of N images; bits as in `imagehash`, the first in the highest place.

    Attributes:
        perceptual, gradient: (N, V) uint64, pHash and dHash of each of `VIEWS`; the first is the whole image.
        mirrored: (N, 2) uint64, both of the whole image mirrored from left to right.
    """

    perceptual: np.ndarray
    gradient: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.perceptual)

    def __getitem__(self, rows: slice | np.ndarray) -> Hashes:
        return Hashes(self.perceptual[rows], self.gradient[rows], self.mirrored[rows])

    @classmethod
    def joined(cls, parts: Iterable[Hashes]) -> Hashes:
        """One after the other."""
        parts = list(parts)
        return cls(*(np.concatenate([getattr(part, name) for part in parts])
                     for name in ('perceptual', 'gradient', 'mirrored')))

    def _wholes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(N,) pHash and (N,) dHash of the image as it is, and mirrored."""
        yield self.perceptual[:, 0], self.gradient[:, 0]
        yield self.mirrored[:, 0], self.mirrored[:, 1]


def image_hashes(images: Iterable[Image.Image]) -> Hashes:
    """Hashes of images, a few of them in memory at once."""
    found = [Hashes(np.zeros((0, len(VIEWS)), np.uint64), np.zeros((0, len(VIEWS)), np.uint64),
                    np.zeros((0, 2), np.uint64))]
    found += [_hashes(batch) for batch in _batches(images)]
    return Hashes.joined(found)


def _batches(images: Iterable[Image.Image]) -> Iterator[tuple[Image.Image, ...]]:
    images = iter(images)
    while batch := tuple(itertools.islice(images, _BLOCK)):
        yield batch


def _hashes(images: tuple[Image.Image, ...]) -> Hashes:
    count = len(images)
    squares = np.empty((count, len(VIEWS), _SIDE, _SIDE), np.uint8)
    rows = np.empty((count, len(VIEWS), _KEPT, _KEPT + 1), np.uint8)
    for place, image in enumerate(images):
        grey = image.convert('L')
        for view, box in enumerate(VIEWS * np.array([*grey.size, *grey.size])):
            squares[place, view] = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, tuple(box)))
            rows[place, view] = np.asarray(grey.resize((_KEPT + 1, _KEPT), Image.Resampling.LANCZOS, tuple(box)))
    transform = _cosines()
    frequencies = transform @ squares.astype(np.float64) @ transform.T  # (N, V, 8, 8)
    # Mirrored, every odd frequency of a row changes its sign.
    signs = (-1.0) ** np.arange(_KEPT)
    mirrored = np.stack([_above_median(frequencies[:, 0] * signs), _rising(rows[:, 0, :, ::-1])], 1)
    return Hashes(_above_median(frequencies), _rising(rows), mirrored)


def _cosines() -> np.ndarray:
    """(8, 32): the lowest frequencies of the discrete cosine transform, unscaled as scipy's."""
    return 2 * np.cos(np.pi * np.arange(_KEPT)[:, None] * (2 * np.arange(_SIDE) + 1) / (2 * _SIDE))


def _above_median(frequencies: np.ndarray) -> np.ndarray:
    flat = frequencies.reshape(*frequencies.shape[:-2], _BITS)
    return _packed(flat > np.median(flat, -1, keepdims=True))


def _rising(rows: np.ndarray) -> np.ndarray:
    return _packed((rows[..., 1:] > rows[..., :-1]).reshape(*rows.shape[:-2], _BITS))


def _packed(bits: np.ndarray) -> np.ndarray:
    """(..., 64) bool -> (...) uint64."""
    return np.packbits(bits, -1).view('>u8')[..., 0].astype(np.uint64)


def near_duplicates(hashes: Hashes, others: Hashes | None = None, max_bits: int = MAX_BITS,
                    max_gradient_bits: int = MAX_GRADIENT_BITS) -> np.ndarray:
    """Pairs of images that are copies of each other, or of one original.

    Every pair is looked at, block by block: memory does not grow with the number of images, time with its square (about
    0.1 s for a million pairs).

    Args:
        others: where to look; None = among `hashes` themselves, each pair once.
        max_bits: most of 64 bits in which pHash may differ, 0 to 64.
        max_gradient_bits: the same of dHash.

    Returns:
        (P, 2) int64: row of `hashes`, row of `others` (or a later one of `hashes`), sorted.
    """
    within = others is None
    others = hashes if within else others
    found = [np.zeros((0, 2), np.int64)]
    for first in range(0, len(hashes), _QUERIES):
        for start in range(first if within else 0, len(others), _ROWS):
            one, other = hashes[first:first + _QUERIES], others[start:start + _ROWS]
            alike = _alike(one, other, max_bits, max_gradient_bits)
            alike |= _alike(other, one, max_bits, max_gradient_bits).T
            found.append(np.argwhere(alike) + [first, start])
    return _sorted(np.concatenate(found), within)


def _alike(wholes: Hashes, crops: Hashes, max_bits: int, max_gradient_bits: int) -> np.ndarray:
    """(N, M) bool: whether the whole of an image is like a view of another."""
    alike = np.zeros((len(wholes), len(crops)), bool)
    for perceptual, gradient in wholes._wholes():
        for view in range(len(VIEWS)):
            near = np.bitwise_count(perceptual[:, None] ^ crops.perceptual[:, view]) <= max_bits
            row, column = np.nonzero(near)
            is_near = np.bitwise_count(gradient[row] ^ crops.gradient[column, view]) <= max_gradient_bits
            alike[row[is_near], column[is_near]] = True
    return alike


def near_features(features: np.ndarray, others: np.ndarray | None = None, min_cosine: float = 0.95) -> np.ndarray:
    """Pairs of rows whose cosine is at least `min_cosine`, as `near_duplicates` gives them.

    Args:
        features, others: (N, D) and (M, D), of any length; a row of zeros is like none.
    """
    within = others is None
    others = features if within else others
    found = [np.zeros((0, 2), np.int64)]
    for first in range(0, len(features), _QUERIES):
        for start in range(first if within else 0, len(others), _ROWS):
            cosines = _unit(features[first:first + _QUERIES]) @ _unit(others[start:start + _ROWS]).T
            found.append(np.argwhere(cosines >= min_cosine) + [first, start])
    return _sorted(np.concatenate(found), within)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def _sorted(pairs: np.ndarray, within: bool) -> np.ndarray:
    pairs = pairs[pairs[:, 0] < pairs[:, 1]] if within else pairs
    return pairs[np.lexsort(pairs.T[::-1])]


def groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """(count,) int64: the smallest row that each is joined to by pairs, itself if by none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    _, firsts = np.unique(labels, return_index=True)
    return firsts[labels].astype(np.int64)
