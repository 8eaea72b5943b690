"""Dates as metadata write them, against datetimes written out by hand."""

from datetime import UTC, date, datetime

import pytest

from clear.datasets.dates import parse_time


@pytest.mark.parametrize('text, expected', [
    ('2010-05-02 13:24:13.0', (2010, 5, 2, 13, 24, 13)),  # YFCC100M's DATE_TAKEN
    ('1272806653', (2010, 5, 2, 13, 24, 13)),  # its DATE_UPLOADED
    (1272806653.0, (2010, 5, 2, 13, 24, 13)), ('1272806653000', (2010, 5, 2, 13, 24, 13)),
    ('2010:05:02 13:24:13', (2010, 5, 2, 13, 24, 13)),  # EXIF
    ('2010-05-02T13:24:13Z', (2010, 5, 2, 13, 24, 13)), ('2010-05-02T15:24:13+02:00', (2010, 5, 2, 13, 24, 13)),
    ('2010-05-02 15:24:13 +0200', (2010, 5, 2, 13, 24, 13)),
    ('2010/5/2 9:04', (2010, 5, 2, 9, 4, 0)), ('2010.05.02', (2010, 5, 2, 0, 0, 0)), ('2010-05', (2010, 5, 1, 0, 0, 0)),
    ('2010', (2010, 1, 1, 0, 0, 0)), (2010, (2010, 1, 1, 0, 0, 0)),
    ('Sun, 02 May 2010 13:24:13 +0000', (2010, 5, 2, 13, 24, 13)),
    (date(2010, 5, 2), (2010, 5, 2, 0, 0, 0)), (datetime(2010, 5, 2, 13), (2010, 5, 2, 13, 0, 0))])
def test_formats(text, expected):
    assert parse_time(text) == datetime(*expected, tzinfo=UTC)


@pytest.mark.parametrize('value', [None, '', ' ', 'null', 'NaT', 'nan', '0000-00-00 00:00:00'])
def test_missing(value):
    assert parse_time(value) is None


@pytest.mark.parametrize('text', ['02/05/2010', '2010-13-01', '2010-02-30', '2010-05-02 25:00', 'yesterday',
                                  '2010-05/02', '99999999999999999999'])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)
