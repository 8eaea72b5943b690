"""Elastic weight consolidation with the Fisher information of batches or of single samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from avalanche.models import MultiTaskModule, avalanche_forward
from avalanche.training.plugins import EWCPlugin
from avalanche.training.supervised import EWC as AvalancheEWC
from avalanche.training.utils import ParamData, zerolike_params_dict
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from clear.continual.engine.loaders import IndexLoader
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.registry import STRATEGIES

FISHERS = ('batch', 'sample')
# Gradients held at once, as numbers: 128 MB of float32.
MAX_HELD = 2**25


class PerSampleEWCPlugin(EWCPlugin):
    """EWC whose importances are the mean over samples of the squared gradient of each sample's loss.

    That is the empirical Fisher information. The mean over batches of the squared gradient of a batch, Avalanche's
    form, shrinks with the batch size, because gradients of different signs cancel before they are squared.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.can_vectorise = True

    def compute_importances(self, model, criterion, optimizer, dataset, device, batch_size, num_workers=0
                            ) -> dict[str, ParamData]:
        importances = zerolike_params_dict(model)
        squares = {name: importances[name].data for name, parameter in model.named_parameters()
                   if parameter.requires_grad}
        held = sum(square.numel() for square in squares.values())
        chunk = max(1, min(batch_size, MAX_HELD // max(held, 1)))
        with _eval_mode(model):
            for batch in IndexLoader([dataset], [chunk], shuffle=False, num_workers=num_workers):
                inputs, targets, tasks = (column.to(device) for column in (batch[0], batch[1], batch[2]))
                for name, value in self._sum_of_squares(model, criterion, inputs, targets, tasks).items():
                    squares[name] += value
        for square in squares.values():
            square /= len(dataset)
        return importances

    def _sum_of_squares(self, model: nn.Module, criterion: Callable, inputs: Tensor, targets: Tensor, tasks: Tensor
                        ) -> dict[str, Tensor]:
        """In one vectorised pass where the model can be vectorised, else sample by sample; the numbers are the same."""
        if self.can_vectorise and not isinstance(model, MultiTaskModule):
            try:
                return squares_vectorised(model, criterion, inputs, targets)
            except (RuntimeError, NotImplementedError) as error:
                logger.info('EWC: %s cannot be vectorised (%s); one backward pass per sample instead.',
                            type(model).__name__, str(error).splitlines()[0])
                self.can_vectorise = False
        return squares_one_by_one(model, criterion, inputs, targets, tasks)


def squares_vectorised(model: nn.Module, criterion: Callable, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """For each trained parameter the sum over samples of the squared gradient of the sample's loss.

    Shape:
        inputs: (N, ...)   targets: (N,)   returns: by name, the shape of the parameter
    """
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    trained = {name: value for name, value in parameters.items() if model.get_parameter(name).requires_grad}
    fixed = {**parameters, **dict(model.named_buffers())}

    def loss_of(weights: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return criterion(functional_call(model, {**fixed, **weights}, (one[None],)), target[None])

    gradients = vmap(grad(loss_of), in_dims=(None, 0, 0), randomness='error')(trained, inputs, targets)
    return {name: gradient.pow(2).sum(0) for name, gradient in gradients.items()}


def squares_one_by_one(model: nn.Module, criterion: Callable, inputs: Tensor, targets: Tensor, tasks: Tensor
                       ) -> dict[str, Tensor]:
    """As `squares_vectorised`, one backward pass per sample; `tasks` (N,) choose the head of a multi-task model."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    sums = {name: torch.zeros_like(value) for name, value in trained.items()}
    for row in range(len(inputs)):
        one = slice(row, row + 1)
        loss = criterion(avalanche_forward(model, inputs[one], tasks[one]), targets[one])
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        for name, gradient in zip(trained, gradients):
            if gradient is not None:
                sums[name] += gradient.pow(2)
    return sums


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, with gradients; each module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@STRATEGIES.register_module()
class EWC(AvalancheEWC):
    """Hold weights near their old values, each as much as it mattered (Kirkpatrick et al. 2017, arXiv:1612.00796).

    The penalty is lambda * sum_k F_k (theta_k - theta*_k)^2, without the paper's factor 1/2.

    Args:
        ewc_lambda, mode, decay_factor, keep_importance_data: as in Avalanche.
        fisher: 'batch', the mean of the squared gradients of batches (Avalanche's; depends on the batch size), or
            'sample', of single samples, which is the paper's and wants a smaller lambda.

    Raises:
        ConfigError: for another `fisher`.
    """

    def __init__(self, *, fisher: str = 'batch', **kwargs):
        if fisher not in FISHERS:
            raise ConfigError(f"fisher is {fisher!r}; expected 'batch' or 'sample'.")
        super().__init__(**kwargs)
        if fisher == 'sample':
            self.plugins = [_per_sample(plugin) if type(plugin) is EWCPlugin else plugin for plugin in self.plugins]


def _per_sample(plugin: EWCPlugin) -> PerSampleEWCPlugin:
    return PerSampleEWCPlugin(plugin.ewc_lambda, plugin.mode, plugin.decay_factor, plugin.keep_importance_data)
