"""Every reader of images over every odd tree: the right listing or one DataError, and no file that is waited for."""

import json
import os
import shutil

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from clear.core.errors import DataError
from clear.datasets import read_images
from clear.datasets.images.decode import ImageDecoder, UnreadableImage, decode_image, read_file
from clear.datasets.loaders.evaluation import read_evaluation_images
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.by_time import SplitOptions, read_folder_by_time
from clear.datasets.readers.folder import read_folder
from clear.datasets.readers.listing import read_list
from clear.datasets.readers.table_by_time import Columns, Periods, read_table_by_time
from clear.datasets.readers.table_file import read_table

# A file that is waited for ends the test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(20)]
BASE = [f'{time}/{name}/{number}.png' for time in ('2010', '2011') for name in ('cat', 'dog') for number in range(4)]


def tree(root):
    for value, path in enumerate(BASE):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(root / path)
    return root


def copies(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / BASE[0], root / path)
    return list(paths)


def hidden(root):
    copies(root, '.cache/1.png', '2010/.ipynb_checkpoints/1.png', '2010/cat/.1.png', '2010/cat/.a/1.png',
           '2010/cat/__MACOSX/._1.png', '__MACOSX/2010/cat/1.png', '2010/cat/Thumbs.db')
    return []


def linked(root):
    copies(root.parent / 'elsewhere' / '..' / root.name, f'../elsewhere/{0}.png', '../elsewhere/1.png')
    (root / '2010/owl').symlink_to(root.parent / 'elsewhere')
    (root / '2011/owl').symlink_to('../../elsewhere')
    return [f'{time}/owl/{number}.png' for time in ('2010', '2011') for number in range(2)]


def loop(root):
    (root / '2010/cat/again').symlink_to('..')
    (root / '2011/dog/again').symlink_to('.')
    return []


def linked_file(root):
    (root / '2010/cat/link.png').symlink_to('0.png')
    return ['2010/cat/link.png']


def odd_names(root):
    return copies(root, os.fsdecode(b'2010/cat/\xe9.png'), '2010/cat/a b.PNG', '2010/cat/ü.jpeg', '2010/cat/$(x).png')


def named_like_parts(root):
    return copies(root, *(f'{time}/{name}/{number}.png' for time in ('2010', '2011') for name in ('train', 'test')
                          for number in range(2)))


def deep(root):
    return copies(root, '2010/cat/' + 'd/' * 200 + '1.png')


def empty_folders(root):
    (root / '2010/cat/empty.png').mkdir()
    (root / '2010/cat/none/at/all').mkdir(parents=True)
    return []


# Listed, and refused when they are opened.
def pipe(root):
    os.mkfifo(root / '2010/cat/pipe.png')
    return ['2010/cat/pipe.png']


def device(root):
    (root / '2010/cat/zero.png').symlink_to('/dev/zero')
    return ['2010/cat/zero.png']


def dangling(root):
    (root / '2010/cat/gone.png').symlink_to('nowhere.png')
    return ['2010/cat/gone.png']


def no_images(root):
    found = ['2010/cat/empty.jpg', '2010/cat/text.jpg', '2010/cat/page.jpg', '2010/cat/cut.png']
    content = (root / BASE[0]).read_bytes()
    contents = b'', b'<html>404</html>', b'%!PS-Adobe-3.0 EPSF-3.0\n', content[:len(content) // 2]
    for path, value in zip(found, contents):
        (root / path).write_bytes(value)
    return found


GOOD = [hidden, linked, loop, linked_file, odd_names, named_like_parts, deep, empty_folders]
BAD = [pipe, device, dangling, no_images]


def by_time(root, paths):
    data = read_folder_by_time(root, SplitOptions('streaming', None))
    return [path for bucket in data.train for path in bucket.paths]


def from_table(root, paths):
    columns = dict(path=paths, label=[path.split('/')[1] for path in paths],
                   timestamp=[path.split('/')[0] for path in paths])
    parquet.write_table(pyarrow.table(columns), root.parent / 't.parquet')
    data = read_table_by_time(root.parent / 't.parquet', Periods(freq='year'), SplitOptions('streaming', None),
                              Columns(), root=root)
    assert read_images(dict(type='Table', path=str(root.parent / 't.parquet'), root=str(root))).texts('path') == paths
    assert list(read_table(root.parent / 't.parquet', root).texts('path')) == paths
    return [path for bucket in data.train for path in bucket.paths]


def from_list(root, paths):
    (root.parent / 'l.txt').write_text('\n'.join(f'{path} 1' for path in paths), encoding='utf-8')
    assert read_images(dict(type='FileList', path=str(root.parent / 'l.txt'), root=str(root))).texts('path') == paths
    (root.parent / 'l.txt').write_text('\n'.join(paths), encoding='utf-8')
    return list(read_list(root.parent / 'l.txt', root).texts('path'))


def from_bucket_file(root, paths):
    (root.parent / 'bucket_1.json').write_text(json.dumps({'all_metadata': [{'IMG_PATH': path} for path in paths]}))
    return list(read_buckets(root, BucketChoice('1', bucket_files=root.parent / 'bucket_1.json')).texts('path'))


def evaluated(root, paths):
    found = read_evaluation_images(root, 8)
    return [*found.ids, *found.bad]


READERS = {'FolderByTime': by_time, 'FolderImages': lambda root, paths: list(read_folder(root).texts('path')),
           'BucketImages': lambda root, paths: list(
               read_buckets(root, BucketChoice(None, 'all', layout='folder')).texts('path')),
           'ImageFolder': lambda root, paths: read_images(dict(type='ImageFolder', root=str(root))).texts('path'),
           'EvaluationImages': evaluated, 'tables': from_table, 'lists': from_list, 'bucket file': from_bucket_file}
NEED_UTF8 = ('tables', 'lists')  # text files and Arrow's text hold no other names


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('odd', GOOD + BAD, ids=lambda odd: odd.__name__)
def test_the_right_listing(tmp_path, reader, odd):
    root = tree(tmp_path / 'data')
    more = odd(root)
    if reader in NEED_UTF8:
        more = [path for path in more if '\udce9' not in path]
    found = READERS[reader](root, BASE + more)
    assert sorted(found) == sorted(BASE + more)
    for path in found:
        if path in more and odd in BAD:
            for read in (decode_image, lambda path: ImageDecoder('cv2')(read_file(path))):
                with pytest.raises(UnreadableImage):
                    read(root / path)
        else:
            assert decode_image(root / path).size == (8, 8)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('root', ['absent', 'empty', 'file', 'pipe', 'a\0b', '\ud800'])
def test_a_root_that_is_none_is_one_error(tmp_path, reader, root):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').touch()
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(DataError):
        READERS[reader](tmp_path / root, BASE)
