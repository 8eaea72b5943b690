"""Learners for frozen features that are solved, not trained: one pass, no optimiser."""

from __future__ import annotations

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.core.modes import evaluation_mode

# Logit of a class that was never seen, where the head has a bias: finite, so that a loss stays finite.
UNSEEN = -1e30
# Logits are held above this in the loss that is logged, for the same reason.
LOWEST_LOGGED = -1e4


class ClosedFormLearner(SupervisedPlugin, supports_distributed=True):
    """What a closed-form strategy remembers (sums over features), and how a head follows from it.

    A plugin, so that it is saved and resumed as every other state. It sees whole batches, alike on every process.
    """

    def observe(self, features: Tensor, targets: Tensor, head: nn.Module) -> None:
        """Take in a batch: features (N, D), targets (N,)."""
        raise NotImplementedError

    def solve(self, head: nn.Module) -> None:
        """Write the solution of what was seen into the head; called when an experience ends."""
        raise NotImplementedError

    @torch.no_grad()
    def after_training_exp(self, strategy, **kwargs):
        self.solve(strategy.model.head)


class ClosedForm(SupervisedTemplate):
    """One pass over each experience: the features of a batch go to a learner, which solves for the head at the end.

    Nothing but the head changes; a backbone runs in evaluation mode. Loss and accuracy of training are those of the
    head from before the experience, on data that it has not seen.

    Args:
        learner: what is remembered.
        needs_bias: the solution has a bias, so the head must have one.
        optimizer: not used. The engine saves one with every strategy; None makes one that is never stepped.
        train_epochs: must be 1: a second pass would count every sample twice.

    Raises:
        ConfigError: for more than one epoch, or a model whose head is not one linear layer on features.
    """

    needs_optimizer = False
    single_pass = True

    def __init__(self, *, model: nn.Module, learner: ClosedFormLearner, needs_bias: bool = False,
                 optimizer: torch.optim.Optimizer | None = None, train_epochs: int = 1, plugins: list | None = None,
                 **kwargs):
        name = type(self).__name__
        if train_epochs != 1:
            raise ConfigError(f'{name} makes one pass over each experience; cl_strategy.train_epochs is '
                              f'{train_epochs}. Leave it out.')
        check_head(model, name, needs_bias)
        if optimizer is None:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        super().__init__(model=model, optimizer=optimizer, train_epochs=1, plugins=[*(plugins or []), learner],
                         **kwargs)

    @property
    def learner(self) -> ClosedFormLearner:
        return next(plugin for plugin in self.plugins if isinstance(plugin, ClosedFormLearner))

    def training_epoch(self, **kwargs):
        with evaluation_mode(self.model):
            for batch in self.dataloader:
                self.mbatch = batch
                if self._stop_training:
                    break
                self._unpack_minibatch()
                self._before_training_iteration(**kwargs)
                self._before_forward(**kwargs)
                features = head_input(self.model, self.mb_x)
                self.mb_output = self.model.head((features,)).float()
                self._after_forward(**kwargs)
                self.loss = self._criterion(self.mb_output.clamp(min=LOWEST_LOGGED), self.mb_y)
                self.learner.observe(features, self.mb_y, self.model.head)
                self._after_training_iteration(**kwargs)


def head_input(model: nn.Module, inputs: Tensor) -> Tensor:
    """The features that the head's linear layer gets, (N, D)."""
    return model.head.pre_logits(model.extract_features(inputs))


def check_head(model: nn.Module, name: str, needs_bias: bool) -> None:
    """Refuse a model whose head is not one linear layer on features.

    Raises:
        ConfigError: naming the heads that can be used.
    """
    from mmpretrain.models.heads import LinearClsHead

    from clear.models.heads import CosineDistanceHead

    head = getattr(model, 'head', None)
    kinds = (LinearClsHead, CosineDistanceHead)
    if not (isinstance(head, kinds) or hasattr(head, 'project')) or (needs_bias and head.fc.bias is None):
        usable = 'LinearClsHead' if needs_bias else 'LinearClsHead or CosineDistanceHead'
        raise ConfigError(f'{name} writes its solution into one linear layer, so model.head must be {usable}; it is '
                          f'{type(head).__name__}.')


def write_head(head: nn.Module, weight: Tensor, bias: Tensor | None, seen: Tensor) -> None:
    """Set the rows of the classes in `seen` (C,) bool; the others can only be chosen if no class was seen.

    In a head without bias a class that was not seen has logit 0.

    Shape:
        weight: (C, D)   bias: (C,), or None for a head whose bias is not touched
    """
    fc = head.fc
    fc.weight.data.copy_(torch.where(seen[:, None], weight, torch.zeros_like(weight)))
    if bias is not None and fc.bias is not None:
        fc.bias.data.copy_(torch.where(seen, bias, torch.full_like(bias, UNSEEN)))


def to_device(state: object, names: tuple[str, ...], device: torch.device) -> None:
    """Move tensors of a learner to where features are; a resumed one begins on the CPU."""
    for name in names:
        value = getattr(state, name)
        if value is not None and value.device != device:
            setattr(state, name, value.to(device))
