"""Ranks of right items by cosine: of an image's captions and a caption's image in one pass, and of any pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from clear.evaluation.metrics.ranking import RelevantRanks, counts_among, ranks_from_counts
from clear.evaluation.metrics.similarity import unit_rows

_MOST_IMAGES, _MOST_TEXTS, _TILE = 512, 4096, 2**21  # a tile of similarities has at most 8 MB


def first_ranks(images: Tensor, texts: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """The rank of each image's first caption among all texts, and of each text's image among all images.

    Ranks begin at 1. A right item stands behind all others of its cosine, which for copies is equal to the bit (see
    `unit_rows`). One matrix product gives both, tile by tile. Tiles on the diagonal, which hold an image's own
    captions, come first: what they say of a right item is what all other tiles of the same shape are compared with.

    Args:
        images: (N, D); texts: (T, D), of any norm.
        owners: (T,) the row of the image of each text.

    Returns:
        (N,) and (T,) float64.

    Raises:
        ValueError: for shapes that do not fit, rows that are not finite, or an image without a text.
    """
    _check(images, texts)
    counts = torch.bincount(owners.cpu(), minlength=len(images))
    if len(owners) != len(texts) or len(counts) > len(images) or not counts.all():
        lonely = (counts == 0).nonzero()
        raise ValueError(f'image {int(lonely[0])} has no text.' if len(lonely) else
                         f'owners are {len(owners)} rows of {len(counts)} images, for {len(texts)} texts of '
                         f'{len(images)}.')
    order = owners.argsort(stable=True)
    texts, owners = texts[order].to(images.dtype), owners[order]
    blocks = _blocks(counts)
    tall, wide = (max(part.stop - part.start for part in parts) for parts in zip(*blocks))
    found = _Rivals(images, texts)
    units = [unit_rows(images[rows], tall) for rows, _ in blocks]
    for (rows, columns), unit in zip(blocks, units):
        found.add_own(unit @ unit_rows(texts[columns], wide).T, rows, columns, owners[columns] - rows.start)
    for _, columns in blocks:
        text_unit = unit_rows(texts[columns], wide).T
        for (rows, own_columns), unit in zip(blocks, units):
            if columns is not own_columns:
                found.add(unit @ text_unit, rows, columns)
    return found.of_images + 1, torch.empty_like(found.of_texts).index_copy_(0, order, found.of_texts + 1)


def pair_ranks(queries: Tensor, candidates: Tensor, pair_queries: Tensor, pair_candidates: Tensor) -> RelevantRanks:
    """Ranks of P right candidates of any queries among all candidates, by falling cosine.

    Similarities of some queries to all candidates are held at once, and a right one is read among them.

    Args:
        queries: (Q, D); candidates: (C, D), of any norm.
        pair_queries: (P,), pair_candidates: (P,) rows that belong together, no pair twice.

    Raises:
        ValueError: for shapes that do not fit, rows that are not finite, or a query without a right candidate.
    """
    _check(queries, candidates)
    order = pair_queries.argsort(stable=True)
    rows, columns = pair_queries[order], pair_candidates[order]
    counts = torch.bincount(rows, minlength=len(queries))
    if not counts.all():
        raise ValueError(f'query {int((counts == 0).nonzero()[0])} has no right candidate.')
    ends = counts.cumsum(0).tolist()
    units = unit_rows(candidates.to(queries.dtype))
    size = min(max(_TILE // len(candidates), 64), 1024)
    parts, begin = [], 0
    for start in range(0, len(queries), size):
        block = queries[start:start + size]
        pairs = slice(begin, begin := ends[start + len(block) - 1])
        cosine = (unit_rows(block, size) @ units.T)[:len(block), :len(candidates)]
        parts.append(counts_among(cosine, rows[pairs] - start, columns[pairs]))
    above, equal = map(torch.cat, zip(*parts))
    return ranks_from_counts(rows, above, equal, len(queries))


class _Rivals:
    """How many rivals of images and of texts are not below what is right for them."""

    def __init__(self, images: Tensor, texts: Tensor):
        like = dict(device=images.device, dtype=torch.float64 if images.dtype == torch.float64 else torch.float32)
        self.best, self.own = torch.empty(len(images), **like), torch.empty(len(texts), **like)
        self.of_images, self.of_texts = (torch.zeros(len(each), dtype=torch.float64, device=images.device)
                                         for each in (images, texts))

    def add_own(self, tile: Tensor, rows: slice, columns: slice, owners: Tensor) -> None:
        """Count in a tile in which every text has its image, in row `owners`, and every image all its texts."""
        place = torch.arange(len(owners), device=tile.device)
        own = tile[owners, place]
        self.own[columns] = own
        self.best[rows] = torch.full_like(self.best[rows], -torch.inf).scatter_reduce(0, owners, own, 'amax')
        tile[owners, place] = -torch.inf  # no rival
        self.add(tile, rows, columns)

    def add(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Count in a tile, which ends in rows and columns of zeros that belong to nothing."""
        tile = tile[:rows.stop - rows.start, :columns.stop - columns.start]
        is_rival = torch.empty_like(tile)  # sums of numbers are ten times as fast as sums of truth values
        self.of_images[rows] += torch.ge(tile, self.best[rows, None], out=is_rival).sum(1)
        self.of_texts[columns] += torch.ge(tile, self.own[columns], out=is_rival).sum(0)


def _blocks(counts: Tensor) -> list[tuple[slice, slice]]:
    """Images in their order, and their texts, cut into blocks; an image with all its texts is never cut."""
    most_texts = max(_MOST_TEXTS, int(counts.max()))
    most_images = min(max(_TILE // most_texts, 64), _MOST_IMAGES)
    blocks, image, text, previous = [], 0, 0, 0
    for row, end in enumerate(counts.cumsum(0).tolist()):
        if row - image == most_images or end - text > most_texts:
            blocks.append((slice(image, row), slice(text, previous)))
            image, text = row, previous
        previous = end
    return [*blocks, (slice(image, len(counts)), slice(text, previous))]


def _check(queries: Tensor, candidates: Tensor) -> None:
    for name, rows in (('queries', queries), ('candidates', candidates)):
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f'{name} {tuple(rows.shape)} should be (N, D), N > 0.')
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(f'queries have {queries.shape[1]} dimensions, candidates {candidates.shape[1]}.')
