"""Features of the pairs of an episode, as the model is now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clear.core import dist
from clear.core.modes import evaluation_mode
from clear.models.alignment import ProtoCLIP
from clear.models.alignment.image_text import TOWERS


def encode_pairs(model: ProtoCLIP, loader: DataLoader, epoch: int, rows: Sequence[int], *, batch_size: int,
                 autocast: AbstractContextManager) -> dict[str, Tensor]:
    """'image' and 'text' -> (N, D) float32, what `ProtoCLIP.project_pairs` gives for samples of an epoch.

    They are what training sees in that epoch: same captions, same draws of the augmentation. The model is in eval mode,
    with the running statistics of the first process. A sample that stands in `rows` twice is encoded once. Processes
    take blocks of samples by turns, so the result does not depend on their number.

    Args:
        loader: of the training; its data set is asked for (epoch, row), in as many workers.
        batch_size: samples of one forward pass.

    Raises:
        DataError: if too many images are bad.
    """
    distinct, places = np.unique(np.asarray(rows), return_inverse=True)
    blocks = [slice(start, start + batch_size) for start in range(0, len(distinct), batch_size)]
    own = blocks[dist.rank()::dist.world_size()]
    device = model.logit_scale_proto.device
    found = {side: torch.zeros(len(distinct), model.proto_head(side).out_channels, device=device) for side in TOWERS}
    dist.from_main(buffer for buffer in model.buffers() if buffer.is_floating_point())

    def encode() -> None:
        keys = [[(epoch, int(row)) for row in distinct[block]] for block in own]
        with evaluation_mode(model), autocast:
            for block, batch in zip(own, _batches(loader, keys)):
                given = model.data_preprocessor(batch, training=False)
                values = model.project_pairs(model.embed(tuple(
                    given.get(name) for name in ('inputs', 'captions', 'image_features', 'text_features'))))
                for side in TOWERS:
                    found[side][block] = values[side].float()

    dist.in_agreement(encode)
    return {side: dist.sum_over_ranks(values)[torch.from_numpy(places).to(device)] for side, values in found.items()}


def _batches(loader: DataLoader, keys: list[list[tuple[int, int]]]) -> DataLoader:
    """Batches of the samples of `keys`, read as the loader reads; nothing is drawn from a generator of training."""
    return DataLoader(loader.dataset, batch_sampler=keys, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
                      pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn,
                      multiprocessing_context=loader.multiprocessing_context if loader.num_workers else None,
                      generator=torch.Generator().manual_seed(0))
