import pytest
import torch
from torch import nn

from clear.core.modes import eval_mode, evaluation_mode, modes_kept


@pytest.fixture
def model():
    """In train mode, but for a frozen part."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model[1][0].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize(('context', 'has_gradients'), [(eval_mode, True), (evaluation_mode, False)])
def test_every_module_has_its_own_mode_again(context, has_gradients, model):
    before = modes(model)
    with context(model):
        assert not any(modes(model))
        assert model(torch.randn(3, 2)).requires_grad == has_gradients
    assert modes(model) == before and torch.is_grad_enabled()


@pytest.mark.parametrize('context', [modes_kept, eval_mode, evaluation_mode])
def test_after_an_error_too(context, model):
    before = modes(model)
    with pytest.raises(RuntimeError), context(model):
        model[0].eval()
        raise RuntimeError
    assert modes(model) == before
