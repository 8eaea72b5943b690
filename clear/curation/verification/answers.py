"""What people said of images: one line each in a file of ours, and all the other forms read into the same.

| file                        | from                                                                          |
|-----------------------------|-------------------------------------------------------------------------------|
| `.jsonl`                    | the web page (`record_answer`)                                                |
| `.csv`                      | a batch whose column `verdict` was filled in                                  |
| `.json`                     | Label Studio's export, JSON or JSON-MIN                                       |
| a folder                    | CLEAR's annotators: `<b>/<label>/<ID>.json` with a list of labels             |
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.core.files import parse_json, read_bytes, read_json
from clear.curation.verification.spreadsheets import read_csv

if TYPE_CHECKING:
    from clear.core.types import Plain

ACCEPT, REJECT = VERDICTS = ('accept', 'reject')
# What people write in a column, in place of the two words.
_WORDS = {**dict.fromkeys(('accept', 'accepted', 'yes', 'y', '1', 'true', 'ok'), ACCEPT),
          **dict.fromkeys(('reject', 'rejected', 'no', 'n', '0', 'false'), REJECT)}
_ANNOTATOR = ('task_result', 'annotations', 0, 'input', 'value')


class Answer(NamedTuple):
    """What one person said of one image.

    Attributes:
        bucket, label: where the image was shown: whether it belongs there is the question.
        verdict: 'accept' or 'reject'.
    """

    reviewer: str
    id: int
    bucket: str
    label: str
    verdict: str


def record_answer(file: str | Path, reviewer: str, id: int, bucket: str, label: str, verdict: str) -> None:
    """Append an answer; when this returns it is on the disk. Any number of processes may do so at once.

    Raises:
        ConfigError: if the verdict is no verdict, or there is no reviewer.
    """
    answer = Answer(reviewer, int(id), str(bucket), str(label), check_choice('verdict', verdict, VERDICTS))
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise ConfigError(f'reviewer is {reviewer!r}; expected a name.')
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with Path(file).open('ab+') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # released as the file is closed
        size = stream.seek(0, os.SEEK_END)
        torn = b''
        if size:  # a line that was cut short by a crash stays a line of its own
            stream.seek(size - 1)
            torn = b'' if stream.read(1) == b'\n' else b'\n'
        stream.write(torn + json.dumps(answer._asdict()).encode() + b'\n')
        stream.flush()
        os.fsync(stream.fileno())


def read_answers(paths: Iterable[str | Path], user_labels: Mapping[str, str] | None = None) -> Iterator[Answer]:
    """All answers of some files, each file in its order.

    Args:
        user_labels: what reviewers of the folder form call a label -> the label.

    Raises:
        DataError: if a file holds no answer at all, or something else; naming file and line.
    """
    for given in paths:
        path, count = Path(given), 0
        for answer in _read(path, user_labels or {}):
            count += 1
            yield answer
        if not count:
            raise DataError(f'{path} holds no answers. Was it filled in, and saved?')


def _read(path: Path, user_labels: Mapping[str, str]) -> Iterator[Answer]:
    if path.is_dir():
        return _annotators(path, user_labels)
    readers = {'.jsonl': _lines, '.csv': _table, '.json': _label_studio}
    if path.suffix not in readers:
        raise DataError(f'{path}: answers are read from {", ".join(readers)} files, or a folder.')
    return readers[path.suffix](path)


def _lines(path: Path) -> Iterator[Answer]:
    lines = read_bytes(path).split(b'\n')
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line, f'{path}:{number}')
        except DataError:
            if line.startswith(b'{') and not line.rstrip().endswith(b'}'):
                continue  # cut short by a crash: what it said was never acknowledged
            raise
        if not isinstance(value, dict):
            raise DataError(f'{path}:{number}: expected an answer, found {str(value)[:80]}.')
        yield _answer(value, value.get('reviewer'), f'{path}:{number}')


def _table(path: Path) -> Iterator[Answer]:
    """Rows whose verdict is empty are not answered yet."""
    for number, row in read_csv(path, ('id', 'bucket', 'label', 'verdict')):
        if row['verdict'].strip():
            yield _answer(row, row.get('reviewer') or path.stem, f'{path}:{number}')


def _label_studio(path: Path) -> Iterator[Answer]:
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: expected Label Studio's export, a list of tasks.")
    for place, task in enumerate(tasks):
        where = f'{path}, task {place}'
        if not isinstance(task, dict):
            raise DataError(f'{where}: expected an object, found {str(task)[:80]}.')
        if 'annotations' not in task:  # JSON-MIN
            if task.get('verdict'):
                yield _answer(task, task.get('annotator', path.stem), where)
            continue
        for annotation in _list(task['annotations'], where):
            choices = [choice for result in _list(annotation.get('result', []), where)
                       if result.get('from_name') == 'verdict' for choice in result.get('value', {}).get('choices', ())]
            if choices and not annotation.get('was_cancelled'):
                if len(choices) > 1:
                    raise DataError(f'{where}: {len(choices)} verdicts in one annotation.')
                yield _answer(dict(task.get('data', {}), verdict=choices[0]), _who(annotation, path), where)


def _who(annotation: Mapping[str, Plain], path: Path) -> str:
    by = annotation.get('completed_by', path.stem)
    return str(by.get('email') or by.get('id')) if isinstance(by, dict) else str(by)


def _annotators(folder: Path, user_labels: Mapping[str, str]) -> Iterator[Answer]:
    """An image is accepted when exactly one label was given, and it is the one under which it was found."""
    for path in sorted(folder.glob('*/*/*.json')):
        value = read_json(path)
        for key in _ANNOTATOR:
            try:
                value = value[key]
            except (LookupError, TypeError) as error:
                raise DataError(f'{path} has no {".".join(map(str, _ANNOTATOR))}.') from error
        labels = [value] if isinstance(value, str) else value
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise DataError(f'{path}: expected a list of labels, found {str(value)[:80]}.')
        bucket, label = path.parent.parent.name, path.parent.name
        is_right = [user_labels.get(given, given) for given in labels] == [label]
        yield _answer(dict(id=path.stem, bucket=bucket, label=label, verdict=ACCEPT if is_right else REJECT),
                      folder.name, str(path))


def _answer(value: Mapping[str, Plain], reviewer: Plain, where: str) -> Answer:
    lacking = [key for key in ('id', 'bucket', 'label', 'verdict') if value.get(key) in (None, '')]
    if lacking:
        raise DataError(f'{where}: the answer has no {lacking[0]}.')
    verdict = _WORDS.get(str(value['verdict']).strip().lower())
    if verdict is None:
        raise DataError(f"{where}: verdict is {str(value['verdict'])[:40]!r}; expected 'accept' or 'reject'.")
    try:
        number = int(value['id'])
    except (TypeError, ValueError) as error:
        raise DataError(f'{where}: id is {str(value["id"])[:40]!r}; expected a number.') from error
    if reviewer in (None, ''):
        raise DataError(f'{where}: the answer has no reviewer.')
    return Answer(str(reviewer), number, str(value['bucket']), str(value['label']), verdict)


def _list(value: Plain, where: str) -> list[dict]:
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise DataError(f'{where}: expected a list of objects, found {str(value)[:80]}.')
    return value
