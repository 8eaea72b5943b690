"""Freezing: nothing frozen moves in training, in copies as well; mistakes are errors and change nothing."""

import copy

import pytest
import torch
from torch import nn

from clear.core.errors import ConfigError
from clear.models import ComposedClassifier, build_classifier, freeze


class SmallNet(nn.Module):
    """Convolution, BatchNorm, dropout and a normalisation without parameters."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.plain_bn = nn.BatchNorm2d(4, affine=False)

    def forward(self, x):
        return self.plain_bn(self.drop(self.bn(self.conv(x)).relu()))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_classifier(dict(backbone=SmallNet(), neck=dict(type='GlobalAveragePooling'),
                                 head=dict(type='LinearClsHead', num_classes=3, in_channels=4)))


def train_steps(model, steps=3):
    """Steps with weight decay and momentum, which move parameters even at zero gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        model.train()
        loss = nn.functional.cross_entropy(model(torch.rand(8, 1, 6, 6, generator=generator)), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def in_eval(model):
    return {name for name, module in model.named_modules() if not module.training}


BACKBONE = {'backbone', 'backbone.conv', 'backbone.bn', 'backbone.drop', 'backbone.plain_bn'}
HEAD = {'head.fc.weight', 'head.fc.bias'}


def test_without_freezing_everything_moves(model):
    # The other tests would pass on a model that cannot learn.
    before = snapshot(model)
    train_steps(model)
    assert changed(model, before) == set(before)


@pytest.mark.parametrize('pattern', ['backbone', 'backbone.*'])
def test_frozen_backbone_does_not_move(model, pattern):
    before = snapshot(model)
    report = freeze(model, [pattern])
    train_steps(model)
    assert changed(model, before) == HEAD
    assert in_eval(model) == BACKBONE
    assert all(value.grad is None for value in model.backbone.parameters())
    assert report.modules == ('backbone',)
    assert set(report.parameters) == {f'backbone.{name}' for name, _ in model.backbone.named_parameters()}
    assert (report.num_frozen, report.num_trainable) == (4 * 9 + 4 + 8, 4 * 3 + 3)


def test_frozen_parts_of_a_copy_stay_frozen(model):
    freeze(model, ['backbone'])
    teacher = copy.deepcopy(model)
    before = snapshot(teacher)
    train_steps(teacher)
    assert changed(teacher, before) == HEAD
    assert in_eval(teacher) == BACKBONE
    teacher.eval()
    assert not any(module.training for module in teacher.modules())
    assert in_eval(model) == BACKBONE


def test_momentum_and_gradients_from_before_do_not_leak(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.rand(8, 1, 6, 6)).sum().backward()
    freeze(model, ['backbone'])
    before = snapshot(model)
    optimizer.step()
    assert changed(model, before) == {'head.fc.weight', 'head.fc.bias'}


def test_parameter_patterns_freeze_only_parameters(model):
    report = freeze(model, ['*.bias'])
    assert set(report.parameters) == {'backbone.conv.bias', 'backbone.bn.bias', 'head.fc.bias'}
    assert in_eval(model) == set()
    before = snapshot(model)
    train_steps(model)
    assert changed(model, before) == set(before) - set(report.parameters)


def test_module_with_all_parameters_frozen_is_in_eval_mode(model):
    freeze(model, ['backbone.bn.weight', 'backbone.bn.bias'])
    assert in_eval(model) == {'backbone.bn'}


def test_freeze_bn_fixes_statistics_and_affine_parameters(model):
    before = snapshot(model)
    report = freeze(model, freeze_bn=True)
    train_steps(model)
    assert changed(model, before) == HEAD | {'backbone.conv.weight', 'backbone.conv.bias'}
    assert report.batch_norms == report.modules == ('backbone.bn', 'backbone.plain_bn')
    assert in_eval(model) == {'backbone.bn', 'backbone.plain_bn'}


def test_freeze_bn_in_a_real_backbone():
    torch.manual_seed(0)
    model = build_classifier(dict(backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'),
                                  head=dict(type='LinearClsHead', num_classes=3, in_channels=512)))
    report = freeze(model, freeze_bn=True)
    before = snapshot(model)
    model.train()
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert len(report.batch_norms) == 20
    assert changed(model, before) == set()
    assert all((value.grad is None) == ('.bn' in name or 'downsample.1' in name)
               for name, value in model.named_parameters())


def test_freeze_bn_without_such_layers_changes_nothing():
    model = ComposedClassifier(head=dict(type='LinearClsHead', num_classes=3, in_channels=4))
    report = freeze(model, freeze_bn=True)
    assert (report.parameters, report.modules, report.num_frozen, report.num_trainable) == ((), (), 0, 15)


def test_calls_add_up(model):
    freeze(model, ['backbone.conv'])
    report = freeze(model, freeze_bn=True)
    assert in_eval(model) >= {'backbone.conv', 'backbone.bn', 'backbone.plain_bn'}
    # Every parameter of the backbone is frozen by now, so all of it sleeps, its dropout too.
    assert report.modules == ('backbone',)
    with pytest.raises(ConfigError, match='nothing is left to train'):
        freeze(model, ['head'])


def test_freezing_in_eval_mode_keeps_eval_mode(model):
    model.eval()
    freeze(model, ['backbone'])
    assert not any(module.training for module in model.modules())


def test_shared_parameters_are_found_by_every_name(model):
    model.head.twin = model.backbone.conv
    freeze(model, ['head.twin.*'])
    assert not model.backbone.conv.weight.requires_grad


@pytest.mark.parametrize(('arguments', 'says'), [
    (dict(frozen=['backbon']), "'backbon' matches no parameter or module of the model. Nearest: 'backbone'"),
    (dict(frozen=['backbone', 'encoder.*']), "'encoder.*' matches no .* Nearest: 'backbone', 'neck', 'head'"),
    (dict(frozen=['*']), 'nothing is left to train'),
    (dict(frozen=['backbone', 'head'], freeze_bn=True), 'nothing is left to train'),
    (dict(frozen='backbone'), "must be a list of patterns .* got 'backbone'"),
    (dict(frozen=[3]), 'must be a list of patterns'),
])
def test_mistakes_are_errors_and_change_nothing(model, arguments, says):
    with pytest.raises(ConfigError, match=says):
        freeze(model, **arguments)
    assert all(value.requires_grad for value in model.parameters())
    assert in_eval(model) == set()
    assert model.frozen_modules == ()


def test_everything_may_be_frozen_when_the_caller_says_so(model):
    report = freeze(model, ['*'], allow_all=True)
    model.train()
    assert report.num_trainable == 0
    assert not any(module.training for name, module in model.named_modules() if name)


def test_plain_modules_are_refused():
    with pytest.raises(TypeError, match='Linear is not Freezable'):
        freeze(nn.Linear(2, 2), ['weight'])


def test_report_reads_well(model):
    assert str(freeze(model, ['backbone'], freeze_bn=True)) == (
        '48 of 63 parameters are frozen, 15 train; always in eval mode: backbone; frozen BatchNorm layers: 2.')
