"""Folders of photos by EXIF, name and mtime: which was used, in which order, and what is refused."""

import json
import os
import random
from datetime import UTC, datetime

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.curation import PhotoFolder
from clear.curation.metadata.own.exif import taken_time
from clear.engine.stages.runner import StageRunner

NAMES = 'IMG_%Y%m%d_%H%M%S*'


def photo(path, taken=None, fraction=None, form='JPEG', mtime=1_300_000_000):
    """A small image, with EXIF where there is something to say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0131] = 'camera'  # PIL takes EXIF for empty that has tags in its parts only
    tags = exif.get_ifd(0x8769)
    tags.update((tag, value) for tag, value in ((36867, taken), (37521, fraction)) if value is not None)
    exif[0x8769] = dict(tags)  # else it writes them into no TIFF
    Image.new('RGB', (8, 8)).save(
        path, form, exif=exif if taken is not None else b'')
    os.utime(path, (mtime, mtime))


def run(tmp_path, name='run', **options):
    stage = dict(type='PhotoFolder', root=str(tmp_path / 'photos')) | options
    StageRunner(dict(stages=[stage]), tmp_path / name).run()
    return tmp_path / name / 'stages' / 'photo_folder'


def table(folder, name='records.parquet'):
    return [cells for file in sorted(folder.glob(f'shards/*/{name}')) for cells in parquet.read_table(file).to_pylist()]


def rejected(folder):
    return {each['line']: each['reason'] for each in table(folder, 'rejected.parquet')}


def counts(folder):
    return json.loads((folder / 'manifest.json').read_text())['counts']


def test_the_first_source_that_has_a_time(tmp_path):
    root = tmp_path / 'photos'
    photo(root / 'a.jpg', '2010:03:04 05:06:07', '5')
    photo(root / 'b' / 'IMG_20130831_193213~2.JPG')
    photo(root / 'b' / 'IMG_20130230_193213.jpg')
    photo(root / 'c.png', '0000:00:00 00:00:00', form='PNG')
    photo(root / 'd.webp', '2011:01:01 00:00:00', form='WEBP')
    photo(root / 'e.tif', '2012:01:01 00:00:00 ', form='TIFF')
    photo(root / 'IMG_20080101_000000.jpg', '2009:01:01 00:00:00')
    (root / 'f.jpg').write_bytes(b'no image')
    os.utime(root / 'f.jpg', (1_300_000_000.25, 1_300_000_000.25))
    (root / 'notes.txt').write_text('no photo')
    photo(root / '.trash' / 'x.jpg', '2009:01:01 00:00:00')
    folder = run(tmp_path, time=['exif', 'name', 'mtime'], name_format=NAMES, utc_offset_hours=2)
    found = {each['path']: each for each in table(folder)}
    assert {path: (each['time_from'], each['taken_at']) for path, each in found.items()} == {
        'IMG_20080101_000000.jpg': ('exif', datetime(2009, 1, 1)),
        'a.jpg': ('exif', datetime(2010, 3, 4, 5, 6, 7, 500_000)),
        'b/IMG_20130230_193213.jpg': ('mtime', datetime(2011, 3, 13, 7, 6, 40)),
        'b/IMG_20130831_193213~2.JPG': ('name', datetime(2013, 8, 31, 19, 32, 13)),
        'c.png': ('mtime', datetime(2011, 3, 13, 7, 6, 40)), 'd.webp': ('exif', datetime(2011, 1, 1)),
        'e.tif': ('exif', datetime(2012, 1, 1)), 'f.jpg': ('mtime', datetime(2011, 3, 13, 7, 6, 40, 250_000))}
    assert [each['id'] for each in table(folder)] == list(range(8)) and list(found) == sorted(found)
    assert found['a.jpg']['uploaded_at'] == datetime(2010, 3, 4, 3, 6, 7, 500_000, tzinfo=UTC)
    assert found['c.png']['uploaded_at'] == datetime(2011, 3, 13, 7, 6, 40, tzinfo=UTC)
    assert found['a.jpg']['taken_at_is_local'] and not found['c.png']['taken_at_is_local']
    assert found['b/IMG_20130831_193213~2.JPG']['ext'] == 'jpg' and found['a.jpg']['url'] is None
    assert {name: count for name, count in counts(folder).items() if name.startswith('time')} == {
        'time from exif': 4, 'time from name': 1, 'time from mtime': 3}


def test_photos_without_a_time_are_rejected(tmp_path):
    photo(tmp_path / 'photos' / 'a.jpg', '2010:03:04 05:06:07')
    for place, text in enumerate(['2010-03-04 05:06:07', '2010:02:30 05:06:07', '2010:03:04', '    :  :     :  :  ',
                                  '']):
        photo(tmp_path / 'photos' / f'b{place}.jpg', text)
    folder = run(tmp_path)
    assert [each['path'] for each in table(folder)] == ['a.jpg']
    assert rejected(folder) == dict.fromkeys(range(1, 6), 'no time')


def test_links_that_leave_the_root_are_refused(tmp_path):
    root = tmp_path / 'photos'
    photo(root / 'd' / 'a.jpg', '2010:03:04 05:06:07')
    photo(tmp_path / 'outside' / 'x.jpg', '2010:03:04 05:06:07')
    (root / 'in.jpg').symlink_to('d/a.jpg')
    (root / 'out.jpg').symlink_to('../outside/x.jpg')
    (root / 'lost.jpg').symlink_to('d/none.jpg')
    (root / 'loop.jpg').symlink_to('.')
    (root / 'more').symlink_to('../outside')
    (root / 'again').symlink_to('.')
    os.mkfifo(root / 'pipe.jpg')
    folder = run(tmp_path)
    assert [each['path'] for each in table(folder)] == ['d/a.jpg', 'in.jpg']
    assert rejected(folder) == {2: 'no regular file', 3: 'link leads nowhere', 4: 'link leads out of the root',
                                5: 'no regular file'}


def test_spans_are_the_whole_in_the_order_of_paths(tmp_path):
    rng = random.Random(0)
    paths = {'/'.join(rng.choices(['a', 'b', 'a0', 'a-', 'é', 'B'], k=rng.randrange(1, 4))) + f'{number}.jpg'
             for number in range(60)}
    for path in paths:
        photo(tmp_path / 'photos' / path, '2010:03:04 05:06:07')
    folders = [run(tmp_path, f'run{rows}', shard_rows=rows) for rows in (1, 7, 1000)]
    assert [each['path'] for each in table(folders[0])] == sorted(paths, key=str.encode)
    assert table(folders[0]) == table(folders[1]) == table(folders[2])
    assert len(list(folders[1].glob('shards/*'))) == 9


def test_names_that_are_no_utf_8(tmp_path):
    photo(tmp_path / 'photos' / 'a.jpg', '2010:03:04 05:06:07')
    (tmp_path / 'photos' / 'a.jpg').rename(tmp_path / 'photos' / '\udcff.jpg')
    photo(tmp_path / 'photos' / 'b.jpg', '2010:03:04 05:06:07')
    folder = run(tmp_path, shard_rows=1)
    assert [each['path'] for each in table(folder)] == ['b.jpg'] and rejected(folder) == {1: 'name is no UTF-8'}


def test_a_folder_that_changes_meanwhile(tmp_path):
    for place in range(4):
        photo(tmp_path / 'photos' / f'{place}.jpg', '2010:03:04 05:06:07')
    stage = PhotoFolder(str(tmp_path / 'photos'), shard_rows=2)
    from clear.curation.manifest import StageFolder
    from clear.curation.stage import Job

    folder = StageFolder(tmp_path / 'stage')
    plan = stage.plan({}, folder)
    os.utime(tmp_path / 'photos' / '0.jpg')  # touched only, and its mtime means nothing
    photo(tmp_path / 'photos' / '25.jpg', '2010:03:04 05:06:07')
    with pytest.raises(DataError, match="has changed since the stage was planned, from '2.jpg' on"):
        list(stage.work(Job(plan, [0, 1], {}, folder)))
    assert folder.receipt(0) is not None and folder.receipt(1) is None


def test_exif_that_is_odd(tmp_path):
    photo(tmp_path / 'a.jpg', b'2010:03:04 05:06:07\0'.decode())
    assert taken_time(tmp_path / 'a.jpg') == '2010:03:04 05:06:07'
    data = (tmp_path / 'a.jpg').read_bytes()
    for cut in range(0, 200, 7):
        (tmp_path / 'b.jpg').write_bytes(data[:cut] + b'\xff' + data[cut + 1:])
        assert isinstance(taken_time(tmp_path / 'b.jpg'), str)
    assert taken_time(tmp_path / 'none.jpg') == ''


def test_what_is_passed_over_is_told(tmp_path):
    photo(tmp_path / 'photos' / 'a.jpg', '2010:03:04 05:06:07')
    (tmp_path / 'photos' / 'b.heic').touch()
    lines = PhotoFolder(str(tmp_path / 'photos')).preview()
    assert lines == [f'{tmp_path / "photos"}  1 photos, 0 MiB; 1 files that are not called like one']
    folder = run(tmp_path)
    assert json.loads((folder / 'manifest.json').read_text())['summary'] == dict(passed_over=1)


def test_folders_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        run(tmp_path)
    (tmp_path / 'photos').mkdir()
    with pytest.raises(DataError, match='holds no photos'):
        run(tmp_path)
    photo(tmp_path / 'photos' / 'a.jpg')
    with pytest.raises(DataError, match='no row is a record. 1 rejected: no time'):
        run(tmp_path)


@pytest.mark.parametrize('options, message', [
    (dict(time='ctime'), 'expected exif, name, mtime'), (dict(time=[]), 'expected exif'),
    (dict(time='name'), 'name_format and'), (dict(name_format=NAMES), 'name_format and'),
    (dict(time='name', name_format='IMG_%H'), 'name_format: .* tells no time'), (dict(shard_rows=0), 'shard_rows'),
    (dict(utc_offset_hours='2'), 'utc_offset_hours')])
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        PhotoFolder('photos', **options)
