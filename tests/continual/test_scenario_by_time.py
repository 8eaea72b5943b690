"""`FolderByTime` and `TableByTime` as benchmarks: images, features, and a run from a config."""

import numpy as np
import pytest
import torch
from PIL import Image

from clear.continual.scenarios import TensorBucket, build_scenario
from clear.core.errors import ConfigError
from clear.datasets import BucketDataset
from clear.datasets.readers.by_time import SplitOptions, read_folder_by_time
from clear.engine.continual.runner import ContinualRunner

TO_TENSOR = [dict(type='ToTensor')]
GREY = [dict(type='Grayscale'), dict(type='ToTensor')]
ENCODER = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Two years of two classes, whose images differ in brightness, and the same as a table."""
    root = tmp_path_factory.mktemp('by_time')
    rng = np.random.default_rng(0)
    lines = ['path,label,timestamp']
    for year in (2010, 2009):
        for label, name in enumerate(('dark', 'light')):
            for number in range(10):
                path = f'{year}/{name}/{number}.png'
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                pixels = 150 * label + rng.integers(0, 80, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(root / path)
                lines.append(f'{path},{name},{year}-03-{number + 1:02}')
    (root / 'photos.csv').write_text('\n'.join(lines))
    return root


def benchmarks(root, **options):
    return [build_scenario(dict(cfg, **options)) for cfg in (
        dict(type='FolderByTime', data_root=str(root)),
        dict(type='TableByTime', table=str(root / 'photos.csv'), freq='year'))]


def test_folder_and_table_hold_the_same_stream(root):
    for benchmark in benchmarks(root, train_transform=GREY, eval_transform=TO_TENSOR):
        info = benchmark.info
        assert (info.bucket_names, info.class_names, info.protocol) == (['2009', '2010'], ['dark', 'light'], 'iid')
        assert [len(dataset) for dataset in info.train + info.test] == [14, 14, 6, 6]
        assert [experience.task_labels for experience in benchmark.train_stream] == [[0], [1]]
        assert all(isinstance(dataset, BucketDataset) for dataset in info.train + info.test)
        assert info.train[0][0][0].shape == (1, 32, 32)
        pixels, target = info.test[1][0]
        path = info.test[1].paths[0]
        np.testing.assert_allclose(pixels.permute(1, 2, 0) * 255, np.asarray(Image.open(root / path)), atol=1e-3)
        assert info.class_names[target] == path.split('/')[1]


@pytest.mark.parametrize('kind', ['folder', 'table'])
def test_buckets_without_a_common_class_are_a_class_incremental_stream(tmp_path, kind):
    lines = ['path,label,timestamp']
    for year, names in (('2009', 'ab'), ('2010', 'cd')):
        for name in names:
            for number in range(4):
                path = f'{year}/{name}/{number}.png'
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                Image.new('L', (4, 4)).save(tmp_path / path)
                lines.append(f'{path},{name},{year}')
    (tmp_path / 'photos.csv').write_text('\n'.join(lines))
    options = dict(train_transform=TO_TENSOR, eval_transform=TO_TENSOR)
    place = dict(type='FolderByTime', data_root=str(tmp_path)) if kind == 'folder' else \
        dict(type='TableByTime', table=str(tmp_path / 'photos.csv'), freq='year')
    benchmark = build_scenario(dict(place, **options))
    assert benchmark.info.protocol == 'class-incremental' and benchmark.classes_order == [0, 1, 2, 3]
    # A stream that is tested on what it trains on stays one.
    streaming = build_scenario(dict(place, evaluation_protocol='streaming', **options))
    assert streaming.info.protocol == 'streaming'


def test_options_are_those_of_clear(root, tmp_path):
    bad = tmp_path / 'tree'
    for path in root.rglob('*.png'):
        (bad / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        (bad / path.relative_to(root)).write_bytes(path.read_bytes())
    lost = read_folder_by_time(bad, SplitOptions()).test[0].paths[0]
    (bad / lost).write_bytes(b'')
    info = build_scenario(dict(type='FolderByTime', data_root=str(bad), cache='ram', decoder='cv2',
                               max_bad_fraction=0.2, train_transform=TO_TENSOR, eval_transform=TO_TENSOR),
                          tmp_path / 'run').info
    assert all(isinstance(dataset, TensorBucket) for dataset in info.train + info.test)
    assert [len(dataset) for dataset in info.test] == [5, 6]
    assert lost in (tmp_path / 'run' / 'bad_samples.jsonl').read_text()
    with pytest.raises(ConfigError, match='scenario.train_transform is needed'):
        build_scenario(dict(type='FolderByTime', data_root=str(root)))
    with pytest.raises(ConfigError, match="scenario.cache is 'disc'"):
        build_scenario(dict(type='FolderByTime', data_root=str(root), cache='disc'))


def test_streaming_and_shots(root):
    options = dict(train_transform=TO_TENSOR, eval_transform=TO_TENSOR)
    for benchmark in benchmarks(root, evaluation_protocol='streaming', **options):
        assert benchmark.info.protocol == 'streaming'
        assert [len(dataset) for dataset in benchmark.info.train + benchmark.info.test] == [20] * 4
    for benchmark in benchmarks(root, shot=3, seed=5, **options):
        assert [len(dataset) for dataset in benchmark.info.train + benchmark.info.test] == [6, 6, 14, 14]


def test_one_bank_of_features_serves_every_split(root, tmp_path):
    torch.manual_seed(0)
    feature = dict(encoder=ENCODER, root=str(tmp_path / 'banks'), dtype='float32')
    folder = dict(type='FolderByTime', data_root=str(root), feature=feature)
    first, second = (build_scenario(dict(folder, seed=seed)).info for seed in (0, 1))
    assert len(list((tmp_path / 'banks').rglob('features.npy'))) == 1
    assert first.fingerprint != second.fingerprint
    # The same images, whichever part they are in.
    for one, other in zip(zip(first.train, first.test), zip(second.train, second.test)):
        rows = [sorted(map(tuple, torch.cat([part.inputs for part in pair]).tolist())) for pair in (one, other)]
        assert rows[0] == rows[1] and len(rows[0]) == 20
    path = read_folder_by_time(root, SplitOptions()).test[0].paths[2]
    assert first.test[0].targets[2] == ['dark', 'light'].index(path.split('/')[1])


def test_a_run_from_a_config(root):
    cfg = dict(
        scenario=dict(type='TableByTime', table=str(root / 'photos.csv'), num_buckets=2, cache='ram',
                      train_transform=GREY, eval_transform=GREY),
        model=dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                   head=dict(type='LinearClsHead', num_classes=2, in_channels=120)),
        cl_strategy=dict(type='Naive', train_mb_size=7, train_epochs=20,
                         optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        loggers=[], metrics=[], device='cpu')
    runner = ContinualRunner(cfg)
    runner.build()
    results = runner.train()
    assert results.protocol == 'clear/iid/v1' and results.metrics['in_domain'] > 0.9  # dark and light
