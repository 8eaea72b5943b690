"""The matrix of a run as it grows: one line per finished experience in `matrix.jsonl`.

Up to `SELF_CONTAINED` buckets checkpoints and `results.json` hold the whole matrix after every experience. Of a longer
stream, where that would be most of the time, only the journal has every row at once: checkpoints leave the matrix
out, and `results.json` follows every few seconds; `read_run` brings it up to date after a kill.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import TypedDict

from clear.continual.metrics import accuracy_by_task, clear_metrics, overlap_mask, without_unseen
from clear.core.errors import CheckpointError, DataError
from clear.core.files import parse_json, write_text
from clear.core.results import Results, find_results, read_results, write_results

JOURNAL = 'matrix.jsonl'
SELF_CONTAINED = 100
_NUMBERS = (int, float, type(None))


class Entry(TypedDict):
    """What is measured and logged of one experience: its rows of both matrices, and means of training."""

    experience: int
    row: list[float | None]
    whole_buckets: list[float | None]
    log: dict[str, float]


def is_self_contained(num_buckets: int) -> bool:
    """Whether checkpoints and `results.json` of such a stream hold the whole matrix after every experience."""
    return num_buckets <= SELF_CONTAINED


def append_entry(work_dir: Path, entry: Entry) -> None:
    """Add one experience: `experience`, its `row` and `whole_buckets` of the matrices, and its `log`."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with (work_dir / JOURNAL).open('a', encoding='utf-8') as file:
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())


def read_entries(work_dir: Path) -> list[Entry]:
    """The entries of a run, experience by experience; a torn line and what comes after it are left out."""
    path, entries = work_dir / JOURNAL, []
    if not path.is_file():
        return entries
    for line in path.read_bytes().splitlines():
        try:
            entry = parse_json(line, path)
        except DataError:
            break
        if not _is_entry(entry, len(entries)):
            break
        entry['log'] = {name: math.nan if value is None else value for name, value in entry['log'].items()}
        entries.append(entry)
    return entries


def write_entries(work_dir: Path, entries: list[Entry]) -> None:
    """Replace the journal by what a run begins with: on resume the experiences that the checkpoint has."""
    if not entries:
        (work_dir / JOURNAL).unlink(missing_ok=True)
        return
    write_text(work_dir / JOURNAL, ''.join(map(_line, entries)))


def require_entries(path: Path, finished: int) -> list[Entry]:
    """The first entries of the journal beside a checkpoint that holds no matrix.

    Raises:
        CheckpointError: if there are fewer.
    """
    entries = read_entries(path.parent)
    if len(entries) < finished:
        raise CheckpointError(f'{path} was written after {finished} experiences of a stream of more than '
                              f'{SELF_CONTAINED}; their rows stand in {JOURNAL} beside it, which has {len(entries)}. '
                              'Keep the two together.')
    return entries[:finished]


def read_run(run: str | Path) -> Results:
    """The results of a run; those that were killed before `results.json` got their last rows are completed.

    Metrics of the user's own are then left out until the run goes on: those in the file are of fewer rows.

    Raises:
        DataError: as `find_results` and `read_results` do.
    """
    path = find_results(run)
    results = read_results(path)
    if results.runner != 'ContinualRunner' or results.acc_matrix is None or results.joint:
        return results
    entries, shape = read_entries(path.parent), (len(results.acc_matrix), len(results.acc_matrix[0]))
    measured = len(results.extras.get('train_log') or ())
    if not measured < len(entries) <= shape[0] or any(len(entry['row']) != shape[1] for entry in entries):
        return results
    _complete(results, entries, measured)
    with contextlib.suppress(OSError):  # somebody else's folder
        write_results(path, results)
    return results


def streaming_results(matrix: list[list[float | None]], streaming: list[list[float | None]],
                      unseen: list[list[bool]] | None = None) -> dict[str, object]:
    """What an iid run gives under the streaming protocol, and how much the iid protocol overestimates."""
    metrics = clear_metrics(without_unseen(streaming, unseen), 'streaming')
    both = (clear_metrics(without_unseen(matrix, unseen), 'iid')['in_domain'], metrics['next_domain'])
    return dict(acc_matrix=streaming, overlap_mask=overlap_mask(len(streaming), 'streaming'),
                metrics={name: metrics[name] for name in ('next_domain', 'forward_transfer', 'final_domain')},
                inflation_gap=None if None in both else both[0] - both[1])


def _complete(results: Results, entries: list[Entry], measured: int) -> None:
    for entry in entries[measured:]:
        results.acc_matrix[entry['experience']] = entry['row']
        results.extras['train_log'].append({name: None if value != value else value
                                            for name, value in entry['log'].items()})
    unseen = results.extras.get('unseen_mask')
    results.metrics = clear_metrics(without_unseen(results.acc_matrix, unseen), results.protocol.split('/')[1])
    if 'task_labels' in results.extras:
        results.extras['task_accuracy'] = accuracy_by_task(entries[-1]['row'], results.extras['task_labels'])
    if 'streaming' in results.extras:
        streaming = results.extras['streaming']['acc_matrix']
        for entry in entries[measured:]:
            streaming[entry['experience']] = entry['whole_buckets']
        results.extras['streaming'] = streaming_results(results.acc_matrix, streaming, unseen)


def _line(entry: Entry) -> str:
    log = {name: value if math.isfinite(value) else None for name, value in entry['log'].items()}
    return json.dumps({**entry, 'log': log}) + '\n'


def _is_entry(entry: object, experience: int) -> bool:
    return (isinstance(entry, dict) and entry.get('experience') == experience and isinstance(entry.get('log'), dict)
            and all(isinstance(value, _NUMBERS) for value in entry['log'].values())
            and all(isinstance(entry.get(name), list) and all(isinstance(value, _NUMBERS) for value in entry[name])
                    for name in ('row', 'whole_buckets')))
