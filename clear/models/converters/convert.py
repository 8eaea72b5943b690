"""Turn a checkpoint, published or ours, into the plain weights of its backbone or into another project's file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clear.core.checks import check_choice
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import atomic_writer, load_tensors, save_tensors
from clear.core.storage.damage import check_finite
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.build import build_encoder
from clear.models.weights import local_weights
from clear.models.weights.detectron2 import write_detectron2
from clear.models.weights.load import LoadReport, read_state
from clear.models.weights.moco import from_published, to_published
from clear.models.weights.rules import without_a_place
from clear.models.weights.virb import PREFIX, to_virb

TARGETS = ('torchvision', 'mmpretrain', 'virb', 'detectron2', 'moco', 'clear')
_MAKERS = {'torchvision': 'TorchvisionEncoder', 'timm': 'TimmEncoder', 'open_clip': 'OpenCLIPImageEncoder',
           'cifar': 'MMPretrainEncoder'}
# Families whose tensors mmpretrain names as torchvision does, and from whose names the other targets' follow.
_SHARED_NAMES = ('resnet', 'resnext', 'wide_resnet')
_CIFAR = re.compile('resnet(18|34|50|101|152)')


@dataclass(frozen=True)
class Conversion:
    """A converted backbone.

    Args:
        state: tensors by torchvision's names ('torchvision', 'detectron2') or mmpretrain's; for the targets 'moco' and
            'clear' the whole checkpoint.
        report: what matched; `unexpected` lists the tensors of heads, which were dropped.
        encoder: the network with these weights, ready for a sanity check.
    """

    state: dict[str, object]
    report: LoadReport
    encoder: ImageEncoder


def convert_weights(path: str | Path, *, source: str = 'auto', arch: str = 'resnet50',
                    target: str = 'torchvision') -> Conversion:
    """Read a checkpoint in one of the formats of `SOURCES` as the backbone of `arch`.

    Args:
        arch: a model of torchvision; `'timm/NAME'` and `'open_clip/NAME'` are those libraries'; `'cifar/resnet18'` is
            the ResNet for small images, with a 3 x 3 stem (mmpretrain's `ResNet_CIFAR`).
        target: whose names to give: 'torchvision' stands for those of the library of `arch`; 'mmpretrain' puts
            `backbone.` in front, 'virb' `model.` (a file of ViRB, with the projections that its own scripts would
            keep); 'detectron2' is renamed when it is written. For whole pretraining checkpoints: 'moco'
            writes ours as the published repository would, 'clear' the published one as ours (for `load_from`).
            All but the first are for ResNets.

    Raises:
        CheckpointError: if a tensor of the backbone is missing or of another shape, or the file holds a larger one,
            or is not what the target needs.
        ConfigError: if `arch` is unknown, or has no such target.
    """
    _check_target(target, arch)
    path = local_weights(path)
    encoder = build_encoder(dict(**_encoder_config(arch),
                                 weights=dict(path=str(path), source=source, min_matched=1.0)))
    report = encoder.load_report
    foreign = without_a_place(report.unexpected, report.source, encoder.removed)
    if foreign:
        raise CheckpointError(f'{Path(path).name} holds {len(foreign)} tensors that {arch} has no place for and that '
                              f'belong to no head. First: {foreign[0]}. Is --arch right?')
    if target == 'moco':
        return Conversion(to_published(load_tensors(path), _split(arch)[1]), report, encoder)
    if target == 'clear':
        return Conversion(dict(state_dict=from_published(path)), report, encoder)
    tensors = encoder.model.state_dict()
    state = {key.removeprefix('backbone.'): tensors[key] for key in tensors if key in set(report.matched)}
    if target == 'virb' and (renamed := to_virb(read_state(path), report.source)) is not None:
        return Conversion(renamed, report, encoder)
    prefix = {'mmpretrain': 'backbone.', 'virb': PREFIX}.get(target, '')
    return Conversion({prefix + key: tensor for key, tensor in state.items()}, report, encoder)


def random_encoder(arch: str) -> ImageEncoder:
    """The network of `arch` with random weights, to compare with."""
    return build_encoder(_encoder_config(arch))


def _check_target(target: str, arch: str) -> None:
    check_choice('target', target, TARGETS)
    library, name = _split(arch)
    if target != 'torchvision' and (library not in ('torchvision', 'cifar') or not name.startswith(_SHARED_NAMES)):
        raise ConfigError(f'--target {target}: {target} names the tensors of {arch} differently. Only ResNet, '
                          'ResNeXt and Wide ResNet of torchvision can be written for it.')
    if target == 'detectron2' and library == 'cifar':
        raise ConfigError("--target detectron2: its ResNet has a 7 x 7 stem, a network for small images a 3 x 3 one.")


def _encoder_config(arch: str) -> dict[str, object]:
    library, name = _split(arch)
    if library != 'cifar':
        return dict(type=_MAKERS[library], arch=name)
    found = _CIFAR.fullmatch(name)
    if found is None:
        raise ConfigError(f"arch '{arch}': there are cifar/resnet18, 34, 50, 101 and 152.")
    return dict(type=_MAKERS[library], backbone=dict(type='ResNet_CIFAR', depth=int(found[1])),
                preprocess=dict(resize=32, crop=32))


def _split(arch: str) -> tuple[str, str]:
    library, _, name = arch.rpartition('/')
    library = library or 'torchvision'
    if library not in _MAKERS:
        raise ConfigError(f"arch '{arch}': '{library}' is no known library; there are {', '.join(_MAKERS)}.")
    return library, name


def write_weights(path: str | Path, state: dict[str, object], target: str = 'torchvision') -> None:
    """Write a conversion's `state`, whole or not at all: as safetensors if `path` ends so, else as a file of torch.

    Args:
        target: for 'detectron2' the pickle of that library is written.

    Raises:
        ConfigError: if the file format cannot hold the target's values.
        CheckpointError: for weights that are NaN or infinite.
    """
    check_output(path, target)
    check_content(state)
    if target == 'detectron2':
        write_detectron2(path, state)
    elif str(path).endswith('.safetensors'):
        _write_safetensors(path, state)
    else:
        save_tensors(path, state)


def check_content(state: dict[str, object]) -> None:
    """Refuse a conversion's `state` with weights that are NaN or infinite, naming the first, as a CheckpointError."""
    check_finite('The weights', state, 'nobody could use what is written. Take an earlier checkpoint.')


def check_output(path: str | Path, target: str) -> None:
    """Refuse a file whose format, told by its name, cannot hold what the target needs.

    Raises:
        ConfigError: for anything but tensors in a safetensors file.
    """
    if str(path).endswith('.safetensors') and target in ('detectron2', 'moco', 'clear'):
        raise ConfigError(f'{path}: a safetensors file holds tensors alone; --target {target} needs '
                          f"{'.pkl' if target == 'detectron2' else '.pth'}.")


def _write_safetensors(path: str | Path, state: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    with atomic_writer(path) as file:
        file.write(save(state))
