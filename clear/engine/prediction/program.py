"""From the command line of `tools/predict.py` to lines, or a file, of predictions."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.checks import check_choice, check_whole
from clear.core.errors import DataError
from clear.core.files import atomic_writer
from clear.core.logs import logger
from clear.engine.prediction.predictor import Predictor, columns, row_of

if TYPE_CHECKING:
    from typing import IO

    from clear.engine.prediction.base import Classifier, Prediction

SUFFIXES = ('.csv', '.json')
_LISTED = 20


def predict(classifier: Classifier, args: argparse.Namespace) -> None:
    """Classify what `args.images` names; print a line each, or write `args.out`, which is there once all is done.

    Unreadable files are left out, listed and counted.

    Raises:
        ConfigError: if a file is missing, or an option is none.
        DataError: if nothing, or too little, can be read.
    """
    check_whole('--top', args.top, 1)
    if args.out is not None:
        check_choice('the suffix of --out', Path(args.out).suffix, SUFFIXES)
    predictor = Predictor.of(classifier, args.batch_size, args.max_bad_fraction)
    paths = predictor.find(args.images)
    bad: dict[str, str] = {}
    count = 0
    with _printed() if args.out is None else _written(Path(args.out)) as put:
        for predictions, unreadable in predictor.stream(paths, args.top):
            bad.update(unreadable)
            count += len(predictions)
            for each in predictions:
                put(each)
        if not count:
            raise DataError(f'None of {len(paths)} files can be read.')
    for path, reason in list(bad.items())[:_LISTED]:
        logger.warning('%s cannot be read: %s', path, reason)
    if bad:
        logger.warning('%d of %d files cannot be read and are left out', len(bad), len(paths))
    if args.out is not None:
        logger.info('%d predictions  %s', count, args.out)


@contextmanager
def _printed() -> Iterator[Callable[[Prediction], None]]:
    def put(each: Prediction) -> None:
        logger.info('%s  %s', each.path, '  '.join(f'{label} {score:.3f}' for label, score in
                                                   zip(each.labels, each.scores)))

    yield put


@contextmanager
def _written(path: Path) -> Iterator[Callable[[Prediction], None]]:
    """Predictions go to a file one by one: there may be millions."""
    with atomic_writer(path) as binary:
        file = io.TextIOWrapper(binary, 'utf-8', 'surrogateescape', newline='')
        try:
            yield from (_to_csv if path.suffix == '.csv' else _to_json)(file)
        finally:
            file.detach()


def _to_csv(file: IO[str]) -> Iterator[Callable[[Prediction], None]]:
    writer, is_begun = csv.writer(file, lineterminator='\n'), False

    def put(each: Prediction) -> None:
        nonlocal is_begun
        if not is_begun:
            writer.writerow(columns(len(each.labels)))
            is_begun = True
        writer.writerow(row_of(each))

    yield put


def _to_json(file: IO[str]) -> Iterator[Callable[[Prediction], None]]:
    separator = '[\n'

    def put(each: Prediction) -> None:
        nonlocal separator
        file.write(separator + json.dumps(dict(path=each.path, classes=each.labels, indices=each.indices,
                                               probabilities=each.scores)))
        separator = ',\n'

    yield put
    file.write('\n]\n')
