"""What becomes of a record: the filters of CLEAR in their order, first of the record, then of what was fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow

from clear.curation.download.images import TOO_MANY_PIXELS, image_header
from clear.curation.filters import BAD_DATE, KEPT, NO_DATE, RECORD_OUTCOMES, micros, outcome_codes
from clear.datasets.images.decode import MAX_PIXELS

DECODE_ERROR, TOO_SMALL_EDGE, ASPECT, TOO_SMALL_BYTES = 'decode_error', 'too_small_edge', 'aspect', 'too_small_bytes'
PLACEHOLDER, DUPLICATE = 'placeholder', 'duplicate'
RECORD_COLUMNS = ('is_video', 'taken_at', 'uploaded_at')
_EPOCH = date(1970, 1, 1)
_NEVER = np.iinfo(np.int64).min  # in place of an upload time: earlier than every date


class Verdict(NamedTuple):
    """What a body is.

    Attributes:
        outcome: 'ok', or the first filter that it does not pass.
        width, height, format, sha256: of an image that passes.
        why: the reason in a few words where the outcome does not say it.
    """

    outcome: str
    width: int = 0
    height: int = 0
    format: str = ''
    sha256: str = ''
    why: str = ''


@dataclass(frozen=True)
class Filters:
    """The filters of a config, all of them plain values.

    Attributes:
        valid_dates, date_tolerance_hours: see `clear.curation.filters.outcomes`.
        min_date, max_date: days between which a photo must have been taken, both included; None = any.
        min_edge: pixels of the shorter side; 0 = any.
        max_aspect_ratio: longer side by shorter side, itself allowed; 0 = any.
        min_bytes: of the file as it was served; 0 = any.
        max_pixels: that a header may declare.
        placeholder_sha256: of images that stand for removed photos.
    """

    valid_dates: bool = True
    date_tolerance_hours: float = 0.0
    min_date: date | None = None
    max_date: date | None = None
    min_edge: int = 0
    max_aspect_ratio: float = 0.0
    min_bytes: int = 10
    max_pixels: int = MAX_PIXELS
    placeholder_sha256: Collection[str] = frozenset()

    def of_records(self, records: pyarrow.Table) -> np.ndarray:
        """(N,) text: 'bad_date', else 'video', else 'ok'."""
        taken = micros(records['taken_at']).fill_null(NO_DATE).to_numpy()
        uploaded = micros(records['uploaded_at']).fill_null(_NEVER if self.valid_dates else NO_DATE).to_numpy()
        is_video = records['is_video'].fill_null(False).to_numpy()
        found = np.array(RECORD_OUTCOMES)[outcome_codes(is_video, taken, uploaded, valid_dates=False)]
        if self.valid_dates:
            known = uploaded != _NEVER  # nothing may be added to what stands for no time
            dated = outcome_codes(is_video, taken, np.where(known, uploaded, 0), True, self.date_tolerance_hours)
            found[~known | (dated == RECORD_OUTCOMES.index(BAD_DATE))] = BAD_DATE
        if self.min_date is not None:
            found[(taken < _micros(self.min_date)) | (taken == NO_DATE)] = BAD_DATE
        if self.max_date is not None:
            found[taken >= _micros(self.max_date + timedelta(days=1))] = BAD_DATE
        return found

    def of_body(self, body: bytes) -> Verdict:
        """Look at a body's header and size; its pixels are not decoded."""
        digest = hashlib.sha256(body).hexdigest()
        if digest in self.placeholder_sha256:
            return Verdict(PLACEHOLDER)
        header = image_header(body, self.max_pixels)
        if isinstance(header, str):
            return Verdict(TOO_MANY_PIXELS if header == TOO_MANY_PIXELS else DECODE_ERROR, why=header)
        short, long = sorted((header.width, header.height))
        if short < self.min_edge:
            return Verdict(TOO_SMALL_EDGE)
        if self.max_aspect_ratio and long > self.max_aspect_ratio * short:
            return Verdict(ASPECT)
        if len(body) < self.min_bytes:
            return Verdict(TOO_SMALL_BYTES)
        return Verdict(KEPT, header.width, header.height, header.format.lower(), digest)


def _micros(day: date) -> int:
    return (day - _EPOCH).days * 86_400_000_000

