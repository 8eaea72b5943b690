"""Readers of ViRB's image-level sets on miniature copies of the real folders, with the traps of each."""

import json
import logging
import math

import numpy as np
import pytest
from virb_trees import (
    brightness,
    write_caltech,
    write_class_folders,
    write_clevr,
    write_image,
    write_imagenet_v2,
    write_json,
    write_kinetics,
    write_nuscenes,
    write_thor_egomotion,
    write_thor_num_steps,
)

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.clips import clip_length
from clear.datasets.readers.virb.kinetics import frames_of, spaced


def read(kind, root, **options):
    return read_images(dict(type=kind, root=str(root), **options))


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    caplog.set_level(logging.INFO, 'clear')
    return caplog


# ImageNet-V2


def test_imagenet_v2_counts_folders_as_numbers(tmp_path):
    """'10' stands before '2' as text, and the name of number k is that of ImageNet's class k."""
    wordnet = [f'n{number:08}' for number in range(11)]
    write_class_folders(tmp_path / 'imagenet', wordnet, dict(train=1))
    write_imagenet_v2(tmp_path / 'v2', [10, 2, 0])
    images = read('ImageNetV2', tmp_path / 'v2', classes='../imagenet/train')
    assert images.texts('path') == ['0/0.jpeg', '2/0.jpeg', '10/0.jpeg'] and images.label_array().tolist() == [0, 2, 10]
    assert list(images.class_names) == wordnet
    named = read('ImageNetV2', tmp_path / 'v2')
    assert named.class_names[:2] == ['n01440764', 'n01443537'] and len(named.class_names) == 1000
    assert named.label_array().tolist() == [0, 2, 10]


@pytest.mark.parametrize('folder, says', [('1000', "'1000/0.jpeg' lies in no folder that is a number"),
                                          ('tench', "'tench/0.jpeg' lies in no folder"), ('.', "'x.jpeg' lies in no")])
def test_imagenet_v2_refuses_other_folders(tmp_path, folder, says):
    write_image(tmp_path / folder / ('x.jpeg' if folder == '.' else '0.jpeg'))
    with pytest.raises(DataError, match=says):
        read('ImageNetV2', tmp_path)


def test_imagenet_v2_needs_its_classes(tmp_path):
    write_imagenet_v2(tmp_path / 'v2', [0])
    with pytest.raises(DataError, match='imagenet/train does not exist'):
        read('ImageNetV2', tmp_path / 'v2', classes='../imagenet/train')


# Caltech-101

COUNTS = {'airplanes': 3, 'BACKGROUND_Google': 2, 'ant': 2}
LISTS = dict(train=['ant/image_0002.jpg', 'airplanes/image_0003.jpg', 'airplanes/image_0001.jpg'],
             test=['ant/image_0001.jpg', 'airplanes/image_0002.jpg'])


def test_caltech_labels_are_folders_and_lists_keep_their_order(tmp_path):
    write_caltech(tmp_path, COUNTS, LISTS)
    train, test = (read('Caltech101', tmp_path, split=split) for split in ('train', 'test'))
    assert train.class_names == test.class_names == ['airplanes', 'ant']  # no image of the third is for training
    assert train.texts('path') == LISTS['train'] and train.label_array().tolist() == [1, 0, 0]
    assert test.label_array().tolist() == [1, 0]


def test_caltech_without_lists_draws_thirty_of_each(tmp_path, log):
    write_caltech(tmp_path, {'ant': 31, 'bass': 33})
    train, test = (read('Caltech101', tmp_path, split=split) for split in ('train', 'test'))
    assert train.label_array().tolist() == [0] * 30 + [1] * 30 and test.label_array().tolist() == [0] + [1] * 3
    assert not {*train.texts('path')} & {*test.texts('path')} and len({*train.texts('path')}) == 60
    assert '30 images of each category, drawn with seed 0' in log.text and '4 images of 2 categories' in log.text
    assert read('Caltech101', tmp_path, split='test').texts('path') == test.texts('path')
    assert read('Caltech101', tmp_path, split='test', seed=1).texts('path') != test.texts('path')


@pytest.mark.parametrize('lists, says', [
    (dict(train=LISTS['train']), 'caltech101_train.json without the other list'),
    (dict(LISTS, test=['ant/image_0009.jpg']), "caltech101_test.json: image 1 of 1, 'ant/image_0009.jpg', is not in"),
    (dict(LISTS, test=['BACKGROUND_Google/image_0001.jpg']), "no image of category 'BACKGROUND_Google' is for train"),
    (dict(LISTS, train=['ant/image_0001.jpg'] * 2), 'is listed twice'), (dict(LISTS, train=[]), 'expected a list of'),
    (dict(LISTS, train=['../x.jpg']), 'lies outside'), (dict(LISTS, train=['image_0001.jpg']), 'expected a list of'),
    (dict(LISTS, train={'ant': 1}), 'expected a list of'), (None, "category 'BACKGROUND_Google' has 2 images")])
def test_caltech_refuses_other_lists(tmp_path, lists, says):
    write_caltech(tmp_path, COUNTS, lists)
    with pytest.raises(DataError, match=says):
        read('Caltech101', tmp_path, split='test')


# Kinetics


def test_kinetics_frames_are_sorted_and_evenly_spaced(tmp_path):
    write_kinetics(tmp_path, dict(train={'abc': ('yoga', 12), 'xyz': ('abseiling', 6)}, validate={'-b_1': ('yoga', 7)}))
    images = read('KineticsFrames', tmp_path, split='train')
    assert clip_length(images) == 6 and images.class_names == ['abseiling', 'yoga']
    # Frames 0 ... 11, of which text puts 10 and 11 behind 1; 2.2, 4.4, 6.6, 8.8 are rounded.
    assert images.texts('path')[:6] == [f'train/ab/abc_{frame}.jpg' for frame in (0, 2, 4, 7, 9, 11)]
    assert images.texts('path')[6:] == [f'train/xy/xyz_{frame}.jpg' for frame in range(6)]
    assert images.texts('clip') == ['abc'] * 6 + ['xyz'] * 6 and images.label_array().tolist() == [1] * 6 + [0] * 6
    assert [brightness(images, row) for row in range(6)] == [0, 2, 4, 7, 9, 11]
    test = read('KineticsFrames', tmp_path, split='validate')  # one class there, which is number 1 as in training
    assert test.class_names == ['abseiling', 'yoga'] and test.label_array().tolist() == [1] * 6


@pytest.mark.parametrize('count', [6, 7, 10, 11, 300])
def test_even_spacing_is_rounded_exact_division(count):
    expected = [math.floor(place * (count - 1) / 5 + 0.5) for place in range(6)]
    assert spaced(list(range(count))) == expected and expected[0] == 0 and expected[-1] == count - 1


def test_a_frame_belongs_to_the_longest_id():
    paths = ['t/ab/ab_1.jpg', 't/ab/ab_cd_2.jpg', 't/ab/ab_cd_ef_3.jpg', 't/xx/ab_9.jpg', 't/no/no_1.jpg', 't/a.jpg']
    assert frames_of(paths, {'ab': 0, 'ab_cd': 0, 'q': 0}) == {
        'ab': ['t/ab/ab_1.jpg'], 'ab_cd': ['t/ab/ab_cd_2.jpg', 't/ab/ab_cd_ef_3.jpg'], 'q': []}


def test_kinetics_names_a_video_without_frames(tmp_path, log):
    write_kinetics(tmp_path, dict(train={'abc': ('yoga', 6), 'xyz': ('yoga', 5), 'uvw': ('yoga', 0)}, validate={}))
    with pytest.raises(DataError, match="2 of 3 videos have fewer than 6 frames .* first is 'xyz' with 5"):
        read('KineticsFrames', tmp_path, split='train')
    assert len(read('KineticsFrames', tmp_path, split='train', missing='skip')) == 6
    assert '2 of 3 videos have fewer than 6 frames and are left out' in log.text


@pytest.mark.parametrize('validate, says', [
    ({}, 'expected a dict'), ([1], 'expected a dict'), ({'abc': {'label': 'yoga'}}, "'abc' has no annotations.label"),
    ({'abc': {'annotations': {'label': 3}}}, 'no annotations.label that is text'),
    ({'abc': {'annotations': {'label': 'boxing'}}}, "'abc' shows 'boxing', which no video of .*train.json does"),
    ({'zzz': {'annotations': {'label': 'yoga'}}}, '1 of 1 videos have fewer'),
    ({'../x': {'annotations': {'label': 'yoga'}}}, '1 of 1 videos have fewer')])
def test_kinetics_refuses_other_lists(tmp_path, validate, says):
    write_kinetics(tmp_path, dict(train={'abc': ('yoga', 6)}, validate={'abc': ('yoga', 6)}))
    write_json(tmp_path / 'annotations' / 'validate.json', validate)
    with pytest.raises(DataError, match=says):
        read('KineticsFrames', tmp_path, split='validate', missing='skip')


# nuScenes

PAIRS = dict(train=[('samples/1.jpg', 'samples/2.jpg', 10), ('samples/2.jpg', 'sweeps/3.jpg', 9),
                    ('samples/1.jpg', 'samples/2.jpg', -1)], test=[('samples/4.jpg', 'samples/5.jpg', 10)])


def test_nuscenes_pairs_share_images_and_sort_numbers_by_value(tmp_path):
    write_nuscenes(tmp_path, PAIRS)
    train, test = (read('NuScenesPairs', tmp_path, split=split) for split in ('train', 'test'))
    assert train.class_names == test.class_names == ['-1', '9', '10'] and clip_length(train) == 2
    assert train.texts('path')[:4] == ['samples/1.jpg', 'samples/2.jpg', 'samples/2.jpg', 'sweeps/3.jpg']
    assert train.label_array().tolist() == [2, 2, 1, 1, 0, 0] and test.label_array().tolist() == [2, 2]


def test_nuscenes_labels_may_be_text(tmp_path):
    write_nuscenes(tmp_path, {split: [(a, b, f'turn {label}') for a, b, label in pairs]
                              for split, pairs in PAIRS.items()})
    assert read('NuScenesPairs', tmp_path, split='test').class_names == ['turn -1', 'turn 10', 'turn 9']


@pytest.mark.parametrize('test, says', [
    ([], 'expected a list'), ({'img_a': 1}, 'expected a list'), ([dict(img_a='a.jpg', label=1)], 'pair 1 is'),
    ([dict(img_a='a.jpg', img_b='b.jpg', label=True)], 'pair 1 is'),
    ([dict(img_a='a.jpg', img_b='b.jpg', label=[1])], 'pair 1 is'),
    ([dict(img_a='a.jpg', img_b='b.jpg', label=5)], 'pair 1 has the label 5, which nuScenes_train.json does not'),
    ([dict(img_a='../a.jpg', img_b='b.jpg', label=9)], 'lies outside'),
    ([dict(img_a='samples/1.jpg', img_b='b.jpg', label=9)], "image 2 of 2, 'b.jpg', is not in"),
    ([dict(img_a='a', img_b='b', label=9), dict(img_a='a', img_b='b', label='9')], 'all should be numbers')])
def test_nuscenes_refuses_other_lists(tmp_path, test, says):
    write_nuscenes(tmp_path, PAIRS)
    write_json(tmp_path / 'nuScenes_test.json', test)
    with pytest.raises(DataError, match=says):
        read('NuScenesPairs', tmp_path, split='test')


# THOR

MOVES = dict(train=[('train/1/b', 'LookDown'), ('train/1/a', 'MoveAhead')], val=[('val/2/c', 'RotateRight')])


def test_thor_actions_are_in_the_order_of_the_earlier_system(tmp_path):
    write_thor_egomotion(tmp_path, MOVES)
    train, test = (read('ThorEgomotion', tmp_path, split=split) for split in ('train', 'val'))
    assert train.texts('path') == [f'train/1/{name}_rgb_{view}.jpg' for name in 'ba' for view in 'ab']
    assert train.label_array().tolist() == [4, 4, 0, 0] and test.label_array().tolist() == [2, 2]
    assert list(test.class_names) == ['MoveAhead', 'RotateLeft', 'RotateRight', 'LookUp', 'LookDown']
    assert clip_length(train) == 2 and [brightness(train, row) for row in range(2)] == [0, 100]


@pytest.mark.parametrize('text, says', [
    ('train/1/a Jump\n', r"val_labels.txt:1: action 'Jump'; expected one of MoveAhead"),
    ('\nMoveAhead\n', r"val_labels.txt:2: 'MoveAhead'; expected '<path> <label>'"), ('\n', 'names no images'),
    ('train/1/z LookUp\n', "'train/1/z_rgb_a.jpg', is not in"), ('../x LookUp\n', 'lies outside'),
    ('train/1/a LookUp\ntrain/1/a LookUp\n', "'train/1/a' is listed twice")])
def test_thor_egomotion_refuses_other_lines(tmp_path, text, says):
    write_thor_egomotion(tmp_path, MOVES)
    (tmp_path / 'val_labels.txt').write_text(text)
    with pytest.raises(DataError, match=says):
        read('ThorEgomotion', tmp_path, split='val')


def test_a_pair_that_lacks_its_second_view_is_named(tmp_path):
    write_thor_egomotion(tmp_path, MOVES)
    (tmp_path / 'train/1/a_rgb_b.jpg').unlink()
    with pytest.raises(DataError, match="image 4 of 4, 'train/1/a_rgb_b.jpg', is not in"):
        read('ThorEgomotion', tmp_path, split='train')


STEPS = dict(train=[('train/s/b', 3), ('train/s/a', 0)], val=[('val/t/c', 1)])


def test_thor_steps_are_numbers_up_to_the_largest_of_training(tmp_path):
    write_thor_num_steps(tmp_path, STEPS)
    train, test = (read('ThorNumSteps', tmp_path, split=split) for split in ('train', 'val'))
    assert train.class_names == test.class_names == ['0', '1', '2', '3']
    assert train.texts('path') == ['train/s/a_rgb.jpg', 'train/s/b_rgb.jpg'] and train.label_array().tolist() == [0, 3]
    assert test.label_array().tolist() == [1]


@pytest.mark.parametrize('text, says', [
    ('val/t/c many\n', r"val_labels.txt:1: label 'many'; expected a number of steps"), ('val/t/c -1\n', "label '-1'"),
    ('val/t/c 1.0\n', "label '1.0'"), ('val/t/c 4\n', 'val_labels.txt:1: 4, and the largest number in the train'),
    ('val/t/d 1\n', "'val/t/d_rgb.jpg', is not in"), ('val/t/c 1\nval/t/c 1\n', 'is listed twice')])
def test_thor_steps_refuses_other_lines(tmp_path, text, says):
    write_thor_num_steps(tmp_path, STEPS)
    (tmp_path / 'val_labels.txt').write_text(text)
    with pytest.raises(DataError, match=says):
        read('ThorNumSteps', tmp_path, split='val')


def test_thor_steps_wants_a_line_for_every_image(tmp_path):
    write_thor_num_steps(tmp_path, STEPS)
    write_image(tmp_path / 'val/t/unknown_rgb.jpg')
    write_image(tmp_path / 'val/t/unknown_depth.jpg')
    with pytest.raises(DataError, match="has no line for the image 'val/t/unknown_rgb.jpg'"):
        read('ThorNumSteps', tmp_path, split='val')


def test_a_number_that_would_fill_the_memory_is_refused(tmp_path):
    write_thor_num_steps(tmp_path, dict(STEPS, train=[('train/s/a', 99_999_999)]))
    with pytest.raises(DataError, match='largest number in the training part is 99999999'):
        read('ThorNumSteps', tmp_path, split='val')


# CLEVR

SCENES = dict(train=[('CLEVR_train_000010.png', [(0, 0, 3), (3, 4, 0)]), ('CLEVR_train_000002.png', [(1, 1, 0.5)] * 4)],
              val=[('CLEVR_val_000000.png', [(-0.3, 0.4, 0)])])


def test_clevr_counts_objects_and_matches_scenes_by_file_name(tmp_path):
    """The scenes are not in the order of the file names, and the shorter of two lists of classes is that of 'val'."""
    write_clevr(tmp_path, SCENES)
    train, test = (read('CLEVRScenes', tmp_path, split=split, answer='count') for split in ('train', 'val'))
    assert train.texts('path') == ['images/train/CLEVR_train_000010.png', 'images/train/CLEVR_train_000002.png']
    assert train.label_array().tolist() == [2, 4] and [brightness(train, row) for row in range(2)] == [40, 80]
    assert train.class_names == test.class_names == ['0', '1', '2', '3', '4'] and test.label_array().tolist() == [1]


def test_clevr_distance_is_that_to_the_origin(tmp_path):
    write_clevr(tmp_path, SCENES)
    train, test = (read('CLEVRScenes', tmp_path, split=split, answer='distance') for split in ('train', 'val'))
    expected = [int(2 * min(np.sqrt(np.sum(np.square(place))) for place in places)) for _, places in SCENES['train']]
    assert train.label_array().tolist() == expected == [6, 3] and test.label_array().tolist() == [1]
    assert len(train.class_names) == 7 and train.fingerprint() != test.fingerprint()


@pytest.mark.parametrize('scenes, says', [
    ([('CLEVR_val_000000.png', [(9, 9, 9)])], 'is: 31, and the largest number in the training part is 6'),
    ([('CLEVR_val_000000.png', [])], 'has no objects'), ([('CLEVR_val_000000.png', [(1, 2)])], 'three numbers'),
    ([('CLEVR_val_000000.png', [('a', 1, 2)])], 'three numbers'),
    ([('CLEVR_val_000000.png', [(1e400, 1, 2)])], 'three numbers'),
    ([('CLEVR_val_000000.png', [(1, 1, 1)])] * 2, 'is listed twice'), ([], 'expected {')])
def test_clevr_refuses_other_scenes(tmp_path, scenes, says):
    write_clevr(tmp_path, dict(SCENES, val=scenes))
    with pytest.raises(DataError, match=says):
        read('CLEVRScenes', tmp_path, split='val', answer='distance')


@pytest.mark.parametrize('scene, says', [
    ({'objects': []}, 'scene 0 has no image_filename'),
    ({'image_filename': 'x.png', 'objects': 2}, 'no list of objects'),
    ({'image_filename': '../x.png', 'objects': []}, 'lies outside'), (7, 'scene 0 has no image_filename'),
    ({'image_filename': 'lost.png', 'objects': []}, "'images/val/lost.png', is not in")])
def test_clevr_refuses_a_scene(tmp_path, scene, says):
    write_clevr(tmp_path, SCENES)
    (tmp_path / 'scenes' / 'CLEVR_val_scenes.json').write_text(json.dumps({'scenes': [scene]}))
    with pytest.raises(DataError, match=says):
        read('CLEVRScenes', tmp_path, split='val', answer='count')


# All of them


@pytest.mark.parametrize('kind, options', [
    ('Caltech101', {}), ('CIFAR100Pickles', {}), ('KineticsFrames', {}), ('NuScenesPairs', {}), ('ThorEgomotion', {}),
    ('ThorNumSteps', {}), ('CLEVRScenes', dict(answer='count'))])
def test_an_unknown_split_and_an_absent_folder_are_one_message(tmp_path, kind, options):
    with pytest.raises(ConfigError, match="split is 'dev'; expected 'train' or"):
        read(kind, tmp_path, split='dev', **options)
    with pytest.raises(DataError, match='does not exist'):
        read(kind, tmp_path / 'nowhere', split='train', **options)
    with pytest.raises(DataError):
        read(kind, tmp_path, split='train', **options)
