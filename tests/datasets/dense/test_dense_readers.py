"""Every reader of pixelwise data on a hand-made copy of its layout: exact pixels, order, parts, and what is missing."""

import json
import logging

import numpy as np
import pytest
from dense_trees import photo, save, save_palette, save_rgb_of_16_bits

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.dense.targets import VOID, DenseTable, check_targets
from clear.datasets.readers.dense.cityscapes import CITYSCAPES_CLASSES, cityscapes_ids
from clear.datasets.readers.dense.egohands import EGOHANDS_CLASSES

# Label id -> class of the earlier system's 20, recorded from it.
GOLDEN_CITYSCAPES = {
    0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 1, 8: 2, 9: 0, 10: 0, 11: 3, 12: 4, 13: 5, 14: 0, 15: 0, 16: 0, 17: 6,
    18: 0, 19: 7, 20: 8, 21: 9, 22: 10, 23: 11, 24: 12, 25: 13, 26: 14, 27: 15, 28: 16, 29: 0, 30: 0, 31: 17, 32: 18,
    33: 19, -1: 0}


def read(root, kind, split, **options):
    table = read_images(dict(type=kind, root=str(root), split=split, **options))
    assert isinstance(table, DenseTable) and table.texts('split') == [split] * len(table)
    check_targets(table)
    return table


def values(table, row=0):
    return table.read_target(row).values.tolist()


def valid(table, row=0):
    return table.read_target(row).valid.tolist()


# Pets


@pytest.fixture
def pets(tmp_path):
    for split, name in (('train', 'Beagle_2'), ('train', 'Abyssinian_10'), ('test', 'Beagle_1')):
        photo(tmp_path / split / name.split('_')[0] / f'{name}.jpg', (1, 3))
        save(tmp_path / 'annotations/trimaps' / f'{name}.png', np.uint8([[1, 2, 3]]))
    save(tmp_path / 'annotations/trimaps/._Beagle_1.png', np.uint8([[9]]))
    return tmp_path


@pytest.mark.parametrize(('options', 'mask', 'counts'), [
    (dict(), [1, 0, 0], [True, True, False]), (dict(positive='pet_and_border'), [1, 0, 1], [True] * 3),
    (dict(legacy=True), [0, 1, 1], [True] * 3)])
def test_trimaps_of_pets(pets, options, mask, counts):
    table = read(pets, 'PetsTrimaps', 'train', **options)
    assert table.texts('path') == ['train/Abyssinian/Abyssinian_10.jpg', 'train/Beagle/Beagle_2.jpg']
    assert table.target_kind == 'mask' and values(table) == [mask] and valid(table) == [counts]


def test_wrong_pets(pets):
    with pytest.raises(ConfigError, match="positive is 'cat'; expected 'pet' or 'pet_and_border'"):
        read(pets, 'PetsTrimaps', 'train', positive='cat')
    with pytest.raises(ConfigError, match='with legacy=True, which has a mask of its own'):
        read(pets, 'PetsTrimaps', 'train', positive='pet_and_border', legacy=True)
    save(pets / 'annotations/trimaps/Beagle_2.png', np.uint8([[1, 2, 4]]))
    with pytest.raises(DataError, match='Beagle_2.png: the pixel in column 2 of row 0 holds 4, expected 1, 2, 3'):
        read(pets, 'PetsTrimaps', 'train')
    (pets / 'annotations/trimaps/Beagle_2.png').unlink()
    with pytest.raises(DataError, match="'train/Beagle/Beagle_2.jpg' is missing: there is no 'annotations/trimaps/"):
        read(pets, 'PetsTrimaps', 'train')


# EgoHands


@pytest.fixture
def hands(tmp_path):
    for place in range(48):
        for frame in ('frame_0002', 'frame_0010'):
            photo(tmp_path / f'images/VIDEO_{place:02d}/{frame}.jpg', (1, 2))
            save(tmp_path / f'labels/VIDEO_{place:02d}/{frame}.png', np.uint8([[place % 5, int(frame[-2:]) % 5]]))
    return tmp_path


def test_videos_of_egohands(hands):
    tables = {split: read(hands, 'EgoHands', split) for split in ('train', 'val', 'test')}
    videos = {split: sorted({int(path[13:15]) for path in table.texts('path')}) for split, table in tables.items()}
    assert videos['test'] == [0, 10, 12, 19, 30, 33, 37, 43] and videos['val'] == [6, 13, 27, 46]
    assert sorted(sum(videos.values(), [])) == list(range(48)) and len(tables['train']) == 72
    table = tables['test']
    assert table.texts('path')[:2] == ['images/VIDEO_00/frame_0002.jpg', 'images/VIDEO_00/frame_0010.jpg']
    assert table.texts('mask')[3] == 'labels/VIDEO_10/frame_0010.png'
    assert table.target_names == EGOHANDS_CLASSES == ('background', 'yourleft', 'yourright', 'myleft', 'myright')
    assert values(table, 4) == [[2, 2]] and valid(table, 4) == [[True, True]] and values(table, 0) == [[0, 2]]


def test_missing_parts_of_egohands(hands):
    (hands / 'labels/VIDEO_47/frame_0010.png').unlink()
    assert len(read(hands, 'EgoHands', 'test')) == 16
    with pytest.raises(DataError, match="'images/VIDEO_47/frame_0010.jpg' is missing; 1 of 72 images have none"):
        read(hands, 'EgoHands', 'train')
    save(hands / 'labels/VIDEO_47/frame_0010.png', np.uint8([[5, 0]]))
    with pytest.raises(DataError, match='VIDEO_47/frame_0010.png: .* holds 5, which is the id of no class'):
        read(hands, 'EgoHands', 'train').read_target(71)
    (hands / 'images/VIDEO_47').rename(hands / 'VIDEO_47')
    with pytest.raises(DataError, match='holds 47 videos, expected 48'):
        read(hands, 'EgoHands', 'train')


# Cityscapes


def test_labels_of_cityscapes_against_the_recorded_mapping():
    legacy = cityscapes_ids(legacy=True)
    assert legacy == {255 if label == -1 else label: name for label, name in GOLDEN_CITYSCAPES.items()}
    assert cityscapes_ids() == {label: VOID if name == 0 else name - 1 for label, name in legacy.items()}
    assert list(CITYSCAPES_CLASSES) == sorted(CITYSCAPES_CLASSES) and len(CITYSCAPES_CLASSES) == 19


def test_streets(tmp_path):
    for city, name in (('ulm', 'ulm_000001_000019'), ('aachen', 'aachen_000000_000019')):
        photo(tmp_path / f'leftImg8bit/train/{city}/{name}_leftImg8bit.png', (1, 4))
        folder = tmp_path / f'gtFine/train/{city}'
        save(folder / f'{name}_gtFine_labelIds.png', np.uint8([[0, 7, 33, 255]]))
        save(folder / f'{name}_gtFine_instanceIds.png', np.uint16([[0, 7, 24000, 3]]))
        photo(folder / f'{name}_gtFine_color.png', (1, 4))
    table = read(tmp_path, 'Cityscapes', 'train')
    assert table.texts('path')[0] == 'leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png'
    assert table.texts('mask')[1] == 'gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png'
    assert values(table) == [[255, 0, 18, 255]] and valid(table) == [[False, True, True, False]]
    assert len(table.target_names) == 19 and table.target_names[0] == 'road' and table.target_names[18] == 'bicycle'
    legacy = read(tmp_path, 'Cityscapes', 'train', legacy=True)
    assert values(legacy) == [[0, 1, 19, 0]] and valid(legacy) == [[True] * 4] and len(legacy.target_names) == 20
    assert legacy.fingerprint() != table.fingerprint()
    with pytest.raises(ConfigError, match="split is 'test'"):
        read(tmp_path, 'Cityscapes', 'test')
    (tmp_path / 'gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png').unlink()
    with pytest.raises(DataError, match="'leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png' is missing"):
        read(tmp_path, 'Cityscapes', 'train')


# Depth and edges


def test_depth_of_thor(tmp_path):
    grey = np.full((8, 8), 51, np.uint8)
    grey[:, 4:] = 0
    for scene, name in (('FloorPlan2', '0_'), ('FloorPlan1', '7_')):
        photo(tmp_path / f'train/{scene}/{name}rgb.jpg', (8, 8))
        save(tmp_path / f'train/{scene}/{name}depth.jpg', grey, quality=100)
    table = read(tmp_path, 'ThorDepth', 'train')
    assert table.target_kind == 'depth' and table.texts('path') == ['train/FloorPlan1/7_rgb.jpg',
                                                                    'train/FloorPlan2/0_rgb.jpg']
    target = table.read_target(0)
    assert target.values[0, 0] == pytest.approx(0.2, abs=0.005) and target.valid[0].tolist() == [True] * 4 + [False] * 4
    legacy = read(tmp_path, 'ThorDepth', 'train', legacy=True)
    target = legacy.read_target(0)
    assert legacy.target_kind == 'edges' and target.valid.all() and target.values[0, 7] == pytest.approx(-2)
    assert target.values[0, 0] == pytest.approx(-1.2, abs=0.02)
    (tmp_path / 'train/FloorPlan1/7_depth.jpg').unlink()
    with pytest.raises(DataError, match="'train/FloorPlan1/7_rgb.jpg' is missing"):
        read(tmp_path, 'ThorDepth', 'train')


def test_taskonomy(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    for building, name in (('uvalda', 'point_1_view_0'), ('allensville', 'point_1_view_0')):
        photo(tmp_path / f'train/rgb/{building}/{name}_domain_rgb.png', (1, 4))
        save(tmp_path / f'train/depth_zbuffer/{building}/{name}_domain_depth_zbuffer.png',
             np.uint16([[0, 512, 65535, 40000 if building == 'uvalda' else 256]]))
        save(tmp_path / f'train/edges/{building}/{name}_domain_edge_texture.png', np.uint16([[0, 13107, 65535, 0]]))
    table = read(tmp_path, 'TaskonomyDepth', 'train')
    assert table.texts('path')[0] == 'train/rgb/allensville/point_1_view_0_domain_rgb.png'
    assert values(table) == [[0, 1, 0, 0.5]] and valid(table) == [[False, True, False, True]]
    assert values(table, 1)[0][3] == 78.125
    legacy = read(tmp_path, 'TaskonomyDepth', 'train', legacy=True)
    assert legacy.target_kind == 'edges' and valid(legacy) == [[True] * 4]
    assert values(legacy)[0] == pytest.approx([0, 0.0512, 1, 0.0256])
    edges = read(tmp_path, 'TaskonomyEdges', 'train')
    assert edges.target_kind == 'edges' and values(edges)[0] == pytest.approx([0, 0.2, 1, 0]) and valid(edges)[0][0]
    save(tmp_path / 'train/edges/uvalda/alone.png', np.uint8([[0]]))
    read(tmp_path, 'TaskonomyEdges', 'train')
    assert "1 targets have no image and are left out: 'train/edges/uvalda/alone.png'." in caplog.text
    save(tmp_path / 'train/depth_zbuffer/uvalda/point_1_view_0_domain_depth_zbuffer.png', np.uint8([[1, 2, 3, 4]]))
    with pytest.raises(DataError, match='8-bit grey pixels, where one channel of 16-bit whole numbers is expected'):
        read(tmp_path, 'TaskonomyDepth', 'train')


def test_images_that_are_their_own_targets(tmp_path):
    save(tmp_path / 'train/rgb/a/x.png', np.uint8([[[1, 2, 3], [4, 5, 6]]]))
    photo(tmp_path / 'train/depth/y.png')
    table = read(tmp_path, 'Inpainting', 'train')
    assert table.texts('path') == table.texts('mask') == ['train/rgb/a/x.png'] and table.target_kind == 'image'
    assert values(table) == [[[1, 2, 3], [4, 5, 6]]] and valid(table) == [[True, True]]
    assert len(read(tmp_path, 'Inpainting', 'train', folder='')) == 2
    for split, folder in (('test', 'rgb'), ('..', 'rgb'), ('train', 'none')):
        with pytest.raises(DataError):
            read(tmp_path, 'Inpainting', split, folder=folder)


# KITTI


@pytest.fixture
def kitti(tmp_path):
    for scene in range(11):
        for frame in (10, 11):
            photo(tmp_path / f'training/image_2/{scene:06d}_{frame}.png', (1, 2))
        save_rgb_of_16_bits(tmp_path / f'training/flow_occ/{scene:06d}_10.png',
                            [[[32768 + 64 * scene, 32704, 1], [5, 5, 0]]])
        save(tmp_path / f'training/viz_flow_occ/{scene:06d}_10.png', np.uint8([[[0, 0, 0], [255, 255, 255 - scene]]]))
    return tmp_path


def test_pairs_of_kitti(kitti):
    train, test = (read(kitti, 'KITTIFlow', split) for split in ('train', 'test'))
    assert train.target_kind == 'flow' and len(train) == 18
    assert train.texts('clip') == [f'{scene:06d}' for scene in range(9) for _ in '12']
    assert test.texts('path') == [f'training/image_2/{scene}_{frame}.png' for scene in ('000009', '000010')
                                  for frame in (10, 11)]
    assert test.texts('mask') == ['training/flow_occ/000009_10.png', None, 'training/flow_occ/000010_10.png', None]
    assert values(test, 2) == [[[10, -1], [0, 0]]] and valid(test, 2) == [[True, False]]
    with pytest.raises(DataError, match="000009_11.png' has no target of its own"):
        test.read_target(1)
    legacy = read(kitti, 'KITTIFlow', 'test', legacy=True)
    assert legacy.target_kind == 'luminance' and valid(legacy, 2) == [[False, True]]
    assert values(legacy, 2)[0] == pytest.approx([0, (0.299 * 255 + 0.587 * 255 + 0.114 * 245) / 255])


def test_missing_parts_of_kitti(kitti):
    (kitti / 'training/image_2/000010_11.png').unlink()
    assert len(read(kitti, 'KITTIFlow', 'train')) == 18
    with pytest.raises(DataError, match="scene '000010' lacks a frame: there is no 'training/image_2/000010_11.png'"):
        read(kitti, 'KITTIFlow', 'test')
    photo(kitti / 'training/image_2/000010_11.png', (1, 2))
    (kitti / 'training/flow_occ/000010_10.png').unlink()
    with pytest.raises(DataError, match="'training/image_2/000010_10.png' is missing: there is no 'training/flow_occ/"):
        read(kitti, 'KITTIFlow', 'test')
    photo(kitti / 'training/flow_occ/000010_10.png', (1, 2))
    with pytest.raises(DataError, match='a PNG of 8-bit RGB pixels, where RGB of 16 bits'):
        read(kitti, 'KITTIFlow', 'test')


# Classes: COCO, VOC, ADE20K


def test_panoptic_ids_of_coco(tmp_path):
    photo(tmp_path / 'val2017/000000000139.jpg', (1, 4))
    labels = tmp_path / 'annotations/panoptic_labels_val2017/000000000139.png'
    save(labels, np.uint8([[0, 1, 200, 90]]))
    table = read(tmp_path, 'CocoPanoptic', 'val')
    assert values(table) == [[255, 1, 200, 90]] and valid(table) == [[False, True, True, True]]
    assert len(table.target_names) == 201 and table.target_names[200] == '200'
    save(labels, np.uint8([[0, 1, 201, 90]]))
    with pytest.raises(DataError, match='000000000139.png: the pixel in column 2 of row 0 holds 201'):
        read(tmp_path, 'CocoPanoptic', 'val')
    photo(labels, (1, 4))
    with pytest.raises(DataError, match='000000000139.png: a PNG of 8-bit RGB pixels, where one channel of at most 8'):
        read(tmp_path, 'CocoPanoptic', 'val')


@pytest.mark.parametrize(('names', 'says'), [
    ([1], 'expected a list of'), ([dict(id=201, name='x')], 'expected a list of'), ([dict(id=1)], 'expected a list of'),
    ([dict(id=1.0, name='x')], 'expected a list of'), (dict(id=1), 'expected a list of'),
    ([dict(id=1, name='x'), dict(id=2, name='x')], "two classes are called 'x'")])
def test_wrong_names_of_coco(tmp_path, names, says):
    photo(tmp_path / 'val2017/1.jpg')
    save(tmp_path / 'annotations/panoptic_labels_val2017/1.png', np.zeros((2, 3), np.uint8))
    (tmp_path / 'annotations/panoptic_categories.json').write_text(json.dumps(names))
    with pytest.raises(DataError, match=says):
        read(tmp_path, 'CocoPanoptic', 'val')


@pytest.mark.parametrize('below', ['', 'VOC2012', 'VOCdevkit/VOC2012'])
def test_palettes_of_voc(tmp_path, below):
    base = tmp_path / below
    lists = base / 'ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'val.txt').write_text('2007_000033\n2007_000027\n')
    for place, name in enumerate(('2007_000027', '2007_000033', '2007_000099')):
        photo(base / f'JPEGImages/{name}.jpg', (2, 2))
        save_palette(base / f'SegmentationClass/{name}.png', [[0, 255], [20, place]])
        save(base / f'SegmentationClassAug/{name}.png', np.uint8([[0, 255], [1, 1]]))
    table = read(tmp_path, 'VOCSegmentation', 'val')
    assert table.texts('path') == ['JPEGImages/2007_000033.jpg', 'JPEGImages/2007_000027.jpg']
    assert values(table) == [[0, 255], [20, 1]] and valid(table) == [[True, False], [True, True]]
    assert table.target_names[:2] == ('background', 'aeroplane') and len(table.target_names) == 21
    assert values(read(tmp_path, 'VOCSegmentation', 'val', labels='SegmentationClassAug'))[1] == [1, 1]
    with pytest.raises(DataError, match="has no list 'train'; there are val"):
        read(tmp_path, 'VOCSegmentation', 'train')
    with pytest.raises(DataError, match='outside|leads out|below|leaves'):
        read(tmp_path, 'VOCSegmentation', '../../x')
    photo(base / 'SegmentationClass/2007_000027.png', (2, 2))
    with pytest.raises(DataError, match='2007_000027.png: a PNG of 8-bit RGB pixels'):
        read(tmp_path, 'VOCSegmentation', 'val')
    (base / 'SegmentationClass/2007_000027.png').unlink()
    with pytest.raises(DataError, match="the target of 'JPEGImages/2007_000027.jpg' is missing"):
        read(tmp_path, 'VOCSegmentation', 'val')
    (base / 'JPEGImages/2007_000033.jpg').unlink()
    with pytest.raises(DataError, match="image 1 of 2, 'JPEGImages/2007_000033.jpg', is not in"):
        read(tmp_path, 'VOCSegmentation', 'val')


@pytest.fixture
def ade(tmp_path):
    photo(tmp_path / 'images/validation/ADE_val_00000001.jpg', (1, 4))
    save(tmp_path / 'annotations/validation/ADE_val_00000001.png', np.uint8([[0, 1, 150, 2]]))
    return tmp_path


def test_the_zero_of_ade20k(ade):
    table = read(ade, 'ADE20K', 'val')
    assert values(table) == [[255, 0, 149, 1]] and valid(table) == [[False, True, True, True]]
    assert table.target_names[0] == '1' and len(table.target_names) == 150
    table = read(ade, 'ADE20K', 'val', reduce_zero_label=False)
    assert values(table) == [[0, 1, 150, 2]] and valid(table) == [[True] * 4]
    assert table.target_names[:2] == ('other', '1') and len(table.target_names) == 151
    save(ade / 'annotations/validation/ADE_val_00000001.png', np.uint8([[0, 1, 151, 2]]))
    with pytest.raises(DataError, match='holds 151, which is the id of no class'):
        read(ade, 'ADE20K', 'val')


def test_names_of_ade20k(ade):
    lines = ['Idx\tRatio\tTrain\tVal\tName', *(f'{label} \t0.1\t9\t9\tname {label}, other' for label in range(1, 151))]
    (ade / 'objectInfo150.txt').write_text('\n'.join(lines))
    assert read(ade, 'ADE20K', 'val').target_names[149] == 'name 150, other'
    (ade / 'objectInfo150.txt').write_text('\n'.join(lines[:-1]))
    with pytest.raises(DataError, match='found 149 lines'):
        read(ade, 'ADE20K', 'val')


# What all have in common


KINDS = {'PetsTrimaps': ('train', 'test'), 'EgoHands': ('train', 'val', 'test'), 'Cityscapes': ('train', 'val'),
         'ThorDepth': ('train', 'test'), 'NYUDepth': ('train', 'test'), 'NYUWalkable': ('train', 'test'),
         'TaskonomyDepth': ('train', 'test'), 'TaskonomyEdges': ('train', 'test'), 'CocoPanoptic': ('train', 'val'),
         'KITTIFlow': ('train', 'test'), 'ADE20K': ('train', 'val')}


@pytest.mark.parametrize('kind', KINDS)
def test_an_empty_folder_and_another_split_are_one_message(kind, tmp_path):
    for split in KINDS[kind]:
        with pytest.raises(DataError, match=str(tmp_path)):
            read(tmp_path, kind, split)
    with pytest.raises(ConfigError, match="split is 'all'; expected 'train'"):
        read(tmp_path, kind, 'all')


@pytest.mark.parametrize('name, folders', [
    ('PetsTrimaps', ['test']), ('NYUDepth', ['test/images', 'test/depths']), ('ThorDepth', ['test'])])
def test_a_split_without_images_is_named(name, folders, tmp_path):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=f"{tmp_path.name}: no images of 'test'"):
        read_images(dict(type=name, root=str(tmp_path), split='test'))
