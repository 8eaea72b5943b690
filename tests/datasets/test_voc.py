"""The reader of VOC 2007 on a folder that the test writes, against the class lists that VOC ships beside the XML."""

import numpy as np
import pytest
from voc_tree import annotation, write_voc

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.readers.voc import VOC_CLASSES, find_voc, read_voc, voc_targets
from clear.datasets.table import ImageTable


@pytest.fixture
def base(tmp_path):
    return write_voc(tmp_path, (1, 1, 1))


def test_lists_and_targets(base):
    images = read_voc(base, 'train')
    assert isinstance(images, ImageTable) and images.root == base and images.class_names == VOC_CLASSES
    assert len(images) == 21 and images.texts('id')[:2] == ['000001', '000002']
    assert images.text('path', 0) == 'JPEGImages/000001.jpg' and images.texts('split') == ['train'] * 21
    assert images['labels'].to_pylist() == [[column] for column in range(20)] + [[0, 1]]
    # Of every third image, the class after its own; number 21 shows two.
    assert images['difficult'].to_pylist() == [[row + 1] if row % 3 == 2 else [] for row in range(20)] + [[2]]
    targets = voc_targets(images)
    assert targets.shape == (21, 20) and targets.dtype == np.int8
    assert (targets[:20] == 1).nonzero()[1].tolist() == list(range(20))
    assert targets[20, :3].tolist() == [1, 1, -1] and targets[2, 2:5].tolist() == [1, -1, 0]
    assert (targets == -1).sum() == 7
    assert len(read_voc(base, 'trainval')) == 42
    assert read_voc(base, 'trainval').texts('id') == images.texts('id') + read_voc(base, 'val').texts('id')


def test_it_is_a_reader_by_type(base, tmp_path):
    images = read_images(dict(type='VOC2007', root=str(tmp_path), split='test'))
    assert images.texts('id') == read_voc(base, 'test').texts('id') and (images.label_array() == -1).all()
    assert images.open_image(0).size == (24, 24)
    with pytest.raises(ConfigError, match="Did you mean 'split'"):
        read_images(dict(type='VOC2007', root=str(tmp_path), spilt='test'))


def test_targets_follow_a_selection(base):
    images = read_voc(base, 'train')
    assert np.array_equal(voc_targets(images.select([20, 2])), voc_targets(images)[[20, 2]])


@pytest.mark.parametrize(('objects', 'wanted'), [
    ([('dog', True), ('dog', False)], 1), ([('dog', False), ('dog', True)], 1), ([('dog', True)], -1),
    ([('cat', False)], 0), ([], 0)])
def test_a_clear_object_decides(base, objects, wanted):
    (base / 'Annotations' / '000001.xml').write_text(annotation(objects))
    assert voc_targets(read_voc(base, 'train'))[0, VOC_CLASSES.index('dog')] == wanted


def test_classes_are_the_alphabet_of_voc():
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES) and len(set(VOC_CLASSES)) == 20


def test_found_from_above(base, tmp_path):
    assert find_voc(tmp_path) == find_voc(tmp_path / 'VOCdevkit') == find_voc(base) == base
    with pytest.raises(DataError, match='holds no VOC 2007'):
        find_voc(tmp_path / 'nowhere')


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation><object><name>&a;</name></object></annotation>'


@pytest.mark.parametrize(('text', 'says'), [
    (BOMB, 'declares a document type'), ('<annotation><object>', 'cannot be read as an annotation'),
    ('<html></html>', 'begins with <html>'), (annotation([('unicorn', False)]), "object 0 is called 'unicorn'"),
    ('<annotation><object><name>dog</name><difficult>maybe</difficult></object></annotation>', "difficult='maybe'"),
    ('<annotation>' + ' ' * 2**20 + '</annotation>', 'at most 1,048,576 are read'), (None, 'does not exist')])
def test_bad_annotations(base, text, says):
    path = base / 'Annotations' / '000001.xml'
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_voc(base, 'train')


@pytest.mark.parametrize(('text', 'says'), [
    ('', 'lists no image'), ('000001\n000001\n', 'lists 000001 twice'), ('../../../etc/passwd\n', 'lies outside'),
    (None, 'Labels of the test images are in the archive')])
def test_bad_lists(base, text, says):
    path = base / 'ImageSets' / 'Main' / 'test.txt'
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_voc(base, 'test')


def test_unknown_split(base):
    with pytest.raises(ConfigError, match="no split 'minival'"):
        read_voc(base, 'minival')
