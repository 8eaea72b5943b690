"""Elastic weight consolidation with the Fisher information of single samples or of batches."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWCPlugin
from avalanche.training.supervised import EWC as AvalancheEWC
from avalanche.training.utils import ParamData
from torch import Tensor

from clear.continual.batch_gradients import Slopes, mean_over_batches
from clear.continual.repairs.regularisation.regularisers import as_importances, replace_plugin
from clear.continual.sample_gradients import mean_over_samples
from clear.continual.training.linear_head import is_cross_entropy
from clear.core.checks import check_choice, check_number
from clear.models.heads.linear_gradient import cross_entropy_slopes
from clear.registry import PLUGINS, STRATEGIES

FISHERS = ('sample', 'batch')


def known_slopes(criterion: Callable[[Tensor, Tensor], Tensor]) -> Slopes | None:
    """The gradients of cross-entropy by the logits; None for another loss."""
    if not is_cross_entropy(criterion):
        return None
    return functools.partial(cross_entropy_slopes, class_weights=criterion.weight)


@PLUGINS.register_module()
class EWCPlugin(AvalancheEWCPlugin):
    """EWC whose importances are the mean over batches of the squared gradient of a batch: Avalanche's, faster.

    A linear classifier on features reads its rows where they lie and builds no graph, see `batch_gradients`.
    """

    def compute_importances(self, model, criterion, optimizer, dataset, device, batch_size, num_workers=0
                            ) -> dict[str, ParamData]:
        slopes = known_slopes(criterion)
        fisher = None if slopes is None else mean_over_batches(model, slopes, torch.square, dataset, device=device,
                                                               batch_size=batch_size)
        if fisher is None:
            return super().compute_importances(model, criterion, optimizer, dataset, device, batch_size, num_workers)
        model.train()
        return as_importances(model, fisher)


@PLUGINS.register_module()
class PerSampleEWCPlugin(AvalancheEWCPlugin):
    """EWC whose importances are the mean over samples of the squared gradient of each sample's loss.

    That is the empirical Fisher information. The mean over batches of the squared gradient of a batch, Avalanche's
    form, shrinks with the batch size, because gradients of different signs cancel before they are squared.
    """

    unmixed_batches = 'every'

    def compute_importances(self, model, criterion, optimizer, dataset, device, batch_size, num_workers=0
                            ) -> dict[str, ParamData]:
        fisher = mean_over_samples(model, criterion, torch.square, dataset, device=device, batch_size=batch_size,
                                   num_workers=num_workers, slopes=known_slopes(criterion))
        return as_importances(model, fisher)


@STRATEGIES.register_module()
class EWC(AvalancheEWC):
    """Hold weights near their old values, each as much as it mattered (Kirkpatrick et al. 2017, arXiv:1612.00796).

    The penalty is lambda * sum_k F_k (theta_k - theta*_k)^2, without the paper's factor 1/2.

    Args:
        ewc_lambda, mode, decay_factor, keep_importance_data: as in Avalanche.
        fisher: None or 'sample' for the mean of the squared gradients of single samples, which is the paper's;
            'batch' for that of the squared gradients of batches, which is Avalanche's, depends on the batch size and
            wants a larger lambda.

    Raises:
        ConfigError: for another `fisher`, a lambda below 0 or a decay outside 0 ... 1.
    """

    division = 'shard'
    lane_objective = 'fisher'
    unmixed_batches = 'every'
    penalty_keys = ('ewc_lambda',)
    method_version = 2
    method_remedy = "cl_strategy.fisher='batch' brings it back"

    def __init__(self, *, ewc_lambda: float, mode: str = 'separate', decay_factor: float | None = None,
                 fisher: str | None = None, **kwargs):
        check_number('ewc_lambda', ewc_lambda, 0)
        if decay_factor is not None:
            check_number('decay_factor', decay_factor, 0, 1)
        if fisher is not None:
            check_choice('fisher', fisher, FISHERS)
            self.method_version = 1  # named forms are what they were; None was 'batch'
        super().__init__(ewc_lambda=ewc_lambda, mode=mode, decay_factor=decay_factor, **kwargs)
        plugin = EWCPlugin if fisher == 'batch' else PerSampleEWCPlugin
        replace_plugin(self, AvalancheEWCPlugin, lambda own: plugin(own.ewc_lambda, own.mode, own.decay_factor,
                                                                    own.keep_importance_data))
