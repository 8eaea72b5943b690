"""Sources from which a wrong split would be made without a word."""

import pytest
from virb_trees import files_below, write_image, write_lines

from clear.core.errors import DataError
from clear.datasets.make.virb.layout import make_folder
from clear.datasets.make.virb.makers import MAKERS


def test_imagenet_as_kaggle_packs_it(tmp_path):
    """Annotations lie in folders of the same names, which come before those of the images."""
    base = tmp_path / 'packed' / 'ILSVRC'
    for name in ('n01', 'n02'):
        write_lines(base / 'Annotations' / 'CLS-LOC' / 'train' / name / f'{name}_0.xml', ['<annotation/>'])
        write_image(base / 'Data' / 'CLS-LOC' / 'train' / name / f'{name}_0.JPEG')
    write_lines(base / 'Annotations' / 'CLS-LOC' / 'val' / 'ILSVRC2012_val_00000001.xml', ['<annotation/>'])
    write_image(base / 'Data' / 'CLS-LOC' / 'val' / 'ILSVRC2012_val_00000001.JPEG')
    write_lines(base.parent / 'LOC_val_solution.csv', ['ImageId,PredictionString', 'ILSVRC2012_val_00000001,n02 1 2'])
    counts, _ = make_folder(MAKERS['imagenet'], base.parent, [], tmp_path / 'out')
    assert counts == {'ImageFolder train': 2, 'ImageFolder val': 1}
    assert files_below(tmp_path / 'out') == ['train/n01/n01_0.JPEG', 'train/n02/n02_0.JPEG',
                                             'val/n02/ILSVRC2012_val_00000001.JPEG']


def test_lists_of_two_pairs_put_no_test_image_into_training(tmp_path):
    source = tmp_path / 'SUN397'
    for number in range(2):
        write_image(source / 'a' / 'abbey' / f'sun_{number}.jpg')
    write_lines(source / 'ClassName.txt', ['/a/abbey'])
    lists = [tmp_path / 'Training_01.txt', tmp_path / 'Testing_02.txt']
    write_lines(lists[0], ['/a/abbey/sun_0.jpg'])
    write_lines(lists[1], ['/a/abbey/sun_1.jpg', '/a/abbey/sun_0.jpg'])
    with pytest.raises(DataError, match='sun_0.jpg is for both train and test. Are the lists of one split'):
        make_folder(MAKERS['sun397'], source, lists, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
