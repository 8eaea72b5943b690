"""Texts of which each stands once, encoded into a bank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from clear.core.errors import DataError
from clear.features.bank import FeatureBank
from clear.features.blocks import BlockFolder, Report, fill_blocks
from clear.features.extract import check_sizes, found_bank
from clear.features.identity import Identity, bank_identity
from clear.features.writing import check_ids, room_on_disk, write_small_files
from clear.models.towers.text import TextEncoder

# Texts between two savings. They are sorted by length inside it, so that little of a batch is padding.
BLOCK_SIZE = 4096


def text_identity(encoder: TextEncoder, texts: Sequence[str]) -> Identity:
    """What the bank of these texts depends on: the weights, how they are read, and the texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps(text, ensure_ascii=True).encode() + b'\n')
    return bank_identity(encoder.fingerprint(), digest.hexdigest(),
                         dict(use_pooler=True, max_length=encoder.max_length), 'float32')


def extract_texts(encoder: TextEncoder, texts: Sequence[str], out: str | Path, *, identity: Identity | None = None,
                  batch_size: int = 64, block_size: int = BLOCK_SIZE, resume: bool = True,
                  progress: Report | None = None) -> FeatureBank:
    """Encode texts into a bank, or open the bank if it is already there: see `extract`, whose rules hold here too.

    Features are float32 and those of `encoder(texts)`, what training sees; the ids of the rows are the texts.

    Args:
        encoder: on the device to use.
        texts: each once.
        identity: `text_identity` of these, where the caller has it already.
        batch_size: texts of one forward pass.
        block_size: texts between two savings, a multiple of `batch_size`.

    Raises:
        DataError: if a text is there twice, `out` holds something else, features are not finite, or the disk is full.
        ConfigError: for sizes that do not fit.
    """
    check_sizes(batch_size, block_size, 0, False)
    check_ids(texts, 'extract_texts')
    identity = identity or text_identity(encoder, texts)
    out = Path(out).absolute()
    if (found := found_bank(out, identity, False)) is not None:
        return found
    folder = BlockFolder(out, dict(identity=identity, count=len(texts), block_size=block_size, batch_size=batch_size,
                                   arrays={'features': [encoder.embed_dim]}))
    fill_blocks(folder, lambda todo, report: _encode_blocks(encoder, texts, folder, todo, report),
                lambda: _finish(encoder, texts, folder), resume, progress, 'texts')
    return FeatureBank.open(out, expect=identity)


def _encode_blocks(encoder: TextEncoder, texts: Sequence[str], folder: BlockFolder, blocks: list[int],
                   progress: Report | None) -> None:
    ranges = [folder.block_range(block) for block in blocks]
    total, done = sum(stop - start for start, stop in ranges), 0
    for block, (start, stop) in zip(blocks, ranges):
        features = encoder.encode(list(texts[start:stop]), folder.plan['batch_size'], use_pooler=True)
        finite = torch.isfinite(features).all(1)
        if not finite.all():
            raise DataError(f"The features of '{texts[start + int((~finite).nonzero()[0])]:.60}' are not finite: the "
                            'weights make no numbers of it.')
        folder.write_block(block, {'features': features.numpy()}, [])
        done += stop - start
        if progress is not None:
            progress(done, total)


def _finish(encoder: TextEncoder, texts: Sequence[str], folder: BlockFolder) -> None:
    if not folder.is_complete:
        plan, count = folder.plan, len(texts)
        with room_on_disk(folder.path):
            write_small_files(
                folder.path, identity=plan['identity'], dim=encoder.embed_dim, labels=np.full(count, -1),
                valid=np.ones(count, dtype=bool), ids=texts, paths=[''] * count, buckets=[None] * count,
                timestamps=[None] * count, class_names=[],
                notes=dict(encoder=dict(type=type(encoder).__name__, config=encoder.config), source='texts',
                           block_size=plan['block_size'], batch_size=plan['batch_size']))
    folder.publish()
