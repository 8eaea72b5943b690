"""Freeze parts of a model so that training cannot change them: no gradients, and eval mode that lasts."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from clear.core.errors import ConfigError, nearest


class Freezable(nn.Module):
    """A module that keeps its frozen parts in eval mode whenever `train()` is called.

    The frozen parts are remembered by name, so copies (a distillation teacher, a best model) keep their own.
    """

    frozen_modules: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Freezable:
        if mode and '' in self.frozen_modules:
            return super().train(False)  # all of it sleeps: one walk through its modules, not two
        super().train(mode)
        # Not in eval mode: there is nothing to undo.
        for name in self.frozen_modules if mode else ():
            self.get_submodule(name).eval()
        return self


@dataclass(frozen=True)
class FreezeReport:
    """What `freeze` froze.

    Args:
        parameters: names of all parameters that it froze.
        modules: the outermost modules that stay in eval mode ('' is the model itself), BatchNorm layers included.
        batch_norms: BatchNorm layers whose statistics and affine parameters are fixed by `freeze_bn`.
        num_frozen, num_trainable: scalars without and with gradient in the whole model.
    """

    parameters: tuple[str, ...]
    modules: tuple[str, ...]
    batch_norms: tuple[str, ...]
    num_frozen: int
    num_trainable: int

    def __str__(self) -> str:
        modules = ', '.join(name or 'the whole model' for name in self.modules[:4]) or 'none'
        if len(self.modules) > 4:
            modules += f' and {len(self.modules) - 4} more'
        return (f'{self.num_frozen:,} of {self.num_frozen + self.num_trainable:,} parameters are frozen, '
                f'{self.num_trainable:,} train; always in eval mode: {modules}; '
                f'frozen BatchNorm layers: {len(self.batch_norms)}.')


def freeze(model: Freezable, frozen: Sequence[str] = (), freeze_bn: bool = False, *,
           allow_all: bool = False) -> FreezeReport:
    """Freeze what the patterns name. Calls add up; nothing is ever unfrozen.

    A frozen parameter has `requires_grad=False` and no gradient. A module is frozen, hence in eval mode also after
    `model.train()`, if a pattern names it or if all its parameters are frozen. (A mean of a BatchNorm layer that
    still moves would change a "frozen" backbone.)

    Args:
        frozen: patterns (`*`, `?`, `[abc]`) for the names of parameters and modules: `'backbone.*'`, `'backbone'`.
            A module's name stands for everything in it.
        freeze_bn: fix statistics, scale and shift of every BatchNorm layer of the model. A model without such
            layers is left alone.
        allow_all: accept that nothing is left to train (a prototype classifier, an evaluation).

    Raises:
        ConfigError: if a pattern matches nothing, or nothing is left to train. The model is then unchanged.
        TypeError: if the model cannot keep frozen parts in eval mode.
    """
    if not isinstance(model, Freezable):
        raise TypeError(f'{type(model).__name__} is not Freezable: its train() would wake frozen parts up.')
    if isinstance(frozen, str) or not all(isinstance(pattern, str) for pattern in frozen):
        raise ConfigError(f"frozen must be a list of patterns such as ['backbone.*'], got {frozen!r}.")
    # With duplicates: a shared tensor can be named by any of its names.
    parameters = dict(model.named_parameters(remove_duplicate=False))
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    names = _match_modules_and_parameters(frozen, modules, parameters)
    batch_norms = [name for name, module in modules.items() if isinstance(module, _BatchNorm)] if freeze_bn else []

    chosen_modules = {name for name in names if name in modules} | set(batch_norms)
    chosen = [name for name in parameters if name in names or _has_ancestor_in(name, chosen_modules)]
    chosen_ids = {id(parameters[name]) for name in chosen}
    if not allow_all and chosen and not any(
            value.requires_grad and id(value) not in chosen_ids for value in parameters.values()):
        raise ConfigError(f'frozen={list(frozen)}, freeze_bn={freeze_bn} would freeze every parameter: '
                          'nothing is left to train. Leave a part out, for example the head.')

    for name in chosen:
        parameters[name].requires_grad_(False)
        parameters[name].grad = None  # A gradient from before would still be applied.
    asleep = chosen_modules | {name for name, module in model.named_modules() if _is_frozen_by(module, chosen_ids)}
    model.frozen_modules = _outermost({*model.frozen_modules, *asleep})
    model.train(model.training)
    return _report(model, chosen, batch_norms)


def _match_modules_and_parameters(patterns: Iterable[str], modules: dict, parameters: dict) -> set[str]:
    """All names that some pattern matches."""
    known = [*modules, *parameters]
    matched: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(known, pattern)
        if not found:
            near = nearest(pattern.rstrip('.*'), known) or ', '.join(f"'{name}'" for name in modules if '.' not in name)
            raise ConfigError(f"frozen: '{pattern}' matches no parameter or module of the model. Nearest: {near}.")
        matched.update(found)
    return matched


def _has_ancestor_in(name: str, modules: set[str]) -> bool:
    parts = name.split('.')
    return any('.'.join(parts[:length]) in modules for length in range(1, len(parts)))


def _is_frozen_by(module: nn.Module, chosen_ids: set[int]) -> bool:
    """No parameter of the module trains, and at least one of them because it was chosen now."""
    own = list(module.parameters())
    return not any(value.requires_grad for value in own) and any(id(value) in chosen_ids for value in own)


def _outermost(names: set[str]) -> tuple[str, ...]:
    """The names that lie in no other one; '' holds all."""
    if '' in names:
        return ('',)
    return tuple(sorted(name for name in names if not _has_ancestor_in(name, names)))


def _report(model: Freezable, chosen: Sequence[str], batch_norms: Sequence[str]) -> FreezeReport:
    values = list(model.parameters())
    return FreezeReport(
        parameters=tuple(chosen), modules=model.frozen_modules, batch_norms=tuple(batch_norms),
        num_frozen=sum(value.numel() for value in values if not value.requires_grad),
        num_trainable=sum(value.numel() for value in values if value.requires_grad))
