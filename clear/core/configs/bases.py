"""Configs that lie in packages: `clear::demo/demo.py` is one of ours, `mmpretrain::mae/...` one of mmpretrain's."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = '::'
# Where the packages of OpenMMLab keep the configs that they ship.
_OF_OPENMMLAB = Path('.mim', 'configs')


def configs_folder() -> Path:
    """The shipped configs: beside the package in a clone, inside it after `pip install`."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package.parent / 'configs', package / '_bundled' / 'configs'):
        if (folder / '_base_').is_dir():
            return folder
    raise ConfigError(f'The shipped configs are neither beside nor inside {package}; reinstall clear-framework.')


def resolve_base(text: str) -> Path:
    """The file that `package::path` names, the suffix `.py` being optional.

    Args:
        text: e.g. 'clear::_base_/default_runtime.py'. Packages are `clear` and those of OpenMMLab that are installed.

    Raises:
        ConfigError: if the package is not installed or ships no configs, the path leaves their folder, or there is no
            such config, naming the nearest ones.
    """
    package, _, path = text.partition(MARK)
    root = _configs_of(package)
    if root is None:
        raise ConfigError(f"{text}: '{package}' is no installed package with configs. Shipped configs are "
                          "'clear::...', those of mmpretrain 'mmpretrain::...'.")
    found = Path(os.path.normpath(root / path))
    if not found.is_relative_to(root):
        raise ConfigError(f'{text} lies outside the configs of {package}, which are in {root}.')
    for file in (found, found.with_name(f'{found.name}.py')):
        if file.is_file():
            return file
    raise ConfigError(f'{text} does not exist.{_hint(package, root, path)}')


def shipped_file(name: str | Path) -> Path:
    """A data file that a config names: `name` itself, or the one that lies with the shipped configs.

    Args:
        name: a path, 'clear::evaluation/demo_pairs.tsv', or the path in a clone, of which `configs/` may be left out.

    Raises:
        ConfigError: as `resolve_base`.
    """
    path = Path(name)
    if path.exists() or path.is_absolute():
        return path
    if MARK in str(name):
        return resolve_base(str(name))
    inside = configs_folder() / Path(*path.parts[1:] if path.parts[:1] == ('configs',) else path.parts)
    return inside if inside.is_file() else path


def name_of(file: Path) -> str:
    """What a config calls this file: `package::path` of a shipped one, else the path from the current folder."""
    file = Path(_absolute(file))
    for package in ('clear', *{each.name for each in file.parents if (each / _OF_OPENMMLAB).is_dir()}):
        root = _configs_of(package)
        if root is not None and file.is_relative_to(root):
            return f'{package}{MARK}{file.relative_to(root).as_posix()}'
    return file.relative_to(Path.cwd()).as_posix() if file.is_relative_to(Path.cwd()) else str(file)


def tree_of(path: Path, found: Sequence[tuple[str, str]]) -> list[str]:
    """The config and, indented below each file, its bases; last the modules that are imported in place of bases.

    Args:
        found: what `package_bases` found while the config was read.
    """
    below: dict[str, dict[str, None]] = {}
    for parent, base in found:
        below.setdefault(parent, {})[base] = None

    def lines(file: str, depth: int) -> list[str]:
        return [f'{"  " * depth}{name_of(Path(file))}',
                *(line for base in below.get(file, ()) for line in lines(base, depth + 1))]

    return [*lines(_absolute(path), 0), *(f'  import {module}' for module in below.get('', ()))]


def _absolute(path: str | Path) -> str:
    # As mmengine does: without `..`, and links stay what they are.
    return os.path.normpath(Path(path).absolute())


def _configs_of(package: str) -> Path | None:
    if package == 'clear':
        return configs_folder()
    folder = _folder_of(package)
    return folder / _OF_OPENMMLAB if folder is not None and (folder / _OF_OPENMMLAB).is_dir() else None


def _folder_of(package: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = find_spec(package) if package.isidentifier() else None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None


def _hint(package: str, root: Path, path: str) -> str:
    names = [file.relative_to(root).as_posix() for file in root.rglob('*.py')]
    # What was forgotten is most often the folder, so the name alone is compared too.
    by_stem = {name.rpartition('/')[2]: name for name in names}
    near = nearest(path, names) or ', '.join(f"'{by_stem[item.strip(chr(39))]}'" for item in
                                             nearest(Path(path).name, by_stem).split(', ') if item)
    return f' Nearest configs of {package}: {near}.' if near else ''


@contextmanager
def package_bases() -> Iterator[list[tuple[str, str]]]:
    """Let mmengine find the bases of a config through `resolve_base`, and those that are imported as well.

    Of `clear::`, parts get no scope of their own: they are written for where they are used. mmengine marks those of
    other packages with `_scope_`.

    `with read_base(): from mmpretrain.configs.a.b import *` reads the file of the package, or, where the package ships
    no such modules (mmpretrain's wheel has none), its config `a/b.py` of the other kind; '-' is '_' in modules.

    The block gets a list of what was found so far: (file, its base), or ('', module) of what is imported.
    """
    from mmengine.config import Config, config

    found: list[tuple[str, str]] = []
    before = Config._get_cfg_path, Config._get_base_modules, config.get_installed_path

    def path_of(text: str, filename: str) -> tuple[str, str | None]:
        scope = text.partition(MARK)[0] if MARK in text else None
        path = before[0](text, filename)[0] if scope is None else str(resolve_base(text))
        _refuse_circle(_absolute(filename), _absolute(path), found)
        found.append((_absolute(filename), _absolute(path)))
        return path, None if scope == 'clear' else scope

    with tempfile.TemporaryDirectory() as scratch:
        written: set[str] = set()

        def modules_of(nodes: Sequence[ast.stmt]) -> list[str]:
            modules = before[1](nodes)
            found.extend(('', module) for module in modules)
            for module in modules:
                package, _, rest = module.partition('.configs.')
                if rest and not module.startswith('.') and _is_without_modules(package):
                    _write_module(Path(scratch, *module.split('.')), package, rest, Config.fromfile)
                    written.add(package)
            return modules

        def place_of(package: str) -> str:
            return str(Path(scratch, package)) if package in written else before[2](package)

        Config._get_cfg_path, Config._get_base_modules = staticmethod(path_of), staticmethod(modules_of)
        config.get_installed_path = place_of
        try:
            yield found
        finally:
            Config._get_cfg_path, Config._get_base_modules = map(staticmethod, before[:2])
            config.get_installed_path = before[2]


def _refuse_circle(file: str, base: str, found: Sequence[tuple[str, str]]) -> None:
    """Refuse a base that has this file among its own bases, or is the file itself."""
    above = [file]
    for each in above:
        above += [parent for parent, child in found if child == each and parent not in above]
    if base in above:
        raise ConfigError(f'_base_ goes round in a circle: {name_of(Path(file))} names {name_of(Path(base))}, of which '
                          'it is a base.')


def _is_without_modules(package: str) -> bool:
    folder = _folder_of(package)
    return folder is not None and not (folder / 'configs').is_dir() and _configs_of(package) is not None


def _write_module(place: Path, package: str, name: str, read: Callable[..., dict]) -> None:
    """Write the config of a package as the module that mmengine looks for, its bases read already."""
    root, wanted = _configs_of(package), name.replace('.', '/')
    files = {file.relative_to(root).with_suffix('').as_posix().replace('-', '_'): file for file in root.rglob('*.py')}
    if wanted not in files:
        close = nearest(wanted, files).replace('/', '.')
        raise ConfigError(f'{package}.configs.{name} does not exist.' + (f' Nearest: {close}.' if close else ''))
    place.parent.mkdir(parents=True, exist_ok=True)
    values = read(str(files[wanted])).to_dict()
    place.with_suffix('.py').write_text(''.join(f'{key} = {value!r}\n' for key, value in values.items()), 'utf-8')
