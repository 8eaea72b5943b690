"""The protocols that probes on images follow, each a set of defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.evaluation.image.rows import LabelledRows, ProbeData

# What a task leaves open. 'virb': Kotar et al. 2021 (arXiv:2103.14005), the task list of its code.
PROTOCOLS: dict[str, dict[str, Any]] = dict(
    strict=dict(lrs=(1e-3, 1e-2, 1e-1), weight_decays=(0.0,), optimizers=('sgd',), schedules=('cosine',), seeds=3,
                epochs=50, batch_size=256, momentum=0.9, scale='standard'),
    virb=dict(lrs=(1e-4,), weight_decays=(0.0,), optimizers=('adam',), schedules=('constant',), seeds=1, epochs=100,
              batch_size=32, momentum=0.0, scale='none'))


def check_protocol(protocol: str) -> str:
    """`protocol`, refused unless it is known."""
    return check_choice('protocol', protocol, tuple(PROTOCOLS))


def protocol_defaults(protocol: str, **values: Any) -> dict[str, Any]:
    """The values, those that are None as the protocol has them."""
    return {name: PROTOCOLS[protocol][name] if value is None else value for name, value in values.items()}


def prepared(data: ProbeData, dropped: int | None) -> ProbeData:
    """The data of a task as ViRB keeps them: features in float16.

    Args:
        dropped: the size of batches of which the last, smaller one is dropped from the test rows; None keeps all.

    Raises:
        DataError: for features that float16 cannot hold, or fewer test rows than a batch.
    """
    splits = {name: LabelledRows(rounded(rows, name), rows.labels) for name in ('train', 'val', 'test')
              if (rows := getattr(data, name)) is not None}
    if dropped is not None:
        kept = len(data.test) // dropped * dropped
        if not kept:
            raise DataError(f'{len(data.test)} test rows make no batch of {dropped}, and the tail is dropped '
                            '(legacy=True). Give a smaller batch_size.')
        splits['test'] = LabelledRows(splits['test'].features[:kept], splits['test'].labels[:kept])
    return replace(data, **splits)


def rounded(rows: LabelledRows, split: str) -> Tensor:
    """The features of some rows, rounded to float16.

    Raises:
        DataError: for features that float16 cannot hold.
    """
    found = rows.features.half().to(rows.features.dtype)
    if not found.isfinite().all():
        raise DataError(f"The features of '{split}' reach {rows.features.abs().max():.3g}, and float16, in which "
                        "protocol='virb' keeps them, ends at 65504. Take protocol='strict'.")
    return found
