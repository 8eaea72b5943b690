"""The official archives of CLEAR: fetched, checked and unpacked into a data root.

The hosts publish no checksums. So an archive is checked by the CRC of its members and by a SHA-256 that the caller
may give; the SHA-256 found is stored in `archives.json` and holds from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from clear.core.errors import ConfigError, DataError, suggestion
from clear.core.storage.fetch import BACKOFF_S, TIMEOUT_S, check_url
from clear.datasets.make.archives import extract_archive, verify_archive
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

# Where Avalanche's clear_data module fetches them too.
BASE_URL = 'https://huggingface.co/datasets/elvishelvis6/CLEAR-Continual_Learning_Benchmark/resolve/main'
PROJECT_PAGE = 'https://clear-benchmark.github.io'

# Data name -> archive -> folder below the root that gets its tree ('' is the root itself: the old layout).
ARCHIVES: dict[str, dict[str, str]] = {
    'clear10': {'clear10-train.zip': 'train', 'clear10-test.zip': 'test'},
    'clear100': {'clear100-train.zip': 'train', 'clear100-test.zip': 'test'},
    'clear10_neurips2021': {'clear10-public.zip': ''},
    'clear100_cvpr2022': {'clear100-workshop-avalanche.zip': ''},
}


def archives_of(name: str) -> dict[str, str]:
    """Archives of a data name and the folders they fill; a ConfigError if there is no such data name."""
    if name not in ARCHIVES:
        raise ConfigError(f"There is no CLEAR data set '{name}'; known are {', '.join(ARCHIVES)}."
                          f'{suggestion(name, ARCHIVES)}')
    return ARCHIVES[name]


def archive_urls(archive: str, mirrors: Sequence[str] = ()) -> list[str]:
    """Every address to try for an archive: those of the mirrors in their order, then the official one."""
    urls = [f"{base.rstrip('/')}/{archive}" for base in (*mirrors, BASE_URL)]
    for url in urls:
        check_url(url)
    return urls


def download_clear(name: str, out: str | Path, *, mirrors: Sequence[str] = (), sha256: Mapping[str, str] | None = None,
                   keep_archives: bool = False, bars: Bars = no_bars, timeout_s: float = TIMEOUT_S,
                   backoff_s: float = BACKOFF_S) -> None:
    """Make `out` the root of an official CLEAR data set. Call it again to go on after a failure.

    `clear10` and `clear100` become `out/train` and `out/test`, the new layout; the two older ones are unpacked into
    `out`, the old layout. An archive that lies in `out` already is used, and never deleted if it was put there by
    hand. `clear.datasets.make.merge.merge_official` makes one old-layout tree of `train` and `test`.

    Args:
        mirrors: base addresses (http, https, file) to try before the official host.
        sha256: archive -> expected SHA-256.
        keep_archives: keep the downloaded archives after they are unpacked.
        bars: makes a progress bar of (title, unit), for example `clear.datasets.make.writing.progress_bar`.

    Raises:
        ConfigError: if the name, a mirror or an archive in `sha256` is not known or malformed.
        DataError: if an archive can be had from nowhere, fails its checks, or would overwrite something.
    """
    archives, expected = archives_of(name), dict(sha256 or {})
    for archive in expected:
        if archive not in archives:
            raise ConfigError(f"sha256 names '{archive}', but {name} consists of {', '.join(archives)}.")
    urls = {archive: archive_urls(archive, mirrors) for archive in archives}
    out = made_folder(out)
    for archive, folder in archives.items():
        if archive_state(out, archive) == 'unpacked':
            check_recorded(out, archive, expected.get(archive))
            continue
        obtain(out, archive, urls[archive], expected.get(archive), verify_archive,
               f'{PROJECT_PAGE} or {urls[archive][-1]}', bars, timeout_s, backoff_s)
        with bars(f'unpack {archive}', 'B') as progress:
            unpack(out, archive, partial(extract_archive, progress=progress), partial(_tree, archive, folder))
        if not keep_archives and read_record(out)[archive]['source'] != 'by hand':
            (out / archive).unlink()


def _tree(archive: str, folder: str, staging: Path) -> dict[str, Path]:
    """What becomes of an unpacked archive: all of its tree as one folder, or, without one, each of its entries."""
    tree = _find_tree(staging, archive, 'labeled_metadata.json' if folder else 'training_folder')
    return {folder: tree} if folder else {entry.name: entry for entry in sorted(tree.iterdir())}


def _find_tree(staging: Path, archive: str, marker: str) -> Path:
    """The folder with `class_names.txt` and `marker` in an unpacked archive: its top, or up to two levels below."""
    for folder in _folders(staging, depth=2):
        if (folder / 'class_names.txt').is_file() and (folder / marker).exists():
            return folder
    raise DataError(f'{archive} holds no CLEAR data: there is no folder with class_names.txt and {marker} in it.')


def _folders(top: Path, depth: int) -> Iterator[Path]:
    yield top
    if depth:
        for child in sorted(top.iterdir()):
            if child.is_dir():
                yield from _folders(child, depth - 1)
