"""Which captions fit which images beyond those they were written for, from a file.

The file is JSON::

    {"image_to_captions": {"391895": [770337, 771687], ...},    image id -> caption ids, at least one each
     "caption_to_images": {"770337": [391895, 60623], ...}}

Either part may be absent, and then this way is not measured; the two need not mirror each other, as in ECCV Caption
(Chun et al. 2022, arXiv:2204.03359) they do not. Ids are text or numbers. Those of COCO are its own; of other images
they are the `id`, and of a caption the id of its image, `#` and its place among the captions of this image: `a.jpg#0`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clear.core.errors import DataError
from clear.core.files import read_json

if TYPE_CHECKING:
    from clear.datasets import ImageTable

PARTS = {'image2text': 'image_to_captions', 'text2image': 'caption_to_images'}


@dataclass(frozen=True)
class Pairs:
    """Right pairs of one way, of queries that have any.

    Args:
        queries: (Q,) rows of the queries.
        pair_queries: (P,) places in `queries`; pair_candidates: (P,) rows of candidates.
        missing: (Q,) how many right candidates the data lack; they are never found.
        left_out: how many pairs, and how many queries with all of theirs, have an image that cannot be read.
    """

    queries: Tensor
    pair_queries: Tensor
    pair_candidates: Tensor
    missing: Tensor
    left_out: dict[str, int]


@dataclass(frozen=True)
class Positives:
    """The content of a file of positives: way ('image2text', 'text2image') -> query id -> ids of what is right."""

    path: str
    ways: Mapping[str, Mapping[str, Sequence[str]]]

    @classmethod
    def read(cls, path: str | Path) -> Positives:
        """Read a file, see above.

        Raises:
            DataError: if it is missing or has another shape.
        """
        content, ways = read_json(path), {}
        if not isinstance(content, dict) or not set(content) & set(PARTS.values()):
            raise DataError(f'{path} holds no positives: expected {{"image_to_captions": {{image id: [caption id, '
                            '...]}, "caption_to_images": {...}}.')
        for way, part in PARTS.items():
            if part not in content:
                continue
            found = content[part]
            if not isinstance(found, dict) or not found:
                raise DataError(f'{path}: {part} should hold lists of ids by id, found {type(found).__name__}.')
            for query, ids in found.items():
                if not isinstance(ids, list) or not ids or not all(type(each) in (str, int) for each in ids):
                    raise DataError(f'{path}: {part} of {query!r} is {str(ids)[:60]}; expected a list of ids, at least '
                                    'one.')
            ways[way] = {query: list(dict.fromkeys(map(str, ids))) for query, ids in found.items()}
        return cls(str(path), ways)

    def pairs(self, way: str, query_rows: Mapping[str, int], candidate_rows: Mapping[str, int]) -> Pairs:
        """The pairs of a way in data whose ids lie in these rows; -1 is one that cannot be read.

        Some ids of candidates may not be in the data, as two captions of ECCV Caption are not among the 25,000 of
        COCO-5K: they count as right and are never found, as in its package.

        Raises:
            DataError: for a query that the data lack or of which they lack all that is right, or none that can be read.
        """
        positives = self.ways[way]
        lacking = [query for query, ids in positives.items()
                   if query not in query_rows or not any(each in candidate_rows for each in ids)]
        if lacking:
            raise DataError(f"{self.path}: {PARTS[way]} has {len(lacking)} ids that the data lack, or lack all of "
                            f"theirs, the first is '{lacking[0]}'. Are these the images that it was made for?")
        queries, pairs, missing, unread = [], [], [], 0
        for query, ids in positives.items():
            found = [candidate_rows[each] for each in ids if each in candidate_rows]
            right = [row for row in found if row >= 0] if query_rows[query] >= 0 else []
            unread += len(found) - len(right)
            if right:
                pairs += [(len(queries), row) for row in right]
                missing.append(len(ids) - len(found))
                queries.append(query_rows[query])
        if not queries:
            raise DataError(f'{self.path}: no query of {PARTS[way]} can be read.')
        places, rows = torch.tensor(pairs).T
        return Pairs(torch.tensor(queries), places, rows, torch.tensor(missing),
                     dict(pairs=unread, queries=len(positives) - len(queries)))


def image_ids(images: ImageTable) -> list[str]:
    """The ids of images as files of positives know them."""
    return images.texts('image_id' if 'image_id' in images else 'id')


def caption_ids(images: ImageTable, row: int, image_id: str) -> list[str]:
    """The ids of the captions of an image, in their order."""
    if 'caption_ids' in images:
        return images['caption_ids'][row].as_py()
    return [f'{image_id}#{place}' for place in range(len(images.captions(row)))]
