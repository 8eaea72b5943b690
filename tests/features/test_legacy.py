import shutil

import numpy as np
import pytest
import torch
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_clear, read_images
from clear.features import export_legacy, import_legacy, write_bank


def tree(root, layout):
    return write_clear_tree(root, layout=layout, features=5, num_buckets=2)


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_imported_rows_are_found_by_the_images_of_the_lists(tmp_path, layout):
    root = tree(tmp_path / 'tree', layout)
    bank = import_legacy(root, tmp_path / 'bank')
    images, features = read_clear(root, seed=0), read_clear(root, seed=0, feature_type=FEATURE_TYPE)
    for by_image, by_feature in zip(images.train + images.test, features.train + features.test):
        found, labels = bank.tensors(bank.rows_of(by_image.ids))
        assert torch.equal(found, by_feature.features) and labels.tolist() == by_feature.targets.tolist()
    assert bank.index['id'].to_pylist() == read_images(dict(type='CLEAR', data_root=str(root))).texts('id')
    assert bank.subset_rows(bucket='2').tolist() == list(range(12, 24))


@pytest.mark.parametrize('layout', ['old', 'new'])
@pytest.mark.parametrize('from_layout', ['old', 'new'])
def test_exported_tree_reads_as_the_one_imported(tmp_path, from_layout, layout):
    bank = import_legacy(tree(tmp_path / 'from', from_layout), tmp_path / 'bank')
    target = write_clear_tree(tmp_path / 'to', layout=layout, num_buckets=2)
    export_legacy(bank, target, feature_type='mine')
    tree(tmp_path / 'expected', layout)
    for protocol, seed in (('iid', 0), ('streaming', None)):
        expected = read_clear(tmp_path / 'expected', evaluation_protocol=protocol, seed=seed, feature_type=FEATURE_TYPE)
        found = read_clear(target, evaluation_protocol=protocol, seed=seed, feature_type='mine')
        for one, other in zip(found.train + found.test, expected.train + expected.test):
            assert torch.equal(one.features, other.features) and one.targets.tolist() == other.targets.tolist()


def test_import_without_image_lists_keeps_the_names_of_rows(tmp_path):
    root = tree(tmp_path / 'tree', 'old')
    shutil.rmtree(root / 'training_folder' / 'filelists')
    bank = import_legacy(root, tmp_path / 'bank')
    assert bank.index['id'][0].as_py() == f'features/{FEATURE_TYPE}/1/0' and len(bank) == 24


def test_pickled_objects_are_refused(tmp_path):
    root = tree(tmp_path / 'tree', 'old')
    path = root / 'training_folder' / 'features' / FEATURE_TYPE / '1' / 'all.pth'
    torch.save((torch.zeros(12, 5), print), path)  # a function is a pickled object
    with pytest.raises(DataError, match='could run foreign code'):
        import_legacy(root, tmp_path / 'bank')
    assert not (tmp_path / 'bank').exists()


def test_arrays_are_not_taken_for_tensors(tmp_path):
    root = tree(tmp_path / 'tree', 'old')
    torch.save((np.zeros((12, 5)), [0] * 12), root / 'training_folder' / 'features' / FEATURE_TYPE / '1' / 'all.pth')
    with pytest.raises(DataError, match=r'expected features of shape \(N, D\), found an object of NumPy'):
        import_legacy(root, tmp_path / 'bank')
    assert not (tmp_path / 'bank').exists()


def test_type_must_be_named_where_there_are_two(tmp_path):
    root = tree(tmp_path / 'tree', 'old')
    shutil.copytree(root / 'training_folder' / 'features' / FEATURE_TYPE, root / 'training_folder' / 'features' / 'b')
    with pytest.raises(ConfigError, match='features of 2 types'):
        import_legacy(root, tmp_path / 'bank')
    with pytest.raises(ConfigError, match="feature_type 'c' is not"):
        import_legacy(root, tmp_path / 'bank', feature_type='c')
    import_legacy(root, tmp_path / 'bank', feature_type='b')


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_export_refuses_what_does_not_fit(tmp_path, layout):
    root = tree(tmp_path / 'tree', layout)
    bank = import_legacy(root, tmp_path / 'bank')
    with pytest.raises(ConfigError, match='already has features'):
        export_legacy(bank, root, feature_type=FEATURE_TYPE)
    with pytest.raises(ConfigError, match='a name for a folder'):
        export_legacy(bank, root, feature_type='../up')
    larger = write_clear_tree(tmp_path / 'larger', layout=layout, num_buckets=3, images=False)
    with pytest.raises(DataError, match='has no features of'):
        export_legacy(bank, larger, feature_type='mine')
    columns = {key: bank.index[key].to_pylist() for key in ('id', 'bucket')}
    other = write_bank(tmp_path / 'other', np.asarray(bank.features), (bank.labels + 1) % 3, ids=columns['id'],
                       buckets=columns['bucket'], class_names=bank.class_names)
    with pytest.raises(DataError, match='in the lists of the tree'):
        export_legacy(other, root, feature_type='mine')
    assert not list(root.rglob('mine'))


def test_unreadable_images_are_left_out_of_the_new_layout_and_refused_by_the_old(tmp_path):
    for layout in ('old', 'new'):
        root = tree(tmp_path / layout, layout)
        bank = import_legacy(root, tmp_path / f'{layout}_bank')
        ids = bank.index['id'].to_pylist()
        partly = write_bank(tmp_path / f'{layout}_partly', np.asarray(bank.features), bank.labels, ids=ids,
                            valid=[row != 4 for row in range(24)], class_names=bank.class_names)
        if layout == 'old':
            with pytest.raises(DataError, match=f"1 images have no features .* '{ids[4]}'"):
                export_legacy(partly, root, feature_type='mine')
        else:
            export_legacy(partly, root, feature_type='mine')
            read = read_clear(root, feature_type='mine', seed=0)
            assert sum(map(len, read.train + read.test)) == 23
