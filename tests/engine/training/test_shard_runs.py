"""Training from tar shards through `tools/train.py`: killed and resumed bit for bit, planned, and refused."""

import io
import os
import signal

import pytest
import torch
from killed_runs import run_in_fork
from pair_streams import by_table, stream_config, write_pairs
from PIL import Image
from quick_runs import weights_of
from short_runs import read_results, run
from tiny_text import TINY_CLIP

from clear.datasets import read_images
from clear.datasets.make.shards import write_shards
from clear.engine.training.keys import computed_config

webdataset = pytest.importorskip('webdataset')

CONFIG = """
model = dict(type='ImageTextAlignment', image_encoder=dict(
                 type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args={args!r}, trainable=True),
             text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args={args!r}, trainable=True),
             loss=dict(type='InfoNCELoss'))
train_dataloader = dict(batch_size=4, num_workers=2, sampler=dict(type='ShardSampler', buffer_size=6),
                        dataset=dict(type='WebDatasetPairs', shards={root!r}, max_bad_fraction=0.1, transform=[
                            dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')]))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.002))
train_cfg = dict(by_epoch=True, max_epochs=2)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, iter_interval=2))
threads, seed, device = 1, 3, 'cpu'
custom_imports = dict(imports=['dies'])
custom_hooks = [dict(type='DiesAt')]
"""
# 40 pairs are 10 iterations an epoch.
DIES = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class DiesAt(Hook):
    priority = 'VERY_LOW'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if str(runner.iter + 1) == os.environ.get('DIES_IN'):
            os.kill(os.getpid(), signal.SIGKILL)

    def after_epoch_saved(self, runner):
        if str(runner.epoch) == os.environ.get('DIES_AFTER'):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shards')
    (folder / 'data').mkdir()
    for shard, count in enumerate((13, 6, 21)):
        with webdataset.TarWriter(str(folder / 'data' / f'{shard}.tar'), mtime=0) as writer:
            for row in range(count):
                stored = io.BytesIO()
                Image.new('RGB', (40, 36), (60 * shard, 9 * row, 40)).save(stored, 'JPEG')
                damaged = shard == 1 and row == 2
                writer.write({'__key__': f'{row:03}', 'jpg': b'damaged' if damaged else stored.getvalue(),
                              'txt': f'a {("red", "blue", "old")[shard]} picture {row}', 'cls': shard})
    (folder / 'dies.py').write_text(DIES)
    (folder / 'tiny.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'data')))
    return folder / 'tiny.py'


@pytest.fixture(scope='module')
def whole(config):
    done = run('train', config, '--work-dir', config.parent / 'whole')
    assert done.code == 0, done.err
    return config.parent / 'whole'


def _train(config, folder, moment, value, *more):
    os.environ[moment] = value
    assert run('train', config, '--work-dir', folder, *more).code == 0


def test_a_damaged_image_is_reported_and_another_pair_stands_in(whole):
    assert read_results(whole)['extras']['bad_samples'] == {'train': 1}
    assert '"1/002"' in (whole / 'bad_samples.jsonl').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('moment, value', [('DIES_IN', '5'), ('DIES_IN', '12'), ('DIES_AFTER', '1')])
def test_killed_with_two_workers_and_resumed_bit_for_bit(config, whole, tmp_path, moment, value):
    run_in_fork(_train, config, tmp_path, moment, value, code=-signal.SIGKILL)
    assert (tmp_path / 'latest.pth').exists() or (tmp_path / 'iteration.pth').exists()
    done = run('train', config, '--work-dir', tmp_path, '--resume')
    assert done.code == 0, done.err
    torch.testing.assert_close(weights_of(tmp_path), weights_of(whole), rtol=0, atol=0)
    for found in (read_results(tmp_path), read_results(whole)):
        assert len(found['extras']['train_log']) == 2
    assert read_results(tmp_path)['metrics'] == read_results(whole)['metrics']


def test_another_number_of_workers_is_another_run(config, whole):
    done = run('train', config, '--work-dir', whole, '--resume', '--cfg-options', 'train_dataloader.num_workers=1')
    assert done.code == 2
    assert "dealt_to: '1 process(es) with 2 worker(s)' -> '1 process(es) with 1 worker(s)'" in done.err
    assert 'numbers of processes and of train_dataloader.num_workers, which must stay the same' in done.err


def test_another_number_of_processes_is_another_run_only_where_shards_are_dealt():
    shards = dict(train_dataloader=dict(batch_size=4, dataset=dict(type='WebDatasetPairs', shards='data')))
    read_at_random = dict(train_dataloader=dict(shards['train_dataloader'], sampler=dict(type='EpochSampler')))
    one, two = (computed_config(shards, size)['train_dataloader']['dealt_to'] for size in (1, 2))
    assert (one, two) == ('1 process(es) with 1 worker(s)', '2 process(es) with 1 worker(s)')
    for size in (1, 2):
        found = computed_config(read_at_random, size)['train_dataloader']
        assert found == dict(dataset=dict(type='WebDatasetPairs'), sampler=dict(type='EpochSampler'),
                             global_batch_size=4 * size)


def test_the_same_shards_elsewhere_are_the_same_data(config, whole, tmp_path):
    (config.parent / 'data').rename(config.parent / 'moved')
    try:
        done = run('train', config, '--work-dir', whole, '--resume', '--cfg-options',
                   f'train_dataloader.dataset.shards={config.parent}/moved/{{0..2}}.tar')
    finally:
        (config.parent / 'moved').rename(config.parent / 'data')
    assert done.code == 0, done.err
    assert torch.load(whole / 'latest.pth', weights_only=True)['progress']['iter'] == 20


def test_the_plan_says_how_shards_are_dealt(config, tmp_path):
    done = run('train', config, '--work-dir', tmp_path, '--dry-run')
    assert done.code == 0 and 'data      WebDatasetPairs  40 samples' in done.out
    assert 'order     3 shards, dealt to 1 process(es) with 2 worker(s)  buffer 6' in done.out
    assert '2 epochs of 10 = 20 iterations' in done.out


@pytest.mark.slow
def test_a_frozen_text_tower_reads_captions_of_shards_from_a_bank(config, tmp_path):
    options = ['--cfg-options', 'model.text_encoder.trainable=False', 'train_cfg.max_epochs=1']
    other = tmp_path / 'frozen.py'
    other.write_text(f'_base_ = [{str(config)!r}]\nbanks = dict(root={str(tmp_path / "banks")!r})\n')
    (tmp_path / 'dies.py').write_text(DIES)
    plan = run('train', other, '--work-dir', tmp_path / 'run', '--dry-run', *options)
    assert plan.code == 0, plan.err
    assert 'text      tower locked, read from the bank' in plan.out and '40 distinct texts to encode' in plan.out
    done = run('train', other, '--work-dir', tmp_path / 'run', *options)
    off = run('train', other, '--work-dir', tmp_path / 'off', *options, 'use_banks=False')
    assert done.code == off.code == 0, done.err + off.err
    loss, expected = (read_results(tmp_path / name)['extras']['train_log'][0]['loss'] for name in ('run', 'off'))
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('sampler', ['ShardSampler', 'EpochSampler'])
def test_a_stream_over_time_is_trained_from_shards(tmp_path, sampler):
    write_pairs(tmp_path)
    write_shards(read_images(by_table(tmp_path)), tmp_path / 'shards', shard_size=4, shuffle=0)
    images = dict(type='ImageTextShards', shards=str(tmp_path / 'shards'), freq='year')
    cfg = stream_config(images, tmp_path / 'run', mode='replay', replay_size=6)
    cfg.train_dataloader['sampler'] = dict(type=sampler)
    cfg.dump(tmp_path / 'stream.py')
    done = run('train', tmp_path / 'stream.py')
    assert done.code == 0, done.err
    assert [read_results(tmp_path / 'run' / f'bucket_{name}')['extras']['train_log'][-1]['iteration']
            for name in ('2020', '2021', '2022')] == [2, 4, 4]


@pytest.mark.parametrize('more, message', [
    ("train_dataloader['dataset']['shards'] = {cut!r}", 'cut short or damaged in or behind'),
    ("train_dataloader['dataset']['caption'] = 'title'", "'000' has an image but no caption; 13 of 13 keys are"),
    ("train_dataloader['dataset']['shards'] = 'missing/{{0..3}}.tar'", '4 of 4 shards are missing'),
    ("train_dataloader['dataset'].update(type='ImageTextPairs', images=dict(type='ConcatPairs', parts=[dict("
     "type='ImageTextShards', shards=train_dataloader['dataset'].pop('shards'))]))", 'do not lie in shards'),
    ("train_dataloader['dataset']['shard'] = 'x'", "'shards'"),
    ("train_dataloader['batch_size'] = 41", '40 samples are fewer than one batch'),
    ("runner_type, stream = 'StreamRunner', dict(buckets=['0', '1'], mode='finetune')", 'images')])
def test_what_does_not_fit_ends_before_training_with_one_message(config, tmp_path, more, message):
    content = (config.parent / 'data' / '0.tar').read_bytes()
    cut = tmp_path / 'cut.tar'
    cut.write_bytes(content[:len(content) // 2])
    (tmp_path / 'dies.py').write_text(DIES)
    (tmp_path / 'other.py').write_text(config.read_text() + more.format(cut=str(cut)) + '\n')
    done = run('train', tmp_path / 'other.py', '--work-dir', tmp_path / 'work')
    errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
    assert done.code == 2 and len(errors) == 1 and message in errors[0], done.err
    assert not (tmp_path / 'work' / 'latest.pth').exists()
