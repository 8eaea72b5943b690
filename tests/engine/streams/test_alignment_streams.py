"""Two towers that move through buckets of pairs."""

import argparse
import copy

import pytest
import torch
from pair_streams import BUCKETS, by_class, by_table, stream_config, write_pairs
from short_runs import CONFIGS, read_results
from torch.nn import functional

from clear.core.config import load_config
from clear.core.errors import ConfigError, DataError, Interrupted
from clear.core.files import load_tensors
from clear.datasets import read_images
from clear.engine.streams.pretraining import bucket_config, read_stream_images, read_stream_options, train_stream
from clear.engine.streams.program import launch_stream
from clear.engine.training.keys import check_runner_config
from clear.engine.training.program import TrainingProgram
from clear.engine.training.runner import Runner
from clear.evaluation.language.zero_shot import ZeroShot
from clear.features.loading import image_batches
from clear.models.alignment.encoder import AlignedEncoder


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    torch.set_num_threads(1)
    return write_pairs(tmp_path_factory.mktemp('pairs'))


def weights(folder):
    return load_tensors(folder / 'latest.pth')['state_dict']


def watched(started, datasets, stops=None):
    """Trains a bucket; keeps the weights and the data that it began with. Ends inside the bucket `stops`."""
    def run(one, folder, resume):
        check_runner_config(one)
        folder.mkdir(parents=True, exist_ok=True)
        runner = Runner.from_cfg(one)
        runner.build()
        started[folder.name] = copy.deepcopy(runner.bare_model.state_dict())
        datasets[folder.name] = runner.train_dataloader.dataset
        runner.stop_requested = folder.name == stops and not resume
        runner.train(resume=resume)

    return run


STREAMS = [dict(mode='finetune'), dict(mode='replay', replay_size=4), dict(mode='replay', replay_size='all'),
           dict(mode='replay', replay_size='all', start='first'), dict(mode='finetune', start='first'),
           dict(mode='replay', replay_size=12, replay_shares='halves')]
IDS = ['finetune', 'replay', 'cumulative', 'cumulative-first', 'first', 'halves']
SIZES = [(6, 6, 6), (6, 10, 10), (6, 12, 18), (6, 12, 18), (6, 6, 6), (6, 12, 18)]


@pytest.mark.parametrize('stream, sizes', [
    pytest.param(*each, id=name, marks=[] if name.startswith('cumulative') else [pytest.mark.slow])
    for each, name in zip(zip(STREAMS, SIZES), IDS)])
def test_every_bucket_starts_and_reads_as_its_mode_says(stream, sizes, root, tmp_path):
    started, datasets = {}, {}
    finished = train_stream(stream_config(by_class(root), tmp_path, **stream), tmp_path, watched(started, datasets))
    assert [each.bucket for each in finished] == list(BUCKETS)
    folders = [f'bucket_{name}' for name in BUCKETS]
    assert tuple(len(datasets[each]) for each in folders) == sizes
    for before, after in zip(folders, folders[1:]):
        begins = started[folders[0]] if stream.get('start') == 'first' else weights(tmp_path / before)
        torch.testing.assert_close(started[after], begins, rtol=0, atol=0)
        assert any(not torch.equal(value, begins[key]) for key, value in weights(tmp_path / after).items())


def test_a_stream_of_dated_pairs_that_was_stopped_ends_as_one_that_was_not(root, tmp_path):
    cfg = stream_config(by_table(root), tmp_path, mode='replay', replay_size=3)
    datasets = {}
    train_stream(cfg, tmp_path / 'whole', watched({}, datasets))
    last = datasets['bucket_' + list(read_stream_images(cfg, read_stream_options(cfg)).in_buckets()[1])[2]].images
    years = [path.split('/')[0] for path in last.texts('path')]
    assert last.buckets()[-3:] == ['replay'] * 3 and '2022' not in years[-3:] and {*years[:-3]} == {'2022'}
    for row in range(len(last)):
        colour = last.text('path', row).split('/')[1]
        assert last.captions(row) == [f'a {colour} picture'], 'captions stay with their images'
    stopped = sorted(datasets)[1]
    with pytest.raises(Interrupted):
        train_stream(cfg, tmp_path / 'run', watched({}, {}, stopped))
    train_stream(cfg, tmp_path / 'run', watched({}, {}, stopped), resume=True)
    for name in datasets:
        torch.testing.assert_close(weights(tmp_path / 'run' / name), weights(tmp_path / 'whole' / name), rtol=0, atol=0)


def test_the_matrices_are_those_of_each_checkpoint_on_each_bucket(root, tmp_path):
    cfg = stream_config(by_class(root), tmp_path, evaluation=dict(data=dict(test=by_class(root)), tasks=[
        dict(type='ZeroShot', name='zero_shot', templates=['all {}']), dict(type='ImageTextRetrieval', ks=[1, 2])]))
    train_stream(cfg, tmp_path, watched({}, {}))
    results = read_results(tmp_path)
    assert results['extras']['bucket_names'] == list(BUCKETS)
    matrices = results['extras']['matrices']
    assert matrices.keys() == {'zero_shot/each_bucket', 'ImageTextRetrieval/each_bucket'}
    assert results['acc_matrix'] == matrices['zero_shot/each_bucket']
    model = cfg.model.to_dict()
    for row, name in enumerate(BUCKETS):
        encoder = AlignedEncoder(model, tmp_path / f'bucket_{name}' / 'latest.pth')
        for column, bucket in enumerate(BUCKETS):
            images = read_images(dict(type='StreamPart', images=by_class(root), buckets=[bucket]))
            pixels = next(image_batches(images, encoder.preprocess, [list(range(len(images)))])).images
            with torch.no_grad():
                features = functional.normalize(encoder(pixels), dim=1)
            texts = functional.normalize(encoder.encode_text([f'all {each}' for each in images.class_names]), dim=1)
            hits = (features @ texts.T).argmax(1) == torch.from_numpy(images.label_array())
            assert matrices['zero_shot/each_bucket'][row][column] == pytest.approx(hits.double().mean().item())
    matrix = matrices['ImageTextRetrieval/each_bucket']
    below = [matrix[1][0], matrix[2][0], matrix[2][1]]
    assert results['metrics']['ImageTextRetrieval/each_bucket/backward_transfer'] == pytest.approx(sum(below) / 3)
    assert results['metrics']['ImageTextRetrieval/each_bucket/next_domain'] == pytest.approx(
        (matrix[0][1] + matrix[1][2]) / 2)
    assert {path.name for path in (tmp_path / 'figures').iterdir()} == {
        'zero_shot_each_bucket.png', 'ImageTextRetrieval_each_bucket.png'}


def test_a_measurement_that_failed_is_made_up_for(root, tmp_path, monkeypatch):
    cfg = stream_config(by_class(root), tmp_path, evaluation=dict(data=dict(test=by_class(root)), tasks=[
        dict(type='ZeroShot', name='zero/shot', templates=['all {}'])]))
    cfg.stream.buckets = [0, 1]
    calls, measure = [], ZeroShot.run

    def fail_once(self, *args):
        calls.append(1)
        if len(calls) == 3:  # on the first bucket, after the second
            raise DataError('no room')
        return measure(self, *args)

    monkeypatch.setattr(ZeroShot, 'run', fail_once)
    with pytest.raises(DataError, match='no room'):
        train_stream(cfg, tmp_path, watched({}, {}))
    train_stream(cfg, tmp_path, watched({}, {}), resume=True)
    results = read_results(tmp_path)
    matrix = results['extras']['matrices']['zero/shot/each_bucket']
    assert len(calls) == 5 and None not in sum(matrix, [])
    rows = (tmp_path / 'results.csv').read_text().splitlines()[1:]
    assert [row.split(',')[:2] for row in rows] == [['zero/shot', 'each_bucket']] * 4
    assert [float(row.split(',')[5]) for row in rows] == sum(matrix, [])


def test_a_run_that_ended_without_its_measurements_ends_the_stream(root, tmp_path):
    cfg = stream_config(by_class(root), tmp_path, evaluation=dict(
        data=dict(test=by_class(root)), tasks=[dict(type='ZeroShot')]))

    def run(one, folder, resume):
        one.custom_hooks = []
        watched({}, {})(one, folder, resume)

    with pytest.raises(DataError, match='run on bucket 2020 left no ZeroShot/2020, ZeroShot/2021, ZeroShot/2022'):
        train_stream(cfg, tmp_path, run)


@pytest.mark.parametrize('changes, message', [
    (dict(evaluation=dict(tasks=[dict(type='ZeroShot')])), 'stream.evaluation.data'),
    (dict(evaluation=dict(data=dict(test={}), tasks=[])), 'stream.evaluation.tasks'),
    (dict(evaluation=dict(task=[])), "Did you mean 'tasks'"),
    (dict(start='frist'), 'stream.start'),
    (dict(mode='finetune', replay_size='all'), 'replays nothing'),
    (dict(buckets=[0, 7]), 'no bucket')])
def test_wrong_streams_are_refused_before_training(changes, message, root, tmp_path):
    cfg = stream_config(by_class(root), tmp_path)
    cfg.stream = {**cfg.stream, **changes}
    with pytest.raises(ConfigError, match=message):
        train_stream(cfg, tmp_path / 'run', lambda *args: pytest.fail('trained'))


def test_pairs_without_buckets_are_refused(root, tmp_path):
    images = dict(type='ImageTextTable', path=str(root / 'pairs.csv'))
    with pytest.raises(ConfigError, match='those of type ImageTextTable have none'):
        train_stream(stream_config(images, tmp_path), tmp_path, lambda *args: pytest.fail('trained'))


@pytest.mark.parametrize('path', sorted((CONFIGS / 'alignment').glob('continual_*.py')), ids=lambda path: path.stem)
def test_recipes_make_configs_that_a_runner_takes(path, tmp_path):
    cfg, assigned = load_config(path)
    check_runner_config(cfg, assigned)
    stream = read_stream_options(cfg)
    for position in range(3):
        one = bucket_config(cfg, stream, stream.buckets, position, tmp_path)
        check_runner_config(one)
        images = one.train_dataloader.dataset.images
        seen = stream.buckets[:position + 1] if stream.replay_size == 'all' else [stream.buckets[position]]
        assert images.type == 'StreamPart' and images.buckets == seen
        assert images.images.type == 'PromptedClassification'
        assert ('load_from' in one) == (position > 0 and stream.start == 'last')


@pytest.mark.parametrize('loader, stream, message', [
    (dict(batch_size=4), {}, "bucket '2022' of the stream: 3 samples make no batch of 4 x 1 process"),
    (dict(batch_size=4, batch_sampler=dict(type='GlobalBatchSampler', drop_last=True)), {}, '3 samples make no batch'),
    (dict(batch_size=2), dict(ewc=dict(weight=1.0, batch_size=4)), 'stream.ewc.batch_size is 4, but there are 3'),
    (dict(batch_size=3), {}, None), (dict(batch_size=4, drop_last=False), {}, None),
    (dict(batch_size=4), dict(mode='replay', replay_size=1), None),
    (dict(batch_size=4, sampler=dict(type='EpisodicSampler', episode_size=8)), {}, None)])
def test_a_later_bucket_that_is_too_small_is_refused_before_training(loader, stream, message, tmp_path, monkeypatch):
    class Started(Exception):
        pass

    def start(*_):
        raise Started

    monkeypatch.setattr(TrainingProgram, 'run', start)
    pairs = write_pairs(tmp_path / 'pairs')
    for path in (pairs / '2022').glob('*/1.png'):
        path.unlink()
    cfg = stream_config(by_class(pairs), tmp_path / 'run', **stream)
    cfg.train_dataloader.update(loader)
    with pytest.raises(ConfigError if message else Started, match=message):
        launch_stream(cfg, argparse.Namespace(resume=None, overwrite=False, dry_run=False, branch=None, amp=None))
    assert not message or not (tmp_path / 'run').exists()
