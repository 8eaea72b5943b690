"""Avalanche's meta-learning methods and its old online template, repaired. `legacy=True` keeps what they did."""

from __future__ import annotations

import copy
import math
import warnings

import torch
from avalanche.training.supervised import MER as AvalancheMER
from avalanche.training.supervised import Naive
from avalanche.training.supervised.lamaml_v2 import LaMAML as AvalancheLaMAML
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.registry import STRATEGIES


class IgnoresTasks:
    """Comes before the model's class: a second argument, the task labels, is left out."""

    def forward(self, x: Tensor, _task_labels: Tensor | None = None) -> Tensor:
        return super().forward(x)


def _ignoring_tasks(model: nn.Module) -> nn.Module:
    if not isinstance(model, IgnoresTasks):
        kind = type(model)
        model.__class__ = type(kind.__name__, (IgnoresTasks, kind), {'__module__': __name__})
    return model


@STRATEGIES.register_module()
class LaMAML(AvalancheLaMAML):
    """Look-ahead MAML with a reservoir memory (Gupta et al. 2020, arXiv:2007.13904), by torch.func.

    Avalanche 0.6 hands the model task labels, which a single-head model does not take, throws its weights away
    (Kaiming initialisation, also of weights just loaded), gets NaN where a batch has too few samples for
    `n_inner_updates` parts, and leaves out the last, smaller batch of an epoch: an experience of fewer samples than a
    batch is not trained on at all. Here weights stay, empty parts are skipped, and every sample is seen. With
    BatchNorm, which takes no single sample, a part of one makes no inner step; the meta-loss counts it as any other.
    Departure from the paper, which is Avalanche's: the memory is filled when an experience ends.

    Args:
        legacy: initialise the weights anew and leave out the last batch, as Avalanche does.
        kwargs: as in Avalanche; the learning rates per parameter start at `alpha_init`.
    """

    one_head = True
    method_version = 2
    method_remedy = ''
    rebuilt = ('optimizer_alpha', 'initial_fast_params', 'meta_losses')

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        return _ignoring_tasks(model)

    def __init__(self, *, model: nn.Module, legacy: bool = False, **kwargs):
        weights = copy.deepcopy(model.state_dict())
        _quietly(super().__init__, model=model, **kwargs)
        self.buffer.device = str(self.device)  # a name can be saved in a checkpoint
        for name, parameter in model.named_parameters():  # here, so that there is something to load into
            self.alpha_params[name.replace('.', '_')] = nn.Parameter(torch.full_like(parameter, self.alpha_init))
        self.alpha_params_initialized = True
        self.legacy = legacy
        if legacy:
            self.method_version = 1
        else:
            model.load_state_dict(weights)

    def make_train_dataloader(self, drop_last=False, **kwargs):
        super().make_train_dataloader(drop_last=drop_last and self.legacy, **kwargs)

    def inner_update_step(self, fast_params, x, y, t):
        if len(x) == 0 or len(x) == 1 and any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
                                              for module in self.model.modules()):
            return fast_params
        return super().inner_update_step(fast_params, x, y, t)


@STRATEGIES.register_module()
class LaMAMLHigher(LaMAML):
    """Look-ahead MAML without a memory of its own: the first of Avalanche's two versions.

    With a `ReplayPlugin` a batch ends in memories; they count for the meta-loss alone. Avalanche's patches the model by
    the package `higher`, which fails for models that slice their layers; here it is torch.func.

    Args:
        legacy: initialise the weights anew, as Avalanche does.
        kwargs: as for `LaMAML`, without a memory.

    Raises:
        ConfigError: if a memory is asked for.
    """

    def __init__(self, *, model: nn.Module, legacy: bool = False, **kwargs):
        for key in ('max_buffer_size', 'buffer_mb_size'):
            if key in kwargs:
                raise ConfigError(f"cl_strategy: LaMAMLHigher has no memory, so no {key}; use type='LaMAML', or add "
                                  "plugins=[dict(type='ReplayPlugin', mem_size=200)].")
        super().__init__(model=model, legacy=legacy, **kwargs)
        self.buffer = None

    def _inner_updates(self, **kwargs):
        self.initial_fast_params = {name: copy.deepcopy(value) for name, value in self.model.named_parameters()}
        params = self.initial_fast_params
        rows = len(self.mb_x) if self.clock.train_exp_counter == 0 else min(len(self.mb_x), self.train_mb_size)
        size = math.ceil(rows / self.n_inner_updates)
        self.meta_losses = []
        for start in range(0, size * self.n_inner_updates, size):
            part = slice(start, min(start + size, rows))
            params = self.inner_update_step(params, self.mb_x[part], self.mb_y[part], self.mb_task_id[part])
            logits = torch.func.functional_call(self.model, params, (self.mb_x, self.mb_task_id))
            self.meta_losses.append(self._criterion(logits, self.mb_y))

    def _after_training_exp(self, **kwargs):
        super(AvalancheLaMAML, self)._after_training_exp(**kwargs)  # its own would fill the memory


@STRATEGIES.register_module()
class MER(AvalancheMER):
    """Meta-experience replay (Riemer et al. 2019, arXiv:1810.11910), as in Avalanche. Its arguments are Avalanche's."""

    one_head = True

    def __init__(self, **kwargs):
        _quietly(super().__init__, **kwargs)
        self.buffer.device = str(self.device)  # a name can be saved in a checkpoint


def _quietly(init, **kwargs) -> None:
    # Avalanche warns about the positional arguments of its own constructors.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        init(**kwargs)


@STRATEGIES.register_module()
class OnlineNaive(Naive):
    """Fine-tuning, under the name of Avalanche's old online template, which its streams of single batches replaced.

    Args:
        train_passes: passes over each experience.
    """

    unmixed_batches = 'every'

    def __init__(self, *, train_passes: int = 1, train_epochs: int | None = None, **kwargs):
        if train_epochs not in (None, 1) and train_passes != 1:
            raise ValueError('give train_passes or train_epochs, not both.')
        super().__init__(train_epochs=max(train_passes, train_epochs or 1), **kwargs)
