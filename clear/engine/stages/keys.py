"""Configs of stages: top-level keys, the stages by name, and which of them makes what another reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.checks import check_choice, check_number, check_shared_keys, check_text, check_whole
from clear.core.config import to_plain
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, suggestion
from clear.curation.manifest import MANIFEST, Finished
from clear.curation.stage import Stage
from clear.engine.schema import filled_in
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

DEFAULTS: Options = dict(stages=None, engine='pool', num_workers=0, ray_address=None, ray_gpus=0, inputs={}, name=None,
                         work_dir=None, threads=None, custom_imports=None)
KNOWN = {*DEFAULTS, 'app', 'runner_type', 'default_scope'}  # app: see `clear.engine.stages.app`
ENGINE_KEYS = ('engine', 'ray_address', 'ray_gpus')  # how the work is done
ENGINES = ('pool', 'ray')
_NAME = re.compile(r'[a-z0-9][a-z0-9_-]*')


@dataclass(frozen=True)
class Entry:
    """A stage of a config.

    Attributes:
        name: of its folder: `name` of its config, else its type in snake case.
        config: as given, without the name.
        stage: built from it.
        reads: kind -> the name of the stage that makes it, or the folder of one that is finished.
    """

    name: str
    config: Mapping[str, Plain]
    stage: Stage
    reads: Mapping[str, str | Path]

    @property
    def computed(self) -> dict[str, Plain]:
        """What of the config decides the result."""
        kept = {key: value for key, value in self.config.items() if key not in self.stage.EXECUTION}
        return kept | dict(version=self.stage.VERSION)


def with_defaults(cfg: dict) -> dict[str, object]:
    """A deep, plain copy of what is read of a config, with the defaults of the keys that it leaves out."""
    return {key: value for key, value in filled_in(cfg, DEFAULTS).items() if key in KNOWN}


def check_stage_config(cfg: dict) -> None:
    """Refuse what can be seen without data.

    Raises:
        ConfigError, RegistryError: naming the key.
    """
    check_shared_keys(cfg)
    check_workers(cfg, ENGINES, 'num_workers')
    entries(cfg)


def check_workers(cfg: dict, engines: Sequence[str], count: str) -> None:
    """Refuse an engine that there is not, or what does not go together with it.

    Args:
        engines: that there are, 'ray' among them.
        count: the key that says how many workers there are.

    Raises:
        ConfigError: naming the key.
    """
    check_choice('engine', cfg['engine'], engines)
    check_whole(count, cfg[count], 0)
    check_number('ray_gpus', cfg['ray_gpus'], 0)
    if cfg['ray_address'] is not None:
        check_text('ray_address', cfg['ray_address'])
    if cfg['engine'] != 'ray':
        for key in ('ray_address', 'ray_gpus'):
            if cfg[key]:
                raise ConfigError(f"{key} is {cfg[key]!r}, but engine is '{cfg['engine']}'. Set engine='ray'.")
    elif not cfg[count] and cfg['ray_address'] is None:
        raise ConfigError(f"engine='ray' without ray_address starts a cluster here; say of how many: {count}=2.")


def entries(cfg: dict) -> list[Entry]:
    """The stages of a config in order, built.

    Raises:
        ConfigError: if there is none, two have one name, or one reads what nothing before it makes.
    """
    if not isinstance(cfg['stages'], Sequence) or not cfg['stages'] or isinstance(cfg['stages'], str):
        raise ConfigError("stages is no list of stages, such as [dict(type='Metadata', files='data/*.bz2')].")
    made: dict[str, str | Path] = {kind: Path(folder) for kind, folder in dict(cfg['inputs']).items()}
    found: list[Entry] = []
    for place, given in enumerate(cfg['stages']):
        where = f'stages[{place}]'
        if not isinstance(given, dict) or not isinstance(given.get('type'), str):
            raise ConfigError(f'{where} is {given!r}; expected a dict with type.')
        config = {key: value for key, value in to_plain(given).items() if key != 'name'}
        name = given.get('name') or _snake_case(given['type'])
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"{where}.name is {name!r}; expected small letters, digits, '_' and '-'.")
        if name in (entry.name for entry in found):
            raise ConfigError(f"two stages are called '{name}'. Give one of them a name of its own.")
        made_by = STAGES.get(given['type'])
        if made_by is not None:  # else `build` says which names are near
            check_keys(where, set(config) - {'type'}, accepted_arguments(made_by), given['type'])
        stage = STAGES.build(config)
        lacking = [kind for kind in stage.reads if kind not in made]
        if lacking:
            raise ConfigError(f"stage '{name}' reads {lacking[0]}, which no stage before it makes. Add one, or give "
                              f"the folder of a finished one: inputs=dict({lacking[0]}='...').")
        found.append(Entry(name, config, stage, {kind: made[kind] for kind in stage.reads}))
        made[stage.MAKES] = name
    unread = set(cfg['inputs']) - {kind for entry in found for kind in entry.stage.reads}
    if unread:
        raise ConfigError(f"inputs has '{min(unread)}', which no stage reads.")
    return found


def imports_of(cfg: dict) -> list[str]:
    """The modules that a config's `custom_imports` names; workers import them too."""
    given = cfg['custom_imports'] or {}
    names = given.get('imports', []) if isinstance(given, Mapping) else []
    return [names] if isinstance(names, str) else list(names)


def chosen(found: Sequence[Entry], names: Collection[str] | None) -> list[Entry]:
    """The stages of these names, in the order of the config; all without names.

    Raises:
        ConfigError: for a name that no stage has, with the nearest.
    """
    if names is None:
        return list(found)
    known = [entry.name for entry in found]
    for name in names:
        if name not in known:
            raise ConfigError(f"--stages: no stage is called '{name}'.{suggestion(name, known)} "
                              f'There are {", ".join(known)}.')
    return [entry for entry in found if entry.name in names]


def inputs_of(entry: Entry, stages_folder: Path, if_finished: bool = False) -> dict[str, Finished]:
    """What a stage reads.

    Args:
        if_finished: leave out what is not finished.

    Raises:
        DataError: if a stage that makes it is not finished.
    """
    places = {kind: source if isinstance(source, Path) else stages_folder / source
              for kind, source in entry.reads.items()}
    return {kind: Finished(place) for kind, place in places.items()
            if not if_finished or (place / MANIFEST).exists()}


def _snake_case(name: str) -> str:
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).lower()
