"""Predictions for pixels beside the truth: classes, masks, depth, flow, images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.logs import logger
from clear.visualization.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES_FILE = 'examples.npz'
_GREY = 0.75
_INCHES = 1.5


def example_figures(folders: Mapping[str, Path]) -> dict[str, Figure]:
    """File stem -> figure, of every job that kept examples.

    What cannot be drawn is left out, with a warning: a run is not lost for a figure.

    Args:
        folders: key of a job -> its folder.
    """
    figures = {}
    for key, folder in folders.items():
        path = folder / EXAMPLES_FILE
        if not path.is_file():
            continue
        try:
            with np.load(path, allow_pickle=False) as arrays:
                figures[f'{key}--pixels'] = examples_figure(key, str(arrays['kind']), *(
                    arrays[name] for name in ('images', 'truth', 'predicted', 'valid')))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logger.warning('%s cannot be drawn: %s', path, error)
    return figures


def examples_figure(title: str, kind: str, images: np.ndarray, truth: np.ndarray, predicted: np.ndarray,
                    valid: np.ndarray) -> Figure:
    """A row for each example: what the encoder saw, the truth, the prediction. Pixels without a truth are grey there.

    Args:
        kind: of the targets: 'classes', 'mask', 'depth', 'edges', 'luminance', 'flow' or 'image'.
        images: (K, H, W, 3) uint8, or (K, S, H, W, 3) of clips; valid: (K, H, W) bool.
        truth, predicted: (K, H, W); flow (K, H, W, 2) in pixels; image (K, H, W, 3), uint8 or 0 ... 1.

    Raises:
        ValueError: for an unknown kind, or arrays that do not fit.
    """
    if kind not in _PAINTERS:
        raise ValueError(f"kind is '{kind}', expected one of {', '.join(_PAINTERS)}")
    frames = images if images.ndim == 5 else images[:, None]
    if not len(frames) or {len(frames)} != {len(each) for each in (truth, predicted, valid)} or \
            truth.shape != predicted.shape or valid.shape != truth.shape[:3]:
        raise ValueError(f'truth {truth.shape}, predicted {predicted.shape} and valid {valid.shape} do not fit '
                         f'{len(frames)} images')
    paint = _PAINTERS[kind](truth, predicted, valid)
    names = [*(['image'] if frames.shape[1] == 1 else [f'frame {place + 1}' for place in range(frames.shape[1])]),
             'truth', 'predicted']
    high = _INCHES * truth.shape[1] / truth.shape[2]
    figure = new_figure(0.4 + _INCHES * len(names), 1.0 + high * len(frames), title, f'{kind}: test images')
    panels = figure.subplots(len(frames), len(names), squeeze=False)
    for row, line in enumerate(panels):
        painted_truth, painted = paint(truth[row]), paint(predicted[row])
        painted_truth[~valid[row]] = _GREY
        for panel, name, picture in zip(line, names, [*frames[row], painted_truth, painted]):
            panel.imshow(picture, interpolation='none')
            panel.set_axis_off()
            if row == 0:
                panel.set_title(name, fontsize=8)
    return figure


def _classes(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    palette = class_colors(int(max(truth[valid].max(initial=0), predicted.max())) + 1)
    return lambda ids: palette[np.clip(ids, 0, len(palette) - 1)]


def _scalar(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """One scale, that of the truth: what leaves it is drawn as its end."""
    from matplotlib import colormaps

    known = truth[valid & np.isfinite(truth)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    scale = (high - low) or 1.0
    return lambda values: colormaps['cividis'](np.clip((np.nan_to_num(values) - low) / scale, 0, 1))[..., :3]


def _flow(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Hue is the direction, saturation the length, full at the longest true one."""
    from matplotlib.colors import hsv_to_rgb

    lengths = np.linalg.norm(truth[valid], axis=-1)
    longest = lengths.max(initial=0) or 1.0

    def paint(flow: np.ndarray) -> np.ndarray:
        hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1
        length = np.clip(np.linalg.norm(flow, axis=-1) / longest, 0, 1)
        return hsv_to_rgb(np.stack([hue, length, np.ones_like(hue)], -1))

    return paint


def _pictures(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.clip(values / 255 if values.dtype == np.uint8 else values, 0, 1).astype(np.float64)


_PAINTERS = dict(classes=_classes, mask=_classes, depth=_scalar, edges=_scalar, luminance=_scalar, flow=_flow,
                 image=_pictures)


def class_colors(count: int) -> np.ndarray:
    """(count, 3) colours 0 ... 1 that differ; the first is black, as backgrounds are."""
    from matplotlib.colors import hsv_to_rgb

    places = np.arange(max(count - 1, 0))
    hues = places * 0.6180339887 % 1  # the golden ratio spreads any number of them
    others = hsv_to_rgb(np.stack([hues, 0.55 + 0.35 * (places % 2), 0.95 - 0.3 * (places // 2 % 2)], -1))
    return np.concatenate([np.zeros((1, 3)), others])[:count]
