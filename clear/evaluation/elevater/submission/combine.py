"""All predictions of a mode in one archive, as the leaderboard takes them."""

from __future__ import annotations

import io
import math
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clear.core.errors import DataError
from clear.core.files import atomic_writer, read_json
from clear.evaluation.elevater.sets import BENCHMARK
from clear.evaluation.elevater.submission.predictions import KEYS, fault_of, json_parts, read_entry

ARCHIVE, MEMBER = 'all_predictions.zip', 'all_predictions.json'
AVERAGED_KEYS, JOINED_KEYS = ('num_trainable_params',), ('rnd_seeds', 'predictions')


def combine(folder: str | Path) -> Path:
    """Join the predictions of all sets and seeds of a mode into `all_predictions.zip`, in the same folder.

    Of the files of one set, the seeds and predictions stand one after another, by seed; trainable parameters are
    averaged; everything else must be equal.

    Raises:
        DataError: if there are no predictions, a file is something else, or files of one set do not agree.
    """
    folder = Path(folder)
    files = sorted(folder.glob('*.json')) if folder.is_dir() else []
    if not files:
        raise DataError(f'{folder} holds no predictions (*.json). They lie in WORK_DIR/predictions/MODE.')
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[_set_of(path)].append(path)
    path = folder / ARCHIVE
    with atomic_writer(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(MEMBER)  # without the time, so that equal predictions give equal bytes
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, 'w', force_zip64=True) as member, io.TextIOWrapper(member, 'utf-8') as text:
            text.write('{"data": [')
            for place, name in enumerate(in_order(groups)):
                text.write(', ' if place else '')
                for part in json_parts(_joined(groups[name])):
                    text.write(part)
            text.write(']}')
    return path


def _set_of(path: Path) -> str:
    # The name of the set is in the file's: a file holds too much to read it for that alone.
    name = path.stem
    return name.partition('_')[2] if name.startswith('seed') and name[4:].partition('_')[0].isdigit() else name


def in_order(names: Mapping[str, object]) -> list[str]:
    """Names in the benchmark's order, others behind them by name."""
    place = {each.name: index for index, each in enumerate(BENCHMARK)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


def _joined(paths: Sequence[Path]) -> dict[str, object]:
    entries = [(path, read_entry(read_json(path), str(path))) for path in paths]
    for path, entry in entries:
        if entry['dataset_name'] != _set_of(path):
            raise DataError(f"{path} is of '{entry['dataset_name']}', which its name does not say.")
        _check_values(path, entry)
    entries.sort(key=lambda item: [(len(str(seed)), str(seed)) for seed in item[1]['rnd_seeds']])  # 2 before 10
    first_path, first = entries[0]
    for path, entry in entries[1:]:
        for key in KEYS:
            if key not in (*AVERAGED_KEYS, *JOINED_KEYS) and entry[key] != first[key]:
                raise DataError(f'{path}: {key} is {entry[key]!r}, in {first_path.name} {first[key]!r}. Predictions of '
                                'one set are of one model and as many shots.')
        if entry['predictions'].shape[1:] != first['predictions'].shape[1:]:
            raise DataError(f"{path}: predictions of {entry['predictions'].shape[1:]} images and classes, in "
                            f"{first_path.name} of {first['predictions'].shape[1:]}.")
    seeds = [seed for _, entry in entries for seed in entry['rnd_seeds']]
    if len({*map(str, seeds)}) < len(seeds):
        raise DataError(f"{first_path.parent}: '{first['dataset_name']}' has one seed twice: {seeds}.")
    return first | dict(
        num_trainable_params=float(np.mean([entry['num_trainable_params'] for _, entry in entries])),
        rnd_seeds=seeds, predictions=np.concatenate([entry['predictions'] for _, entry in entries]))


def _check_values(path: Path, entry: Mapping[str, object]) -> None:
    """Refuse what cannot be joined or written; all else is looked at by `validate`."""
    if not all(type(seed) in (int, str) for seed in entry['rnd_seeds']):
        raise DataError(f"{path}: rnd_seeds is {entry['rnd_seeds']!r}, expected whole numbers.")
    for key in AVERAGED_KEYS:
        if type(entry[key]) not in (int, float) or not math.isfinite(entry[key]):
            raise DataError(f'{path}: {key} is {entry[key]!r}, expected a number of parameters.')
    if not np.isfinite(entry['predictions']).all():
        raise DataError(f'{path}: its predictions {fault_of(entry["predictions"], True)}.')
