"""Files from a list of addresses: resumed, checked, recorded in `archives.json`, and unpacked into a root.

Where no checksum is published the SHA-256 of the first download holds from then on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_json, write_json
from clear.core.logs import Report
from clear.core.storage.fetch import BACKOFF_S, TIMEOUT_S, TransferError, discard, fetch, remembered

RECORD = 'archives.json'
_RECORD_TYPES = {'sha256': str, 'bytes': int, 'source': str, 'state': str, 'entries': list}

Bars = Callable[[str, str], AbstractContextManager[Report | None]]  # (title, unit) -> where to report to
Verify = Callable[[Path, str | None], str]  # (file, SHA-256 that it must have or None) -> the SHA-256; DataError if not


def no_bars(title: str, unit: str) -> AbstractContextManager[None]:
    """Reports to nobody."""
    return nullcontext()


def made_folder(out: str | Path) -> Path:
    """The folder, made if it is not there.

    Raises:
        DataError: if it cannot be made.
    """
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f'{out} cannot be made: {error.strerror}.') from error
    return Path(out)


def archive_state(out: str | Path, archive: str) -> str:
    """What there is of an archive: 'unpacked', 'here' (to be unpacked), 'partial' (to be continued) or 'missing'."""
    out = Path(out)
    record = read_record(out).get(archive, {})
    if record.get('state') == 'unpacked' and all((out / entry).exists() for entry in record['entries']):
        return 'unpacked'
    if (out / archive).is_file():
        return 'here'
    return 'partial' if (out / f'{archive}.part').is_file() else 'missing'


def check_recorded(out: Path, archive: str, expected: str | None) -> None:
    """Raise a DataError if what was unpacked had another SHA-256."""
    found = read_record(out)[archive]['sha256']
    if expected is not None and expected.lower() != found:
        raise DataError(f'{archive} was unpacked from a file with SHA-256 {found}, expected {expected.lower()}.')


def obtain(out: Path, archive: str, urls: Sequence[str], expected: str | None, verify: Verify, by_hand: str,
           bars: Bars = no_bars, timeout_s: float = TIMEOUT_S, backoff_s: float = BACKOFF_S) -> None:
    """Have a verified `out/archive`, by download if it is not there, and its SHA-256 in the record.

    Args:
        urls: tried in this order, but first the one that has delivered a part already.
        expected: SHA-256 that it must have.
        by_hand: where a person finds the file.

    Raises:
        DataError: if none delivers it, or it fails its checks.
    """
    path, record = out / archive, read_record(out).get(archive, {})
    hint = ''
    if expected is None and 'sha256' in record:
        expected = record['sha256']
        hint = f' The first download had the latter; to accept another file, remove {archive} from {out / RECORD}.'
    if path.is_file():
        try:
            found = verify(path, expected)
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
            found = verify(part, expected)
        except DataError as error:
            reasons[url] = f'{error}{hint}'.rstrip('.')
            discard(part)
            continue
        _update_record(out, archive, sha256=found, bytes=part.stat().st_size, source=url)
        part.replace(path)
        discard(part)
        return
    if not urls:
        raise DataError(f'{archive} is not in {out}, and no address is known that asks for no account. Name a '
                        f'--mirror, or get it by {by_hand} and rerun the same command.')
    tried = '; '.join(f'{url}: {reason}' for url, reason in reasons.items())
    raise DataError(f'{archive} could not be downloaded. Tried {tried}. Is this machine online? To get the file by '
                    f'hand, see {by_hand}, put it at {path.resolve()} and rerun the same command.')


def unpack(out: Path, archive: str, extract: Callable[[Path, Path], None],
           choose: Callable[[Path], Mapping[str, Path]]) -> None:
    """Unpack beside the final place, then rename each entry to it.

    Args:
        extract: writes what an archive holds into a folder.
        choose: name in `out` -> file or folder, of that folder.

    Raises:
        DataError: also if an entry is there that is not of this archive.
    """
    staging = out / f'.{archive}.tmp'
    _remove(staging)  # of a process that was killed
    try:
        staging.mkdir()
        extract(out / archive, staging)
        sources = choose(staging)
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
