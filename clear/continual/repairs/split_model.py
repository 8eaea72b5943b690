"""From our composed classifier to what Avalanche's strategies expect of a model: features, and what reads them.

The live model is not wrapped: it is given a class that has the same parts under the same names and answers to
`feature_extractor`, `train_classifier`, `eval_classifier`, `features` and `get_features` as well. So the names in a
state dict, the optimiser's parameters and every other holder of the model stay valid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from avalanche.models import FeCAMClassifier, NCMClassifier
from torch import Tensor, nn

from clear.core.compat import patch_libraries
from clear.core.errors import ConfigError, TrainingError

patch_libraries()  # Before anything of mmpretrain's models is imported.

from mmpretrain.models.heads import (  # noqa: E402
    ArcFaceClsHead,
    ConformerHead,
    LeViTClsHead,
    StackedLinearClsHead,
    VisionTransformerClsHead,
)

from clear.continual.multitask import MultiTaskMixin  # noqa: E402
from clear.core.modes import evaluation_mode  # noqa: E402
from clear.models.classifier import ComposedClassifier  # noqa: E402

# Heads that cannot be cut into one feature and one layer that reads it.
_UNCUT = (ConformerHead, LeViTClsHead, ArcFaceClsHead)


class SplitMixin:
    """Comes before `ComposedClassifier` among the bases of the live model's class (see `split`).

    The feature of a sample is what the last layer reads: the output of backbone and neck, after the hidden layers
    of the head if it has some. Modules that a strategy adds change what is made of it: `train_head` takes the place of
    the last layer in train mode, `eval_classifier` in eval mode, and `output_correction` gets the logits in eval mode.
    `features` keeps those of the last batch that went through `forward`, with their graph.
    """

    features: Tensor | None = None

    def _classify(self, feats: tuple) -> Tensor:
        # Set past nn.Module, which would search its parameters; and not part of copies: see __getstate__.
        self.__dict__['features'] = features = _feature(self.head, feats)
        other = self._modules.get('train_head' if self.training else 'eval_classifier')
        if other is not None:
            return other(features)
        logits = _last_layer(self.head)(features)
        correction = self._modules.get('output_correction')
        return logits if correction is None or self.training else correction(logits)

    @property
    def feature_extractor(self) -> Callable[[Tensor], Tensor]:
        """Maps a batch to its features (N, D)."""
        return self.get_features

    @property
    def train_classifier(self) -> Callable[[Tensor], Tensor]:
        """Maps features (N, D) to logits (N, C)."""
        return _last_layer(self.head)

    def get_features(self, x: Tensor) -> Tensor:
        return _feature(self.head, self.extract_features(x))

    def __getstate__(self) -> dict[str, object]:
        # A teacher is a deep copy, and torch does not copy tensors that belong to a graph.
        return {key: value for key, value in self.__dict__.items() if key != 'features'}


class LoadsMeans:
    """Comes before a classifier of Avalanche's whose buffers are None until the first experience.

    torch refuses to load what it takes for unexpected keys, and the dictionaries by class are in no state dict.
    """

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name, by_class in (('class_means', 'class_means_dict'), ('class_covs', 'class_cov_dict')):
            value = state_dict.get(prefix + name)
            if value is not None:
                setattr(self, name, torch.empty_like(value))
                setattr(self, by_class, {label: row.clone() for label, row in enumerate(value) if (row != 0).any()})
                self.max_class = len(value) - 1
        super()._load_from_state_dict(state_dict, prefix, *args)


class SeenNCM(LoadsMeans, NCMClassifier):
    """Avalanche's nearest class mean, which never answers with a class that it has not seen.

    Avalanche gives such a class the zero vector as its mean, which is nearer to a feature of norm 1 than every mean
    at more than 60 degrees.

    Args:
        normalize: features of norm 1.
        legacy: keep the zero vectors as candidates.
    """

    def __init__(self, normalize: bool = True, *, legacy: bool = False):
        super().__init__(normalize)
        self.legacy = legacy

    def _vectorize_means_dict(self) -> None:
        super()._vectorize_means_dict()
        if not self.legacy and self.class_means is not None and torch.isnan(self.class_means).any():
            label = int(torch.isnan(self.class_means).any(1).nonzero()[0])
            raise TrainingError(f'The mean of class {label} is NaN: a sample of it has a feature of all zeros, '
                                'which has no direction. The layer before the last is too narrow or dead: widen it, '
                                'or use classifier=dict(normalize=False) in the plugin.')

    def forward(self, x: Tensor) -> Tensor:
        if self.legacy:
            return super().forward(x)
        # Avalanche divides by the norm: a zero vector gets one whose direction is that of no axis.
        scores = super().forward(torch.where((x == 0).all(1, keepdim=True), torch.full_like(x, 1e-6), x))
        return scores.masked_fill((self.class_means == 0).all(1).to(x.device), float('-inf'))


class CheckedFeCAM(LoadsMeans, FeCAMClassifier):
    """Avalanche's classifier, which refuses features that its power transform turns into NaN."""

    def _tukey_transforms(self, x: Tensor) -> Tensor:
        if self.tukey1 != 1 and (x < 0).any():
            raise ConfigError('FeCAM raises features to a power, and some are negative: let them end in a ReLU, or set '
                              'classifier=dict(tukey=False) in the plugin.')
        return super()._tukey_transforms(x.detach().clone())


CLASSIFIERS = {'ncm': SeenNCM, 'fecam': CheckedFeCAM}


def split(model: nn.Module, wanted_by: str) -> nn.Module:
    """The same model, with a class that offers its features. Models that offer them already stay as they are.

    Args:
        wanted_by: the strategy or plugin, for messages.

    Raises:
        ConfigError: if the model has no head, or one that is not features and one layer.
    """
    if hasattr(model, 'feature_extractor') and hasattr(model, 'get_features'):
        return model
    if not isinstance(model, ComposedClassifier):
        raise ConfigError(f'{wanted_by} reads the features of the model, which a {type(model).__name__} does not show.')
    if isinstance(model, MultiTaskMixin):
        raise ConfigError(f'{wanted_by} reads the features before the last layer; this model has a head for each task.')
    if model.head is None or isinstance(model.head, _UNCUT):
        raise ConfigError(f'{wanted_by} reads the features of the model before its last layer; model.head '
                          f"{'is missing' if model.head is None else type(model.head).__name__ + ' hides them'}. "
                          "Use head=dict(type='LinearClsHead', ...).")
    model.__class__ = type(f'Split{type(model).__name__}', (SplitMixin, type(model)), {'__module__': __name__})
    return model


def need_parts(model: nn.Module, wanted_by: str, *names: str) -> None:
    """Refuse a model that lacks what every `ComposedClassifier` has.

    Raises:
        ConfigError: naming the strategy and the kind of the model.
    """
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise ConfigError(f'{wanted_by} needs {missing[0]} of the model, which a {type(model).__name__} does not show.')


def with_eval_classifier(model: nn.Module, kind: str, wanted_by: str, **options) -> nn.Module:
    """`split`, with a classifier of class means ('ncm') or means and covariances ('fecam') for eval mode."""
    model = split(model, wanted_by)
    if getattr(model, 'eval_classifier', None) is not None:
        raise ConfigError(f'{wanted_by} brings a classifier for evaluation, and another part has brought one already.')
    try:
        classifier = CLASSIFIERS[kind](**options)
    except TypeError as error:
        raise ConfigError(f'{wanted_by}: classifier: {error}') from error
    model.add_module('eval_classifier', classifier)
    return model


def has_trained_features(model: nn.Module) -> bool:
    """Whether anything before the last layer is trained; on stored features with a single layer nothing is."""
    last = {id(parameter) for parameter in last_linear(model).parameters()}
    return any(parameter.requires_grad and id(parameter) not in last for parameter in model.parameters())


def need_trained_features(model: nn.Module, wanted_by: str) -> None:
    """Refuse a model whose features cannot change.

    Raises:
        ConfigError: saying what to add.
    """
    if not has_trained_features(model):
        raise ConfigError(f'{wanted_by} holds on to the features of the model, but nothing before the last layer is '
                          "trained. Give the model a backbone, or head=dict(type='StackedLinearClsHead', "
                          'mid_channels=[...]).')


def feature_dim(model: nn.Module) -> int:
    """Length of a feature: what the last layer takes."""
    return last_linear(model).in_features


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer of the model.

    Raises:
        ConfigError: if there is none.
    """
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ConfigError(f'{type(model).__name__} ends in no linear layer.')
    return found[-1]


def _feature(head: nn.Module, feats: tuple) -> Tensor:
    if isinstance(head, (StackedLinearClsHead, VisionTransformerClsHead)):
        return head.pre_logits(feats)
    feature = feats[-1]
    feature = feature[-1] if isinstance(feature, (list, tuple)) else feature
    return feature.flatten(1)


def _last_layer(head: nn.Module) -> Callable[[Tensor], Tensor]:
    if isinstance(head, StackedLinearClsHead):
        return head.fc
    if isinstance(head, VisionTransformerClsHead):
        return head.layers.head
    return lambda features: head((features,))


def no_grad_features(model: nn.Module, inputs: Tensor) -> Tensor:
    """Features of a batch in eval mode, without a graph; each module's mode afterwards as before."""
    with evaluation_mode(model):
        return model.get_features(inputs)
