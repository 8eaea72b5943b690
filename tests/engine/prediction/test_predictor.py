"""Files to classes, in Python and by `tools/predict.py`: which files, what is written, the accuracy of `test.py`."""

import csv
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from PIL import Image
from short_runs import FEATURE_CONFIG, IMAGE_CONFIG, listed, run, train, write_config
from tiny_encoder import write_images
from toy_runs import TOY

import clear
from clear.core.config import load_config
from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.engine.prediction.class_names import class_names_of
from clear.engine.prediction.inputs import find_files
from clear.features import FeatureBank
from clear.registry import MODELS

ENCODER = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))
ON_ENCODER = """
scenario = dict(type='CLEAR', data_root={root!r}, feature=dict(
    encoder=dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32)), root='banks'))
model = dict(head=dict(type='LinearClsHead', num_classes=3, in_channels=512))
cl_strategy = dict(type='Naive', train_mb_size=8, eval_mb_size=8, train_epochs=2, optimizer=dict(type='SGD', lr=0.01))
loggers, metrics, threads = [], [], 1
"""

CLASSIFIER = """
device = 'cpu'
model = dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
             data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120., 90., 60.], std=[60.] * 3, to_rgb=True,
                                    num_classes=3))
test_dataloader = dict(batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='CustomDataset', data_root={root!r}, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=36, edge='short'),
        dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]))
test_cfg, test_evaluator = dict(), dict(type='Accuracy', topk=(1,))
"""


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'images', per_class=10, num_buckets=2, image_size=32,
                            features=8)


@pytest.fixture(scope='module')
def place(tree, tmp_path_factory):
    """A trained run on images."""
    folder = tmp_path_factory.mktemp('place')
    write_config(folder / 'config.py', IMAGE_CONFIG, tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train('config.py', '--work-dir', 'run', '--cfg-options', 'cl_strategy.train_epochs=3')
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def of_bucket(tree, bucket='2'):
    """Paths of its test images, and the names of their classes."""
    paths = listed(tree, bucket, 'test')
    return [str(tree / path) for path in paths], [path.split('/')[2] for path in paths]


def accuracy_of(predictions, names):
    return sum(each.label == name for each, name in zip(predictions, names, strict=True)) / len(names)


def write_lists(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_are_found_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lists(tmp_path, 'd/b/2.jpg', 'd/b/10.png', 'd/a/1.JPG', 'd/.hidden/3.jpg', 'd/notes.txt', 'one.jpg',
                '[x].jpg', 'f/1.npy', 'f/0.npy', 'f/x.jpg')
    assert find_files(['one.jpg', 'd']) == ['one.jpg', 'd/a/1.JPG', 'd/b/10.png', 'd/b/2.jpg']
    assert find_files(['d/b/2.jpg', 'd/*/*.jpg', 'd']) == ['d/b/2.jpg', 'd/a/1.JPG', 'd/b/10.png']
    assert find_files(['d/**/*.png', 'd/?']) == ['d/b/10.png', 'd/a/1.JPG', 'd/b/2.jpg']
    assert find_files(['[x].jpg']) == ['[x].jpg'] and find_files(['[o]ne.jpg']) == ['one.jpg']
    assert find_files(['f'], reads_features=True) == ['f/0.npy', 'f/1.npy']
    for places, words in [(['gone.jpg', 'x*.jpg', 'one.jpg'], 'No such image: gone.jpg, x\\*.jpg.'),
                          (['e'], 'e holds no images')]:
        (tmp_path / 'e').mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=words):
            find_files(places)


def test_the_accuracy_is_that_of_test(here, tree):
    run('test', 'config.py', 'run/latest.pth', '--out', 'accuracy.json')
    expected = json.loads(Path('accuracy.json').read_text())['accuracy']
    predictor = clear.Predictor('config.py', 'run/latest.pth')
    for bucket in ('1', '2'):
        paths, names = of_bucket(tree, bucket)
        found = predictor(paths)
        assert accuracy_of(found, names) == expected[bucket]
        assert [each.path for each in found] == paths


def test_tables_are_what_python_says(here, tree):
    folder = tree / 'labeled_images' / '1'
    for name in ('out.csv', 'out.json'):
        finished = run('predict', 'config.py', 'run/latest.pth', folder, '--out', name, '--top', 2, '--batch-size', 7)
        assert finished.code == 0 and finished.out == f'30 predictions  {name}\n', finished.err
    found = clear.Predictor('config.py', 'run/latest.pth', batch_size=4)(folder, top=2)
    rows = list(csv.DictReader(Path('out.csv').read_text().splitlines()))
    entries = json.loads(Path('out.json').read_text())
    assert list(rows[0]) == ['path', 'class_1', 'probability_1', 'class_2', 'probability_2']
    assert [row['path'] for row in rows] == [entry['path'] for entry in entries] == [each.path for each in found]
    for row, entry, each in zip(rows, entries, found):
        assert [row['class_1'], row['class_2']] == entry['classes'] == each.labels
        assert float(row['probability_1']) == entry['probabilities'][0] == pytest.approx(each.score, abs=1e-6)
    assert found.table().records()[0]['class_1'] == rows[0]['class_1']
    shown = found._repr_html_()
    assert shown.count('<img') == 30 and '<script' not in shown and found[0].path in repr(found)


def test_unreadable_files_are_left_out_listed_and_counted(here, tree, tmp_path):
    paths, _ = of_bucket(tree)
    for number, path in enumerate(paths):
        shutil.copy(path, tmp_path / f'{number}.jpg')
    (tmp_path / '3.jpg').write_text('no image')
    refused = run('predict', 'config.py', 'run/latest.pth', tmp_path, '--out', 'bad.csv')
    assert refused.code == 2 and '1 of 9 files cannot be read' in refused.err and '3.jpg' in refused.err
    assert not list(Path().glob('*bad.csv*')) and not list(Path().glob('.bad*'))
    finished = run('predict', 'config.py', 'run/latest.pth', tmp_path, '--out', 'bad.csv', '--max-bad-fraction', 0.2)
    assert finished.code == 0 and '1 of 9 files cannot be read and are left out' in finished.out
    assert len(Path('bad.csv').read_text().splitlines()) == 9
    predictor = clear.Predictor('config.py', 'run/latest.pth', max_bad_fraction=0.2)
    found, beside_others = predictor(tmp_path), predictor([Image.open(paths[0]), tmp_path])
    assert len(found) == 8 and list(found.unreadable) == [str(tmp_path / '3.jpg')]
    assert len(beside_others) == 9 and beside_others.unreadable == found.unreadable
    nothing = run('predict', 'config.py', 'run/latest.pth', tmp_path / '3.jpg', '--max-bad-fraction', 1)
    assert nothing.code == 2 and 'None of 1 files' in nothing.err
    odd = run('predict', 'config.py', 'run/latest.pth', tmp_path, '--out', 'x.txt')
    assert odd.code == 2 and '.csv' in odd.err


@pytest.mark.slow
def test_images_in_memory_are_classified_as_their_files(here, tree):
    paths, _ = of_bucket(tree)
    predictor = clear.Predictor('config.py', 'run/latest.pth')
    expected = predictor(paths[0], top=3)[0]
    image = Image.open(paths[0])
    sample = predictor.classifier.reader.prepare(image.convert('RGB'))
    for given in (image, np.asarray(image.convert('RGB')), sample, sample[None], Path(paths[0])):
        [each] = predictor(given)
        assert each.labels == expected.labels and each.scores == pytest.approx(expected.scores, abs=1e-6)
    assert [each.label for each in predictor([image, paths[1]])] == [each.label for each in predictor(paths[:2])]
    assert '<img' in predictor(image)._repr_html_() and predictor(image)[0].path is None
    for given, says in ((3, '3 is no path'), (np.zeros((3, 8, 8), np.uint8), r'shape \(3, 8, 8\) and uint8 is no path'),
                        (np.zeros((8, 8), np.uint8), r'shape \(8, 8\) and uint8 is no path')):
        with pytest.raises(ConfigError, match=says):
            predictor(given)
    with pytest.raises(DataError, match='no finite probabilities'):
        predictor(torch.full_like(sample, float('nan')))
    with pytest.raises(ConfigError, match='cannot take an input of shape'):
        predictor(torch.zeros(5, 8))


@pytest.mark.slow
def test_threads_ask_one_after_the_other(here, tree):
    predictor = clear.Predictor('config.py', 'run/latest.pth')
    paths, _ = of_bucket(tree)
    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(lambda path: predictor(path)[0].scores, paths)]
    assert found == [predictor(path)[0].scores for path in paths]


def test_processes_that_read_files_give_the_same(here, tree):
    path = of_bucket(tree)[0][0]
    alone, helped = (run('predict', 'config.py', 'run/latest.pth', path, tree / 'labeled_images' / '1', '--cfg-options',
                         f'num_workers={count}') for count in (0, 1))
    assert alone.code == helped.code == 0 and alone.out == helped.out and len(alone.out.splitlines()) == 31


def test_asking_leaves_the_random_states_alone(here, tree):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    clear.Predictor('config.py', 'run/latest.pth')(of_bucket(tree)[0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_run_on_features_takes_images_through_its_encoder(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config('config.py', ON_ENCODER, tree)
    train('config.py', '--work-dir', 'run')
    run('test', 'config.py', 'run/latest.pth', '--out', 'accuracy.json')
    expected = json.loads(Path('accuracy.json').read_text())['accuracy']['2']
    paths, names = of_bucket(tree)
    [bank] = map(FeatureBank.open, Path('banks').iterdir())
    rows = bank.rows_of(listed(tree, '2', 'test'))
    np.save('one.npy', np.array(bank.features[rows[0]]))
    np.save('all.npy', np.array(bank.features[rows]))
    encoder = clear.Predictor('config.py', 'run/latest.pth')
    of_bank = clear.Predictor('config.py', 'run/latest.pth', scenario=dict(feature=dict(
        _delete_=True, bank=str(bank.path))))
    for predictor in (encoder, of_bank):
        found = predictor(paths)
        assert accuracy_of(found, names) == expected
        features = predictor('all.npy')
        assert [each.label for each in features] == [each.label for each in found]
        assert features[3].path == 'all.npy[3]' and predictor('one.npy')[0].path == 'one.npy'
        assert features[0].scores == pytest.approx(found[0].scores, abs=1e-5)
    finished = run('predict', 'config.py', 'run/latest.pth', 'all.npy', paths[0], '--top', 1)
    assert finished.code == 0 and len(finished.out.splitlines()) == len(paths) + 1


def test_stored_features_are_read_and_images_refused(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config('config.py', FEATURE_CONFIG, tree)
    train('config.py', '--work-dir', 'run')
    np.save('x.npy', np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32))
    predictor = clear.Predictor('config.py', 'run/latest.pth')
    assert len(predictor('.')) == 3 and len(predictor(np.load('x.npy'))) == 3
    with pytest.raises(ConfigError, match="feature_type='moco_b0'"):
        predictor(of_bucket(tree)[0][0])
    np.save('text.npy', np.array(['a']))
    np.save('nan.npy', np.full(8, np.nan, np.float32))
    for name in ('text.npy', 'nan.npy'):
        with pytest.raises(DataError, match='cannot be read as features'):
            predictor(name)


def test_an_ordinary_classifier_is_asked_as_test_asks_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_images(tmp_path / 'images', count=24, size=40, classes=('a', 'b', 'c'))
    write_config('config.py', CLASSIFIER, root)
    cfg = load_config('config.py')[0]
    torch.manual_seed(2)
    model = MODELS.build(cfg.model.to_dict())
    torch.save(model.state_dict(), 'weights.pth')
    finished = run('test', 'config.py', 'weights.pth', '--out', 'accuracy.json')
    assert finished.code == 0, finished.err
    expected = json.loads(Path('accuracy.json').read_text())['metrics']['accuracy/top1']
    predictor = clear.Predictor('config.py', 'weights.pth')
    found = predictor('images')
    assert {each.label for each in found} <= {'a', 'b', 'c'} and len(found) == 24
    assert 100 * accuracy_of(found, [each.path.split('/')[1] for each in found]) == pytest.approx(expected)
    assert predictor(Image.open('images/a/000.png'))[0].scores == pytest.approx(found[0].scores, abs=1e-5)
    Path('images/class_names.txt').write_text('c\nb\na\n')  # a folder of classes has an order of its own
    again = clear.Predictor('config.py', 'weights.pth')('images')
    assert [each.label for each in again] == [each.label for each in found]
    Path('images/a/000.png').write_text('no image')
    with pytest.raises(DataError, match='1 of 24 files'):
        predictor('images')
    shutil.rmtree('images')
    assert clear.Predictor('config.py', 'weights.pth')(np.zeros((40, 40, 3), np.uint8))[0].label in ('0', '1', '2')


def test_models_without_classes_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clear.train(TOY, work_dir='run')
    Image.new('RGB', (4, 4)).save('x.png')
    Path('toy.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in TOY.items()))
    finished = run('predict', 'toy.py', 'run/latest.pth', 'x.png')
    assert finished.code == 2 and 'ToyPairs has no classes' in finished.err and 'docs/probing.md' in finished.err
    with pytest.raises(ConfigError, match='one head'):
        clear.Predictor(TOY, 'run/latest.pth', task=1)


def test_another_checkpoint_is_refused(here, tmp_path):
    torch.save(dict(format=1, state_dict=dict(x=torch.zeros(2))), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='another model'):
        clear.Predictor('config.py', tmp_path / 'x.pth')
    with pytest.raises(ConfigError, match='one head'):
        clear.Predictor('config.py', 'run/latest.pth', task=1)


def test_names_of_a_run_on_features_are_those_of_its_data(tmp_path):
    for name in ('1', '2', '10'):
        write_images(tmp_path / 'data' / '2010', count=2, size=8, classes=(name,))
        write_images(tmp_path / 'data' / '2011', count=2, size=8, classes=(name,))
    scenario = dict(type='FolderByTime', data_root=str(tmp_path / 'data'), feature=dict(encoder=ENCODER))
    assert class_names_of(dict(scenario=scenario), tmp_path / 'latest.pth', 3) == ['1', '10', '2']


def test_a_head_for_each_task_is_asked_by_its_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = 'demo/naive_lenet5_task-digits.py'
    run_dir = clear.train(config, work_dir='run', max_iters_per_experience=1).work_dir
    digits = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    first, second = (clear.Predictor(config, run_dir / 'latest.pth', task=task)(digits, top=10) for task in (0, 1))
    assert [each.labels for each in first] != [each.labels for each in second] and len(first) == 5
    with pytest.raises(ConfigError, match='has a head for each task'):
        clear.Predictor(config, run_dir / 'latest.pth')
    Image.new('RGB', (8, 8)).save('x.png')
    with pytest.raises(ConfigError, match='eval_transform'):
        clear.Predictor(config, run_dir / 'latest.pth', task=1)('x.png')
