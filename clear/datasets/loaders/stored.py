"""What the towers of pairs read over and over, so that their features may be stored, and reading these in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow
import torch
from pyarrow import compute, types
from torch import Tensor

from clear.datasets.images.decode import UnreadableImage
from clear.datasets.images.reader import RowReader
from clear.datasets.table import ImageTable
from clear.datasets.transforms.build import ImageTransform, build_transform


@dataclass(frozen=True)
class FixedTransform:
    """A transform that draws nothing, as the `preprocess` of whoever encodes images.

    Attributes:
        configs: what `build_transform` takes.
        crop: side of the square that it gives.
    """

    configs: Sequence[Mapping]
    crop: int
    resize: int | None = None  # of images that are too large for it nobody but the transform itself knows

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the encoder gets."""
        return self.crop, self.crop

    def build(self) -> ImageTransform:
        """The transform."""
        return build_transform(self.configs)

    def to_dict(self) -> dict[str, object]:
        """What it depends on, for the identity of a bank."""
        return dict(transform=[dict(config) for config in self.configs], crop=self.crop)


@dataclass(frozen=True)
class FixedImages:
    """Images that are the same in every epoch.

    Attributes:
        fingerprint: of the table.
        max_bad_fraction: share of them that may be bad.
    """

    table: ImageTable
    fingerprint: str
    transform: FixedTransform
    max_bad_fraction: float


@dataclass(frozen=True, eq=False)
class StoredRows:
    """The features that a tower gives for fixed inputs, in their order.

    Attributes:
        features: (N, D) float32, in memory or mapped.
        reasons: row -> why there are none.
    """

    features: np.ndarray
    reasons: Mapping[int, str] = field(default_factory=dict)

    def take(self, rows: int | np.ndarray) -> Tensor:
        """(D,) of a row, or (B, D)."""
        found = np.asarray(self.features)[rows]  # a base array: indexing a map makes maps
        return torch.from_numpy(np.array(found) if isinstance(rows, int) else found)


class StoredReader(RowReader[Tensor]):
    """The features of images in place of their pixels; bad ones are known beforehand."""

    def __init__(self, stored: StoredRows, report):
        super().__init__(report)
        self.stored = stored
        self.is_bad = np.zeros(len(stored.features), dtype=bool)
        self.is_bad[list(stored.reasons)] = True

    def __getitem__(self, row: int) -> Tensor:
        if self.is_bad[row]:
            raise UnreadableImage(self.stored.reasons[row])
        return self.stored.take(row)


class DistinctTexts:
    """Every caption of a table once, sorted, and which of them each image has.

    Attributes:
        texts: the distinct captions.
    """

    def __init__(self, images: ImageTable):
        column = images['caption'].combine_chunks()
        values, entries = column, np.arange(len(column))
        if types.is_dictionary(column.type):
            # Prompts: a list of texts for each class. They are not written out for every image.
            used, entries = np.unique(column.indices.to_numpy(zero_copy_only=False), return_inverse=True)
            values = column.dictionary.take(pyarrow.array(used))
        counts, flat = np.ones(len(values), dtype=np.int64), values
        if types.is_list(values.type):
            counts = compute.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
            flat = compute.list_flatten(values)
        encoded = flat if types.is_dictionary(flat.type) else flat.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        used, codes = np.unique(codes, return_inverse=True)
        found = encoded.dictionary.take(pyarrow.array(used)).to_pylist()
        order = sorted(range(len(found)), key=found.__getitem__)
        places = np.empty(len(found), dtype=np.int64)
        places[order] = np.arange(len(found))
        self.texts: list[str] = [found[place] for place in order]
        self._rows = places[codes]
        self._starts = (np.cumsum(counts) - counts)[entries]

    def rows(self, images: int | np.ndarray, captions: int | np.ndarray) -> int | np.ndarray:
        """Where among `texts` the given captions of the given images stand."""
        return self._rows[self._starts[images] + captions]
