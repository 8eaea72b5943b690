"""Memories that stay one layer deep, however many experiences they have seen."""

from __future__ import annotations

from typing import Any

import torch


def keep_rows(old: Any, old_rows: torch.Tensor, new: Any, new_rows: torch.Tensor) -> Any:
    """One flat Avalanche data set of some samples of `old`, followed by some of `new`.

    Avalanche flattens the samples of a concatenation, but the attributes of each (task labels, stored logits) become a
    tree that is one level deeper after every experience. Here attributes are copied into plain lists, so neither an
    update nor a read depends on the number of experiences before.

    Args:
        old, new: Avalanche data sets; `old` may be empty.
        old_rows, new_rows: integer tensors, the rows to keep and their order.
    """
    from avalanche.benchmarks.utils.utils import concat_datasets

    parts = [dataset.subset(rows.tolist()) for dataset, rows in ((old, old_rows), (new, new_rows)) if len(rows)]
    if not parts:
        return concat_datasets([])
    shared = [name for name in parts[0]._data_attributes if all(name in part._data_attributes for part in parts)]
    return type(parts[-1])(parts, data_attributes=[_flat_attribute(name, parts) for name in shared])


def _flat_attribute(name: str, parts: list) -> Any:
    """The values of an attribute as one list; tensors keep the attribute class that stacks them."""
    from avalanche.benchmarks.utils.data_attribute import DataAttribute
    from avalanche.benchmarks.utils.flat_data import FlatData

    values = [value for part in parts for value in part._data_attributes[name].data]
    # The list is shortened when rows go: a memory of logits must not keep those of samples it has dropped.
    data = FlatData([values], discard_elements_not_in_indices=isinstance(values[0], torch.Tensor))
    return DataAttribute(data, name, use_in_getitem=parts[0]._data_attributes[name].use_in_getitem)
