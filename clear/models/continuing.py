"""How the config of a model becomes that of one which also keeps what an earlier one of its kind knew."""

from __future__ import annotations

from collections.abc import Mapping

from clear.core.checks import check_number, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.core.types import Options
from clear.models.alignment.image_text import ImageTextAlignment
from clear.models.selfsup.parts.distillation import distilled_config
from clear.registry import MODELS

# Weights of the losses of `continued`, and arguments of `Distillation`.
PAIR_KEYS = {'features', 'logits'}
ENCODER_KEYS = {'weight', 'hidden_channels'}


def is_pair(model: Mapping) -> bool:
    """Whether a config is of an `ImageTextAlignment`."""
    kind = MODELS.require(model['type']) if isinstance(model.get('type'), str) else model.get('type')
    return isinstance(kind, type) and issubclass(kind, ImageTextAlignment)


def check_distil(model: Mapping, options: Mapping | None, ewc: Mapping | None) -> None:
    """Refuse options that a model does not have.

    Raises:
        ConfigError: naming them.
    """
    pair = is_pair(model)
    check_keys('stream.distil', options or {}, PAIR_KEYS if pair else ENCODER_KEYS, 'distil')
    for key, value in (options or {}).items():
        if key == 'hidden_channels':
            check_whole('stream.distil.hidden_channels', value, 1)
        else:
            check_number(f'stream.distil.{key}', value, 0 if pair else None, above=None if pair else 0)
    if pair and options and not any(options.values()):
        raise ConfigError(f'stream.distil is {dict(options)!r}: one of its weights must be above 0.')
    if ewc is not None and not pair:
        raise ConfigError(f"stream.ewc works on models of images and text; model.type is {model.get('type')!r}.")


def continued_config(model: Options, previous: str, distil: Mapping | None, ewc: float = 0.0) -> Options:
    """The config of a model that continues from the checkpoint `previous`.

    Args:
        distil: arguments of the distillation, None for none.
        ewc: weight of `ElasticWeights`.
    """
    if not is_pair(model):
        return distilled_config(model, previous, **distil)
    weights = {} if distil is None else (dict(distil) or dict(logits=1.0))
    return dict(type='ContinuedAlignment', model=model, previous=previous, ewc=ewc, **weights)


def adds_tensors(model: Mapping) -> bool:
    """Whether what `continued_config` describes has tensors that the model itself has not."""
    return not is_pair(model)
