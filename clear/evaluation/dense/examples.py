"""A few test images with their targets and what a model made of them, for reports."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from clear.datasets.dense.samples import DenseSamples, levels_of_target
from clear.datasets.images.decode import UnreadableImage

COUNT = 6


def example_arrays(samples: DenseSamples, predict: Callable[[Tensor, tuple[int, int]], Tensor]
                   ) -> dict[str, np.ndarray]:
    """Up to six samples of the size of the first one, spread evenly.

    Args:
        predict: images (1, ...), size -> (1, O, H, W).

    Returns:
        `images` (n, h, w, 3) uint8; `truth` and `predicted`: class ids and masks (n, H, W) uint8; depth, edges and
        luminance (n, H, W) float32; flow (n, H, W, 2) float32; images (n, H, W, 3) uint8; `valid` (n, H, W) bool;
        `rows` (n,); `kind`, the kind of targets.
    """
    places = np.unique(np.linspace(0, len(samples) - 1, min(COUNT, len(samples))).round().astype(int))
    found: list[dict[str, np.ndarray]] = []
    kind = samples.table.target_kind
    for row in samples.rows[places]:
        try:
            sample = samples.sample(int(row))
        except UnreadableImage:
            continue
        outputs = predict(sample.images[None], tuple(sample.valid.shape))[0].float().cpu()
        image = sample.images if samples.frames == 1 else sample.images[0]
        found.append(dict(images=_pixels(samples, image), truth=_shown(kind, sample.values),
                          predicted=_shown(kind, _decided(kind, outputs)), valid=sample.valid.numpy(),
                          rows=np.array(row)))
    same = [each for each in found if all(each[name].shape == found[0][name].shape for name in each)]
    return {**{name: np.stack([each[name] for each in same]) for name in (same[0] if same else ())},
            'kind': np.array(kind)}


def _decided(kind: str, outputs: Tensor) -> Tensor:
    """Outputs (O, H, W) in the form of a target's values."""
    if kind == 'classes':
        return outputs.argmax(0).to(torch.uint8)
    return (outputs[0] > 0).to(torch.uint8) if kind == 'mask' else outputs


def _shown(kind: str, values: Tensor) -> np.ndarray:
    if kind in ('classes', 'mask'):
        return values.numpy()
    if kind == 'image':
        return _bytes(levels_of_target(values))
    return values.permute(1, 2, 0).numpy() if kind == 'flow' else values[0].numpy()


def _pixels(samples: DenseSamples, image: Tensor) -> np.ndarray:
    """(3, H, W) normalised -> (H, W, 3) uint8 RGB."""
    spec = samples.preprocess
    order = -1 if spec.channel_order == 'BGR' else 1
    mean, std = (torch.tensor(value[::order]).view(3, 1, 1) for value in (spec.mean, spec.std))
    levels = (image * std + mean) * 255
    return _bytes(levels.flip(0) if order < 0 else levels)


def _bytes(levels: Tensor) -> np.ndarray:
    return levels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
