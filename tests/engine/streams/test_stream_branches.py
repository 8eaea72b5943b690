"""Beginning a stream where another one has finished a bucket."""

import argparse
import copy
import logging
import shutil

import pytest
import torch
from pair_streams import BUCKETS, by_class, stream_config, write_pairs
from short_runs import read_results

from clear.core.errors import CheckpointError, ConfigError, Interrupted
from clear.core.files import load_tensors, read_json, save_tensors, write_json
from clear.engine import base
from clear.engine.streams.branch import find_branch
from clear.engine.streams.pretraining import describe_stream, read_stream_images, read_stream_options, train_stream
from clear.engine.streams.program import launch_stream
from clear.engine.training.keys import check_runner_config
from clear.engine.training.runner import Runner

TASKS = [dict(type='ZeroShot', name='zero_shot', templates=['all {}'])]
EWC = dict(weight=10.0, batch_size=3, num_batches=2)
OPTIONS = dict(resume=None, overwrite=False, dry_run=False, branch=None, amp=None)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(base, 'start_logs', lambda *args, **options: None)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    torch.set_num_threads(1)
    return write_pairs(tmp_path_factory.mktemp('pairs'))


def config(root, folder, **stream):
    return stream_config(by_class(root), folder, **dict(
        evaluation=dict(data=dict(test=by_class(root)), tasks=TASKS)) | stream)


@pytest.fixture(scope='module')
def origin(root, tmp_path_factory):
    """A finished run of fine-tuning that also noted what mattered."""
    folder = tmp_path_factory.mktemp('origin')
    train_stream(config(root, folder, ewc=EWC), folder, run_to())
    return folder


def run_to(stops=None):
    def run(one, folder, resume):
        check_runner_config(one)
        folder.mkdir(parents=True, exist_ok=True)
        runner = Runner.from_cfg(one)
        runner.build()
        runner.stop_requested = folder.name == stops and not resume
        runner.train(resume=resume)

    return run


def launch(cfg, **options):
    launch_stream(cfg, argparse.Namespace(**{**OPTIONS, **options}))


def weights(folder, bucket):
    return load_tensors(folder / f'bucket_{bucket}' / 'latest.pth')['state_dict']


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_it_goes_on_from_there_with_the_method_of_its_own_config(root, origin, tmp_path):
    """Against ordinary runs, one after another, of configs that are written out here."""
    launch(config(root, tmp_path / 'run', mode='replay', replay_size='all'),
           branch=str(origin / 'bucket_2020' / 'latest.pth'))
    before = origin / 'bucket_2020' / 'latest.pth'
    for position, name in enumerate(BUCKETS[1:], 1):
        by_hand = stream_config(dict(type='StreamPart', images=by_class(root), buckets=[*BUCKETS[:position + 1]]),
                                tmp_path / 'hand' / name)
        by_hand.pop('stream')
        by_hand.load_from = str(before)
        runner = Runner.from_cfg(by_hand)
        runner.train()
        before = tmp_path / 'hand' / name / 'latest.pth'
        same(weights(tmp_path / 'run', name), load_tensors(before)['state_dict'])
    assert not (tmp_path / 'run' / 'bucket_2020' / 'results.json').exists(), 'it has trained that bucket not again'
    found, first = read_results(tmp_path / 'run'), read_results(origin)
    assert found['acc_matrix'][0] == first['acc_matrix'][0] and len(found['acc_matrix']) == 3
    assert found['extras']['branched_from'] == read_json(tmp_path / 'run' / 'stream.json')['branched_from'] == dict(
        checkpoint='bucket_2020/latest.pth', config_hash=load_tensors(origin / 'bucket_2020/latest.pth')['config_hash'],
        buckets=1, changes=[f'stream.ewc: {EWC} -> None', "stream.mode: 'finetune' -> 'replay'",
                            "stream.replay_size: None -> 'all'"])


@pytest.mark.parametrize('finished', [pytest.param(1, marks=pytest.mark.slow), 2])
def test_without_changes_it_ends_as_the_other_run(finished, root, origin, tmp_path):
    launch(config(root, tmp_path, ewc=EWC), branch=str(origin / f'bucket_{BUCKETS[finished - 1]}' / 'latest.pth'))
    for name in BUCKETS[finished - 1:]:
        same(weights(tmp_path, name), weights(origin, name))
        same(*(load_tensors(folder / f'bucket_{name}' / 'importance.pth') for folder in (tmp_path, origin)))
    found, expected = read_results(tmp_path), read_results(origin)
    assert found['extras'].pop('branched_from')['changes'] == []
    assert {**found, 'timing': 0, 'name': 0} == {**expected, 'timing': 0, 'name': 0}
    assert not (tmp_path / f'bucket_{BUCKETS[finished - 2]}').exists() or finished == 1
    follower = tmp_path / 'follower'  # of a branch
    launch(config(root, follower, ewc=EWC), branch=str(tmp_path / 'bucket_2021' / 'latest.pth'))
    same(weights(follower, '2022'), weights(origin, '2022'))


def test_other_keys_are_named(root, origin, tmp_path):
    cfg = config(root, tmp_path, ewc=dict(EWC, weight=2.0))
    cfg.optim_wrapper.optimizer.lr = 0.0
    launch(cfg, branch=str(origin / 'bucket_2021' / 'latest.pth'))
    same(weights(tmp_path, '2022'), weights(origin, '2021'))
    assert read_results(tmp_path)['extras']['branched_from']['changes'] == [
        'stream.ewc.weight: 10.0 -> 2.0', 'optim_wrapper.optimizer.lr: 0.002 -> 0.0']


@pytest.mark.slow
def test_a_branch_that_was_stopped_ends_as_one_that_was_not(root, origin, tmp_path):
    lost = tmp_path / 'lost'
    shutil.copytree(origin, lost)
    kept = dict(mode='distil', distil=dict(logits=1.0, features=0.5), interpolate=0.5, ewc=EWC)
    cfg, path = config(root, tmp_path / 'whole', **kept), lost / 'bucket_2020' / 'latest.pth'
    launch(cfg, branch=str(path))
    other, stream = config(root, tmp_path / 'run', **kept), read_stream_options(cfg)
    branch = find_branch(path, other, stream, read_stream_images(cfg, stream), tmp_path / 'run')
    with pytest.raises(Interrupted):
        train_stream(other, tmp_path / 'run', run_to('bucket_2021'), branch=branch)
    with pytest.raises(ConfigError, match='--resume'):
        launch(other, branch=str(path))
    shutil.rmtree(lost)  # a branch has all that it needs
    launch(other, resume=True)
    for name in BUCKETS[1:]:
        same(weights(tmp_path / 'run', name), weights(tmp_path / 'whole', name))
    found, expected = (read_results(tmp_path / each) for each in ('run', 'whole'))
    assert {**found, 'timing': 0, 'name': 0} == {**expected, 'timing': 0, 'name': 0}


def test_a_branch_that_could_not_begin_leaves_no_run(root, origin, tmp_path):
    path = tmp_path / 'other' / 'bucket_2020' / 'latest.pth'
    shutil.copytree(origin, tmp_path / 'other')
    saved = load_tensors(path)
    saved['state_dict'] = {name: value[..., :1] if value.ndim else value
                           for name, value in saved['state_dict'].items()}
    save_tensors(path, saved)
    cfg = config(root, tmp_path / 'run', ewc=EWC)
    with pytest.raises(CheckpointError, match='is no checkpoint of this model'):
        launch(cfg, branch=str(path))
    launch(cfg, branch=str(origin / 'bucket_2021' / 'latest.pth'))
    same(weights(tmp_path / 'run', '2022'), weights(origin, '2022'))
    assert not (tmp_path / 'run' / 'bucket_2020' / 'latest.pth').exists()


def test_a_dry_run_says_where_it_would_begin(root, origin, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, 'clear')
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    launch(config(root, tmp_path / 'run', ewc=EWC), branch=str(origin / 'bucket_2021' / 'latest.pth'), dry_run=True)
    assert '2 of 3 buckets finished' in caplog.text and '6 samples' in caplog.text
    assert 'ewc weight 10.0 batch_size 3 num_batches 2' in caplog.text
    assert 'measured  zero_shot, on every bucket after each' in caplog.text and 'none are taken over' not in caplog.text
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('options, words', [
    (dict(interpolate=0.25), 'ends with 0.25 of the new weights, 0.75 of those before'),
    (dict(mode='distil', distil=dict(logits=2.0)), 'distil logits 2.0'),
    (dict(start='first'), 'none are taken over, also of a branch')])
def test_the_plan_says_what_is_kept(options, words, root, tmp_path):
    cfg = stream_config(by_class(root), tmp_path, **options)
    stream = read_stream_options(cfg)
    text = describe_stream(read_stream_images(cfg, stream), stream)
    assert words in text and 'measured' not in text


def test_what_no_branch_can_begin_from_is_refused(root, origin, tmp_path):
    unfinished = tmp_path / 'unfinished'
    with pytest.raises(Interrupted):
        train_stream(config(root, unfinished), unfinished, run_to('bucket_2021'))
    alone = tmp_path / 'alone' / 'bucket_2020'
    shutil.copytree(origin / 'bucket_2020', alone)
    fewer = write_pairs(tmp_path / 'fewer', per_colour=3)
    damaged = tmp_path / 'damaged'
    shutil.copytree(origin, damaged)
    (damaged / 'bucket_2020' / 'latest.pth').write_bytes(b'nothing')
    older = tmp_path / 'older'
    shutil.copytree(origin, older)
    stored = read_json(older / 'stream.json')
    write_json(older / 'stream.json', dict(stored, stream=dict(stored['stream'], sort='x')))
    work_dir = tmp_path / 'new'
    for folder, cfg, error, expected in [
            (origin / 'bucket_2019', config(root, work_dir), CheckpointError, 'bucket_2019/latest.pth does not exist'),
            (alone, config(root, work_dir), CheckpointError, 'of no stream over buckets.*load_from'),
            (unfinished / 'bucket_2021', config(root, work_dir), CheckpointError,
             'not what a finished bucket has left; branch from .*unfinished/bucket_2020/latest.pth'),
            (origin / 'bucket_2022', config(root, work_dir), CheckpointError,
             'nothing is left to train. Branch from an earlier checkpoint, e.g. .*bucket_2021'),
            (origin / 'bucket_2020', config(fewer, work_dir), CheckpointError,
             r'other data: on buckets 2020 \(6 images\); this stream has 2020 \(9 images\), 2021'),
            (origin / 'bucket_2020', config(root, origin), ConfigError, 'another folder with --work-dir'),
            (origin / 'bucket_2020', config(root, work_dir, evaluation=dict(
                data=dict(test=by_class(root)), tasks=[dict(TASKS[0], templates=['{}'])])), ConfigError,
             'stand in one matrix'),
            (unfinished / 'bucket_2020', config(root, work_dir, ewc=EWC), CheckpointError,
             'has no importance.pth: branch from a run that has stream.ewc'),
            (damaged / 'bucket_2020', config(root, work_dir), CheckpointError, 'latest.pth'),
            (older / 'bucket_2020', config(root, work_dir), Exception, 'does not hold the options of a stream')]:
        with pytest.raises(error, match=expected):
            launch(copy.deepcopy(cfg), branch=str(folder / 'latest.pth'))
    assert not work_dir.exists()
    with pytest.raises(ConfigError, match='give one of them'):
        launch(config(root, work_dir), branch=str(origin / 'bucket_2020' / 'latest.pth'), resume=True)


@pytest.mark.slow
def test_rows_that_the_other_run_did_not_measure_are_empty(root, origin, tmp_path):
    train_stream(config(root, tmp_path / 'first', evaluation=None), tmp_path / 'first', run_to())
    launch(config(root, tmp_path / 'run'), branch=str(tmp_path / 'first' / 'bucket_2020' / 'latest.pth'))
    found = read_results(tmp_path / 'run')
    assert found['acc_matrix'][0] == [None] * 3 and None not in found['acc_matrix'][1]
    assert 'forgetting' in found['extras']['undefined']['zero_shot/each_bucket']
    assert (tmp_path / 'run' / 'figures' / 'zero_shot_each_bucket.png').is_file()


def test_a_lost_beginning_is_named(root, origin, tmp_path):
    cfg, stream = config(root, tmp_path), read_stream_options(config(root, tmp_path))
    path = origin / 'bucket_2020' / 'latest.pth'
    branch = find_branch(path, cfg, stream, read_stream_images(cfg, stream), tmp_path)
    with pytest.raises(Interrupted):
        train_stream(cfg, tmp_path, run_to('bucket_2021'), branch=branch)
    (tmp_path / 'bucket_2020' / 'latest.pth').unlink()
    with pytest.raises(CheckpointError, match='with which this branch began, is gone.*--overwrite'):
        launch(cfg, resume=True)
