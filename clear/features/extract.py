"""Run an encoder over a source and store what it gives: in blocks, over processes, safe against kills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from clear.core import dist
from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.datasets.clips import CLIP, clip_length
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.features.bank import META_FILE, FeatureBank
from clear.features.blocks import BlockFolder, fill_blocks
from clear.features.build import make_encoder
from clear.features.identity import ROOT, Identity, bank_path, identity_of, require_same
from clear.features.loading import ImageBatch, image_batches
from clear.features.planned import PlannedBank, is_planning
from clear.features.writing import room_on_disk, write_small_files

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

def extract(encoder: Options | nn.Module, source: Options | ImageTable,
            out: str | Path | None = None, *, root: str | Path = ROOT, identity: Identity | None = None,
            batch_size: int = 64, dtype: str = 'float16', maps: Sequence[int] | None = None, num_workers: int = 0,
            device: str | torch.device | None = None, resume: bool = True, overwrite: bool = False,
            block_size: int | None = None, max_bad_fraction: float = 0.01,
            progress: Callable[[int, int], None] | None = None) -> FeatureBank:
    """Encode a source into a bank, or open the bank if it is already there.

    Without `out` the bank is looked for below `root` by its fingerprint, and made there. Finding it costs the encoder's
    construction, a hash of its weights and the size of every image file, but no forward pass. Other weights, another
    transform, other files, labels or dtype lead to another folder. Inside `planned_banks()`, as in a dry run, a bank
    that is not there is described and not made.

    Blocks of rows are finished one by one in `<out>.partial/`, which becomes `out` at the end. After a kill the same
    call goes on with the first unfinished block, and the bank is equal byte for byte to that of an uninterrupted run.
    Under `torchrun` every process takes a contiguous part of the blocks; batches are cut inside blocks, so the bank
    does not depend on the number of processes (on one kind of machine, with equally many threads).

    Args:
        encoder: (B, 3, H, W) -> (B, embed_dim), in eval mode, with `preprocess` and `fingerprint()`; or its config.
            `meta.json` tells its `config`, which encoders built from one carry.
        out: the folder of the bank; None looks below `root`.
        identity: `identity_of` these in this dtype with these maps, where the caller has it already.
        batch_size: images of one forward pass.
        dtype: of the stored features; float16 holds values up to 65504, in half the space.
        maps: levels whose feature maps are stored too (a second forward pass), 0 (fine) ... 4 (coarse).
        device: None takes this process's GPU if there is one.
        resume: False throws unfinished work away.
        overwrite: replace another bank at `out`, once the new one is complete.
        block_size: rows between two savings, a multiple of `batch_size`; by default the multiple next to 512, with
            maps one batch. A block is held in memory.
        max_bad_fraction: share of images that may be unreadable. They get zero rows, `valid` False and a line in
            `bad_samples.jsonl`.
        progress: called with (rows done, rows to do) of this process; by default the main process shows a bar.

    Raises:
        ConfigError: for options that do not go together, or a config of which nothing can be built.
        CheckpointError: if the encoder's weights do not fit.
        DataError: if `out` holds something else, too many images are unreadable, features are not finite in `dtype`,
            or the disk is full.
    """
    encoder, source = make_encoder(encoder), read_images(source)
    clip_length(source)  # frames that make no clips are refused before anything is encoded
    block_size = check_sizes(batch_size, block_size, max_bad_fraction, bool(maps))
    if identity is None:
        identity = identity_of(encoder, source, dtype=dtype, maps=maps)
    place = bank_path(encoder, source, identity, root) if out is None else Path(out)
    if is_planning() and not place.is_dir():
        planned = PlannedBank(place, source, encoder.embed_dim, identity)
        logger.info('features  %s (%s)', place, planned.describe())
        return planned
    if out is None:
        logger.info('features  %s (%s)', place, 'found again' if place.is_dir() else f'made now: {len(source)} images')
    out = place.absolute()
    if (found := found_bank(out, identity, overwrite)) is not None:
        return found
    device = _device(device)
    encoder = encoder.to(device)
    shapes = _row_shapes(encoder, identity['maps'], device)
    folder = BlockFolder(out, dict(identity=identity, count=len(source), block_size=block_size, batch_size=batch_size,
                                   arrays=shapes))
    fill_blocks(folder, lambda todo, report: _encode_blocks(encoder, source, folder, todo, device, num_workers,
                                                            max_bad_fraction, report),
                lambda: _finish(folder, source, encoder, max_bad_fraction), resume, progress, 'images')
    return FeatureBank.open(out, expect=identity)


def check_sizes(batch_size: int, block_size: int | None, max_bad_fraction: float, has_maps: bool) -> int:
    """The rows between two savings.

    Raises:
        ConfigError: for sizes that are no whole numbers or do not fit, or a share outside 0 ... 1.
    """
    check_whole('batch_size', batch_size, 1)
    check_number('max_bad_fraction', max_bad_fraction, 0, 1)
    if block_size is None:
        return batch_size if has_maps else -(-512 // batch_size) * batch_size  # maps of 512 images are gigabytes
    if check_whole('block_size', block_size, 1) % batch_size:
        raise ConfigError(f'block_size is {block_size!r}, expected a multiple of batch_size ({batch_size}).')
    return block_size


def found_bank(out: Path, identity: dict, overwrite: bool) -> FeatureBank | None:
    """This very bank, if it is at `out` already.

    Raises:
        DataError: if `out` is something else that may not be replaced.
    """
    if not out.exists():
        return None
    if not (out / META_FILE).is_file():
        if out.is_dir() and not any(out.iterdir()):
            return None
        raise DataError(f'{out} exists and is no feature bank. Choose another folder.')
    try:
        bank = FeatureBank.open(out)
        require_same(str(out), bank.meta['identity'], identity,
                     'Write to another folder, or replace this bank (overwrite=True, --overwrite).')
    except DataError:
        if overwrite:
            return None
        raise
    return bank


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device('cuda', dist.local_rank()) if torch.cuda.is_available() else torch.device('cpu')
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device is {device!r}, which torch cannot use here: {str(error).splitlines()[0]}') from error


@torch.no_grad()
def _row_shapes(encoder: nn.Module, levels: Sequence[int], device: torch.device) -> dict[str, list[int]]:
    """Array name -> shape of one row. The sizes of maps are only known by asking."""
    shapes = {'features': [encoder.embed_dim]}
    if levels:
        found = encoder.feature_maps(torch.zeros(1, 3, *encoder.preprocess.input_size, device=device))
        shapes |= {f'maps_{level}': list(found[level].shape[1:]) for level in levels}
    return shapes


def _encode_blocks(encoder: nn.Module, source: ImageTable, folder: BlockFolder, blocks: list[int],
                   device: torch.device, num_workers: int, max_bad_fraction: float, progress) -> None:
    """Encode and save the given blocks one after another, over one stream of batches."""
    batch_size = folder.plan['batch_size']
    ranges = [folder.block_range(block) for block in blocks]
    batches = [range(start, min(start + batch_size, stop)) for first, stop in ranges
               for start in range(first, stop, batch_size)]
    stream = image_batches(source, encoder.preprocess, batches, num_workers=num_workers,
                           pin_memory=device.type == 'cuda')
    done, num_bad = 0, 0
    for block, (first, stop) in zip(blocks, ranges):
        arrays = {name: np.zeros((stop - first, *shape), folder.plan['identity']['dtype'])
                  for name, shape in folder.plan['arrays'].items()}
        bad: list[dict] = []
        for _ in range(first, stop, batch_size):
            batch = next(stream)
            _encode_batch(encoder, source, batch, arrays, batch.rows[0] - first, device)
            bad += [_bad_record(source, row, reason) for row, reason in batch.reasons.items()]
            done += len(batch.rows)
            if progress is not None:
                progress(done, sum(stop - first for first, stop in ranges))
        folder.write_block(block, arrays, bad)
        num_bad += len(bad)
        _check_bad(num_bad, len(source), max_bad_fraction, folder.path, bad)


@torch.no_grad()
def _encode_batch(encoder: nn.Module, source: ImageTable, batch: ImageBatch, arrays: dict[str, np.ndarray],
                  start: int, device: torch.device) -> None:
    """Fill rows `start ...` of the block's arrays; rows of unreadable images become zero."""
    images = batch.images.to(device, non_blocking=True)
    found = {'features': encoder(images)}
    if len(arrays) > 1:
        levels = encoder.feature_maps(images)
        found |= {name: levels[int(name.removeprefix('maps_'))] for name in arrays if name != 'features'}
    for name, values in found.items():
        target = arrays[name][start:start + len(images)]
        if tuple(values.shape) != target.shape:
            raise ConfigError(f'{type(encoder).__name__} gives {name} of shape {tuple(values.shape)}, its attributes '
                              f'promise {target.shape}.')
        with np.errstate(over='ignore'):  # an overflow is reported below, with the image
            target[:] = values.float().cpu().numpy()
        for row in batch.reasons:
            target[row - batch.rows[0]] = 0
        _check_finite(target, name, batch, source)


def _check_finite(values: np.ndarray, name: str, batch: ImageBatch, source: ImageTable) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        bad = int((~finite).nonzero()[0][0])
        if np.isnan(values[bad]).any():
            advice = 'They are NaN: the weights or the image make no numbers, and no dtype will.'
        else:
            advice = f'They leave the range of {values.dtype}.' + (
                " float16 ends at 65504; use dtype='float32'." if values.dtype == np.float16 else '')
        image = source.text('id', batch.rows[bad])
        raise DataError(f"The {name} of '{image}' are not finite. {advice}")


def _bad_record(source: ImageTable, row: int, reason: str) -> dict[str, Plain]:
    bucket = source.text('bucket', row) if 'bucket' in source else None
    return {'row': row, 'bucket': bucket, 'id': source.text('id', row), 'reason': reason}


def _check_bad(num_bad: int, total: int, max_bad_fraction: float, folder: Path, last: Sequence[dict]) -> None:
    if num_bad > max_bad_fraction * total:
        example = f" Last: '{last[-1]['id']}' ({last[-1]['reason']})." if last else ''
        raise DataError(f'{num_bad} of {total} images cannot be read ({num_bad / total:.1%}), more than '
                        f'max_bad_fraction = {max_bad_fraction:.1%}.{example} Repair the data and delete {folder}, or '
                        'raise max_bad_fraction to go on without them.')


def _finish(folder: BlockFolder, source: ImageTable, encoder: nn.Module, max_bad_fraction: float) -> None:
    if not folder.is_complete:
        bad = folder.bad_samples()
        _check_bad(len(bad), len(source), max_bad_fraction, folder.path, bad)
        valid = np.ones(len(source), dtype=bool)
        valid[[record['row'] for record in bad]] = False
        plan = folder.plan
        with room_on_disk(folder.path):
            write_small_files(
                folder.path, identity=plan['identity'], dim=encoder.embed_dim, labels=source.label_array(),
                valid=valid, ids=source.texts('id'), paths=source.texts('path'), buckets=source.buckets(),
                timestamps=source.times(),
                class_names=source.class_names, bad=bad,
                maps={name.removeprefix('maps_'): shape for name, shape in plan['arrays'].items()
                      if name != 'features'},
                notes=dict(encoder=dict(type=type(encoder).__name__, config=_config_of(encoder)), source=source.kind,
                           block_size=plan['block_size'], batch_size=plan['batch_size'],
                           **({'clip_length': clip_length(source)} if CLIP in source else {})))
    folder.publish()


def _config_of(encoder: nn.Module) -> dict[str, Plain] | None:
    # Networks of other libraries may have a `config` that is an object.
    config = getattr(encoder, 'config', None)
    return config if isinstance(config, dict) else None
