"""The composed classifier: parts from configs, logits as each head's own prediction, errors that name the part."""

import copy
import io
import logging
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import nn

from clear.core.errors import ConfigError
from clear.models import ComposedClassifier, build_classifier
from clear.registry import MODELS

TINY_VIT = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
GAP = dict(type='GlobalAveragePooling')


def linear(in_channels):
    return dict(type='LinearClsHead', num_classes=5, in_channels=in_channels)


IMAGE_MODELS = {
    'lenet5': (dict(backbone=dict(type='LeNet5'), neck=GAP, head=linear(120)), (1, 32, 32)),
    'lenet5_own_classifier': (dict(backbone=dict(type='LeNet5', num_classes=5)), (1, 32, 32)),
    'resnet18': (dict(backbone=dict(type='ResNet', depth=18), neck=GAP, head=linear(512)), (3, 32, 32)),
    'mobilenet_v3': (dict(backbone=dict(type='MobileNetV3', arch='small'), neck=GAP,
                          head=dict(type='StackedLinearClsHead', num_classes=5, in_channels=576, mid_channels=[16])),
                     (3, 32, 32)),
    'vit': (dict(backbone=dict(type='VisionTransformer', arch=TINY_VIT, img_size=32, patch_size=16),
                 head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=24)), (3, 32, 32)),
    'deit': (dict(backbone=dict(type='DistilledVisionTransformer', arch=TINY_VIT, img_size=32, patch_size=16),
                  head=dict(type='DeiTClsHead', num_classes=5, in_channels=24)), (3, 32, 32)),
    'swin': (dict(backbone=dict(type='SwinTransformer', pad_small_map=True, img_size=64,
                                arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2])),
                  neck=GAP, head=linear(96)), (3, 64, 64)),
    'conformer': (dict(backbone=dict(type='Conformer', arch='tiny'),
                       head=dict(type='ConformerHead', num_classes=5, in_channels=[256, 384])), (3, 64, 64)),
}


@pytest.fixture(scope='module', params=IMAGE_MODELS)
def built(request):
    cfg, shape = IMAGE_MODELS[request.param]
    torch.manual_seed(0)
    return cfg, build_classifier(cfg), torch.rand(2, *shape)


@pytest.mark.filterwarnings('ignore:MMPretrain cannot train')
def test_image_model_gives_logits_in_both_modes(built):
    cfg, model, images = built
    model.train()
    logits = model(images)
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in model.parameters())
    model.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        both = model(images)
        one = model(images[:1])
    assert both.shape == (2, 5)
    assert one.shape == (1, 5)
    # A sample's logits do not depend on its neighbours.
    torch.testing.assert_close(one, both[:1], rtol=1e-4, atol=1e-5)
    assert model.num_classes == 5


def test_copies_give_the_same_logits(built):
    _, model, images = built
    model.eval()
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), model(images), rtol=0, atol=0)
    assert not set(map(id, teacher.parameters())) & set(map(id, model.parameters()))


@pytest.mark.parametrize('name', ['lenet5', 'vit', 'mobilenet_v3'])
def test_initialisation_follows_the_seed(name):
    def build(seed):
        torch.manual_seed(seed)
        return build_classifier(IMAGE_MODELS[name][0]).state_dict()

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_weights_are_initialised_as_the_head_says():
    torch.manual_seed(0)
    model = build_classifier(dict(head=dict(type='LinearClsHead', num_classes=100, in_channels=512)))
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)  # torch's own would be 0.0255
    assert not model.head.fc.bias.any()


@pytest.mark.parametrize('handler', [logging.StreamHandler, logging.FileHandler])
def test_building_logs_nothing(tmp_path, handler):
    # mmengine would write a line for each parameter, into a log file by another way than to the console.
    stream = io.StringIO()
    one = handler(tmp_path / 'run.log') if handler is logging.FileHandler else handler(stream)
    one.setLevel(logging.INFO)
    logger = MMLogger.get_current_instance()
    logger.addHandler(one)
    try:
        build_classifier(IMAGE_MODELS['lenet5'][0])
        logger.warning('the handler works')
    finally:
        logger.removeHandler(one)
        one.close()
    log = stream.getvalue() or (tmp_path / 'run.log').read_text()
    assert log.splitlines() == ['the handler works']


def test_config_is_not_changed():
    cfg = dict(head=linear(7), init_cfg=dict(type='Normal', layer='Linear', std=1.0))
    before = copy.deepcopy(cfg)
    build_classifier(cfg)
    assert cfg == before


@pytest.mark.parametrize('name, shape', [('resnet18', (3, 32, 32)), ('resnet50', (3, 32, 32)),
                                         ('lenet5_demo', (1, 32, 32)), ('linear_2048', (2048,)),
                                         ('cosine_2048', (2048,))])
def test_base_models_of_the_continual_configs_build(name, shape):
    path = Path(__file__).parents[2] / 'configs/_base_/models' / f'{name}.py'
    model = build_classifier(Config.fromfile(path).model)
    model.eval()
    assert model(torch.rand(1, *shape)).shape == (1, 10 if name == 'lenet5_demo' else 11)


def test_several_necks_follow_each_other():
    torch.manual_seed(0)
    necks = [GAP, dict(type='LinearNeck', in_channels=6, out_channels=8)]
    model = build_classifier(dict(neck=necks, head=linear(8)))
    pool, project = model.neck
    maps = (torch.rand(2, 6, 3, 3),)
    model.eval()
    with torch.no_grad():
        logits = model(maps)
        assert torch.equal(logits, model.head(project(pool(maps)))) and logits.shape == (2, 5)
    with pytest.raises(ConfigError, match=r'model.neck\[1\]: .*GlobalAveragePoling'):
        build_classifier(dict(neck=[GAP, dict(type='GlobalAveragePoling')], head=linear(8)))


# Every head that can predict classes, with the features it takes. Scores: softmax, or sigmoid for several labels.
DEIT_FEATS = ([torch.rand(3, 6), torch.rand(3, 6)],)
HEADS = {
    'ClsHead': [(dict(), (torch.rand(3, 5),))],
    'LinearClsHead': [(dict(in_channels=6), (torch.rand(3, 9), torch.rand(3, 6)))],
    'CosineDistanceHead': [(dict(in_channels=6), (torch.rand(3, 6),))],
    'VisionTransformerClsHead': [(dict(in_channels=6), (torch.rand(3, 6),)),
                                 (dict(in_channels=6, hidden_dim=4), ([torch.rand(3, 2, 6), torch.rand(3, 6)],))],
    'DeiTClsHead': [(dict(in_channels=6), DEIT_FEATS), (dict(in_channels=6, hidden_dim=4), DEIT_FEATS)],
    'ConformerHead': [(dict(in_channels=[4, 6]), ([torch.rand(3, 4), torch.rand(3, 6)],))],
    'EfficientFormerClsHead': [(dict(in_channels=6, distillation=flag), (torch.rand(3, 6),)) for flag in (True, False)],
    'LeViTClsHead': [(dict(in_channels=6, distillation=flag), (torch.rand(3, 6),)) for flag in (True, False)],
    'StackedLinearClsHead': [(dict(in_channels=6, mid_channels=[4, 3]), (torch.rand(3, 6),))],
    'VigClsHead': [(dict(in_channels=6, hidden_dim=4), (torch.rand(3, 6),))],
    'ArcFaceClsHead': [(dict(in_channels=6), (torch.rand(3, 6),)),
                       (dict(in_channels=6, num_subcenters=2), (torch.rand(3, 6),))],
    'MultiLabelClsHead': [(dict(), (torch.rand(3, 5),))],
    'MultiLabelLinearClsHead': [(dict(in_channels=6), (torch.rand(3, 6),))],
    'CSRAClsHead': [(dict(in_channels=6, num_heads=2, lam=0.1), (torch.rand(3, 6, 2, 2),))],
}
NOT_CLASSIFIERS = {'GroundingHead', 'SeqGenerationHead', 'VQAGenerationHead', 'MultiTaskHead'}


class Features(nn.Module):
    """Stands in for a backbone: gives fixed features of the kind a head takes."""

    def __init__(self, feats):
        super().__init__()
        self.feats = feats

    def forward(self, _):
        return self.feats


def with_random_weights(model, seed=0):
    """ViT heads start at zero, where every combination of two branches looks alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
    return model


def head_cases():
    return [pytest.param(name, arguments, feats, id=f'{name}-{index}')
            for name, cases in HEADS.items() for index, (arguments, feats) in enumerate(cases)]


def composed(name, arguments, feats):
    sized = {} if name in ('ClsHead', 'MultiLabelClsHead') else dict(num_classes=5)
    return with_random_weights(ComposedClassifier(backbone=Features(feats), head=dict(type=name, **sized, **arguments)))


@pytest.mark.parametrize(('name', 'arguments', 'feats'), head_cases())
def test_logits_are_those_of_the_heads_own_prediction(name, arguments, feats):
    model = composed(name, arguments, feats)
    model.eval()
    logits = model(torch.zeros(3, 1))
    scores = torch.stack([sample.pred_score for sample in model.head.predict(feats)])
    several_labels = 'MultiLabel' in name or name == 'CSRAClsHead'
    assert logits.shape == (3, 5)
    assert logits.std() > 0.01
    torch.testing.assert_close(logits.sigmoid() if several_labels else logits.softmax(1), scores)


@pytest.mark.filterwarnings('ignore:MMPretrain cannot train')
@pytest.mark.parametrize(('name', 'arguments', 'feats'),
                         [case for case in head_cases() if 'in_channels' in case.values[1]])
def test_training_uses_every_weight_of_the_head(name, arguments, feats):
    # A branch that is dropped in train mode would get no gradient.
    model = composed(name, arguments, feats)
    model.train()
    model(torch.zeros(3, 1)).square().sum().backward()
    assert all(value.grad is not None for value in model.head.parameters())


def test_every_predicting_head_is_covered():
    modules = {name: kind for registry in (MODELS, MMPRETRAIN_MODELS) for name, kind in registry.module_dict.items()}
    heads = {name for name, kind in modules.items() if '.heads.' in kind.__module__ and hasattr(kind, 'predict')}
    assert heads == set(HEADS) | NOT_CLASSIFIERS


def test_levit_trains_on_the_mean_of_both_branches():
    feats = (torch.rand(8, 6),)
    model = composed('LeViTClsHead', dict(in_channels=6, distillation=True), feats)
    model.train()
    head = model.head
    expected = (head.head(feats[-1]) + head.head_dist(feats[-1])) / 2
    torch.testing.assert_close(model(torch.zeros(8, 1)), expected)


class TwoTensorHead(nn.Module):
    def forward(self, feats):
        return feats[-1], feats[-1]


@pytest.mark.parametrize(('head', 'says'), [
    (TwoTensorHead(), r'model.head \(TwoTensorHead\) gives 2 outputs'),
    (dict(type='MultiTaskHead', task_heads=dict(a=linear(6), b=linear(6))), r'model.head \(MultiTaskHead\) gives 2'),
])
def test_several_outputs_without_a_rule_are_refused(head, says):
    with pytest.raises(ConfigError, match=says):
        ComposedClassifier(head=head)(torch.rand(2, 6))


def test_several_stages_without_a_head_are_refused():
    model = ComposedClassifier(backbone=dict(type='ResNet', depth=18, out_indices=(2, 3)), neck=GAP)
    with pytest.raises(ConfigError, match='model gives 2 outputs'):
        model(torch.rand(2, 3, 32, 32))


def test_logits_are_float32_under_autocast():
    model = build_classifier(IMAGE_MODELS['lenet5'][0])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert model(torch.rand(2, 1, 32, 32)).dtype == torch.float32
    assert model.double()(torch.rand(2, 1, 32, 32, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize('head', [
    dict(type='VigClsHead', num_classes=7, in_channels=6, hidden_dim=4),
    dict(type='CSRAClsHead', num_classes=7, in_channels=6, num_heads=1, lam=0.1)])
def test_number_of_classes_is_found_when_the_head_does_not_tell(head):
    model = ComposedClassifier(head=head)
    model.train()
    assert model.num_classes == 7
    assert all(module.training for module in model.modules())


def test_unknown_number_of_classes_is_an_error():
    with pytest.raises(ConfigError, match='ClsHead has no num_classes'):
        _ = ComposedClassifier(head=dict(type='ClsHead')).num_classes


def test_arcface_without_its_margin_warns():
    with pytest.warns(UserWarning, match='adds its margin only in its own loss'):
        build_classifier(dict(head=dict(type='ArcFaceClsHead', num_classes=5, in_channels=6)))


@pytest.mark.parametrize(('cfg', 'says'), [
    (None, 'model must be a dict'),
    ({}, 'neither backbone nor neck nor head'),
    (dict(backbon=dict(type='LeNet5')), "no argument 'backbon'. Nearest: 'backbone'"),
    (dict(type='ImageClassifier', head=linear(6), train_cfg=dict(augments=[])), "no argument 'train_cfg'"),
    (dict(type='ResNet'), 'model.type: ResNet is no ComposedClassifier'),
    (dict(type='ComposedClasifier', head=linear(6)), "model.type: .*Nearest: 'ComposedClassifier'"),
    (dict(backbone=dict(type='ResNett', depth=18)), "model.backbone: .*'ResNett'.*Nearest: 'ResNet'"),
    (dict(backbone=dict(depth=18)), 'model.backbone must be a dict with a type'),
    (dict(backbone=dict(type='ResNet', depth=19)), 'model.backbone: .*19'),
    (dict(neck='GlobalAveragePooling'), 'model.neck must be a dict'),
    (dict(head=dict(type='LinearClsHead', num_classes=5)), 'model.head: .*in_channels'),
    (dict(head=dict(type='LinearClsHead', num_classes=0, in_channels=5)), 'model.head: .*positive'),
    (dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=6, loss=dict(type='NoLoss'))),
     'model.head: .*NoLoss'),
    (dict(backbone=dict(type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='a.pth'))),
     "model.backbone.init_cfg: .*load_from='a.pth'"),
    (dict(head=linear(6), init_cfg=[dict(type='Pretrained', checkpoint='a.pth')]),
     "model.init_cfg: .*load_from='a.pth'"),
])
def test_wrong_configs_name_the_part(cfg, says):
    with pytest.raises(ConfigError, match=says):
        build_classifier(cfg)


@pytest.mark.parametrize(('neck', 'in_channels', 'advice'), [
    (None, 120, 'GlobalAveragePooling'), (GAP, 84, 'set in_channels=120')])
def test_parts_that_do_not_fit_say_how_to_repair_it(neck, in_channels, advice):
    model = ComposedClassifier(backbone=dict(type='LeNet5'), neck=neck, head=linear(in_channels))
    with pytest.raises(ConfigError, match=f'model.head takes features of {in_channels} channels.*{advice}'):
        model(torch.rand(2, 1, 32, 32))


def test_other_runtime_errors_pass_unchanged():
    model = ComposedClassifier(head=linear(6))
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(2, 6, dtype=torch.float64))
    assert not isinstance(caught.value, ConfigError)


def test_image_classifier_is_another_name():
    assert type(build_classifier(dict(type='ImageClassifier', head=linear(6)))) is ComposedClassifier


def test_bare_names_resolve_in_any_default_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build_classifier(dict(head=dict(type='CosineDistanceHead', num_classes=5, in_channels=6)))
    assert type(model.head).__name__ == 'CosineDistanceHead'


def test_nested_parts_of_ours_are_found():
    class OnlyHere(nn.Module):
        pass

    MODELS.register_module(module=OnlyHere)
    try:
        model = build_classifier(dict(head=dict(**linear(6), loss=dict(type='OnlyHere'))))
    finally:
        del MODELS.module_dict['OnlyHere']
    assert type(model.head.loss_module) is OnlyHere
