"""Pairs of sentences with human scores, in the files of the semantic textual similarity (STS) tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import ConfigError, DataError
from clear.evaluation.text.files import as_number, read_cells, read_lines, read_named_cells, words_of

# Sub-sets of SemEval's yearly tasks as SentEval has them; SMT of 2013 may not be passed on.
YEARS = {
    'sts12': ('MSRpar', 'MSRvid', 'SMTeuroparl', 'surprise.OnWN', 'surprise.SMTnews'),
    'sts13': ('FNWN', 'headlines', 'OnWN'),
    'sts14': ('deft-forum', 'deft-news', 'headlines', 'images', 'OnWN', 'tweet-news'),
    'sts15': ('answers-forums', 'answers-students', 'belief', 'headlines', 'images'),
    'sts16': ('answer-answer', 'headlines', 'plagiarism', 'postediting', 'question-question')}
_STSB = dict(train='sts-train.csv', dev='sts-dev.csv', test='sts-test.csv')
_SICK = dict(train='SICK_train.txt', dev='SICK_trial.txt', test='SICK_test_annotated.txt')
SETS = (*YEARS, 'sts-b', 'sick-r')
SPLITS = ('train', 'dev', 'test')


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of sentences and what people say of each; `skipped` pairs had no score."""

    first: list[str]
    second: list[str]
    scores: list[float]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.scores)


def pair_files(root: Path, name: str, split: str) -> list[Path]:
    """The files of a set below SentEval's folder `downstream`, or STS-B as sentence-transformers packs it.

    Raises:
        ConfigError: for a year's task, which has no splits, asked for another than 'test'.
    """
    if name in YEARS:
        if split != 'test':
            raise ConfigError(f'{name} has no splits; split is {split!r}.')
        folder = root / 'STS' / f'{name.upper()}-en-test'
        return [folder / f'STS.{kind}.{part}.txt' for part in YEARS[name] for kind in ('input', 'gs')]
    if name == 'sick-r':
        return [root / 'SICK' / _SICK[split]]
    packed = root / 'stsbenchmark.tsv.gz'
    return [packed if packed.is_file() else root / 'STS' / 'STSBenchmark' / _STSB[split]]


def read_pairs(root: Path, name: str, split: str) -> dict[str, ScoredPairs]:
    """Sub-set -> its pairs. Sentences have single blanks between their words; an empty one is '.'.

    Raises:
        DataError: for a file that is not there or of another layout.
    """
    paths = pair_files(root, name, split)
    if name in YEARS:
        return {part: _two_files(*files) for part, files in zip(YEARS[name], zip(paths[::2], paths[1::2]))}
    path, = paths
    if name == 'sick-r':
        rows = [(number, cells[3], cells[1], cells[2]) for number, cells in read_cells(path, 4, skip=1)]
    elif path.suffix == '.gz':
        cells = read_named_cells(path, ['split', 'score', 'sentence1', 'sentence2'])
        rows = [(number, *cell[1:4]) for number, cell in cells if cell[0] == split]
        if not rows:
            raise DataError(f"{path} has no rows of the split '{split}'.")
    else:
        rows = [(number, *cells[4:7]) for number, cells in read_cells(path, 7)]
    return {split: _pairs(rows, path)}


def read_pair_table(path: Path) -> dict[str, ScoredPairs]:
    """`{name: pairs}` of a file with tabs between score, sentence1, sentence2, with or without a line of these names.

    Raises:
        DataError: for a file that is not there or of another layout.
    """
    cells = read_named_cells(path, ['score', 'sentence1', 'sentence2'])
    return {path.name.split('.')[0]: _pairs([(number, *cell[:3]) for number, cell in cells], path)}


def _two_files(sentences: Path, scores: Path) -> ScoredPairs:
    gold, lines = read_lines(scores), read_lines(sentences)
    if len(gold) != len(lines):
        raise DataError(f'{scores} has {len(gold)} lines, {sentences} {len(lines)}: each pair needs a line in both, '
                        'an empty one where there is no score.')
    rows = []
    for number, (score, line) in enumerate(zip(gold, lines), start=1):
        cells = line.split('\t')
        if len(cells) < 2:
            raise DataError(f'{sentences}:{number}: expected two sentences with a tab between them.')
        rows.append((number, score, cells[0], cells[1]))
    return _pairs(rows, scores)


def _pairs(rows: list[tuple[int, str, str, str]], path: Path) -> ScoredPairs:
    kept = [row for row in rows if row[1].strip()]
    if len(kept) < 2:
        raise DataError(f'{path} scores {len(kept)} of {len(rows)} pairs; a correlation needs two.')
    return ScoredPairs([words_of(row[2]) for row in kept], [words_of(row[3]) for row in kept],
                       [as_number(score, path, number) for number, score, _, _ in kept], len(rows) - len(kept))
