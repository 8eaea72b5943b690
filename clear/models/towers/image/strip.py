"""One rule for every architecture: find the classifier by what it does, and take it off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.errors import ConfigError

# What a network raises when an image is too small, or not of the one size that it takes.
_REFUSALS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError)
_SMALL = 64  # pixels: two cells are left after the usual five halvings


@dataclass(frozen=True)
class Stripped:
    """What `strip_classifier` did.

    Args:
        removed: names of the modules that are now identities.
        embed_dim: width of what the model gives.
    """

    removed: tuple[str, ...]
    embed_dim: int


def strip_classifier(model: nn.Module, image_size: int, *, classifier: str | Iterable[str] | None = 'auto',
                     ) -> Stripped:
    """Replace the classifier of a model by an identity, in place, and measure the width of its embedding.

    A classifier is a linear layer, or a convolution of one pixel, that is as wide as the output, after which no
    other layer with parameters comes, and of which channel k alone decides output k. Several at once (the two
    heads of a distilled transformer) count if they all do; the model then combines their inputs as it combined
    their outputs, or, if their widths do not let it, side by side (the two branches of a Conformer). The rule sees
    calls and gradients, never names, so it needs no table of families. The model is left in eval mode.

    Args:
        image_size: side in pixels of an image that the model surely takes; a smaller one is tried first.
        classifier: 'auto'; names of the modules to replace; or None if the model gives an embedding already.

    Raises:
        ConfigError: if a named module does not exist, or what is left gives no (N, D).
    """
    model.eval()
    images = fitting_images(model, image_size)
    if classifier == 'auto':
        names = find_classifiers(model, images)
    else:
        names = [classifier] if isinstance(classifier, str) else list(classifier or ())
    modules = [_child(model, name) for name in names]
    for stand_ins in ([nn.Identity() for _ in modules], _slots(modules)):
        for name, stand_in in zip(names, stand_ins):
            owner, _, child = name.rpartition('.')
            setattr(model.get_submodule(owner), child, stand_in)
        try:
            with torch.no_grad():
                embedding = pool(model(images))
            break
        except _REFUSALS as error:
            reason = error
    else:
        raise ConfigError(f'{type(model).__name__} without its classifier ({", ".join(names) or "none found"}) does '
                          f"not run: {reason} Name the modules to replace: classifier=['head'].") from reason
    return Stripped(tuple(names), embedding.shape[1])


def pool(outputs: object) -> Tensor:
    """(N, D) from (N, D), or from maps (N, C, H, W) by their mean; of several outputs the last counts, of a dict its
    `embedding`.

    Raises:
        ConfigError: for anything else.
    """
    if isinstance(outputs, Mapping) and 'embedding' in outputs:
        outputs = outputs['embedding']
    while isinstance(outputs, (tuple, list)) and outputs:
        outputs = outputs[-1]
    if isinstance(outputs, Tensor) and outputs.ndim == 4:
        outputs = outputs.mean((2, 3))
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ConfigError(f'The encoder gives {found}, expected an embedding (N, D) or maps (N, C, H, W); a dict has '
                          'it as embedding.')
    return outputs


def fitting_images(model: nn.Module, image_size: int) -> Tensor:
    """One small random image that the model takes, (1, 3, S, S); the same one in every process.

    Raises:
        ConfigError: if it takes no image of `image_size` either.
    """
    generator = torch.Generator().manual_seed(0)
    for size in sorted({min(_SMALL, image_size), image_size}):
        images = torch.randn(1, 3, size, size, generator=generator)
        try:
            with torch.no_grad():
                model(images)
            return images
        except _REFUSALS as error:
            reason = error
    raise ConfigError(f'{type(model).__name__} does not take images of {image_size} pixels: {reason} '
                      'Set preprocess=dict(resize=..., crop=...) to the size that it was made for.') from reason


def find_classifiers(model: nn.Module, images: Tensor) -> list[str]:
    """Names of the modules that `strip_classifier` replaces, first called first; empty if there are none."""
    calls: list[str] = []
    names = {id(module): name for name, module in model.named_modules() if module._parameters}

    def remember(module: nn.Module, _: tuple) -> None:
        calls.append(names[id(module)])

    # In the order in which calls begin: a module that holds others and a parameter of its own ends after them.
    handles = [module.register_forward_pre_hook(remember) for module in model.modules() if id(module) in names]
    try:
        with torch.no_grad():
            outputs = model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        return []
    found = []
    for name in reversed(calls):
        module = model.get_submodule(name)
        if _width(module) == outputs.shape[1]:
            if calls.count(name) > 1 or not _decides_alone(model, module, images):
                break
            found.append(name)
        elif not (found and _is_norm(module)):
            # Two heads may each have a normalisation of their own; any other layer belongs to the trunk.
            break
    return found[::-1]


def _width(module: nn.Module) -> int | None:
    """Number of outputs of a layer that a classifier can be, else None."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
        return module.out_channels
    return None


def _is_norm(module: nn.Module) -> bool:
    return 'norm' in type(module).__name__.lower()


@torch.enable_grad()  # Also where the caller builds its encoder without gradients.
def _decides_alone(model: nn.Module, module: nn.Module, images: Tensor) -> bool:
    """Whether output k of the model depends on channel k of the module's output and on no other channel."""
    held: list[Tensor] = []

    def hold(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[-1].clone()  # An activation in place must not write into the leaf.

    # Nothing before the module needs a gradient, so the graph is only what comes after it.
    handle = module.register_forward_hook(hold)
    try:
        with _no_parameter_gradients(model):
            outputs = model(images)
    finally:
        handle.remove()
    axis = held[0].ndim - 1 if isinstance(module, nn.Linear) else 1
    count, influence = outputs.shape[1], 0
    for k in sorted({0, 1, count // 3, count // 2, count - 1} & set(range(count))):
        if not outputs.requires_grad:
            return False
        gradient, = torch.autograd.grad(outputs[:, k].sum(), held[0], retain_graph=True, allow_unused=True)
        if gradient is None:
            return False
        per_channel = gradient.abs().movedim(axis, 0).flatten(1).sum(1)
        if (per_channel > 0).sum() > (per_channel[k] > 0):
            return False
        influence += int(per_channel[k] > 0)  # A rectifier after the classifier can silence single channels.
    return influence > 0


@contextmanager
def _no_parameter_gradients(model: nn.Module) -> Iterator[None]:
    wanted = [value for value in model.parameters() if value.requires_grad]
    for value in wanted:
        value.requires_grad_(False)
    try:
        yield
    finally:
        for value in wanted:
            value.requires_grad_(True)


def _child(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        known = ', '.join(child for child, _ in model.named_children())
        raise ConfigError(f"classifier: there is no module '{name}'. The outermost ones are: {known}.") from error


class _Slot(nn.Module):
    """Put the input into its own part of a wider, otherwise empty vector: the sum of all slots joins them."""

    def __init__(self, before: int, after: int, axis: int):
        super().__init__()
        self.pads = (before, after) if axis == -1 else (0, 0, 0, 0, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.pads)


def _slots(modules: Sequence[nn.Module]) -> list[_Slot]:
    """Stand-ins for classifiers whose inputs have different widths."""
    widths = [getattr(module, 'in_features', getattr(module, 'in_channels', 0)) for module in modules]
    return [_Slot(sum(widths[:i]), sum(widths[i + 1:]), 1 if isinstance(module, nn.Conv2d) else -1)
            for i, module in enumerate(modules)]
