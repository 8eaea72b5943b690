"""Image towers of transformers, against the library, with tiny random weights in folders."""

import json

import pytest
import torch
from tiny_text import write_bert, write_two_towers

from clear.core.errors import CheckpointError, ConfigError
from clear.models import HuggingFaceImageEncoder, build_encoder

transformers = pytest.importorskip('transformers')

VIT = dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=37, image_size=32,
           patch_size=8)
STAGES = dict(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])
PLAIN = {
    'ViT': VIT, 'Dinov2': VIT, 'ConvNext': dict(STAGES, num_stages=4, image_size=64),
    'ResNet': dict(STAGES, embedding_size=8), 'Swin': dict(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1],
                                                           num_heads=[2, 2], window_size=4),
}


def write(folder, name, cls=None):
    torch.manual_seed(0)
    config = getattr(transformers, f'{name}Config')(**PLAIN[name])
    getattr(transformers, cls or f'{name}Model')(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize('name', PLAIN)
def test_plain_networks(tmp_path, name):
    folder = write(tmp_path / 'm', name)
    model = getattr(transformers, f'{name}Model').from_pretrained(folder).eval()
    encoder = build_encoder(dict(type='HuggingFaceImageEncoder', model=folder, trainable=True))
    images = torch.rand(2, 3, encoder.preprocess.crop, encoder.preprocess.crop)
    with torch.no_grad():
        outputs = model(pixel_values=images)
    # ViT's pooler has weights of its own pretraining: the class token counts.
    expected = outputs.last_hidden_state[:, 0] if name == 'ViT' else outputs.pooler_output.flatten(1)
    features = encoder(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert encoder.embed_dim == features.shape[1] and encoder.augmentation == 'crop_flip'
    features.square().sum().backward()
    assert all(value.grad is not None for value in encoder.parameters() if value.requires_grad)
    frozen = {key for key, value in encoder.named_parameters() if not value.requires_grad}
    assert all('mask_token' in key for key in frozen) and str(tmp_path) not in str(encoder.config)
    again = HuggingFaceImageEncoder(folder)
    assert again.fingerprint() == encoder.fingerprint() and not again(images).requires_grad
    if name != 'Swin':  # Two stages are too few for five maps.
        assert [tuple(maps.shape[:2]) for maps in again.feature_maps(images)] == [(2, c) for c in again.map_channels]


@pytest.mark.parametrize('family', ['CLIP', 'Siglip', 'AltCLIP', 'ChineseCLIP'])
def test_two_towers(tmp_path, family):
    torch.manual_seed(0)
    folder = write_two_towers(tmp_path / 'm', family)
    model = getattr(transformers, f'{family}Model').from_pretrained(folder).eval()
    encoder = HuggingFaceImageEncoder(folder, trainable=True)
    assert encoder.preprocess.crop == 32 and encoder.preprocess.mean[0] == pytest.approx(0.48145466)
    assert encoder.augmentation == ('none' if family == 'ChineseCLIP' else 'crop')
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model.get_image_features(pixel_values=images), rtol=1e-4, atol=1e-5)
    encoder.train()(images).square().sum().backward()
    assert all(value.grad is not None for value in encoder.parameters() if value.requires_grad)
    assert not any('text' in name for name, _ in encoder.named_parameters())


def test_the_processor_of_the_folder(tmp_path):
    folder = write(tmp_path / 'm', 'ViT')
    said = dict(size=dict(shortest_edge=40), crop_size=dict(height=32, width=32), image_mean=[0.5] * 3,
                image_std=[0.25] * 3, resample=1, do_center_crop=True)
    (tmp_path / 'm' / 'preprocessor_config.json').write_text(json.dumps(said))
    spec = HuggingFaceImageEncoder(folder, preprocess=dict(std=(0.2, 0.2, 0.2))).preprocess
    assert (spec.resize, spec.crop, spec.interpolation) == (40, 32, 'lanczos')
    assert spec.mean == (0.5, 0.5, 0.5) and spec.std == (0.2, 0.2, 0.2)
    said = dict(size=dict(height=32, width=32), resample=3)
    (tmp_path / 'm' / 'preprocessor_config.json').write_text(json.dumps(said))
    spec = HuggingFaceImageEncoder(folder).preprocess
    assert (spec.resize, spec.crop, spec.interpolation) == (32, 32, 'bicubic')


def test_bad_input(tmp_path):
    with pytest.raises(ConfigError, match='bert is no vision network'):
        HuggingFaceImageEncoder(write_bert(tmp_path / 'bert'))
    with pytest.raises(ConfigError, match='no folder here.*allow_network=True'):
        HuggingFaceImageEncoder('google/vit-base-patch16-224', cache_dir=str(tmp_path))
    from safetensors.torch import load_file, save_file

    folder = write(tmp_path / 'vit', 'ViT')
    state = load_file(f'{folder}/model.safetensors')
    state.pop('embeddings.cls_token')
    save_file(state, f'{folder}/model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(CheckpointError, match='lack 1 tensors of ViTModel, first embeddings.cls_token'):
        HuggingFaceImageEncoder(folder)
    assert HuggingFaceImageEncoder(folder, pretrained=False).embed_dim == 32
