"""ITRA's warm-up and cosine, in every group: our scheduler, and a pair of mmengine's that counts iterations."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from clear.core.errors import ConfigError
from clear.registry import PARAM_SCHEDULERS

TOTAL, LR, SCALES = 20, 1e-3, (1.0, 0.25)


def by_formula(step, warmup):
    return LR * (step + 1) / warmup if step < warmup else \
        0.5 * (1 + math.cos(math.pi * (step - warmup) / (TOTAL - warmup))) * LR


def rates(*schedulers, convert=False):
    groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=LR * scale) for scale in SCALES]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=LR))
    built = [PARAM_SCHEDULERS.build(dict(cfg, **(dict(convert_to_iter_based=True, epoch_length=5) if convert else {})),
                                    default_args=dict(optimizer=wrapper)) for cfg in schedulers]
    found = []
    for _ in range(TOTAL):
        found.append([group['lr'] for group in wrapper.optimizer.param_groups])
        wrapper.optimizer.step()
        for scheduler in built:
            scheduler.step()
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize('warmup', [0, 1, 5])
def test_warm_up_and_cosine_of_the_reference(warmup):
    expected = torch.tensor([[by_formula(step, warmup) * scale for scale in SCALES] for step in range(TOTAL)],
                            dtype=torch.float64)
    found = [rates(dict(type='WarmupCosineLR', warmup=warmup, by_epoch=False, end=TOTAL)),
             rates(dict(type='WarmupCosineLR', warmup=warmup, T_max=TOTAL // 5), convert=True)]
    if warmup:
        found.append(rates(dict(type='LinearLR', start_factor=1 / warmup, end=warmup, by_epoch=False),
                           dict(type='CosineAnnealingLR', begin=warmup, end=TOTAL, T_max=TOTAL - warmup,
                                by_epoch=False)))
    for each in found:
        torch.testing.assert_close(each, expected, rtol=1e-12, atol=0)


def test_five_rates_of_the_reference():
    found = rates(dict(type='WarmupCosineLR', warmup=5, by_epoch=False, end=TOTAL))[[0, 4, 5, 12, 19], 0]
    torch.testing.assert_close(found, torch.tensor([2e-4, 1e-3, 1e-3, 5.5226e-4, 1.0926e-5], dtype=torch.float64),
                               rtol=1e-4, atol=0)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(warmup=20, end=20), 'does not fit'), (dict(warmup=2), 'T_max'), (dict(warmup=-1, end=9), 'warmup')])
def test_wrong_lengths(options, message):
    with pytest.raises(ConfigError, match=message):
        rates(dict(type='WarmupCosineLR', by_epoch=False, **options))
