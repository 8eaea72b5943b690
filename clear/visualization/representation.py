"""Figure of a representation over time: a heat map, checkpoints x buckets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clear.visualization.figures import new_figure, plain_text, set_bucket_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MISSING_COLOR = '0.85'
_OWN_COLOR = '#D55E00'


def representation_figure(matrix: Sequence[Sequence[float | None]], checkpoints: Sequence[str],
                          buckets: Sequence[str], owns: Sequence[int | None], title: str, subtitle: str,
                          quantity: str = 'accuracy') -> Figure:
    """Annotated heat map; the bucket that a checkpoint was trained through is framed, what is not measured is grey.

    Args:
        matrix: (checkpoints, buckets) fractions, None = not measured.
        owns: column of each checkpoint's own bucket, None = none of them.
        quantity: what the fractions are.
    """
    import numpy as np

    values = np.array(matrix, dtype=float)  # None -> NaN
    rows, columns = values.shape
    figure = new_figure(3.2 + 0.62 * columns, 2.4 + 0.5 * rows, title, subtitle)
    axes = figure.subplots()
    axes.set_facecolor(_MISSING_COLOR)
    # Representations differ by hundredths: colours span the measured range, rounded outwards to 0.05.
    measured = values[np.isfinite(values)]
    low, high = (measured.min(), measured.max()) if measured.size else (0.0, 1.0)
    low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    image = axes.imshow(values, cmap='cividis', vmin=low, vmax=max(high, low + 0.05), aspect='auto')
    _annotate(axes, image, values, owns)
    set_bucket_ticks(axes, buckets, 'x', every=True)
    set_bucket_ticks(axes, [plain_text(name, 24) for name in checkpoints], 'y', every=True)
    axes.set_xlabel('tested on bucket')
    axes.set_ylabel('encoder')
    figure.colorbar(image, ax=axes, label=plain_text(quantity, 24), fraction=0.05)
    _add_legend(figure, any(own is not None for own in owns), bool(np.isnan(values).any()))
    return figure


def _annotate(axes, image, values, owns: Sequence[int | None]) -> None:
    """Numbers dark on light and light on dark; a frame around each own bucket."""
    from matplotlib.patches import Rectangle

    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if math.isfinite(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                ink = 'black' if 0.299 * red + 0.587 * green + 0.114 * blue > 0.46 else 'white'
                axes.text(j, i, f'{value:.3f}', ha='center', va='center', color=ink, fontsize=8)
        if owns[i] is not None:
            axes.add_patch(Rectangle((owns[i] - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=_OWN_COLOR,
                                     linewidth=2))


def _add_legend(figure: Figure, has_own: bool, has_missing: bool) -> None:
    from matplotlib.patches import Patch

    handles = []
    if has_own:
        handles.append(Patch(facecolor='none', edgecolor=_OWN_COLOR, linewidth=2, label='trained through this bucket'))
    if has_missing:
        handles.append(Patch(facecolor=_MISSING_COLOR, label='not measured'))
    if handles:
        figure.legend(handles=handles, loc='outside lower center', ncols=2, frameon=False, fontsize=9)
