"""A command line of ITRA becomes a config that trains; every option is in it, or is named as missing."""

import re
from fnmatch import fnmatch

import pytest
import torch
from PIL import Image
from short_runs import ROOT, run
from torch import nn

from clear.core.config import load_config
from clear.core.configs.signatures import accepted_arguments, required_arguments
from clear.models.alignment.two_rates import TwoRateCosineLR
from clear.models.towers.open_clip import open_clip_config
from clear.registry import MODELS, OPTIMIZERS, TRANSFORMS
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
    value = {'teacher': ['image'], 'precision': ['fp32']}.get(option, value)
    more = {'w-rkd-d': ['--loss', 'RKD'], 'w-rkd-a': ['--loss', 'RKD'], 'dino-teacher-temp': ['--loss', 'DINO'],
            'n-prompt': ['--prompt'], 'image-model-tag': ['--pretrained-image-model'],
            'text-model-tag': ['--pretrained-text-model'],
            'text-pooler': ['--text-model-builder', 'huggingface'], 'adapter': ['--text-model-builder', 'huggingface'],
            'max-seq-length': ['--text-model-builder', 'huggingface'], 'momentum': ['--opt', 'sgd'],
            'lock-image-unlocked-groups': ['--lock-image'], 'lock-image-freeze-bn-stats': ['--lock-image'],
            }.get(option, [])
    before, _ = converted(*more)
    config, notes = converted(*more, f'--{option}', *value)
    assert config != before or any(f'--{option}' in note for note in notes) or option in itra_options.SILENT


@pytest.mark.parametrize('words, expected', [
    (['--image-model-builder', 'torchvision', '--image-resolution', '96', '--lock-image-model'],
     dict(type='TorchvisionEncoder', arch='RN50', preprocess=dict(resize=110, crop=96), trainable=False)),
    (['--image-model-builder', 'torchhub', '--image-model-tag', 'facebookresearch/dino:main'],
     dict(type='TorchHubEncoder', repo='facebookresearch/dino:main', arch='RN50', allow_network=True, trainable=True)),
    (['--lock-image-model', '--lock-image-partial', '!attnpool'],
     dict(type='OpenCLIPImageEncoder', arch='RN50', trainable=dict(locked=True, keywords='!attnpool'))),
    (['--lock-image', '--lock-image-unlocked-groups', '2', '--lock-image-freeze-bn-stats', '--grad-checkpointing'],
     dict(type='OpenCLIPImageEncoder', arch='RN50', trainable=dict(unlocked_groups=2, freeze_bn_stats=True,
                                                                   grad_checkpointing=True))),
    (['--force-quick-gelu'], dict(type='OpenCLIPImageEncoder', arch='RN50', quick_gelu=True, trainable=True)),
    (['--grad-checkpointing'], dict(type='OpenCLIPImageEncoder', arch='RN50', trainable=dict(
        locked=False, grad_checkpointing=True)))])
def test_builders_and_locks_of_the_image_tower(words, expected):
    assert converted(*words)[0]['model']['image_encoder'] == expected


@pytest.mark.parametrize('words', [
    *(['--image-model-builder', builder] for builder in ('openclip', 'torchvision', 'torchhub', 'chineseclip')),
    *(['--text-model-builder', builder] for builder in ('openclip', 'huggingface', 'chineseclip', 'sbert')),
    ['--text-model-builder', 'huggingface', '--adapter', 'lora_adapter', '--lock-text-model'],
    ['--prompt'], ['--pretrained-image-model', '--pretrained-text-model']])
def test_towers_have_the_keys_of_their_classes(words):
    model = converted(*words)[0]['model']
    for side in ('image', 'text'):
        tower = dict(model[f'{side}_encoder'])
        kind = MODELS.require(tower.pop('type'))
        assert set(tower) <= accepted_arguments(kind) and required_arguments(kind) <= set(tower)


@pytest.mark.parametrize('words, amp', [
    ([], True), (['--precision', 'amp'], True), (['--precision', 'fp16'], 'fp16'), (['--precision', 'fp32'], False)])
def test_precisions(words, amp):
    assert converted(*words)[0]['amp'] is amp or converted(*words)[0]['amp'] == amp == 'fp16'


def test_classes_in_templates_and_the_parts_they_were_trained_on():
    images = [converted('--train-data', name)[0]['train_dataloader']['dataset']['images']
              for name in ('FGVCAircraft', 'OxfordIIITPet', 'ImageNet-50k')]
    assert [part['type'] for part in images] == ['PromptedClassification'] * 3
    aircraft, pets, imagenet = [part['images'] for part in images]
    assert aircraft['split'] == 'train' and 'split' not in pets  # torchvision's default is trainval for both
    assert imagenet == dict(type='Subset', images=dict(type='TorchVision', dataset='ImageNet', root='data'), every=25)
    assert converted('--train-data', 'pairs')[0]['train_dataloader']['dataset']['images']['path'] == 'pairs'


@pytest.mark.parametrize('temperature, bounds', [('0.07', {}), ('0.01', {}), ('0.002', dict(max_logit_scale=None)),
                                                 ('2', dict(max_logit_scale=None))])
def test_a_scale_beyond_our_bounds_is_let_go_as_there(temperature, bounds):
    model = converted('--logit-scale', temperature)[0]['model']
    assert model['logit_scale'] == pytest.approx(1 / float(temperature))
    assert {name: value for name, value in model.items() if name == 'max_logit_scale'} == bounds


def test_an_adapter_trains_and_its_base_does_not():
    adapter = ['--text-model-builder', 'huggingface', '--adapter', 'lora_adapter']
    for locked in ([], ['--lock-text-model']):
        config, notes = converted(*adapter, *locked)
        assert 'trainable' not in config['model']['text_encoder'] and len(notes) == 1 - len(locked)
    text = converted(*adapter, '--lock-text-model', '--lock-text-partial', '!lora')[0]['model']['text_encoder']
    assert text['trainable'] == dict(locked=True, keywords='!lora')


def test_a_joint_width_needs_a_head():
    config, notes = converted('--joint-projection-dim', '64', '--text-head-n-layers', '2')
    assert config['model']['joint_dim'] == 64 and notes == []
    config, notes = converted('--joint-projection-dim', '64')
    assert 'joint_dim' not in config['model'] and 'no side has a head' in notes[0]


@pytest.mark.parametrize('builder, augmentation, mean', [
    ('openclip', 'crop', 0.48145466), ('torchvision', 'crop_flip', 0.485), ('torchhub', 'crop_flip', 0.485),
    ('chineseclip', 'none', 0.48145466)])
def test_training_transforms_of_builders(builder, augmentation, mean):
    def transform(*more):
        config, notes = converted('--image-model-builder', builder, '--image-resolution', '96', *more)
        return TRANSFORMS.build(config['train_dataloader']['dataset']['transform'][0]), notes

    plain, _ = transform()
    assert plain.augmentation == augmentation and plain._mean[0].item() == pytest.approx(mean)
    assert plain(Image.new('RGB', (120, 110))).shape == (3, 96, 96)
    light, _ = transform('--augmentation', 'protoclip-light-augmentation')
    assert light.augmentation == 'light'
    assert any('--augmentation autoaugment' in note for note in transform('--augmentation', 'autoaugment')[1])


def test_retrieval_is_measured_as_often_as_it_was():
    config, notes = converted('--retrieval-data', 'test.csv', '--retrieval-csv-img-key', 'image', '--eval-first',
                              '--retrieval-images-dir', 'test', '--retrieval-eval-frequency', '4')
    hook, = config['custom_hooks']
    assert notes == [] and hook == dict(
        type='TaskHook', tasks=[dict(type='ImageTextRetrieval')], interval=4, at_start=True, data=dict(test=dict(
            type='ImageTextTable', path='test.csv', root='test', separator='\t', image_key='image',
            caption_key='title', merge=True)))
    config, _ = converted('--retrieval-data', 'mscoco_captions', '--retrieval-eval-frequency', '1', '--model-ema')
    assert [hook['type'] for hook in config['custom_hooks']] == ['EMAHook', 'TaskHook']
    assert config['custom_hooks'][1]['data']['test'] == dict(type='CocoCaptions', data_root='data', year=2017,
                                                             split='val')


def test_the_docs_have_a_row_for_every_option():
    text = (ROOT / 'docs' / 'alignment.md').read_text()
    table = text[text.index('| option there | here |'):].split('\n\n')[0]
    named = [name.replace('_', '-') for line in table.splitlines()[2:]
             for name in re.findall('`([^`]+)`', line.split(' | ')[0])]
    lacking = [option for option in itra_options.OPTIONS if not any(fnmatch(option, name) for name in named)]
    assert lacking == []
    unknown = [name for name in named if not any(fnmatch(option, name) for option in itra_options.OPTIONS)]
    assert unknown == []


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
    (['--precision', 'fp8'], "'amp', 'fp16' or 'fp32'"),
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


def published(text):
    config, notes = itra_options.convert(itra_options.read_options(text.split()))
    return config, notes


SHARED = ('--dataset-size 2500000 --episode-size 200000 --train-data cc.csv --infonce-warmup-epoch 1 '
          '--augmentation protoclip-light-augmentation --clustering-frequency 1 --k 20000 --kmeans-max-iter 20 '
          '--kmeans-nredo 3 --model RN50 --batch-size 64 --workers 16 --wd 0.5 --max-grad-norm 10 '
          '--w-clip 1 --w-proto 1 --w-proto-external 1 '
          '--external-teacher data/cc3m/roberta_pca64.npy --add-projection-head --projection-dim 128 '
          '--target-temperature 0.01 --PBT --copy-codebase ')


@pytest.mark.parametrize('text, recipe', [
    ('--epochs 400 --lit-start-epoch 399 --save-frequency 50 --visualize-frequency 50 --lr 5e-4 --warmup 15625',
     '8xb64-cos-400e'),
    ('--epochs 100 --lit-start-epoch 99 --save-frequency 25 --visualize-frequency 25 --lr 5e-5 --warmup 2000',
     '1xb64-cos-100e')])
def test_the_published_commands_of_protoclip_are_our_recipes(text, recipe):
    config, notes = published(SHARED + text)
    expected = load_config(ROOT / f'configs/alignment/protoclip_rn50_{recipe}_cc3m.py')[0].to_dict()
    assert notes == []
    for key in ('model', 'train_cfg', 'amp'):
        assert config[key] == {**expected[key], **(dict(teacher='text') if key == 'model' else {})} \
            if isinstance(expected[key], dict) else config[key] == expected[key]
    wrapper = expected['optim_wrapper']
    assert config['optim_wrapper'] | dict(optimizer=0) == wrapper | dict(optimizer=0)
    assert {**config['optim_wrapper']['optimizer'], 'betas': tuple(config['optim_wrapper']['optimizer']['betas'])} \
        == wrapper['optimizer']
    assert config['param_scheduler'] == expected['param_scheduler']
    for name in ('prototypes', 'figures'):
        assert config['default_hooks'][name] == expected['default_hooks'][name]
    loader = expected['train_dataloader']
    assert config['train_dataloader']['sampler'] == loader['sampler']
    assert config['train_dataloader']['num_workers'] == loader['num_workers'] == 16
    augment, = config['train_dataloader']['dataset']['transform']
    assert augment == loader['dataset']['transform'][0]


def test_clip_by_the_code_of_protoclip_has_its_defaults():
    config, notes = published('--train-data cc.csv --model ViT-B-32 --lock-image --lr-text 1e-3 --text-start-epoch 2 '
                              '--text-end-epoch 30 --pretrained laion400m_e31 --zeroshot-frequency 8')
    assert notes == ['--zeroshot-frequency 8: no counterpart was written']
    assert config['model']['image_encoder'] == dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', quick_gelu=True,
                                                    trainable=dict(unlocked_groups=0, freeze_bn_stats=False),
                                                    tag='laion400m_e31', allow_network=True)
    wrapper = config['optim_wrapper']
    assert wrapper['optimizer'] == dict(type='AdamW', lr=5e-4, weight_decay=0.2, betas=[0.9, 0.98], eps=1e-6)
    assert wrapper['paramwise_cfg'] == dict(two_rates=True, lr_text=1e-3)
    assert config['param_scheduler'] == [dict(type='TwoRateCosineLR', warmup=10000, by_epoch=True, T_max=32,
                                              text_start=2, text_end=30, convert_to_iter_based=True)]
    assert config['train_dataloader']['num_workers'] == 1


def test_a_slash_in_the_name_of_a_model_is_a_dash_in_open_clip():
    for model in (published('--train-data cc.csv --model ViT-B/32')[0]['model'],
                  converted('--image-model', 'ViT-B/32', '--text-model', 'ViT-B/32')[0]['model']):
        for side in ('image', 'text'):
            assert open_clip_config(model[f'{side}_encoder']['arch']) == open_clip_config('ViT-B-32')


@pytest.mark.parametrize('start, notes, keys', [(1, 2, set()), (2, 1, {'image_end'}), (3, 0, {'image_end'})])
def test_a_schedule_is_printed_that_can_be_built(start, notes, keys):
    config, found = published(SHARED + f'--epochs 4 --warmup 1 --lit-start-epoch {start}')
    assert sum(note.startswith(('--lit-start', '--add-proj')) for note in found) == notes
    assert ('prototypes' in config['default_hooks']) == (start == 3)
    trains = config['model']['image_encoder']['trainable']
    assert trains is (start > 1)
    groups = [dict(params=[nn.Parameter(torch.ones(1))], part=part) for part in ('image', 'rest')[not trains:]]
    schedule, = config['param_scheduler']
    assert set(schedule) & {'image_end'} == keys
    options = {key: value for key, value in schedule.items() if key not in ('type', 'convert_to_iter_based')}
    built = TwoRateCosineLR.build_iter_from_epoch(torch.optim.SGD(groups, lr=1.0), epoch_length=10, **options)
    assert (built.image_end if trains else built.text_end) == (10 * (start - 1) if trains else 40)


@pytest.mark.parametrize('clustering, figures, interval', [(1, 10, 10), (2, 10, 5), (4, 3, 1)])
def test_figures_come_with_the_episodes(clustering, figures, interval):
    config, notes = published(SHARED + f'--clustering-frequency {clustering} --visualize-frequency {figures}')
    assert notes == []
    assert config['default_hooks']['figures'] == dict(type='ClusterFiguresHook', interval=interval)


@pytest.mark.parametrize('text', ['', '--w-proto 1', '--w-proto 1 --episode-size 9',
                                  '--w-proto 1 --clustering-frequency 1'])
def test_a_head_that_nothing_trains_is_said(text):
    config, notes = published(f'--train-data cc.csv --add-projection-head {text}')
    assert any(note.startswith('--add-projection-head: nothing trains it') for note in notes)
    assert config['model']['type'] == 'ImageTextAlignment' and 'prototypes' not in config['default_hooks']


def test_config_goes_into_a_new_file(tmp_path):
    printed, out = run('dataset_converters/itra_options', '--', *BASE), tmp_path / 'clip.py'
    written = run('dataset_converters/itra_options', '--out', out, '--', *BASE)
    assert written.code == 0 and written.out == f'wrote {out}\n'
    assert out.read_text() == printed.out
    assert run('dataset_converters/itra_options', '--out', out, '--', *BASE).code == 2  # it is the user's now
