"""Sentences with classes in the files of SentEval's transfer tasks, below its folder `downstream`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import DataError
from clear.evaluation.text.files import read_cells, read_lines, words_of

# How a set is divided: 'nested' has no test split and is cross-validated, 'folds' has one but no held-out split,
# 'held-out' has both.
PROTOCOLS = {**dict.fromkeys(('mr', 'cr', 'subj', 'mpqa'), 'nested'), **dict.fromkeys(('trec', 'mrpc'), 'folds'),
             **dict.fromkeys(('sst2', 'sst5', 'sick-e'), 'held-out')}
# Class 0, class 1.
_TWO_FILES = dict(mr=('MR/rt-polarity.neg', 'MR/rt-polarity.pos'), cr=('CR/custrev.neg', 'CR/custrev.pos'),
                  subj=('SUBJ/subj.subjective', 'SUBJ/subj.objective'), mpqa=('MPQA/mpqa.neg', 'MPQA/mpqa.pos'))
_SPLIT_FILES = {
    'trec': dict(train='TREC/train_5500.label', test='TREC/TREC_10.label'),
    'mrpc': dict(train='MRPC/msr_paraphrase_train.txt', test='MRPC/msr_paraphrase_test.txt'),
    'sst2': dict(train='SST/binary/sentiment-train', val='SST/binary/sentiment-dev', test='SST/binary/sentiment-test'),
    'sst5': dict(train='SST/fine/sentiment-train', val='SST/fine/sentiment-dev', test='SST/fine/sentiment-test'),
    'sick-e': dict(train='SICK/SICK_train.txt', val='SICK/SICK_trial.txt', test='SICK/SICK_test_annotated.txt')}
CLASSES = {**dict.fromkeys(('mr', 'cr', 'mpqa'), ('negative', 'positive')), 'subj': ('subjective', 'objective'),
           'trec': ('ABBR', 'DESC', 'ENTY', 'HUM', 'LOC', 'NUM'), 'mrpc': ('0', '1'), 'sst2': ('0', '1'),
           'sst5': ('0', '1', '2', '3', '4'), 'sick-e': ('CONTRADICTION', 'NEUTRAL', 'ENTAILMENT')}
Row = tuple[str, str | None, str]  # first sentence, second one of a pair, class


@dataclass(frozen=True)
class LabelledTexts:
    """Sentences, or pairs of them where `second` is not empty, and their classes."""

    first: list[str]
    second: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.labels)


def transfer_files(root: Path, name: str) -> list[Path]:
    """The files of a set."""
    names = _TWO_FILES[name] if name in _TWO_FILES else _SPLIT_FILES[name].values()
    return [root / path for path in names]


def read_transfer(root: Path, name: str) -> dict[str, LabelledTexts]:
    """'train', and 'val' and 'test' where the set has them -> its sentences.

    Rows are in the order of SentEval, by number of words and class, which decides its folds.

    Raises:
        DataError: for a file that is missing or of another layout, or a class that the set has not.
    """
    if name in _TWO_FILES:
        # Positive ones first, as SentEval joins them.
        rows = [(words_of(line), None, CLASSES[name][label]) for label in (1, 0)
                for line in read_lines(root / _TWO_FILES[name][label], 'latin-1')]
        return {'train': _texts(rows, name, root / _TWO_FILES[name][0])}
    return {split: _texts(_READERS[name](root / path), name, root / path)
            for split, path in _SPLIT_FILES[name].items()}


def _texts(rows: list[Row], name: str, path: Path) -> LabelledTexts:
    classes = CLASSES[name]
    unknown = sorted({label for _, _, label in rows} - {*classes})
    if unknown or not rows:
        raise DataError(f"{path}: {len(rows)} rows, with the class '{unknown[0] if unknown else ''}'; {name} has "
                        f"{', '.join(classes)}.")
    found = [(words_of(first), '' if second is None else words_of(second), classes.index(label))
             for first, second, label in rows]
    found.sort(key=lambda row: (len(row[0].split()), len(row[1].split()), row[2]))
    first, second, labels = (list(column) for column in zip(*found))
    return LabelledTexts(first, second if any(second) else [], labels)


def _trec(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(read_lines(path, 'latin-1'), start=1):
        label, colon, rest = line.strip().partition(':')
        if not colon or ' ' not in rest:
            raise DataError(f"{path}:{number}: expected CLASS:kind question, found '{line:.60}'.")
        rows.append((rest.split(' ', 1)[1], None, label))
    return rows


def _sst5(path: Path) -> list[Row]:
    return [(cells[1], None, cells[0]) for _, (line,) in read_cells(path, 1, '\0')
            for cells in [[*line.strip().split(' ', 1), '']]]


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    'trec': _trec, 'sst5': _sst5,
    'mrpc': lambda path: [(cells[3], cells[4], cells[0]) for _, cells in read_cells(path, 5, skip=1)],
    'sst2': lambda path: [(cells[0], None, cells[1].strip()) for _, cells in read_cells(path, 2)],
    'sick-e': lambda path: [(cells[1], cells[2], cells[4].strip()) for _, cells in read_cells(path, 5, skip=1)]}
