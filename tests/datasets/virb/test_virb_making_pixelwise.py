"""From miniature archives, unpacked as their publishers pack them, to layouts that the readers take."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from dense_trees import photo, save, save_palette, save_rgb_of_16_bits
from scipy.io import savemat

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.dense.targets import check_targets
from clear.datasets.make.virb.hands import draw_hands
from clear.datasets.make.virb.layout import make_folder
from clear.datasets.make.virb.makers import MAKERS
from clear.datasets.make.virb.panoptic import category_ids

HANDS = ('myleft', 'myright', 'yourleft', 'yourright')


def made(name, source, out, lists=()):
    make_folder(MAKERS[name], source, lists, out)
    return out


def read(root, kind, split, **options):
    table = read_images(dict(type=kind, root=str(root), split=split, **options))
    check_targets(table)
    return table


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


@pytest.fixture
def source(tmp_path):
    (tmp_path / 'source').mkdir()
    return tmp_path / 'source'


def test_pets(source, out):
    for name in ('Abyssinian_1', 'great_pyrenees_20', 'Beagle_3'):
        photo(source / f'images/{name}.jpg')
        save(source / f'annotations/trimaps/{name}.png', np.full((2, 3), 1, np.uint8))
    (source / 'annotations/trainval.txt').write_text('#Image CLASS-ID\nAbyssinian_1 1 1 1\ngreat_pyrenees_20 2 2 1\n')
    (source / 'annotations/test.txt').write_text('Beagle_3 3 2 2\n')
    made('pets_detection', source, out)
    assert read(out, 'PetsTrimaps', 'train').texts('path') == ['train/Abyssinian/Abyssinian_1.jpg',
                                                               'train/great_pyrenees/great_pyrenees_20.jpg']
    assert (out / 'train/Abyssinian/Abyssinian_1.jpg').is_symlink() and len(read(out, 'PetsTrimaps', 'test')) == 1
    (source / 'annotations/trimaps/Abyssinian_1.png').unlink()
    with pytest.raises(DataError, match="the target of 'train/Abyssinian/Abyssinian_1.jpg' is missing"):
        made('pets_detection', source, out.parent / 'again')


# EgoHands


def write_polygons(path, frames):
    """Frames: hand -> corners."""
    polygons = np.zeros((1, len(frames)), [(hand, object) for hand in HANDS])
    for place, frame in enumerate(frames):
        for hand in HANDS:
            polygons[0, place][hand] = np.float64(frame.get(hand, []))
    savemat(path, dict(polygons=polygons))


SQUARE = [(1, 1), (4, 1), (4, 4), (1, 4)]


def test_a_square_is_drawn_with_its_outline_and_ones_own_hands_over_others():
    mine = np.float64([(3, 3), (6, 3), (6, 5), (3, 5)])
    labels = draw_hands((8, 6), {'myleft': mine, 'yourleft': np.float64(SQUARE)})
    expected = np.zeros((6, 8), np.uint8)
    expected[1:5, 1:5] = 1
    expected[3:6, 3:7] = 3
    assert labels.tolist() == expected.tolist()
    assert (draw_hands((8, 6), {'myright': np.float64([(1, 1), (2, 2)])}) == 0).all()


def test_egohands(source, out):
    for place in range(48):
        video = source / f'egohands_data/_LABELLED_SAMPLES/VIDEO_{place:02d}'
        for frame in (12, 7):
            photo(video / f'frame_{frame:04d}.jpg', (6, 8))
        write_polygons(video / 'polygons.mat', [{'yourright': SQUARE}, {}])
    made('egohands', source, out)
    table = read(out, 'EgoHands', 'val')
    assert len(table) == 8 and table.texts('path')[0] == 'images/VIDEO_06/frame_0007.jpg'
    first, second = (table.read_target(row).values for row in (0, 1))
    assert (first == 2).sum() == 16 and set(first.ravel()) == {0, 2} and not second.any()


@pytest.mark.parametrize(('write', 'says'), [
    (lambda path: None, 'polygons.mat does not exist'),
    (lambda path: path.write_bytes(b'no matlab'), 'cannot be read as a MATLAB file'),
    (lambda path: path.write_bytes(b'MATLAB 5.0 MAT-file' * 40), 'cannot be read as a MATLAB file'),
    (lambda path: savemat(path, dict(other=1)), 'holds no polygons of hands: KeyError'),
    (lambda path: savemat(path, dict(polygons=np.zeros((1, 1)))), 'holds no polygons of hands'),
    (lambda path: write_polygons(path, [{}, {}]), 'polygons of 2 frames; the folder has 1'),
    (lambda path: write_polygons(path, [{'myleft': [(1, 2, 3)]}]), r'should be \(N, 2\) numbers'),
    (lambda path: write_polygons(path, [{'myleft': [(1, np.nan)]}]), r'should be \(N, 2\) numbers')])
def test_wrong_polygons(source, out, write, says):
    photo(source / '_LABELLED_SAMPLES/V/frame_0001.jpg')
    write(source / '_LABELLED_SAMPLES/V/polygons.mat')
    with pytest.raises(DataError, match=says):
        made('egohands', source, out)


# COCO


def write_panoptic(source, part='val', categories=None):
    photo(source / f'{part}2017/000000000139.jpg', (1, 3))
    save(source / f'annotations/panoptic_{part}2017/000000000139.png', np.uint8([[[0, 0, 0], [7, 1, 0], [2, 0, 3]]]))
    segments = [dict(id=key, category_id=value, iscrowd=0)
                for key, value in (categories or {263: 90, 2 + 3 * 65536: 200}).items()]
    content = dict(annotations=[dict(file_name='000000000139.png', image_id=139, segments_info=segments)],
                   categories=[dict(id=90, name='toothbrush', isthing=1), dict(id=200, name='rug-merged', isthing=0)])
    (source / f'annotations/panoptic_{part}2017.json').write_text(json.dumps(content))


def test_categories_of_segments_against_a_loop():
    generator = np.random.default_rng(0)
    known = {1: 5, 255: 6, 256: 7, 65536: 8, 16777215: 200}
    ids = generator.choice([0, *known], (5, 7))
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    assert category_ids(colours, known).tolist() == [[known.get(int(each), 0) for each in row] for row in ids]
    with pytest.raises(DataError, match='segment 65536 is none of the 1 that are described'):
        category_ids(np.uint8([[[0, 0, 1]]]), {1: 5})


def test_coco(source, out):
    write_panoptic(source)
    made('coco', source, out)
    table = read(out, 'CocoPanoptic', 'val')
    assert table.read_target(0).values.tolist() == [[255, 90, 200]]
    assert [table.target_names[place] for place in (0, 1, 90, 200)] == ['void', '1', 'toothbrush', 'rug-merged']
    assert (out / 'val2017/000000000139.jpg').is_symlink()


def test_coco_of_official_archives(source, out, tmp_path):
    write_panoptic(source)
    shutil.make_archive(source / 'annotations/panoptic_val2017', 'zip', source / 'annotations', 'panoptic_val2017')
    shutil.rmtree(source / 'annotations/panoptic_val2017')
    images, annotations = (shutil.make_archive(tmp_path / name, 'zip', source, name)
                           for name in ('val2017', 'annotations'))
    made('coco', Path(images), out, [Path(annotations)])
    assert read(out, 'CocoPanoptic', 'val').read_target(0).values.tolist() == [[255, 90, 200]]
    assert not (out / 'val2017/000000000139.jpg').is_symlink() and sorted(path.name for path in out.iterdir()) == [
        'annotations', 'val2017']


def test_wrong_panoptic_files(source, out):
    (source / 'annotations').mkdir()
    with pytest.raises(DataError, match='hold neither train2017 with'):
        made('coco', source, out)
    write_panoptic(source, categories={263: 90})
    with pytest.raises(DataError, match='000000000139.png: segment 196610 is none of the 1'):
        made('coco', source, out)
    write_panoptic(source, categories={263: 90, 2 + 3 * 65536: 201})
    with pytest.raises(DataError, match='has a category outside 1 ... 200'):
        made('coco', source, out)
    save(source / 'annotations/panoptic_val2017/000000000139.png', np.uint8([[0, 1, 2]]))
    file = source / 'annotations/panoptic_val2017.json'
    file.write_text(json.dumps(dict(annotations=[dict(file_name='000000000139.png', segments_info=[])],
                                    categories=[])))
    with pytest.raises(DataError, match='8-bit grey pixels, where 8-bit RGB is expected'):
        made('coco', source, out)
    file.write_text(json.dumps(dict(annotations=[dict(file_name='../../x.png', segments_info=[])], categories=[])))
    with pytest.raises(DataError, match='x.png'):
        made('coco', source, out)
    assert not out.exists()


@pytest.mark.parametrize('content', ['{}', '{"annotations": [{"file_name": "x.png"}]}', '[1]', '{"annotations": 1}',
                                     '{"annotations": []}'])
def test_other_json_is_no_panoptic_file(source, out, content):
    write_panoptic(source)
    (source / 'annotations/panoptic_val2017.json').write_text(content)
    with pytest.raises(DataError, match='panoptic annotations'):
        made('coco', source, out)


# NYU


def write_official(source, train=(1, 3), test=(2,), images=None):
    h5py = pytest.importorskip('h5py')
    with h5py.File(source / 'nyu_depth_v2_labeled.mat', 'w') as file:
        if images is not None:
            file['images'] = images
        file['depths'] = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2) / 8
    savemat(source / 'splits.mat', dict(trainNdxs=np.uint16([train]).T, testNdxs=np.uint16([test]).T))


def test_nyu_of_the_official_file(source, out):
    images = np.arange(3 * 3 * 4 * 2, dtype=np.uint8).reshape(3, 3, 4, 2)
    write_official(source, images=images)
    made('nyu', source, out)
    table = read(out, 'NYUDepth', 'train')
    assert table.texts('path') == ['train/images/0001.png', 'train/images/0003.png']
    pixels = np.array(table.open_image(1))
    assert pixels.shape == (2, 4, 3) and pixels[1, 3].tolist() == images[2, :, 3, 1].tolist()
    target = table.read_target(1)
    assert target.values[1, 2] == (2 * 8 + 2 * 2 + 1) / 8 and target.valid.all()
    assert len(read(out, 'NYUDepth', 'test')) == 1


@pytest.mark.parametrize(('options', 'says'), [
    (dict(train=(1, 4), images=np.zeros((3, 3, 4, 2), np.uint8)), 'has 3 images; the lists name 1 ... 4'),
    (dict(train=(1, 2), images=np.zeros((3, 3, 4, 2), np.uint8)), 'for training and for testing'),
    (dict(images=np.zeros((3, 4, 2), np.uint8)), 'should be uint8'), (dict(), 'cannot be read: KeyError')])
def test_wrong_official_files(source, out, options, says):
    write_official(source, **options)
    with pytest.raises(DataError, match=says):
        made('nyu', source, out)


def test_without_h5py_one_line_says_how(source, out, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    (source / 'nyu_depth_v2_labeled.mat').write_bytes(b'')
    with pytest.raises(DataError, match='splits.mat is neither in'):
        made('nyu', source, out)
    savemat(source / 'splits.mat', dict(trainNdxs=[[1]], testNdxs=[[2]]))
    with pytest.raises(ConfigError, match='is read by h5py, which is not installed: pip install .clear-framework'):
        made('nyu', source, out)


def test_nyu_of_the_suites_archive(source, out):
    for split in ('train', 'test'):
        photo(source / f'nyu/{split}/images/1.png')
        save(source / f'nyu/{split}/depths/1.tiff', np.ones((2, 3), np.float32))
    made('nyu', source, out)
    assert len(read(out, 'NYUDepth', 'test')) == 1
    for split in ('train', 'test'):
        save(source / f'nyu/{split}/walkable/1.png', np.ones((2, 3), np.uint8))
    assert len(read(made('nyu', source, out.parent / 'both'), 'NYUWalkable', 'test')) == 1
    shutil.rmtree(source / 'nyu/train/walkable')
    shutil.rmtree(source / 'nyu/train/depths')
    shutil.rmtree(source / 'nyu/test')
    photo(source / 'nyu/test/images/1.png')
    with pytest.raises(DataError, match='holds neither depths nor walkable masks'):
        made('nyu', source, out.parent / 'none')


# Taskonomy


@pytest.mark.parametrize('place', ['{domain}/{building}', '{domain}/taskonomy/{building}', '{building}/{domain}'])
def test_taskonomy(source, out, place, tmp_path):
    for building in ('a', 'b'):
        for domain in ('rgb', 'depth_zbuffer', 'edge_texture'):
            folder = source / place.format(domain=domain, building=building)
            pixels = np.zeros((1, 2, 3), np.uint8) if domain == 'rgb' else np.uint16([[512, 1024]])
            save(folder / f'point_0_view_0_domain_{domain}.png', pixels)
    lists = [tmp_path / 'train.txt', tmp_path / 'test.txt']
    lists[0].write_text('b\n')
    lists[1].write_text('a\n')
    made('taskonomy', source, out, lists)
    assert read(out, 'TaskonomyDepth', 'train').texts('path') == ['train/rgb/b/point_0_view_0_domain_rgb.png']
    assert read(out, 'TaskonomyDepth', 'test').read_target(0).values.tolist() == [[1, 2]]
    assert len(read(out, 'TaskonomyEdges', 'test')) == len(read(out, 'Inpainting', 'test')) == 1
    with pytest.raises(DataError, match='test.txt is neither in .* nor among the lists'):
        made('taskonomy', source, out.parent / 'other', lists[:1])
    for content, says in (('b\n', "building 'b' is in"), ('c\n', "has no rgb of building 'c', which a list names"),
                          ('../a\n', 'a'), ('\n', 'is empty')):
        lists[1].write_text(content)
        with pytest.raises(DataError, match=says):
            made('taskonomy', source, out.parent / 'other', lists)
    lists[1].write_text('a\n')
    for folder in source.rglob('edge_texture'):
        shutil.rmtree(folder)
    made('taskonomy', source, out.parent / 'other', lists)
    assert not (out.parent / 'other/test/edges').exists()
    shutil.rmtree(source / place.format(domain='depth_zbuffer', building='a'))
    with pytest.raises(DataError, match="has no depth_zbuffer of building 'a', which a list names"):
        made('taskonomy', source, out.parent / 'half', lists)


# Those that are in their layout already


def test_layouts_that_are_linked(source, out):
    for split in ('train', 'val'):
        photo(source / f'streets/leftImg8bit/{split}/ulm/ulm_0_0_leftImg8bit.png')
        save(source / f'labels/gtFine/{split}/ulm/ulm_0_0_gtFine_labelIds.png', np.full((2, 3), 7, np.uint8))
    made('cityscapes', source / 'streets', out / 'cityscapes', [source / 'labels'])
    assert len(read(out / 'cityscapes', 'Cityscapes', 'val')) == 1
    for split in ('train', 'test'):
        photo(source / f'thor/thor_depth/{split}/scene/0_rgb.jpg')
        save(source / f'thor/thor_depth/{split}/scene/0_depth.jpg', np.zeros((2, 3), np.uint8))
    assert len(read(made('thor_depth', source / 'thor', out / 'thor'), 'ThorDepth', 'test')) == 1
    for scene in range(2):
        for frame in (10, 11):
            photo(source / f'kitti/training/image_2/{scene:06}_{frame}.png')
        save_rgb_of_16_bits(source / f'kitti/training/flow_occ/{scene:06}_10.png', np.zeros((2, 3, 3)))
    made('kitti', source / 'kitti', out / 'kitti')
    assert len(read(out / 'kitti', 'KITTIFlow', 'test')) == 2 and not (out / 'kitti/training/viz_flow_occ').exists()
    voc = source / 'VOCdevkit/VOC2012'
    (voc / 'ImageSets/Segmentation').mkdir(parents=True)
    for name, split in (('1', 'train'), ('2', 'val')):
        photo(voc / f'JPEGImages/{name}.jpg')
        save_palette(voc / f'SegmentationClass/{name}.png', np.zeros((2, 3)))
        (voc / f'ImageSets/Segmentation/{split}.txt').write_text(f'{name}\n')
    assert len(read(made('voc2012', source / 'VOCdevkit', out / 'voc'), 'VOCSegmentation', 'val')) == 1
    for split in ('training', 'validation'):
        photo(source / f'ADEChallengeData2016/images/{split}/1.jpg')
        save(source / f'ADEChallengeData2016/annotations/{split}/1.png', np.zeros((2, 3), np.uint8))
    made('ade20k', source / 'ADEChallengeData2016', out / 'ade')
    assert len(read(out / 'ade', 'ADE20K', 'val')) == 1
    with pytest.raises(DataError, match='holds no training/image_2 and training/flow_occ, and no list does'):
        made('kitti', source / 'thor', out / 'none')
