"""Tables made for another size of image, adapted by the library that the network comes from."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

from mmengine.logging import MMLogger
from torch import Tensor, nn

# What a library's function raises for tensors that it was not written for.
_REFUSALS = (LookupError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError)
State = dict[str, Tensor]


def resize_tables(model: nn.Module, state: State) -> tuple[State, set[str]]:
    """Adapt position tables to the model's own size; also returns the names that it computes itself.

    mmpretrain's backbones do it in hooks, timm's models in the `checkpoint_filter_fn` of their file, torchvision's and
    open_clip's vision transformers in one function each. Only tables change: the weights of a layer that has another
    shape belong to another network (patches of another size), whatever a library would make of them.

    Args:
        state: tensors by the model's names.
    """
    state, computed = _by_hooks(model, state)
    for prefix, resize in _library_functions(model):
        own = model.state_dict()
        below = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        wrong = [name for name, value in below.items() if value.shape != own[prefix + name].shape]
        if not wrong:
            continue
        try:
            with quiet_hooks():
                adapted = resize(dict(below))
        except _REFUSALS:
            continue  # The shapes, as they are, tell what is wrong.
        if any(adapted.get(name, value) is not value for name, value in below.items() if name not in wrong):
            continue  # The function takes the file for another format and moves what fits already.
        buffers = {name for name, _ in model.named_buffers()}
        for name in wrong:
            if name not in adapted and prefix + name in buffers:
                computed.add(prefix + name)
                del state[prefix + name]
            elif name in adapted and _is_table(model, prefix + name, below[name], adapted[name]):
                state[prefix + name] = adapted[name]
    return state, computed


def _by_hooks(model: nn.Module, state: State) -> tuple[State, set[str]]:
    # The hooks run before a state dict is loaded; they must run before shapes are compared, hence here.
    adapted = dict(state)
    hooks = [(f'{prefix}.' if prefix else '', hook) for prefix, module in model.named_modules()
             for hook in module._load_state_dict_pre_hooks.values()]
    try:
        with quiet_hooks():
            for prefix, hook in hooks:
                hook(adapted, prefix, {}, True, [], [], [])
    except _REFUSALS:
        return dict(state), set()
    return {name: tensor for name, tensor in adapted.items() if name in state}, set(state) - set(adapted)


def _library_functions(model: nn.Module) -> Iterator[tuple[str, Callable[[State], Mapping[str, Tensor]]]]:
    """(prefix, function of the tensors below it) of every part of the model whose library knows how to resize."""
    for path, module in model.named_modules():
        home, prefix = type(module).__module__, f'{path}.' if path else ''
        if home.startswith('timm.models.') and hasattr(module, 'pretrained_cfg'):
            # Not every file of timm calls its function so, nor is every model's the one of its class's file; then
            # nothing is resized and the shapes are refused.
            function = getattr(sys.modules[home], 'checkpoint_filter_fn', None)
            if function is not None:
                yield prefix, lambda state, module=module, function=function: function(state, module)
        elif home == 'torchvision.models.vision_transformer' and hasattr(module, 'image_size'):
            from torchvision.models.vision_transformer import interpolate_embeddings

            yield prefix, lambda state, module=module: interpolate_embeddings(module.image_size, module.patch_size,
                                                                              state)
        elif home == 'open_clip.transformer' and hasattr(module, 'grid_size'):
            yield prefix, lambda state, module=module: _by_open_clip(state, module)


def _by_open_clip(state: State, tower: nn.Module) -> State:
    from open_clip.model import resize_pos_embed

    whole = {f'visual.{name}': value for name, value in state.items()}
    resize_pos_embed(whole, SimpleNamespace(visual=tower))
    return {name.removeprefix('visual.'): value for name, value in whole.items()}


def _is_table(model: nn.Module, name: str, before: Tensor, after: Tensor) -> bool:
    layer = model.get_submodule(name.rpartition('.')[0])
    return before.numel() == after.numel() or not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))


@contextmanager
def quiet_hooks() -> Iterator[None]:
    """Without the lines that hooks and functions log about every table, once for each format that is tried."""
    loggers = [MMLogger.get_current_instance(), logging.getLogger('timm')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
