"""From a config of curation to what its page shows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import find_config, load_config
from clear.core.configs.options import parse_options
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.curation.app.places import Place, Session
from clear.curation.manifest import MANIFEST, Finished
from clear.engine.launch import read_run_config
from clear.engine.stages.keys import Entry, entries, with_defaults
from clear.features.bank import META_FILE

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

KEYS = ('banks', 'answers', 'prompts', 'roots', 'text_encoder')
_BANK_KEYS = ('name', 'path', 'images', 'records', 'root', 'roots', 'text_encoder', 'image_encoder')
ANSWERS, PROMPTS = 'answers.jsonl', 'prompts.py'


def session_of(cfg: Options) -> Session:
    """Every finished `Features` stage of a config, and the banks that its `app` names.

    Raises:
        ConfigError: for keys that nobody reads, or values that cannot be.
        DataError: if nothing of it is there yet.
    """
    app = dict(cfg.get('app') or {})
    check_keys('app', set(app), set(KEYS), 'app')
    work_dir = Path(cfg['work_dir'])
    places = [place for entry in (entries(with_defaults(cfg)) if cfg.get('stages') else ())
              if entry.stage.MAKES == 'features' and (place := _of_stage(entry, cfg, work_dir, app)) is not None]
    places += [_of_bank(place, given) for place, given in enumerate(_listed(app.get('banks', ())))]
    if not places:
        raise DataError(f'{work_dir} has no finished stage with features, and app names no banks: there is nothing to '
                        'show. Run tools/curate.py with this config first.')
    names = [place.name for place in places]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"app: two banks are called '{twice}'. Give one of them another name.")
    return Session(places, str(app.get('answers', work_dir / ANSWERS)), str(app.get('prompts', work_dir / PROMPTS)))


def _of_stage(entry: Entry, cfg: Options, work_dir: Path, app: Mapping[str, Plain]) -> Place | None:
    folders = {kind: str(source if isinstance(source, Path) else work_dir / 'stages' / source)
               for kind, source in entry.reads.items()}
    folder = work_dir / 'stages' / entry.name
    if not (folder / MANIFEST).is_file():
        return None
    banks = [str(file.parent) for file in Finished(folder).files(f'bank/{META_FILE}')]
    all_entries = entries(with_defaults(cfg))
    records = next((each for each in all_entries if each.stage.MAKES == 'records'), None)
    records = None if records is None else work_dir / 'stages' / records.name
    of_retrieval = next((each.config.get('text_encoder') for each in all_entries
                         if each.reads.get('features') == entry.name), None)
    return Place(entry.name, banks, folders['images'],
                 str(records) if records is not None and (records / MANIFEST).is_file() else None,
                 text_encoder=app.get('text_encoder') or of_retrieval, image_encoder=entry.config['encoder'],
                 roots=[str(each) for each in app.get('roots', ())])


def _of_bank(place: int, given: object) -> Place:
    where = f'app.banks[{place}]'
    if not isinstance(given, Mapping) or not isinstance(given.get('path'), str):
        raise ConfigError(f"{where} is {given!r}; expected dict(path='BANK', name=..., root=..., text_encoder=...).")
    check_keys(where, set(given), set(_BANK_KEYS), 'app.banks')
    path = Path(given['path'])
    if (path / MANIFEST).is_file():
        banks = [str(file.parent) for file in Finished(path).files(f'bank/{META_FILE}')]
    elif (path / META_FILE).is_file():
        banks = [str(path)]
    else:
        raise DataError(f'{where}: {path} is neither a feature bank nor a finished stage of features.')
    others = {key: value for key, value in given.items() if key not in ('path', 'name')}
    return Place(given.get('name', path.name), banks, **others)


def _listed(given: object) -> Sequence[object]:
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise ConfigError(f'app.banks is {given!r}; expected a list of dicts.')
    return given


def read_app_config(args: argparse.Namespace) -> Options:
    """The config of a curation, or one that has `app` alone; with `work_dir` set.

    Raises:
        ConfigError: as `read_run_config` does, or without `stages` and `app`.
    """
    options = parse_options(args.cfg_options or [])
    cfg, _ = load_config(args.config, options)
    if cfg.get('stages'):
        return read_run_config(args)
    if not cfg.get('app'):
        raise ConfigError(f"{args.config} has neither stages nor app=dict(banks=[dict(path='BANK')]).")
    cfg['work_dir'] = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / find_config(args.config).stem)
    return cfg
