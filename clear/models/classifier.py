"""The classifier of continual runs: backbone, neck and head from a config, image or feature in, logits out."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from mmengine.model import BaseModule, Sequential
from mmengine.registry import DefaultScope
from mmpretrain.models.heads import ArcFaceClsHead, ConformerHead, LeViTClsHead
from torch import Tensor, nn

from clear.core.errors import ConfigError, nearest
from clear.models.freeze import Freezable
from clear.registry import MODELS, RegistryError

# What a constructor of a part raises when its arguments do not fit.
_BUILD_ERRORS = (RegistryError, LookupError, TypeError, ValueError, AssertionError, AttributeError, ImportError,
                 RuntimeError)


def _conformer_logits(head: ConformerHead, feats: tuple) -> Tensor:
    convolution, attention = head(feats)
    return convolution + attention


def _levit_logits(head: LeViTClsHead, feats: tuple) -> Tensor:
    # In train mode the head refuses to run with both branches; their mean is what it predicts with in eval mode.
    if not (head.distillation and head.training):
        return head(feats)
    pre_logits = head.pre_logits(feats)
    return (head.head(pre_logits) + head.head_dist(pre_logits)) / 2


# Heads whose call does not give the logits that their own `predict` uses, with the way to get those.
_LOGITS: dict[type, Callable[..., Tensor]] = {
    ConformerHead: _conformer_logits,
    LeViTClsHead: _levit_logits,
}


@MODELS.register_module()
class ComposedClassifier(Freezable, BaseModule):
    """x -> backbone -> neck -> head -> logits; each part is optional, at least one is needed.

    Without a backbone it is a classifier of features. Logits are the ones that the head's own `predict` turns into
    scores: the sum of both branches of a Conformer, the mean of both of a distilled DeiT, LeViT or EfficientFormer,
    the scaled cosine without margin of an ArcFace head (its margin needs labels, which an outer criterion has).

    Args:
        backbone, neck, head: configs with a `type` of mmpretrain or ours, or modules; `neck` may be a list of
            them, one after the other.
        init_cfg: as for every mmengine module; applied by `init_weights`.

    Shape:
        x: (N, C, H, W), or (N, D) without a backbone   returns: (N, num_classes), float32 also under autocast

    Raises:
        ConfigError: if no part is given or one cannot be built, and at the first call if the parts do not fit.
    """

    def __init__(self, backbone: dict | nn.Module | None = None, neck: dict | nn.Module | Sequence | None = None,
                 head: dict | nn.Module | None = None, init_cfg: dict | list | None = None):
        _refuse_pretrained('model', init_cfg)
        super().__init__(init_cfg=init_cfg)
        self.amp_dtype: torch.dtype | None = None  # forward runs under autocast to it
        if backbone is None and neck is None and head is None:
            raise ConfigError('model has neither backbone nor neck nor head; a classifier of features needs a head.')
        self.backbone = _build_part('backbone', backbone)
        self.neck = _build_neck(neck)
        self.head = _build_part('head', head)

    def forward(self, x: Tensor) -> Tensor:
        if self.amp_dtype is None:
            return self._forward(x)
        with torch.autocast(x.device.type, self.amp_dtype):
            return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        feats = self.extract_features(x)
        logits = _only_tensor(self._classify(feats), 'model' if self.head is None else 'model.head', self.head)
        if logits.ndim == 1 and len(x) == 1:
            logits = logits[None]  # LeNet5 with its own classifier squeezes a batch of one: (C,) -> (1, C)
        if logits.ndim != 2:
            raise ConfigError(f'model gives {tuple(logits.shape)}, expected (N, classes). '
                              "Does it need neck=dict(type='GlobalAveragePooling') and a head?")
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def extract_features(self, x: Tensor) -> tuple:
        """What the head gets: the output of backbone and neck, a bare tensor wrapped into a tuple."""
        for part in (self.backbone, self.neck):
            x = x if part is None else part(x)
        return (x,) if isinstance(x, Tensor) else tuple(x)

    @property
    def num_classes(self) -> int:
        """Number of logits: the head's word for it, else found with one zero input on a copy of the model."""
        stated = getattr(self.head, 'num_classes', None)
        return stated if isinstance(stated, int) and stated > 0 else self._count_logits()

    def _classify(self, feats: tuple) -> object:
        if self.head is None:
            return feats
        call = next((_LOGITS[kind] for kind in type(self.head).__mro__ if kind in _LOGITS), None)
        try:
            return self.head(feats) if call is None else call(self.head, feats)
        except RuntimeError as error:
            message = self._misfit(feats)
            if message is None:
                raise
            raise ConfigError(message) from error

    def _misfit(self, feats: tuple) -> str | None:
        """Why the head cannot take these features, or None if their shape is not the reason."""
        expected, found = getattr(self.head, 'in_channels', None), feats[-1]
        if not isinstance(expected, int) or not isinstance(found, Tensor) or found.shape[-1] == expected:
            return None
        advice = ("add neck=dict(type='GlobalAveragePooling')" if found.ndim == 4
                  else f'set in_channels={found.shape[-1]}')
        return (f'model.head takes features of {expected} channels (in_channels), but gets {tuple(found.shape)}: '
                f'{advice}.')

    def _count_logits(self) -> int:
        # A copy: a trial must not leave traces in hooks, modes or buffers of the model.
        trial = copy.deepcopy(self)
        trial.eval()
        for shape in self._trial_shapes():
            try:
                with torch.no_grad():
                    return trial(torch.zeros(1, *shape, device=next(self.parameters()).device)).shape[1]
            except _BUILD_ERRORS:  # ConfigError is among them: this shape does not fit, the next may.
                continue
        raise ConfigError(f'model: cannot tell the number of classes, because {type(self.head).__name__} has no '
                          'num_classes and no trial input fits.')

    def _trial_shapes(self) -> Iterator[tuple[int, ...]]:
        """Shapes of one sample that the first layer may accept, by its weight."""
        weight = next((value for value in self.parameters() if value.ndim in (2, 4)), None)
        if weight is None:
            return
        if weight.ndim == 2:
            yield (weight.shape[1],)
            return
        own = getattr(self.backbone, 'img_size', None)
        own = own if isinstance(own, (tuple, list)) else (own, own)
        # A head alone gets maps of features, for which one cell is enough.
        sizes = [(1, 1)] if self.backbone is None else [own, (224, 224), (32, 32)]
        yield from ((weight.shape[1], *size) for size in sizes if all(size))

    def _dump_init_info(self) -> None:
        """Write nothing; mmengine would log one line for every parameter."""


def build_classifier(cfg: Mapping) -> ComposedClassifier:
    """Build the model of a config and initialise its weights; `cfg` is not changed.

    `type` may be left out. mmpretrain's `ImageClassifier` is accepted as a name for the same composition, so its
    base model configs can be used, as long as they ask for nothing that a continual run does not do.

    Raises:
        ConfigError: naming the part, if a key is unknown or a part cannot be built.
    """
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'model must be a dict with backbone, neck and head, got {cfg!r}.')
    kind = cfg.get('type', 'ComposedClassifier')
    kind = _resolve('ComposedClassifier' if kind == 'ImageClassifier' else kind)
    arguments = {key: value for key, value in cfg.items() if key != 'type'}
    accepted = inspect.signature(kind).parameters
    for key in arguments:
        if key not in accepted:
            near = nearest(key, accepted) or ', '.join(f"'{name}'" for name in accepted)
            raise ConfigError(f"model: {kind.__name__} has no argument '{key}'. Nearest: {near}.")
    model = kind(**copy.deepcopy(arguments))
    model.init_weights()
    if isinstance(model.head, ArcFaceClsHead):
        warnings.warn('model.head: ArcFaceClsHead adds its margin only in its own loss; trained by an outer '
                      'criterion it is a scaled cosine head.', stacklevel=2)
    return model


def _resolve(kind: str | type) -> type[ComposedClassifier]:
    if isinstance(kind, str):
        try:
            kind = MODELS.require(kind)
        except RegistryError as error:
            raise ConfigError(f'model.type: {error}') from error
    if not (inspect.isclass(kind) and issubclass(kind, ComposedClassifier)):
        raise ConfigError(f"model.type: {getattr(kind, '__name__', kind)} is no ComposedClassifier; leave 'type' out, "
                          'or derive your class from it.')
    return kind


def _build_neck(cfg: dict | nn.Module | Sequence | None) -> nn.Module | None:
    if not isinstance(cfg, (list, tuple)):
        return _build_part('neck', cfg)
    return Sequential(*[_build_part(f'neck[{i}]', one) for i, one in enumerate(cfg)])


def _build_part(name: str, cfg: dict | nn.Module | None) -> nn.Module | None:
    if cfg is None or isinstance(cfg, nn.Module):
        return cfg
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f'model.{name} must be a dict with a type, got {cfg!r}.')
    _refuse_pretrained_below(f'model.{name}', cfg)
    # Parts build others (a head its loss) from mmpretrain's registry, which looks into ours only in this scope.
    with DefaultScope.overwrite_default_scope('clear'):
        try:
            return MODELS.build(cfg)
        except _BUILD_ERRORS as error:
            raise ConfigError(f'model.{name}: {error}') from error


def _refuse_pretrained(where: str, init_cfg: Mapping | list | None) -> None:
    # mmengine would load it without strictness and with no report, and from the network if it is a URL.
    for one in [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg or ():
        if isinstance(one, Mapping) and one.get('type') == 'Pretrained':
            raise ConfigError(f"{where}.init_cfg: 'Pretrained' does not check that the weights fit. "
                              f"Use load_from='{one.get('checkpoint')}' (a local file) instead.")


def _refuse_pretrained_below(where: str, cfg: Mapping) -> None:
    _refuse_pretrained(where, cfg.get('init_cfg'))
    for key, value in cfg.items():
        if isinstance(value, Mapping) and key != 'init_cfg':
            _refuse_pretrained_below(f'{where}.{key}', value)  # LoRA's own backbone, say


def _only_tensor(outputs: object, where: str, part: nn.Module | None) -> Tensor:
    while isinstance(outputs, (tuple, list)) and len(outputs) == 1:
        outputs = outputs[0]
    if isinstance(outputs, Tensor):
        return outputs
    count = f'{len(outputs)} outputs' if isinstance(outputs, (tuple, list, dict)) else type(outputs).__name__
    name = '' if part is None else f' ({type(part).__name__})'
    raise ConfigError(f'{where}{name} gives {count}, and no rule says how they make one set of logits.')
