"""The reader of `docs/extending.md`, from a folder outside: one type for streams, pretraining, banks and probes."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from doc_pages import python_files
from PIL import Image
from quick_runs import weights_of
from short_runs import read_results, run, without_timing

from clear.features import FeatureBank
from clear.registry import READERS

COMMON = """
custom_imports = dict(imports=['albums', 'ends'])
threads, seed, device = 1, 3, 'cpu'
"""
SCENARIO = COMMON + """
_transform = [dict(type='Grayscale'), dict(type='ToTensor')]
scenario = dict(type='Albums', data_root='photos', seed=1, test_ratio=0.5, train_transform=_transform,
                eval_transform=_transform)
model = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=2, in_channels=120))
cl_strategy = dict(type='Naive', train_mb_size=4, eval_mb_size=8, train_epochs=2, optimizer=dict(type='SGD', lr=0.1))
loggers, metrics = [], []
"""
PRETRAINING = COMMON + """
model = dict(type='MoCo', queue_size=8, backbone=dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='ProjectionMLP', in_channels=32, out_channels=8),
             data_preprocessor=dict(type='ViewPreprocessor', views=dict(type='BatchedMultiCrop', recipe='moco_v2',
                                                                        options=dict(size=16))))
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(type='Albums', data_root='photos', image_size=16))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05))
custom_hooks = [dict(type='EndsAt', iteration=5)]
"""
STREAM = PRETRAINING + "stream = dict(buckets=['2010', 1], mode='replay', replay_size=4)\n"
PROBE = COMMON + """
runner_type = 'ProbeRunner'
encoders = dict(random=dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32)))
tasks = [dict(type='NearestClassMean')]
banks = dict(root='banks')
data = dict(train=dict(type='Albums', data_root='photos', bucket='2010'),
            test=dict(type='Albums', data_root='photos', bucket='2011'))
"""
ENDS = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class EndsAt(Hook):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration and 'ENDS' in os.environ:
            os.kill(os.getpid(), signal.SIGTERM)
"""
YEARS = ('2010', '2011')


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The current folder with the page's reader and photos that it reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'albums.py').write_text(python_files()['albums.py'])
    (tmp_path / 'ends.py').write_text(ENDS)
    draws, albums = np.random.default_rng(0), {}
    for year in reversed(YEARS):
        albums[year] = {}
        for name in ('sea', 'garden'):
            albums[year][name] = [f'{year}-{name}-{number}.png' for number in range(6)]
            for file in albums[year][name]:
                (tmp_path / 'photos').mkdir(exist_ok=True)
                Image.fromarray(draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / 'photos' / file)
    (tmp_path / 'photos' / 'albums.json').write_text(json.dumps(albums))
    yield tmp_path
    READERS.module_dict.pop('Albums', None)
    sys.modules.pop('albums', None)


def started(outside, text, *options, code=0, name='config.py'):
    (outside / name).write_text(text)
    done = run('train', name, *options)
    assert done.code == code, done.err
    return done


def test_a_stream_of_experiences(outside):
    started(outside, SCENARIO, '--work-dir', 'work')
    results = read_results('work')
    assert np.shape(results['acc_matrix']) == (2, 2) and 'in_domain' in results['metrics']
    done = started(outside, SCENARIO.replace('test_ratio', 'test_ration'), '--work-dir', 'other', code=2)
    assert "Albums has no key 'test_ration'. Did you mean 'test_ratio'" in done.err


def test_pretraining_is_stopped_and_resumed(outside, monkeypatch):
    started(outside, PRETRAINING, '--work-dir', 'whole')
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv('ENDS', '1')
    started(outside, PRETRAINING, '--work-dir', 'parts', code=143)
    monkeypatch.delenv('ENDS')
    assert signal.getsignal(signal.SIGTERM) == handler and 'ENDS' not in os.environ
    started(outside, PRETRAINING, '--work-dir', 'parts', '--resume')
    whole, parts = weights_of(outside / 'whole'), weights_of(outside / 'parts')
    assert whole and all((whole[name] == parts[name]).all() for name in whole)
    assert without_timing(read_results('whole')) == without_timing(read_results('parts'))
    # Other photos are other data: a resume says so.
    (outside / 'photos' / '2010-sea-0.png').write_bytes(b'x' * 10)
    done = started(outside, PRETRAINING, '--work-dir', 'parts', '--resume', code=2)
    assert 'was written on other data' in done.err


def test_pretraining_that_moves_through_its_buckets(outside):
    started(outside, STREAM, '--work-dir', 'work')
    stream = json.loads((outside / 'work' / 'stream.json').read_text())
    assert [(each['bucket'], each['num_images']) for each in stream['buckets']] == [('2010', 12), ('2011', 12)]


def test_a_probe_and_its_bank(outside):
    started(outside, PROBE, '--work-dir', 'work')
    bank = FeatureBank.open(next((outside / 'banks').iterdir()))
    assert bank.meta['source'] == 'Albums' and bank.class_names == ['garden', 'sea'] and len(bank) == 24
    assert bank.column('bucket') == ['2010'] * 12 + ['2011'] * 12
    done = started(outside, PROBE.replace("type='Albums'", "type='Album'", 1), '--work-dir', 'other', code=2)
    assert "data.type is 'Album', nearest: 'Albums'" in done.err
