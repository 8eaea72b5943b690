"""CIFAR-100's pickles: the images that torchvision reads from the same files, and no code of theirs run."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from tiny_encoder import TinyEncoder
from torchvision.datasets import CIFAR100
from virb_trees import cifar_content, write_cifar100

from clear.core.errors import DataError
from clear.core.storage.plain_pickles import read_array_pickle
from clear.datasets import read_images
from clear.features import extract

LABELS = dict(train=[3, 99, 0, 3, 42], test=[7, 0])


def read(root, split='train'):
    return read_images(dict(type='CIFAR100Pickles', root=str(root), split=split))


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_images_and_fine_labels(tmp_path, protocol):
    write_cifar100(tmp_path, LABELS, protocol=protocol)
    images = read(tmp_path)
    assert images.label_array().tolist() == LABELS['train'] and images.class_names[99] == 'class 99'
    _, expected = cifar_content(LABELS['train'])
    assert all(np.array_equal(np.asarray(images.open_image(row)), expected[row]) for row in range(5))
    assert np.array_equal(np.asarray(images.select([4, 1]).open_image(1)), expected[1])
    assert images.texts('id')[:2] == ['train/0', 'train/1']
    assert read(tmp_path, 'test').label_array().tolist() == LABELS['test']
    (tmp_path / 'meta').unlink()
    assert read(tmp_path).class_names[:2] == ['0', '1']


def test_the_same_as_torchvision_reads(tmp_path, monkeypatch):
    folder = write_cifar100(tmp_path / CIFAR100.base_folder, LABELS)
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ('train', 'test', 'meta')}
    monkeypatch.setattr(CIFAR100, 'train_list', [['train', sums['train']]])
    monkeypatch.setattr(CIFAR100, 'test_list', [['test', sums['test']]])
    monkeypatch.setattr(CIFAR100, 'meta', dict(CIFAR100.meta, md5=sums['meta']))
    theirs, ours = CIFAR100(tmp_path), read(folder)
    assert theirs.classes == list(ours.class_names) and theirs.targets == ours.label_array().tolist()
    assert all(np.array_equal(np.asarray(theirs[row][0]), np.asarray(ours.open_image(row))) for row in range(5))


def test_a_bank_follows_the_pixels(tmp_path):
    write_cifar100(tmp_path / 'cifar', LABELS)
    bank = extract(TinyEncoder(), read(tmp_path / 'cifar'), root=tmp_path)
    assert len(bank) == 5 and torch.isfinite(bank.tensors()[0]).all()
    content, _ = cifar_content(LABELS['train'])
    content['data'][2, 7] ^= 1
    (tmp_path / 'cifar' / 'train').write_bytes(pickle.dumps(content, 2))
    assert extract(TinyEncoder(), read(tmp_path / 'cifar'), root=tmp_path).fingerprint != bank.fingerprint


def python2_text(text):
    return b'U' + struct.pack('B', len(text)) + text


def test_a_pickle_of_python_2(tmp_path):
    """As the published files are: protocol 2, text as bytes, numpy of another time."""
    data = cifar_content([5])[0]['data']
    array = (b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t' + python2_text(b'b')
             + b'tR(K\x01(K\x01M' + struct.pack('<H', 3072) + b'tcnumpy\ndtype\n(' + python2_text(b'u1')
             + b'K\x00K\x01tR(K\x03' + python2_text(b'|') + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T'
             + struct.pack('<i', 3072) + data.tobytes() + b'tb')
    (tmp_path / 'train').write_bytes(b'\x80\x02}(' + python2_text(b'data') + array + python2_text(b'fine_labels')
                                     + b'](K\x05eu.')
    images = read(tmp_path)
    assert images.label_array().tolist() == [5]
    assert np.array_equal(np.asarray(images.open_image(0)), cifar_content([5])[1][0])


def test_what_stands_in_many_places_is_one(tmp_path):
    deep = [np.arange(3, dtype=np.int32)]
    for _ in range(60):  # written out, 2^60 of them
        deep = [deep, deep]
    (tmp_path / 'deep').write_bytes(pickle.dumps(deep, 2))
    found = read_array_pickle(tmp_path / 'deep')
    for _ in range(60):
        assert found[0] is found[1]
        found = found[0]
    assert found[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize('dtype', ['u1', '<i4', '>i2', '<f8', 'bool'])
@pytest.mark.parametrize('order', 'CF')
def test_arrays_of_numbers_come_back(tmp_path, dtype, order):
    array = np.array(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    (tmp_path / 'x').write_bytes(pickle.dumps({'a': [array, (1, 'x', None, 2.5)]}, 2))
    found = read_array_pickle(tmp_path / 'x')['a']
    assert np.array_equal(found[0], array) and found[0].dtype == array.dtype and found[1] == (1, 'x', None, 2.5)


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_nothing_is_run(tmp_path, protocol):
    import os

    (tmp_path / 'train').write_bytes(pickle.dumps({'data': Runs(os.mkdir, (str(tmp_path / 'mark'),))}, protocol))
    with pytest.raises(DataError, match=r"train: it asks for '.*mkdir'. Only plain values"):
        read(tmp_path)
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('content, says', [
    (pickle.dumps(np.array([object], object), 2), 'it asks for|array of objects'),
    (pickle.dumps(np.array(['a']), 2), "array of type 'U1'"),
    (pickle.dumps({'data': np.zeros(3000, np.uint8)}, 2)[:-2000], 'is damaged'), (b'', 'is damaged'),
    (b'cnumpy\nndarray\n.', 'a name where a value'), (b'cnumpy\ndtype\n.', 'a name where a value'),
    (b'cnumpy\ndtype\n)R.', 'is damaged'), (b'cnumpy\nload\n.', "it asks for 'numpy.load'"),
    (b'\x80\x02]r' + struct.pack('<I', 4_000_000_000) + b'.', 'its memory has gaps'),
    (b'cnumpy.core.multiarray\n_reconstruct\n}(Vx\nVy\nub.', 'is damaged')])
def test_damaged_and_hostile_pickles(tmp_path, content, says):
    (tmp_path / 'train').write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_array_pickle(tmp_path / 'train')


@pytest.mark.parametrize('change, says', [
    (dict(data=None), 'data is NoneType; expected images of 3 x 32 x 32'),
    (dict(data=np.zeros((2, 100), np.uint8)), r'data is uint8 \(2, 100\)'),
    (dict(data=np.zeros((1, 3072), np.float32)), r'data is float32'), (dict(fine_labels=[1]), 'should be 5 numbers'),
    (dict(fine_labels=[1, 2, 3, 4, 100]), 'should be 5 numbers 0 ... 99'),
    (dict(fine_labels=['1', 2, 3, 4, 5]), 'should be 5 numbers')])
def test_other_content(tmp_path, change, says):
    (tmp_path / 'train').write_bytes(pickle.dumps({**cifar_content(LABELS['train'])[0], **change}, 2))
    with pytest.raises(DataError, match=says):
        read(tmp_path)


@pytest.mark.parametrize('content, says', [
    ([1], 'holds no dict'), ({'fine_label_names': ['a']}, 'a list of 100 names'), ({}, 'a list of 100 names'),
    ({'fine_label_names': [1] * 100}, 'a list of 100 names'), ({'fine_label_names': ['a'] * 100}, 'two classes are')])
def test_other_names(tmp_path, content, says):
    write_cifar100(tmp_path, LABELS)
    (tmp_path / 'meta').write_bytes(pickle.dumps(content, 2))
    with pytest.raises(DataError, match=says):
        read(tmp_path)
