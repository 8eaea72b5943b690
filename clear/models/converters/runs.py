"""Write a trained run of ours, backbone and classifier, as another library writes its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from clear.core.checks import check_choice
from clear.core.errors import CheckpointError, ClearError, ConfigError
from clear.core.files import load_tensors
from clear.core.results import RESULTS_FILE, read_results
from clear.models.weights import local_weights
from clear.models.weights.families import translate, translate_value
from clear.models.weights.lightning import OF_TORCHVISION
from clear.models.weights.rules import SOURCES

RUN_TARGETS = ('mmpretrain', 'timm', 'torchvision', 'lightly')
# Encoders of ours that are networks of these libraries, under their names.
_LIBRARY_OF = {'TimmEncoder': 'timm', 'TorchvisionEncoder': 'torchvision'}
_FAMILY_OF = {'ResNet': 'resnet', 'ResNeXt': 'resnet', 'VisionTransformer': 'vit', 'ConvNeXt': 'convnext',
              'SwinTransformer': 'swin'}
# Arguments of mmpretrain's backbones that no name tells of, with the values for which the other libraries' networks
# compute the same.
_SAME_ONLY_FOR = {
    'resnet': dict(style=('pytorch',), num_stages=(4,), strides=((1, 2, 2, 2),), dilations=((1, 1, 1, 1),),
                   conv_cfg=(None,), norm_cfg=(dict(type='BN'), dict(type='BN', requires_grad=True))),
    'vit': dict(out_type=('cls_token',), pre_norm=(False,), norm_cfg=(dict(type='LN', eps=1e-6),), patch_cfg=({},),
                layer_cfgs=({},), final_norm=(True,), with_cls_token=(True,)),
    'convnext': dict(gap_before_final_norm=(True,), norm_cfg=(dict(type='LN2d', eps=1e-6),),
                     act_cfg=(dict(type='GELU'),), linear_pw_conv=(True,)),
    'swin': dict(out_indices=((3,),), out_after_downsample=(False,), pad_small_map=(False,),
                 norm_cfg=(dict(type='LN'),), stage_cfgs=({},), patch_cfg=({},)),
}
# Head and family -> where the linear layer stands, and where the family's own head has it.
_HEADS = {('LinearClsHead', 'resnet'): ('head.fc.', 'head.fc.'),
          ('LinearClsHead', 'convnext'): ('head.fc.', 'head.fc.'),
          ('LinearClsHead', 'swin'): ('head.fc.', 'head.fc.'),
          ('LinearClsHead', 'vit'): ('head.fc.', 'head.layers.head.'),
          ('VisionTransformerClsHead', 'vit'): ('head.layers.head.', 'head.layers.head.')}
_POSITIONS = {name: position for position, name in OF_TORCHVISION.items()}
_RESNET_NAME = re.compile(r'(?:conv1|bn1|layer[1-4]\.\d+\.(?:conv[123]|bn[123]|downsample\.[01]))\.\w+')
_LARGE_STEM = (7, 7)
_NOT_IN_TIMM = '.relative_position_index'  # which computes it when the network is built


@dataclass(frozen=True)
class ExportedRun:
    """A run under another library's names.

    Args:
        content: what goes into the file: tensors by name, or for mmpretrain a checkpoint with them.
        num_backbone, num_head: tensors of either.
        left_out: tensors that the library has no place for: projections, queues, momentum copies, other heads.
    """

    content: dict[str, object]
    num_backbone: int
    num_head: int
    left_out: list[str] = field(default_factory=list)


def export_run(path: str | Path, target: str) -> ExportedRun:
    """The backbone of a run of ours, and its classifier if it has one, by the names of another library.

    Of a pretraining it is the encoder that is meant for use: the query's, the online one, or DINO's teacher.

    | target | what loads it |
    |---|---|
    | `mmpretrain` | `ImageClassifier` with the same parts, and `init_cfg=dict(type='Pretrained', prefix='backbone')` |
    | `timm`, `torchvision` | their model, strictly: with `num_classes`, or (a pretraining) without a classifier |
    | `lightly` | `nn.Sequential(*list(resnet.children())[:-1])` of torchvision's ResNet, without a classifier |

    For other libraries than mmpretrain: ResNet, ResNeXt, Vision Transformer, ConvNeXt and Swin, in the forms that these
    libraries have too.

    Raises:
        CheckpointError: if the file is no checkpoint of ours.
        ConfigError: if the library has no such network.
    """
    check_choice('to', target, RUN_TARGETS)
    path = local_weights(path)
    checkpoint = load_tensors(path)
    if not (isinstance(checkpoint, Mapping) and isinstance(checkpoint.get('config'), Mapping)
            and isinstance(checkpoint.get('state_dict'), Mapping)):
        raise CheckpointError(f'{path} is no checkpoint of ours, with state_dict and config. For others: --source and '
                              '--target.')
    model = checkpoint['config'].get('model') or {}
    backbone, head, left_out = _parts(checkpoint['state_dict'])
    if not backbone:
        raise ConfigError(f'{path} has no backbone; a classifier of features has no form in {target}.')
    to = 'torchvision' if target == 'lightly' else target
    named = _named_backbone(model.get('backbone'), backbone, to)
    kept = {old: new for old in head if (new := _head_name(old, model, to)) is not None and target != 'lightly'}
    if len(kept) < len(head):
        kept = {}  # the last layer of a classifier of several says nothing without the others
    left_out += [name for name in head if name not in kept]
    if target == 'mmpretrain':
        state = {f'backbone.{name}': value for name, value in named.items()}
        classes = _classes(path, head) if kept else {}
        content = dict(meta=dict(dataset_meta=classes), state_dict=state | {kept[old]: head[old] for old in kept})
    elif target == 'lightly':
        content = {f'{_POSITIONS[name.partition(".")[0]]}.{name.partition(".")[2]}': value
                   for name, value in named.items()}
    else:
        content = named | {kept[old]: head[old] for old in kept}
    return ExportedRun(content, len(backbone), len(kept), left_out)


def _parts(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Tensors of the backbone, without `backbone.`, of a classifier's head, and the names of all others."""
    backbone, head, others = {}, {}, []
    for key, value in state.items():
        name = SOURCES['clear'](key)
        if name is not None and (name != key or key.startswith('backbone.')):
            backbone[name.removeprefix('backbone.')] = value
        elif key.startswith('head.'):
            head[key] = value
        else:
            others.append(key)
    return backbone, head, others


def _named_backbone(cfg: object, backbone: dict[str, Tensor], to: str) -> dict[str, Tensor]:
    """The tensors by the names of `to`, if it has a network that computes the same."""
    cfg = cfg if isinstance(cfg, Mapping) else {}
    kind = str(cfg.get('type')).removeprefix('mmpretrain.')
    library = _LIBRARY_OF.get(kind, 'mmpretrain')
    if library == to == 'mmpretrain':
        if not _is_theirs(kind):
            raise ConfigError(f'mmpretrain has no backbone {kind}.')
        return backbone
    if library == to:
        return backbone
    family = _FAMILY_OF.get(kind) if library == 'mmpretrain' else _family_of_names(backbone, library, to)
    names = {name: family and translate(name, family, library, to) for name in backbone}
    odd = next((name for name, new in names.items() if new is None or family == 'resnet'
                and not _RESNET_NAME.fullmatch(name)), None)
    if odd is not None:
        raise ConfigError(f'{to} has no name for {odd} of {kind}. Only ResNet, ResNeXt, Vision Transformer, '
                          'ConvNeXt and Swin are written for it, in the forms that it has too; names of mmpretrain '
                          'are written with --to mmpretrain.')
    stem = backbone.get('conv1.weight')
    if family == 'resnet' and stem is not None and tuple(stem.shape[2:]) != _LARGE_STEM:
        raise ConfigError(f'{to} has no ResNet with a stem of {stem.shape[2]} x {stem.shape[3]} pixels.')
    for key, allowed in _SAME_ONLY_FOR[family].items() if library == 'mmpretrain' else ():
        value = tuple(cfg[key]) if isinstance(cfg.get(key), list) else cfg.get(key)
        if key in cfg and value not in allowed:
            raise ConfigError(f'backbone.{key} is {cfg[key]!r}; the {kind} of {to} computes something else.')
    return {names[name]: _value(name, value, family, library, to) for name, value in backbone.items()
            if not (to == 'timm' and name.endswith(_NOT_IN_TIMM))}


def _value(name: str, value: Tensor, family: str, library: str, to: str) -> Tensor:
    ours = translate(name, family, library, 'mmpretrain')
    return value if ours is None else translate_value(ours, value, family, library, to)


def _family_of_names(backbone: dict[str, Tensor], library: str, to: str) -> str | None:
    families = ('vit', 'convnext', 'swin', 'resnet')  # the last has a name for everything
    return next((family for family in families if all(translate(name, family, library, to) for name in backbone)), None)


def _head_name(name: str, model: Mapping, to: str) -> str | None:
    cfg = model.get('head') if isinstance(model.get('head'), Mapping) else {}
    kind = str(cfg.get('type')).removeprefix('mmpretrain.')
    if to == 'mmpretrain':
        return name if _is_theirs(kind) else None
    family = _FAMILY_OF.get(str(model['backbone'].get('type')).removeprefix('mmpretrain.'))
    place = _HEADS.get((kind, family))
    return place and name.startswith(place[0]) and translate(place[1] + name.removeprefix(place[0]), family,
                                                             'mmpretrain', to) or None


def _is_theirs(kind: str) -> bool:
    """Whether mmpretrain itself has a part of this name; ours of the same name do not count."""
    from mmpretrain.registry import MODELS

    found = MODELS.get(kind)
    return found is not None and found.__module__.startswith('mmpretrain.')


def _classes(path: Path, head: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The names of the classes, where the run wrote them and there are as many as the head tells apart."""
    try:
        names = (read_results(path.parent / RESULTS_FILE).extras or {}).get('class_names')
    except ClearError:
        return {}
    fits = isinstance(names, list) and any(len(value) == len(names) for value in head.values() if value.ndim)
    return dict(classes=names) if fits else {}
