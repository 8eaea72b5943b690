"""The trained heads of a task on disk, for tasks that test them on other images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from clear.core.errors import DataError
from clear.core.files import load_tensors, save_tensors
from clear.core.storage.damage import COUNT, TENSORS, Each, Maybe, Such, check_shape, reading
from clear.evaluation.image.grid.points import Setting
from clear.evaluation.image.grid.stacked import StackedHeads
from clear.evaluation.image.scaling import SCALES, Scaler

HEAD_FILE = 'head.pth'
_FORMAT = 1
_SCALE = Such(f'one of {", ".join(SCALES)}', lambda value: value in SCALES)


@dataclass(frozen=True)
class SavedHeads:
    """A head for each seed, and what one needs to use them.

    Args:
        classes: names of the outputs.
        num_images: how many images of a clip stand side by side in a row of features.
        rounds: features are rounded to float16 first.
        unseen: those of the classes that had no training image.
    """

    heads: StackedHeads
    seeds: list[int]
    classes: list[str]
    setting: Setting
    scale: Scaler
    num_images: int = 1
    rounds: bool = False
    unseen: list[str] = field(default_factory=list)

    @property
    def dim(self) -> int:
        """Width of the features that they read."""
        return self.heads.weights[0].shape[2]

    def save(self, folder: Path) -> None:
        """Write `head.pth`, atomically: each head as the state of a `LinearHead` or a `MultiEmbeddingHead`."""
        save_tensors(folder / HEAD_FILE, dict(
            format=_FORMAT, heads=self.heads.state_dicts(), seeds=self.seeds, classes=self.classes,
            setting=dict(self.setting), num_images=self.num_images, rounds=self.rounds, unseen=self.unseen,
            scale=self.scale.kind, mean=None if self.scale.mean is None else self.scale.mean.cpu(),
            std=None if self.scale.std is None else self.scale.std.cpu()))


def read_heads(folder: Path) -> SavedHeads:
    """What a task left in its folder.

    Raises:
        DataError: if there is no such file, as of a task that trains no heads of whole images.
        CheckpointError: if it is damaged.
    """
    path = folder / HEAD_FILE
    if not path.is_file():
        raise DataError(f'{path} is missing: the task {folder.name} left no trained head. LinearProbe and MLPProbe do.')
    stored = load_tensors(path)
    if not isinstance(stored, dict) or stored.get('format') != _FORMAT or 'heads' not in stored:
        raise DataError(f'{path} holds no heads of images (format {_FORMAT}), such as LinearProbe and MLPProbe leave.')
    check_shape(path, stored, dict(heads=Each(TENSORS), seeds=Each(int), classes=Each(str), setting=dict,
                                   num_images=COUNT, rounds=bool, unseen=Each(str), scale=_SCALE, mean=Maybe(Tensor),
                                   std=Maybe(Tensor)))
    with reading(path):
        heads = StackedHeads.of_state_dicts(stored['heads'])
        if (len(heads), heads.biases[-1].shape[1]) != (len(stored['seeds']), len(stored['classes'])):
            raise ValueError(f'{len(heads)} heads of {heads.biases[-1].shape[1]} outputs')
        return SavedHeads(heads, stored['seeds'], stored['classes'], stored['setting'],
                          Scaler(stored['scale'], stored['mean'], stored['std']), stored['num_images'],
                          stored['rounds'], stored['unseen'])
