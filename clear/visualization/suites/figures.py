"""Figures of encoders x tasks: panels against a reference task, ranks, gains over supervision, effects of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clear.visualization.comparison import COLORS
from clear.visualization.figures import new_figure, plain_text
from clear.visualization.suites.statistics import (
    Best,
    Correlation,
    Effect,
    MeanRank,
    best_encoders,
    correlations,
    dataset_effects,
    linear_fit,
    mean_ranks,
    rank_correlations,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clear.visualization.suites.scores import Scores, SuiteTask

_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_CLASSES = ('pixel semantic', 'pixel structural', 'image semantic', 'image structural')
_WIDTH = 28


def suite_figures(scores: Scores, reference: str, supervised: str | None = None, seed: int = 0) -> dict[str, Figure]:
    """File stem -> figure; those with nothing to show are left out."""
    figures = {'panels': panels_figure(scores, reference)}
    found = correlations(scores, reference)
    if any(each.pearson is not None for each in found):
        figures['correlations'] = correlation_figure(found, reference)
        figures['rank_correlations'] = rank_figure(scores)
    best = best_encoders(scores, supervised)
    if any(each.gain is not None for each in best):
        figures['gain_over_supervised'] = gain_figure(best, supervised)
    ranks = mean_ranks(scores, seed)
    if len({rank.method for rank in ranks}) > 1:
        figures['mean_ranks'] = mean_rank_figure(ranks)
    effects = dataset_effects(scores)
    if effects:
        figures['dataset_effects'] = effect_figure(effects, scores)
    return figures


def panels_figure(scores: Scores, reference: str) -> Figure:
    """A panel for each class of tasks: the reference along x, a colour and marker per task, a point per encoder, with
    a least-squares line and its 95 % band.

    Where tasks of one panel have different metrics, each is drawn in units of its own: its values less their mean,
    over their standard deviation.
    """
    from matplotlib.lines import Line2D

    classes = [name for name in _CLASSES if any(task.task_class == name and task.name != reference
                                                for task in scores.tasks.values())]
    rows = max(1, math.ceil(len(classes) / 2))
    figure = new_figure(11, 1.4 + 4.0 * rows, f'Tasks against {reference}',
                        'A point is an encoder; line and band: least squares, 95 % for the mean. Up is better.')
    panels = figure.subplots(rows, 2 if len(classes) > 1 else 1, squeeze=False)
    x = scores.column(reference)
    for panel, task_class in zip(panels.flat, classes):
        tasks = [task for task in scores.tasks.values() if task.task_class == task_class and task.name != reference]
        mixed = len({task.axis for task in tasks}) > 1
        for index, task in enumerate(tasks):
            _draw_task(panel, task, x, scores.column(task.name), index, mixed)
        panel.set_title(task_class, fontsize=10)
        panel.set_xlabel(plain_text(f'{reference} [{scores.tasks[reference].axis}]', 40), fontsize=9)
        panel.set_ylabel('standard deviations from the mean' if mixed else plain_text(tasks[0].axis, 30), fontsize=9)
        panel.grid(color='0.95')
        panel.set_axisbelow(True)
        handles = [Line2D([], [], color=_color(index), marker=_marker(index), linewidth=1.4,
                          label=plain_text(f'{task.name} [{task.axis}]', 40)) for index, task in enumerate(tasks)]
        panel.legend(handles=handles, fontsize=7, frameon=False, loc='upper left', bbox_to_anchor=(0, -0.14), ncols=2)
    for panel in panels.flat[len(classes):]:
        panel.axis('off')
    return figure


def correlation_figure(found: Sequence[Correlation], reference: str) -> Figure:
    """Two bars a task; hollow where p is 0.05 or more."""
    shown = [each for each in found if each.pearson is not None]
    figure = new_figure(7.5, 1.6 + 0.42 * len(shown), f'Correlation with {reference}',
                        'Pearson (blue) and Spearman (orange); hollow: p is 0.05 or more')
    axes = figure.subplots()
    for row, each in enumerate(reversed(shown)):
        for shift, value, p, color in ((0.18, each.pearson, each.pearson_p, COLORS[0]),
                                       (-0.18, each.spearman, each.spearman_p, COLORS[1])):
            axes.barh(row + shift, value, height=0.32, color=color if p < 0.05 else 'white', edgecolor=color)
    axes.set_yticks(range(len(shown)), [plain_text(f'{each.task} (n = {each.n})', 40) for each in reversed(shown)],
                    fontsize=8)
    axes.set_xlim(-1.05, 1.05)
    axes.axvline(0, color='0.5', linewidth=0.8)
    axes.grid(axis='x', color='0.95')
    axes.set_axisbelow(True)
    return figure


def rank_figure(scores: Scores) -> Figure:
    """Tasks x tasks."""
    values, names = rank_correlations(scores), [plain_text(name, _WIDTH) for name in scores.tasks]
    side = 2.6 + 0.45 * len(names)
    figure = new_figure(side + 1, side, "Spearman's correlation of tasks", 'over the encoders that did both')
    axes = figure.subplots()
    axes.set_facecolor('0.85')
    image = axes.imshow(values, cmap='PuOr', vmin=-1, vmax=1)
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        axes.text(column, row, f'{value:.2f}', ha='center', va='center', fontsize=6,
                  color='white' if abs(value) > 0.7 else 'black')
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, ax=axes, fraction=0.05)
    return figure


def gain_figure(best: Sequence[Best], supervised: str | None) -> Figure:
    """How far the best encoder of each task is from the supervised one."""
    shown = [each for each in best if each.gain is not None]
    figure = new_figure(7.5, 1.6 + 0.36 * len(shown), f'Best encoder of each task against {supervised}',
                        'relative gain; 0: the supervised one is the best')
    axes = figure.subplots()
    gains = [100 * each.gain for each in reversed(shown)]
    axes.barh(range(len(shown)), gains, color=COLORS[2], height=0.6)
    for row, (each, gain) in enumerate(zip(reversed(shown), gains)):
        axes.annotate(plain_text(each.encoder, _WIDTH), (max(gain, 0), row), xytext=(4, 0), textcoords='offset points',
                      va='center', fontsize=7)
    axes.set_yticks(range(len(shown)), [plain_text(each.task, _WIDTH) for each in reversed(shown)], fontsize=8)
    axes.set_xlabel('gain in %', fontsize=9)
    axes.margins(x=0.25)
    axes.axvline(0, color='0.5', linewidth=0.8)
    return figure


def mean_rank_figure(ranks: Sequence[MeanRank]) -> Figure:
    """A panel a class of tasks; a point and 95 % of bootstrap draws a method."""
    classes = list(dict.fromkeys(rank.task_class for rank in ranks))
    methods = list(dict.fromkeys(rank.method for rank in ranks))
    figure = new_figure(1.8 + 2.9 * len(classes), 1.9 + 0.3 * len(methods), 'Mean rank of methods',
                        'left is better; bars: 95 % of bootstrap draws of encoders and tasks')
    panels = figure.subplots(1, len(classes), sharey=True, squeeze=False)
    for panel, task_class in zip(panels.flat, classes):
        own = [rank for rank in ranks if rank.task_class == task_class]
        for rank in own:
            row = methods.index(rank.method)
            panel.plot([rank.low, rank.high], [row, row], color=COLORS[0], linewidth=1.6)
            panel.plot(rank.rank, row, marker='o', color=COLORS[0])
        panel.set_title(f'{task_class} ({own[0].num_tasks} tasks)', fontsize=9)
        panel.set_xlabel('mean rank', fontsize=9)
        panel.grid(color='0.95')
        panel.set_axisbelow(True)
    panels.flat[0].set_yticks(range(len(methods)), [plain_text(name, _WIDTH) for name in methods], fontsize=8)
    panels.flat[0].set_ylim(len(methods) - 0.5, -0.5)
    return figure


def effect_figure(effects: Sequence[Effect], scores: Scores) -> Figure:
    """A panel a task: bars of the data sets, grouped by method and epochs."""
    tasks = list(dict.fromkeys(effect.task for effect in effects))
    names = list(dict.fromkeys(name for effect in effects for name in effect.values))
    columns = min(3, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = new_figure(1.2 + 3.6 * columns, 2.0 + 2.4 * rows, 'Effect of the pretraining data',
                        'encoders of one method and number of epochs; axes do not begin at 0')
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel, task in zip(panels.flat, tasks):
        groups = [effect for effect in effects if effect.task == task]
        width = 0.8 / len(names)
        for place, effect in enumerate(groups):
            for name, value in effect.values.items():
                index = names.index(name)
                panel.bar(place - 0.4 + (index + 0.5) * width, value, width, color=_color(index),
                          hatch='//' if index >= len(COLORS) else None)
        values = [value for effect in groups for value in effect.values.values()]
        margin = 0.15 * (max(values) - min(values)) or 0.05
        panel.set_ylim(min(values) - margin, max(values) + margin)  # the differences are what is asked for
        panel.set_xticks(range(len(groups)), [plain_text(f'{effect.method}\n{effect.epochs} ep.', 40)
                                              for effect in groups], fontsize=7)
        arrow = '' if scores.tasks[task].higher_is_better else ', lower is better'
        panel.set_title(plain_text(f'{task} [{scores.tasks[task].metric}{arrow}]', 44), fontsize=8)
    for panel in panels.flat[len(tasks):]:
        panel.axis('off')
    bars = [panels.flat[0].bar(0, 0, color=_color(index), hatch='//' if index >= len(COLORS) else None, bottom=math.nan)
            for index in range(len(names))]
    figure.legend(bars, [plain_text(name, _WIDTH) for name in names], loc='outside lower center', ncols=4,
                  frameon=False, fontsize=8)
    return figure


def matrix_figure(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, subtitle: str
                  ) -> Figure:
    """Values 0 ... 1 of pairs, such as the alignment of blocks."""
    figure = new_figure(2.8 + 0.7 * len(columns), 2.2 + 0.6 * len(rows), title, subtitle)
    axes = figure.subplots()
    image = axes.imshow(values, cmap='cividis', vmin=0, vmax=1)
    for row, column in np.ndindex(values.shape):
        axes.text(column, row, f'{values[row, column]:.2f}', ha='center', va='center', fontsize=8,
                  color='white' if values[row, column] < 0.5 else 'black')
    axes.set_xticks(range(len(columns)), [plain_text(name, _WIDTH) for name in columns], fontsize=8, rotation=45,
                    ha='right', rotation_mode='anchor')
    axes.set_yticks(range(len(rows)), [plain_text(name, _WIDTH) for name in rows], fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.05)
    return figure


def _draw_task(panel, task: SuiteTask, x: dict[str, float], y: dict[str, float], index: int, mixed: bool) -> None:
    both = [name for name in x if name in y]
    if not both:
        return
    first, second = np.array([x[name] for name in both]), np.array([y[name] for name in both])
    if mixed:
        deviation = second.std(ddof=1) if len(second) > 1 else 0
        second = (second - second.mean()) / deviation if deviation > 0 else second * 0
    panel.plot(first, second, linestyle='', marker=_marker(index), markersize=5, color=_color(index))
    at = np.linspace(first.min(), first.max(), 50)
    fit = linear_fit(first, second, at)
    if fit is not None:
        line, half = fit
        panel.plot(at, line, color=_color(index), linewidth=1.3)
        panel.fill_between(at, line - half, line + half, color=_color(index), alpha=0.12, linewidth=0)


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _marker(index: int) -> str:
    return _MARKERS[(index + index // len(COLORS)) % len(_MARKERS)]
