"""Checkpoints as mmengine, timm, DINO, lightly and solo-learn write them: read safely, features equal."""

import argparse
import copy
import sys
import types
from collections import OrderedDict, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from narrow_resnet import DIM, MMPRETRAIN, narrow_resnets
from torch import nn

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors
from clear.models import build_classifier, load_weights
from clear.models.converters.convert import convert_weights
from clear.models.towers.image import TorchvisionEncoder
from clear.registry import MODELS

ARCH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=96)
VIT = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=16)
TIMM_VIT = dict(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=3)


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


def shaken(network, seed=0):
    """Every number of the network differs from what it is built with, and no norm is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.3 + 0.1)
    network.eval()  # mmpretrain's give nothing back
    return network


def torchvision_resnet(seed=0):
    from torchvision.models import resnet18

    return shaken(resnet18(weights=None), seed)


def classifier(backbone=MMPRETRAIN, channels=DIM):
    neck = dict(type='GlobalAveragePooling') if backbone is MMPRETRAIN else None
    head = dict(type='LinearClsHead', num_classes=3, in_channels=channels)
    return build_classifier(dict(backbone=backbone, neck=neck, head=head)).eval()


def timm_vit(seed=0, **options):
    from timm.models.vision_transformer import VisionTransformer

    return shaken(VisionTransformer(**TIMM_VIT, **options), seed)


def save(tmp_path, value, name='weights.pth'):
    torch.save(value, tmp_path / name)
    return tmp_path / name


def features(model, images):
    with torch.no_grad():
        return model.extract_features(images)[-1]


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


# mmengine and mmpretrain


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(dict(MMPRETRAIN))

    def forward(self, inputs, mode):
        return dict(loss=self.backbone(torch.stack(inputs))[0].square().mean())


def test_checkpoint_of_mmengines_own_runner(tmp_path, monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())  # the Runner leaves its scope behind
    cfg = Config(dict(lr=0.01, when=datetime(2020, 1, 1, tzinfo=UTC)))
    loader = dict(batch_size=2, dataset=[dict(inputs=image) for image in IMAGES],
                  collate_fn=dict(type='pseudo_collate'), sampler=dict(type='DefaultSampler'))
    runner = Runner(Net(), str(tmp_path), train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=1),
                    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), log_level='ERROR', cfg=cfg)
    runner.message_hub.update_info('best_acc', np.float64(0.7))
    runner.train()
    file = tmp_path / 'epoch_1.pth'
    assert 'HistoryBuffer' in str(torch.load(file, weights_only=False)['message_hub'])
    model = classifier()
    assert not load_weights(model, file).unexpected
    assert torch.equal(model.backbone.conv1.weight, runner.model.backbone.conv1.weight)
    assert torch.load(file, weights_only=False)['message_hub']['runtime_info']['best_acc'] == 0.7


@pytest.mark.parametrize('value', [
    ConfigDict(a=1, b=dict(c=[ConfigDict(d=2)])), Config(dict(a=1)), argparse.Namespace(out=Path('x'), lr=0.1),
    datetime(2020, 1, 1, tzinfo=UTC), np.random.RandomState(0).get_state(), np.array(['a']), slice(1),
    defaultdict(list, a=[1]), range(3), np.float32(2), torch.float16, np.datetime64('2020-01-01'),
], ids=lambda value: type(value).__name__)
def test_what_other_libraries_put_beside_weights(tmp_path, value):
    file = save(tmp_path, dict(meta=value, state_dict={'x': torch.ones(1)}))
    assert torch.equal(load_tensors(file)['state_dict']['x'], torch.ones(1))


def test_records_hold_data_and_run_nothing(tmp_path, monkeypatch):
    """OmegaConf's nodes, whose classes are not installed here, know their parent; a subclass of dict is a dict."""
    home, parsing = types.ModuleType('omegaconf.dictconfig'), types.ModuleType('pytorch_lightning.utilities.parsing')
    home.DictConfig = type('DictConfig', (), {'__module__': home.__name__})
    parsing.AttributeDict = type('AttributeDict', (dict,), {'__module__': parsing.__name__})
    for module in (home, parsing):
        for end in (at for at, sign in enumerate(f'{module.__name__}.') if sign == '.'):
            monkeypatch.setitem(sys.modules, module.__name__[:end], module)
    callbacks = types.ModuleType('pytorch_lightning.callbacks.model_checkpoint')
    callbacks.ModelCheckpoint = type('ModelCheckpoint', (), {'__module__': callbacks.__name__})
    monkeypatch.setitem(sys.modules, 'pytorch_lightning.callbacks', callbacks)
    monkeypatch.setitem(sys.modules, callbacks.__name__, callbacks)
    outer, inner = home.DictConfig(), home.DictConfig()
    outer._content, inner._parent = {'inner': inner}, outer
    file = save(tmp_path, dict(hyper_parameters=outer, hparams=parsing.AttributeDict(lr=0.1),
                               state_dict={'x': torch.ones(1)}, hparams_type=home.DictConfig,
                               callbacks={callbacks.ModelCheckpoint: {'best_model_path': 'x'}}))
    monkeypatch.undo()
    value = load_tensors(file)
    assert value['hparams'] == {'lr': 0.1} and isinstance(value['hparams'], OrderedDict)
    record = value['hyper_parameters'].state['_content']['inner']
    assert [*value['callbacks'].values()] == [{'best_model_path': 'x'}]
    assert record.state['_parent'] is value['hyper_parameters'] and not hasattr(record, '_content')


@pytest.mark.parametrize('value', [print, nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)], lr=1)],
                         ids=['function', 'module', 'optimiser'])
def test_callables_and_whole_objects_are_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match='could run foreign code'):
        load_tensors(save(tmp_path, dict(state_dict={'x': torch.ones(1)}, more=value)))


# timm, DINO and torchvision: names of Vision Transformers and ConvNeXt


def test_timms_own_checkpoint_of_a_vision_transformer(tmp_path):
    from timm.utils import CheckpointSaver

    network = timm_vit()
    saver = CheckpointSaver(network, torch.optim.SGD(network.parameters(), lr=0.1),
                            args=argparse.Namespace(model='vit', out=Path('x')), checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=np.float64(0.5))
    model = classifier(VIT, 24)
    report = load_weights(model, tmp_path / 'checkpoint-0.pth.tar')
    assert report.source == 'timm_vit' and set(report.unexpected) == {'head.weight', 'head.bias'}
    with torch.no_grad():
        wanted = network.forward_head(network.forward_features(IMAGES), pre_logits=True)
    torch.testing.assert_close(features(model, IMAGES), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: dict(student={f'module.backbone.{key}': value + 1 for key, value in state.items()},
                       teacher={f'backbone.{key}': value for key, value in state.items()} | {
                           'head.mlp.0.weight': torch.rand(4, 24), 'head.last_layer.weight_g': torch.rand(4, 1)},
                       epoch=3, args=argparse.Namespace(arch='vit_small', data_path=Path('x')),
                       dino_loss=dict(center=torch.rand(1, 4))),
    lambda state: dict(teacher={f'backbone.{key}'.replace('blocks.', 'blocks.0.'): value
                                for key, value in state.items()}
                       | {'dino_head.mlp.0.weight': torch.rand(4, 24), 'backbone.mask_token': torch.rand(1, 24)}),
], ids=['published', 'dino', 'dinov2'])
def test_dino(tmp_path, wrap):
    network = timm_vit(init_values=1e-5)  # with DINOv2's layer scale
    state = {key: value for key, value in network.state_dict().items() if not key.startswith('head.')}
    file = save(tmp_path, wrap(state))
    model = classifier(dict(VIT, layer_scale_init_value=1e-5), 24)
    assert {'head.fc.weight', 'head.fc.bias'} == set(load_weights(model, file).missing)
    with torch.no_grad():
        wanted = network.forward_head(network.forward_features(IMAGES), pre_logits=True)
    torch.testing.assert_close(features(model, IMAGES), wanted, rtol=0, atol=1e-6)
    again = timm_vit(1, init_values=1e-5)
    again.head = nn.Identity()
    assert load_weights(again, file).source in ('clear', 'timm', 'dino')
    torch.testing.assert_close(again(IMAGES), wanted, rtol=0, atol=1e-6)


def test_torchvisions_vision_transformer(tmp_path):
    from torchvision.models import VisionTransformer

    network = shaken(VisionTransformer(32, 16, 2, 2, 24, 96, num_classes=3))
    model = build_classifier(dict(backbone=VIT, head=dict(type='VisionTransformerClsHead', num_classes=3,
                                                          in_channels=24))).eval()
    assert load_weights(model, save(tmp_path, network.state_dict()), min_matched=1.0).source == 'torchvision_vit'
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=0, atol=1e-5)


def test_convnext_of_timm(tmp_path):
    from timm.models.convnext import ConvNeXt

    network = shaken(ConvNeXt(num_classes=3, depths=(1, 1, 1, 1), dims=(4, 6, 8, 10)))
    backbone = dict(type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]))
    model = classifier(backbone, 10)
    report = load_weights(model, save(tmp_path, dict(state_dict=network.state_dict())))
    assert report.source == 'timm_convnext' and not report.missing and not report.unexpected
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=0, atol=1e-5)


def test_timms_resnet_inside_a_wrapper_of_transformers(tmp_path):
    network = torchvision_resnet()
    file = save(tmp_path, {f'timm_model.{key}': value for key, value in network.state_dict().items()})
    model = classifier()
    assert load_weights(model, file).source == 'timm'
    assert torch.equal(model.backbone.layer4[1].conv2.weight, network.layer4[1].conv2.weight)


def test_bin_and_safetensors_of_the_hub(tmp_path):
    from safetensors.torch import save_file

    network = timm_vit()
    save_file(network.state_dict(), tmp_path / 'model.safetensors')
    torch.save(network.state_dict(), tmp_path / 'pytorch_model.bin')
    for name in ('model.safetensors', 'pytorch_model.bin'):
        model = classifier(VIT, 24)
        load_weights(model, tmp_path / name, source='timm_vit')
        assert torch.equal(model.backbone.layers[1].ln2.weight, network.blocks[1].norm2.weight)


# lightly and solo-learn


def lightning(state, **more):
    """A checkpoint of Lightning 2.6, as its `Trainer.save_checkpoint` makes it."""
    return {'epoch': 1, 'global_step': 2, 'pytorch-lightning_version': '2.6.6', 'state_dict': OrderedDict(state),
            'loops': {'fit_loop': {'state_dict': {}}}, 'callbacks': {"ModelCheckpoint{'monitor': 'l'}": {
                'best_model_score': torch.tensor(1.0)}}, 'optimizer_states': [], 'lr_schedulers': [], **more}


def by_position(network, prefix):
    """What `nn.Sequential(*list(resnet.children())[:-1])` calls the tensors."""
    inner = nn.Sequential(*list(copy.deepcopy(network).children())[:-1])
    return {f'{prefix}{key}': value for key, value in inner.state_dict().items()}


MADE = {
    'lightly': lambda own, other: lightning(by_position(own, 'backbone.') | {
        'projection_head.layers.0.weight': torch.rand(8, DIM)} | by_position(other, 'backbone_momentum.') | {
        'projection_head_momentum.layers.0.weight': torch.rand(8, DIM)}),
    'lightly_plain': lambda own, other: by_position(own, ''),
    'lightly_run': lambda own, other: lightning(by_position(own, 'model.backbone.')),
    'lightly_dino': lambda own, other: lightning(by_position(other, 'student_backbone.') | by_position(
        own, 'teacher_backbone.') | {'student_head.layers.0.weight': torch.rand(8, DIM)}),
    'lightly_named': lambda own, other: lightning({f'backbone.{key}': value for key, value in own.state_dict().items()}
                                                  | by_position(other, 'student_backbone.')),
    'solo': lambda own, other: lightning(solo(own, 'backbone.') | solo(other, 'momentum_backbone.') | {
        'projector.0.weight': torch.rand(8, DIM), 'classifier.weight': torch.rand(3, DIM),
        'momentum_classifier.weight': torch.rand(3, DIM), 'queue': torch.rand(2, 8, 4)},
        hyper_parameters=argparse.Namespace(method='mocov2plus', data_dir=Path('x'))),
    'solo_before_1.0.3': lambda own, other: lightning(solo(own, 'encoder.') | solo(other, 'momentum_encoder.')),
}


def solo(network, prefix):
    return {f'{prefix}{key}': value for key, value in network.state_dict().items() if not key.startswith('fc.')}


@pytest.mark.parametrize('name', sorted(MADE))
def test_lightly_and_solo_learn(tmp_path, name):
    own = torchvision_resnet(3)
    file = save(tmp_path, MADE[name](own, torchvision_resnet(4)), 'last.ckpt')
    own.fc = nn.Identity()
    with torch.no_grad():
        wanted = own(IMAGES)
    model = classifier()
    load_weights(model, file)
    torch.testing.assert_close(features(model, IMAGES), wanted, rtol=1e-6, atol=0)
    encoder = TorchvisionEncoder('resnet18', weights=str(file))
    torch.testing.assert_close(encoder(IMAGES), wanted, rtol=1e-6, atol=0)
    done = convert_weights(file, arch='resnet18')
    assert set(done.state) == set(own.state_dict())


def test_the_student_is_had_by_name(tmp_path):
    student = torchvision_resnet(4)
    file = save(tmp_path, MADE['lightly_dino'](torchvision_resnet(3), student))
    model = classifier()
    load_weights(model, file, source='lightly_student')
    assert torch.equal(model.backbone.conv1.weight, student.conv1.weight)


def test_lightlys_own_resnet_for_small_images(tmp_path):
    """`ResNetGenerator('resnet-18')`: no pooling behind its stem, so stages begin at 2; `shortcut` in blocks."""
    network = shaken(MODELS.build(dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8)))
    parts = dict(conv1='0', bn1='1', layer1='2', layer2='3', layer3='4', layer4='5')
    state = {}
    for key, value in network.state_dict().items():
        part, _, rest = key.partition('.')
        state[f'backbone.{parts[part]}.{rest.replace("downsample.", "shortcut.")}'] = value
    model = classifier(dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8))
    assert load_weights(model, save(tmp_path, lightning(state))).source == 'lightly_resnet'
    assert torch.equal(model.backbone.layer2[0].downsample[0].weight, network.layer2[0].downsample[0].weight)


def test_masked_vision_transformer_of_lightly(tmp_path):
    network = timm_vit()
    network.head = nn.Identity()
    state = {f'backbone.vit.{key}': value for key, value in network.state_dict().items()}
    encoder = timm_vit(1)
    encoder.head = nn.Identity()
    assert load_weights(encoder, save(tmp_path, lightning(state))).source == 'lightly'
    torch.testing.assert_close(encoder(IMAGES), network(IMAGES))
