"""Write the files of a first folder, and say what to type there."""

from __future__ import annotations

import os
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.configs.bases import MARK
from clear.core.errors import ConfigError
from clear.core.files import write_text
from clear.engine.starter.kinds import KINDS, Kind
from clear.engine.starter.modules import MODULES

CONFIG, MODULE, README = 'config.py', 'own.py', 'README.md'
DATA = ('clear make-demo data/demo',)


def write_starter(folder: str | Path, kind: str = 'continual') -> str:
    """Write config, module and README of one kind into a folder, which is made if need be.

    Returns:
        What to do next, for the terminal.

    Raises:
        ConfigError: if the kind is unknown, the folder is a file, or holds a file of one of these names.
        WriteError: if the folder cannot be written.
    """
    chosen = KINDS[check_choice('--kind', kind, KINDS)]
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f'{folder} is a file; name a folder.')
    there = [name for name in (CONFIG, MODULE, README) if (folder / name).exists()]
    if there:
        raise ConfigError(f'{folder} already holds {", ".join(there)}, and nothing was written: name another folder.')
    if MARK in str(folder.absolute()):
        raise ConfigError(f"{folder}: '{MARK}' in the name of a folder stands for a package; name another folder.")
    write_text(folder / MODULE, MODULES[chosen.module])
    write_text(folder / README, _readme(kind, chosen))
    write_text(folder / CONFIG, _config(kind, chosen))  # last: where it is, all are
    return _next(folder, chosen)


def commands(kind: str) -> list[str]:
    """What makes the data, runs the config and looks at the result, in this order."""
    chosen = KINDS[kind]
    return [*DATA, _run(chosen), *chosen.look, *chosen.more]


def _run(chosen: Kind) -> str:
    return f'clear {chosen.program} {CONFIG}'


def _config(kind: str, chosen: Kind) -> str:
    return f'# {_run(chosen)}\n# {kind}: {chosen.about}.\n{chosen.config}'


def _readme(kind: str, chosen: Kind) -> str:
    lines = [f'# {kind}: {chosen.about}', '',
             f'`{CONFIG}` is what runs, `{MODULE}` holds a class of your own that it names. In this folder:', '',
             '```bash', *commands(kind), '```', '']
    if chosen.extra:
        lines += [f"This kind needs `pip install 'clear-framework[{chosen.extra}]'`.", '']
    lines += ['The first makes the data: 18,000 small images of digits, in seconds. Then:', '',
              f'- `{_run(chosen)} --dry-run` says what would run, and `--resume` goes on after a kill.',
              f'- `clear print-config {CONFIG}` shows every key, and the files that it comes from.',
              '- `clear doctor` says what this machine can do.']
    if chosen.program == 'train':
        lines.append(f'- `clear dist-train {CONFIG} 8` takes eight GPUs.')
    return '\n'.join([*lines, '', '## Your own data', '', chosen.own, ''])


def _next(folder: Path, chosen: Kind) -> str:
    lines = [f'wrote {folder / name}' for name in (CONFIG, MODULE, README)]
    inside = '' if folder.resolve() == Path.cwd() else f'  cd {os.fspath(folder)}\n'
    steps = [('make the demo data', DATA[0]), ('run it', _run(chosen)), *(('look at it', each) for each in chosen.look),
             *zip(('run it again with another seed', 'put both side by side'), chosen.more)]
    width = max(len(command) for _, command in steps) + 2
    lines += ['', 'next:', *([inside.rstrip()] if inside else []),
              *(f'  {command:<{width}}# {what}' for what, command in steps)]
    if chosen.extra:
        lines.append(f"  it needs: pip install 'clear-framework[{chosen.extra}]'")
    return '\n'.join([*lines, '', f'{README} says what to change for data of your own.'])
