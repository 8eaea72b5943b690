"""Streams of pairs that are killed in the second bucket, without a handler, and go on: every bit as if they were not.

The processes that die are forked from the test's own, which has imported everything.
"""

import argparse
import json
import signal

import pytest
import torch
from demo_recipes import assert_equal
from killed_runs import die_after, run_in_fork
from pair_streams import BUCKETS, by_class, stream_config, write_pairs

from clear.core.files import load_tensors
from clear.engine import base
from clear.engine.streams.program import launch_stream
from clear.engine.training.hooks.continuing import ImportanceHook, WeightInterpolationHook
from clear.engine.training.loops import EpochBasedTrainLoop

EWC = dict(weight=20.0, batch_size=3, num_batches=2)
STREAMS = dict(replay=dict(mode='replay', replay_size=4), ewc=dict(ewc=EWC),
               lwf=dict(mode='distil', distil=dict(logits=1.0)), patching=dict(interpolate=0.5))
OPTIONS = dict(resume=None, overwrite=False, dry_run=False, branch=None, amp=None)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    torch.set_num_threads(1)
    return write_pairs(tmp_path_factory.mktemp('pairs'))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(base, 'start_logs', lambda *args, **options: None)


@pytest.fixture(scope='module')
def whole(root, tmp_path_factory):
    """Folders of streams that nobody killed, by name; trained when they are asked for."""
    folders = {}

    def get(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name) / 'run'
            launch(root, folders[name], name)
        return folders[name]

    return get


def launch(root, folder, name, resume=None):
    cfg = stream_config(by_class(root), folder, **STREAMS[name], evaluation=dict(
        data=dict(test=by_class(root)), tasks=[
            dict(type='ZeroShot', name='zero_shot', templates=['all {}']), dict(type='ImageTextRetrieval', ks=[1, 2])]))
    cfg.train_cfg.max_epochs = 2
    cfg.name = 'stream'
    launch_stream(cfg, argparse.Namespace(**{**OPTIONS, 'resume': resume}))


def die(moment, root, folder, name):
    owner, function, call = {
        # Two iterations of two epochs in the first bucket, two or three of the first epoch in the second.
        'in the second epoch': (EpochBasedTrainLoop, '_train_step', 4 + (4 if name == 'replay' else 3)),
        'at the end': (ImportanceHook if name == 'ewc' else WeightInterpolationHook, 'finish',
                       2 if name == 'ewc' else 1)}[moment]
    calls = []

    def is_time(*_):
        calls.append(1)
        return len(calls) == call

    die_after(owner, function, is_time)
    launch(root, folder, name)


@pytest.mark.slow
@pytest.mark.parametrize('name, moment', [*((name, 'in the second epoch') for name in STREAMS),
                                          ('ewc', 'at the end'), ('patching', 'at the end')])
def test_a_killed_stream_ends_as_one_that_was_not(name, moment, root, whole, tmp_path):
    folder = tmp_path / 'run'
    run_in_fork(die, moment, root, folder, name, code=-signal.SIGKILL)
    left = load_tensors(folder / 'bucket_2021' / 'latest.pth')
    assert left['progress']['epoch'] == 1, 'the second bucket had begun'
    assert len(json.loads((folder / 'stream.json').read_text())['buckets']) == 1
    launch(root, folder, name, resume=True)
    for bucket in BUCKETS:
        one, other = (load_tensors(each / f'bucket_{bucket}' / 'latest.pth') for each in (folder, whole(name)))
        for key in ('state_dict', 'optimizer', 'rng'):
            assert_equal(one[key], other[key], f'{bucket} {key}')
        if name == 'ewc':
            assert_equal(*(load_tensors(each / f'bucket_{bucket}' / 'importance.pth')
                           for each in (folder, whole(name))), bucket)
    one, other = (json.loads((each / 'results.json').read_text()) for each in (folder, whole(name)))
    assert {**one, 'timing': 0} == {**other, 'timing': 0}
    assert len(one['extras']['matrices']) == 2 and None not in sum(one['acc_matrix'], [])
    for file in ('stream.json', 'results.csv'):
        assert (folder / file).read_bytes() == (whole(name) / file).read_bytes(), file
