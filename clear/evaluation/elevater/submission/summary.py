"""One table of what the sets scored."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clear.core.errors import DataError
from clear.core.files import read_json, write_csv
from clear.evaluation.elevater.sets import AVERAGED, REFERENCE_ONLY
from clear.evaluation.elevater.submission.combine import in_order

FILE = 'summary.csv'


@dataclass(frozen=True)
class Summary:
    """Scores in percent, the mean over seeds.

    Attributes:
        modes: folder of a mode -> set -> score, NaN of a set that is not there; the benchmark's twenty first.
        path: the table as CSV.
    """

    modes: dict[str, dict[str, float]]
    path: Path

    def average(self, mode: str) -> tuple[float, int]:
        """The mean over the sets that are there, without ImageNet, and of how many it is; NaN of none."""
        values = [value for name, value in self.modes[mode].items() if name != REFERENCE_ONLY and not np.isnan(value)]
        return (float(np.mean(values)) if values else float('nan')), len(values)

    def rows(self) -> list[list[str]]:
        """The table: header, a row for each set, the mean, and of how many sets it is. What is not there is empty."""
        names = list(next(iter(self.modes.values())))
        averages = [self.average(mode) for mode in self.modes]
        return [['dataset', *(f'{mode}-accuracy%' for mode in self.modes)],
                *([name, *(_shown(scores[name]) for scores in self.modes.values())] for name in names),
                ['Average', *(_shown(mean) for mean, _ in averages)],
                ['Sets averaged', *(str(count) for _, count in averages)]]


def summarise(folder: str | Path) -> Summary:
    """Read the scores of a work_dir, or of one mode, and write `summary.csv` there.

    Args:
        folder: with `scores/<mode>/*.json` as `write_predictions` makes them, or such a folder of a mode.

    Raises:
        DataError: if there are no scores, or a file is something else.
    """
    folder = Path(folder)
    modes = sorted(path for path in (folder / 'scores').iterdir() if path.is_dir()) \
        if (folder / 'scores').is_dir() else [folder]
    found = {mode.name: _scores_of(mode) for mode in modes}
    if not any(found.values()):
        raise DataError(f'{folder} holds no scores. They lie in WORK_DIR/scores/MODE/seed<s>_<set>.json.')
    names = in_order(dict.fromkeys([*AVERAGED, *(name for scores in found.values() for name in scores)]))
    table = {mode: {name: scores.get(name, float('nan')) for name in names} for mode, scores in found.items()}
    summary = Summary(table, folder / FILE)
    write_csv(summary.path, summary.rows())
    return summary


def _scores_of(mode: Path) -> dict[str, float]:
    """Set -> percent, the mean over seeds."""
    values: dict[str, list[float]] = defaultdict(list)
    for path in sorted(mode.glob('*.json')) if mode.is_dir() else []:
        content = read_json(path)
        value = content.get('value') if isinstance(content, dict) else None
        if not isinstance(value, (int, float)) or not 0 <= value <= 1 or not isinstance(content.get('dataset'), str):
            raise DataError(f'{path} is no score: expected {{"dataset": a text, "value": a fraction}}.')
        values[content['dataset']].append(value)
    return {name: 100 * float(np.mean(own)) for name, own in values.items()}


def _shown(value: float) -> str:
    return '' if np.isnan(value) else f'{value:.3f}'
