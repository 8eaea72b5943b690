"""Banks that a dry run does not make: everything about them is known but their features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path

import numpy as np

from clear.datasets.clips import clip_length
from clear.datasets.columns import text_column
from clear.datasets.table import ImageTable
from clear.features.bank import FeatureBank
from clear.features.identity import Identity, fingerprint_of

_is_planning: ContextVar[bool] = ContextVar('clear_planned_banks', default=False)


@contextmanager
def planned_banks() -> Iterator[None]:
    """Within the block `extract` makes no bank but gives a `PlannedBank`; one that is there it opens."""
    token = _is_planning.set(True)
    try:
        yield
    finally:
        _is_planning.reset(token)


def is_planning() -> bool:
    """Whether the caller stands in a block of `planned_banks`."""
    return _is_planning.get()


class PlannedBank(FeatureBank):
    """A bank as it will be, with zeros for features and every image counted as readable; nothing is on disk."""

    def __init__(self, path: Path, source: ImageTable, dim: int, identity: Identity):
        self.path = path
        self.meta = dict(fingerprint=fingerprint_of(identity), identity=identity, dtype=identity['dtype'], dim=dim,
                         count=len(source), num_valid=len(source), class_names=list(source.class_names), maps={},
                         source=source.kind, clip_length=clip_length(source))
        self.features = np.broadcast_to(np.zeros(1, np.float32), (len(source), dim))  # takes no memory
        self.labels = source.label_array()
        self.valid = np.ones(len(source), dtype=bool)
        self._source = source

    @cached_property
    def index(self):
        import pyarrow

        source = self._source
        return pyarrow.table({'row': range(len(source)), 'id': source['id'], 'path': source['path'],
                              'bucket': text_column(source.buckets()), 'timestamp': source.times()})

    def describe(self) -> str:
        """Its size on disk, and how to read what follows."""
        size = len(self) * self.dim * np.dtype(self.meta['dtype']).itemsize
        begun = ', begun already' if Path(f'{self.path}.partial').is_dir() else ''
        return (f'{len(self)} images to encode{begun}: {len(self)} x {self.dim} {self.meta["dtype"]}, '
                f'{size / 2**20:,.1f} MiB; zeros stand for them here')
