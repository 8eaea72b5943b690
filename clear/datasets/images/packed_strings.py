"""A million paths that cost worker processes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


class PackedStrings(Sequence):
    """An unchangeable sequence of strings in two arrays; equal to any sequence of the same strings.

    Reading an element of a list writes its reference count, so each loader worker would copy, page by page, what it
    could share with its parent. Arrays are shared as they are, and sent to new processes as two blocks.
    """

    def __init__(self, values: Iterable[str]):
        encoded = [value.encode('utf-8', 'surrogatepass') for value in values]
        self._bytes = np.frombuffer(b''.join(encoded), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        return self._bytes[self._ends[index]:self._ends[index + 1]].tobytes().decode('utf-8', 'surrogatepass')

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other))

    __hash__ = None

    def __repr__(self) -> str:
        shown = ', '.join(map(repr, self[:3]))
        return f'PackedStrings([{shown}{", ..." if len(self) > 3 else ""}], {len(self)} strings)'
