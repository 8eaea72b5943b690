"""Looking at a bank by texts and images: what is most like them, in which order, and when it was uploaded.

The page, the contact sheet and notebooks are made of these; see docs/prompts.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.checks import check_choice, check_whole
from clear.core.errors import DataError
from clear.core.modes import evaluation_mode
from clear.curation.images import IMAGES
from clear.curation.retrieval.inputs import columns_of
from clear.curation.retrieval.prompts import TEMPLATES, read_prompts
from clear.curation.retrieval.search import row_scores, top_scores
from clear.datasets.images.decode import MAX_BYTES, UnreadableImage, decode_image

if TYPE_CHECKING:
    from clear.curation.manifest import Finished
    from clear.curation.retrieval.tower import TextTower
    from clear.features.bank import FeatureBank
    from clear.models.towers.image.base import ImageEncoder

BINS = 15
PERIODS = dict(year=4, month=7, day=10)  # signs of YYYY-MM-DD
UNKNOWN = 'unknown'


@dataclass(frozen=True)
class Ranked:
    """Images in the order of their scores.

    Attributes:
        ranks: (n,) from 1.
        scores: (n,) float32 cosines.
        rows: (n,) counted through the banks that were searched.
        ids: (n,) int64, or text.
    """

    ranks: np.ndarray
    scores: np.ndarray
    rows: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ranks)

    def between(self, first: int, last: int) -> Ranked:
        """Ranks `first` to `last`, both included."""
        return self._take((self.ranks >= first) & (self.ranks <= last))

    def every(self, nth: int) -> Ranked:
        """Ranks nth, 2 * nth, ...: every 40th of the top 1000 is enough to judge a prompt."""
        check_whole('nth', nth, 1)
        return self._take(self.ranks % nth == 0)

    def at(self, ranks: Sequence[int]) -> Ranked:
        """These ranks, those of them that there are."""
        return self._take(np.isin(self.ranks, np.asarray(ranks)))

    def _take(self, chosen: np.ndarray) -> Ranked:
        return Ranked(self.ranks[chosen], self.scores[chosen], self.rows[chosen], self.ids[chosen])


def text_vector(tower: TextTower, text: str, prefix: str = '', templates: Sequence[str] = TEMPLATES) -> np.ndarray:
    """(D,) the unit vector of a text, as retrieval has it.

    Raises:
        ConfigError: for an empty text.
    """
    return read_prompts(dict(query=text), prefix=prefix, templates=templates).encode(tower).queries[0][0]


def image_vector(encoder: ImageEncoder, image: str | Path | bytes) -> np.ndarray:
    """(D,) the features of an image, a file or its bytes; not of length one.

    Raises:
        DataError: if it cannot be read, or is above the limits of `clear.datasets.images.decode`.
    """
    import torch

    if isinstance(image, bytes) and len(image) > MAX_BYTES:
        raise DataError(f'the image has {len(image):,} bytes, more than {MAX_BYTES:,}.')
    try:
        prepared = encoder.preprocess.build()(decode_image(image))
    except UnreadableImage as error:
        name = 'the image' if isinstance(image, bytes) else str(image)
        raise DataError(f'{name} cannot be read: {error}') from error
    with evaluation_mode(encoder), torch.no_grad():
        return encoder(prepared[None])[0].float().cpu().numpy()


def ranked(banks: Sequence[FeatureBank], vector: np.ndarray, last: int, first: int = 1, *, lowest: bool = False,
           masks: Sequence[np.ndarray | None] | None = None) -> Ranked:
    """Ranks `first` to `last` of all images of the banks, by their cosine with a vector.

    Args:
        vector: (D,), of `text_vector`, `image_vector` or a row of a bank.
        lowest: from the least similar one on.
        masks: see `top_scores`.

    Raises:
        ConfigError: unless 1 <= first <= last.
        DataError: for a vector of another width than the banks, or without a direction.
    """
    check_whole('first', first, 1)
    check_whole('last', last, first)
    found = top_scores(banks, np.asarray(vector)[None], last, both=lowest, masks=masks)
    hits = found.lowest if lowest else found.highest
    everything = Ranked(np.arange(1, hits.scores.shape[1] + 1), hits.scores[0], hits.rows[0], hits.ids[0])
    return everything.between(first, last)


def vector_of(banks: Sequence[FeatureBank], image_id: int | str) -> np.ndarray:
    """(D,) float32 the features of an image of the banks, to look for others like it.

    Raises:
        DataError: if no bank has that id, or its row has no direction.
    """
    bank, row, _ = _find(banks, image_id)
    vector = np.asarray(bank.features[row], np.float32)
    if not (bank.valid[row] and np.isfinite(vector).all() and vector.any()):
        raise DataError(f"{bank.path}: the features of image '{image_id}' are zero or no numbers.")
    return vector


def score(banks: Sequence[FeatureBank], image_id: int | str, vector: np.ndarray) -> float:
    """The cosine of one image with a vector.

    Raises:
        DataError: if no bank has that id, or its row has no direction.
    """
    vector_of(banks, image_id)
    _, row, start = _find(banks, image_id)
    return float(row_scores(banks, np.array([start + row]), np.asarray(vector)[None])[0, 0])


def values(banks: Sequence[FeatureBank], rows: np.ndarray, column: str) -> list:
    """What the index of the banks says of rows: 'id', 'path', 'bucket' or 'timestamp', in their order."""
    starts = np.concatenate([[0], np.cumsum([len(bank) for bank in banks])])
    places = np.searchsorted(starts, rows, side='right') - 1
    found: list = [None] * len(rows)
    for place in np.unique(places):
        here = np.flatnonzero(places == place)
        for at, value in zip(here, banks[place].index[column].take(rows[here] - starts[place]).to_pylist()):
            found[at] = value
    return found


@dataclass(frozen=True)
class Histogram:
    """Scores in bins of equal width.

    Attributes:
        edges: (bins + 1,).
        counts: (bins,).
        mean: of the scores.
    """

    edges: np.ndarray
    counts: np.ndarray
    mean: float


def histogram(scores: np.ndarray, bins: int = BINS) -> Histogram:
    """Scores by value.

    Raises:
        ConfigError: if bins < 1.
        DataError: without scores.
    """
    check_whole('bins', bins, 1)
    if not len(scores):
        raise DataError('there are no scores to count.')
    counts, edges = np.histogram(np.asarray(scores, np.float64), bins)
    return Histogram(edges, counts, float(np.mean(scores, dtype=np.float64)))


def hits_over_time(banks: Sequence[FeatureBank], rows: np.ndarray, every: str = 'month',
                   images: Finished | None = None) -> dict[str, int]:
    """Images by time: 'YYYY', 'YYYY-MM' or 'YYYY-MM-DD' -> count, in the order of time.

    Periods without an image between the first and the last are there with 0; images without a time are 'unknown'.

    Args:
        every: 'year', 'month' or 'day'.
        images: the stage that has the images, for the time of their upload; without it the time in the banks' index
            counts, which is when they were taken.
    """
    check_choice('every', every, PERIODS)
    if images is None:
        times = values(banks, rows, 'timestamp')
    else:
        ids = np.array(values(banks, rows, 'id'), np.int64)
        times = columns_of(images, IMAGES, ids, ['uploaded_at'])['uploaded_at'].to_pylist()
    known = sorted(time.strftime('%Y-%m-%d')[:PERIODS[every]] for time in times if time is not None)
    found = {}
    if known:
        unit = every[0].upper()
        periods = np.arange(np.datetime64(known[0], unit), np.datetime64(known[-1], unit) + 1)
        found = dict.fromkeys(map(str, periods), 0)
        for period in known:
            found[period] += 1
    return found | ({UNKNOWN: len(times) - len(known)} if len(known) < len(times) else {})


def _find(banks: Sequence[FeatureBank], image_id: int | str) -> tuple[FeatureBank, int, int]:
    """The bank that has an image, its row there, and the rows of the banks before."""
    import pyarrow
    from pyarrow import compute

    start = 0
    for bank in banks:
        ids = bank.index['id']
        row = compute.index(ids, pyarrow.scalar(str(image_id)).cast(ids.type)).as_py()
        if row >= 0:
            return bank, row, start
        start += len(bank)
    raise DataError(f"no bank has an image '{image_id}'.")
