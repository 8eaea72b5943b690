import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from clear.core.errors import ConfigError, DataError
from clear.features import FeatureBank, write_bank

IDS = ['a', 'b', 'c', 'd', 'e']
FEATURES = np.arange(15, dtype=np.float32).reshape(5, 3)


def make(out, **changes):
    options = dict(ids=IDS, buckets=['1', '1', '2', '2', '10'], valid=[True, True, False, True, True],
                   class_names=['x', 'y'])
    return write_bank(out, FEATURES, [0, 1, 0, -1, 1], **(options | changes))


def test_what_is_written_is_read(tmp_path):
    bank = make(tmp_path / 'bank')
    bank = FeatureBank.open(tmp_path / 'bank', expect=bank.fingerprint)
    assert (len(bank), bank.dim, bank.class_names) == (5, 3, ['x', 'y'])
    assert isinstance(bank.features, np.memmap) and bank.features.dtype == np.float32
    assert bank.labels.tolist() == [0, 1, 0, -1, 1] and bank.labels.dtype == np.int64
    assert bank.index['id'].to_pylist() == IDS and bank.index['row'].to_pylist() == [0, 1, 2, 3, 4]
    expected = FEATURES.copy()
    expected[2] = 0  # an unreadable image has a zero row
    assert np.array_equal(bank.features, expected)


def test_rows_by_bucket_and_by_ids(tmp_path):
    bank = make(tmp_path / 'bank')
    assert bank.subset_rows().tolist() == [0, 1, 3, 4]
    assert bank.subset_rows(bucket='2').tolist() == [3]
    assert bank.subset_rows(split=['e', 'c', 'a']).tolist() == [4, 0]
    assert bank.subset_rows(bucket='1', split=['e', 'b']).tolist() == [1]
    with pytest.raises(DataError, match="no bucket '3'; it has 1, 10, 2"):
        bank.subset_rows(bucket='3')
    with pytest.raises(DataError, match="no image 'z'"):
        bank.subset_rows(split=['a', 'z'])


@pytest.mark.parametrize('dtype', ['float16', 'float32'])
@pytest.mark.parametrize('batch_size', [1, 3, 100])
def test_batches_equal_a_loop_over_rows(tmp_path, dtype, batch_size):
    bank = make(tmp_path / 'bank', dtype=dtype)
    rows = [4, 0, 0, 3]
    batches = list(bank.batches(rows, batch_size))
    assert [len(features) for features, _ in batches] == [len(rows[i:i + batch_size])
                                                          for i in range(0, 4, batch_size)]
    features = torch.cat([features for features, _ in batches])
    assert features.dtype == torch.float32
    assert features.tolist() == [FEATURES[row].tolist() for row in rows]
    assert torch.cat([labels for _, labels in batches]).tolist() == [1, 0, 0, -1]


def test_batches_take_tensors_and_refuse_what_has_no_features(tmp_path):
    bank = make(tmp_path / 'bank')
    assert next(bank.batches(torch.tensor([1]), 8))[1].tolist() == [1]
    assert list(bank.batches([], 8)) == []
    with pytest.raises(ValueError, match='Row 2 .* could not be read'):
        bank.batches([0, 2], 8)
    with pytest.raises(ValueError, match='outside the bank, 0 ... 4'):
        bank.batches([-1], 8)
    with pytest.raises(ValueError, match='batch_size'):
        bank.batches([0], 0)


def test_tensors_leave_unreadable_rows_out(tmp_path):
    bank = make(tmp_path / 'bank', dtype='float16')
    features, labels = bank.tensors()
    assert features.dtype == torch.float32 and labels.tolist() == [0, 1, -1, 1]
    assert bank.tensors([2, 1])[0].tolist() == [FEATURES[1].tolist()]


def test_other_bank_is_refused_with_both_fingerprints(tmp_path):
    one = make(tmp_path / 'one', encoder='weights-1')
    other = make(tmp_path / 'other', encoder='weights-2')
    with pytest.raises(DataError) as error:
        FeatureBank.open(tmp_path / 'one', expect=other.meta['identity'])
    assert one.fingerprint in str(error.value) and other.fingerprint in str(error.value)
    assert "encoder 'weights-1', expected 'weights-2'" in str(error.value)
    with pytest.raises(DataError, match=other.fingerprint):
        FeatureBank.open(tmp_path / 'one', expect=other.fingerprint)


@pytest.mark.parametrize('key, value', [('dtype', 'float16'), ('encoder', 'another'), ('class_names', ['x', 'z']),
                                        ('ids', ['a', 'b', 'c', 'd', 'f']), ('buckets', ['1', '1', '2', '2', '3'])])
def test_fingerprint_tells_apart(tmp_path, key, value):
    one, other = make(tmp_path / 'one', encoder='e'), make(tmp_path / 'other', **({'encoder': 'e'} | {key: value}))
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize('name', ['features.npy', 'labels.npy', 'valid.npy', 'index.parquet', 'meta.json'])
def test_damaged_and_missing_files_are_named(tmp_path, name):
    make(tmp_path / 'bank')
    path = tmp_path / 'bank' / name
    path.write_bytes(path.read_bytes()[:60])
    for _ in range(2):
        with pytest.raises(DataError, match=name):
            FeatureBank.open(tmp_path / 'bank').index  # noqa: B018
        path.unlink(missing_ok=True)


def test_arrays_with_pickled_objects_are_refused(tmp_path):
    make(tmp_path / 'bank')
    np.save(tmp_path / 'bank' / 'labels.npy', np.array([print] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r'labels\.npy'):
        FeatureBank.open(tmp_path / 'bank')


def test_edited_meta_is_refused(tmp_path):
    make(tmp_path / 'bank')
    path = tmp_path / 'bank' / 'meta.json'
    meta = json.loads(path.read_text())
    meta['identity']['encoder'] = 'of somebody else'
    path.write_text(json.dumps(meta))
    with pytest.raises(DataError, match='edited'):
        FeatureBank.open(tmp_path / 'bank')


@pytest.mark.parametrize('key, value', [
    ('maps', [1]), ('maps', {'0': 3}), ('maps', {'0': [1, -2, 3]}), ('count', '5'), ('count', -5), ('count', True),
    ('dim', 3.0), ('dim', None), ('num_valid', [4]), ('class_names', 'xy'), ('class_names', [1, 2]),
    ('class_names', None),
    ('dtype', ['float32']), ('dtype', 'float64'), ('identity', [1]), ('fingerprint', 7)])
def test_meta_of_wrong_types_is_refused(tmp_path, key, value):
    make(tmp_path / 'bank')
    path = tmp_path / 'bank' / 'meta.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DataError, match=rf'meta\.json is damaged or was edited: {key} is '):
        FeatureBank.open(tmp_path / 'bank')


def write_archive(path):
    with path.open('wb') as file:
        np.savez(file, np.zeros(5))


def write_objects(path):
    np.save(path, np.array([None] * 5), allow_pickle=True)


def write_long_header(path):
    """Says that it holds 10^15 numbers."""
    with path.open('wb') as file:
        np.lib.format.write_array_header_1_0(file, dict(descr='<i8', fortran_order=False, shape=(10**15,)))


@pytest.mark.parametrize('spoil', [write_archive, write_objects, write_long_header, Path.mkdir, os.mkfifo,
                                   lambda path: path.write_bytes(b''), lambda path: path.write_bytes(b'\x93NUMPY')])
@pytest.mark.parametrize('name', ['features', 'labels', 'valid'])
def test_an_array_that_is_none_is_refused(tmp_path, name, spoil):
    make(tmp_path / 'bank')
    (tmp_path / 'bank' / f'{name}.npy').unlink()
    spoil(tmp_path / 'bank' / f'{name}.npy')
    with pytest.raises(DataError, match=rf'{name}\.npy'):
        FeatureBank.open(tmp_path / 'bank')


def test_features_of_another_shape_than_meta_says(tmp_path):
    make(tmp_path / 'bank')
    np.save(tmp_path / 'bank' / 'features.npy', FEATURES[:4])
    with pytest.raises(DataError, match=r'\(4, 3\).*\(5, 3\)'):
        FeatureBank.open(tmp_path / 'bank')


def test_no_bank(tmp_path):
    with pytest.raises(DataError, match='no feature bank'):
        FeatureBank.open(tmp_path)
    (tmp_path / 'bank.partial').mkdir()
    with pytest.raises(DataError, match='has not finished'):
        FeatureBank.open(tmp_path / 'bank')


@pytest.mark.parametrize('changes, message', [
    (dict(ids=['a', 'a', 'c', 'd', 'e']), "'a' is there twice"), (dict(ids=['a']), "'ids': 1"),
    (dict(class_names=['x']), 'do not fit 1 class names'), (dict(valid=[True]), "'valid': 1")])
def test_tables_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path / 'bank', **changes)
    assert not (tmp_path / 'bank').exists()


def test_features_that_float16_cannot_hold(tmp_path):
    with pytest.raises(DataError, match='Row 1 .* float16'), np.errstate(over='ignore'):
        write_bank(tmp_path / 'bank', np.array([[1.0], [70000.0]]), [0, 0], dtype='float16')
    with pytest.raises(ConfigError, match='float64'):
        write_bank(tmp_path / 'bank', np.array([[1.0]]), [0], dtype='float64')
