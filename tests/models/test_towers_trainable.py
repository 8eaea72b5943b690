"""Image towers that train: gradients everywhere, moving statistics, no auxiliary outputs; the same ones frozen."""

import copy

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models

from clear.models import TorchHubEncoder, TorchvisionEncoder, build_encoder
from clear.models.towers.image.strip import fitting_images

ALL = models.list_models(module=models)
QUICK = ['googlenet', 'mobilenet_v3_small', 'squeezenet1_1', 'shufflenet_v2_x0_5']
SMALL = dict(crop=64, resize=64)


def check_training(encoder, batch=2):
    assert not encoder.training and any(value.requires_grad for value in encoder.parameters())
    encoder.train()
    assert encoder.model.training
    image = fitting_images(copy.deepcopy(encoder.model).eval(), encoder.preprocess.crop)
    images = torch.cat([image, *(torch.rand_like(image) for _ in range(batch - 1))])
    before = {name: value.clone() for name, value in encoder.named_buffers() if name.endswith('running_mean')}
    features = encoder(images)
    assert features.shape == (batch, encoder.embed_dim) and features.dtype == torch.float32
    features.square().sum().backward()
    silent = [name for name, value in encoder.named_parameters() if value.requires_grad and value.grad is None]
    assert not silent and all(value.grad.isfinite().all() for value in encoder.parameters() if value.requires_grad)
    moved = {name: not torch.equal(value, before[name]) for name, value in encoder.named_buffers() if name in before}
    assert all(moved.values())
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('arch', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in ALL])
def test_torchvision_in_training(arch):
    torch.manual_seed(0)
    encoder = TorchvisionEncoder(arch, trainable=True)
    # All of torchvision's networks read all of their weights.
    assert all(value.requires_grad for value in encoder.parameters())
    check_training(encoder)


@pytest.mark.parametrize('cfg', [
    dict(type='TimmEncoder', arch='test_resnet', preprocess=SMALL), dict(type='TimmEncoder', arch='test_vit'),
    dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18), preprocess=SMALL),
    dict(type='OpenCLIPImageEncoder', arch='RN50', model_args=dict(
        embed_dim=16, vision_cfg=dict(layers=(1, 1, 1, 1), width=8, image_size=64))),
    dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=dict(
        embed_dim=16, vision_cfg=dict(layers=2, width=32, head_width=16, patch_size=8, image_size=32))),
], ids=lambda cfg: f"{cfg['type']}-{cfg.get('arch', 'ResNet')}")
def test_makers_in_training(cfg):
    torch.manual_seed(0)
    encoder = build_encoder(dict(cfg, trainable=True))
    check_training(encoder)
    torch.manual_seed(0)
    frozen = build_encoder(cfg)
    torch.manual_seed(0)
    assert build_encoder(dict(cfg, trainable=True)).fingerprint() == frozen.fingerprint()
    assert not any(value.requires_grad for value in frozen.parameters()) and not frozen.train().model.training


def test_looking_for_maps_moves_no_statistics():
    encoder = TorchvisionEncoder('resnet18', trainable=True, preprocess=SMALL).train()
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    assert len(encoder.map_channels) == 5 and not any(module.num_batches_tracked for module in norms)
    assert all(module.training for module in norms)


HUBCONF = '''
import torch
class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.local, self.pooled = (torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 9), torch.nn.Linear(4, 6))
    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.local(x), self.pooled(x)
def pair():
    return Pair()
'''


def test_of_a_pair_the_second_counts(tmp_path):
    (tmp_path / 'hubconf.py').write_text(HUBCONF)
    encoder = TorchHubEncoder(str(tmp_path), 'pair', trainable=True, preprocess=SMALL).train()
    images = torch.rand(2, 3, 64, 64)
    features = encoder(images)
    assert features.shape == (2, 6) and torch.equal(features, encoder.model(images)[1])
    # What the embedding does not read is frozen: several processes would wait for its gradient.
    assert not encoder.model.local.weight.requires_grad and encoder.model.pooled.weight.requires_grad


def test_trained_weights_of_inception_load_into_a_frozen_one(tmp_path):
    """A file with auxiliary classifiers (torchvision's own) loads, and so does one that was saved without them."""
    from clear.models.towers.image.torchvision import build_torchvision

    full = build_torchvision('googlenet', dict(aux_logits=True))
    torch.save(full.state_dict(), tmp_path / 'full.pth')
    encoder = TorchvisionEncoder('googlenet', weights=tmp_path / 'full.pth')
    assert torch.equal(encoder.model.conv1.conv.weight, full.conv1.conv.weight)
    torch.save(encoder.model.state_dict(), tmp_path / 'own.pth')
    again = TorchvisionEncoder('googlenet', weights=tmp_path / 'own.pth')
    assert again.fingerprint() == encoder.fingerprint()
