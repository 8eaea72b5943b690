"""LoRA: trainable low-rank changes of the linear layers of a frozen network."""

from __future__ import annotations

import fnmatch
import inspect
import math
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clear.core.errors import nearest
from clear.registry import MODELS


class LoRALinear(nn.Linear):
    """y = x W^T + b + (alpha / rank) * dropout(x) down^T up^T, with `up` zero at the start.

    `weight` and `bias` are those of the layer it replaces, under the same names: weights for the plain network load.

    Args:
        rank: r, rows of `lora_down` (r, in_features) and columns of `lora_up` (out_features, r).
        alpha: the change is scaled by alpha / rank, so that another rank needs no other learning rate.
    """

    added_tensors = ('lora_down', 'lora_up')

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        nn.Module.__init__(self)  # Linear's own constructor would draw random weights to throw away.
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.scaling = alpha / rank
        self.lora_dropout = nn.Dropout(dropout)
        self.lora_down = nn.Parameter(self.weight.new_empty(rank, self.in_features))
        self.lora_up = nn.Parameter(self.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        change = F.linear(F.linear(self.lora_dropout(x), self.lora_down), self.lora_up)
        return F.linear(x, self.weight, self.bias) + self.scaling * change

    def merged(self) -> nn.Linear:
        """A plain layer with the change added to its weight; equal up to rounding where dropout is off."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device='meta')
        with torch.no_grad():
            weight = self.weight + self.scaling * self.lora_up @ self.lora_down  # (O, r) @ (r, I) -> (O, I)
        layer.weight, layer.bias = nn.Parameter(weight), self.bias
        return layer.train(self.training)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, rank={len(self.lora_down)}, scaling={self.scaling:g}'


@MODELS.register_module(name='LoRA')
def apply_lora(backbone: dict | nn.Module, rank: int = 8, alpha: float = 16.0, targets: Sequence[str] = ('qkv',),
               dropout: float = 0.0) -> nn.Module:
    """Freeze a network and give the linear layers that the targets name a trainable low-rank change.

    LoRA (Hu et al. 2021, arXiv:2106.09685). Returns the network itself, so everything that works with it still does:
    names of its tensors, its attributes, copies. As a config it stands where a backbone stands:

        model = dict(backbone=dict(type='LoRA', backbone=dict(type='VisionTransformer', arch='b'), rank=8))

    In a fused `qkv` layer one change of the given rank serves query, key and value together; the paper changes
    query and value of separate layers.

    Args:
        backbone: a config, built from the registry of models, or a module, which is changed.
        targets: names of layers: the last parts of the name (`'qkv'`, `'attn.proj'`) or a pattern (`'layers.0.*'`).
        dropout: of the input of the change, not of the layer.

    Raises:
        ValueError: if a target names no linear layer or one that its parent does not call, or if `rank` or `alpha`
            do not fit.
    """
    network = backbone if isinstance(backbone, nn.Module) else MODELS.build(dict(backbone))
    if alpha <= 0:
        raise ValueError(f'LoRA: alpha is {alpha}, expected a number > 0.')
    chosen = _find_targets(network, [targets] if isinstance(targets, str) else targets)
    for name, layer in chosen.items():
        smaller = min(layer.in_features, layer.out_features)
        if not 1 <= rank <= smaller:
            raise ValueError(f'LoRA: rank is {rank}; for {name} ({layer.in_features} -> {layer.out_features}) it must '
                             f'be between 1 and {smaller}.')
    network.requires_grad_(False)
    for name, layer in chosen.items():
        _replace(network, name, LoRALinear(layer, rank, alpha, dropout))
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        warnings.warn('LoRA: the frozen network has BatchNorm layers, whose statistics move in training all the '
                      'same; set freeze_bn=True.', stacklevel=2)
    return network


def merge_lora(model: nn.Module) -> int:
    """Replace every `LoRALinear` of a model by a plain linear layer that computes the same; returns how many."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    for name, module in found:
        _replace(model, name, module.merged())
    return len(found)


def _find_targets(network: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    # No other subclasses: they compute something else, or their forward is never called (torch's attention).
    layers = {name: module for name, module in network.named_modules() if type(module) in (nn.Linear, MMCVLinear)}
    chosen: dict[str, nn.Linear] = {}
    for target in targets:
        found = [name for name in layers if fnmatch.fnmatchcase(f'.{name}', f'*.{target}')]
        if not found:
            known = {name.rpartition('.')[2] for name in layers}
            near = nearest(target, known) or ', '.join(f"'{name}'" for name in sorted(known)) or 'none'
            raise ValueError(f"LoRA: target '{target}' names no linear layer of {type(network).__name__}. Nearest: "
                             f'{near}.')
        chosen.update((name, layers[name]) for name in found)
    for name in chosen:
        _refuse_bypassed(network, name)
    return chosen


def _refuse_bypassed(network: nn.Module, name: str) -> None:
    """Refuse a layer whose parent reads its weight instead of calling it (BEiT's attention): LoRA would be ignored."""
    parent_name, _, own = name.rpartition('.')
    parent = network.get_submodule(parent_name)
    try:
        source = inspect.getsource(type(parent).forward)
    except (OSError, TypeError):
        return
    if f'self.{own}.weight' in source:
        raise ValueError(f'LoRA: {type(parent).__name__} reads the weight of {name} itself and would ignore a change '
                         "of the layer. Choose other targets, e.g. 'proj'.")


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition('.')
    setattr(network.get_submodule(parent), own, module)
