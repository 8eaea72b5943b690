"""Counts of operations against sums written out."""

import pytest
from mmengine.config import Config
from short_runs import CONFIGS

from clear.core.config import load_config
from clear.core.errors import ConfigError
from clear.engine.inspection.complexity import read_complexity

LENET = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=10, in_channels=120))


def continual(model):
    return Config(dict(cl_strategy=dict(type='Naive'), model=model))


def test_lenet_by_hand():
    found = read_complexity(continual(LENET), (1, 32, 32))
    # Convolutions 5 x 5: 28 x 28 x 6 of 1 channel, 10 x 10 x 16 of 6, one place x 120 of 16; pooling; the head.
    convolutions = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 120 * 16 * 25
    assert found.flops - (convolutions + 120 * 10) in (0, 120)  # mmengine counts the mean of one value
    assert found.parameters == (25 + 1) * 6 + (150 + 1) * 16 + (400 + 1) * 120 + 121 * 10
    assert found.part == 'classifier' and found.shape == (1, 32, 32)


def test_head_on_features_takes_its_own_shape():
    found = read_complexity(continual(dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=64))))
    assert (found.flops, found.shape, found.parameters) == (64 * 5, (64,), 65 * 5)


def test_attention_is_counted():
    """A layer of a Vision Transformer: four projections, two products of attention, two of the MLP."""
    vit = dict(type='VisionTransformer', arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64),
               img_size=32, patch_size=16)
    head = dict(type='LinearClsHead', num_classes=3, in_channels=32)
    found = read_complexity(continual(dict(backbone=vit, head=head)), (32,))
    tokens = 5
    layer = tokens * 4 * 32 * 32 + 2 * tokens * tokens * 32 + 2 * tokens * 32 * 64
    embedding, head, norms = 4 * 32 * 3 * 16 * 16, 32 * 3, 3 * tokens * 32 * 5
    assert layer + embedding + head <= found.flops <= layer + embedding + head + norms
    assert not any('attention' in name for name in found.uncounted)


def test_what_is_frozen_is_not_trained():
    cfg = continual(LENET)
    cfg['frozen'] = ['backbone']
    found = read_complexity(cfg, (1, 32, 32))
    assert found.trained == 121 * 10 < found.parameters == read_complexity(continual(LENET), (1, 32, 32)).trained


def test_heads_of_tasks_are_not_there_yet():
    heads = dict(type='MultiHeadClassifier', in_features=120)
    found = read_complexity(continual(dict(LENET, head=heads)), (1, 32, 32))
    assert found.part == 'backbone and neck, without the heads of tasks'
    assert found.flops == read_complexity(continual(LENET), (1, 32, 32)).flops - 120 * 10
    for model in (dict(head=heads), dict(backbone=dict(type='avalanche.models.MTSimpleMLP', input_size=64))):
        with pytest.raises(ConfigError, match='made while it trains'):
            read_complexity(continual(model), (64,))


def test_backbone_of_an_algorithm():
    cfg, _ = load_config(CONFIGS / 'selfsup' / 'mocov2_resnet18_1xb64-cos-4e_demo.py')
    found = read_complexity(cfg, (32,))
    assert found.part == 'backbone' and found.shape == (3, 32, 32)
    assert found.parameters > found.trained > 0  # the momentum encoder does not train


@pytest.mark.parametrize('shape, message', [((0,), 'sizes above 0'), ((1, 2, 3, 4), 'one to three'),
                                            ((3, 32, 32), 'Say its shape with --shape')])
def test_wrong_shapes(shape, message):
    with pytest.raises(ConfigError, match=message):
        read_complexity(continual(LENET), shape)
