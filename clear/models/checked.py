"""Base of models that say before training which batches they cannot take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModel
from torch import Tensor


class CheckedModel(BaseModel):
    """A model of the ordinary Runner, which shows it a batch of one blank sample before anything is trained.

    Attributes:
        added_losses: names of losses that are not of the batch alone, such as a pull to what earlier data taught.
    """

    added_losses: tuple[str, ...] = ()

    def check_batch(self, shown: Mapping[str, Tensor | Sequence], batch_size: int) -> None:
        """Refuse what `loss` would refuse.

        Args:
            shown: what the data preprocessor makes of the blank sample.
            batch_size: samples that this process has in a batch.

        Raises:
            ConfigError: saying what to change.
        """
        raise NotImplementedError
