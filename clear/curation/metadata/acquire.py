"""The public files of YFCC100M's metadata: fetched, checked, and unpacked into a root that `Metadata` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clear.core.errors import ConfigError, DataError, suggestion
from clear.core.files import sha256_of
from clear.core.storage.fetch import BACKOFF_S, TIMEOUT_S, check_url
from clear.datasets.make.obtain import (
    Bars,
    archive_state,
    check_recorded,
    made_folder,
    no_bars,
    obtain,
    read_record,
    unpack,
)
from clear.datasets.make.tars import extract_tar, verify_tar

STORE = 'https://multimedia-commons.s3-us-west-2.amazonaws.com'
_SIDE = ('exif', 'autotags-v1', 'hash', 'lines')


@dataclass(frozen=True)
class PublicFile:
    """A file as it is published.

    Attributes:
        url: its address; '' = only for who has an account there.
        by_hand: how a person gets it.
        md5: as published; '' = none is.
    """

    url: str = ''
    by_hand: str = ''
    md5: str = ''


def _in_mmcommons(name: str) -> PublicFile:
    return PublicFile(by_hand=f'`aws s3 cp s3://mmcommons/{name} .` (with an account there)')


# Form -> the files that make it up.
FORMS: dict[str, dict[str, PublicFile]] = {
    'sqlite': {'yfcc100m_dataset.sql': PublicFile(
        f'{STORE}/tools/etc/yfcc100m_dataset.sql',
        '`aws s3 cp --no-sign-request --region us-west-2 s3://multimedia-commons/tools/etc/yfcc100m_dataset.sql .`',
        'b8e3fa7f40ee2f309d63b8de8d755495')},
    'archives': {name: _in_mmcommons(name) for name in ('yfcc100m_dataset.tgz', *(f'yfcc100m_{kind}.tgz'
                                                                                 for kind in _SIDE))},
    'dataset': {'yfcc100m_dataset.bz2': _in_mmcommons('yfcc100m_dataset.bz2')},
    'parts': {name: _in_mmcommons(name) for name in (*(f'yfcc100m_dataset-{part}.bz2' for part in range(10)),
                                                     'yfcc100m_hash.bz2')},
}


def files_of(form: str, only: Sequence[str] = ()) -> dict[str, PublicFile]:
    """The files of a form.

    Args:
        only: names of some of them.

    Raises:
        ConfigError: for a form or a name that there is not, with the nearest.
    """
    if form not in FORMS:
        raise ConfigError(f"There is no form '{form}' of the metadata; known are {', '.join(FORMS)}."
                          f'{suggestion(form, FORMS)}')
    for name in only:
        if name not in FORMS[form]:
            raise ConfigError(f"'{form}' has no file '{name}'.{suggestion(name, FORMS[form])} "
                              f'There are {", ".join(FORMS[form])}.')
    return {name: file for name, file in FORMS[form].items() if not only or name in only}


def urls_of(name: str, file: PublicFile, mirrors: Sequence[str] = ()) -> list[str]:
    """Every address to try: those of the mirrors in their order, then the published one.

    Raises:
        ConfigError: for a mirror that is no http, https or file address.
    """
    urls = [f'{base.rstrip("/")}/{name}' for base in mirrors] + ([file.url] if file.url else [])
    for url in urls:
        check_url(url)
    return urls


def download_metadata(form: str, out: str | Path, *, only: Sequence[str] = (), mirrors: Sequence[str] = (),
                      sha256: Mapping[str, str] | None = None, keep_archives: bool = False, bars: Bars = no_bars,
                      timeout_s: float = TIMEOUT_S, backoff_s: float = BACKOFF_S) -> None:
    """Have the files of a form in `out`. Call it again to go on after a failure.

    What lies in `out` already is checked and used, and never deleted if it was put there by hand. Archives (`.tgz`) are
    unpacked; `.bz2` and the SQLite file stay as they are, for that is how they are read.

    Args:
        only, mirrors: see `files_of` and `urls_of`.
        sha256: name -> expected SHA-256.
        keep_archives: keep the downloaded archives after they are unpacked.
        bars: makes a progress bar of (title, unit).

    Raises:
        ConfigError: if a name or a mirror is not known or malformed.
        DataError: if a file can be had from nowhere, fails its checks, or would overwrite something.
    """
    files, expected = files_of(form, only), dict(sha256 or {})
    files_of(form, list(expected))
    urls = {name: urls_of(name, file, mirrors) for name, file in files.items()}
    out = made_folder(out)
    for name, file in files.items():
        if archive_state(out, name) == 'unpacked':
            check_recorded(out, name, expected.get(name))
            continue
        is_archive = name.endswith('.tgz')
        obtain(out, name, urls[name], expected.get(name), verify_tar if is_archive else partial(_verify, file.md5),
               file.by_hand, bars, timeout_s, backoff_s)
        if is_archive:
            with bars(f'unpack {name}', 'B') as progress:
                unpack(out, name, partial(extract_tar, progress=progress), partial(_texts, name))
            if not keep_archives and read_record(out)[name]['source'] != 'by hand':
                (out / name).unlink()


def _verify(md5: str, path: Path, sha256: str | None) -> str:
    found = sha256_of(path)
    if sha256 is not None and found != sha256.lower():
        raise DataError(f'{path} has SHA-256 {found}, expected {sha256.lower()}.')
    if md5:
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != md5:
            raise DataError(f'{path} has MD5 {digest}, published is {md5}.')
    return found


def _texts(name: str, staging: Path) -> dict[str, Path]:
    """The regular files of an unpacked archive by their names, whatever folders they lay in."""
    found = sorted(path for path in staging.rglob('*') if path.is_file())
    names = [path.name for path in found]
    if len(set(names)) < len(names):
        raise DataError(f"{name} holds two files called '{next(one for one in names if names.count(one) > 1)}'.")
    return dict(zip(names, found))
