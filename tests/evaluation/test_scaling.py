import numpy as np
import pytest
import torch

from clear.core.errors import ConfigError
from clear.evaluation.image.scaling import fit_scale


def test_standard_scale_is_that_of_numpy_and_fitted_on_training_only():
    rng = np.random.default_rng(0)
    train, test = rng.normal(50, 3, (40, 4)), rng.normal(size=(3, 4))
    scale = fit_scale('standard', torch.from_numpy(train))
    expected = (test - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(scale(torch.from_numpy(test)).numpy(), expected, rtol=1e-9)


def test_constant_dimensions_are_only_centred():
    rows = torch.full((5, 2), 0.3)
    rows[:, 1] = torch.arange(5.)
    scaled = fit_scale('standard', rows)(rows)
    assert scaled[:, 0].abs().max() < 1e-6 and scaled.isfinite().all()


def test_l2_and_none():
    rows = torch.tensor([[3., 4.], [0., 0.]])
    assert fit_scale('l2', rows)(rows).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert fit_scale('none', rows)(rows) is rows
    with pytest.raises(ConfigError, match="'none', 'l2', 'standard'"):
        fit_scale('unit', rows)
