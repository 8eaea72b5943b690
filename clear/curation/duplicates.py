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
_QUERIES, _ROWS = 512, 32_768
_WORDS, _MOST_PROBES, _CANDIDATES = 4, 4000, 1 << 21
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

    Exact for any number of bits, block by block: memory does not grow with the number of images, time with its square,
    about 0.02 to 0.1 s for a million pairs. A view is only compared where it shares a word of 16 bits but for a quarter
    of the bits in which it may differ.

    Args:
        others: where to look; None = among `hashes` themselves, each pair once.
        max_bits: most of 64 bits in which pHash may differ, 0 to 64.
        max_gradient_bits: the same of dHash.

    Returns:
        (P, 2) int64: row of `hashes`, row of `others` (or a later one of `hashes`), sorted.
    """
    found = [np.zeros((0, 2), np.int64), *_whole_like_view(hashes, hashes if others is None else others, max_bits,
                                                           max_gradient_bits)]
    if others is None:
        return _sorted(np.sort(np.concatenate(found), 1), True)
    # And the other way round: `others` may be what was cropped.
    found += [pairs[:, ::-1] for pairs in _whole_like_view(others, hashes, max_bits, max_gradient_bits)]
    return _sorted(np.concatenate(found), False)


def _whole_like_view(wholes: Hashes, crops: Hashes, max_bits: int, max_gradient_bits: int) -> Iterator[np.ndarray]:
    """(row of `wholes`, row of `crops`) where the whole of one, or its mirror image, is like a view of the other."""
    for start in range(0, len(crops), _ROWS):
        block = crops[start:start + _ROWS]
        gradient = block.gradient.reshape(-1)
        index = _Index(block.perceptual.reshape(-1), max_bits)
        for first in range(0, len(wholes), _QUERIES):
            for perceptual, its_gradient in wholes[first:first + _QUERIES]._wholes():
                for query, entry in index.near(perceptual):
                    alike = np.bitwise_count(its_gradient[query] ^ gradient[entry]) <= max_gradient_bits
                    yield np.unique(np.column_stack([query[alike] + first, entry[alike] // len(VIEWS) + start]), axis=0)


class _Index:
    """Hashes by each of their four 16-bit words: of two that differ in at most `max_bits`, one word does in a quarter.

    Args:
        hashes: (N,) uint64.
    """

    def __init__(self, hashes: np.ndarray, max_bits: int):
        self.hashes, self.max_bits = hashes, max_bits
        self.masks = _masks(max_bits // _WORDS)
        self.is_exhaustive = len(self.masks) * _WORDS > _MOST_PROBES  # cheaper to look at all
        if not self.is_exhaustive:
            words = [self._word(hashes, word) for word in range(_WORDS)]
            self.orders = [np.argsort(each, kind='stable') for each in words]
            self.offsets = [np.concatenate([[0], np.cumsum(np.bincount(each, minlength=1 << 16))]) for each in words]

    def near(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(place in `queries`, place in the index) of those that differ in at most `max_bits`, some of them twice."""
        if self.is_exhaustive:
            for first in range(0, len(queries), 32):
                query, entry = np.nonzero(np.bitwise_count(queries[first:first + 32, None] ^ self.hashes)
                                          <= self.max_bits)
                yield query + first, entry
            return
        for word in range(_WORDS):
            values = self._word(queries, word)[:, None] ^ self.masks
            begins, ends = self.offsets[word][values].reshape(-1), self.offsets[word][values + 1].reshape(-1)
            hit = np.flatnonzero(ends > begins)
            sizes = ends[hit] - begins[hit]
            totals = np.cumsum(sizes)
            cuts = np.searchsorted(totals, np.arange(0, totals[-1] if len(totals) else 0, _CANDIDATES), 'right')
            for low, high in zip(cuts, [*cuts[1:], len(hit)]):
                chosen = slice(low, max(high, low + 1))
                places = _ranges(begins[hit[chosen]], sizes[chosen])
                entry, query = self.orders[word][places], np.repeat(hit[chosen] // len(self.masks), sizes[chosen])
                is_near = np.bitwise_count(queries[query] ^ self.hashes[entry]) <= self.max_bits
                yield query[is_near], entry[is_near]

    @staticmethod
    def _word(hashes: np.ndarray, word: int) -> np.ndarray:
        return ((hashes >> np.uint64(16 * word)) & np.uint64(0xFFFF)).astype(np.int64)


def _masks(bits: int) -> np.ndarray:
    """All 16-bit words with at most so many bits."""
    words = np.arange(1 << 16)
    return words[np.bitwise_count(words) <= bits]


def _ranges(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """begin, begin + 1, ... of each range, one after the other."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(begins - before, sizes) + np.arange(sizes.sum())


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
    return np.unique(pairs, axis=0)


def groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """(count,) int64: the smallest row that each is joined to by pairs, itself if by none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    _, firsts = np.unique(labels, return_index=True)
    return firsts[labels].astype(np.int64)
