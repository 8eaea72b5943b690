"""Linear classifiers on embeddings of texts: SentEval's transfer tasks, captions of ImageNet, any labelled table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.configs.building import building
from clear.core.errors import ConfigError, DataError
from clear.datasets.readers.pairs.table import table_columns
from clear.evaluation.image.logistic_probe import check_strengths
from clear.evaluation.image.rows import LabelledRows, ListedRows
from clear.evaluation.task import Task, TaskData, TaskResult, classification_metrics, needs_of
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import files_fingerprint
from clear.evaluation.text.transfer import f1, nested, tested
from clear.evaluation.text.transfer_files import CLASSES, PROTOCOLS, LabelledTexts, read_transfer, transfer_files
from clear.registry import TASKS

COLUMNS = ('caption', 'class_name')
# scikit-learn's strengths in SentEval.
_CS = {'folds': tuple(2.0 ** power for power in range(-1, 6)), 'nested': tuple(2.0 ** power for power in range(-2, 4))}


@TASKS.register_module()
class TextLinearProbe:
    """Classify texts by a linear classifier on their embeddings.

    Of the nine sets of SentEval (Conneau and Kiela 2018, arXiv:1803.05449) MR, CR, SUBJ and MPQA are cross-validated by
    `folds`, with the strength chosen by as many folds inside the rows that train; TREC and MRPC choose it by folds of
    their training split; SST-2, SST-5 and SICK-E on their own held-out split. The classifier is that of SentEval with
    `usepytorch=False`, scikit-learn's logistic regression on embeddings as they are, with its seed, its strengths and
    its order of rows; the means of accuracies are not rounded before the highest is taken. With `usepytorch=True`
    (its default, Adam with early stopping) numbers differ. A pair (u, v) has the features |u - v| and u * v. The value
    is `top1`, over all test rows; MRPC has `f1` of paraphrases beside it.

    A table of texts is given to `probe`, any task on banks, which chooses on 'val' or on rows set aside of 'train'.

    Args:
        dataset: 'mr', 'cr', 'subj', 'mpqa', 'trec', 'mrpc', 'sst2', 'sst5' or 'sick-e'; needs `root`.
        root: the folder `downstream` of SentEval.
        train, val, test: tables in place of `dataset` and `root`: a file or a list of files (CSV, TSV, Parquet, JSON
            lines) with a header.
        columns: of texts and of classes.
        max_chars: cut texts behind so many characters; None reads them whole (ITRA cuts captions of ImageNet at 120).
        folds: of cross-validation.
        cs: strengths, inverse, to choose from; by default those of SentEval.
        probe: config of the task on tables.

    Raises:
        ConfigError: for an unknown set, no place to read from, or a probe that reads more than a bank.
    """

    needs: ClassVar = ('text_encoder',)

    def __init__(self, *, dataset: str | None = None, root: str | None = None, train: str | Sequence[str] | None = None,
                 val: str | Sequence[str] | None = None, test: str | Sequence[str] | None = None,
                 columns: Sequence[str] = COLUMNS, max_chars: int | None = None, folds: int = 10,
                 cs: Sequence[float] | None = None, probe: Mapping | None = None):
        if (dataset is None) == (train is None) or (dataset is None, train is None) != (root is None, test is None):
            raise ConfigError("TextLinearProbe reads a dataset of a root, or tables: give dataset='mr', "
                              "root='data/text/downstream', or train='train.csv', test='test.csv'.")
        self.root = None if root is None else Path(check_text('root', root))
        self.dataset = None if dataset is None else check_choice('dataset', dataset, PROTOCOLS)
        self.tables = {split: _paths(split, paths) for split, paths in (('train', train), ('val', val), ('test', test))
                       if paths is not None}
        if not isinstance(columns, (list, tuple)) or len(columns) != 2:
            raise ConfigError(f'columns is {columns!r}; expected two names, of texts and of classes.')
        self.columns = [check_text('columns', name) for name in columns]
        self.max_chars = None if max_chars is None else check_whole('max_chars', max_chars, 1)
        self.folds = check_whole('folds', folds, 2)
        self.cs = None if cs is None else check_strengths(cs)
        self.probe = _built(dict(type='LogisticProbe') if probe is None else probe)

    def files_fingerprint(self) -> str:
        """Of the files that it reads."""
        return files_fingerprint(transfer_files(self.root, self.dataset) if self.dataset is not None else
                                 [path for paths in self.tables.values() for path in paths])

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Encode, choose and test.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for files that are missing or of another layout, a class with too few rows, or one that is not
                in 'train', or embeddings that are not finite.
        """
        read = TextReader(encoder, type(self).__name__)
        result = self._on_tables(read, data.encoder_name) if self.dataset is None else self._on_transfer(read)
        return TaskResult(result.metric, result.value, result.higher_is_better, {**result.extras, **read.extras()})

    def _on_transfer(self, read: TextReader) -> TaskResult:
        parts = {split: _rows(read, texts) for split, texts in read_transfer(self.root, self.dataset).items()}
        classes, protocol = len(CLASSES[self.dataset]), PROTOCOLS[self.dataset]
        cs = self.cs or _CS['folds' if protocol == 'folds' else 'nested']
        if protocol == 'nested':
            found, labels = nested(parts['train'], classes, cs, self.folds), parts['train'].labels
        else:
            found = tested(parts['train'], parts['test'], classes, cs, self.folds, parts.get('val'))
            labels = parts['test'].labels
        metrics = classification_metrics(found.scores, labels)
        if self.dataset == 'mrpc':
            metrics['f1'] = f1(found.scores.argmax(1), labels)
        sizes = {f'n_{split}': len(rows) for split, rows in parts.items()}
        return TaskResult('top1', metrics['top1'], True, dict(
            metrics=metrics, **{**sizes, 'n_test': len(labels)}, protocol=protocol, folds=self.folds,
            selected=dict(c=found.selected), val_top1=found.val_top1))

    def _on_tables(self, read: TextReader, encoder_name: str) -> TaskResult:
        found = {split: self._table(paths) for split, paths in self.tables.items()}
        names = sorted({*found['train'][1]})
        place = {name: row for row, name in enumerate(names)}
        banks = {}
        for split, (texts, labels) in found.items():
            unknown = sorted({*labels} - {*names})
            if unknown:
                raise DataError(f"'{split}' has the class '{unknown[0]}', which no text of 'train' shows"
                                f'{f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""}.')
            banks[split] = ListedRows(read(texts), torch.tensor([place[label] for label in labels]), names)
        return self.probe.run(None, TaskData(bank=banks, encoder_name=encoder_name))

    def _table(self, paths: Sequence[Path]) -> tuple[list[str], list[str]]:
        """Texts and names of their classes."""
        texts, labels = [], []
        for path in paths:
            columns = table_columns(path, self.columns)
            empty = next((row for row, label in enumerate(columns[self.columns[1]]) if not label.strip()), None)
            if empty is not None:
                raise DataError(f'{path}: row {empty + 1} has no class.')
            texts += [text[:self.max_chars].strip() or '.' for text in columns[self.columns[0]]]
            labels += columns[self.columns[1]]
        return texts, labels


def _rows(read: TextReader, texts: LabelledTexts) -> LabelledRows:
    """Embeddings; of pairs the absolute difference beside the product."""
    features = read([*texts.first, *texts.second])
    if texts.second:
        features = pair_features(features[:len(texts)], features[len(texts):])
    return LabelledRows(features, torch.tensor(texts.labels))


def pair_features(first: Tensor, second: Tensor) -> Tensor:
    """(N, 2D): |u - v| and u * v of pairs (N, D), (N, D)."""
    return torch.cat([(first - second).abs(), first * second], 1)


def _paths(split: str, given: str | Sequence[str]) -> list[Path]:
    paths = [given] if isinstance(given, str) else given
    if not isinstance(paths, (list, tuple)) or not paths:
        raise ConfigError(f'{split} is {given!r}; expected a file, or a list of files.')
    return [Path(check_text(split, path)) for path in paths]


def _built(probe: Mapping) -> Task:
    if not isinstance(probe, Mapping) or 'type' not in probe:
        raise ConfigError(f"probe is {probe!r}; expected a dict such as dict(type='LinearProbe').")
    with building('TextLinearProbe.probe'):
        task = TASKS.build(dict(probe))
    if needs_of(task) != ('bank',):
        raise ConfigError(f"probe is a {probe['type']}, which reads {', '.join(needs_of(task))}; expected a task on "
                          'banks alone.')
    return task
