"""Every folder of `make_demo_scenes.py` is read by the reader of its data set, with the classes and targets drawn."""

import numpy as np
import pytest
from PIL import Image

from clear.datasets.clips import clip_length
from clear.datasets.dense.targets import VOID, check_targets
from clear.datasets.make.demo_scenes import write_demo_scenes
from clear.datasets.make.demo_scenes.counting import COUNTS, STEPS
from clear.datasets.make.demo_scenes.motion import ACTIONS, DRIVES, EGOMOTIONS
from clear.datasets.make.demo_scenes.objects import CALTECH, CIFAR, PETS, WNIDS
from clear.datasets.make.demo_scenes.places import LANDS, PLACES, TEXTURES
from clear.registry import READERS

EDGE = 24
NUM_TRAIN = NUM_TEST = 12


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_demo_scenes(tmp_path_factory.mktemp('world') / 'scenes', train=NUM_TRAIN, test=NUM_TEST, edge=EDGE)


def read(root, reader, folder, **options):
    return READERS.build(dict(type=reader, root=str(root / folder), **options))


def folders(*parts):
    return [dict(reader='ImageFolder', folder=part) for part in parts]


def splits(reader, folder, *names, **options):
    return [dict(reader=reader, folder=folder, split=name, **options) for name in names]


# Sources of both parts, the classes, and how many images make a sample.
LABELLED = {
    'imagenet': (folders('imagenet/train', 'imagenet/val'), WNIDS, 1),
    'pets': (folders('pets/train', 'pets/test'), sorted(PETS), 1),
    'caltech101': (splits('Caltech101', 'caltech-101', 'train', 'test'), CALTECH, 1),
    'sun397': (folders('SUN397/train', 'SUN397/test'), PLACES, 1),
    'eurosat': (folders('eurosat/train', 'eurosat/test'), LANDS, 1),
    'dtd': (folders('dtd/train', 'dtd/test'), TEXTURES, 1),
    'kinetics': (splits('KineticsFrames', 'kinetics400', 'train', 'validate'), sorted(ACTIONS), 6),
    'nuscenes': (splits('NuScenesPairs', 'nuScenes', 'train', 'test'), sorted(DRIVES), 2),
    'thor_egomotion': (splits('ThorEgomotion', 'thor_action_prediction', 'train', 'val'), EGOMOTIONS, 2),
    'thor_num_steps': (splits('ThorNumSteps', 'thor_num_steps', 'train', 'val'), [str(step) for step in STEPS], 1),
    'clevr_count': (splits('CLEVRScenes', 'CLEVR', 'train', 'val', answer='count'),
                    [str(count) for count in range(len(COUNTS) + 1)], 1)}


@pytest.mark.parametrize('name', LABELLED)
def test_labelled_layouts_are_read(root, name):
    sources, classes, frames = LABELLED[name]
    for source in sources:
        table = read(root, **source)
        assert list(table.class_names) == list(classes)
        assert clip_length(table) == frames
        assert len(table) == NUM_TRAIN * frames
        labels = table['label'].to_numpy()[::frames]
        # By turns, so each class but 'no object at all' has one sample or more.
        drawn = sorted({*labels.tolist()})
        assert drawn == list(range(1 if name == 'clevr_count' else 0, len(classes)))
        with Image.open(table.root / table.text('path', 0)) as image:
            assert image.size == (EDGE, EDGE)


def test_labels_are_those_that_were_drawn(root):
    """By the number in the file names, which is that of the sample."""
    table = read(root, 'ThorEgomotion', 'thor_action_prediction', split='val')
    for row in range(len(table)):
        number = int(table.text('path', row).split('/')[-1][:6])
        assert table['label'][row].as_py() == number % 5
    table = read(root, 'ThorNumSteps', 'thor_num_steps', split='train')
    for row in range(len(table)):
        assert table['label'][row].as_py() == int(table.text('path', row).split('/')[-1][:6]) % len(STEPS)
    table = read(root, 'CLEVRScenes', 'CLEVR', split='val', answer='count')
    assert table['label'].to_pylist() == [row % 8 + 1 for row in range(NUM_TEST)]


def test_imagenet_v2_numbers_the_classes_of_imagenet(root):
    table = read(root, 'ImageNetV2', 'imagenetv2', classes='../imagenet/train')
    assert list(table.class_names) == list(WNIDS)
    assert sorted(table['label'].to_pylist()) == list(range(len(WNIDS)))


def test_cifar_is_read(root):
    for split, count in (('train', NUM_TRAIN), ('test', NUM_TEST)):
        table = read(root, 'CIFAR100Pickles', 'cifar-100', split=split)
        assert table['label'].to_pylist() == [row % len(CIFAR) for row in range(count)]
        kind, cover = CIFAR[3]
        assert table.class_names[3] == f'{cover}_{kind}' and len(table.class_names) == 100
        assert table.dataset[0][0].shape == (32, 32, 3)


def test_clevr_has_distances_of_some_classes(root):
    labels = read(root, 'CLEVRScenes', 'CLEVR', split='train', answer='distance')['label'].to_pylist()
    assert len(set(labels)) > 2


DENSE = {
    'pets_detection': (splits('PetsTrimaps', 'pets', 'train', 'test'), 'mask', 1),
    'egohands': (splits('EgoHands', 'egohands', 'train', 'val', 'test'), 'classes', 1),
    'cityscapes': (splits('Cityscapes', 'cityscapes', 'train', 'val'), 'classes', 1),
    'thor_depth': (splits('ThorDepth', 'thor_depth_prediction', 'train', 'test'), 'depth', 1),
    'nyu_depth': (splits('NYUDepth', 'nyu', 'train', 'test'), 'depth', 1),
    'nyu_walkable': (splits('NYUWalkable', 'nyu', 'train', 'test'), 'mask', 1),
    'taskonomy_depth': (splits('TaskonomyDepth', 'taskonomy', 'train', 'test'), 'depth', 1),
    'taskonomy_edges': (splits('TaskonomyEdges', 'taskonomy', 'train', 'test'), 'edges', 1),
    'taskonomy_inpainting': (splits('Inpainting', 'taskonomy', 'train', 'test'), 'image', 1),
    'coco': (splits('CocoPanoptic', 'coco', 'train', 'val'), 'classes', 1),
    'kitti': (splits('KITTIFlow', 'KITTI', 'train', 'test'), 'flow', 2),
    'kitti_legacy': (splits('KITTIFlow', 'KITTI', 'train', 'test', legacy=True), 'luminance', 2),
    'voc': (splits('VOCSegmentation', 'VOCdevkit/VOC2012', 'train', 'val'), 'classes', 1),
    'ade20k': (splits('ADE20K', 'ADEChallengeData2016', 'train', 'val'), 'classes', 1)}


@pytest.mark.parametrize('name', DENSE)
def test_layouts_with_targets_are_read(root, name):
    sources, kind, frames = DENSE[name]
    for source in sources:
        table = read(root, **source)
        assert table.target_kind == kind and len(table) >= frames
        assert clip_length(table) == frames
        check_targets(table)
        valid, values = [], set()
        for row in range(0, len(table), frames):
            with Image.open(table.root / table.text('path', row)) as image:
                target = table.read_target(row, image.size[::-1])
            valid.append(target.valid.mean())
            values |= set(np.unique(target.values[target.valid]).tolist())
        assert np.mean(valid) > 0.4
        assert len(values) > 1, 'there is something to learn'
        if kind == 'classes':
            assert VOID not in values and max(values) < len(table.target_names)


def test_parts_that_count_for_nothing_are_there(root):
    """Void, windows without depth, the sky without flow: what the readers have to leave out."""
    for name in ('cityscapes', 'voc', 'ade20k', 'nyu_depth', 'taskonomy_depth', 'kitti', 'pets_detection'):
        table = read(root, **DENSE[name][0][0])
        rows = range(0, len(table), DENSE[name][2])
        assert any(not table.read_target(row).valid.all() for row in rows), name


def test_depths_of_two_layouts_are_metres(root):
    for name in ('nyu_depth', 'taskonomy_depth'):
        table = read(root, **DENSE[name][0][0])
        for row in range(len(table)):
            target = table.read_target(row)
            assert target.values[target.valid].min() > 0.2 and target.values[target.valid].max() < 9
