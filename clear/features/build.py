"""Find the bank of an encoder over a data set by its fingerprint, or make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clear.core import dist
from clear.core.config import to_plain
from clear.core.logs import logger, progress_bar
from clear.core.seeding import seeded_draws
from clear.features.bank import FeatureBank
from clear.features.extract import extract, identity_of
from clear.features.identity import fingerprint_of
from clear.features.planned import PlannedBank, is_planning
from clear.features.sources import Source, build_source

ROOT = 'work_dirs/banks'


def make_encoder(cfg: dict[str, Any] | nn.Module) -> nn.Module:
    """Build an encoder. One without weights is random, but the same every time (drawn from seed 0)."""
    if isinstance(cfg, nn.Module):
        return cfg
    from clear.models.towers.image import build_encoder

    with seeded_draws(0):
        return build_encoder(cfg)


def describe_encoder(cfg: dict[str, Any] | nn.Module) -> dict[str, Any] | None:
    """An encoder's config for `meta.json`: of weights only the file's name, since banks travel between machines."""
    if isinstance(cfg, nn.Module):
        return None
    plain = to_plain(dict(cfg))
    weights = plain.get('weights')
    if isinstance(weights, dict) and 'path' in weights:
        plain['weights'] = {**weights, 'path': Path(weights['path']).name}
    elif isinstance(weights, str):
        plain['weights'] = Path(weights).name
    return plain


def bank_path(encoder: nn.Module, source: Source, root: str | Path = ROOT, *, dtype: str = 'float16',
              maps: Sequence[int] | None = None) -> Path:
    """Where the bank of this encoder over this source lies below `root`: data set, encoder and fingerprint."""
    fingerprint = fingerprint_of(identity_of(encoder, source, dtype=dtype, maps=maps))
    plain = ''.join(char if char.isalnum() or char in '-_.' else '_' for char in source.name)
    return Path(root) / f'{plain}_{type(encoder).__name__}_{fingerprint[:16]}'


def find_or_extract(encoder_cfg: dict[str, Any] | nn.Module, source_cfg: dict[str, Any] | Source,
                    root: str | Path = ROOT, *, dtype: str = 'float16', maps: Sequence[int] | None = None,
                    batch_size: int = 64, num_workers: int = 0, device: str | torch.device | None = None,
                    max_bad_fraction: float = 0.01, progress: Callable[[int, int], None] | None = None) -> FeatureBank:
    """The bank of an encoder over a data set: opened if it exists below `root`, else extracted.

    Finding it costs the encoder's construction, a hash of its weights and the size of every image file, but no
    forward pass. Other weights, another transform, other files, labels or dtype lead to another folder. Inside
    `planned_banks()`, as in a dry run, a bank that is not there is described and not made.

    Raises:
        ConfigError, DataError: as `extract` does.
    """
    encoder, source = make_encoder(encoder_cfg), build_source(source_cfg)
    out = bank_path(encoder, source, root, dtype=dtype, maps=maps)
    options = dict(dtype=dtype, maps=maps, batch_size=batch_size, num_workers=num_workers, device=device,
                   max_bad_fraction=max_bad_fraction, encoder_config=describe_encoder(encoder_cfg))
    if out.is_dir():
        logger.info('features  %s (found again)', out)
        return extract(encoder, source, out, **options)
    if is_planning():
        planned = PlannedBank(out, source, encoder.embed_dim, identity_of(encoder, source, dtype=dtype, maps=maps))
        logger.info('features  %s (%s)', out, planned.describe())
        return planned
    logger.info('features  %s (made now: %d images)', out, len(source))
    if progress is not None or not dist.is_main():
        return extract(encoder, source, out, progress=progress, **options)
    with progress_bar('encode', 'images') as report:
        return extract(encoder, source, out, progress=report, **options)
