"""What training two towers adds to the ordinary Runner, through `tools/train.py`, stopped and resumed bit for bit."""

import pytest
import torch
from PIL import Image
from quick_runs import weights_of
from short_runs import read_results, run
from tiny_text import TINY_CLIP

CONFIG = """
_args = {args!r}
_classes = dict(type='PromptedClassification', images=dict(type='ImageFolder', root={root!r}),
                templates=['a {{}} picture', 'all {{}}'])
model = dict(type='ImageTextAlignment', accumulate=3, image_encoder=dict(
                 type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             loss=dict(type='SEEDLoss', embed_dim=16, queue_size=12, teacher_temp=0.07), teacher='text')
train_dataloader = dict(batch_size=6, num_workers=0, dataset=dict(
    type='ImageTextPairs', images=_classes,
    transform=[dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')]))
optim_wrapper = dict(constructor='AlignmentOptimConstructor', paramwise_cfg=dict(layer_decay_image=0.7),
                     optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05))
param_scheduler = [dict(type='LinearLR', start_factor=0.5, end=2, by_epoch=False),
                   dict(type='CosineAnnealingLR', begin=2, end=6, T_max=4, by_epoch=False)]
train_cfg = dict(by_epoch=True, max_epochs=2)
threads, seed, device = 1, 3, 'cpu'
custom_imports = dict(imports=['stops', 'measured'])
custom_hooks = [dict(type='StopsAt')]
"""
STOPS = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class StopsAt(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == int(os.environ.get('STOPS_AT', 0)):
            os.kill(os.getpid(), signal.SIGTERM)
"""
MEASURED = """
from clear.evaluation.task import TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class Measured:
    needs = ('bank', 'text_encoder')

    def run(self, encoder, data):
        return TaskResult('weight', encoder.model.image_encoder.model.proj.double().sum().item(), True, {})
"""
COLOURS = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    for name, colour in COLOURS.items():
        (folder / 'images' / name).mkdir(parents=True)
        for row in range(6):
            Image.new('RGB', (36, 40), tuple(value + 5 * row for value in colour)).save(
                folder / 'images' / name / f'{row}.png')
    (folder / 'stops.py').write_text(STOPS)
    (folder / 'measured.py').write_text(MEASURED)
    (folder / 'config.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'images')))
    return folder


def train(folder, name, *options, stops_at=None, monkeypatch=None):
    """The weights of a run, which was stopped after an iteration and resumed if `stops_at` says so."""
    command = ('train', folder / 'config.py', '--work-dir', folder / name)
    tail = ('--cfg-options', *options) if options else ()
    if stops_at:
        monkeypatch.setenv('STOPS_AT', str(stops_at))
        assert run(*command, *tail).code == 143
        monkeypatch.delenv('STOPS_AT')
        command = (*command, '--resume')
    done = run(*command, *tail)
    assert done.code == 0, done.err
    return weights_of(folder / name)


def test_parts_and_depths_stopped_at_any_step_and_resumed(folder, monkeypatch):
    whole = train(folder, 'whole')
    for step in (1, 4):
        parts = train(folder, f'parts{step}', stops_at=step, monkeypatch=monkeypatch)
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    train(folder, 'alone', 'model.accumulate=1')
    losses = [[entry['loss'] for entry in read_results(folder / name)['extras']['train_log']]
              for name in ('whole', 'alone')]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


TWO_RATES = """
optim_wrapper['paramwise_cfg'] = dict(two_rates=True, lr_text=0.004)
param_scheduler = [dict(type='TwoRateCosineLR', warmup=1, by_epoch=True, T_max=2, image_end=1, text_end=2,
                        convert_to_iter_based=True)]
train_dataloader['batch_size'] = 3
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
"""


@pytest.mark.slow
def test_two_rates_stopped_and_resumed(folder, monkeypatch):
    (folder / 'config.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'images')) + TWO_RATES)
    whole = train(folder, 'two')  # the image tower rests from iteration 6 of 12 on
    for step in (3, 8):
        parts = train(folder, f'two{step}', stops_at=step, monkeypatch=monkeypatch)
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    first = torch.load(folder / 'two' / 'epoch_1.pth', weights_only=True)['state_dict']
    moved = {name for name, value in whole.items() if not torch.equal(first[name], value)}
    assert 'text_encoder.model.text_projection' in moved
    assert not any(name.startswith('image_encoder.') for name in moved)


AVERAGED = """custom_hooks=[
    dict(type='EMAHook', momentum=0.25),
    dict(type='StopsAt'),
    *(dict(type='TaskHook', data=dict(test={source}), at_start=True, tasks=[dict(type='Measured', name=name)], **more)
      for name, more in dict(raw={{}}, average=dict(ema=True), wise=dict(wise_ft=0.4)).items())]"""


def test_averages_are_saved_measured_and_resumed(folder, monkeypatch):
    source = f"dict(type='ImageFolder', root={str(folder / 'images')!r})"
    (folder / 'config.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'images'))
                                      + AVERAGED.format(source=source))
    one = ('optim_wrapper.optimizer.type=timm/lookahead_adamp', 'train_dataloader.batch_size=18',
           'train_cfg.max_epochs=4', 'model.loss.queue_size=18')
    train(folder, 'ema', *one)
    saved = torch.load(folder / 'ema' / 'latest.pth', weights_only=True)
    log = read_results(folder / 'ema')['extras']
    raw, start = [entry['raw'] for entry in log['train_log']], log['before_training']['raw']
    average = raw[0]
    for entry, weight in zip(log['train_log'][1:], raw[1:]):  # an epoch is one step
        average += 0.25 * (weight - average)
        assert entry['average'] == pytest.approx(average, rel=1e-4)
    assert [entry['wise'] for entry in log['train_log']] == pytest.approx(
        [0.6 * start + 0.4 * weight for weight in raw], rel=1e-4)
    assert log['before_training']['average'] == log['before_training']['wise'] == start
    name = 'image_encoder.model.proj'
    assert saved['state_dict'][name].double().sum().item() == log['train_log'][-1]['average']
    assert saved['ema_state_dict'][f'module.{name}'].double().sum().item() == raw[-1] != log['train_log'][-1]['average']
    for name, value in saved['state_dict'].items():
        if 'queue' in name:  # rows and counts are no weights: they are copied
            assert torch.equal(value, saved['ema_state_dict'][f'module.{name}'])
    train(folder, 'ema_parts', *one, stops_at=2, monkeypatch=monkeypatch)
    again = torch.load(folder / 'ema_parts' / 'latest.pth', weights_only=True)
    for key in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(again[key], saved[key], rtol=0, atol=0)
    assert read_results(folder / 'ema_parts')['extras']['train_log'] == log['train_log']


SEES = """
from pathlib import Path

import torch

from clear.evaluation.task import TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class SeesImages:
    needs = ('images', 'text_encoder')

    def run(self, encoder, data):
        images = torch.zeros(2, 3, encoder.preprocess.crop, encoder.preprocess.crop)
        assert len(data.images['test']) == 18 and encoder(images).shape == (2, encoder.embed_dim)
        assert encoder.encode_text(['a', 'b']).shape == (2, encoder.embed_dim)
        return TaskResult('norm', encoder(images).norm().item())
"""


def test_text_alone_and_images_are_measured_while_it_trains(folder):
    """The similarity of sentences that training logs is that of the checkpoint which the run left."""
    from clear.evaluation.task import TaskData
    from clear.features.build import make_encoder
    from clear.registry import TASKS

    (folder / 'sees.py').write_text(SEES)
    (folder / 'pairs.tsv').write_text('score\tsentence1\tsentence2\n5\tall red\ta red picture\n3\tred\tgreen\n'
                                      '1\tan old ship\ta cat\n2\ttwo\tone\n')
    hooks = (f"[dict(type='TaskHook', tasks=[dict(type='SentenceSimilarity', name='sts', "
             f"path={str(folder / 'pairs.tsv')!r})]), dict(type='TaskHook', tasks=[dict(type='SeesImages')], "
             f"data=dict(test=dict(type='ImageFolder', root={str(folder / 'images')!r})))]")
    (folder / 'config.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'images'))
                                      .replace("'measured'", "'sees'") + f'custom_hooks = {hooks}\n')
    train(folder, 'texts')
    last = read_results(folder / 'texts')['extras']['train_log'][-1]
    encoder = make_encoder(dict(run=str(folder / 'texts')))
    task = TASKS.build(dict(type='SentenceSimilarity', path=str(folder / 'pairs.tsv')))
    assert last['sts'] == pytest.approx(task.run(encoder, TaskData()).value)
    assert last['SeesImages'] == pytest.approx(encoder(torch.zeros(2, 3, 32, 32)).norm().item(), rel=1e-4)
    (folder / 'pairs.tsv').unlink()
    done = run('train', folder / 'config.py', '--work-dir', folder / 'gone')
    assert done.code != 0 and 'pairs.tsv' in done.err and not (folder / 'gone' / 'latest.pth').exists()
