"""Time buckets against their definitions, one record after the other: ties, remainders, edges, subsets, time zones."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow
import pytest
import stage_folders
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.curation import TimeBuckets
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000


def records(count, seed=0, moments=7):
    """Photos, of which many were uploaded in the same second: (id, uploaded, taken, is_local, lat)."""
    rng = random.Random(seed)
    ids = rng.sample(range(1, 10 * count), count)
    found = []
    for each in ids:
        uploaded = 1_200_000_000 * SECOND + rng.randrange(moments) * 86_400 * SECOND
        found.append(dict(id=each, is_video=False, uploaded_at=uploaded, taken_at_is_local=True,
                          taken_at=uploaded - rng.randrange(1, 5) * SECOND, lat=rng.choice([None, 1.0])))
    return found


def source(path, rows, shards=3, file='records.parquet', drop=()):
    """A finished stage that made these rows, in some shards."""
    schema = pyarrow.schema([('id', pyarrow.int64()), ('is_video', pyarrow.bool_()),
                             ('uploaded_at', pyarrow.timestamp('us', tz='UTC')), ('taken_at', pyarrow.timestamp('us')),
                             ('taken_at_is_local', pyarrow.bool_()), ('lat', pyarrow.float64())])
    size = -(-len(rows) // shards)
    parts = [pyarrow.Table.from_pylist(rows[first:first + size], schema).drop_columns(list(drop))
             for first in range(0, size * shards, size)]
    return stage_folders.finished(path, [{file: part} for part in parts])


def cut(tmp_path, made, kind='records', name='out', **options):
    """(id -> bucket, the finished stage)."""
    StageRunner(dict(stages=[dict(type='TimeBuckets', **options)], inputs={kind: str(made.folder.path)}),
                tmp_path / name).run()
    finished = Finished(tmp_path / name / 'stages' / 'time_buckets')
    tables = [parquet.read_table(file) for file in finished.files('buckets.parquet')]
    found = pyarrow.concat_tables([table.set_column(1, 'bucket', table['bucket'].cast(pyarrow.string()))
                                   for table in tables]).to_pylist()
    return {row['id']: row['bucket'] for row in found}, finished


def equal_by_hand(keys, buckets):
    """(time, id) -> bucket: one after the other, the first `len % buckets` buckets take one more."""
    keys, found = sorted(keys), {}
    for bucket in range(buckets):
        take = len(keys) // buckets + (bucket < len(keys) % buckets)
        for _ in range(take):
            found[keys[len(found)]] = str(bucket)
    return found


def quantile_by_hand(keys, chosen, buckets):
    """id -> bucket: that of the last key of the subset that is not behind it, the first for those before all."""
    by_hand = equal_by_hand(chosen, buckets)
    found = {}
    for key in keys:
        before = [each for each in sorted(chosen) if each <= key]
        found[key[1]] = by_hand[before[-1]] if before else '0'
    return found


@pytest.mark.parametrize('count, buckets, moments', [(11, 11, 1), (12, 11, 3), (100, 7, 2), (43, 10, 43), (5, 1, 2)])
@pytest.mark.parametrize('of', ['records', 'images'])
def test_equal(tmp_path, count, buckets, moments, of):
    rows = records(count, moments=moments)
    made = source(tmp_path / 'in', rows, file=f'{of}.parquet', drop=() if of == 'records' else ('is_video', 'lat'))
    found, _ = cut(tmp_path, made, of, of=of, rule=dict(type='Equal', buckets=buckets))
    assert found == {key[1]: bucket for key, bucket in
                     equal_by_hand([(row['uploaded_at'], row['id']) for row in rows], buckets).items()}


@pytest.mark.parametrize('count, buckets', [(50, 7), (49, 7), (13, 12), (8, 3)])
def test_equal_is_what_sql_calls_ntile(tmp_path, count, buckets):
    made = source(tmp_path / 'in', records(count, 5, 3))
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT id, ntile({buckets}) OVER (ORDER BY uploaded_at, id) - 1 FROM "
            f"read_parquet('{tmp_path}/in/shards/*/records.parquet')").fetchall()
    assert cut(tmp_path, made, rule=dict(type='Equal', buckets=buckets))[0] == {key: str(tile) for key, tile in rows}


@pytest.mark.parametrize('every', ['year', 'quarter', 'month'])
@pytest.mark.parametrize('by', ['uploaded_at', 'taken_at'])
def test_calendar(tmp_path, every, by):
    rng, rows = random.Random(6), records(120, 6)
    edges = [int(datetime(year, month, 1, tzinfo=UTC).timestamp())
             for year in (2008, 2010, 2011) for month in (1, 4, 5)]
    for row in rows:
        row[by] = (rng.choice(edges) + rng.choice([-1, 0, 1, 40_000_000])) * SECOND + rng.randrange(2)
        row['taken_at' if by == 'uploaded_at' else 'uploaded_at'] = 0 if by == 'uploaded_at' else 2 * 10**15
    found, finished = cut(tmp_path, source(tmp_path / 'in', rows), by=by,
                          rule=dict(type='Calendar', every=every, first='2008-04', last='2010-12'))
    expected = {}
    for row in rows:
        when = datetime.fromtimestamp(row[by] // SECOND, UTC)
        quarter = (when.month - 1) // 3
        name, is_inside = dict(
            year=(f'{when.year}', 2008 <= when.year <= 2010),
            quarter=(f'{when.year}-q{quarter + 1}', (2008, 1) <= (when.year, quarter) <= (2010, 3)),
            month=(f'{when.year}-{when.month:02}', (2008, 4) <= (when.year, when.month) <= (2010, 12)))[every]
        expected |= {row['id']: name} if is_inside else {}
    assert found == expected and finished.counts['outside'] == 120 - len(expected)
    assert len(finished.summary['buckets']) == dict(year=3, quarter=11, month=33)[every]


@pytest.mark.parametrize('count, buckets, moments', [(60, 5, 3), (61, 7, 61), (40, 11, 1)])
@pytest.mark.parametrize('by', ['uploaded_at', 'taken_at'])
def test_quantile_of_those_that_satisfy_a_condition(tmp_path, count, buckets, moments, by):
    rows = records(count, 1, moments)
    rows[3] |= dict(id=7_000, lat=1.0, uploaded_at=0)  # taken after its upload: neither cut nor cutting
    found, _ = cut(tmp_path, source(tmp_path / 'in', rows), by=by,
                   rule=dict(type='Quantile', buckets=buckets, where='lat IS NOT NULL'))
    del rows[3]
    keys = [(row[by], row['id']) for row in rows]
    assert found == quantile_by_hand(keys, [key for key, row in zip(keys, rows) if row['lat'] is not None], buckets)


@pytest.mark.parametrize('as_file', [False, True])
def test_quantile_of_a_list(tmp_path, as_file):
    rows = records(50, 2)
    keys = [(row['uploaded_at'], row['id']) for row in rows]
    chosen = sorted(keys)[5:40:2]
    ids = [key[1] for key in chosen] + [999_999]  # which no record has
    if as_file:
        twice = pyarrow.array([*ids, ids[0]], pyarrow.int32())
        parquet.write_table(pyarrow.table(dict(id=twice)), tmp_path / 'i.parquet')
    rule = dict(type='Quantile', buckets=4, ids=str(tmp_path / 'i.parquet') if as_file else ids)
    found, _ = cut(tmp_path, source(tmp_path / 'in', rows), rule=rule)
    assert found == quantile_by_hand(keys, chosen, 4)
    if as_file:
        parquet.write_table(pyarrow.table(dict(id=ids[:8])), tmp_path / 'i.parquet')
        with pytest.raises(ConfigError, match=r'made of something else: inputs.sources.ids'):
            cut(tmp_path, Finished(tmp_path / 'in'), rule=rule)


def test_a_quantile_of_all_is_equal(tmp_path):
    made = source(tmp_path / 'in', records(97, 3))
    equal, _ = cut(tmp_path, made, 'records', 'equal', rule=dict(type='Equal', buckets=10))
    assert cut(tmp_path, made, rule=dict(type='Quantile', buckets=10, where='true'))[0] == equal


def test_a_subset_that_is_too_small_or_cannot_be(tmp_path):
    made = source(tmp_path / 'in', records(20))
    with pytest.raises(DataError, match='the 0 records of the subset cannot give 3 buckets'):
        cut(tmp_path, made, rule=dict(type='Quantile', buckets=3, where='id < 0'))
    for condition, named in (('latitude IS NULL', 'latitude'), ('lat IS IS NULL', 'syntax error'),
                             ('nothing_such(lat)', 'nothing_such')):
        with pytest.raises(ConfigError, match=named) as told:
            cut(tmp_path, made, rule=dict(type='Quantile', where=condition))
        assert str(told.value).startswith(f'rule.where is {condition!r}, which is no condition on records: ')
        assert '\n' not in str(told.value)
    with pytest.raises(DataError, match='nowhere.parquet does not exist'):
        cut(tmp_path, made, rule=dict(type='Quantile', ids='nowhere.parquet'))


def test_periods_are_closed_to_the_second_and_all_else_is_half_open(tmp_path):
    whole = [datetime(2010, 1, 1, tzinfo=UTC), datetime(2010, 12, 31, 23, 59, 59, tzinfo=UTC),
             datetime(2011, 1, 1, tzinfo=UTC), datetime(2011, 6, 1, tzinfo=UTC)]
    rows = []
    for place, when in enumerate(whole):
        for part, fraction in enumerate((0, 1, 999_999)):
            micros = int(when.timestamp()) * SECOND + fraction
            rows.append(dict(id=10 * place + part, is_video=False, uploaded_at=micros, taken_at=micros - SECOND,
                             taken_at_is_local=True))
    made = source(tmp_path / 'in', rows)
    periods = [dict(start='2010-01-01 00:00:00', end='2010-12-31 23:59:59'),
               dict(start='2011-01-01', end='2011-01-01 00:00:00.7')]
    found, _ = cut(tmp_path, made, 'records', 'p', rule=dict(type='Periods', periods=periods))
    assert found == {0: '0', 1: '0', 2: '0', 10: '0', 11: '0', 12: '0', 20: '1', 21: '1', 22: '1'}
    years, _ = cut(tmp_path, made, rule=dict(type='Calendar', first='2010', last='2011'))
    assert years == {row['id']: '2010' if row['id'] < 20 else '2011' for row in rows}


@pytest.mark.parametrize('end, start', [('2010-05-01 00:00:00', '2010-05-01 00:00:00'),
                                        ('2010-05-01 00:00:00.2', '2010-05-01 00:00:00.7')])
def test_an_end_in_the_second_of_the_next_start_overlaps(end, start):
    periods = [dict(start='2010', end=end), dict(start=start, end='2011')]
    with pytest.raises(ConfigError, match='period 1 starts at 2010-05-01 00:00:00, inside period 0'):
        TimeBuckets(rule=dict(type='Periods', periods=periods))


def test_clear_10s_periods_are_shipped(tmp_path):
    listed = json.loads((ROOT / 'configs/curation/clear_10_time.json').read_text())
    assert len(listed) == 11 and listed[0]['start'] == '2004-01-01 11:52:13'
    rows = []
    for place, (key, bucket) in enumerate((key, bucket) for bucket, _ in enumerate(listed) for key in ('start', 'end')):
        when = int(datetime.fromisoformat(listed[bucket][key]).replace(tzinfo=UTC).timestamp()) * SECOND
        rows.append(dict(id=place, is_video=False, uploaded_at=when, taken_at=0, taken_at_is_local=True))
    gap = int(datetime(2013, 9, 8, 22, 35, 20, tzinfo=UTC).timestamp()) * SECOND
    rows.append(dict(id=99, is_video=False, uploaded_at=gap, taken_at=0, taken_at_is_local=True))
    for name in ('configs/curation/clear_10_time.json', 'curation/clear_10_time.json'):
        found, finished = cut(tmp_path, source(tmp_path / 'in' / name[:6], rows), 'records', name[:6],
                              rule=dict(type='Periods', periods=name))
        assert found == {place: str(place // 2) for place in range(22)}
        assert finished.counts['outside'] == 1


def test_the_summary_names_the_key_and_what_is_empty(tmp_path, caplog):
    rows = records(9, 4)
    rows[0] |= dict(is_video=True)
    rows[1] |= dict(taken_at=None)
    rows[2] |= dict(taken_at_is_local=False)
    made = source(tmp_path / 'in', rows)
    rule = dict(type='Calendar', every='month', first='2007-12', last='2008-02')
    caplog.set_level('INFO')
    _, finished = cut(tmp_path, made, rule=rule)
    named = {key: finished.summary[key] for key in ('of', 'by', 'zone')}
    assert named == dict(of='records', by='uploaded_at', zone='UTC')
    assert finished.counts == dict(inside=7, outside=0, local=0, video=1, bad_date=1)
    assert 'EMPTY: nothing is in bucket 2007-12, 2008-02' in '\n'.join(TimeBuckets(rule).report(finished))
    _, finished = cut(tmp_path, made, name='taken', by='taken_at', valid_dates=False, rule=rule)
    assert finished.summary['zone'] == 'of the camera or UTC'
    assert finished.counts == {'inside': 7, 'outside': 0, 'local': 6, 'video': 1, 'no time': 1}
    del rows[:3]
    _, finished = cut(tmp_path, source(tmp_path / 'local', rows), name='l', by='taken_at', rule=rule)
    assert finished.summary['zone'] == 'local time of the camera'


@pytest.mark.parametrize('options, message', [
    (dict(rule=dict(type='Quantile')), 'either where'),
    (dict(rule=dict(type='Quantile', where='a', ids=[1])), 'either where'),
    (dict(rule=dict(type='Quantile', ids=['x'])), 'rule.ids'),
    (dict(rule=dict(type='Quantile', where=3)), 'rule.where'),
    (dict(rule=dict(type='Calendar', every='month', last='2014-13')), "rule: '2014-13': month must be"),
    (dict(rule=dict(type='Equal', NEEDS_ORDER=False)), "no key 'NEEDS_ORDER'"),
    (dict(rule=dict(type='Equal'), of='photos'), 'of is'),
    (dict(rule=dict(type='Equal'), of='images', valid_dates=True), "of='images' takes every image"),
    (dict(rule=dict(type='Periods', periods='nowhere.json')), 'nowhere.json does not exist')])
def test_options_that_cannot_be(options, message):
    with pytest.raises((ConfigError, DataError), match=message):
        TimeBuckets(**options)
