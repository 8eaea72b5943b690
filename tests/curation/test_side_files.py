"""Side files joined by id in any order, against dicts; what does not fit is counted, and nothing is lost."""

import json
import random
from urllib.parse import unquote_plus

import pyarrow.parquet as parquet
import pytest
from metadata_files import row, write

from clear.core.errors import ConfigError, DataError
from clear.curation import SideFiles
from clear.engine.stages.runner import StageRunner

RNG = random.Random(5)
ROWS = [row(number, RNG) for number in range(40)]
ROWS[7] = ['x', *ROWS[7][1:]]  # rejected
IDS = [cells[0] for cells in ROWS]
EXIF = dict.fromkeys(IDS, '') | {
    IDS[0]: 'Exif+IFD0.Date%2FTime:2009%3A10%3A10+10%3A00%3A00,Make:Canon,Note:a:b', IDS[3]: 'broken,,k:%FF',
    IDS[5]: 'k:'}
TAGS = {key: f'{RNG.choice(["cat", "new+york", "a%2Cb"])}:0.{number}5' for number, key in enumerate(IDS)} | {
    IDS[1]: 'a:0.9,,b:0.8', IDS[2]: 'ns:name:0.75,lonely,x:high,y:1e-1,z:.5', IDS[4]: ''}


def run(tmp_path, name='run', shard_rows=9, **files):
    write(tmp_path / 'a.tsv', ROWS)
    stages = [dict(type='Metadata', root=str(tmp_path), files='a.tsv', shard_rows=shard_rows),
              dict(type='SideFiles', root=str(tmp_path), **files)]
    StageRunner(dict(stages=stages), tmp_path / name).run()
    return tmp_path / name / 'stages'


def table(folder, name='records.parquet'):
    return [cells for file in sorted(folder.glob(f'shards/*/{name}')) for cells in parquet.read_table(file).to_pylist()]


def counts(folder):
    return json.loads((folder / 'manifest.json').read_text())['counts']


def lines_of(values):
    """Lines in no order; without a TAB where there is nothing to say."""
    lines = [f'{key}\t{value}' if value else key for key, value in values.items()]
    RNG.shuffle(lines)
    return [line.split('\t') for line in lines]


def tags_by_hand(text):
    """Concept and score by the last colon, blanks and what is no number left out."""
    found = []
    for item in text.split(','):
        concept, colon, score = item.rpartition(':')
        if colon and score[:1] in '0123456789.':
            found.append(dict(concept=unquote_plus(concept, errors='replace'), score=float(score)))
    return found


def exif_by_hand(text):
    pairs = [item.partition(':') for item in text.split(',') if ':' in item]
    return [dict(key=unquote_plus(key), value=unquote_plus(value, errors='replace')) for key, _, value in pairs]


@pytest.mark.parametrize('suffix', ['', '.bz2'])
@pytest.mark.parametrize('shard_rows', [9, 1000])
def test_every_record_gets_what_its_files_say(tmp_path, suffix, shard_rows):
    write(tmp_path / f'tags{suffix}', lines_of(TAGS))
    write(tmp_path / f'exif{suffix}', lines_of(EXIF), end='')
    write(tmp_path / f'hash{suffix}', lines_of({key: f'{number:032x}' for number, key in enumerate(IDS)}))
    write(tmp_path / f'lines{suffix}', [[str(number + 100), key] for number, key in enumerate(IDS)])
    stages = run(tmp_path, shard_rows=shard_rows, autotags=f'tags{suffix}', exif=f'exif{suffix}', hash=f'hash{suffix}',
                 lines=f'lines{suffix}')
    before, after = table(stages / 'metadata'), table(stages / 'side_files')
    assert len(after) == 39
    for old, new in zip(before, after):
        key = str(new['id'])
        assert new['auto_tags'] == tags_by_hand(TAGS[key])
        assert new['exif'] == EXIF[key].encode() and new['exif_text'] == exif_by_hand(EXIF[key])
        assert new['hash'] == f'{IDS.index(key):032x}' and new['line_number'] == IDS.index(key) + 100
        assert old | dict(hash='') == {name: new[name] for name in old} | dict(hash='')
    assert table(stages / 'metadata', 'rejected.parquet') == table(stages / 'side_files', 'rejected.parquet')
    found = counts(stages / 'side_files')
    assert found['hash: differs'] == 39 and found['exif: records'] == 39 and found['exif: records without'] == 0
    assert found['exif: lines'] == 40 and found['exif: rejected'] == 1 and found['exif: without a record'] == 0
    assert found['unreadable auto_tags'] == 2 and found['unreadable exif'] == 1 and found['rejected'] == 1
    line = [line[0] for line in read(tmp_path / f'tags{suffix}')].index('x')
    assert table(stages / 'side_files', 'side_rejected.parquet')[0] == dict(
        file=f'tags{suffix}', line=line, reason='id is no number')


def read(path):
    import bz2

    data = path.read_bytes()
    return [line.split('\t') for line in (bz2.decompress(data) if path.suffix else data).decode().splitlines()]


def test_ids_that_mismatch_repeat_or_are_missing(tmp_path):
    some = [[IDS[10], 'a:0.5'], [IDS[2], 'b:0.5'], ['77', 'none:0.5'], [IDS[10], 'later:0.9'], [IDS[30], 'c:0.5'],
            ['', 'blank:0.1'], [IDS[11], 'd:0.5', 'more'], [IDS[10]], [IDS[2], 'later:0.9']]
    write(tmp_path / 'tags', some)
    write(tmp_path / 'hash', [[IDS[3], 'abc'], [IDS[4], '']])
    stages = run(tmp_path, autotags='tags', hash='hash')
    tags = {each['id']: each['auto_tags'] for each in table(stages / 'side_files')}
    assert {key: value[0]['concept'] for key, value in tags.items() if value is not None} == {
        int(IDS[10]): 'a', int(IDS[2]): 'b', int(IDS[30]): 'c'}
    found = counts(stages / 'side_files')
    assert {name: count for name, count in found.items() if name.startswith('autotags')} == {
        'autotags: lines': 9, 'autotags: rejected': 2, 'autotags: without a record': 1, 'autotags: repeated': 3,
        'autotags: records': 3, 'autotags: records without': 36}
    assert [each['reason'] for each in table(stages / 'side_files', 'side_rejected.parquet')] == [
        'id is no number', '3 columns in place of 2']
    old = {each['id']: each['hash'] for each in table(stages / 'metadata')}
    new = {each['id']: each['hash'] for each in table(stages / 'side_files')}
    assert new == old | {int(IDS[3]): 'abc'} and found['hash: differs'] == 1


def test_goes_on_where_shards_are_missing(tmp_path):
    import shutil

    write(tmp_path / 'exif', lines_of(EXIF))
    stages = run(tmp_path, exif='exif')
    folder = stages / 'side_files'
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.parquet')}
    manifest = (folder / 'manifest.json').read_bytes()
    for shard in ('000000', '000003'):
        shutil.rmtree(folder / 'shards' / shard)
    (folder / 'manifest.json').unlink()
    run(tmp_path, exif='exif')
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.parquet')} == whole
    assert (folder / 'manifest.json').read_bytes() == manifest


def test_buckets_stand_on_the_joined_records(tmp_path):
    write(tmp_path / 'a.tsv', ROWS)
    write(tmp_path / 'exif', lines_of(EXIF))
    stages = [dict(type='Metadata', root=str(tmp_path), files='a.tsv'), dict(type='SideFiles', root=str(tmp_path),
                                                                            exif='exif'),
              dict(type='TimeBuckets', rule=dict(type='Equal', buckets=2))]
    runner = StageRunner(dict(stages=stages), tmp_path / 'run')
    assert runner.entries[2].reads == dict(records='side_files')
    runner.run()


@pytest.mark.parametrize('content, options, message', [
    (b'', dict(exif='x'), 'has no lines'),
    (b'a\tb\n', dict(exif='x'), "its first line 'a.*b…' is not of exif: expected ID"),
    (b'1\tb\n', dict(lines='x'), 'is not of lines: expected LINE TAB ID'), (b'1\n', dict(lines='x'), 'is not of lines'),
    (b'1\tb\tc\n', dict(autotags='x'), 'is not of autotags')])
def test_files_that_are_none(tmp_path, content, options, message):
    (tmp_path / 'x').write_bytes(content)
    with pytest.raises(DataError, match=message):
        run(tmp_path, **options)
    with pytest.raises(DataError, match='does not exist'):
        run(tmp_path, 'other', hash='y')


def test_without_a_file():
    with pytest.raises(ConfigError, match='needs one of autotags, exif, hash, lines'):
        SideFiles()
