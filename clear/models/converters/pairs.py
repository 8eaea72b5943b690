"""Turn a checkpoint of two towers, written by another system, into one of an `ImageTextAlignment`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from clear.core.errors import CheckpointError, ConfigError, nearest
from clear.core.logs import logger
from clear.models.alignment import ImageTextAlignment
from clear.models.converters.pair_names import PAIR_SOURCES, find_source, is_implied
from clear.models.selfsup.parts.encoder import build_part
from clear.models.weights.load import read_state

# What belongs to a loss: other systems do not save it, or have another one.
_OF_LOSS = ('criterion.', 'simcse.', 'logit_scale', 'logit_bias')


@dataclass(frozen=True)
class PairConversion:
    """A converted pair of towers.

    Args:
        state: every tensor of the model that was asked for.
        source: the system that the names are of, a key of `PAIR_SOURCES`.
        unused: names of the file that the model has no place for, and those that say nothing (`position_ids`).
        kept: names of the model that the file does not have; they are as the config makes them.
    """

    state: dict[str, Tensor]
    source: str
    unused: tuple[str, ...]
    kept: tuple[str, ...]


def convert_pair(path: str | Path, model: Mapping | ImageTextAlignment, *, source: str = 'auto',
                 drop: Sequence[str] = ()) -> PairConversion:
    """Read both towers, their heads and the scales of a checkpoint of ITRA, ProtoCLIP or open_clip.

    Their `epoch_<n>.pt` holds `epoch`, `name`, `state_dict`, `optimizer` and `scaler`, often with `module.` in front of
    every name; only the weights are taken. All towers and heads must be there, and all of the file must find a place,
    but for what the loss of the config has of its own (queues, centres, priors, a scale).

    Args:
        model: the `model` of a config that describes the run which wrote the file, or the module.
        source: a key of `PAIR_SOURCES`, or `'auto'`.
        drop: beginnings of names in the file that are to be left out.

    Raises:
        CheckpointError: if something of the towers or heads is missing, is left over or has another shape.
        ConfigError: if `model` is no alignment, `source` is unknown, or an entry of `drop` fits nothing.
    """
    built = build_part('model', model)
    if not isinstance(built, ImageTextAlignment):
        raise ConfigError(f"model is a {type(built).__name__}, expected dict(type='ImageTextAlignment', ...).")
    tensors, name = read_state(path), Path(path).name
    if source == 'auto':
        source = find_source([*tensors])
        if source is None:
            raise CheckpointError(f'{name} holds no pair of towers by the names of ITRA, ProtoCLIP or open_clip. First '
                                  f'names: {", ".join([*tensors][:3])}.')
    elif source not in PAIR_SOURCES:
        raise ConfigError(f"source '{source}' is no system with pairs of towers, nearest: "
                          f'{nearest(source, PAIR_SOURCES) or ", ".join(PAIR_SOURCES)}.')
    unfit = [each for each in drop if not any(key.startswith(each) for key in tensors)]
    if unfit:
        raise ConfigError(f"drop: no tensor of {name} begins with '{unfit[0]}'. First names: "
                          f'{", ".join([*tensors][:3])}.')
    wanted = built.state_dict()
    state, unused, left = {}, [], []
    for key, tensor in tensors.items():
        dropped = key.startswith(tuple(drop)) if drop else False
        places = () if dropped else PAIR_SOURCES[source](key, tensor)
        place = next((place for place in places if place.keys() <= wanted.keys()), None)
        if place is not None:
            state |= place
            continue
        unused.append(key)
        if not dropped and not is_implied(key, tensor):
            left.append(key)
    state = _with_aliases(built, state)
    missing = [key for key in wanted if key not in state]
    lost = [key for key in missing if not key.startswith(_OF_LOSS)]
    if lost or left:
        raise CheckpointError(_refusal(name, source, lost, left, len(wanted)))
    _check_shapes(name, state, wanted)
    if source == 'protoclip' and any(isinstance(module, nn.GELU) for module in built.text_encoder.modules()):
        logger.warning('ProtoCLIP trains its own towers with QuickGELU, those of this config have GELU: set '
                       'quick_gelu=True in both, unless the image tower is one of timm.')
    full = {key: state[key].to(value.dtype).clone() if key in state else value for key, value in wanted.items()}
    return PairConversion(full, source, tuple(unused), tuple(missing))


def _with_aliases(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds names of the model for one and the same tensor, of which a file may have one."""
    named = model.state_dict(keep_vars=True)
    by_tensor = {id(value): state[key] for key, value in named.items() if key in state}
    return {key: state.get(key, by_tensor.get(id(value))) for key, value in named.items()
            if key in state or id(value) in by_tensor}


def _check_shapes(name: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    other = [f'{key} {tuple(value.shape)}, expected {tuple(wanted[key].shape)}' for key, value in state.items()
             if value.shape != wanted[key].shape]
    if other:
        raise CheckpointError(f'{name} holds {len(other)} tensors of another shape than the model of the config. '
                              f'First: {other[0]}.')


def _refusal(name: str, source: str, lost: Sequence[str], left: Sequence[str], total: int) -> str:
    words = [f'{name} ({source}) does not fit the model of the config.']
    if lost:
        words.append(f'It lacks {len(lost)} of {total} tensors, first {lost[0]}.')
    if left:
        groups = Counter('.'.join(key.split('.')[:1 if key.count('.') < 2 else 2]) for key in left)
        words.append(f'{len(left)} of its own have no place: '
                     f'{", ".join(f"{group} ({count})" if count > 1 else group for group, count in groups.items())}.')
    words.append('Let the config describe the towers and heads of the run that wrote it'
                 + ('; what is not wanted is named with --drop.' if left and not lost else '.'))
    return ' '.join(words)
