"""Avalanche 0.6's replay methods with losses of their own: what they add to the loss, by their papers.

Avalanche 0.6 replays nothing, without a word, while the memory holds less than `batch_size_mem`: DER's own defaults
(200 places, batches of 256) are then fine-tuning. Here a batch is what there is.
"""

from __future__ import annotations

import torch.nn.functional as F
from avalanche.training.regularization import AMLCriterion as AvalancheAMLCriterion
from avalanche.training.supervised import DER as AvalancheDER
from avalanche.training.supervised import ER_ACE as AvalancheERACE
from avalanche.training.supervised import ER_AML as AvalancheERAML
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from clear.continual.buffers import ClassBalancedBuffer, ClassBalancedBufferWithLogits
from clear.continual.repairs.losses import ACECriterion, AMLCriterion
from clear.continual.repairs.rehearsal.replay import RandomRows
from clear.continual.repairs.split_model import need_trained_features, split
from clear.continual.training.loaders import endless_batches
from clear.core.checks import check_number
from clear.core.errors import ConfigError
from clear.registry import STRATEGIES


@STRATEGIES.register_module()
class DER(AvalancheDER):
    """Dark experience replay (Buzzega et al. 2020, arXiv:2004.07211), equations 5 and 6 on one batch of memories:

    criterion(new) + alpha * MSE(logits of memories, their logits when they were stored) + beta * criterion(memories)

    `cl_strategy.loss` is the criterion. Avalanche 0.6 puts plain cross-entropy in its place once it replays. Departures
    from the paper, which are Avalanche's: the memory has equal shares per class, and is filled when an experience ends,
    with the logits of that moment.

    Args:
        mem_size: samples in memory.
        batch_size_mem: of them in an iteration, or all there are; as many as new ones by default.
        alpha, beta: weights of the two terms; beta 0 is DER, above 0 DER++ on one batch.
        legacy: Avalanche's shares of the memory.
    """

    division = 'gather'
    one_head = True
    unmixed_batches = 'first'
    penalty_keys = ('alpha',)
    method_version = 2
    method_remedy = ''
    # Avalanche's holds the hard-coded losses; the plain one asks `criterion`.
    training_epoch = SupervisedTemplate.training_epoch

    def __init__(self, *, mem_size: int = 200, batch_size_mem: int | None = None, alpha: float = 0.1,
                 beta: float = 0.5, legacy: bool = False, **kwargs):
        check_number('alpha', alpha, 0)
        check_number('beta', beta, 0)
        super().__init__(mem_size=mem_size, batch_size_mem=batch_size_mem, alpha=alpha, beta=beta, **kwargs)
        self.storage_policy = ClassBalancedBufferWithLogits(mem_size, legacy=legacy)
        # Avalanche's is the same where it replays, and the criterion is its own.
        if type(self._criterion) is nn.CrossEntropyLoss and mem_size >= self.batch_size_mem:
            self.method_version = 1

    def _before_training_exp(self, **kwargs):
        memory = self.storage_policy.buffer
        self.replay_loader = None
        if len(memory):
            self.replay_loader = endless_batches(memory, self.batch_size_mem, kwargs.get('num_workers', 0))
        super(AvalancheDER, self)._before_training_exp(**kwargs)

    def criterion(self):
        """The loss of the batch, of which the memories come first while there are some."""
        if not self.is_training or self.replay_loader is None:
            return super().criterion()
        size = len(self.batch_logits)
        old, new = self.mb_output[:size], self.mb_output[size:]
        # A head that has grown since has more logits; only the remembered ones are held.
        held = old[:, :self.batch_logits.shape[1]]
        return (self._criterion(new, self.mb_y[size:]) + self.alpha * F.mse_loss(held, self.batch_logits)
                + self.beta * self._criterion(old, self.mb_y[:size]))


class KeepsClasses:
    """Comes before ER_ACE and ER_AML of Avalanche: a class-balanced memory, replayed from the second experience on."""

    own_loss = True
    method_version = 2
    method_remedy = ''

    def keep_classes(self, legacy: bool) -> None:
        """Of the constructor, behind Avalanche's."""
        self.storage_policy = ClassBalancedBuffer(self.mem_size, legacy=legacy)
        if self.mem_size >= self.batch_size_mem:  # Avalanche's is the same where it replays
            self.method_version = 1

    def _fill_memory(self) -> None:
        """Take the new experience in, before it is trained on, and make the loader."""
        self.storage_policy.post_adapt(self, self.experience)
        if self.experience.current_experience > 0:
            self.replay_loader = endless_batches(self.storage_policy.buffer, self.batch_size_mem)


@STRATEGIES.register_module()
class ER_ACE(KeepsClasses, AvalancheERACE):
    """Experience replay with asymmetric cross-entropy (Caccia et al. 2022, arXiv:2104.05025), its own loss.

    Departure from the paper, which is Avalanche's: the memory takes a whole experience in before it is trained on,
    where the paper's grows with every batch.

    Args:
        mem_size: samples in memory, in equal shares per class.
        batch_size_mem: of them in an iteration, or all there are.
        legacy: Avalanche's shares of the memory.
    """

    division = 'gather'
    unmixed_batches = 'every'

    def __init__(self, *, mem_size: int = 200, batch_size_mem: int = 10, legacy: bool = False, **kwargs):
        super().__init__(mem_size=mem_size, batch_size_mem=batch_size_mem, **kwargs)
        self.keep_classes(legacy)

    def _before_training_exp(self, **kwargs):
        self._fill_memory()
        super(AvalancheERACE, self)._before_training_exp(**kwargs)

    @property
    def ace_criterion(self) -> ACECriterion:
        return ACECriterion()

    @ace_criterion.setter
    def ace_criterion(self, _criterion) -> None:
        """Avalanche's is NaN where logits lie far apart."""


@STRATEGIES.register_module()
class ER_AML(KeepsClasses, AvalancheERAML):
    """Experience replay with asymmetric metric learning (Caccia et al. 2022, arXiv:2104.05025).

    Features are the model's before its last layer. Avalanche 0.6 waits for ever where a class has fewer memories
    than `train_mb_size` (its loaders drop the only batch), and stops with an error where a class has no negative of
    the same bucket in the memory; its contrast has the normalisers of other anchors (see `AMLCriterion`). Here small
    groups give what they have, and such samples take any negative.

    Args:
        mem_size: samples in memory, in equal shares per class.
        batch_size_mem: of them in an iteration, or all there are.
        legacy: keep Avalanche's contrast, shares, loaders and negatives; an endless wait is refused.
    """

    unmixed_batches = 'every'

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        split(model, 'ER_AML')
        need_trained_features(model, 'ER_AML')
        return model

    def __init__(self, *, model: nn.Module, temp: float = 0.1, base_temp: float = 0.07, same_task_neg: bool = True,
                 legacy: bool = False, **kwargs):
        check_number('temp', temp, above=0)
        check_number('base_temp', base_temp, above=0)
        super().__init__(model=model, feature_extractor=model.feature_extractor, temp=temp, base_temp=base_temp,
                         same_task_neg=same_task_neg, **kwargs)
        self.temp, self.base_temp, self.same_task_neg, self.legacy = temp, base_temp, same_task_neg, legacy
        self.keep_classes(legacy)
        if not legacy:
            self.method_version = 2

    @property
    def aml_criterion(self):
        return self._asymmetric_loss

    @aml_criterion.setter
    def aml_criterion(self, _criterion) -> None:
        """Avalanche's holds the model, which would then be saved twice; ours is made for each batch."""

    def _asymmetric_loss(self, x, y, tasks, memory_output, memory_y, pool) -> Tensor:
        same_task = self.same_task_neg
        if same_task and not self.legacy:
            other = y[:, None] != pool[1][None]
            same_task = bool((other & (tasks[:, None] == pool[2][None])).any(1).all())
        make = AvalancheAMLCriterion if self.legacy else AMLCriterion
        criterion = make(self.model.feature_extractor, self.temp, self.base_temp, same_task, self.device)
        return criterion(x, y, tasks, memory_output, memory_y, pool)

    def _before_training_exp(self, **kwargs):
        self._fill_memory()
        super(AvalancheERAML, self)._before_training_exp(**kwargs)
        if self.replay_loader is None:
            return
        groups = [group.buffer for group in self.storage_policy.buffer_groups.values()]
        least = min(len(group) for group in groups)
        if self.legacy and least < self.train_mb_size:
            raise ConfigError(f'ER_AML: legacy=True needs train_mb_size ({self.train_mb_size}) memories of every '
                              f'class; one has {least}. Raise mem_size.')
        make = endless_batches if self.legacy else RandomRows
        self.pos_neg_loaders = [make(group, self.train_mb_size) for group in groups if len(group)]

    def _train_cleanup(self):
        super()._train_cleanup()
        self.pos_neg_loaders = []
