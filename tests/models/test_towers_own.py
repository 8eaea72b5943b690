"""Networks of one's own that return a dict, as ViRB's custom encoders do."""

import numpy as np
import pytest
import torch
from narrow_resnet import narrow_resnets
from tiny_encoder import write_images
from torch import nn
from torchvision.models import resnet18

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import save_tensors
from clear.datasets import read_images
from clear.evaluation.heads import PixelWiseHead
from clear.features import extract
from clear.features.build import make_encoder
from clear.models.towers.image import DictEncoder, TorchvisionEncoder
from clear.registry import MODELS

SMALL = dict(resize=64, crop=64)


class Blocks(nn.Module):
    """A ResNet whose forward pass is written out, as ViRB's is; its classifier is there and not read."""

    def __init__(self, gives=('img', 'conv', 'block1', 'block2', 'block3', 'block4', 'embedding')):
        super().__init__()
        with narrow_resnets():
            self.model = resnet18(weights=None)
        self.gives = gives

    def forward(self, images):
        assert images.ndim == 4
        net, found = self.model, dict(img=images)
        value = found['conv'] = net.relu(net.bn1(net.conv1(images)))
        value = net.maxpool(value)
        for number, stage in enumerate((net.layer1, net.layer2, net.layer3, net.layer4), start=1):
            value = found[f'block{number}'] = stage(value)
        found['embedding'] = net.avgpool(value).flatten(1)
        return {name: found[name] for name in self.gives}


@pytest.fixture
def registered():
    MODELS.register_module(name='Blocks', module=Blocks)
    yield
    del MODELS._module_dict['Blocks']


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A file as ViRB's scripts write it, and the encoder of torchvision's network with the same weights."""
    torch.manual_seed(0)
    with narrow_resnets():
        state = resnet18(weights=None).state_dict()
        state = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in state.items()
                 if not name.startswith('fc.')}
        path = tmp_path_factory.mktemp('weights') / 'SWAV_1.pt'
        save_tensors(path, {f'model.{name}': value for name, value in state.items()})
        return path, TorchvisionEncoder('resnet18', weights=path, preprocess=dict(squash=True, **SMALL))


@torch.no_grad()
def test_it_is_the_network_that_it_wraps(published):
    path, peer = published
    encoder = DictEncoder(Blocks(), weights=path, classifier='model.fc', preprocess=SMALL)
    images = torch.rand(2, 3, 64, 96)
    assert (encoder.embed_dim, encoder.map_channels) == (peer.embed_dim, peer.map_channels)
    torch.testing.assert_close(encoder(images), peer(images))
    for found, wanted in zip(encoder.feature_maps(images), peer.feature_maps(images), strict=True):
        torch.testing.assert_close(found, wanted)
    assert encoder.preprocess.squash and encoder.preprocess == peer.preprocess
    assert not encoder.training and encoder.runs_without_grad and encoder.train().training is False
    assert PixelWiseHead(encoder.map_channels, 1)(encoder.feature_maps(images), (64, 96)).shape == (2, 1, 64, 96)


def test_a_registered_class_by_its_config(registered, published):
    cfg = dict(type='DictEncoder', module=dict(type='Blocks'), weights=dict(path=str(published[0])),
               classifier='model.fc', preprocess=SMALL)
    first, second = make_encoder(cfg), make_encoder(cfg)
    assert first.fingerprint() == second.fingerprint()
    other = make_encoder({**cfg, 'module': dict(type='Blocks', gives=('embedding',))})
    random = make_encoder({key: value for key, value in cfg.items() if key != 'weights'})
    assert len({encoder.fingerprint() for encoder in (first, other, random)}) == 3
    assert first.config['weights']['path'] == 'SWAV_1.pt'
    assert random.fingerprint() == make_encoder({key: cfg[key] for key in cfg if key != 'weights'}).fingerprint()


def test_a_bank_of_its_features_and_maps(tmp_path, registered):
    encoder = make_encoder(dict(type='DictEncoder', module=dict(type='Blocks'), preprocess=SMALL))
    source = read_images(dict(type='ImageFolder', root=str(write_images(tmp_path / 'images', count=5))))
    bank = extract(encoder, source, tmp_path / 'bank', batch_size=2, dtype='float32', maps=[0, 4])
    batch = torch.stack([encoder.preprocess.build()(source.open_image(row)) for row in range(5)])
    with torch.no_grad():
        maps = encoder.feature_maps(batch)
        torch.testing.assert_close(torch.from_numpy(bank.features[:].copy()), encoder(batch))
    for level in (0, 4):
        torch.testing.assert_close(torch.from_numpy(np.array(bank.maps(level))), maps[level])


def test_its_embedding_trains_what_it_reads():
    encoder = DictEncoder(Blocks(), preprocess=SMALL, trainable=True)
    taken = {name for name, value in encoder.model.named_parameters() if value.requires_grad}
    assert {name for name, _ in encoder.model.named_parameters()} - taken == {'model.fc.weight', 'model.fc.bias'}


def test_a_map_of_another_stride_is_resampled():
    class Coarse(Blocks):
        def forward(self, images):
            found = super().forward(images)
            return {**found, 'conv': nn.functional.avg_pool2d(found['conv'], 2)}

    encoder = DictEncoder(Coarse(), preprocess=SMALL)
    assert [tuple(value.shape[2:]) for value in encoder.feature_maps(torch.rand(1, 3, 64, 64))] == [
        (32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize('gives', [('embedding',), ('embedding', 'conv', 'block1', 'block2', 'block3'),
                                   ('embedding', 'img')])
def test_without_maps_there_is_an_embedding_alone(gives):
    encoder = DictEncoder(Blocks(gives), preprocess=SMALL)
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 64)
    for ask in (lambda: encoder.map_channels, lambda: encoder.feature_maps(torch.rand(1, 3, 64, 64))):
        with pytest.raises(ConfigError, match='Blocks has no feature maps: .* need conv, block1.* it gives embedding'):
            ask()


class Plain(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return self.value(images)


@pytest.mark.parametrize('value, message', [
    (lambda images: images.flatten(1), 'Plain returns Tensor; expected a dict with embedding'),
    (lambda images: dict(features=images.flatten(1)), 'expected an embedding'),
    (lambda images: dict(embedding=images.flatten(2)), r'gives \(1, 3, 4096\), expected an embedding')])
def test_what_returns_no_such_dict_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        DictEncoder(Plain(value), preprocess=SMALL)


def test_bad_modules_and_weights(tmp_path, registered):
    with pytest.raises(ConfigError, match='widht'):
        make_encoder(dict(type='DictEncoder', module=dict(type='Blocks', widht=3)))
    with pytest.raises(ConfigError, match='Blcoks'):
        make_encoder(dict(type='DictEncoder', module=dict(type='Blcoks')))
    save_tensors(tmp_path / 'bare.pt', {'layer.weight': torch.rand(2)})
    with pytest.raises(CheckpointError, match='Only 0 of '):
        DictEncoder(Blocks(), weights=tmp_path / 'bare.pt', preprocess=SMALL)
