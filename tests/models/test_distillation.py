import copy

import pytest
import torch
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.models import load_weights
from clear.models.selfsup import distilled
from clear.models.selfsup.parts.distillation import trained_encoder
from clear.registry import MODELS

BACKBONE = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
NECK = dict(type='ProjectionMLP', in_channels=32, out_channels=8, hidden_channels=8)
PREDICTOR = dict(type='ProjectionMLP', in_channels=8, out_channels=8, hidden_channels=8)
ALGORITHMS = {
    'MoCo': dict(neck=NECK, queue_size=16), 'SimCLR': dict(neck=NECK), 'SimSiam': dict(neck=NECK, predictor=PREDICTOR),
    'BYOL': dict(neck=NECK, predictor=PREDICTOR), 'CLSA': dict(neck=NECK, queue_size=16),
    'DINO': dict(neck=dict(type='DINOHead', in_channels=32, hidden_channels=8, bottleneck_channels=8, out_channels=6))}
NUM_VIEWS = {'CLSA': 3}


def build(name):
    torch.manual_seed(0)
    return MODELS.build(dict(type=name, backbone=BACKBONE, **ALGORITHMS[name]))


def views(name, batch=4):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 3, 32, 32, generator=generator) for _ in range(NUM_VIEWS.get(name, 2))]


@pytest.fixture
def make(tmp_path):
    """name -> (model with distillation, the model whose checkpoint it learns from)."""
    def make(name, **options):
        before = build(name)
        for parameter in before.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        torch.save(dict(format=1, state_dict=before.state_dict()), tmp_path / 'latest.pth')
        return MODELS.build(dict(type='Distilled', model=dict(type=name, backbone=BACKBONE, **ALGORITHMS[name]),
                                 previous=str(tmp_path / 'latest.pth'), hidden_channels=16, **options)), before

    return make


@pytest.mark.parametrize('name', ALGORITHMS)
def test_loss_is_that_of_the_definition_by_loops(make, name):
    model, before = make(name, weight=0.5)
    inputs = views(name)
    # Only what comes from this process's trained encoder counts: CLSA's first view is a key.
    trained = inputs[1:] if name == 'CLSA' else inputs[:1] if name == 'MoCo' else inputs
    model.train()
    twin = copy.deepcopy(trained_encoder(model))
    predictor = copy.deepcopy(model.target_generator.predictor)
    losses = model(inputs, mode='loss')
    teacher = before.evaluated.backbone
    teacher.eval()
    with torch.no_grad():
        # BatchNorm in training: SimCLR's views are one batch, DINO's of one size too; all others go alone.
        together = [torch.cat(trained)] if name in ('SimCLR', 'DINO') else trained
        predicted = predictor(torch.cat([twin.backbone(each)[-1].mean((2, 3)) for each in together]))
        target = torch.cat([teacher(each)[-1].mean((2, 3)) for each in trained])
    cosines = [sum(p * t for p, t in zip(one, other)) / (one.norm() * other.norm())
               for one, other in zip(predicted, target)]
    expected = 0.5 * sum(2 - 2 * cosine for cosine in cosines) / len(cosines)
    assert losses['loss_distillation'].item() == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize('name', ALGORITHMS)
def test_the_algorithm_s_own_losses_are_unchanged(make, name):
    model, _ = make(name)
    plain = build(name)
    shared = {key: value for key, value in model.state_dict().items() if not key.startswith('target_generator.')}
    plain.load_state_dict(shared)  # strict: nothing but the predictor came on top
    own, with_target = plain.train()(views(name), mode='loss'), model.train()(views(name), mode='loss')
    own = {'loss_method' if key == 'loss' else key: value for key, value in own.items()}
    assert with_target.keys() == {**own, 'loss_distillation': None}.keys()
    assert all(torch.equal(own[key], with_target[key]) for key in own)


def test_what_is_logged_as_the_loss_is_the_sum(make):
    model, _ = make('MoCo')
    losses = model.train()(views('MoCo'), mode='loss')
    total, logged = model.parse_losses(losses)
    assert logged['loss'] == total == losses['loss_method'] + losses['loss_distillation']


def test_the_earlier_encoder_is_frozen_and_the_others_learn(make):
    model, before = make('DINO')
    model.train()
    frozen = model.target_generator.previous
    reference = copy.deepcopy(before.evaluated.backbone.state_dict())
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(views('DINO'), mode='loss')['loss_distillation'].backward()
        optimizer.step()
    assert all(torch.equal(value, reference[key]) for key, value in frozen.state_dict().items())
    assert not any(module.training for module in frozen.modules())
    assert all(each.grad is None for each in frozen.parameters())
    backbone = model.student.backbone
    assert sum(float(each.grad.abs().sum()) for each in backbone.parameters()) > 0
    assert all(each.grad is None for each in model.teacher.parameters())
    assert sum(float(each.grad.abs().sum()) for each in model.target_generator.parameters()) > 0


def test_learning_to_predict_brings_the_loss_down(make):
    model, _ = make('SimSiam')
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model(views('SimSiam'), mode='loss')['loss_distillation']
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.2 * values[0]


def test_features_and_checkpoints_are_as_without(make, tmp_path):
    model, before = make('MoCo')
    images = views('MoCo')[0]
    plain = build('MoCo')
    torch.save(dict(format=1, state_dict=model.state_dict()), tmp_path / 'distilled.pth')
    assert not [key for key in model.state_dict() if 'previous' in key]
    report = load_weights(plain.backbone, tmp_path / 'distilled.pth', source='clear', min_matched=1.0)
    assert not report.missing
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), model.eval()(images))


def test_it_works_under_autocast(make):
    model, _ = make('MoCo')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model.train()(views('MoCo'), mode='loss')['loss_distillation']
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_what_does_not_fit_is_refused(make, tmp_path):
    make('MoCo')  # writes the checkpoint
    path = tmp_path / 'latest.pth'
    with pytest.raises(CheckpointError, match=r"no tensor 'encoder\.backbone"):
        distilled(build('SimCLR'), path)
    wide = dict(type='MoCo', backbone={**BACKBONE, 'base_channels': 8}, neck={**NECK, 'in_channels': 64}, queue_size=16)
    with pytest.raises(CheckpointError, match='another backbone'):
        distilled(wide, path)
    with pytest.raises(CheckpointError, match='does not exist'):
        distilled(build('MoCo'), tmp_path / 'none.pth')
    with pytest.raises(ConfigError, match='weight is -1'):
        distilled(build('MoCo'), path, weight=-1)
    with pytest.raises(ConfigError, match='expected a self-supervised algorithm'):
        distilled(nn.Linear(1, 1), path)
