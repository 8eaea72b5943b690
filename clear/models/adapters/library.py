"""Adapters on language models of transformers, by the `adapters` library, under the names of a published system."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn

from clear.core.checks import check_choice
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors
from clear.core.logs import logger
from clear.models.towers.base import require_library

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

# Not 'clear', which a ModuleDict has as a method.
NAME = 'added'
ADAPTERS: dict[str, Callable[[ModuleType], object]] = {
    # After attention and after the feed-forward layer (Houlsby et al. 2019, arXiv:1902.00751).
    'bottleneck_adapter': lambda library: library.DoubleSeqBnConfig(reduction_factor=16, non_linearity='relu'),
    'lang_adapter': lambda library: library.SeqBnInvConfig(),
    'prefix_tuning': lambda library: library.PrefixTuningConfig(flat=False, prefix_length=30),
    'lora_adapter': lambda library: library.LoRAConfig(r=8, alpha=16),
    'dummy': lambda library: library.CompacterConfig(),  # the odd name is historical
    'ia3_adapter': lambda library: library.IA3Config(),
    'mam_adapter': lambda library: library.MAMConfig(),
    'unipelt': lambda library: library.UniPELTConfig(),
}
# Those that become part of the weights without a change of the output.
MERGEABLE = ('lora_adapter', 'ia3_adapter')
# Those with parts that the library hands out for one forward pass: a block cannot be computed again after it.
PER_PASS = ('prefix_tuning', 'mam_adapter', 'unipelt', 'dummy')


def add_adapter(network: nn.Module, kind: str, weights: str | Path | None = None) -> tuple[str, ...]:
    """Put an adapter into a language model, active; returns the names of its parameters.

    Args:
        kind: a key of `ADAPTERS`.
        weights: a file that `save_adapter` wrote, of the same kind.

    Raises:
        ConfigError: if the library is missing, takes no network of this class, or the sizes do not fit.
        CheckpointError: if the file holds another adapter.
    """
    check_choice('adapter', kind, ADAPTERS)
    library = require_library('adapters', f"adapter='{kind}'")
    before = {name for name, _ in network.named_parameters()}
    try:
        library.init(network)
        network.add_adapter(NAME, config=ADAPTERS[kind](library))
        network.set_active_adapters(NAME)
    except (AssertionError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError,
            NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"adapter='{kind}' cannot be added to {type(network).__name__}: {reason}") from error
    added = tuple(name for name, _ in network.named_parameters() if name not in before)
    if weights is not None:
        _load(network, added, weights)
    count = sum(value.numel() for name, value in network.named_parameters() if name in set(added))
    total = sum(value.numel() for value in network.parameters())
    logger.info("adapter '%s': %s parameters beside %s of %s.", kind, f'{count:,}', f'{total - count:,}',
                type(network).__name__)
    return added


def save_adapter(network: nn.Module, file: str | Path) -> None:
    """Write the adapter's parameters alone.

    Not in the library's format: of a network without a head that one leaves out Compacter's shared rule.
    """
    save_file({name: value.detach().cpu().contiguous() for name, value in network.named_parameters()
               if name not in plain_state(network)}, str(file))


def _load(network: nn.Module, added: tuple[str, ...], file: str | Path) -> None:
    state = load_tensors(file)
    own = {name: network.get_parameter(name) for name in added}
    wrong = [name for name in sorted({*own, *state}) if name not in own or name not in state
             or own[name].shape != state[name].shape]
    if wrong:
        raise CheckpointError(f'{Path(file).name} holds another adapter: {len(wrong)} of {len(own)} parameters do not '
                              f'fit, first {wrong[0]}.')
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])


def save_base(network: nn.Module, folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write a network of transformers with these weights, so that it loads without the library of adapters too."""
    # transformers' own method: that of adapters 1.3 takes the prefixes out of the layers, which cannot train on.
    from transformers import PreTrainedModel

    PreTrainedModel.save_pretrained(network, folder, state_dict=state)


@contextmanager
def merged(network: nn.Module, kind: str) -> Iterator[dict[str, torch.Tensor]]:
    """The plain network's weights with the adapter in them; inside, the network computes with those.

    Raises:
        ConfigError: if this kind of adapter cannot be merged: the library's own call would change nothing.
    """
    if kind not in MERGEABLE:
        raise ConfigError(f"adapter='{kind}' cannot be merged into the weights; only {' and '.join(MERGEABLE)} can. "
                          'Export it beside the base: encoder.save(folder).')
    layers = [module for module in network.modules() if NAME in getattr(module, 'loras', {})]
    before = [(value, value.detach().clone()) for layer in layers for value in layer.parameters(recurse=False)]
    network.merge_adapter(NAME)
    try:
        with torch.no_grad():
            for layer in layers:
                _scale_bias(layer)
        yield plain_state(network)
    finally:
        network.reset_adapter()
        with torch.no_grad():  # To the bit: the library divides by what it had multiplied with.
            for value, was in before:
                value.copy_(was)


def _scale_bias(layer: nn.Module) -> None:
    """IA3 rescales what a layer gives, its bias too; merge_adapter of adapters 1.3 leaves the bias as it is."""
    change = layer.loras[NAME]
    if change.composition_mode != 'scale' or layer.bias is None:
        return
    factor = change.lora_B.reshape(1, -1) * change.scaling
    # A layer of query, key and value at once is rescaled in two of its parts.
    layer.bias.mul_((layer.pad(factor, change) if hasattr(layer, 'pad') else factor).reshape(-1))


def plain_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights under the names that the network has without the adapter."""
    # The library keeps the table of words under a second name.
    own = (f'.{NAME}.', '.prompt_tuning.')
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()
            if not any(part in f'.{name}.' for part in own)}
