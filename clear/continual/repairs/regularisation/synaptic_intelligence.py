"""Synaptic Intelligence by its paper, on Avalanche 0.6's bookkeeping."""

from __future__ import annotations

import math

from avalanche.training.plugins.synaptic_intelligence import SynapticIntelligencePlugin
from avalanche.training.supervised import SynapticIntelligence as AvalancheSynapticIntelligence

from clear.continual.repairs.regularisation.regularisers import check_strength, replace_plugin
from clear.core.checks import check_number
from clear.core.errors import ConfigError
from clear.registry import PLUGINS, STRATEGIES


@PLUGINS.register_module(name='SynapticIntelligencePlugin')
class RepairedSynapticIntelligencePlugin(SynapticIntelligencePlugin):
    """Synaptic Intelligence (Zenke et al. 2017, arXiv:1703.04200).

    Equations 4 and 5: the loss gets c * sum_k Omega_k (theta_k - theta~_k)^2, where theta~ are the weights at the end
    of the last experience and Omega_k sums, over the experiences so far, omega_k / (Delta_k^2 + xi): how much weight k
    lowered the loss on its path, -sum_t g_k(t) (theta_k(t + 1) - theta_k(t)), by the square of its way. g is the
    gradient of the loss without the penalty.

    Departures from the paper: Omega is clamped at 0 from below, as a negative one would reward moving away from the
    old weights; weights of normalisation layers are left out, as in Avalanche.
    Avalanche 0.6 departs further: it keeps old and new weights as views of the live parameters when these are on the
    CPU, so that the path is always 0; it cuts Omega at 0.001, meant for the batch weights of Maltoni and Lomonaco 2019
    (arXiv:1806.08568), where nearly all of them then lie; its xi is 1e-7, its gradient that of the loss with the
    penalty, and its penalty half of the paper's.

    Args:
        si_lambda: c, one number or one for each experience (the last one for those beyond).
        eps: xi.
        clip: upper bound of Omega; None for none.
        excluded_parameters: names or patterns of parameters that are left alone.
        device: where penalties are computed.
        penalty_in_path: g of the loss with the penalty.
    """

    unmixed_batches = 'every'
    penalty_keys = ('si_lambda',)
    method_version = 2
    method_remedy = ''

    def __init__(self, si_lambda: float | list[float], eps: float = 0.1, excluded_parameters: list[str] | None = None,
                 device='as_strategy', *, clip: float | None = None, penalty_in_path: bool = False):
        check_strength('si_lambda', si_lambda)
        check_number('eps', eps, above=0)
        if clip is not None:
            check_number('clip', clip, above=0)
        super().__init__(si_lambda, eps, excluded_parameters, device)
        self.clip = clip
        self.penalty_in_path = penalty_in_path

    def _strength(self, strategy) -> float:
        return self.si_lambda[min(strategy.clock.train_exp_counter, len(self.si_lambda) - 1)]

    def _allowed(self, strategy) -> list:
        return self.allowed_parameters(strategy.model, self.excluded_parameters)

    def before_training_exp(self, strategy, **kwargs):
        super().before_training_exp(strategy, **kwargs)
        _own_memory(self.ewc_data[0])

    def before_training_iteration(self, strategy, **kwargs):
        super().before_training_iteration(strategy, **kwargs)
        _own_memory(self.syn_data['old_theta'])

    def before_backward(self, strategy, **kwargs):
        # Avalanche's function halves its lambda.
        penalty = self.compute_ewc_loss(strategy.model, self.ewc_data, self.excluded_parameters,
                                        lambd=2 * self._strength(strategy), device=self.device(strategy))
        if penalty is not None:
            strategy.loss += penalty.to(strategy.device)

    def after_training_iteration(self, strategy, **kwargs):
        twice = 0 if self.penalty_in_path else 2 * self._strength(strategy)
        for name, parameter in self._allowed(strategy):
            if parameter.grad is None:  # of a layer that this model does not use
                continue
            old = self.syn_data['old_theta'][name].data
            slope, new = (value.detach().cpu().flatten() for value in (parameter.grad, parameter))
            if twice:
                slope = slope - twice * self.ewc_data[1][name].data * (old - self.ewc_data[0][name].data)
            self.syn_data['trajectory'][name].data += slope * (new - old)

    def after_training_exp(self, strategy, **kwargs):
        self.update_ewc_data(strategy.model, self.ewc_data, self.syn_data,
                             math.inf if self.clip is None else self.clip, self.excluded_parameters, 1, eps=self.eps)
        for importance in self.ewc_data[1].values():
            importance.data = importance.data.clamp(min=0)


def _own_memory(params: dict) -> None:
    for param in params.values():
        param.data = param.data.clone()


@STRATEGIES.register_module()
class SynapticIntelligence(AvalancheSynapticIntelligence):
    """Fine-tuning with the plugin above.

    Args:
        si_lambda, eps, clip: the plugin's; eps is 0.1 by default, in Avalanche 1e-7.
        legacy: Avalanche's plugin as it is.
    """

    division = 'shard'
    unmixed_batches = 'every'
    method_version = 2
    method_remedy = ''

    def __init__(self, *, si_lambda: float | list[float], eps: float | None = None, clip: float | None = None,
                 legacy: bool = False, **kwargs):
        if eps is None:
            eps = 1e-7 if legacy else 0.1
        if legacy and clip is not None:
            raise ConfigError('clip is for the form of the paper; legacy=True has the bound of Avalanche, 0.001.')
        plugin = RepairedSynapticIntelligencePlugin(si_lambda, eps, clip=clip)
        super().__init__(si_lambda=si_lambda, eps=eps, **kwargs)
        if legacy:
            self.method_version = 1
            return
        replace_plugin(self, SynapticIntelligencePlugin, lambda _: plugin)
