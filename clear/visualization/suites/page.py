"""What is written of encoders x tasks: CSV tables, PNG figures and one page that shows both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError, nearest
from clear.core.files import atomic_writer, write_csv
from clear.visualization.figures import to_png
from clear.visualization.page import figure_of, fold_of, head_of, table_of, write_page
from clear.visualization.suites.figures import suite_figures
from clear.visualization.suites.statistics import best_encoders, correlations, dataset_effects, mean_ranks
from clear.visualization.tables import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clear.visualization.suites.scores import Scores

REFERENCE, SUPERVISED = 'imagenet', 'supervised'
_TITLES = dict(scores='Encoders on tasks', correlations='Correlation with the reference',
               best_encoders='Best encoder of each task', mean_ranks='Mean ranks',
               dataset_effects='Effect of the pretraining data')


def reference_of(scores: Scores, name: str | None) -> str:
    """The task that the others are drawn against: that of a name, else 'imagenet'.

    Raises:
        ConfigError: if there is no such task.
    """
    name = REFERENCE if name is None else name
    if name not in scores.tasks:
        raise ConfigError(f"No task is called '{name}', to draw the others against. Name one by --reference: "
                          f'{nearest(name, scores.tasks) or ", ".join(scores.tasks)}.')
    return name


def supervised_of(scores: Scores, name: str | None) -> str | None:
    """The encoder that others are compared with: that of a name, else the only one of method 'supervised', if any.

    Raises:
        ConfigError: if there is no such encoder.
    """
    if name is None:
        found = [encoder.name for encoder in scores.encoders.values() if encoder.method == SUPERVISED]
        return found[0] if len(found) == 1 else None
    if name not in scores.encoders:
        raise ConfigError(f"No encoder is called '{name}'. Nearest: "
                          f'{nearest(name, scores.encoders) or ", ".join(scores.encoders)}.')
    return name


def suite_tables(scores: Scores, reference: str, supervised: str | None, seed: int = 0) -> dict[str, list[list[str]]]:
    """Name of a CSV file -> its rows as text, the header first; numbers in full precision."""
    tasks = list(scores.tasks)
    values = [[name, *(_text(scores.values.get((name, task))) for task in tasks)] for name in scores.encoders]
    return dict(
        scores=[['encoder', *(f'{task} [{scores.tasks[task].metric}]' for task in tasks)], *values],
        correlations=[['task', 'n', 'pearson', 'pearson_p', 'spearman', 'spearman_p'], *(
            [each.task, str(each.n), *map(_text, (each.pearson, each.pearson_p, each.spearman, each.spearman_p))]
            for each in correlations(scores, reference))],
        best_encoders=[['task', 'encoder', 'value', 'supervised', 'gain'], *(
            [each.task, each.encoder, *map(_text, (each.value, each.supervised, each.gain))]
            for each in best_encoders(scores, supervised))],
        mean_ranks=[['method', 'task_class', 'rank', 'low', 'high', 'encoders', 'tasks'], *(
            [each.method, each.task_class, *map(_text, (each.rank, each.low, each.high)), str(each.num_encoders),
             str(each.num_tasks)] for each in mean_ranks(scores, seed))],
        dataset_effects=[['task', 'method', 'epochs', 'dataset', 'value'], *(
            [each.task, each.method, each.epochs, name, _text(value)]
            for each in dataset_effects(scores) for name, value in each.values.items())])


def write_suite(scores: Scores, reference: str, supervised: str | None, out: Path, seed: int = 0) -> list[Path]:
    """Write tables, figures and `index.html` into a folder; their paths."""
    tables = suite_tables(scores, reference, supervised, seed)
    images = {stem: to_png(figure) for stem, figure in suite_figures(scores, reference, supervised, seed).items()}
    paths = []
    for name, rows in tables.items():
        paths.append(write_csv(out / f'{name}.csv', rows))
    for stem, image in images.items():
        paths.append(out / 'figures' / f'{stem}.png')
        with atomic_writer(paths[-1]) as file:
            file.write(image)
    heading = f'{len(scores.encoders)} encoders on {len(scores.tasks)} tasks'
    body = [head_of('Frozen encoders on tasks', heading,
                    {'Reference': reference, 'Supervised': supervised or 'no supervised encoder'})]
    body += [fold_of(_TITLES[name], [table_of(rows[0], [_shown(row) for row in rows[1:]])])
             for name, rows in tables.items() if len(rows) > 1]
    body += [fold_of(stem.replace('_', ' ').capitalize(), [figure_of(stem, image)]) for stem, image in images.items()]
    return [*paths, write_page(heading, body, out / 'index.html')]


def format_rows(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in fixed width."""
    shown = [list(rows[0]), *(_shown(row) for row in rows[1:])]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    return '\n'.join('  '.join(text.ljust(width) if index == 0 else text.rjust(width)
                               for index, (text, width) in enumerate(zip(row, widths))) for row in shown)


def asked_metrics(pairs: Sequence[str]) -> Mapping[str, str]:
    """`['task=metric', ...]` as a dict.

    Raises:
        ConfigError: for another form, or a task named twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        task, equals, metric = pair.rpartition('=')
        if not equals or not task or not metric or task in found:
            raise ConfigError(f"--metric is '{pair}'; expected TASK=METRIC, each task once.")
        found[task] = metric
    return found


def _text(value: float | None) -> str:
    return '' if value is None else repr(float(value))


def _shown(row: Sequence[str]) -> list[str]:
    return [_short(text) for text in row]


def _short(text: str) -> str:
    if not text:
        return MISSING
    try:
        return text if text.lstrip('-').isdigit() else f'{float(text):.4g}'
    except ValueError:
        return text
