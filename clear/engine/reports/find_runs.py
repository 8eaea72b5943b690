"""The runs that lie in a folder: one, repeats with several seeds, or the settings of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clear.continual.journal import read_run
from clear.core.errors import DataError
from clear.core.files import read_json
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, Results, find_results
from clear.engine.repeats import SUMMARY_FILE


@dataclass(frozen=True)
class FoundRun:
    """A run that was found.

    Args:
        source: its folder or file, as it was named.
        repeats: the folder of repeats that it lies in, None for a run alone.
    """

    results: Results
    path: Path
    source: str
    repeats: str | None = None


def find_runs(places: Sequence[str]) -> list[FoundRun]:
    """The runs of all these places.

    A place is a work_dir or its `results.json`, the folder of a run with `seeds` (`seed_<n>/`), or that of a `sweep`
    (`summary.json` names a folder for each value).

    Raises:
        DataError: if a place has no results, or a run is named twice.
    """
    runs = [run for place in places for run in _runs_of(Path(place), str(place))]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise DataError('A run is named twice; each counts once: ' + ', '.join(str(run.path) for run in runs))
    return runs


def _runs_of(folder: Path, source: str) -> Iterator[FoundRun]:
    if not folder.is_dir() or (folder / RESULTS_FILE).is_file():
        path = find_results(folder)
        yield FoundRun(read_run(path), path, source)
        return
    swept = _sweep_of(folder)
    for of, part in swept:
        for run in _runs_of(part, f'{source}/{part.name}'):
            yield dataclasses.replace(run, results=dataclasses.replace(run.results, name=f'{run.results.name} {of}'))
    if swept:
        return
    # By number: seed_10 comes after seed_9.
    seeds = sorted((path for path in folder.glob(f'seed_*/{RESULTS_FILE}')),
                   key=lambda path: (len(path.parent.name), path.parent.name))
    if not seeds:
        find_results(folder)
    seeds = _of_summary(folder, seeds)
    for path in seeds:
        yield FoundRun(read_run(path), path, f'{source}/{path.parent.name}', repeats=source)


def _of_summary(folder: Path, seeds: list[Path]) -> list[Path]:
    """The repeats that the summary of a folder is about; a later command may have asked for fewer seeds."""
    path = folder / SUMMARY_FILE
    summary = read_json(path) if path.is_file() else {}
    asked = summary.get('seeds') if isinstance(summary, dict) else None
    if not isinstance(asked, list):
        return seeds
    kept = [path for path in seeds if path.parent.name.removeprefix('seed_') in map(str, asked)]
    if others := [path.parent.name for path in seeds if path not in kept]:
        logger.warning('%s: %s left out, of which its %s does not tell.', folder, ', '.join(others), SUMMARY_FILE)
    return kept


def _sweep_of(folder: Path) -> list[tuple[str, Path]]:
    """(`lr=0.1`, folder) of every setting of a sweep, as its summary has them; none if it is no sweep.

    Settings that failed before they measured anything are named in the log and left out.

    Raises:
        DataError: if the summary is damaged, or names a folder outside of its own.
    """
    path = folder / SUMMARY_FILE
    summary = read_json(path) if path.is_file() else {}
    entries = summary.get('sweep', []) if isinstance(summary, dict) else None
    if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get('values'), dict) and isinstance(entry.get('folder'), str)
            for entry in entries):
        raise DataError(f"{path} is no summary of a sweep: each entry of 'sweep' has 'values' and a 'folder'.")
    found = []
    for entry in entries:
        # By its last name alone: the folder may have been moved as a whole, and leads nowhere else.
        name = Path(entry['folder']).name
        part = folder / name
        if entry.get('error') and not [*part.glob(RESULTS_FILE), *part.glob(f'seed_*/{RESULTS_FILE}')]:
            logger.warning('%s is left out: %s', part, entry['error'])
            continue
        if name in ('', '..') or not part.is_dir():
            raise DataError(f'{path} names {entry["folder"]}, which is not in {folder}.')
        last = [key.rpartition('.')[2] for key in entry['values']]
        found.append((', '.join(f'{short if last.count(short) == 1 else key}={value}'
                                for short, (key, value) in zip(last, entry['values'].items())), part))
    return found
