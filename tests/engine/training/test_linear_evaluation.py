"""Linear evaluation recipes: their schedules, a backbone that stays what it was, and runs through the program."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from narrow_resnet import DIM, MMPRETRAIN, narrow_resnets
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import resnet18

from clear.core.config import configs_folder, load_config
from clear.core.files import load_tensors, save_tensors
from clear.engine.training.keys import check_runner_config
from clear.registry import MODELS, PARAM_SCHEDULERS

FOLDER = configs_folder() / 'selfsup' / 'linear'
STEP = FOLDER / 'linear_resnet50_8xb32-step-100e_imagenet.py'
COS = FOLDER / 'linear_resnet50_8xb32-cos-100e_imagenet.py'
DEMO = FOLDER / 'linear_resnet18_1xb64-step-3e_demo.py'


def rates(path):
    """The learning rate of every epoch, by the schedulers that the recipe builds."""
    config = load_config(path)[0].to_dict()
    layer = torch.nn.Linear(1, 1)
    options = dict(config['optim_wrapper']['optimizer'])
    optimizer = getattr(torch.optim, options.pop('type'))(layer.parameters(), **options)
    schedulers = [PARAM_SCHEDULERS.build(each, default_args=dict(optimizer=optimizer))
                  for each in config['param_scheduler']]
    found = []
    for _ in range(config['train_cfg']['max_epochs']):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def test_learning_rates():
    assert rates(STEP) == pytest.approx([30.0] * 60 + [3.0] * 20 + [0.3] * 20)
    assert rates(COS) == pytest.approx([(1 + math.cos(math.pi * epoch / 100)) / 2 * (10 - 0.01) + 0.01
                                        for epoch in range(100)])


@pytest.mark.parametrize('path', [STEP, COS])
def test_protocol(path):
    config = load_config(path)[0].to_dict()
    check_runner_config(config)
    optimizer = config['optim_wrapper']['optimizer']
    assert (optimizer['type'], optimizer['momentum'], optimizer['weight_decay']) == ('SGD', 0.9, 0.0)
    assert config['train_dataloader']['batch_size'] * 8 == config['auto_scale_lr']['base_batch_size'] == 256
    train, val = (config[f'{part}_dataloader']['dataset']['pipeline'] for part in ('train', 'val'))
    assert [step['type'] for step in train[1:]] == ['RandomResizedCrop', 'RandomFlip', 'PackInputs']
    assert (train[1]['scale'], train[1]['crop_ratio_range'], train[2]['prob']) == (224, (0.08, 1.0), 0.5)
    assert (val[1]['scale'], val[1]['edge'], val[2]['crop_size']) == (256, 'short', 224)
    assert config['load_from']['min_matched'] == 1.0
    model = MODELS.build(dict(config['model'], head=dict(config['model']['head'], num_classes=100)))
    model.init_weights()
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not model.head.fc.bias.any()


def test_backbone_is_frozen_and_in_eval_mode():
    model = MODELS.build(load_config(STEP)[0].to_dict()['model'])
    model.train()
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ['head.fc.weight',
                                                                                        'head.fc.bias']
    norms = [module for module in model.backbone.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) == 53 and not any(norm.training for norm in norms)


# Runs


def load_tool():
    path = Path(__file__).resolve().parents[3] / 'tools' / 'train.py'
    spec = importlib.util.spec_from_file_location('train', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_recipe(folder, base, weights):
    """A recipe on six images of 32 pixels, three classes, a narrow ResNet-18."""
    for number in range(6):
        path = folder / 'images' / f'class{number % 3}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 36), 20 + 60 * (number % 3)).convert('RGB').save(path)
    data = f"dict(_delete_=True, type='CustomDataset', data_root='{folder}/images', pipeline=%s)"
    train = "[dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=32), dict(type='PackInputs')]"
    val = "[dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]"
    path = folder / 'small.py'
    path.write_text(f"""_base_ = ['{base}']
model = dict(backbone={MMPRETRAIN}, head=dict(num_classes=3, in_channels={DIM}))
train_dataloader = dict(batch_size=3, num_workers=0, persistent_workers=False, dataset={data % train})
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset={data % val})
train_cfg = dict(max_epochs=2)
val_evaluator = dict(topk=(1,))
load_from = dict(path='{weights}')
threads = 1
""")
    return path


@pytest.mark.parametrize('base', [STEP, COS])
def test_only_the_layer_moves(tmp_path, base):
    """MoCo's own check: after training every tensor but the layer's is that of the file, as published names have it."""
    torch.manual_seed(0)
    with narrow_resnets():
        state = resnet18(weights=None).state_dict()
    state = {key: torch.rand_like(value) + 0.5 if value.is_floating_point() and value.ndim == 1 else value
             for key, value in state.items() if not key.startswith('fc.')}
    save_tensors(tmp_path / 'moco.pth.tar', dict(arch='resnet18', state_dict={
        f'module.encoder_q.{key}': value for key, value in state.items()} | {'module.queue': torch.rand(4, 8)}))
    recipe = small_recipe(tmp_path, base, tmp_path / 'moco.pth.tar')
    work_dir = tmp_path / 'run'
    assert load_tool().main([str(recipe), '--work-dir', str(work_dir), '--device', 'cpu']) == 0
    trained = load_tensors(work_dir / 'latest.pth')['state_dict']
    assert {key for key in trained if key.startswith('backbone.')} == {f'backbone.{key}' for key in state}
    assert all(torch.equal(trained[f'backbone.{key}'], value) for key, value in state.items())
    # Six images at a rate of 30: the layer is far from where N(0, 0.01) put it.
    assert trained['head.fc.weight'].abs().max() > 0.1


def test_weights_that_do_not_fit_are_refused(tmp_path, capsys):
    save_tensors(tmp_path / 'other.pth', {'layer9.weight': torch.rand(3)})
    recipe = small_recipe(tmp_path, STEP, tmp_path / 'other.pth')
    assert load_tool().main([str(recipe), '--work-dir', str(tmp_path / 'run'), '--device', 'cpu']) == 2
    assert 'Only 0 of ' in capsys.readouterr().err


def test_demo_recipe_builds(tmp_path, monkeypatch):
    from clear.datasets.make.demo import write_demo

    write_demo(tmp_path / 'data' / 'demo', 'old', limit=100, seeds=[0])
    monkeypatch.chdir(tmp_path)
    assert load_tool().main([str(DEMO), '--dry-run', '--device', 'cpu']) == 0
    assert not (tmp_path / 'work_dirs').exists()
