"""The libraries that the framework asks for, and those that are here."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

NAME = 'clear-framework'
# Extras for work on the framework itself.
NOT_FOR_RUNS = ('dev',)


@dataclass(frozen=True)
class Library:
    """`wanted` is a range as pip writes it, `found` a version or None, `extra` what brings it ('' is the core)."""

    name: str
    wanted: str
    found: str | None
    extra: str

    @property
    def fits(self) -> bool:
        from packaging.specifiers import SpecifierSet
        from packaging.version import InvalidVersion

        try:
            # Local builds (2.9.1+cu128) count as the version that they are of; pre-releases are what the user chose.
            return self.found is not None and SpecifierSet(self.wanted).contains(self.found, prereleases=True)
        except InvalidVersion:
            return False


def libraries(requirements: Iterable[str] | None = None) -> list[Library]:
    """All that the package requires, and each extra, in the order of setup.py.

    Args:
        requirements: lines as in a wheel's metadata; None reads those of this package.
    """
    from packaging.requirements import Requirement

    found = []
    for line in package_requirements() if requirements is None else requirements:
        wanted = Requirement(line)
        extra = str(wanted.marker).partition('extra == ')[2].strip('"\'') if wanted.marker else ''
        if extra not in NOT_FOR_RUNS:
            found.append(Library(wanted.name, str(wanted.specifier), installed_version(wanted.name), extra))
    return found


def package_requirements() -> list[str]:
    """Lines as in a wheel's metadata: of setup.py beside the package in a clone, else of what is installed."""
    setup = Path(__file__).resolve().parents[3] / 'setup.py'
    if setup.is_file() and NAME in (text := setup.read_text()):
        return _of_setup(text)
    return metadata.requires(NAME) or []


def installed_version(name: str) -> str | None:
    """The version of a distribution, None if it is not here; a broken record of one counts as none."""
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, KeyError, ValueError):
        return None


def missing_extras(found: Iterable[Library]) -> dict[str, list[Library]]:
    """Extra -> the libraries of it that are not here, or not in the range asked for; only extras that lack some."""
    missing: dict[str, list[Library]] = {}
    for each in found:
        if each.extra and not each.fits:
            missing.setdefault(each.extra, []).append(each)
    return missing


def _of_setup(text: str) -> list[str]:
    """The lists CORE and EXTRAS of setup.py, which is read and not run."""
    values = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) \
                and node.targets[0].id in ('CORE', 'EXTRAS'):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    extras = [f'{line}; extra == "{name}"' for name, lines in values['EXTRAS'].items() for line in lines]
    return [*values['CORE'], *extras]
