"""Parameter groups of two towers against tables written by hand."""

import pytest
import torch
from tiny_text import TINY_CLIP, write_bert
from torch import nn

from clear.core.errors import ConfigError
from clear.models import ImageTextAlignment
from clear.models.alignment.optim_groups import AlignmentOptimConstructor

RESNET = dict(TINY_CLIP, vision_cfg=dict(width=8, head_width=8, layers=[1, 1, 1, 1], image_size=32, patch_size=None))
LR, DECAY = 0.5, 0.1


def make(image=TINY_CLIP, text=None, arch='ViT-B-32', **changes):
    text = text or dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    options = dict(image_encoder=dict(type='OpenCLIPImageEncoder', arch=arch, model_args=image, trainable=True),
                   text_encoder=text, loss=dict(type='InfoNCELoss'),
                   image_head=dict(type='ProjectionMLP', out_channels=16))
    return ImageTextAlignment(**{**options, **changes})


def table(model, optimizer=None, **paramwise):
    """Name -> (rate, weight decay) of every parameter that the optimiser has."""
    optimizer = optimizer or dict(type='AdamW', lr=LR, weight_decay=DECAY)
    wrapper = AlignmentOptimConstructor(dict(optimizer=optimizer), paramwise)(model)
    names = {id(value): name for name, value in model.named_parameters()}
    return {names[id(value)]: (group['lr'], group['weight_decay'])
            for group in wrapper.optimizer.param_groups for value in group['params']}


def rates(found, *parts):
    """Rates of the parameters whose names contain one of these."""
    values = {rate for name, (rate, _) in found.items() if any(part in name for part in parts)}
    assert len(values) == 1, values
    return pytest.approx(values.pop() / LR)


def test_weights_decay_and_nothing_else():
    model = make()
    found = table(model)
    assert set(found) == {name for name, value in model.named_parameters() if value.requires_grad}
    assert {rate for rate, _ in found.values()} == {LR}
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    assert spared == {name for name in found if name.endswith(('.bias', '_bias', 'positional_embedding', 'logit_scale',
                                                               'class_embedding'))
                      or '.ln_' in name or '.bn' in name}
    assert {decay for _, decay in found.values()} == {0.0, DECAY}
    legacy = {name for name, (_, decay) in table(model, legacy=True).items() if decay == 0}
    assert spared - legacy == {'image_encoder.model.positional_embedding', 'text_encoder.model.positional_embedding'}
    assert legacy <= spared  # a class embedding has one dimension


def test_rates_of_vit_and_text_fall_towards_the_input():
    found = table(make(), layer_decay_image=0.5, layer_decay_text=0.8, backbone_decay=0.1)
    image, text = 'image_encoder.model.', 'text_encoder.model.'
    for part in ('conv1.', 'class_embedding', 'positional_embedding', 'ln_pre.'):
        assert rates(found, image + part) == 0.1 * 0.5 ** 4
    for part in ('token_embedding.', 'positional_embedding'):
        assert rates(found, text + part) == 0.1 * 0.8 ** 4
    for block in range(3):
        assert rates(found, f'{image}transformer.resblocks.{block}.') == 0.1 * 0.5 ** (3 - block)
        assert rates(found, f'{text}transformer.resblocks.{block}.') == 0.1 * 0.8 ** (3 - block)
    assert rates(found, image + 'ln_post', image + 'proj', text + 'ln_final', text + 'text_projection', 'image_head',
                 'logit_scale') == 1


def test_the_reference_gives_embeddings_the_full_rate():
    found = table(make(), layer_decay_image=0.5, layer_decay_text=0.8, backbone_decay=0.1, legacy=True)
    for block in range(3):
        assert rates(found, f'image_encoder.model.transformer.resblocks.{block}.') == 0.1 * 0.5 ** (3 - block)
        assert rates(found, f'text_encoder.model.transformer.resblocks.{block}.') == 0.1 * 0.8 ** (3 - block)
    assert {rate for name, (rate, _) in found.items() if 'resblocks' not in name} == {LR}
    assert {rate for rate, _ in table(make(), backbone_decay=0.1, legacy=True).values()} == {LR}


def test_stages_of_a_resnet():
    model = make(RESNET, arch='RN50')
    found = table(model, layer_decay_image=0.5)
    assert rates(found, 'image_encoder.model.conv', 'image_encoder.model.bn') == 0.5 ** 5
    for stage in range(1, 5):
        assert rates(found, f'image_encoder.model.layer{stage}.') == 0.5 ** (5 - stage)
    assert rates(found, 'attnpool', 'image_head', 'text_encoder') == 1
    legacy = table(model, layer_decay_image=0.5, legacy=True)
    assert rates(legacy, 'image_encoder.model.conv', 'image_encoder.model.bn', 'image_head') == 0.5 ** 6
    for stage in range(1, 5):
        assert rates(legacy, f'image_encoder.model.layer{stage}.') == 0.5 ** (7 - (stage + 1))
    assert rates(legacy, 'attnpool', 'text_encoder') == 1


def test_a_backbone_decay_alone_slows_blocks_and_embeddings():
    found = table(make(), backbone_decay=0.1)
    assert rates(found, 'resblocks', 'token_embedding', 'conv1') == 0.1
    assert rates(found, 'ln_post', 'ln_final', 'image_head') == 1


def test_layers_of_hugging_face(tmp_path):
    pytest.importorskip('transformers')
    text = dict(type='HuggingFaceTextEncoder', model=write_bert(tmp_path / 'bert'), text_pooler='cls', trainable=True)
    model = make(text=text, image_head=dict(type='ProjectionMLP', out_channels=32))
    found = table(model, layer_decay_text=0.5)
    assert rates(found, 'text_encoder.model.embeddings.') == 0.5 ** 3
    assert rates(found, 'encoder.layer.0.') == 0.5 ** 2 and rates(found, 'encoder.layer.1.') == 0.5
    assert rates(found, 'pooler', 'image_encoder') == 1
    decays = {name.split('.embeddings.')[1]: decay for name, (_, decay) in found.items() if '.embeddings.' in name}
    assert decays == {'word_embeddings.weight': DECAY, 'position_embeddings.weight': 0,
                      'token_type_embeddings.weight': 0, 'LayerNorm.weight': 0, 'LayerNorm.bias': 0}
    assert {rate for rate, _ in table(model, layer_decay_text=0.5, legacy=True).values()} == {LR}


def test_a_locked_tower_is_left_out():
    model = make(image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP))
    assert not any(name.startswith('image_encoder') for name in table(model, layer_decay_image=0.5))


def test_a_step_moves_each_group_by_its_rate():
    model = make(image_head=None)
    wrapper = AlignmentOptimConstructor(dict(optimizer=dict(type='SGD', lr=LR)), dict(layer_decay_image=0.5))(model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    sum(value.sum() for value in model.parameters()).backward()
    wrapper.step()
    moved = {name: (before[name] - value).mean().item() for name, value in model.named_parameters()}
    assert moved['image_encoder.model.conv1.weight'] == pytest.approx(LR / 16, abs=1e-6)
    assert moved['text_encoder.model.token_embedding.weight'] == pytest.approx(LR, abs=1e-6)


@pytest.mark.parametrize(('paramwise', 'message'), [
    (dict(layer_decay_imag=0.5), 'layer_decay_image'), (dict(layer_decay_text=0), 'above 0'),
    (dict(legacy='yes'), 'legacy')])
def test_wrong_options(paramwise, message):
    with pytest.raises(ConfigError, match=message):
        AlignmentOptimConstructor(dict(optimizer=dict(type='SGD', lr=1)), paramwise)


def test_models_and_optimisers_that_do_not_fit():
    with pytest.raises(ConfigError, match='needs optim_wrapper.optimizer'):
        AlignmentOptimConstructor(dict(type='OptimWrapper'))
    with pytest.raises(ConfigError, match='Linear is none'):
        AlignmentOptimConstructor(dict(optimizer=dict(type='SGD', lr=1)))(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match='lacks lr'):
        table(make(), optimizer=dict(type='AdamW'), layer_decay_text=0.5)
    model = make()
    model.image_encoder.model = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match='image tower, whose Linear has no chain'):
        table(model, layer_decay_image=0.5)
    for value in model.parameters():
        value.requires_grad_(False)
    with pytest.raises(ConfigError, match='Nothing trains'):
        table(model)
    assert torch.is_grad_enabled()
