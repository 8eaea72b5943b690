"""How large a model is, and how much it computes for one input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from clear.continual.multitask import takes_tasks, with_task_labels
from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.core.modes import evaluation_mode
from clear.engine.runners import runner_type
from clear.models import build_classifier
from clear.models.freeze import freeze
from clear.registry import MODELS

if TYPE_CHECKING:
    from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
    from mmengine.config import Config

    from clear.models.classifier import ComposedClassifier

IMAGE = (3, 224, 224)
# Operators without multiplications of matrices: a value or a few per element.
CHEAP = {f'aten::{name}' for name in (
    'abs', 'adaptive_avg_pool2d', 'adaptive_max_pool2d', 'add', 'add_', 'arange', 'avg_pool2d', 'batch_norm',
    'clamp', 'clamp_min', 'copy_', 'div', 'dropout', 'erf', 'exp', 'expand_as', 'feature_dropout', 'fill_',
    'floor_divide', 'gelu', 'group_norm', 'hardsigmoid', 'hardswish_', 'hardtanh_', 'index_put_', 'layer_norm',
    'linalg_vector_norm', 'masked_fill', 'masked_fill_', 'max', 'max_pool2d', 'mean', 'min', 'mul', 'mul_', 'neg',
    'norm', 'ones_like', 'pad', 'pow', 'repeat', 'roll', 'rsqrt', 'rsub', 'scatter', 'sigmoid', 'sigmoid_', 'silu',
    'silu_', 'softmax', 'sqrt', 'sub', 'sum', 'tanh', 'triu', 'upsample_bicubic2d', 'upsample_bilinear2d',
    'upsample_nearest2d', 'zeros_like')}


@dataclass
class Complexity:
    """Of one input of `shape`: multiply-adds, values that layers give, parameters; and a table by module.

    Attributes:
        part: what was counted: the classifier, or the backbone with its neck of other models, and of those with a head
            for each task.
        flops: multiply-adds counted as one each, as mmengine and fvcore count them.
        parameters, trained: of the whole model; what the config freezes is not trained.
        uncounted: operators that may cost something and that the count does not know.
    """

    part: str
    shape: tuple[int, ...]
    flops: int
    activations: int
    parameters: int
    trained: int
    table: str
    uncounted: list[str]


def read_complexity(cfg: Config, shape: Sequence[int] | None = None) -> Complexity:
    """Count what the model of a config computes.

    Args:
        cfg: continual or ordinary; checked. No data and no weights are read.
        shape: of one input: (side,), (height, width) or (channels, height, width) of images, (features,) of a head on
            stored features. By default 3 x 224 x 224, or what the head takes.

    Raises:
        ConfigError: for a config without a model, a model that is made task by task, or a shape that it does not take.
    """
    kind = runner_type(cfg)
    if kind == 'ContinualRunner':
        model = with_task_labels(build_classifier(cfg['model']))
        if cfg.get('frozen') or cfg.get('freeze_bn'):
            freeze(model, cfg.get('frozen') or (), cfg.get('freeze_bn', False))
        part, counted, features = _counted_of(model)
    elif cfg.get('model') is not None:
        with building('model'):
            model = MODELS.build(cfg['model'])
        part, counted, features = *_encoder_of(model), None
    else:
        raise ConfigError(f'A {kind} has no model of its own; its encoders are counted from the configs that made '
                          'them.')
    shape = _input_shape(shape, features)
    flops, activations, table = _analyse(counted, shape)
    parameters = list(model.parameters())
    return Complexity(part, shape, flops.total(), activations.total(), sum(item.numel() for item in parameters),
                      sum(item.numel() for item in parameters if item.requires_grad), table,
                      sorted(set(flops.unsupported_ops()) - CHEAP))


class _Features(nn.Module):
    """Backbone and neck of an algorithm, as it extracts features."""

    def __init__(self, backbone: nn.Module, neck: nn.Module | None):
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, images: torch.Tensor) -> object:
        out = self.backbone(images)
        return out if self.neck is None else self.neck(out)


def _counted_of(model: ComposedClassifier) -> tuple[str, nn.Module, int | None]:
    """What is counted of a continual model, what that is called, and how many features it takes; None for images."""
    if not takes_tasks(model):
        is_head = model.backbone is None and model.neck is None
        return 'classifier', model, getattr(model.head, 'in_channels', None) if is_head else None
    if model.backbone is None or any(part is not None and takes_tasks(part) for part in (model.backbone, model.neck)):
        raise ConfigError('The model has parts for each task, which are made while it trains; nothing can be counted '
                          'before.')
    return 'backbone and neck, without the heads of tasks', _Features(model.backbone, model.neck), None


def _encoder_of(model: nn.Module) -> tuple[str, nn.Module]:
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(f'{type(model).__name__} has no backbone that could be counted by itself.')
    head = getattr(model, 'head', None)
    if hasattr(head, 'fc'):  # a classifier of mmpretrain's kind: its neck pools
        return 'backbone and neck', _Features(backbone, getattr(model, 'neck', None))
    return 'backbone', backbone


def _input_shape(shape: Sequence[int] | None, features: int | None) -> tuple[int, ...]:
    if shape is None:
        return IMAGE if features is None else (features,)
    if any(size < 1 for size in shape) or len(shape) > 3:
        raise ConfigError(f"--shape {' '.join(map(str, shape))}: expected one to three sizes above 0, e.g. 224, "
                          '224 224 or 1 32 32.')
    if features is not None or len(shape) == 3:
        return tuple(shape)
    return (3, shape[0], shape[-1])


def _analyse(model: nn.Module, shape: tuple[int, ...]) -> tuple[FlopAnalyzer, ActivationAnalyzer, str]:
    from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
    from mmengine.analysis.print_helper import complexity_stats_table

    inputs = (torch.zeros(1, *shape),)
    flops, activations = FlopAnalyzer(model, inputs), ActivationAnalyzer(model, inputs)
    flops.set_op_handle('aten::scaled_dot_product_attention', _attention_flops)
    for each in (flops, activations):
        each.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    try:
        with evaluation_mode(model):
            return flops, activations, complexity_stats_table(flops=flops, activations=activations)
    except RuntimeError as error:
        raise ConfigError(f"The model does not take an input of {' x '.join(map(str, shape))}: "
                          f"{str(error).splitlines()[0]}. Say its shape with --shape.") from error


def _attention_flops(inputs: list, outputs: list) -> int:
    """Multiply-adds of softmax(Q K^T) V, which mmengine 0.10.7 does not count."""
    query, key, value = (each.type().sizes() for each in inputs[:3])
    *batch, length, dim = query
    return math.prod(batch) * length * key[-2] * (dim + value[-1])
