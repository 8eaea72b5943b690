"""Keep what an earlier pair of towers knew: its features, or its scores of texts for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clear.core.checks import check_flag
from clear.models.losses.alignment.gathering import Gathering
from clear.models.losses.alignment.streaming import normalised
from clear.models.losses.inputs import check_matrices, full_precision
from clear.models.losses.pair_loss import DEFAULT_LOGIT_SCALE, mean_over_processes
from clear.registry import MODELS


@MODELS.register_module()
class FeatureDistillationLoss(nn.Module):
    """Each tower's features stay where those of the earlier pair are: `2 - 2 cos`, the squared distance on the unit
    sphere, mean over rows and over the two towers. The earlier pair receives no gradient.

    Args:
        gather: mean over the rows of all processes, which may differ in number.

    Shape:
        teacher: (image, text) features of the earlier pair, (N, D) each   student: those of the pair in training
        returns: ()

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> before, now = torch.tensor([[1., 0.]]), torch.tensor([[0., 3.]])
        >>> FeatureDistillationLoss()([before, before], [now, before]).item()  # 2 and 0, their mean
        1.0
    """

    def __init__(self, *, gather: bool = True):
        super().__init__()
        self.gather = check_flag('FeatureDistillationLoss: gather', gather)

    @full_precision
    def forward(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        check_pairs(self, teacher, student)
        values = [(normalised(before.detach()) - normalised(now)).square().sum(1)
                  for before, now in zip(teacher, student)]
        return mean_over_processes(torch.stack(values).mean(0), self.gather)

    def extra_repr(self) -> str:
        return f'gather={self.gather}'


@MODELS.register_module()
class LogitDistillationLoss(nn.Module):
    """The pair in training scores texts for images, and images for texts, as the earlier pair does: cross-entropy of
    the softmaxes over the global batch, mean over both directions (open_clip's `DistillClipLoss`; LwF for CLIP in
    TiC-CLIP, Garg et al. 2023, arXiv:2310.16226). The earlier pair receives no gradient.

    Args:
        gather: candidates are the rows of all processes. Every process must have the same number of rows.

    Shape:
        teacher: (image, text) features of the earlier pair, (N, D_t) each, of any norm   student: (image, text)
        features of the pair in training, (N, D_s) each   logit_scale, teacher_logit_scale: factors, None is 1 / 0.07
        returns: ()

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> before, now = torch.eye(2), torch.ones(2, 2)
        >>> round(LogitDistillationLoss()([before, before], [now, now]).item(), 4)  # log 2: all look alike now
        0.6931
    """

    def __init__(self, *, gather: bool = True):
        super().__init__()
        self.gathering = Gathering(check_flag('LogitDistillationLoss: gather', gather))

    @full_precision
    def forward(self, teacher: Sequence[Tensor], student: Sequence[Tensor], *,
                logit_scale: Tensor | float | None = None,
                teacher_logit_scale: Tensor | float | None = None) -> Tensor:
        check_pairs(self, teacher, student, equal_width=False)
        targets = self._scores([tower.detach() for tower in teacher], teacher_logit_scale)
        predictions = self._scores(student, logit_scale)
        return sum(-(target.softmax(1) * prediction.log_softmax(1)).sum(1).mean()
                   for target, prediction in zip(targets, predictions)) / 2

    def _scores(self, pair: Sequence[Tensor], scale: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Of this process's images over all texts, and of its texts over all images."""
        image, text = map(normalised, pair)
        pairs = self.gathering.pairs(text, image)
        scale = DEFAULT_LOGIT_SCALE if scale is None else scale
        return scale * pairs.student @ pairs.all_teacher.T, scale * pairs.teacher @ pairs.all_student.T

    def extra_repr(self) -> str:
        return f'gather={self.gathering.gather}'


def check_pairs(owner: nn.Module, teacher: Sequence[Tensor], student: Sequence[Tensor], *,
                equal_width: bool = True) -> None:
    """Raise ValueError unless both are two matrices of as many rows, and of one width where they are compared."""
    for name, pair in (('teacher', teacher), ('student', student)):
        if isinstance(pair, Tensor) or len(pair) != 2:
            raise ValueError(f'{type(owner).__name__}: {name} must be the features of two towers, (image, text).')
    if equal_width:
        for index, side in enumerate(('image', 'text')):
            check_matrices(owner, **{f'teacher {side}': teacher[index], f'student {side}': student[index]})
    else:
        check_matrices(owner, **{'teacher image': teacher[0], 'teacher text': teacher[1]})
        check_matrices(owner, **{'student image': student[0], 'student text': student[1]})
    counts = {len(tower) for tower in (*teacher, *student)}
    if len(counts) > 1:
        raise ValueError(f'{type(owner).__name__}: the pairs have {sorted(counts)} rows, expected as many in each.')
