"""Losses of alignment against values that ITRA's published code gave for inputs of known seeds, in float64."""

import pytest
import torch

from clear.models.losses import (
    BarlowTwinsLoss,
    CompRessLoss,
    InfoNCELoss,
    RKDLoss,
    SEEDLoss,
    SimRegLoss,
    UniCLLoss,
)

LABELS = torch.tensor([3, -1, 3, 5, -1, 5, 5, 0])
# Name: loss, seed of the first step, steps, then of the last step: the loss, and the norm and first number of the
# gradients of teacher and student. After three steps of eight rows a queue of up to 24 holds nothing of its beginning.
CASES = {
    'SimReg': (SimRegLoss, 100, 1, 0.12648703067212416, (0.011317360267387418, 0.0006892084985777511),
               (0.011680359461786142, -0.0021849525597392415)),
    'RKD': (RKDLoss, 130, 1, 0.02281541243282064, (0.008841372612144462, 0.00017442904220507665),
            (0.00972771142355425, 0.00017113768676867537)),
    'BarlowTwins': (lambda: BarlowTwinsLoss(legacy=True), 120, 1, 15.919309497705195,
                    (0.3986460768099345, -0.02272374818193795), (0.3842314568455894, 0.06480391637960292)),
    'InfoNCE': (InfoNCELoss, 180, 1, 8.372844653259516, (1.4638568053189702, -0.06481535071758757),
                (1.697927007591917, 0.07239555490173394)),
    'UniCL': (UniCLLoss, 190, 1, 6.228631821753098, (1.4950936013439613, 0.024903862775765277),
              (1.1779203017137287, 0.04214163016391574)),
    'CompRess-1q': (lambda: CompRessLoss(1, 16, 20), 140, 4, 15.859238119678116,
                    (1.2578097393229222, 0.0009700182907430067), (2.3073160567438022, -0.1516559722986635)),
    'SEED': (lambda: SEEDLoss(16, 24), 150, 4, 7.343455241334172, (1.1832441336772257, 0.03764627753015907),
             (1.5102740966448478, -0.10735194530410307)),
}


def numbers(seed, dtype):
    values = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).requires_grad_()


@pytest.mark.parametrize('dtype, rtol', [(torch.float64, 1e-9), (torch.float32, 5e-5)])
@pytest.mark.parametrize('name', CASES)
def test_last_step_is_that_of_the_reference(name, dtype, rtol):
    make, seed, steps, expected, *expected_grads = CASES[name]
    loss = make().to(dtype)
    for step in range(steps):
        pair = numbers(seed + 2 * step, dtype), numbers(seed + 2 * step + 1, dtype)
        value = loss(*pair, labels=LABELS if name == 'UniCL' else None)
    grads = torch.autograd.grad(value, pair)
    assert value.item() == pytest.approx(expected, rel=rtol)
    for grad, (norm, first) in zip(grads, expected_grads):
        assert grad.norm().item() == pytest.approx(norm, rel=20 * rtol)
        assert grad[0, 0].item() == pytest.approx(first, rel=20 * rtol, abs=1e-3 * rtol)
