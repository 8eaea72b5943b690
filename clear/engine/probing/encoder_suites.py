"""Encoders that stand in other configs: an entry of `encoders` may name a config, whose encoders take its place."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from clear.core.checks import check_text
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, nearest
from clear.engine.probing.suites import SUITE

KEYS = (SUITE, 'only', 'weights_root')


def expanded_encoders(encoders: Mapping[str, Any]) -> dict[str, Any]:
    """The entries, with `dict(suite='_base_/encoders/virb/all.py', ...)` replaced by the encoders of that config.

    Of the entry, `only` is a list of their names or of patterns of them ('SWAV_*'); `weights_root` is the folder that
    holds their files, in place of the one that the config names.

    Raises:
        ConfigError: for a config that is not there or has no encoders, a pattern that fits none, a name used twice.
    """
    found: dict[str, Any] = {}
    for name, entry in encoders.items():
        new = _encoders_of(f'encoders.{name}', entry) if isinstance(entry, Mapping) and SUITE in entry else \
            {name: entry}
        twice = sorted(found.keys() & new.keys())
        if twice:
            raise ConfigError(f"encoders.{name}: there is an encoder called '{twice[0]}' already.")
        found.update(new)
    return found


def _encoders_of(where: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    from clear.core.config import load_config

    check_keys(where, entry, KEYS, 'a suite of encoders')
    name = check_text(f'{where}.{SUITE}', entry[SUITE])
    encoders = load_config(name)[0].to_dict().get('encoders')
    if not isinstance(encoders, dict) or not encoders:
        raise ConfigError(f'{where}: suite {name} has no encoders.')
    chosen = _chosen(f'{where}.only', encoders, entry.get('only'))
    if entry.get('weights_root') is None:
        return chosen
    root = Path(check_text(f'{where}.weights_root', entry['weights_root']))
    return {key: _moved(encoder, root) for key, encoder in chosen.items()}


def _chosen(where: str, encoders: dict[str, Any], only: Any) -> dict[str, Any]:
    if only is None:
        return encoders
    if not isinstance(only, (list, tuple)) or not only:
        raise ConfigError(f"{where} is {only!r}; expected a list of names, or of patterns such as 'SWAV_*'.")
    for pattern in only:
        if not any(fnmatchcase(key, check_text(where, pattern)) for key in encoders):
            raise ConfigError(f'{where}: no encoder is called {pattern!r}. '
                              f'Nearest: {nearest(pattern, encoders) or ", ".join(encoders)}.')
    return {key: value for key, value in encoders.items() if any(fnmatchcase(key, pattern) for pattern in only)}


def _moved(encoder: dict[str, Any], root: Path) -> dict[str, Any]:
    """The encoder with its weights below another folder; one without a file of weights as it is."""
    weights = encoder.get('weights')
    path = weights.get('path') if isinstance(weights, dict) else weights
    if not isinstance(path, str) or path.startswith('package:'):
        return encoder
    path = str(root / Path(path).name)
    return {**encoder, 'weights': {**weights, 'path': path} if isinstance(weights, dict) else path}
