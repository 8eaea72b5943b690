"""How each published format names the tensors of a backbone.

A rule gives the name without the format's own dressing, or None for what is no part of the backbone: a projection, a
prototype, a momentum copy, a queue. Prefixes of wrappers (`module.`) are already gone when it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from clear.models.weights.efficientnet import from_efficientnet_pytorch
from clear.models.weights.families import translate, translate_value
from clear.models.weights.lightning import (
    from_lightly,
    from_lightly_resnet,
    from_lightly_student,
    from_lightly_teacher,
    from_solo,
)
from clear.models.weights.virb import PREFIX

# BYOL was never published in one place: online encoder of the common PyTorch versions, with what they nest in it.
_BYOL = re.compile(r'online(?:_encoder|_network|_net|_backbone)?\.(?:(?:net|encoder|backbone)\.)?')
_BYOL_HEADS = ('projector.', 'projection.', 'predictor.', 'fc.')

# What files hold besides a backbone, by the beginning of the name after the rule.
HEADS = ('fc.', 'head.', 'heads.', 'head_dist.', 'classifier.', 'last_linear.', 'neck.', 'projection_head.',
         'prototypes.', 'projector.', 'predictor.', 'data_preprocessor.', 'encoder_k.', 'queue', 'momentum_encoder.',
         'target_generator.', 'AuxLogits.', 'aux1.', 'aux2.', 'dino_head.', 'ibot_head.', 'dino_loss.',
         'ibot_patch_loss.', 'mask_token', 'prediction_head.', 'criterion.', 'online_classifier.',
         'classification_head.', 'decoder_', 'student_', 'teacher_', 'backbone_momentum.',
         'projection_head_momentum.', 'momentum_')

# DINOv2 groups the blocks of a network in training, and writes SwiGLU in other words than timm.
_BLOCK_OF_CHUNK = re.compile(r'blocks\.\d+\.(?=\d+\.)')
_SWIGLU = (('.mlp.w12.', '.mlp.fc1.'), ('.mlp.w3.', '.mlp.fc2.'))

_MERGING = re.compile(r'layers\.(\d+)\.downsample\.')
_BLOCK_OF_REGNET = re.compile(r'(s[1-4]\.b)(\d+)\.')
# Buffers that a Swin network computes itself.
COMPUTED = ('relative_position_index', 'relative_coords_table', 'attn_mask')

# What our own pretraining puts around the backbone that is evaluated, and what it keeps beside it.
_CLEAR = re.compile(r'(?:encoder_q|encoder|teacher)\.backbone\.(?:backbone\.)?')
_CLEAR_REST = re.compile(r'(?:encoder_q|encoder_k|momentum_encoder|student|teacher|criterion)\.|encoder\.neck\.')


def _as_it_is(key: str) -> str:
    return key


def _from_clear(key: str) -> str | None:
    # The query's, online or teacher's backbone of a pretraining run; classifiers have theirs under `backbone.`.
    found = _CLEAR.match(key)
    if found:
        return key[found.end():]
    return None if _CLEAR_REST.match(key) else key


def _from_torchvision(key: str) -> str:
    # Our classifiers call their last layer `head.fc`.
    return f'head.{key}' if key.startswith('fc.') else key


def _from_moco(key: str) -> str | None:
    # encoder_q is the trained encoder; its `fc` is the projection of the contrastive loss, not a classifier.
    return _below(key, 'encoder_q.', but='fc.')


def _from_simsiam(key: str) -> str | None:
    return _below(key, 'encoder.', but='fc.')


def _from_swav(key: str) -> str | None:
    return None if key.startswith(('projection_head.', 'prototypes.')) else key


def _from_vissl(key: str) -> str | None:
    return _below(key, '_feature_blocks.')


def _from_humantorch(key: str) -> str | None:
    return _below(key, 'feature_extractor.resnet.', but='fc.')


def _from_virb(key: str) -> str | None:
    # Converted by its scripts, with what they were converted from: `fc` may be a projection as well as a classifier.
    return _below(key, PREFIX, but='fc.')


def _from_byol(key: str) -> str | None:
    found = _BYOL.match(key)
    name = key[found.end():] if found else None
    return None if name is None or name.startswith(_BYOL_HEADS) else name


def _from_openclip(key: str) -> str | None:
    return _below(key, 'visual.')


def _from_itra(key: str) -> str | None:
    return _below(key, 'image_backbone.')


def _from_openclip_text(key: str) -> str | None:
    # The text tower of a whole model, whether its parts lie below `text.` or, as in CLIP itself, beside `visual.`.
    return None if key.startswith(('visual.', 'logit_')) else key.removeprefix('text.')


def _from_dino_training(key: str) -> str | None:
    # DINO and DINOv2: `backbone.` in a training's teacher, bare in what is published. The heads are for the loss.
    key = key.removeprefix('backbone.')
    return None if key.startswith(('head.', 'dino_head.', 'ibot_head.')) else _BLOCK_OF_CHUNK.sub('blocks.', key)


def _from_dino(key: str) -> str | None:
    name = _from_dino_training(key)
    for theirs, timm in _SWIGLU:
        name = name and name.replace(theirs, timm)
    return name


def _from_timm(key: str) -> str | None:
    # timm calls a ResNet's classifier `fc`, ours is `head.fc`.
    return _from_torchvision(_without_wrapper(key))


def _from_microsoft(key: str) -> str:
    """timm's names of a Swin in the layout of its authors, who merge patches at the end of a stage."""
    key = _MERGING.sub(lambda found: f'layers.{int(found[1]) + 1}.downsample.', key)
    return f'head.fc.{key[5:]}' if key.startswith('head.') else key


def _from_tower(key: str) -> str | None:
    return _below(key, 'visual.', but='proj')  # the projection is no part of the backbone


def _translated(source: str) -> Callable[[str], str | None]:
    family, library, undress = TRANSLATED[source]

    def rule(key: str) -> str | None:
        name = undress(key)
        return None if name is None or name.endswith(COMPUTED) else translate(name, family, library, 'mmpretrain')

    return rule


def _meaning(key: str, source: str) -> str | None:
    """The name by the rule; what a translated family has no word for keeps its own, so that it stays in sight."""
    name = SOURCES[source](key)
    if name is None and source in TRANSLATED:
        name = TRANSLATED[source][2](key)
        return None if name is None or name.endswith(COMPUTED) else name
    return name


def _without_wrapper(key: str) -> str:
    return key.removeprefix('timm_model.')  # transformers wraps models of timm


def _counted_from_zero(key: str) -> str:
    return _BLOCK_OF_REGNET.sub(lambda found: f'{found[1]}{int(found[2]) - 1}.', _without_wrapper(key))


def _below(key: str, prefix: str, but: str | None = None) -> str | None:
    name = key.removeprefix(prefix) if key.startswith(prefix) else None
    return None if name is None or (but is not None and name.startswith(but)) else name


# Format -> family, library and undressing of what is translated into the names of mmpretrain's networks.
TRANSLATED: dict[str, tuple[str, str, Callable[[str], str | None]]] = {
    'timm_vit': ('vit', 'timm', _without_wrapper),
    'dino_vit': ('vit', 'timm', _from_dino_training),
    'torchvision_vit': ('vit', 'torchvision', _as_it_is),
    'openclip_vit': ('vit', 'original', _from_tower),
    'timm_convnext': ('convnext', 'timm', _without_wrapper),
    'torchvision_convnext': ('convnext', 'torchvision', _as_it_is),
    'facebook_convnext': ('convnext', 'original', _as_it_is),
    'timm_swin': ('swin', 'timm', _without_wrapper),
    'torchvision_swin': ('swin', 'torchvision', _as_it_is),
    'microsoft_swin': ('swin', 'original', _as_it_is),
    'timm_swin_v2': ('swin_v2', 'timm', _without_wrapper),
    'microsoft_swin_v2': ('swin_v2', 'original', _as_it_is),
    'timm_regnet': ('regnet', 'timm', _counted_from_zero),
    'torchvision_regnet': ('regnet', 'torchvision', _as_it_is),
    'timm_mobilenet_v2': ('mobilenet_v2', 'timm', _without_wrapper),
    'torchvision_mobilenet_v2': ('mobilenet_v2', 'torchvision', _as_it_is),
    'torchvision_mobilenet_v3': ('mobilenet_v3', 'torchvision', _as_it_is),
}

# Format -> rule. `backbone.` is put in front or taken off afterwards, as the model wants it. With source='auto' the
# format that fits most tensors wins, then order.
SOURCES: dict[str, Callable[[str], str | None]] = {
    'clear': _from_clear,
    'mmpretrain': _as_it_is,
    'torchvision': _from_torchvision,
    'timm': _from_timm,
    'moco': _from_moco,
    'clsa': _from_moco,  # built on MoCo's code, with its names
    'swav': _from_swav,
    'simsiam': _from_simsiam,
    'pirl': _from_vissl,
    'exemplar': _from_vissl,
    'humantorch': _from_humantorch,
    'virb': _from_virb,
    'byol': _from_byol,
    'openclip': _from_openclip,
    'openclip_text': _from_openclip_text,
    'efficientnet_pytorch': from_efficientnet_pytorch,
    'itra': _from_itra,
    'protoclip': _from_openclip,  # built on open_clip's code, with its names
    'dino': _from_dino,
    'microsoft': _from_microsoft,  # into timm's Swin
    **{source: _translated(source) for source in TRANSLATED},
    'lightly': from_lightly,
    'lightly_teacher': from_lightly_teacher,
    'lightly_student': from_lightly_student,
    'lightly_resnet': from_lightly_resnet,
    'solo': from_solo,
}


def without_a_place(names: Sequence[str], source: str, removed: Sequence[str] = ()) -> list[str]:
    """Those of a file's unexpected tensors that are neither a head nor anything else known beside a backbone.

    They say that the file holds a larger network than the one it was loaded into (a ResNet-101 into a ResNet-50).

    Args:
        names: `LoadReport.unexpected`.
        removed: modules taken off the network, its own classifier among them.
    """
    heads = HEADS + tuple(f'{name}.' for name in removed)
    renamed = ((name, _meaning(name, source)) for name in names)
    return [name for name, new in renamed
            if new is not None and not new.removeprefix('backbone.').startswith(heads)]


def adapted(value: Tensor, source: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of a translated format as mmpretrain keeps it; axes of one element come and go.

    Args:
        name: what the rule of `source` made of its name.
        shape: that of the model's tensor.
    """
    if source not in TRANSLATED:
        return value
    family, library, _ = TRANSLATED[source]
    value = translate_value(name, value, family, library, 'mmpretrain')
    ours, theirs = ([size for size in sizes if size != 1] for sizes in (shape, value.shape))
    return value.reshape(shape) if ours == theirs else value
