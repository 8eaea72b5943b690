"""Memory aware synapses by their paper, on Avalanche 0.6's plugin."""

from __future__ import annotations

import torch
from avalanche.training.plugins import MASPlugin as AvalancheMASPlugin
from avalanche.training.supervised import MAS as AvalancheMAS
from avalanche.training.utils import ParamData
from torch import Tensor

from clear.continual.batch_gradients import mean_over_batches
from clear.continual.repairs.regularisation.regularisers import as_importances, replace_plugin
from clear.continual.sample_gradients import mean_over_samples
from clear.core.checks import check_choice, check_number
from clear.models.heads.linear_gradient import squared_norm_slopes
from clear.registry import PLUGINS, STRATEGIES

IMPORTANCES = ('sample', 'batch')


@PLUGINS.register_module()
class MASPlugin(AvalancheMASPlugin):
    """Memory aware synapses (Aljundi et al. 2018, arXiv:1711.09601): hold on to weights that the output depends on.

    The loss gets lambda * sum_k Omega_k (theta_k - theta*_k)^2, where theta* are the weights at the end of the last
    experience. Equations 2 and 3: Omega_k is the mean over samples of |d ||f(x)||^2 / d theta_k|, in evaluation mode.
    Over experiences Omega <- alpha * Omega + (1 - alpha) * new (Avalanche's).

    Avalanche 0.6 takes the magnitude of the gradient of the mean over a batch, in which samples cancel, and runs this
    pass in train mode, which moves the statistics of BatchNorm. It also takes a loss of exactly 0, which an easy batch
    can have, for a missing one and stops the run.

    Args:
        lambda_reg: weight of the penalty.
        alpha: share of the earlier importances.
        importance: 'sample', the paper's; 'batch', Avalanche's, in train mode.
    """

    unmixed_batches = 'every'
    penalty_keys = ('lambda_reg',)
    method_version = 2
    method_remedy = "importance='batch' brings it back"

    def __init__(self, lambda_reg: float = 1.0, alpha: float = 0.5, verbose: bool = False, *,
                 importance: str = 'sample'):
        check_number('lambda_reg', lambda_reg, 0)
        check_number('alpha', alpha, 0, 1)
        check_choice('importance', importance, IMPORTANCES)
        super().__init__(lambda_reg, alpha, verbose)
        self.per_sample = importance == 'sample'
        if not self.per_sample:
            self.method_version = 1

    def _get_importance(self, strategy) -> dict[str, ParamData]:
        model, options = strategy.model, dict(device=strategy.device, batch_size=strategy.train_mb_size)
        if self.per_sample:
            found = mean_over_samples(model, _squared_norm, torch.abs, strategy.experience.dataset, slopes=_slopes,
                                      **options)
            return as_importances(model, found)
        model.train()
        found = mean_over_batches(model, _slopes, torch.abs, strategy.experience.dataset, **options)
        return super()._get_importance(strategy) if found is None else as_importances(model, found)

    def before_backward(self, strategy, **kwargs):
        if strategy.clock.train_exp_counter == 0:
            return
        penalty = 0.0
        for name, parameter in strategy.model.named_parameters():
            if name in self.importance:
                distance = parameter - self.params[name].expand(parameter.shape)
                penalty += torch.sum(self.importance[name].expand(parameter.shape) * distance.pow(2))
        strategy.loss = strategy.loss + self._lambda * penalty


def _squared_norm(output: Tensor, _target: Tensor) -> Tensor:
    return output.pow(2).sum()


def _slopes(logits: Tensor, _targets: Tensor, batch_size: int) -> Tensor:
    return squared_norm_slopes(logits, batch_size)


@STRATEGIES.register_module()
class MAS(AvalancheMAS):
    """Avalanche's strategy with the repaired plugin.

    Args:
        lambda_reg, alpha, verbose, importance: the plugin's.
    """

    division = 'shard'
    unmixed_batches = 'every'

    def __init__(self, *, lambda_reg: float = 1.0, alpha: float = 0.5, verbose: bool = False,
                 importance: str = 'sample', **kwargs):
        super().__init__(lambda_reg=lambda_reg, alpha=alpha, verbose=verbose, **kwargs)
        replace_plugin(self, AvalancheMASPlugin,
                       lambda _: MASPlugin(lambda_reg, alpha, verbose, importance=importance))
