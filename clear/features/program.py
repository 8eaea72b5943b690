"""From the command line of `tools/extract_features.py` to a bank."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.config import Config
from torch import nn

from clear.core import dist
from clear.core.checks import check_shared_keys, check_text
from clear.core.config import apply_options, load_config
from clear.core.configs.building import building
from clear.core.configs.options import parse_options
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, nearest
from clear.core.logs import logger, setup_logging
from clear.datasets.readers.build import guess_reader, read_images
from clear.datasets.table import ImageTable
from clear.features.bank import FeatureBank
from clear.features.build import make_encoder, typed
from clear.features.extract import check_sizes, extract
from clear.features.identity import ROOT, Identity, bank_path, fingerprint_of, identity_of

if TYPE_CHECKING:
    from clear.core.types import Options

DEFAULTS: Options = dict(dtype='float16', batch_size=64, block_size=None, maps=None, num_workers=0, device=None,
                                max_bad_fraction=0.01)
KNOWN = {'encoder', 'data', 'out', 'threads', 'default_scope', *DEFAULTS}


def run(args: argparse.Namespace) -> int:
    """Extract as the command line says. Returns the exit code.

    Raises:
        ConfigError, DataError, CheckpointError: for anything that cannot be run.
    """
    dist.start(args.launcher)
    try:
        setup_logging(None)
        make_bank(args)
        return 0
    finally:
        dist.stop()


def make_bank(args: argparse.Namespace) -> FeatureBank | None:
    """The bank of a command line, finished where another run has left it; None of a dry run.

    Raises:
        ConfigError, DataError, CheckpointError: as `run` does.
    """
    cfg = read_config(args)
    return bank_of(cfg, cfg.get('out'), resume=args.resume, overwrite=args.overwrite, dry_run=args.dry_run)


def bank_of(cfg: dict[str, object], out: str | Path | None = None, *, root: str | Path | None = None,
            resume: bool = True, overwrite: bool = False, dry_run: bool = False) -> FeatureBank | None:
    """The bank of a checked extraction config, finished where another run has left it; None of a dry run.

    Args:
        out: its folder; None finds one below `root` by what the features depend on.
        resume, overwrite: as of `extract`.

    Raises:
        ConfigError, DataError, CheckpointError: as `run` does.
    """
    if cfg.get('threads'):
        torch.set_num_threads(cfg['threads'])
    with building('The config'):
        encoder, source = make_encoder(cfg['encoder']), read_images(cfg['data'])
    options = {key: cfg.get(key, default) for key, default in DEFAULTS.items()}
    identity = identity_of(encoder, source, dtype=options['dtype'], maps=options['maps'])
    out = Path(out) if out else bank_path(encoder, source, identity, ROOT if root is None else root)
    logger.info('%s', _describe(encoder, source, out, identity))
    if dry_run:
        logger.info('dry run: nothing was encoded or written')
        return None
    bank = extract(encoder, source, out, identity=identity, resume=resume, overwrite=overwrite, **options)
    logger.info('%s', _report(bank))
    return bank


def read_config(args: argparse.Namespace) -> dict[str, object]:
    """The config with the command line's changes as plain values, its keys checked.

    Raises:
        ConfigError: for a missing or misspelt key.
    """
    options = parse_options(args.cfg_options or [])
    replaced = {}
    if args.encoder:
        replaced['encoder'] = _encoder_option(args.encoder)
    if args.data:
        replaced['data'] = _data_option(args.data)
    others = {name: value for name, value in options.items() if name.split('.')[0] not in replaced}
    loaded, assigned = load_config(args.config, others)
    parts = Config(replaced)
    apply_options(parts, {name: options[name] for name in options if name not in others})
    cfg = {**loaded.to_dict(), **parts.to_dict()}
    check_keys('--cfg-options', {option.split('.')[0] for option in options}, KNOWN, 'an extraction config')
    for name in sorted(assigned - KNOWN):
        if near := nearest(name, KNOWN, 1):
            logger.warning("The config assigns '%s', which nobody reads (read: %s).", name, near)
    for key in ('out', 'device'):
        cfg[key] = getattr(args, key) or cfg.get(key)
    return _checked(cfg, str(args.config))


def read_extraction(encoder: str | Path | Mapping | nn.Module, data: str | Path | Mapping | None, options: Options
                    ) -> dict[str, object]:
    """The config of an extraction whose parts are given in Python, its keys checked.

    Args:
        encoder: its config, 'TYPE:ARCH', a file with one, or the encoder itself; without data an extraction config.
        data: config of a data source, a file with one, or a path that tells which it is.
        options: further keys.

    Raises:
        ConfigError: for a missing or misspelt key.
    """
    check_keys('extract', set(options) - {'encoder', 'data', 'out'}, set(DEFAULTS) | {'threads'}, 'extract')
    cfg: dict[str, object] = dict(options)
    if data is None and isinstance(encoder, (str, Path, Mapping)):
        whole = dict(encoder) if isinstance(encoder, Mapping) else load_config(encoder)[0].to_dict()
        return _checked({**whole, **cfg}, 'The config')
    cfg['encoder'] = _encoder_option(str(encoder)) if isinstance(encoder, (str, Path)) else encoder
    cfg['data'] = _data_option(str(data)) if isinstance(data, (str, Path)) else data
    return _checked(cfg, 'extract')


def _checked(cfg: dict[str, object], name: str) -> dict[str, object]:
    if isinstance(cfg.get('encoder'), dict):
        cfg['encoder'] = typed(cfg['encoder'])
    for key in ('encoder', 'data'):
        part = cfg.get(key)
        if not isinstance(part, nn.Module) and (not isinstance(part, dict) or 'type' not in part):
            raise ConfigError(f'{name} has no {key}=dict(type=...), and --{key} is not given.')
    _check_values(cfg)
    return cfg


def _data_option(text: str) -> dict[str, object]:
    return _part_of(text, 'data') if Path(text).suffix == '.py' else guess_reader(text)


def _check_values(cfg: dict[str, object]) -> None:
    check_shared_keys(cfg)
    if cfg.get('out') is not None:
        check_text('out', cfg['out'])
    options = {**DEFAULTS, **cfg}
    check_sizes(options['batch_size'], options['block_size'], options['max_bad_fraction'], bool(options['maps']))


def _encoder_option(text: str) -> dict[str, object]:
    if text.endswith('.py'):
        return _part_of(text, 'encoder')
    kind, colon, arch = text.partition(':')
    if not (kind and colon and arch):
        raise ConfigError(f"--encoder is '{text}'; expected TYPE:ARCH such as TorchvisionEncoder:resnet18, or a config "
                          'file with encoder=dict(...).')
    return dict(type=kind, arch=arch)


def _part_of(path: str, key: str) -> dict[str, object]:
    part = load_config(path)[0].to_dict().get(key)
    if not isinstance(part, dict):
        raise ConfigError(f'{path} has no {key}=dict(type=...).')
    return part


def _describe(encoder: nn.Module, source: ImageTable, out: Path, identity: Identity) -> str:
    """What an extraction will do: data, model, bank, disk."""
    dtype, maps = identity['dtype'], identity['maps']
    num_bytes = len(source) * encoder.embed_dim * torch.tensor([], dtype=getattr(torch, dtype)).element_size()
    spec = encoder.preprocess
    state = 'is there' if out.is_dir() else 'has begun' if Path(f'{out}.partial').is_dir() else 'new'
    return '\n'.join([
        f'data      {source.kind} {source.root}  {len(source)} images  {len(source.class_names)} classes',
        f'encoder   {type(encoder).__name__}  {sum(p.numel() for p in encoder.parameters()):,} parameters  '
        f'{spec.crop} x {spec.crop} pixels -> {encoder.embed_dim} numbers',
        f'disk      {num_bytes / 2**20:,.1f} MiB as {dtype}' + (f', and maps of levels {maps}' if maps else ''),
        f'bank      {out} ({state})  fingerprint {fingerprint_of(identity)}'])


def _report(bank: FeatureBank) -> str:
    bad = len(bank) - bank.meta['num_valid']
    text = f'{len(bank)} x {bank.dim} {bank.meta["dtype"]}'
    return f'{text}, {bad} unreadable images (bad_samples.jsonl)\nbank {bank.path}' if bad else \
        f'{text}\nbank {bank.path}'
