"""The probe with a hidden layer, on single images or on clips."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from clear.core.checks import check_whole
from clear.evaluation.image.grid.clips import incomplete_clips, join_clips
from clear.evaluation.image.linear_probe import LinearProbe
from clear.evaluation.image.rows import read_splits
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class MLPProbe(LinearProbe):
    """Train heads with a hidden layer as `LinearProbe` trains linear ones, whole grid in one pass.

    For images that come in clips, as frames of a video or the two views of a motion, a head reads the features of a
    clip side by side: `Linear(S * D, hidden)`, ReLU, `Linear(hidden, C)` (the `MultiEmbeddingHead` of Kotar et al.
    2021, arXiv:2103.14005). A clip with a frame that cannot be read is left out and counted.

    Args:
        hidden: width of the layer.
        options: those of `LinearProbe`.

    Raises:
        ConfigError: as `LinearProbe` does.

    Example:
        >>> from clear.evaluation import LabelledRows, ProbeData
        >>> rows = LabelledRows(torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8))
        >>> data = ProbeData(train=rows, test=rows, class_names=['cat', 'dog', 'owl'])
        >>> MLPProbe(hidden=16, lrs=[0.1], seeds=1, epochs=20).fit(data).result.value
        1.0
    """

    title: ClassVar = 'MLP probe'

    def __init__(self, *, hidden: int = 512, **options):
        super().__init__(**options)
        self.hidden = check_whole('hidden', hidden, 1)

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """As `LinearProbe.run`, on clips too.

        Raises:
            DataError: besides, for splits with clips of different lengths.
        """
        banks, num_images = join_clips(data.bank)
        result = self.fit(read_splits(banks, self.device), data.encoder_name, data.folder, num_images).result
        result.extras.update(incomplete_clips(banks), num_images=num_images)
        return result
