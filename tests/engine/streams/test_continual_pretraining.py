import argparse
import copy
import json
import logging

import pytest
import torch
from clear_trees import write_clear_tree
from mmengine.config import Config
from short_runs import CONFIGS

from clear.core.config import load_config
from clear.core.errors import CheckpointError, ConfigError, Interrupted
from clear.core.files import load_tensors
from clear.engine import base
from clear.engine.streams.branch import find_branch
from clear.engine.streams.over_time import RepresentationOverTime
from clear.engine.streams.pretraining import (
    bucket_config,
    read_stream_images,
    read_stream_options,
    train_stream,
)
from clear.engine.streams.program import launch_stream
from clear.engine.training.keys import check_runner_config
from clear.engine.training.program import TrainingProgram
from clear.engine.training.runner import Runner
from clear.features import FeatureBank

BACKBONE = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
RECIPES = sorted((CONFIGS / 'selfsup').glob('continual_*.py'))


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    torch.set_num_threads(1)
    return write_clear_tree(tmp_path_factory.mktemp('tree'), num_buckets=3, per_class=6)


def config(tree, tmp_path, **stream):
    return Config(dict(
        stream=dict(buckets=['1', '2', '3'], **stream),
        model=dict(type='MoCo', backbone=BACKBONE, neck=dict(type='ProjectionMLP', in_channels=32, out_channels=8),
                   queue_size=8, momentum=0.9, data_preprocessor=dict(type='ViewPreprocessor', views=dict(
                       type='BatchedMultiCrop', recipe='moco_v2', options=dict(size=16)))),
        train_dataloader=dict(batch_size=4, num_workers=0, dataset=dict(
            type='BucketImages', data_root=str(tree), image_size=16)),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, T_max=2)], seed=3, device='cpu',
        work_dir=str(tmp_path)))


def run_ordinary(one, folder, resume):
    """What `tools/train.py` does with the config of a bucket."""
    check_runner_config(one)
    folder.mkdir(parents=True, exist_ok=True)
    Runner.from_cfg(one).train(resume=resume)


def weights(folder):
    return load_tensors(folder / 'latest.pth')['state_dict']


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


MODES = [dict(mode='finetune'), dict(mode='replay', replay_size=5),
         dict(mode='distil', distil=dict(weight=0.5, hidden_channels=8)), dict(mode='distil', replay_size=3)]
IDS = ['finetune', 'replay', 'distil', 'distil-replay']


@pytest.mark.parametrize('stream', [
    pytest.param(mode, id=name, marks=[] if name == 'finetune' else [pytest.mark.slow])
    for mode, name in zip(MODES, IDS)])
def test_every_bucket_starts_where_the_one_before_ended(stream, tree, tmp_path):
    started, built = {}, {}

    def run(one, folder, resume):
        assert not resume
        check_runner_config(one)
        folder.mkdir(parents=True)
        runner = Runner.from_cfg(one)
        runner.build()
        started[folder.name] = copy.deepcopy(runner.bare_model.state_dict())
        built[folder.name] = runner.train_dataloader.dataset
        runner.train()

    finished = train_stream(config(tree, tmp_path, **stream), tmp_path, run)
    assert [each.bucket for each in finished] == ['1', '2', '3']
    for before, after in (('bucket_1', 'bucket_2'), ('bucket_2', 'bucket_3')):
        ended, begun = weights(tmp_path / before), started[after]
        assert all(torch.equal(begun[key], ended[key]) for key in ended), 'queue and key encoder included'
        assert {key.split('.')[0] for key in begun.keys() - ended.keys()} <= {'target_generator'}
        trained = weights(tmp_path / after)
        assert not same({key: trained[key] for key in ended}, ended), 'it has trained'
    per_bucket = len(built['bucket_1'])
    assert [len(built[f'bucket_{name}']) - per_bucket for name in '123'] == [0, *[stream.get('replay_size', 0)] * 2]
    losses = [json.loads((tmp_path / f'bucket_{name}' / 'results.json').read_text())['metrics'] for name in '123']
    has_distillation = ['loss_distillation' in each for each in losses]
    assert has_distillation == ([False, True, True] if stream['mode'] == 'distil' else [False] * 3)


@pytest.mark.slow
@pytest.mark.parametrize('stream', [MODES[1], MODES[2]], ids=['replay', 'distil'])
def test_a_stream_that_was_stopped_ends_as_one_that_was_not(stream, tree, tmp_path):
    cfg = config(tree, tmp_path, **stream)
    train_stream(cfg, tmp_path / 'whole', run_ordinary)
    runs = []

    def stopping(one, folder, resume):
        runs.append((folder.name, resume))
        check_runner_config(one)
        folder.mkdir(parents=True, exist_ok=True)
        runner = Runner.from_cfg(one)
        if folder.name == 'bucket_2' and not resume:
            runner.build()
            runner.stop_requested = True  # as after a SIGTERM: saved inside the first epoch
        runner.train(resume=resume)

    with pytest.raises(Interrupted):
        train_stream(cfg, tmp_path / 'run', stopping)
    with pytest.raises(ConfigError, match='--resume'):
        train_stream(cfg, tmp_path / 'run', stopping)
    train_stream(cfg, tmp_path / 'run', stopping, resume=True)
    assert runs == [('bucket_1', False), ('bucket_2', False), ('bucket_2', True), ('bucket_3', False)]
    for name in ('bucket_1', 'bucket_2', 'bucket_3'):
        assert same(weights(tmp_path / 'whole' / name), weights(tmp_path / 'run' / name)), name
    stored = [json.loads((tmp_path / name / 'stream.json').read_text()) for name in ('whole', 'run')]
    assert stored[0] == stored[1]
    runs.clear()
    assert len(train_stream(cfg, tmp_path / 'run', stopping, resume=True)) == 3 and not runs


@pytest.mark.slow
def test_checkpoints_of_a_stream_feed_the_representation_over_time(tree, tmp_path):
    cfg = config(tree, tmp_path, mode='distil')
    cfg.train_cfg.max_epochs = 1
    train_stream(cfg, tmp_path / 'stream', run_ordinary)
    encoder = dict(type='MMPretrainEncoder', backbone=BACKBONE, neck=dict(type='GlobalAveragePooling'),
                   preprocess=dict(resize=16, crop=16))
    results = RepresentationOverTime(dict(
        encoder=encoder, data=dict(type='CLEAR', data_root=str(tree)), checkpoints=str(tmp_path / 'stream'),
        tasks=[dict(type='KNN', k=3)], banks=dict(root=str(tmp_path / 'banks'), dtype='float32')),
        tmp_path / 'over_time').run()
    assert [row['through'] for row in results.extras['checkpoints']] == ['1', '2', '3']
    assert not results.extras['undefined']['KNN/probe_of_own_bucket']
    banks = [FeatureBank.open(path) for path in (tmp_path / 'banks').iterdir()]
    assert len({bank.features.tobytes() for bank in banks}) == 3  # three encoders, none left at its first weights


@pytest.mark.slow
def test_a_branch_can_begin_to_distil_and_stop(tree, tmp_path):
    """A predictor that the other run had not is drawn anew, one that it had is left behind; the rest is taken over."""
    for name, stream, branched in (('fine', MODES[0], MODES[3]), ('distil', MODES[3], MODES[0])):
        cfg = config(tree, tmp_path, **stream)
        cfg.train_cfg.max_epochs = 1
        train_stream(cfg, tmp_path / name, run_ordinary)
        other, started = config(tree, tmp_path, **branched), {}
        other.optim_wrapper.optimizer.lr = 0.0
        images, options = read_stream_images(other, read_stream_options(other)), read_stream_options(other)
        branch = find_branch(tmp_path / name / 'bucket_2' / 'latest.pth', other, options, images, tmp_path / 'none')

        def run(one, folder, resume, started=started):
            check_runner_config(one)
            folder.mkdir(parents=True, exist_ok=True)
            runner = Runner.from_cfg(one)
            runner.build()
            started[folder.name] = copy.deepcopy(runner.bare_model.state_dict())
            runner.train(resume=resume)

        train_stream(other, tmp_path / f'{name}_branch', run, branch=branch)
        before, begun = weights(tmp_path / name / 'bucket_2'), started['bucket_3']
        assert [*started] == ['bucket_3']
        shared = before.keys() & begun.keys()
        assert same({key: before[key] for key in shared}, {key: begun[key] for key in shared})
        assert {key.split('.')[0] for key in before.keys() ^ begun.keys()} == {'target_generator'}


def test_finished_buckets_of_another_config_are_refused(tree, tmp_path):
    cfg = config(tree, tmp_path, mode='finetune')
    cfg.train_cfg.max_epochs = 1
    train_stream(cfg, tmp_path / 'run', run_ordinary)
    other = copy.deepcopy(cfg)
    other.optim_wrapper.optimizer.lr = 0.1
    with pytest.raises(ConfigError, match='bucket 1 was trained with another config'):
        train_stream(other, tmp_path / 'run', run_ordinary, resume=True)
    (tmp_path / 'run').rename(tmp_path / 'moved')
    assert len(train_stream(cfg, tmp_path / 'moved', run_ordinary, resume=True)) == 3
    (tmp_path / 'moved' / 'bucket_2' / 'latest.pth').unlink()
    with pytest.raises(CheckpointError, match='bucket 2 is gone'):
        train_stream(cfg, tmp_path / 'moved', run_ordinary, resume=True)


def test_command_line_options_reach_every_bucket(tree, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(base, 'start_logs', lambda *args, **options: None)  # which would take the log from caplog
    caplog.set_level(logging.INFO, 'clear')
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    cfg = config(tree, tmp_path / 'run', mode='replay', replay_size=4)
    cfg.train_cfg.max_epochs = 1
    options = dict(resume=None, overwrite=False, dry_run=False, branch=None, amp=None)

    def start(**changes):
        launch_stream(cfg, argparse.Namespace(**{**options, **changes}))
        return {name: (tmp_path / 'run' / f'bucket_{name}' / 'latest.pth').stat().st_mtime_ns for name in '123'}

    with pytest.raises(FileNotFoundError):  # nothing is there to be looked at
        start(dry_run=True)
    assert 'replay of 4 images' in caplog.text and not (tmp_path / 'run').exists()
    first = start()
    assert start(resume=True) == first
    with pytest.raises(ConfigError, match='--resume'):
        start()
    with pytest.raises(ConfigError, match='takes no checkpoint'):
        start(resume='x.pth')
    again = start(overwrite=True)
    assert all(again[name] > first[name] for name in '123')


@pytest.mark.parametrize('mode', ['replay', 'distil'])
def test_a_later_bucket_that_leaves_one_image_is_refused_before_training(tree, tmp_path, monkeypatch, mode):
    class Started(Exception):
        pass

    def start(*_):
        raise Started

    monkeypatch.setattr(TrainingProgram, 'run', start)

    # 13 images in each bucket, and 2 earlier ones from the second on: 15 = 2 x 7 + 1.
    cfg = config(tree, tmp_path / 'run', mode=mode, replay_size=2)
    args = argparse.Namespace(resume=None, overwrite=False, dry_run=False, branch=None, amp=None)
    cfg.train_dataloader.update(batch_size=7, drop_last=False)
    with pytest.raises(ConfigError, match="bucket '2' of the stream: .*15 samples is a single sample, on which MoCo"):
        launch_stream(cfg, args)
    assert not (tmp_path / 'run').exists()
    for changes in (dict(batch_size=8), dict(batch_size=7, drop_last=True)):
        cfg.train_dataloader.update(changes)
        with pytest.raises(Started):
            launch_stream(cfg, args)


def test_a_refused_overwrite_leaves_every_byte(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(base, 'start_logs', lambda *args, **options: None)
    cfg = config(tree, tmp_path / 'run', mode='finetune')
    cfg.train_cfg.max_epochs = 1
    options = dict(resume=None, overwrite=True, dry_run=False, branch=None, amp=None)

    def content():
        return {path: path.read_bytes() for path in (tmp_path / 'run').rglob('*') if path.is_file()}

    launch_stream(cfg, argparse.Namespace(**options))
    before = content()
    wrong = copy.deepcopy(cfg)
    wrong.optim_wrapper.optimizer.lr = -1.0
    with pytest.raises(ConfigError, match=r'optim_wrapper\.optimizer\.lr is -1\.0'):
        launch_stream(wrong, argparse.Namespace(**options))
    assert content() == before
    wrong = copy.deepcopy(cfg)
    wrong.stream.mode = 'finetun'
    with pytest.raises(ConfigError):
        launch_stream(wrong, argparse.Namespace(**options))
    assert content() == before


@pytest.mark.parametrize('changes, message', [
    (dict(mode='finetun'), "Did you mean 'finetune'"),
    (dict(mode='replay'), "mode='replay' needs it"),
    (dict(mode='finetune', replay_size=3), 'replays nothing'),
    (dict(mode='replay', replay_size=0), 'at least 1'),
    (dict(mode='replay', replay_size=3, distil={}), "Use mode='distil'"),
    (dict(mode='distil', distil=dict(wieght=1)), "Did you mean 'weight'"),
    (dict(bucket=[1]), "Did you mean 'buckets'"),
    (dict(buckets=[0]), 'at least two buckets'),
    (dict(buckets=['1', '1']), 'one bucket twice'),
    (dict(buckets=['1', '9']), "no bucket named '9'"),
])
def test_wrong_streams_are_refused_before_any_training(changes, message, tree, tmp_path):
    cfg = config(tree, tmp_path)
    cfg.stream = {**cfg.stream, **changes}
    with pytest.raises(ConfigError, match=message):
        train_stream(cfg, tmp_path / 'run', lambda *args: pytest.fail('trained'))
    assert not (tmp_path / 'run').exists()


def test_a_rate_that_no_optimiser_takes_is_an_error_of_the_config(tree, tmp_path):
    cfg = config(tree, tmp_path)
    cfg.optim_wrapper.optimizer.lr = -1
    with pytest.raises(ConfigError, match=r'optim_wrapper\.optimizer\.lr is -1; expected a number of at least 0'):
        train_stream(cfg, tmp_path / 'run', run_ordinary)


def test_a_data_set_without_buckets_is_refused(tree, tmp_path):
    cfg = config(tree, tmp_path)
    cfg.train_dataloader.dataset = dict(type='FolderImages', data_root=str(tree), image_size=16)
    with pytest.raises(ConfigError, match="those of type FolderImages have none. type='BucketImages'"):
        train_stream(cfg, tmp_path / 'run', lambda *args: pytest.fail('trained'))


def test_a_run_that_leaves_no_checkpoint_is_named(tree, tmp_path):
    with pytest.raises(CheckpointError, match='run on bucket 1 left no'):
        train_stream(config(tree, tmp_path), tmp_path / 'run', lambda *args: None)


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_recipes_make_configs_that_a_runner_takes(path, tmp_path):
    cfg, assigned = load_config(path)
    check_runner_config(cfg, assigned)
    stream = read_stream_options(cfg)
    num_buckets = len(stream.buckets)
    root = write_clear_tree(tmp_path / 'tree', num_buckets=num_buckets, num_classes=2, per_class=4, image_size=8,
                            first_bucket=0 if type(stream.buckets[0]) is int else 1)
    cfg.train_dataloader.dataset.data_root = str(root)
    names = list(read_stream_images(cfg, stream).in_buckets()[1])
    assert len(names) == num_buckets
    for position in (0, 1, num_buckets - 1):
        one = bucket_config(cfg, stream, names, position, tmp_path)
        check_runner_config(one)
        assert 'stream' not in one and one.train_dataloader.dataset.buckets == [names[position]]
        assert ('load_from' in one) == (position > 0)
    assert cfg.train_dataloader.dataset.get('buckets') is None, 'the config itself is left alone'
