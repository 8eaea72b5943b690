"""Shipped recipes that move through buckets: killed at every moment, and measured over time.

The data are the demo's digits in JPEG files.
"""

import json
import multiprocessing
import random
import signal
from pathlib import Path

import pytest
from demo_recipes import TIMEOUT_S, assert_same, enter, finish, kill_after_saves, start, stream_recipe
from short_runs import CONFIGS, read_results, run, train

from clear.datasets.make.demo import write_demo
from clear.engine.training.state import load_run

OVER_TIME = 'analysis_tools/representation_over_time'
STREAMS = ['finetune', 'replay', 'distil']


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'demo'
    write_demo(folder, seeds=[0], limit=100)
    return folder


def in_fork(work, *args):
    """The exit code of `work(*args)` in a process that has everything imported."""
    process = multiprocessing.get_context('fork').Process(target=work, args=args)
    process.start()
    process.join(TIMEOUT_S)
    code = process.exitcode
    process.kill()
    return code


def die_in(moment, name):
    """Train on the stream until the moment comes."""
    from clear.engine.streams import pretraining as continual_pretraining
    from clear.engine.training.loops import EpochBasedTrainLoop

    owner, function, call, is_after = {
        'at the first step of a bucket': (EpochBasedTrainLoop, '_train_step', 9, False),
        'inside a bucket': (EpochBasedTrainLoop, '_train_step', 12, True),
        'when a bucket is trained but not listed': (continual_pretraining, 'write_record', 2, False),
        'when a bucket is listed': (continual_pretraining, 'write_record', 2, True)}[moment]
    original, calls = getattr(owner, function), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and not is_after:
            signal.raise_signal(signal.SIGKILL)
        original(*args, **kwargs)
        if len(calls) == call:
            signal.raise_signal(signal.SIGKILL)

    setattr(owner, function, wrapped)
    run('train', name, '--work-dir', 'run')


MOMENTS = {'at the first step of a bucket': (1, {'bucket_1': 8}),
           'inside a bucket': (1, {'bucket_1': 8, 'bucket_2': 2}),
           'when a bucket is trained but not listed': (1, {'bucket_1': 8, 'bucket_2': 8}),
           'when a bucket is listed': (2, {'bucket_1': 8, 'bucket_2': 8})}


@pytest.fixture(scope='module')
def whole_streams(demo, tmp_path_factory):
    """Streams that nobody killed, by mode; trained when they are asked for."""
    folders = {}

    def get(mode):
        if mode not in folders:
            with pytest.MonkeyPatch.context() as monkeypatch:
                folders[mode] = enter(tmp_path_factory.mktemp(mode) / 'whole', demo, monkeypatch)
                train(stream_recipe(mode), '--work-dir', 'run')
        return folders[mode]

    return get


def assert_same_stream(one, other):
    for number in (1, 2, 3):
        assert_same(one / 'run' / f'bucket_{number}', other / 'run' / f'bucket_{number}')
    assert json.loads((one / 'run/stream.json').read_text()) == json.loads((other / 'run/stream.json').read_text())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('moment', MOMENTS)
@pytest.mark.parametrize('mode', STREAMS)
def test_killed_stream_ends_as_if_not(mode, moment, demo, whole_streams, tmp_path, monkeypatch):
    whole = whole_streams(mode)
    here = enter(tmp_path / 'killed', demo, monkeypatch)
    name = stream_recipe(mode)
    assert in_fork(die_in, moment, name) == -signal.SIGKILL
    num_listed, done = MOMENTS[moment]
    assert len(json.loads(Path('run/stream.json').read_text())['buckets']) == num_listed
    assert {path.parent.name: load_run(path)['progress']['iter'] for path in Path('run').glob('*/latest.pth')} == \
        done | ({'bucket_2': 18} if mode == 'replay' and done.get('bucket_2') == 8 else {})
    train(name, '--work-dir', 'run', '--resume')
    assert_same_stream(whole, here)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_stream_of_fresh_processes_feeds_the_representation_over_time(demo, whole_streams, tmp_path,
                                                                             monkeypatch):
    here = enter(tmp_path / 'killed', demo, monkeypatch)
    name = stream_recipe('distil')
    saves = random.randint(1, 3)
    kill_after_saves(start(name, '--work-dir', 'run'), Path('run/bucket_2/latest.pth'), saves, random.uniform(0, 0.05))
    assert not Path('run/bucket_3/latest.pth').exists()
    finish(name, '--work-dir', 'run', '--resume')
    assert_same_stream(whole_streams('distil'), here)
    measured = run(OVER_TIME, CONFIGS / 'probing' / 'representation_over_time_demo.py', '--work-dir', 'measured',
                   '--device', 'cpu', '--cfg-options', 'checkpoints=run', 'encoder.backbone.stem_channels=8',
                   'encoder.backbone.base_channels=8', 'tasks.0.k=5', 'tasks.1.epochs=2', 'banks.root=banks')
    assert measured.code == 0, measured.err
    matrices = read_results('measured')['extras']['matrices']
    assert set(matrices) == {f'{task}/{protocol}' for task in ('KNN', 'LinearProbe')
                             for protocol in ('probe_per_bucket', 'probe_of_own_bucket')}
    rows = matrices['KNN/probe_per_bucket']
    assert [len(row) for row in rows] == [10] * 3, 'an encoder of every bucket, on all ten of the data'
    assert all(0 < value <= 1 for row in rows for value in row)
