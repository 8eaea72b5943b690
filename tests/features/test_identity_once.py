"""A run hashes an encoder's weights once and looks at every image file once, whatever asks for the bank."""

import collections
import os
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from short_runs import run
from tiny_encoder import write_images

from clear.datasets import read_images
from clear.engine.probing.runner import ProbeRunner
from clear.features import FeatureBank, extract
from clear.features.build import make_encoder
from clear.models.towers.image import ImageEncoder

ENCODER = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Counts since it was last cleared: of 'hashes', and of each image file that was asked for its state."""
    monkeypatch.chdir(tmp_path)
    counts, hashed, stat = collections.Counter(), ImageEncoder.fingerprint, os.stat

    def counting_hash(self):
        counts['hashes'] += 1
        return hashed(self)

    def counting_stat(path, *args, **kwargs):
        if str(path).endswith(('.jpg', '.png')):
            counts[Path(path).name if not isinstance(path, int) else path] += 1
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(ImageEncoder, 'fingerprint', counting_hash)
    monkeypatch.setattr(os, 'stat', counting_stat)
    return counts


def once(counts, num_images):
    return counts['hashes'] == 1 and len(counts) == 1 + num_images and set(counts.values()) == {1}


def test_extract_features(counted):
    write_images(Path('images'), count=6)
    Path('features.py').write_text(f"encoder = {ENCODER!r}\ndata = dict(type='ImageFolder', root='images')\n"
                                   'threads = 1\n')
    for _ in range(2):
        counted.clear()
        done = run('extract_features', 'features.py', '--device', 'cpu')
        assert done.code == 0, done.err
        assert counted['hashes'] == 1
    assert once(counted, 6), 'the second run only finds it'
    counted.clear()
    assert run('extract_features', 'features.py', '--dry-run').code == 0 and once(counted, 6)


def test_feature_run(counted):
    write_clear_tree('tree', num_buckets=2)
    Path('run.py').write_text(f"""
scenario = dict(type='CLEAR', data_root='tree', evaluation_protocol='iid', seed=0,
                feature=dict(encoder={ENCODER!r}))
model = dict(head=dict(type='LinearClsHead', num_classes=3, in_channels=512))
cl_strategy = dict(type='Naive', train_mb_size=8, eval_mb_size=8, train_epochs=1, optimizer=dict(type='SGD', lr=0.1))
loggers, metrics, threads, report = [], [], 1, False
""")
    for work_dir in ('made', 'found'):
        counted.clear()
        done = run('train', 'run.py', '--work-dir', work_dir, '--device', 'cpu')
        assert done.code == 0, done.err
        assert counted['hashes'] == 1
    # The reader of the tree tries a few images of every bucket, too.
    assert 24 <= sum(counted.values()) - 1 < 24 + 12


def test_probe(counted):
    for part in ('train', 'test'):
        write_images(Path(part) / part, count=6)
    config = dict(device='cpu', encoders=dict(tiny=ENCODER),
                  tasks=[dict(type='NearestClassMean'), dict(type='KNN', k=1)],
                  data={part: dict(type='ImageFolder', root=f'{part}/{part}') for part in ('train', 'test')})
    ProbeRunner(config, Path('work')).run()
    counted.clear()
    runner = ProbeRunner({**config, 'tasks': [*config['tasks'], dict(type='KNN', k=2, name='other')]}, Path('work'))
    assert runner.resume() == 2
    runner.run()
    assert counted['hashes'] == 1 and [counted[f'{number:03}.png'] for number in range(6)] == [2] * 6, 'two folders'


def test_meta_has_the_config_of_an_encoder_that_was_built_before(tmp_path):
    source = read_images(dict(type='ImageFolder', root=str(write_images(tmp_path / 'images', count=2))))
    bank = extract(make_encoder(ENCODER), source, tmp_path / 'bank')
    assert FeatureBank.open(bank.path).meta['encoder'] == dict(type='TorchvisionEncoder', config=ENCODER)
