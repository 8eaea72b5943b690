"""Which files are data: the same for every reader of folders, whatever else lies beside the images."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets import SelfSupervisedImages, read_images
from clear.datasets.make.check import check_tree
from clear.datasets.make.make_splits import write_missing_splits
from clear.datasets.make.merge import merge_official
from clear.datasets.make.regroup import regroup
from clear.datasets.make.writing import new_folder
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.by_time import SplitOptions, read_folder_by_time
from clear.datasets.readers.folder import read_folder
from clear.datasets.readers.image_files import existing_folder, first_repeated, image_files, plain_path
from clear.features import import_legacy

FILES = ['2010/cat/b.png', '2010/cat/B.JPG', '2010/cat/deep/er/1.png', '2010/dog/a-b/2.png', '2010/dog/a/2.png',
         '2010/dog/10.png', '2011/cat/x.webp', '2011/cat/y.gif', '2011/dog/1.png', '2011/dog/2.png']


def tree(root):
    """Files with sizes 0, 1, 2 ...; nobody opens them."""
    for size, path in enumerate(FILES):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(bytes(size))
    return root


def by_time(root):
    data = read_folder_by_time(root, SplitOptions('streaming', None))
    return sorted(name for bucket in data.train for name in bucket.ids)


READERS = {'FolderByTime': by_time, 'FolderImages': lambda root: sorted(read_folder(root).texts('path')),
           'BucketImages': lambda root: sorted(
               read_buckets(root, BucketChoice(None, 'all', layout='folder')).texts('path')),
           'ImageFolder': lambda root: sorted(read_images(dict(type='ImageFolder', root=str(root))).texts('id'))}


def add_hidden(root):
    """What a notebook, a Mac and its archives leave: copies of images, and notes with an image's name."""
    for path in ('2010/cat/.ipynb_checkpoints/b-checkpoint.png', '2010/.ipynb_checkpoints/b.png', '.git/x.png',
                 '__MACOSX/2010/cat/b.png', '2010/cat/__MACOSX/b.png', '2010/__MACOSX/cat/b.png', '2010/cat/._b.png'):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / '2010/cat/b.png', root / path)


def add_loops(root):
    (root / '2010/cat/self').symlink_to(root / '2010/cat')
    (root / '2010/dog/up').symlink_to('..')
    # Each leads into the other: neither lies in itself.
    for one, other in (('p', 'q'), ('q', 'p')):
        (root / f'2011/cat/{one}').mkdir()
        (root / f'2011/cat/{one}/to').symlink_to(f'../{other}')


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('add', [add_hidden, lambda root: (root / '2010/dog/self').symlink_to('.')],
                         ids=['hidden', 'loop'])
def test_readers_see_the_images_alone(tmp_path, reader, add):
    root = tree(tmp_path / 'data')
    add(root)
    assert READERS[reader](root) == sorted(FILES)


def test_loops_through_other_folders_end(tmp_path):
    root = tree(tmp_path / 'data')
    add_loops(root)
    found = image_files(root)
    assert set(FILES) <= set(found) and len(found) < 40
    assert found == image_files(root)


@pytest.mark.parametrize('reader', READERS)
def test_a_tree_of_links_is_the_real_one(tmp_path, reader):
    real = tree(tmp_path / 'real')
    linked = tmp_path / 'linked'
    for time, name in (('2010', 'cat'), ('2010', 'dog'), ('2011', 'cat')):  # classes, a folder inside, single files
        (linked / time).mkdir(parents=True, exist_ok=True)
        if (time, name) != ('2010', 'cat'):
            (linked / time / name).symlink_to(real / time / name)
    (linked / '2010/cat').mkdir()
    (linked / '2010/cat/deep').symlink_to(real / '2010/cat/deep')
    for name in ('b.png', 'B.JPG'):
        (linked / '2010/cat' / name).symlink_to(real / '2010/cat' / name)
    (linked / '2011/dog').symlink_to(os.path.relpath(real / '2011/dog', linked / '2011'))
    assert READERS[reader](linked) == READERS[reader](real)


def test_a_linked_class_is_a_class(tmp_path):
    real = tree(tmp_path / 'real')
    linked = tmp_path / 'linked'
    (linked / 'owl').mkdir(parents=True)
    (linked / 'owl/1.png').touch()
    (linked / 'cat').symlink_to(real / '2010/cat')
    source = read_images(dict(type='ImageFolder', root=str(linked)))
    assert source.class_names == ['cat', 'owl'] and source.label_array().tolist() == [0, 0, 0, 1]


def test_hidden_copies_are_not_tested_on(tmp_path):
    root = tmp_path / 'data'
    names = [f'{time}/{name}/{i}.png' for time in (1, 2) for name in ('cat', 'dog') for i in range(8)]
    for row, path in enumerate(names):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2, 3), row, np.uint8)).save(root / path)
        copy = (root / path).parent / '.ipynb_checkpoints' / (root / path).name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(root / path, copy)
    data = read_folder_by_time(root, SplitOptions())
    train, test = ([(root / path).read_bytes() for bucket in part for path in bucket.paths]
                   for part in (data.train, data.test))
    assert len(train) + len(test) == 32 and not set(train) & set(test)


def test_fingerprints_of_clean_trees_are_what_they_were(tmp_path):
    # Banks are found and runs resumed by them: these values were written before hidden files were left out.
    root = tree(tmp_path / 'data')
    assert read_folder_by_time(root, SplitOptions()).fingerprint == \
        '27dd31dbd80fc8058ad28acde7bd16cfd9f1e6c7f10f54569f533c3c1b1b5f00'
    assert SelfSupervisedImages(read_folder(root), image_size=8).fingerprint() == \
        '1bd771e7cd34ae6568d4a415c6b688d4127989e88a16b0ad75120a27a3a1058a'
    by_time = read_buckets(root, BucketChoice(None, 'all', layout='folder'))
    assert SelfSupervisedImages(by_time, image_size=8).fingerprint() == \
        '56a0f268701748d0616950f25077f6e8d907e08eeb4a7b407d6ebf94fd062a80'
    assert read_images(dict(type='ImageFolder', root=str(root))).fingerprint() == \
        'e034d222b771331432043ead0c92a0201a2d235336622cfcab66f09c8f503965'


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root, real = tree(tmp_path / 'data'), os.scandir

    def refuse(path='.'):
        if str(path).endswith('deep'):
            raise PermissionError(13, 'Permission denied', str(path))
        return real(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(DataError, match='deep cannot be read: Permission denied'):
        image_files(root)


@pytest.mark.parametrize('spelling', ['./a/b.jpg', 'a//b.jpg', 'a/./b.jpg', 'a/../a/b.jpg', 'x/../a/b.jpg', 'a/b.jpg/',
                                      'a/b.jpg/.', './/a/.//b.jpg', 'a/b.jpg/c/..'])
def test_one_file_has_one_plain_path(spelling):
    assert plain_path(spelling) == 'a/b.jpg'
    assert first_repeated(['c', 'a/b.jpg', 'd', spelling]) == (1, 3)


def test_other_files_keep_their_paths():
    paths = ['a/b.jpg', 'A/b.jpg', 'a/b.jpg.', 'a./b.jpg', '.a/b.jpg', 'a/..b.jpg', 'a b.jpg', '../a/b.jpg', 'a/b..jpg']
    assert [plain_path(path) for path in paths] == paths and first_repeated(paths) is None


WRONG_PATHS = ['no\0where', 'no\ud800where']


@pytest.mark.parametrize('path', WRONG_PATHS, ids=['NUL', 'half a pair'])
@pytest.mark.parametrize('read', [
    lambda path: write_missing_splits(path, seeds=[0], shots=[]),
    lambda path: regroup(path, 'out'),
    lambda path: merge_official(path, path, 'out'),
    lambda path: import_legacy(path, 'out'),
    lambda path: read_images(dict(type='TorchVision', dataset='CIFAR10', root=path)),
    lambda path: check_tree(path)], ids=['splits', 'regroup', 'merge', 'import', 'torchvision', 'check'])
def test_a_root_that_no_folder_can_have_is_a_user_error(read, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, ConfigError), match='(?s)where'):
        read(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path', WRONG_PATHS, ids=['NUL', 'half a pair'])
def test_a_folder_that_cannot_be_made_is_a_user_error(path):
    with pytest.raises(DataError, match='where cannot be written'), new_folder(path):
        pass


def test_what_a_new_folder_would_replace_is_said_once(tmp_path):
    (tmp_path / 'file').write_text('x')
    for out, said in ((tmp_path / 'file', 'is a file, expected a folder to write'),
                      (tmp_path, 'exists and has other content. Choose another folder, or overwrite it explicitly')):
        with pytest.raises(DataError) as caught, new_folder(out):
            pass
        assert str(caught.value) == f'{out} {said}.'


@pytest.mark.parametrize('below, program', [
    ('demo', 'make_demo_clear'), ('demo/labeled_images', 'make_demo_clear'), ('demo_scenes/KITTI', 'make_demo_scenes')])
def test_data_of_shipped_recipes_come_with_the_program_that_writes_them(below, program, tmp_path):
    folder = tmp_path.resolve() / 'data' / below
    with pytest.raises(DataError) as error:
        existing_folder(folder)
    root = tmp_path.resolve() / 'data' / below.split('/')[0]
    assert str(error.value) == (f'The folder {folder} does not exist. To get the data: '
                                f'`python tools/dataset_converters/{program}.py {root}`.')


@pytest.mark.parametrize('elsewhere', ['data/demos', 'demo', 'data/photos/demo'])
def test_other_folders_have_no_program(elsewhere, tmp_path):
    with pytest.raises(DataError, match='does not exist.$'):
        existing_folder(tmp_path / elsewhere)
