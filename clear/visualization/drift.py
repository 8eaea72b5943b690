"""Figures and page of a drift report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.visualization.clusters import samples_figure
from clear.visualization.figures import new_figure, plain_text, set_bucket_ticks, to_png
from clear.visualization.page import figure_of, head_of, table_of, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from clear.core.types import Plain

_QUANTITIES = (('mmd2', 'MMD², unbiased'), ('frechet', 'Fréchet distance, squared'),
               ('knn_overlap', 'neighbours of the other bucket, over chance'))


def drift_figures(report: Mapping[str, Plain]) -> dict[str, Figure]:
    """File stem -> figure of what a report holds (see `tools/analysis_tools/drift_report.py`)."""
    figures = {}
    if report['pairs']:
        figures = {name: pair_figure(report, name, title) for name, title in _QUANTITIES}
    if report['dead_links']:
        figures['dead_links'] = dead_links_figure(report['dead_links'])
    return figures


def pair_figure(report: Mapping[str, Plain], quantity: str, title: str) -> Figure:
    """A heat map of buckets x buckets; pairs that differ beyond chance are marked."""
    names = list(report['buckets'])
    values = np.full((len(names), len(names)), np.nan)
    figure = new_figure(3.0 + 0.62 * len(names), 2.6 + 0.5 * len(names), title,
                        '* differs with an adjusted p below .05' if quantity != 'knn_overlap' else '1 = mixed')
    axes = figure.subplots()
    axes.set_facecolor('0.85')
    for pair in report['pairs']:
        row, column = names.index(pair['first']), names.index(pair['last'])
        values[row, column] = values[column, row] = pair[quantity]
    image = axes.imshow(values, cmap='cividis', aspect='auto')
    for pair in report['pairs']:
        p_value = pair.get({'mmd2': 'mmd_p_adjusted', 'frechet': 'frechet_p_adjusted'}.get(quantity, ''), 1.0)
        row, column = names.index(pair['first']), names.index(pair['last'])
        for y, x in ((row, column), (column, row)):
            red, green, blue, _ = image.cmap(image.norm(values[y, x]))
            ink = 'black' if 0.299 * red + 0.587 * green + 0.114 * blue > 0.46 else 'white'
            axes.text(x, y, f'{values[y, x]:.3g}{"*" if p_value < 0.05 else ""}', ha='center', va='center', color=ink,
                      fontsize=7)
    set_bucket_ticks(axes, names, 'x', every=True)
    set_bucket_ticks(axes, names, 'y', every=True)
    figure.colorbar(image, ax=axes, fraction=0.05)
    return figure


def dead_links_figure(years: Mapping[str, Mapping[str, int]]) -> Figure:
    """Share of the addresses of each year of upload that are gone, and of those that failed otherwise."""
    figure = new_figure(6.0, 3.6, 'Addresses that no longer answer', 'by year of upload')
    axes = figure.subplots()
    tried = np.array([each['tried'] for each in years.values()], float)
    bottom = np.zeros(len(tried))
    for name, label, colour in (('gone', 'gone (4xx, or a stand-in)', '#D55E00'), ('other', 'other failures', '0.6')):
        share = np.array([each[name] for each in years.values()]) / np.maximum(tried, 1)
        axes.bar(range(len(tried)), share, bottom=bottom, color=colour, label=label)
        bottom += share
    set_bucket_ticks(axes, list(years), 'x', every=True)
    axes.set_ylim(0, 1)
    axes.set_ylabel('share of addresses tried')
    axes.legend(frameon=False, fontsize=8)
    return figure


def class_sheet(name: str, pictures: Mapping[str, Sequence[Image | None]], subtitle: str) -> Figure:
    """The most typical pictures of a class, a line for each bucket."""
    flat, members = [], {}
    for place, found in enumerate(pictures.values()):
        members[place] = np.arange(len(flat), len(flat) + len(found))
        flat += found
    return samples_figure(members, lambda row: flat[row], list(pictures), plain_text(name, 40), subtitle)


def write_drift_page(report: Mapping[str, Plain], path: Path, figures: Mapping[str, Figure],
                     sheets: Sequence[Figure] = ()) -> Path:
    """One page of everything."""
    body = [head_of('Drift between buckets', 'Drift report', {
        'Data': str(report['source']), 'Buckets': str(len(report['buckets'])),
        'Images': f'at most {report["most_rows"]:,} a bucket, chosen by a hash of their ids'})]
    body.append(table_of(['bucket', 'rows', 'first', 'last'],
                         [[name, f'{each["rows"]:,}', each['first'] or '-', each['last'] or '-']
                          for name, each in report['buckets'].items()]))
    if report['left_out']:
        body.append(f'<p class="warning">Too few rows to be compared: {escape(", ".join(report["left_out"]))}.</p>')
    if report['pairs']:
        body += ['<h2>Pairs of buckets</h2>', f'<p>p-values by permutation (1 + {report["permutations"]:,} splits), '
                 'adjusted over all pairs by Holm. MMD² is unbiased and may be below 0.</p>', table_of(
                     ['pair', 'MMD²', 'p', 'adjusted', 'Fréchet', 'p', 'adjusted', 'kNN overlap'],
                     [[f'{each["first"]} – {each["last"]}', f'{each["mmd2"]:.4f}', f'{each["mmd_p"]:.3f}',
                       f'{each["mmd_p_adjusted"]:.3f}', f'{each["frechet"]:.4g}', f'{each["frechet_p"]:.3f}',
                       f'{each["frechet_p_adjusted"]:.3f}', f'{each["knn_overlap"]:.3f}']
                      for each in report['pairs']])]
    body += [figure_of(stem, to_png(figure)) for stem, figure in figures.items() if stem != 'dead_links']
    if report['classes']:
        body += ['<h2>Classes that move</h2>', table_of(
            ['class', 'from', 'to', 'MMD²', 'adjusted p'],
            [[each['class'], each['first'], each['last'], f'{each["mmd2"]:.4f}', f'{each["p_adjusted"]:.3f}']
             for each in report['classes']])]
    body += [figure_of('examples of a class', to_png(sheet)) for sheet in sheets]
    if report['suggested_edges']:
        found = report['suggested_edges']
        body += ['<h2>Where to cut</h2>', f'<p>{len(found["starts"]) + 1} buckets between which '
                 f'{found["explained"]:.0%} of the variance over time lies would begin at:</p>',
                 '<pre>' + '\n'.join(map(escape, found['starts'])) + '</pre>']
    if 'dead_links' in figures:
        body += ['<h2>Dead links</h2>', figure_of('dead links', to_png(figures['dead_links']))]
    return write_page('Drift report', body, path)
