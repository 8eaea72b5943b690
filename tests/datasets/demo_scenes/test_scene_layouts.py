"""The files of `make_demo_scenes.py`: the same bytes every time, whole or absent, and they say what is drawn."""

import hashlib
import json
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from short_runs import run

from clear.core.errors import ConfigError, DataError
from clear.core.seeding import derive_seed
from clear.datasets.make.demo_scenes import LAYOUTS, photographs, world, write_demo_scenes
from clear.datasets.make.demo_scenes.depths import furnished_room
from clear.datasets.make.demo_scenes.files import edges, flow_colours, save_flow, voc_palette
from clear.datasets.make.demo_scenes.masks import ringed
from clear.datasets.make.demo_scenes.motion import flow_scenes
from clear.datasets.make.demo_scenes.objects import trimap
from clear.datasets.make.demo_scenes.render import optical_flow, render

EDGE = 24


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_demo_scenes(tmp_path_factory.mktemp('world') / 'scenes', train=2, test=1, edge=EDGE)


def digests(folder, layouts):
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for layout in layouts for path in sorted((folder / layout).rglob('*')) if path.is_file()}


def rng_of(layout, split, number):
    return np.random.default_rng(derive_seed('demo scenes', 0, layout, split, number))


def test_a_second_run_of_some_layouts_in_another_order_writes_the_same_bytes(root, tmp_path):
    some = ['taskonomy', 'KITTI', 'cifar-100', 'CLEVR', 'pets', 'kinetics400']
    again = write_demo_scenes(tmp_path / 'again', only=some, train=2, test=1, edge=EDGE)
    assert digests(again, some) == digests(root, some)
    assert sorted(path.name for path in again.iterdir()) == sorted([*some, world.MARKER])


def test_more_samples_leave_the_first_ones_as_they_are(root, tmp_path):
    more = write_demo_scenes(tmp_path / 'more', only=['nyu', 'eurosat'], train=9, test=8, edge=EDGE)
    found = digests(more, ['nyu', 'eurosat'])
    assert digests(root, ['nyu', 'eurosat']).items() <= found.items()
    assert len(found) == 17 * 3 + 17


def test_another_seed_draws_other_scenes(root, tmp_path):
    other = write_demo_scenes(tmp_path / 'other', only=['nyu'], train=2, test=1, edge=EDGE, seed=1)
    assert not set(digests(other, ['nyu']).values()) & set(digests(root, ['nyu']).values())


def test_no_two_samples_of_a_layout_are_alike(root):
    for layout in ('imagenet', 'SUN397', 'coco/train2017', 'thor_action_prediction'):
        found = list(digests(root, [layout]).values())
        assert len(set(found)) == len(found), layout


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_scenes(tmp_path / 'scenes', train=2, test=1, edge=EDGE, progress=stop)
    assert not list(tmp_path.iterdir())


def test_the_bar_counts_every_sample(tmp_path):
    told = []
    write_demo_scenes(tmp_path / 'scenes', only=['nyu', 'imagenetv2', 'coco'], train=3, test=2, edge=EDGE,
                      progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 22) for done in range(1, 23)], '5 + 12 classes + 5'


def test_a_folder_with_other_content_is_kept(root):
    before = digests(root, ['nyu'])
    with pytest.raises(DataError, match='has other content'):
        write_demo_scenes(root, only=['nyu'], train=1, test=1, edge=EDGE)
    assert digests(root, ['nyu']) == before


@pytest.mark.parametrize(('options', 'message'), [
    (dict(only=['pet']), r"only is \['pet'\]"), (dict(only=['nyu', 'nyu']), 'each once'), (dict(only=[]), 'expected'),
    (dict(train=0), 'train'), (dict(edge=8), 'edge'), (dict(seed=-1), 'seed')])
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        write_demo_scenes(tmp_path / 'scenes', **options)
    assert not (tmp_path / 'scenes').exists()


def test_missing_photographs_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'skimage', None)
    photographs.tile.cache_clear(), photographs.photograph.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'clear-framework\[data\]'"):
        write_demo_scenes(tmp_path / 'scenes')
    assert not (tmp_path / 'scenes').exists()


def test_a_tile_is_a_part_of_its_photograph():
    levels = photographs.tile('fur')
    assert [len(level) for level in levels] == [128, 64, 32, 16, 8, 4]
    # Coarser levels are means of finer ones, but for what was too bright.
    for fine, coarse in zip(levels, levels[1:]):
        means = fine.reshape(len(coarse), 2, len(coarse), 2, 3).mean(axis=(1, 3))
        assert np.abs(means - coarse).mean() < 0.01
    assert all(0.3 < photographs.tile(name)[0].mean() <= 0.5001 for name in photographs.TILES), 'a few clip stars'


def test_answers_of_clevr_are_those_of_its_scenes(root):
    for split in ('train', 'val'):
        scenes = json.loads((root / f'CLEVR/scenes/CLEVR_{split}_scenes.json').read_text())['scenes']
        assert [len(scene['objects']) for scene in scenes] == [1, 2, 3, 4, 5, 6, 7, 8]
        for scene in scenes:
            assert (root / f'CLEVR/images/{split}' / scene['image_filename']).is_file()
            for thing in scene['objects']:
                assert all(0 <= place < EDGE for place in thing['pixel_coords'][:2])
                assert thing['3d_coords'][2] > 0


def test_depths_of_three_layouts_are_what_is_rendered(root):
    """Metres, 512th of a metre and grey: of the scenes that the same randomness draws."""
    for layout, name in (('nyu', 'depths/00000.tiff'), ('taskonomy', ''), ('thor_depth_prediction', '')):
        scene, camera = furnished_room(rng_of(layout, 'train', 0))
        view = render(scene, camera, (EDGE, EDGE))
        window = view.is_named(scene, 'window')
        if layout == 'nyu':
            depth = np.asarray(Image.open(root / 'nyu/train' / name))
            assert depth.dtype == np.float32
            np.testing.assert_array_equal(depth, np.where(window, 0, view.depth))
            floor = np.asarray(Image.open(root / 'nyu/train/walkable/00000.png'))
            np.testing.assert_array_equal(floor != 0, view.is_named(scene, 'floor'))
            assert 0 < (floor != 0).mean() < 1
        elif layout == 'taskonomy':
            file = root / 'taskonomy/train/depth_zbuffer/allensville/point_0_view_0_domain_depth_zbuffer.png'
            units = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            assert units.dtype == np.uint16
            np.testing.assert_array_equal(units[window], 65535)
            np.testing.assert_allclose(units[~window] / 512, view.depth[~window], atol=1 / 1024)
        else:
            grey = np.asarray(Image.open(root / 'thor_depth_prediction/train/FloorPlan1/000000_depth.jpg'), float)
            assert np.abs(grey / 25.5 - view.depth).mean() < 0.1, 'a JPEG'


def test_flow_of_kitti_is_that_of_the_scenes(root):
    before, camera, after, camera_after = flow_scenes(rng_of('KITTI', '', 3))
    flow, _ = optical_flow(before, camera, after, camera_after, (EDGE, 2 * EDGE))
    coded = cv2.imread(str(root / 'KITTI/training/flow_occ/000003_10.png'), cv2.IMREAD_UNCHANGED)[..., ::-1]
    valid = coded[..., 2] != 0
    sky = render(before, camera, (EDGE, 2 * EDGE)).is_named(before, 'sky')
    assert not valid[sky].any() and valid.sum() > 0.4 * valid.size
    np.testing.assert_allclose((coded[valid][:, :2].astype(float) - 2 ** 15) / 64, flow[valid], atol=1 / 128 + 1e-6)
    assert (coded[~valid] == 0).all()
    picture = np.asarray(Image.open(root / 'KITTI/training/viz_flow_occ/000003_10.png'))
    np.testing.assert_array_equal(picture.any(-1), valid)


def test_flow_that_a_file_cannot_hold_is_invalid(tmp_path):
    flow = np.array([[[600.0, 0.0], [np.nan, 0.0], [-1.5, 0.25]]])
    save_flow(tmp_path / 'flow.png', flow, np.ones((1, 3), bool))
    coded = cv2.imread(str(tmp_path / 'flow.png'), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert coded.tolist() == [[[0, 0, 0], [0, 0, 0], [2 ** 15 - 96, 2 ** 15 + 16, 1]]]


def test_colours_of_flow():
    """To the right is red, longer is fuller, nothing is white."""
    flow = np.zeros((1, 20, 2))
    flow[0, 1], flow[0, 2] = (2.0, 0.0), (1.0, 0.0)
    colours = flow_colours(flow, np.arange(20)[None] < 4)
    assert colours[0, :5].tolist() == [[255, 255, 255], [255, 0, 0], [255, 127, 127], [255, 255, 255], [0, 0, 0]]


def test_palette_of_voc():
    palette = voc_palette()
    assert palette.dtype == np.uint8
    for label, colour in {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 5: (128, 0, 128), 8: (64, 0, 0),
                          15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}.items():
        assert tuple(palette[label].tolist()) == colour, label


def test_trimaps_and_rings_against_loops():
    """Four neighbours, nothing outside the picture."""
    ids = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 2], [0, 1, 1, 2]])

    def touches(row, column):
        around = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        return any(ids[y, x] != ids[row, column] for y, x in around if 0 <= y < 4 and 0 <= x < 4)

    rings = ringed(ids.astype(np.uint8) * 5, ids)
    three = trimap(ids == 1)
    for row in range(4):
        for column in range(4):
            void = touches(row, column) and ids[row, column] > 0
            assert rings[row, column] == (255 if void else 5 * ids[row, column])
    assert three.tolist() == [[2, 3, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [3, 3, 3, 3]]
    assert trimap(np.ones((3, 3), bool)).tolist() == [[1] * 3] * 3


def test_edges_are_those_of_scipy():
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    grey = image.astype(float) @ [0.299, 0.587, 0.114]
    across, down = (ndimage.sobel(grey, axis=axis, mode='nearest') / 4 for axis in (1, 0))
    np.testing.assert_array_equal(edges(image), np.rint(np.hypot(across, down).clip(0, 255)))


def test_masks_have_the_size_of_their_images(root):
    for images, masks, suffix in (
            ('cityscapes/leftImg8bit', 'cityscapes/gtFine', ('leftImg8bit', 'gtFine_labelIds')),
            ('egohands/images', 'egohands/labels', ('.jpg', '.png')),
            ('VOCdevkit/VOC2012/JPEGImages', 'VOCdevkit/VOC2012/SegmentationClass', ('.jpg', '.png')),
            ('coco/train2017', 'coco/annotations/panoptic_labels_train2017', ('.jpg', '.png')),
            ('ADEChallengeData2016/images', 'ADEChallengeData2016/annotations', ('.jpg', '.png'))):
        files = sorted(path for path in (root / images).rglob('*') if path.is_file())
        assert files
        for file in files:
            other = root / masks / file.relative_to(root / images).as_posix().replace(*suffix)
            assert Image.open(file).size == Image.open(other).size


def test_every_layout_is_there(root):
    assert {path.name for path in root.iterdir()} == {layout.split('/')[0] for layout in LAYOUTS} | {world.MARKER}
    assert json.loads((root / world.MARKER).read_text())['layouts'] == sorted(LAYOUTS)


def test_the_program_says_what_it_wrote_and_what_is_wrong(tmp_path):
    done = run('dataset_converters/make_demo_scenes', tmp_path / 'scenes', '--train', 2, '--test', 1, '--size', EDGE,
               '--only', 'nyu', 'pets')
    assert done.code == 0 and str(tmp_path / 'scenes') in done.out
    assert {path.name for path in (tmp_path / 'scenes').iterdir()} == {'nyu', 'pets', world.MARKER}
    done = run('dataset_converters/make_demo_scenes', tmp_path / 'other', '--only', 'nyv')
    assert done.code == 2 and "only is ['nyv']" in done.err and len(done.err.splitlines()) == 1
    assert not (tmp_path / 'other').exists()
