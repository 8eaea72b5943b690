"""timm's optimisers by name: the steps of timm's own factory, again after a save, and what is refused."""

import io

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from clear.core.errors import ConfigError
from clear.engine.training.keys import check_runner_config
from clear.registry import OPTIMIZERS

NAMES = ['sgd', 'nesterov', 'momentum', 'adam', 'adamw', 'nadam', 'radam', 'adamp', 'sgdp', 'adadelta', 'adafactor',
         'rmsprop', 'rmsproptf', 'novograd', 'nvnovograd', 'lookahead_adamw', 'lookahead_sgd']


def weights():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]


def take_steps(optimizer, parameters, count):
    for _ in range(count):
        optimizer.zero_grad()
        sum((value ** 2).sum() + value.sum() for value in parameters).backward()
        optimizer.step()
    return [value.detach().clone() for value in parameters]


def build(name, parameters, **options):
    return OPTIMIZERS.build(dict(type=f'timm/{name}', lr=0.01, **options), default_args=dict(params=parameters))


@pytest.mark.parametrize('name', NAMES)
def test_steps_are_those_of_timm_and_go_on_after_a_save(name):
    ours, theirs = weights(), weights()
    expected = create_optimizer_v2(theirs, opt=name.replace('nvnovo', 'novo'), lr=0.01, weight_decay=0.1)
    optimizer = build(name, ours, weight_decay=0.1)
    torch.testing.assert_close(take_steps(optimizer, ours, 8), take_steps(expected, theirs, 8), rtol=0, atol=0)
    assert not torch.equal(ours[0], weights()[0])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = [nn.Parameter(value.detach().clone()) for value in ours]
    resumed = build(name, again, weight_decay=0.1)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(take_steps(resumed, again, 5), take_steps(optimizer, ours, 5), rtol=0, atol=0)


@pytest.mark.parametrize(('name', 'message'), [
    ('adamq', "timm has no optimiser 'adamq'. Nearest: 'adam'"), ('fusedadam', 'an optimiser of apex'),
    ('fusedlamb', 'an optimiser of apex'), ('adahessian', 'differentiates gradients'),
    ('lookahead_fusedsgd', 'an optimiser of apex')])
def test_what_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        build(name, weights())


def test_misspelt_arguments_are_found_before_training():
    cfg = dict(model=dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18)), train_cfg=dict(max_epochs=1),
               train_dataloader=dict(batch_size=2, dataset=dict(type='ImageFolder', root='x')),
               optim_wrapper=dict(optimizer=dict(type='timm/adamp', lr=0.1, delta=0.2)))
    check_runner_config(cfg)
    cfg['optim_wrapper']['optimizer']['detla'] = 0.1
    with pytest.raises(ConfigError, match="Did you mean 'delta'"):
        check_runner_config(cfg)
