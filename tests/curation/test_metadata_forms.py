"""SQLite and JSON lines give the records that tab-separated files of the same rows give."""

import _compression
import contextlib
import gzip
import json
import random
import sqlite3

import pyarrow.parquet as parquet
import pytest
from metadata_files import SQLITE_NAMES, kept, row, write, write_json_lines, write_sqlite

from clear.core.errors import DataError
from clear.curation import Metadata
from clear.curation.metadata.forms import form_of
from clear.engine.stages.runner import StageRunner

RNG = random.Random(3)
ROWS = [row(number, RNG) for number in range(40)]
ROWS[2] = row(2, RNG, taken='null')
ROWS[3] = row(3, RNG, taken='2013-02-30 00:00:00.0', lon='unknown', server='99999999999')
ROWS[4] = row(4, RNG, marker='1')
ROWS[5] = ['x13', *ROWS[5][1:]]
ROWS[7] = row(7, RNG, title='cr\rnul\0 "quote', nickname='\udcff', lon='-0.00001', lat='12.3456789')
ROWS[9] = row(9, RNG, url='')
ROWS[11] = row(11, RNG, uploaded='')
ROWS[13] = row(13, RNG, marker='2')
ROWS[15] = row(15, RNG, title='x' * (1 << 20))
REASONS = {5: 'id is no number', 9: 'no address', 11: 'upload time is no number of seconds',
           13: 'marker is neither 0 nor 1', 15: 'longer than 1 MiB'}


def run(tmp_path, files, shard_rows=7, name='run'):
    stage = dict(type='Metadata', root=str(tmp_path), files=files, shard_rows=shard_rows)
    StageRunner(dict(stages=[stage]), tmp_path / name).run()
    return tmp_path / name / 'stages' / 'metadata'


def table(folder, name='records.parquet'):
    return [cells for file in sorted(folder.glob(f'shards/*/{name}')) for cells in parquet.read_table(file).to_pylist()]


@pytest.mark.parametrize('shard_rows', [7, 1000])
@pytest.mark.parametrize('writer, name', [(write_sqlite, 'a.db'), (write_json_lines, 'a.jsonl'),
                                          (write_json_lines, 'a.jsonl.gz')])
def test_forms_give_the_records_of_the_tab_separated_file(tmp_path, writer, name, shard_rows):
    write(tmp_path / 'a.tsv', ROWS)
    writer(tmp_path / name, ROWS)
    expected, folder = run(tmp_path, 'a.tsv', name='tabs'), run(tmp_path, name, shard_rows)
    assert table(folder) == table(expected)
    rejected = {each['line']: each['reason'] for each in table(folder, 'rejected.parquet')}
    assert rejected == {each['line']: each['reason'] for each in table(expected, 'rejected.parquet')} == REASONS
    counts = [json.loads((each / 'manifest.json').read_text())['counts'] for each in (folder, expected)]
    assert counts[0] == counts[1]
    assert len(list(folder.glob('shards/*'))) == (6 if shard_rows == 7 else 1)
    assert Metadata(name, str(tmp_path)).preview() == Metadata('a.tsv', str(tmp_path)).preview()
    assert f'ok {len(kept(ROWS)) - 1}' in Metadata(name, str(tmp_path)).preview()[0]  # without the long one


def test_rowids_may_have_gaps_and_be_the_ids(tmp_path):
    rowids = sorted(random.Random(0).sample(range(10**9), len(ROWS)))
    write_sqlite(tmp_path / 'a.db', ROWS, rowids=rowids)
    good = [[*cells] for place, cells in enumerate(ROWS) if place != 5]
    random.Random(1).shuffle(good)
    write_sqlite(tmp_path / 'b.db', good, columns=', '.join(
        f'{name} INTEGER PRIMARY KEY' if name == 'photoid' else name for name in SQLITE_NAMES))
    write_sqlite(tmp_path / 'c.db', ROWS)
    assert table(run(tmp_path, 'a.db', name='a')) == table(run(tmp_path, 'c.db', name='c'))
    ids = [each['id'] for each in table(run(tmp_path, 'b.db', name='b'))]
    assert ids == sorted(each['id'] for each in table(tmp_path / 'c/stages/metadata'))


def test_the_key_is_the_hash_where_there_is_one(tmp_path):
    write_json_lines(tmp_path / 'a.jsonl', ROWS, key='{:032x}')
    lines = (tmp_path / 'a.jsonl').read_bytes().split(b'\n')
    lines[6] = lines[6].replace(b'"key"', b'"other"')
    (tmp_path / 'a.jsonl').write_bytes(b'\n'.join(lines))
    write(tmp_path / 'a.tsv', ROWS)
    plain = {each['line']: each['hash'] for each in table(run(tmp_path, 'a.tsv', name='tabs'))}
    for each in table(run(tmp_path, 'a.jsonl')):
        assert each['hash'] == (plain[6] if each['line'] == 6 else f'{each["line"]:032x}')


def test_lines_that_are_no_objects(tmp_path):
    write_json_lines(tmp_path / 'a.jsonl', ROWS[:4])
    with (tmp_path / 'a.jsonl').open('ab') as file:
        file.write(b'\n[1, 2]\n{"photoid": 5\n' + b'[' * 100_000 + b'\n{"photoid": 7, "dateuploaded": 1300000000, '
                   b'"marker": 0, "downloadurl": "http://x.example/\xff", "title": "\\ud800"}')
    folder = run(tmp_path, 'a.jsonl')
    assert {each['line']: each['reason'] for each in table(folder, 'rejected.parquet')} == dict.fromkeys(
        (4, 5, 6, 7), 'no JSON object')
    last = table(folder)[-1]
    assert last['id'] == 7 and last['url'] == 'http://x.example/\ufffd' and last['taken_at'] is None
    assert last['title'] == '\ud800'.encode('utf-8', 'surrogatepass') and last['user_tags_text'] == []


def test_numbers_beyond_what_floats_hold(tmp_path):
    big = str(2**53 + 1)
    write_json_lines(tmp_path / 'a.jsonl', [[big, *ROWS[0][1:]]])
    write_sqlite(tmp_path / 'a.db', [[big, *ROWS[0][1:]]])
    for name in ('a.jsonl', 'a.db'):
        assert table(run(tmp_path, name, name=name[2:]))[0]['id'] == 2**53 + 1


def test_forms_may_be_mixed_and_ids_do_not_repeat(tmp_path):
    write(tmp_path / 'a.tsv', ROWS[16:20])
    write_json_lines(tmp_path / 'b.jsonl.gz', ROWS[20:24])
    write_sqlite(tmp_path / 'c.db', ROWS[24:30])
    folder = run(tmp_path, '[abc].*', shard_rows=3)
    assert [each['id'] - 3_000_000_000 for each in table(folder)] == list(range(16, 30))
    assert [each['line'] for each in table(folder)] == list(range(14))
    write_sqlite(tmp_path / 'd.db', [ROWS[29], ROWS[17]])
    with pytest.raises(DataError, match=r'id 3000000017 in a\.tsv:2 and d\.db:2; id 3000000029 in c\.db:6 and d\.db:1'):
        run(tmp_path, '[abcd].*', name='twice')


def other_table(path):
    write_sqlite(path, ROWS, table='yfcc100m_datasets')


def no_table(path):
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute('CREATE TABLE x (y)')


def other_column(path):
    write_sqlite(path, ROWS, names=[name.replace('downloadurl', 'download_url') for name in SQLITE_NAMES])


def view(path):
    write_sqlite(path, ROWS, table='x')
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute('CREATE VIEW yfcc100m_dataset AS SELECT * FROM x')


def cut_short(path):
    write_sqlite(path, ROWS)
    path.write_bytes(path.read_bytes()[:10_000])


def no_rows(path):
    write_sqlite(path, [])


@pytest.mark.parametrize('make, message', [
    (other_table, "has no table 'yfcc100m_dataset'. Did you mean to call 'yfcc100m_datasets' so"),
    (no_table, "has no table 'yfcc100m_dataset'. It has x"),
    (other_column, "has no column 'downloadurl'. Did you mean to call 'download_url' so"),
    (view, "'yfcc100m_dataset' is no plain table"), (no_rows, "'yfcc100m_dataset' has no rows"),
    (cut_short, 'cannot be read as an SQLite database .* Fetch it again')])
def test_databases_that_are_none(tmp_path, make, message):
    make(tmp_path / 'a.db')
    with pytest.raises(DataError, match=message):
        run(tmp_path, 'a.db')


def test_a_database_is_not_written_to(tmp_path):
    path = write_sqlite(tmp_path / 'a.db', ROWS)
    path.chmod(0o400)
    before = path.read_bytes()
    run(tmp_path, 'a.db')
    assert path.read_bytes() == before and sorted(each.name for each in tmp_path.iterdir()) == ['a.db', 'run']


def test_json_that_lacks_a_column(tmp_path):
    (tmp_path / 'a.jsonl').write_text(json.dumps(dict.fromkeys(name.replace('marker', 'markers')
                                                               for name in SQLITE_NAMES)))
    with pytest.raises(DataError, match="has no column 'marker'. Did you mean to call 'markers' so"):
        run(tmp_path, 'a.jsonl')
    (tmp_path / 'a.jsonl').write_text('{"photoid": 1,')
    with pytest.raises(DataError, match="its first line '{\"photoid\": 1,…' is no JSON object"):
        run(tmp_path, 'a.jsonl')


def test_json_that_is_cut_short(tmp_path):
    write_json_lines(tmp_path / 'a.jsonl.gz', ROWS)
    (tmp_path / 'a.jsonl.gz').write_bytes((tmp_path / 'a.jsonl.gz').read_bytes()[:-9])
    with pytest.raises(DataError, match='is damaged or cut short .* Fetch it again'):
        run(tmp_path, 'a.jsonl.gz')
    (tmp_path / 'a.jsonl.gz').write_bytes(gzip.compress(b''))
    with pytest.raises(DataError, match='has no lines'):
        run(tmp_path, 'a.jsonl.gz')


def test_an_archive_that_is_still_packed(tmp_path):
    import tarfile

    write(tmp_path / 'yfcc100m_dataset', ROWS)
    for name, mode in (('a.tgz', 'w:gz'), ('a.tar', 'w')):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tmp_path / 'yfcc100m_dataset', 'yfcc100m_dataset')
        with pytest.raises(DataError, match=f'{name} is a tar archive. Unpack it'):
            run(tmp_path, name)


def test_a_first_line_that_is_too_long(tmp_path):
    (tmp_path / 'a.tsv').write_bytes(b'x' * (1 << 21) + b'\n')
    with pytest.raises(DataError, match='a.tsv begins with a line above 1 MiB'):
        run(tmp_path, 'a.tsv')


@pytest.mark.parametrize('writer, name', [(write, 'a.gz'), (write, 'a.bz2'), (write_json_lines, 'b.gz')])
def test_ranges_of_a_packed_file_are_read_in_one_pass(tmp_path, monkeypatch, writer, name):
    rewound = []
    rewind = _compression.DecompressReader._rewind
    monkeypatch.setattr(_compression.DecompressReader, '_rewind', lambda self: (rewound.append(1), rewind(self)))
    writer(tmp_path / name, [row(number, RNG, title=str(RNG.random())) for number in range(2000)])
    with form_of(tmp_path / name) as form:
        ranges = form.survey(50).ranges(0, 50)
        del rewound[:]
        ids = [key for each in ranges for batch in form.batches(each) for key in batch.records['id'].to_pylist()]
    assert len(ranges) == 40 and ids == [3_000_000_000 + number for number in range(2000)] and len(rewound) <= 2
