"""Avalanche 0.6's losses on soft targets, finite where logits lie far apart, and iCaRL's with a teacher at rest."""

from __future__ import annotations

import torch.nn.functional as F
from avalanche.training import ACECriterion as AvalancheACECriterion
from avalanche.training import AMLCriterion as AvalancheAMLCriterion
from avalanche.training.losses import ICaRLLossPlugin as AvalancheICaRLLossPlugin
from avalanche.training.losses import MaskedCrossEntropy as AvalancheMaskedCrossEntropy
from torch import Tensor


class ACECriterion(AvalancheACECriterion):
    """Asymmetric cross-entropy (Caccia et al. 2022, arXiv:2104.05025).

    Half the cross-entropy of memories over all classes, half that of new samples over the classes of their batch.
    Avalanche 0.6 takes the logarithm of a softmax that is 0 where logits lie more than about 100 apart: NaN.
    """

    def __call__(self, out_in: Tensor, target_in: Tensor, out_buffer: Tensor, target_buffer: Tensor) -> Tensor:
        classes, places = target_in.unique(return_inverse=True)
        return (F.cross_entropy(out_buffer, target_buffer) + F.cross_entropy(out_in[:, classes], places)) / 2


class AMLCriterion(AvalancheAMLCriterion):
    """Asymmetric metric learning (Caccia et al. 2022, arXiv:2104.05025): supervised contrast of new samples to
    positives and negatives, plus the cross-entropy of memories.

    Avalanche 0.6 subtracts the maxima and normalisers of the rows along the columns, so that each log-probability has
    the normaliser of another anchor. The factor temp / base_temp, of the loss's published code, stays.
    """

    # Of this class name, its private name is the one that Avalanche's `__call__` asks for.
    def __sup_con_loss(self, anchor_features: Tensor, features: Tensor, anchor_targets: Tensor, targets: Tensor
                       ) -> Tensor:
        is_positive = (anchor_targets[:, None] == targets[None]).float()  # (A, F)
        log_prob = (anchor_features @ features.T / self.temp).log_softmax(1)
        return -self.temp / self.base_temp * ((is_positive * log_prob).sum(1) / is_positive.sum(1)).mean()


class MaskedCrossEntropy(AvalancheMaskedCrossEntropy):
    """Cross-entropy over seen, new, old or all classes.

    Avalanche 0.6 takes the logarithm of a softmax that is 0 where logits lie more than about 100 apart: NaN.
    A sample whose class is masked counts as 0, as there.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        mask = self.current_mask(logits.shape[1])
        is_target = targets[:, None] == targets.new_tensor(mask)
        losses = -(is_target * logits[:, mask].log_softmax(1)).sum(1)
        return losses if self.reduction == 'none' else losses.mean()


class ICaRLLossPlugin(AvalancheICaRLLossPlugin):
    """Binary cross-entropy to one-hot targets, and to the old model's outputs for old classes (Rebuffi et al. 2017,
    arXiv:1611.07725, Algorithm 3).

    Avalanche 0.6 leaves the old model in train mode: its BatchNorm normalises by the new batch and its statistics
    move, so that its outputs are not those of the network before the update.

    Args:
        legacy: the old model in train mode.
    """

    method_version = 2
    method_remedy = 'legacy=True brings it back'

    def __init__(self, *, legacy: bool = False):
        super().__init__()
        self.legacy = legacy
        if legacy:
            self.method_version = 1

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        if not self.legacy:
            self.old_model.eval()


# By the names that `cl_strategy.loss` takes.
LOSSES: dict[str, type] = {'MaskedCrossEntropy': MaskedCrossEntropy, 'ICaRLLoss': ICaRLLossPlugin,
                           'ICaRLLossPlugin': ICaRLLossPlugin}
