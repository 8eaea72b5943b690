"""Classification by both towers of a pair."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clear.models.losses.pair_loss import Given, PairLoss, mean_over_processes
from clear.registry import MODELS


@MODELS.register_module()
class PromptedCrossEntropyLoss(PairLoss):
    """Half the sum of the cross-entropies of both towers with the class of the pair: their outputs are read as logits
    of classes, so they need as many columns as there are classes. For images with prompts made of class names.

    ITRA gathers labels of all processes and compares them with the rows of one; here each has its own.

    Args:
        gather: mean over the rows of all processes, which may differ in number.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing.

    Shape:
        teacher, student: (N, C), logits, taken as they are   labels: (N,), in 0 ... C - 1   returns: ()

    Raises:
        ValueError: if labels are missing, negative or not below C, or shapes do not fit.

    Example:
        >>> logits, labels = torch.eye(2), torch.tensor([0, 1])
        >>> round(PromptedCrossEntropyLoss()(logits, logits, labels=labels).item(), 4)  # log(1 + 1/e)
        0.3133
    """

    needs_labels = True

    def check_labels(self, labels: Tensor, width: int) -> None:
        low, high = labels.aminmax()
        if low < 0 or high >= width:
            raise ValueError(f'PromptedCrossEntropyLoss: labels go from {int(low)} to {int(high)}, expected classes '
                             f'0 to {width - 1}, one per column of the towers. -1 means that a row has no '
                             'class: leave such rows out, or use InfoNCELoss or UniCLLoss.')

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        self.check_labels(given.labels, student.shape[1])
        values = sum(F.cross_entropy(logits, given.labels, reduction='none') for logits in (teacher, student))
        return mean_over_processes(values, self.gather) / 2
