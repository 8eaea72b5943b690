"""Avalanche 0.6's regularising and memory-gradient methods, repaired. `legacy=True` keeps what it did."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from avalanche.training.plugins import FeatureDistillationPlugin as AvalancheFeatureDistillationPlugin
from avalanche.training.plugins import LFLPlugin as AvalancheLFLPlugin
from avalanche.training.plugins import RWalkPlugin as AvalancheRWalkPlugin
from avalanche.training.supervised import GEM as AvalancheGEM
from avalanche.training.supervised import LFL as AvalancheLFL
from avalanche.training.utils import ParamData, zerolike_params_dict
from torch import Tensor, nn

from clear.continual.repairs.split_model import need_trained_features, no_grad_features, split
from clear.core.checks import check_number
from clear.core.errors import ConfigError
from clear.core.modes import modes_kept
from clear.registry import PLUGINS, STRATEGIES


def replace_plugin(strategy, old: type, make) -> None:
    """Put `make(plugin)` in the place of the plugin of exactly the class `old`."""
    strategy.plugins = [make(plugin) if type(plugin) is old else plugin for plugin in strategy.plugins]


def as_importances(model: nn.Module, found: dict[str, Tensor]) -> dict[str, ParamData]:
    """Importances as Avalanche's plugins keep them; 0 for parameters that have none."""
    importances = dict(zerolike_params_dict(model))
    for name, value in found.items():
        importances[name].data = value
    return importances


def check_strength(where: str, value: float | list[float]) -> None:
    """The weight of a penalty: a number of at least 0, or a list with one for each experience.

    Raises:
        ConfigError: naming the key.
    """
    many = isinstance(value, (list, tuple)) and len(value) > 0
    for position, item in enumerate(value if many else [value]):
        check_number(f'{where}[{position}]' if many else where, item, 0)


@PLUGINS.register_module()
class LFLPlugin(AvalancheLFLPlugin):
    """Less-forgetting learning (Jung et al. 2016, arXiv:1607.00122): hold on to the features of the old model.

    Avalanche 0.6 puts the model into eval mode to compute the penalty and never back, so from the second experience
    on only the first iteration of each is trained in train mode. Here modes are restored.

    Args:
        lambda_e: weight of the penalty, one number or one for each experience.
        legacy: leave the model in eval mode.
    """

    penalty_keys = ('lambda_e',)

    def __init__(self, lambda_e: float | list[float], *, legacy: bool = False):
        check_strength('lambda_e', lambda_e)
        super().__init__(lambda_e)
        self.legacy = legacy

    @property
    def unmixed_batches(self) -> str:
        return 'first' if self.legacy else 'every'  # in eval mode almost always from then on

    def prepare_model(self, model: nn.Module) -> nn.Module:
        need_trained_features(split(model, 'LFL'), 'LFL')
        return model

    def before_training(self, strategy, **kwargs):
        self.prepare_model(strategy.model)

    def penalty(self, x: Tensor, model: nn.Module, lambda_e: float):
        with nullcontext() if self.legacy else modes_kept(model):
            return super().penalty(x, model, lambda_e)


@STRATEGIES.register_module()
class LFL(AvalancheLFL):
    """Avalanche's strategy with the repaired plugin, on any model of ours whose features are trained.

    Args:
        legacy: keep Avalanche's modes.
    """

    division = 'shard'
    unmixed_batches = 'every'

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        split(model, 'LFL')
        need_trained_features(model, 'LFL')
        return model

    def __init__(self, *, lambda_e: float | list[float], legacy: bool = False, **kwargs):
        super().__init__(lambda_e=lambda_e, **kwargs)
        replace_plugin(self, AvalancheLFLPlugin, lambda plugin: LFLPlugin(lambda_e, legacy=legacy))


@PLUGINS.register_module()
class FeatureDistillationPlugin(AvalancheFeatureDistillationPlugin):
    """Hold on to the features of the old model, by cosine or squared distance.

    Avalanche 0.6 fails for `mode='mse'` (`mse_loss` takes no dimension) and runs the teacher in train mode, so its
    dropout draws and its BatchNorm statistics move. Here the teacher is in eval mode, and 'mse' is the mean over
    samples and dimensions.

    Args:
        alpha: weight of the distance.
        mode: 'cosine' (1 - cosine) or 'mse'.
        legacy: the teacher in train mode, as in Avalanche; with 'cosine' only.
    """

    unmixed_batches = 'every'
    penalty_keys = ('alpha',)

    def __init__(self, alpha: float = 1, mode: str = 'cosine', *, legacy: bool = False):
        if mode not in ('cosine', 'mse') or (legacy and mode == 'mse'):
            raise ValueError(f"mode is {mode!r}; expected 'cosine', or 'mse' without legacy.")
        check_number('alpha', alpha, 0)
        super().__init__(alpha, mode)
        self.legacy = legacy

    def prepare_model(self, model: nn.Module) -> nn.Module:
        need_trained_features(split(model, 'FeatureDistillationPlugin'), 'FeatureDistillationPlugin')
        return model

    def before_backward(self, strategy, **kwargs):
        if self.legacy or self.prev_model is None:
            super().before_backward(strategy, **kwargs)
            return
        old, new = no_grad_features(self.prev_model, strategy.mb_x), strategy.model.features
        distance = 1 - F.cosine_similarity(new, old).mean() if self.mode == 'cosine' else F.mse_loss(new, old)
        strategy.loss += self.alpha * distance


@PLUGINS.register_module()
class RWalkPlugin(AvalancheRWalkPlugin):
    """Riemannian walk (Chaudhry et al. 2018, arXiv:1801.10112).

    Avalanche 0.6 divides scores by their maximum, which is 0 if an experience ends before the first `delta_t`
    iterations or no score is positive: every penalty is then NaN. It also leaves the model in eval mode before every
    iteration. Here a maximum of 0 gives penalties of 0, and modes are restored.

    Args:
        ewc_lambda, ewc_alpha, delta_t: as in Avalanche.
        legacy: keep both.
    """

    penalty_keys = ('ewc_lambda',)

    def __init__(self, ewc_lambda: float = 0.1, ewc_alpha: float = 0.9, delta_t: int = 10, *, legacy: bool = False):
        super().__init__(ewc_lambda, ewc_alpha, delta_t)
        self.legacy = legacy

    @property
    def unmixed_batches(self) -> str | None:
        return None if self.legacy else 'every'  # in eval mode from the first iteration on

    def before_training_iteration(self, strategy, *args, **kwargs):
        with nullcontext() if self.legacy else modes_kept(strategy.model):
            super().before_training_iteration(strategy, *args, **kwargs)

    def after_training_exp(self, strategy, *args, **kwargs):
        super().after_training_exp(strategy, *args, **kwargs)
        if self.legacy:
            return
        top_score = max(score.data.max() for score in self.exp_scores.values())
        top_importance = max(item.data.max() for item in self.exp_importance.values())
        for name, score in self.exp_scores.items():
            # Parameters that came with this experience have no score yet, and so no penalty.
            importance = self.exp_importance.get(name)
            if importance is None:
                continue
            score = F.relu(score.expand(importance.shape))
            penalty = _share(importance.data, top_importance) + _share(score, top_score)
            self.exp_penalties[name] = ParamData(name, device=importance.device, init_tensor=penalty)


def _share(values: Tensor, top: Tensor) -> Tensor:
    return values / top if top > 0 else torch.zeros_like(values)


@STRATEGIES.register_module()
class GEM(AvalancheGEM):
    """Gradient episodic memory (Lopez-Paz and Ranzato 2017, arXiv:1706.08840).

    The quadratic programme is solved by `quadprog`, which Avalanche looks for when the first gradient has to be
    projected, in the middle of a run. Here it is looked for at construction.

    Raises:
        ConfigError: if the solver is not installed.
    """

    division = 'shard'
    unmixed_batches = 'every'

    def __init__(self, *, patterns_per_exp: int, memory_strength: float = 0.5, **kwargs):
        check_number('memory_strength', memory_strength, 0)
        for package in ('qpsolvers', 'quadprog'):
            if importlib.util.find_spec(package) is None:
                raise ConfigError(f"GEM needs {package}, which is not installed: pip install 'qpsolvers' 'quadprog'")
        super().__init__(patterns_per_exp=patterns_per_exp, memory_strength=memory_strength, **kwargs)
