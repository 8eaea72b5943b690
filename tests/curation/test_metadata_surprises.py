"""Valid rows on which libraries were seen to go wrong, through the stage and then through DuckDB and pandas."""

import json
import random
from datetime import datetime

import duckdb
import pyarrow.parquet as parquet
import pytest
from metadata_files import row, write, write_json_lines, write_sqlite

from clear.engine.stages.runner import StageRunner

RNG = random.Random(6)
WRITERS = {'a.tsv': write, 'a.db': write_sqlite, 'a.jsonl': write_json_lines}


def run(tmp_path, rows, name='a.tsv', shard_rows=300):
    WRITERS[name](tmp_path / name, rows)
    stages = [dict(type='Metadata', root=str(tmp_path), files=name, shard_rows=shard_rows)]
    StageRunner(dict(stages=stages), tmp_path / name.replace('.', '_')).run()
    return tmp_path / name.replace('.', '_') / 'stages' / 'metadata'


def query(folder, sql):
    found = f"read_parquet('{folder}/shards/*/records.parquet')"
    with duckdb.connect() as connection:
        return connection.execute(sql.format(found)).fetchall()


@pytest.mark.parametrize('name', WRITERS)
def test_a_bad_cell_is_counted_alike_by_every_query(tmp_path, name):
    rows = [row(number, RNG, lon='unknown' if number % 10 == 0 else '-1.25') for number in range(1000)]
    folder = run(tmp_path, rows, name)
    assert query(folder, 'SELECT count(*), count(id), count(lon) FROM {}') == [(1000, 1000, 900)]
    every = 'SELECT * EXCLUDE (uploaded_at) FROM {}'  # which Python gets only with pytz
    assert len(query(folder, every)) == len(query(folder, 'SELECT id FROM {}')) == 1000
    assert json.loads((folder / 'manifest.json').read_text())['counts']['unreadable lon'] == 100


@pytest.mark.parametrize('name', WRITERS)
@pytest.mark.parametrize('titles', [{501: '"vintage+5+inch+lens'}, {3: '"quoted"', 501: '"vintage'},
                                    {501: '"opens', 511: 'closes"'}])
def test_lone_quotes_cost_nothing(tmp_path, titles, name):
    rows = [row(number, RNG, title=titles.get(number, 'word')) for number in range(1000)]
    folder = run(tmp_path, rows, name)
    found = query(folder, 'SELECT id - 3000000000, title_text FROM {} ORDER BY id')
    assert found == [(number, titles.get(number, 'word').replace('+', ' ')) for number in range(1000)]


def test_dates_as_photo_metadata_hold_them(tmp_path):
    good = {'2013-08-31 19:32:13': 0, '2013-08-31 19:32:13.0': 0, '2013-08-31 19:32:13.5': 500_000,
            '2013-08-31 19:32:13.05': 50_000, '2013-08-31 19:32:13.123456': 123_456}
    bad = ['2012-13-05', '2010:03:04 05:06:07', '2012-02', '1362300300', '05/04/2011', '2011', '2012-00-00',
           '0000-00-00 00:00:00', '2010:03:04', '2013-08-31', '2013-08-31T19:32:13', '2013-08-31 19:32',
           '2013-02-29 00:00:00', '2013-08-31 24:00:00', '2013-08-31 19:32:60', '2013-08-31 19:32:13.1234567']
    rows = [row(number, RNG, taken=text) for number, text in enumerate([*good, *bad, '', 'null'])]
    folder = run(tmp_path, rows)
    found = [taken for taken, in query(folder, 'SELECT taken_at FROM {} ORDER BY id')]
    assert found == [datetime(2013, 8, 31, 19, 32, 13, micros) for micros in good.values()] + [None] * (len(bad) + 2)
    counts = json.loads((folder / 'manifest.json').read_text())['counts']
    assert counts['unreadable taken_at'] == len(bad) and counts['records'] == len(rows)


def test_times_have_one_unit_through_every_door(tmp_path):
    rows = [row(0, RNG, uploaded='1377977533', taken='2013-08-31 19:32:13.0')]
    folder = run(tmp_path, rows)
    described = dict(pair[:2] for pair in query(folder, 'DESCRIBE SELECT uploaded_at, taken_at FROM {}'))
    assert described == dict(uploaded_at='TIMESTAMP WITH TIME ZONE', taken_at='TIMESTAMP')
    assert query(folder, 'SELECT epoch_us(uploaded_at), epoch_us(taken_at) FROM {}') == [
        (1_377_977_533_000_000, 1_377_977_533_000_000)]
    frame = parquet.read_table(folder / 'shards/000000/records.parquet').to_pandas()
    assert [str(frame[name].dtype) for name in ('uploaded_at', 'taken_at')] == ['datetime64[us, UTC]', 'datetime64[us]']
    assert frame['taken_at'].astype('int64')[0] == 1_377_977_533_000_000


def test_numbers_of_19_figures_and_more_are_no_ids(tmp_path):
    rows = [[identity, *row(number, RNG)[1:]] for number, identity in enumerate(
        [str(2**53), str(2**53 + 1), '9' * 18, '9' * 19, str(2**63), '-5', '1e3', '007', '٣'])]
    folder = run(tmp_path, rows)
    assert [identity for identity, in query(folder, 'SELECT id FROM {} ORDER BY line')] == [
        2**53, 2**53 + 1, 10**18 - 1, 7]
    lines = [each['line'] for file in folder.glob('shards/*/rejected.parquet')
             for each in parquet.read_table(file).to_pylist()]
    assert lines == [3, 4, 5, 6, 8]
