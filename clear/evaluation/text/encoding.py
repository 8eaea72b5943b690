"""Texts of a task as embeddings: each encoded once, checked, and counted where the tower does not read all of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clear.core.errors import DataError
from clear.core.logs import logger
from clear.evaluation.language.prompts import check_encodes_text
from clear.evaluation.task import CountsTruncated


class TextReader:
    """Encodes the texts of one task, and knows how many were longer than the tower reads.

    Args:
        encoder: has `encode_text`; where it has `num_truncated` too, long texts are counted.
        task: its name, for messages.

    Raises:
        ConfigError: for an encoder without text.
    """

    def __init__(self, encoder: nn.Module | None, task: str):
        self._encode = check_encodes_text(encoder, task)
        self._count = encoder.num_truncated if isinstance(encoder, CountsTruncated) else None
        self._task = task
        self.num_texts = self.num_truncated = 0

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32 on the CPU; equal texts have equal rows.

        Raises:
            DataError: if a row is not finite.
        """
        places: dict[str, int] = {}
        rows = [places.setdefault(text, len(places)) for text in texts]
        distinct = list(places)
        vectors = self._encode(distinct).detach().float().cpu()
        finite = vectors.isfinite().all(1)
        if not finite.all():
            text = distinct[int((~finite).nonzero()[0])]
            raise DataError(f"{self._task}: the embedding of '{text:.60}' is not finite, and so are "
                            f'{int((~finite).sum())} of {len(distinct)}.')
        self.num_texts += len(distinct)
        self.num_truncated += 0 if self._count is None else self._count(distinct)
        return vectors if len(distinct) == len(rows) else vectors[torch.tensor(rows)]

    def extras(self) -> dict[str, int]:
        """`n_texts`, those encoded, and `n_truncated` of them where the encoder can tell; the latter is also logged."""
        if self.num_truncated:
            logger.warning('%s: %d of %d texts are longer than the tower reads; of them the beginning was encoded.',
                           self._task, self.num_truncated, self.num_texts)
        return dict(n_texts=self.num_texts, **({} if self._count is None else {'n_truncated': self.num_truncated}))
