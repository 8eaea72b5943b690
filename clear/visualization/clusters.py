"""Figures of clusters: pictures of their members, a map of the rows, how large they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from clear.features.kmeans.showing import tsne
from clear.visualization.figures import new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

_PIXELS, _GAP = 64, 2
_GREY, _WHITE = 217, 255
_COLOURS = 20


def samples_figure(members: dict[int, np.ndarray], picture: Callable[[int], Image | None], names: Sequence[str],
                   title: str, subtitle: str) -> Figure:
    """A line of pictures for each cluster; what cannot be read is grey.

    Args:
        members: cluster -> rows, see `drawn_members`.
        picture: the picture of a row, or None.
        names: what to write at each line.
    """
    per_line = max(len(rows) for rows in members.values())
    step = _PIXELS + _GAP
    canvas = np.full((len(members) * step, per_line * step, 3), _WHITE, dtype=np.uint8)
    for line, rows in enumerate(members.values()):
        for column, row in enumerate(rows):
            top, left = line * step, column * step
            canvas[top:top + _PIXELS, left:left + _PIXELS] = thumbnail(picture(row), _PIXELS)
    figure = new_figure(4.0 + 0.5 * per_line, 1.0 + 0.5 * len(members), title, subtitle)
    axes = figure.subplots()
    axes.imshow(canvas, interpolation='none')
    axes.set_xticks([])
    axes.set_yticks([line * step + _PIXELS / 2 for line in range(len(members))],
                    [plain_text(name, 36) for name in names], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def map_figure(features: Tensor, labels: Tensor, title: str, subtitle: str, *, max_rows: int = 20000, seed: int = 0
               ) -> Figure:
    """The first rows in two dimensions by t-SNE (van der Maaten and Hinton 2008), a colour for each of 20 clusters by
    turns.

    Raises:
        DataError: for fewer than five rows, or rows that are all the same.
    """
    points = tsne(features[:max_rows], seed)
    figure = new_figure(7.0, 6.4, title, subtitle)
    axes = figure.subplots()
    axes.scatter(points[:, 0], points[:, 1], c=labels[:max_rows].cpu().numpy() % _COLOURS, cmap='tab20', vmin=0,
                 vmax=_COLOURS - 1, s=max(1.0, min(12.0, 20000 / len(points))), linewidths=0)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def sizes_figure(labels: Tensor, k: int, title: str, subtitle: str) -> Figure:
    """Rows of each cluster, the largest first, against as many in each."""
    sizes = np.sort(np.bincount(labels.cpu().numpy(), minlength=k))[::-1]
    figure = new_figure(6.0, 4.0, title, subtitle)
    axes = figure.subplots()
    axes.step(np.arange(1, k + 1), sizes, where='mid', color='#0072B2')
    axes.axhline(len(labels) / k, color='0.4', linestyle=':', linewidth=1)
    axes.set_xlabel('cluster, by size')
    axes.set_ylabel('rows')
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, k + 0.5)
    axes.text(k, len(labels) / k, f'{len(labels) / k:.3g} on average', ha='right', va='bottom', fontsize=8)
    return figure


def thumbnail(image: Image | None, pixels: int) -> np.ndarray:
    """The middle square of a picture, (pixels, pixels, 3) uint8; grey for None."""
    if image is None:
        return np.full((pixels, pixels, 3), _GREY, dtype=np.uint8)
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(image.convert('RGB'), (pixels, pixels)))
