"""The work of `tools/analysis_tools/leak_guard.py`: sides from trees, tables, banks and runs; accuracies; lists."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from torch.utils.data import Subset

from clear.core.errors import ConfigError, DataError
from clear.core.files import write_json, write_text
from clear.core.logs import logger
from clear.curation.images import image_table
from clear.curation.leaks import Accuracy, Leaks, Likeness, Side, accuracy_of, find_leaks, knn_accuracies
from clear.curation.manifest import MANIFEST, Finished
from clear.curation.verification.spreadsheets import write_csv
from clear.datasets.readers.build import guess_reader, read_images
from clear.datasets.readers.by_time import order_times
from clear.datasets.readers.table_file import read_columns
from clear.datasets.table import ImageTable
from clear.engine.progress import Progress
from clear.features.bank import META_FILE, FeatureBank

if TYPE_CHECKING:
    from clear.core.types import Plain
    from clear.engine.continual.runner import ContinualRunner

_SAME, _NO_BUCKET = 'same_or_later', 'all'


def open_sides(args: argparse.Namespace) -> tuple[Side, Side, str]:
    """Training side, test side, and the order in which they count, see `find_leaks`.

    Raises:
        ConfigError, DataError: if a source is none, or there is nothing to tell training from test by.
    """
    first = _open(args.source, args.images, args.buckets)
    if args.against:
        return _side(args.source, *first), _side(args.against, *_open(args.against, args.test_images, None)), 'any'
    if args.test:
        second = _open(args.test, args.test_images or args.images, args.buckets)
        names = _in_order([*first[1], *second[1]], args.source)
        return _side(args.source, *first, names), _side(args.test, *second, names), _SAME
    images, buckets, labels, features = first
    names = _in_order(buckets, args.source)
    whole = _side(args.source, images, buckets, labels, features, names)
    if isinstance(images, ImageTable) and 'split' in images:
        splits = np.array(images.texts('split'), object)
        parts = [whole.of(np.flatnonzero(splits == name)) for name in ('train', 'test')]
        if all(len(part) for part in parts):
            return *parts, _SAME
    if len(names) < 2:
        raise ConfigError(f'{args.source} has neither training and test parts nor several buckets. Give the other side '
                          'by --test, or an evaluation set by --against.')
    return whole, whole, 'later'


Opened = tuple[ImageTable | list[str], list[str | None], np.ndarray, np.ndarray | None]


def _open(source: str, images: str | None, buckets: str | None) -> Opened:
    """Images (or the paths of a bank without them), buckets, labels, features of a source."""
    path = Path(source)
    if (path / META_FILE).is_file():
        return _of_banks([FeatureBank.open(path)], images)
    if (path / MANIFEST).is_file():
        finished = Finished(path)
        banks = [FeatureBank.open(file.parent) for file in finished.files(f'bank/{META_FILE}')]
        if banks:
            return _of_banks(banks, images)
        table = image_table(finished, None if buckets is None else Finished(buckets))
    else:
        table = read_images(guess_reader(path))
    labels = np.array(table['label'].to_pylist(), np.int64) if 'label' in table else np.full(len(table), -1)
    return table, table.texts('bucket') if 'bucket' in table else [None] * len(table), labels, None


def _of_banks(banks: Sequence[FeatureBank], images: str | None) -> Opened:
    """One bank after the other."""
    paths, buckets = ([text for bank in banks for text in bank.column(name)] for name in ('path', 'bucket'))
    table: ImageTable | list[str] = paths
    if images is not None:
        table = _images_of([text for bank in banks for text in bank.column('id')], paths, Path(images))
    features = banks[0].features if len(banks) == 1 else np.concatenate([bank.features for bank in banks])
    return table, buckets, np.concatenate([np.asarray(bank.labels) for bank in banks]), features


def _images_of(ids: Sequence[str], paths: Sequence[str], images: Path) -> ImageTable:
    """The images of a bank's rows."""
    if not (images / MANIFEST).is_file():
        return ImageTable.from_columns(images, dict(id=ids, path=paths))
    table = image_table(Finished(images))
    rows = {name: row for row, name in enumerate(table.texts('id'))}
    lacking = [name for name in ids if name not in rows]
    if lacking:
        raise DataError(f"{images} lacks {len(lacking):,} of the bank's images, first {lacking[0]}.")
    return table.select(np.array([rows[name] for name in ids]))


def _in_order(names: Sequence[str | None], source: str) -> list[str]:
    known = sorted({name for name in names if name is not None})
    return order_times(known, Path(source)) if known else [_NO_BUCKET]


def _side(name: str, images: ImageTable | list[str], buckets: Sequence[str | None], labels: np.ndarray,
          features: np.ndarray | None, names: Sequence[str] | None = None) -> Side:
    names = names or sorted({each or _NO_BUCKET for each in buckets})
    places = {each: place for place, each in enumerate(names)}
    if None in buckets and _NO_BUCKET not in places:
        raise DataError(f'{name}: {sum(each is None for each in buckets):,} images are in no bucket.')
    is_table = isinstance(images, ImageTable)
    paths = images.texts('path') if is_table else images
    moments = np.array([places[each or _NO_BUCKET] for each in buckets], np.int64)
    return Side(name, np.array(paths, object), moments, names, labels, images if is_table else None, features)


def leaks_of(train: Side, test: Side, likeness: Likeness, order: str) -> Leaks:
    """`find_leaks`, with progress."""
    progress, done = Progress(len(train)), 0

    def report(count: int) -> None:
        nonlocal done
        for _ in range(count - done):
            progress.step('compared')
        done = count

    found = find_leaks(train, test, likeness, order, report)
    progress.close()
    return found


class FinishedRun:
    """A finished continual run: the images that it trained and was tested on, and its checkpoints.

    Args:
        work_dir: of the run.

    Raises:
        ConfigError: if it is none, or trained on features.
    """

    def __init__(self, work_dir: str | Path):
        from clear.core.config import load_config
        from clear.datasets.loaders.buckets import BucketDataset
        from clear.engine.continual.runner import ContinualRunner

        self.work_dir = Path(work_dir)
        if not (self.work_dir / 'config.py').is_file():
            raise ConfigError(f'{work_dir} is no work_dir of a run: it has no config.py.')
        cfg, _ = load_config(self.work_dir / 'config.py')
        cfg['loggers'], cfg['metrics'], cfg['load_from'], cfg['work_dir'] = [], [], None, None
        self.runner: ContinualRunner = ContinualRunner(cfg)
        self.runner.build()
        info = self.runner.info
        if not all(isinstance(each, BucketDataset) for each in (*info.train, *info.test)):
            raise ConfigError(f'{work_dir} trained on features; leaks are told by its bank: give that.')
        self.checkpoints = {int(path.stem.removeprefix('exp_')): path for path in self.work_dir.glob('exp_*.pth')}
        if not self.checkpoints and (self.work_dir / 'latest.pth').is_file():
            self.checkpoints = {len(info.train) - 1: self.work_dir / 'latest.pth'}
        if not self.checkpoints:
            raise ConfigError(f'{work_dir} has no checkpoints, neither exp_*.pth nor latest.pth.')

    def sides(self) -> tuple[Side, Side, str]:
        """As `open_sides`."""
        info = self.runner.info
        return (self._side('train', info.train, info.bucket_names), self._side('test', info.test, info.column_names),
                _SAME)

    def _side(self, name: str, datasets: Sequence, names: Sequence[str]) -> Side:
        paths = [path for each in datasets for path in each.paths]
        labels = np.array([label for each in datasets for label in each.targets], np.int64)
        moments = np.repeat(np.arange(len(datasets)), [len(each) for each in datasets])
        ids = [f'{place}/{row}' for place, each in enumerate(datasets) for row in range(len(each))]
        table = ImageTable.from_columns(datasets[0].root, dict(id=ids, path=paths))
        return Side(f'{self.work_dir} {name}', np.array(paths, object), moments, list(names), labels, table)

    def accuracies(self, train: Side, test: Side, leaks: Leaks) -> list[Accuracy]:
        """Of each checkpoint on the test sets of its last bucket and later ones, with and without what leaked from the
        buckets that it was trained on.
        """
        from clear.continual.evaluate import count_correct
        from clear.engine.checkpoint import load_model_weights

        found, info, cfg = [], self.runner.info, self.runner.cfg
        for through, path in sorted(self.checkpoints.items()):
            load_model_weights(self.runner.model, path)
            for bucket in range(min(through, len(info.test) - 1), len(info.test)):
                own = np.flatnonzero(test.moments == bucket)
                leaked = leaks.pairs[train.moments[leaks.pairs[:, 0]] <= through, 1]
                clean = np.flatnonzero(~np.isin(own, leaked))
                counts = [count_correct(self.runner.model, Subset(info.test[bucket], rows.tolist()),
                                        batch_size=cfg['cl_strategy']['eval_mb_size'], device=self.runner.device,
                                        num_workers=cfg['num_workers']) for rows in (np.arange(len(own)), clean)]
                found.append(Accuracy(train.buckets[through], test.buckets[bucket], counts[0].total, counts[0].correct,
                                      counts[1].total, counts[1].correct))
        return found


def prediction_accuracies(file: str, test: Side, leaks: Leaks) -> list[Accuracy]:
    """Accuracies of a table of predictions: columns `path`, `label`, `prediction`, and if wanted `through`.

    Raises:
        DataError: if a column is missing, or no path is one of the test side.
    """
    columns = {name: _values(cells) for name, cells in read_columns(Path(file), ('path', 'label', 'prediction'),
                                                                    ('through',)).items()}
    rows = {path: row for row, path in enumerate(test.paths)}
    through = columns.get('through') or [''] * len(columns['path'])
    places = np.array([rows.get(path, -1) for path in columns['path']])
    if (places < 0).all():
        raise DataError(f"{file}: no path is one of {test.name}'s, such as {test.paths[0]}.")
    hits = np.array([one == other for one, other in zip(columns['label'], columns['prediction'])])
    found = []
    for name in dict.fromkeys(through):
        for bucket, title in enumerate(test.buckets):
            chosen = (places >= 0) & (np.array(through) == name)
            chosen[chosen] = test.moments[places[chosen]] == bucket
            if chosen.any():
                found.append(accuracy_of(hits[chosen], places[chosen], leaks.test_rows, name, title))
    return found


def _values(cells: pyarrow.ChunkedArray | Sequence) -> list[str]:
    return [str(value) for value in (cells.to_pylist() if isinstance(cells, pyarrow.ChunkedArray) else cells)]


def write_report(out: Path, train: Side, test: Side, leaks: Leaks, order: str, likeness: Likeness,
                 accuracies: Sequence[Accuracy]) -> Mapping[str, Plain]:
    """Write `leaks.csv` (every pair), `drop_test.txt` and `drop_train.txt` (a path a line; one of them is enough) and
    `leaks.json`; what the last holds.
    """
    columns = ('train_path', 'train_bucket', 'test_path', 'test_bucket', 'by')
    write_csv(out / 'leaks.csv', columns, (dict(zip(columns, (
        train.paths[one], train.buckets[train.moments[one]], test.paths[other], test.buckets[test.moments[other]], by)))
        for (one, other), by in zip(leaks.pairs, leaks.by.tolist())))
    for name, side, rows in (('drop_test', test, leaks.test_rows), ('drop_train', train, leaks.train_rows)):
        write_text(out / f'{name}.txt', ''.join(f'{path}\n' for path in side.paths[rows]))
    counts = leaks.counts(train, test)
    found = dict(
        train=train.name, test=test.name, order=order, likeness=asdict(likeness), train_images=len(train),
        test_images=len(test), unreadable=leaks.unreadable, pairs=len(leaks.pairs), leaked=len(leaks.test_rows),
        by_bucket={one: {other: int(counts[place, column]) for column, other in enumerate(test.buckets)
                         if counts[place, column]} for place, one in enumerate(train.buckets) if counts[place].any()},
        accuracy=[asdict(each) | dict(with_leaks=each.with_leaks, without=each.without) for each in accuracies])
    write_json(out / 'leaks.json', found)
    return found


def knn_or_none(train: Side, test: Side, leaks: Leaks, order: str) -> list[Accuracy]:
    """kNN where both sides have features and labels; else nothing, and a line that says so."""
    if any(side.features is None or not (side.labels >= 0).any() for side in (train, test)):
        logger.info('no accuracies: that takes a bank with labels, --predictions, or --run')
        return []
    if order == 'any':  # the evaluation set among itself: a pretraining set has other classes, or none
        train = test
    return knn_accuracies(train, test, leaks, order)

