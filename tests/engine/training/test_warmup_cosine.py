"""The pair of mmengine's schedulers that docs/alignment.md gives is ITRA's warm-up and cosine, in every group."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from clear.registry import PARAM_SCHEDULERS


@pytest.mark.parametrize('warmup', [1, 5])
def test_warm_up_and_cosine_of_the_reference(warmup):
    total, lr, scales = 20, 1e-3, (1.0, 0.25)
    groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=lr * scale) for scale in scales]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=lr))
    schedulers = [PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=wrapper)) for cfg in (
        dict(type='LinearLR', start_factor=1 / warmup, end=warmup, by_epoch=False),
        dict(type='CosineAnnealingLR', begin=warmup, end=total, T_max=total - warmup, by_epoch=False))]
    for step in range(total):
        rate = lr * (step + 1) / warmup if step < warmup else \
            0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) * lr
        assert [group['lr'] for group in wrapper.optimizer.param_groups] == pytest.approx(
            [rate * scale for scale in scales], rel=1e-12)
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
