"""Which blocks of two encoders see images alike: linear CKA of every pair (Kornblith et al. 2019)."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.configs.building import building
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import write_csv
from clear.core.logs import logger, progress_bar
from clear.engine.probing.keys import check_name, with_defaults
from clear.evaluation.metrics.cka import BlockCKA
from clear.features.build import make_encoder
from clear.features.loading import image_batches

if TYPE_CHECKING:
    from clear.datasets.table import ImageTable

BLOCKS = ('stem', 'stage 1', 'stage 2', 'stage 3', 'stage 4', 'embedding')


def pairs_of(cfg: dict, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Every pair of the encoders of a probing config, or of those that are named; one alone is its own pair.

    Raises:
        ConfigError: for a name that is none of them or no name, or one given twice.
    """
    known = cfg.get('encoders') or {}
    names = list(known) if names is None else list(names)
    for name in names:
        if name not in known:
            raise ConfigError(f"No encoder of the config is called '{name}'. Nearest: "
                              f'{nearest(name, known) or ", ".join(known) or "none"}.')
        check_name('encoders', name)  # files are called so
        if 'bank' in known[name]:
            raise ConfigError(f'encoders.{name} is a folder of banks; blocks are read from encoders.')
    if len({*names}) < len(names) or not names:
        raise ConfigError(f'encoders are {names}; expected different ones.')
    return list(itertools.combinations(names, 2)) if len(names) > 1 else [(names[0], names[0])]


class BlockComparison:
    """The alignments of two encoders over the images of a table, each prepared as the encoder wants it.

    Raises:
        ConfigError: for an encoder without maps.
    """

    def __init__(self, first: dict | nn.Module, second: dict | nn.Module, *, device: torch.device | str = 'cpu'):
        with building('An encoder'):
            self._encoders = [make_encoder(cfg).to(device) for cfg in (first, second)]
        self._device = device
        for encoder in self._encoders:
            encoder.map_channels  # noqa: B018 - found at the first look, and refused before any image is read

    @torch.no_grad()
    def run(self, images: ImageTable, *, batch_size: int = 64, max_images: int | None = None, num_workers: int = 0
            ) -> Tensor:
        """(6, 6) float64: blocks of the first by blocks of the second, in the order of `BLOCKS`.

        Args:
            max_images: the first so many rows; None = all. An image that cannot be read is left out.

        Raises:
            DataError: if fewer than two images can be read, or a block is the same for all.
        """
        count = len(images) if max_images is None else min(len(images), check_whole('max_images', max_images, 2))
        size = check_whole('batch_size', batch_size, 1)
        batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
        streams = [image_batches(images, encoder.preprocess, batches, num_workers=num_workers)
                   for encoder in self._encoders]
        found, used = BlockCKA(), 0
        with progress_bar('blocks', 'images') as report:
            for parts in zip(*streams):
                rows = parts[0].rows
                good = [place for place, row in enumerate(rows) if not any(row in each.reasons for each in parts)]
                if good:
                    found.update(*(self._blocks(encoder, part.images[good])
                                   for encoder, part in zip(self._encoders, parts)))
                used += len(good)
                report(rows[-1] + 1, count)
        try:
            return found.values().cpu()
        except ValueError as error:
            raise DataError(f'{images.root}: of {used} images that can be read: {error}') from error

    def _blocks(self, encoder: nn.Module, images: Tensor) -> list[Tensor]:
        images = images.to(self._device)
        return [*encoder.feature_maps(images), encoder(images)]


def run(args: argparse.Namespace) -> int:
    """Compare encoders as the command line says: a CSV file and a figure for each pair. Returns the exit code.

    Raises:
        ConfigError, DataError, CheckpointError: for anything that cannot be compared.
    """
    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.logs import setup_logging
    from clear.core.programs.startup import choose_device
    from clear.datasets.readers.build import guess_reader, read_images
    from clear.visualization.figures import write_figures
    from clear.visualization.suites.figures import matrix_figure

    if args.out.exists() and not args.out.is_dir():
        raise DataError(f'--out {args.out} is a file; it should be a folder.')
    setup_logging(None)
    cfg = with_defaults(load_config(args.config, parse_options(args.cfg_options))[0])
    pairs = pairs_of(cfg, args.encoders)
    source = guess_reader(args.data) if args.data else (cfg.get('data') or {}).get('test')
    if not isinstance(source, dict) or 'type' not in source:
        raise ConfigError("The config has no images in data.test; name some by --data.")
    images, device = read_images(source), choose_device(args.device)
    for first, second in pairs:
        encoders = [{key: value for key, value in cfg['encoders'][name].items() if key != 'info'}
                    for name in (first, second)]
        values = BlockComparison(*encoders, device=device).run(
            images, batch_size=args.batch_size, max_images=args.max_images, num_workers=args.num_workers)
        stem = f'cka_{first}--{second}'
        write_csv(args.out / f'{stem}.csv', [[f'{first} / {second}', *BLOCKS],
                                             *([name, *map(repr, row)] for name, row in zip(BLOCKS, values.tolist()))])
        figure = matrix_figure(values.numpy(), [f'{first} {name}' for name in BLOCKS],
                               [f'{second} {name}' for name in BLOCKS], 'Linear CKA of blocks',
                               f'{first} (rows) and {second} (columns); maps pooled over positions')
        paths = [args.out / f'{stem}.csv', *write_figures({stem: figure}, args.out)]
        logger.info('wrote %s', ', '.join(map(str, paths)))
    return 0
