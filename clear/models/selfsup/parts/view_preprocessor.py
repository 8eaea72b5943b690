"""From a loader's batch to the views that a self-supervised model takes, on the model's device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from clear.core.errors import ConfigError
from clear.registry import MODELS, TRANSFORMS

if TYPE_CHECKING:
    from clear.core.types import Options


@MODELS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """Moves views to the device, or makes them there from whole uint8 images.

    Views are made in float32 whatever the autocast around: a half-precision resize would blur the 256 levels of an
    image. Each image's draws follow from its own seed, so neither the batch nor the device changes them.

    Args:
        views: of batches of whole images, e.g. `dict(type='BatchedMultiCrop', recipe='moco_v2')`, or a callable
            (images, seeds) -> list of views; None where the data set gives views.
        non_blocking: copy from pinned memory while the processor goes on.

    Shape:
        inputs: list of (N, 3, h, w) float; or with `views` (N, 3, S, S) uint8, RGB, and seeds: (N,) int64
        returns: dict(inputs=list of (N, 3, h, w) float32)

    Raises:
        ConfigError: from a call, if the batch is of the other form.
    """

    def __init__(self, views: Options | Callable | None = None, non_blocking: bool = False):
        super().__init__(non_blocking=non_blocking)
        self.views = TRANSFORMS.build(dict(views)) if isinstance(views, Mapping) else views

    @torch.no_grad()
    def forward(self, data: dict[str, object], training: bool = False) -> dict[str, list[Tensor]]:
        inputs = data['inputs']
        _check_form(inputs, self.views is not None)
        inputs = self.cast_data(inputs)
        if self.views is None:
            return dict(inputs=list(inputs))
        # The seeds stay where they are: numbers are drawn on the CPU, and fetching them would wait for the GPU.
        with torch.autocast(inputs.device.type, enabled=False):
            return dict(inputs=list(self.views(inputs, data['seeds'])))


def _check_form(inputs: object, makes_views: bool) -> None:
    is_whole = isinstance(inputs, Tensor) and inputs.dtype == torch.uint8
    if makes_views and not is_whole:
        raise ConfigError(f'data_preprocessor.views makes views of whole images, but a batch holds {_form(inputs)}. '
                          'Give the data set image_size in place of transform, or leave data_preprocessor.views out.')
    is_views = isinstance(inputs, (list, tuple)) and all(
        isinstance(view, Tensor) and view.is_floating_point() for view in inputs)
    if not makes_views and not is_views:
        advice = "data_preprocessor=dict(type='ViewPreprocessor', views=dict(type='BatchedMultiCrop')) makes views " \
                 'of whole images.' if is_whole else "Is collate_fn=dict(type='default_collate') missing in the loader?"
        raise ConfigError(f'expected a list of views (N, 3, h, w), but a batch holds {_form(inputs)}. {advice}')


def _form(inputs: object) -> str:
    if isinstance(inputs, Tensor):
        return f'{inputs.dtype} {tuple(inputs.shape)}'
    if isinstance(inputs, (list, tuple)) and inputs:
        return f'a list of {len(inputs)} x {_form(inputs[0])}'
    return type(inputs).__name__
