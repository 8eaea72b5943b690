"""The `clear` command: runs the programs of `tools/` by name, from a clone or after `pip install`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from typing import NoReturn

from clear.core.programs.names import PROGRAMS, SCRIPTS, as_typed, tools_folder


def main() -> int:
    """Run `clear PROGRAM ARGUMENTS`."""
    from clear.core.programs.program import run_program

    return run_program(_run)


def _run() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print('usage: clear PROGRAM [arguments]\n\nprograms:')
        print('\n'.join(f'  {program:<22}{text}' for program, (_, text) in {**PROGRAMS, **SCRIPTS}.items()))
        print('\nclear PROGRAM --help tells more, e.g.: clear train configs/demo/replay_lenet5_demo.py')
        return 0
    if name == '--version':
        from clear import __version__

        print(__version__)
        return 0
    if name in SCRIPTS:
        _become(f'clear {name}', [str(tools_folder() / SCRIPTS[name][0]), *sys.argv[2:]])
    if name not in PROGRAMS:
        from clear.core.errors import suggestion

        known = [*PROGRAMS, *SCRIPTS]
        print(f"error: no program '{name}'.{suggestion(name, known)} Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    sys.argv = [f'clear {name}', *sys.argv[2:]]
    # Not by runpy, which puts the file in the place of the name that the program is called by.
    spec = spec_from_file_location('__main__', tools_folder() / PROGRAMS[name][0])
    with _help_as_typed():
        spec.loader.exec_module(module_from_spec(spec))
    return 0


@contextmanager
def _help_as_typed() -> Iterator[None]:
    """Examples of `--help` by the names of the command: whoever has the package alone has no `tools/`."""
    format_help = argparse.ArgumentParser.format_help
    argparse.ArgumentParser.format_help = lambda parser: as_typed(format_help(parser))
    try:
        yield
    finally:
        argparse.ArgumentParser.format_help = format_help


def _become(name: str, command: list[str]) -> NoReturn:
    """Run a shell script in place of this process, so that signals reach it; its processes take this Python.

    Args:
        name: as which it explains itself.
        command: the script and its arguments.

    Raises:
        ConfigError: if there is no bash.
    """
    # Not by the bit that says it can be run: some installers drop it.
    try:
        os.execvpe('bash', ['bash', *command], {'PYTHON': sys.executable, **os.environ, 'CLEAR_PROGRAM': name})
    except FileNotFoundError as error:
        from clear.core.errors import ConfigError

        raise ConfigError(f'{command[0]} needs bash, which is not installed here.') from error


if __name__ == '__main__':
    sys.exit(main())
