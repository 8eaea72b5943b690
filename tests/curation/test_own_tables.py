"""Tables of one's own, against reading them by hand and by the standard library."""

import _compression
import bz2
import csv
import gzip
import io
import json
import random
from datetime import UTC, date, datetime

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clear.core.errors import ConfigError, DataError
from clear.curation import TableRecords
from clear.curation.metadata.own.delimited import Delimited
from clear.engine.stages.runner import StageRunner

DAY = '%Y-%m-%d'
SECONDS = '%Y-%m-%d %H:%M:%S'


def run(tmp_path, files='*.csv', name='run', workers=0, **options):
    given = dict(type='TableRecords', root=str(tmp_path), files=files, url='url', time='time', time_format=DAY)
    stage = given | options
    StageRunner(dict(stages=[stage], num_workers=workers), tmp_path / name).run()
    return tmp_path / name / 'stages' / 'table_records'


def table(folder, name='records.parquet'):
    return [cells for file in sorted(folder.glob(f'shards/*/{name}')) for cells in parquet.read_table(file).to_pylist()]


def rejected(folder):
    return {each['line']: each['reason'] for each in table(folder, 'rejected.parquet')}


def counts(folder):
    return json.loads((folder / 'manifest.json').read_text())['counts']


def test_a_table_of_addresses(tmp_path):
    (tmp_path / 'a.csv').write_bytes(
        b'\xef\xbb\xbfurl,title,time,place\r\n'
        b'http://a.example/1.PNG,"a, ""b""\r\nc",2013-08-31,-12.5\r\n\r\n'
        b'http://a.example/2,lone " quote,2013-9-01,\r\n'
        b'http://a.example/3.jpeg?x=1,\xff,2013-09-01,x\r\n,,2013-09-01,\r\nhttp://a.example/4,,2013-09-02')
    folder = run(tmp_path, keep=dict(title='title', lon='place'), utc_offset_hours=9)
    assert rejected(folder) == {4: 'time fits no format', 6: 'no address', 7: '3 columns in place of 4'}
    first, second = table(folder)
    assert first['line'] == first['id'] == 1 and second['line'] == 5
    assert first['title'] == b'a, "b"\r\nc' and first['title_text'] == 'a, "b"\r\nc' and first['lon'] == -12.5
    assert first['uploaded_at'] == datetime(2013, 8, 30, 15, tzinfo=UTC) and first['taken_at'] is None
    assert (first['ext'], second['ext']) == ('png', 'jpeg') and second['title_text'] == '\ufffd'
    assert first['hash'] and first['path'] is None and first['source_id'] is None and not first['is_video']
    assert counts(folder)['unreadable lon'] == 1 and counts(folder)['records'] == 2


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_a_byte_order_mark_before_a_quoted_name(tmp_path, suffix):
    """As spreadsheets write tables whose names are quoted, or that begin with an empty line."""
    pack = gzip.compress if suffix else bytes
    for name, start in (('a', b'\xef\xbb\xbf"url"'), ('b', b'\xef\xbb\xbf\r\n"url"')):
        (tmp_path / f'{name}.csv{suffix}').write_bytes(pack(start + b',"time"\r\n"http://a.example/1","2013-08-31"\r\n'))
    found = table(run(tmp_path, f'*.csv{suffix}', shard_rows=1))
    assert [each['url'] for each in found] == ['http://a.example/1'] * 2


def long_table(count=100_000):
    return ['id,url,time', *(f'{number},http://a.example/{number},2013-08-31' for number in range(count))]


@pytest.mark.parametrize('lone, lost', [({501: '501,"vintage 5 inch lens,2013-08-31'}, [502]), (
    {3: '3,"properly, quoted",2013-08-31', 501: '501,"vintage 5 inch lens,2013-08-31'}, [502]), (
    {501: '501,"opens,2013-08-31', 511: '511,closes" again,2013-08-31'}, [502])])
def test_a_lone_quote_costs_one_row(tmp_path, lone, lost):
    lines = long_table(2000)
    for place, line in lone.items():
        lines[place + 1] = line
    (tmp_path / 'a.csv').write_text('\n'.join(lines) + '\n')
    folder = run(tmp_path, id='id', shard_rows=300)
    assert [each['id'] for each in table(folder)] == [number for number in range(2000) if number + 1 not in lost]
    assert list(rejected(folder)) == lost


def test_tabs_know_no_quotes(tmp_path):
    (tmp_path / 'a.tsv').write_text('time\turl\n2013-08-31\t"http://a.example/1\n2013-08-31\t"x"\n')
    assert [each['url'] for each in table(run(tmp_path, 'a.tsv'))] == ['"http://a.example/1', '"x"']
    assert [each['url'] for each in table(run(tmp_path, 'a.tsv', 'quoted', quotes=True))] == ['x']
    (tmp_path / 'a.txt').write_text('time;url\n2013-08-31;"http://a.example/1;2"\n')
    assert [each['url'] for each in table(run(tmp_path, 'a.txt', 'semicolons', delimiter=';'))] == [
        'http://a.example/1;2']


CELL = st.text(st.sampled_from('a,"\n\r é')).filter(lambda text: '\0' not in text)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=9), st.sampled_from([',', ';']), st.integers(1, 4))
def test_quotes_as_the_standard_library_writes_them(tmp_path_factory, rows, delimiter, interval):
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator='\r\n', quoting=csv.QUOTE_ALL)
    writer.writerows([['x', 'y', 'z'], *rows])
    path = tmp_path_factory.mktemp('t') / 'a.csv'
    path.write_bytes(written.getvalue().encode())
    with Delimited(path, delimiter, True) as found:
        assert found.names() == ['x', 'y', 'z']
        survey = found.survey(interval)
        cells = [row for part in survey.parts for block in found.rows(part, ['z', 'x'])
                 for row in zip(block.columns['x'].to_pylist(), block.columns['z'].to_pylist())]
    assert cells == [(row[0].encode(), row[2].encode()) for row in rows]
    assert len(survey.parts) == -(-len(rows) // interval)


@pytest.mark.parametrize('suffix', ['', '.gz'])
@pytest.mark.parametrize('workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_parts_are_the_whole(tmp_path, suffix, workers):
    text = 'id,url,time,title\n' + ''.join(f'{number},u{number},2013-08-31,"{"line" * (number % 3)}\n{number}"\n'
                                           for number in range(50))
    (tmp_path / f'a.csv{suffix}').write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
    (tmp_path / f'b.csv{suffix}').write_bytes((tmp_path / f'a.csv{suffix}').read_bytes())
    folders = [run(tmp_path, f'a.csv{suffix}', f'run{rows}', workers, id='id', shard_rows=rows,
                   keep=dict(title='title')) for rows in (7, 1000)]
    assert table(folders[0]) == table(folders[1]) and len(table(folders[0])) == 50
    assert [each['line'] for each in table(folders[0])] == [1 + 2 * number for number in range(50)]
    with pytest.raises(DataError, match=rf'id 0 in a\.csv{suffix}:2 and b\.csv{suffix}:2'):
        run(tmp_path, f'?.csv{suffix}', 'twice', id='id')
    by_row = table(run(tmp_path, f'?.csv{suffix}', 'rows'))
    assert [each['id'] for each in by_row][:2] == [1, 3] and by_row[50]['id'] == 102


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress])
def test_parts_of_a_packed_table_are_read_in_one_pass(tmp_path, monkeypatch, pack):
    rewound = []
    rewind = _compression.DecompressReader._rewind
    monkeypatch.setattr(_compression.DecompressReader, '_rewind', lambda self: (rewound.append(1), rewind(self)))
    text = 'id,url\n' + ''.join(f'{number},"http://a.example/{random.random()}\n"\n' for number in range(9000))
    (tmp_path / 'a.csv.packed').write_bytes(pack(text.encode()))
    with Delimited(tmp_path / 'a.csv.packed', ',', True) as found:
        parts = found.survey(100).parts
        del rewound[:]
        ids = [cell for part in parts for block in found.rows(part, ['id']) for cell in block.columns['id'].to_pylist()]
    assert len(parts) == 90 and ids == [str(number).encode() for number in range(9000)] and len(rewound) <= 1


def test_mixed_fineness_by_the_formats_that_are_stated(tmp_path):
    texts = ['2013-08-31 19:32:13', '2013-08-31 19:32:13.5', '2013-08-31', '2013-08-31T19:32:13', '2013-08-31 19:32',
             '2013-08-31 19:32:13.05', '2012-13-05', '2010:03:04 05:06:07', '2012-02', '1362300300', '05/04/2011',
             '2011', '2012-02-30', '0000-00-00 00:00:00', '2013-08-31 ', '٢٠١٣-08-31']
    (tmp_path / 'a.csv').write_text('url,time\n' + ''.join(f'u,{text}\n' for text in texts))
    formats = [SECONDS, SECONDS + '.%f', DAY, '%Y-%m']
    folder = run(tmp_path, time_format=formats)
    found = {each['line'] - 1: each['uploaded_at'].replace(tzinfo=None) for each in table(folder)}
    assert found == {0: datetime(2013, 8, 31, 19, 32, 13), 1: datetime(2013, 8, 31, 19, 32, 13, 500_000),
                     2: datetime(2013, 8, 31), 5: datetime(2013, 8, 31, 19, 32, 13, 50_000), 8: datetime(2012, 2, 1)}
    assert {name: count for name, count in counts(folder).items() if name.startswith('time as')} == {
        f'time as {SECONDS}': 1, f'time as {SECONDS}.%f': 2, f'time as {DAY}': 1, 'time as %Y-%m': 1}
    exif = table(run(tmp_path, name='exif', time_format='%Y:%m:%d %H:%M:%S'))
    assert [each['uploaded_at'] for each in exif] == [datetime(2010, 3, 4, 5, 6, 7, tzinfo=UTC)]
    assert [each['uploaded_at'].day for each in table(run(tmp_path, name='slash', time_format='%d/%m/%Y'))] == [5]
    assert [each['uploaded_at'].day for each in table(run(tmp_path, name='us', time_format='%m/%d/%Y'))] == [4]
    assert [each['uploaded_at'].timestamp() for each in table(run(tmp_path, name='unix', time_format='unix'))] == [
        1362300300, 2011]


@settings(deadline=None, max_examples=100)
@given(st.datetimes(datetime(1000, 1, 1), datetime(9998, 1, 1)),
       st.sampled_from(['%Y-%m-%d %H:%M:%S.%f', '%d %b %Y', '%Y%m%d_%H%M%S', '%H:%M %d.%m.%Y', '%b%%%Y']))
def test_formats_as_the_standard_library(when, text):
    from clear.curation.metadata.own.times import TimeFormat

    told = when.strftime(text)
    micros, is_utc = TimeFormat(text).read(told)
    expected = datetime.strptime(told, text).replace(tzinfo=UTC)
    assert micros == round(expected.timestamp()) * 10**6 + expected.microsecond - (
        10**6 if round(expected.timestamp()) > expected.timestamp() else 0) and not is_utc


def test_zones(tmp_path):
    (tmp_path / 'a.csv').write_text('url,time\nu,2013-08-31T19:32:13+02:00\nu,2013-08-31T19:32:13-0130\n'
                                    'u,2013-08-31T19:32:13Z\nu,2013-08-31T19:32:13\n')
    folder = run(tmp_path, time_format=['%Y-%m-%dT%H:%M:%S%z', '%Y-%m-%dT%H:%M:%S'], utc_offset_hours=-2.5)
    assert [each['uploaded_at'].strftime('%H:%M') for each in table(folder)] == ['17:32', '21:02', '19:32', '22:02']


def write_parquet(file, **columns):
    parquet.write_table(pyarrow.table(columns), file, row_group_size=4)


def test_parquet_with_times(tmp_path):
    nanos = pyarrow.array([1377977533_500_000_000 + number for number in range(9)], pyarrow.timestamp('ns'))
    write_parquet(tmp_path / 'a.parquet', name=[f'p{number}' for number in range(8)] + [None], when=nanos,
                  shot=pyarrow.array([date(2013, 8, number + 1) for number in range(8)] + [None]),
                  lon=[0.00001] * 9,
                  where=pyarrow.array([f'd/{number}.jpg' for number in range(9)]).dictionary_encode())
    options = dict(url=None, path='where', time='when', time_format=None, taken='shot', id='name', ids='text',
                   keep=dict(lon='lon'))
    folders = [run(tmp_path, 'a.parquet', f'run{rows}', shard_rows=rows, **options) for rows in (3, 100)]
    assert table(folders[0]) == table(folders[1]) and rejected(folders[0]) == {8: 'no id'}
    found = table(folders[0])
    assert [each['source_id'] for each in found] == [f'p{number}' for number in range(8)]
    assert [each['id'] for each in found] == list(range(8))
    assert found[3]['path'] == 'd/3.jpg' and found[3]['url'] is None
    assert found[3]['uploaded_at'] == datetime(2013, 8, 31, 19, 32, 13, 500_000, tzinfo=UTC)
    assert found[3]['taken_at'] == datetime(2013, 8, 4) and found[3]['taken_at_is_local'] and found[3]['lon'] == 0.00001
    assert found[3]['hash'] is None and found[3]['ext'] == 'jpg'


@pytest.mark.parametrize('values, form', [
    ([1377977533, 1377977534, None], 'unix'), ([1377977533.0, 1377977534.0, float('nan')], 'unix'),
    ([1377977533000, 1377977534000, None], 'unix_ms'), ([1377977533.5, 1377977534, 1377977533], 'unix'),
    (['1377977533', '1377977534', '1377977533.0'], 'unix')])
def test_epoch_seconds_by_any_door(tmp_path, values, form):
    write_parquet(tmp_path / 'a.parquet', url=['u'] * 3, t=values)
    found = table(run(tmp_path, 'a.parquet', time='t', time_format=form))
    seconds = [each['uploaded_at'].timestamp() for each in found]
    assert seconds == ([1377977534, 1377977533] if values[0] == 1377977533.5 else [1377977533, 1377977534])


def test_paths_stay_in_their_root(tmp_path):
    paths = ['a/b.jpg', '/etc/passwd', '../x.jpg', 'a/../../x.jpg', 'a/..', 'a..b/c..jpg', 'a\0.jpg', '']
    write_parquet(tmp_path / 'a.parquet', path=paths, time=['2013-08-31'] * 8)
    folder = run(tmp_path, 'a.parquet', url=None, path='path')
    assert [each['path'] for each in table(folder)] == ['a/b.jpg', 'a..b/c..jpg']
    assert rejected(folder) == dict.fromkeys([1, 2, 3, 4, 6], 'path leads out of the root') | {7: 'no address'}


ROWS = 'id,url,time\n1,u,2013-08-31\n2,v,2013-08-31\n'


@pytest.mark.parametrize('content, options, message', [
    (ROWS, dict(url='ulr'), "a.csv has no column 'ulr'. Did you mean 'url'"),
    (ROWS, dict(time='day'), "has no column 'day'. There are id, url, time"),
    (ROWS.replace('id', 'url'), {}, "has 2 columns called 'url'"),
    ('', {}, 'has no lines'), ('id,url,time\n', {}, 'a.csv: there are no rows below the names'),
    ('"id', {}, 'its first line holds no names of columns: a quote is not closed'),
    (ROWS, dict(time_format=None), "column 'time' is text such as '2013-08-31'; say what it means: time_format="),
    (ROWS, dict(time_format='%d.%m.%Y'), 'no row is a record. 2 rejected: time fits no format'),
    (ROWS, dict(id='url'), "column 'url' has 'u', which is no whole number. For ids of text: ids='text'"),
    (ROWS + '2,w,2013-08-31\n', dict(id='id'), r'id 2 in a\.csv:3 and a\.csv:4'),
    (ROWS + '3,u,2013-08-31\n', dict(id='url', ids='text'), r'id u in a\.csv:2 and a\.csv:4')])
def test_tables_that_cannot_be(tmp_path, content, options, message):
    (tmp_path / 'a.csv').write_text(content)
    with pytest.raises((ConfigError, DataError), match=message):
        run(tmp_path, **options)


@pytest.mark.parametrize('columns, options, message', [
    (dict(url=['u'], time=[datetime(2013, 8, 31)]), {}, "column 'time' holds times, so that time_format means nothing"),
    (dict(url=[['u']], time=['2013-08-31']), {}, "column 'url' is list<.*; expected text, numbers or times")])
def test_parquet_that_cannot_be(tmp_path, columns, options, message):
    write_parquet(tmp_path / 'a.parquet', **columns)
    with pytest.raises((ConfigError, DataError), match=message):
        run(tmp_path, 'a.parquet', **options)


def test_files_that_are_damaged(tmp_path):
    (tmp_path / 'a.csv.gz').write_bytes(gzip.compress(ROWS.encode() * 1000)[:-9])
    with pytest.raises(DataError, match='is damaged or cut short .* Fetch it again'):
        run(tmp_path, 'a.csv.gz')
    write_parquet(tmp_path / 'a.parquet', url=['u'], time=['x'])
    (tmp_path / 'a.parquet').write_bytes((tmp_path / 'a.parquet').read_bytes()[:-9])
    with pytest.raises(DataError, match='cannot be read as Parquet .* Fetch it again'):
        run(tmp_path, 'a.parquet')
    (tmp_path / 'a.csv').write_text(ROWS, 'utf-16')
    with pytest.raises(DataError, match='a.csv is UTF-16. Save it as UTF-8'):
        run(tmp_path, 'a.csv')
    (tmp_path / 'a.txt').write_text(ROWS)
    with pytest.raises(ConfigError, match="its suffix is none of .csv, .tsv, .tab, and it is no Parquet"):
        run(tmp_path, 'a.txt')


@pytest.mark.parametrize('options, message', [
    (dict(url=None), 'needs a column of addresses'),
    (dict(time_format='%Y-%q'), "time_format: '%q' in '%Y-%q' is none of"),
    (dict(time_format='%H:%M'), "'%H:%M' tells no time"), (dict(time_format='%Y-%d'), 'tells no time'),
    (dict(time_format='%Y %Y'), 'is there twice'), (dict(time_format=[]), 'time_format is'),
    (dict(ids='text'), 'needs the column of the ids'), (dict(ids='words'), 'ids'),
    (dict(delimiter='||'), 'delimiter is'),
    (dict(keep=dict(titel='x')), "records have no column 'titel' to be filled. Did you mean 'title'"),
    (dict(taken_format=DAY), 'taken_format needs the column'), (dict(utc_offset_hours=99), 'utc_offset_hours'),
    (dict(files=[]), 'files is')])
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        TableRecords(**dict(files='a.csv', url='url', time='time', time_format=DAY) | options)


def test_preview_tells_what_became_of_the_first_rows(tmp_path):
    (tmp_path / 'a.csv').write_text(ROWS + '3,w,soon\n')
    lines = TableRecords('a.csv', 'time', [DAY, SECONDS], url='url', root=str(tmp_path)).preview()
    assert lines == ['a.csv  first rows  records 2  time as %Y-%m-%d 2  rejected: time fits no format 1']


def test_a_row_longer_than_a_line_may_be(tmp_path):
    (tmp_path / 'a.csv').write_text('url,time\n' + 'x' * (1 << 20) + ',2013-08-31\nu,2013-08-31\n"' +
                                    'y\n' * (1 << 19) + '",2013-08-31\nv,2013-08-31\n')
    folder = run(tmp_path)
    assert [each['url'] for each in table(folder)] == ['u', 'v']
    assert rejected(folder)[1] == 'longer than 1 MiB' and rejected(folder)[3] == 'a quote is not closed'
