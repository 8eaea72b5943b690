"""Stream, pretraining, bank and probe see one folder alike: the same files, ids and order of classes."""

import json
import logging

import pytest
from PIL import Image
from tiny_encoder import TinyEncoder

from clear.continual.scenarios import build_scenario
from clear.datasets import read_images
from clear.datasets.loaders.evaluation import read_evaluation_images
from clear.engine.probing.runner import ProbeRunner
from clear.features import FeatureBank, extract
from clear.registry import DATASETS

EXPECTED = {time: [f'{time}/{name}' for name in ('bus/a.png', 'bus/b.PNG', 'bus/c.png', 'cat/1.png', 'cat/2.png',
                                                 'cat/3.png')] for time in ('1', '2')}
READ = [dict(type='Resize', size=8), dict(type='ToTensor')]


@pytest.fixture
def tree(tmp_path):
    """Two times with a hidden file, a hidden folder, a linked class, an empty class and an uppercase suffix."""
    root, elsewhere = tmp_path / 'data', tmp_path / 'elsewhere'
    for time in EXPECTED:
        for name in ('a.png', 'c.png', '.a.png', '.ipynb_checkpoints/a.png'):
            save(root / time / 'bus' / name)
        save(root / time / 'bus' / 'b.PNG')
        for number in (1, 2, 3):
            save(elsewhere / time / f'{number}.png')
        (root / time / 'cat').symlink_to(elsewhere / time)
        (root / time / 'ant').mkdir()
        save(root / time / '.hidden' / 'x.png')
    return root


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(path)


def test_a_folder_by_time_is_one_for_all(tree, tmp_path, caplog):
    cfg = dict(type='FolderByTime', data_root=str(tree))
    files = [path for paths in EXPECTED.values() for path in paths]
    with caplog.at_level(logging.WARNING, 'clear'):
        source = read_images(cfg)
    assert source.texts('id') == source.texts('path') == files and source.class_names == ['bus', 'cat']
    assert source.label_array().tolist() == [0, 0, 0, 1, 1, 1] * 2 and source.buckets() == ['1'] * 6 + ['2'] * 6
    assert "1 classes have no images and are left out: 'ant'" in caplog.text
    pretraining = DATASETS.build(dict(cfg, image_size=8))
    assert list(pretraining.ids) == files and pretraining.class_names == source.class_names
    assert pretraining.labels.tolist() == source.label_array().tolist()
    assert list(pretraining.buckets) == ['1', '2']
    bank = extract(TinyEncoder(), cfg, tmp_path / 'bank')
    assert bank.column('id') == files and bank.class_names == source.class_names and bank.valid.all()
    options = dict(evaluation_protocol='streaming', seed=None)
    images = build_scenario(dict(cfg, train_transform=READ, eval_transform=READ, **options)).info
    assert images.class_names == source.class_names and images.bucket_names == ['1', '2']
    assert [list(bucket.ids) for bucket in images.train] == list(EXPECTED.values())
    features = build_scenario(dict(cfg, feature=dict(bank=str(bank.path)), **options)).info
    assert features.class_names == source.class_names and [len(bucket) for bucket in features.train] == [6, 6]


def test_a_probe_starts_on_the_same_type(tree, tmp_path):
    encoder = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))
    data = dict(type='FolderByTime', data_root=str(tree))
    cfg = dict(device='cpu', encoders=dict(net=encoder), banks=dict(root=str(tmp_path / 'banks')),
               tasks=[dict(type='NearestClassMean')], data=dict(train=data, test=dict(data, bucket='2')))
    ProbeRunner(cfg, tmp_path / 'work').run()
    bank = FeatureBank.open(next((tmp_path / 'banks').iterdir()))
    assert bank.column('id') == [path for paths in EXPECTED.values() for path in paths]
    assert bank.class_names == ['bus', 'cat']
    job, = json.loads((tmp_path / 'work' / 'jobs.json').read_text())['jobs'].values()
    assert (job['result']['extras']['n_train'], job['result']['extras']['n_test']) == (12, 6)


def test_a_bank_of_a_folder_by_time_is_the_scenario_s_own_in_whatever_order_of_names(tmp_path):
    for name in ('1/bus/a-b/2.png', '1/bus/a/2.png', '1/bus/3.png', '1/bus-2/1.png', '2/bus/1.png', '2/bus-2/1.png'):
        save(tmp_path / 'data' / name)
    bank = extract(TinyEncoder(), dict(type='FolderByTime', data_root=str(tmp_path / 'data')), tmp_path / 'bank')
    info = build_scenario(dict(type='FolderByTime', data_root=str(tmp_path / 'data'), seed=None,
                               evaluation_protocol='streaming', feature=dict(bank=str(bank.path)))).info
    assert [len(bucket) for bucket in info.train] == [4, 2]


def test_class_folders_are_one_for_all(tree, tmp_path, caplog):
    cfg = dict(type='ImageFolder', root=str(tree / '1'))
    files = [path.removeprefix('1/') for path in EXPECTED['1']]
    with caplog.at_level(logging.WARNING, 'clear'):
        source = read_images(cfg)
        pretraining = DATASETS.build(dict(cfg, image_size=8))
    assert source.texts('id') == source.texts('path') == files and source.class_names == ['bus', 'cat']
    assert source.label_array().tolist() == [0, 0, 0, 1, 1, 1]
    assert list(pretraining.ids) == list(pretraining.paths) == files and pretraining.class_names == ['bus', 'cat']
    assert list(pretraining.labels) == [0, 0, 0, 1, 1, 1]
    assert caplog.text.count("1 classes have no images and are left out: 'ant'") == 2
    bank = extract(TinyEncoder(), cfg, tmp_path / 'bank')
    assert bank.column('id') == files and bank.class_names == ['bus', 'cat'] and bank.valid.all()
    evaluated = read_evaluation_images(tree / '1', 8)
    assert evaluated.ids == files and evaluated.class_names == ['bus', 'cat'] and not evaluated.bad
