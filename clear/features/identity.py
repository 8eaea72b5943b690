"""What a bank's features depend on, as one comparable value: the encoder, the data, the transform, the storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import nn

    from clear.core.types import Plain
    from clear.datasets.table import ImageTable

FORMAT = 1
DTYPES = ('float16', 'float32')
LEVELS = (0, 1, 2, 3, 4)
ROOT = 'work_dirs/banks'


class Identity(TypedDict):
    """What decides the content of a bank; `encoder` and `data` are fingerprints."""

    encoder: str
    data: str
    preprocess: dict[str, Plain] | None
    dtype: str
    maps: list[int]


def bank_identity(encoder: str, data: str, preprocess: dict | None, dtype: str, maps: list[int] = ()) -> Identity:
    """The parts that decide what a bank holds, as plain JSON values.

    Batch and block size are not among them: they change features by rounding at most.

    Args:
        encoder, data: fingerprints of the encoder (config and weights) and of the data set.
        preprocess: the encoder's transform; None where it is unknown (imported features).
    """
    parts = dict(encoder=encoder, data=data, preprocess=preprocess, dtype=dtype, maps=list(maps))
    return json.loads(json.dumps(parts))  # tuples as lists, as they come back from a file


def identity_of(encoder: nn.Module, source: ImageTable, *, dtype: str = 'float16', maps: Sequence[int] | None = None,
                encoder_hash: str | None = None, data_hash: str | None = None) -> Identity:
    """What the bank of this encoder over this source depends on; needs no forward pass.

    It hashes every weight and asks for the size of every file, so a run does it once for each bank.

    Args:
        encoder_hash, data_hash: fingerprints of the two where the caller has them already.

    Raises:
        ConfigError: for an unknown dtype or level, or an encoder of text alone.
    """
    check_choice('dtype', dtype, DTYPES)
    if encoder.preprocess is None:
        raise ConfigError('This encoder has no image side: its config names no image_encoder.')
    if not isinstance(maps, (list, tuple, type(None))):
        raise ConfigError(f'maps is {maps!r}; expected a list of levels from 0 (fine) to 4 (coarse).')
    maps = list(maps or [])
    if len(set(maps)) < len(maps) or any(type(level) is not int or level not in LEVELS for level in maps):
        raise ConfigError(f'maps is {maps!r}; expected different levels from 0 (fine) to 4 (coarse).')
    return bank_identity(encoder_hash or encoder.fingerprint(), data_hash or source.fingerprint(),
                         encoder.preprocess.to_dict(), dtype, sorted(maps))


def bank_path(encoder: nn.Module, source: ImageTable, identity: Identity, root: str | Path = ROOT) -> Path:
    """Where a bank lies below `root` if nobody chose a place: data set, encoder and fingerprint."""
    plain = ''.join(char if char.isalnum() or char in '-_.' else '_' for char in source.name)
    return Path(root) / f'{plain}_{type(encoder).__name__}_{fingerprint_of(identity)[:16]}'


def fingerprint_of(identity: Identity) -> str:
    """SHA-256 of an identity and the format of the bank."""
    text = json.dumps({'format': FORMAT, **identity}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def require_same(where: str, found: Identity, expected: str | Identity, advice: str) -> None:
    """Refuse a bank that is not the one asked for.

    Args:
        found: the identity of the bank at `where`.
        expected: the identity asked for, or only its fingerprint.
        advice: the last sentence of the message: what to do.

    Raises:
        DataError: with both fingerprints, and the parts that differ where they are known.
    """
    wanted = expected if isinstance(expected, str) else fingerprint_of(expected)
    held = fingerprint_of(found)
    if held == wanted:
        return
    parts = '' if isinstance(expected, str) else f' Different: {"; ".join(_differences(found, expected))}.'
    raise DataError(f'{where} is another bank than the one asked for: its fingerprint is {held}, expected '
                    f'{wanted}.{parts} {advice}')


def _differences(found: Identity, expected: Identity) -> list[str]:
    lines = []
    for key in expected:
        old, new = found.get(key), expected[key]
        if isinstance(old, dict) and isinstance(new, dict):
            lines += [f'{key}.{name} {old.get(name)!r}, expected {new.get(name)!r}'
                      for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        elif old != new:
            lines.append(f'{key} {_short(old)}, expected {_short(new)}')
    return lines


def _short(value: object) -> str:
    is_hash = isinstance(value, str) and len(value) > 40
    return value[:12] + '...' if is_hash else repr(value)
