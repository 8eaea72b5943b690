"""Which records are photographs with a time that can be trusted: the first filters of CLEAR, on columns."""

from __future__ import annotations

import numpy as np
import pyarrow

RECORD_OUTCOMES = KEPT, VIDEO, BAD_DATE = 'ok', 'video', 'bad_date'
NO_DATE = np.iinfo(np.int64).max  # in place of a time: later than every upload


def micros(times: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Times of any unit as int64 microseconds since 1970."""
    return times.cast(pyarrow.timestamp('us', tz=times.type.tz)).cast(pyarrow.int64())


def record_codes(records: pyarrow.Table, valid_dates: bool = True, date_tolerance_hours: float = 0.0) -> np.ndarray:
    """`outcome_codes` of a table of records."""
    return outcome_codes(records['is_video'].to_numpy(), micros(records['taken_at']).fill_null(NO_DATE).to_numpy(),
                         micros(records['uploaded_at']).to_numpy(), valid_dates, date_tolerance_hours)


def outcome_codes(is_video: np.ndarray, taken_at: np.ndarray, uploaded_at: np.ndarray, valid_dates: bool = True,
                  date_tolerance_hours: float = 0.0) -> np.ndarray:
    """(N,) uint8, the place in `RECORD_OUTCOMES`: 'bad_date', else 'video', else 'ok'.

    A date is bad if the photo has no readable one, or was taken when it was uploaded or later. The camera's clock is
    local and the upload's UTC, so that 0 hours, CLEAR's rule, drops photos uploaded at once from east of Greenwich; 14
    hours allow for every zone.

    Args:
        is_video: (N,) bool.
        taken_at, uploaded_at: (N,) int64 microseconds since 1970; `NO_DATE` = none.
        valid_dates: False leaves dates alone.
    """
    codes = is_video.astype(np.uint8)
    if valid_dates:
        codes[taken_at >= uploaded_at + round(date_tolerance_hours * 3_600_000_000)] = 2
    return codes
