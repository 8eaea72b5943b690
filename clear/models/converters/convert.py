"""Turn a published checkpoint into the plain weights of its backbone, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import atomic_writer, save_tensors
from clear.models.converters.rules import without_a_place
from clear.models.towers.base import ImageEncoder
from clear.models.towers.build import build_encoder
from clear.models.weights import LoadReport

TARGETS = ('torchvision', 'mmpretrain')
_MAKERS = {'torchvision': 'TorchvisionEncoder', 'timm': 'TimmEncoder', 'open_clip': 'OpenCLIPImageEncoder'}
# Families whose tensors mmpretrain names as torchvision does.
_SHARED_NAMES = ('resnet', 'resnext', 'wide_resnet')


@dataclass(frozen=True)
class Conversion:
    """A converted backbone.

    Args:
        state: tensors by the target's names.
        report: what matched; `unexpected` lists the tensors of heads, which were dropped.
        encoder: the network with these weights, ready for a sanity check.
    """

    state: dict[str, Tensor]
    report: LoadReport
    encoder: ImageEncoder


def convert_weights(path: str | Path, *, source: str = 'auto', arch: str = 'resnet50',
                    target: str = 'torchvision') -> Conversion:
    """Read a checkpoint in one of the formats of `SOURCES` as the backbone of `arch`.

    Args:
        arch: a model of torchvision; `'timm/NAME'` and `'open_clip/NAME'` are those libraries'.
        target: whose names to give: 'torchvision' stands for those of the library of `arch`; 'mmpretrain' puts
            `backbone.` in front, for ResNets, whose other names it shares with torchvision.

    Raises:
        CheckpointError: if a tensor of the backbone is missing or of another shape, or the file holds a larger one.
        ConfigError: if `arch` is unknown, or has no such target.
    """
    library, name = _split(arch)
    if target == 'mmpretrain' and (library != 'torchvision' or not name.startswith(_SHARED_NAMES)):
        raise ConfigError(f'--target mmpretrain: mmpretrain names the tensors of {arch} differently. Only ResNet, '
                          'ResNeXt and Wide ResNet of torchvision can be written for it.')
    if target not in TARGETS:
        raise ConfigError(f"target is '{target}', expected one of {TARGETS}.")
    encoder = build_encoder(dict(type=_MAKERS[library], arch=name,
                                 weights=dict(path=str(path), source=source, min_matched=1.0)))
    report = encoder.load_report
    foreign = without_a_place(report.unexpected, report.source, encoder.removed)
    if foreign:
        raise CheckpointError(f'{Path(path).name} holds {len(foreign)} tensors that {arch} has no place for and that '
                              f'belong to no head. First: {foreign[0]}. Is --arch right?')
    tensors = encoder.model.state_dict()
    prefix = 'backbone.' if target == 'mmpretrain' else ''
    return Conversion({prefix + key: tensors[key] for key in tensors if key in set(report.matched)}, report, encoder)


def random_encoder(arch: str) -> ImageEncoder:
    """The network of `arch` with random weights, to compare with."""
    library, name = _split(arch)
    return build_encoder(dict(type=_MAKERS[library], arch=name))


def _split(arch: str) -> tuple[str, str]:
    library, _, name = arch.rpartition('/')
    library = library or 'torchvision'
    if library not in _MAKERS:
        raise ConfigError(f"arch '{arch}': '{library}' is no known library; there are {', '.join(_MAKERS)}.")
    return library, name


def write_weights(path: str | Path, state: dict[str, Tensor]) -> None:
    """Write a state dict, whole or not at all: as safetensors if `path` ends so, else as a file of torch."""
    if not str(path).endswith('.safetensors'):
        save_tensors(path, state)
        return
    from safetensors.torch import save

    with atomic_writer(path) as file:
        file.write(save(state))
