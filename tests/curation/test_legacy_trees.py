"""Trees and buckets of the earlier curation into stages and back, compared with what they were written from."""

import importlib.util
import json
import shutil
from pathlib import Path

import pyarrow
import pytest
from legacy_trees import bucket, dump_records, write_tree
from PIL import Image
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.curation.images import image_table
from clear.curation.legacy import exporting
from clear.curation.legacy.places import Places
from clear.curation.legacy.sources import find_source, read_folders
from clear.curation.manifest import Finished
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.engine.stages.runner import StageRunner

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'curation' / 'convert_legacy.py'
spec = importlib.util.spec_from_file_location('convert_legacy', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def run(*args):
    return tool.main([str(arg) for arg in args])


def stage(work_dir, name):
    return Finished(work_dir / 'stages' / name)


def rows(finished, name):
    return pyarrow.concat_tables([parquet.read_table(file) for file in finished.files(name)]).to_pylist()


def outcome(folder):
    return {row['id']: row['outcome'] for row in rows(folder, 'outcomes.parquet')}


@pytest.mark.parametrize('generation', [1, 2])
@pytest.mark.parametrize('is_moved', [False, True])
def test_a_tree_is_imported_wherever_it_lies(tmp_path, generation, is_moved, capsys):
    records = write_tree(tmp_path / 'old', generation=generation)
    tree = tmp_path / 'old'
    if is_moved:
        tree = (tmp_path / 'old').rename(tmp_path / 'new')
    assert run('import', tree, '--out', tmp_path / 'run', '--verify', '--shard-rows', 6) == 0
    assert '23 records in 3 files' in capsys.readouterr().out
    found = rows(stage(tmp_path / 'run', 'metadata'), 'records.parquet')
    assert [row['line'] for row in found] == list(range(23))
    for row, record in zip(found, records):
        assert row['id'] == int(record['ID']) and row['hash'] == record['HASH_VALUE']
        assert row['title'].decode() == record['TITLE'] and row['user_tags_text'] == ['new york', 'b']
        assert int(row['uploaded_at'].timestamp()) == int(record['DATE_UPLOADED'])
        assert f"{row['taken_at']:%Y-%m-%d %H:%M:%S}.0" == record['DATE_TAKEN']
        assert {each['concept']: each['score'] for each in row['auto_tags']} == record['AUTO_TAG_SCORES']
    images = stage(tmp_path / 'run', 'download')
    for row, record in zip(rows(images, 'images.parquet'), records):
        file = images.folder.path / row['path']
        old = tree / str(int(record['LINE_NUM']) // 10) / 'images' / record['IMG_PATH']
        assert file.samefile(old) and row['bytes'] == old.stat().st_size and (row['width'], row['height']) == (8, 6)
    table = image_table(images)
    assert len(table) == 23 and table.table.num_rows == len(set(table.texts('path')))
    assert not (tmp_path / 'run' / 'stages' / 'time_buckets').exists()


def test_buckets_are_imported_and_read_like_any(tmp_path):
    records = write_tree(tmp_path / 'tree')
    order = sorted(range(23), key=lambda place: (int(records[place]['DATE_UPLOADED']), int(records[place]['ID'])))
    parts = [order[:8], order[8:16], order[16:]]
    listed = {str(place): bucket(records, part, tmp_path / 'tree') for place, part in enumerate(parts)}
    file = tmp_path / 'tree' / 'bucket_3.json'
    file.write_text(json.dumps(listed))
    assert run('import', file, '--out', tmp_path / 'run', '--how', 'copy', '--shard-rows', 5) == 0
    buckets = stage(tmp_path / 'run', 'time_buckets')
    found = {row['id']: row['bucket'] for row in rows(buckets, 'buckets.parquet')}
    assert found == {int(records[place]['ID']): str(name) for name, part in enumerate(parts) for place in part}
    assert {name: (each['count'], each['first'], each['last']) for name, each in buckets.summary['buckets'].items()
            } == {name: (len(each['indices']), each['min_date'], each['max_date']) for name, each in listed.items()}
    table = image_table(stage(tmp_path / 'run', 'download'), buckets, '1')
    assert sorted(table.texts('id')) == sorted(records[place]['ID'] for place in parts[1])


def test_one_bucket_of_the_first_generation(tmp_path):
    records = write_tree(tmp_path / 'tree')
    dump_records(records[:5], tmp_path / 'tree' / 'bucket_0.pickle')
    assert run('import', tmp_path / 'tree' / 'bucket_0.pickle', '--out', tmp_path / 'run') == 0
    assert stage(tmp_path / 'run', 'download').counts == {'ok': 5}


def test_missing_and_damaged_images(tmp_path, capsys):
    records = write_tree(tmp_path / 'tree')
    files = [tmp_path / 'tree' / str(place // 10) / 'images' / records[place]['IMG_PATH'] for place in (3, 12)]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'run', '--verify') == 2
    printed = capsys.readouterr()
    assert f"{records[3]['ID']}: {files[0]}" in printed.out and '1 of 23 images are not below' in printed.err
    assert not (tmp_path / 'run').exists()
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'run') == 0
    told = outcome(stage(tmp_path / 'run', 'download'))
    assert told.pop(int(records[3]['ID'])) == 'missing' and told.pop(int(records[12]['ID'])) != 'ok'
    for file in (tmp_path / 'tree').rglob('*.jpg'):
        file.unlink()
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'none') == 0
    assert stage(tmp_path / 'none', 'download').counts == {'missing': 23}
    assert set(told.values()) == {'ok'} and len(rows(stage(tmp_path / 'run', 'download'), 'images.parquet')) == 21


def test_an_import_that_was_killed_goes_on_and_another_is_refused(tmp_path, capsys):
    write_tree(tmp_path / 'tree')
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'whole', '--shard-rows', 6) == 0
    shutil.copytree(tmp_path / 'whole', tmp_path / 'run')
    for name in ('metadata', 'download'):
        (tmp_path / 'run' / 'stages' / name / 'manifest.json').unlink()
    shutil.rmtree(tmp_path / 'run/stages/download/shards/000002')
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'run', '--shard-rows', 6) == 0
    whole, again = ({path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob('*')
                     if path.is_file()} for name in ('whole', 'run'))
    assert whole == again
    assert str(tmp_path).encode() not in b''.join(content for path, content in whole.items() if path.suffix == '.json')
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'run', '--shard-rows', 7) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'run', '--shard-rows', 7, '--overwrite') == 0


def test_records_that_are_none_are_told(tmp_path, capsys):
    """Such as those of an own stream of paths, which have no address: some are counted, all are refused."""
    def without_addresses(file, count):
        records = json.loads(file.read_text())
        file.write_text(json.dumps([record | dict(DOWNLOAD_URL='') for record in records[:count]] + records[count:]))

    write_tree(tmp_path / 'tree')
    files = sorted((tmp_path / 'tree').glob('*/metadata.json'))
    without_addresses(files[0], 2)
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'some') == 0
    assert 'rejected: no address  2\n' in capsys.readouterr().out
    assert stage(tmp_path / 'some', 'metadata').counts['records'] == 21
    for file in files:
        without_addresses(file, 10)
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'none') == 2
    assert 'no row is a record. 23 rejected: no address.' in capsys.readouterr().err
    assert not list((tmp_path / 'none').rglob('manifest.json'))


def test_an_id_that_is_there_twice(tmp_path, capsys):
    records = write_tree(tmp_path / 'tree')
    (tmp_path / 'tree/1/metadata.json').write_text(json.dumps([records[10], records[4] | dict(LINE_NUM='11')]))
    assert run('import', tmp_path / 'tree', '--out', tmp_path / 'run') == 2
    assert f'id {records[4]["ID"]} is there 2 times' in capsys.readouterr().err


def imported(tmp_path, rule=None, count=23):
    """A work_dir with records and images of a tree, in time buckets."""
    records = write_tree(tmp_path / 'tree', count)
    run('import', tmp_path / 'tree', '--out', tmp_path / 'run', '--shard-rows', 6)
    stages = tmp_path / 'run' / 'stages'
    StageRunner(dict(stages=[dict(type='TimeBuckets', of='images', rule=rule or dict(type='Equal', buckets=3))],
                     inputs=dict(images=str(stages / 'download'))), tmp_path / 'run').run()
    return records


@pytest.mark.parametrize('tree', [False, True])
def test_exported_buckets_equal_a_straight_line(tmp_path, monkeypatch, tree):
    monkeypatch.setattr(exporting, '_BATCH', 3)
    monkeypatch.setattr(exporting, 'CHUNK_SIZE', 7)
    records, out = imported(tmp_path), tmp_path / 'out'
    assert run('export', tmp_path / 'run', '--out', out, *(['--tree'] if tree else [])) == 0
    order = sorted(range(23), key=lambda place: (int(records[place]['DATE_UPLOADED']), int(records[place]['ID'])))
    found = json.loads((out / 'bucket_3.json').read_text())
    paths = {row['id']: row['path'] for row in rows(stage(tmp_path / 'run', 'download'), 'images.parquet')}
    for each in records:
        if tree:
            each['IMG_DIR'] = str(out / str(int(each['LINE_NUM']) // 7) / 'images')
        else:
            each |= dict(IMG_DIR=str(tmp_path / 'run/stages/download'), IMG_PATH=paths[int(each['ID'])])
    expected = {str(place): bucket(records, part, out / 'bucket_3' / str(place))
                for place, part in enumerate([order[:8], order[8:16], order[16:]])}
    assert found == expected
    for name, content in expected.items():
        assert json.loads((out / 'bucket_3' / name / f'bucket_{name}.json').read_text()) == content
    table = read_buckets(out if tree else tmp_path / 'run', BucketChoice('1', bucket_files=out / 'bucket_3.json'))
    assert len(table) == 8 and Image.open(table.root / table.texts('path')[0]).size == (8, 6)
    if tree:
        folders = json.loads((out / 'all_folders.json').read_text())
        assert list(folders) == ['0', '1', '2', '3']
        assert [each['num_images'] for each in folders.values()] == [7, 7, 7, 2]
        assert [each for name in folders for each in json.loads((out / name / 'metadata.json').read_text())] == records


@pytest.mark.parametrize('generation', [1, 2])
def test_there_and_back(tmp_path, monkeypatch, generation):
    monkeypatch.setattr(exporting, 'CHUNK_SIZE', 7)
    imported(tmp_path)
    assert run('export', tmp_path / 'run', '--out', tmp_path / 'out', '--tree', '--generation', generation) == 0
    assert run('import', tmp_path / 'out', '--out', tmp_path / 'again', '--shard-rows', 6, '--verify') == 0
    for name, file in (('metadata', 'records.parquet'), ('download', 'images.parquet')):
        assert rows(stage(tmp_path / 'run', name), file) == rows(stage(tmp_path / 'again', name), file)
    listed = find_source(tmp_path / 'out')
    assert [each['num_images'] for each in read_folders(listed.path).values()] == [7, 7, 7, 2]


def test_names_of_bucket_files(tmp_path):
    names = {'by_year': dict(type='Calendar', first='2004', last='2014'), 'by_clear_10_time': dict(
        type='Periods', periods='configs/curation/clear_10_time.json'), '2': dict(type='Equal', buckets=2)}
    for name, rule in names.items():
        imported(tmp_path / name, rule, 4)
        assert run('export', tmp_path / name / 'run', '--out', tmp_path / name / 'out') == 0
        found = json.loads((tmp_path / name / f'out/bucket_{name}.json').read_text())
        assert list(found) == [str(place) for place in range(2 if name == '2' else 11)]
    years = json.loads((tmp_path / 'by_year/out/bucket_by_year.json').read_text())
    assert Path(years['1']['folder_path']).name == '2005'


def test_what_lies_there_is_not_written_over(tmp_path, capsys):
    imported(tmp_path)
    assert run('export', tmp_path / 'run', '--out', tmp_path / 'tree', '--tree') == 2
    assert 'all_folders.json is there already' in capsys.readouterr().err
    assert run('export', tmp_path / 'run', '--out', tmp_path / 'out', '--dry-run') == 0
    assert not (tmp_path / 'out').exists()


def test_relocated_lists_have_the_paths_of_today(tmp_path, capsys):
    records = write_tree(tmp_path / 'old')
    whole = {'0': bucket(records, range(23), tmp_path / 'old/bucket_1')}
    (tmp_path / 'old/bucket_1.json').write_text(json.dumps(whole))
    before = {path.name: path.read_text() for path in (tmp_path / 'old').rglob('*.json')}
    new = (tmp_path / 'old').rename(tmp_path / 'new')
    assert run('relocate', new, '--dry-run') == 0
    assert {path.name: path.read_text() for path in new.rglob('*.json')} == before
    assert run('relocate', new, '--verify') == 0
    assert '5 lists: 56 paths changed, 0 were right, 0 lie outside' in capsys.readouterr().out
    moved = {path.name: json.loads(path.read_text().replace(f'{tmp_path}/new', f'{tmp_path}/old'))
             for path in new.rglob('*.json')}
    assert moved == {name: json.loads(text) for name, text in before.items()}
    assert 'old' not in (new / '1/metadata.json').read_text()
    next((new / '2' / 'images').iterdir()).unlink()
    assert run('relocate', new, '--verify') == 2
    assert '1 files are missing' in capsys.readouterr().err


def test_relocated_stages_are_checked(tmp_path, capsys):
    imported(tmp_path)
    moved = shutil.copytree(tmp_path / 'run', tmp_path / 'moved')
    assert run('relocate', moved, '--verify') == 0
    assert capsys.readouterr().out.count('whole') == 3
    images = stage(moved, 'download')
    path = images.folder.path / rows(images, 'images.parquet')[4]['path']
    path.write_bytes(path.read_bytes()[:-3] + b'abc')
    (moved / 'stages/metadata/shards/000001/records.parquet').unlink()
    assert run('relocate', moved) == 2 and '1 files are missing' in capsys.readouterr().err
    assert run('relocate', moved / 'stages', '--verify') == 2
    printed = capsys.readouterr().out
    assert f'the checksum of {path} does not match' in printed and 'records.parquet is not there' in printed


@pytest.mark.parametrize('path, below', [
    ('/was/here/0/images/a.jpg', '0/images/a.jpg'), ('/was/here/0/images/../images/a.jpg', '0/images/a.jpg'),
    ('0/images/a.jpg', '0/images/a.jpg'), ('../x.jpg', None), ('/etc/passwd', None), ('/x/../../0/images', None)])
def test_places(tmp_path, path, below):
    (tmp_path / '0' / 'images').mkdir(parents=True)
    (tmp_path / '0' / 'images' / 'a.jpg').touch()
    assert Places(tmp_path).below(path) == below
    assert Places(tmp_path, '/was/here').below('/was/here/none.jpg') == 'none.jpg'
    assert Places(tmp_path, '/was').below('/elsewhere/0/images/a.jpg') is None


def test_a_moved_root_is_named(tmp_path):
    write_tree(tmp_path / 'tree')
    with pytest.raises(ConfigError, match='nowhere is no folder. --root'):
        find_source(tmp_path / 'tree', tmp_path / 'nowhere')
    (tmp_path / 'tree/1/metadata.json').rename(tmp_path / 'metadata.json')
    with pytest.raises(DataError, match=r'the records of chunk 1 are not at .*Give --root'):
        find_source(tmp_path / 'tree')
    with pytest.raises(DataError, match='has neither all_folders.json nor all_folders.pickle'):
        find_source(tmp_path)
    with pytest.raises(DataError, match='holds no finished stage.*moved'):
        Finished(tmp_path / 'run/stages/download')


def test_chunks_go_by_lines_whatever_the_records_say(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, 'CHUNK_SIZE', 7)
    records = imported(tmp_path)
    for file in stage(tmp_path / 'run', 'metadata').files('records.parquet'):
        table = parquet.read_table(file)
        numbers = pyarrow.array([900 - line for line in table['line'].to_pylist()], pyarrow.int64())
        parquet.write_table(table.append_column('line_number', numbers), file)
    assert run('export', tmp_path / 'run', '--out', tmp_path / 'out', '--tree') == 0
    folders = json.loads((tmp_path / 'out/all_folders.json').read_text())
    ids = [each['ID'] for name in folders for each in json.loads((tmp_path / f'out/{name}/metadata.json').read_text())]
    assert ids == [each['ID'] for each in records]
