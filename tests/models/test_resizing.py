"""Weights made for another size of image: resized as their own library does it, or refused by the tensor's name."""

import logging

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from clear.core.errors import CheckpointError
from clear.core.files import save_tensors
from clear.models import build_classifier, load_weights
from clear.models.towers.image import MMPretrainEncoder, TimmEncoder, TorchvisionEncoder

TINY = dict(embed_dim=24, depth=2, num_heads=2)
# Architectures of timm whose tables follow the size of the image, with arguments that make them small.
TIMM = {
    'vit': ('vit_tiny_patch16_224', TINY, 96, 64),
    'deit_distilled': ('deit_tiny_distilled_patch16_224', TINY, 64, 96),
    'vit_average': ('vit_tiny_patch16_224', dict(TINY, global_pool='avg', class_token=False), 96, 64),
    'beit': ('beit_base_patch16_224', TINY, 96, 64),
    'eva': ('eva02_tiny_patch14_224', dict(TINY), 84, 56),
    'swin': ('swin_tiny_patch4_window7_224', dict(embed_dim=12, depths=(1, 1), num_heads=(1, 2)), 64, 96),
}


def save(tmp_path, state):
    save_tensors(tmp_path / 'w.pth', state)
    return str(tmp_path / 'w.pth')


def timm_model(name, size, **more):
    arch, arguments, _, _ = TIMM[name]
    return timm.create_model(arch, **{**arguments, 'img_size': size, **window(name, size), **more})


def window(name, size):
    return dict(window_size=size // 16) if name == 'swin' else {}


@torch.no_grad()
def random_model(build):
    """A network whose tensors are all far from their start values, position tables above all."""
    torch.manual_seed(1)
    model = build()
    for name, value in model.state_dict().items():
        if value.is_floating_point() and ('pos' in name or 'bias_table' in name):
            value.copy_(torch.randn(value.shape))
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize('name', TIMM)
def test_features_are_those_of_timms_own_resize(tmp_path, name):
    arch, arguments, old_size, size = TIMM[name]
    old = random_model(lambda: timm_model(name, old_size, num_classes=5))
    encoder = TimmEncoder(arch, weights=save(tmp_path, old.state_dict()), preprocess=dict(crop=size, resize=size),
                          model_args=dict(arguments, img_size=size, **window(name, size)))
    plain = timm_model(name, size, num_classes=5).eval()
    timm.models.load_checkpoint(plain, str(tmp_path / 'w.pth'), filter_fn=filter_of(plain))
    images = torch.randn(2, 3, size, size)
    expected = plain.forward_head(plain.forward_features(images), pre_logits=True)
    assert cosine_similarity(encoder(images), expected).min() > 0.999
    assert encoder.load_report.resized and not encoder.load_report.shape_mismatch
    torch.testing.assert_close(encoder(images), expected)


def filter_of(model):
    """The function by which timm itself reads files for this model."""
    import importlib

    return importlib.import_module(type(model).__module__).checkpoint_filter_fn


@torch.no_grad()
def test_features_are_those_of_torchvisions_own_resize(tmp_path):
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    arguments = dict(patch_size=16, num_layers=1, num_heads=2, hidden_dim=24, mlp_dim=24)
    old = random_model(lambda: VisionTransformer(96, num_classes=5, **arguments))
    path = save(tmp_path, old.state_dict())
    plain, model = (VisionTransformer(64, num_classes=5, **arguments).eval() for _ in range(2))
    plain.load_state_dict(interpolate_embeddings(64, 16, old.state_dict()))
    report = load_weights(model, path)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(images), plain(images))
    assert report.resized == ('encoder.pos_embedding',)


@torch.no_grad()
def test_features_are_those_of_open_clips_own_resize(tmp_path):
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed
    from open_clip.transformer import VisionTransformer

    def tower(size):
        return VisionTransformer(size, patch_size=16, width=24, layers=1, heads=2, mlp_ratio=1, output_dim=8).eval()

    old = random_model(lambda: tower(96))
    state = {f'visual.{name}': value for name, value in old.state_dict().items()}
    path = save(tmp_path, state | {'logit_scale': torch.ones(()), 'token_embedding.weight': torch.ones(3, 2)})
    plain, model = tower(64), tower(64)
    resize_pos_embed(state, SimpleNamespace(visual=plain))
    plain.load_state_dict({name.removeprefix('visual.'): value for name, value in state.items()})
    report = load_weights(model, path, removed=())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(images), plain(images))
    assert (report.resized, report.source) == (('positional_embedding',), 'openclip')


def torchvision_vit(size, patch):
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(size, patch, num_layers=1, num_heads=2, hidden_dim=24, mlp_dim=24, num_classes=5)


def open_clip_vit(size, patch):
    from open_clip.transformer import VisionTransformer

    return VisionTransformer(size, patch_size=patch, width=24, layers=1, heads=2, mlp_ratio=1, output_dim=8)


def timm_vit(size, patch):
    return timm.create_model('vit_tiny_patch16_224', img_size=size, patch_size=patch, **TINY)


def mixer(size, patch):
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=size, patch_size=patch, num_blocks=1, embed_dim=24)


@pytest.mark.parametrize('build, old, new, named', [
    (timm_vit, (64, 16), (128, 32), 'patch_embed.proj.weight'), (timm_vit, (64, 16), (64, 32), 'patch_embed.proj'),
    (torchvision_vit, (64, 16), (128, 32), 'conv_proj.weight'), (open_clip_vit, (64, 16), (128, 32), 'conv1.weight'),
    (mixer, (64, 16), (96, 16), 'blocks.0.mlp_tokens.fc1.weight'),
], ids=['timm', 'timm_other_grid', 'torchvision', 'open_clip', 'mixer'])
def test_weights_of_another_shape_are_refused_by_name(tmp_path, build, old, new, named):
    path = save(tmp_path, build(*old).state_dict())
    model = build(*new)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=f'of another shape: {named}'):
        load_weights(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_encoder_wants_every_tensor_of_its_file(tmp_path, caplog):
    small = dict(preprocess=dict(crop=64, resize=64))
    state = TorchvisionEncoder('resnet18', **small).model.state_dict()
    del state['layer2.0.conv1.weight']
    path = save(tmp_path, state)
    with pytest.raises(CheckpointError, match=r'Only \d+ of \d+ tensors .*First missing: layer2.0.conv1.weight'):
        TorchvisionEncoder('resnet18', weights=path, **small)
    with caplog.at_level(logging.INFO, 'clear'):
        TorchvisionEncoder('resnet18', weights=dict(path=path, min_matched=0.9), **small)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 'stay as they were: layer2.0.conv1.weight' in warning
    # What was loaded is said in any case.
    assert any('tensors of the model loaded' in record.getMessage() for record in caplog.records)


def test_layers_of_the_head_that_belong_to_an_encoder_are_wanted_too(tmp_path):
    # MobileNetV3: of its head's two layers only the last one is the classifier.
    arch, small = 'mobilenet-v3-small-050_3rdparty_in1k', dict(preprocess=dict(crop=64, resize=64))
    state = MMPretrainEncoder(arch=arch, **small).model.state_dict()
    path = save(tmp_path, {name: value for name, value in state.items() if not name.startswith('head.')})
    assert any(name.startswith('head.') for name in state)
    with pytest.raises(CheckpointError, match=r'First missing: head\.layers\.0'):
        MMPretrainEncoder(arch=arch, weights=path, **small)
    MMPretrainEncoder(arch=arch, weights=save(tmp_path, state), **small)


def test_weights_of_a_deeper_network_are_refused(tmp_path, caplog):

    def resnet(depth):
        return build_classifier(dict(backbone=dict(type='ResNet', depth=depth), neck=dict(type='GlobalAveragePooling'),
                                     head=dict(type='LinearClsHead', num_classes=3, in_channels=512)))

    path = save(tmp_path, resnet(34).state_dict())
    with pytest.raises(CheckpointError, match='first backbone.layer1.2.conv1.weight: .* larger network'):
        load_weights(resnet(18), path)
    load_weights(resnet(18), path, min_matched=0.9)
    assert 'backbone.layer1.2.conv1.weight' in caplog.text


@pytest.mark.parametrize('extra', [
    {'decoder.layer1.weight': torch.ones(2)}, {'mask_token': torch.ones(1, 1, 24)}, {'fc.weight': torch.ones(3, 24)},
    {'blocks.0.attn.relative_position_index': torch.ones(3, dtype=torch.int64)}])
def test_other_parts_of_a_file_do_not_count_as_a_deeper_network(tmp_path, extra):
    torch.manual_seed(0)
    model = timm_vit(64, 16)
    report = load_weights(timm_vit(64, 16), save(tmp_path, model.state_dict() | extra))
    assert set(report.unexpected) == set(extra)


def test_a_table_below_another_part_is_resized(tmp_path):
    class Tower(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.trunk, self.proj = timm_vit(size, 16), nn.Linear(24, 3)

    old = random_model(lambda: Tower(96))
    model = Tower(64)
    assert load_weights(model, save(tmp_path, old.state_dict())).resized == ('trunk.pos_embed',)
    assert torch.equal(model.trunk.pos_embed[:, 0], old.trunk.pos_embed[:, 0])
