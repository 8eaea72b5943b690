"""A command line of ITRA becomes a config that trains; every option is in it, or is named as missing."""

import pytest
import torch
from short_runs import run
from torch import nn

from clear.core.config import load_config
from clear.registry import MODELS, OPTIMIZERS
from tools.dataset_converters import itra_options

BASE = ['--train-data', 'pairs.csv', '--image-model-builder', 'openclip', '--image-model', 'RN50',
        '--text-model-builder', 'openclip', '--text-model', 'RN50']


def converted(*words):
    return itra_options.convert(itra_options.read_options([*BASE, *words]))


def test_the_defaults_of_that_system():
    config, notes = converted()
    assert notes == [] and config['model']['loss'] == dict(type='InfoNCELoss') and config['model']['teacher'] == 'text'
    assert config['model']['image_encoder'] == dict(type='OpenCLIPImageEncoder', arch='RN50', trainable=True)
    assert config['train_dataloader']['batch_size'] == 64 and config['train_cfg']['max_epochs'] == 32
    assert config['optim_wrapper']['optimizer'] == dict(type='AdamW', lr=5e-4, weight_decay=0.05)
    images = config['train_dataloader']['dataset']['images']
    assert (images['separator'], images['image_key'], images['caption_key']) == ('\t', 'filepath', 'title')


@pytest.mark.parametrize('name', itra_options.LOSSES)
def test_every_loss_is_one_of_ours(name):
    config, _ = converted('--loss', name)
    loss = MODELS.build(dict(config['model']['loss']))
    assert (loss.needs_prototypes, 'image_head' in config['model']) in ((True, True), (False, False))


@pytest.mark.parametrize('option', itra_options.OPTIONS)
def test_no_option_is_dropped_without_a_word(option):
    if option in ('image-model-builder', 'text-model-builder'):
        pytest.skip('changes the library, not a value: see the test of builders')
    value = {None: [], str: ['SEED'], list: ['0.5', '0.9']}.get(itra_options.OPTIONS[option], ['7'])
    value = ['image'] if option == 'teacher' else value
    more = {'w-rkd-d': ['--loss', 'RKD'], 'w-rkd-a': ['--loss', 'RKD'], 'dino-teacher-temp': ['--loss', 'DINO'],
            'n-prompt': ['--prompt'], 'image-model-tag': ['--pretrained-image-model'],
            'text-model-tag': ['--pretrained-text-model'],
            'text-pooler': ['--text-model-builder', 'huggingface'], 'adapter': ['--text-model-builder', 'huggingface'],
            'max-seq-length': ['--text-model-builder', 'huggingface'], 'momentum': ['--opt', 'sgd']}.get(option, [])
    before, _ = converted(*more)
    config, notes = converted(*more, f'--{option}', *value)
    assert config != before or any(f'--{option}' in note for note in notes) or option in itra_options.SILENT


@pytest.mark.parametrize('words, expected', [
    (['--image-model-builder', 'torchvision', '--image-resolution', '96', '--lock-image-model'],
     dict(type='TorchvisionEncoder', arch='RN50', preprocess=dict(crop=96), trainable=False)),
    (['--image-model-builder', 'torchhub', '--image-model-tag', 'facebookresearch/dino:main'],
     dict(type='TorchHubEncoder', repo='facebookresearch/dino:main', entry='RN50', trainable=True)),
    (['--lock-image-model', '--lock-image-partial', '!attnpool'],
     dict(type='OpenCLIPImageEncoder', arch='RN50', trainable=dict(locked=True, keywords='!attnpool')))])
def test_builders_and_locks_of_the_image_tower(words, expected):
    assert converted(*words)[0]['model']['image_encoder'] == expected


def test_several_sources_are_joined_and_episodes_drawn():
    config, _ = converted('--train-data', 'mscoco_captions_2014_x0.1,a/rsicd.csv,CIFAR10', '--episode-size', '500')
    first, second, third = config['train_dataloader']['dataset']['images']['parts']
    assert first == dict(type='Subset', images=dict(type='CocoCaptions', data_root='data', year=2014), fraction=0.1)
    assert second['encoding'] == 'gb18030' and third['images']['dataset'] == 'CIFAR10'
    assert config['train_dataloader']['sampler'] == dict(type='EpisodicSampler', episode_size=500)


def test_what_is_printed_is_a_config(tmp_path):
    done = run('dataset_converters/itra_options', '--', *BASE, '--loss=SEED', '--model_ema', '--warmup', '10',
               '--model_ema_force_cpu', '--layer_decay_text', '0.7', '--opt', 'lookahead_adamp')
    assert done.code == 0 and done.out.startswith(
        '# --model-ema-force-cpu True: no counterpart was written.\n'), done.err
    (tmp_path / 'printed.py').write_text(done.out)
    config = load_config(tmp_path / 'printed.py')[0]
    assert config.model.loss.type == 'SEEDLoss' and config.param_scheduler[0].warmup == 10
    assert config.optim_wrapper.paramwise_cfg == dict(layer_decay_text=0.7)
    assert config.custom_hooks == [dict(type='EMAHook', momentum=1e-4)]
    OPTIMIZERS.build(dict(config.optim_wrapper.optimizer), default_args=dict(params=[nn.Parameter(torch.ones(1))]))


@pytest.mark.parametrize('words, message', [
    (['--lost', 'x'], "nearest: 'loss'"), (['--loss', 'InfoMCE'], "nearest: 'InfoNCE'"),
    (['--lr', 'much'], 'expected a number'),
    (['--lr'], 'needs a value'), (['--epochs', 'nan'], "'nan', expected a whole number"),
    (['--batch-size', '1.5'], 'expected a whole number'), (['--lr=inf'], 'expected a number'),
    (['--logit-scale', '0'], 'above 0'), (['--warmup', '-5'], 'at least 0'), (['--opt-betas', '0.9'], 'two numbers'),
    (['--lock-image-model=False'], 'takes no value'), (['--teacher', 'nobody'], "'text' or 'image'"),
    (['--image-model='], '--image-model is missing'), (['--train-data', ''], '--train-data is missing'),
    (['--image-model-builder', 'keras'], 'expected openclip')])
def test_wrong_options_are_one_message(words, message):
    done = run('dataset_converters/itra_options', '--', *BASE, *words)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1, done.err


def test_numbers_are_those_of_that_system():
    config, notes = converted('--opt_betas', '0.9', '0.98', '--batch-size', '1e2', '--opt-eps=1e-6')
    optimizer = config['optim_wrapper']['optimizer']
    assert optimizer['betas'] == [0.9, 0.98] and optimizer['eps'] == 1e-6 and notes == []
    assert config['train_dataloader']['batch_size'] == 100 and isinstance(config['train_dataloader']['batch_size'], int)


def test_a_value_of_two_lines_stays_a_comment():
    text = itra_options.write(*converted('--retrieval-data', 'a\nraise SystemExit'))
    assert text.startswith('# --retrieval-data a raise SystemExit: no counterpart was written.\n')
