"""MoCo's published names of tensors for a whole pretraining checkpoint, queue and key encoder included, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors

_SIDES = ('encoder_q', 'encoder_k')
_QUEUE = ('queue', 'queue_ptr')
# Modules of the projection that have tensors -> what MoCo v1 (one layer) and v2 (two) put behind `fc.`.
_PLACES = {('0',): {'0': ''}, ('0', '2'): {'0': '0.', '2': '2.'}}
_OURS = re.compile(r'(encoder_[qk])\.backbone\.(?:backbone\.)?(.+)')
_NECK_LAYER = re.compile(r'encoder_[qk]\.neck\.layers\.(\d+)\.(weight|bias)')
_PUBLISHED_HEAD = re.compile(r'fc\.(?:(\d)\.)?(weight|bias)')


def to_published(checkpoint: Mapping[str, object], arch: str) -> dict[str, object]:
    """A checkpoint of `MoCo` or `CLSA` as the published repository writes it: `epoch`, `arch`, `state_dict`.

    The optimiser stays behind: its state is by position, and the order of parameters differs.

    Args:
        checkpoint: ours, with `state_dict`.
        arch: torchvision's name of the backbone, stored beside the weights.

    Raises:
        CheckpointError: if there is no queue (another method), or the projection is not the MLP of one or two
            layers without BatchNorm that MoCo has.
    """
    state = _pretraining_state(checkpoint)
    missing = [name for name in _QUEUE if name not in state]
    if missing:
        raise CheckpointError(f'The checkpoint has no {missing[0]}: it is no MoCo or CLSA pretraining run, and only '
                              'those have a place in the published naming. Leave --target out for its backbone.')
    renamed = {f'module.{new}': state[old].contiguous() for old, new in _published_names(state).items()}
    return dict(epoch=_epoch_of(checkpoint), arch=arch, state_dict=renamed)


def from_published(path: str | Path) -> dict[str, Tensor]:
    """The state dict of our `MoCo` or `CLSA` model from a checkpoint of the published repository, for `load_from`.

    Raises:
        CheckpointError: if the file is no such checkpoint.
    """
    state = _pretraining_state(load_tensors(path))
    ours = {}
    for key, tensor in state.items():
        side, _, name = key.partition('.')
        if key in _QUEUE:
            ours[key] = tensor
        elif side in _SIDES:
            ours[f'{side}.{_our_name(name)}'] = tensor
    absent = [name for name in (*_SIDES, *_QUEUE) if not any(key.split('.')[0] == name for key in ours)]
    if absent:
        raise CheckpointError(f'{Path(path).name} has no {absent[0]}: it is no whole checkpoint of MoCo. '
                              f'First names: {", ".join([*state][:3])}.')
    return ours


def _pretraining_state(checkpoint: object) -> dict[str, Tensor]:
    state = checkpoint.get('state_dict') if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError("The file is no pretraining checkpoint: it has no 'state_dict'.")
    return {key.removeprefix('module.'): tensor for key, tensor in state.items()
            if isinstance(key, str) and isinstance(tensor, Tensor)}


def _published_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our name -> MoCo's, of everything that MoCo has."""
    names = {name: name for name in _QUEUE}
    for side in _SIDES:
        names |= {key: f'{side}.{found[2]}' for key in state if (found := _OURS.fullmatch(key)) and found[1] == side}
        neck = [key for key in state if key.startswith(f'{side}.neck.')]
        layers = [found for key in neck if (found := _NECK_LAYER.fullmatch(key))]
        places = _PLACES.get(tuple(sorted({found[1] for found in layers})))
        if places is None or not len(neck) == len(layers) == 2 * len(places):
            raise CheckpointError(f'The projection of {side} has {", ".join(neck[:6]) or "no tensors"}. The published '
                                  'naming has a place for Linear, or Linear-ReLU-Linear, with biases, no BatchNorm.')
        names |= {found[0]: f'{side}.fc.{places[found[1]]}{found[2]}' for found in layers}
    return names


def _our_name(name: str) -> str:
    found = _PUBLISHED_HEAD.fullmatch(name)
    if found is None:
        return f'backbone.{name}'
    return f'neck.layers.{found[1] or 0}.{found[2]}'


def _epoch_of(checkpoint: Mapping[str, object]) -> int:
    progress = checkpoint.get('progress')
    epoch = progress.get('epoch') if isinstance(progress, Mapping) else None
    return epoch if isinstance(epoch, int) else 0
