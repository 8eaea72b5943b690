"""Which classes a checkpoint takes for which others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clear.core.checks import check_choice
from clear.core.errors import ConfigError
from clear.core.files import write_csv
from clear.core.logs import logger
from clear.engine.prediction.class_names import beside_the_data, first_names, of_the_data_set, of_the_run
from clear.engine.runners import runner_type
from clear.visualization.figures import new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mmengine.config import Config

# Classes up to which the figure says every number.
MOST_WRITTEN = 30


def read_confusions(cfg: Config, checkpoint: Path, bucket: str | None = None) -> tuple[torch.Tensor, list[str]]:
    """The confusions of a checkpoint on the test data of its config, and the names of the classes.

    Args:
        cfg: of a continual run, or of an ordinary one whose model is a classifier of mmpretrain's kind; checked.
        bucket: of a stream, the test set of this name alone; all of them together by default.

    Returns:
        (C, C) int64, rows by true class, columns by the class of the highest score.

    Raises:
        ConfigError: for another runner, or a bucket that does not exist or for which the checkpoint has no head.
    """
    kind = runner_type(cfg)
    if kind == 'ContinualRunner':
        return _of_stream(cfg, checkpoint, bucket)
    if kind != 'Runner':
        raise ConfigError(f'A {kind} tests no classifier of its own.')
    if bucket is not None:
        raise ConfigError('--bucket is for continual runs; an ordinary run has one test set.')
    from clear.engine.training.program import measure

    _, found, runner = measure(cfg, checkpoint, dict(type='ConfusionMatrix'))
    matrix = found['confusion_matrix/result']
    data = runner.test_loop.dataloader.dataset
    names = first_names([lambda: of_the_data_set(data), lambda: of_the_run(checkpoint),
                         lambda: beside_the_data(dict(data_root=getattr(data, 'data_root', None)))], len(matrix))
    return torch.as_tensor(matrix), names


def _of_stream(cfg: Config, checkpoint: Path, bucket: str | None) -> tuple[torch.Tensor, list[str]]:
    from clear.continual.evaluate import count_confusions
    from clear.engine.checkpoint import load_model_weights
    from clear.engine.continual.runner import ContinualRunner

    cfg['loggers'], cfg['metrics'], cfg['load_from'] = [], [], None
    runner = ContinualRunner(cfg, is_checked=True)
    runner.build()
    load_model_weights(runner.model, checkpoint)
    names = runner.info.column_names
    if bucket is not None:
        check_choice('--bucket', bucket, names)
    if runner.info.protocol == 'streaming':
        logger.warning('Under the streaming protocol a bucket is tested on the images that it is trained on: of those '
                       'that %s was trained on these are no test accuracies.', checkpoint)
    count, found, headless = runner.info.num_classes, [], []
    for index, (name, dataset) in enumerate(zip(names, runner.info.test)):
        if bucket not in (None, name):
            continue
        has_head, task = runner.task_of(index)
        if not has_head:
            headless.append(name)
            continue
        found.append(count_confusions(runner.model, dataset, count, device=runner.device,
                                      batch_size=runner.cfg['cl_strategy']['eval_mb_size'],
                                      num_workers=runner.cfg['num_workers'], task=task))
    if not found:
        raise ConfigError(f'{checkpoint} was not trained on the task of {", ".join(headless)}, and has no head for it.')
    if headless:
        logger.warning('%s left out: %s has no head for tasks that it was not trained on.', ', '.join(headless),
                       checkpoint)
    return sum(found), list(runner.info.class_names)


def confusion_lines(matrix: torch.Tensor, names: Sequence[str], most: int = 10) -> list[str]:
    """Accuracy, the classes with the lowest recall, and the pairs that are confused most often, worst first."""
    total, correct = int(matrix.sum()), int(matrix.diagonal().sum())
    lines = [f'accuracy {correct / total:.4f} ({correct} of {total})' if total else 'no sample']
    sizes = matrix.sum(1)
    recalls = sorted((float(matrix[i, i]) / int(sizes[i]), i) for i in range(len(names)) if sizes[i])
    lines += ['lowest recall'] + [f'  {names[i]}  {value:.4f} of {int(sizes[i])}' for value, i in recalls[:most]]
    wrong = matrix - torch.diag(matrix.diagonal())
    pairs = sorted(((-int(wrong[i, j]), i, j) for i, j in wrong.nonzero().tolist()))[:most]
    if pairs:
        lines += ['most confused'] + [f'  {names[i]} taken for {names[j]}  {-count} of {int(sizes[i])}'
                                      for count, i, j in pairs]
    return lines


def write_confusions(matrix: torch.Tensor, names: Sequence[str], path: Path) -> Path:
    """Write the counts as CSV: a line per true class, a column per predicted one."""
    return write_csv(path, [['true \\ predicted', *names],
                            *([name, *row] for name, row in zip(names, matrix.tolist()))])


def confusion_figure(matrix: torch.Tensor, names: Sequence[str], title: str) -> Figure:
    """Shares of every true class, row by row; the counts are written where there are up to 30 classes."""
    sizes = matrix.sum(1, keepdim=True)
    shares = matrix / sizes.clamp(min=1)
    side = min(14.0, 2.5 + 0.36 * len(names))
    figure = new_figure(side + 1, side, title, 'Share of each true class (row) that was predicted as (column)')
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap='cividis', vmin=0, vmax=1)
    if len(names) <= MOST_WRITTEN:
        for i, j in matrix.nonzero().tolist():
            axes.text(j, i, str(int(matrix[i, j])), ha='center', va='center', fontsize=7,
                      color='white' if shares[i, j] < 0.5 else 'black')
    step = -(-len(names) // 60)
    places = range(0, len(names), step)
    labels = [plain_text(names[place], 16) for place in places]
    axes.set_xticks(list(places), labels, fontsize=7, rotation=90)
    axes.set_yticks(list(places), labels, fontsize=7)
    axes.set_xlabel('predicted')
    axes.set_ylabel('true')
    figure.colorbar(image, ax=axes, label='share of the row', fraction=0.05)
    return figure
