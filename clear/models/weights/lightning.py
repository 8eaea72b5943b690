"""Names in checkpoints of lightly and solo-learn, which are those of a LightningModule with a backbone and heads."""

from __future__ import annotations

import re

# lightly's tutorials cut the classifier off by `nn.Sequential(*children[:-1])`, so that layers go by their position:
# of torchvision's ResNet, and of lightly's own for small images, which has no layers between stem and stages.
OF_TORCHVISION = {'0': 'conv1', '1': 'bn1', '4': 'layer1', '5': 'layer2', '6': 'layer3', '7': 'layer4'}
_OF_LIGHTLY = {'0': 'conv1', '1': 'bn1', '2': 'layer1', '3': 'layer2', '4': 'layer3', '5': 'layer4'}
_NUMBERED = re.compile(r'(\d+)\.(.+)')
# In whole runs of lightly's command line, in MaskedVisionTransformerTIMM and ...Torchvision.
_INNER = ('backbone.', 'vit.')
_SIDES = ('backbone.', 'student_backbone.', 'teacher_backbone.', 'backbone_momentum.', 'momentum_backbone.')
_HEADS = ('projection_head', 'prediction_head', 'prototypes', 'criterion', 'student_', 'teacher_', 'queue',
          'online_classifier', 'classification_head')


def from_lightly(key: str) -> str | None:
    """Of the trained backbone; a bare one's names, too, are by position."""
    key = key.removeprefix('model.')
    if key.startswith('backbone.'):
        return _by_name(key.removeprefix('backbone.'))
    return None if key.startswith(_SIDES + _HEADS) else _by_name(key)


def from_lightly_teacher(key: str) -> str | None:
    return _below(key, 'teacher_backbone.')


def from_lightly_student(key: str) -> str | None:
    return _below(key, 'student_backbone.')


def from_lightly_resnet(key: str) -> str | None:
    """Of a backbone made of lightly's own ResNet (`ResNetGenerator`)."""
    found = _NUMBERED.fullmatch(key.removeprefix('model.').removeprefix('backbone.'))
    if found is None or found[1] not in _OF_LIGHTLY:
        return None
    return f'{_OF_LIGHTLY[found[1]]}.{found[2]}'.replace('.shortcut.', '.downsample.')


def from_solo(key: str) -> str | None:
    """solo-learn calls the trained network `backbone`, before its release 1.0.3 `encoder`."""
    for side in ('backbone.', 'encoder.'):
        if key.startswith(side):
            name = key.removeprefix(side)
            return None if name.startswith('fc.') else name
    return None


def _below(key: str, prefix: str) -> str | None:
    return _by_name(key.removeprefix(prefix)) if key.startswith(prefix) else None


def _by_name(key: str) -> str:
    for inner in _INNER:
        key = key.removeprefix(inner)
    found = _NUMBERED.fullmatch(key)
    return f'{OF_TORCHVISION[found[1]]}.{found[2]}' if found and found[1] in OF_TORCHVISION else key
