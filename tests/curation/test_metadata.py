"""The stages of metadata and of time buckets on files with every bad row, against reading them line by line."""

import hashlib
import json
import random

import pyarrow.parquet as parquet
import pytest
from metadata_files import decode, kept, row, write

from clear.core.errors import ConfigError, DataError
from clear.curation import Metadata, TimeBuckets
from clear.engine.stages.runner import StageRunner

RNG = random.Random(0)
ROWS = [row(number, RNG) for number in range(40)]
BAD = {5: ROWS[5][:-1], 9: [*ROWS[9], 'more'], 13: ['x13', *ROWS[13][1:]], 17: ['1', *ROWS[17][1:4], '', *ROWS[17][5:]],
       21: [*ROWS[21][:22], '2'], 25: [*ROWS[25][:14], '', *ROWS[25][15:]], 29: [''], 33: ['', *ROWS[33][1:]]}
REASONS = {5: '22 columns in place of 23', 9: '24 columns in place of 23', 13: 'id is no number',
           17: 'upload time is no number of seconds', 21: 'marker is neither 0 nor 1', 25: 'no address',
           29: '1 columns in place of 23', 33: 'id is no number'}
ALL = [BAD.get(place, cells) for place, cells in enumerate(ROWS)]
ALL[2] = row(2, RNG, taken='null')
ALL[3] = row(3, RNG, taken='2013-02-30 00:00:00.0', lon='unknown', server='99999999999')
ALL[4] = row(4, RNG, marker='1')
ALL[6] = row(6, RNG, taken='2008-01-01 00:00:00.0', uploaded='1199145600')  # taken when it was uploaded
ALL[7] = row(7, RNG, title='cr\rnul\0 "quote', nickname='\udcff')


def run(tmp_path, *stages, names=None, **keys):
    StageRunner(dict(stages=list(stages), **keys), tmp_path / 'run', names).run()
    return tmp_path / 'run' / 'stages'


def table(folder, name):
    files = sorted(folder.glob(f'shards/*/{name}'))
    return [cells for file in files for cells in parquet.read_table(file).to_pylist()]


@pytest.mark.parametrize('suffix', ['.tsv', '.gz', '.bz2'])
@pytest.mark.parametrize('shard_rows', [7, 1000])
def test_records_are_what_the_lines_say(tmp_path, suffix, shard_rows):
    write(tmp_path / f'a{suffix}', ALL[:15])
    write(tmp_path / f'b{suffix}', ALL[15:], end='')
    folder = run(tmp_path, dict(type='Metadata', root=str(tmp_path), files=[f'[ab]{suffix}'], shard_rows=shard_rows))
    records = table(folder / 'metadata', 'records.parquet')
    assert {cells['line']: cells['reason'] for cells in table(folder / 'metadata', 'rejected.parquet')} == REASONS
    assert [cells['line'] for cells in records] == [place for place in range(40) if place not in BAD]
    for found in records:
        cells = ALL[found['line']]
        assert found['id'] == int(cells[0]) and found['is_video'] == (cells[22] == '1')
        assert found['uploaded_at'].timestamp() == int(cells[4])
        assert str(found['taken_at'])[:19] == (cells[3][:19] if found['line'] not in (2, 3) else 'None')
        for place, name in ((2, 'nickname'), (5, 'device'), (6, 'title'), (7, 'description')):
            assert found[name] == cells[place].encode('utf-8', 'surrogateescape')
            assert found[f'{name}_text'] == decode(cells[place])
        assert found['user_tags_text'] == [decode(tag) for tag in cells[8].split(',') if tag]
        assert found['lon'] == (float(cells[10]) if cells[10] not in ('', 'unknown') else None)
        assert found['secret'] == '00abc' and found['geo_accuracy'] == 16
        digest = hashlib.md5(cells[14].encode()).digest()
        assert found['hash'] == ''.join(f'{byte:x}' for byte in digest)
    counts = json.loads((folder / 'metadata' / 'manifest.json').read_text())['counts']
    assert counts['records'] == 32 and counts['rejected'] == 8 and counts['videos'] == 1
    assert counts['rejected: wrong number of columns'] == 3 and counts['rejected: id is no number'] == 2
    assert {name: count for name, count in counts.items() if name.startswith('unreadable')} == {
        'unreadable lon': 1, 'unreadable server_id': 1, 'unreadable taken_at': 1}


def test_the_wide_form_is_told_apart(tmp_path):
    wide = [[str(place), cells[0], f'{place:032x}', *cells[1:]] for place, cells in enumerate(ROWS)]
    write(tmp_path / 'a.tsv', wide)
    write(tmp_path / 'b.tsv', ROWS)
    same = [table(run(tmp_path / name[0], dict(type='Metadata', root=str(tmp_path), files=name)) / 'metadata',
                  'records.parquet') for name in ('a.tsv', 'b.tsv')]
    assert [cells['hash'] for cells in same[0]] == [cells[2] for cells in wide]
    assert [cells | dict(hash='') for cells in same[0]] == [cells | dict(hash='') for cells in same[1]]


def equal_by_hand(rows, count):
    """Id -> bucket: a contiguous split of the order (time, id), the remainder to the first buckets."""
    ordered, found = kept(rows), {}
    sizes = [len(ordered) // count + (place < len(ordered) % count) for place in range(count)]
    for bucket, size in enumerate(sizes):
        found |= {identity: str(bucket) for _, identity in ordered[sum(sizes[:bucket]):sum(sizes[:bucket]) + size]}
    return found


@pytest.mark.parametrize('count', [1, 2, 5, 11])
def test_equal_buckets_at_ties_and_remainders(tmp_path, count):
    rows = [[*cells] for cells in ALL]
    for place in (8, 10, 11, 12, 14, 15, 16, 18, 19, 20):  # uploaded in one second, with ids in no order
        rows[place] = row(150 - place, RNG, uploaded='1300000000', taken='2011-03-01 00:00:00.0')
    write(tmp_path / 'a.tsv', rows)
    folder = run(tmp_path, dict(type='Metadata', root=str(tmp_path), files='a.tsv', shard_rows=9),
                 dict(type='TimeBuckets', rule=dict(type='Equal', buckets=count)))
    found = table(folder / 'time_buckets', 'buckets.parquet')
    assert {cells['id']: cells['bucket'] for cells in found} == equal_by_hand(rows, count)
    summary = json.loads((folder / 'time_buckets' / 'manifest.json').read_text())['summary']['buckets']
    assert [each['count'] for each in summary.values()] == [list(equal_by_hand(rows, count).values()).count(str(bucket))
                                                            for bucket in range(count)]


def test_calendar_and_periods(tmp_path):
    times = ['2009-12-31 23:59:59', '2010-01-01 00:00:00', '2010-03-31 23:59:59', '2010-04-01 00:00:00',
             '2010-06-30 23:59:59', '2010-07-01 00:00:00', '2010-07-01 00:00:01']
    from datetime import UTC, datetime
    seconds = [int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in times]
    write(tmp_path / 'a.tsv', [row(place, RNG, uploaded=str(when), taken='2001-01-01 00:00:00.0')
                               for place, when in enumerate(seconds)])
    (tmp_path / 'p.json').write_text(json.dumps([dict(start='2010-01-01T00:00:00', end='2010-03-31T23:59:59'),
                                                 dict(start='2010-04-01 00:00:00', end='2010-04-01 00:00:00'),
                                                 dict(start='2010-07-01 00:00:00', end='2010-07-01 00:00:00')]))
    rules = dict(quarters=dict(type='Calendar', every='quarter', first='2010', last='2010-06'),
                 years=dict(type='Calendar', every='year', first='2009', last='2010'),
                 months=dict(type='Calendar', every='month', first='2010-03', last='2010-07'),
                 periods=dict(type='Periods', periods=str(tmp_path / 'p.json')))
    folder = run(tmp_path, dict(type='Metadata', root=str(tmp_path), files='a.tsv'),
                 *(dict(type='TimeBuckets', name=name, rule=rule) for name, rule in rules.items()))
    found = {name: {cells['id'] - 3_000_000_000: cells['bucket'] for cells in table(folder / name, 'buckets.parquet')}
             for name in rules}
    assert found['quarters'] == {1: '2010-q1', 2: '2010-q1', 3: '2010-q2', 4: '2010-q2'}
    assert found['years'] == {0: '2009'} | dict.fromkeys(range(1, 7), '2010')
    assert found['months'] == {2: '2010-03', 3: '2010-04', 4: '2010-06', 5: '2010-07', 6: '2010-07'}
    assert found['periods'] == {1: '0', 2: '0', 3: '1', 5: '2'}
    empty = json.loads((folder / 'months' / 'manifest.json').read_text())['summary']['buckets']['2010-05']
    assert empty == dict(count=0, first=None, last=None)


def test_tolerance_keeps_what_was_uploaded_at_once_in_the_east(tmp_path):
    write(tmp_path / 'a.tsv', [row(0, RNG, uploaded='1300000000', taken='2011-03-13 16:06:40.0'),  # 9 hours later
                               row(1, RNG, uploaded='1300000000', taken='2011-03-13 21:06:40.0')])
    for hours, count in ((0, 0), (9, 0), (9.5, 1), (14.5, 2)):
        folder = run(tmp_path / str(hours), dict(type='Metadata', root=str(tmp_path), files='a.tsv'),
                     dict(type='TimeBuckets', rule=dict(type='Calendar'), date_tolerance_hours=hours))
        assert len(table(folder / 'time_buckets', 'buckets.parquet')) == count


def test_dry_run_counts_what_the_run_keeps(tmp_path):
    write(tmp_path / 'a.bz2', ALL)
    lines = Metadata('a.bz2', str(tmp_path)).preview()
    assert lines[0] == f'bad_date 3  ok {len(kept(ALL))}  rejected 8  video 1'


@pytest.mark.parametrize('content, message', [
    (b'', 'has no lines'), (b'\n\n', "its first line '…' has 1 columns; expected 23 or 25"),
    (b'\t'.join([b'1'] * 22) + b'\n', 'has 22 columns; expected 23 or 25')])
def test_files_that_are_no_metadata(tmp_path, content, message):
    (tmp_path / 'a.tsv').write_bytes(content)
    with pytest.raises(DataError, match=message):
        run(tmp_path, dict(type='Metadata', root=str(tmp_path), files='a.tsv'))


@pytest.mark.parametrize('suffix', ['.gz', '.bz2'])
def test_a_packed_file_that_is_cut_short(tmp_path, suffix):
    path = write(tmp_path / f'a{suffix}', ROWS * 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match='is damaged or cut short .* Fetch it again'):
        run(tmp_path, dict(type='Metadata', root=str(tmp_path), files=f'a{suffix}'))


def test_an_id_that_is_there_twice(tmp_path):
    write(tmp_path / 'a.tsv', ROWS[:10])
    write(tmp_path / 'b.tsv', [ROWS[20], ROWS[3]])
    with pytest.raises(DataError, match=r'id 3000000003 in a\.tsv:4 and b\.tsv:2'):
        run(tmp_path, dict(type='Metadata', root=str(tmp_path), files='?.tsv'))


@pytest.mark.parametrize('options, message', [
    (dict(rule=dict(type='Equal', buckets=0)), 'rule.buckets'),
    (dict(rule=dict(type='Year')), 'one of Equal, Calendar'),
    (dict(rule=dict(type='Equal', count=3)), "no key 'count'"), (dict(rule=dict(type='Equal'), by='taken'), 'by is'),
    (dict(rule=dict(type='Calendar', first='2014', last='2004')), 'lies before'),
    (dict(rule=dict(type='Calendar', every='week')), 'rule.every'),
    (dict(rule=dict(type='Periods', periods=[dict(start='2010', end='2009')])), 'period 0 ends before it starts'),
    (dict(rule=dict(type='Periods', periods=[dict(start='2010', end='2011'), dict(start='2011', end='2012')])),
     'period 1 starts at 2011-01-01 00:00:00, inside period 0'),
    (dict(rule=dict(type='Periods', periods=[dict(start='soon', end='2011')])), "period 0: 'soon' is no date")])
def test_rules_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        TimeBuckets(**options)


def test_more_buckets_than_records(tmp_path):
    write(tmp_path / 'a.tsv', ROWS[:3])
    with pytest.raises(DataError, match='3 records cannot fill 4 buckets'):
        run(tmp_path, dict(type='Metadata', root=str(tmp_path), files='a.tsv'),
            dict(type='TimeBuckets', rule=dict(type='Equal', buckets=4)))
