"""A look at a submission before it is uploaded: everything that is wrong, not the first thing alone."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clear.core.errors import DataError, nearest
from clear.core.files import MAX_TEXT_BYTES, read_text, regular_file
from clear.datasets.make.archives import ZIP_DAMAGE
from clear.evaluation.elevater.sets import AVERAGED, BENCHMARK
from clear.evaluation.elevater.submission.combine import ARCHIVE, MEMBER
from clear.evaluation.elevater.submission.predictions import fault_of, read_entry

FEW_SHOT_SEEDS = ['0', '1', '2']
_START = re.compile(r'\s*\{\s*"data"\s*:\s*\[\s*')
_END = re.compile(r'\s*\]\s*\}\s*')
_NEXT = re.compile(r'\s*(?:(,)\s*|(?=\]))')


@dataclass(frozen=True)
class Expected:
    """What the predictions of a set should be like."""

    images: int
    classes: int
    multi_label: bool = False


@dataclass
class Checked:
    """What was found.

    Attributes:
        sets: name -> seeds x images x classes, in the order of the submission.
        problems: one sentence each; empty if there are none.
        missing: sets of the benchmark's twenty that are not there.
    """

    sets: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def validate(path: str | Path, own: Mapping[str, Expected] | None = None) -> Checked:
    """Check a combined submission: its form, keys, counts, seeds and probabilities.

    Each set is read by itself, so that memory follows the largest one and the text.

    Args:
        path: the archive, the JSON file in it, or the folder where `combine` made it.
        own: sets of one's own that may be there besides ELEVATER's.

    Raises:
        DataError: if the file is missing, damaged, or no submission at all.
    """
    known = {each.name: Expected(each.stored.sizes['test'], each.num_classes, each.is_multi_label)
             for each in BENCHMARK} | dict(own or {})
    found, shared = Checked(), {}
    text, where = _text_of(Path(path))
    for place, content in enumerate(_entries(text, where)):
        try:
            entry = read_entry(content, f'entry {place}')
        except DataError as error:
            found.problems.append(str(error))
            continue
        name = entry['dataset_name']
        if name in found.sets:
            found.problems.append(f"'{name}' is there twice.")
        found.sets[name] = '{} x {} images x {} classes'.format(*entry['predictions'].shape)
        found.problems += [f"'{name}': {problem}" for problem in
                           [*_wrong_values(entry), *_wrong_predictions(entry, known), *_differences(entry, shared)]]
    if not found.sets and not found.problems:
        found.problems.append('It has no entries.')
    found.missing = [name for name in AVERAGED if name not in found.sets]
    return found


def _text_of(path: Path) -> tuple[str, str]:
    """The JSON of a submission, and what to call it."""
    if path.is_dir():
        if not (path / ARCHIVE).is_file():
            raise DataError(f'{path} has no {ARCHIVE}. Make it first: elevater_submission.py combine {path}')
        path = path / ARCHIVE
    if path.suffix.lower() != '.zip':
        return read_text(path), str(path)
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            names = archive.namelist()
            if names != [MEMBER]:
                raise DataError(f"{path} should hold {MEMBER} alone; it holds {', '.join(names[:5]) or 'nothing'}"
                                f'{" ..." if len(names) > 5 else ""}.')
            with archive.open(MEMBER) as member:
                content = member.read(MAX_TEXT_BYTES + 1)
    except ZIP_DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f'{path} is damaged or no zip archive: {error}.') from error
    if len(content) > MAX_TEXT_BYTES:
        raise DataError(f'{path}: {MEMBER} has more than {MAX_TEXT_BYTES:,} bytes.')
    try:
        return content.decode(), str(path)
    except UnicodeDecodeError as error:
        raise DataError(f'{path}: {MEMBER} is no text in UTF-8.') from error


def _entries(text: str, where: str) -> Iterator[object]:
    """The entries of `{"data": [...]}`, one after another."""
    start = _START.match(text)
    if start is None:
        raise DataError(f'{where} is no submission: expected {{"data": [...]}} with an entry for each set.')
    decoder, place = json.JSONDecoder(), start.end()
    is_open = not text.startswith(']', place)
    try:
        while is_open:
            entry, place = decoder.raw_decode(text, place)
            yield entry
            behind = _NEXT.match(text, place)
            if behind is None:
                raise ValueError(f'neither a comma nor a bracket follows an entry (char {place})')
            place, is_open = behind.end(), behind[1] is not None
    except (ValueError, RecursionError) as error:
        raise DataError(f'{where} is no valid JSON: {error}.') from error
    if _END.fullmatch(text, place) is None:
        raise DataError(f'{where} is no submission: something follows its "data".')


def _wrong_values(entry: Mapping) -> Iterator[str]:
    """What is wrong with all but the predictions."""
    if not isinstance(entry['model_name'], str) or not entry['model_name']:
        yield f"model_name is {entry['model_name']!r}, expected a text."
    counts = {key: entry[key] for key in ('num_trainable_params', 'num_params', 'num_visual_params',
                                          'num_backbone_params')}
    odd = {key: value for key, value in counts.items()
           if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0}
    yield from (f'{key} is {value!r}, expected a number of parameters.' for key, value in odd.items())
    if not odd and not counts['num_visual_params'] <= counts['num_backbone_params'] <= counts['num_params']:
        yield (f"num_visual_params {counts['num_visual_params']}, num_backbone_params {counts['num_backbone_params']} "
               f"and num_params {counts['num_params']} should each hold the one before.")
    shots, seeds = entry['n_shot'], entry['rnd_seeds']
    if type(shots) is not int or shots < -1:
        yield f'n_shot is {shots!r}, expected 0 (zero-shot), -1 (all images) or images per class.'
    elif shots > 0 and sorted(map(str, seeds)) != FEW_SHOT_SEEDS:
        yield f'rnd_seeds is {seeds}; of {shots} shots the seeds are {", ".join(FEW_SHOT_SEEDS)}.'
    elif shots <= 0 and (len(seeds) != 1 or type(seeds[0]) is not int):
        yield f'rnd_seeds is {seeds}; expected one seed, such as [0].'
    if shots == 0 and not odd and counts['num_trainable_params'] != 0:
        yield f"num_trainable_params is {counts['num_trainable_params']}, but nothing is trained for zero-shot."


def _wrong_predictions(entry: Mapping, known: Mapping[str, Expected]) -> Iterator[str]:
    expected, values = known.get(entry['dataset_name']), entry['predictions']
    if expected is None:
        near = nearest(entry['dataset_name'], known)
        yield f"is none of ELEVATER's sets{f'; nearest: {near}' if near else ''}."
    elif values.shape[1:] != (expected.images, expected.classes):
        yield (f'has predictions of {values.shape[1]} images and {values.shape[2]} classes; its test set has '
               f'{expected.images} and {expected.classes}.')
    fault = fault_of(values, expected is not None and expected.multi_label)
    if fault is not None:
        yield f'its predictions {fault}.'


def _differences(entry: Mapping, shared: dict[str, object]) -> Iterator[str]:
    """What is not as in the first entry: all are of one model and mode."""
    for key in ('model_name', 'n_shot'):
        first = shared.setdefault(key, entry[key])
        if entry[key] != first:
            yield f'{key} is {entry[key]!r}, in the first entry {first!r}.'
