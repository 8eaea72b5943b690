"""What a reader cannot take is one message that names the key or the row, whatever the reader."""

import json

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.core.programs.program import run_program
from clear.datasets import read_images

TEXT = ('text', [5, True, None, ['a'], dict(a=1), float('nan'), b'x'])
FLAG = ('True or False', [1, 'yes', [True], 1.0])
LIST = ('a list', ['abc', 5, True, dict(a=1), b'ab'])
CONFIG = (r'dict\(type=\.\.\.\)', [5, 'xy', ['x'], None, True])
KEYS = [
    *((kind, key, {}, TEXT) for kind, key in (
        ('CLEAR', 'data_root'), ('ImageFolder', 'root'), ('FolderByTime', 'data_root'), ('FileList', 'path'),
        ('Table', 'path'), ('Table', 'label_column'), ('TableByTime', 'table'), ('TorchVision', 'dataset'),
        ('FolderImages', 'data_root'), ('ListImages', 'list_file'), ('TableImages', 'table'),
        ('BucketImages', 'data_root'), ('ImageTextTable', 'caption_key'), ('CocoCaptions', 'data_root'))),
    ('ImageTextTable', 'merge', {}, FLAG), ('FolderByTime', 'part_folders', {}, FLAG),
    ('Table', 'class_names', {}, LIST), ('FileList', 'class_names', {}, LIST), ('FolderByTime', 'times', {}, LIST),
    ('PromptedClassification', 'names', {}, LIST), ('PromptedClassification', 'templates', {}, LIST),
    ('Subset', 'images', dict(every=1), CONFIG), ('PromptedClassification', 'images', {}, CONFIG)]


@pytest.mark.parametrize('kind, key, others, wrong', KEYS, ids=[f'{kind}.{key}' for kind, key, *_ in KEYS])
def test_a_value_of_the_wrong_type_is_named_with_its_key(kind, key, others, wrong):
    expected, values = wrong
    for value in values:
        with pytest.raises(ConfigError, match=rf'data\.{key} is .*; expected {expected}'):
            read_images(dict(type=kind, **{key: value}, **others))


def test_what_is_no_config_is_said_where_it_stands():
    for value in (5, 'ab', None, ['x']):
        with pytest.raises(ConfigError, match=r'data is .*; expected dict\(type=\.\.\.\)'):
            read_images(value)
        with pytest.raises(ConfigError, match=r'parts\[0\] is .*; expected dict\(type=\.\.\.\)'):
            read_images(dict(type='ConcatPairs', parts=[value]))


@pytest.fixture
def folder(tmp_path):
    """A folder with one image, whose name has a blank and letters beyond ASCII."""
    root = tmp_path / 'Größe der Bilder'
    (root / 'train2017').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(root / 'train2017' / 'ü 1.png')
    return root


@pytest.mark.parametrize('kind, column', [('TableImages', 'path'), ('Table', 'path'), ('Table', 'caption'),
                                          ('ImageTextTable', 'filepath'), ('ImageTextTable', 'title')])
def test_columns_of_bytes_are_text_or_refused(folder, kind, column):
    key = 'table' if kind == 'TableImages' else 'path'
    columns = {name: ['train2017/ü 1.png'] for name in {column} | (
        {'filepath', 'title'} if kind == 'ImageTextTable' else {'path'})}
    for value, is_text in (('train2017/ü 1.png'.encode(), True), (b'\xff.png', False)):
        parquet.write_table(pyarrow.table(columns | {column: pyarrow.array([value])}), folder / 't.parquet')
        cfg = {'type': kind, key: str(folder / 't.parquet')}
        if is_text:
            assert read_images(cfg).open_image(0).size == (8, 8)
        else:
            with pytest.raises(DataError, match=f"column '{column}' holds bytes that are no UTF-8"):
                read_images(cfg)


@pytest.mark.parametrize('kind, key, header', [('TableImages', 'table', 'path'),
                                               ('ImageTextTable', 'path', 'filepath,title')])
@pytest.mark.parametrize('name', ['d' * 300 + '/1.png', 'd' * 300 + '.png'])
def test_a_path_that_no_file_can_have_is_missing(folder, kind, key, header, name):
    (folder / 't.csv').write_text(f'{header}\n{name}{",text" if "," in header else ""}\n')
    with pytest.raises(DataError, match='image 1 of 1, .* is not in'):
        read_images({'type': kind, key: str(folder / 't.csv')})


@pytest.mark.parametrize('cfg', [dict(type=kind, **{key: '/' + 'd' * 300}) for kind, key in (
    ('CLEAR', 'data_root'), ('ImageFolder', 'root'), ('FolderByTime', 'data_root'), ('CocoCaptions', 'data_root'),
    ('BucketImages', 'data_root'), ('FolderImages', 'data_root'))], ids=lambda cfg: cfg['type'])
def test_a_root_that_no_folder_can_be_called_is_one_message(cfg, capsys):
    assert run_program(lambda: read_images(cfg) and 0) == 2
    assert capsys.readouterr().err.startswith('error: ')


IMAGE, NOTE = dict(id=1, file_name='ü 1.png'), dict(id=1, image_id=1, caption='a')


@pytest.mark.parametrize('images, notes, message', [
    ([IMAGE], [NOTE], None), ([IMAGE, IMAGE | dict(file_name='b.png')], [NOTE], 'two images have one id'),
    ([IMAGE], [NOTE | dict(caption=None)], 'a caption is None'),
    ([IMAGE], [NOTE | dict(caption=['a'])], 'a caption is'),
    ([IMAGE | dict(id=float('inf'))], [NOTE], 'OverflowError'), ([IMAGE], [NOTE | dict(image_id=7)], 'KeyError: 7')])
def test_annotations_of_coco_that_do_not_fit(folder, images, notes, message):
    (folder / 'annotations').mkdir()
    (folder / 'annotations' / 'captions_train2017.json').write_text(json.dumps(dict(images=images, annotations=notes)))
    cfg = dict(type='CocoCaptions', data_root=str(folder))
    if message is None:
        assert read_images(cfg).captions(0) == ['a']
    else:
        with pytest.raises(DataError, match=message):
            read_images(cfg)


def test_sets_of_torchvision_that_are_none_or_lack_a_package(folder, monkeypatch):
    import torchvision.datasets

    with pytest.raises(ConfigError, match='VisionDataset is no data set of its own'):
        read_images(dict(type='TorchVision', dataset='VisionDataset', root=str(folder)))

    def lacking(root):
        raise ModuleNotFoundError("No module named 'lmdb'")
    monkeypatch.setattr(torchvision.datasets, 'LSUN', type('LSUN', (), dict(__init__=lambda self, root: lacking(root))))
    with pytest.raises(ConfigError, match="LSUN needs a package that is not installed: No module named 'lmdb'"):
        read_images(dict(type='TorchVision', dataset='LSUN', root=str(folder)))


def test_no_time_is_not_every_time(folder):
    (folder / 'by time' / '2010' / 'a').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(folder / 'by time' / '2010' / 'a' / '1.png')
    cfg = dict(type='FolderByTime', data_root=str(folder / 'by time'))
    assert len(read_images(cfg)) == len(read_images(dict(cfg, times=['2010']))) == 1
    with pytest.raises(ConfigError, match='times is empty'):
        read_images(dict(cfg, times=[]))
