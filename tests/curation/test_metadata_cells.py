"""Cells of metadata, typed and decoded by columns, against the same cell by cell."""

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clear.curation.metadata import cells
from clear.curation.metadata.streams import MAX_LINE_BYTES, LineFile

# A few dozen draws each: the alphabet is small, and what goes wrong here goes wrong early.
FEW = settings(deadline=None, max_examples=60)
CELLS = st.lists(st.text(st.sampled_from('a,+%4fFzé\r\0"')).map(str.encode) | st.binary(max_size=6), max_size=9)
IN_FILES = CELLS.map(lambda found: [cell.replace(b'\t', b'').replace(b'\n', b'') for cell in found])


def binary(values):
    return pyarrow.array(values, pyarrow.binary())


def by_hand(cell):
    return unquote_to_bytes(cell.replace(b'+', b' ')).decode('utf-8', 'replace')


@FEW
@given(CELLS)
def test_decoded_as_the_standard_library(values):
    assert cells.decoded(binary(values)).to_pylist() == [by_hand(value) for value in values]


@FEW
@given(CELLS)
def test_lists_are_cut_before_they_are_decoded(values):
    expected = [[by_hand(item) for item in value.split(b',') if item] for value in values]
    assert cells.lists(binary(values)).to_pylist() == expected


@FEW
@given(st.lists(IN_FILES, min_size=1, max_size=5), st.integers(1, 4))
def test_only_tab_and_lf_cut(rows, count):
    found = cells.cut(b''.join(b'\t'.join(row) + b'\n' for row in rows), count)
    sizes = [max(len(row), 1) for row in rows]
    assert found.rows.tolist() == [place for place, size in enumerate(sizes) if size == count]
    assert found.wrong == {place: size for place, size in enumerate(sizes) if size != count}
    whole = [row or [b''] for row, size in zip(rows, sizes) if size == count]
    assert [column.to_pylist() for column in found.arrays(range(count))] == [[row[place] for row in whole]
                                                                  for place in range(count)]
    for place in range(count):
        data, starts, ends = found.spans(place)
        assert [data[start:end].tobytes() for start, end in zip(starts, ends)] == [row[place] for row in whole]


@FEW
@given(st.lists(st.integers(0, 10**18 - 1).map(str) | st.sampled_from(['', '-1', '1.', ' 1', '٣', '9' * 19, '007'])))
def test_integers(values):
    numbers, is_number = cells.integers(binary([value.encode() for value in values]))
    expected = [value.isascii() and value.isdigit() and len(value) <= 18 for value in values]
    assert is_number.tolist() == expected
    assert numbers.tolist() == [int(value) if right else 0 for value, right in zip(values, expected)]


def test_uploads_end_with_the_year_9999():
    values = [b'0', b'1362300300', b'253402300799', b'253402300800', b'9' * 18, b'null']
    found, is_time = cells.uploads(binary(values))
    assert is_time.tolist() == [True, True, True, False, False, False]
    assert found.tolist() == [0, 1362300300_000000, 253402300799_000000, 0, 0, 0]


@FEW
@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)), min_size=1))
def test_years(moments):
    edges = [datetime(moment.year, 1, 1) for moment in moments]
    moments = [*moments, *edges, *(edge - timedelta(microseconds=1) for edge in edges if edge.year > 1970)]
    micros = np.array(moments, 'datetime64[us]').astype(np.int64)
    assert cells.years(micros).tolist() == [moment.year for moment in moments]


def test_blank_is_empty_or_null():
    values = [b'', b'null', b'nul', b'nulls', b'NULL', b'0']
    assert cells.is_blank(binary(values)).tolist() == [True, True, False, False, False, False]
    assert cells.is_blank(binary([b'null'])).tolist() == [True]


@FEW
@given(st.lists(IN_FILES.filter(len), min_size=1, max_size=5))
def test_a_known_number_of_lines_changes_nothing(rows):
    block = b''.join(b'\t'.join(row) + b'\n' for row in rows)
    for count in {len(row) for row in rows}:
        plain, known = cells.cut(block, count), cells.cut(block, count, len(rows))
        assert (plain.ends == known.ends).all() and plain.wrong == known.wrong
        assert (plain.rows == known.rows).all() and (plain.data == known.data).all()


@FEW
@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1), st.integers(1, 6))
def test_times_of_every_year_and_fraction(moments, digits):
    texts = [f'{moment:%Y-%m-%d %H:%M:%S}'.rjust(19, '0') + f'.{moment.microsecond:06}'[:digits + 1]
             for moment in moments]
    found, is_time = cells.times(binary([text.encode() for text in texts]))
    assert is_time.all()
    cut = 10 ** (6 - digits)
    expected = [moment.replace(microsecond=moment.microsecond // cut * cut, tzinfo=UTC) for moment in moments]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert found.tolist() == [round((moment - epoch).days * 86400e6) + (moment - epoch).seconds * 1_000_000
                              + (moment - epoch).microseconds for moment in expected]


@pytest.mark.parametrize('text', ['', 'null', '2013-08-31', '2013-08-31T19:32:13', '2013-08-31 19:32',
                                  '2013-02-29 00:00:00', '1900-02-29 00:00:00', '2013-13-05 00:00:00',
                                  '2013-00-05 00:00:00',
                                  '0000-00-00 00:00:00', '2013-08-31 24:00:00', '2013-08-31 19:60:00',
                                  '2013-08-31 19:32:60', '2013-08-31 19:32:13.', '2013-08-31 19:32:13,5',
                                  '2013-08-31 19:32:13.1234567', '2013:08:31 19:32:13', '2013-08-31 19:32:13Z'])
def test_what_is_no_time(text):
    found, is_time = cells.times(binary([text.encode(), b'2012-02-29 00:00:00']))
    assert is_time.tolist() == [False, True] and found.tolist() == [0, 1330473600_000000]


def test_decimals():
    values, is_number = cells.decimals(binary([b'-12.5', b'7', b'', b'1e5', b'.5', b'unknown', b'--1', b'180.']))
    assert is_number.tolist() == [True, True, False, False, False, False, False, True]
    assert values[is_number].tolist() == [-12.5, 7.0, 180.0]


def test_the_name_in_the_public_store_drops_leading_zeros_of_bytes():
    urls = [f'http://static.example/{place}.jpg'.encode() for place in range(300)]
    names = cells.url_hashes(binary(urls)).to_pylist()
    assert names == [''.join(f'{byte:x}' for byte in hashlib.md5(url).digest()) for url in urls]
    assert min(map(len, names)) < 32


@pytest.mark.parametrize('suffix', ['.tsv', '.gz', '.bz2'])
@pytest.mark.parametrize('interval', [1, 3, 7, 100])
def test_ranges_of_lines_are_the_whole(tmp_path, monkeypatch, suffix, interval):
    import bz2
    import gzip

    monkeypatch.setattr('clear.curation.metadata.streams.BLOCK_BYTES', 16)
    monkeypatch.setattr('clear.curation.metadata.streams.MAX_LINE_BYTES', 20)
    lines = [b'a' * size for size in (3, 0, 17, 20, 21, 50, 1, 0, 19, 33)] + [b'cr\rlf']
    data = b'\n'.join(lines)
    path = tmp_path / f'x{suffix}'
    path.write_bytes({'.gz': gzip.compress, '.bz2': bz2.compress, '.tsv': bytes}[suffix](data))
    with LineFile(path) as file:
        survey = file.survey(interval)
        assert (survey.lines, survey.bytes) == (11, len(data))
        assert survey.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        found, long = {}, []
        for number, (place, end) in enumerate(zip(survey.marks, [*survey.marks[1:], survey.bytes])):
            blocks = list(file.blocks(number * interval, place, end))
            for block in blocks:
                found |= dict(zip(block.numbers.tolist(), block.data.split(b'\n')))
                long += block.too_long
    assert long == [4, 5, 9]
    assert found == {place: line for place, line in enumerate(lines) if place not in long}


def test_the_limit_is_a_mebibyte(tmp_path):
    (tmp_path / 'x').write_bytes(b'a' * MAX_LINE_BYTES + b'\n' + b'b' * (MAX_LINE_BYTES + 1) + b'\nc\n')
    with LineFile(tmp_path / 'x') as file:
        blocks = list(file.blocks(0))
    assert [block.too_long for block in blocks] == [[1]] and blocks[0].data.endswith(b'a\nc\n')


def test_docs_name_what_an_iso_parser_would_also_have_taken():
    """Not the form that we read, but all that the page lists."""
    import re
    from pathlib import Path

    from dateutil.parser import isoparse

    page = (Path(__file__).parents[2] / 'docs' / 'curation.md').read_text()
    listed = re.findall('`([^`]+)`', page.split('would also have taken')[1].split('`uploaded_at`')[0])
    assert len(listed) == 13
    for text in listed:
        assert isoparse(text).year == 2013 and not cells.times(binary([text.encode()]))[1][0], text
