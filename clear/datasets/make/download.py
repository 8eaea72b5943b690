"""The official archives of CLEAR: fetched, checked and unpacked into a data root.

The hosts publish no checksums. So an archive is checked by the CRC of its members and by a SHA-256 that the caller
may give; the SHA-256 found is stored in `archives.json` and holds from then on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import read_json, write_json
from clear.core.logs import Report
from clear.datasets.make.archives import extract_archive, verify_archive
from clear.datasets.make.fetch import BACKOFF_S, TIMEOUT_S, TransferError, check_url, discard, fetch, remembered

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
RECORD = 'archives.json'
_RECORD_TYPES = {'sha256': str, 'bytes': int, 'source': str, 'state': str, 'entries': list}

Bars = Callable[[str, str], AbstractContextManager[Report | None]]  # (title, unit) -> where to report to


def _no_bars(title: str, unit: str) -> AbstractContextManager[None]:
    return nullcontext()


def archives_of(name: str) -> dict[str, str]:
    """Archives of a data name and the folders they fill; a ConfigError if there is no such data name."""
    if name not in ARCHIVES:
        hint = f' Did you mean {nearest(name, ARCHIVES)}?' if nearest(name, ARCHIVES) else ''
        raise ConfigError(f"There is no CLEAR data set '{name}'; known are {', '.join(ARCHIVES)}.{hint}")
    return ARCHIVES[name]


def archive_urls(archive: str, mirrors: Sequence[str] = ()) -> list[str]:
    """Every address to try for an archive: those of the mirrors in their order, then the official one."""
    urls = [f"{base.rstrip('/')}/{archive}" for base in (*mirrors, BASE_URL)]
    for url in urls:
        check_url(url)
    return urls


def archive_state(out: str | Path, archive: str) -> str:
    """What there is of an archive: 'unpacked', 'here' (to be unpacked), 'partial' (to be continued) or 'missing'."""
    out = Path(out)
    record = read_record(out).get(archive, {})
    if record.get('state') == 'unpacked' and all((out / entry).exists() for entry in record['entries']):
        return 'unpacked'
    if (out / archive).is_file():
        return 'here'
    return 'partial' if (out / f'{archive}.part').is_file() else 'missing'


def download_clear(name: str, out: str | Path, *, mirrors: Sequence[str] = (), sha256: Mapping[str, str] | None = None,
                   keep_archives: bool = False, bars: Bars = _no_bars, timeout_s: float = TIMEOUT_S,
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
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f'{out} cannot be made: {error.strerror}.') from error
    for archive, folder in archives.items():
        if archive_state(out, archive) == 'unpacked':
            _check_recorded(out, archive, expected.get(archive))
            continue
        _obtain(out, archive, urls[archive], expected.get(archive), bars, timeout_s, backoff_s)
        _unpack(out, archive, folder, bars)
        if not keep_archives and read_record(out)[archive]['source'] != 'by hand':
            (out / archive).unlink()


def _check_recorded(out: Path, archive: str, expected: str | None) -> None:
    found = read_record(out)[archive]['sha256']
    if expected is not None and expected.lower() != found:
        raise DataError(f'{archive} was unpacked from a file with SHA-256 {found}, expected {expected.lower()}.')


def _obtain(out: Path, archive: str, urls: Sequence[str], expected: str | None, bars: Bars, timeout_s: float,
            backoff_s: float) -> None:
    """Have a verified `out/archive`, by download if it is not there, and its SHA-256 in the record."""
    path, record = out / archive, read_record(out).get(archive, {})
    hint = ''
    if expected is None and 'sha256' in record:
        expected = record['sha256']
        hint = f' The first download had the latter; to accept another file, remove {archive} from {out / RECORD}.'
    if path.is_file():
        try:
            found = verify_archive(path, expected)
        except DataError as error:
            raise DataError(f'{error}{hint} Remove the file to download it again.') from error
        _update_record(out, archive, sha256=found, bytes=path.stat().st_size, source=record.get('source', 'by hand'))
        return
    part, reasons = out / f'{archive}.part', {}
    # What has arrived belongs to one address: go on there first, another host may have another file.
    for url in sorted(urls, key=lambda url: url != remembered(part).get('url')):
        try:
            with bars(archive, 'B') as progress:
                fetch(url, part, timeout_s=timeout_s, backoff_s=backoff_s, progress=progress)
        except TransferError as error:
            reasons[url] = str(error)
            continue
        try:
            found = verify_archive(part, expected)
        except DataError as error:
            reasons[url] = f'{error}{hint}'.rstrip('.')
            discard(part)
            continue
        _update_record(out, archive, sha256=found, bytes=part.stat().st_size, source=url)
        part.replace(path)
        discard(part)
        return
    tried = '; '.join(f'{url}: {reason}' for url, reason in reasons.items())
    raise DataError(f'{archive} could not be downloaded. Tried {tried}. Is this machine online? To get the file by '
                    f'hand, see {PROJECT_PAGE} or {urls[-1]}, put it at {path.resolve()} and rerun the same command.')


def _unpack(out: Path, archive: str, folder: str, bars: Bars) -> None:
    """Unpack beside the final place, then rename each top-level entry to it."""
    staging = out / f'.{archive}.tmp'
    _remove(staging)  # of a process that was killed
    try:
        staging.mkdir()
        with bars(f'unpack {archive}', 'B') as progress:
            extract_archive(out / archive, staging, progress)
        tree = _find_tree(staging, archive, 'labeled_metadata.json' if folder else 'training_folder')
        sources = {folder: tree} if folder else {entry.name: entry for entry in sorted(tree.iterdir())}
        # Entries of a move that was cut short are ours to replace; anything else is not.
        ours = read_record(out)[archive].get('entries', [])
        for entry in sources:
            if (out / entry).exists() and entry not in ours:
                raise DataError(f'{out / entry} exists, but was not made from {archive}. Move it away, or choose '
                                'another folder.')
        _update_record(out, archive, state='moving', entries=list(sources))
        for entry, source in sources.items():
            _remove(out / entry)
            source.replace(out / entry)
        _update_record(out, archive, state='unpacked')
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_record(out: str | Path) -> dict[str, dict]:
    """Archive -> what is known about it, from `archives.json`; empty if there is none.

    Raises:
        DataError: if the file has another shape.
    """
    path = Path(out) / RECORD
    if not path.exists():
        return {}
    records = read_json(path)
    if not isinstance(records, dict) or not all(map(_is_record, records.values())):
        raise DataError(f'{path} is damaged: expected {{archive: {{"sha256", "source", ...}}}}. To begin anew, '
                        'remove it and what was unpacked.')
    return records


def _is_record(value: object) -> bool:
    if not isinstance(value, dict) or not set(_RECORD_TYPES) >= set(value) >= {'sha256', 'source'}:
        return False
    return (all(isinstance(item, _RECORD_TYPES[key]) for key, item in value.items())
            and ('state' not in value or 'entries' in value)
            and all(isinstance(entry, str) for entry in value.get('entries', [])))


def _update_record(out: Path, archive: str, **values) -> None:
    records = read_record(out)
    records[archive] = {**records.get(archive, {}), **values}
    write_json(out / RECORD, records)
