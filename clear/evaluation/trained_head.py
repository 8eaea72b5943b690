"""Test heads that another task of the config trained, on other images."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from clear.core.checks import check_text
from clear.core.errors import DataError, nearest
from clear.evaluation.image.grid.clips import incomplete_clips, join_clips
from clear.evaluation.image.grid.head_file import SavedHeads, read_heads
from clear.evaluation.image.grid.protocols import rounded
from clear.evaluation.image.rows import LabelledRows, check_splits, class_names_of, read_rows
from clear.evaluation.task import TaskData, TaskResult, classification_metrics, seed_extras
from clear.registry import TASKS


@TASKS.register_module()
class TrainedHead:
    """The heads of a `LinearProbe` or an `MLPProbe` of the same config and encoder, tested on the images of 'test'.

    As ImageNet-V2 is, which has no training images: nothing is trained or chosen here. Classes are matched by name;
    every one that occurs must be among those that the head was trained on.

    Args:
        of: the name of the task whose heads to test.
        device: where to compute, e.g. 'cuda'.

    Raises:
        ConfigError: if `of` is no text.

    Example:
        >>> from clear.evaluation.image.grid.stacked import StackedHeads
        >>> from clear.evaluation.image.scaling import Scaler
        >>> heads = StackedHeads((torch.eye(2)[None],), (torch.zeros(1, 2),))
        >>> saved = SavedHeads(heads, [0], ['cat', 'dog'], dict(lr=0.1), Scaler('none'))
        >>> TrainedHead(of='pets').score(saved, LabelledRows(torch.eye(2), torch.tensor([1, 0])), ['dog', 'cat']).value
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('test',)
    reads_labels: ClassVar = True

    def __init__(self, *, of: str, device: str = 'cpu'):
        self.of, self.device = check_text('of', of), device

    @property
    def reads_jobs(self) -> tuple[str, ...]:
        """The task whose folder is read."""
        return (self.of,)

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Test what the other task left in its folder.

        Raises:
            DataError: if it left no heads, or they are of other classes, other features or other clips.
            CheckpointError: if they are damaged.
        """
        check_splits(data.bank, required=('test',))
        if self.of not in data.jobs:
            raise DataError(f"The heads of '{self.of}' are kept in no folder: a run without a work_dir keeps none.")
        saved = read_heads(data.jobs[self.of])
        banks, num_images = join_clips({'test': data.bank['test']})
        if num_images != saved.num_images:
            raise DataError(f"The heads of '{self.of}' read {saved.num_images} images at a time; 'test' has clips of "
                            f'{num_images}.')
        rows, unlabelled = read_rows(banks['test'], 'test', self.device)
        result = self.score(saved, rows, class_names_of(banks['test'], rows.labels))
        result.extras.update(incomplete_clips(banks), **(dict(unlabelled=dict(test=unlabelled)) if unlabelled else {}))
        return result

    def score(self, saved: SavedHeads, rows: LabelledRows, class_names: list[str]) -> TaskResult:
        """The same on tensors.

        Args:
            class_names: of the labels of `rows`.

        Raises:
            DataError: for other classes or another width of features.
        """
        if rows.features.shape[1] != saved.dim:
            raise DataError(f"The heads of '{self.of}' read {saved.dim} features, those of 'test' are "
                            f'{rows.features.shape[1]}.')
        place = {name: index for index, name in enumerate(saved.classes) if name not in saved.unseen}
        missing = [name for name in (class_names[label] for label in rows.labels.unique().tolist())
                   if name not in place]
        if missing:
            close = nearest(missing[0], place)
            names = ', '.join(map(repr, missing[:5])) + (f' and {len(missing) - 5} more' if len(missing) > 5 else '')
            raise DataError(f"The heads of '{self.of}' were trained on other classes: {names} of 'test' are not among "
                            f'their {len(place)}' + (f', the nearest: {close}.' if close else '.'))
        labels = torch.tensor([place.get(name, -1) for name in class_names], device=rows.labels.device)[rows.labels]
        saved = replace(saved, heads=saved.heads.to(rows.features.device), scale=saved.scale.to(rows.features.device))
        features = saved.scale(rounded(rows, 'test') if saved.rounds else rows.features)
        per_seed = {seed: classification_metrics(saved.heads[head:head + 1].logits(features)[0].T, labels)
                    for head, seed in enumerate(saved.seeds)}
        extras = seed_extras(per_seed)
        extras.update(selected=dict(saved.setting), seeds=saved.seeds, trained_on=self.of, n_train=0, n_val=0,
                      n_test=len(rows))
        return TaskResult('top1', extras['metrics']['top1'], True, extras)
