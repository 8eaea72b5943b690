"""A sweep in one figure: the metrics of every choice of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clear.visualization.figures import new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clear.core.types import Plain

MARKERS = 'osD^vPX*'


def sweep_figure(entries: Sequence[Mapping[str, Plain]], name: str) -> Figure | None:
    """Each metric over the choices of values, in their order; with a bar of one deviation where there are seeds.

    Args:
        entries: `values` and `metrics` of each choice, as `summary.json` has them; metrics are empty where training
            failed.

    Returns:
        None if no choice has metrics.
    """
    metrics = list(dict.fromkeys(metric for entry in entries for metric in entry['metrics']))
    if not metrics:
        return None
    keys = [key.removeprefix('cl_strategy.') for key in entries[0]['values']]
    figure = new_figure(max(5.0, 0.55 * len(entries) + 3), 4, name, f'test metrics over {" and ".join(keys)}')
    axes = figure.subplots()
    for number, metric in enumerate(metrics):
        points = [(place, entry['metrics'][metric]) for place, entry in enumerate(entries)
                  if entry['metrics'].get(metric) is not None]
        means = [value['mean'] if isinstance(value, dict) else value for _, value in points]
        spread = [value['std'] if isinstance(value, dict) else 0.0 for _, value in points]
        axes.errorbar([place for place, _ in points], means, yerr=spread if any(spread) else None, capsize=3,
                      marker=MARKERS[number % len(MARKERS)], markersize=4, linewidth=1, label=metric)
    labels = ['\n'.join(plain_text(str(value), 14) for value in entry['values'].values()) for entry in entries]
    axes.set_xticks(range(len(entries)), labels, fontsize=8, rotation=45 if len(keys) == 1 else 0)
    axes.set_xlabel('\n'.join(keys))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    return figure
