"""Avalanche 0.6's replay methods with losses of their own: what they add to the loss, by their papers."""

from __future__ import annotations

import torch.nn.functional as F
from avalanche.training.supervised import DER as AvalancheDER
from avalanche.training.supervised import ER_ACE as AvalancheERACE
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from clear.continual.repairs.losses import ACECriterion
from clear.core.checks import check_number
from clear.registry import STRATEGIES


@STRATEGIES.register_module()
class DER(AvalancheDER):
    """Dark experience replay (Buzzega et al. 2020, arXiv:2004.07211), equations 5 and 6 on one batch of memories:

    criterion(new) + alpha * MSE(logits of memories, their logits when they were stored) + beta * criterion(memories)

    `cl_strategy.loss` is the criterion. Avalanche 0.6 puts plain cross-entropy in its place once it replays.

    Args:
        alpha, beta: weights of the two terms; beta 0 is DER, above 0 DER++ on one batch.
    """

    penalty_keys = ('alpha',)
    method_version = 2
    method_remedy = ''
    # Avalanche's holds the hard-coded losses; the plain one asks `criterion`.
    training_epoch = SupervisedTemplate.training_epoch

    def __init__(self, *, alpha: float = 0.1, beta: float = 0.5, **kwargs):
        check_number('alpha', alpha, 0)
        check_number('beta', beta, 0)
        super().__init__(alpha=alpha, beta=beta, **kwargs)
        if type(self._criterion) is nn.CrossEntropyLoss:
            self.method_version = 1

    def criterion(self):
        """The loss of the batch, of which the memories come first while there are some."""
        if not self.is_training or self.replay_loader is None:
            return super().criterion()
        size = len(self.batch_logits)
        old, new = self.mb_output[:size], self.mb_output[size:]
        return (self._criterion(new, self.mb_y[size:]) + self.alpha * F.mse_loss(old, self.batch_logits)
                + self.beta * self._criterion(old, self.mb_y[:size]))


@STRATEGIES.register_module()
class ER_ACE(AvalancheERACE):
    """Experience replay with asymmetric cross-entropy (Caccia et al. 2022, arXiv:2104.05025), its own loss."""

    own_loss = True

    @property
    def ace_criterion(self) -> ACECriterion:
        return ACECriterion()

    @ace_criterion.setter
    def ace_criterion(self, _criterion) -> None:
        """Avalanche's is NaN where logits lie far apart."""
